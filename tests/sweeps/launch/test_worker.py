"""What a trial reports to Tune, and what a run tells Ray's metrics; no Ray is started."""

from types import SimpleNamespace

import pytest

from mtl.errors import RunFailedError, RunPausedError, StoreError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store
from sweeps.launch import tune, worker
from sweeps.launch.preflight import Needs, versions
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.text import failure_sentence


@pytest.fixture
def reported(monkeypatch) -> list[dict]:
    told = []
    monkeypatch.setattr(worker.tune, "report", told.append)
    context = SimpleNamespace(get_node_id=lambda: "0123456789")
    monkeypatch.setattr(worker.ray, "get_runtime_context", lambda: context)
    return told


def without_seconds(reported: list[dict]) -> list[dict]:
    return [{k: v for k, v in told.items() if k != "seconds"} for told in reported]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RunFailedError("loss is not finite"), "failed"),
        (StoreError("Expected a checkpoint, got a damaged file."), "failed"),
        (ValueError("Expected this, got that."), "failed"),
        (RunBusyError("busy"), "busy"),
        (RunPausedError(), "paused"),
        (OSError("network"), None),
        (MemoryError(), None),
    ],
)
def test_lasting_failure_is_reported_and_passing_one_raised(error, state, tmp_path, reported):
    store = Store(tmp_path)
    run_id = store.write_spec(grid_specs(GRID)[0])

    def train(spec, store, runtime, on_epoch):
        raise error

    train_run = worker.make_trainable(str(tmp_path), Runtime(), train)
    if state is None:
        with pytest.raises(type(error)):
            train_run({"run_id": run_id})
        assert reported == []
    else:
        train_run({"run_id": run_id})
        assert without_seconds(reported) == [{"run_id": run_id, "state": state}]
    if state == "failed":
        told = failure_sentence(store.error(run_id))
        assert told.removeprefix("ValueError: ").rstrip(".") == str(error).rstrip(".")


def test_every_metric_reaches_tune(tmp_path, reported):
    run_id = Store(tmp_path).write_spec(grid_specs(GRID)[0])
    metrics = {"validation": {"depth": {"rmse": 0.5, "delta1": None}}, "test": {}}

    def train(spec, store, runtime, on_epoch):
        on_epoch(EpochRecord(1, [0.5, None], None, None, None, 0.1, metrics, 1.0))
        return Result(run_id, "done", 1, "last", 1, metrics, metrics)

    worker.make_trainable(str(tmp_path), Runtime(), train)({"run_id": run_id})
    assert reported[0]["seconds"] <= reported[1]["seconds"]
    assert without_seconds(reported) == [
        {"run_id": run_id, "epoch": 1, "losses": [0.5, None], "validation/depth/rmse": 0.5},
        {"run_id": run_id, "state": "done", "validation/depth/rmse": 0.5},
    ]


def test_store_that_is_not_there_is_not_made(tmp_path, reported):
    train_run = worker.make_trainable(str(tmp_path / "store"), Runtime())
    with pytest.raises(StoreError, match="Expected a run store"):
        train_run({"run_id": "0" * 16})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ("versions", "Expected the same torch everywhere, got 0.1 on the other nodes and"),
        ("store", "Expected a run store, got"),
        ("run", "which the driver has written"),
    ],
)
def test_node_that_lacks_something_reports_it_and_trains_nothing(lacks, told, tmp_path, reported):
    run_id = Store(tmp_path / "store").write_spec(grid_specs(GRID)[0])
    other_store = tmp_path / ("elsewhere" if lacks == "store" else "store")
    needs = Needs(
        store=str(other_store),
        versions=versions() | ({"torch": "0.1"} if lacks == "versions" else {}),
    )
    train_run = worker.make_trainable(str(other_store), Runtime(), pytest.fail, needs=needs)
    train_run({"run_id": "0" * 16 if lacks == "run" else run_id})
    (report,) = reported
    assert report["node_id"] == "0123456789"
    assert report["incompatible"].startswith("On node ")
    assert told in report["incompatible"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_failures_count_from_one_after_progress():
    tracker = SimpleNamespace(
        run_epoch=lambda *_: None, run_retried=lambda *_: None, is_open=lambda _: True
    )
    callback = tune._Callback(tracker, StopSignals())
    metadata = SimpleNamespace(num_failures=0, invalidate_cache=lambda: None)
    trial = SimpleNamespace(config={"run_id": "a"}, run_metadata=metadata, error_file=None)

    def fail_after(epoch):
        callback.on_trial_result(0, [], trial, {"run_id": "a", "epoch": epoch, "losses": [1.0]})
        metadata.num_failures += 1  # as Tune does before it tells its callbacks
        callback.on_trial_recover(0, [], trial)
        return metadata.num_failures

    # Epochs 3 and 5: further. Then 5 again, twice: no further, so Tune's limit of 2 is reached.
    assert [fail_after(epoch) for epoch in (3, 5, 5, 4)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("recorded", "sentence"),
    [
        (None, ""),
        ("\n", ""),
        ("Traceback\nmtl.errors.StoreError: Expected a: b.\n", "Expected a: b."),
        ("torch.cuda.OutOfMemoryError: 2 GB", "OutOfMemoryError: 2 GB."),
        ("Its process died. See x.y: there", "Its process died. See x.y: there."),
    ],
)
def test_failure_is_shown_without_modules(recorded, sentence):
    assert failure_sentence(recorded) == sentence


def test_every_number_becomes_a_gauge_with_its_tags(make_tiny):
    spec = RunSpec.from_dict(make_tiny(tasks=["depth", "segmentation"]))
    metrics = {
        "validation": {"depth": {"rmse": 0.5, "delta1": None}, "segmentation": {"miou": 0.25}}
    }
    record = EpochRecord(2, [0.5, None], [1.5, None], [0.75, None], None, 0.1, metrics, 1.0)
    run = {"run": spec.run_id(), "method": spec.method}
    depth, segmentation = {**run, "task": "depth"}, {**run, "task": "segmentation"}
    told = worker.values_of(spec, record)
    assert told == [
        ("mtl_epoch", run, 2.0),
        ("mtl_epochs_planned", run, 3.0),
        ("mtl_loss", depth, 0.5),
        ("mtl_weight", depth, 1.5),
        ("mtl_loss_scale", depth, 0.75),
        ("mtl_metric", {**depth, "metric": "rmse"}, 0.5),
        ("mtl_metric", {**segmentation, "metric": "miou"}, 0.25),
    ]
    assert {name for name, *_ in told} == set(worker.GAUGES)
    assert all(tuple(tags) == worker.GAUGES[name][1] for name, tags, _ in told)


def test_method_without_weights_has_no_gauge_of_weights(make_tiny):
    spec = RunSpec.from_dict(make_tiny())
    record = EpochRecord(1, [1.0, 1.0], None, None, None, 0.1, {"validation": {}}, 1.0)
    names = [name for name, *_ in worker.values_of(spec, record)]
    assert names == ["mtl_epoch", "mtl_epochs_planned", "mtl_loss", "mtl_loss"]
