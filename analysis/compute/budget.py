"""What does a front cost? Hypervolume by number of runs, runs to match, seconds; values in and out.

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
from scipy import special, stats

from analysis.compute.dominance import dominates
from analysis.compute.fronts import Reference, minimised
from analysis.compute.inference import (
    LEVEL,
    MIN_SEEDS,
    SAMPLING_SEED,
    seed_widening,
    symmetric_interval,
)
from analysis.load.axes import Axis, signs
from analysis.load.text import no_width
from mtl.errors import UsageError

NUM_RESAMPLES = 200
MOST_CELLS = 4_000_000
"""Volumes are computed exactly up to this many cells between the points' coordinates."""
MOST_CELLS_RESAMPLED = 20_000
"""The same for each resample."""
MOST_COMPARISONS = 20_000_000
"""Beyond, volumes are sampled: places times points times axes."""
MOST_COMPARISONS_RESAMPLED = 2_000_000
FEWEST_PLACES = 512
MOST_BUDGETS = 24
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
    interval: tuple[tuple[float, float], ...] | None
    """Of each, by resampling whole seeds; None with fewer than `MIN_SEEDS`, and where all
    resamples agree."""
    is_exact: bool
    """Else volumes were sampled at `num_places` places with `sampling_seed`."""
    num_places: int | None
    sampling_seed: int | None
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
    """Of the number, over resampled seeds; None within is "not reached", as a whole
    fewer than `MIN_SEEDS` seeds, or resamples that all agree."""
    num_runs_rival: int
    share_reached: float | None
    """Of resamples in which it is reached; None with fewer than `MIN_SEEDS` seeds."""
    num_agreeing: int | None
    """Seeds, if all their resamples agree with the number; there is no interval then."""


@dataclass(frozen=True)
class Overhead:
    """Seconds an epoch of a method's runs, relative to the median of a base method."""

    arm: str
    num_runs: int
    """Those that report seconds."""
    seconds: tuple[float, float, float]
    """An epoch: lower quartile, median, upper quartile."""
    ratio: tuple[float, float, float]
    """The same divided by the base's median."""


def dominance_volumes(
    points: np.ndarray,
    reference: np.ndarray,
    places: np.ndarray | None = None,
) -> np.ndarray:
    """Return the volumes that are dominated by exactly 0, 1, ... K of the points.

    Entry 0 is the volume of the box between the best coordinates and the reference that no point
    dominates.

    Args:
        points: (K, axes), minimised and finite.
        reference: (axes,), minimised.
        places: (n, axes) in the unit cube at which volumes are sampled; None computes them exactly
            from the cells between the points' coordinates, up to K^axes of them.

    Returns:
        (K + 1,) volumes.
    """
    num_points, num_axes = points.shape
    inside = points[(points < reference).all(axis=1)]
    if len(inside) == 0:
        return np.zeros(num_points + 1)
    low = inside.min(axis=0)
    box = float(np.prod(reference - low))
    if places is not None:
        at = low + places * (reference - low)
        reached = np.ones((len(at), len(inside)), dtype=bool)
        for axis in range(num_axes):
            reached &= inside[None, :, axis] <= at[:, None, axis]
        counts = reached.sum(axis=1)
        return np.bincount(counts, minlength=num_points + 1) * (box / len(at))
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
    """Return the mean hypervolume over all choices of so many of the points.

    Args:
        volumes: see `dominance_volumes`.
        numbers: of points chosen, 1 to K.
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


def budget_curve(
    arm: str, runs: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> BudgetCurve:
    """Return hypervolume against the number of priorities.

    Args:
        arm: its name.
        runs: (priorities, seeds, axes) in metric units, at least one of each.
        reference: for the hypervolume.
        axes: of the last dimension.

    Raises:
        ValueError: for another shape, or values that are not finite.
    """
    if runs.ndim != 3 or 0 in runs.shape:
        raise UsageError(
            "Expected runs at one priority or more with one seed or more, got an array of shape "
            f"{runs.shape}."
        )
    low, corner = minimised(runs, axes), minimised(np.array(reference.point), axes)
    num_points, num_seeds, num_axes = low.shape
    numbers = _budgets(num_points)
    is_exact = num_points**num_axes <= MOST_CELLS
    places = None if is_exact else _places(num_points, num_axes, MOST_COMPARISONS)
    expected = expected_hypervolumes(dominance_volumes(low.mean(axis=1), corner, places), numbers)
    resampled, interval = np.zeros((0, len(numbers))), None
    if num_seeds >= MIN_SEEDS:
        coarse = None
        if num_points**num_axes > MOST_CELLS_RESAMPLED:
            coarse = _places(num_points, num_axes, MOST_COMPARISONS_RESAMPLED)

        def volumes(seeds: np.ndarray) -> np.ndarray:
            means = low[:, seeds].mean(axis=1)
            return expected_hypervolumes(dominance_volumes(means, corner, coarse), numbers)

        drawn = np.array([volumes(seeds) for seeds in _resamples(num_seeds)])
        widening = seed_widening(num_seeds)
        if not all(map(no_width, drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist())):
            interval = _interval(expected, drawn - volumes(np.arange(num_seeds)), widening)
        # Laid about the mean of the resamples: means over fewer distinct seeds scatter more, and
        # scatter alone raises a hypervolume.
        resampled = np.maximum(expected + (drawn - drawn.mean(axis=0)) * widening, 0.0)
    return BudgetCurve(
        arm=arm,
        num_seeds=num_seeds,
        num_priorities=numbers,
        expected=tuple(map(float, expected)),
        interval=interval,
        is_exact=is_exact,
        num_places=None if places is None else len(places),
        sampling_seed=None if is_exact else SAMPLING_SEED,
        resampled=resampled,
    )


def _budgets(num_points: int) -> tuple[int, ...]:
    """Return 1 to K, or as many as `MOST_BUDGETS` of them, equal steps of the logarithm."""
    if num_points <= MOST_BUDGETS:
        return tuple(range(1, num_points + 1))
    spaced = np.geomspace(1, num_points, MOST_BUDGETS).tolist()
    return tuple(dict.fromkeys(map(round, spaced)))


def _places(num_points: int, num_axes: int, most: int) -> np.ndarray:
    """Return places of the unit cube, drawn with `SAMPLING_SEED`."""
    number = max(most // (num_points * num_axes), FEWEST_PLACES)
    # A power of two keeps a Sobol sequence balanced.
    power = int(math.log2(number))
    sobol = stats.qmc.Sobol(num_axes, scramble=True, rng=np.random.default_rng(SAMPLING_SEED))
    return sobol.random_base2(power)


def _resamples(num_seeds: int) -> list[np.ndarray]:
    """Return draws of so many seeds with replacement: all where they are few."""
    if num_seeds**num_seeds <= NUM_RESAMPLES:
        return [np.array(c) for c in itertools.product(range(num_seeds), repeat=num_seeds)]
    generator = np.random.default_rng(SAMPLING_SEED)
    return list(generator.integers(0, num_seeds, size=(NUM_RESAMPLES, num_seeds)))


def _interval(
    expected: np.ndarray, away: np.ndarray, widening: float
) -> tuple[tuple[float, float], ...]:
    """Return the interval of each volume, (resamples, budgets) being `away` from `expected`."""
    found = [
        symmetric_interval(float(value), value + away[:, k], widening)
        for k, value in enumerate(expected)
    ]
    return tuple((max(low, 0.0), high) for low, high in found)


def runs_to_match(curve: BudgetCurve, rival: BudgetCurve) -> Match:
    """Return how many runs of `curve` reach the hypervolume of the whole grid of `rival`.

    Both must have the same priorities and seeds; see `inference.why_not_comparable`.

    Raises:
        ValueError: for unequal budgets.
    """
    if (curve.num_priorities, curve.num_seeds) != (rival.num_priorities, rival.num_seeds):
        raise UsageError(
            f"Expected curves of equal budgets, got {curve.num_runs[-1]} runs of {curve.arm} and "
            f"{rival.num_runs[-1]} of {rival.arm}."
        )
    interval, share, agreeing = None, None, None
    first = _first_reaching(np.array(curve.expected), rival.expected[-1])
    if len(curve.resampled):
        # The same resample of both has the same seeds.
        reached = [
            _first_reaching(own, float(other[-1]))
            for own, other in zip(curve.resampled, rival.resampled, strict=True)
        ]
        order = sorted(len(curve.num_runs) if r is None else r for r in reached)
        ends = (
            order[math.floor((1 - LEVEL) / 2 * (len(order) - 1))],
            order[math.ceil((1 + LEVEL) / 2 * (len(order) - 1))],
        )
        runs: list[int | None] = [*curve.num_runs, None]
        if all(r == first for r in reached):
            agreeing = curve.num_seeds
        else:
            interval = (runs[ends[0]], runs[ends[1]])
        share = sum(r is not None for r in reached) / len(reached)
    return Match(
        arm=curve.arm,
        rival=rival.arm,
        num_runs=None if first is None else curve.num_runs[first],
        interval=interval,
        num_runs_rival=rival.num_runs[-1],
        share_reached=share,
        num_agreeing=agreeing,
    )


def _first_reaching(values: np.ndarray, level: float) -> int | None:
    # A billionth less: a curve reaches its own end, however its sums were rounded.
    reached = np.flatnonzero(values >= level - 1e-9 * abs(level))
    return int(reached[0]) if len(reached) else None


def overheads(seconds: dict[str, np.ndarray], base: str) -> tuple[Overhead, ...]:
    """Return what an epoch costs with each method, relative to `base`.

    Args:
        seconds: method -> seconds an epoch of each of its runs, positive and finite, at least one.
        base: one of the methods.
    """
    unit = float(np.median(seconds[base]))
    found = []
    for arm, values in seconds.items():
        low, median, high = (float(v) for v in np.quantile(values, [0.25, 0.5, 0.75]))
        found.append(
            Overhead(
                arm=arm,
                num_runs=len(values),
                seconds=(low, median, high),
                ratio=(low / unit, median / unit, high / unit),
            )
        )
    return tuple(found)


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
class UntunedQuestion:
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
    """Return which point of a grid has the greatest mean relative gain over the grid's own mean.

    The gain of a task is relative to the absolute mean of its metric over the grid, and all tasks
    count alike. Of equal ones the first.

    Args:
        means: (points, axes), metric units, finite.
        axes: of the last dimension.
    """
    low = minimised(means, axes)
    centre = low.mean(axis=0)
    # A metric whose mean is 0 has no relative gain; its range is a unit as good as another.
    unit = np.where(np.abs(centre) > 0, np.abs(centre), np.maximum(np.ptp(low, axis=0), 1e-300))
    return int(np.argmax(((centre - low) / unit).mean(axis=1)))


def untuned_question(
    arm: str,
    runs: np.ndarray,
    rival: str,
    grid: np.ndarray,
    axes: Sequence[Axis],
    validation: np.ndarray | None,
) -> UntunedQuestion:
    """Return how a method at equal priorities does against the best of a rival's grid.

    Args:
        arm: the method.
        runs: (seeds, axes) of its runs at equal priorities, test split, metric units.
        rival: the other method.
        grid: (priorities, seeds, axes) of its runs on the test split, seeds as in `runs`.
        axes: of the last dimension.
        validation: the same on the validation split, where the best is chosen; None chooses it on
            the test split, which flatters the rival.

    Raises:
        ValueError: for shapes that do not fit.
    """
    if runs.shape != grid.shape[1:] or (validation is not None and validation.shape != grid.shape):
        raise UsageError(
            "Expected equal seeds and axes of both methods and splits, got runs of shapes "
            f"{runs.shape} and {grid.shape}."
        )
    chosen = best_of_grid((grid if validation is None else validation).mean(axis=1), axes)
    differences = runs - grid[chosen]
    better = -signs(axes) * differences
    own = minimised(runs, axes).mean(axis=0)
    others = minimised(grid, axes).mean(axis=1)
    return UntunedQuestion(
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
