"""What does a front cost, and what does a method give that nobody tunes?"""

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
from analysis.load.matched import ArmRuns, arm_runs, by_point
from analysis.load.priorities import is_equal, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.runs import VALIDATION
from analysis.load.text import first_items, first_listed, listed
from analysis.render.panels import Area, Drawn, Figure, Key, Line, Panel, Points, Scale, mark_of
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
    words = [note for runs in held.values() for note in runs.left_out]
    complete = {arm: runs for arm, runs in held.items() if runs.seeds}
    curves = _curves(findings, complete)
    words += [
        f"No curve of {arm}: exact volumes of {len(complete[arm].priorities)} priorities on "
        f"{len(findings.axes)} tasks take too long."
        for arm in complete
        if findings.reference is not None and arm not in curves
    ]
    drawn = {arm: curve for arm, curve in curves.items() if curve.expected[-1] > 0}
    words += [
        f"No curve of {arm}: none of its points is better than the reference point on every "
        "metric, so its hypervolume is 0."
        for arm in curves
        if arm not in drawn
    ]
    matches, refused = _matches(findings, curves, complete)
    seconds = run_seconds(findings.runs)
    questions = _questions(findings, complete)
    parts: list[Part | Folded] = []
    if drawn:
        every_value = Folded("Every value of the curves", (_curve_table(drawn, seconds),))
        parts += [_figure(findings, drawn, note), every_value]
    if matches:
        parts.append(_match_table(matches))
    parts += [*words, *refused]
    if seconds is not None:
        parts += [_seconds_table(seconds), *_seconds_words(findings, seconds)]
    if questions:
        parts.append(_question_table(findings, complete, questions))
    if not parts:
        return None
    lead = [*_match_lead(matches), *_seconds_lead(seconds)]
    lead += [_question_lead(findings, complete, question) for question in questions[:1]]
    return Section(
        name="compute_budget",
        title="What does it cost?",
        lead=" ".join(lead),
        parts=tuple(parts),
        values={
            "curves": [
                {name: value for name, value in vars(curve).items() if name != "resampled"}
                | {"num_runs": curve.num_runs}
                for curve in curves.values()
            ],
            "matches": matches,
            "seconds": seconds,
            "untuned": questions,
        },
    )


def _curves(findings: Findings, complete: Mapping[str, ArmRuns]) -> dict[str, BudgetCurve]:
    if findings.reference is None:
        return {}
    curves = {
        arm: budget_curve(arm, runs.metrics, findings.reference, findings.axes)
        for arm, runs in complete.items()
    }
    return {arm: curve for arm, curve in curves.items() if curve is not None}


def _matches(
    findings: Findings, curves: Mapping[str, BudgetCurve], complete: Mapping[str, ArmRuns]
) -> tuple[list[Match], list[str]]:
    """Return runs to match of each pair, both ways, and why some pairs have none."""
    pairs, note = first_items(paper_pairs(findings, list(curves)), MAX_PAIRS, "pairs of methods")
    matches: list[Match] = []
    words = [note.strip()] if note else []
    for a, b in pairs:
        why_not = _why_not_comparable(complete[a], complete[b])
        if why_not:
            words.append(f"The budgets of {a} and {b} are not compared: {why_not}.")
            continue
        # Nothing is needed to reach a hypervolume of 0.
        both = ((curves[a], curves[b]), (curves[b], curves[a]))
        matches += [runs_to_match(own, rival) for own, rival in both if rival.expected[-1] > 0]
    return matches, words


def _why_not_comparable(a: ArmRuns, b: ArmRuns) -> str:
    """Return why the budgets of two methods must not be compared, or "" if they may."""
    if a.priorities != b.priorities:
        shared = len(set(a.priorities) & set(b.priorities))
        return (
            f"they have {len(a.priorities)} and {len(b.priorities)} priorities, {shared} of them "
            f"shared, and {MORE_POINTS}"
        )
    if a.seeds != b.seeds:
        return "their seeds that are done at every priority differ"
    return ""


def _questions(findings: Findings, complete: Mapping[str, ArmRuns]) -> list[EqualPriorityQuestion]:
    """Return each `lsb` arm at equal priorities against the whole grid of each `fixed` arm."""
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
            found.append(
                equal_priority_question(
                    arm,
                    own.metrics[equal[0]][[own.seeds.index(seed) for seed in seeds]],
                    rival.arm,
                    rival.metrics[:, columns],
                    findings.axes,
                    _validation(findings, rival, seeds),
                )
            )
    return found


def _validation(findings: Findings, runs: ArmRuns, seeds: Sequence[int]) -> np.ndarray | None:
    """Return runs (priorities, seeds, axes) on the validation split, or None if one lacks it."""
    columns = [f"{VALIDATION}_{axis.column}" for axis in findings.axes]
    mine = findings.runs[findings.runs["arm"] == runs.arm]
    mine = mine[mine["seed"].isin(seeds)]
    known = (column in mine and np.isfinite(mine[column].astype(float)).all() for column in columns)
    if not all(known):
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
        bands = f" Bands are {PERCENT} intervals from resampling whole seeds."
    return Figure(
        name="compute_budget",
        title="Hypervolume against the budget",
        alt=f"Lines of hypervolume against runs. Whole grids: {listed(ends)}.",
        panels=(
            Panel(
                "budget_runs",
                runs,
                Scale("hypervolume, higher is better"),
                tuple(mark for curve in curves.values() for mark in _marks(findings, curve)),
            ),
        ),
        caption=f"Hypervolume of the means over seeds (in {volume_unit(findings.axes)}) if only "
        "so many of the priorities had been trained, each with all seeds: the mean over all "
        f"choices of priorities.{bands}{note}",
        legend=tuple(Key(arm, mark_of(findings.arms.index(arm))) for arm in curves),
    )


def _marks(findings: Findings, curve: BudgetCurve) -> list[Drawn]:
    mark = mark_of(findings.arms.index(curve.arm))
    xs = tuple(float(number) for number in curve.num_runs)
    hover = tuple(
        f"{curve.arm}\n{priorities} priorities, {runs} runs\nhypervolume {value:.4g}"
        for priorities, runs, value in zip(
            curve.num_priorities, curve.num_runs, curve.expected, strict=True
        )
    )
    marks: list[Drawn] = [
        Line(xs, curve.expected, mark.colour, mark.dash, curve.arm),
        Points(xs, curve.expected, mark, curve.arm, hover, size=8),
    ]
    if curve.interval is None:
        return marks
    low, high = zip(*curve.interval, strict=True)
    return [Area((*xs, *xs[::-1]), (*high, *low[::-1]), mark.colour, curve.arm, 0.14), *marks]


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
        records.append(vars(match) | {"match": match, "low": low, "high": high})
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
            Column("num_runs"),
            Column(None, "runs needed", lambda record: _runs_text(record["num_runs"])),
            Column(None, f"{PERCENT} interval", lambda record: _between(record["match"]) or NONE),
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
    """Return what readers must know of these seconds."""
    words = []
    if seconds.num_silent:
        words.append(
            f"{seconds.num_silent} of {len(findings.runs)} runs report no {seconds.kind} seconds "
            "and are not counted in these times."
        )
    timed = {held.arm for held in seconds.arms}
    lacking = [arm for arm in dict.fromkeys(findings.runs["arm"]) if arm not in timed]
    if lacking:
        words.append(f"Without any time: {listed(lacking)}.")
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
    return words


def _seconds_lead(seconds: Seconds | None) -> list[str]:
    if seconds is None or len(seconds.arms) < 2:
        return []
    base, *others = seconds.arms
    each = [f"{held.arm} {held.ratio[1]:.2f}" for held in others]
    return [f"Median time relative to {base.arm}: {first_listed(each, MAX_ARMS)}."]


def _best(findings: Findings, runs: Mapping[str, ArmRuns], question: EqualPriorityQuestion) -> str:
    """Return the chosen setting of the rival, as people write it."""
    priorities = runs[question.rival].priorities[question.chosen]
    return f"{question.rival} {findings.shown_priorities(priorities)}"


def _question_table(
    findings: Findings,
    runs: Mapping[str, ArmRuns],
    questions: Sequence[EqualPriorityQuestion],
) -> Table:
    tasks = [axis.task for axis in findings.axes]
    chosen = [f"rival_priority_{task}" for task in tasks]
    records = []
    for question in questions:
        priorities = runs[question.rival].priorities[question.chosen]
        for axis, metric in zip(findings.axes, question.metrics, strict=True):
            low, high = metric.interval or (None, None)
            records.append(
                {
                    **vars(question),
                    **priority_values(priorities, tasks, "rival_"),
                    **vars(metric),
                    "method": question.arm,
                    "best": _best(findings, runs, question),
                    "axis": axis,
                    "metric": axis.column,
                    "low": low,
                    "high": high,
                }
            )
    return Table.of(
        "untuned",
        "No tuning against a whole grid: the method at equal priorities minus the best setting of "
        f"the rival's grid, test split, with Student's {PERCENT} interval over matched seeds. "
        "Best is the greatest relative gain over the grid's mean, averaged over tasks. A choice "
        "on the test split, where results hold no validation metrics, flatters the rival.",
        records,
        (
            Column("method", "method"),
            Column("rival"),
            Column(None, "best of the rival", lambda record: record["best"]),
            *(Column(key) for key in chosen),
            Column("chosen_on", "chosen on"),
            Column(None, "metric", lambda record: record["axis"].title),
            Column("metric"),
            Column(None, "difference", _signed_difference),
            Column("difference"),
            *interval_columns(
                f"{PERCENT} interval", lambda record, end: record["axis"].shown(end, signed=True)
            ),
            Column("num_seeds_better", "seeds better"),
            Column("num_seeds", "of"),
            *(Column(key) for key in ("num_dominating", "num_dominated", "num_candidates")),
        ),
        num_words=4,
    )


def _signed_difference(record: Mapping[str, Any]) -> str:
    return str(record["axis"].shown(record["difference"], signed=True))


def _question_lead(
    findings: Findings, runs: Mapping[str, ArmRuns], question: EqualPriorityQuestion
) -> str:
    each = [
        f"{axis.name} {axis.shown(m.difference, signed=True)} {axis.difference_unit}"
        for axis, m in zip(findings.axes, question.metrics, strict=True)
    ]
    flattered = ", chosen on the test split" if question.chosen_on == "test" else ""
    return (
        f"{question.arm} at equal priorities minus the best of {question.num_candidates} settings "
        f"of {question.rival}, {_best(findings, runs, question)}{flattered}: {listed(each)}."
    )
