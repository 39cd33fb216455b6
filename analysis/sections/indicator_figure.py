"""The figure of two methods' indicators: points with intervals, a panel each."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.findings import Findings
from analysis.indicators import Indicator, Indicators, Sensitivity
from analysis.inference import PermutationTest
from analysis.intervals import LEVEL
from analysis.marks import Mark, mark_of
from analysis.panels import Figure, Key, Line, Panel, Points, Rule, Scale
from analysis.single_runs import MatchedRuns


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
