"""Two methods' fronts in single numbers, with intervals and permutation tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import Reference
from analysis.compute.indicators import Indicator, Indicators, axis_ranges, indicators
from analysis.compute.inference import (
    LEVEL,
    PERCENT,
    Interval,
    PermutationTest,
    run_level_test,
    seed_level_test,
    seed_widening,
)
from analysis.load.axes import MINUS, place_words, shown_number, volume_unit
from analysis.load.matched import Matched, by_arm, matched_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import first_items
from analysis.render.panels import Drawn, Figure, Key, Line, Panel, Points, Rule, Scale, mark_of
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table, interval_columns

MAX_PAIRS = 6
MAX_NAME_BESIDE = 18
"""Characters of a row's name beyond which panels stand below each other."""
TITLE = "Fronts in single numbers"


@dataclass(frozen=True)
class Pair:
    """Two methods with their indicators."""

    matched: Matched
    found: Indicators
    seed_level: PermutationTest
    run_level: PermutationTest

    @property
    def arms(self) -> tuple[str, str]:
        """Return both methods, the first one of ratios first."""
        return self.matched.a.arm, self.matched.b.arm


def front_indicators(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on indicators; None with fewer than two methods that take priorities."""
    runs = by_arm(findings.runs, findings.axes)
    wanted = every_pair([arm for arm in findings.arms if arm in runs])
    if not wanted or findings.reference is None:
        return None
    ranges = axis_ranges(findings.runs[[axis.column for axis in findings.axes]].to_numpy(float))
    pairs: list[Pair] = []
    why_not: list[str] = []
    computed, note = first_items(wanted, MAX_PAIRS, "pairs of methods")
    for methods in computed:
        matched = matched_runs(runs, methods, same_seeds=True)
        if isinstance(matched, str):
            why_not.append(f"Not shown: {matched}.")
        elif len(matched.a.priorities) < 2:
            both = " and ".join(methods)
            why_not.append(f"Not shown: {both} share one priority, and a front needs two.")
        else:
            pairs.append(_pair(findings, findings.reference, matched, ranges))
    words = [f"{' and '.join(p.arms)}: {left}" for p in pairs for left in p.matched.left_out]
    words += [*why_not, *([note.strip()] if note else [])]
    values: dict[str, Any] = {
        "reference": findings.reference,
        "level": LEVEL,
        "pairs": [
            {
                "method_a": p.matched.a.arm,
                "method_b": p.matched.b.arm,
                "seeds": list(p.matched.a.seeds),
                "indicators": p.found,
                "seed_level_test": p.seed_level,
                "run_level_test": p.run_level,
            }
            for p in pairs
        ],
        "why_not": why_not,
    }
    if not pairs:
        return Section("indicators", TITLE, " ".join(words), (), values)
    parts: tuple[Part | Folded, ...] = (
        _figure(findings, pairs),
        _table(findings, findings.reference, pairs),
        *words,
        Folded("What these numbers mean", (_definitions(pairs[0].found), _levels(pairs[0]))),
    )
    return Section("indicators", TITLE, _lead(pairs[0]), parts, values)


def _pair(
    findings: Findings, reference: Reference, matched: Matched, ranges: Sequence[float]
) -> Pair:
    both = matched.a.metrics, matched.b.metrics
    return Pair(
        matched,
        indicators(*both, reference, findings.axes, ranges),
        seed_level_test(*both, reference, findings.axes),
        run_level_test(*both, reference, findings.axes),
    )


def _lead(pair: Pair) -> str:
    (a, b), found, test = pair.arms, pair.found, pair.seed_level
    if not (found.hypervolume_a.value or found.hypervolume_b.value):
        first = (
            f"Neither {a} nor {b} has a point better than the reference point on every metric, so "
            "there is no ratio of hypervolumes."
        )
    elif found.ratio.value is None:
        first = f"{b} has no hypervolume above the reference point, so there is no ratio to it."
    else:
        between = ""
        if found.ratio.seed_level is not None:
            low, high = found.ratio.seed_level
            between = f"{PERCENT} interval {low:.3f} to {high:.3f}; "
        first = (
            f"{a} has {found.ratio.value:.3f} times the hypervolume of {b} ({between}permutation "
            f"test p = {test.p:.2g}, minimum attainable {test.minimum_p:.2g})."
        )
    second = (
        "To have, for each point of the other, some point at least as good on every metric "
        f"(additive epsilon), {a} {_to_do(found.epsilon_a)} and {b} {_to_do(found.epsilon_b)}."
    )
    few = " One seed: there are no intervals." if found.num_seeds < 2 else ""
    return f"{first} {second}{few}"


def _to_do(epsilon: Indicator) -> str:
    """Say what an additive epsilon asks of a method."""
    if epsilon.value is None:
        return "has none"
    shown = f"{abs(epsilon.value) * 100:.1f} % of a metric's range"
    if not float(f"{epsilon.value * 100:.1f}"):
        return "need not improve"
    return f"must improve by {shown}" if epsilon.value > 0 else f"has {shown} to spare"


def _definitions(found: Indicators) -> str:
    resampled = (
        f"Intervals are of {found.num_resamples} resamples, at seed level widened by a factor of "
        f"{seed_widening(found.num_seeds):.1f} for {found.num_seeds} seeds"
        if found.num_resamples
        else "There are no intervals: they need two seeds and, with five tasks or more, at most a "
        "hundred priorities"
    )
    return (
        "All are of the means at each priority. Additive epsilon: by how much of its range every "
        "metric must improve until for each point of the other method some point is at least as "
        "good; negative with room to spare. IGD+: how far, on average over the other's "
        "nondominated points, the nearest own point falls short. Smaller is better for both. "
        f"{resampled}. Noise pushes epsilon and IGD+ up, most where fronts lie close: in "
        "simulations of equal fronts their intervals held the truth in 7 of 10 repetitions or "
        "more, those of hypervolume and its ratio in 9 of 10 or more."
    )


def _levels(pair: Pair) -> str:
    seeds, runs = pair.seed_level, pair.run_level
    num_seeds = "one seed" if pair.found.num_seeds == 1 else f"{pair.found.num_seeds} seeds"
    return (
        "Seed-level intervals and tests take a seed with all its runs as one observation, as runs "
        "of one seed share their initial weights and data order; the figure and the words use "
        "them. Run-level ones take each run by itself, within its priority: they are right only "
        "if no seed favours a method at all priorities, and otherwise find differences where there "
        f"are none. With {num_seeds} the minimum attainable p-value is "
        f"{seeds.minimum_p:.2g} at seed level and {runs.minimum_p:.2g} at run level; p is "
        "two-sided and not adjusted for the number of pairs."
    )


def _figure(findings: Findings, pairs: Sequence[Pair]) -> Figure:
    """Return a panel each for ratio, epsilon and IGD+; without the ratio where no pair has one."""
    ratio = [(f"{a} / {b}", p.found.ratio, a) for p in pairs for a, b in (p.arms,)]
    has_ratio = any(indicator.value is not None for _, indicator, _ in ratio)

    def both(name: str) -> list[tuple[str, Indicator, str]]:
        return [
            (f"{mine} to {other}", getattr(p.found, f"{name}_{side}"), mine)
            for p in pairs
            for side, mine, other in (("a", *p.arms), ("b", *p.arms[::-1]))
        ]

    panels = [
        _panel(findings, "epsilon", "additive epsilon, lower is better", both("epsilon")),
        _panel(findings, "igd_plus", "IGD+, lower is better", both("igd_plus")),
    ]
    if has_ratio:
        title = "ratio of hypervolumes, higher is better"
        panels.insert(0, _panel(findings, "ratio", title, ratio))
    title = "Ratio of hypervolumes, epsilon and IGD+" if has_ratio else "Epsilon and IGD+"
    found = pairs[0].found
    intervals = "Without intervals."
    if found.num_resamples:
        intervals = f"Lines: seed-level {PERCENT} intervals, from {found.num_seeds} seeds."
    longest = max(len(text) for panel in panels for _, text in panel.y.ticks or ())
    arms = dict.fromkeys(arm for pair in pairs for arm in pair.arms)
    return Figure(
        "indicators",
        title,
        f"{title} of each pair of methods as points with intervals. The table below holds every "
        "value.",
        tuple(panels),
        f"{intervals} Dotted: no difference.",
        columns=len(panels) if longest <= MAX_NAME_BESIDE else 1,
        legend=tuple(Key(arm, mark_of(findings.arms.index(arm)), "point") for arm in arms),
    )


def _panel(
    findings: Findings, name: str, title: str, rows: Sequence[tuple[str, Indicator, str]]
) -> Panel:
    """Return one line for each (text, indicator, method), the first at the top."""
    is_ratio = name == "ratio"
    factor, no_difference = (1.0, 1.0) if is_ratio else (100.0, 0.0)
    marks: list[Drawn] = [Rule("x", no_difference)]
    drawn = [no_difference]
    for place, (text, indicator, arm) in enumerate(rows):
        y = float(len(rows) - place)
        if indicator.value is None:
            continue
        mark = mark_of(findings.arms.index(arm))
        value = indicator.value * factor
        drawn.append(value)
        hover = f"{text}\n{value:.4g}"
        if indicator.seed_level is not None:
            low, high = (end * factor for end in indicator.seed_level)
            drawn += [low, high]
            marks.append(Line((low, high), (y, y), mark.colour, width=2.0))
            hover += f"\n{low:.4g} to {high:.4g}"
        marks.append(Points((value,), (y,), mark, arm, (hover,)))
    room = (max(drawn) - min(drawn)) * 0.06 or 0.05
    limits = (min(drawn) - room, max(drawn) + room)
    return Panel(
        f"indicators_{name}",
        Scale("ratio", limits) if is_ratio else Scale("% of range (reversed)", limits[::-1]),
        Scale(
            "",
            (0.5, len(rows) + 0.5),
            ticks=tuple((float(len(rows) - k), text) for k, (text, _, _) in enumerate(rows)),
        ),
        tuple(marks),
        title=title,
        height=150 + 26 * len(rows),
    )


# Field, words, decimals for people.
_ROWS = (
    ("hypervolume_a", "hypervolume, {a}", ".4g"),
    ("hypervolume_b", "hypervolume, {b}", ".4g"),
    ("difference", f"hypervolume, {{a}} {MINUS} {{b}}", "+.3g"),
    ("ratio", "hypervolume, {a} / {b}", ".3f"),
    ("epsilon_a", "epsilon, {a} to match {b}", ".3f"),
    ("epsilon_b", "epsilon, {b} to match {a}", ".3f"),
    ("igd_plus_a", "IGD+, {a} from {b}", ".3f"),
    ("igd_plus_b", "IGD+, {b} from {a}", ".3f"),
)


def _table(findings: Findings, reference: Reference, pairs: Sequence[Pair]) -> Table:
    widths = [f"range_{axis.column}" for axis in findings.axes]
    places = [f"reference_{axis.column}" for axis in findings.axes]
    records: list[dict[str, Any]] = []
    for pair in pairs:
        (a, b), found = pair.arms, pair.found
        for field, words, form in _ROWS:
            indicator: Indicator = getattr(found, field)
            record = {
                "method_a": a,
                "method_b": b,
                "indicator": field,
                "words": words.format(a=a, b=b),
                "form": form,
                "value": indicator.value,
                "num_seeds": found.num_seeds,
                "num_priorities": found.num_priorities,
                "num_resamples": found.num_resamples,
                **dict(zip(widths, found.ranges, strict=True)),
                **dict(zip(places, reference.point, strict=True)),
            }
            for level in ("seed_level", "run_level"):
                interval: Interval | None = getattr(indicator, level)
                test: PermutationTest | None = getattr(pair, level)
                if field != "difference":
                    test = None
                record[f"low_{level}"], record[f"high_{level}"] = interval or (None, None)
                record[f"p_{level}"] = None if test is None else test.p
                record[f"minimum_p_{level}"] = None if test is None else test.minimum_p
            records.append(record)
    levels = (("seed_level", "seed-level"), ("run_level", "run-level"))
    columns = [
        *(Column(key) for key in ("method_a", "method_b", "indicator")),
        Column(None, "indicator", lambda record: record["words"]),
        Column("value"),
        Column(None, "value", lambda record: shown_number(record["value"], record["form"])),
        *(
            column
            for level, name in levels
            for column in interval_columns(
                f"{name} interval",
                lambda record, end: shown_number(end, record["form"]),
                f"low_{level}",
                f"high_{level}",
            )
        ),
        *(Column(f"p_{level}", f"{name} p", ".2g") for level, name in levels),
        *(Column(f"minimum_p_{level}") for level, _ in levels),
        *(Column(key) for key in ("num_seeds", "num_priorities", "num_resamples")),
        *(Column(key) for key in (*widths, *places)),
    ]
    return Table.of(
        "indicators",
        f"Fronts in numbers, hypervolume in {volume_unit(findings.axes)}, with {PERCENT} "
        f"intervals. Reference point: {place_words(findings.axes, reference.point)}. "
        f"{reference.rule} Ranges for epsilon and IGD+: "
        f"{_range_words(findings, pairs[0].found.ranges)}.",
        records,
        columns,
    )


def _range_words(findings: Findings, ranges: Sequence[float]) -> str:
    held = list(zip(findings.axes, ranges, strict=True))
    parts = [place_words([axis], [width]) for axis, width in held if width > 0]
    parts += [
        f"{axis.name} none, as it is the same in all runs" for axis, width in held if not width
    ]
    return ", ".join(parts)
