"""A store of an earlier release (see old_store/README.md) reads as it did then."""

import shutil
from pathlib import Path

import pytest

from analysis.load.groups import groups_of_stores
from analysis.load.run_files import RunFiles
from analysis.load.runs import load_stores
from mtl.store import Store
from mtl.store.plan_file import read_plan
from mtl.store.states import read_runs
from mtl.store.verify import verify_store

LSB = ("69dfca87fe386e63", "dcdbee26b0da6b5f")
FAILED, PARTIAL = "96b52944d78c4593", "8b1e43a9820c6591"
IDS = (*LSB, FAILED, PARTIAL)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(Path(__file__).with_name("old_store"), tmp_path / "old")
    return Store(tmp_path / "old", create=False)


def test_states_and_records_of_an_old_store(store):
    assert read_plan(store, "priority_grid").reported == list(IDS)
    runs = read_runs(store, IDS)
    assert [(run.state, run.reason) for run in runs.values()] == [
        ("done", ""),
        ("done", ""),
        ("failed", "ValueError: Expected a finite loss, got nan."),
        ("partial", "after epoch 1 of 2"),
    ]
    spec = runs[LSB[1]].spec
    assert (spec.method, spec.priorities, spec.seed, spec.epochs) == ("lsb", (0.75, 0.25), 0, 2)
    first, second = store.epochs(LSB[1])
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.metrics["validation"]["depth"]["rmse"] == 2.731960788710863


def test_old_store_is_undamaged(store):
    found = verify_store(store)
    assert (found.num_runs, found.num_sweeps, found.damages, found.notes) == (4, 1, [], [])


def test_analysis_of_an_old_store(store):
    (group,) = groups_of_stores([store])
    assert group.run_ids == IDS
    loaded = load_stores([store])
    assert [state.state for state in loaded.states] == ["done", "done", "failed", "partial"]
    columns = ["priority_depth", "depth_rmse", "segmentation_miou", "validation_segmentation_miou"]
    assert loaded.runs.set_index("run_id").loc[LSB[1], columns].tolist() == [
        0.75, 2.828089381893386, 0.05700893986608273, 0.07912332057561836,
    ]  # fmt: skip
    assert loaded.prior["segmentation_miou"] == 0.24860733760469494
    files = RunFiles([store])
    assert files.sample_epochs(LSB[1]) == [2]
    samples = files.samples(LSB[1], 2, ["image"])
    assert samples["image"].shape == (1, 32, 32, 3)
