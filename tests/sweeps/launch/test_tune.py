"""What surrounds Ray: the throw-away folder, and what a trial reports; no Ray is started."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl.errors import RunFailedError, StoreError
from mtl.spec import Runtime
from mtl.store import RunBusyError, Store
from sweeps.launch import processes, tune, worker
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.text import failure_sentence

HOLD = """
import sys
from pathlib import Path
from sweeps.launch.processes import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def named(process_id, parent):
    """Return a throw-away folder of a process; one of so high an id is never there."""
    return parent / f"{processes.SCRATCH_PREFIX}{process_id}-x"


def test_a_scratch_folder_is_abandoned_once_its_lock_is_free(tmp_path):
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
        processes.remove_abandoned(tmp_path)
        assert renamed.exists()
        renamed.rename(folder)
        other.kill()
    processes.remove_abandoned(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_made_anew_without_a_lock_is_abandoned_once_its_process_is_dead(tmp_path):
    for process_id in (1, os.getpid(), "any", 999_999_999, 10**30):
        (named(process_id, tmp_path) / "ray/session/logs").mkdir(parents=True)
    processes.remove_abandoned(tmp_path)
    assert set(tmp_path.iterdir()) == {named(it, tmp_path) for it in (1, os.getpid(), "any")}


def test_a_scratch_folder_is_private_locked_under_its_name_and_leaves_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "LONGEST_PARENT_BYTES", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with processes.scratch_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert folder.name.startswith(f"{processes.SCRATCH_PREFIX}{os.getpid()}-")
        assert folder.stat().st_mode & 0o777 == 0o700
        processes.remove_abandoned(tmp_path)
        assert [path.name for path in folder.iterdir()] == [processes.SCRATCH_LOCK]
        # Meanwhile the agents of a process that was killed before make their folder anew.
        named(999_999_999, tmp_path).mkdir()
    assert not list(tmp_path.iterdir())


def test_paths_of_sockets_fit_however_long_the_path_of_temporary_files(tmp_path, monkeypatch):
    # 107 bytes, less those of the largest process id of Linux and of a random name of 8.
    below = "/mtl-sweep-4194304-abcdefgh/ray/session_2026-11-22_22-42-58_123456_4194304"
    assert 107 - len(f"{below}/sockets/plasma_store") == processes.LONGEST_PARENT_BYTES
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "too long"))
    with processes.scratch_folder() as folder:
        assert folder.parent == Path("/tmp")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RunFailedError("loss is not finite"), "failed"),
        (StoreError("Expected a checkpoint, got a damaged file."), "failed"),
        (ValueError("Expected this, got that."), "failed"),
        (RunBusyError("busy"), "busy"),
        (OSError("network"), None),
        (MemoryError(), None),
    ],
)
def test_a_trial_reports_what_lasts_and_raises_what_may_pass(error, state, tmp_path, monkeypatch):
    reported = []
    monkeypatch.setattr(worker.tune, "report", reported.append)
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
        assert reported == [{"state": state}]
    if state == "failed":
        told = failure_sentence(store.error(run_id))
        assert told == str(error) or told == f"ValueError: {error}"


class Heard:
    """A listener that hears nothing but who is tried again."""

    def __init__(self):
        self.retried = []

    def run_epoch(self, *_):
        pass

    def run_retried(self, run_id, _detail):
        self.retried.append(run_id)


def test_failures_count_anew_for_a_run_that_got_further():
    callback = tune._Callback(Heard(), StopSignals())
    metadata = SimpleNamespace(num_failures=0, invalidate_cache=lambda: None)
    trial = SimpleNamespace(config={"run_id": "a"}, run_metadata=metadata, error_file=None)

    def fail_after(epoch):
        callback.on_trial_result(0, [], trial, {"epoch": epoch, "losses": [1.0]})
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
        ("Traceback\nmtl.store.StoreError: Expected a: b.\n", "Expected a: b."),
        ("torch.cuda.OutOfMemoryError: 2 GB", "OutOfMemoryError: 2 GB"),
        ("Its process died. See x.y: there", "Its process died. See x.y: there"),
    ],
)
def test_failures_are_said_without_modules(recorded, sentence):
    assert failure_sentence(recorded) == sentence
