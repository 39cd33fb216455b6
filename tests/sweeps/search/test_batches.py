"""The search from its command line with launches that are played: plan, status, disk, stops."""

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from analysis.pareto import main as pareto
from mtl.store import Store
from mtl.store.plan_file import read_plan
from mtl.store.states import read_runs
from sweeps.launch import driver, preflight
from sweeps.pareto_search import main
from tests.sweeps.played import start_no_ray
from tests.sweeps.search.conftest import Killed, Played

OPTIONS = [
    "--epochs", "16", "--seeds", "2", "--points", "3", "--trials", "6", "--candidates", "4",
    "--population", "3", "--set", "optimizer.learning_rate=8e-4",
    "--learning-rates", "2e-4", "7e-3",
]  # fmt: skip


def make_stage(root, monkeypatch) -> SimpleNamespace:
    """Return what each launch sees, and a way to run the command."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # hundreds of small files
    store = Store(root)
    training = Played(store)
    seen = SimpleNamespace(store=store, training=training, launches=[], sessions=set())
    seen.before = lambda number, signals: None

    def status():
        return json.loads((store.sweep_folder("pareto_search") / "status.json").read_text())

    def launch(plan, store, execution, runtime, progress, journal, display, signals, *, session):
        seen.before(len(seen.launches), signals)
        if signals.received is not None:
            return
        held = read_plan(store, plan.name)
        left = {run_id: progress._remaining(run_id) for run_id in plan.run_ids}
        begun = {run_id: len(store.epochs(run_id)) for run_id in plan.run_ids}
        pause = runtime.pause_after
        for run_id, spec in zip(plan.run_ids, plan.specs, strict=True):
            progress.start(run_id)
            training("", [spec], pause)
            if store.error(run_id) is not None or store.is_done(run_id):
                progress.finish(run_id, succeeded=store.is_done(run_id))
            else:
                progress.pause(run_id)
                folder = store.run_folder(run_id) / "checkpoint"
                folder.mkdir(exist_ok=True)
                (folder / "latest.pt").touch()
        journal.status(progress.snapshot(), "running", now=True)
        seen.sessions.add(session)
        seen.launches.append(
            SimpleNamespace(plan=plan, held=held, status=status(), left=left, begun=begun)
        )

    monkeypatch.setattr(driver, "launch", launch)
    start_no_ray(monkeypatch)
    monkeypatch.setattr("mtl.data.prepared.prepare", lambda *_, **__: None)
    seen.status = status
    seen.run = lambda *more: main([*OPTIONS, "--store", str(store.root), *more])
    return seen


@pytest.fixture
def stage(tmp_path, monkeypatch) -> SimpleNamespace:
    return make_stage(tmp_path / "store", monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """Yield the stage of a search that has come to its end; a test must leave it as it is."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        seen = make_stage(tmp_path_factory.mktemp("finished"), monkeypatch)
        assert seen.run() == 0
        yield seen


def plan_of(store):
    return read_plan(store, "pareto_search")


def stored_runs(store):
    return read_runs(store, store.run_ids()).values()


def test_plan_and_status_count_the_whole_search(finished, capsys):
    stage = finished
    capsys.readouterr()
    assert stage.run("--plan", "--json") == 0
    most = json.loads(capsys.readouterr().out)["num_runs"]
    assert len(stage.sessions) == 1
    assert len(stage.launches) > 3
    known = 0
    for launch in stage.launches:
        # What a batch trains was planned before it, for whoever looks from outside.
        assert set(launch.plan.run_ids) <= set(launch.held.run_ids)
        assert len(launch.held.revisions) == 1
        assert launch.held.reported == []
        assert len(launch.held.run_ids) >= known
        known = len(launch.held.run_ids)
        assert launch.status["total"] == most
        counts = [launch.status[name] for name in ("done", "failed", "paused", "waiting")]
        assert sum(counts) == most
    dones = [launch.status["done"] for launch in stage.launches]
    assert dones == sorted(dones)
    assert stage.launches[0].status["undecided"] > 0
    status = stage.status()
    assert (status["state"], status["waiting"], status.get("undecided")) == ("finished", 0, None)
    assert status["done"] + status["paused"] == status["total"] == len(stage.store.run_ids())
    held = plan_of(stage.store)
    assert [revision.get("reported", True) for revision in held.revisions] == [False, True]
    assert held.tuned == ("optimizer.learning_rate", "method_options.increase_rate")
    assert set(held.run_ids) == set(stage.store.run_ids())
    assert len(held.reported) == 2 * 3 * 2


def test_trained_epochs_are_not_expected_again(finished):
    explored = next(launch for launch in finished.launches if set(launch.begun.values()) == {0, 4})
    # The tuning's runs go on after epoch 4 of 16: a quarter is behind them.
    left = {0: set(), 4: set()}
    for run_id, begun in explored.begun.items():
        left[begun].add(explored.left[run_id])
    # Both methods take alike: their runs on this network differ in the weighting alone.
    (whole,), (rest,) = left[0], left[4]
    assert rest == pytest.approx(0.75 * whole)


def test_analysis_of_a_search_gives_its_own_report(stage, capsys):
    assert stage.run() == 0
    folder = stage.store.sweep_folder("pareto_search")
    out = capsys.readouterr().out
    assert "No test, so no winner: hypervolume " in out
    assert "with 3 points each that a search chose on validation." in out
    written = (folder / "report" / "summary.json").read_bytes()
    summary = json.loads(written)
    assert summary["counts"] == {"done": 12}
    assert set(summary["hypervolumes"]) == {"lsb", "fixed"}
    assert (
        "3 points each, a point being the mean over 2 seeds" in summary["verdict"]["statements"][0]
    )
    assert "no pairing of runs is exchangeable" in summary["verdict"]["statements"][0]
    rates = {run["run_id"]: stage.store.spec(run["run_id"]).optimizer.learning_rate
             for run in summary["runs"]}  # fmt: skip
    assert len(set(rates.values())) == 2, "else the two methods need no tuned field"
    assert pareto([str(folder)]) == 0
    assert "(unchanged)" in capsys.readouterr().out
    assert (folder / "report" / "summary.json").read_bytes() == written
    assert pareto([str(stage.store.root)]) == 0
    of_store = json.loads((stage.store.root / "report" / "summary.json").read_text())
    assert of_store["points"] == summary["points"]


def test_unfinished_search_has_no_report(stage, capsys):
    stage.training.left = 40  # epochs and results
    with pytest.raises(Killed):
        stage.run()
    folder = stage.store.sweep_folder("pareto_search")
    capsys.readouterr()
    assert pareto([str(folder)]) == 1
    assert "a search that has come to its end" in capsys.readouterr().err
    assert pareto([str(stage.store.root)]) == 1
    assert "a search counts once it is over" in capsys.readouterr().err
    assert not (folder / "report").exists()


def test_stopped_search_continues(stage, capsys):
    def stop(number, signals):
        if number == 2:
            signals.received = "SIGTERM"

    stage.before = stop
    assert stage.run() == 1
    said = capsys.readouterr().err
    assert said == (
        "pareto_search: Stopped by SIGTERM. What is done is kept; the same command continues.\n"
    )
    status = stage.status()
    begun = len(stage.store.run_ids())
    # The third batch goes on with begun runs; all others are still to be decided.
    counts = [status[name] for name in ("state", "done", "running", "total", "undecided")]
    assert counts == ["stopped", 0, [], 30, 30 - begun]
    assert status["expected_seconds_left"][0] > 0
    stage.before = lambda number, signals: None
    assert stage.run() == 0
    # A start's revision begins with what earlier starts have decided.
    assert [revision.get("reported", True) for revision in plan_of(stage.store).revisions] == [
        False, False, True,
    ]  # fmt: skip
    assert len(set(stage.training.trained)) == len(stage.training.trained)


def test_full_disk_stops_a_new_search_but_not_a_finished_one(stage, monkeypatch, capsys):
    with monkeypatch.context() as full:
        full.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
        assert stage.run() == 1
    assert "of free disk for the results" in capsys.readouterr().err
    assert (stage.launches, stage.store.run_ids()) == ([], [])
    assert stage.run() == 0
    number = len(stage.launches)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert stage.run() == 0
    assert len(stage.launches) == number


def test_plan_refuses_what_the_run_refuses(finished, capsys):
    stage, before = finished, plan_of(finished.store)
    for changed, words in (
        (("--epochs", "8"), "Expected epochs 16, with which this search was begun"),
        (("--sampler", "random"), "Expected sampler tpe"),
        (("--population", "2"), "Expected population 3"),
        (("--candidates", "5"), "Expected candidates 4"),
    ):
        capsys.readouterr()
        said = []
        for plan_only in ((), ("--plan",)):
            assert stage.run(*changed, *plan_only) == 2
            said.append(capsys.readouterr().err)
        assert said[0] == said[1]
        assert words in said[0]
    assert plan_of(stage.store) == before
    assert stage.run("--plan", "--retry-failed") == 0


def test_reported_failures_stand_with_a_note(stage, capsys):
    stage.training.fails = lambda spec: spec.priorities[0] > 0.7
    assert stage.run("--sampler", "random", "--trials", "9") == 0
    words = "of the tuning or the exploring failed, and what was decided rests on that"
    assert words in capsys.readouterr().out
    failed = {r for r in stage.store.run_ids() if stage.store.error(r) is not None}
    stage.training.fails = lambda spec: False
    assert stage.run("--sampler", "random", "--trials", "9", "--retry-failed") == 0
    assert "--retry-failed leaves them; another --name tries them again" in capsys.readouterr().out
    assert {r for r in stage.store.run_ids() if stage.store.error(r) is not None} == failed


def test_search_that_trained_nothing_is_tried_again_if_asked(stage, capsys):
    stage.training.fails = lambda spec: True
    assert stage.run() == 1
    said = capsys.readouterr().err
    assert "to change a setting of the search, give another --name" in said
    assert "Remove the cause and try again with --retry-failed" in said
    # As said: other settings are refused under this name, and another one takes them.
    slower = ("--learning-rates", "2e-5", "7e-4")
    assert stage.run(*slower) == 2
    assert "Give another --name" in capsys.readouterr().err
    assert stage.run(*slower, "--name", "slower", "--plan") == 0
    capsys.readouterr()
    stage.training.fails = lambda spec: False
    assert stage.run() == 1, "not without being asked to"
    capsys.readouterr()
    assert stage.run("--retry-failed") == 0
    assert "failed" not in capsys.readouterr().out


@pytest.mark.parametrize("number", [0, 3])
def test_run_interrupted_before_its_pause_is_paused_later(stage, number):
    passed = []

    def die():
        passed.append(None)
        if len(passed) > number:
            raise Killed

    stage.training.before_pause = die
    with pytest.raises(Killed):
        stage.run()
    states = [run.state for run in stored_runs(stage.store) if run.epochs == 2]
    assert (states.count("partial"), states.count("paused")) == (1, number)
    stage.training.before_pause = lambda: None
    assert stage.run() == 0
    assert len(set(stage.training.trained)) == len(stage.training.trained)
    assert {run.state for run in stored_runs(stage.store)} == {"done", "paused"}
