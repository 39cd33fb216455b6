"""Dominance of results: at least as good on every axis and better on one."""

import numpy as np

from analysis.compute.fronts import nondominated
from mtl.errors import UsageError


def dominates(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return whether `a` dominates `b`, over the last axis (..., axes), both minimised."""
    return np.asarray((a <= b).all(axis=-1) & (a < b).any(axis=-1))


def covered_by(means_a: np.ndarray, means_b: np.ndarray) -> np.ndarray:
    """Return which points of b some point of a dominates.

    Args:
        means_a: (num_points, axes), minimised, finite.
        means_b: of b.

    Returns:
        (num_points of b,) of bool; its mean is the coverage C(a, b).

    Raises:
        ValueError: for values that are not finite.
    """
    # A point that is dominated in a covers nothing that its better does not.
    front = means_a[nondominated(means_a)]
    if not np.isfinite(means_b).all():
        raise UsageError("Expected finite results, got NaN or infinity. Exclude such runs.")
    return np.array([bool(dominates(front, point).any()) for point in means_b], dtype=bool)
