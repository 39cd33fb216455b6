"""plan.json: what every reader makes of it, files of earlier releases included."""

import pytest

from mtl.errors import StoreError
from mtl.store.plan_file import parse_plan


def plan(*revisions: object, **changes: object) -> dict[str, object]:
    return {"schema": 1, "kind": "mine", "revisions": list(revisions), **changes}


def test_grid_reports_all_that_its_starts_planned() -> None:
    held = parse_plan(plan({"run_ids": ["a", "b"]}, {"run_ids": ["b", "c"]}), "plan.json")
    assert held.run_ids == held.reported == ["a", "b", "c"]
    assert (held.kind, held.tuned) == ("mine", ())


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
def test_search_reports_the_points_it_chose_last(revisions: list, reported: list[str]) -> None:
    assert parse_plan(plan(*revisions, tuned=["x"]), "plan.json").reported == reported


@pytest.mark.parametrize(
    ("held", "words", "remedy"),
    [
        ([], "schema None", "Remove"),
        ({"schema": "1"}, "schema '1'", "Remove"),
        ({"schema": 2}, "schema 2", "Use the release that wrote it"),
        ({"schema": 1}, "no list of revisions", "Remove"),
        (plan("x"), "a revision without a list of run ids", "Remove"),
        (plan({"run_ids": [3]}), "a revision without a list of run ids", "Remove"),
        (plan(tuned="optimizer"), "no list of names under tuned", "Remove"),
    ],
)
def test_damaged_plan_is_to_be_removed_and_a_newer_one_is_not(
    held: object, words: str, remedy: str
) -> None:
    with pytest.raises(StoreError, match=f"got {words} in .*plan.json. {remedy}"):
        parse_plan(held, "STORE/plan.json")
