"""Hypervolume of each method over the runs that are done by now, on validation; for the watcher.

The report at the end is on the test split, and says what may be concluded; this only shows where a
sweep is going.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.axes import Axis, choose_axes, metric_column
from analysis.fronts import hypervolume, means_of, operating_points, reference_point, unusable
from analysis.groups import comparable_groups
from analysis.load import arm_names
from mtl.care.files import Place, UnreadableError, is_number, place_of, read_object
from mtl.care.listing import read_result, read_spec
from mtl.records import Result
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.words import counted

SPLIT = "validation"
FEWEST_POINTS = 2
"""Operating points of a method; one is no front."""


class HypervolumeSoFar:
    """Reads each finished run, and the spec of each run, once, however often it is asked.

    Args:
        store: opened for reading.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._specs: dict[str, RunSpec] = {}
        self._done: dict[str, tuple[RunSpec, Result, dict[str, float]]] = {}
        self._lines: list[str] = []
        self._asked: set[str] = set()
        self._running: set[str] = set()
        self._num_done = 0

    def lines(
        self,
        run_ids: Iterable[str],
        tuned: Sequence[str] = (),
        *,
        running: Collection[str] = (),
        num_done: int = 0,
    ) -> list[str]:
        """Return a line for each set of runs that may be compared; unreadable runs are left out.

        Args:
            run_ids: that the sweep has planned so far.
            tuned: dotted fields in which methods may differ, see `mtl.plan_file.PlanFile`.
            running: those that its status says are under way.
            num_done: how many of them its status says are done. On object storage, where each
                question is a request, this and `running` tell which runs are worth one.
        """
        asked = list(run_ids)
        num_before = len(self._done)
        if self._store.is_local:
            self._read_all(asked)
        else:
            self._read_ended(asked, set(running), num_done)
        if len(self._done) != num_before or not self._lines:
            done = {run_id: self._done[run_id] for run_id in asked if run_id in self._done}
            groups = comparable_groups({i: held[0] for i, held in done.items()}, tuned=tuned)
            self._lines = [
                _line(label, {run_id: done[run_id] for run_id in ids})
                for label, ids in groups.items()
            ] or ["Hypervolume: no run is done yet."]
        return self._lines

    def spec(self, run_id: str) -> RunSpec | None:
        """Return the spec of a run, None where it cannot be read."""
        if run_id not in self._specs:
            try:
                self._specs[run_id] = read_spec(self._folder(run_id))
            except (UnreadableError, OSError):
                return None
        return self._specs[run_id]

    def _folder(self, run_id: str) -> Place:
        return place_of(self._store, self._store.run_key(run_id))

    def _read_ended(self, asked: Sequence[str], running: set[str], num_done: int) -> None:
        """Read the runs that are new or no longer under way; if more are done, all the others."""
        ended = {i for i in asked if i not in self._asked or i in self._running - running}
        self._read_all(ended)
        if len(ended & self._done.keys()) < num_done - self._num_done:
            self._read_all(i for i in asked if i not in ended)
        self._asked.update(asked)
        self._running, self._num_done = running, num_done

    def _read_all(self, run_ids: Iterable[str]) -> None:
        self._store.for_each(self._read, [i for i in run_ids if i not in self._done])

    def _read(self, run_id: str) -> None:
        """Read a run if it is done."""
        folder = self._folder(run_id)
        try:
            result = read_result(folder)
        except (UnreadableError, OSError):
            return
        spec = None if result is None else self.spec(run_id)
        if result is not None and spec is not None:
            self._done[run_id] = (spec, result, _prior(folder))


def _prior(folder: Place) -> dict[str, float]:
    try:
        manifest = read_object(folder / "manifest.json")
    except (UnreadableError, OSError):
        return {}
    return _columns(manifest.get("per_pixel_prior"))


def _columns(metrics: Any) -> dict[str, float]:
    """Return the finite validation metrics by column, whatever a stranger's file holds."""
    by_task = metrics.get(SPLIT) if isinstance(metrics, Mapping) else None
    found = {}
    for task, values in (by_task if isinstance(by_task, Mapping) else {}).items():
        for name, value in (values if isinstance(values, Mapping) else {}).items():
            if is_number(value):
                found[metric_column(task, name)] = float(value)
    return found


def _line(label: str, done: Mapping[str, tuple[RunSpec, Result, dict[str, float]]]) -> str:
    tasks = next(iter(done.values()))[0].tasks
    axes = choose_axes(tasks)
    table = _table(done)
    bad = unusable(table, axes)
    runs = table[~table["run_id"].isin(list(bad))]
    reference = reference_point(runs, axes, _shared_prior([held[2] for held in done.values()]))
    where = f"Hypervolume on validation{f' [{label}]' if label else ''}"
    if reference is None:
        return f"{where}: no run has a value of {' and '.join(a.column for a in axes)} yet."
    points = operating_points(runs, axes)
    parts = []
    for arm in dict.fromkeys(table["arm"]):
        means = means_of(points, arm)
        num_points = counted(len(means), "point")
        if len(means) < FEWEST_POINTS:
            parts.append(f"{arm}: {num_points}, too few")
        else:
            parts.append(f"{arm} {hypervolume(means, reference, axes):.4g} ({num_points})")
    return f"{where}: {'; '.join(parts)}. {_reference_text(reference.point, axes)} {reference.rule}"


def _reference_text(point: Iterable[float], axes: Iterable[Axis]) -> str:
    values = ", ".join(
        f"{axis.column} {axis.shown(value)} {axis.unit}"
        for axis, value in zip(axes, point, strict=True)
    )
    return f"Reference: {values}."


def _table(done: Mapping[str, tuple[RunSpec, Result, dict[str, float]]]) -> pd.DataFrame:
    """Return one row a run, with the columns that `analysis.fronts` asks for."""
    arms = arm_names({i: (spec.method, spec.method_settings) for i, (spec, _, _) in done.items()})
    rows = []
    for run_id, (spec, result, _) in done.items():
        priorities = spec.priorities or (None,) * len(spec.tasks)
        row: dict[str, Any] = {"run_id": run_id, "arm": arms[run_id], "seed": spec.seed}
        row |= {f"priority_{t}": p for t, p in zip(spec.tasks, priorities, strict=True)}
        rows.append(row | _columns(result.selected_metrics))
    return pd.DataFrame(rows)


def _shared_prior(priors: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the per-pixel prior where all runs that know it agree; it belongs to the data."""
    held: dict[str, set[float]] = {}
    for prior in priors:
        for name, value in prior.items():
            held.setdefault(name, set()).add(value)
    return {name: next(iter(values)) for name, values in held.items() if len(values) == 1}
