"""Which runs stand for a method: one setting for all, near equal priorities, the same seeds."""

import pytest

from analysis.compute.chosen_runs import Choice, ChosenRuns, one_seed, runs_near_equal
from analysis.compute.findings import every_pair
from mtl.store import Store
from tests.analysis.conftest import (
    depth_and_segmentation,
    findings_of,
    finish,
    make_spec,
    write_plan,
)


def done(store: Store, method: str, priority: float | None, seed: int) -> str:
    return finish(store, make_spec(method, priority, seed), depth_and_segmentation(0.5, 0.5))


def test_all_methods_are_shown_at_one_setting(store):
    ids = [done(store, "lsb", p, s) for p in (1 / 3, 1 / 2) for s in (1, 0)]
    ids += [done(store, "fixed", p, 0) for p in (1 / 6, 1 / 3, 2 / 3)]
    ids += [done(store, "uncertainty", None, 0)]
    write_plan(store, "priority_grid", ids)
    choice = runs_near_equal(findings_of(store))
    lsb, fixed, uncertainty = choice.chosen
    assert lsb.priorities == (0.5, 0.5)
    assert lsb.runs == ((0, ids[3]), (1, ids[2]))
    # As near on both sides: the first in rising order.
    assert fixed.priorities == pytest.approx((1 / 3, 2 / 3))
    assert (uncertainty.priorities, uncertainty.runs) == (None, ((0, ids[7]),))
    assert [c.number for c in choice.chosen] == [0, 1, 2]
    assert choice.notes == (
        "Methods that take priorities are shown at equal ones, (1/2, 1/2).",
        "fixed has no finished run there: it is shown at (1/3, 2/3).",
    )


def test_methods_of_the_paper_come_first_where_not_all_fit(store, monkeypatch) -> None:
    monkeypatch.setattr("analysis.compute.chosen_runs.MAX_ARMS", 3)
    methods = ("dwa", "equal", "gls", "lsb", "uncertainty")
    ids = [done(store, m, 0.5 if m == "lsb" else None, 0) for m in methods]
    write_plan(store, "priority_grid", ids)
    choice = runs_near_equal(findings_of(store))
    assert [c.arm for c in choice.chosen] == ["dwa", "equal", "lsb"]
    assert "3 of 5 methods are shown: dwa, equal and lsb." in choice.notes


def test_methods_without_a_run_are_named(store, monkeypatch) -> None:
    ids = [done(store, "lsb", 0.5, seed) for seed in range(4)]
    ids.append(store.write_spec(make_spec("fixed", 0.5, 0)))
    write_plan(store, "priority_grid", ids)
    choice = runs_near_equal(findings_of(store))
    assert [seed for seed, _ in choice.chosen[0].runs] == [0, 1, 2, 3]
    assert "Without a finished run: fixed." in choice.notes


def test_one_seed_is_one_that_all_methods_have() -> None:
    def of(arm: str, *seeds: int) -> ChosenRuns:
        return ChosenRuns(arm, 0, None, tuple((seed, f"{arm}{seed}") for seed in seeds))

    shared = one_seed(Choice((of("a", 0, 2, 3), of("b", 2, 3)), ("said",)))
    assert [c.runs for c in shared.chosen] == [((2, "a2"),), ((2, "b2"),)]
    assert shared.notes == ("said", "All pictures are of seed 2.")
    apart = one_seed(Choice((of("a", 0), of("b", 2)), ()))
    assert [c.runs for c in apart.chosen] == [((0, "a0"),), ((2, "b2"),)]
    assert "the seeds differ: a 0 and b 2" in apart.notes[0]


def test_papers_pair_leads():
    assert every_pair(["fixed", "stch", "lsb"])[0] == ("lsb", "fixed")
    assert sorted(every_pair(["fixed", "stch", "lsb"])[1:]) == [("fixed", "stch"), ("stch", "lsb")]
    assert every_pair(["a", "b"]) == [("a", "b")]
    assert every_pair(["a"]) == []
