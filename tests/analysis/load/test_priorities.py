"""Priorities in run tables, and which of them count as equal."""

import numpy as np
import pandas as pd

from analysis.load.priorities import (
    distance_from_equal,
    is_equal,
    nearest_to_equal,
    priority_values,
    settings_of,
)


def test_priorities_with_few_digits_count_as_equal():
    assert is_equal((0.333, 0.333, 0.334))
    assert is_equal((0.5, 0.5))
    assert not is_equal((0.498, 0.502))
    assert distance_from_equal((0.25, 0.75)) == 0.25


def test_the_nearest_to_equal_is_the_first_of_those_as_near():
    # 1/6 and 5/6 lie as far from 1/2, though not as floats.
    assert nearest_to_equal([(5 / 6, 1 / 6), (1 / 6, 5 / 6)]) == (1 / 6, 5 / 6)
    assert nearest_to_equal([(0.9, 0.1), (0.6, 0.4)]) == (0.6, 0.4)
    assert nearest_to_equal([]) is None


def test_rows_and_priorities_are_turned_into_each_other():
    tasks = ("depth", "segmentation")
    runs = pd.DataFrame({"priority_segmentation": [0.75, np.nan], "priority_depth": [0.25, np.nan]})
    assert settings_of(runs, tasks) == [(0.25, 0.75), None]
    assert settings_of(pd.DataFrame({"seed": [0, 1]}), tasks) == [None, None]
    assert priority_values((0.25, 0.75), tasks) == runs.iloc[0].to_dict()
    assert priority_values(None, ("depth",), "rival_") == {"rival_priority_depth": None}
