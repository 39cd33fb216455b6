"""Which runs of two methods are set side by side."""

import numpy as np
import pandas as pd
import pytest

from analysis.axes import choose_axes
from analysis.matched import matched_runs, method_pairs, runs_by_arm, why_not_matched

AXES = choose_axes(("depth", "segmentation"))


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
    by_arm = runs_by_arm(frame(ROWS[order]), AXES)
    assert set(by_arm) == {"lsb", "fixed"}
    same = matched_runs(by_arm, ("lsb", "fixed"), same_seeds=True)
    assert same is not None
    assert same.priorities == ((0.25, 0.75), (0.75, 0.25))
    assert (same.seeds_a, same.seeds_b) == ((1,), (1,))
    np.testing.assert_array_equal(same.runs_a, [[[0.2, 0.5]], [[0.5, 0.1]]])
    np.testing.assert_array_equal(same.runs_b, [[[0.15, 0.45]], [[0.35, 0.15]]])
    text = " ".join(same.left_out)
    assert "Of lsb seed 0 is left out" in text
    assert "1 priority of fixed left out" in text
    assert "Of fixed seed 2 is left out" in text
    free = matched_runs(by_arm, ("lsb", "fixed"), same_seeds=False)
    assert free is not None
    assert (free.seeds_a, free.seeds_b) == ((0, 1), (1,))
    assert free.runs_a.shape == (2, 2, 2)


def test_nothing_in_common():
    by_arm = runs_by_arm(
        frame(
            [("a", 0.25, 0, 0, 0), ("b", 0.5, 0, 0, 0), ("c", 0.25, 1, 0, 0), ("d", 0.5, 1, 0, 0)]
        ),
        AXES,
    )
    assert matched_runs(by_arm, ("a", "b"), same_seeds=False) is None
    assert why_not_matched(by_arm, ("a", "b")) == "a and b share no priority."
    assert matched_runs(by_arm, ("a", "c"), same_seeds=True) is None
    assert "no seed with a run at every priority" in why_not_matched(by_arm, ("a", "c"))
    assert matched_runs(by_arm, ("a", "c"), same_seeds=False) is not None
    assert runs_by_arm(frame([]), AXES) == {}


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(ValueError, match="got two of a with seed 0"):
        runs_by_arm(frame([("a", 0.25, 0, 0, 0), ("a", 0.25, 0, 1, 1)]), AXES)


def test_the_papers_pair_leads():
    assert method_pairs(["fixed", "stch", "lsb"]) == [
        ("lsb", "fixed"), ("fixed", "stch"), ("stch", "lsb"),
    ]  # fmt: skip
    assert method_pairs(["a", "b"]) == [("a", "b")]
    assert method_pairs(["a"]) == []
