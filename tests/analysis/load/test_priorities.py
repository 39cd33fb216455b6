"""Priorities in run tables, and numbers and lists in sentences."""

import numpy as np
import pandas as pd

from analysis.load.axes import shown_number
from analysis.load.priorities import is_equal, nearest_to_equal, priority_values, settings_of
from analysis.load.text import counted, first_items, listed, subsample


def test_priorities_with_few_digits_count_as_equal():
    assert is_equal((0.333, 0.333, 0.334))
    assert not is_equal((0.498, 0.502))


def test_nearest_to_equal_is_the_first_of_those_as_near():
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


def test_lists_and_counts_read_as_a_sentence():
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert counted(1, "priority", "priorities") == "1 priority"
    assert counted(0, "priority", "priorities") == "0 priorities"
    assert first_items("abc", 2, "runs") == (["a", "b"], " The first 2 of 3 runs are shown.")


def test_numbers_have_a_true_minus_and_zero_has_none():
    assert shown_number(-0.25, ".2f") == "\N{MINUS SIGN}0.25"
    assert shown_number(-0.001, ".2f") == "0.00"
    assert shown_number(-0.001, ".0%") == "0%"
    assert shown_number(0.0, "+.1f") == "+0.0"
    assert shown_number(1e-9, ".3g") == "1e\N{MINUS SIGN}09"
    assert shown_number(None, ".2f") == "\N{EN DASH}"


def test_subsample_keeps_the_ends():
    assert subsample((1, 2, 3), 3) == [1, 2, 3]
    assert subsample(range(1, 1001), 4) == [1, 334, 667, 1000]
    assert len(set(subsample(range(1, 252), 100))) == 100
    assert subsample([], 2) == []
