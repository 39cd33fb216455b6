"""Networks mixed between forks: what they add to the front, and how far off the line they lie.

Nothing is trained between two forks: a mixed network has a mean of their weights. Were its metrics
the same mean of the forks' metrics, it would lie on the straight line between their points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.fronts import Reference, hypervolume, minimised
from analysis.load.axes import Axis
from analysis.load.matched import Settings, shared_seeds
from analysis.load.priorities import Priorities


@dataclass(frozen=True)
class Ends:
    """The forks that a network is mixed of."""

    first: Priorities
    second: Priorities
    mix: float
    """Share of the second one's weights."""


@dataclass(frozen=True)
class MixedPoint:
    """A mixed network against its forks, on the mean over seeds."""

    priorities: Priorities
    ends: Ends
    means: tuple[float, ...]
    """Metrics, in metric units."""
    gains: tuple[float, ...]
    """By how much each is better than on the line between the forks; below 0 for worse."""


@dataclass(frozen=True)
class Dial:
    """A method's forks and the networks between them, on the seeds that all of these have."""

    arm: str
    seeds: tuple[int, ...]
    num_forks: int
    points: tuple[MixedPoint, ...]
    hypervolume_forks: float
    """Of the forks alone."""
    hypervolume: float
    """Of forks and mixed networks together."""
    mean_gains: tuple[float, ...]
    """Over the points, one an axis; see `MixedPoint`."""
    least_gains: tuple[float, ...]
    """The worst of the points, an axis each."""


def dial(
    arm: str,
    forks: Settings,
    mixed: Settings,
    ends: Mapping[Priorities, Ends],
    axes: Sequence[Axis],
    reference: Reference,
) -> Dial | None:
    """Return what networks between the forks of a method give.

    Args:
        arm: of the forks.
        forks: priorities -> seed -> metrics (axes,), in metric units.
        mixed: the same of mixed networks.
        ends: priorities of a mixed network -> its forks.
        axes: by which is judged.
        reference: for the hypervolume.

    Returns:
        None where no mixed network has both its forks, or no seed is done everywhere.
    """
    between = [p for p in mixed if {ends[p].first, ends[p].second} <= forks.keys()]
    seeds = shared_seeds([*forks.values(), *(mixed[p] for p in between)])
    if not between or not seeds:
        return None
    trained = {p: _mean(held, seeds) for p, held in forks.items()}
    points, means = [], []
    for priorities in between:
        held, mean = ends[priorities], _mean(mixed[priorities], seeds)
        on_line = (1 - held.mix) * trained[held.first] + held.mix * trained[held.second]
        gains = minimised(on_line, axes) - minimised(mean, axes)
        means.append(mean)
        points.append(MixedPoint(priorities, held, tuple(mean.tolist()), tuple(gains.tolist())))
    gains = np.array([point.gains for point in points])
    return Dial(
        arm=arm,
        seeds=tuple(seeds),
        num_forks=len(forks),
        points=tuple(points),
        hypervolume_forks=hypervolume(np.array([*trained.values()]), reference, axes),
        hypervolume=hypervolume(np.array([*trained.values(), *means]), reference, axes),
        mean_gains=tuple(gains.mean(axis=0).tolist()),
        least_gains=tuple(gains.min(axis=0).tolist()),
    )


def _mean(held: Mapping[int, np.ndarray], seeds: Sequence[int]) -> np.ndarray:
    return np.array([held[seed] for seed in seeds]).mean(axis=0)
