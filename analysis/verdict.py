"""The verdict in generated words: what the runs carry, and what they cannot show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.axes import Axis, shown_number
from analysis.findings import Comparison, Findings
from analysis.fronts import OperatingPoint
from analysis.inference import SIGNIFICANCE
from analysis.words import listed

CLEAR_RATIO = 5.0
"""From this range over spread on, a metric is said to follow the priority clearly."""

DATA_LIMITS: Mapping[tuple[str, str], str] = {
    ("scenes", "simple"): "The simple variant of the scenes is built to show a trade-off between "
    "tasks within minutes. This is a demonstration, and no evidence about real data.",
    ("scenes", "rooms"): "The rooms are rendered: whether the same holds for photographs is not "
    "shown here.",
}


@dataclass(frozen=True)
class Verdict:
    """A report in a few sentences."""

    headline: str
    statements: tuple[str, ...]
    """What was found, with numbers."""
    limits: tuple[str, ...]
    """What this cannot show."""


def verdict(findings: Findings) -> Verdict:
    """Return the verdict; it names a winner only where a test carries one."""
    if not findings.points:
        return Verdict(
            f"Nothing to compare yet: none of {len(findings.states)} runs has a usable result.",
            (),
            tuple(_incomplete(findings)),
        )
    statements = [_in_words(c, findings) for c in findings.comparisons]
    if findings.single_points and findings.comparisons:
        statements.append(single_point_words(findings))
    return Verdict(
        headline=_headline(findings),
        statements=(*statements, *_movements(findings), *_against_prior(findings)),
        limits=(*_data_limit(findings.provenance.common), *_incomplete(findings), *_few(findings)),
    )


def carried(comparison: Comparison) -> bool:
    """Return whether the runs carry a winner between two methods."""
    return comparison.p_adjusted is not None and comparison.p_adjusted < SIGNIFICANCE


def single_point_words(findings: Findings) -> str:
    """Say why methods without priorities have no hypervolume."""
    names = listed(findings.single_points)
    if len(findings.single_points) == 1:
        return f"{names} takes no priorities, so it has one operating point and no front."
    return f"{names} take no priorities, so they have one operating point each and no front."


def _headline(findings: Findings) -> str:
    tested = [c for c in findings.comparisons if c.test is not None]
    won = [c for c in tested if carried(c)]
    arms = list(dict.fromkeys(point.arm for point in findings.points))
    if len(arms) == 1:
        return f"One method, {arms[0]}: there is nothing to compare it with."
    if not findings.comparisons:
        return "No comparison of fronts: fewer than two methods take priorities."
    untested = [c for c in findings.comparisons if c.untested]
    if untested:
        shown = list(dict.fromkeys(arm for c in untested for arm in (c.arm_a, c.arm_b)))
        volumes = listed([f"{findings.hypervolumes[arm]:.4g} for {arm}" for arm in shown])
        each = sum(point.arm == shown[0] for point in findings.points)
        return (
            f"No test, so no winner: hypervolume {volumes}, with {each} points each that a search "
            "chose on validation."
        )
    if findings.searched:
        return "No comparison: the methods do not have equally many points and seeds."
    if not tested:
        return "No comparison: the methods do not share a grid of priorities and seeds."
    if not won:
        names = listed(list(findings.hypervolumes))
        return f"No winner: the runs carry no difference in hypervolume between {names}."
    parts = []
    for c in won:
        assert c.test is not None
        first, second = (c.arm_a, c.arm_b) if c.test.difference > 0 else (c.arm_b, c.arm_a)
        parts.append(f"{first} covers more hypervolume than {second}")
    undecided = len(tested) - len(won)
    rest = f"; {undecided} of {len(tested)} comparisons stay open" if undecided else ""
    return f"{listed(parts)}{rest}."


def _in_words(comparison: Comparison, findings: Findings) -> str:
    a, b, test = comparison.arm_a, comparison.arm_b, comparison.test
    if comparison.untested:
        mine = [point for point in findings.points if point.arm == a]
        seeds = "one seed" if mine[0].n == 1 else f"the mean over {mine[0].n} seeds"
        return (
            f"Hypervolume {findings.hypervolumes[a]:.4g} for {a} and "
            f"{findings.hypervolumes[b]:.4g} for {b}, from {len(mine)} points each, a point being "
            f"{seeds}. No paired test: {comparison.why_not}."
        )
    if test is None:
        return f"No hypervolume comparison of {a} and {b}: {comparison.why_not}."
    volumes = (
        f"Hypervolume {findings.hypervolumes[a]:.4g} for {a} and {findings.hypervolumes[b]:.4g} "
        f"for {b}, a difference of {shown_number(test.difference, '+.2g')}"
    )
    p = f"p = {test.p:.2g}"
    if comparison.p_adjusted is not None and comparison.p_adjusted != test.p:
        p += f", {comparison.p_adjusted:.2g} after Holm"
    how = f"all {test.num_relabellings} relabellings"
    if not test.exact:
        how = f"{test.num_relabellings} relabellings drawn with seed {test.seed}"
    smallest, adjusted = test.smallest_p, comparison.smallest_p_adjusted
    least = f"{smallest:.2g}"
    if adjusted is not None and adjusted != smallest:
        least += f", {adjusted:.2g} after Holm"
    tail = f"({p}; two-sided, {how} of {test.relabelled}; smallest reachable p {least})"
    if carried(comparison):
        return f"{volumes}: carried by the runs {tail}."
    if (smallest if adjusted is None else adjusted) >= SIGNIFICANCE:
        return f"{volumes}: these runs are too few to carry any difference {tail}."
    return f"{volumes}: not carried by the runs {tail}."


def _movements(findings: Findings) -> list[str]:
    """Say for each method how far the priority moves each metric, against the seeds."""
    sentences = []
    for arm in findings.arms:
        mine = [point for point in findings.points if point.arm == arm]
        if len(mine) < 2:
            continue
        parts = []
        for index, axis in enumerate(findings.axes):
            spread = next(s for s in findings.spreads if (s.arm, s.column) == (arm, axis.column))
            low, high = _extremes(mine, index)
            seeds = "seed spread unknown"
            if spread.ratio is not None:
                decimals = 0 if spread.ratio >= 10 else 1
                seeds = f"{spread.ratio:.{decimals}f} times the seed spread"
                seeds += "" if spread.ratio >= CLEAR_RATIO else ", not clearly"
            parts.append(
                f"{axis.name} from {axis.shown(low)} to {axis.shown(high)} {axis.unit} ({seeds})"
            )
        sentences.append(f"Over its priorities {arm} moves {listed(parts)}.")
    return sentences


def _extremes(points: Sequence[OperatingPoint], index: int) -> tuple[float, float]:
    values = [point.means[index] for point in points]
    return min(values), max(values)


def _against_prior(findings: Findings) -> list[str]:
    if not findings.prior:
        return []
    worse, margins = [], []
    for axis in findings.axes:
        held = [s.least_margin_over_prior for s in findings.spreads if s.column == axis.column]
        known = [margin for margin in held if margin is not None]
        if known and min(known) <= 0:
            worse.append(f"{axis.name}")
        elif known:
            margins.append(_margin(axis, min(known)))
    if worse:
        where = listed(worse)
        return [f"Some operating points are no better than the per-pixel prior on {where}."]
    return [f"Every operating point is better than the per-pixel prior, by {listed(margins)}."]


def _margin(axis: Axis, margin: float) -> str:
    return f"at least {axis.shown(margin)} {axis.difference_unit} of {axis.name}"


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


def _few(findings: Findings) -> list[str]:
    seeds = sorted({point.n for point in findings.points})
    limits = []
    if seeds == [1]:
        limits.append("One seed a setting: nothing here tells a method from its luck.")
    elif seeds[0] < 5:
        counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        limits.append(f"Means over {counts} seeds: the standard deviations shown are rough.")
    if findings.searched:
        limits.append(
            "One data set and one network: how the methods rank elsewhere stays open. Points that "
            "were chosen by their outcome flatter every method; for a comparison take a grid."
        )
        return limits
    limits.append(
        "One data set, one network and one setting of the optimiser for all methods: how they "
        "rank elsewhere, or each with its own tuned learning rate, stays open."
    )
    return limits
