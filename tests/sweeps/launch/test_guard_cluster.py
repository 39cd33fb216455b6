"""What a launch asks of a machine or a cluster, and how it bears its nodes; rounds are played."""

import pytest

from mtl.spec import Runtime
from sweeps.launch import driver, session, tracker
from sweeps.launch.driver import worker_runtime
from sweeps.launch.execution import Execution
from sweeps.launch.preflight import PreflightError
from sweeps.launch.tune import ClusterError, Resources
from tests.sweeps.launch.stage import CHECKED, Stage


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Stage:
    return Stage(tmp_path / "store", monkeypatch)


@pytest.mark.parametrize(
    ("nodes", "execution", "expected"),
    [
        ({"CPU": 2, "GPU": 0}, Execution(), Resources(1, 0, 2)),
        ({"CPU": 8, "GPU": 0}, Execution(cpus_per_run=2), Resources(2, 0, 4)),
        ({"CPU": 8, "GPU": 2}, Execution(), Resources(1, 1, 2)),
        ({"CPU": 8, "GPU": 2}, Execution(cpus_per_run=4), Resources(4, 1, 2)),
        ({"CPU": 8, "GPU": 2}, Execution(gpus_per_run=0.5), Resources(1, 0.5, 4)),
        ({"CPU": 8, "GPU": 2}, Execution(gpus_per_run=0), Resources(1, 0, 8)),
        ({"CPU": 8, "GPU": 0}, Execution(concurrency=3), Resources(1, 0, 3)),
    ],
)
def test_resources_and_runs_side_by_side(stage, nodes, execution, expected):
    stage.nodes = {"memory": 8e9, **nodes}
    assert driver._resources(execution, 0) == expected
    runtime = worker_runtime(Runtime(keep="all"), expected)
    assert runtime.device == ("cuda" if expected.gpus else "cpu")
    # On the CPU always one thread: a run is the same run whatever it reserves.
    threads = int(expected.cpus) if expected.gpus else 1
    assert (runtime.num_threads, runtime.keep) == (threads, "all")


@pytest.mark.parametrize(
    "execution", [Execution(cpus_per_run=3), Execution(gpus_per_run=1), Execution(gpus_per_run=0.5)]
)
def test_what_no_node_has_is_refused_before_anything_starts(stage, execution):
    with pytest.raises(ClusterError, match="that one node has, got"):
        stage.launch(lambda *_: None, execution)
    assert stage.rounds == []


def test_memory_bounds_runs_side_by_side_and_is_asked_of_ray(stage):
    stage.nodes = {"CPU": 8.0, "GPU": 0.0, "memory": 4e9}
    assert driver._resources(Execution(), 1_500_000_000) == Resources(1, 0, 2, 1_500_000_000)
    asked = Resources(1, 0, 2, 1_500_000_000).of_a_run()
    assert asked == {"cpu": 1, "gpu": 0, "memory": 1.5e9}
    assert Resources(1, 0, 2).of_a_run() == {"cpu": 1, "gpu": 0}
    with pytest.raises(ClusterError, match=r"Expected a node with 4\.1 GB of memory"):
        driver._resources(Execution(), 4_100_000_000)


def test_a_cluster_may_grow_unless_concurrency_says_how_far(stage):
    assert driver._resources(Execution(address="auto"), 0).grows
    assert not driver._resources(Execution(address="auto", concurrency=2), 0).grows
    assert not driver._resources(Execution(), 0).grows


def test_on_a_cluster_a_run_that_went_without_a_word_goes_into_another_round(stage, monkeypatch):
    monkeypatch.setattr(session, "check_cluster", lambda *_, **__: CHECKED)
    lost = stage.ids[2]

    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if run_id == lost and len(stage.rounds) < 3:
                listener.run_given_up(run_id, "The node died.")
            else:
                stage.finish(listener, run_id)

    stage.launch(play, Execution(address="auto"))
    assert stage.progress.done == set(stage.ids)
    assert stage.rounds == [(list(stage.ids), 2), ([lost], 2), ([lost], 2)]
    assert stage.store.error(lost) is None


def test_on_a_cluster_too_a_run_is_given_up_in_the_end(stage, monkeypatch):
    monkeypatch.setattr(session, "check_cluster", lambda *_, **__: CHECKED)
    lost = stage.ids[2]

    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
            if run_id == lost:
                listener.run_given_up(run_id, "The node died.")
            else:
                stage.finish(listener, run_id)

    stage.launch(play, Execution(address="auto"))
    assert stage.progress.failed == {lost}
    assert len(stage.rounds) == 1 + tracker.MAX_PUT_BACK
    assert "died again and again" in stage.store.error(lost)


def test_runs_that_came_to_an_unfit_node_are_put_back_and_it_is_left_out(stage, monkeypatch):
    monkeypatch.setattr(session, "check_cluster", lambda *_, **__: CHECKED)
    monkeypatch.setattr(driver, "worker_nodes", lambda *_: {"a": "node a", "b": "node b"})
    first, second = stage.ids[1:3]

    def play(run_ids, listener, signals):
        for run_id in run_ids:
            listener.run_started(run_id)
        if len(stage.rounds) == 1:
            for run_id in (first, second, first, first):  # its worker says so until it is ended
                listener.run_put_back(run_id, "b", "Expected the same torch everywhere.")
                assert listener.runs_go_on()
        for run_id in run_ids:
            if len(stage.rounds) > 1 or run_id not in (first, second):
                stage.finish(listener, run_id)
        assert not listener.runs_go_on()

    stage.launch(play, Execution(address="auto"))
    assert stage.progress.done == set(stage.ids)
    assert stage.progress.failed == set()
    assert stage.rounds == [(list(stage.ids), 2), ([first, second], 2)]
    assert stage.not_on == [frozenset(), frozenset("b")]
    assert stage.said.count("Expected the same torch everywhere. Its runs go to other nodes.") == 1
    assert stage.events().count('"run_put_back"') == 2
    assert all(stage.store.error(run_id) is None for run_id in stage.ids)


def test_where_every_node_is_unfit_the_launch_ends_in_a_sentence(stage, monkeypatch):
    monkeypatch.setattr(session, "check_cluster", lambda *_, **__: CHECKED)
    monkeypatch.setattr(driver, "worker_nodes", lambda *_: {"b": "node b"})

    def play(run_ids, listener, signals):
        listener.run_started(run_ids[0])
        listener.run_put_back(run_ids[0], "b", "Expected the same torch everywhere.")

    with pytest.raises(PreflightError, match="Expected the same torch everywhere"):
        stage.launch(play, Execution(address="auto"))
    assert len(stage.rounds) == 1
    assert stage.progress.failed == set()
    assert stage.store.error(stage.ids[0]) is None
