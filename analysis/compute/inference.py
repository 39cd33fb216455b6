"""What the runs carry: permutation tests on hypervolume, their smallest reachable p, Holm.

Runs of one seed share their initial weights, data order and flips at every priority and in every
method, so a seed with all its priorities is one observation, and methods are matched by seed. The
null hypothesis is that the two methods' labels are exchangeable seed by seed: exchanging the two
methods' runs of a seed, at all priorities at once, leaves the joint distribution as it is. The
unit of relabelling is therefore the whole seed. What a seed adds to a method at all priorities
(an effect of method x seed) is noise under this null, where relabelling single runs would take it
for many independent observations of one difference.

`within_priority_test` does just that, for comparison: it exchanges the two runs of one priority and
seed by themselves. It is right where no seed favours a method at all priorities at once, has far
more relabellings, and rejects too often where one does: see tests/analysis/
test_interval_simulation.py.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.compute.fronts import OperatingPoint, Reference, minimised, minimised_hypervolume
from analysis.load.axes import Axis
from analysis.load.text import counted
from mtl.errors import UsageError

SIGNIFICANCE = 0.05
"""A winner is named only below this p (after Holm where several pairs are compared); with one
pair that takes at least 6 seeds."""
MOST_ENUMERATED = 2**13
"""Relabellings are enumerated up to this many (13 seeds); beyond, as many are drawn."""
SAMPLING_SEED = 0
RELABELLED = "whole seeds"
MORE_POINTS = "more points alone raise a hypervolume"
RELABELLED_WITHIN = "single runs within their priority"
MOST_ENUMERATED_WITHIN = 2**11
"""As `MOST_ENUMERATED`, for exchanges of single runs."""


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided test of a difference of hypervolumes by relabelling."""

    difference: float
    """Hypervolume of the first method minus that of the second."""
    p: float
    smallest_p: float
    """What the most extreme outcome would have given with as many seeds."""
    num_relabellings: int
    num_seeds: int
    """Seeds that both methods have at every priority."""
    exact: bool
    """Every relabelling was counted; else they were drawn with `seed`."""
    seed: int | None
    relabelled: str = RELABELLED
    """The unit of relabelling."""


def why_not_comparable(
    points_a: Sequence[OperatingPoint], points_b: Sequence[OperatingPoint]
) -> str | None:
    """Return why two methods' hypervolumes must not be compared, or None if they may.

    Hypervolume grows with the number of points, so only equal priority grids are compared; and
    methods are matched by seed, so both need the same seeds at every priority.
    """
    a, b = ({point.priorities: point.seeds for point in points} for points in (points_a, points_b))
    name_a, name_b = points_a[0].arm, points_b[0].arm
    if set(a) != set(b):
        return (
            f"{name_a} has {counted(len(a), 'priority', 'priorities')} and {name_b} {len(b)}, "
            f"{len(set(a) & set(b))} of them shared; {MORE_POINTS}"
        )
    uneven = sum(set(a[priorities]) != set(b[priorities]) for priorities in a)
    if uneven:
        return (
            f"{name_a} and {name_b} have different seeds at "
            f"{counted(uneven, 'priority', 'priorities')}; they are matched by seed"
        )
    if len({frozenset(seeds) for seeds in a.values()}) > 1:
        return (
            f"{name_a} and {name_b} do not have the same seeds at every priority; whole seeds "
            "are relabelled"
        )
    return None


def why_not_tested(
    points_a: Sequence[OperatingPoint], points_b: Sequence[OperatingPoint]
) -> tuple[str, bool]:
    """Return why no test compares two methods' points of a search, and if they are equally many.

    A search chooses each method's points by their outcome on validation, so that the methods' runs
    are not exchangeable, even where both happen to have the same priorities. Equally many points,
    each a mean over equally many seeds, may still be set side by side.
    """
    name_a, name_b = points_a[0].arm, points_b[0].arm
    if len(points_a) != len(points_b):
        points = counted(len(points_a), "point", "points")
        return f"{name_a} has {points} and {name_b} {len(points_b)}; {MORE_POINTS}", False
    if len({point.n for point in (*points_a, *points_b)}) > 1:
        return f"the points of {name_a} and {name_b} are not means over equally many seeds", False
    return (
        "the search chose each method's points on validation by their outcome, so no pairing of "
        "runs is exchangeable between the methods"
    ), True


def hypervolume_test(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> PermutationTest:
    """Test whether the hypervolumes of two methods' per-priority means differ.

    Args:
        runs_a: single runs (priorities, seeds, axes) in metric units.
        runs_b: the same of the other method, its priorities and seeds in the same order.
        reference: for the hypervolume.
        axes: of the last dimension.

    Raises:
        ValueError: for unequal shapes.
    """
    a, b = _both_minimised(runs_a, runs_b, axes)
    num_seeds = a.shape[1]
    exact = 2**num_seeds <= MOST_ENUMERATED
    patterns = _all_patterns(num_seeds) if exact else _drawn_patterns(num_seeds, MOST_ENUMERATED)
    differences = _differences(a, b, patterns[:, None, :], reference, axes)
    return _test(differences, num_seeds, exact, smallest_p(num_seeds), RELABELLED)


def within_priority_test(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> PermutationTest:
    """Test as `hypervolume_test` does, exchanging the runs of each priority and seed by themselves.

    Right only where runs are independent of each other but for what a seed does to both methods
    alike; a seed that favours one method at all priorities counts as often as there are priorities.

    Args:
        runs_a: see `hypervolume_test`.
        runs_b: see `hypervolume_test`.
        reference: for the hypervolume.
        axes: of the last dimension.

    Raises:
        ValueError: for unequal shapes.
    """
    a, b = _both_minimised(runs_a, runs_b, axes)
    shape = a.shape[:2]
    number = a.shape[0] * a.shape[1]
    exact = 2**number <= MOST_ENUMERATED_WITHIN
    if exact:
        patterns, smallest = _all_patterns(number), min(1.0, 2 / 2**number)
    else:
        patterns = _drawn_patterns(number, MOST_ENUMERATED_WITHIN)
        smallest = 1 / MOST_ENUMERATED_WITHIN
    differences = _differences(a, b, patterns.reshape(-1, *shape), reference, axes)
    return _test(differences, shape[1], exact, smallest, RELABELLED_WITHIN)


def _both_minimised(
    runs_a: np.ndarray, runs_b: np.ndarray, axes: Sequence[Axis]
) -> tuple[np.ndarray, np.ndarray]:
    if np.shape(runs_a) != np.shape(runs_b) or np.ndim(runs_a) != 3:
        raise UsageError(
            "Expected equal priorities and seeds for both methods, got runs of shapes "
            f"{np.shape(runs_a)} and {np.shape(runs_b)}."
        )
    return minimised(runs_a, axes), minimised(runs_b, axes)


def _differences(
    a: np.ndarray,
    b: np.ndarray,
    patterns: np.ndarray,
    reference: Reference,
    axes: Sequence[Axis],
) -> np.ndarray:
    """Return the difference of hypervolumes under each pattern of exchanged runs.

    Args:
        a: runs (priorities, seeds, axes), minimised.
        b: of the other method.
        patterns: (num_patterns, 1 or priorities, seeds) of bool: which runs change method.
        reference: for the hypervolume.
        axes: of the last dimension.
    """
    corner = minimised(np.array(reference.point), axes)
    mean_a, mean_b, gain = a.mean(axis=1), b.mean(axis=1), (b - a) / a.shape[1]
    differences = []
    for pattern in patterns.astype(np.float64):
        if len(pattern) == 1:
            moved = np.tensordot(pattern[0], gain, axes=(0, 1))
        else:
            moved = np.einsum("ks,ksd->kd", pattern, gain)
        differences.append(
            minimised_hypervolume(mean_a + moved, corner)
            - minimised_hypervolume(mean_b - moved, corner)
        )
    return np.array(differences)


def _test(
    differences: np.ndarray, num_seeds: int, exact: bool, smallest: float, relabelled: str
) -> PermutationTest:
    """Return the test that these differences make, the observed one first."""
    observed = float(differences[0])
    # Equal differences reached in another order of summation must count as equal.
    slack = 1e-9 * max(np.abs(differences).max(), 1e-300)
    return PermutationTest(
        difference=observed,
        p=float((np.abs(differences) >= abs(observed) - slack).mean()),
        smallest_p=smallest,
        num_relabellings=len(differences),
        num_seeds=num_seeds,
        exact=exact,
        seed=None if exact else SAMPLING_SEED,
        relabelled=relabelled,
    )


def smallest_p(num_seeds: int) -> float:
    """Return the smallest two-sided p that relabelling so many whole seeds can reach.

    2 / 2^seeds: exchanging all labels turns the sign of the difference, so every value of its
    size occurs at least twice. Where relabellings are drawn, one of them is the true one.
    """
    num_all = 2**num_seeds
    return min(1.0, 2 / num_all) if num_all <= MOST_ENUMERATED else 1 / MOST_ENUMERATED


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number (Holm 1979, step-down), in their order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _all_patterns(number: int) -> np.ndarray:
    """Return which of so many are exchanged, (2^number, number) of bool, the true labels first."""
    return np.array(list(itertools.product((False, True), repeat=number)))


def _drawn_patterns(number: int, most: int) -> np.ndarray:
    """Return as `_all_patterns` does, for `most` drawn ones, the true labels first."""
    generator = np.random.default_rng(SAMPLING_SEED)
    patterns = generator.random((most, number)) < 0.5
    patterns[0] = False
    return patterns


LEVEL = 0.95
PERCENT = f"{100 * LEVEL:.0f} %"
FEWEST_RESAMPLED = 3
"""Seeds below which a section that can do without makes no interval by resampling them: of two it
is either far too sure or says nothing."""
RESAMPLES = 1000
MOST_RESAMPLED_RUNS = 2_000_000
"""Resamples times runs of a method: beyond, fewer resamples are drawn."""
FEWEST_RESAMPLES = 200

Statistic = Callable[[np.ndarray, np.ndarray], Sequence[float]]
"""Means of two methods, (priorities, axes) each -> values."""


@dataclass(frozen=True)
class Interval:
    """An interval that is to hold the true value in 95 of 100 repetitions."""

    low: float
    high: float


def student_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return Student's interval of the mean of normal values (n,); None for a single one."""
    n = len(values)
    if n < 2:
        return None
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return float(values.mean()) - reach, float(values.mean()) + reach


def affordable_resamples(num_runs: int) -> int:
    """Return how many resamples of so many runs of a method are drawn."""
    return min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_RESAMPLED_RUNS // num_runs))


def seed_widening(num_seeds: int) -> float:
    """Return the factor by which intervals of whole seeds are widened.

    9.2 with two seeds, 2.7 with three, 1.6 with five, 1.2 with ten.
    """
    tail = (1 + LEVEL) / 2
    student = stats.t.ppf(tail, num_seeds - 1) / stats.norm.ppf(tail)
    return run_widening(num_seeds) * float(student)


def run_widening(num_seeds: int) -> float:
    """Return the factor by which intervals of independent runs are widened."""
    return math.sqrt(num_seeds / (num_seeds - 1))


def by_seed(
    a: np.ndarray, b: np.ndarray, statistic: Statistic, num_resamples: int = RESAMPLES
) -> np.ndarray:
    """Return the statistic of the means over resampled whole seeds, (num_resamples, values).

    Args:
        a: runs of the first method, (priorities, seeds, axes).
        b: of the second, with the same seeds in the same order.
        statistic: what to compute.
        num_resamples: how often.
    """
    generator = np.random.default_rng(SAMPLING_SEED)
    num_seeds = a.shape[1]
    # How often each seed is drawn, as a share: a mean over draws is a weighted one over seeds.
    drawn = generator.multinomial(num_seeds, [1 / num_seeds] * num_seeds, num_resamples) / num_seeds
    return np.array(
        [statistic(*(np.tensordot(w, runs, axes=(0, 1)) for runs in (a, b))) for w in drawn]
    )


def by_priority(
    a: np.ndarray, b: np.ndarray, statistic: Statistic, num_resamples: int = RESAMPLES
) -> np.ndarray:
    """Return the same with the seeds of each priority and method drawn by themselves."""
    generator = np.random.default_rng(SAMPLING_SEED)

    def means(runs: np.ndarray) -> np.ndarray:
        number, num_seeds = runs.shape[:2]
        weights = generator.multinomial(num_seeds, [1 / num_seeds] * num_seeds, number) / num_seeds
        return np.asarray(np.einsum("ks,ksd->kd", weights, runs))

    return np.array([statistic(means(a), means(b)) for _ in range(num_resamples)])


def symmetric_interval(value: float, resampled: np.ndarray, widening: float) -> Interval:
    """Return the estimate plus and minus the percentile of how far resamples lie from it, widened.

    Of the size of the distance, since noise pushes epsilon and IGD+ up, and hypervolume a little: a
    resample is then above the estimate as the estimate is above the truth.
    """
    half = widening * float(np.quantile(np.abs(resampled - value), LEVEL))
    return Interval(value - half, value + half)
