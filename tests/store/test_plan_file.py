"""plan.json: what every reader makes of it, files of earlier releases included."""

import pytest

from mtl.store.plan_file import PlanFileError, parse_plan


def plan(*revisions: object, **changes: object) -> dict[str, object]:
    return {"schema": 1, "kind": "mine", "revisions": list(revisions), **changes}


def test_a_grid_reports_all_that_its_starts_planned() -> None:
    held = parse_plan(plan({"run_ids": ["a", "b"]}, {"run_ids": ["b", "c"]}))
    assert held.run_ids == held.reported == ["a", "b", "c"]
    assert (held.kind, held.tuned) == ("mine", ())


def test_a_search_reports_the_points_that_it_chose_last() -> None:
    tuned = ["optimizer.learning_rate"]
    steps = {"run_ids": ["a", "b", "c"], "reported": False}
    assert parse_plan(plan(steps, tuned=tuned)).reported == []
    first = (steps, {"run_ids": ["b"]})
    assert parse_plan(plan(*first, tuned=tuned)).reported == ["b"]
    again = (*first, {"run_ids": ["a", "b", "c", "d"], "reported": False})
    assert parse_plan(plan(*again, tuned=tuned)).reported == ["b"]
    held = parse_plan(plan(*again, {"run_ids": ["d"]}, tuned=tuned))
    assert (held.run_ids, held.reported) == (["a", "b", "c", "d"], ["d"])


def test_a_search_of_an_earlier_release_with_empty_revisions_is_read() -> None:
    held = parse_plan(plan({"run_ids": []}, {"run_ids": ["b"]}, {"run_ids": []}))
    assert held.run_ids == held.reported == ["b"]
    # Once this release has gone on with it, its empty revisions are no choice of points.
    tuned = plan({"run_ids": []}, {"run_ids": ["b"]}, {"run_ids": []}, tuned=["x"])
    assert parse_plan(tuned).reported == ["b"]


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([], "schema None"),
        ({"schema": "1"}, "schema '1'"),
        ({"schema": 1}, "no list of revisions"),
        (plan("x"), "a revision without a list of run ids"),
        (plan({"run_ids": [3]}), "a revision without a list of run ids"),
        (plan(tuned="optimizer"), "no list of names under tuned"),
    ],
)
def test_damaged_plans_are_told_in_words(held: object, words: str) -> None:
    with pytest.raises(PlanFileError, match=f"^{words}$") as caught:
        parse_plan(held)
    assert caught.value.remedy == "remove the file and start the sweep again"


def test_a_plan_of_a_newer_release_is_not_to_be_removed() -> None:
    with pytest.raises(PlanFileError, match=r"^schema 2$") as caught:
        parse_plan({"schema": 2})
    assert caught.value.remedy == "use the release that wrote it"
