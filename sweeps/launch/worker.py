"""What a Tune trial does: train a run of the store, or a pack of them, and say how it went.

Imported by Ray's worker processes; torch comes in with the first training, not before.
"""

import contextlib
import functools
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import ray
from ray import tune
from ray.tune.trainable import wrap_function
from ray.util.metrics import Gauge

from mtl.data.prepared import copy_once, info_of, prepare
from mtl.errors import PreparedDataError, RunFailedError, RunPausedError, StoreError
from mtl.records import EpochRecord, Result, SplitMetrics
from mtl.spec import OwnSpec, RunSpec, Runtime, Spec
from mtl.store import RunBusyError, Store
from mtl.store.lease import Lease, StaleLeaseError
from sweeps.launch.own_training import train_own
from sweeps.launch.preflight import Needs, look
from sweeps.plan.packs import members
from sweeps.text import run_label

Train = Callable[..., Result]
"""`mtl.training.fit`, `train_own`, or what a test puts in their place."""

Outcome = Result | Exception
"""What a training returns, or raises."""
LASTING_ERRORS = (RunFailedError, PreparedDataError, StoreError, ValueError)
"""Failures that a second try would repeat; of StoreErrors, those named below before it pass."""


def make_trainable(
    store_address: str,
    runtime: Runtime,
    train: Train | None = None,
    *,
    lease: Lease | None = None,
    local_data: str | None = None,
    publishes: bool = False,
    needs: Needs | None = None,
) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune calls with the `run_id` and settings of a run, or of a pack's.

    Every report names its `run_id`. After each epoch it holds `epoch`, `losses`, the `seconds` that
    the run has been training (in a pack its share of them) and metrics as
    `<split>/<task>/<metric>`; in the end `state` (done, paused, failed or busy), `seconds` and, if
    done, the selected epoch's metrics. What may pass on a second try is raised, so that Tune tries
    again, once the other runs of a pack have ended; those of a pack that failed are then left as
    they are (a new launch clears what it tries again). Under a stale `lease` a run is `busy`: it is
    another driver's, and left as it is. On a node that lacks what runs need it reports
    `{"incompatible": why, "node_id"}` and trains nothing.

    Args:
        store_address: of the store, which is there: where it is not, the node does not share it.
        runtime: how runs are executed.
        train: what to call instead of `mtl.training.fit` or `train_own`, for the runs of a pack
            one after another.
        lease: of the sweep's driver.
        local_data: folder on the node's own disk for a copy of the data; None reads them in place.
        publishes: whether each epoch's numbers become gauges of Ray.
        needs: what a node of a cluster must have, one that joins late too; None on one machine.
    """

    def train_runs(config: dict[str, Any]) -> None:
        run_ids = members(config)
        if needs is not None:
            _, lacking = look(replace(needs, run_ids=tuple(run_ids)))
            if lacking is not None:
                node_id = ray.get_runtime_context().get_node_id()
                reason = f"On node {os.uname().nodename} ({node_id[:8]}): {lacking}"
                for run_id in run_ids:
                    tune.report({"run_id": run_id, "incompatible": reason, "node_id": node_id})
                return
        store = Store(store_address, create=False, lease=lease)
        specs: dict[str, Spec] = {}
        may_pass: list[Exception] = []

        def tell(run_id: str, what: EpochRecord | Outcome, seconds: float | None = None) -> None:
            report: dict[str, Any] = {"run_id": run_id}
            report |= {} if seconds is None else {"seconds": seconds}
            if isinstance(what, EpochRecord):
                if publishes:  # a local sweep without dashboard has nobody to publish to
                    publish(specs[run_id], what)
                report |= {"epoch": what.epoch, "losses": list(what.losses)}
                tune.report(report | flat_metrics(what.metrics))
                return
            if isinstance(what, Result):
                tune.report(report | {"state": "done"} | flat_metrics(what.selected_metrics))
            elif (state := state_after(what)) is None:
                may_pass.append(what)
                if len(run_ids) > 1:  # what lies there on the next try has failed for good
                    with contextlib.suppress(Exception):  # of the store, and may pass like `what`
                        store.clear_error(run_id)
            else:
                if state == "failed" and store.error(run_id) is None:
                    store.write_error(run_id, "".join(traceback.format_exception(what)))
                tune.report(report | {"state": state})

        for run_id in run_ids:
            try:
                if len(run_ids) > 1 and store.error(run_id) is not None:
                    tune.report({"run_id": run_id, "state": "failed"})  # in an earlier try
                    continue
                store.clear_error(run_id)
                specs[run_id] = store.spec(run_id)
            except Exception as error:
                tell(run_id, error)
        if len(specs) > 1 and train is None:
            _train_pack(specs, store, runtime, local_data, tell)
        else:
            for run_id, spec in specs.items():
                _train_one(run_id, spec, store, train, runtime, local_data, tell)
        if may_pass:
            raise may_pass[0]

    return train_runs


def state_after(error: Exception) -> str | None:
    """Return what a run has come to by what it raised; None for what may pass on a second try."""
    if isinstance(error, RunPausedError):
        return "paused"
    if isinstance(error, RunBusyError | StaleLeaseError):
        return "busy"
    return "failed" if isinstance(error, LASTING_ERRORS) else None


def _train_one(
    run_id: str,
    spec: Spec,
    store: Store,
    train: Train | None,
    runtime: Runtime,
    local_data: str | None,
    tell: Callable[..., None],
) -> None:
    """Train a run, and tell each epoch and what came of it."""
    began: float | None = None
    outcome: Outcome
    try:
        here = at_hand(spec, runtime, local_data)
        trains = train or _train_of(spec)
        began = start = time.monotonic()

        def on_epoch(record: EpochRecord) -> None:
            tell(run_id, record, time.monotonic() - start)

        outcome = trains(spec, store, here, on_epoch=on_epoch)
    except Exception as error:
        outcome = error
    tell(run_id, outcome, None if began is None else time.monotonic() - began)


def _train_pack(
    specs: Mapping[str, Spec],
    store: Store,
    runtime: Runtime,
    local_data: str | None,
    tell: Callable[..., None],
) -> None:
    """Train runs that share data together, and tell each epoch and what came of each."""
    packed = cast(Sequence[RunSpec], list(specs.values()))  # own functions are never packed
    try:
        here = at_hand(packed[0], runtime, local_data)
        from mtl.training.pack import fit_packed
    except Exception as error:
        for run_id in specs:
            tell(run_id, error)
        return
    fit_packed(packed, store, here, tell=tell)


def flat_metrics(metrics: SplitMetrics) -> dict[str, float]:
    """Return `<split>/<task>/<metric>` -> value of every metric that has one."""
    return {
        f"{split}/{task}/{name}": value
        for split, of_tasks in metrics.items()
        for task, named in of_tasks.items()
        for name, value in named.items()
        if value is not None
    }


def named_trainable(
    store_address: str, train_run: Callable[[dict[str, Any]], None]
) -> type[tune.Trainable]:
    """Return `train_run` as a class whose actors bear the name of the run that they train.

    Ray shows the name on its dashboard and in the process's title. It is fixed when an actor
    starts, so this is for actors that train one run, or pack, each.
    """

    class Run(wrap_function(train_run)):  # type: ignore[misc]
        def __repr__(self) -> str:
            run_id, *others = members(self.config)
            more = f" and {len(others)} more" if others else ""
            try:
                return run_label(run_id, Store(store_address, create=False).spec(run_id)) + more
            except (StoreError, OSError, ValueError):  # the training itself will say why
                return run_id + more

    return Run


def at_hand(spec: Spec, runtime: Runtime, local_data: str | None) -> Runtime:
    """Return `runtime` with the data on this node's own disk, copied there if need be.

    A training function of one's own finds its data itself.
    """
    if local_data is None or isinstance(spec, OwnSpec):
        return runtime
    prepare(spec.data, runtime.data_root)
    copy_once(spec.data, runtime.data_root, local_data)
    return replace(runtime, data_root=local_data)


def _train_of(spec: Spec) -> Train:
    if isinstance(spec, OwnSpec):
        return train_own
    from mtl.training import fit

    return fit


def pack_rates(spec: RunSpec, data_root: str | None, cuda_graphs: bool) -> dict[int, float]:
    """Return what `mtl.training.probe.probe_packs` measures on this node."""
    from mtl.training.probe import probe_packs  # not on a driver that trains nothing

    return probe_packs(spec, info_of(spec.data, data_root), cuda_graphs=cuda_graphs)


RUN_TAGS = ("run", "method", "task")
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "mtl_epoch": ("Epochs that the run has finished.", ("run", "method")),
    "mtl_epochs_planned": ("Epochs that the run will have.", ("run", "method")),
    "mtl_loss": ("Mean training loss of the task over the epoch.", RUN_TAGS),
    "mtl_weight": ("Mean effective loss weight of the task over the epoch.", RUN_TAGS),
    "mtl_loss_scale": ("Mean weight x loss of the task over the epoch.", RUN_TAGS),
    "mtl_metric": ("Validation metric after the epoch.", (*RUN_TAGS, "metric")),
}
"""Name -> what it says and its tags."""


@functools.cache
def _gauge(name: str) -> Gauge:
    text, tags = GAUGES[name]
    return Gauge(name, description=text, tag_keys=tags)


def values_of(spec: Spec, record: EpochRecord) -> list[tuple[str, dict[str, str], float]]:
    """Return gauge, tags and value of everything that an epoch's record says; what is None is not.

    Args:
        spec: the run.
        record: its newest epoch.
    """
    run = {"run": spec.run_id(), "method": spec.method}
    values: list[tuple[str, dict[str, str], float]] = [
        ("mtl_epoch", run, float(record.epoch)),
        *([("mtl_epochs_planned", run, float(spec.epochs))] if spec.epochs else []),
    ]
    for name, of_tasks in (
        ("mtl_loss", record.losses),
        ("mtl_weight", record.weights),
        ("mtl_loss_scale", record.loss_scales),
    ):
        values += [
            (name, {**run, "task": task}, value)
            for task, value in zip(spec.tasks, of_tasks or (), strict=False)
            if value is not None
        ]
    for task, metrics in record.metrics.get("validation", {}).items():
        values += [
            ("mtl_metric", {**run, "task": task, "metric": name}, value)
            for name, value in metrics.items()
            if value is not None
        ]
    return values


def publish(spec: Spec, record: EpochRecord) -> None:
    """Set the gauges of this worker process to what an epoch's record says."""
    for name, tags, value in values_of(spec, record):
        _gauge(name).set(value, tags=tags)
