"""The verdict in generated words: what the runs carry, and what they cannot show."""

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
    steered_arms,
)
from analysis.compute.fronts import OperatingPoint, minimised
from analysis.compute.inference import SIGNIFICANCE
from analysis.load.axes import Axis, shown_number
from analysis.load.text import counted, first_listed, listed

MOST_NAMED = 4
"""Methods or priorities that a sentence names; it counts the rest."""
MOST_SENTENCES = 6
"""Sentences of one kind; a last one counts the rest."""
DATA_LIMITS: Mapping[tuple[str, str], str] = {
    ("scenes", "simple"): "The simple variant of the scenes is built to show a trade-off between "
    "tasks within minutes. This is a demonstration, and no evidence about real data.",
    ("scenes", "rooms"): "The rooms are rendered: whether the same holds for photographs is not "
    "shown here.",
}
_OF_STORES = "data.name"
"""A field that the runs of every store have, and those of no table."""


def limits(findings: Findings) -> tuple[str, ...]:
    """Return what the runs cannot show, one sentence or two each."""
    if not findings.points:
        return tuple(_incomplete(findings))
    return (
        *_data_limit(findings.provenance.common),
        *_incomplete(findings),
        *_without_result(findings),
        *_few_seeds(findings),
        *_reach(findings),
    )


def _data_limit(common: Mapping[str, Any]) -> list[str]:
    key = (str(common.get("data.name")), str(common.get("data.variant")))
    return [DATA_LIMITS[key]] if key in DATA_LIMITS else []


def _incomplete(findings: Findings) -> list[str]:
    counts = findings.counts
    rest = [f"{number} {state}" for state, number in counts.items() if state != "done"]
    if not rest:
        return []
    missing = sum(number for state, number in counts.items() if state != "done")
    return [
        f"{missing} of {len(findings.states)} runs are not in these figures: {listed(rest)} "
        "(reasons below)."
    ]


def _without_result(findings: Findings) -> list[str]:
    """Say at which priorities, and with which seeds, a method lacks results that others have."""
    if findings.searched:
        return []  # each method has points of its own
    held: dict[str, dict[tuple[float, ...], frozenset[int]]] = {}
    for point in findings.points:
        if point.priorities is not None:
            held.setdefault(point.arm, {})[point.priorities] = frozenset(point.seeds)
    grid: dict[tuple[float, ...], frozenset[int]] = {}
    for settings in held.values():
        for setting, seeds in settings.items():
            grid[setting] = grid.get(setting, frozenset()) | seeds
    sentences = []
    for arm, settings in held.items():
        absent = [findings.shown_priorities(s) for s in sorted(grid) if s not in settings]
        parts = [f"at {first_listed(absent, MOST_NAMED)}"] if absent else []
        at_seeds: dict[frozenset[int], list[str]] = {}
        for setting in sorted(settings):
            lacking = grid[setting] - settings[setting]
            if lacking:
                at_seeds.setdefault(lacking, []).append(findings.shown_priorities(setting))
        for lacking, texts in at_seeds.items():
            named = first_listed([str(seed) for seed in sorted(lacking)], MOST_NAMED)
            noun = "seed" if len(lacking) == 1 else "seeds"
            parts.append(f"with {noun} {named} at {first_listed(texts, MOST_NAMED)}")
        if parts:
            sentences.append(f"{arm} has no result {'; nor '.join(parts[:MOST_NAMED])}.")
    left = len(sentences) - MOST_SENTENCES
    if left > 0:
        sentences[MOST_SENTENCES:] = [f"Of {left} more methods the table of runs shows the gaps."]
    return sentences


def _few_seeds(findings: Findings) -> list[str]:
    seeds = sorted({point.n for point in findings.points})
    if seeds == [1]:
        return ["One seed a setting: nothing here tells a method from its luck."]
    if seeds[0] < 5:
        counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return [f"Means over {counts} seeds: the standard deviations shown are rough."]
    return []


def _reach(findings: Findings) -> list[str]:
    if findings.searched:
        return [
            "One data set and one network: how the methods rank elsewhere stays open. Points that "
            "were chosen by their outcome flatter every method; for a comparison take a grid."
        ]
    common = findings.provenance.common
    if _OF_STORES in common:
        return [
            "One data set, one network and one setting of the optimiser for all methods: how they "
            "rank elsewhere, or each with its own tuned learning rate, stays open."
        ]
    unsaid = [
        *([] if "dataset" in common else ["data set"]),
        *([] if {"architecture", "encoder"} & set(common) else ["network"]),
        "setting of the optimiser",
    ]
    return [
        f"The table does not say which {listed(unsaid)} the runs had, nor whether all methods had "
        "the same: what a difference is due to, and how the methods rank elsewhere, stays open."
    ]


CLEAR_RATIO = 5.0
"""From this range over spread on, a metric is said to follow the priority clearly."""


@dataclass(frozen=True)
class Verdict:
    """A report in a few sentences."""

    headline: str
    statements: tuple[str, ...]
    """What was found, with numbers."""
    limits: tuple[str, ...]
    """What this cannot show."""


def verdict(findings: Findings) -> Verdict:
    """Return the verdict; it names a winner only where a test carries one.

    However many methods there are, it names a few and counts the rest.
    """
    if not findings.points:
        return Verdict(
            f"Nothing to compare yet: none of {len(findings.states)} runs has a usable result.",
            (),
            limits(findings),
        )
    shown = _told(findings)
    statements = [_in_words(c, findings) for c in shown]
    left = len(findings.comparisons) - len(shown)
    if left:
        more = counted(left, "more comparison is", "more comparisons are")
        statements.append(f"{more} in the table of differences.")
    if findings.single_points and findings.comparisons:
        statements.append(single_point_words(findings))
    return Verdict(
        headline=_headline(findings),
        statements=(*statements, *_movements(findings), *_against_prior(findings)),
        limits=(*partly_compared(findings), *limits(findings)),
    )


def carried(comparison: Comparison) -> bool:
    """Return whether the runs carry a winner between two methods."""
    return comparison.p_adjusted is not None and comparison.p_adjusted < SIGNIFICANCE


def single_point_words(findings: Findings) -> str:
    """Say why methods without priorities have no hypervolume."""
    names = first_listed(findings.single_points, MOST_NAMED)
    if len(findings.single_points) == 1:
        return f"{names} takes no priorities, so it has one operating point and no front."
    return f"{names} take no priorities, so they have one operating point each and no front."


def partly_compared(findings: Findings) -> list[str]:
    """Say of pairs that do not have the same runs what their comparison leaves out."""
    partly = [(c, c.matched) for c in _by_weight(findings) if c.matched and c.matched.left_out]
    sentences = [
        f"{c.arm_a} and {c.arm_b} are compared only on {_on(on)}. {' '.join(on.left_out)}"
        for c, on in partly[:MOST_SENTENCES]
    ]
    left = len(partly) - MOST_SENTENCES
    if left > 0:
        sentences.append(
            f"So are {counted(left, 'more pair', 'more pairs')}; the CSV of the differences says "
            "what is left out."
        )
    return sentences


def not_compared(findings: Findings) -> list[str]:
    """Say of pairs without a test why there is none."""
    without = [c for c in _by_weight(findings) if c.why_not]
    sentences = [
        f"{c.arm_a} and {c.arm_b} are not {'tested' if c.untested else 'compared'}: {c.why_not}."
        for c in without[:MOST_SENTENCES]
    ]
    left = len(without) - MOST_SENTENCES
    if left > 0:
        sentences.append(
            f"Nor are {counted(left, 'more pair', 'more pairs')}; the CSV of the differences says "
            "why."
        )
    return sentences


def _by_weight(findings: Findings) -> list[Comparison]:
    """Return the comparisons: the paper's first, those of its first method, then by p."""
    methods = method_of(findings)

    def weight(c: Comparison) -> tuple[bool, bool, bool, float]:
        pair = {methods[c.arm_a], methods[c.arm_b]}
        p = 2.0 if c.p_adjusted is None else c.p_adjusted
        return pair != set(PAPER_PAIR), PAPER_PAIR[0] not in pair, not carried(c), p

    return sorted(findings.comparisons, key=weight)


def _told(findings: Findings) -> list[Comparison]:
    return _by_weight(findings)[:MOST_SENTENCES]


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
    won = [c for c in tested if carried(c)]
    partly = [c.matched for c in won or tested if c.matched and c.matched.left_out]
    where = ""
    if partly:
        same = len(won or tested) == 1
        where = (
            _on(partly[0]) if same else "the priorities and seeds that both of a pair have in full"
        )
    if not won:
        names = list(dict.fromkeys(arm for c in tested for arm in (c.arm_a, c.arm_b)))
        if all(_empty(c) for c in tested):
            return (
                "No winner: no operating point is better than the reference point on every metric, "
                f"so {first_listed(names, MOST_NAMED)} have no hypervolume."
            )
        on = f"on {where}, " if where else ""
        return (
            f"No winner: {on}the runs carry no difference in hypervolume between "
            f"{first_listed(names, MOST_NAMED)}."
        )
    parts = []
    for c in won[: MOST_NAMED // 2]:
        assert c.test is not None
        first, second = (c.arm_a, c.arm_b) if c.test.difference > 0 else (c.arm_b, c.arm_a)
        parts.append(f"{first} covers more hypervolume than {second}")
    told = listed(parts)
    if len(won) > len(parts):
        told += f", and {counted(len(won) - len(parts), 'more pair differs', 'more pairs differ')}"
    on = f", on {where}" if where else ""
    undecided = len(tested) - len(won)
    rest = f"; {undecided} of {len(tested)} comparisons stay open" if undecided else ""
    return f"{told}{on}{rest}."


def _headline_of_search(findings: Findings) -> str:
    untested = [c for c in findings.comparisons if c.untested]
    shown = list(dict.fromkeys(arm for c in untested for arm in (c.arm_a, c.arm_b)))
    volumes = [f"{findings.hypervolumes[arm]:.4g} for {arm}" for arm in shown]
    each = sum(point.arm == shown[0] for point in findings.points)
    return (
        f"No test, so no winner: hypervolume {first_listed(volumes, MOST_NAMED)}, with {each} "
        "points each that a search chose on validation."
    )


def _empty(comparison: Comparison) -> bool:
    """Return whether neither method has any hypervolume above the reference point."""
    return comparison.matched is not None and not any(comparison.matched.hypervolumes)


def _in_words(comparison: Comparison, findings: Findings) -> str:
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
    start = f"On {_on(on)}, hypervolume" if on.left_out else "Hypervolume"
    if _empty(comparison):
        return (
            f"{start} 0 for {a} and for {b}: no operating point of theirs is better than the "
            "reference point on every metric, and more runs of the same do not change that."
        )
    volumes = (
        f"{start} {on.hypervolumes[0]:.4g} for {a} and {on.hypervolumes[1]:.4g} "
        f"for {b}, a difference of {shown_number(test.difference, '+.2g')}"
    )
    p = f"p = {test.p:.2g}"
    if comparison.p_adjusted is not None and comparison.p_adjusted != test.p:
        p += f", {comparison.p_adjusted:.2g} after Holm"
    how = f"all {test.num_permutations} relabellings"
    if not test.exact:
        how = f"{test.num_permutations} relabellings drawn with seed {test.seed}"
    smallest, adjusted = test.minimum_p, comparison.minimum_p_adjusted
    least = f"{smallest:.2g}"
    if adjusted is not None and adjusted != smallest:
        least += f", {adjusted:.2g} after Holm"
    tail = f"({p}; two-sided, {how} of {test.unit}; smallest reachable p {least})"
    if carried(comparison):
        return f"{volumes}: carried by the runs {tail}."
    if (smallest if adjusted is None else adjusted) >= SIGNIFICANCE:
        return f"{volumes}: these runs are too few to carry any difference {tail}."
    return f"{volumes}: not carried by the runs {tail}."


def _movements(findings: Findings) -> list[str]:
    """Say for each method how far the priority moves each metric, against the seeds."""
    arms = steered_arms(findings)
    points: dict[str, list[OperatingPoint]] = {}
    for point in findings.points:
        points.setdefault(point.arm, []).append(point)
    sentences = [_movement(arm, points[arm], findings) for arm in arms[:MOST_SENTENCES]]
    left = len(arms) - MOST_SENTENCES
    if left > 0:
        more = counted(left, "more method is", "more methods are")
        sentences.append(f"{more} in the table of ranges over spread.")
    return sentences


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
    return f"Over its priorities {arm} moves {listed(moved)}{_also(held)}."


def _also(held: Sequence[str]) -> str:
    return f"; {listed(held)}" if held else ""


def _against_prior(findings: Findings) -> list[str]:
    """Say how the operating points stand to the per-pixel prior, where it is known."""
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
            _margin(axis, value) for axis, value in zip(axes, margins.min(axis=0), strict=True)
        ]
        return [f"Every operating point is better than the per-pixel prior, by {listed(least)}."]
    worse = []
    for axis, mine in zip(axes, better.T, strict=True):
        if not mine.all():
            number = f"{len(mine) - mine.sum()} of {len(mine)}" if mine.any() else "all"
            worse.append(f"{number} on {axis.name}")
    sentence = f"Operating points that are no better than the per-pixel prior: {listed(worse)}."
    if not better.all(axis=1).any() and len(axes) > 1:
        sentence += " None is better on every metric."
    return [sentence]


def _margin(axis: Axis, margin: float) -> str:
    return f"at least {axis.shown(margin)} {axis.difference_unit} of {axis.name}"
