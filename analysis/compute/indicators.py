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
    NUM_RESAMPLES,
    Interval,
    run_level_resamples,
    run_widening,
    seed_level_resamples,
    seed_level_test,
    seed_widening,
    symmetric_interval,
)
from analysis.load.axes import Axis
from analysis.load.text import no_width

MAX_PRIORITIES_OF_MANY_AXES = 100
"""Beyond so many priorities on five axes or more, one hypervolume takes tens of milliseconds and
a thousand a minute, so no interval is computed."""


@dataclass(frozen=True)
class Indicator:
    """One number of two methods with two intervals; None where there is none.

    `run_level` supposes independent runs, `seed_level` does not; see `analysis.compute.inference`.
    """

    value: float | None
    seed_level: Interval | None = None
    run_level: Interval | None = None


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


# The indicators in the order of `statistic` below, and those that can be no less than 0.
_NAMES = (
    *("hypervolume_a", "hypervolume_b", "difference", "ratio"),
    *("epsilon_a", "epsilon_b", "igd_plus_a", "igd_plus_b"),
)
_NOT_NEGATIVE = ("hypervolume_a", "hypervolume_b", "ratio", "igd_plus_a", "igd_plus_b")


@dataclass(frozen=True)
class UnderReference:
    """Two methods' hypervolumes as another reference point would have them; see `Indicators`."""

    reference: Reference
    num_points: int
    """Of both methods, means over seeds."""
    num_cut_off: int
    """Those that are no better than the reference on some axis and add nothing."""
    hypervolume_a: float
    hypervolume_b: float
    difference: float
    """Of a minus that of b."""
    p: float
    """Of the seed-level test, not adjusted for the number of pairs."""


def under_reference(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> UnderReference:
    """Return what a reference point makes of two methods; arguments are those of `indicators`."""
    means = [minimised(runs, axes).mean(axis=1) for runs in (runs_a, runs_b)]
    corner = minimised(np.array(reference.point), axes)
    cut_off = sum(int((~(points < corner).all(axis=1)).sum()) for points in means)
    volumes = [minimised_hypervolume(points, corner) for points in means]
    test = seed_level_test(runs_a, runs_b, reference, axes)
    num_points = sum(map(len, means))
    return UnderReference(
        reference, num_points, cut_off, volumes[0], volumes[1], test.difference, test.p
    )


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
    num_resamples: int = NUM_RESAMPLES,
) -> Indicators:
    """Return two methods' fronts in numbers.

    Args:
        runs_a: single runs (priorities, seeds, axes), metric units, finite.
        runs_b: of the other method, with its priorities and seeds in the same order.
        reference: for the hypervolume.
        axes: of the last dimension.
        ranges: see `axis_ranges`.
        num_resamples: of the bootstrap.
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

    num_priorities, num_seeds, num_axes = a.shape
    if num_seeds < 2 or (num_axes > 4 and num_priorities > MAX_PRIORITIES_OF_MANY_AXES):
        num_resamples = 0
    values = statistic(a.mean(axis=1), b.mean(axis=1))
    found = {
        name: Indicator(None if np.isnan(value) else value)
        for name, value in zip(_NAMES, values, strict=True)
    }
    if num_resamples:
        seeds = seed_level_resamples(a, b, statistic, num_resamples)
        runs = run_level_resamples(a, b, statistic, num_resamples)
        found = {
            name: Indicator(
                found[name].value,
                _interval(name, found[name].value, seeds[:, k], seed_widening(num_seeds)),
                _interval(name, found[name].value, runs[:, k], run_widening(num_seeds)),
            )
            for k, name in enumerate(_NAMES)
        }
    return Indicators(
        num_priorities=num_priorities,
        num_seeds=num_seeds,
        num_resamples=num_resamples,
        ranges=tuple(map(float, ranges)),
        **found,
    )


def _interval(
    name: str, value: float | None, resampled: np.ndarray, widening: float
) -> Interval | None:
    # A resample without hypervolume of b has no ratio, and then no interval is to be trusted.
    if value is None or not np.isfinite(resampled).all():
        return None
    low, high = symmetric_interval(value, resampled, widening)
    return (max(low, 0.0) if name in _NOT_NEGATIVE else low), high
