"""Which settings go on: multi-objective successive halving, rung by rung."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.fronts import REFERENCE_MARGIN, minimised_hypervolume, nondominated


def reference_of(points: np.ndarray) -> np.ndarray:
    """Return the worst of `points` (num_points, objectives) on each objective, and a bit more."""
    width = np.ptp(points, axis=0)
    return points.max(axis=0) + REFERENCE_MARGIN * np.where(width > 0, width, 1.0)


def ranked(points: Mapping[int, np.ndarray]) -> list[int]:
    """Return the candidates, the best first.

    By the nondomination rank of their mean over the priorities; within a rank, by the hypervolume
    that their points cover; of equals the earlier first.

    Args:
        points: candidate -> (num_priorities, objectives), minimised and finite.
    """
    if not points:
        return []
    reference = reference_of(np.concatenate(list(points.values())))
    volume = {i: minimised_hypervolume(p, reference) for i, p in points.items()}
    rank: dict[int, int] = {}
    left = sorted(points)
    while left:
        front = nondominated(np.array([points[i].mean(axis=0) for i in left]))
        level = max(rank.values(), default=-1) + 1
        rank |= {i: level for i, on_front in zip(left, front, strict=True) if on_front}
        left = [i for i in left if i not in rank]
    return sorted(points, key=lambda i: (rank[i], -volume[i], i))


def best_subset(points: Mapping[int, Sequence[float]], size: int) -> list[int]:
    """Return `size` keys (or all) whose points together cover the most hypervolume, greedily.

    The first covers the most by itself, each further one adds the most to those before it; of
    equals the earlier first. Greedy choice covers at least 63 % of the best subset's hypervolume.

    Args:
        points: key -> objectives, minimised and finite.
        size: how many.
    """
    chosen: list[int] = []
    if not points:
        return chosen
    reference = reference_of(np.array(list(points.values())))
    while len(chosen) < min(size, len(points)):
        volumes = {
            key: minimised_hypervolume(np.array([points[k] for k in (*chosen, key)]), reference)
            for key in sorted(points)
            if key not in chosen
        }
        chosen.append(max(volumes, key=lambda key: (volumes[key], -key)))
    return chosen
