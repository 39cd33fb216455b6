"""A front between its priorities: each metric as a polynomial of the priorities, with its error.

A Bezier simplex (Kobayashi et al. 2019, doi:10.1609/aaai.v33i01.33012304): where a method's metrics
change smoothly with the priorities, its front is near the image of the simplex under Bernstein
polynomials. The control points are fitted by least squares for each seed alone, so the mean over
seeds is the curve of the means, and the seeds' spread says how sure it is. What the polynomial
cannot follow is found by leaving out each priority in turn and predicting it from the others.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.compute.inference import LEVEL, MIN_SEEDS

MAX_DEGREE = 3
NUM_BETWEEN = 3
"""Priorities told between two neighbours, where an interval is looked for."""


@dataclass(frozen=True)
class Fitted:
    """Metrics of a method as a function of the priorities."""

    degree: int
    control_points: np.ndarray
    """(terms, seeds, axes), in metric units."""
    held_out: np.ndarray
    """(priorities, seeds, axes): predicted without the priority, minus seen; NaN at those that give
    a task the most, which lie beyond the others."""

    def at(self, priorities: np.ndarray) -> np.ndarray:
        """Return the metrics (points, seeds, axes) at priorities (points, tasks) that sum to 1."""
        return _on(bernstein(priorities, self.degree), self.control_points)

    def half_widths(self, priorities: np.ndarray) -> np.ndarray | None:
        """Return half the width (points, axes) of the mean's interval; None for too few seeds.

        Over seeds, by Student's t; what the polynomial cannot follow is not in it.
        """
        values = self.at(priorities)
        num_seeds = values.shape[1]
        if num_seeds < MIN_SEEDS:
            return None
        quantile = float(stats.t.ppf((1 + LEVEL) / 2, num_seeds - 1))
        return quantile * values.std(axis=1, ddof=1) / math.sqrt(num_seeds)

    @property
    def held_out_errors(self) -> np.ndarray:
        """Root mean square (axes,) over the priorities left out, of the means over seeds."""
        means = self.held_out.mean(axis=1)
        return np.sqrt(np.nanmean(means**2, axis=0))


def bernstein(priorities: np.ndarray, degree: int) -> np.ndarray:
    """Return the Bernstein polynomials (points, terms) of a degree at (points, tasks)."""
    num_tasks = priorities.shape[1]
    terms = []
    for powers in _powers(num_tasks, degree):
        factor = math.factorial(degree) / math.prod(map(math.factorial, powers))
        terms.append(factor * np.prod(priorities ** np.array(powers), axis=1))
    return np.stack(terms, axis=1)


def fitted(priorities: Sequence[Sequence[float]], metrics: np.ndarray) -> Fitted | None:
    """Return the polynomial of the degree that predicts priorities left out best.

    Args:
        priorities: (n, tasks), distinct.
        metrics: (n, seeds, axes), finite.

    Returns:
        None where no priority can be left out: none lies between the others, or these do not
        determine a line.
    """
    points = np.asarray(priorities, dtype=float)
    inner = np.flatnonzero((points < points.max(axis=0)).all(axis=1))
    found = []
    for degree in range(1, MAX_DEGREE + 1):
        basis = bernstein(points, degree)
        num_terms = basis.shape[1]
        held_out = np.full(metrics.shape, np.nan)
        rests = {left_out: np.arange(len(points)) != left_out for left_out in inner}
        if any(np.linalg.matrix_rank(basis[rest]) < num_terms for rest in rests.values()):
            break
        for left_out, rest in rests.items():
            predicted = _on(basis[[left_out]], _solved(basis[rest], metrics[rest]))[0]
            held_out[left_out] = predicted - metrics[left_out]
        found.append(Fitted(degree, _solved(basis, metrics), held_out))
    if not len(inner) or not found:
        return None
    scale = np.ptp(metrics.mean(axis=1), axis=0)
    scale[scale == 0] = 1.0

    def error(held: Fitted) -> float:
        return float(np.square(held.held_out_errors / scale).sum())

    return min(found, key=error)


def least_sure(held: Fitted, priorities: np.ndarray) -> int | None:
    """Return which of the priorities (points, tasks) has the widest interval, over its range.

    See `relative_widths`; None for too few seeds.
    """
    widths = relative_widths(held, priorities)
    return None if widths is None else int(widths.argmax())


def relative_widths(held: Fitted, priorities: np.ndarray) -> np.ndarray | None:
    """Return the intervals (points,) at priorities (points, tasks) over what the metrics span.

    Summed over the axes; None for too few seeds.
    """
    widths = held.half_widths(priorities)
    if widths is None:
        return None
    span = np.ptp(held.at(priorities).mean(axis=1), axis=0)
    span[span == 0] = 1.0
    return (widths / span).sum(axis=1)


def between(priorities: np.ndarray) -> np.ndarray:
    """Return priorities (points, tasks) that divide the way between the nearest trained ones."""
    distances = np.linalg.norm(priorities[:, None] - priorities[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    first, second = np.nonzero(distances <= distances.min(axis=1, keepdims=True) * 1.5)
    shares = np.arange(1, NUM_BETWEEN + 1)[:, None, None] / (NUM_BETWEEN + 1)
    points = (1 - shares) * priorities[first] + shares * priorities[second]
    return np.unique(points.reshape(-1, priorities.shape[1]).round(12), axis=0)


def standard_errors(metrics: np.ndarray) -> np.ndarray:
    """Return those (axes,) of the means over seeds of metrics (priorities, seeds, axes).

    Root mean square over the priorities; of two seeds at least.
    """
    return np.sqrt(metrics.var(axis=1, ddof=1).mean(axis=0) / metrics.shape[1])


def _powers(num_tasks: int, degree: int) -> list[tuple[int, ...]]:
    every = itertools.product(range(degree + 1), repeat=num_tasks)
    return [powers for powers in every if sum(powers) == degree]


def _on(basis: np.ndarray, control_points: np.ndarray) -> np.ndarray:
    return np.einsum("pt,tsa->psa", basis, control_points)


def _solved(basis: np.ndarray, metrics: np.ndarray) -> np.ndarray:
    """Return the control points (terms, seeds, axes) that fit best."""
    solution = np.linalg.lstsq(basis, metrics.reshape(len(metrics), -1))[0]
    return solution.reshape(-1, *metrics.shape[1:])
