"""What does a front cost? Hypervolume by number of runs, runs to match, seconds.

A budget of fewer runs means fewer priorities, each with all seeds of the method: hypervolumes of
pooled seeds grow with the runs alone and are never compared. Which priorities a smaller budget
would have held is open, so the hypervolume is the mean over all choices of so many of the grid's
priorities. It is found without drawing any: a place that j of K points dominate is dominated by
a random choice of m of them with probability 1 - C(K - j, m) / C(K, m).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.compute.fronts import Reference, dominates, minimised
from analysis.compute.inference import (
    LEVEL,
    MIN_SEEDS,
    SAMPLING_SEED,
    Interval,
    seed_widening,
    symmetric_interval,
)
from analysis.load.axes import Axis, signs
from analysis.load.text import no_width

NUM_RESAMPLES = 200
MAX_CELLS = 4_000_000
"""Cells between the points' coordinates up to which a curve is computed."""
MAX_BUDGETS = 24
"""Numbers of priorities at which a curve is computed."""


@dataclass(frozen=True)
class BudgetCurve:
    """Hypervolume of the per-priority means against the number of priorities trained."""

    arm: str
    num_seeds: int
    num_priorities: tuple[int, ...]
    """Rising from 1 to the whole grid."""
    expected: tuple[float, ...]
    """Mean over all choices of so many priorities."""
    interval: tuple[Interval, ...] | None
    """Of each, by resampling whole seeds; None with fewer than `MIN_SEEDS`, and where all resamples
    agree."""
    resampled: np.ndarray
    """(resamples, budgets), widened about `expected`; for what is derived from the curve."""

    @property
    def num_runs(self) -> tuple[int, ...]:
        """Return the runs behind each value."""
        return tuple(number * self.num_seeds for number in self.num_priorities)


@dataclass(frozen=True)
class Match:
    """How many runs of one method reach the whole grid of another."""

    arm: str
    rival: str
    num_runs: int | None
    """None if its own whole grid does not reach it."""
    interval: tuple[int | None, int | None] | None
    """Of the number, over resampled seeds; None within is "not reached", as a whole fewer than
    `MIN_SEEDS` seeds, or resamples that all agree."""
    num_runs_rival: int
    share_reached: float | None
    """Of resamples in which it is reached; None with fewer than `MIN_SEEDS` seeds."""


def budget_curve(
    arm: str, runs: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> BudgetCurve | None:
    """Return hypervolume against the number of priorities.

    `runs` are (priorities, seeds, axes) in metric units, at least one of each. None where they are
    too many for exact volumes on so many axes, see `MAX_CELLS`.
    """
    num_points, num_seeds, num_axes = runs.shape
    if num_points**num_axes > MAX_CELLS:
        return None
    low, corner = minimised(runs, axes), minimised(np.array(reference.point), axes)
    numbers = _budgets(num_points)

    def volumes(seeds: np.ndarray) -> np.ndarray:
        means = low[:, seeds].mean(axis=1)
        return expected_hypervolumes(dominance_volumes(means, corner), numbers)

    expected = volumes(np.arange(num_seeds))
    resampled, interval = np.zeros((0, len(numbers))), None
    if num_seeds >= MIN_SEEDS:
        drawn = np.array([volumes(seeds) for seeds in _resamples(num_seeds)])
        widening = seed_widening(num_seeds)
        if not all(map(no_width, drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist())):
            ends = [
                symmetric_interval(value, drawn[:, k], widening)
                for k, value in enumerate(expected.tolist())
            ]
            interval = tuple((max(low_end, 0.0), high_end) for low_end, high_end in ends)
        # Laid about the mean of the resamples: means over fewer distinct seeds scatter more, and
        # scatter alone raises a hypervolume.
        resampled = np.maximum(expected + (drawn - drawn.mean(axis=0)) * widening, 0.0)
    return BudgetCurve(arm, num_seeds, numbers, tuple(expected.tolist()), interval, resampled)


def dominance_volumes(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the volumes (K + 1,) that are dominated by exactly 0, 1, ... K of the points.

    Entry 0 is what no point dominates of the box between the best coordinates and the reference.
    `points` (K, axes) and `reference` (axes,) are minimised and finite; there are up to K^axes
    cells between the points' coordinates.
    """
    num_points, num_axes = points.shape
    inside = points[(points < reference).all(axis=1)]
    if len(inside) == 0:
        return np.zeros(num_points + 1)
    edges = [np.unique(inside[:, axis]) for axis in range(num_axes)]
    counts = np.zeros([len(values) for values in edges], dtype=np.intp)
    where = tuple(np.searchsorted(values, inside[:, k]) for k, values in enumerate(edges))
    np.add.at(counts, where, 1)
    volumes = np.ones([1] * num_axes)
    for axis, values in enumerate(edges):
        counts = np.cumsum(counts, axis=axis)
        shape = [1] * num_axes
        shape[axis] = len(values)
        volumes = volumes * np.diff(np.append(values, reference[axis])).reshape(shape)
    return np.bincount(counts.ravel(), volumes.ravel(), minlength=num_points + 1)


def expected_hypervolumes(volumes: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Return the mean hypervolume over all choices of so many (1 to K) of the points.

    `volumes` are those of `dominance_volumes`.
    """
    num_points = len(volumes) - 1
    dominating = np.arange(num_points + 1)
    result = []
    for number in numbers:
        rest = num_points - dominating
        # C(K - j, m) / C(K, m), by logarithms: both overflow from some thousand points on.
        missed = np.zeros(num_points + 1)
        free = rest >= number
        missed[free] = np.exp(
            special.gammaln(rest[free] + 1)
            - special.gammaln(rest[free] - number + 1)
            - special.gammaln(num_points + 1)
            + special.gammaln(num_points - number + 1)
        )
        result.append(float(((1 - missed) * volumes)[1:].sum()))
    return np.array(result)


def _budgets(num_points: int) -> tuple[int, ...]:
    """Return 1 to K, or as many as `MAX_BUDGETS` of them, equal steps of the logarithm."""
    if num_points <= MAX_BUDGETS:
        return tuple(range(1, num_points + 1))
    spaced = np.geomspace(1, num_points, MAX_BUDGETS).tolist()
    return tuple(dict.fromkeys(map(round, spaced)))


def _resamples(num_seeds: int) -> list[np.ndarray]:
    """Return draws of so many seeds with replacement: all where they are few."""
    if num_seeds**num_seeds <= NUM_RESAMPLES:
        return [np.array(c) for c in itertools.product(range(num_seeds), repeat=num_seeds)]
    generator = np.random.default_rng(SAMPLING_SEED)
    return list(generator.integers(0, num_seeds, size=(NUM_RESAMPLES, num_seeds)))


def runs_to_match(curve: BudgetCurve, rival: BudgetCurve) -> Match:
    """Return how many runs of `curve` reach the hypervolume of the whole grid of `rival`.

    Both must have the same priorities and seeds.
    """
    runs: list[int | None] = [*curve.num_runs, None]
    # The same resample of both has the same seeds.
    reached = sorted(
        _first_reaching(own, float(other[-1]))
        for own, other in zip(curve.resampled, rival.resampled, strict=True)
    )
    interval = None
    if reached and reached[0] != reached[-1]:
        interval = (
            runs[reached[math.floor((1 - LEVEL) / 2 * (len(reached) - 1))]],
            runs[reached[math.ceil((1 + LEVEL) / 2 * (len(reached) - 1))]],
        )
    return Match(
        arm=curve.arm,
        rival=rival.arm,
        num_runs=runs[_first_reaching(np.array(curve.expected), rival.expected[-1])],
        interval=interval,
        num_runs_rival=rival.num_runs[-1],
        share_reached=float(np.mean(np.array(reached) < len(curve.num_runs))) if reached else None,
    )


def _first_reaching(values: np.ndarray, level: float) -> int:
    """Return the first place where a curve reaches a level, the number of places if none does."""
    # A billionth less: a curve reaches its own end, however its sums were rounded.
    reached = np.flatnonzero(values >= level - 1e-9 * abs(level))
    return int(reached[0]) if len(reached) else len(values)


SECONDS = {"device_seconds": "device", "wall_seconds": "wall"}
"""Column of the runs -> kind of seconds, the preferred one first."""
BASES = ("fixed", "equal")
"""Methods that seconds are relative to, the first that is there."""


@dataclass(frozen=True)
class ArmSeconds:
    """What the runs of one method took; each time as lower quartile, median and upper quartile."""

    arm: str
    num_runs: int
    """Those that report seconds."""
    seconds: tuple[float, float, float]
    """Of an epoch or a run."""
    ratio: tuple[float, float, float]
    """The same divided by the median of the base."""
    mean_of_run: float
    """Mean seconds of a whole run."""


@dataclass(frozen=True)
class Seconds:
    """What the runs report of their time."""

    kind: str
    """`device` or `wall`."""
    per: str
    """`epoch`, or `run` where the runs do not say their epochs."""
    arms: tuple[ArmSeconds, ...]
    """The base first."""
    num_silent: int
    """Runs without seconds."""


def run_seconds(runs: pd.DataFrame) -> Seconds | None:
    """Return the seconds that most methods report, device before wall; None if no run does."""
    known = {}
    for column in SECONDS:
        if column in runs:
            values = runs[column].astype(float)
            known[column] = runs[np.isfinite(values) & (values > 0)]
    if not any(map(len, known.values())):
        return None
    column = max(known, key=lambda name: known[name]["arm"].nunique())
    rows = known[column]
    has_epochs = "epochs" in rows and bool((rows["epochs"].astype(float) > 0).all())
    bases = [arm for base in BASES for arm in rows.loc[rows["method"] == base, "arm"]]
    of_run, each = {}, {}
    for arm in dict.fromkeys([*bases[:1], *rows["arm"]]):
        mine = rows[rows["arm"] == arm]
        of_run[str(arm)] = mine[column].to_numpy(float)
        each[str(arm)] = of_run[str(arm)] / (mine["epochs"].to_numpy(float) if has_epochs else 1.0)
    unit = float(np.median(next(iter(each.values()))))
    arms = []
    for arm, values in each.items():
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        ratio = (low / unit, median / unit, high / unit)
        mean = float(of_run[arm].mean())
        arms.append(ArmSeconds(arm, len(values), (low, median, high), ratio, mean))
    per = "epoch" if has_epochs else "run"
    return Seconds(SECONDS[column], per, tuple(arms), num_silent=len(runs) - len(rows))


@dataclass(frozen=True)
class Against:
    """One metric of a method at equal priorities, minus that of the chosen rival point."""

    difference: float
    """In metric units."""
    interval: tuple[float, float] | None
    """Student's t over the seeds that both have; None with a single one."""
    num_seeds: int
    num_seeds_better: int
    """In how many the method is better than the rival."""


@dataclass(frozen=True)
class EqualPriorityQuestion:
    """A method at equal priorities against the best of a rival's whole grid."""

    arm: str
    rival: str
    chosen: int
    """Place of the rival's best priority in its grid."""
    chosen_on: str
    """`validation` or `test`."""
    metrics: tuple[Against, ...]
    """One an axis."""
    num_dominating: int
    """Points of the rival's grid whose means dominate the method's point, on the test split."""
    num_dominated: int
    num_candidates: int


def student_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return Student's interval of the mean of normal values (n,); None for a single one."""
    n = len(values)
    if n < 2:
        return None
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return float(values.mean()) - reach, float(values.mean()) + reach


def best_of_grid(means: np.ndarray, axes: Sequence[Axis]) -> int:
    """Return which of `means` (points, axes) has the greatest mean relative gain over their mean.

    The gain of a task is relative to the absolute mean of its metric over the grid, and all tasks
    count alike. Of equal ones the first.
    """
    low = minimised(means, axes)
    centre = low.mean(axis=0)
    # A metric whose mean is 0 has no relative gain; its range is a unit as good as another.
    unit = np.where(np.abs(centre) > 0, np.abs(centre), np.maximum(np.ptp(low, axis=0), 1e-300))
    return int(np.argmax(((centre - low) / unit).mean(axis=1)))


def equal_priority_question(
    arm: str,
    runs: np.ndarray,
    rival: str,
    grid: np.ndarray,
    axes: Sequence[Axis],
    validation: np.ndarray | None,
) -> EqualPriorityQuestion:
    """Return how a method at equal priorities does against the best of a rival's grid.

    Args:
        arm: the method.
        runs: (seeds, axes) of its runs at equal priorities, test split, metric units.
        rival: the other method.
        grid: (priorities, seeds, axes) of its runs on the test split, seeds as in `runs`.
        axes: of the last dimension.
        validation: the same on the validation split, where the best is chosen; None chooses it on
            the test split, which flatters the rival.
    """
    chosen = best_of_grid((grid if validation is None else validation).mean(axis=1), axes)
    differences = runs - grid[chosen]
    better = -signs(axes) * differences
    own = minimised(runs, axes).mean(axis=0)
    others = minimised(grid, axes).mean(axis=1)
    return EqualPriorityQuestion(
        arm=arm,
        rival=rival,
        chosen=chosen,
        chosen_on="test" if validation is None else "validation",
        metrics=tuple(
            Against(
                difference=float(differences[:, k].mean()),
                interval=student_interval(differences[:, k]),
                num_seeds=len(runs),
                num_seeds_better=int((better[:, k] > 0).sum()),
            )
            for k in range(len(axes))
        ),
        num_dominating=int(dominates(others, own[None]).sum()),
        num_dominated=int(dominates(own[None], others).sum()),
        num_candidates=len(grid),
    )
