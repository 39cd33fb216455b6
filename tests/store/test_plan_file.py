"""plan.json: what every reader makes of it, files of earlier releases included."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mtl.errors import StoreError
from mtl.store import Store
from mtl.store.plan_file import PlanFile, read_plan


@pytest.fixture
def read(tmp_path: Path) -> Callable[[object], PlanFile]:
    """Return what writes a plan.json and reads it."""
    store = Store(tmp_path / "store")

    def written_and_read(held: object) -> PlanFile:
        store.write_json("sweeps/mine/plan.json", held)
        return read_plan(store, "mine")

    return written_and_read


def plan(*revisions: object, **changes: object) -> dict[str, object]:
    return {"schema": 1, "kind": "mine", "revisions": list(revisions), **changes}


def test_grid_reports_all_that_its_starts_planned(read):
    held = read(plan({"run_ids": ["a", "b"]}, {"run_ids": ["b", "c"]}))
    assert held.run_ids == held.reported == ["a", "b", "c"]
    assert (held.kind, held.tuned) == ("mine", ())


def test_primary_comparison_is_declared_empty_or_unknown(read):
    assert read(plan(primary=["lsb", "fixed"])).primary == ("lsb", "fixed")
    assert read(plan(primary=[])).primary == ()
    assert read(plan()).primary is None


STEPS = {"run_ids": ["a", "b", "c"], "reported": False}
MORE_STEPS = {"run_ids": ["a", "b", "c", "d"], "reported": False}
POINTS = {"run_ids": ["b"]}


@pytest.mark.parametrize(
    ("revisions", "reported"),
    [
        ([STEPS], []),
        ([STEPS, POINTS], ["b"]),
        ([STEPS, POINTS, MORE_STEPS], ["b"]),
        ([STEPS, POINTS, MORE_STEPS, {"run_ids": ["d"]}], ["d"]),
        # As an earlier release wrote it: empty revisions are no choice of points.
        ([{"run_ids": []}, POINTS, {"run_ids": []}], ["b"]),
    ],
)
def test_search_reports_the_points_it_chose_last(revisions, reported, read):
    assert read(plan(*revisions, tuned=["x"])).reported == reported


@pytest.mark.parametrize(
    ("held", "words", "remedy"),
    [
        ([], "a damaged file", "Remove"),
        ({"schema": "1"}, "a damaged file", "Remove"),
        ({"schema": 2}, "schema 2", "Use the release that wrote it"),
        ({"schema": 1}, "another", "Remove"),
        (plan("x"), "another", "Remove"),
        (plan({"run_ids": [3]}), "another", "Remove"),
        (plan(tuned="optimizer"), "another", "Remove"),
        (plan(primary=["lsb"]), "another", "Remove"),
    ],
)
def test_damaged_plan_is_to_be_removed_and_a_newer_one_is_not(held, words, remedy, read):
    with pytest.raises(StoreError, match="plan.json.* " + remedy) as caught:
        read(held)
    assert f"got {words}" in str(caught.value)
