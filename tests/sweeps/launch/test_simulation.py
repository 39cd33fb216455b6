"""A sweep on a simulated cluster: every run ends once, and what a run costs does not grow."""

import io
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from ray.tune.experiment import Trial
from ray.tune.search import variant_generator

from mtl.records import Result
from mtl.spec import Runtime
from sweeps.launch import Execution, driver, tune
from sweeps.launch.cluster import Resources
from sweeps.launch.signals import StopSignals
from sweeps.plan import Grid, grid_specs, make_plan
from sweeps.status.display import Display
from sweeps.status.journal import Journal, sweep_lock
from sweeps.status.progress import SweepProgress
from tests.store.counted import counted_store
from tests.sweeps.launch.simulated import Faults, SimulatedCluster, account, simulated

GRID = Grid(
    task_sets=(("depth", "segmentation"),), methods=("lsb", "fixed"), divisions=11, seeds=20
)


class Simulation:
    """A sweep of `num_runs` runs of three epochs on a simulated cluster."""

    def __init__(self, root, num_runs, *, num_nodes, execution=None, **faults):
        self.store = counted_store(root)
        self.plan = make_plan("mine", "priority_grid", grid_specs(GRID)[:num_runs])
        self.cluster = SimulatedCluster(
            self.store, self.plan.run_ids, self.finish,
            num_nodes=num_nodes, runs_per_node=1, epochs=3, epoch_seconds=60.0,
            faults=Faults(**faults),
        )  # fmt: skip
        self.progress = SweepProgress(
            self.plan.runs, expected={}, slots=1, clock=self.cluster.clock
        )
        self.said = io.StringIO()
        self.rounds: list[int] = []
        self.store.storage.requests.clear()
        with StopSignals() as signals, simulated(self.cluster), sweep_lock(self.store, "mine"):
            driver.launch(
                self.plan, self.store, execution or Execution(address="simulated"), Runtime(),
                self.progress, Journal(self.store, self.plan, self.cluster.clock),
                Display(self.said, self.cluster.clock), signals, run_round=self.run_round,
            )  # fmt: skip
        self.requests = self.store.storage.requests

    def run_round(self, run_ids, *arguments):
        self.rounds.append(len(run_ids))
        tune.tune_round(run_ids, *arguments)

    def finish(self, run_id):
        result = Result(run_id, "done", 3, "last", 3, {"test": {}}, {"test": {}})
        place = self.store.run_folder(run_id) / "result.json"
        place.write_text(json.dumps(result.to_dict()))


def test_every_run_ends_once_whatever_happens(tmp_path):
    sweep = Simulation(
        tmp_path, 100, num_nodes=20, crash_once=0.05, crash_always=0.02, fail=0.03, lost=0.1,
        busy=4, late_nodes=4, incompatible_nodes=1, crashed_rounds=1,
    )  # fmt: skip
    progress, said = sweep.progress, account(sweep.store, "mine")
    assert progress.done | progress.failed == set(sweep.plan.run_ids)
    assert progress.done.isdisjoint(progress.failed)
    assert progress.running == {}
    assert sweep.cluster.trained == Counter(progress.done)
    for run_id in sweep.plan.run_ids:
        events = said[run_id]
        is_done = run_id in progress.done
        assert events["run_done"] + events["run_done_elsewhere"] == is_done
        assert events["run_failed"] == (not is_done)
        assert (sweep.store.error(run_id) is None) == is_done
        left = ("run_retried", "run_requeued", "run_busy", "round_crashed")
        ended = sum(events[f"run_{state}"] for state in ("done", "failed"))
        ended += sum(events[name] for name in left)
        # A process that is lost while it starts is tried again without having been started.
        assert ended - events["run_retried"] <= events["run_started"] <= ended
    all_said = Counter[str]()
    for events in said.values():
        all_said += events
    assert 0 < len(progress.failed) < 10
    assert all_said["run_requeued"] > 0
    assert all_said["run_done_elsewhere"] == 2
    assert all_said["round_crashed"] >= 8
    assert all_said["run_retried"] >= 10
    # One each for writing it, and two looks at what earlier runs took: Ray was started twice.
    assert sweep.requests["read", "spec.json"] <= 3 * 100
    # Suspects go in parts, and what a node loses is mostly tried again within its round.
    assert len(sweep.rounds) < 20
    folder = sweep.store.sweep_folder("mine")
    status = json.loads((folder / "status.json").read_text())
    assert status["done"] + status["failed"] + status["waiting"] + len(status["running"]) == 100
    plan = json.loads((folder / "plan.json").read_text())
    assert [held["run_ids"] for held in plan["revisions"]] == [list(sweep.plan.run_ids)]


def test_driver_asks_the_store_a_bounded_number_of_times(tmp_path):
    num_runs = 60
    sweep = Simulation(tmp_path, num_runs, num_nodes=12)
    requests = sweep.requests
    assert len(sweep.rounds) == 1
    assert requests["append_log", "events.jsonl"] == 2 * num_runs
    assert requests["write", "spec.json"] == num_runs
    assert requests["read", "spec.json"] <= num_runs
    assert requests["read", "plan.json"] <= 2
    assert requests["write", "plan.json"] == 1
    assert requests["names", "runs"] <= 1
    # Before every write of these, whether the sweep is still this driver's.
    assert requests["read", "lease.json"] <= 3 * num_runs + 20
    assert requests["read", "result.json"] == 0
    assert sum(requests.values()) <= 7 * num_runs + 50


@contextmanager
def copied_by_tune() -> Iterator[list[int]]:
    """Yield the sizes, in bytes, of what Tune copies for each trial."""
    sizes: list[int] = []
    copy = variant_generator.copy

    def deepcopy(value):
        sizes.append(len(pickle.dumps(str(value))))
        return copy.deepcopy(value)

    with mock.patch.object(variant_generator, "copy", SimpleNamespace(deepcopy=deepcopy)):
        yield sizes


def test_what_tune_copies_for_a_trial_does_not_grow_with_the_round(tmp_path):
    largest = []
    for num_runs in (8, 24):
        with copied_by_tune() as sizes:
            Simulation(tmp_path / str(num_runs), num_runs, num_nodes=4)
        assert len(sizes) <= 4 * num_runs
        largest.append(max(sizes))
    assert largest[1] < 1.1 * largest[0]


def test_no_more_runs_go_side_by_side_than_asked(tmp_path):
    execution = Execution(address="simulated", concurrency=3)
    sweep = Simulation(tmp_path, 12, num_nodes=8, execution=execution)
    assert sweep.cluster.max_training == 3
    assert len(sweep.progress.done) == 12


def test_incompatible_node_gets_no_trial_that_was_added_after_it_was_found(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "3")
    sweep = Simulation(tmp_path, 30, num_nodes=5, late_nodes=1, incompatible_nodes=1)
    events = Counter[str]()
    for of_run in account(sweep.store, "mine").values():
        events += of_run
    assert 1 <= events["run_requeued"] <= 4
    assert len(sweep.rounds) == 2


class CountedTrial:
    """A trial whose state is looked at so many times."""

    looks = 0

    def __init__(self):
        self.state = Trial.PENDING

    @property
    def status(self):
        CountedTrial.looks += 1
        return self.state


def test_next_trial_is_found_without_looking_at_all():
    order = tune._InOrder(SimpleNamespace(incompatible={}), Resources(1.0, 0.0, 1))
    trials = [CountedTrial() for _ in range(500)]
    for trial in trials:
        order.on_trial_add(None, trial)
    for trial in trials[:100]:
        assert order.choose_trial_to_run(None) is trial
        trial.state = Trial.RUNNING
    trials[7].state = Trial.PENDING  # lost with its node: Tune adds it again, at the end
    order.on_trial_add(None, trials[7])
    for trial in (*trials[100:], trials[7]):
        assert order.choose_trial_to_run(None) is trial
        trial.state = Trial.TERMINATED
    assert order.choose_trial_to_run(None) is None
    assert CountedTrial.looks <= 4 * len(trials)
