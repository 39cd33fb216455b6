"""What does a front cost, and what does a method give that nobody tunes?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.budget import (
    BudgetCurve,
    Match,
    Overhead,
    UntunedQuestion,
    budget_curve,
    overheads,
    runs_to_match,
    untuned_question,
)
from analysis.compute.findings import PAPER_PAIR, Findings, method_of, paper_pairs, steered_arms
from analysis.compute.inference import MIN_SEEDS, MORE_POINTS, PERCENT
from analysis.load.axes import NONE, volume_unit
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.priorities import is_equal, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.text import evenly, listed, no_width
from analysis.render.panels import Area, Drawn, Figure, Key, Line, Panel, Points, Scale, mark_of
from analysis.render.section import Part, Section
from analysis.render.table import Table

MOST_TIMED = 20
"""Methods whose seconds are drawn; the table holds all."""
MOST_GHOSTS = 100
"""Single runs of a method that are drawn, evenly chosen."""
BASES = ("fixed", "equal")
"""Methods that an epoch's seconds are relative to, the first that is there."""
SECONDS = {"device_seconds": "device", "wall_seconds": "wall"}


@dataclass(frozen=True)
class RunSeconds:
    """What the runs report of their time."""

    kind: str
    """`device` or `wall`."""
    a_run: dict[str, np.ndarray]
    """Arm -> seconds of each of its runs that reports them."""
    an_epoch: dict[str, np.ndarray] | None
    """The same by epoch; None where the runs do not say their epochs."""
    num_silent: int
    """Runs without seconds."""


def run_seconds(findings: Findings) -> RunSeconds | None:
    """Return device seconds where every method reports them, else wall seconds, else either."""
    runs = findings.runs
    known = {}
    for column in SECONDS:
        if column in runs:
            values = runs[column].astype(float)
            known[column] = runs[np.isfinite(values) & (values > 0)]
    arms = runs["arm"].nunique()
    by_arms = sorted(known, key=lambda name: -known[name]["arm"].nunique())
    if not by_arms or known[by_arms[0]].empty:
        return None
    full = [name for name in SECONDS if name in known and known[name]["arm"].nunique() == arms]
    column = (full or by_arms)[0]
    rows = known[column]
    groups = {str(arm): held for arm, held in rows.groupby("arm", sort=False)}
    epochs = None
    if "epochs" in rows and bool((rows["epochs"].astype(float) > 0).all()):
        epochs = {
            arm: (held[column].astype(float) / held["epochs"].astype(float)).to_numpy()
            for arm, held in groups.items()
        }
    return RunSeconds(
        kind=SECONDS[column],
        a_run={arm: held[column].astype(float).to_numpy() for arm, held in groups.items()},
        an_epoch=epochs,
        num_silent=len(runs) - len(rows),
    )


def arm_overheads(findings: Findings, seconds: RunSeconds | None) -> tuple[Overhead, ...]:
    """Return the seconds of each arm, the base first; none without seconds."""
    if seconds is None:
        return ()
    values = seconds.an_epoch or seconds.a_run
    methods = method_of(findings)
    bases = [arm for base in BASES for arm in values if methods[arm] == base]
    base = (bases or list(values))[0]
    rest = [arm for arm in values if arm != base]
    return overheads({arm: values[arm] for arm in (base, *rest)}, base)


def overhead_figure(findings: Findings, costs: Sequence[Overhead], seconds: RunSeconds) -> Figure:
    """Return medians, quartiles and single runs, relative to the base."""
    shown = costs[:MOST_TIMED]
    values = seconds.an_epoch or seconds.a_run
    unit = costs[0].seconds[1]
    marks: list[Drawn] = []
    for place, cost in enumerate(shown):
        y = float(len(shown) - place)
        mark = mark_of(findings.arms.index(cost.arm))
        ghosts = tuple(evenly((np.sort(values[cost.arm]) / unit).tolist(), MOST_GHOSTS))
        low, median, high = cost.ratio
        hover = (
            f"{cost.arm}\n{median:.3g} times {costs[0].arm}, quartiles {low:.3g} to {high:.3g}\n"
            f"{cost.num_runs} runs",
        )
        marks += [
            Points(ghosts, (y - 0.18,) * len(ghosts), mark, cost.arm, size=5, opacity=0.35),
            Line((low, high), (y, y), mark.colour, "solid", cost.arm, width=3),
            Points((median,), (y,), mark, cost.arm, hover, size=10),
        ]
    per = "epoch" if seconds.an_epoch else "run"
    panel = Panel(
        "overhead",
        Scale(f"{seconds.kind} seconds an {per}, times {costs[0].arm}, lower is better")
        if per == "epoch"
        else Scale(f"{seconds.kind} seconds a run, times {costs[0].arm}, lower is better"),
        Scale(
            "",
            (0.4, len(shown) + 0.6),
            ticks=tuple((float(len(shown) - k), cost.arm) for k, cost in enumerate(shown)),
        ),
        tuple(marks),
        height=90 + 38 * len(shown),
    )
    rest = len(costs) - len(shown)
    return Figure(
        name="overhead",
        title=f"Seconds of each method, relative to {costs[0].arm}",
        alt="Seconds relative to "
        f"{costs[0].arm}: {listed([f'{c.arm} {c.ratio[1]:.3g}' for c in shown])}.",
        panels=(panel,),
        caption="Large markers are medians, bars reach from quartile to quartile, faint markers "
        "are single runs." + (f" The table holds {rest} more methods." if rest else ""),
    )


def overhead_table(costs: Sequence[Overhead], seconds: RunSeconds) -> Table:
    """Return seconds and ratios of every arm."""
    per = "epoch" if seconds.an_epoch else "run"
    rows = tuple(
        (
            cost.arm,
            str(cost.num_runs),
            f"{cost.seconds[1]:.3g}",
            f"{cost.seconds[0]:.3g} to {cost.seconds[2]:.3g}",
            f"{cost.ratio[1]:.3f}",
            f"{cost.ratio[0]:.3f} to {cost.ratio[2]:.3f}",
        )
        for cost in costs
    )
    raw = [
        {
            "method": cost.arm,
            "num_runs": cost.num_runs,
            **dict(
                zip(("seconds_q25", "seconds_median", "seconds_q75"), cost.seconds, strict=True)
            ),
            **dict(zip(("ratio_q25", "ratio_median", "ratio_q75"), cost.ratio, strict=True)),
        }
        for cost in costs
    ]
    head = f"{seconds.kind} s, each {per}"
    return Table(
        "overhead",
        f"{seconds.kind.capitalize()} seconds of each {per}: median and quartiles over a method's "
        f"runs, and the same relative to the median of {costs[0].arm}.",
        ("method", "runs", head, "quartiles", f"times {costs[0].arm}", "quartiles of it"),
        rows,
        pd.DataFrame(raw),
    )


def seconds_words(findings: Findings, seconds: RunSeconds) -> list[str]:
    """Return what readers must know of these seconds."""
    words = []
    if seconds.num_silent:
        words.append(
            f"{seconds.num_silent} of {len(findings.runs)} runs report no {seconds.kind} seconds "
            "and are not counted in these times."
        )
    lacking = [arm for arm in dict.fromkeys(findings.runs["arm"]) if arm not in seconds.a_run]
    if lacking:
        words.append(f"Without any time: {listed(lacking)}.")
    kinds = [
        name
        for name, values in findings.provenance.recorded.items()
        if name.startswith("hardware.") and len(values) > 1
    ]
    if kinds:
        words.append(
            f"The runs come from different machines ({listed(kinds)} differ), so their seconds "
            "say little about the methods."
        )
    words.append(
        "Runs side by side slow each other down: small differences of seconds are no finding."
    )
    return words


LINEAR_UP_TO = 50
"""Runs beyond which the axis is logarithmic."""


def curve_figure(
    findings: Findings, curves: dict[str, BudgetCurve], seconds: RunSeconds | None
) -> Figure:
    """Return hypervolume against runs and, where seconds are known, against hours."""
    by_runs: list[Drawn] = []
    by_hours: list[Drawn] = []
    longest = max(curve.num_runs[-1] for curve in curves.values())
    for bands in (True, False):
        for arm, curve in curves.items():
            number = findings.arms.index(arm)
            by_runs += _curve_marks(curve, list(map(float, curve.num_runs)), number, bands, "runs")
            hours = _hours(curve, seconds)
            if hours is not None and seconds is not None:
                unit = f"{seconds.kind} hours"
                by_hours += _curve_marks(curve, hours, number, bands, unit)
    unit = volume_unit(findings.axes)
    volume = Scale("hypervolume, higher is better")
    is_log = longest > LINEAR_UP_TO
    panels = [
        Panel(
            "budget_runs",
            Scale("runs trained, fewer are better", is_log=is_log),
            volume,
            tuple(by_runs),
            title="By runs",
        )
    ]
    if by_hours and seconds is not None:
        panels.append(
            Panel(
                "budget_hours",
                Scale(f"{seconds.kind} hours, fewer are better", is_log=is_log),
                volume,
                tuple(by_hours),
                title=f"By {seconds.kind} hours",
            )
        )
    ends = [f"{arm} {c.expected[-1]:.4g} with {c.num_runs[-1]} runs" for arm, c in curves.items()]
    sampled = [c for c in curves.values() if not c.is_exact]
    how = (
        f" Volumes are sampled at {sampled[0].num_places} places, seed {sampled[0].sampling_seed}."
        if sampled
        else ""
    )
    shaded = ""
    if any(curve.interval is not None for curve in curves.values()):
        shaded = f" Bands are {PERCENT} intervals from resampling whole seeds."
    return Figure(
        name="compute_budget",
        title="Hypervolume against the budget",
        alt=f"Lines of hypervolume against runs. Whole grids: {listed(ends)}.",
        panels=tuple(panels),
        caption=f"Hypervolume of the means over seeds (in {unit}) if only so many of the "
        "priorities had been trained, each with all seeds: the mean over all choices of "
        f"priorities, without drawing any.{shaded}{how}",
        columns=2,
        legend=tuple(Key(arm, mark_of(findings.arms.index(arm))) for arm in curves),
    )


def _curve_marks(
    curve: BudgetCurve, xs: Sequence[float], number: int, bands: bool, unit: str
) -> list[Drawn]:
    mark = mark_of(number)
    if bands:
        if curve.interval is None:
            return []
        low, high = zip(*curve.interval, strict=True)
        return [Area((*xs, *xs[::-1]), (*high, *low[::-1]), mark.colour, curve.arm, 0.14)]
    hover = tuple(
        f"{curve.arm}\n{x:.3g} {unit}: {priorities} priorities, {runs} runs\n"
        f"hypervolume {value:.4g}{_ends(curve, k)}"
        for k, (x, priorities, runs, value) in enumerate(
            zip(xs, curve.num_priorities, curve.num_runs, curve.expected, strict=True)
        )
    )
    return [
        Line(tuple(xs), curve.expected, mark.colour, mark.dash, curve.arm),
        Points(tuple(xs), curve.expected, mark, curve.arm, hover, size=8),
    ]


def _ends(curve: BudgetCurve, index: int) -> str:
    if curve.interval is None:
        return ""
    return f" ({_interval_text(curve, index)})"


def _interval_text(curve: BudgetCurve, index: int) -> str:
    if curve.interval is None:
        return NONE
    low, high = curve.interval[index]
    return "all seeds agree" if no_width(low, high) else f"{low:.4g} to {high:.4g}"


def _hours(curve: BudgetCurve, seconds: RunSeconds | None) -> list[float] | None:
    """Return the mean device hours of each budget; the mean over the method's runs counts."""
    if seconds is None or curve.arm not in seconds.a_run:
        return None
    a_run = float(seconds.a_run[curve.arm].mean()) / 3600
    return [number * a_run for number in curve.num_runs]


def curve_table(curves: dict[str, BudgetCurve], seconds: RunSeconds | None) -> Table:
    """Return every value of the curves."""
    rows, raw = [], []
    kind = seconds.kind if seconds is not None else "device"
    for arm, curve in curves.items():
        hours = _hours(curve, seconds)
        for k, number in enumerate(curve.num_priorities):
            low, high = (None, None) if curve.interval is None else curve.interval[k]
            rows.append(
                (
                    arm,
                    str(number),
                    str(curve.num_runs[k]),
                    f"{curve.expected[k]:.4g}",
                    _interval_text(curve, k),
                    NONE if hours is None else f"{hours[k]:.3g}",
                )
            )
            raw.append(
                {
                    "method": arm,
                    "num_priorities": number,
                    "num_runs": curve.num_runs[k],
                    "hypervolume": curve.expected[k],
                    "low": low,
                    "high": high,
                    f"{kind}_hours": None if hours is None else hours[k],
                    "exact": curve.is_exact,
                }
            )
    return Table(
        "budget_curves",
        "Hypervolume of the means over seeds at so many priorities, the mean over all choices of "
        f"them, with its {PERCENT} interval over seeds.",
        ("method", "priorities", "runs", "hypervolume", f"{PERCENT} interval", f"{kind} hours"),
        tuple(rows),
        pd.DataFrame(raw),
    )


def match_table(matches: Sequence[Match]) -> Table:
    """Return how many runs of one method reach the whole grid of another."""
    rows = tuple(
        (
            match.arm,
            f"the {match.num_runs_rival} runs of {match.rival}",
            _runs_text(match.num_runs),
            NONE if match.num_runs is None else f"{match.num_runs / match.num_runs_rival:.2f}",
            interval_text(match) or NONE,
            NONE if match.share_reached is None else f"{100 * match.share_reached:.0f}",
        )
        for match in matches
    )
    raw = []
    for match in matches:
        low, high = match.interval or (None, None)
        held = {name: value for name, value in vars(match).items() if name != "interval"}
        raw.append({**held, "low": low, "high": high})
    return Table(
        "runs_to_match",
        "Runs that a method needs on average, its priorities chosen blindly, to reach the "
        f"hypervolume of another's whole grid, with the {PERCENT} interval over seeds and the "
        "share of resamples in which it is reached at all.",
        ("method", "to reach", "runs", "share of them", f"{PERCENT} interval", "reached (%)"),
        rows,
        pd.DataFrame(raw),
        num_words=2,
    )


def interval_text(match: Match) -> str:
    """Return a match's interval in words, empty where it has none for lack of seeds."""
    if match.num_agreeing is not None:
        return f"all {match.num_agreeing} seeds agree"
    if match.interval is None:
        return ""
    low, high = map(_runs_text, match.interval)
    return f"{low} in nearly all resamples" if low == high else f"{low} to {high}"


def _runs_text(number: int | None) -> str:
    return "never" if number is None else str(number)


MOST_ARMS = 6
"""Methods whose budgets are followed: as many as colours."""
MOST_PAIRS = 10


def compute_budget(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section on budgets, seconds and the untuned question."""
    if not findings.points:
        return None
    steered = steered_arms(findings)
    held = [arm_runs(findings.runs, findings.axes, arm) for arm in steered[:MOST_ARMS]]
    words = _left_out_words(steered, held)
    curves = _curves(findings, held)
    drawn = {arm: curve for arm, curve in curves.items() if curve.expected[-1] > 0}
    words += _curve_words(curves, drawn)
    matches, refused = _matches(findings, curves, {runs.arm: runs for runs in held})
    words += refused
    seconds = run_seconds(findings)
    costs = arm_overheads(findings, seconds)
    questions = _questions(findings, files, held)
    if not (curves or costs or questions):
        return None
    parts: list[Part] = []
    if drawn:
        parts += [curve_figure(findings, drawn, seconds), curve_table(drawn, seconds)]
    if matches:
        parts.append(match_table(matches))
    parts += words
    if costs and seconds is not None:
        parts += [overhead_figure(findings, costs, seconds), overhead_table(costs, seconds)]
        parts += seconds_words(findings, seconds)
    else:
        parts.append("No run reports its seconds, so nothing is said of time.")
    parts += _question_parts(findings, questions)
    return Section(
        name="compute_budget",
        title="What does it cost?",
        lead=" ".join(
            [*_match_lead(matches), *_overhead_lead(costs), *_question_lead(findings, questions)]
        ),
        parts=tuple(parts),
        values={
            "curves": [_without_resamples(curve) for curve in curves.values()],
            "matches": matches,
            "overheads": costs,
            "untuned": [question for question, _, _ in questions],
        },
    )


def _without_resamples(curve: BudgetCurve) -> dict[str, Any]:
    held = {name: value for name, value in vars(curve).items() if name != "resampled"}
    return {**held, "num_runs": curve.num_runs}


def _left_out_words(steered: Sequence[str], held: Sequence[ArmRuns]) -> list[str]:
    words = []
    if len(steered) > MOST_ARMS:
        words.append(
            f"Budgets are followed for {MOST_ARMS} of {len(steered)} methods with priorities: "
            f"{listed(steered[:MOST_ARMS])}."
        )
    for runs in held:
        if not runs.seeds:
            words.append(
                f"No budget of {runs.arm}: no seed is done at all {len(runs.priorities)} of its "
                "priorities."
            )
        elif runs.num_left_out:
            words.append(
                f"{runs.num_left_out} runs of {runs.arm} are not counted here: their seeds are "
                "not done at every priority."
            )
    few = [runs for runs in held if 0 < len(runs.seeds) < MIN_SEEDS]
    if few:
        words.append(
            f"No interval for {listed([runs.arm for runs in few])}: that takes at least "
            f"{MIN_SEEDS} seeds; resampling fewer looks surer than it is."
        )
    if not steered:
        words.append(
            "No method has runs at two priorities or more, so there is no front whose budget "
            "could be followed."
        )
    return words


def _curve_words(curves: dict[str, BudgetCurve], drawn: dict[str, BudgetCurve]) -> list[str]:
    words = [
        f"No curve of {arm} is drawn: none of its points is better than the reference point on "
        "every metric, so its hypervolume is 0."
        for arm in curves
        if arm not in drawn
    ]
    words += [
        f"No interval for {arm}: all {curve.num_seeds} seeds agree."
        for arm, curve in drawn.items()
        if curve.num_seeds >= MIN_SEEDS and curve.interval is None
    ]
    return words


def _curves(findings: Findings, held: Sequence[ArmRuns]) -> dict[str, BudgetCurve]:
    if findings.reference is None:
        return {}
    return {
        runs.arm: budget_curve(runs.arm, runs.metrics, findings.reference, findings.axes)
        for runs in held
        if runs.seeds
    }


def _matches(
    findings: Findings, curves: dict[str, BudgetCurve], runs: dict[str, ArmRuns]
) -> tuple[tuple[Match, ...], list[str]]:
    """Return runs to match of each pair, both ways, and why some pairs have none."""
    pairs = paper_pairs(findings, list(curves))
    matches: list[Match] = []
    words = []
    for a, b in pairs[:MOST_PAIRS]:
        why_not = _why_not_comparable(runs[a], runs[b])
        if why_not:
            words.append(f"The budgets of {a} and {b} are not set against each other: {why_not}.")
            continue
        # Nothing is needed to reach a hypervolume of 0.
        pair = ((curves[a], curves[b]), (curves[b], curves[a]))
        matches += [runs_to_match(own, rival) for own, rival in pair if rival.expected[-1] > 0]
    if len(pairs) > MOST_PAIRS:
        words.append(f"Only the first {MOST_PAIRS} of {len(pairs)} pairs are matched.")
    return tuple(matches), words


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


_Question = tuple[UntunedQuestion, ArmRuns, ArmRuns]


def _questions(
    findings: Findings, files: RunFiles, held: Sequence[ArmRuns]
) -> tuple[_Question, ...]:
    """Return each `lsb` arm at equal priorities against the whole grid of each `fixed` arm."""
    methods = method_of(findings)
    steered = {runs.arm: runs for runs in held}
    tuned = [runs for runs in held if methods[runs.arm] == PAPER_PAIR[1]]
    untuned = [arm for arm, method in methods.items() if method == PAPER_PAIR[0]]
    found = []
    for arm in untuned[:MOST_ARMS]:
        own = steered.get(arm) or arm_runs(findings.runs, findings.axes, arm)
        equal = [k for k, setting in enumerate(own.priorities) if is_equal(setting)]
        for rival in tuned:
            seeds = sorted(set(own.seeds) & set(rival.seeds))
            if not equal or not seeds:
                continue
            mine = own.metrics[equal[0]][[own.seeds.index(s) for s in seeds]]
            columns = [rival.seeds.index(s) for s in seeds]
            question = untuned_question(
                arm,
                mine,
                rival.arm,
                rival.metrics[:, columns],
                findings.axes,
                _validation(findings, files, rival, columns),
            )
            found.append((question, own, rival))
    return tuple(found)


def _validation(
    findings: Findings, files: RunFiles, runs: ArmRuns, columns: Sequence[int]
) -> np.ndarray | None:
    """Return runs (priorities, seeds, axes) on the validation split, or None if one lacks it."""
    values: list[list[list[float]]] = []
    for row in runs.run_ids:
        values.append([])
        for column in columns:
            metrics = files.metrics(row[column], "validation")
            held = [metrics.get(a.task, {}).get(a.metric.name) for a in findings.axes]
            known = [value for value in held if value is not None and math.isfinite(value)]
            if len(known) < len(held):
                return None
            values[-1].append(known)
    return np.array(values)


def _question_parts(findings: Findings, questions: Sequence[_Question]) -> list[Part]:
    if not questions:
        return [
            "The untuned question, lsb at equal priorities against the best of fixed's whole "
            "grid, is not asked: it needs lsb at equal priorities and fixed at two priorities or "
            "more, with a seed in common."
        ]
    parts: list[Part] = [_question_table(findings, questions)]
    parts += [_choice_words(findings, question, rival) for question, _, rival in questions]
    return parts


def _choice_words(findings: Findings, question: UntunedQuestion, rival: ArmRuns) -> str:
    chosen = findings.shown_priorities(rival.priorities[question.chosen])
    where = (
        "chosen on the validation split, as a user would"
        if question.chosen_on == "validation"
        else "chosen on the test split itself, because the results hold no validation metrics: "
        f"that flatters {question.rival}"
    )
    num_seeds = question.metrics[0].num_seeds
    return (
        f"The best of {question.num_candidates} priorities of {question.rival} is {chosen}, "
        f"{where}; best is the greatest relative gain over its grid's mean, averaged over tasks. "
        f"That took {question.num_candidates * num_seeds} runs, {question.arm} at equal "
        f"priorities {num_seeds}. On the test split {question.num_dominating} of "
        f"{question.num_candidates} points of {question.rival} dominate {question.arm} at equal "
        f"priorities, which dominates {question.num_dominated}. Where neither dominates, which is "
        "better depends on how much each task matters."
    )


def _question_table(findings: Findings, questions: Sequence[_Question]) -> Table:
    tasks = [axis.task for axis in findings.axes]
    rows, raw = [], []
    for question, own, rival in questions:
        chosen = findings.shown_priorities(rival.priorities[question.chosen])
        for axis, metric in zip(findings.axes, question.metrics, strict=True):
            interval = NONE
            if metric.interval is not None:
                interval = " to ".join(axis.shown(v, signed=True) for v in metric.interval)
            rows.append(
                (
                    f"{question.arm} at equal priorities",
                    f"{question.rival} {chosen}",
                    axis.title,
                    axis.shown(metric.difference, signed=True),
                    interval,
                    f"{metric.num_seeds_better} of {metric.num_seeds}",
                )
            )
            low, high = metric.interval or (None, None)
            raw.append(
                {
                    "method": question.arm,
                    "rival": question.rival,
                    **priority_values(rival.priorities[question.chosen], tasks, "rival_"),
                    "chosen_on": question.chosen_on,
                    "metric": axis.column,
                    "difference": metric.difference,
                    "low": low,
                    "high": high,
                    "num_seeds_better": metric.num_seeds_better,
                    "num_seeds": metric.num_seeds,
                    "num_seeds_of_method": len(own.seeds),
                }
            )
    return Table(
        "untuned",
        "No tuning against a whole grid: the method at equal priorities minus the best of the "
        f"rival's grid, test split, with Student's {PERCENT} interval over matched seeds and the "
        "seeds in which the method is better.",
        ("method", "against", "metric", "difference", f"{PERCENT} interval", "seeds better"),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=3,
    )


def _match_lead(matches: Sequence[Match]) -> list[str]:
    if not matches:
        return []
    few = "" if interval_text(matches[0]) else "; no interval from so few seeds"
    return [f"{listed([_match_words(match) for match in matches[:2]])}{few}."]


def _match_words(match: Match) -> str:
    if match.num_runs is None:
        text = f"{match.arm} does not reach the whole grid of {match.rival} with as many runs"
    else:
        text = (
            f"{match.arm} reaches the hypervolume of all {match.num_runs_rival} runs of "
            f"{match.rival} with {match.num_runs} on average"
        )
    interval = interval_text(match)
    if not interval:
        return text
    return f"{text} ({interval if match.interval is None else f'{PERCENT} interval {interval}'})"


def _overhead_lead(costs: Sequence[Overhead]) -> list[str]:
    if len(costs) < 2:
        return []
    others = sorted(costs[1:], key=lambda cost: cost.ratio[1])
    ends = [others[0]] if len(others) == 1 else [others[0], others[-1]]
    each = [f"{c.arm} {c.ratio[1]:.2f} ({c.ratio[0]:.2f} to {c.ratio[2]:.2f})" for c in ends]
    which = "Time" if len(others) == 1 else "Least and most time"
    return [f"{which} relative to {costs[0].arm}, median and quartiles: {listed(each)}."]


def _question_lead(findings: Findings, questions: Sequence[_Question]) -> list[str]:
    if not questions:
        return []
    question, _, rival = questions[0]
    each = [
        f"{axis.name} {axis.shown(m.difference, signed=True)} {axis.difference_unit}"
        for axis, m in zip(findings.axes, question.metrics, strict=True)
    ]
    flattered = ", chosen on the test split" if question.chosen_on == "test" else ""
    chosen = findings.shown_priorities(rival.priorities[question.chosen])
    return [
        f"{question.arm} at equal priorities minus the best of {question.num_candidates} settings "
        f"of {question.rival}, {chosen}{flattered}: {listed(each)}."
    ]
