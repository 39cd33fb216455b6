"""Faults within runs, of the disk, of the clock and of the plan: sweeps without Ray."""

import datetime
import json
import os
import signal
import time
from typing import Any

import pytest

from mtl.store import Store
from tests.faults.tiny_sweep import (
    after_epoch,
    assert_as_undisturbed,
    events,
    fill_disk,
    finished_files,
    outcome,
    printed_seed,
)

EPOCHS = ("--epochs", "4")


def test_run_that_raised_is_tried_again_from_its_checkpoint(sweeps, undisturbed, tmp_path):
    def fail() -> None:
        raise RuntimeError("an injected hiccup")

    epoch = printed_seed(0).randrange(1, 4)
    store = tmp_path / "store"
    sweeps.wrap = after_epoch("fixed", epoch, fail)
    status, out, said = sweeps.here(store, *EPOCHS)
    assert (status, said) == (0, "")
    assert "RuntimeError: an injected hiccup" in out
    assert [e["event"] for e in events(store)].count("run_retried") == 1
    assert_as_undisturbed(store, undisturbed(*EPOCHS), {})
    assert set(sweeps.trained.values()) == {4}  # no epoch twice
    kept = finished_files(store)
    assert sweeps.here(store, *EPOCHS)[0] == 0
    assert_as_undisturbed(store, undisturbed(*EPOCHS), kept)


def test_nan_loss_fails_its_run_alone_and_can_be_retried(
    sweeps, undisturbed, tmp_path, monkeypatch
):
    from mtl.training import step

    original, calls = step.task_losses, 0

    def losses(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        held = original(*arguments)
        return held * float("nan") if calls == 6 else held  # one step an epoch; fixed's second

    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(step, "task_losses", losses)
        status, _, said = sweeps.here(store, *EPOCHS)
    assert calls >= 6, "the fault did not happen"
    assert status == 1
    assert (
        "Epoch 2: Expected a finite loss of task 'depth' in the period, got 1 step without" in said
    )
    assert said.count("\n") == 1
    kept = finished_files(store)
    assert len(outcome(store)) == 1
    status, out, _ = sweeps.here(store, *EPOCHS)
    assert status == 1
    assert "1 failed earlier (--retry-failed tries them again)" in out
    assert sweeps.here(store, *EPOCHS, "--retry-failed")[0] == 0
    assert_as_undisturbed(store, undisturbed(*EPOCHS), kept)


def test_full_disk_is_a_sentence_and_room_lets_the_sweep_resume(sweeps, undisturbed, small_disk):
    store, ballast = small_disk / "store", small_disk / "ballast"

    epoch = printed_seed(1).randrange(1, 4)
    sweeps.wrap = after_epoch("fixed", epoch, lambda: fill_disk(ballast))
    status, _, said = sweeps.here(store, *EPOCHS)
    assert ballast.exists(), "the fault did not happen"
    assert status == 1
    assert "No space left on device. What is done is kept" in said
    assert said.count("\n") == 1
    kept = finished_files(store)
    assert len(outcome(store)) == 1
    again = sweeps.here(store, *EPOCHS)  # still full
    assert again[0] == 1
    assert "No space left on device" in again[2]
    assert again[2].count("\n") == 1
    ballast.unlink()
    assert sweeps.here(store, *EPOCHS)[0] == 0
    assert_as_undisturbed(store, undisturbed(*EPOCHS), kept)


def test_clock_set_back_changes_nothing(sweeps, undisturbed, tmp_path, monkeypatch):
    store = tmp_path / "store"
    back = 0.0
    real_time = time.time

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime.fromtimestamp(real_time() - back, tz)

    def set_back() -> None:
        nonlocal back
        back += 86_400.0
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(time, "time", lambda: real_time() - back)
    monkeypatch.setattr("sweeps.text.datetime", Clock)
    sweeps.wrap = after_epoch("fixed", printed_seed(2).randrange(1, 4), set_back)
    status, _, said = sweeps.here(store, *EPOCHS)
    assert (status, said.splitlines()[0][:18]) == (1, "Stopped by SIGTERM")
    for path in store.rglob("*"):  # files from tomorrow
        os.utime(path, (real_time() + 86_400, real_time() + 86_400))
    kept = finished_files(store)
    assert sweeps.here(store, *EPOCHS)[0] == 0
    times = [event["time"] for event in events(store)]
    assert times != sorted(times), "the fault did not happen"
    assert_as_undisturbed(store, undisturbed(*EPOCHS), kept)
    assert set(sweeps.trained.values()) == {4}


def test_edited_plan_trains_what_is_new_and_nothing_twice(sweeps, undisturbed, tmp_path):
    store = tmp_path / "store"
    stop = after_epoch("lsb", 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    sweeps.wrap = stop
    assert sweeps.here(store, *EPOCHS, "--seeds", "2")[0] == 1
    assert sweeps.here(store, *EPOCHS, "--methods", "fixed")[0] == 0  # fewer
    kept = finished_files(store)
    status, out, _ = sweeps.here(store, *EPOCHS, "--seeds", "2")  # and more again
    assert status == 0
    assert "4 runs: 1 done, 3 to do (" in out
    assert_as_undisturbed(store, undisturbed(*EPOCHS, "--seeds", "2"), kept)
    assert sorted(sweeps.trained.values()) == [4, 4, 4, 4]
    plan = store / "sweeps/priority_grid/plan.json"
    held = json.loads(plan.read_text())
    assert [len(revision["run_ids"]) for revision in held["revisions"]] == [4, 1, 4]
    # Edited by hand: what is trained is what the command line asks for, never what stands there.
    held["revisions"][-1]["run_ids"] = ["0" * 16]
    plan.write_text(json.dumps(held))
    kept = finished_files(store)
    assert sweeps.here(store, *EPOCHS, "--seeds", "2")[0] == 0
    assert_as_undisturbed(store, undisturbed(*EPOCHS, "--seeds", "2"), kept)
    assert not Store(store).run_folder("0" * 16).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_between_epochs_stops_and_the_next_start_resumes(
    number, sweeps, undisturbed, tmp_path
):
    store = tmp_path / "store"
    epoch = printed_seed(int(number)).randrange(1, 4)
    sweeps.wrap = after_epoch("lsb", epoch, lambda: os.kill(os.getpid(), number))
    status, _, said = sweeps.here(store, *EPOCHS)
    assert (status, outcome(store)) == (1, {})
    assert said == (
        f"Stopped by {number.name} with 0 of 2 runs done. What is done is kept; the same "
        "command continues.\n"
    )
    assert sweeps.here(store, *EPOCHS)[0] == 0
    assert_as_undisturbed(store, undisturbed(*EPOCHS), {})
    assert set(sweeps.trained.values()) == {4}
