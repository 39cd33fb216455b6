"""Which runs: priorities and axes -> an ordered list of RunSpecs; no torch, no ray.

The order is coarse to fine, so that a sweep that is stopped is already useful: seed 0 before
seed 1; within a seed the middle priority first, then whichever lies farthest from those before
it; and at each priority all methods side by side.
"""

import itertools
import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from mtl.errors import UsageError
from mtl.spec import PERIOD_FIELDS, RunSpec, Spec, equal_priorities, forked, mixed, trunk_of
from mtl.spec.methods import METHODS, check_method, needs_of
from mtl.spec.sections import SHARING_NOTHING, TASKS, NetworkSpec
from mtl.spec.tasks import check_task
from sweeps.plan.fields import nested, varying_fields
from sweeps.plan.lattice import Point, coarse_to_fine, neighbours, simplex_lattice

ARCHITECTURE_FIELD = "network.architecture"
CROSS_STITCH_FIELD = "network.cross_stitch_own_share"

MAX_RUNS = 100_000
"""Of one grid; more is a slip of the finger, and would take minutes to even list."""


AnySpec = TypeVar("AnySpec", bound=Spec)


@dataclass(frozen=True)
class Plan(Generic[AnySpec]):
    """An ordered list of distinct runs."""

    name: str
    """Of the sweep: its folder in the store."""
    kind: str
    """Which sweep file made it."""
    specs: tuple[AnySpec, ...]
    run_ids: tuple[str, ...]
    """Of `specs`, in the same order."""
    varies: dict[str, list[Any]]
    """Dotted field -> its values, for the fields in which the runs differ."""
    primary: tuple[str, ...] | None = None
    """See `mtl.store.plan_file.PlanFile`, as for the two below."""
    tuned: tuple[str, ...] = ()
    tuned_from: str | None = None

    @property
    def is_search(self) -> bool:
        """Return whether the runs are those of a search, which tunes its methods itself."""
        return bool(self.tuned) and self.tuned_from is None

    def of(self, specs: Iterable[AnySpec]) -> "Plan[AnySpec]":
        """Return the same sweep's plan of other runs."""
        plan = make_plan(self.name, self.kind, specs, self.primary)
        return replace(plan, tuned=self.tuned, tuned_from=self.tuned_from)

    @property
    def runs(self) -> dict[str, AnySpec]:
        """Return run id -> spec."""
        return dict(zip(self.run_ids, self.specs, strict=True))

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the top-level modules from outside that the runs name."""
        return tuple(sorted({module for spec in self.specs for module in spec.code}))

    def without(self, settled: Container[str]) -> dict[str, AnySpec]:
        """Return run id -> spec of the runs that are not in `settled`."""
        return {run_id: spec for run_id, spec in self.runs.items() if run_id not in settled}


def make_plan(
    name: str, kind: str, specs: Iterable[AnySpec], primary: tuple[str, ...] | None = None
) -> Plan[AnySpec]:
    """Return the plan of `specs`; of several specs with one run id the first stays."""
    by_id: dict[str, AnySpec] = {}
    for spec in specs:
        by_id.setdefault(spec.run_id(), spec)
    kept = tuple(by_id.values())
    return Plan(name, kind, kept, tuple(by_id), varying_fields(kept), primary)


def primary_of(methods: Sequence[str], asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the primary comparison: as asked, or the first two methods that take priorities.

    Empty where there are no two.

    Raises:
        UsageError: for anything but two different ones of the methods that take priorities.
    """
    takers = [method for method in methods if needs_of(method).takes_priorities]
    if asked is None:
        return tuple(takers[:2]) if len(takers) > 1 else ()
    if len(asked) != 2 or len({*asked} & {*takers}) != 2:
        raise UsageError(
            "Expected two methods of the sweep that take priorities as the primary comparison, "
            f"got {' and '.join(asked) or 'none'}. Those of this sweep: "
            f"{', '.join(takers) or 'none'}."
        )
    return tuple(asked)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A sweep's table: every combination of these is a run."""

    task_sets: tuple[tuple[str, ...], ...]
    methods: tuple[str, ...]
    divisions: int | None
    """The priorities are the interior of the simplex lattice with this many divisions; None: equal
    priorities, one point for any number of tasks."""
    seeds: int
    """Seeds 0 to seeds - 1."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Dotted RunSpec field -> value in every run; of an option that a method does not take, or
    a loss unit of a task that is not trained, nothing is said."""
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Dotted RunSpec field -> values that the user asked for. `priorities` replaces the lattice;
    its points follow the order in which the tasks were given."""
    baselines: bool = False
    """Whether each task is trained alone as well, see `baseline_grid`."""
    fork_at: float | None = None
    """Share of the epochs after which runs with priorities are forked from a trunk at equal ones,
    which those of a method and seed have in common; None: every run is trained from its start."""
    mixes: int = 0
    """Networks at equal steps between neighbouring forks, whose weights they mix: no training."""
    refine_by: str = "gaps"
    """By which rule `--refine` chooses, see `sweeps.plan.refine`."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Dotted RunSpec field -> its value under `--quick`, where the common one does not do."""
    primary: tuple[str, ...] | None = None
    """The two methods whose comparison is declared before training and stands without correction;
    None: the first two that take priorities."""
    tuned: Mapping[tuple[tuple[str, ...], str], Mapping[str, Any]] = field(default_factory=dict)
    """(tasks, method) -> dotted field -> value of that method's own, see `sweeps.plan.tuned`."""
    tuned_from: str | None = None
    """The sweep by which `tuned` was chosen."""

    @property
    def tuned_fields(self) -> tuple[str, ...]:
        """Return the dotted fields in which methods have values of their own."""
        return tuple(dict.fromkeys(name for held in self.tuned.values() for name in held))


def baseline_grid(grid: Grid) -> Grid:
    """Return the single-task runs of a grid: the corners of the simplex, where one task counts.

    Each task is alone in a network of its own; data, epochs, encoder, seeds and every other field
    are the grid's.
    """
    tasks = dict.fromkeys(task for task_set in grid.task_sets for task in task_set)
    return replace(
        grid,
        task_sets=tuple((task,) for task in tasks),
        methods=("equal",),
        primary=None,
        divisions=None,
        fields={**grid.fields, ARCHITECTURE_FIELD: "single_task"},
        axes={
            name: values
            for name, values in grid.axes.items()
            if name not in ("priorities", ARCHITECTURE_FIELD)
        },
        baselines=False,
    )


def grid_specs(grid: Grid) -> list[RunSpec]:
    """Return the runs of a grid, coarse to fine, the baselines of each seed after its others.

    Mixed runs follow after all others, as they take the weights of these.

    A method that takes no priorities appears once a seed; an option of a method, or a loss unit
    of a task, is an axis of those runs alone that know it.

    Raises:
        UsageError: see `check_grid`; or for a value that cannot be trained.
    """
    check_grid(grid)
    specs = _combinations(grid)
    if grid.baselines:
        specs += _combinations(baseline_grid(grid))
        specs.sort(key=lambda spec: spec.seed)
    return [*specs, *_mixed_between(specs, grid.mixes)]


def _mixed_between(specs: Iterable[RunSpec], number: int) -> list[RunSpec]:
    """Return so many runs between each pair of neighbouring forks, seed 0 before seed 1."""
    fronts: dict[str, dict[Point, RunSpec]] = {}
    for spec in specs if number else ():
        if spec.trunk is not None and spec.priorities is not None:
            front = replace(spec, priorities=None).run_id()
            fronts.setdefault(front, {})[spec.priorities] = spec
    return [
        mixed(front[first], front[second], step / (number + 1))
        for front in fronts.values()
        for first, second in neighbours(front)
        for step in range(1, number + 1)
    ]


def _combinations(grid: Grid) -> list[RunSpec]:
    axes = {name: values for name, values in grid.axes.items() if name != "priorities"}
    orders = [_points(grid, tasks) for tasks in grid.task_sets]
    specs = []
    firsts: dict[tuple[Any, ...], RunSpec] = {}  # reading plain values takes longer than changing
    for seed, rank in itertools.product(range(grid.seeds), range(max(map(len, orders)))):
        for (tasks, points), values in itertools.product(
            zip(map(canonical_tasks, grid.task_sets), orders, strict=True),
            itertools.product(*axes.values()),
        ):
            if rank >= len(points):
                continue
            for method in grid.methods:
                takes = needs_of(method).takes_priorities
                own = grid.tuned.get((tasks, method), {})
                chosen = {**grid.fields, **dict(zip(axes, values, strict=True)), **own}
                can_train = _obstacle(method, tasks, _architecture(chosen)) is None
                if can_train and (takes or rank == 0):
                    priorities = points[rank] if takes else None
                    first = firsts.get((tasks, values, method))
                    if first is None:
                        fields = {**_applicable(chosen, method, tasks), "tasks": tasks}
                        fields |= {"method": method, "priorities": priorities, "seed": seed}
                        first = RunSpec.from_dict(nested(fields))
                        firsts[tasks, values, method] = first
                    spec = replace(first, priorities=priorities, seed=seed)
                    if takes and grid.fork_at is not None:
                        spec = _fork(spec, grid.fork_at)
                    specs.append(spec)
    return specs


def _fork(spec: RunSpec, share: float) -> RunSpec:
    after = round(share * spec.epochs)
    if not 1 <= after < spec.epochs:
        raise UsageError(
            f"Expected --fork-at with at least one of {spec.epochs} epochs before and one after "
            f"it, got {share:g}. Train more epochs or leave it out."
        )
    return forked(spec, after)


def trunks_of(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return the distinct trunks that forked runs go on from, in order; mixed runs need none."""
    found: dict[str, RunSpec] = {}
    for spec in specs:
        if spec.trunk is not None and not spec.is_mixed and spec.trunk not in found:
            assert spec.forked_after is not None
            found[spec.trunk] = trunk_of(spec, spec.forked_after)
    return list(found.values())


def _architecture(fields: Mapping[str, Any]) -> str:
    return fields.get(ARCHITECTURE_FIELD, NetworkSpec.architecture)


def _architectures(grid: Grid) -> tuple[str, ...]:
    return tuple(grid.axes.get(ARCHITECTURE_FIELD, (_architecture(grid.fields),)))


def _obstacle(method: str, tasks: tuple[str, ...], architecture: str) -> str | None:
    """Return why a method cannot train these tasks with this architecture; None if it can."""
    needs = needs_of(method)
    if len(tasks) < needs.min_tasks:
        return f"{method} is left out for {' '.join(tasks)}: it needs {needs.min_tasks} tasks."
    if needs.needs_gradients and architecture in SHARING_NOTHING:
        return (
            f"{method} is left out for {architecture}: it compares the tasks' gradients at shared "
            "parameters, and none are shared."
        )
    return None


def left_out(grid: Grid) -> list[str]:
    """Return a sentence for each method that does not go with an architecture or set of tasks."""
    combinations = itertools.product(grid.methods, grid.task_sets, _architectures(grid))
    return list(dict.fromkeys(filter(None, itertools.starmap(_obstacle, combinations))))


def canonical_tasks(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Return `tasks` in the registry's order, so that one set is one set however it is typed.

    Those from outside come last, by name.
    """
    order = {task: at for at, task in enumerate(TASKS)}
    return tuple(sorted(tasks, key=lambda task: (order.get(task, len(order)), task)))


def _points(grid: Grid, tasks: tuple[str, ...]) -> tuple[Point, ...]:
    if not any(needs_of(method).takes_priorities for method in grid.methods):
        return ((),)
    given = grid.axes.get("priorities")
    if given is None:
        if grid.divisions is None:
            return (equal_priorities(tasks),)
        return coarse_to_fine(simplex_lattice(len(tasks), grid.divisions))
    for point in given:
        if len(point) != len(tasks):
            raise UsageError(
                f"Expected {len(tasks)} priorities, one for each of {list(tasks)}, got "
                f"{list(point)}."
            )
    order = [tasks.index(task) for task in canonical_tasks(tasks)]
    return coarse_to_fine(tuple(point[i] for i in order) for point in given)


def _applicable(fields: Mapping[str, Any], method: str, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return `fields` without what has no meaning for this method, network and tasks."""
    needs = needs_of(method)
    known = {
        *(f"method_options.{name}" for name in needs.options),
        *(f"loss_units.{task}" for task in tasks),
    }
    meaningless = set() if needs.has_periods else set(PERIOD_FIELDS)
    if not needs.takes_priorities:
        meaningless.add("priorities")
    if _architecture(fields) != "multi_column":
        meaningless.add(CROSS_STITCH_FIELD)
    return {
        name: value
        for name, value in fields.items()
        if name in known
        or not (name.startswith(("method_options.", "loss_units.")) or name in meaningless)
    }


def check_grid(grid: Grid) -> None:
    """Raise a `UsageError` for unknown names, fields that no run has, or nothing to train."""
    for method in grid.methods:
        check_method(method)
    for tasks in grid.task_sets:
        for task in tasks:
            check_task(task)
        if len(set(tasks)) != len(tasks):
            raise UsageError(f"Expected distinct tasks, got {' '.join(tasks)}.")
    if not grid.methods or not grid.task_sets or not all(grid.task_sets):
        raise UsageError("Expected at least one method and one task, got none.")
    if grid.seeds < 1:
        raise UsageError(f"Expected at least 1 seed, got {grid.seeds}.")
    check_once("method", grid.methods)
    primary_of(grid.methods, grid.primary)
    for dotted, values in grid.axes.items():
        check_once(f"value of {dotted}", values)
        _check_used(grid, dotted)
    for tasks in grid.task_sets:
        obstacles = [
            _obstacle(method, tasks, architecture)
            for method in grid.methods
            for architecture in _architectures(grid)
        ]
        if None not in obstacles:
            reasons = " ".join(dict.fromkeys(map(str, obstacles)))
            raise UsageError(f"Expected runs of {' '.join(tasks)}, got none. {reasons}")
    if grid.fork_at is not None and not 0 < grid.fork_at < 1:
        raise UsageError(f"Expected --fork-at between 0 and 1, got {grid.fork_at:g}.")
    if grid.mixes < 0:
        raise UsageError(f"Expected --mixes of 0 or more, got {grid.mixes}.")
    if grid.mixes and grid.fork_at is None:
        raise UsageError(
            f"Expected --fork-at with --mixes {grid.mixes}, got none: networks are mixed between "
            "forks of one trunk, as no good ones lie between others."
        )
    num_runs = _num_runs(grid)
    if num_runs > MAX_RUNS:
        raise UsageError(
            f"Expected a grid of at most {MAX_RUNS:,} runs, got {num_runs:,}. Use fewer "
            "--divisions, --seeds or values."
        )


def check_once(what: str, values: Iterable[Any]) -> None:
    """Raise a `UsageError` if one of `values` is there twice; `what` is the word for one."""
    counts = Counter(value if isinstance(value, str) else repr(value) for value in values)
    for shown, count in counts.items():
        if count > 1:
            raise UsageError(f"Expected each {what} once, got {shown:.100} twice. Leave one out.")


def _check_used(grid: Grid, dotted: str) -> None:
    """Refuse a field that no run of the grid has."""
    if not any(
        dotted in _applicable({dotted: None, ARCHITECTURE_FIELD: architecture}, method, tasks)
        for method in grid.methods
        for tasks in grid.task_sets
        for architecture in _architectures(grid)
    ):
        option = dotted.removeprefix("method_options.")
        takers = [name for name, needs in METHODS.items() if option in needs.options]
        raise UsageError(
            f"Expected no {dotted}, which no run of {' and '.join(grid.methods)} on "
            f"{' and '.join(map(' '.join, grid.task_sets))} with "
            f"{' and '.join(_architectures(grid))} has. Leave it out"
            f"{', or choose ' if takers else ''}{' or '.join(takers)}."
        )


def _num_runs(grid: Grid) -> int:
    """Return the number of combinations, without listing them; distinct runs may be fewer."""
    num_values = math.prod(
        len(values) for name, values in grid.axes.items() if name != "priorities"
    )
    methods = [needs_of(method) for method in grid.methods]
    num_takers = sum(method.takes_priorities for method in methods)
    num_points = (_num_points(grid, len(tasks)) for tasks in grid.task_sets)
    # Of a lattice's point at most so many neighbours come after it.
    num_mixed = (grid.mixes * math.comb(len(tasks), 2) for tasks in grid.task_sets)
    per_seed = sum(
        num_takers * points * (1 + more) + len(methods) - num_takers
        for points, more in zip(num_points, num_mixed, strict=True)
    )
    num_baselines = _num_runs(baseline_grid(grid)) if grid.baselines else 0
    return grid.seeds * num_values * per_seed + num_baselines


def _num_points(grid: Grid, num_tasks: int) -> int:
    given = grid.axes.get("priorities")
    if given is not None:
        return len(given)
    if grid.divisions is None:
        return 1
    return math.comb(max(0, grid.divisions - 1), num_tasks - 1)
