"""Trials that train several runs: what each of these reports, and what becomes of it."""

from types import SimpleNamespace

import pytest
from ray.exceptions import GetTimeoutError, WorkerCrashedError

from mtl.errors import RunFailedError, UsageError
from mtl.records import EpochRecord, Result
from mtl.spec import Runtime
from mtl.store import RunBusyError
from mtl.training import pack
from sweeps.launch import Execution, cluster, tune, worker
from sweeps.launch.cluster import Resources, pack_sizes
from sweeps.launch.signals import StopSignals
from sweeps.launch.tracker import Tracker
from sweeps.plan import make_plan
from sweeps.plan.cost import step_key
from sweeps.plan.packs import joined
from sweeps.status.journal import Journal
from tests.sweeps.launch.stage import Said, Stage, launch_specs
from tests.sweeps.launch.test_worker import reported  # noqa: F401 - a fixture
from tests.sweeps.played import EMPTY


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Stage:
    return Stage(tmp_path / "store", monkeypatch)


@pytest.fixture
def tracker(stage) -> Tracker:
    plan = make_plan("mine", "priority_grid", stage.specs)
    return Tracker(stage.store, stage.progress, Journal(stage.store, plan), stage.display)


@pytest.fixture
def callback(tracker) -> tune._Callback:
    return tune._Callback(tracker, StopSignals())


def trial_of(tracker: Tracker, *run_ids: str) -> SimpleNamespace:
    metadata = SimpleNamespace(num_failures=1, invalidate_cache=lambda: None)
    config = joined([tracker.settings(run_id) for run_id in run_ids])
    return SimpleNamespace(config=config, run_metadata=metadata, error_file=None)


def test_each_run_of_a_pack_ends_by_itself(stage, tracker, callback):
    first, second, third = stage.ids[:3]
    trial = trial_of(tracker, first, second, third)
    assert tune._name_of(trial) == f"{first}+2"
    callback.on_trial_start(0, [], trial)
    assert set(stage.progress.running) == {first, second, third}
    report = {"run_id": second, "epoch": 1, "losses": [1.0, 2.0], "seconds": 0.5}
    callback.on_trial_result(0, [], trial, report)
    callback.on_trial_result(0, [], trial, {"run_id": first, "state": "done", "seconds": 2.0})
    callback.on_trial_result(0, [], trial, {"run_id": second, "state": "busy"})
    assert (stage.progress.done, tracker.busy) == ({first}, {second})
    assert stage.progress.seconds_trained == 2.5
    callback.on_trial_complete(0, [], trial)
    assert not stage.progress.running
    assert stage.events().count('"run_stopped"') == 1


def test_pack_is_tried_again_with_what_has_not_ended(stage, tracker, callback):
    first, second = stage.ids[:2]
    trial = trial_of(tracker, first, second)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_result(0, [], trial, {"run_id": first, "state": "done"})
    for epoch in (1, 3, 3):
        report = {"run_id": second, "epoch": epoch, "losses": [1.0, 1.0]}
        callback.on_trial_result(0, [], trial, report)
        callback.on_trial_recover(0, [], trial)
        callback.on_trial_start(0, [], trial)
        assert set(stage.progress.running) == {second}
    assert trial.run_metadata.num_failures == 1  # it got further between two failures
    assert stage.events().count('"run_retried"') == 3
    assert stage.events().count('"run_started"') == 5


def test_runs_of_a_pack_that_dies_go_on_alone(stage, tracker, callback):
    first, second = stage.ids[:2]
    trial = trial_of(tracker, first, second)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_result(0, [], trial, {"run_id": first, "state": "failed"})
    callback.on_trial_error(0, [], trial)
    assert stage.progress.failed == {first}
    assert tracker.alone == {second}
    assert stage.store.error(second) is None
    alone = trial_of(tracker, second)
    callback.on_trial_start(0, [], alone)
    callback.on_trial_error(0, [], alone)
    assert stage.progress.failed == {first, second}
    assert "died again and again" in stage.store.error(second)


def test_reports_of_a_pack_name_their_runs(stage, reported, monkeypatch):  # noqa: F811
    ids = [stage.store.write_spec(spec) for spec in stage.specs[:4]]
    record = EpochRecord(1, [0.5, None], None, None, None, 0.1, {"validation": {}}, 1.0)
    result = Result(ids[0], "done", 1, "last", 1, EMPTY, EMPTY)

    def fit_packed(specs, store, runtime, *, tell):
        assert [spec.run_id() for spec in specs] == ids[:3]
        tell(ids[0], record, 0.5)
        tell(ids[0], result, 1.0)
        tell(ids[1], OSError("network"), 2.0)
        tell(ids[2], RunFailedError("Epoch 1: no"), 2.0)

    monkeypatch.setattr(pack, "fit_packed", fit_packed)
    (stage.store.run_folder(ids[3]) / "spec.json").write_text("{")
    train_runs = worker.make_trainable(str(stage.store.root), Runtime())
    with pytest.raises(OSError, match="network"):
        train_runs({"run_id": ", ".join(ids)})
    assert reported == [
        {"run_id": ids[3], "state": "failed"},
        {"run_id": ids[0], "seconds": 0.5, "epoch": 1, "losses": [0.5, None]},
        {"run_id": ids[0], "seconds": 1.0, "state": "done"},
        {"run_id": ids[2], "seconds": 2.0, "state": "failed"},
    ]
    assert "RunFailedError: Epoch 1: no" in stage.store.error(ids[2])
    assert stage.store.error(ids[1]) is None


def test_next_try_of_a_pack_leaves_out_what_failed_for_good(stage, reported, monkeypatch):  # noqa: F811
    ids = [stage.store.write_spec(spec) for spec in stage.specs[:3]]
    asked = []

    def fit_packed(specs, store, runtime, *, tell):
        asked.append([spec.run_id() for spec in specs])
        if len(asked) == 1:
            for run_id, error in zip(ids, (RunFailedError("no"), OSError("network")), strict=False):
                store.write_error(run_id, str(error))  # as a training does
                tell(run_id, error, 1.0)
        raise SystemExit  # the process dies, while the third is training

    monkeypatch.setattr(pack, "fit_packed", fit_packed)
    train_runs = worker.make_trainable(str(stage.store.root), Runtime())
    for _ in range(2):
        with pytest.raises(SystemExit):
            train_runs({"run_id": ", ".join(ids)})
    assert asked == [ids, ids[1:]]
    assert [stage.store.error(run_id) for run_id in ids] == ["no\n", None, None]
    assert reported[-1] == {"run_id": ids[0], "state": "failed"}


def test_training_of_a_test_takes_the_runs_of_a_pack_in_turn(stage, reported):  # noqa: F811
    ids = [stage.store.write_spec(spec) for spec in stage.specs[:2]]
    trained = []

    def train(spec, store, runtime, on_epoch):
        trained.append(spec.run_id())
        raise RunBusyError("busy")

    worker.make_trainable(str(stage.store.root), Runtime(), train)({"run_id": ", ".join(ids)})
    assert trained == ids
    assert [report["state"] for report in reported] == ["busy", "busy"]


def test_packs_are_given_to_every_kind_of_run_or_measured(stage, monkeypatch):
    specs, kind = stage.specs, step_key(stage.specs[0])
    on_gpu, known = Resources(1, 1, 1), {}
    assert pack_sizes(3, specs, Runtime(), Resources(1, 0, 1), known, stage.display) == {kind: 3}
    assert pack_sizes("auto", specs, Runtime(), Resources(1, 0, 1), known, stage.display) == {}
    rooms = Resources(1, 1, len(specs))  # for all at once
    assert pack_sizes("auto", specs, Runtime(), rooms, known, stage.display) == {}
    monkeypatch.setattr(cluster, "_measured_pack", lambda *_: 4)
    assert pack_sizes("auto", specs, Runtime(), on_gpu, known, stage.display) == {kind: 4}
    monkeypatch.setattr(cluster, "_measured_pack", pytest.fail)
    assert pack_sizes("auto", specs, Runtime(), on_gpu, known, stage.display) == {kind: 4}


@pytest.mark.parametrize(
    ("error", "cancelled"), [(WorkerCrashedError, []), (GetTimeoutError, ["asked"])]
)
def test_runs_are_not_packed_where_measuring_fails(error, cancelled, stage, monkeypatch):
    def get(*_: object, **__: object):
        raise error

    given_up: list[object] = []
    asked = SimpleNamespace(remote=lambda *_: "asked")
    monkeypatch.setattr(cluster.ray, "remote", lambda **_: lambda _: asked)
    monkeypatch.setattr(cluster.ray, "get", get)
    monkeypatch.setattr(cluster.ray, "cancel", lambda task, **_: given_up.append(task))
    one = Resources(1, 1, 1)
    assert cluster._measured_pack(stage.specs[0], Runtime(), one, stage.display) == 1
    assert stage.said[-1].startswith("Runs are not packed (")
    assert given_up == cancelled


def test_rounds_get_packs_of_all_but_suspects(stage):
    rounds = []

    def run_round(run_ids, trainable, resources, tracker, signals, scratch):
        rounds.append((len(run_ids), set(resources.packs.values())))
        crash = {run_ids[0]: RuntimeError("killed")} if len(rounds) == 1 else {}
        stage.train(tracker, run_ids, **crash)

    with StopSignals() as signals:
        launch_specs(
            stage.store, stage.specs, signals, execution=Execution(pack=2),
            progress=stage.progress, display=Said(), run_round=run_round,
        )  # fmt: skip
    assert rounds == [(6, {2}), (5, {2}), (1, set())]


@pytest.mark.parametrize("gpus", [0.5, 0.25])
def test_packs_and_fractions_of_a_gpu_are_refused(gpus):
    with pytest.raises(UsageError, match="either --pack or --gpus-per-run"):
        Execution(pack=2, gpus_per_run=gpus)
    assert Execution(pack="auto", gpus_per_run=1).pack == "auto"
