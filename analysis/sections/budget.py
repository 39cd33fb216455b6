"""What does a front cost, and what does lsb at equal priorities give?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.compute.budget import (
    BudgetCurve,
    EqualPriorityQuestion,
    Match,
    Seconds,
    budget_curve,
    equal_priority_question,
    run_seconds,
    runs_to_match,
)
from analysis.compute.findings import (
    MORE_POINTS,
    PAPER_PAIR,
    Findings,
    method_of,
    paper_pairs,
    prioritised_arms,
)
from analysis.compute.inference import MIN_SEEDS, PERCENT
from analysis.load.axes import NONE, volume_unit
from analysis.load.matched import ArmRuns, arm_runs, by_point, validation_columns
from analysis.load.priorities import Priorities, is_equal, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, first_items, first_listed, listed
from analysis.render.figure_parts import band, legend_of, style_of
from analysis.render.panels import Drawn, Figure, Line, Panel, Points, Scale
from analysis.render.scales import log_ticks
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table, interval_columns

MAX_ARMS = 6
"""Methods whose budgets are followed: as many as colours."""
MAX_PAIRS = 10
MAX_LINEAR_RUNS = 50
"""Runs beyond which the axis is logarithmic."""
NO_INTERVAL = f"A dash: fewer than {MIN_SEEDS} seeds, or all resamples agree."


def compute_budget(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on budgets, seconds and the method at equal priorities."""
    if not findings.points:
        return None
    prioritised, note = first_items(prioritised_arms(findings), MAX_ARMS, "methods with priorities")
    held = {arm: arm_runs(findings.runs, findings.axes, arm) for arm in prioritised}
    words = [left for runs in held.values() for left in runs.left_out]
    complete = {arm: runs for arm, runs in held.items() if runs.seeds}
    curves = {}
    for arm, runs in complete.items():
        if findings.reference is None:
            break
        curve = budget_curve(arm, runs.metrics, findings.reference, findings.axes)
        if curve is None:
            words.append(
                f"No curve of {arm}: exact volumes of {len(runs.priorities)} priorities on "
                f"{len(findings.axes)} tasks take too long."
            )
            continue
        curves[arm] = curve
    matches, refused = _matches(findings, curves, complete)
    seconds = run_seconds(findings.runs)
    questions = _questions(findings, complete)
    parts: list[Part | Folded] = []
    if curves:
        every_value = Folded("Every value of the curves", (_curve_table(curves, seconds),))
        parts += [_figure(findings, curves, note), every_value]
    if matches:
        parts.append(_match_table(matches))
    parts += [*words, *refused]
    if seconds is not None:
        parts += [_seconds_table(seconds), *_seconds_words(findings, seconds)]
    if questions:
        parts.append(_question_table(findings, questions))
    if not parts:
        return None
    lead = [*_match_lead(matches), *_seconds_lead(seconds)]
    lead += [_question_lead(findings, *asked) for asked in questions[:1]]
    values = {
        "curves": [
            {name: value for name, value in vars(curve).items() if name != "resampled"}
            | {"num_runs": curve.num_runs}
            for curve in curves.values()
        ],
        "matches": matches,
        "seconds": seconds,
        "untuned": [question for question, _ in questions],
    }
    return Section("compute_budget", "What does it cost?", " ".join(lead), tuple(parts), values)


def _matches(
    findings: Findings, curves: Mapping[str, BudgetCurve], complete: Mapping[str, ArmRuns]
) -> tuple[list[Match], list[str]]:
    """Return runs to match of each pair, both ways, and why some pairs have none."""
    pairs, note = first_items(paper_pairs(findings, list(curves)), MAX_PAIRS, "pairs of methods")
    matches: list[Match] = []
    words = [note.strip()] if note else []
    for pair in pairs:
        a, b = (complete[arm] for arm in pair)
        why_not = ""
        if a.priorities != b.priorities:
            shared = len(set(a.priorities) & set(b.priorities))
            why_not = (
                f"they have {len(a.priorities)} and {len(b.priorities)} priorities, {shared} of "
                f"them shared, and {MORE_POINTS}"
            )
        elif a.seeds != b.seeds:
            why_not = "their seeds that are done at every priority differ"
        if why_not:
            words.append(f"The budgets of {a.arm} and {b.arm} are not compared: {why_not}.")
            continue
        both = (pair, pair[::-1])
        matches += [runs_to_match(curves[own], curves[rival]) for own, rival in both]
    return matches, words


def _questions(
    findings: Findings, complete: Mapping[str, ArmRuns]
) -> list[tuple[EqualPriorityQuestion, Priorities]]:
    """Return each `lsb` arm at equal priorities against the best of each `fixed` arm's grid."""
    methods = method_of(findings)
    found = []
    for arm in [arm for arm, method in methods.items() if method == PAPER_PAIR[0]]:
        own = complete.get(arm) or arm_runs(findings.runs, findings.axes, arm)
        equal = [k for k, setting in enumerate(own.priorities) if is_equal(setting)]
        for rival in (runs for runs in complete.values() if methods[runs.arm] == PAPER_PAIR[1]):
            seeds = sorted(set(own.seeds) & set(rival.seeds))
            if not equal or not seeds:
                continue
            columns = [rival.seeds.index(seed) for seed in seeds]
            question = equal_priority_question(
                arm,
                own.metrics[equal[0]][[own.seeds.index(seed) for seed in seeds]],
                rival.arm,
                rival.metrics[:, columns],
                findings.axes,
                _validation(findings, rival, seeds),
            )
            found.append((question, rival.priorities[question.chosen]))
    return found


def _validation(findings: Findings, runs: ArmRuns, seeds: Sequence[int]) -> np.ndarray | None:
    """Return runs (priorities, seeds, axes) on the validation split; None if one lacks it."""
    mine = findings.runs[findings.runs["arm"] == runs.arm]
    mine = mine[mine["seed"].isin(seeds)]
    columns = validation_columns(mine, findings.axes)
    if not columns:
        return None
    held = by_point(mine, [axis.task for axis in findings.axes], columns)
    return np.array([[held[runs.arm, p][seed] for seed in seeds] for p in runs.priorities])


def _figure(findings: Findings, curves: Mapping[str, BudgetCurve], note: str) -> Figure:
    fewest = min(curve.num_runs[0] for curve in curves.values())
    most = max(curve.num_runs[-1] for curve in curves.values())
    runs = Scale("runs trained, fewer are better")
    if most > MAX_LINEAR_RUNS:
        runs = Scale(runs.title, is_log=True, ticks=log_ticks(fewest, most))
    ends = [f"{arm} {c.expected[-1]:.4g} with {c.num_runs[-1]} runs" for arm, c in curves.items()]
    bands = ""
    if any(curve.interval for curve in curves.values()):
        bands = f" Bands: {PERCENT} intervals from resampling whole seeds."
    marks = tuple(mark for curve in curves.values() for mark in _marks(findings, curve))
    return Figure(
        name="compute_budget",
        title="Hypervolume against the budget",
        alt=f"Lines of hypervolume against runs. Whole grids: {listed(ends)}.",
        panels=(Panel("budget_runs", runs, Scale("hypervolume, higher is better"), marks),),
        caption=f"Hypervolume of the means over seeds (in {volume_unit(findings.axes)}) if only "
        "so many of the priorities had been trained, each with all seeds: the mean over all "
        f"choices of priorities.{bands}{note}",
        legend=legend_of(findings, curves),
    )


def _marks(findings: Findings, curve: BudgetCurve) -> list[Drawn]:
    style = style_of(findings, curve.arm)
    xs = tuple(map(float, curve.num_runs))
    hover = tuple(
        f"{curve.arm}\n{priorities} priorities, {runs} runs\nhypervolume {value:.4g}"
        for priorities, runs, value in zip(
            curve.num_priorities, curve.num_runs, curve.expected, strict=True
        )
    )
    marks: list[Drawn] = [
        Line(xs, curve.expected, style.colour, style.dash, curve.arm),
        Points(xs, curve.expected, style, curve.arm, hover, size=8),
    ]
    if curve.interval is not None:
        lows, highs = zip(*curve.interval, strict=True)
        marks.insert(0, band(xs, lows, highs, style, curve.arm, 0.14))
    return marks


def _curve_table(curves: Mapping[str, BudgetCurve], seconds: Seconds | None) -> Table:
    kind = seconds.kind if seconds is not None else "device"
    hours = {held.arm: held.mean_of_run / 3600 for held in seconds.arms} if seconds else {}
    records = []
    for arm, curve in curves.items():
        for k, number in enumerate(curve.num_runs):
            low, high = (None, None) if curve.interval is None else curve.interval[k]
            records.append(
                {
                    "method": arm,
                    "num_priorities": curve.num_priorities[k],
                    "num_runs": number,
                    "hypervolume": curve.expected[k],
                    "low": low,
                    "high": high,
                    f"{kind}_hours": number * hours[arm] if arm in hours else None,
                }
            )
    return Table.of(
        "budget_curves",
        "Hypervolume of the means over seeds at so many priorities, the mean over all choices of "
        f"them, with its {PERCENT} interval over seeds. {NO_INTERVAL}",
        records,
        (
            Column("method", "method"),
            Column("num_priorities", "priorities"),
            Column("num_runs", "runs"),
            Column("hypervolume", "hypervolume", ".4g"),
            *interval_columns(f"{PERCENT} interval", lambda _, end: f"{end:.4g}"),
            Column(f"{kind}_hours", f"{kind} hours", ".3g"),
        ),
    )


def _runs_text(number: int | None) -> str:
    return "never" if number is None else str(number)


def _between(match: Match) -> str:
    return " to ".join(map(_runs_text, match.interval)) if match.interval else ""


def _match_table(matches: Sequence[Match]) -> Table:
    records = []
    for match in matches:
        low, high = match.interval or (None, None)
        records.append(vars(match) | {"between": _between(match), "low": low, "high": high})
    return Table.of(
        "runs_to_match",
        "Runs that a method needs on average, its priorities chosen blindly, to reach the "
        f"hypervolume of another's whole grid, with the {PERCENT} interval over seeds and the "
        f"share of resamples in which it is reached at all. {NO_INTERVAL}",
        records,
        (
            Column("arm", "method"),
            Column("rival", "to reach"),
            Column("num_runs_rival", "with its runs"),
            Column("num_runs", "runs needed", lambda record: _runs_text(record["num_runs"])),
            Column(None, f"{PERCENT} interval", lambda record: record["between"] or NONE),
            Column("share_reached", "reached", ".0%"),
            Column("low"),
            Column("high"),
        ),
        num_words=2,
    )


def _match_lead(matches: Sequence[Match]) -> list[str]:
    words = []
    for match in matches[:2]:
        if match.num_runs is None:
            text = f"{match.arm} does not reach the whole grid of {match.rival} with as many runs"
        else:
            text = (
                f"{match.arm} reaches the hypervolume of all {match.num_runs_rival} runs of "
                f"{match.rival} with {match.num_runs} on average"
            )
        between = _between(match)
        words.append(f"{text} ({PERCENT} interval {between})" if between else text)
    return [f"{listed(words)}."] if words else []


def _seconds_table(seconds: Seconds) -> Table:
    quartiles = ("q25", "median", "q75")
    records = [
        {
            "method": held.arm,
            "num_runs": held.num_runs,
            **{f"seconds_{q}": v for q, v in zip(quartiles, held.seconds, strict=True)},
            **{f"ratio_{q}": v for q, v in zip(quartiles, held.ratio, strict=True)},
        }
        for held in seconds.arms
    ]
    base = seconds.arms[0].arm
    return Table.of(
        "overhead",
        f"{seconds.kind.capitalize()} seconds of each {seconds.per}: median and quartiles over a "
        f"method's runs, and the median relative to that of {base}. Parallel runs slow each other "
        "down: small differences mean nothing.",
        records,
        (
            Column("method", "method"),
            Column("num_runs", "runs"),
            Column("seconds_median", f"{seconds.kind} s, each {seconds.per}", ".3g"),
            *interval_columns("quartiles", lambda _, s: f"{s:.3g}", "seconds_q25", "seconds_q75"),
            Column("ratio_median", f"times {base}", ".3f"),
            Column("ratio_q25"),
            Column("ratio_q75"),
        ),
    )


def _seconds_words(findings: Findings, seconds: Seconds) -> list[str]:
    words = []
    if seconds.num_silent:
        timed = {held.arm for held in seconds.arms}
        lacking = [arm for arm in dict.fromkeys(findings.runs["arm"]) if arm not in timed]
        words.append(
            f"{seconds.num_silent} of {len(findings.runs)} runs report no {seconds.kind} seconds "
            f"and are not counted in these times{f', all of {listed(lacking)}' if lacking else ''}."
        )
    differing = [
        name
        for name, values in findings.provenance.recorded.items()
        if name.startswith("hardware.") and len(values) > 1
    ]
    if differing:
        words.append(
            f"The runs come from different machines ({listed(differing)} differ), so their "
            "seconds say little about the methods."
        )
    packed = findings.provenance.recorded.get("execution.packed", {})
    together = sum(number for members, number in packed.items() if members != "1")
    if together:
        words.append(
            f"{counted(together, 'run', 'runs')} trained together with others in one process, so "
            "their seconds are shares: compare them with those of other packed runs only."
        )
    return words


def _seconds_lead(seconds: Seconds | None) -> list[str]:
    if seconds is None or len(seconds.arms) < 2:
        return []
    base, *others = seconds.arms
    each = [f"{held.arm} {held.ratio[1]:.2f}" for held in others]
    return [f"Median time relative to {base.arm}: {first_listed(each, MAX_ARMS)}."]


def _question_table(
    findings: Findings, questions: Sequence[tuple[EqualPriorityQuestion, Priorities]]
) -> Table:
    tasks = [axis.task for axis in findings.axes]
    records = []
    for question, priorities in questions:
        for axis, metric in zip(findings.axes, question.metrics, strict=True):
            low, high = metric.interval or (None, None)
            records.append(
                {
                    **vars(question),
                    **priority_values(priorities, tasks, "rival_"),
                    **vars(metric),
                    "method": question.arm,
                    "best": f"{question.rival} {findings.shown_priorities(priorities)}",
                    "axis": axis,
                    "metric": axis.column,
                    "low": low,
                    "high": high,
                }
            )

    def signed(record: Mapping[str, Any], value: float) -> str:
        return str(record["axis"].shown(value, signed=True))

    return Table.of(
        "untuned",
        "No tuning against a whole grid: the method at equal priorities minus the best setting of "
        f"the rival's grid, test split, with Student's {PERCENT} interval over matched seeds. "
        "Best: the greatest relative gain over the grid's mean, averaged over tasks. Chosen on the "
        "test split, where results hold no validation metrics, it flatters the rival.",
        records,
        (
            Column("method", "method"),
            Column("rival", "best of the rival", lambda record: record["best"]),
            *(Column(f"rival_priority_{task}") for task in tasks),
            Column("chosen_on", "chosen on"),
            Column("metric", "metric", lambda record: record["axis"].title),
            Column("difference", "difference", lambda record: signed(record, record["difference"])),
            *interval_columns(f"{PERCENT} interval", signed),
            Column("num_seeds_better", "seeds better"),
            Column("num_seeds", "of"),
            *map(Column, ("num_dominating", "num_dominated", "num_candidates")),
        ),
        num_words=4,
    )


def _question_lead(
    findings: Findings, question: EqualPriorityQuestion, priorities: Priorities
) -> str:
    each = [
        f"{axis.name} {axis.shown(m.difference, signed=True)} {axis.difference_unit}"
        for axis, m in zip(findings.axes, question.metrics, strict=True)
    ]
    best = f"{question.rival} {findings.shown_priorities(priorities)}"
    flattered = ", chosen on the test split" if question.chosen_on == "test" else ""
    return (
        f"{question.arm} at equal priorities minus the best of {question.num_candidates} settings "
        f"of {question.rival}, {best}{flattered}: {listed(each)}."
    )
