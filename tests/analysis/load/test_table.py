"""Tables from elsewhere: what is read, what is mended with a note, what is refused by its row."""

import numpy as np
import pandas as pd
import pytest

from analysis.compute.findings import find
from analysis.load.axes import choose_axes
from analysis.load.runs import load_stores
from analysis.load.table import load_table
from analysis.load.trials import Request, trials_of_table
from analysis.page import build
from mtl.errors import UserError


def table(**changes) -> pd.DataFrame:
    columns = {
        "method": ["lsb", "fixed", "equal"],
        "seed": [0, 0, 0],
        "priority_depth": [0.25, 0.25, None],
        "priority_segmentation": [0.75, 0.75, None],
        "delta1": [0.8, 0.7, 0.75],
        "acc": [0.6, 0.65, 0.5],
        "segmentation_miou": [0.5, 0.55, 0.4],
    }
    return pd.DataFrame({**columns, **changes})


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a table and loads it."""

    def write_and_load(frame: pd.DataFrame | str, name: str = "t.csv"):
        path = tmp_path / name
        if isinstance(frame, str):
            path.write_text(frame)
        else:
            frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
        return load_table(path)

    return write_and_load


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_plain_names_and_aliases_are_metrics(read, name):
    loaded = read(table(comment=["a", "b", "c"]), name)
    assert loaded.tasks == ("depth", "segmentation")
    assert loaded.runs["depth_delta1"].tolist() == [0.8, 0.7, 0.75]
    assert loaded.runs["segmentation_pixel_accuracy"].tolist() == [0.6, 0.65, 0.5]
    assert [s.priorities for s in loaded.states] == [(0.25, 0.75), (0.25, 0.75), None]
    assert loaded.notes == ("Columns that were not used: comment.",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": ["0", "x", "1"]}, "numbers in column seed .* got 'x' in row 2"),
        ({"seed": [0, 1.5, 0]}, "whole numbers in column seed .* got 1.5 in row 2"),
        ({"seed": [0, 2**53 + 1, 0]}, "seeds up to .* got 9007199254740993 in row 2"),
        ({"seed": [2**63, 0, 0]}, "seeds up to .* got 9223372036854775808 in row 1"),
        ({"delta1": [0.8, "n/a?", 0.7]}, "numbers in column delta1 .* got 'n/a\\?' in row 2"),
        ({"delta1": [0.8, 78, 0.7]}, "between 0 and 1 in column delta1 .* row 2 .* by 100"),
        ({"delta1": [0.8, -0.78, 0.7]}, "between 0 and 1 in column delta1 .* got -0.78 in row 2"),
        ({"depth_rmse": [1.0, -1.0, 1.0]}, "of 0 or more in column depth_rmse .* -1 in row 2"),
        (
            {"rmse": 1.0, "validation_depth_rmse": [-1.0, 1, 1]},
            "0 or more in column validation_depth_rmse",
        ),
        ({"prior_depth_rmse": [-1.0] * 3, "rmse": 1.0}, "0 or more in column prior_depth_rmse"),
        ({"priority_depth": [0.25, None, None]}, "positive priority for each task, .* row 2"),
        ({"priority_depth": [0.25, -0.1, None]}, "positive priority for each task, .* row 2"),
        ({"priority_depth": [0.25, 0.26, None]}, "sum to 1 .*rounded ones within 0.001.* row 2"),
        ({"priority_flow": [0.1, 0.1, 0.1]}, "known tasks .* flow"),
        ({"method": ["lsb", "lsb ", "equal"]}, "one row for .* got 'lsb', 0, 0.25, 0.75 in row 2"),
        (
            {"method": ["equal"] * 3, "priority_depth": None, "priority_segmentation": None},
            "one row for each arm, seed, .* got 'equal', 0, an empty cell, an empty cell in row 2",
        ),
        ({"run_id": ["a", "a", "b"]}, "one row for each run_id .* got 'a' in row 2"),
        ({"method": ["lsb", " ", "equal"]}, "column method .* empty cell in row 2"),
        (
            {"priority_depth": [1, 0.25, None], "priority_segmentation": [0, 0.75, None]},
            "metrics of depth alone in row 1 .* got segmentation_miou, segmentation_pixel_accuracy",
        ),
        (
            {
                "priority_depth": [1] * 3,
                "priority_segmentation": [0] * 3,
                "acc": None,
                "segmentation_miou": None,
            },
            "rows of single tasks only",
        ),
        ({" delta1": [0.1, 0.2, 0.3]}, "one column delta1"),
    ],
)
def test_bad_table_is_refused_with_its_row(read, changes, message):
    with pytest.raises(UserError, match=message):
        read(table(**changes))


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        (["method"], "got none named method"),
        (["seed"], "named seed.* Seeds are needed for a comparison"),
        (["priority_depth", "priority_segmentation"], "got none named priority_<task>"),
        (["delta1"], "metric of depth .* Name it depth_delta1"),
    ],
)
def test_missing_column_is_named(read, dropped, message):
    with pytest.raises(UserError, match=message):
        read(table().drop(columns=dropped))


def test_row_longer_than_the_head_is_refused(read):
    text = table().to_csv(index=False).replace("0.4\n", "0.4,\n")
    with pytest.raises(UserError, match="rows of 7 cells .* got 8 in row 3 after the head"):
        read(text)


def test_white_space_around_names_is_removed_with_a_note(read):
    loaded = read(table(method=["lsb", "fixed ", "\tequal"]).rename(columns={"seed": " seed "}))
    assert loaded.runs["arm"].tolist() == ["lsb", "fixed", "equal"]
    assert loaded.notes == ("White space around the method was removed in 2 rows.",)


@pytest.mark.parametrize("name", ["None", "007"])
def test_method_is_named_by_the_letters_that_stand_there(read, name):
    loaded = read(table(method=[name, "fixed", "equal"]))
    assert loaded.runs["arm"].tolist() == [name, "fixed", "equal"]
    assert f">{name}</td>" in build(loaded).html


def test_empty_method_in_a_parquet_is_refused(read):
    with pytest.raises(UserError, match="empty cell in row 3"):
        read(table(method=["lsb", "fixed", None]), "t.parquet")


@pytest.mark.parametrize(
    "index", [pd.Index([0, 0, 1]), pd.Index(["lsb", "fixed", "equal"], name="method")]
)
def test_index_of_a_parquet_is_no_trap(read, index):
    frame = table().set_index(index)
    if frame.index.name:
        frame = frame.drop(columns="method")
    assert read(frame, "t.parquet").runs["method"].tolist() == ["lsb", "fixed", "equal"]


@pytest.mark.parametrize("run_ids", [{}, {"run_id": ["a", "b", "c"]}])
def test_copies_of_a_row_are_left_out_with_a_note(read, run_ids):
    named = table(**run_ids)
    loaded = read(pd.concat([named, named.iloc[:1]]))
    assert loaded.runs["run_id"].tolist() == list(
        run_ids.get("run_id", ["row 1", "row 2", "row 3"])
    )
    assert loaded.notes == ("Left out as a copy of an earlier one: row 4 after the head.",)


def test_huge_metric_is_left_out_with_its_reason(read):
    loaded = read(table(delta1=None, depth_rmse=[1e308, 0.8, 0.9]))
    axes, _ = loaded.axes()
    findings = find(loaded, axes)
    assert findings.counts == {"done": 2, "excluded": 1}
    assert "a value too large to compute with for depth_rmse" in findings.notes[0]


def test_first_metric_that_is_there_is_shown_with_a_note(read):
    built = build(read(table().drop(columns=["delta1"]).assign(rel=0.2, abs=[0.4, 0.5, 0.6])))
    assert "depth abs (m)" in built.summary["terminal_table"]
    assert built.summary["notes"] == [
        "No run has delta1 of depth, so abs is shown; --metrics depth=NAME chooses another."
    ]


THIRDS = {"priority_depth": [1 / 3, 0.333, None], "priority_segmentation": [2 / 3, 0.667, None]}


def test_priorities_rounded_in_some_rows_are_one_setting_with_a_note(read, tmp_path):
    loaded = read(table(**THIRDS))
    first, second, _ = [state.priorities for state in loaded.states]
    assert first == second == pytest.approx((1 / 3, 2 / 3), abs=1e-12)
    assert "Priorities (0.333, 0.667) are taken for (0.33333333, 0.66666667)" in loaded.notes[0]
    findings = find(loaded, choose_axes(loaded.tasks))
    assert findings.comparisons[0].test is not None
    # Ranked alike: a pair of trials, not one of each kind.
    trials = trials_of_table(tmp_path / "t.csv", Request())
    assert "are taken for" in trials.notes[0]


def test_priorities_that_one_method_has_both_of_are_two_settings_with_two_labels(read):
    loaded = read(table(**THIRDS, method=["lsb", "lsb", "equal"]))
    assert loaded.notes == ()
    findings = find(loaded, choose_axes(loaded.tasks))
    shown = [findings.shown_priorities(state.priorities) for state in findings.states[:2]]
    assert shown == ["(0.3333, 0.6667)", "(0.333, 0.667)"]


def test_priorities_that_sum_to_one_but_for_rounding_are_taken_with_a_note(read):
    assert read(table(priority_depth=[0.2509, 0.25, None])).notes == (
        "In 1 of 3 rows the priorities sum to 1 only within 0.001; "
        "they are taken for rounded ones.",
    )


def single_tasks(**changes) -> pd.DataFrame:
    """Return a table with two single-task rows below its joint runs."""
    columns = {
        "method": ["alone", "alone"],
        "seed": [0, 0],
        "priority_depth": [1, 0],
        "priority_segmentation": [0, 1],
        "delta1": [0.9, None],
        "segmentation_miou": [None, 0.7],
    }
    return pd.concat([table(epochs=[5] * 3), pd.DataFrame({**columns, "epochs": 5, **changes})])


def test_single_task_rows_are_baselines_under_the_same_settings(read):
    loaded = read(single_tasks())
    assert loaded.baselines == {"depth_delta1": {0: 0.9}, "segmentation_miou": {0: 0.7}}
    assert loaded.runs["arm"].tolist() == ["lsb", "fixed", "equal"]
    assert (len(loaded.states), loaded.notes) == (3, ())
    other = read(single_tasks(epochs=[5, 50]))
    assert other.baselines == {"depth_delta1": {0: 0.9}}
    assert (
        "row 5 after the head is no baseline of the others: it differs in epochs."
        in (other.notes[0])
    )


def test_two_single_task_rows_of_a_seed_are_refused(read):
    both = single_tasks(
        priority_depth=[1, 1], priority_segmentation=[0, 0], delta1=[0.9, 0.8],
        segmentation_miou=[None, None],
    )  # fmt: skip
    with pytest.raises(UserError, match="one single-task run a seed .* two of depth"):
        read(both)


def test_metric_of_several_tasks_is_told_apart_by_its_task(read):
    columns = {
        "method": ["equal"],
        "seed": [0],
        "priority_edge2d": [None],
        "priority_edge3d": [None],
        "edge2d_l1": [0.02],
        "edge3d_l1": [0.001],
    }
    row = read(pd.DataFrame(columns)).runs.iloc[0]
    assert (row["edge2d_l1"], row["edge3d_l1"]) == (0.02, 0.001)
    columns["l1"] = columns.pop("edge3d_l1")
    with pytest.raises(UserError, match="metric of edge3d .* Name it edge3d_l1"):
        read(pd.DataFrame(columns))
    alone = {k: v for k, v in columns.items() if "edge2d" not in k}
    assert read(pd.DataFrame(alone)).runs["edge3d_l1"].tolist() == [0.001]


def test_empty_cell_is_an_option_that_is_off(read):
    both = table(method=["lsb", "lsb", "equal"], seed=[0, 1, 0], clamp=[None, 2.0, None])
    assert read(both).runs["arm"].tolist() == ["lsb (no clamp)", "lsb (clamp 2)", "equal"]


def test_rows_that_differ_in_more_than_is_compared_are_refused(read):
    loaded = read(table(epochs=[10, 20, 10]))
    with pytest.raises(UserError, match=r"differ in epochs \(10.0 and 20.0\)"):
        find(loaded, choose_axes(loaded.tasks))


def test_table_of_a_store_comes_back_equal(full_store, read):
    loaded = load_stores([full_store])
    again = read(build(loaded).files["tables/runs.csv"])
    columns = [name for name in loaded.runs if pd.api.types.is_numeric_dtype(loaded.runs[name])]
    assert "validation_depth_delta1" in columns
    np.testing.assert_array_equal(again.runs[columns], loaded.runs[columns])
    assert not any("validation_" in note for note in again.notes)
