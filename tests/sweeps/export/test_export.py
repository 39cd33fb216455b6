"""Exports are read back by each tool's own library; asked again, only what is new is written."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mtl.records import EpochRecord
from mtl.store import Store
from sweeps.export.__main__ import main
from tests.sweeps.test_watch import IDS, LSB, SPECS, finish, write_status

DONE, GROWS, FAILED = LSB[0], LSB[1], 1


def record(epoch: int) -> EpochRecord:
    metrics = {"validation": {"depth": {"delta1": epoch / 10}, "segmentation": {"miou": 0.3}}}
    losses: list[float | None] = [1.0 / epoch, None]
    return EpochRecord(epoch, losses, [1.0, None], [1.0 / epoch, None], None, 0.01, metrics, 1.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a sweep with a run that is done, one that grows and one that failed."""
    store = Store(tmp_path / "store")
    write_status(store)
    finish(store, DONE, 0.6, 0.7)
    for index, epochs in ((DONE, (1, 2)), (GROWS, (1,)), (FAILED, (1,))):
        store.write_spec(SPECS[index])
        for epoch in epochs:
            store.append_epoch(IDS[index], record(epoch))
    store.write_error(IDS[FAILED], "ValueError: the loss is not finite")
    write_samples(store, IDS[DONE])
    return store


def write_samples(store: Store, run_id: str) -> None:
    shape = (1, 6, 8)
    arrays: dict[str, Any] = {"indices": np.array([3]), "image": np.zeros((*shape, 3), np.uint8)}
    for task, values in (
        ("depth", np.ones((*shape, 1), np.float16)),
        ("segmentation", np.ones(shape, np.uint8)),
    ):
        arrays |= {f"{task}_prediction": values, f"{task}_target": values}
        arrays |= {f"{task}_valid": np.ones(shape, bool), f"{task}_error": np.ones(shape, "f2")}
    folder = store.run_folder(run_id) / "samples"
    folder.mkdir(parents=True)
    np.savez(folder / "epoch_00002.npz", **arrays)


def export(store: Store, tool: str, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    place = f"{store.place('')}/sweeps/mine"
    assert main([place, "--to", tool, "--out", str(out)]) == 0
    return capsys.readouterr().out


def grow(store: Store) -> None:
    store.append_epoch(IDS[GROWS], record(2))


@pytest.fixture
def exported(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Path:
    """Export to the tool that the test names, grow a run, and export what is new."""
    tool, out = request.param, tmp_path / "out"
    assert "3 runs" in export(store, tool, out, capsys)
    assert "0 of them new" in export(store, tool, out, capsys)
    grow(store)
    assert "1 of them new" in export(store, tool, out, capsys)
    return out


def name_of(index: int) -> str:
    spec = SPECS[index]
    priorities = "-".join(f"{p:.3g}" for p in spec.priorities or ())
    return f"{spec.method}_{priorities}_seed{spec.seed}_{IDS[index][:8]}"


@pytest.mark.parametrize("exported", ["tensorboard"], indirect=True)
def test_tensorboard_reads_each_epoch_once(exported):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="no TensorBoard: its event files were written and not read back",
    )
    read = accumulator.EventAccumulator(str(exported / name_of(GROWS)))
    read.Reload()
    steps = [(event.step, event.value) for event in read.Scalars("losses/depth")]
    assert steps == [(1, 1.0), (2, 0.5)]
    assert "losses/segmentation" not in read.Tags()["scalars"]  # absent, and not 0
    done = accumulator.EventAccumulator(str(exported / name_of(DONE)))
    done.Reload()
    assert {"input", "depth/prediction", "segmentation/error"} <= {*done.Tags()["images"]}
    (final,) = done.Scalars("test/depth/delta1")
    assert final.value == pytest.approx(0.99)


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["mlflow"], indirect=True)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_reads_each_epoch_once(exported):
    mlflow = pytest.importorskip("mlflow", reason="no MLflow: nothing was exported to it")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{exported}")
    experiment = client.get_experiment_by_name("mine")
    runs = {
        run.data.tags["mtl.run_id"]: run for run in client.search_runs([experiment.experiment_id])
    }
    assert runs.keys() == {IDS[DONE], IDS[GROWS], IDS[FAILED]}
    history = client.get_metric_history(runs[IDS[GROWS]].info.run_id, "losses/depth")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    assert runs[IDS[FAILED]].info.status == "FAILED"
    assert runs[IDS[DONE]].info.status == "FINISHED"
    assert runs[IDS[DONE]].data.params["optimizer.learning_rate"] == "0.0025"
    assert runs[IDS[DONE]].data.metrics["test/depth/delta1"] == pytest.approx(0.99)
    folder = "epoch_00002/depth"
    files = [file.path for file in client.list_artifacts(runs[IDS[DONE]].info.run_id, folder)]
    assert f"{folder}/error.png" in files


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a W&B file: LevelDB's log format after seven bytes."""
    at, block, parts = 7, 32768, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["wandb"], indirect=True)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_wandb_reads_each_epoch_once(exported):
    pytest.importorskip("wandb", reason="no W&B: nothing was exported to it")
    from wandb.proto import wandb_internal_pb2

    steps, names = [], set()
    for file in sorted(exported.glob(f"wandb/offline-run-*/run-{IDS[GROWS]}.wandb")):
        for data in wandb_records(file.read_bytes()):
            held = wandb_internal_pb2.Record()
            held.ParseFromString(data)
            items = {
                "/".join(item.nested_key) or item.key: item.value_json for item in held.history.item
            }
            if "losses/depth" in items:
                steps.append((int(items["_step"]), float(items["losses/depth"])))
            names |= {held.run.display_name} - {""}
    assert steps == [(1, 1.0), (2, 0.5)]
    assert names == {name_of(GROWS)}


def opened(path: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name="mine", storage=storage)


def test_study_holds_failed_runs_and_the_front_on_validation(store, tmp_path, capsys):
    finish(store, LSB[2], 0.5, 0.6)  # dominated
    finish(store, LSB[3], 0.5, 0.9)
    assert "4 trials" in export(store, "optuna", tmp_path / "study.log", capsys)
    study = opened(tmp_path / "study.log")
    states = {trial.user_attrs["run_id"]: trial.state for trial in study.trials}
    assert states[IDS[FAILED]] is TrialState.FAIL
    assert IDS[GROWS] not in states  # it has not come to an end
    front = {trial.user_attrs["run_id"]: trial.values for trial in study.best_trials}
    assert front == {IDS[DONE]: [0.6, 0.7], IDS[LSB[3]]: [0.5, 0.9]}
    assert study.best_trials[0].params["method"] == "lsb"
    # Asked again, the study is the same and not twice as long.
    export(store, "optuna", tmp_path / "study.log", capsys)
    assert len(opened(tmp_path / "study.log").trials) == 4


def test_file_that_is_no_such_study_is_left_alone(store, tmp_path, capsys):
    precious = tmp_path / "precious.md"
    precious.write_text("mine")
    assert main([store.place(""), "--to", "optuna", "--out", str(precious)]) == 1
    assert precious.read_text() == "mine"
    assert "Give another --out" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--to", "nosuch"], []])
def test_unknown_tools_are_refused(store, arguments: Sequence[str], capsys):
    assert main([store.place(""), *arguments]) == 2
    assert "--to" in capsys.readouterr().err
