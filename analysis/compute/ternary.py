"""Three tasks at once: places in the triangle of priorities, differences and winners there.

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


@dataclass(frozen=True)
class Winner:
    """Which method is best on one axis at one priority, and in how many of the seeds."""

    priorities: tuple[float, ...]
    arm: str | None
    """None where no method alone is ahead, neither by seeds nor, where those tie, by means."""
    agreeing: float
    """Share of the seeds in which the winner alone is best; 0 without a winner."""
    num_seeds: int


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
    for key in _settings(runs, arm_a):
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


def winners(
    runs: Runs, arms: Sequence[str], axes: Sequence[Axis], index: int
) -> tuple[Winner, ...]:
    """Return the winner on axis `index` at every priority that all of `arms` have.

    The winner is the method that alone is best in more of the seeds that all have than any other;
    where two are best in equally many, the better mean decides, and where that is equal too there
    is none.
    """
    if not arms:
        return ()
    sign = -float(signs(axes)[index])
    found = []
    for key in _settings(runs, arms[0]):
        held = [runs.get((arm, key), {}) for arm in arms]
        seeds = shared_seeds(held)
        if not seeds:
            continue
        scores = sign * np.array([[of[seed][index] for seed in seeds] for of in held])
        best = scores == scores.max(axis=0)
        alone = best & (best.sum(axis=0) == 1)
        counts = alone.sum(axis=1)
        leading = np.flatnonzero(counts == counts.max())
        if len(leading) > 1 and counts.max() > 0:
            means = scores[leading].mean(axis=1)
            leading = leading[means == means.max()]
        won = len(leading) == 1 and counts.max() > 0
        found.append(
            Winner(
                key,
                arms[int(leading[0])] if won else None,
                float(counts.max() / len(seeds)) if won else 0.0,
                len(seeds),
            )
        )
    return tuple(found)


def _settings(runs: Runs, arm: str) -> list[tuple[float, ...]]:
    return sorted(key for name, key in runs if name == arm and key is not None)
