"""A store with two short trainings, done once and copied for each test."""

import shutil
from pathlib import Path

import pytest

from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.store import Store, write_json
from mtl.training import fit
from tests.conftest import tiny_fields


def epoch_record(epoch: int, loss: float = 1.0) -> EpochRecord:
    """Return the record of an epoch of two tasks, one of which had no valid pixel."""
    return EpochRecord(
        epoch=epoch, losses=[loss, None], weights=[0.5, 0.5], loss_scales=[0.5, None],
        difficulties=None, learning_rate=1e-3,
        metrics={"validation": {"depth": {"delta1": None}}}, seconds=1.5,
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: str) -> Path:
    """Return a store with a sweep of three runs: two done, the third stopped after epoch 1."""
    store = Store(tmp_path_factory.mktemp("trained") / "store")
    runtime = Runtime(device="cpu", data_root=data_root, sample_epochs=(1,))
    specs = [RunSpec.from_dict(tiny_fields(seed=seed)) for seed in (0, 1, 2)]

    def stop(record: object) -> None:
        raise KeyboardInterrupt

    for spec in specs[:2]:
        fit(spec, store, runtime)
    with pytest.raises(KeyboardInterrupt):
        fit(specs[2], store, runtime, on_epoch=stop)
    run_ids = [spec.run_id() for spec in specs]
    folder = store.sweep_folder("mine")
    folder.mkdir()
    revision = {"started": "2026-01-01T00:00:00+00:00", "run_ids": run_ids, "varies": {}}
    plan = {"schema": 1, "kind": "priority_grid", "revisions": [revision]}
    write_json(folder / "plan.json", plan)
    (folder / "events.jsonl").write_text('{"time": "now", "event": "started"}\n')
    status = {
        "schema": 1, "updated": "2026-01-01T00:00:00+00:00", "state": "stopped", "total": 3,
        "done": 2, "failed": 0, "waiting": 1, "running": [], "expected_seconds_left": [1.0, 2.0],
    }  # fmt: skip
    write_json(folder / "status.json", status)
    return store.root


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    """Return a copy of the trained store."""
    return Store(shutil.copytree(trained, tmp_path / "store"))


@pytest.fixture
def ids() -> list[str]:
    """Return the ids of its runs: two done, one partial."""
    return [RunSpec.from_dict(tiny_fields(seed=seed)).run_id() for seed in (0, 1, 2)]
