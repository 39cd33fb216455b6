"""A training function of one's own as a run of the store; Ray's session is played."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtl.errors import StoreError
from mtl.records import Result
from mtl.spec import Runtime
from mtl.store import Store
from mtl.store.__main__ import main as store_main
from mtl.store.merge import merge
from mtl.store.states import read_run
from mtl.store.verify import verify_store
from sweeps import Metric, Sweep
from sweeps.launch import worker
from sweeps.launch.own_training import packed, unpacked
from sweeps.text import failure_sentence

GOOD = """
import json, tempfile
from pathlib import Path
from ray import tune

def train(config):
    state, checkpoint = {"epoch": 0, "mae": 8.0}, tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = json.loads((Path(folder) / "state.json").read_text())
    while state["epoch"] < 4:
        state = {"epoch": state["epoch"] + 1, "mae": state["mae"] * 0.7 + config["lr"]}
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps(state))
            tune.report(
                {"mae": state["mae"], "drowsiness_auroc": 0.5, "steering_loss": 1.0},
                checkpoint=tune.Checkpoint.from_directory(folder) if state["epoch"] % 2 else None,
            )
        stumble(state["epoch"])

def stumble(epoch):
    pass
"""
METRICS = {
    "steering": Metric("mae", "degrees", "min"),
    "drowsiness": Metric("auroc", "share", "max", low=0.0, high=1.0),
}


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Play the session of a Tune trial; return what Ray is told."""
    told: list[dict[str, Any]] = []

    def report(metrics: dict[str, Any], checkpoint: object = None) -> None:
        assert checkpoint is None, "Ray would keep a second copy"
        told.append(metrics)

    fake = SimpleNamespace(report=report, loaded_checkpoint=None, world_rank=None)
    monkeypatch.setattr("ray.train._internal.session._session", fake)
    return told


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return what writes a module and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    numbers = iter(range(100))

    def written(source: str) -> str:
        name = f"own_{abs(hash(tmp_path)) % 10**9}_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return written


def sweep_of(module: str, **options: Any) -> Sweep:
    return Sweep(f"{module}:train", METRICS, divisions=2, methods=["lsb"], seeds=1, **options)


def trained(sweep: Sweep, root: Path, **runtime: Any) -> tuple[Store, str]:
    """Train the only run of a sweep as a Tune trial would; return its store and id."""
    store = Store(root)
    (run_id,) = sweep.plan().run_ids
    store.write_spec(sweep.plan().specs[0])
    worker.make_trainable(str(root), Runtime(**runtime))({"run_id": run_id})
    return store, run_id


def test_reports_become_the_run(tmp_path, write, reported):
    sweep = sweep_of(write(GOOD), params={"lr": 0.1}, store=tmp_path / "none")
    store, run_id = trained(sweep, tmp_path / "store")
    assert [told.get("state") for told in reported] == [None, None, None, None, "done"]
    assert all(told.pop("seconds") >= 0 for told in reported)
    assert reported[0] == {
        "run_id": run_id,
        "epoch": 1,
        "losses": [1.0, None],
        "validation/steering/mae": 8.0 * 0.7 + 0.1,
        "validation/drowsiness/auroc": 0.5,
    }
    result = store.result(run_id)
    assert isinstance(result, Result)
    assert result.epochs == 4
    assert result.declared["steering"].metrics == (METRICS["steering"],)
    assert result.final_metrics["test"]["steering"]["mae"] == reported[3]["validation/steering/mae"]
    assert len(store.epochs(run_id)) == 4
    assert store.manifest(run_id)["wall_seconds"] > 0
    assert verify_store(store).damages == []
    other = Store(tmp_path / "other")
    assert merge(store, other).counts == {"copied": 1}
    assert read_run(other, run_id).state == "done"
    assert store_main(["list", str(other.root), "--task", "steering"]) == 0


def test_report_is_that_of_every_sweep(tmp_path, write, reported, capsys):
    options = {"divisions": 3, "seeds": 1, "params": {"lr": 0.1}, "store": tmp_path / "store"}
    sweep = Sweep(f"{write(GOOD)}:train", METRICS, **options)
    store = Store(tmp_path / "store")
    for spec in sweep.plan().specs:
        run_id = store.write_spec(spec)
        worker.make_trainable(str(store.root), Runtime())({"run_id": run_id})
    (report,) = sweep.report().values()
    assert report.path == store.sweep_folder("train") / "report" / "report.html"
    assert report.counts == {"done": 4}
    assert "steering mae (degrees)" in report.table
    assert f"One training function, {sweep.train}" in report.path.read_text()


def test_run_goes_on_from_its_checkpoint_bit_for_bit(tmp_path, write, reported):
    module = write(GOOD)
    sweep = sweep_of(module, params={"lr": 0.1}, store=tmp_path / "none")
    whole, run_id = trained(sweep, tmp_path / "whole")
    own = __import__(module)

    def fail_after(epoch: int) -> None:
        def stumble(now: int) -> None:
            if now == epoch:
                raise OSError("the disk")

        own.stumble = stumble

    for epoch in (2, 3):  # the second time behind a checkpoint, the first one report after it
        fail_after(epoch)
        with pytest.raises(OSError, match="the disk"):
            trained(sweep, tmp_path / "store")
    fail_after(-1)
    store, _ = trained(sweep, tmp_path / "store")
    assert store.result(run_id) == whole.result(run_id)
    records = [[r.metrics for r in s.epochs(run_id)] for s in (store, whole)]
    assert records[0] == records[1]
    assert store.manifest(run_id)["started_epochs"] == [1, 2, 4]
    assert store.error(run_id) is None


REPORT = "    tune.report({'mae': 1.0, 'auroc': 0.5})\n"
BAD = {
    "never reports": ("    pass\n", "to report steering_mae, drowsiness_auroc with tune.report"),
    "lacks a metric": (
        "    tune.report({'mae': 1.0, 'roc': 0.5})\n",
        "Expected drowsiness_auroc in report 1 of MODULE:train, got mae, roc.",
    ),
    "ends without metrics": (
        REPORT + "    tune.report({'loss': 1.0})\n",
        "in the last report of MODULE:train, got none of them",
    ),
    "reports NaN": (
        REPORT + "    tune.report({'mae': float('nan'), 'auroc': 0.5})\n",
        "finite mae within its range in report 2 of MODULE:train, got NaN",
    ),
    "leaves the range": (
        "    tune.report({'mae': 1.0, 'auroc': 50})\n",
        "got 50 where only a value between 0 and 1 is possible",
    ),
    "reports a text": (
        "    tune.report({'mae': 'low', 'auroc': 0.5})\n",
        "Expected a number for mae in report 1 of MODULE:train, got 'low'",
    ),
    "catches what is said": (
        "    try:\n        tune.report({'mae': float('inf'), 'auroc': 0.5})\n"
        "    except Exception:\n        tune.report({'mae': 1.0, 'auroc': 0.5})\n",
        "got an infinite value",
    ),
    "has a mistake": ("    config['lrr']\n", "got KeyError: 'lrr' in MODULE.py, line 3."),
    "calls ours wrongly": (
        "    from mtl.weighting import build_weighting\n    build_weighting('lbs', ('a', 'b'))\n",
        "uncertainty in MODULE.py, line 4.",
    ),
    "calls another's wrongly": (
        "    import json\n    json.loads('{')\n",
        "in MODULE.py, line 4.",
    ),
    "exits": ("    raise SystemExit(3)\n", "Expected MODULE:train to return, got sys.exit(3)."),
}


@pytest.mark.parametrize("what", BAD)
def test_what_a_function_does_wrong_is_a_failed_run_with_a_sentence(
    what, tmp_path, write, reported
):
    body, told = BAD[what]
    module = write(f"from ray import tune\ndef train(config):\n{body}")
    store, run_id = trained(sweep_of(module), tmp_path / "store")
    assert reported[-1]["state"] == "failed"
    assert set(reported[-1]) <= {"run_id", "state", "seconds"}
    run = read_run(store, run_id)
    assert run.state == "failed"
    sentence = failure_sentence(store.error(run_id))
    assert told.replace("MODULE", module) in sentence
    assert sentence.startswith("Expected ")


def test_returned_and_yielded_values_are_reports(tmp_path, write, reported):
    body = "    yield {'mae': 2.0, 'auroc': 0.5}\n    yield {'mae': 1.0, 'auroc': 0.5}\n"
    for source in (body, "    return {'mae': 1.0, 'auroc': 0.5}\n"):
        module = write(f"def train(config):\n{source}")
        store, run_id = trained(sweep_of(module), tmp_path / module)
        assert store.result(run_id).final_metrics["test"]["steering"] == {"mae": 1.0}


@pytest.mark.parametrize("scalar", ["numpy.float32(1)", "torch.tensor(1.0)", "torch.ones(1)"])
def test_scalars_of_numpy_and_torch_are_numbers(scalar, tmp_path, write, reported):
    source = (
        f"import numpy, torch\ndef train(config):\n    return {{'mae': {scalar}, 'auroc': 0}}\n"
    )
    store, run_id = trained(sweep_of(write(source)), tmp_path / "store")
    assert store.result(run_id).final_metrics["test"]["steering"] == {"mae": 1.0}


def test_validation_metrics_are_kept_apart(tmp_path, write, reported):
    names = "{'mae': 1.0, 'auroc': 0.5, 'validation_mae': 2.0, 'validation_auroc': 0.25}"
    module = write(f"def train(config):\n    return {names}\n")
    store, run_id = trained(sweep_of(module), tmp_path / "store")
    metrics = store.result(run_id).selected_metrics
    assert metrics["validation"] == {"steering": {"mae": 2.0}, "drowsiness": {"auroc": 0.25}}
    assert store.epochs(run_id)[0].metrics["validation"] == metrics["validation"]


def test_edited_code_is_refused_by_the_worker(tmp_path, write, reported):
    module = write(f"from ray import tune\ndef train(config):\n{REPORT}")
    sweep = sweep_of(module)
    (tmp_path / f"{module}.py").write_text("def train(config):\n    pass\n")
    store, run_id = trained(sweep, tmp_path / "store")
    (told,) = reported
    assert told["state"] == "failed"
    assert "edited code makes new runs" in failure_sentence(store.error(run_id))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("none", []), ("final", ["latest.zip"]),
     ("all", ["epoch_00001.zip", "epoch_00003.zip", "latest.zip"])],
)  # fmt: skip
def test_checkpoints_stay_as_asked(keep, kept, tmp_path, write, reported):
    sweep = sweep_of(write(GOOD), params={"lr": 0.1})
    store, run_id = trained(sweep, tmp_path / "store", keep=keep)
    assert store.names(store.run_key(run_id, "checkpoint")) == kept


def test_checkpoint_writes_nothing_outside_its_folder(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("state.json", "{}")
        archive.writestr("files/../../outside", "x")
    folder = tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    with pytest.raises(StoreError, match="Expected a checkpoint in there, got a damaged file"):
        unpacked(buffer.getvalue(), folder, "there")
    assert not list(tmp_path.rglob("outside"))


def test_checkpoint_of_the_same_files_is_the_same(tmp_path):
    for name in ("b", "a/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    state = {"epoch": 3}
    data = packed(tmp_path, state)
    (tmp_path / "b").touch()
    assert packed(tmp_path, state) == data
    out = tmp_path / "out"
    assert unpacked(data, out, "there") == state
    assert (out / "a/c").read_text() == "a/c"
