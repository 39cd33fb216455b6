"""What the runs carry: a permutation test on hypervolume, its smallest reachable p, Holm.

Runs of one seed share their initial weights, data order and flips at every priority and in every
method, so a seed with all its priorities is one observation, and methods are matched by seed. The
null hypothesis is that the two methods' labels are exchangeable seed by seed: exchanging the two
methods' runs of a seed, at all priorities at once, leaves the joint distribution as it is. The
unit of relabelling is therefore the whole seed. What a seed adds to a method at all priorities
(an effect of method x seed) is noise under this null, where relabelling single runs would take it
for many independent observations of one difference.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.axes import Axis
from analysis.fronts import OperatingPoint, Reference, minimised, minimised_hypervolume

SIGNIFICANCE = 0.05
"""A winner is named only below this p (after Holm where several pairs are compared); with one
pair that takes at least 6 seeds."""
MOST_ENUMERATED = 2**13
"""Relabellings are enumerated up to this many (13 seeds); beyond, as many are drawn."""
FEWEST_RESAMPLED = 3
"""Seeds below which no interval is made by resampling them: of two it looks far too sure."""
SAMPLING_SEED = 0
RELABELLED = "whole seeds"


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided test of a difference of hypervolumes by relabelling whole seeds."""

    difference: float
    """Hypervolume of the first method minus that of the second."""
    p: float
    smallest_p: float
    """What the most extreme outcome would have given with as many seeds."""
    num_relabellings: int
    num_seeds: int
    """Seeds that both methods have at every priority."""
    exact: bool
    """Every relabelling was counted; else they were drawn with `seed`."""
    seed: int | None
    relabelled: str = RELABELLED
    """The unit of relabelling."""


def why_not_comparable(
    points_a: Sequence[OperatingPoint], points_b: Sequence[OperatingPoint]
) -> str | None:
    """Return why two methods' hypervolumes must not be compared, or None if they may.

    Hypervolume grows with the number of points, so only equal priority grids are compared; and
    methods are matched by seed, so both need the same seeds at every priority.
    """
    a, b = ({point.priorities: point.seeds for point in points} for points in (points_a, points_b))
    name_a, name_b = points_a[0].arm, points_b[0].arm
    if set(a) != set(b):
        return (
            f"{name_a} has {_count(len(a), 'priority', 'priorities')} and {name_b} {len(b)}, "
            f"{len(set(a) & set(b))} of them shared; more points alone raise a hypervolume"
        )
    uneven = sum(set(a[priorities]) != set(b[priorities]) for priorities in a)
    if uneven:
        return (
            f"{name_a} and {name_b} have different seeds at "
            f"{_count(uneven, 'priority', 'priorities')}; they are matched by seed"
        )
    if len({frozenset(seeds) for seeds in a.values()}) > 1:
        return (
            f"{name_a} and {name_b} do not have the same seeds at every priority; whole seeds "
            "are relabelled"
        )
    return None


def hypervolume_test(
    runs_a: np.ndarray, runs_b: np.ndarray, reference: Reference, axes: Sequence[Axis]
) -> PermutationTest:
    """Test whether the hypervolumes of two methods' per-priority means differ.

    Args:
        runs_a: single runs (priorities, seeds, axes) in metric units.
        runs_b: the same of the other method, its priorities and seeds in the same order.
        reference: for the hypervolume.
        axes: of the last dimension.

    Raises:
        ValueError: for unequal shapes.
    """
    if np.shape(runs_a) != np.shape(runs_b) or np.ndim(runs_a) != 3:
        raise ValueError(
            "Expected equal priorities and seeds for both methods, got runs of shapes "
            f"{np.shape(runs_a)} and {np.shape(runs_b)}."
        )
    a, b = minimised(runs_a, axes), minimised(runs_b, axes)
    corner = minimised(np.array(reference.point), axes)
    num_seeds = a.shape[1]
    exact = 2**num_seeds <= MOST_ENUMERATED
    exchanged = _all_patterns(num_seeds) if exact else _drawn_patterns(num_seeds)
    differences = np.array(
        [
            minimised_hypervolume(np.where(pattern, b, a).mean(axis=1), corner)
            - minimised_hypervolume(np.where(pattern, a, b).mean(axis=1), corner)
            for pattern in exchanged[:, None, :, None]
        ]
    )
    observed = float(differences[0])
    # Equal differences reached in another order of summation must count as equal.
    slack = 1e-9 * max(np.abs(differences).max(), 1e-300)
    return PermutationTest(
        difference=observed,
        p=float((np.abs(differences) >= abs(observed) - slack).mean()),
        smallest_p=smallest_p(num_seeds),
        num_relabellings=len(differences),
        num_seeds=num_seeds,
        exact=exact,
        seed=None if exact else SAMPLING_SEED,
    )


def smallest_p(num_seeds: int) -> float:
    """Return the smallest two-sided p that relabelling so many whole seeds can reach.

    2 / 2^seeds: exchanging all labels turns the sign of the difference, so every value of its
    size occurs at least twice. Where relabellings are drawn, one of them is the true one.
    """
    num_all = 2**num_seeds
    return min(1.0, 2 / num_all) if num_all <= MOST_ENUMERATED else 1 / MOST_ENUMERATED


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number (Holm 1979, step-down), in their order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _all_patterns(num_seeds: int) -> np.ndarray:
    """Return which seeds are exchanged, (2^seeds, seeds) of bool, the true labels first."""
    return np.array(list(itertools.product((False, True), repeat=num_seeds)))


def _drawn_patterns(num_seeds: int) -> np.ndarray:
    """Return as `_all_patterns` does, for `MOST_ENUMERATED` drawn ones, the true labels first."""
    generator = np.random.default_rng(SAMPLING_SEED)
    patterns = generator.random((MOST_ENUMERATED, num_seeds)) < 0.5
    patterns[0] = False
    return patterns


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
