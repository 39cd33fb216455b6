"""Faults of processes: whole sweeps with Ray, killed, stopped, starved and doubled.

A moment is chosen by a printed seed: so many epochs after the start, and a little later. Each test
asserts that the process was alive when the fault came.
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

from mtl.store import Store
from sweeps import command, priority_grid
from sweeps.command import write_reports
from sweeps.launch.session import SCRATCH_PREFIX
from tests.faults.tiny_sweep import (
    ENDED,
    assert_as_undisturbed,
    assert_resumes,
    descendants,
    events,
    fill_disk,
    finish,
    finished_files,
    lives,
    num_epochs,
    options,
    outcome,
    printed_seed,
    start,
    wait_for_epochs,
    wait_until,
)

SHORT = ("--epochs", "60")
LONG = ("--epochs", "120")
LONGER = ("--epochs", "300", "--seeds", "2")
LONGEST = ("--epochs", "1500", "--seeds", "2")
"""Runs that are still trained when a second driver has started."""
TRIAL = "ray::ImplicitFunc.train"
"""What Ray calls a process while it trains."""
RAYS_CORE = {"gcs_server", "raylet"}
STATUS = "sweeps/priority_grid/status.json"


def test_killed_and_stopped_sweep_ends_with_the_same_results(
    tmp_path, data_root, undisturbed, sweeps, monkeypatch, capsys
):
    store = tmp_path / "store"
    generator = printed_seed(1)
    argv = options(data_root, *SHORT)
    with start(store, *argv) as process:
        wait_until((store / STATUS).exists, "the driver")
        assert priority_grid.main(["--store", str(store), *argv]) == 1
        assert f"process {process.pid} on" in capsys.readouterr().err
        wait_for_epochs(store, generator.randrange(1, 15), process)
        process.kill()
        process.communicate()
    stop_group(store, argv, signal.SIGTERM, num_epochs(store) + generator.randrange(1, 15))
    # The second start went on with what the first one left; the third, for its end, needs no Ray.
    kept = finished_files(store)
    monkeypatch.setattr(command, "write_reports", write_reports)
    status, out, said = sweeps.here(store, *SHORT)
    assert (status, said) == (0, "")
    assert_as_undisturbed(store, undisturbed(*SHORT), kept)
    assert len(out.splitlines()) < 25
    assert "ray" not in out.lower().replace(str(tmp_path).lower(), "")
    assert (store / "sweeps/priority_grid/report/report.html").exists()
    status = json.loads((store / STATUS).read_text())
    assert (status["state"], status["done"], status["running"]) == ("finished", 2, [])
    assert_repetition_is_idle(store, argv)


@pytest.mark.slow
def test_killed_packed_sweep_ends_with_the_same_results(tmp_path, data_root, undisturbed):
    store = tmp_path / "store"
    argv = options(data_root, *SHORT, "--pack", "2", "--concurrency", "1")
    with start(store, *argv) as process:
        wait_for_epochs(store, printed_seed(7).randrange(2, 20), process)
        process.kill()
        process.communicate()
    out = assert_resumes(store, argv, undisturbed(*SHORT))
    assert "with 1 pack of up to 2 runs at a time" in out
    for run_id in undisturbed(*SHORT):
        assert Store(store).manifest(run_id)["execution"]["packed"] == 2


def stop_group(store: Path, argv: list[str], number: signal.Signals, reached: int) -> None:
    """Start a sweep and send a signal to its whole process group after so many epochs."""
    waits = [sys.executable, "-c", "input()"]
    with (
        start(store, *argv, process_group=0) as process,
        subprocess.Popen(waits, stdin=subprocess.PIPE, process_group=process.pid) as bystander,
    ):
        wait_for_epochs(store, reached, process)
        family = descendants(process, "")
        elsewhere = [p for p in family if os.getpgid(p.pid) != process.pid]
        assert {p.name() for p in elsewhere} >= RAYS_CORE
        os.killpg(process.pid, number)
        assert bystander.wait(timeout=60) == -number, "the group did not get it"
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.startswith(f"Stopped by {number.name} with ")
    assert said.endswith("the same command continues.\n")
    assert said.count("\n") == 1
    assert json.loads((store / STATUS).read_text())["state"] == "stopped"
    assert events(store)[-1]["event"] == "stopped"
    wait_until(lambda: not any(lives(p) for p in family), f"the end of {family}")


def assert_repetition_is_idle(store: Path, argv: list[str]) -> None:
    """Give the command of a finished sweep again: it imports neither Ray nor torch."""
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.name != ".lock"}
    with start(store, *argv, PYTHONPROFILEIMPORTTIME="1") as process:
        out, said = process.communicate(timeout=120)
    lines = said.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert "sweeps.command" in imported
    assert not {"ray", "torch"} & imported
    assert [line for line in lines if not line.startswith("import time:")] == []
    assert process.returncode == 0
    assert "2 runs: 2 done, 0 to do." in out
    assert "(unchanged)" in out
    after = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.name != ".lock"}
    changed = {p.name for p in after if p.is_file() and after[p] != before.get(p)}
    assert changed == {"plan.json", "lease.json"}


@pytest.mark.slow
def test_sweep_killed_20_times_ends_with_the_same_results(tmp_path, data_root, undisturbed):
    store = tmp_path / "store"
    generator, num_kills = printed_seed(20), 20
    argv = options(data_root, *LONGER)
    expected = undisturbed(*LONGER)
    num_in_all = sum(len(json.loads(records)) for _, records, _ in expected.values())
    for kill in range(num_kills):
        kept = finished_files(store)
        with start(store, *argv) as process:
            if generator.random() < 0.25:  # while Ray starts, too
                reached, later = 0, 8 * generator.random()
            else:
                share = (kill + generator.random()) / (num_kills + 1)
                reached = max(int(share * num_in_all), num_epochs(store) + 1)
                later = 0.3 * generator.random()
            wait_for_epochs(store, reached, process)
            time.sleep(later)
            assert process.poll() is None, ENDED
            print(f"killed with {num_epochs(store)} of {num_in_all} epochs")
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert all(path.read_bytes() == content for path, (_, content) in kept.items())
    assert_resumes(store, argv, expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_sweep_stopped_by_a_signal_ends_with_the_same_results(
    number, tmp_path, data_root, undisturbed
):
    store = tmp_path / "store"
    generator = printed_seed(100 + int(number))
    argv = options(data_root, *LONGER)
    reached = generator.randrange(1, 400)
    with start(store, *argv) as process:
        wait_for_epochs(store, reached, process)
        time.sleep(0.3 * generator.random())
        assert process.poll() is None, ENDED
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.startswith(f"Stopped by {number.name} with ")
    assert said.count("\n") == 1
    assert_resumes(store, argv, undisturbed(*LONGER))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_signal_to_the_whole_process_group_leaves_runs_resumable(
    number, tmp_path, data_root, undisturbed
):
    store = tmp_path / "store"
    argv = options(data_root, *LONG)
    stop_group(store, argv, number, printed_seed(200 + int(number)).randrange(1, 40))
    assert_resumes(store, argv, undisturbed(*LONG))


@pytest.mark.slow
def test_nothing_of_ray_outlives_a_killed_driver(tmp_path, data_root):
    store = tmp_path / "store"
    argv = options(data_root, *LONG)
    with start(store, *argv, TMPDIR="/tmp") as process:
        wait_for_epochs(store, 1, process)
        below = descendants(process, "")
        assert {p.name() for p in below} >= RAYS_CORE
        process.kill()
        process.communicate()
    wait_until(lambda: not any(lives(p) for p in below), f"the end of {below}")
    finish(store, *argv, TMPDIR="/tmp")
    assert not list(Path("/tmp").glob(f"{SCRATCH_PREFIX}{process.pid}-*"))


@pytest.mark.slow
def test_run_whose_process_is_killed_is_tried_again(tmp_path, data_root, undisturbed):
    store = tmp_path / "store"
    generator = printed_seed(9)
    with start(store, *options(data_root, *LONGER)) as process:
        reached = generator.randrange(1, 300)
        wait_for_epochs(store, reached, process)
        wait_until(lambda: bool(descendants(process, TRIAL)), "a run's process")
        descendants(process, TRIAL)[0].kill()
        out, said = process.communicate(timeout=400)
    assert (process.returncode, said) == (0, "")
    assert "Trying again: run " in out
    assert "its process died." in out
    assert "run_retried" in [event["event"] for event in events(store)]
    assert_as_undisturbed(store, undisturbed(*LONGER), {})


@pytest.mark.slow
def test_sweep_whose_raylet_is_killed_ends_with_the_same_results(tmp_path, data_root, undisturbed):
    store = tmp_path / "store"
    with start(store, *options(data_root, *LONG)) as process:
        wait_for_epochs(store, 5, process)
        descendants(process, "raylet/raylet")[0].kill()
        out, said = process.communicate(timeout=400)
    assert (process.returncode, said) == (0, "")
    # Its workers outlive it for a while, at times long enough for so short a sweep.
    assert "(raylet)" not in out
    assert_as_undisturbed(store, undisturbed(*LONG), {})


@pytest.mark.slow
def test_run_killed_by_the_memory_monitor_is_trained_again(tmp_path, data_root, undisturbed):
    memory = psutil.virtual_memory()
    if memory.available < 10e9:
        pytest.skip("less than 10 GB of memory to take")
    eats = 8e9  # of which the monitor allows 5, and Ray itself takes one or two
    threshold = 1 - (memory.available - 5e9) / memory.total
    # Python imports this module at its start where it is on the path: Ray's workers have it too.
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(EATING)
    store = tmp_path / "store"
    out = finish(
        store,
        *options(data_root, *LONG),
        PYTHONPATH=f"{tmp_path / 'path'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        EATEN=str(tmp_path / "eaten"),
        EATS=str(int(eats)),
        RAY_memory_usage_threshold=f"{threshold:.4f}",
        RAY_memory_monitor_refresh_ms="100",
    )
    assert (tmp_path / "eaten").exists(), "the fault did not happen"
    happened = [
        event for event in events(store) if event["event"] in ("round_crashed", "run_retried")
    ]
    assert happened, "the monitor let it live"
    print([(event["event"], event.get("reason", event.get("detail"))) for event in happened])
    assert "memory" in json.dumps(happened).lower()
    assert "Finished runs are kept" in out or "Trying again" in out
    assert_as_undisturbed(store, undisturbed(*LONG), {})


EATING = """
import os
import threading
import time


def eat():
    import sys
    while "mtl.training" not in sys.modules:
        time.sleep(0.05)
    try:
        os.close(os.open(os.environ["EATEN"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    eaten = []
    for _ in range(int(os.environ["EATS"]) // 100_000_000):
        eaten.append(bytearray(b"x") * 100_000_000)
        time.sleep(0.02)
    time.sleep(60)


with open("/proc/self/cmdline") as file:
    if "default_worker.py" in file.read():
        threading.Thread(target=eat, daemon=True).start()
"""


@pytest.mark.slow
def test_two_drivers_on_one_store_share_its_runs(tmp_path, data_root, undisturbed):
    store = tmp_path / "store"
    argv = options(data_root, *LONGEST)
    with start(store, *argv) as first:
        wait_for_epochs(store, 1, first)
        with start(store, *argv, "--name", "other") as second:
            outputs = [process.communicate(timeout=400) for process in (first, second)]
    assert [(p.returncode, e) for p, (_, e) in zip((first, second), outputs, strict=True)] == [
        (0, ""), (0, ""),
    ]  # fmt: skip
    happened = [event["event"] for event in events(store, "other")]
    assert "run_busy" in happened, "they never met: the fault did not happen"
    assert_as_undisturbed(store, undisturbed(*LONGEST), {})
    for path in store.glob("runs/*/manifest.json"):
        assert json.loads(path.read_text())["started_epochs"] == [1]


@pytest.mark.slow
def test_run_that_another_process_trains_is_waited_for(tmp_path, data_root, undisturbed, capsys):
    store, argv = tmp_path / "store", options(data_root, *LONGEST)
    assert priority_grid.main([*argv, "--plan", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["runs"][0]
    (tmp_path / "spec.json").write_text(json.dumps(run["spec"]))
    alone = [sys.executable, "-m", "mtl.training", str(tmp_path / "spec.json")]
    with subprocess.Popen([*alone, "--store", str(store), "--data-root", data_root]) as other:
        held = psutil.Process(other.pid)
        try:
            wait_for_epochs(store, 20, other)
            held.suspend()
            with start(store, *argv) as process:
                said: list[str] = []
                for line in process.stdout or ():
                    said.append(line)
                    if line.startswith("Waiting for 1 run that another process is training."):
                        assert f"(process {other.pid} on {os.uname().nodename})" in line
                        assert len(outcome(store)) == 3  # all others were trained meanwhile
                        held.resume()
                assert process.wait(timeout=400) == 0
        finally:
            held.resume()
        assert other.wait(timeout=400) == 0
    assert any(line.startswith("Waiting for 1 run") for line in said), "never in its way"
    assert_as_undisturbed(store, undisturbed(*LONGEST), {})


@pytest.mark.slow
def test_full_disk_under_ray_is_a_sentence_and_the_sweep_resumes(
    small_disk, data_root, undisturbed
):
    store, ballast = small_disk / "store", small_disk / "ballast"
    argv = options(data_root, *LONGER)
    with start(store, *argv) as process:
        wait_for_epochs(store, 20, process)
        fill_disk(ballast)
        assert process.poll() is None
        _, said = process.communicate(timeout=300)
    print(said)
    assert process.returncode == 1
    assert "No space left on device" in said
    assert said.count("\n") == 1
    ballast.unlink()
    assert_resumes(store, argv, undisturbed(*LONGER))
