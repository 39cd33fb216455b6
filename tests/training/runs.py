"""Tiny runs: trained, interrupted, and compared."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mtl.records import EpochRecord, TaskMetrics
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.checkpoint import is_better
from tests.conftest import tiny_fields


def tiny(**changes: object) -> RunSpec:
    """Return a tiny run with top-level `changes`; a changed `network` keeps its other fields."""
    network = {**tiny_fields()["network"], **changes.pop("network", {})}  # type: ignore[dict-item]
    return RunSpec.from_dict(tiny_fields(network=network, **changes))


def records_of(spec: RunSpec, runtime: Runtime, folder: Path) -> list[EpochRecord]:
    """Train a run in a store of its own; return its records."""
    store = Store(folder)
    fit(spec, store, runtime)
    return store.epochs(spec.run_id())


def interrupt(spec: RunSpec, store: Store, runtime: Runtime) -> None:
    """Train one more epoch, then stop as Ctrl-C does."""

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(spec, store, runtime, on_epoch=stop)


def outcome(store: Store, run_id: str) -> tuple[bytes, list[dict], dict[str, torch.Tensor]]:
    """Return all that must not depend on when a run was stopped: result, records, weights."""
    records = [{**record.to_dict(), "seconds": None} for record in store.epochs(run_id)]
    result = (store.run_folder(run_id) / "result.json").read_bytes()
    return result, records, load_network(store, run_id).state_dict()


def assert_same_outcome(one: Store, other: Store, run_id: str) -> None:
    first, second = outcome(one, run_id), outcome(other, run_id)
    assert first[:2] == second[:2]
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])


def assert_resumes(spec: RunSpec, runtime: Runtime, folder: Path) -> list[EpochRecord]:
    """Assert that a run stopped after its first epoch ends as the undisturbed one, bit for bit."""
    undisturbed, stopped = Store(folder / "a"), Store(folder / "b")
    fit(spec, undisturbed, runtime)
    interrupt(spec, stopped, runtime)
    fit(spec, stopped, runtime)
    assert_same_outcome(undisturbed, stopped, spec.run_id())
    return undisturbed.epochs(spec.run_id())


def selected_epoch(metrics: Sequence[TaskMetrics]) -> int:
    """Return the epoch, counted from 1, that no other epoch beats and that came first."""
    chosen = 0
    for index in range(1, len(metrics)):
        if is_better(metrics[index], metrics[chosen]):
            chosen = index
    return chosen + 1
