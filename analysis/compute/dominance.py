"""The dominance ledger: which operating points of one method does another one dominate, how surely?

On the means it is a fact; over seeds it is a share. A point dominates another if it is at least as
good on every axis and better on one. Everything is minimised here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.fronts import nondominated
from mtl.errors import UsageError


@dataclass(frozen=True)
class Dominance:
    """One point of a method against one of another."""

    mean_dominates: bool
    """Of the means over seeds: at least as good on every axis and better on one."""
    mean_strictly: bool
    """Of the means: better on every axis."""
    share_of_pairs: float
    """Of pairs of seeds (i of the one, j of the other) in which the one's run dominates; of
    matched pairs only where both have the same seeds."""


@dataclass(frozen=True)
class Ledger:
    """All points of method a against all of method b."""

    cells: tuple[tuple[Dominance, ...], ...]
    """cells[i][j]: point i of a over point j of b."""


def dominates(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return whether `a` dominates `b`, over the last axis (..., axes), both minimised."""
    return np.asarray((a <= b).all(axis=-1) & (a < b).any(axis=-1))


def covered_by(means_a: np.ndarray, means_b: np.ndarray) -> np.ndarray:
    """Return which points of b some point of a dominates, of the means alone.

    For grids of any size: a point that is dominated in a covers nothing that its better does not.

    Args:
        means_a: (num_points, axes), minimised, finite.
        means_b: of b.

    Returns:
        (num_points of b,) of bool; its mean is the coverage C(a, b).
    """
    front = means_a[nondominated(means_a)]
    if not np.isfinite(means_b).all():
        raise UsageError("Expected finite results, got NaN or infinity. Exclude such runs.")
    return np.array([bool(dominates(front, point).any()) for point in means_b], dtype=bool)


def ledger(
    points_a: Sequence[np.ndarray],
    points_b: Sequence[np.ndarray],
    *,
    matched: bool,
) -> Ledger:
    """Return who dominates whom.

    Args:
        points_a: for each operating point of a its runs (num_seeds, axes), minimised, finite.
        points_b: of b.
        matched: run k of a point of a and run k of one of b share their seed, so that only these
            are compared; needs equal numbers of seeds.

    Raises:
        ValueError: without points, for values that are not finite, or for unequal numbers of
            seeds that are said to be matched.
    """
    for points in (points_a, points_b):
        if not points or any(len(runs) == 0 for runs in points):
            raise UsageError("Expected operating points with runs of both methods, got none.")
        if not all(np.isfinite(runs).all() for runs in points):
            raise UsageError("Expected finite results, got NaN or infinity. Exclude such runs.")
    if matched and len({len(runs) for runs in (*points_a, *points_b)}) > 1:
        raise UsageError("Expected as many seeds at every point to match them, got unequal ones.")
    return Ledger(tuple(tuple(_cell(a, b, matched) for b in points_b) for a in points_a))


def _cell(a: np.ndarray, b: np.ndarray, matched: bool) -> Dominance:
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    pairs = dominates(a, b) if matched else dominates(a[:, None], b[None, :])
    return Dominance(
        mean_dominates=bool(dominates(mean_a, mean_b)),
        mean_strictly=bool((mean_a < mean_b).all()),
        share_of_pairs=float(pairs.mean()),
    )
