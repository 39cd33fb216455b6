"""Single runs by operating point and seed, and which of two methods are set side by side."""

import numpy as np
import pandas as pd
import pytest

from analysis.load.axes import choose_axes
from analysis.load.matched import (
    arm_runs,
    by_arm,
    by_point,
    ids_by_point,
    matched_runs,
    shared_seeds,
)

TASKS = ("depth", "segmentation")
COLUMNS = ["depth_delta1", "segmentation_miou"]
AXES = choose_axes(TASKS)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run_id": ["a", "b", "c", "d"],
            "arm": ["lsb", "lsb", "fixed", "equal"],
            "seed": [1, 0, 0, 0],
            "priority_depth": [0.3, 0.3, 0.3, np.nan],
            "priority_segmentation": [0.7, 0.7, 0.7, np.nan],
            "depth_delta1": [0.1, 0.2, 0.3, 0.4],
            "segmentation_miou": [0.5, 0.6, 0.7, 0.8],
        }
    )


def test_runs_are_found_by_point_and_seed_in_any_row_order():
    runs = table()
    for shuffled in (runs, runs.iloc[::-1], runs[runs.columns[::-1]]):
        found = by_point(shuffled, TASKS, COLUMNS)
        assert set(found) == {("lsb", (0.3, 0.7)), ("fixed", (0.3, 0.7)), ("equal", None)}
        assert list(found[("lsb", (0.3, 0.7))]) == [0, 1]
        assert found[("lsb", (0.3, 0.7))][1].tolist() == [0.1, 0.5]
        ids = ids_by_point(shuffled, TASKS)
        assert ids[("lsb", (0.3, 0.7))] == {0: "b", 1: "a"}
        assert ids[("equal", None)] == {0: "d"}


def test_values_that_are_no_numbers_are_refused():
    for value in (np.nan, np.inf):
        runs = table()
        runs.loc[2, "depth_delta1"] = value
        with pytest.raises(ValueError, match="Expected finite metric values"):
            by_point(runs, TASKS, COLUMNS)


def test_no_runs_and_shared_seeds():
    assert by_point(pd.DataFrame(), TASKS, COLUMNS) == {}
    assert ids_by_point(pd.DataFrame(), TASKS) == {}
    assert shared_seeds([{2: 0, 0: 0, 1: 0}, {1: 0, 2: 0}]) == [1, 2]
    assert shared_seeds([]) == []


def frame(rows: list[tuple[str, float | None, int, float, float]]) -> pd.DataFrame:
    """Return a run table from (arm, depth priority, seed, delta1, miou)."""
    return pd.DataFrame(
        {
            "arm": [row[0] for row in rows],
            "priority_depth": [row[1] for row in rows],
            "priority_segmentation": [None if r[1] is None else 1 - r[1] for r in rows],
            "seed": [row[2] for row in rows],
            AXES[0].column: [row[3] for row in rows],
            AXES[1].column: [row[4] for row in rows],
        }
    )


ROWS = [
    ("lsb", 0.75, 1, 0.5, 0.1),
    ("lsb", 0.25, 0, 0.1, 0.4),
    ("lsb", 0.25, 1, 0.2, 0.5),
    ("lsb", 0.75, 0, 0.4, 0.2),
    ("fixed", 0.25, 1, 0.15, 0.45),
    ("fixed", 0.5, 1, 0.3, 0.3),
    ("fixed", 0.75, 1, 0.35, 0.15),
    ("fixed", 0.25, 2, 0.1, 0.1),
    ("equal", None, 0, 0.3, 0.3),
]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_only_what_both_have_is_matched_and_the_rest_is_said(order):
    runs = by_arm(frame(ROWS[order]), AXES)
    assert set(runs) == {"lsb", "fixed"}
    same = matched_runs(runs, ("lsb", "fixed"), same_seeds=True)
    assert same.priorities == ((0.25, 0.75), (0.75, 0.25))
    assert (same.seeds_a, same.seeds_b) == ((1,), (1,))
    np.testing.assert_array_equal(same.runs_a, [[[0.2, 0.5]], [[0.5, 0.1]]])
    np.testing.assert_array_equal(same.runs_b, [[[0.15, 0.45]], [[0.35, 0.15]]])
    text = " ".join(same.left_out)
    assert "Of lsb seed 0 is left out" in text
    assert "1 priority of fixed left out" in text
    assert "Of fixed seed 2 is left out" in text
    free = matched_runs(runs, ("lsb", "fixed"), same_seeds=False)
    assert (free.seeds_a, free.seeds_b) == ((0, 1), (1,))
    assert free.runs_a.shape == (2, 2, 2)


def test_methods_that_share_no_run_are_not_matched():
    runs = by_arm(
        frame(
            [("a", 0.25, 0, 0, 0), ("b", 0.5, 0, 0, 0), ("c", 0.25, 1, 0, 0), ("d", 0.5, 1, 0, 0)]
        ),
        AXES,
    )
    assert matched_runs(runs, ("a", "b"), same_seeds=False) == "a and b share no priority"
    assert "no seed with a run at every priority" in matched_runs(runs, ("a", "c"), same_seeds=True)
    assert not isinstance(matched_runs(runs, ("a", "c"), same_seeds=False), str)
    assert by_arm(frame([]), AXES) == {}


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(ValueError, match="got two of a with seed 0"):
        by_arm(frame([("a", 0.25, 0, 0, 0), ("a", 0.25, 0, 1, 1)]), AXES)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_runs_of_an_arm_hold_the_seeds_of_all_its_priorities(order):
    runs = frame(ROWS[order]).assign(run_id=lambda f: "run " + f.index.astype(str))
    lsb = arm_runs(runs, AXES, "lsb")
    assert (lsb.priorities, lsb.seeds) == (((0.25, 0.75), (0.75, 0.25)), (0, 1))
    np.testing.assert_array_equal(lsb.metrics, [[[0.1, 0.4], [0.2, 0.5]], [[0.4, 0.2], [0.5, 0.1]]])
    wanted = runs.set_index(["arm", "priority_depth", "seed"])["run_id"]
    assert lsb.run_ids[1] == (wanted["lsb", 0.75, 0], wanted["lsb", 0.75, 1])
    # Seed 2 of fixed is at one of its three priorities only.
    fixed = arm_runs(runs, AXES, "fixed")
    assert (fixed.seeds, fixed.num_left_out, fixed.metrics.shape) == ((1,), 1, (3, 1, 2))
    none = arm_runs(runs, AXES, "equal")
    assert (none.priorities, none.seeds, none.metrics.shape) == ((), (), (0, 0, 2))
