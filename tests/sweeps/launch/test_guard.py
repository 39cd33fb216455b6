"""The guard around Tuner.fit(), signals and waiting, with a round that is played, not trained."""

import contextlib
import errno
import os
import signal

import pytest
from ray.exceptions import GetTimeoutError

from mtl.records import Result
from sweeps.launch import driver, tracker
from sweeps.launch.signals import StopRequested, StopSignals
from sweeps.launch.tune import ClusterError
from tests.sweeps.launch.stage import Stage


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Stage:
    return Stage(tmp_path / "store", monkeypatch)


def test_one_round_trains_everything_and_specs_are_written_first(stage):
    def play(run_ids, listener, signals):
        assert stage.store.run_ids() == sorted(stage.ids)
        for run_id in run_ids:
            listener.run_started(run_id)
            stage.finish(listener, run_id)
            listener.run_ended(run_id, "done")  # Tune repeats the last report

    assert stage.launch(play) is None
    assert stage.rounds == [(list(stage.ids), 2)]
    assert stage.progress.done == set(stage.ids)
    assert stage.events().count("run_done") == 6


def test_failures_that_last_are_counted_and_not_planned_again(stage):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            stage.finish(listener, run_id, "failed" if run_id == stage.ids[2] else "done")

    stage.launch(play)
    assert len(stage.rounds) == 1
    assert stage.progress.failed == {stage.ids[2]}
    assert any(text.endswith("): loss is not finite") for text in stage.said)


def test_when_fit_dies_what_ran_is_tried_again_singly_and_nothing_is_lost(stage):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            if len(stage.rounds) == 1 and run_id == stage.ids[2]:
                listener.run_started(stage.ids[2])
                listener.run_started(stage.ids[3])
                raise RuntimeError("Caught unexpected exception: out of memory\nmore")
            listener.run_started(run_id)
            stage.finish(listener, run_id)

    stage.launch(play)
    ids = list(stage.ids)
    assert stage.rounds == [(ids, 2), (ids[4:], 2), ([ids[2]], 1), ([ids[3]], 1)]
    assert stage.progress.done == set(ids)
    assert stage.num_starts == 2  # a dead round may leave workers behind: Ray starts afresh
    assert '"fit_died"' in stage.events()
    assert any("Finished runs are kept" in text for text in stage.said)


def test_a_run_that_takes_fit_down_again_and_again_is_given_up(stage):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if run_id == stage.ids[1]:
                raise RuntimeError("killed by the memory monitor")
            stage.finish(listener, run_id)

    stage.launch(play)
    assert stage.progress.failed == {stage.ids[1]}
    assert stage.progress.done == set(stage.ids) - {stage.ids[1]}
    error = stage.store.error(stage.ids[1])
    assert "memory monitor" in error
    assert "--concurrency" in error


def test_a_tune_that_always_dies_ends_the_launch(stage):
    def play(run_ids, listener, signals):
        raise RuntimeError("no such luck")

    with pytest.raises(ClusterError, match=r"ended 5 times .* no such luck"):
        stage.launch(play)


@pytest.mark.parametrize(
    "error", [GetTimeoutError("no answer"), ConnectionError("lost the node"), OSError("odd")]
)
def test_errors_of_ray_that_are_oserrors_are_deaths_of_a_round(stage, error):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if len(stage.rounds) == 1:
                raise error
            stage.finish(listener, run_id)

    stage.launch(play)
    assert stage.progress.done == set(stage.ids)
    assert '"fit_died"' in stage.events()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), FileNotFoundError(errno.ENOENT, "gone", "/s/x")]
)
def test_errors_of_the_disk_end_the_launch(stage, error):
    def play(run_ids, listener, signals):
        raise error

    with pytest.raises(OSError, match=error.strerror):
        stage.launch(play)
    assert len(stage.rounds) == 1


def test_a_round_that_does_nothing_does_not_go_on_for_ever(stage):
    with pytest.raises(ClusterError, match="without ending any run"):
        stage.launch(lambda run_ids, listener, signals: None)


def test_a_run_done_just_before_fit_died_counts_as_done(stage):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if run_id == stage.ids[0] and len(stage.rounds) == 1:
                metrics = {"validation": {}, "test": {}}
                stage.store.write_result(Result(run_id, "done", 1, "last", 1, metrics, metrics))
                raise RuntimeError("died before it was told")
            stage.finish(listener, run_id)

    stage.launch(play)
    assert stage.rounds[1][0] == list(stage.ids[1:])
    assert stage.progress.done == set(stage.ids)


def test_runs_that_another_process_trains_are_waited_for(stage):
    busy, later = stage.ids[:2]
    locks = contextlib.ExitStack()
    locks.enter_context(stage.store.run_lock(later))

    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if len(stage.rounds) == 1 and run_id in (busy, later):
                listener.run_ended(run_id, "busy")
            else:
                stage.finish(listener, run_id)
        if len(stage.rounds) == 1:
            metrics = {"validation": {}, "test": {}}
            stage.store.write_result(Result(busy, "done", 1, "last", 1, metrics, metrics))
            locks.close()

    stage.launch(play)
    assert stage.progress.done == set(stage.ids)
    assert stage.rounds[1][0] in ([later], [busy, later])


def test_a_round_holds_a_bounded_number_of_runs(stage, monkeypatch):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            assert (stage.store.run_folder(run_id) / "spec.json").exists()
            listener.run_started(run_id)
            stage.finish(listener, run_id)

    monkeypatch.setattr(driver, "MOST_RUNS_IN_A_ROUND", 4)
    monkeypatch.setattr(driver, "LEAST_RUNS_OF_A_SLOT", 1)
    stage.launch(play)
    ids = list(stage.ids)
    assert stage.rounds == [(ids[:4], 2), (ids[4:], 2)]
    assert stage.num_starts == 1  # Ray goes on from round to round
    # Two slots of three runs each keep six runs together.
    monkeypatch.setattr(driver, "LEAST_RUNS_OF_A_SLOT", 3)
    assert driver._next_batch(ids, {}, set(), 2) == (ids, 2)


def test_runs_that_another_process_trains_do_not_hold_up_later_rounds(stage, monkeypatch):
    monkeypatch.setattr(driver, "MOST_RUNS_IN_A_ROUND", 2)
    monkeypatch.setattr(driver, "LEAST_RUNS_OF_A_SLOT", 1)
    busy = stage.ids[:2]

    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if len(stage.rounds) == 1:
                listener.run_ended(run_id, "busy")
            else:
                stage.finish(listener, run_id)

    stage.launch(play)
    ids = list(stage.ids)
    assert [batch for batch, _ in stage.rounds] == [ids[:2], ids[2:4], ids[4:], list(busy)]
    assert not any("Waiting" in text for text in stage.said)


def test_telling_where_a_sweep_stands_takes_a_small_share_of_the_time(stage, monkeypatch):
    now, taken = 0.0, 0.0
    snapshot = stage.progress.snapshot

    def slow_snapshot():
        nonlocal now, taken
        now, taken = now + 0.5, taken + 0.5
        return snapshot()

    monkeypatch.setattr(stage.progress, "snapshot", slow_snapshot)
    monkeypatch.setattr(tracker.time, "monotonic", lambda: now)

    def play(run_ids, listener, signals):
        nonlocal now
        for _ in range(900):
            listener.tick()
            now += 0.1
        # 0.5 s of looking, 25 s without: in 90 s of ticks that begins at 0, 25.5, 51 and 76.5.
        assert taken == 2.0
        for run_id in run_ids:
            listener.run_started(run_id)
            stage.finish(listener, run_id)

    stage.launch(play)


def test_waiting_for_another_process_says_so_and_heeds_signals(stage):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            listener.run_ended(run_id, "busy")

    with contextlib.ExitStack() as locks:
        for run_id in stage.ids:
            locks.enter_context(stage.store.run_lock(run_id))
        # The signal comes while it waits: as it says so, and not by a clock.
        stage.when_said["Waiting for 6 runs"] = lambda: signal.raise_signal(signal.SIGTERM)
        assert stage.launch(play) == "SIGTERM"
    assert stage.progress.done == set()
    # Who holds a run is told: it may be a worker that has outlived its driver.
    assert any(
        text.startswith("Waiting for 6 runs") and f"(process {os.getpid()} on " in text
        for text in stage.said
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_round_and_a_second_one_insists(stage, number):
    before = signal.getsignal(number)

    def play(run_ids, listener, signals):
        listener.run_started(run_ids[0])
        stage.finish(listener, run_ids[0])
        listener.run_started(run_ids[1])
        signal.raise_signal(number)
        assert signals.received == number.name

    assert stage.launch(play) == number.name
    assert stage.progress.done == {stage.ids[0]}
    assert stage.progress.running == {}
    assert f'"signal": "{number.name}"' in stage.events()
    assert signal.getsignal(number) == before

    def insist(run_ids, listener, signals):
        signal.raise_signal(number)
        signal.raise_signal(number)

    with pytest.raises(StopRequested):
        stage.launch(insist)


def test_a_signal_outside_a_round_stops_at_once():
    with StopSignals(), pytest.raises(StopRequested, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_paused_runs_are_over_for_the_launch_and_neither_done_nor_failed(stage):
    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if run_id == stage.ids[0]:
                stage.finish(listener, run_id)
            else:
                listener.run_ended(run_id, "paused")

    assert stage.launch(play) is None
    assert len(stage.rounds) == 1
    assert (stage.progress.done, stage.progress.failed) == ({stage.ids[0]}, set())
    assert stage.progress.paused == set(stage.ids[1:])
    snapshot = stage.progress.snapshot()
    assert snapshot.is_over
    assert (snapshot.paused, snapshot.waiting) == (5, 0)
    assert stage.events().count('"run_paused"') == 5
