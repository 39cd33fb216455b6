"""Real launches on Ray: first with a played training, then with the true one.

A played training is a function within a function, so that it travels to Ray's workers by value.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mtl.spec import Runtime
from mtl.store import Store
from sweeps.launch import processes, tune
from sweeps.launch.driver import launch
from sweeps.launch.execution import Execution
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs, make_plan
from sweeps.plan.cost import Budget, num_cpus
from sweeps.priority_grid import GRID
from sweeps.status.display import PlainDisplay
from sweeps.status.journal import Journal, sweep_lock
from sweeps.status.progress import SweepProgress

SCRIPT = Path(__file__).parents[3] / "sweeps" / "priority_grid.py"
TINY = [
    "--divisions", "3", "--seeds", "1", "--set", "data.num_train=8", "data.num_validation=4",
    "data.num_test=4", "data.height=16", "data.width=16", "network.decoder_widths=8,8,8,8,8,8",
]  # fmt: skip


def played_training(marks: Path):
    """Return a training that notes its process, and fails as `marks/<run id>` tells it."""
    folder = str(marks)

    def train(spec, store, runtime, on_epoch):
        import os
        import signal
        from pathlib import Path

        from mtl.errors import RunFailedError
        from mtl.records import EpochRecord, Result

        run_id = spec.run_id()
        trials = Path(folder, f"{run_id}.trials")
        with open(trials, "a") as file:
            cuda = os.environ.get("CUDA_VISIBLE_DEVICES")
            threads = os.environ.get("OMP_NUM_THREADS")
            file.write(f"{os.getpid()} {runtime.device} {runtime.num_threads} {cuda} {threads}\n")
        num_trials = len(trials.read_text().splitlines())
        order = Path(folder, run_id)
        what = order.read_text() if order.exists() else ""
        with store.run_lock(run_id):
            for epoch in (1, 2):
                on_epoch(EpochRecord(epoch, [0.5, None], [1.0, 1.0], None, None, 0.1, {}, 0.0))
            if what == "fails for good":
                raise RunFailedError("Epoch 2: loss of depth is not finite")
            if what == "is wrong":
                raise ValueError("Expected something else, got this.")
            if what == "fails once" and num_trials == 1:
                raise RuntimeError("a hiccup")
            if what == "fails always":
                raise RuntimeError("a hiccup for ever")
            if what == "dies always" or (what == "dies once" and num_trials == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            metrics = {"validation": {}, "test": {}}
            result = Result(run_id, "done", 2, "last", 2, metrics, metrics)
            store.write_result(result)
            return result

    return train


def play(root: Path, marks: Path, specs, *, execution=None, run_round=None, budget=None):
    """Launch `specs` with the played training; return store, progress and what was said."""
    store = Store(root)
    plan = make_plan("mine", "priority_grid", specs)
    progress = SweepProgress(
        dict(zip(plan.run_ids, plan.specs, strict=True)),
        done=store.done(plan.run_ids),
        expected={},
        slots=2,
    )
    said = []

    class Display(PlainDisplay):
        def say(self, text):
            said.append(text)

    with sweep_lock(store, "mine"), StopSignals() as signals:
        launch(
            plan,
            store,
            execution or Execution(),
            Runtime(),
            progress,
            Journal(store, plan),
            Display(sys.stdout),
            signals,
            budget=budget,
            train=played_training(marks),
            run_round=run_round or tune.tune_round,
        )
    return store, progress, said


def trials(marks: Path, run_id: str) -> list[list[str]]:
    return [line.split() for line in (marks / f"{run_id}.trials").read_text().splitlines()]


def test_processes_are_reused_and_failures_treated_by_their_kind(tmp_path, capfd):
    marks = tmp_path / "marks"
    marks.mkdir()
    specs = grid_specs(GRID)[:12]
    ids = [spec.run_id() for spec in specs]
    orders = {
        6: "fails for good", 7: "is wrong", 8: "fails once", 9: "fails always", 10: "dies once",
        11: "dies always",
    }  # fmt: skip
    for index, what in orders.items():
        (marks / ids[index]).write_text(what)
    store, progress, said = play(tmp_path / "store", marks, specs)
    good = [*ids[:6], ids[8], ids[10]]
    assert progress.done == set(good)
    assert progress.failed == {ids[6], ids[7], ids[9], ids[11]}
    assert [len(trials(marks, run_id)) for run_id in ids[6:]] == [1, 1, 2, 3, 2, 3]
    first = [trials(marks, run_id)[0] for run_id in ids[:6]]
    assert len({pid for pid, *_ in first}) <= 2
    assert {tuple(rest) for _, *rest in first} <= {("cpu", "1", "", "1"), ("cpu", "1", "1")}
    assert "not finite" in store.error(ids[6])
    assert "Expected something else" in store.error(ids[7])
    assert "--concurrency" in store.error(ids[11])
    assert all(store.error(run_id) is None for run_id in good)
    assert sum("Trying again" in text for text in said) == 6
    events = (store.sweep_folder("mine") / "events.jsonl").read_text()
    assert events.count('"run_retried"') == 6
    assert "ray" not in "".join(capfd.readouterr()).lower()
    assert not list(Path("/tmp").glob(f"{processes.SCRATCH_PREFIX}{os.getpid()}-*"))


def test_fit_that_dies_under_real_workers_loses_nothing(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    specs = grid_specs(GRID)[:6]
    num_rounds = 0

    class Dying:
        """Passes on to the listener until three runs have ended, then takes fit() down."""

        def __init__(self, listener):
            self._listener, self._num_ended = listener, 0

        def __getattr__(self, name):
            return getattr(self._listener, name)

        def run_ended(self, run_id, state):
            self._num_ended += run_id in self._listener.progress.running
            self._listener.run_ended(run_id, state)
            if self._num_ended == 3:
                raise RuntimeError("Caught unexpected exception: out of memory")

    def run_round(run_ids, trainable, resources, listener, signals, scratch):
        nonlocal num_rounds
        num_rounds += 1
        heard = Dying(listener) if num_rounds == 1 else listener
        tune.tune_round(run_ids, trainable, resources, heard, signals, processes)

    store, progress, said = play(tmp_path / "store", marks, specs, run_round=run_round)
    assert num_rounds > 1
    assert progress.done == {spec.run_id() for spec in specs}
    assert sum("Ray Tune ended early" in text for text in said) == 1
    done_before = [spec.run_id() for spec in specs][:2]
    assert [len(trials(marks, run_id)) for run_id in done_before] == [1, 1]
    assert store.done(progress.runs) == set(progress.runs)


def test_out_of_time_runs_are_stopped_between_epochs_and_no_other_is_started(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    specs = grid_specs(GRID)[:6]
    now = [0.0]

    class Late:
        """Passes on to the listener; once a first epoch has ended, the time is over."""

        def __init__(self, listener):
            self._listener = listener

        def __getattr__(self, name):
            return getattr(self._listener, name)

        def may_go_on(self, run_id, epoch):
            now[0] = 1000.0
            return self._listener.may_go_on(run_id, epoch)

    def run_round(run_ids, trainable, resources, listener, signals, scratch):
        tune.tune_round(run_ids, trainable, resources, Late(listener), signals, processes)

    budget = Budget(100.0, lambda: now[0])
    store, progress, said = play(
        tmp_path / "store", marks, specs, run_round=run_round, budget=budget
    )
    begun = [path.stem for path in marks.glob("*.trials")]
    assert 1 <= len(begun) <= num_cpus()
    assert store.done(progress.runs) == set()  # none went on to its end behind our back
    assert (progress.running, progress.failed) == ({}, set())
    assert sum("Out of time" in text and "after epoch 1 of" in text for text in said) == len(begun)

    store, progress, _ = play(tmp_path / "store", marks, specs, budget=Budget(1e9))
    assert progress.done == {spec.run_id() for spec in specs}
    assert {len(trials(marks, run_id)) for run_id in begun} == {2}


@pytest.fixture
def environment(tmp_path, monkeypatch) -> dict[str, str]:
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def command(store: Path, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--store", str(store), *TINY, *more]


def results(store: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in store.glob("runs/*/result.json")}


def last_status(store: Path) -> dict:
    return json.loads((store / "sweeps/priority_grid/status.json").read_text())


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def has_epochs(store: Path, least: int = 1):
    def check():
        records = store.glob("runs/*/epochs.jsonl")
        return any(len(path.read_text().splitlines()) >= least for path in records)

    return check


def ray_processes(of: psutil.Process) -> list[psutil.Process]:
    return of.children(recursive=True)


def test_a_sweep_from_the_command_line_and_again(tmp_path, environment):
    store = tmp_path / "store"
    first = subprocess.run(
        command(store, "--epochs", "1"),
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert (first.returncode, first.stderr) == (0, "")
    assert len(first.stdout.splitlines()) < 25  # nothing of Ray's on the terminal
    assert "ray" not in first.stdout.lower().replace(str(tmp_path).lower(), "")
    assert len(results(store)) == 4
    assert (store / "sweeps/priority_grid/report/report.html").exists()
    status = last_status(store)
    assert (status["state"], status["done"], status["running"]) == ("finished", 4, [])
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.name != ".lock"}

    again = subprocess.run(
        command(store, "--epochs", "1"),
        capture_output=True, text=True, timeout=60,
        env={**environment, "PYTHONPROFILEIMPORTTIME": "1"},
    )  # fmt: skip
    told = again.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in told if line.startswith("import time:")}
    assert "sweeps.command" in imported
    assert not {"ray", "torch"} & imported  # a repetition waits for neither
    assert [line for line in told if not line.startswith("import time:")] == []
    assert again.returncode == 0
    assert "4 runs: 4 done, 0 to do." in again.stdout
    assert "(unchanged)" in again.stdout
    after = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.name != ".lock"}
    changed = {p.name for p in after if p.is_file() and after[p] != before.get(p)}
    assert changed == {"plan.json", "lease.json"}

    damaged, *others = sorted(results(store))
    path = store / "runs" / damaged / "result.json"
    path.write_text('{"schema": 1, "ru')
    before = {p: p.stat().st_mtime_ns for p in store.glob("runs/*/*") if damaged not in str(p)}
    last = subprocess.run(
        command(store, "--epochs", "1"),
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert last.returncode == 1
    assert "1 run failed; the first is" in last.stderr
    assert f"): Expected JSON in {path}, got a damaged file" in last.stderr
    assert "Traceback" not in last.stdout + last.stderr
    assert "3 of 4 runs done." in last.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before
    status = last_status(store)
    assert (status["state"], status["done"], status["failed"]) == ("finished", 3, 1)
    assert set(others) < set(results(store))


def test_sigint_stops_a_second_driver_is_refused_and_the_same_command_continues(
    tmp_path, environment
):
    store = tmp_path / "store"
    argv = command(store, "--methods", "lsb", "--epochs", "30")
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    ) as process:  # fmt: skip
        wait_until(has_epochs(store, 2))
        family = ray_processes(psutil.Process(process.pid))
        second = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60)
        assert second.returncode == 1
        assert f"process {process.pid} on" in second.stderr
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("Stopped by SIGINT with ")
    assert said.endswith("the same command continues.\n")
    assert len(said.splitlines()) == 1
    assert last_status(store)["state"] == "stopped"
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    done_before = results(store)
    assert len(done_before) < 2

    again = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120)
    assert (again.returncode, again.stderr) == (0, "")
    assert len(results(store)) == 2
    assert done_before.items() <= results(store).items()


@pytest.mark.slow
def test_raylet_killed_in_the_middle_the_sweep_goes_on_to_the_same_results(tmp_path, environment):
    store, undisturbed = tmp_path / "store", tmp_path / "undisturbed"
    argv = command(store, "--epochs", "60")
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        wait_until(has_epochs(store, 5))
        assert len(results(store)) < 4
        family = ray_processes(psutil.Process(process.pid))
        raylet = next(p for p in family if "raylet/raylet" in " ".join(p.cmdline()[:1]))
        raylet.kill()
        out, said = process.communicate(timeout=400)
    assert (process.returncode, said) == (0, "")
    # Its workers outlive it for a while, at times long enough for so short a sweep.
    assert "(raylet)" not in out
    other = subprocess.run(
        command(undisturbed, "--epochs", "60"), capture_output=True, env=environment, timeout=400
    )
    assert other.returncode == 0
    assert results(store) == results(undisturbed)
