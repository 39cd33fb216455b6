"""Two methods' fronts in single numbers, with intervals, and what the reference does to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import Reference
from analysis.compute.indicators import (
    Indicator,
    Indicators,
    Sensitivity,
    axis_ranges,
    indicators,
    reference_sensitivity,
)
from analysis.compute.inference import (
    LEVEL,
    Interval,
    PermutationTest,
    affordable_resamples,
    hypervolume_test,
    seed_widening,
    within_priority_test,
)
from analysis.load.axes import MINUS, NONE, place_words, shown_number, volume_unit
from analysis.load.matched import MatchedRuns, Settings, by_arm, matched_runs, why_not_matched
from analysis.load.run_files import RunFiles
from analysis.render.panels import Figure, Key, Line, Mark, Panel, Points, Rule, Scale, mark_of
from analysis.render.scales import log_ticks
from analysis.render.section import Part, Section
from analysis.render.table import Table


@dataclass(frozen=True)
class Pair:
    """Two methods with their indicators."""

    matched: MatchedRuns
    found: Indicators
    by_seed: PermutationTest
    within_priority: PermutationTest
    sensitivity: Sensitivity | None


@dataclass(frozen=True)
class _Row:
    """One line of a panel of intervals."""

    text: str
    indicator: Indicator
    mark: Mark
    arm: str


def intervals_figure(findings: Findings, pairs: Sequence[Pair]) -> Figure:
    """Return a panel each for ratio, epsilon and IGD+; without the ratio where no pair has one."""

    def mark(arm: str) -> Mark:
        return mark_of(findings.arms.index(arm))

    ratio = [
        _Row(
            f"{p.matched.arm_a} / {p.matched.arm_b}",
            p.found.ratio,
            mark(p.matched.arm_a),
            p.matched.arm_a,
        )
        for p in pairs
    ]

    def both(name: str) -> list[_Row]:
        return [
            _Row(f"{mine} to {other}", getattr(p.found, f"{name}_{side}"), mark(mine), mine)
            for p in pairs
            for side, mine, other in (
                ("a", p.matched.arm_a, p.matched.arm_b),
                ("b", p.matched.arm_b, p.matched.arm_a),
            )
        ]

    shares = "% of range (reversed)"
    of_ratio = _intervals_panel(
        "ratio", ("ratio of hypervolumes, higher is better", "ratio"), ratio
    )
    panels = (
        *([of_ratio] if has_ratio(pairs) else []),
        _intervals_panel("epsilon", ("additive epsilon, lower is better", shares), both("epsilon")),
        _intervals_panel("igd_plus", ("IGD+, lower is better", shares), both("igd_plus")),
    )
    which = "ratio of hypervolumes, " if has_ratio(pairs) else ""
    first = pairs[0]
    arms = list(dict.fromkeys(arm for p in pairs for arm in (p.matched.arm_a, p.matched.arm_b)))
    return Figure(
        "indicators",
        "Ratio of hypervolumes, epsilon and IGD+" if has_ratio(pairs) else "Epsilon and IGD+",
        f"Points with intervals for each pair of methods: {which}additive epsilon and IGD+ both "
        "ways. The table below holds every value.",
        panels,
        f"Lines: {LEVEL:.0%} intervals by whole seeds, {first.found.num_seeds} of them for "
        f"{first.matched.arm_a} and {first.matched.arm_b}. Dotted: no difference."
        if first.found.num_resamples
        else "Without intervals. Dotted: no difference.",
        # Long names leave no room beside each other.
        columns=len(panels)
        if max(len(text) for p in panels for _, text in p.y.ticks or ()) <= 18
        else 1,
        legend=tuple(Key(arm, mark(arm), "point") for arm in arms),
    )


def has_ratio(pairs: Sequence[Pair]) -> bool:
    """Return whether some pair has a ratio of hypervolumes."""
    return any(pair.found.ratio.value is not None for pair in pairs)


def _intervals_panel(name: str, titles: tuple[str, str], rows: Sequence[_Row]) -> Panel:
    is_ratio = name == "ratio"
    factor, none = (1.0, 1.0) if is_ratio else (100.0, 0.0)
    marks: list[Points | Line | Rule] = [Rule("x", none)]
    ticks, values = [], [none]
    for place, row in enumerate(rows):
        y = float(len(rows) - place)
        ticks.append((y, row.text))
        if row.indicator.value is None:
            continue
        value = row.indicator.value * factor
        values.append(value)
        hover = f"{row.text}\n{value:.4g}"
        interval = row.indicator.by_seed
        if interval is not None:
            ends = (interval.low * factor, interval.high * factor)
            values += ends
            marks.append(Line(ends, (y, y), row.mark.colour, width=2.0))
            hover += f"\n{ends[0]:.4g} to {ends[1]:.4g}"
        marks.append(Points((value,), (y,), row.mark, row.arm, (hover,)))
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or 0.05
    limits = (low - room, high + room)
    return Panel(
        f"indicators_{name}",
        Scale(titles[1], limits if is_ratio else limits[::-1]),
        Scale("", (0.5, len(rows) + 0.5), ticks=tuple(ticks)),
        tuple(marks),
        title=titles[0],
        height=150 + 26 * len(rows),
    )


SHOWN_DISTANCES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""At the axis's ticks and in the table."""
LINEAR_UP_TO = 3.0
"""Largest over smallest ratio beyond which the axis is logarithmic."""

Strip = tuple[MatchedRuns, Sensitivity]


def strip_figure(findings: Findings, strips: Sequence[Strip]) -> Figure:
    """Return the ratio of hypervolumes against the distance of the reference, a panel a pair."""
    panels = []
    for index, (matched, found) in enumerate(strips, 1):
        marks: list[Line | Rule] = [Rule("y", 1.0), Rule("x", 1.0, "as printed")]
        ends = [1.0]
        ratios_of = [found.together, *found.each]
        all_ratios = [1.0, *(r for ratios in ratios_of for r in ratios if r)]
        is_log = max(all_ratios) / min(all_ratios) > LINEAR_UP_TO
        for key, ratios in zip(_keys(findings), ratios_of, strict=True):
            text = key.text
            held = [
                (m, r)
                for m, r in zip(found.multiples, ratios, strict=True)
                if r is not None and (r > 0 or not is_log)
            ]
            ends += [r for _, r in held]
            marks.append(
                Line(
                    tuple(m for m, _ in held),
                    tuple(r for _, r in held),
                    key.mark.colour,
                    key.mark.dash,
                    text,
                    width=2.4 if ratios is found.together else 1.6,
                    hover=tuple(f"{text}\ndistance {m:.3g}\nratio {r:.4g}" for m, r in held),
                )
            )
        low, high = min(ends), max(ends)
        if is_log:
            limits = (low / 1.1, high * 1.1)
        else:
            room = (high - low) * 0.08 or 0.05
            limits = (low - room, high + room)
        a, b = matched.arm_a, matched.arm_b
        panels.append(
            Panel(
                f"indicators_reference_{index}",
                Scale(
                    "distance of the reference from the best values (1 = printed)",
                    (found.multiples[0], found.multiples[-1]),
                    is_log=True,
                    ticks=tuple((v, f"{v:g}") for v in SHOWN_DISTANCES),
                ),
                Scale(
                    "ratio of hypervolumes, higher is better",
                    limits,
                    is_log=is_log,
                    ticks=log_ticks(*limits) if is_log else None,
                ),
                tuple(marks),
                title=f"{a} over {b}",
                height=300,
            )
        )
    return Figure(
        "indicators_reference",
        "What the reference point does to the ratio",
        "Lines of the ratio of hypervolumes against the distance of the reference point, moved on "
        "all metrics at once and on each alone. The table below holds every value.",
        tuple(panels),
        "Dotted: equal hypervolumes, and the printed place. A near reference counts only the "
        "middle of the fronts, a far one mostly their ends; moved away on all metrics it draws "
        "the ratio towards 1. A line ends where a method has no hypervolume left. "
        "A winner that changes along a line hangs on where the reference is.",
        columns=min(2, len(panels)),
        legend=_keys(findings),
    )


def _keys(findings: Findings) -> tuple[Key, ...]:
    """Return what the lines of a strip are: all metrics, then each by itself."""
    together = Mark(colour_number=5, symbol="circle", dash="solid")
    each = [
        Mark(mark_of(k).colour_number, "circle", mark_of(k + 1).dash)
        for k in range(len(findings.axes))
    ]
    names = ["all metrics", *(f"{axis.task} alone" for axis in findings.axes)]
    return tuple(
        Key(name, mark, "line") for name, mark in zip(names, [together, *each], strict=True)
    )


def strip_table(findings: Findings, strips: Sequence[Strip]) -> Table:
    """Return the same values; the CSV holds every distance."""
    rows, raw = [], []
    for matched, found in strips:
        a, b = matched.arm_a, matched.arm_b
        for index, multiple in enumerate(found.multiples):
            ratios = [found.together[index], *(each[index] for each in found.each)]
            raw.append(
                {
                    "method_a": a,
                    "method_b": b,
                    "distance": multiple,
                    "ratio_all": ratios[0],
                    **{
                        f"ratio_{axis.column}_alone": ratio
                        for axis, ratio in zip(findings.axes, ratios[1:], strict=True)
                    },
                }
            )
            if multiple in SHOWN_DISTANCES:
                shown = [shown_number(ratio, ".3f") for ratio in ratios]
                rows.append((f"{a} / {b}", f"{multiple:g}", *shown))
    return Table(
        "indicators_reference",
        "Ratio of hypervolumes with the reference point at a multiple of its printed distance from "
        f"the best values; a dash where the second method has none. The CSV holds all {len(raw)} "
        "places.",
        ("methods", "distance", "all metrics", *(f"{axis.task} alone" for axis in findings.axes)),
        tuple(rows),
        pd.DataFrame(raw),
    )


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
