"""Two methods' fronts in single numbers, with intervals and permutation tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import Reference, other_references
from analysis.compute.indicators import (
    Indicator,
    Indicators,
    UnderReference,
    axis_ranges,
    indicators,
    under_reference,
)
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
from analysis.load.matched import by_arm, matched_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, first_items, listed
from analysis.render.figure_parts import legend_of, style_of
from analysis.render.panels import Drawn, Figure, Line, Panel, Points, Rule, Scale
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table, interval_columns

MAX_PAIRS = 6
MAX_NAME_BESIDE = 18
"""Characters of a row's name beyond which panels stand below each other."""
TITLE = "Fronts in single numbers"


@dataclass(frozen=True)
class Pair:
    """Two methods with their indicators."""

    method_a: str
    method_b: str
    seeds: tuple[int, ...]
    indicators: Indicators
    seed_level_test: PermutationTest
    run_level_test: PermutationTest
    references: tuple[UnderReference, ...]
    """The same two methods under other reference points than the report's."""

    @property
    def arms(self) -> tuple[str, str]:
        """Return both methods, the first one of ratios first."""
        return self.method_a, self.method_b


def front_indicators(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on indicators; None with fewer than two methods that take priorities."""
    runs, reference = by_arm(findings.runs, findings.axes), findings.reference
    wanted = every_pair([arm for arm in findings.arms if arm in runs])
    if not wanted or reference is None:
        return None
    ranges = axis_ranges(findings.runs[[axis.column for axis in findings.axes]].to_numpy(float))
    others = other_references(findings.runs, findings.points, findings.axes, findings.prior)
    pairs: list[Pair] = []
    left_out: list[str] = []
    why_not: list[str] = []
    computed, note = first_items(wanted, MAX_PAIRS, "pairs of methods")
    for methods in computed:
        both = " and ".join(methods)
        matched = matched_runs(runs, methods, same_seeds=True)
        if isinstance(matched, str):
            why_not.append(f"Not shown: {matched}.")
        elif len(matched.a.priorities) < 2:
            why_not.append(f"Not shown: {both} share one priority, and a front needs two.")
        else:
            both_runs = matched.a.metrics, matched.b.metrics
            given = (*both_runs, reference, findings.axes)
            found = indicators(*given, ranges)
            tests = (seed_level_test(*given), run_level_test(*given))
            moved = tuple(under_reference(*both_runs, point, findings.axes) for point in others)
            pairs.append(Pair(*methods, matched.a.seeds, found, *tests, moved))
            left_out += [f"{both}: {left}" for left in matched.left_out]
    words = [*left_out, *why_not, *([note.strip()] if note else [])]
    values = {"reference": reference, "level": LEVEL, "pairs": pairs}
    if not pairs:
        return Section("indicators", TITLE, " ".join(words), (), values)
    parts: tuple[Part | Folded, ...] = (
        _figure(findings, pairs),
        _table(findings, reference, pairs),
        _reference_words(pairs[0]),
        _reference_table(findings, pairs),
        *words,
        Folded("What these numbers mean", (_definitions(pairs[0].indicators), _levels(pairs[0]))),
    )
    return Section("indicators", TITLE, _lead(pairs[0]), parts, values)


def _lead(pair: Pair) -> str:
    (a, b), found, test = pair.arms, pair.indicators, pair.seed_level_test
    between = ""
    if found.ratio.seed_level is not None:
        low, high = found.ratio.seed_level
        between = f"{PERCENT} interval {low:.3f} to {high:.3f}; "
    first = (
        f"{a} has {shown_number(found.ratio.value, '.3f')} times the hypervolume of {b} "
        f"({between}permutation test p = {test.p:.2g}, minimum attainable {test.minimum_p:.2g})."
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
        "Additive epsilon: by how much of its range every metric must improve until for each point "
        "of the other method some point is at least as good; negative with room to spare. IGD+: "
        "how far, on average over the other's nondominated points, the nearest own point falls "
        f"short. Smaller is better for both. {resampled}. Noise pushes both up, most where fronts "
        "lie close: in simulations of equal fronts their intervals held the truth in 7 of 10 "
        "repetitions or more, those of hypervolume and its ratio in 9 of 10 or more."
    )


def _levels(pair: Pair) -> str:
    num_seeds = counted(len(pair.seeds), "seed", "seeds")
    return (
        "Seed level (figure and words): a seed with all its runs is one observation, as its runs "
        "share initial weights and data order. Run level: each run counts by itself; this is right "
        "only if no seed favours a method at all priorities, and otherwise finds differences where "
        f"there are none. With {num_seeds} the minimum attainable p-value is "
        f"{pair.seed_level_test.minimum_p:.2g} at seed level and "
        f"{pair.run_level_test.minimum_p:.2g} at run level; p is "
        "two-sided and not adjusted for the number of pairs."
    )


def _figure(findings: Findings, pairs: Sequence[Pair]) -> Figure:
    """Return a panel each for ratio, epsilon and IGD+."""
    ratio = [(f"{a} / {b}", p.indicators.ratio, a) for p in pairs for a, b in (p.arms,)]

    def both(name: str) -> list[tuple[str, Indicator, str]]:
        return [
            (f"{mine} to {other}", getattr(p.indicators, f"{name}_{side}"), mine)
            for p in pairs
            for side, mine, other in (("a", *p.arms), ("b", *p.arms[::-1]))
        ]

    panels = [
        _panel(findings, "ratio", "ratio of hypervolumes, higher is better", ratio),
        _panel(findings, "epsilon", "additive epsilon, lower is better", both("epsilon")),
        _panel(findings, "igd_plus", "IGD+, lower is better", both("igd_plus")),
    ]
    title = "Ratio of hypervolumes, epsilon and IGD+"
    found = pairs[0].indicators
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
        legend=legend_of(findings, arms, "point"),
    )


def _panel(
    findings: Findings, name: str, title: str, rows: Sequence[tuple[str, Indicator, str]]
) -> Panel:
    """Return one line for each (text, indicator, method), the first at the top."""
    is_ratio = name == "ratio"
    factor, no_difference = (1.0, 1.0) if is_ratio else (100.0, 0.0)
    marks: list[Drawn] = [Rule("x", no_difference)]
    drawn = [no_difference]
    places = [float(len(rows) - k) for k in range(len(rows))]
    for y, (text, indicator, arm) in zip(places, rows, strict=True):
        if indicator.value is None:
            continue
        style, value = style_of(findings, arm), indicator.value * factor
        drawn.append(value)
        hover = f"{text}\n{value:.4g}"
        if indicator.seed_level is not None:
            low, high = (end * factor for end in indicator.seed_level)
            drawn += [low, high]
            marks.append(Line((low, high), (y, y), style.colour, width=2.0))
            hover += f"\n{low:.4g} to {high:.4g}"
        marks.append(Points((value,), (y,), style, arm, (hover,)))
    room = (max(drawn) - min(drawn)) * 0.06 or 0.05
    limits = (min(drawn) - room, max(drawn) + room)
    ticks = tuple((y, text) for y, (text, _, _) in zip(places, rows, strict=True))
    return Panel(
        f"indicators_{name}",
        Scale("ratio", limits) if is_ratio else Scale("% of range (reversed)", limits[::-1]),
        Scale("", (0.5, len(rows) + 0.5), ticks=ticks),
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
    held = {
        f"range_{a.column}": x
        for a, x in zip(findings.axes, pairs[0].indicators.ranges, strict=True)
    }
    held |= {
        f"reference_{a.column}": x for a, x in zip(findings.axes, reference.point, strict=True)
    }
    records: list[dict[str, Any]] = []
    for pair in pairs:
        (a, b), found = pair.arms, pair.indicators
        for field, words, form in _ROWS:
            indicator: Indicator = getattr(found, field)
            record = vars(found) | vars(indicator) | held
            record |= {"method_a": a, "method_b": b, "indicator": field, "form": form}
            record["words"] = words.format(a=a, b=b)
            for level, test in (
                ("seed_level", pair.seed_level_test),
                ("run_level", pair.run_level_test),
            ):
                ends: Interval | None = getattr(indicator, level)
                record[f"low_{level}"], record[f"high_{level}"] = ends or (None, None)
                tests = field == "difference"
                record[f"p_{level}"] = test.p if tests else None
                record[f"minimum_p_{level}"] = test.minimum_p if tests else None
            records.append(record)

    def shown(record: Mapping[str, Any], value: float | None) -> str:
        return shown_number(value, record["form"])

    def interval(level: str) -> tuple[Column, Column]:
        head = f"{level.replace('_', '-')} interval"
        return interval_columns(head, shown, f"low_{level}", f"high_{level}")

    return Table.of(
        "indicators",
        f"Fronts in numbers, hypervolume in {volume_unit(findings.axes)}, with {PERCENT} "
        f"intervals. Reference point: {place_words(findings.axes, reference.point)}. "
        f"{reference.rule} Ranges for epsilon and IGD+: "
        f"{_range_words(findings, pairs[0].indicators.ranges)}.",
        records,
        [
            Column("method_a"),
            Column("method_b"),
            Column("indicator", "indicator", itemgetter("words")),
            Column("value", "value", lambda record: shown(record, record["value"])),
            *interval("seed_level"),
            *interval("run_level"),
            Column("p_seed_level", "seed-level p", ".2g"),
            Column("p_run_level", "run-level p", ".2g"),
            *map(Column, ("minimum_p_seed_level", "minimum_p_run_level")),
            *map(Column, ("num_seeds", "num_priorities", "num_resamples", *held)),
        ],
    )


def _reference_words(pair: Pair) -> str:
    """Say whether another reference point would change which of two methods is better."""
    (a, b), used = pair.arms, pair.seed_level_test
    if not used.difference:
        return f"{a} and {b} have the same hypervolume."
    better, worse = (a, b) if used.difference > 0 else (b, a)
    names = {under: under.reference.rule for under in pair.references}
    blind = [name for under, name in names.items() if under.num_cut_off == under.num_points]
    seeing = [under for under in pair.references if under.num_cut_off < under.num_points]
    turned = [names[under] for under in seeing if under.difference * used.difference <= 0]
    first = f"Does that depend on the reference point? {better} has the larger hypervolume "
    last = ""
    if blind:
        last = f" None of their points is better than {listed(blind)} on every metric."
    if turned:
        return (
            f"{first}under the one used (p = {used.p:.2g}), but not under {listed(turned)}: "
            f"whether it is better than {worse} depends on the reference point.{last}"
        )
    ends = sorted(under.p for under in seeing)
    p = " to ".join(dict.fromkeys(f"{end:.2g}" for end in (ends[0], ends[-1])))
    also = f"under {listed([names[under] for under in seeing])} too"
    return f"{first}{also} (p = {p}; {used.p:.2g} under the one used).{last}"


def _reference_table(findings: Findings, pairs: Sequence[Pair]) -> Table:
    """Return what other reference points make of each pair."""
    columns = [f"reference_{axis.column}" for axis in findings.axes]
    records = [
        vars(under)
        | {"method_a": pair.method_a, "method_b": pair.method_b}
        | {"reference": under.reference.rule, "place": under.reference.point}
        | dict(zip(columns, under.reference.point, strict=True))
        for pair in pairs
        for under in pair.references
    ]
    return Table.of(
        "reference_points",
        "The same difference of hypervolume under other reference points, with the seed-level p, "
        "not adjusted for the number of pairs. Cut off: operating points of the two that are no "
        "better than the reference point on some metric and so do not count.",
        records,
        [
            Column("method_a", "methods", lambda r: f"{r['method_a']} {MINUS} {r['method_b']}"),
            Column("method_b"),
            Column("reference", "reference point", lambda r: r["reference"].removeprefix("the ")),
            Column(None, "at", lambda r: place_words(findings.axes, r["place"])),
            Column("hypervolume_a"),
            Column("hypervolume_b"),
            Column("difference", "difference", "+.3g"),
            Column("p", "p", ".2g"),
            Column("num_cut_off", "cut off", lambda r: f"{r['num_cut_off']} of {r['num_points']}"),
            Column("num_points"),
            *map(Column, columns),
        ],
        num_words=3,
    )


def _range_words(findings: Findings, ranges: Sequence[float]) -> str:
    held = list(zip(findings.axes, ranges, strict=True))
    parts = [place_words([axis], [width]) for axis, width in held if width > 0]
    parts += [
        f"{axis.name} none, as it is the same in all runs" for axis, width in held if not width
    ]
    return ", ".join(parts)
