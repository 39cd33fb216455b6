"""Two methods' fronts in single numbers, with intervals: hypervolume, ratio, epsilon, IGD+.

All are of the means at each priority: hypervolume of all single runs pooled grows with the number
of runs alone. Epsilon and IGD+ are on axes divided by their range over all runs of the report, so
that no unit outweighs another; hypervolume keeps the metrics' units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from analysis.compute.fronts import Reference, minimised, minimised_hypervolume, nondominated
from analysis.compute.inference import (
    RESAMPLES,
    Interval,
    by_priority,
    by_seed,
    run_widening,
    seed_widening,
    symmetric_interval,
)
from analysis.load.axes import Axis
from analysis.load.text import no_width
from mtl.errors import UsageError

MOST_POINTS_OF_MANY_AXES = 100
"""Beyond so many priorities on five axes or more, one hypervolume takes tens of milliseconds and
a thousand a minute, so no interval is computed."""
MULTIPLES = tuple(float(m) for m in np.geomspace(0.25, 4, 33).round(4))
"""Distances of the reference from the best values at which the ratio is taken, 1 the report's."""


@dataclass(frozen=True)
class Indicator:
    """One number of two methods, with two intervals for two assumptions; None where there is none.

    `by_priority` supposes independent runs, `by_seed` does not; see `analysis.compute.inference`.
    """

    value: float | None
    by_seed: Interval | None = None
    by_priority: Interval | None = None


@dataclass(frozen=True)
class Indicators:
    """Two methods' fronts in numbers; a and b are the methods in the order given."""

    num_priorities: int
    num_seeds: int
    num_resamples: int
    """0 where there are no intervals."""
    ranges: tuple[float, ...]
    """By which the axes were divided for epsilon and IGD+, in metric units; 0 on an axis on which
    all runs are the same, which is not divided."""
    hypervolume_a: Indicator
    hypervolume_b: Indicator
    difference: Indicator
    """Of a minus that of b."""
    ratio: Indicator
    """Of a over that of b; None where that is 0."""
    epsilon_a: Indicator
    """By how much of the range a's points must improve on every axis until they match or beat
    each of b's; negative where they do so with room to spare."""
    epsilon_b: Indicator
    """The same of b towards a."""
    igd_plus_a: Indicator
    """Mean over b's nondominated points of how far a is from matching it, in ranges; 0 at best."""
    igd_plus_b: Indicator
    """The same of b from a's."""


@dataclass(frozen=True)
class Sensitivity:
    """How the ratio of hypervolumes depends on where the reference point stands."""

    multiples: tuple[float, ...]
    """Distance of the reference from the best values of both methods; 1 is the report's."""
    together: tuple[float | None, ...]
    """Ratio with the reference moved on all axes; None where the second method has none left."""
    each: tuple[tuple[float | None, ...], ...]
    """For each axis the ratio with the reference moved on it alone."""


def axis_ranges(values: np.ndarray) -> tuple[float, ...]:
    """Return the range of each axis over `values` (num_runs, axes), 0 where all are the same."""
    ends = zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True)
    return tuple(0.0 if no_width(low, high) else high - low for low, high in ends)


def indicators(
    runs_a: np.ndarray,
    runs_b: np.ndarray,
    reference: Reference,
    axes: Sequence[Axis],
    ranges: Sequence[float],
    num_resamples: int = RESAMPLES,
) -> Indicators:
    """Return two methods' fronts in numbers.

    Args:
        runs_a: single runs (priorities, seeds, axes), metric units, finite.
        runs_b: of the other method, with its priorities and seeds in the same order.
        reference: for the hypervolume.
        axes: of the last dimension.
        ranges: see `axis_ranges`.
        num_resamples: of the bootstrap.

    Raises:
        ValueError: for unequal shapes, and for NaN or infinities.
    """
    a, b = minimised(runs_a, axes), minimised(runs_b, axes)
    corner = minimised(np.array(reference.point), axes)
    # On an axis that never differs there is nothing to divide.
    scale = np.where(np.asarray(ranges) > 0, ranges, 1.0)

    def statistic(means_a: np.ndarray, means_b: np.ndarray) -> tuple[float, ...]:
        # No indicator depends on dominated points, but its cost does.
        fronts = [means[nondominated(means)] for means in (means_a, means_b)]
        volumes = [minimised_hypervolume(front, corner) for front in fronts]
        scaled_a, scaled_b = (front / scale for front in fronts)
        return (
            *volumes,
            volumes[0] - volumes[1],
            volumes[0] / volumes[1] if volumes[1] > 0 else np.nan,
            float(moocore.epsilon_additive(scaled_a, ref=scaled_b)),
            float(moocore.epsilon_additive(scaled_b, ref=scaled_a)),
            float(moocore.igd_plus(scaled_a, ref=scaled_b)),
            float(moocore.igd_plus(scaled_b, ref=scaled_a)),
        )

    if a.shape != b.shape:
        raise UsageError(
            "Expected equal priorities and seeds for both methods, got runs of shapes "
            f"{a.shape} and {b.shape}."
        )
    values = statistic(a.mean(axis=1), b.mean(axis=1))
    num_priorities, num_seeds, num_axes = a.shape
    if num_seeds < 2 or (num_axes > 4 and num_priorities > MOST_POINTS_OF_MANY_AXES):
        num_resamples = 0
    found = [Indicator(None if np.isnan(value) else value) for value in values]
    if num_resamples:
        seeds = by_seed(a, b, statistic, num_resamples)
        priorities = by_priority(a, b, statistic, num_resamples)
        widenings = seed_widening(num_seeds), run_widening(num_seeds)
        found = [
            Indicator(
                indicator.value,
                _interval(index, indicator.value, seeds[:, index], widenings[0]),
                _interval(index, indicator.value, priorities[:, index], widenings[1]),
            )
            for index, indicator in enumerate(found)
        ]
    volume_a, volume_b, difference, ratio, epsilon_a, epsilon_b, igd_a, igd_b = found
    return Indicators(
        num_priorities=num_priorities,
        num_seeds=num_seeds,
        num_resamples=num_resamples,
        ranges=tuple(map(float, ranges)),
        hypervolume_a=volume_a,
        hypervolume_b=volume_b,
        difference=difference,
        ratio=ratio,
        epsilon_a=epsilon_a,
        epsilon_b=epsilon_b,
        igd_plus_a=igd_a,
        igd_plus_b=igd_b,
    )


def reference_sensitivity(
    means_a: np.ndarray, means_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> Sensitivity | None:
    """Return the ratio of hypervolumes against the distance of the reference from the best values.

    None if the reference is on some axis no worse than the best value of both methods: no method
    then has any hypervolume.

    Args:
        means_a: (num_points, axes), metric units.
        means_b: of the other method.
        reference: the report's.
        axes: of the last dimension.
    """
    a, b = minimised(means_a, axes), minimised(means_b, axes)
    best = np.minimum(a.min(axis=0), b.min(axis=0))
    distance = minimised(np.array(reference.point), axes) - best
    if (distance <= 0).any():
        return None

    def ratio(factors: np.ndarray) -> float | None:
        volumes = [minimised_hypervolume(m, best + factors * distance) for m in (a, b)]
        return volumes[0] / volumes[1] if volumes[1] > 0 else None

    ones = np.ones(len(axes))
    return Sensitivity(
        MULTIPLES,
        tuple(ratio(ones * m) for m in MULTIPLES),
        tuple(
            tuple(ratio(np.where(np.arange(len(axes)) == k, m, 1.0)) for m in MULTIPLES)
            for k in range(len(axes))
        ),
    )


# Places of what can be no less than 0, in `statistic`.
_NOT_NEGATIVE = (0, 1, 3, 6, 7)


def _interval(
    index: int, value: float | None, resampled: np.ndarray, widening: float
) -> Interval | None:
    # A resample without hypervolume of b has no ratio, and then no interval is to be trusted.
    if value is None or not np.isfinite(resampled).all():
        return None
    interval = symmetric_interval(value, resampled, widening)
    if index in _NOT_NEGATIVE:
        return Interval(max(interval.low, 0.0), interval.high)
    return interval
