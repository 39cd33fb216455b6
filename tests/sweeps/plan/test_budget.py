"""--budget: the arithmetic, and launches under a clock that the test moves; nothing sleeps."""

import contextlib
import math
from dataclasses import replace

import pytest

from mtl.records import Result
from mtl.spec import Runtime
from mtl.store import Store
from sweeps import command
from sweeps.command import out_of_time_text
from sweeps.launch import driver, tune
from sweeps.launch.execution import Execution
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs, make_plan
from sweeps.plan.cost import Budget, budget_of, check_hours, runs_within
from sweeps.priority_grid import GRID, main
from sweeps.status.display import PlainDisplay
from sweeps.status.journal import Journal, sweep_lock
from sweeps.status.progress import SweepProgress

START_SECONDS = 11.0  # the mean of the model's [8, 14]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """Five runs of ten epochs, 10 s each as expected, one at a time, under a played clock."""

    def __init__(self, root, monkeypatch) -> None:
        self.store = Store(root)
        specs = [replace(spec, epochs=10) for spec in grid_specs(GRID)[:5]]
        self.plan = make_plan("mine", "priority_grid", specs)
        self.clock = Clock()
        self.said: list[str] = []
        self.rounds: list[list[str]] = []
        self.seconds_per_epoch = dict.fromkeys(self.plan.run_ids, 1.0)
        monkeypatch.setattr(tune, "started_ray", lambda *_, **__: contextlib.nullcontext())
        monkeypatch.setattr(tune, "largest_node", lambda: {"CPU": 1.0, "GPU": 0.0, "memory": 8e9})
        monkeypatch.setattr(tune, "cluster_total", lambda name: float(name == "CPU"))

    def _round(self, run_ids, _trainable, _resources, listener, *_):
        """Do what Tune does with a limit: ask before each run and after each epoch."""
        self.rounds.append(list(run_ids))
        assert listener.limits_time()
        for run_id in run_ids:
            if listener.may_start(run_id):
                listener.run_started(run_id)
                self._train(run_id, listener)

    def _train(self, run_id, listener):
        for epoch in range(1, 11):
            self.clock.now += self.seconds_per_epoch[run_id]
            goes_on = listener.may_go_on(run_id, epoch)  # Tune's stopper is asked first
            listener.run_epoch(run_id, epoch, [0.5, 0.5])
            if not goes_on:
                return listener.run_stopped(run_id)
        metrics = {"validation": {}, "test": {}}
        self.store.write_result(Result(run_id, "done", 10, "last", 10, metrics, metrics))
        listener.run_ended(run_id, "done")
        return listener.run_stopped(run_id)  # Tune tells of the end of every trial

    def launch(self, seconds: float) -> SweepProgress:
        progress = SweepProgress(
            dict(zip(self.plan.run_ids, self.plan.specs, strict=True)),
            done=self.store.done(self.plan.run_ids),
            expected=dict.fromkeys(self.plan.run_ids, (8.0, 12.0)),
            slots=1,
            clock=self.clock,
        )

        class Display(PlainDisplay):
            def say(display, text):  # noqa: N805
                self.said.append(text)

        with sweep_lock(self.store, "mine"), StopSignals() as signals:
            driver.launch(
                self.plan, self.store, Execution(), Runtime(), progress,
                Journal(self.store, self.plan), Display(None, self.clock), signals,
                budget=budget_of(seconds / 3600, self.clock), run_round=self._round,
            )  # fmt: skip
            assert signals.received is None
        return progress

    def events(self) -> str:
        return (self.store.sweep_folder("mine") / "events.jsonl").read_text()


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Stage:
    return Stage(tmp_path / "store", monkeypatch)


def test_no_run_is_started_that_would_end_too_late_and_the_rest_continues(stage):
    # Before the first epoch 11 s of start count too; then 35 s hold three runs of 10 s.
    first = stage.launch(35)
    assert len(first.done) == 3
    assert stage.clock.now == 1030
    assert first.snapshot().waiting == 2
    # What is left: 2 runs of 10 s at the measured pace of 1, a tenth wider on both sides.
    assert first.snapshot().seconds_left == pytest.approx((18, 22))
    assert not any("Out of time" in text for text in stage.said)
    second = stage.launch(35)
    assert second.snapshot().is_over
    assert stage.rounds[1] == [r for r in stage.plan.run_ids if r not in first.done]


def test_nothing_is_started_if_ray_and_the_shortest_run_do_not_fit(stage):
    assert stage.launch(START_SECONDS + 9.9).done == set()
    assert stage.rounds == []
    # Ray is played, and takes no time: what was set aside for it holds a second run.
    assert len(stage.launch(START_SECONDS + 10.1).done) == 2


def test_the_measured_pace_counts_more_than_the_estimate(stage):
    # Twice as slow as expected: after the first run, 20 of 45 s are gone; the second would end at
    # 40 and is started, and the third is not, although the estimate says 5 s of 10 are left.
    stage.seconds_per_epoch = dict.fromkeys(stage.plan.run_ids, 2.0)
    progress = stage.launch(45)
    assert len(progress.done) == 2
    assert stage.clock.now == 1040
    # Four times as quick: all of them fit in where the estimate had room for two.
    quick = Stage.__new__(Stage)
    quick.__dict__ = stage.__dict__ | {"seconds_per_epoch": dict.fromkeys(stage.plan.run_ids, 0.25)}
    assert len(quick.launch(25).done) == 5


def test_a_run_that_would_overrun_is_stopped_between_two_epochs_and_told(stage):
    slow = stage.plan.run_ids[0]
    stage.seconds_per_epoch[slow] = 4.0
    progress = stage.launch(25)
    # Epochs end at 4, 8, ..., 24; a seventh would end at 28.
    assert stage.clock.now == 1024
    assert slow not in progress.done
    assert progress.running == {}
    assert any(
        f"Out of time: run {slow}" in text and "stopped after epoch 6 of 10" in text
        for text in stage.said
    )
    assert '"event": "run_stopped"' in stage.events()
    # It is not begun again and again while the rest of its time runs out.
    assert stage.events().count("run_started") == 1
    # Its six epochs are not counted as work that is left; no ended run has set a pace.
    assert progress.seconds_of(slow) == pytest.approx(4.0)


def test_the_last_epoch_is_never_taken_away(stage):
    stage.seconds_per_epoch[stage.plan.run_ids[0]] = 2.2
    progress = stage.launch(21.5)
    # Nine epochs end at 19.8; the tenth would end at 22.0, past the deadline of 21.5.
    assert progress.done == set()
    stage.clock.now = 1000.0
    assert stage.launch(22.5).done == {stage.plan.run_ids[0]}


def test_without_a_budget_nothing_is_limited():
    budget = Budget()
    assert not budget.is_limited
    assert budget.allows(1e12)
    assert budget_of(None).seconds_left == math.inf


def test_a_budget_counts_from_when_it_was_made():
    clock = Clock()
    budget = budget_of(0.01, clock)
    assert (budget.is_limited, budget.seconds_left) == (True, pytest.approx(36.0))
    clock.now += 30
    assert budget.allows(5.9)
    assert not budget.allows(6.1)
    clock.now += 100
    assert budget.seconds_left == 0


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf, 1e9])
def test_impossible_budgets_are_refused(hours, tmp_path, capsys):
    with pytest.raises(ValueError, match="--budget above 0"):
        check_hours(hours)
    assert main(["--plan", "--store", str(tmp_path / "s"), f"--budget={hours}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_runs_within_fills_slots_in_order():
    assert runs_within([10, 10, 10, 10], 2, 20) == 4
    assert runs_within([10, 10, 10, 10], 2, 19) == 2
    assert runs_within([30, 10, 10], 1, 20) == 2  # the first does not fit, those after it do
    assert runs_within([], 2, 20) == 0
    assert runs_within([1.0], 1, -5) == 0


def test_the_plan_says_how_much_a_budget_holds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "num_cpus", lambda: 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for hours, says in (("100", "should hold 20 of 20 runs"), ("0.001", "should hold 0 of 20")):
        assert main(["--plan", "--store", str(tmp_path / "s"), "--budget", hours]) == 0
        assert f"A budget of {hours} h {says}" in capsys.readouterr().out


def test_the_end_says_what_is_left(stage):
    progress = stage.launch(35)
    text = out_of_time_text(progress.snapshot(), 0.5)
    assert text == (
        "The budget of 0.5 h is spent: 2 runs left, about 18 s to 22 s. The same command continues."
    )
