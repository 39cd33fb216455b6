"""One Ray for several launches: started once, looked at once, started again where it died."""

import contextlib
import io

import pytest

from mtl.records import Result
from mtl.spec import Runtime
from mtl.store import Store
from sweeps.launch import session, tune
from sweeps.launch.driver import launch
from sweeps.launch.execution import Execution
from sweeps.launch.session import Session
from sweeps.launch.signals import StopSignals
from sweeps.launch.tune import ClusterError
from sweeps.plan import grid_specs, make_plan
from sweeps.priority_grid import GRID
from sweeps.status.display import PlainDisplay
from sweeps.status.journal import Journal, sweep_lock
from sweeps.status.progress import SweepProgress
from tests.sweeps.launch.stage import CHECKED


class Rays:
    """Counts what would be starts and ends of Ray."""

    def __init__(self, monkeypatch):
        self.starts, self.running, self.lives = 0, 0, True
        self.checked = []
        monkeypatch.setattr(tune, "started_ray", self.started)
        monkeypatch.setattr(tune, "has_nodes", lambda: self.lives)
        nodes = {"CPU": 2.0, "GPU": 0.0, "memory": 8e9}
        monkeypatch.setattr(tune, "largest_node", lambda: nodes)
        monkeypatch.setattr(tune, "cluster_total", lambda name: nodes[name])
        monkeypatch.setattr(tune, "dashboard_address", lambda: "http://127.0.0.1:1")
        monkeypatch.setattr(session, "check_cluster", self.check)

    @contextlib.contextmanager
    def started(self, *_, **__):
        self.starts += 1
        self.running += 1
        self.lives = True
        try:
            yield
        finally:
            self.running -= 1

    def check(self, specs, *_, further_bytes, **__):
        self.checked.append((len(specs), further_bytes))
        return CHECKED


@pytest.fixture
def rays(monkeypatch) -> Rays:
    return Rays(monkeypatch)


def launches(root, rays, execution, *, before_second=lambda: None, dies_in=()):
    """Launch two runs and then two more in one session; return what was said."""
    store = Store(root)
    said = io.StringIO()
    rounds = []

    def run_round(run_ids, trainable, resources, listener, signals, scratch):
        rounds.append(list(run_ids))
        for run_id in run_ids:
            listener.run_started(run_id)
            if len(rounds) in dies_in:
                raise RuntimeError("Ray's node process is gone")
            empty = {"validation": {}, "test": {}}
            store.write_result(Result(run_id, "done", 1, "last", 1, empty, empty))
            listener.run_ended(run_id, "done")

    with (
        sweep_lock(store, "mine"),
        StopSignals() as signals,
        Session(execution, "mine", signals, further_bytes=77) as held,
    ):
        for number in (0, 1):
            plan = make_plan("mine", "k", grid_specs(GRID)[2 * number : 2 * number + 2])
            progress = SweepProgress(
                dict(zip(plan.run_ids, plan.specs, strict=True)), expected={}, slots=2
            )
            launch(
                plan, store, execution, Runtime(), progress, Journal(store, plan),
                PlainDisplay(said), signals, session=held, run_round=run_round,
            )  # fmt: skip
            assert progress.done == set(plan.run_ids)
            before_second()
    assert rays.running == 0
    return said.getvalue()


def test_two_launches_share_one_ray_one_look_and_one_word_of_the_dashboard(tmp_path, rays):
    said = launches(tmp_path / "s", rays, Execution(address="auto", dashboard=True))
    assert rays.starts == 1
    assert rays.checked == [(2, 77)]
    assert said.count("Ray's dashboard") == said.count("Checked 1 node") == 1


def test_a_ray_that_died_between_two_launches_is_replaced_without_a_death_of_a_run(tmp_path, rays):
    def die():
        rays.lives = False

    said = launches(tmp_path / "s", rays, Execution(dashboard=True), before_second=die)
    assert rays.starts == 2
    assert "Ray Tune ended early" not in said
    assert said.count("Ray's dashboard") == 1
    assert rays.checked == []  # the driver's own machine


def test_a_ray_that_died_in_a_round_is_replaced_and_the_next_launch_has_the_new_one(tmp_path, rays):
    said = launches(tmp_path / "s", rays, Execution(), dies_in=(1,))
    assert rays.starts == 2
    assert said.count("Ray Tune ended early (Ray's node process is gone)") == 1


def test_nothing_to_launch_starts_nothing(tmp_path, rays):
    with StopSignals() as signals, Session(Execution(), "mine", signals):
        pass
    assert rays.starts == 0


def test_a_ray_that_does_not_start_ends_the_launch(tmp_path, rays, monkeypatch):
    def refuse(*_, **__):
        raise ClusterError("Could not start Ray: no.")

    monkeypatch.setattr(tune, "started_ray", refuse)
    with pytest.raises(ClusterError, match="Could not start"):
        launches(tmp_path / "s", rays, Execution())
