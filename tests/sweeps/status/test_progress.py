"""Progress as a state machine under a clock of our own, and what is shown of it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.status.display import Display, LiveDisplay, make_display, summary
from sweeps.status.progress import Efficiency, SweepProgress
from sweeps.text import duration, duration_range, run_text, size


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock) -> SweepProgress:
    specs = grid_specs(GRID)[:6]
    runs = {f"run{i}": replace(spec, epochs=12) for i, spec in enumerate(specs)}
    return SweepProgress(
        runs,
        done=["run0"],
        failed=["run1"],
        expected=dict.fromkeys(list(runs)[2:], (8.0, 16.0)),
        slots=2,
        clock=clock,
    )


def counts(progress):
    snapshot = progress.snapshot()
    return (snapshot.done, snapshot.failed, len(snapshot.running), snapshot.waiting)


def test_expected_range_stands_before_anything_runs(progress):
    assert counts(progress) == (1, 1, 0, 4)
    assert progress.snapshot().seconds_left == pytest.approx((16, 32))


def test_run_is_counted_from_start_to_end(progress, clock):
    clock.now += 7  # data are prepared
    assert progress.snapshot().elapsed == 0
    progress.start("run2")
    assert counts(progress) == (1, 1, 1, 3)
    clock.now += 50  # imports
    for epoch in (1, 2, 3):
        clock.now += 1
        progress.epoch("run2", epoch, [0.5, None])
    (run,) = progress.snapshot().running
    assert (run.epoch, run.losses) == (3, [0.5, None])
    # An epoch takes 1 s, as expected: 9 and 3 x 12 s remain for two slots.
    assert progress.snapshot().seconds_left == pytest.approx((22.5 * 0.9, 22.5 * 1.1))
    progress.finish("run2", succeeded=True)
    assert counts(progress) == (2, 1, 0, 3)
    assert progress.snapshot().elapsed == 53
    assert progress.snapshot().seconds_left == pytest.approx((18 * 0.9, 18 * 1.1))


def test_runs_that_train_together_are_as_fast_as_their_share(progress, clock):
    for run_id in ("run2", "run3"):
        progress.start(run_id)
    for epoch in (1, 2, 3):
        clock.now += 2
        for run_id in ("run2", "run3"):
            progress.trained(run_id, float(epoch))  # of two seconds one each
            progress.epoch(run_id, epoch, [0.5, None])
    # An epoch takes a second, as expected: 2 x 9 and 2 x 12 s remain for two slots.
    assert progress.snapshot().seconds_left == pytest.approx((21 * 0.9, 21 * 1.1))
    assert progress.seconds_trained == 6.0


def test_range_of_paces_is_the_range_of_time_left(progress, clock):
    progress.start("run2")
    progress.start("run3")
    for epoch in range(1, 8):
        progress.epoch("run2", epoch, [1, 1])
        if epoch % 2 == 1:
            progress.epoch("run3", (epoch + 1) // 2, [1, 1])
        clock.now += epoch < 7
    low, high = progress.snapshot().seconds_left
    work = (5 + 8 + 12 + 12) / 2
    assert (low, high) == pytest.approx((work * 0.9, work * 2 * 1.1))


def test_interrupted_run_waits_and_failed_run_does_not(progress):
    progress.start("run2")
    progress.interrupt("run2")
    assert counts(progress) == (1, 1, 0, 4)
    progress.start("run2")
    progress.finish("run2", succeeded=False)
    assert counts(progress) == (1, 2, 0, 3)
    progress.start("run2")  # an event that comes late changes nothing
    progress.epoch("run2", 1, [1, 1])
    assert counts(progress) == (1, 2, 0, 3)


def test_finished_sweep_has_no_time_left(progress):
    for name in ("run2", "run3", "run4", "run5"):
        progress.start(name)
        progress.finish(name, succeeded=True)
    snapshot = progress.snapshot()
    assert snapshot.is_over
    assert snapshot.seconds_left == (0, 0)
    assert summary(snapshot) == "5 of 6 done, 0 running, 1 failed"


def test_lines_are_rate_limited(progress, clock):
    stream = io.StringIO()
    with Display(stream, clock) as display:
        for _ in range(100):
            clock.now += 1
            display.preparing(int(clock.now), 2000)
        progress.start("run2")
        display.show(progress.snapshot(), now=True)
        display.show(progress.snapshot(), now=True)
        display.say("a word")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[-2:] == ["1 of 6 done, 1 running, 1 failed, about 16 s to 32 s left", "a word"]


def test_live_table_shows_runs_and_sums(progress, clock):
    progress.start("run2")
    progress.epoch("run2", 3, [0.51234, None])
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveDisplay(console) as display:
        display.preparing(5, 10)
        display.show(progress.snapshot(), now=True)
        display.say("[a word] in brackets")
    shown = console.file.getvalue()
    for words in ("3 of 12", "depth 0.512", "segmentation absent", "1 of 6 done", "[a word] in"):
        assert words in shown


def test_file_gets_lines():
    assert isinstance(make_display(io.StringIO()), Display)


def test_durations_and_sizes_read_well():
    assert [duration(s) for s in (0.4, 59.4, 61, 599, 3000, 7300, 200_000)] == [
        "0 s", "59 s", "1 min 1 s", "9 min 59 s", "50 min", "2 h 2 min", "2 d 8 h",
    ]  # fmt: skip
    assert duration_range((10, 20)) == "10 s to 20 s"
    assert duration_range((3000, 3001)) == "50 min"
    assert [size(b) for b in (5, 1500, 12_345_678, 2e15)] == ["5 B", "1.5 kB", "12 MB", "2000 TB"]
    assert run_text(grid_specs(GRID)[0]) == "lsb, depth 0.5, segmentation 0.5, seed 0"


def test_epochs_of_earlier_processes_are_not_counted_as_work(clock):
    runs = {f"run{i}": replace(spec, epochs=10) for i, spec in enumerate(grid_specs(GRID)[:2])}
    progress = SweepProgress(
        runs,
        expected=dict.fromkeys(runs, (10.0, 10.0)),
        slots=1,
        epochs_before={"run0": 7},
        clock=clock,
    )
    assert progress.snapshot().seconds_left == pytest.approx((13, 13))
    progress.start("run0")
    progress.epoch("run0", 8, [1, 1])
    assert progress.snapshot().running[0].pace is None
    clock.now += 2
    progress.epoch("run0", 9, [1, 1])
    # An epoch takes 2 s in place of 1: the pace is 2.
    assert progress.snapshot().seconds_left == pytest.approx((22 * 0.9, 22 * 1.1))


def test_time_left_of_runs_that_will_be_paused(clock):
    specs = grid_specs(GRID)[:2]  # 16 epochs each
    runs = {spec.run_id(): spec for spec in specs}
    first = next(iter(runs))
    expected = dict.fromkeys(runs, (4.0, 4.0))  # to the fourth epoch: a second an epoch
    progress = SweepProgress(runs, expected=expected, slots=1, pause_after=4, clock=clock)
    progress.start(first)
    progress.epoch(first, 2, [0.1, 0.1])
    # Half of the first and all of the second are left.
    assert progress.snapshot().seconds_left == pytest.approx((6.0, 6.0))
    progress.pause(first)
    snapshot = progress.snapshot()
    assert snapshot.seconds_left == pytest.approx((4.0, 4.0))
    assert (snapshot.paused, snapshot.waiting, snapshot.is_over) == (1, 1, False)
    assert "1 paused" in summary(snapshot)


def test_undecided_runs_of_a_search_count_in_what_is_left(clock):
    runs = {f"run{i}": spec for i, spec in enumerate(grid_specs(GRID)[:3])}
    progress = SweepProgress(
        runs, done=["run0"], paused=["run1"], expected={"run2": (9.0, 11.0)}, slots=1,
        undecided=4, seconds_undecided=(30.0, 50.0), clock=clock,
    )  # fmt: skip
    snapshot = progress.snapshot()
    # run2 and four more; the range of run2 and of the others: 9 + 30 and 11 + 50.
    assert (snapshot.total, snapshot.waiting, snapshot.paused) == (7, 5, 1)
    assert snapshot.seconds_left == pytest.approx((39.0, 61.0))
    assert summary(snapshot).startswith("1 of at most 7 done, 0 running, 1 paused, about 39 s")
    progress.start("run2")
    progress.finish("run2", succeeded=True)
    assert not progress.snapshot().is_over
    assert progress.snapshot().seconds_left == pytest.approx((30.0, 50.0))


def test_efficiency_counts_the_training_of_all_attempts():
    spec = grid_specs(GRID)[0]
    run_id = spec.run_id()
    progress = SweepProgress({run_id: spec}, expected={}, slots=2)
    for seconds, end in ((30.0, progress.interrupt), (50.0, progress.pause)):
        progress.start(run_id)
        assert progress.all_are_training is False
        progress.epoch(run_id, 1, [0.5])
        assert progress.all_are_training
        progress.trained(run_id, seconds / 2)
        progress.trained(run_id, seconds)
        end(run_id)
    progress.trained(run_id, 1000.0)  # Tune repeats the last report
    used = Efficiency(progress.seconds_trained, 2, 50.0)
    assert used.share == pytest.approx(80 / 100)
    assert used.to_text() == (
        "Efficiency 0.80: 2 runs at a time trained for 80 % of the 50 s that this command took."
    )
