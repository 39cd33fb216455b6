"""Priorities from independent uniform numbers: stick-breaking, uniform on the simplex."""

from collections.abc import Sequence

from mtl.strict import canonical_float
from sweeps.plan import simplex_lattice

LEAST_PRIORITY = 0.02
"""No task is given less: at a priority of nearly 0 a task is not learnt, whatever the method."""

Point = tuple[float, ...]


def priorities_of(units: Sequence[float]) -> Point:
    """Return priorities that are uniform over the simplex for independent uniform `units`.

    A stick of length 1 is broken one task at a time: of what is left, task i takes the share
    1 - (1 - u_i)^(1 / (K - i)), i from 1 to K - 1, and the last task takes the rest. With K tasks
    such a share has the density (K - i) (1 - share)^(K - i - 1), which makes the priorities'
    joint density constant, that is Dirichlet(1, ..., 1). Then the simplex is shrunk towards its
    centre so that every priority is at least `LEAST_PRIORITY`, which keeps the density constant.

    Args:
        units: K - 1 numbers from 0 to 1.

    Returns:
        K positive numbers that sum to 1, to 12 digits.
    """
    num_tasks = len(units) + 1
    rest, pieces = 1.0, []
    for position, unit in enumerate(units):
        share = 1 - (1 - unit) ** (1 / (num_tasks - 1 - position))
        pieces.append(rest * share)
        rest *= 1 - share
    free = 1 - num_tasks * LEAST_PRIORITY
    return tuple(canonical_float(LEAST_PRIORITY + free * piece) for piece in (*pieces, rest))


def units_of(priorities: Sequence[float]) -> tuple[float, ...]:
    """Return the units of which `priorities_of` makes these priorities."""
    num_tasks = len(priorities)
    free = 1 - num_tasks * LEAST_PRIORITY
    rest, units = 1.0, []
    for position, priority in enumerate(priorities[:-1]):
        piece = (priority - LEAST_PRIORITY) / free
        units.append(1 - (1 - piece / rest) ** (num_tasks - 1 - position))
        rest -= piece
    return tuple(canonical_float(unit) for unit in units)


def tuning_points(num_tasks: int) -> tuple[Point, ...]:
    """Return the few priorities at which nuisance parameters are tuned.

    One for each task, which has twice the priority of every other: (2/3, 1/3) and (1/3, 2/3).
    """
    lattice = simplex_lattice(num_tasks, num_tasks + 1)[::-1]
    return tuple(tuple(map(canonical_float, point)) for point in lattice)
