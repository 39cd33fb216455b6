"""Single runs by operating point and seed."""

import numpy as np
import pandas as pd
import pytest

from analysis.single_runs import by_point, ids_by_point, shared_seeds

TASKS = ("depth", "segmentation")
COLUMNS = ["depth_delta1", "segmentation_miou"]


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
