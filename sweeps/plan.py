"""Which runs: simplex lattices and axes -> an ordered list of RunSpecs; no torch, no ray.

The order is coarse to fine, so that a sweep that is stopped is already useful: seed 0 before
seed 1; within a seed the middle priority first, then whichever lies farthest from those before
it; and at each priority all methods side by side.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtl.names import checked_name
from mtl.spec import METHODS, TASKS, RunSpec
from sweeps.fields import nested, varying_fields

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

    Distances are compared after rounding, so that the order is the same on every machine.
    """
    remaining = list(points)
    if len(remaining) < 3:
        return tuple(remaining)
    coordinates = np.array(remaining)
    centre = coordinates.mean(axis=0)
    next_index = int(np.argmin(np.round(((coordinates - centre) ** 2).sum(axis=1), 9)))
    nearest = np.full(len(remaining), np.inf)
    order = []
    for _ in remaining:
        order.append(next_index)
        distances = ((coordinates - coordinates[next_index]) ** 2).sum(axis=1)
        nearest = np.minimum(nearest, np.round(distances, 9))
        nearest[next_index] = -1.0
        next_index = int(np.argmax(nearest))
    return tuple(remaining[i] for i in order)


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
    for seed, rank in itertools.product(range(grid.seeds), range(max(map(len, orders)))):
        for (tasks, points), values in itertools.product(
            zip(map(_canonical, grid.task_sets), orders, strict=True),
            itertools.product(*axes.values()),
        ):
            if rank >= len(points):
                continue
            chosen = {**grid.fields, **dict(zip(axes, values, strict=True)), "seed": seed}
            for method in dict.fromkeys(grid.methods):
                takes = METHODS[method].takes_priorities
                if takes or rank == 0:
                    fields = {**_applicable(chosen, method, tasks), "tasks": tasks}
                    fields |= {"method": method, "priorities": points[rank] if takes else None}
                    specs.append(RunSpec.from_dict(nested(fields)))
    return specs


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
    """Return `fields` without the options of other methods and units of other tasks."""
    known = {
        *(f"method_options.{name}" for name in METHODS[method].options),
        *(f"loss_units.{task}" for task in tasks),
    }
    return {
        name: value
        for name, value in fields.items()
        if name in known or not name.startswith(("method_options.", "loss_units."))
    }


def check_grid(grid: Grid) -> None:
    """Raise a `ValueError` for names that do not exist or that nothing chosen makes use of."""
    for method in grid.methods:
        checked_name(method, METHODS, "method")
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
    takers = [method for method in grid.methods if METHODS[method].takes_priorities]
    if "priorities" in grid.axes and not takers:
        raise ValueError(
            f"Expected no priorities for {' and '.join(grid.methods)}, which take none, got "
            f"{[list(point) for point in grid.axes['priorities']]}. Leave them out."
        )
