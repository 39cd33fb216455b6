"""Which runs: simplex lattices and axes -> an ordered list of RunSpecs; no torch, no ray.

The order is coarse to fine, so that a sweep that is stopped is already useful: seed 0 before
seed 1; within a seed the middle priority first, then whichever lies farthest from those before
it; and at each priority all methods side by side.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mtl.methods import METHODS, check_method
from mtl.names import checked_name
from mtl.spec import PERIOD_FIELDS, SHARING_NOTHING, TASKS, NetworkSpec, RunSpec
from sweeps.fields import nested, varying_fields

CROSS_STITCH_FIELD = "network.cross_stitch_own_share"

MOST_RUNS = 100_000
"""Of one grid; more is a slip of the finger, and would take minutes to even list."""

Point = tuple[float, ...]


def simplex_lattice(num_tasks: int, divisions: int, interior: bool = True) -> tuple[Point, ...]:
    """Return all points of the simplex whose coordinates are multiples of 1/divisions.

    There are C(divisions - 1, num_tasks - 1) interior points, in which no coordinate is 0, and
    C(divisions + num_tasks - 1, num_tasks - 1) in all; they come in lexicographic order.

    Raises:
        ValueError: for less than one task or division, or too few divisions for an interior.
    """
    return tuple(
        tuple(count / divisions for count in counts)
        for counts in _lattice_counts(num_tasks, divisions, interior)
    )


def _lattice_counts(num_tasks: int, divisions: int, interior: bool) -> list[tuple[int, ...]]:
    if num_tasks < 1 or divisions < 1:
        raise ValueError(
            f"Expected at least 1 task and 1 division, got {num_tasks} and {divisions}."
        )
    if interior and divisions < num_tasks:
        raise ValueError(
            f"Expected at least {num_tasks} divisions, one for each of {num_tasks} tasks, got "
            f"{divisions}: with fewer no point of the lattice gives every task a priority. "
            f"Use --divisions {num_tasks} or more."
        )
    # Cuts of a stick of whole units: every piece at least 1 long, or made so by adding 1 to each.
    length = divisions if interior else divisions + num_tasks
    shift = 0 if interior else 1
    return [
        tuple(b - a - shift for a, b in itertools.pairwise((0, *cuts, length)))
        for cuts in itertools.combinations(range(1, length), num_tasks - 1)
    ]


def coarse_to_fine(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return `points` with the most central first, then always the one farthest from the others.

    Distances are compared after rounding, so that the order is the same on every machine; of
    equally far points the first given is taken.
    """
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


def _squared_distances(coordinates: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.round(((coordinates - point) ** 2).sum(axis=1), 9)


@dataclass(frozen=True)
class Plan:
    """An ordered list of distinct runs."""

    name: str
    """Of the sweep: its folder in the store."""
    kind: str
    """Which sweep file made it."""
    specs: tuple[RunSpec, ...]
    run_ids: tuple[str, ...]
    """Of `specs`, in the same order."""
    varies: dict[str, list[Any]]
    """Dotted field -> its values, for the fields in which the runs differ."""


def make_plan(name: str, kind: str, specs: Iterable[RunSpec]) -> Plan:
    """Return the plan of `specs`; of several specs with one run id the first stays."""
    by_id: dict[str, RunSpec] = {}
    for spec in specs:
        by_id.setdefault(spec.run_id(), spec)
    kept = tuple(by_id.values())
    return Plan(name, kind, kept, tuple(by_id), varying_fields(kept))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of these is a run."""

    task_sets: tuple[tuple[str, ...], ...]
    methods: tuple[str, ...]
    divisions: int
    """The priorities are the interior of the simplex lattice with this many divisions."""
    seeds: int
    """Seeds 0 to seeds - 1."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Dotted RunSpec field -> value in every run; of an option that a method does not take, or
    a loss unit of a task that is not trained, nothing is said."""
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Dotted RunSpec field -> values that the user asked for. `priorities` replaces the lattice;
    its points follow the order in which the tasks were given."""


def grid_specs(grid: Grid) -> list[RunSpec]:
    """Return the runs of a grid, coarse to fine.

    A method that takes no priorities appears once a seed; an option of a method, or a loss unit
    of a task, is an axis of those runs alone that know it.

    Raises:
        ValueError: for unknown names, an option that no chosen method takes, or a combination
            that cannot be trained.
    """
    check_grid(grid)
    axes = {name: values for name, values in grid.axes.items() if name != "priorities"}
    orders = [_points(grid, tasks) for tasks in grid.task_sets]
    specs = []
    firsts: dict[tuple[Any, ...], RunSpec] = {}  # reading plain values takes longer than changing
    for seed, rank in itertools.product(range(grid.seeds), range(max(map(len, orders)))):
        for (tasks, points), values in itertools.product(
            zip(map(_canonical, grid.task_sets), orders, strict=True),
            itertools.product(*axes.values()),
        ):
            if rank >= len(points):
                continue
            for method in dict.fromkeys(grid.methods):
                takes = METHODS[method].takes_priorities
                chosen = {**grid.fields, **dict(zip(axes, values, strict=True))}
                if _can_be_trained(method, chosen) and (takes or rank == 0):
                    priorities = points[rank] if takes else None
                    first = firsts.get((tasks, values, method))
                    if first is None:
                        fields = {**_applicable(chosen, method, tasks), "tasks": tasks}
                        fields |= {"method": method, "priorities": priorities, "seed": seed}
                        first = RunSpec.from_dict(nested(fields))
                        firsts[tasks, values, method] = first
                    specs.append(replace(first, priorities=priorities, seed=seed))
    return specs


def _architectures(grid: Grid) -> tuple[str, ...]:
    held = grid.fields.get("network.architecture", NetworkSpec.architecture)
    return tuple(grid.axes.get("network.architecture", (held,)))


def _can_be_trained(method: str, fields: Mapping[str, Any]) -> bool:
    """Return False for a method that compares gradients where no parameter is shared."""
    architecture = fields.get("network.architecture", NetworkSpec.architecture)
    return not (METHODS[method].needs_gradients and architecture in SHARING_NOTHING)


def left_out(grid: Grid) -> list[str]:
    """Return a sentence for each method and architecture that do not go together."""
    return [
        f"{method} is left out for {architecture}, which shares no parameters at which the tasks' "
        "gradients could be compared."
        for architecture in _architectures(grid)
        for method in dict.fromkeys(grid.methods)
        if not _can_be_trained(method, {"network.architecture": architecture})
    ]


def _canonical(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Return `tasks` in the registry's order, so that one set is one set however it is typed."""
    return tuple(sorted(tasks, key=TASKS.index))


def _points(grid: Grid, tasks: tuple[str, ...]) -> tuple[Point, ...]:
    if not any(METHODS[method].takes_priorities for method in grid.methods):
        return ((),)
    given = grid.axes.get("priorities")
    if given is None:
        return coarse_to_fine(simplex_lattice(len(tasks), grid.divisions))
    for point in given:
        if len(point) != len(tasks):
            raise ValueError(
                f"Expected {len(tasks)} priorities, one for each of {list(tasks)}, got "
                f"{list(point)}."
            )
    order = [tasks.index(task) for task in _canonical(tasks)]
    return coarse_to_fine(tuple(point[i] for i in order) for point in given)


def _applicable(fields: Mapping[str, Any], method: str, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return `fields` without what has no meaning for this method, network and tasks."""
    needs = METHODS[method]
    known = {
        *(f"method_options.{name}" for name in needs.options),
        *(f"loss_units.{task}" for task in tasks),
    }
    meaningless = set() if needs.has_periods else set(PERIOD_FIELDS)
    if fields.get("network.architecture", NetworkSpec.architecture) != "multi_column":
        meaningless.add(CROSS_STITCH_FIELD)
    return {
        name: value
        for name, value in fields.items()
        if name in known
        or not (name.startswith(("method_options.", "loss_units.")) or name in meaningless)
    }


def check_grid(grid: Grid) -> None:
    """Raise a `ValueError` for names that do not exist or that nothing chosen makes use of."""
    for method in grid.methods:
        check_method(method)
    for tasks in grid.task_sets:
        for task in tasks:
            checked_name(task, TASKS, "task")
        if len(set(tasks)) != len(tasks):
            raise ValueError(f"Expected distinct tasks, got {' '.join(tasks)}.")
    if not grid.methods or not grid.task_sets or not all(grid.task_sets):
        raise ValueError("Expected at least one method and one task, got none.")
    if grid.seeds < 1:
        raise ValueError(f"Expected at least 1 seed, got {grid.seeds}.")
    known = {name for method in grid.methods for name in METHODS[method].options}
    tasks_used = {task for tasks in grid.task_sets for task in tasks}
    for dotted in grid.axes:
        mapping, _, entry = dotted.partition(".")
        if mapping == "method_options":
            checked_name(entry, known, f"option of {' and '.join(grid.methods)}")
        if mapping == "loss_units":
            checked_name(entry, tasks_used, "task of loss_units")
        if dotted == CROSS_STITCH_FIELD and "multi_column" not in _architectures(grid):
            raise ValueError(
                f"Expected architecture multi_column for {dotted}, got "
                f"{' and '.join(_architectures(grid))}. Leave it out."
            )
        if dotted in PERIOD_FIELDS and not any(METHODS[m].has_periods for m in grid.methods):
            raise ValueError(
                f"Expected a method with periods for {dotted}, got {' and '.join(grid.methods)}. "
                "Leave the period out."
            )
    takers = [method for method in grid.methods if METHODS[method].takes_priorities]
    if "priorities" in grid.axes and not takers:
        raise ValueError(
            f"Expected no priorities for {' and '.join(grid.methods)}, which take none, got "
            f"{[list(point) for point in grid.axes['priorities']]}. Leave them out."
        )
    if len(left_out(grid)) == len(_architectures(grid)) * len(set(grid.methods)):
        raise ValueError(
            f"Expected an architecture that shares parameters for {' and '.join(grid.methods)}, "
            f"got {' and '.join(_architectures(grid))}. Add another."
        )
    num_runs = _num_runs(grid)
    if num_runs > MOST_RUNS:
        raise ValueError(
            f"Expected a grid of at most {MOST_RUNS:,} runs, got {num_runs:,}. Use fewer "
            "--divisions, --seeds or values."
        )


def _num_runs(grid: Grid) -> int:
    """Return the number of combinations, without listing them; distinct runs may be fewer."""
    num_values = math.prod(
        len(values) for name, values in grid.axes.items() if name != "priorities"
    )
    methods = [METHODS[method] for method in dict.fromkeys(grid.methods)]
    num_takers = sum(method.takes_priorities for method in methods)
    given = grid.axes.get("priorities")
    num_points = (
        math.comb(max(0, grid.divisions - 1), len(tasks) - 1) if given is None else len(given)
        for tasks in grid.task_sets
    )
    per_seed = sum(num_takers * points + len(methods) - num_takers for points in num_points)
    return grid.seeds * num_values * per_seed
