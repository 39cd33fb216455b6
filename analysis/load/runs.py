"""Results -> one tidy table, one row a finished run, and the state of every run asked for.

Nothing is dropped silently: a run without a usable result stays in `Loaded.states` with a reason,
and whatever else a reader must know is a sentence in `Loaded.notes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from analysis.load.axes import Axis, choose_axes
from analysis.load.groups import groups_of_stores
from analysis.load.metrics import Declared, declared_by, known_columns, metric_column
from analysis.load.priorities import priority_values
from mtl.errors import UserError
from mtl.records import SplitMetrics, is_number
from mtl.spec import MIXED, OwnSpec, RunSpec, Spec
from mtl.spec.strict import flat
from mtl.store import Store, states
from mtl.store.states import StoredRun, read_runs

Baselines = Mapping[str, Mapping[int, float]]
"""Metric column -> seed -> value of single-task runs on the test split."""
SPLIT = "test"
"""The split that is reported; epochs are never selected on it."""
VALIDATION = "validation"
"""The split on which a network may be chosen; its columns are `validation_<task>_<metric>`."""
COSTS = (
    "wall_seconds", "device_seconds", "num_parameters", "forward_flops", "peak_memory_bytes",
    "peak_device_bytes",
)  # fmt: skip
"""Columns of what a run took, from its manifest; of older releases some have no value."""


State = states.State | Literal["excluded"]
STATES = {
    **states.STATES,
    "excluded": "has a result without a finite number, or without one meaning, of a shown metric",
}
# Where several stores hold a run, the first of these wins.
_PRECEDENCE: tuple[State, ...] = (
    *("done", "damaged", "failed", "running", "partial", "paused", "missing"),
)


@dataclass(frozen=True)
class RunState:
    """What became of one run that was asked for."""

    run_id: str
    state: State
    reason: str = ""
    """Why it is not done, in words; empty for done runs."""
    arm: str | None = None
    """Method, with the options by which its runs differ, and `MIXED`; None if the spec cannot be
    read."""
    priorities: tuple[float, ...] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Loaded:
    """Everything that analysis knows of a set of runs."""

    tasks: tuple[str, ...]
    """Empty where no run has a spec yet, or nothing says what their metrics mean."""
    declared: Declared
    """What the runs say of the metrics of each task."""
    runs: pd.DataFrame
    """One row a done run that was trained: run_id, method, arm, architecture and encoder or the
    params of a training function of one's own, seed, epochs, `priority_<task>`, method options,
    `<task>_<metric>` on the test split and `validation_<task>_<metric>` on the validation split
    (NaN where absent), `COSTS`."""
    states: tuple[RunState, ...]
    """Every run asked for, in the order of the plan."""
    fields: Mapping[str, Mapping[str, Any]]
    """run id -> dotted spec field -> value, for the comparability check and the provenance."""
    manifests: Mapping[str, Mapping[str, Any]]
    """run id -> manifest.json, where there is one."""
    prior: Mapping[str, float]
    """Metric column -> test value of the image-independent baseline; empty where unknown."""
    notes: tuple[str, ...] = ()
    """Sentences that the reader must see."""
    baselines: Baselines = field(default_factory=dict)
    """See `analysis.load.baselines`."""
    mixed: pd.DataFrame = field(default_factory=pd.DataFrame)
    """As `runs`, of networks mixed of two forks, with `mixed_between` (the forks' priorities) and
    `mix`. Apart, so that nothing counts them as trained."""

    def axes(
        self, metrics: Mapping[str, str] | None = None, *, paper_scaling: bool = False
    ) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
        """Return one axis a task, and a note on each task that no run has the usual metric of.

        Arguments are those of `choose_axes`; a task that is not named is judged by its usual
        metric, or else by its first one that some run has.
        """
        if not self.tasks:
            return (), ()
        chosen, notes = dict(metrics or {}), []
        has = self.runs.notna().any()
        for task in self.tasks:
            of_task = known_columns({task: self.declared[task]})
            held = [metric.name for column, metric in of_task.items() if has.get(column)]
            usual = self.declared[task].plotted
            if task not in chosen and held and usual not in held:
                chosen[task] = held[0]
                notes.append(
                    f"No run has {usual} of {task}, so {held[0]} is shown; "
                    f"--metrics {task}=NAME chooses another."
                )
        axes = choose_axes(self.tasks, chosen, declared=self.declared, paper_scaling=paper_scaling)
        return axes, tuple(notes)


def load_stores(
    stores: Sequence[Store],
    run_ids: Sequence[str] | None = None,
    specs: Mapping[str, Spec] | None = None,
) -> Loaded:
    """Return the runs of one or several stores; a run that several hold counts once.

    Args:
        stores: opened stores.
        run_ids: the runs asked for, in order; None means those of all `groups_of_stores`.
        specs: those that were read already, by run id.
    """
    if run_ids is None:
        run_ids = [run_id for group in groups_of_stores(stores) for run_id in group.run_ids]
    asked: list[str] = list(dict.fromkeys(run_ids))
    notes: list[str] = []
    of_stores = [read_runs(store, asked, specs, manifests=True) for store in stores]
    found = []
    for run_id in asked:
        runs = [held[run_id] for held in of_stores]
        results = [run.result for run in runs if run.result is not None]
        if any(r.final_metrics != results[0].final_metrics for r in results[1:]):
            notes.append(
                f"Run {run_id} has different results in {len(results)} stores; "
                "the one in the store named first is shown."
            )
        found.append(min(runs, key=lambda r: (_PRECEDENCE.index(r.state), r.spec is None)))
    return load_runs(found, notes)


def load_runs(
    found: Sequence[StoredRun],
    notes: Sequence[str] = (),
    *,
    with_fields: bool = True,
) -> Loaded:
    """Return runs that were read from a store, each asked for once, in the order of the plan.

    `Loaded.fields`, by which runs are told apart, stay empty unless `with_fields`.
    """
    notes = list(notes)
    with_spec = {run.run_id: run.spec for run in found if run.spec is not None}
    arms = arm_names({i: (spec.method, spec.method_settings) for i, spec in with_spec.items()})
    mixed = {i for i, spec in with_spec.items() if isinstance(spec, RunSpec) and spec.is_mixed}
    arms |= {run_id: mixed_arm(arms[run_id]) for run_id in mixed}
    done = [run for run in found if run.state == "done"]
    first = next(iter(with_spec.values()), None)
    tasks = () if first is None else first.tasks
    planned = first.metrics if isinstance(first, OwnSpec) else {}
    declared, unclear = {}, ""
    try:
        results = [run.result for run in done if run.result is not None]
        declared = declared_by(results, tasks, planned)
    except UserError as error:
        # That costs these runs, not the page on which they stand with others: it says why.
        tasks, done, unclear = (), [], str(error)
    manifests = {run.run_id: run.manifest for run in done if run.manifest is not None}
    return Loaded(
        tasks=tasks,
        declared=declared,
        runs=pd.DataFrame([_row(run, arms[run.run_id]) for run in done if run.run_id not in mixed]),
        mixed=pd.DataFrame([_row(run, arms[run.run_id]) for run in done if run.run_id in mixed]),
        states=tuple(_state(run, arms.get(run.run_id), unclear) for run in found),
        fields={r.run_id: with_spec[r.run_id].fields() for r in done if with_fields},
        manifests=manifests,
        prior=_shared_prior(list(manifests.values()), notes),
        notes=tuple(notes),
    )


def on_validation(loaded: Loaded) -> Loaded:
    """Return runs as on the validation split, under the names of the test split's columns.

    The image-independent baseline, which is known on the test split alone, is left out.
    """
    prefix = f"{VALIDATION}_"
    test = [name for name in loaded.runs if f"{prefix}{name}" in loaded.runs]
    runs = loaded.runs.drop(columns=test).rename(columns=lambda name: name.removeprefix(prefix))
    return replace(loaded, runs=runs, prior={})


def _state(run: StoredRun, arm: str | None, unclear: str) -> RunState:
    """Return a run's state; `unclear` says why the metrics of those that are done have no meaning.

    It is empty where they have one.
    """
    if run.spec is None:
        return RunState(run.run_id, run.state, run.reason)
    state = RunState(run.run_id, run.state, run.reason, arm, run.spec.priorities, run.spec.seed)
    is_excluded = bool(unclear) and run.state == "done"
    return replace(state, state="excluded", reason=unclear) if is_excluded else state


def _row(run: StoredRun, arm: str) -> dict[str, Any]:
    """Return a done run's row of the run table."""
    spec, result, manifest = run.spec, run.result, run.manifest or {}
    assert spec is not None
    assert result is not None
    chosen_on = _metric_columns(result.selected_metrics, VALIDATION)
    network = {}
    if isinstance(spec, RunSpec):
        network = {"architecture": spec.network.architecture, "encoder": spec.network.encoder}
    made: dict[str, Any] = {}
    if isinstance(spec, RunSpec) and spec.is_mixed:
        made = {"mixed_between": spec.mixed_between, "mix": spec.mix}
    row = {
        "run_id": run.run_id,
        "method": spec.method,
        "arm": arm,
        **network,
        "seed": spec.seed,
        "epochs": result.epochs,
        **made,
        "selection": result.selection,
        **priority_values(spec.priorities, spec.tasks),
        **spec.method_settings,
        **_metric_columns(result.selected_metrics),
        **{f"{VALIDATION}_{column}": value for column, value in chosen_on.items()},
        **{name: held if is_number(held := manifest.get(name)) else None for name in COSTS},
    }
    # Of a training function of one's own; no name of these may hide what every run has.
    params = flat(spec.params) if isinstance(spec, OwnSpec) else {}
    return row | {name: value for name, value in params.items() if name not in row}


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


def mixed_arm(arm: str) -> str:
    """Return the arm of networks that are mixed of an arm's forks."""
    return f"{arm}{MIXED}"


def trained_arm(arm: str) -> str:
    """Return the arm whose forks were mixed; of an arm of trained runs itself."""
    return arm.removesuffix(MIXED)


def _metric_columns(metrics: SplitMetrics, split: str = SPLIT) -> dict[str, float | None]:
    return {
        metric_column(task, name): value
        for task, values in (metrics.get(split) or {}).items()
        for name, value in values.items()
    }


def _shared_prior(manifests: Sequence[Mapping[str, Any]], notes: list[str]) -> dict[str, float]:
    """Return the image-independent baseline on the test split: one for all runs on the data.

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
        notes.append("The runs report different image-independent baselines, so none is drawn.")
        return {}
    return {name: value for name, (value,) in held.items()}
