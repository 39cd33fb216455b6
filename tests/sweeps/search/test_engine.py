"""The search's steps, its epochs, and that a killed search is the same search."""

import json
import math

import pytest
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.search import engine
from sweeps.search.decisions import DecisionLog, decided_specs
from sweeps.search.options import LEARNING_RATE
from sweeps.search.study import SearchError, Trials

SAMPLERS = ("tpe", "nsga2", "random")


def search(played, name, *, prepare=lambda training: None, bases=None, **changes):
    """Search in the store `name`; return the training, the outcome and the decisions' bytes."""
    store, folder = played.new_store(name)
    training = played.training(store)
    prepare(training)
    options = played.options(**changes)
    trials = Trials(bases or played.bases(), options, store, folder, training)
    outcome = engine.search(trials)
    return training, outcome, (folder / "decisions.jsonl").read_bytes()


def decisions(data: bytes, kind: str) -> list[dict]:
    found = [json.loads(line) for line in data.splitlines()]
    return [decision for decision in found if decision["decision"] == kind]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_search_keeps_its_budget_and_finds_the_best_settings(played, sampler):
    training, outcome, data = search(played, "a", sampler=sampler)
    options = played.options(sampler=sampler)
    bases = played.bases()
    # No epoch is trained twice: what was paused goes on where it was left.
    assert len(set(training.trained)) == len(training.trained)
    assert outcome.num_epochs == len(training.trained)
    assert outcome.num_epochs <= 2 * options.num_epochs
    # Best of the candidates: the one nearest to the best rate among those that did not diverge.
    tuned = {d["method"]: d["params"][LEARNING_RATE] for d in decisions(data, "tuned")}
    for method, rate in tuned.items():
        tried = [
            d["params"][LEARNING_RATE]
            for d in decisions(data, "candidate")
            if d["method"] == method and d["params"][LEARNING_RATE] <= played.diverges_above
        ]
        nearest = min(tried, key=lambda r: abs(math.log(r / played.best_rate)))
        assert rate == pytest.approx(nearest)
    for method, specs in outcome.points.items():
        assert {spec.optimizer.learning_rate for spec in specs} == {tuned[method]}
    # Equally many points and seeds for every method, all of them done.
    assert [len(points) for points in outcome.points.values()] == [3, 3]
    assert len(outcome.specs) == 2 * 3 * 2
    store = training.store
    assert all(store.is_done(spec.run_id()) for spec in outcome.specs)
    unfinished = [run_id for run_id in store.run_ids() if not store.is_done(run_id)]
    assert outcome.num_paused == sum(store.error(run_id) is None for run_id in unfinished) > 0
    log = DecisionLog(store.sweep_folder("mine") / "decisions.jsonl")
    decided = {spec.run_id() for spec in decided_specs(bases, options, log)}
    assert {run_id for run_id, _ in training.trained} <= decided


def test_first_candidate_is_the_given_one(played):
    _, _, data = search(played, "a")
    first = decisions(data, "candidate")[0]
    assert first["params"] == {LEARNING_RATE: 8e-4, "method_options.increase_rate": 0.02}
    points = [d["priorities"] for d in decisions(data, "asked") if d["method"] == "lsb"]
    assert points[:2] == [[0.666666666667, 0.333333333333], [0.333333333333, 0.666666666667]]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_search_killed_at_any_event_is_the_same_search(played, sampler):
    undisturbed, outcome, data = search(played, "a", sampler=sampler, trials=5)
    num_events = len(undisturbed.trained)
    for left in range(0, num_events, num_events // 3):
        trained = []

        def die(training, left=left, trained=trained):
            training.left, training.trained = left, trained

        with pytest.raises(played.killed):
            search(played, f"killed {left}", sampler=sampler, trials=5, prepare=die)
        _, folder = played.new_store(f"killed {left}")
        path = folder / "decisions.jsonl"
        assert data.startswith(path.read_bytes())
        path.write_bytes(path.read_bytes() + b'{"schema": 1, "deci')  # killed while writing

        def go_on(training, trained=trained):
            training.trained = trained

        _, again, same = search(played, f"killed {left}", sampler=sampler, trials=5, prepare=go_on)
        # Where nothing was left to decide, the torn line stays and is not read.
        assert same[: same.rfind(b"\n") + 1] == data
        assert again == outcome
        assert len(trained) == len(undisturbed.trained)


def test_search_killed_after_any_decision_is_the_same_search(played):
    _, outcome, data = search(played, "a", sampler="nsga2", trials=5)
    lines = data.splitlines(keepends=True)
    for keep in range(1, len(lines), 7):
        _, folder = played.new_store("a")
        (folder / "decisions.jsonl").write_bytes(b"".join(lines[:keep]))
        (folder / "study.log").unlink()
        training, again, same = search(played, "a", sampler="nsga2", trials=5)
        assert (same, again, training.trained) == (data, outcome, [])


def test_another_seed_asks_other_points_and_more_trials_continue(played):
    _, _, data = search(played, "a")
    _, _, other = search(played, "b", search_seed=1)
    asked = [d["priorities"] for d in decisions(data, "asked")]
    assert asked != [d["priorities"] for d in decisions(other, "asked")]
    training, outcome, longer = search(played, "a", trials=9)
    assert longer.startswith(data)
    assert outcome.num_explored == 18
    seeds = [d for d in decisions(longer, "chosen") if d["trials"] == 9]
    assert len(seeds) == 2
    # Three more trials a method, and whatever newly chosen points still lacked.
    assert len(training.trained) <= 2 * 16 * (3 + 3)


def test_failed_runs_do_not_end_the_search(played):
    def fail_often(training):
        training.fails = lambda spec: spec.priorities[0] > 0.7

    _, outcome, data = search(played, "a", prepare=fail_often, trials=9, sampler="random")
    told = decisions(data, "told")
    assert any(d["values"] is None for d in told)
    assert all(s.priorities[0] <= 0.7 for points in outcome.points.values() for s in points)
    _, folder = played.new_store("a")
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    states = [t.state for t in load_study(study_name="priorities lsb", storage=storage).trials]
    expected = [d["values"] is None for d in told if d["method"] == "lsb"]
    assert [state == TrialState.FAIL for state in states] == expected
    assert TrialState.RUNNING not in states


def test_search_ends_where_everything_fails(played):
    def fail(training):
        training.fails = lambda spec: True

    with pytest.raises(SearchError, match=r"All of the first 12 runs failed.*diverged"):
        search(played, "a", prepare=fail)
    _, folder = played.new_store("a")
    assert decisions((folder / "decisions.jsonl").read_bytes(), "candidate_told") == []

    def one_method_fails(training):
        training.fails = lambda spec: spec.method == "lsb"

    with pytest.raises(SearchError, match="No candidate of lsb"):
        search(played, "b", prepare=one_method_fails)


def test_without_candidates_nothing_is_tuned(played):
    training, outcome, data = search(played, "a", candidates=1)
    assert decisions(data, "rung") == []
    assert {s.optimizer.learning_rate for s in outcome.specs} == {8e-4}
    assert all(pause is None for _, _, pause in training.batches)
    assert outcome.num_paused == 0
    # 6 trials and one more seed of 3 points, 16 epochs each, two methods.
    assert outcome.num_epochs == 2 * (6 + 3) * 16
