"""Priorities on the simplex: the lattice, and the order in which its points are trained."""

import heapq
import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtl.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, ...]
"""One number a task; they sum to 1."""
DISTANCE_DIGITS = 9
"""To which distances are compared, so that rounding tells no two apart."""


def simplex_lattice(num_tasks: int, divisions: int, interior: bool = True) -> tuple[Point, ...]:
    """Return all points of the simplex whose coordinates are multiples of 1/divisions.

    There are C(divisions - 1, num_tasks - 1) interior points, in which no coordinate is 0, and
    C(divisions + num_tasks - 1, num_tasks - 1) in all; they come in lexicographic order.

    Raises:
        UsageError: for less than one task or division, or too few divisions for an interior.
    """
    if num_tasks < 1 or divisions < 1:
        raise UsageError(
            f"Expected at least 1 task and 1 division, got {num_tasks} and {divisions}."
        )
    if interior and divisions < num_tasks:
        raise UsageError(
            f"Expected at least {num_tasks} divisions, one for each of {num_tasks} tasks, got "
            f"{divisions}: with fewer no point of the lattice gives every task a priority. "
            f"Use --divisions {num_tasks} or more."
        )
    # Cuts of a stick of whole units: every piece at least 1 long, or made so by adding 1 to each.
    length = divisions if interior else divisions + num_tasks
    shift = 0 if interior else 1
    return tuple(
        tuple((b - a - shift) / divisions for a, b in itertools.pairwise((0, *cuts, length)))
        for cuts in itertools.combinations(range(1, length), num_tasks - 1)
    )


def coarse_to_fine(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return `points` with the most central first, then always the one farthest from the others.

    Distances are compared after rounding, so that the order is the same on every machine; of
    equally far points the first given is taken.
    """
    import numpy as np  # a tenth of a second, which --help need not wait for

    remaining = list(points)
    if len(remaining) < 3:
        return tuple(remaining)
    coordinates = np.array(remaining)
    centre = coordinates.mean(axis=0)
    order = [int(np.argmin(_squared_distances(coordinates, centre)))]
    nearest = _squared_distances(coordinates, coordinates[order[0]])
    # Distances to the chosen points only shrink, so that what the queue holds are upper bounds:
    # its head is the farthest point once its bound is up to date.
    queue = [(-d, i) for i, d in enumerate(nearest.tolist()) if i != order[0]]
    heapq.heapify(queue)
    by_first = np.argsort(coordinates[:, 0], kind="stable")
    sorted_coordinates = coordinates[by_first]
    while queue:
        bound, index = queue[0]
        current = -float(nearest[index])
        if bound != current:
            heapq.heapreplace(queue, (current, index))
            continue
        heapq.heappop(queue)
        order.append(index)
        # No point is farther from the chosen than this one was, so only those that are nearer
        # to it than that can have come nearer; they lie in a slab of the first coordinate.
        reach = math.sqrt(1e-8 - bound)
        middle = coordinates[index, 0]
        low, high = np.searchsorted(
            sorted_coordinates[:, 0], (middle - reach, middle + reach)
        ).tolist()
        near = by_first[low:high]
        distances = _squared_distances(sorted_coordinates[low:high], coordinates[index])
        nearest[near] = np.minimum(nearest[near], distances)
    return tuple(remaining[i] for i in order)


def neighbours(points: Iterable[Point]) -> list[tuple[Point, Point]]:
    """Return the pairs of distinct points that lie beside each other, the first in sorted order.

    Of two tasks these follow each other on their line; of more they are the pairs at the least
    distance, which on the lattice have one division moved from one task to another.
    """
    held = sorted(set(points))
    if not held or len(held[0]) <= 2:
        return list(itertools.pairwise(held))
    distances = {
        pair: round(math.dist(*pair), DISTANCE_DIGITS) for pair in itertools.combinations(held, 2)
    }
    least = min(distances.values(), default=0.0)
    return [pair for pair, distance in distances.items() if distance == least]


def _squared_distances(coordinates: "np.ndarray", point: "np.ndarray") -> "np.ndarray":
    return ((coordinates - point) ** 2).sum(axis=1).round(DISTANCE_DIGITS)
