"""Three tasks at once: places in the triangle of priorities, and differences of methods there.

The corners of the triangle are the tasks; a setting stands where its three priorities say, at a
corner if one task had all of it. Nothing here reads files or draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.load.axes import Axis, signs
from analysis.load.matched import Runs, shared_seeds
from mtl.errors import UsageError

CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, math.sqrt(3) / 2))
"""Of the triangle with sides of length 1: first task left, second right, third above."""


@dataclass(frozen=True)
class Difference:
    """How much better one method is than another at one priority, over the seeds of both."""

    priorities: tuple[float, ...]
    seeds: tuple[int, ...]
    gains: tuple[float, ...]
    """One an axis, in metric units: positive where the first method is better."""
    seeds_better: tuple[float, ...]
    """One an axis: share of the seeds in which the first method is better; a tie counts half."""


def in_triangle(priorities: np.ndarray) -> np.ndarray:
    """Return where settings stand in the triangle of `CORNERS`.

    Args:
        priorities: (n, 3), none negative, each row with a sum above 0 (rounded ones are scaled to
            sum 1).

    Returns:
        (n, 2) coordinates.

    Raises:
        ValueError: for other shapes, values that are not finite, or negative ones.
    """
    shares = np.asarray(priorities, dtype=np.float64)
    if shares.ndim != 2 or shares.shape[1] != 3:
        raise UsageError(f"Expected three priorities a setting, got shape {shares.shape}.")
    sums = shares.sum(axis=1, keepdims=True)
    if not np.isfinite(shares).all() or (shares < 0).any() or (sums <= 0).any():
        raise UsageError("Expected priorities of 0 or more with a sum above 0, finite.")
    return np.asarray(shares / sums @ np.array(CORNERS))


def differences(runs: Runs, arm_a: str, arm_b: str, axes: Sequence[Axis]) -> tuple[Difference, ...]:
    """Return by how much `arm_a` is better at every priority that both methods have.

    Only seeds that both have there are counted; a priority without any is left out.
    """
    found = []
    for key in sorted(key for arm, key in runs if arm == arm_a and key is not None):
        pair = (runs[(arm_a, key)], runs.get((arm_b, key), {}))
        seeds = shared_seeds(pair)
        if not seeds:
            continue
        # Turned so that higher is better.
        gains = -signs(axes) * np.array([pair[0][seed] - pair[1][seed] for seed in seeds])
        better = (gains > 0) + 0.5 * (gains == 0)
        found.append(
            Difference(
                key,
                tuple(seeds),
                tuple(map(float, gains.mean(axis=0))),
                tuple(map(float, better.mean(axis=0))),
            )
        )
    return tuple(found)
