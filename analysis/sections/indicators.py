"""Two methods' fronts in single numbers, with intervals, and what the reference does to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.axes import MINUS, NONE, place_words, shown_number, volume_unit
from analysis.findings import Findings
from analysis.fronts import Reference
from analysis.indicators import (
    Indicator,
    Indicators,
    axis_ranges,
    indicators,
    reference_sensitivity,
)
from analysis.inference import hypervolume_test, within_priority_test
from analysis.intervals import LEVEL, Interval, affordable_resamples, seed_widening
from analysis.pairs import every_pair
from analysis.result_tables import Table
from analysis.run_files import RunFiles
from analysis.section import Part, Section
from analysis.sections.indicator_figure import Pair, has_ratio, intervals_figure
from analysis.sections.reference_strips import strip_figure, strip_table
from analysis.single_runs import MatchedRuns, Settings, by_arm, matched_runs, why_not_matched

MOST_PAIRS = 6
MOST_PAIRED_RUNS = 6000
"""Runs of a method, summed over the pairs: bounds the time; one pair is always computed."""
MOST_STRIPS = 3
TITLE = "Fronts in single numbers"


def front_indicators(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section on indicators; None with fewer than two methods that take priorities."""
    del files
    runs = by_arm(findings.runs, findings.axes)
    wanted = every_pair([arm for arm in findings.arms if arm in runs])
    reference = findings.reference
    if not wanted or reference is None:
        return None
    ranges = axis_ranges(findings.runs[[axis.column for axis in findings.axes]].to_numpy(float))
    pairs: list[Pair] = []
    why_not: list[str] = []
    bound = _bound(runs, wanted)
    for methods in wanted[:bound]:
        matched = matched_runs(runs, methods, same_seeds=True)
        reason = _why_not(runs, methods, matched)
        if matched is None or reason:
            why_not.append(reason)
        else:
            pairs.append(_pair(findings, reference, matched, ranges))
    words = [
        f"{p.matched.arm_a} and {p.matched.arm_b}: {s}" for p in pairs for s in p.matched.left_out
    ]
    words += why_not
    if bound < len(wanted):
        words.append(f"{len(wanted) - bound} of {len(wanted)} pairs of methods are left out.")
    values: dict[str, Any] = {
        "reference": reference,
        "level": LEVEL,
        "pairs": [
            {
                "method_a": p.matched.arm_a,
                "method_b": p.matched.arm_b,
                "seeds": list(p.matched.seeds_a),
                "indicators": p.found,
                "test_by_whole_seeds": p.by_seed,
                "test_within_priorities": p.within_priority,
                "sensitivity": p.sensitivity,
            }
            for p in pairs
        ],
        "why_not": why_not,
    }
    if not pairs:
        return Section("indicators", TITLE, " ".join(words), (), values)
    parts: list[Part] = [intervals_figure(findings, pairs), _table(findings, reference, pairs)]
    parts += [_how(pairs[0].found), _when_right(pairs[0])]
    if not has_ratio(pairs):
        words.append(
            "No ratio of hypervolumes is drawn: in no pair has the second method a point better "
            "than the reference point on every metric."
        )
    strips = [(p.matched, p.sensitivity) for p in pairs if p.sensitivity is not None]
    strips = [
        (matched, held)
        for matched, held in strips
        if any(r is not None for ratios in (held.together, *held.each) for r in ratios)
    ][:MOST_STRIPS]
    if strips:
        parts += [strip_figure(findings, strips), strip_table(findings, strips)]
    else:
        words.append(
            "No figure of the reference point: it is on some axis no worse than every mean, so "
            "that no method has any hypervolume."
        )
    return Section("indicators", TITLE, _lead(pairs[0]), (*parts, *words), values)


def _bound(runs: Mapping[str, Settings], wanted: Sequence[tuple[str, str]]) -> int:
    """Return how many pairs are computed, at least one."""
    total = 0
    for index, (a, b) in enumerate(wanted[:MOST_PAIRS]):
        total += min(sum(map(len, runs[arm].values())) for arm in (a, b))
        if index and total > MOST_PAIRED_RUNS:
            return index
    return min(len(wanted), MOST_PAIRS)


def _why_not(
    runs: Mapping[str, Settings], methods: tuple[str, str], matched: MatchedRuns | None
) -> str:
    a, b = methods
    if matched is None:
        return f"Not shown for {a} and {b}: {why_not_matched(runs, methods)}"
    if len(matched.priorities) < 2:
        return f"Not shown for {a} and {b}: they share one priority, and a front needs two."
    return ""


def _pair(
    findings: Findings, reference: Reference, matched: MatchedRuns, ranges: Sequence[float]
) -> Pair:
    axes = findings.axes
    return Pair(
        matched,
        indicators(
            matched.runs_a,
            matched.runs_b,
            reference,
            axes,
            ranges,
            affordable_resamples(matched.runs_a.shape[0] * matched.runs_a.shape[1]),
        ),
        hypervolume_test(matched.runs_a, matched.runs_b, reference, axes),
        within_priority_test(matched.runs_a, matched.runs_b, reference, axes),
        reference_sensitivity(
            matched.runs_a.mean(axis=1), matched.runs_b.mean(axis=1), reference, axes
        ),
    )


def _lead(pair: Pair) -> str:
    a, b, found = pair.matched.arm_a, pair.matched.arm_b, pair.found
    ratio = found.ratio
    if not (found.hypervolume_a.value or found.hypervolume_b.value):
        first = (
            f"Neither {a} nor {b} has a point better than the reference point on every metric, so "
            "there is no ratio of hypervolumes."
        )
    elif ratio.value is None:
        first = f"{b} has no hypervolume above the reference point, so there is no ratio to it."
    else:
        first = f"{a} has {ratio.value:.3f} times the hypervolume of {b}"
        first += f"{_between(ratio.by_seed, '.3f')}."
    second = (
        "To have, for each point of the other, some point at least as good on every metric "
        f"(additive epsilon), {a} {_to_do(found.epsilon_a)} and {b} {_to_do(found.epsilon_b)}."
    )
    few = (
        "One seed: there are no intervals."
        if found.num_seeds < 2
        else f"These are means of {found.num_seeds} seeds at {found.num_priorities} priorities; "
        f"with so few seeds intervals are wide ({seed_widening(found.num_seeds):.1f} times the "
        "resampled ones)."
    )
    return f"{first} {second} {few}"


def _between(interval: Interval | None, form: str) -> str:
    if interval is None:
        return ""
    low, high = shown_number(interval.low, form), shown_number(interval.high, form)
    return f" ({LEVEL:.0%} interval {low} to {high})"


def _to_do(epsilon: Indicator) -> str:
    """Say what an additive epsilon asks of a method."""
    if epsilon.value is None:
        return "has none"
    shown = f"{abs(epsilon.value) * 100:.1f} % of a metric's range"
    if not float(f"{epsilon.value * 100:.1f}"):
        return "need not improve"
    return f"must improve by {shown}" if epsilon.value > 0 else f"has {shown} to spare"


def _how(found: Indicators) -> str:
    resampled = (
        f"Intervals are of {found.num_resamples} resamples. "
        if found.num_resamples
        else "There are no intervals: they need two seeds, and fewer than a hundred priorities "
        "where there are five tasks or more. "
    )
    return (
        "All are of the means at each priority. Additive epsilon: by how much of the range every "
        "metric must improve until for each point of the other method some point is at least as "
        "good; below zero with room to spare. IGD+: how far, on average over the other's "
        "nondominated points, the nearest own point falls short. Both have each metric divided "
        f"by its range over all runs here, and smaller is better. {resampled}"
        "Noise pushes both of them up, most where fronts lie close: in simulations of equal "
        "fronts, intervals of epsilon and IGD+ held the truth in 7 of 10 repetitions or more, "
        "those of hypervolume and its ratio in 9 of 10 or more."
    )


def _when_right(pair: Pair) -> str:
    seeds, runs = pair.by_seed, pair.within_priority
    return (
        "Two ways to count: by whole seeds, drawn or exchanged with all their runs at once, and "
        "by single runs within a priority. Runs of one seed share their initial weights and data "
        "order, so a seed may favour a method at all priorities; whole seeds are right then too, "
        "and are what the figure and the words use. Within a priority is right only if no seed "
        "does that, and otherwise finds differences where there are none. With "
        f"{pair.found.num_seeds} seeds the smallest p in reach is {seeds.smallest_p:.2g} by whole "
        f"seeds and {runs.smallest_p:.2g} within priorities; p is two-sided and not adjusted for "
        "the number of pairs."
    )


# Field, words, whether a unit of the product of the metrics, decimals of people.
_ROWS = (
    ("hypervolume_a", "hypervolume of {a}", ".4g"),
    ("hypervolume_b", "hypervolume of {b}", ".4g"),
    ("difference", "difference of hypervolumes", "+.3g"),
    ("ratio", "ratio of hypervolumes", ".3f"),
    ("epsilon_a", "epsilon, {a} to match {b}", ".3f"),
    ("epsilon_b", "epsilon, {b} to match {a}", ".3f"),
    ("igd_plus_a", "IGD+, {a} from {b}", ".3f"),
    ("igd_plus_b", "IGD+, {b} from {a}", ".3f"),
)


def _table(findings: Findings, reference: Reference, pairs: Sequence[Pair]) -> Table:
    rows, raw = [], []
    for pair in pairs:
        a, b, found = pair.matched.arm_a, pair.matched.arm_b, pair.found
        for field, words, form in _ROWS:
            indicator: Indicator = getattr(found, field)
            has_p = field == "difference"
            p_seed, p_run = pair.by_seed.p, pair.within_priority.p
            rows.append(
                (
                    f"{a} {MINUS} {b}",
                    words.format(a=a, b=b),
                    shown_number(indicator.value, form),
                    _shown(indicator.by_seed, form),
                    _shown(indicator.by_priority, form),
                    f"{p_seed:.2g}" if has_p else "",
                    f"{p_run:.2g}" if has_p else "",
                )
            )
            row: dict[str, Any] = {"method_a": a, "method_b": b, "indicator": field}
            row["value"] = indicator.value
            for unit, interval in (
                ("whole_seeds", indicator.by_seed),
                ("within_priority", indicator.by_priority),
            ):
                row[f"low_{unit}"] = None if interval is None else interval.low
                row[f"high_{unit}"] = None if interval is None else interval.high
            row |= {
                "p_whole_seeds": p_seed if has_p else None,
                "p_within_priority": p_run if has_p else None,
                "smallest_p_whole_seeds": pair.by_seed.smallest_p if has_p else None,
                "smallest_p_within_priority": pair.within_priority.smallest_p if has_p else None,
                "num_seeds": found.num_seeds,
                "num_priorities": found.num_priorities,
                "num_resamples": found.num_resamples,
            }
            named = list(zip(findings.axes, found.ranges, reference.point, strict=True))
            row |= {f"range_{axis.column}": width for axis, width, _ in named}
            row |= {f"reference_{axis.column}": value for axis, _, value in named}
            raw.append(row)
    places = place_words(findings.axes, reference.point)
    widths = _range_words(findings, pairs[0].found.ranges)
    units = volume_unit(findings.axes)
    return Table(
        "indicators",
        f"Fronts in numbers, hypervolume in {units}, with {LEVEL:.0%} intervals. Reference point: "
        f"{places}. {reference.rule} Ranges for epsilon and IGD+: {widths}.",
        (
            "methods",
            "indicator",
            "value",
            "by whole seeds",
            "within priorities",
            "p by whole seeds",
            "p within priorities",
        ),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=2,
    )


def _range_words(findings: Findings, ranges: Sequence[float]) -> str:
    held = list(zip(findings.axes, ranges, strict=True))
    parts = [place_words([axis], [width]) for axis, width in held if width > 0]
    parts += [
        f"{axis.name} none, as it is the same in all runs" for axis, width in held if not width
    ]
    return ", ".join(parts)


def _shown(interval: Interval | None, form: str) -> str:
    if interval is None:
        return NONE
    return f"{shown_number(interval.low, form)} to {shown_number(interval.high, form)}"
