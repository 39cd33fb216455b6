"""What does a method give untuned? Equal priorities against the best of a rival's whole grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.axes import Axis, signs
from analysis.fronts import minimised
from analysis.intervals import student_interval
from analysis.ledger import dominates


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
        raise ValueError(
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
