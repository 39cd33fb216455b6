"""Results -> one tidy table, one row a finished run, and the state of every run asked for.

Nothing is dropped silently: a run without a usable result stays in `Loaded.states` with a reason,
and whatever else a reader must know is a sentence in `Loaded.notes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from analysis.load.axes import AnalysisError, metric_column
from analysis.load.plans import is_paused, planned, planned_or_present
from analysis.load.priorities import priority_values
from mtl.errors import StoreError, UsageError
from mtl.records import Result, SplitMetrics
from mtl.spec import RunSpec
from mtl.spec.strict import flat
from mtl.store import Store

SPLIT = "test"
"""The split that is reported; epochs are never selected on it."""
VALIDATION = "validation"
"""The split on which a network may be chosen; its columns are `validation_<task>_<metric>`."""

State = Literal["done", "failed", "unfinished", "paused", "missing", "damaged", "excluded"]
STATES: dict[State, str] = {
    "done": "has a result",
    "failed": "ended with an error",
    "unfinished": "under way, or interrupted and to be resumed",
    "paused": "left on purpose by a search, no result is asked of it",
    "missing": "planned, never started",
    "damaged": "its files cannot be read",
    "excluded": "its result holds no finite number for a metric that is shown",
}
# Where several stores hold a run, the first of these wins.
_PRECEDENCE: tuple[State, ...] = (
    *("done", "excluded", "damaged", "failed", "unfinished", "paused", "missing"),
)


@dataclass(frozen=True)
class RunState:
    """What became of one run that was asked for."""

    run_id: str
    state: State
    reason: str = ""
    """Why it is not done, in words; empty for done runs."""
    arm: str | None = None
    """Method, with the options by which its runs differ; None if the spec cannot be read."""
    priorities: tuple[float, ...] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Loaded:
    """Everything that analysis knows of a set of runs."""

    tasks: tuple[str, ...]
    """Empty where no run has a spec yet."""
    runs: pd.DataFrame
    """One row a done run: run_id, method, arm, architecture, encoder, seed, epochs,
    `priority_<task>`, method options, `<task>_<metric>` on the test split and
    `validation_<task>_<metric>` on the validation split (NaN where absent), seconds."""
    states: tuple[RunState, ...]
    """Every run asked for, in the order of the plan."""
    fields: Mapping[str, Mapping[str, Any]]
    """run id -> dotted spec field -> value, for the comparison guard and the provenance."""
    manifests: Mapping[str, Mapping[str, Any]]
    """run id -> manifest.json, where there is one."""
    prior: Mapping[str, float]
    """Metric column -> value of the per-pixel prior on the test split; empty where unknown."""
    notes: tuple[str, ...] = ()
    """Sentences that the reader must see."""
    baselines: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Metric column -> seed -> value of single-task runs; see `analysis.load.baselines`."""


@dataclass(frozen=True)
class _Read:
    """One run as found in one store."""

    state: RunState
    spec: RunSpec | None = None
    result: Result | None = None
    manifest: Mapping[str, Any] | None = None


def load_stores(
    stores: Sequence[Store],
    run_ids: Sequence[str] | None = None,
    specs: Mapping[str, RunSpec] | None = None,
) -> Loaded:
    """Return the runs of one or several stores; a run that several hold counts once.

    Args:
        stores: opened stores.
        run_ids: the runs asked for, in order; None means every run that a plan in the stores
            lists, in its order, then the others in them by method, priorities and seed.
        specs: those that were read already, by run id.

    Raises:
        AnalysisError: if there is no run at all, or the runs do not share their tasks.
    """
    asked = list(dict.fromkeys(planned_or_present(stores) if run_ids is None else run_ids))
    if not asked:
        raise AnalysisError(
            "Expected at least one run, got stores that hold and plan none (a search counts once "
            "it is over). Start a sweep first: python sweeps/priority_grid.py."
        )
    notes: list[str] = []
    known = specs or {}
    found = [_first_of_stores(stores, run_id, known.get(run_id), notes) for run_id in asked]
    if run_ids is None:
        order = {run_id: index for index, run_id in enumerate(planned(stores))}
        found.sort(key=lambda read: (order.get(read.state.run_id, len(order)), *_by_content(read)))
    tasks = _shared_tasks([read.spec for read in found if read.spec is not None])
    arms = arm_names(
        {
            r.state.run_id: (r.spec.method, r.spec.method_settings)
            for r in found
            if r.spec is not None
        }
    )
    states = tuple(
        replace(
            read.state,
            arm=arms[read.state.run_id],
            priorities=read.spec.priorities,
            seed=read.spec.seed,
        )
        if read.spec
        else read.state
        for read in found
    )
    done = [read for read in found if read.state.state == "done"]
    return Loaded(
        tasks=tasks,
        runs=pd.DataFrame([_row(read, arms[read.state.run_id]) for read in done]),
        states=states,
        fields={r.state.run_id: flat(r.spec.to_dict()) for r in done if r.spec is not None},
        manifests={r.state.run_id: r.manifest for r in done if r.manifest is not None},
        prior=_shared_prior([r.manifest for r in done if r.manifest is not None], notes),
        notes=tuple(notes),
    )


def arm_names(methods: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return run id -> method, with those options by which the method's runs differ.

    `lsb` stays `lsb` while all its runs share their options; with increase rates 0.02 and 0.05
    there are two arms, `lsb (increase_rate 0.02)` and `lsb (increase_rate 0.05)`. An option that
    is None is off: `lsb (no clamp)`.
    """
    seen: dict[str, dict[str, set[Any]]] = {}
    for method, options in methods.values():
        for name, value in options.items():
            seen.setdefault(method, {}).setdefault(name, set()).add(value)
    names = {}
    for run_id, (method, options) in methods.items():
        varying = [
            f"no {name}" if value is None else f"{name} {value:g}"
            for name, value in options.items()
            if len(seen[method][name]) > 1
        ]
        names[run_id] = f"{method} ({', '.join(varying)})" if varying else method
    return names


def _first_of_stores(
    stores: Sequence[Store], run_id: str, spec: RunSpec | None, notes: list[str]
) -> _Read:
    holding = [store for store in stores if store.has_run(run_id)]
    reads = [_read(store, run_id, spec) for store in holding]
    if not reads:
        return _Read(RunState(run_id, "missing", "planned, never started"))
    results = [read.result for read in reads if read.result is not None]
    if any(result != results[0] for result in results[1:]):
        notes.append(
            f"Run {run_id} has different results in {len(results)} stores; "
            "the one in the store named first is shown."
        )
    return min(reads, key=lambda read: _PRECEDENCE.index(read.state.state))


def _read(store: Store, run_id: str, spec: RunSpec | None) -> _Read:
    if spec is None:
        try:
            spec = store.spec(run_id)
        except (StoreError, ValueError, OSError) as error:
            return _Read(RunState(run_id, "damaged", f"spec.json: {_last_line(str(error))}"))
        if spec.run_id() != run_id:
            reason = f"spec.json describes run {spec.run_id()}; made by another release or edited"
            return _Read(RunState(run_id, "damaged", reason))
    try:
        result = store.result(run_id)
    except StoreError as error:
        return _Read(RunState(run_id, "damaged", _without_folder(store, error)), spec)
    if result is None:
        return _Read(_state_without_result(store, run_id, spec), spec)
    try:
        manifest = store.manifest(run_id)
    except StoreError:
        manifest = None
    return _Read(RunState(run_id, "done"), spec, result, manifest)


def _state_without_result(store: Store, run_id: str, spec: RunSpec) -> RunState:
    error = store.error(run_id)
    if error is not None:
        return RunState(run_id, "failed", _last_line(error) or "no reason was written")
    try:
        num_epochs = len(store.epochs(run_id))
    except StoreError:
        return RunState(run_id, "unfinished", "its epoch records cannot be read")
    if is_paused(store, run_id):
        return RunState(run_id, "paused", f"paused after epoch {num_epochs} of {spec.epochs}")
    checkpointed = store.has_checkpoint(run_id)
    if num_epochs or checkpointed:
        return RunState(run_id, "unfinished", f"after epoch {num_epochs} of {spec.epochs}")
    return RunState(run_id, "missing", "planned, no epoch finished")


def _by_content(read: _Read) -> tuple[Any, ...]:
    """Return a sorting key that, unlike a run id, means something to a reader."""
    if read.spec is None:
        return ("", (), 0, read.state.run_id)
    return (read.spec.method, read.spec.priorities or (), read.spec.seed, read.state.run_id)


def _row(read: _Read, arm: str) -> dict[str, Any]:
    spec, result, manifest = read.spec, read.result, read.manifest or {}
    if spec is None or result is None:
        raise UsageError("Expected a done run, got one without spec or result.")
    row: dict[str, Any] = {
        "run_id": read.state.run_id,
        "method": spec.method,
        "arm": arm,
        "architecture": spec.network.architecture,
        "encoder": spec.network.encoder,
        "seed": spec.seed,
        "epochs": result.epochs,
        "selection": result.selection,
    }
    row |= priority_values(spec.priorities, spec.tasks)
    row |= spec.method_settings
    row |= _metric_columns(result.selected_metrics)
    chosen_on = _metric_columns(result.selected_metrics, VALIDATION)
    row |= {f"{VALIDATION}_{column}": value for column, value in chosen_on.items()}
    row |= {name: manifest.get(name) for name in ("wall_seconds", "device_seconds")}
    return row


def _metric_columns(metrics: SplitMetrics, split: str = SPLIT) -> dict[str, float | None]:
    return {
        metric_column(task, name): value
        for task, values in (metrics.get(split) or {}).items()
        for name, value in values.items()
    }


def _shared_tasks(specs: Sequence[RunSpec]) -> tuple[str, ...]:
    """Return the tasks of all runs; none where no run has a spec yet."""
    kinds = list(dict.fromkeys(spec.tasks for spec in specs))
    if not kinds:
        return ()
    if len(kinds) > 1:
        listed = " and ".join("+".join(kind) for kind in kinds)
        raise AnalysisError(
            f"Expected runs of one set of tasks, got {listed}. "
            "Give the runs of each set of tasks on their own."
        )
    return kinds[0]


def _shared_prior(manifests: Sequence[Mapping[str, Any]], notes: list[str]) -> dict[str, float]:
    """Return the per-pixel prior on the test split; it belongs to the data, not to a run.

    Metric by metric: a run of an earlier release lacks those that came later.
    """
    held: dict[str, set[float]] = {}
    for manifest in manifests:
        splits = manifest.get("per_pixel_prior")
        if isinstance(splits, Mapping):
            for name, value in _metric_columns(splits).items():  # type: ignore[arg-type]
                if value is not None:
                    held.setdefault(name, set()).add(float(value))
    if any(len(values) > 1 for values in held.values()):
        notes.append("The runs report different per-pixel priors, so none is drawn.")
        return {}
    return {name: value for name, (value,) in held.items()}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _without_folder(store: Store, error: Exception) -> str:
    """Return the message without the store's folder: a report is passed on to others."""
    return _last_line(str(error)).replace(f"{store.place('')}/", "")
