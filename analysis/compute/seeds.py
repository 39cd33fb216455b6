"""How many seeds settle a comparison: when its verdict was reached, and how many more it takes.

A seed's difference is the hypervolume of one method's front minus that of the other, both of that
seed alone. Such differences are taken to be normal, with the mean and standard deviation seen. The
power of the seed-level permutation test is then nearly that of Student's paired test, to which it
comes ever closer with more seeds (Hoeffding 1952, doi:10.1214/aoms/1177729436), found from the
noncentral t distribution (Cohen 1988, Statistical Power Analysis, chapter 2). With few seeds, where
few p-values are attainable, it needs more: `SMALL_EFFECTS`. The promise is checked by simulation in
tests/analysis/compute/test_seeds.py.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from analysis.compute.fronts import Reference, hypervolume
from analysis.compute.inference import MIN_SEEDS, seed_level_test
from analysis.compute.significance import SIGNIFICANCE, holm, min_seeds
from analysis.load.axes import Axis

POWER = 0.8
"""Share of repetitions in which a difference is to be found significant."""
PLANNED_SEEDS = (6, 8, 12, 20)
"""Numbers of seeds for which the smallest difference is told that they settle."""
MAX_SEEDS = 1000
"""Beyond so many, a difference counts as out of reach."""
SMALL_EFFECTS = {6: 1.80, 7: 1.34, 8: 1.20, 9: 1.10, 10: 1.01}
"""Seeds -> difference over standard deviation that is found with `POWER` at p < .05, by simulation
of normal differences; for 6 seeds also in closed form: all six must have one sign."""


@dataclass(frozen=True)
class Settling:
    """What the seeds of a comparison say of its verdict, and of the number of seeds it takes."""

    arm_a: str
    arm_b: str
    is_primary: bool
    num_seeds: int
    p: tuple[float, ...]
    """Adjusted as in the report, with the first 1, 2, ... seeds."""
    settled_with: int | None
    """Seeds, in their order, from which on the verdict was significant with the same sign until the
    last; None for one that is not significant."""
    mean: float
    """Of the seeds' differences, the first method minus the second."""
    sd: float | None
    """Of the same, n - 1 in the denominator; None with fewer than `MIN_SEEDS`."""
    num_needed: int | None
    """Seeds with which a difference of this size is found with `POWER`; None without `sd`, where
    that is 0, and beyond `MAX_SEEDS`."""
    smallest: tuple[float, ...]
    """Differences that `PLANNED_SEEDS` settle; empty without `sd`."""

    @property
    def num_more(self) -> int | None:
        """Return how many seeds are to be added, 0 where there are enough."""
        return None if self.num_needed is None else max(0, self.num_needed - self.num_seeds)


@functools.cache
def settled_effect(num_seeds: int) -> float:
    """Return the difference over its standard deviation that so many seeds find with `POWER`.

    Of the two-sided seed-level test at p < .05, without correction; infinite below 6 seeds.
    """
    if num_seeds < (min_seeds(1) or 0):
        return math.inf
    if num_seeds in SMALL_EFFECTS:
        return SMALL_EFFECTS[num_seeds]
    degrees = num_seeds - 1
    critical = float(stats.t.ppf(1 - SIGNIFICANCE / 2, degrees))
    # Of a noncentral t variable that exceeds the critical value with this probability.
    low, high = 0.0, 4.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        power = stats.nct.sf(critical, degrees, middle * math.sqrt(num_seeds))
        low, high = (middle, high) if power < POWER else (low, middle)
    return high


def seeds_needed(effect: float, num_others: int = 1) -> int | None:
    """Return the fewest seeds that find a difference of so many standard deviations.

    None beyond `MAX_SEEDS`; never fewer than could be significant at all among `num_others`
    comparisons that Holm corrects together.
    """
    least = min_seeds(num_others)
    if least is None or settled_effect(MAX_SEEDS) > abs(effect):
        return None
    low, high = least, MAX_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if settled_effect(middle) <= abs(effect) else (middle + 1, high)
    return low


@dataclass(frozen=True)
class Compared:
    """A comparison that is tested, with its runs."""

    arm_a: str
    arm_b: str
    is_primary: bool
    runs_a: np.ndarray
    """(priorities, seeds, axes), metric units, seeds in order."""
    runs_b: np.ndarray


def settling(
    tested: Sequence[Compared], reference: Reference, axes: Sequence[Axis]
) -> tuple[Settling, ...]:
    """Return for each comparison how its verdict came about seed by seed, and what more it takes.

    The reference point is that of all runs throughout. Where comparisons have different numbers of
    seeds, one that has no more stands in Holm's correction with all of its own.
    """
    tests = [
        [
            seed_level_test(c.runs_a[:, :n], c.runs_b[:, :n], reference, axes)
            for n in range(1, c.runs_a.shape[1] + 1)
        ]
        for c in tested
    ]
    others = [k for k, c in enumerate(tested) if not c.is_primary]
    found = []
    for k, (c, of_seeds) in enumerate(zip(tested, tests, strict=True)):
        p = [test.p for test in of_seeds]
        if not c.is_primary:
            for n in range(len(p)):
                # With all of its seeds as the report has it, the others with all of theirs.
                at = MAX_SEEDS if n == len(p) - 1 else n
                together = holm([tests[o][min(at, len(tests[o]) - 1)].p for o in others])
                p[n] = together[others.index(k)]
        signs = [math.copysign(1, test.difference) for test in of_seeds]
        reached = [v < SIGNIFICANCE and s == signs[-1] for v, s in zip(p, signs, strict=True)]
        broken = [n for n, held in enumerate(reached, 1) if not held]
        settled_with = max(broken, default=0) + 1 if reached[-1] else None
        values = seed_differences(c.runs_a, c.runs_b, reference, axes)
        made = Settling(
            c.arm_a, c.arm_b, c.is_primary, len(p), tuple(p), settled_with,
            float(values.mean()), None, None, (),
        )  # fmt: skip
        if len(values) >= MIN_SEEDS:
            sd = float(values.std(ddof=1))
            corrected = 1 if c.is_primary else len(others)
            made = replace(
                made,
                sd=sd,
                num_needed=seeds_needed(made.mean / sd, corrected) if sd > 0 else None,
                smallest=tuple(sd * settled_effect(n) for n in PLANNED_SEEDS),
            )
        found.append(made)
    return tuple(found)


def seed_differences(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> np.ndarray:
    """Return each seed's difference of hypervolume, (seeds,); runs as in `Compared`."""
    volumes = [
        [hypervolume(runs[:, n], reference, axes) for n in range(runs.shape[1])]
        for runs in (runs_a, runs_b)
    ]
    return np.subtract(*map(np.array, volumes))
