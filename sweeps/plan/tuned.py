"""Values of each method's own, chosen by an earlier sweep: what --tuned-from takes.

Everything is judged on validation, as a search does it. Needs numpy, so that only who tunes
imports it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.compute.fronts import (
    REFERENCE_MARGIN,
    minimised,
    minimised_hypervolume,
    nondominated,
)
from analysis.load.axes import Axis, choose_axes
from mtl.errors import UsageError
from mtl.records import TaskMetrics
from mtl.spec import RunSpec
from mtl.spec.tasks import declared_task
from mtl.store import Store
from mtl.store.plan_file import read_plan
from mtl.store.states import in_state, read_runs
from sweeps.plan.fields import spec_fields, varying_fields
from sweeps.plan.grid import Grid, baseline_grid, canonical_tasks
from sweeps.text import counted

NOT_CHOSEN = ("priorities", "seed", "trunk")
"""Fields over which a candidate is judged."""
CHOSEN = ("optimizer.", "method_options.", "period_")
"""How the fields begin that may be chosen: no others leave the task and the budget alike."""

Key = tuple[tuple[str, ...], str]
"""Tasks and method."""
Values = tuple[Any, ...]
"""Of the chosen fields, in order."""


def reference_of(points: np.ndarray) -> np.ndarray:
    """Return the worst of `points` (num_points, num_tasks) on each task, and a bit more."""
    width = np.ptp(points, axis=0)
    return points.max(axis=0) + REFERENCE_MARGIN * np.where(width > 0, width, 1.0)


def ranked(points: Mapping[int, np.ndarray]) -> list[int]:
    """Return the candidates, the best first.

    By the nondomination rank of their mean over the priorities; within a rank, by the hypervolume
    that their points cover; of equals the earlier first.

    Args:
        points: candidate -> (num_priorities, num_tasks), minimised and finite.
    """
    if not points:
        return []
    reference = reference_of(np.concatenate(list(points.values())))
    volume = {i: minimised_hypervolume(p, reference) for i, p in points.items()}
    rank: dict[int, int] = {}
    left = sorted(points)
    while left:
        front = nondominated(np.array([points[i].mean(axis=0) for i in left]))
        level = max(rank.values(), default=-1) + 1
        rank |= {i: level for i, on_front in zip(left, front, strict=True) if on_front}
        left = [i for i in left if i not in rank]
    return sorted(points, key=lambda i: (rank[i], -volume[i], i))


def axes_of(tasks: Sequence[str]) -> tuple[Axis, ...]:
    """Return by which metrics runs of these tasks are judged."""
    return choose_axes(tasks, declared={task: declared_task(task) for task in tasks})


def point_of(metrics: TaskMetrics, axes: Sequence[Axis]) -> np.ndarray | None:
    """Return the metrics (tasks,) of one split, minimised; None where one was not measured."""
    values = [metrics[axis.task][axis.metric.name] for axis in axes]
    if any(value is None for value in values):
        return None
    return minimised(np.array(values, dtype=np.float64), axes)


@dataclass(frozen=True)
class _Tuned:
    """What was chosen for one method."""

    fields: tuple[str, ...]
    best: Values
    num_tried: int
    num_failed: int
    """Candidates of which a run failed; they are not chosen."""
    num_priorities: int
    """At which each was judged; 1 for a method without."""
    at_edge: tuple[str, ...]
    """Fields whose best value is the smallest or largest of three and more that were tried."""
    example: RunSpec
    """A run of the best."""


def tuned_grid(grid: Grid, store: Store, sweep: str) -> tuple[Grid, list[str]]:
    """Return `grid` with each method's best values by an earlier sweep, and what they are.

    The candidates of a method are the combinations of values that differ among its runs of
    `sweep`; of each the mean over seeds at each priority counts, on validation: see `ranked`. Only
    priorities and seeds count at which all candidates were trained.

    Args:
        grid: checked.
        store: of the sweep.
        sweep: its name.

    Raises:
        UsageError: if it is not there, tunes nothing for one of the methods, or has runs left.
        StoreError: if its files cannot be read.
    """
    runs, failed = _ended_runs(store, sweep)
    by_key: dict[Key, dict[str, RunSpec]] = {}
    for run_id, spec in runs.items():
        by_key.setdefault((canonical_tasks(spec.tasks), spec.method), {})[run_id] = spec
    wanted = [(canonical_tasks(t), method) for t in grid.task_sets for method in grid.methods]
    found = {
        key: _best_of(store, sweep, held, names, failed)
        for key, held in by_key.items()
        if (key in wanted or len(key[0]) == 1) and (names := _chosen_fields(held.values()))
    }
    for tasks, method in wanted:
        if (tasks, method) not in found:
            known = [
                f"{m} on {' '.join(t)}"
                for (t, m), v in by_key.items()
                if _chosen_fields(v.values())
            ]
            raise UsageError(
                f"Expected {method} on {' '.join(tasks)} among what {sweep} tunes, got "
                f"{', '.join(known) or 'nothing'}. Leave it out, or train {sweep} with several "
                "values of it first."
            )
    for name in dict.fromkeys(name for held in found.values() for name in held.fields):
        if name in grid.axes:
            raise UsageError(
                f"Expected {name} once, got it by --set and by --tuned-from {sweep}. Give it once."
            )
    values = {key: dict(zip(held.fields, held.best, strict=True)) for key, held in found.items()}
    tuned = replace(grid, tuned=values, tuned_from=sweep)
    singles = baseline_grid(grid)
    alone = [(t, m) for t in singles.task_sets for m in singles.methods] if grid.baselines else []
    said = _notes(tuned, sweep, {key: found[key] for key in (*wanted, *alone) if key in found})
    lacking = [tasks[0] for tasks, method in alone if (tasks, method) not in found]
    if lacking:
        said.append(
            f"The single-task runs of {', '.join(lacking)} are not tuned: {sweep} has none with "
            "several values. It trains them without --no-baselines."
        )
    return tuned, said


def _ended_runs(store: Store, sweep: str) -> tuple[dict[str, RunSpec], set[str]]:
    """Return the runs that a sweep reports, mixed ones left out, and which of them failed."""
    try:
        plan = read_plan(store, sweep)
    except FileNotFoundError as error:
        raise UsageError(
            f"Expected a sweep of the store after --tuned-from, got {sweep}, which is not in "
            f"{store.place('')}. It holds {', '.join(store.sweep_names()) or 'none'}."
        ) from error
    states = read_runs(store, plan.reported)
    failed, done = in_state(states, "failed"), in_state(states, "done")
    left = len(states) - len(done) - len(failed)
    if failed and not done and not left:
        raise UsageError(
            f"Expected a sweep with results after --tuned-from, got {sweep}, of which all "
            f"{counted(len(failed), 'run')} failed. Try its command with --retry-failed."
        )
    if left or not done:
        raise UsageError(
            f"Expected a sweep that is over after --tuned-from, got {sweep} with "
            f"{counted(left, 'run')} left. Start its command again."
        )
    specs = {run_id: run.spec for run_id, run in states.items()}
    trained = {i: s for i, s in specs.items() if isinstance(s, RunSpec) and not s.is_mixed}
    return trained, failed


def _chosen_fields(specs: Iterable[RunSpec]) -> tuple[str, ...]:
    return tuple(name for name in varying_fields([*specs]) if name not in NOT_CHOSEN)


def _best_of(
    store: Store,
    sweep: str,
    runs: Mapping[str, RunSpec],
    names: tuple[str, ...],
    failed: Collection[str],
) -> _Tuned:
    """Return the best candidate among the runs of one method that differ in `names`."""
    for name in names:
        if not name.startswith(CHOSEN):
            raise UsageError(
                f"Expected a sweep over settings of the optimiser or the method after "
                f"--tuned-from, got {sweep}, whose runs differ in {name}."
            )
    candidates: dict[Values, dict[str, RunSpec]] = {}
    for run_id, spec in runs.items():
        held = spec_fields(spec)
        candidates.setdefault(tuple(held[name] for name in names), {})[run_id] = spec
    whole = {v: held for v, held in candidates.items() if held.keys().isdisjoint(failed)}
    places = [{_place(spec) for spec in held.values()} for held in whole.values()]
    shared = set[Any]().union(*places[:1]).intersection(*places)
    if not shared:
        spec = next(iter(runs.values()))
        raise UsageError(
            f"Expected candidates of {spec.method} in {sweep} without a failed run, at the same "
            "priorities and seeds, got none. Try its command with --retry-failed, or other values."
        )
    order = [*whole]
    alike = [
        {run_id: spec for run_id, spec in whole[values].items() if _place(spec) in shared}
        for values in order
    ]
    values = order[ranked({k: _points(store, held) for k, held in enumerate(alike)})[0]]
    return _Tuned(
        fields=names,
        best=values,
        num_tried=len(candidates),
        num_failed=len(candidates) - len(whole),
        num_priorities=len({priorities for priorities, _ in shared}),
        at_edge=tuple(n for k, n in enumerate(names) if _is_edge(values[k], candidates, k)),
        example=next(iter(whole[values].values())),
    )


def _place(spec: RunSpec) -> tuple[Any, int]:
    return spec.priorities, spec.seed


def _is_edge(best: object, candidates: Collection[Values], place: int) -> bool:
    tried = {values[place] for values in candidates}
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in tried)
    return are_numbers and len(tried) > 2 and best in (min(tried), max(tried))


def _points(store: Store, runs: Mapping[str, RunSpec]) -> np.ndarray:
    """Return (priorities, tasks): validation metrics, minimised, means over seeds."""
    axes = axes_of(next(iter(runs.values())).tasks)
    by_priorities: dict[Any, list[np.ndarray]] = {}
    for run_id, spec in runs.items():
        result = store.result(run_id)
        assert result is not None  # it is done
        point = point_of(result.selected_metrics["validation"], axes)
        if point is None:
            raise UsageError(
                f"Expected validation metrics of every task, got none of one for run {run_id}. "
                "Tune on data with labels of all tasks."
            )
        by_priorities.setdefault(spec.priorities or (), []).append(point)
    return np.array([np.mean(held, axis=0) for _, held in sorted(by_priorities.items())])


def _notes(grid: Grid, sweep: str, chosen: Mapping[Key, _Tuned]) -> list[str]:
    notes = []
    several = len(grid.task_sets) > 1
    for (tasks, method), held in chosen.items():
        values = ", ".join(f"{n} {v}" for n, v in zip(held.fields, held.best, strict=True))
        failed = f", {held.num_failed} failed" if held.num_failed else ""
        whose = _whose(tasks, method, several)
        notes.append(f"{whose}: {values} (of {held.num_tried} tried{failed})")
    said = [f"Tuned on validation by {sweep}: {'; '.join(notes)}."]
    if any(v.num_priorities == 1 and v.example.priorities is not None for v in chosen.values()):
        said.append(
            f"{sweep} judged them at one priority, which says little of the others: with "
            "--divisions it has more."
        )
    edges = [f"{n} of {_whose(*key, several)}" for key, v in chosen.items() for n in v.at_edge]
    if edges:
        said.append(
            f"At the edge of what {sweep} tried: {', '.join(dict.fromkeys(edges))}. Values beyond "
            "it may be better."
        )
    example = next(iter(chosen.values()))
    then = spec_fields(example.example)
    differing = [
        f"{name} {then[name]} in place of {value}"
        for name, value in _common(grid).items()
        if name in then and name not in example.fields and then[name] != value
    ]
    if differing:
        said.append(f"{sweep} was trained with other settings: {', '.join(differing)}.")
    return said


def _whose(tasks: tuple[str, ...], method: str, several: bool) -> str:
    if len(tasks) == 1:
        return f"{method} on {tasks[0]} alone"
    return f"{method} on {' '.join(tasks)}" if several else method


def _common(grid: Grid) -> dict[str, Any]:
    """Return dotted field -> value of the fields in which all runs of a grid are alike."""
    single: Sequence[tuple[str, Any]] = [(k, v[0]) for k, v in grid.axes.items() if len(v) == 1]
    return {k: tuple(v) if isinstance(v, list) else v for k, v in (*grid.fields.items(), *single)}
