"""The verdict in generated words: what the runs show, and its caveats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.compute.findings import (
    PAPER_PAIR,
    Comparison,
    Findings,
    Matched,
    method_of,
    prioritised_arms,
)
from analysis.compute.fronts import OperatingPoint, minimised
from analysis.compute.inference import SIGNIFICANCE
from analysis.load.axes import shown_number
from analysis.load.priorities import Priorities
from analysis.load.text import counted, first_listed, listed

MAX_NAMED = 4
"""Methods or priorities that a sentence names; it counts the rest."""
MAX_SENTENCES = 6
"""Sentences of one kind; a last one counts the rest."""
CLEAR_RATIO = 5.0
"""From this range over spread on, a metric is said to follow the priority clearly."""
DATA_CAVEATS: Mapping[tuple[str, str], str] = {
    ("scenes", "simple"): "A demonstration and no evidence about real data: the simple variant of "
    "the scenes is built to show a trade-off between tasks within minutes.",
    ("scenes", "rooms"): "The rooms are rendered: whether the same holds for photographs is open.",
}
_OF_STORES = "data.name"
"""A field that the runs of every store have, and those of no table."""


@dataclass(frozen=True)
class Verdict:
    """A report in a few sentences."""

    headline: str
    statements: tuple[str, ...]
    """What was found, with numbers."""
    caveats: tuple[str, ...]
    """What this cannot show."""


def verdict(findings: Findings) -> Verdict:
    """Return the verdict; it names a winner only where a test is significant.

    However many methods there are, it names a few and counts the rest.
    """
    if not findings.points:
        return Verdict(
            f"Nothing to compare yet: none of {len(findings.states)} runs has a usable result.",
            (),
            tuple(_incomplete(findings)),
        )
    compared = [_compared(c, findings) for c in _by_weight(findings)]
    statements = _first(compared, "comparison|comparisons", "in the table of differences")
    if findings.single_points and findings.comparisons:
        statements.append(single_point_words(findings))
    return Verdict(
        headline=_headline(findings),
        statements=(*statements, *_movements(findings), *_against_prior(findings)),
        caveats=(
            *partly_compared(findings),
            *_data_caveat(findings.provenance.common),
            *_incomplete(findings),
            *_without_result(findings),
            *_few_seeds(findings),
            *_reach(findings),
        ),
    )


def _first(sentences: Sequence[str], noun: str, where: str) -> list[str]:
    """Return the first sentences, and one that counts the rest and says where it is.

    Args:
        sentences: in order.
        noun: what each is on: `method|methods`.
        where: such as `in the table of ranges`.
    """
    left = len(sentences) - MAX_SENTENCES
    if left <= 0:
        return list(sentences)
    one, many = noun.split("|")
    rest = counted(left, f"more {one} is", f"more {many} are")
    return [*sentences[:MAX_SENTENCES], f"{rest} {where}."]


def _data_caveat(common: Mapping[str, Any]) -> list[str]:
    key = (str(common.get("data.name")), str(common.get("data.variant")))
    return [DATA_CAVEATS[key]] if key in DATA_CAVEATS else []


def _incomplete(findings: Findings) -> list[str]:
    counts = {state: n for state, n in findings.counts.items() if state != "done"}
    if not counts:
        return []
    rest = listed([f"{number} {state}" for state, number in counts.items()])
    return [
        f"{sum(counts.values())} of {len(findings.states)} runs are not shown: {rest} "
        "(reasons under what was run)."
    ]


def _without_result(findings: Findings) -> list[str]:
    """Say at which priorities, and with which seeds, a method lacks results that others have."""
    if findings.searched:
        return []  # each method has points of its own
    held: dict[str, dict[Priorities, frozenset[int]]] = {}
    for point in findings.points:
        if point.priorities is not None:
            held.setdefault(point.arm, {})[point.priorities] = frozenset(point.seeds)
    grid: dict[Priorities, frozenset[int]] = {}
    for settings in held.values():
        for setting, seeds in settings.items():
            grid[setting] = grid.get(setting, frozenset()) | seeds
    sentences = []
    for arm, settings in held.items():
        absent = [findings.shown_priorities(s) for s in sorted(grid) if s not in settings]
        parts = [f"at {first_listed(absent, MAX_NAMED)}"] if absent else []
        at_seeds: dict[frozenset[int], list[str]] = {}
        for setting in sorted(settings):
            lacking = grid[setting] - settings[setting]
            if lacking:
                at_seeds.setdefault(lacking, []).append(findings.shown_priorities(setting))
        for lacking, texts in at_seeds.items():
            named = first_listed([str(seed) for seed in sorted(lacking)], MAX_NAMED)
            noun = "seed" if len(lacking) == 1 else "seeds"
            parts.append(f"with {noun} {named} at {first_listed(texts, MAX_NAMED)}")
        if parts:
            sentences.append(f"{arm} has no result {'; nor '.join(parts[:MAX_NAMED])}.")
    return _first(sentences, "method|methods", "with gaps, in the table of runs")


def _few_seeds(findings: Findings) -> list[str]:
    seeds = sorted({point.n for point in findings.points})
    if seeds == [1]:
        return ["One seed a setting: nothing here tells a method from its luck."]
    if seeds[0] < 5:
        counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return [f"The standard deviations are rough: {counts} seeds."]
    return []


def _reach(findings: Findings) -> list[str]:
    if findings.searched:
        return [
            "One data set and one network: how the methods rank elsewhere is open. Points chosen "
            "by their outcome flatter every method; for a comparison train a grid."
        ]
    common = findings.provenance.common
    if _OF_STORES in common:
        return [
            "One data set, one network, one setting of the optimiser for all methods: how they "
            "rank elsewhere, or each with its own tuned learning rate, is open."
        ]
    unsaid = [
        *([] if "dataset" in common else ["data set"]),
        *([] if {"architecture", "encoder"} & set(common) else ["network"]),
        "setting of the optimiser",
    ]
    return [
        f"The table does not say which {listed(unsaid)} the runs had, nor whether all methods had "
        "the same: what a difference is due to is open."
    ]


def is_significant(comparison: Comparison) -> bool:
    """Return whether the difference of two methods is statistically significant."""
    return comparison.p_adjusted is not None and comparison.p_adjusted < SIGNIFICANCE


def single_point_words(findings: Findings) -> str:
    """Say why methods without priorities have no hypervolume."""
    names = first_listed(findings.single_points, MAX_NAMED)
    if len(findings.single_points) == 1:
        return f"{names} takes no priorities, so it has one operating point and no front."
    return f"{names} take no priorities, so they have one operating point each and no front."


def partly_compared(findings: Findings) -> list[str]:
    """Say of pairs that do not have the same runs what their comparison leaves out."""
    partly = [(c, c.matched) for c in _by_weight(findings) if c.matched and c.matched.left_out]
    sentences = [
        f"{c.arm_a} and {c.arm_b} are compared only on {_on(on)}. {' '.join(on.left_out)}"
        for c, on in partly
    ]
    return _first(sentences, "pair|pairs", "compared in part; comparisons.csv says on what")


def not_compared(findings: Findings) -> list[str]:
    """Say of pairs without a test why there is none."""
    sentences = [
        f"{c.arm_a} and {c.arm_b} are not {'tested' if c.untested else 'compared'}: {c.why_not}."
        for c in _by_weight(findings)
        if c.why_not
    ]
    return _first(sentences, "pair|pairs", "not compared; comparisons.csv says why")


def _by_weight(findings: Findings) -> list[Comparison]:
    """Return the comparisons: the paper's first, those of its first method, then by p."""
    methods = method_of(findings)

    def weight(c: Comparison) -> tuple[bool, bool, bool, float]:
        pair = {methods[c.arm_a], methods[c.arm_b]}
        p = 2.0 if c.p_adjusted is None else c.p_adjusted
        return pair != set(PAPER_PAIR), PAPER_PAIR[0] not in pair, not is_significant(c), p

    return sorted(findings.comparisons, key=weight)


def _on(on: Matched) -> str:
    priorities = counted(on.num_priorities, "priority", "priorities")
    return f"the {priorities} and {counted(len(on.seeds), 'seed', 'seeds')} that both have in full"


def _headline(findings: Findings) -> str:
    arms = list(dict.fromkeys(point.arm for point in findings.points))
    if len(arms) == 1:
        return f"One method, {arms[0]}: there is nothing to compare it with."
    if not findings.comparisons:
        return "No comparison of fronts: fewer than two methods take priorities."
    if any(c.untested for c in findings.comparisons):
        return _headline_of_search(findings)
    if findings.searched:
        return "No comparison: the methods do not have equally many points and seeds."
    tested = [c for c in _by_weight(findings) if c.test is not None]
    if not tested:
        if len(findings.comparisons) == 1:
            return f"No comparison: {findings.comparisons[0].why_not}."
        return "No comparison: no two methods share priorities with seeds that have them all."
    won = [c for c in tested if is_significant(c)]
    partly = [c.matched for c in won or tested if c.matched and c.matched.left_out]
    where = ""
    if partly:
        same = len(won or tested) == 1
        where = (
            _on(partly[0]) if same else "the priorities and seeds that both of a pair have in full"
        )
    if not won:
        return _headline_without_winner(tested, where)
    parts = []
    for c in won[: MAX_NAMED // 2]:
        assert c.test is not None
        first, second = (c.arm_a, c.arm_b) if c.test.difference > 0 else (c.arm_b, c.arm_a)
        parts.append(f"{first} covers more hypervolume than {second}")
    told = listed(parts)
    if len(won) > len(parts):
        told += f", and {counted(len(won) - len(parts), 'more pair differs', 'more pairs differ')}"
    on = f", on {where}" if where else ""
    undecided = len(tested) - len(won)
    rest = f"; {undecided} of {len(tested)} comparisons are not significant" if undecided else ""
    return f"{told}{on}{rest}."


def _headline_without_winner(tested: Sequence[Comparison], where: str) -> str:
    names = list(dict.fromkeys(arm for c in tested for arm in (c.arm_a, c.arm_b)))
    shown = first_listed(names, MAX_NAMED)
    if all(_empty(c) for c in tested):
        return (
            "No winner: no operating point is better than the reference point on every metric, "
            f"so {shown} have no hypervolume."
        )
    on = f", on {where}" if where else ""
    return f"No winner: {shown} do not differ significantly in hypervolume{on}."


def _headline_of_search(findings: Findings) -> str:
    untested = [c for c in findings.comparisons if c.untested]
    shown = list(dict.fromkeys(arm for c in untested for arm in (c.arm_a, c.arm_b)))
    volumes = [f"{findings.hypervolumes[arm]:.4g} for {arm}" for arm in shown]
    each = sum(point.arm == shown[0] for point in findings.points)
    return (
        f"No test, so no winner: hypervolume {first_listed(volumes, MAX_NAMED)}, with {each} "
        "points each that a search chose on validation."
    )


def _empty(comparison: Comparison) -> bool:
    """Return whether neither method has any hypervolume above the reference point."""
    return comparison.matched is not None and not any(comparison.matched.hypervolumes)


def _compared(comparison: Comparison, findings: Findings) -> str:
    a, b, test, on = comparison.arm_a, comparison.arm_b, comparison.test, comparison.matched
    if comparison.untested:
        mine = [point for point in findings.points if point.arm == a]
        seeds = "one seed" if mine[0].n == 1 else f"the mean over {mine[0].n} seeds"
        return (
            f"Hypervolume {findings.hypervolumes[a]:.4g} for {a} and "
            f"{findings.hypervolumes[b]:.4g} for {b}, from {len(mine)} points each, a point being "
            f"{seeds}. No paired test: {comparison.why_not}."
        )
    if test is None or on is None:
        return f"No hypervolume comparison of {a} and {b}: {comparison.why_not}."
    where = f" on {_on(on)}" if on.left_out else ""
    if _empty(comparison):
        return (
            f"{a} and {b} have hypervolume 0{where}: none of their operating points is better than "
            "the reference point on every metric, and more runs of the same do not change that."
        )
    minimum, adjusted = test.minimum_p, comparison.minimum_p_adjusted
    if is_significant(comparison):
        said = "Significant"
    elif (minimum if adjusted is None else adjusted) >= SIGNIFICANCE:
        said = "Too few seeds for any significance"
    else:
        said = "Not significant"
    how = f"all {test.num_permutations} permutations"
    if not test.exact:
        how = f"{test.num_permutations} permutations drawn with seed {test.seed}"
    return (
        f"{said}{where}: hypervolume {on.hypervolumes[0]:.4g} for {a}, {on.hypervolumes[1]:.4g} "
        f"for {b}, difference {shown_number(test.difference, '+.2g')} "
        f"(two-sided p = {_with_holm(test.p, comparison.p_adjusted)}; minimum attainable "
        f"{_with_holm(minimum, adjusted)}; {how} of {test.unit})."
    )


def _with_holm(p: float, adjusted: float | None) -> str:
    holm = f", {adjusted:.2g} after Holm" if adjusted is not None and adjusted != p else ""
    return f"{p:.2g}{holm}"


def _movements(findings: Findings) -> list[str]:
    """Say for each method how far the priority moves each metric, against the seeds."""
    points: dict[str, list[OperatingPoint]] = {}
    for point in findings.points:
        points.setdefault(point.arm, []).append(point)
    sentences = [_movement(arm, points[arm], findings) for arm in prioritised_arms(findings)]
    return _first(sentences, "method|methods", "in the table of ranges over spread")


def _movement(arm: str, points: Sequence[OperatingPoint], findings: Findings) -> str:
    moved, held = [], []
    for index, axis in enumerate(findings.axes):
        spread = next(s for s in findings.spreads if (s.arm, s.column) == (arm, axis.column))
        values = [point.means[index] for point in points]
        low, high = axis.shown(min(values)), axis.shown(max(values))
        if low == high:
            held.append(f"{axis.name} stays at {low} {axis.unit}")
            continue
        seeds = "seed spread unknown"
        if spread.pooled_sd == 0:
            seeds = "seeds do not differ"
        if spread.ratio is not None:
            decimals = 0 if spread.ratio >= 10 else 1
            seeds = f"{spread.ratio:.{decimals}f} times the seed spread"
            seeds += "" if spread.ratio >= CLEAR_RATIO else ", not clearly"
        moved.append(f"{axis.name} from {low} to {high} {axis.unit} ({seeds})")
    if not moved:
        return f"Over the priorities of {arm} {listed(held)}."
    rest = f"; {listed(held)}" if held else ""
    return f"The priority moves {arm}: {listed(moved)}{rest}."


def _against_prior(findings: Findings) -> list[str]:
    """Say how the operating points stand to the image-independent baseline, where it is known."""
    known = [(k, axis) for k, axis in enumerate(findings.axes) if axis.column in findings.prior]
    if not known:
        return []
    axes = [axis for _, axis in known]
    means = np.array([[point.means[k] for k, _ in known] for point in findings.points])
    prior = np.array([findings.prior[axis.column] for axis in axes])
    margins = minimised(prior, axes) - minimised(means, axes)
    better = margins > 0
    if better.all():
        least = [
            f"at least {axis.shown(value)} {axis.difference_unit} of {axis.name}"
            for axis, value in zip(axes, margins.min(axis=0), strict=True)
        ]
        return [f"Every operating point beats the image-independent baseline, by {listed(least)}."]
    worse = []
    for axis, mine in zip(axes, better.T, strict=True):
        if not mine.all():
            number = f"{len(mine) - mine.sum()} of {len(mine)}" if mine.any() else "all"
            worse.append(f"{number} on {axis.name}")
    sentence = f"Not better than the image-independent baseline: {listed(worse)}."
    if not better.all(axis=1).any() and len(axes) > 1:
        sentence += " None is better on every metric."
    return [sentence]
