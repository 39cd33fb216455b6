"""Rounds and what ends them: crashes, signals, time, other processes, nodes; rounds are played."""

import contextlib
import errno
import os
import signal
from dataclasses import replace

import pytest
from ray.exceptions import GetTimeoutError

from mtl.errors import PreflightError, UserError
from mtl.spec import Runtime
from sweeps.launch import Execution, driver
from sweeps.launch import signals as signals_module
from sweeps.launch import tracker as tracker_module
from sweeps.launch.cluster import Resources, resources_of
from sweeps.launch.signals import StopRequested, StopSignals
from tests.sweeps.launch.stage import Stage, node


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Stage:
    return Stage(tmp_path / "store", monkeypatch)


def test_specs_are_written_before_one_round_trains_everything(stage):
    def play(run_ids, tracker, signals):
        assert stage.store.run_ids() == sorted(stage.ids)
        stage.train(tracker, run_ids)
        for run_id in run_ids:
            tracker.run_ended(run_id, "done")  # Tune repeats the last report

    assert stage.launch(play) is None
    assert stage.rounds == [(list(stage.ids), 2)]
    assert stage.progress.done == set(stage.ids)
    assert stage.events().count("run_done") == 6


def test_failed_run_is_counted_and_not_tried_again(stage):
    failing = stage.ids[2]
    stage.launch(lambda ids, tracker, _: stage.train(tracker, ids, **{failing: "failed"}))
    assert len(stage.rounds) == 1
    assert stage.progress.failed == {failing}
    assert any(text.endswith("): loss is not finite.") for text in stage.said)


def test_failure_line_names_the_field_that_varies(stage):
    rates = (1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3)
    stage.plan_runs(
        replace(spec, optimizer=replace(spec.optimizer, learning_rate=rate))
        for spec, rate in zip(stage.specs, rates, strict=True)
    )
    failing = stage.ids[1]
    stage.launch(lambda ids, tracker, _: stage.train(tracker, ids, **{failing: "failed"}))
    end = "seed 0, optimizer.learning_rate 0.002): loss is not finite."
    assert sum(text.endswith(end) for text in stage.said) == 1


def test_after_a_crash_suspects_run_singly_and_nothing_is_lost(stage):
    ids = list(stage.ids)

    def play(run_ids, tracker, signals):
        if len(stage.rounds) == 1:
            tracker.run_started(ids[3])
            crash = RuntimeError("Caught unexpected exception: out of memory\nmore")
            stage.train(tracker, run_ids, **{ids[2]: crash})
        stage.train(tracker, run_ids)

    stage.launch(play)
    assert stage.rounds == [(ids, 2), (ids[4:], 2), ([ids[2]], 1), ([ids[3]], 1)]
    assert stage.progress.done == set(ids)
    assert stage.num_starts == 2  # a crashed round may leave workers behind: Ray starts afresh
    assert '"round_crashed"' in stage.events()
    assert any("Finished runs are kept" in text for text in stage.said)


def test_suspects_of_a_large_round_go_in_parts(stage):
    stage.plan_runs(replace(stage.specs[0], seed=seed) for seed in range(80))
    stage.nodes = [node(CPU=40.0)]
    ids = list(stage.ids)

    def play(run_ids, tracker, signals):
        if ids[9] in run_ids and len(stage.rounds) < 5:
            for run_id in run_ids[: stage.rounds[-1][1]]:
                tracker.run_started(run_id)
            raise RuntimeError("out of memory")
        stage.train(tracker, run_ids)

    stage.launch(play)
    # 40 were running, so they go 5 side by side; each of the 5 that then were goes alone.
    assert [(len(batch), slots) for batch, slots in stage.rounds] == [
        (80, 40), (40, 40), (40, 5), (35, 5), (30, 5), *[(1, 1)] * 10,
    ]  # fmt: skip
    assert stage.progress.done == set(ids)


def test_run_that_crashes_three_rounds_is_given_up(stage):
    crash = {stage.ids[1]: RuntimeError("killed by the memory monitor")}
    stage.launch(lambda ids, tracker, _: stage.train(tracker, ids, **crash))
    assert stage.progress.failed == {stage.ids[1]}
    assert stage.progress.done == set(stage.ids) - {stage.ids[1]}
    error = stage.store.error(stage.ids[1])
    assert "memory monitor" in error
    assert "--concurrency" in error


def test_tune_that_always_crashes_ends_the_launch(stage):
    def play(run_ids, tracker, signals):
        raise RuntimeError("no such luck")

    with pytest.raises(UserError, match=r"ended 5 times .* no such luck"):
        stage.launch(play)


def test_idle_rounds_end_the_launch(stage):
    with pytest.raises(UserError, match="without ending any run"):
        stage.launch(lambda run_ids, tracker, signals: None)


@pytest.mark.parametrize(
    "error", [GetTimeoutError("no answer"), ConnectionError("lost the node"), OSError("odd")]
)
def test_network_errors_of_ray_are_crashes_of_a_round(stage, error):
    def play(run_ids, tracker, signals):
        stage.train(tracker, run_ids, **({run_ids[0]: error} if len(stage.rounds) == 1 else {}))

    stage.launch(play)
    assert stage.progress.done == set(stage.ids)
    assert '"round_crashed"' in stage.events()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), FileNotFoundError(errno.ENOENT, "gone", "/s/x")]
)
def test_errors_of_the_disk_end_the_launch(stage, error):
    with pytest.raises(OSError, match=error.strerror):
        stage.launch(lambda ids, tracker, _: stage.train(tracker, ids, **{ids[0]: error}))
    assert len(stage.rounds) == 1


def test_run_done_just_before_a_crash_counts_as_done(stage):
    def play(run_ids, tracker, signals):
        if len(stage.rounds) == 1:
            stage.write_result(run_ids[0])
            stage.train(tracker, run_ids, **{run_ids[0]: RuntimeError("crashed before it said so")})
        stage.train(tracker, run_ids)

    stage.launch(play)
    assert stage.rounds[1][0] == list(stage.ids[1:])
    assert stage.progress.done == set(stage.ids)


def test_round_holds_a_bounded_number_of_runs(stage, monkeypatch):
    monkeypatch.setattr(driver, "MAX_RUNS_IN_A_ROUND", 4)
    monkeypatch.setattr(driver, "MIN_RUNS_OF_A_SLOT", 1)
    stage.launch(lambda ids, tracker, _: stage.train(tracker, ids))
    ids = list(stage.ids)
    assert stage.rounds == [(ids[:4], 2), (ids[4:], 2)]
    assert stage.num_starts == 1  # Ray goes on from round to round
    # Two slots of three runs each keep six runs together.
    monkeypatch.setattr(driver, "MIN_RUNS_OF_A_SLOT", 3)
    assert driver._next_batch(ids, {}, set(), 2) == (ids, 2)


def test_runs_of_another_process_are_waited_for(stage):
    busy, later = stage.ids[:2]
    locks = contextlib.ExitStack()
    locks.enter_context(stage.store.run_lock(later))

    def play(run_ids, tracker, signals):
        if len(stage.rounds) > 1:
            return stage.train(tracker, run_ids)
        stage.train(tracker, run_ids, **{busy: "busy", later: "busy"})
        stage.write_result(busy)
        return locks.close()

    stage.launch(play)
    assert stage.progress.done == set(stage.ids)
    assert stage.rounds[1][0] in ([later], [busy, later])


def test_runs_of_another_process_do_not_hold_up_others(stage, monkeypatch):
    monkeypatch.setattr(driver, "MAX_RUNS_IN_A_ROUND", 2)
    monkeypatch.setattr(driver, "MIN_RUNS_OF_A_SLOT", 1)

    def play(run_ids, tracker, signals):
        state = "busy" if len(stage.rounds) == 1 else "done"
        stage.train(tracker, run_ids, **dict.fromkeys(run_ids, state))

    stage.launch(play)
    ids = list(stage.ids)
    assert [batch for batch, _ in stage.rounds] == [ids[:2], ids[2:4], ids[4:], ids[:2]]
    assert not any("Waiting" in text for text in stage.said)


def test_only_runs_that_are_free_again_are_tried_again(stage):
    locks = {run_id: contextlib.ExitStack() for run_id in stage.ids}
    for run_id, lock in locks.items():
        lock.enter_context(stage.store.run_lock(run_id))

    def play(run_ids, tracker, signals):
        busy = {run_id: "busy" for run_id in run_ids if run_id in locks}
        stage.train(tracker, run_ids, **busy)
        for run_id in list(locks)[:2]:
            locks.pop(run_id).close()

    stage.launch(play)
    ids = list(stage.ids)
    assert [batch for batch, _ in stage.rounds] == [ids, ids[:2], ids[2:4], ids[4:]]
    assert stage.progress.done == set(ids)


def test_many_runs_of_another_process_are_looked_at_less_often(stage, monkeypatch):
    pauses = []
    busy = stage.ids[:4]

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            locks.close()

    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 1.0)
    monkeypatch.setattr(driver, "MAX_LOOKS", 2)
    monkeypatch.setattr(driver.time, "sleep", sleep)
    with contextlib.ExitStack() as locks:
        for run_id in busy:
            locks.enter_context(stage.store.run_lock(run_id))

        def play(run_ids, tracker, signals):
            states = dict.fromkeys(busy, "busy") if len(stage.rounds) == 1 else {}
            stage.train(tracker, run_ids, **states)

        stage.launch(play)
    assert pauses == [2.0, 2.0, 2.0]
    assert stage.progress.done == set(stage.ids)


def test_waiting_names_the_other_process_and_heeds_signals(stage):
    with contextlib.ExitStack() as locks:
        for run_id in stage.ids:
            locks.enter_context(stage.store.run_lock(run_id))
        # The signal comes while it waits: as it says so, and not by a clock.
        stage.display.when_said["Waiting for 6 runs"] = lambda: signal.raise_signal(signal.SIGTERM)
        busy = dict.fromkeys(stage.ids, "busy")
        assert stage.launch(lambda ids, t, _: stage.train(t, ids, **busy)) == "SIGTERM"
    assert stage.progress.done == set()
    # Who holds a run is named: it may be a worker that has outlived its driver.
    assert any(
        text.startswith("Waiting for 6 runs") and f"(process {os.getpid()} on " in text
        for text in stage.said
    )


def test_snapshots_take_a_small_share_of_the_time(stage, monkeypatch):
    now, taken = 0.0, 0.0
    snapshot = stage.progress.snapshot

    def slow_snapshot():
        nonlocal now, taken
        now, taken = now + 0.5, taken + 0.5
        return snapshot()

    monkeypatch.setattr(stage.progress, "snapshot", slow_snapshot)
    monkeypatch.setattr(tracker_module.time, "monotonic", lambda: now)

    def play(run_ids, tracker, signals):
        nonlocal now
        for _ in range(900):
            tracker.tick()
            now += 0.1
        # 0.5 s of looking, 25 s without: in 90 s of ticks that begins at 0, 25.5, 51 and 76.5.
        assert taken == 2.0
        stage.train(tracker, run_ids)

    stage.launch(play)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_first_signal_ends_the_round_and_a_second_insists(stage, number):
    before = signal.getsignal(number)

    def play(run_ids, tracker, signals):
        stage.train(tracker, run_ids[:1])
        tracker.run_started(run_ids[1])
        signal.raise_signal(number)
        assert signals.received == number.name

    assert stage.launch(play) == number.name
    assert stage.progress.done == {stage.ids[0]}
    assert stage.progress.running == {}
    assert f'"signal": "{number.name}"' in stage.events()
    assert signal.getsignal(number) == before

    def insist(run_ids, tracker, signals):
        signal.raise_signal(number)
        signal.raise_signal(number)

    with pytest.raises(StopRequested):
        stage.launch(insist)


def test_signal_outside_a_round_stops_at_once():
    with StopSignals(), pytest.raises(StopRequested, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_sweep_stops_at_its_deadline_and_the_next_continues(stage, monkeypatch):
    now = 0.0
    monkeypatch.setattr(signals_module.time, "monotonic", lambda: now)

    def play(run_ids, tracker, signals):
        nonlocal now
        for run_id in run_ids:
            now += 10.0
            if signals.stop_asked:  # as Tune asks while the run trains
                tracker.run_started(run_id)
                return tracker.run_stopped(run_id)
            stage.train(tracker, [run_id])
        return None

    assert stage.launch(play, deadline=35.0) is None
    assert stage.progress.done == set(stage.ids[:3])
    assert (stage.progress.failed, stage.progress.running) == (set(), {})
    assert '"run_stopped"' in stage.events()
    assert stage.launch(play, deadline=35.0) is None  # over before it begins
    assert len(stage.rounds) == 1
    assert stage.launch(play, deadline=1000.0) is None
    assert stage.progress.done == set(stage.ids)


def test_paused_runs_are_neither_done_nor_failed(stage):
    paused = dict.fromkeys(stage.ids[1:], "paused")
    assert stage.launch(lambda ids, tracker, _: stage.train(tracker, ids, **paused)) is None
    assert len(stage.rounds) == 1
    assert (stage.progress.done, stage.progress.failed) == ({stage.ids[0]}, set())
    assert stage.progress.paused == set(stage.ids[1:])
    snapshot = stage.progress.snapshot()
    assert snapshot.is_over
    assert (snapshot.paused, snapshot.waiting) == (5, 0)
    assert stage.events().count('"run_paused"') == 5


@pytest.mark.parametrize(
    ("nodes", "execution", "expected"),
    [
        ([node(CPU=2)], Execution(), Resources(1, 0, 2)),
        ([node(CPU=8)], Execution(cpus_per_run=2), Resources(2, 0, 4)),
        ([node(CPU=6), node(CPU=2)], Execution(cpus_per_run=2), Resources(2, 0, 4)),
        ([node(CPU=8, GPU=2)], Execution(), Resources(1, 1, 2)),
        ([node(CPU=8, GPU=2)], Execution(cpus_per_run=4), Resources(4, 1, 2)),
        ([node(CPU=8, GPU=2)], Execution(gpus_per_run=0.5), Resources(1, 0.5, 4)),
        ([node(CPU=8, GPU=2)], Execution(gpus_per_run=0), Resources(1, 0, 8)),
        ([node(CPU=8, GPU=3)], Execution(gpus_per_run=2), Resources(1, 2, 1, ranks=2)),
        # A run's GPUs are on one node.
        (
            [node(CPU=8, GPU=3), node(CPU=8, GPU=3), node(CPU=8, GPU=1)],
            Execution(gpus_per_run=2, cpus_per_run=4),
            Resources(4, 2, 2, ranks=2),
        ),
        ([node(CPU=8)], Execution(concurrency=3), Resources(1, 0, 3, is_bounded=True)),
        ([node(CPU=2)], Execution(address="auto"), Resources(1, 0, 2)),
        (
            [node(CPU=2)],
            Execution(address="auto", concurrency=2),
            Resources(1, 0, 2, is_bounded=True),
        ),
    ],
)
def test_resources_and_runs_side_by_side(stage, nodes, execution, expected):
    stage.nodes = nodes
    assert resources_of(execution, 0) == expected
    runtime = driver.worker_runtime(Runtime(keep="all"), expected)
    assert runtime.device == ("cuda" if expected.gpus else "cpu")
    # On the CPU always one thread: a run is the same run whatever it reserves.
    threads = max(1, int(expected.cpus / expected.ranks)) if expected.gpus else 1
    assert (runtime.num_threads, runtime.keep) == (threads, "all")


@pytest.mark.parametrize(
    "execution",
    [
        Execution(cpus_per_run=3),
        Execution(gpus_per_run=1),
        Execution(gpus_per_run=0.5),
        Execution(gpus_per_run=2),
    ],
)
def test_more_than_any_node_has_is_refused(stage, execution):
    with pytest.raises(PreflightError, match="that one node has, got"):
        stage.launch(lambda *_: None, execution)
    assert stage.rounds == []


def test_known_memory_bounds_runs_side_by_side(stage):
    stage.nodes = [node(CPU=8.0, memory=4e9)]
    assert resources_of(Execution(), 1_500_000_000) == Resources(1, 0, 2, 1_500_000_000)
    asked = Resources(1, 0, 2, 1_500_000_000).of_a_run()
    assert asked == {"cpu": 1, "gpu": 0, "memory": 1.5e9}
    assert Resources(1, 0, 2).of_a_run() == {"cpu": 1, "gpu": 0}
    with pytest.raises(PreflightError, match=r"Expected a node with 4\.1 GB of memory"):
        resources_of(Execution(), 4_100_000_000)


def test_processes_of_a_run_get_their_shares_on_one_node():
    own, *of_ranks = (asked := Resources(4, 2, 1, 8_000_000_000, ranks=2).of_a_run())._bundles
    share = {"CPU": 2.0, "GPU": 1.0, "memory": 4e9}
    assert (own, of_ranks) == (share, [share])
    assert asked.head_bundle_is_empty
    assert asked.strategy == "STRICT_PACK"
    not_on = Resources(4, 2, 1, ranks=2, not_on=frozenset(["a"])).of_a_run()
    assert not_on._kwargs == {"bundle_label_selector": [{"ray.io/node-id": "!in(a)"}] * 2}
    # A function of one's own has the GPUs in its process.
    assert Resources(4, 2, 1).of_a_run() == {"cpu": 4, "gpu": 2}


@pytest.mark.parametrize("num_losses", [2, 100])
def test_run_lost_with_its_node_is_requeued_so_many_times(num_losses, stage):
    lost = stage.ids[2]

    def play(run_ids, tracker, signals):
        is_lost = len(stage.rounds) <= num_losses
        stage.train(tracker, [run_id for run_id in run_ids if run_id != lost or not is_lost])
        if is_lost:
            tracker.run_started(lost)
            tracker.run_given_up(lost, "The node died.")

    stage.launch(play, Execution(address="auto"))
    if num_losses == 2:
        assert stage.progress.done == set(stage.ids)
        assert stage.rounds == [(list(stage.ids), 2), ([lost], 2), ([lost], 2)]
        assert stage.store.error(lost) is None
    else:
        assert stage.progress.failed == {lost}
        assert len(stage.rounds) == 1 + tracker_module.MAX_REQUEUES
        assert "died again and again" in stage.store.error(lost)


def test_later_rounds_leave_an_incompatible_node_out(stage):
    stage.nodes = [node("a", CPU=1.0), node("b", CPU=1.0)]
    first, second = stage.ids[1:3]

    def play(run_ids, tracker, signals):
        if len(stage.rounds) > 1:
            return stage.train(tracker, run_ids)
        stage.train(tracker, [run_id for run_id in run_ids if run_id not in (first, second)])
        for run_id in (first, second):
            tracker.run_started(run_id)
            tracker.run_requeued(run_id, "b", "On node b: Expected the same torch everywhere.")
        return None

    stage.launch(play, Execution(address="auto"))
    assert (stage.progress.done, stage.progress.failed) == (set(stage.ids), set())
    assert stage.rounds == [(list(stage.ids), 2), ([first, second], 2)]
    assert stage.not_on == [frozenset(), frozenset("b")]
    assert sum("Its runs go to other nodes." in text for text in stage.said) == 1
    assert stage.events().count('"run_requeued"') == 2
    assert all(stage.store.error(run_id) is None for run_id in stage.ids)


def test_launch_ends_if_every_node_is_incompatible(stage):
    def play(run_ids, tracker, signals):
        tracker.run_started(run_ids[0])
        tracker.run_requeued(run_ids[0], "a", "On node a: Expected the same torch everywhere.")

    with pytest.raises(PreflightError, match="Expected the same torch everywhere"):
        stage.launch(play, Execution(address="auto"))
    assert len(stage.rounds) == 1
    assert stage.progress.failed == set()
    assert stage.store.error(stage.ids[0]) is None
