"""Intervals: Student's of differences, and by resampling seeds of what is made of several means.

Resampling is done in two ways, for two assumptions. `by_seed` draws whole seeds, for all priorities
and both methods at once: right also where a seed favours a method, or both, at all priorities.
`by_priority` draws the seeds of each priority and method by themselves (stratified): right only
where runs are independent.

Its intervals are symmetric percentile ones. Few seeds make these too short, so both are widened: by
sqrt(S / (S - 1)), since a resample of S seeds varies less than S new seeds would; intervals of
whole seeds also by Student's quantile over the normal one, since S seeds say little about their
own spread. What each covers in simulation is in tests/analysis/test_interval_simulation.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
PERCENT = f"{100 * LEVEL:.0f} %"
FEWEST_RESAMPLED = 3
"""Seeds below which a section that can do without makes no interval by resampling them: of two it
is either far too sure or says nothing."""
RESAMPLES = 1000
MOST_RESAMPLED_RUNS = 2_000_000
"""Resamples times runs of a method: beyond, fewer resamples are drawn."""
FEWEST_RESAMPLES = 200
SAMPLING_SEED = 0

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
