"""One Ray for several launches, its throw-away folder and its start; fast tests start no Ray."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mtl.errors import PreflightError
from mtl.records import Result
from mtl.store import Store
from sweeps.launch import Execution, session
from sweeps.launch.session import Session, Workers, started_ray, workers_for
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.status.progress import SweepProgress
from tests.sweeps.launch.stage import Said, launch_specs, node, play_ray
from tests.sweeps.played import EMPTY

IDLE = Workers(0, train_networks=False)


class Rays:
    """Counts what would be starts and ends of Ray."""

    def __init__(self, monkeypatch):
        self.starts, self.running = 0, 0
        self.nodes = [node(CPU=2.0)]
        self.checked = []
        play_ray(monkeypatch, lambda: self.nodes)
        monkeypatch.setattr(session, "started_ray", self.started)
        monkeypatch.setattr(session, "preflight_nodes", self.check)

    @contextlib.contextmanager
    def started(self, *_):
        self.starts += 1
        self.running += 1
        self.nodes = [node(CPU=2.0)]
        try:
            yield Path(), "http://127.0.0.1:1"
        finally:
            self.running -= 1

    def check(self, needs, nodes):
        self.checked.append((len(nodes), needs.store_bytes))
        return {"torch": "1"}


@pytest.fixture
def rays(monkeypatch) -> Rays:
    return Rays(monkeypatch)


def launches(root, rays, execution, *, before_second=lambda: None, crashes_in=()):
    """Launch two runs and then two more in one session; return what was said."""
    store, display = Store(root), Said()
    rounds = []

    def run_round(run_ids, trainable, resources, tracker, signals, scratch):
        rounds.append(list(run_ids))
        for run_id in run_ids:
            tracker.run_started(run_id)
            if len(rounds) in crashes_in:
                raise RuntimeError("Ray's node process is gone")
            store.write_result(Result(run_id, "done", 1, "last", 1, EMPTY, EMPTY))
            tracker.run_ended(run_id, "done")

    with (
        StopSignals() as signals,
        Session(execution, "mine", IDLE, further_bytes=77) as held,
    ):
        for specs in (grid_specs(GRID)[:2], grid_specs(GRID)[2:4]):
            progress = launch_specs(
                store, specs, signals, execution=execution, display=display, session=held,
                run_round=run_round,
            )  # fmt: skip
            assert progress.done == set(progress.runs)
            before_second()
        assert (held.needs is not None) == (execution.address is not None)
    assert rays.running == 0
    return "\n".join(display.texts)


def test_launches_of_a_session_share_one_ray_and_one_preflight(tmp_path, rays):
    said = launches(tmp_path / "s", rays, Execution(address="auto", dashboard=True))
    assert rays.starts == 1
    ((num_nodes, num_bytes),) = rays.checked
    assert (num_nodes, num_bytes > 77) == (1, True)
    assert said.count("Ray's dashboard") == said.count("Checked 1 node") == 1


def test_ray_that_crashed_between_two_launches_is_replaced(tmp_path, rays):
    def crash():
        rays.nodes = []

    said = launches(tmp_path / "s", rays, Execution(dashboard=True), before_second=crash)
    assert rays.starts == 2
    assert "Ray Tune ended early" not in said
    assert said.count("Ray's dashboard") == 1
    assert rays.checked == []  # the driver's own machine


def test_ray_that_crashed_in_a_round_is_replaced(tmp_path, rays):
    said = launches(tmp_path / "s", rays, Execution(), crashes_in=(1,))
    assert rays.starts == 2
    assert said.count("Ray Tune ended early (Ray's node process is gone)") == 1


def test_session_without_a_launch_starts_nothing(rays):
    with Session(Execution(), "mine", IDLE):
        pass
    assert rays.starts == 0


def test_ray_that_cannot_start_ends_the_launch(tmp_path, rays, monkeypatch):
    def refuse(*_):
        raise PreflightError("Could not start Ray: no.")

    monkeypatch.setattr(session, "started_ray", refuse)
    with pytest.raises(PreflightError, match="Could not start"):
        launches(tmp_path / "s", rays, Execution())


@pytest.mark.slow
def test_start_of_ray_leaves_ray_tune_to_the_thread_that_imports_it():
    """Its modules import each other; two threads at it once saw some half imported."""
    code = (
        "import sys\n"
        "from sweeps.launch import Execution\n"
        "from sweeps.launch.session import Workers, started_ray\n"
        "with started_ray(Execution(), 'mine', Workers(0, False)):\n"
        "    print([n for n in sys.modules if n.startswith(('ray.tune', 'ray.train'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


def test_workers_wait_for_no_more_runs_than_are_left():
    runs = {spec.run_id(): spec for spec in grid_specs(GRID)[:3]}
    progress = SweepProgress(runs, expected={}, slots=2)
    assert workers_for(progress) == Workers(2, train_networks=True)
    for run_id in list(runs)[:2]:
        progress.finish(run_id, succeeded=True)
    assert workers_for(progress) == Workers(1, train_networks=True)
    # Two that train the run, and one that starts them.
    assert workers_for(progress, ranks=2) == Workers(3, train_networks=True)


def test_ray_is_entered_and_left_in_one_thread_beside(monkeypatch):
    threads = []

    @contextlib.contextmanager
    def started_ray(*_):
        threads.append(threading.current_thread())
        yield Path("here"), None
        threads.append(threading.current_thread())

    monkeypatch.setattr(session, "started_ray", started_ray)
    monkeypatch.setattr(session, "has_nodes", lambda: True)
    with Session(Execution(), "mine", IDLE) as held:
        held.start()
        assert held.begin() == Path("here")
        assert len(threads) == 1
        held.leave()
    assert threads[0] is threads[1] is not threading.current_thread()
    assert not threads[0].is_alive()


@pytest.mark.parametrize("error", [ConnectionError("Failed to connect. At all."), OSError("")])
def test_cluster_that_cannot_be_joined_names_the_token_remedy(error, monkeypatch):
    def refuse(**_):
        raise error

    monkeypatch.setattr(session.ray, "init", refuse)
    with (
        pytest.raises(PreflightError) as raised,
        started_ray(Execution(address="auto"), "mine", IDLE),
    ):
        pass
    text = str(raised.value)
    assert text.startswith("Could not join the Ray cluster at 'auto': ")
    assert "If it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what" in text
    assert "At all" not in text


def test_dashboard_without_a_token_is_refused_before_ray_starts(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with (
        pytest.raises(PreflightError, match="Expected RAY_AUTH_MODE unset or 'token'"),
        started_ray(Execution(dashboard=True), "mine", IDLE),
    ):
        pass


def test_dashboard_line_says_how_to_get_the_token():
    assert session.dashboard_sentence("http://127.0.0.1:8265").startswith(
        "Ray's dashboard: http://127.0.0.1:8265; `ray get-auth-token` prints"
    )
    with pytest.raises(PreflightError, match=r"pip install 'ray\[default\]'"):
        session.dashboard_sentence(None)


def test_token_is_unreadable_for_other_users(tmp_path):
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    session._keep_token_private(token)
    assert token.stat().st_mode & 0o777 == 0o600
    session._keep_token_private(tmp_path / "none")


HOLD = """
import sys
from pathlib import Path
from sweeps.launch.session import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def named(process_id, parent):
    """Return a throw-away folder of a process; one of so high an id is never there."""
    return parent / f"{session.SCRATCH_PREFIX}{process_id}-x"


def test_scratch_folder_is_abandoned_once_its_lock_is_free(tmp_path):
    folder = named(1, tmp_path)  # process 1 is always there, and not ours
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        # As seen from another container, where no such process is in /proc.
        renamed = folder.rename(named(999_999_998, tmp_path))
        session.remove_abandoned(tmp_path)
        assert renamed.exists()
        renamed.rename(folder)
        other.kill()
    session.remove_abandoned(tmp_path)
    assert not list(tmp_path.iterdir())


def test_scratch_folder_of_a_dead_process_is_abandoned(tmp_path):
    for process_id in (1, os.getpid(), "any", 999_999_999, 10**30):
        (named(process_id, tmp_path) / "ray/session/logs").mkdir(parents=True)
    session.remove_abandoned(tmp_path)
    assert set(tmp_path.iterdir()) == {named(it, tmp_path) for it in (1, os.getpid(), "any")}


def test_scratch_folder_is_private_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "MAX_PARENT_BYTES", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with session.scratch_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert folder.name.startswith(f"{session.SCRATCH_PREFIX}{os.getpid()}-")
        assert folder.stat().st_mode & 0o777 == 0o700
        session.remove_abandoned(tmp_path)
        assert [path.name for path in folder.iterdir()] == [session.SCRATCH_LOCK]
        # Meanwhile the agents of a process that was killed before make their folder again.
        named(999_999_999, tmp_path).mkdir()
    assert not list(tmp_path.iterdir())


def test_socket_paths_fit_whatever_the_temporary_folder(tmp_path, monkeypatch):
    # 107 bytes, less those of the largest process id of Linux and of a random name of 8.
    below = "/mtl-sweep-4194304-abcdefgh/ray/session_2026-11-22_22-42-58_123456_4194304"
    assert 107 - len(f"{below}/sockets/plasma_store") == session.MAX_PARENT_BYTES
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "too long"))
    with session.scratch_folder() as folder:
        assert folder.parent == Path("/tmp")


DROPPED_WHILE_RAY_ENDS = """
import gc
import ray
from sweeps.launch import Execution
from sweeps.launch.session import Session, Workers

class Cycle:
    def __init__(self, reference):
        self.reference, self.me = reference, self

with Session(Execution(), "mine", Workers(1, train_networks=False)) as session:
    session.begin()
    gc.disable()  # and by hand, so that something is there to collect until Ray's last moment
    held = [Cycle(ray.put(0)) for _ in range(3000)]
    session.leave()
    while session._ray._thread.is_alive():
        del held[-30:]
        gc.collect()
print("the report is made")
"""


@pytest.mark.slow
def test_garbage_with_references_to_ray_may_go_while_ray_ends():
    ran = subprocess.run(
        [sys.executable, "-c", DROPPED_WHILE_RAY_ENDS],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "the report is made\n", "")
