"""Permutation tests and intervals for the difference of two methods.

Runs of one seed share their initial weights, data order and flips at every priority and in every
method, so a seed with all its priorities is one observation, and methods are paired by seed. The
seed-level permutation test exchanges the two methods' runs of a seed at all priorities at once; its
null hypothesis is that this leaves the joint distribution as it is. What a seed adds to one method
at all priorities (an effect of method x seed) is noise under this null. Seed-level intervals draw
whole seeds in the same way.

The run-level test and intervals exchange and draw single runs within their priority, for
comparison. They are right only where no seed favours a method at all priorities at once; otherwise
they reject too often and cover too little: see tests/analysis/compute/test_interval_simulation.py.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.compute.fronts import Reference, minimised, minimised_hypervolume
from analysis.compute.significance import MAX_ENUMERATED, minimum_p
from analysis.load.axes import Axis
from mtl.errors import UsageError

SAMPLING_SEED = 0
MAX_ENUMERATED_RUNS = 2**11
"""`MAX_ENUMERATED` for permutations of single runs."""


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided permutation test of a difference of hypervolumes."""

    difference: float
    """Hypervolume of the first method minus that of the second."""
    p: float
    minimum_p: float
    """Minimum attainable p-value: what the most extreme outcome would have given."""
    num_permutations: int
    num_seeds: int
    exact: bool
    """Every permutation was counted; else they were drawn with `seed`."""
    seed: int | None
    unit: str
    """What is exchanged, in words."""


def seed_level_test(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> PermutationTest:
    """Test whether the hypervolumes of two methods' per-priority means differ.

    Both methods' runs are (priorities, seeds, axes) in metric units, of the same priorities and
    seeds in the same order.
    """
    exchanged = _exchanges(np.shape(runs_a)[1], MAX_ENUMERATED)[:, None, :]
    return _test(runs_a, runs_b, exchanged, "whole seeds", reference, axes)


def run_level_test(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> PermutationTest:
    """Test as `seed_level_test` does, exchanging the two runs of each priority and seed by itself.

    A seed that favours one method at all priorities then counts as often as there are priorities.
    """
    num_priorities, num_seeds = np.shape(runs_a)[:2]
    exchanged = _exchanges(num_priorities * num_seeds, MAX_ENUMERATED_RUNS)
    exchanged = exchanged.reshape(-1, num_priorities, num_seeds)
    return _test(runs_a, runs_b, exchanged, "single runs within their priority", reference, axes)


def seed_difference_test(differences: np.ndarray) -> tuple[float, float]:
    """Return the two-sided p of the mean of `differences` (seeds,), and the minimum attainable p.

    Whole seeds are exchanged, which turns the signs of their differences.
    """
    exchanged = _exchanges(len(differences), MAX_ENUMERATED)
    means = np.where(exchanged, -differences, differences).mean(axis=1)
    slack = 1e-9 * max(np.abs(differences).max(), 1e-300)
    least = minimum_p(len(differences))
    return float((np.abs(means) >= abs(means[0]) - slack).mean()), least


def _exchanges(number: int, limit: int) -> np.ndarray:
    """Return which of so many units are exchanged, (permutations, number) of bool.

    All possibilities, or `limit` drawn ones where there are more; the observed assignment first.
    """
    if 2**number <= limit:
        return np.array(list(itertools.product((False, True), repeat=number)))
    exchanged = np.random.default_rng(SAMPLING_SEED).random((limit, number)) < 0.5
    exchanged[0] = False
    return exchanged


def _test(
    runs_a: np.ndarray,
    runs_b: np.ndarray,
    exchanged: np.ndarray,
    unit: str,
    reference: Reference,
    axes: Sequence[Axis],
) -> PermutationTest:
    """Return the test under these permutations, (permutations, 1 or priorities, seeds) of bool."""
    if np.shape(runs_a) != np.shape(runs_b) or np.ndim(runs_a) != 3:
        raise UsageError(
            "Expected equal priorities and seeds for both methods, got runs of shapes "
            f"{np.shape(runs_a)} and {np.shape(runs_b)}."
        )
    a, b = minimised(runs_a, axes), minimised(runs_b, axes)
    corner = minimised(np.array(reference.point), axes)
    mean_a, mean_b, gain = a.mean(axis=1), b.mean(axis=1), (b - a) / a.shape[1]
    held = []
    for pattern in exchanged:
        moved = np.where(pattern[..., None], gain, 0.0).sum(axis=1)
        held.append(
            minimised_hypervolume(mean_a + moved, corner)
            - minimised_hypervolume(mean_b - moved, corner)
        )
    differences = np.array(held)
    # Equal differences reached in another order of summation must count as equal.
    slack = 1e-9 * max(np.abs(differences).max(), 1e-300)
    num_all = 2 ** exchanged[0].size
    exact = len(exchanged) == num_all
    return PermutationTest(
        difference=held[0],
        p=float((np.abs(differences) >= abs(held[0]) - slack).mean()),
        # Exchanging everything turns the sign, so every size occurs twice; of drawn permutations
        # one is the observed one.
        minimum_p=min(1.0, 2 / num_all) if exact else 1 / len(exchanged),
        num_permutations=len(exchanged),
        num_seeds=a.shape[1],
        exact=exact,
        seed=None if exact else SAMPLING_SEED,
        unit=unit,
    )


LEVEL = 0.95
PERCENT = f"{100 * LEVEL:.0f} %"
NUM_RESAMPLES = 1000
MIN_SEEDS = 3
"""Seeds below which a section that can do without makes no interval by resampling them: of two it
is either far too sure or says nothing."""

Interval = tuple[float, float]
"""Low and high end; it is to hold the true value in `LEVEL` of all repetitions."""
Statistic = Callable[[np.ndarray, np.ndarray], Sequence[float]]
"""Means of two methods, (priorities, axes) each -> values."""


def seed_level_resamples(
    a: np.ndarray, b: np.ndarray, statistic: Statistic, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Return the statistic of the means over resampled whole seeds, (num_resamples, values).

    `a` and `b` are runs (priorities, seeds, axes) with the same seeds in the same order.
    """
    generator = np.random.default_rng(SAMPLING_SEED)
    num_seeds = a.shape[1]
    # How often each seed is drawn, as a share: a mean over draws is a weighted one over seeds.
    drawn = generator.multinomial(num_seeds, [1 / num_seeds] * num_seeds, num_resamples) / num_seeds
    return np.array(
        [statistic(*(np.tensordot(w, runs, axes=(0, 1)) for runs in (a, b))) for w in drawn]
    )


def run_level_resamples(
    a: np.ndarray, b: np.ndarray, statistic: Statistic, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Return the same with the seeds of each priority and method drawn by themselves."""
    generator = np.random.default_rng(SAMPLING_SEED)

    def means(runs: np.ndarray) -> np.ndarray:
        number, num_seeds = runs.shape[:2]
        weights = generator.multinomial(num_seeds, [1 / num_seeds] * num_seeds, number) / num_seeds
        return np.asarray(np.einsum("ks,ksd->kd", weights, runs))

    return np.array([statistic(means(a), means(b)) for _ in range(num_resamples)])


def seed_widening(num_seeds: int) -> float:
    """Return the factor by which seed-level intervals are widened.

    9.2 with two seeds, 2.7 with three, 1.6 with five, 1.2 with ten.
    """
    tail = (1 + LEVEL) / 2
    student = stats.t.ppf(tail, num_seeds - 1) / stats.norm.ppf(tail)
    return run_widening(num_seeds) * float(student)


def run_widening(num_seeds: int) -> float:
    """Return the factor by which run-level intervals are widened."""
    return math.sqrt(num_seeds / (num_seeds - 1))


def symmetric_interval(value: float, resampled: np.ndarray, widening: float) -> Interval:
    """Return the estimate plus and minus the percentile of how far resamples lie from it, widened.

    Of the size of the distance, since noise pushes epsilon and IGD+ up, and hypervolume a little: a
    resample is then above the estimate as the estimate is above the truth.
    """
    half = widening * float(np.quantile(np.abs(resampled - value), LEVEL))
    return value - half, value + half
