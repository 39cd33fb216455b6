"""--budget: what is refused, what a plan says of it, and the time at which a sweep stops."""

import math

import pytest

from mtl.errors import UsageError
from sweeps import command
from sweeps.launch import Execution
from sweeps.launch import signals as signals_module
from sweeps.launch.signals import StopSignals
from sweeps.plan.cost import runs_within
from sweeps.priority_grid import main


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf, 1e9])
def test_impossible_budgets_are_refused(hours, tmp_path, capsys):
    with pytest.raises(UsageError, match="--budget above 0"):
        Execution(budget_hours=hours)
    assert main(["--plan", "--store", str(tmp_path / "s"), f"--budget={hours}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_runs_within_a_time_fill_slots_in_order():
    assert runs_within([10, 10, 10, 10], 2, 20) == 4
    assert runs_within([10, 10, 10, 10], 2, 19) == 2
    assert runs_within([30, 10, 10], 1, 20) == 0  # the first is still running at the end
    assert runs_within([], 2, 20) == 0
    assert runs_within([1.0], 1, -5) == 0


def test_plan_says_how_much_a_budget_holds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "num_cpus", lambda: 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for hours, says in (("100", "should hold 20 of 20 runs"), ("0.001", "should hold 0 of 20")):
        assert main(["--plan", "--store", str(tmp_path / "s"), "--budget", hours]) == 0
        assert f"A budget of {hours} h {says}" in capsys.readouterr().out


def test_stop_is_asked_from_the_deadline_on(monkeypatch):
    now = 10.0
    monkeypatch.setattr(signals_module.time, "monotonic", lambda: now)
    limited, unlimited = StopSignals(deadline=20.0), StopSignals()
    assert not limited.stop_asked
    now = 20.0
    assert limited.stop_asked
    assert not unlimited.stop_asked
