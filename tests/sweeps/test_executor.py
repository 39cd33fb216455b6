"""What surrounds Ray: the throw-away folder, and what a trial reports; no Ray is started."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mtl.records import RunFailedError
from mtl.spec import Runtime
from mtl.store import RunBusyError, Store, StoreError
from sweeps.launch import executor, scratch, worker
from sweeps.launch.stopping import StopSignals
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.words import failure_sentence

HOLD = """
import sys
from pathlib import Path
from sweeps.launch.scratch import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_scratch_folder_is_abandoned_once_its_lock_is_free(tmp_path):
    folder = tmp_path / f"{scratch.SCRATCH_PREFIX}1-x"  # process 1 is always there, and not ours
    folder.mkdir()
    beginning = tmp_path / f"{scratch.SCRATCH_PREFIX}999999999-y"  # has no lock yet
    beginning.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        # As seen from another container, where no such process is in /proc.
        renamed = folder.rename(tmp_path / f"{scratch.SCRATCH_PREFIX}999999998-x")
        scratch.remove_abandoned(tmp_path)
        assert renamed.exists()
        renamed.rename(folder)
        other.kill()
    scratch.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [beginning]


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
    callback = executor._Callback(Heard(), StopSignals())
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
