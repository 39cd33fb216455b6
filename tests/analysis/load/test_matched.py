"""Single runs by operating point and seed, and which runs of two methods are compared."""

import numpy as np
import pandas as pd
import pytest

from analysis.load.axes import choose_axes
from analysis.load.matched import arm_runs, by_arm, by_point, ids_by_point, matched_runs

TASKS = ("depth", "segmentation")
AXES = choose_axes(TASKS)
COLUMNS = [axis.column for axis in AXES]
Row = tuple[str, float | None, int, float, float]
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
BOTH_ORDERS = pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])


def frame(rows: list[Row]) -> pd.DataFrame:
    """Return a run table from (arm, depth priority, seed, delta1, miou)."""
    return pd.DataFrame(
        {
            "arm": [row[0] for row in rows],
            "priority_depth": [row[1] for row in rows],
            "priority_segmentation": [None if r[1] is None else 1 - r[1] for r in rows],
            "seed": [row[2] for row in rows],
            COLUMNS[0]: [row[3] for row in rows],
            COLUMNS[1]: [row[4] for row in rows],
        }
    ).assign(run_id=lambda f: "run " + f.index.astype(str))


@BOTH_ORDERS
def test_runs_are_found_by_point_and_seed(order):
    found = by_point(frame(ROWS)[order], TASKS, COLUMNS)
    lsb, equal = ("lsb", (0.25, 0.75)), ("equal", None)
    assert len(found) == 6
    assert list(found[lsb]) == [0, 1]
    assert found[lsb][1].tolist() == [0.2, 0.5]
    ids = ids_by_point(frame(ROWS)[order], TASKS)
    assert (ids[lsb], ids[equal]) == ({0: "run 1", 1: "run 2"}, {0: "run 8"})
    assert by_point(pd.DataFrame(), TASKS, COLUMNS) == ids_by_point(pd.DataFrame(), TASKS) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="Expected finite metric values"):
        by_point(frame([("a", 0.25, 0, value, 0.0)]), TASKS, COLUMNS)


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(ValueError, match="got two of a with seed 0"):
        by_arm(frame([("a", 0.25, 0, 0, 0), ("a", 0.25, 0, 1, 1)]), AXES)


@BOTH_ORDERS
def test_only_what_both_methods_have_is_matched(order):
    runs = by_arm(frame(ROWS)[order], AXES)
    assert set(runs) == {"lsb", "fixed"}
    same = matched_runs(runs, ("lsb", "fixed"), same_seeds=True)
    assert same.a.priorities == same.b.priorities == ((0.25, 0.75), (0.75, 0.25))
    assert (same.a.seeds, same.b.seeds) == ((1,), (1,))
    np.testing.assert_array_equal(same.a.metrics, [[[0.2, 0.5]], [[0.5, 0.1]]])
    np.testing.assert_array_equal(same.b.metrics, [[[0.15, 0.45]], [[0.35, 0.15]]])
    assert same.left_out == (
        "Of lsb seed 0 is left out: not at every shared priority of what is compared.",
        "1 priority of fixed left out, the other method has none there.",
        "Of fixed seed 2 is left out: not at every shared priority of what is compared.",
    )
    free = matched_runs(runs, ("lsb", "fixed"), same_seeds=False)
    assert (free.a.seeds, free.b.seeds) == ((0, 1), (1,))
    assert free.a.metrics.shape == (2, 2, 2)


def test_methods_that_share_no_run_are_not_matched():
    rows = [("a", 0.25, 0, 0, 0), ("b", 0.5, 0, 0, 0), ("c", 0.25, 1, 0, 0)]
    runs = by_arm(frame(rows), AXES)
    assert matched_runs(runs, ("a", "b"), same_seeds=False) == "a and b share no priority"
    assert "no seed with a run at every priority" in matched_runs(runs, ("a", "c"), same_seeds=True)
    assert not isinstance(matched_runs(runs, ("a", "c"), same_seeds=False), str)


@BOTH_ORDERS
def test_runs_of_an_arm_have_the_seeds_of_all_its_priorities(order):
    runs = frame(ROWS)[order]
    lsb = arm_runs(runs, AXES, "lsb")
    assert (lsb.priorities, lsb.seeds) == (((0.25, 0.75), (0.75, 0.25)), (0, 1))
    np.testing.assert_array_equal(lsb.metrics, [[[0.1, 0.4], [0.2, 0.5]], [[0.4, 0.2], [0.5, 0.1]]])
    # Seed 2 of fixed is at one of its three priorities only.
    fixed = arm_runs(runs, AXES, "fixed")
    assert (fixed.seeds, fixed.metrics.shape) == ((1,), (3, 1, 2))
    assert fixed.left_out[0].startswith("1 runs of fixed are left out")
    none = arm_runs(runs, AXES, "equal")
    assert (none.priorities, none.seeds, none.metrics.shape) == ((), (), (0, 0, 2))
