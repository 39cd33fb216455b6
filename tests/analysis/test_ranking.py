"""The command that ranks: tables and stores in, files and sentences out."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.ranking import main
from mtl.spec import RunSpec
from mtl.spec.sections import NetworkSpec, OptimizerSpec
from mtl.store import Store
from tests.analysis.conftest import depth_and_segmentation, fill, finish, make_spec

TABLE_S3 = Path(__file__).with_name("compute") / "table_s3.csv"


def write(folder: Path, text: str) -> str:
    path = folder / "table.csv"
    path.write_text(text)
    return str(path)


def test_table_s3_is_ranked_alike_in_every_process(tmp_path, capsys):
    arguments = [str(TABLE_S3), "--by", "algorithm", "--out"]
    assert main([*arguments, str(tmp_path / "a")]) == 0
    assert "mean_angle 0 at 1 decimals" in capsys.readouterr().out
    ranks = pd.read_csv(tmp_path / "a" / "ranks.csv")
    assert ranks["rank_avg"].tolist() == pytest.approx(
        pd.read_csv(TABLE_S3)["rank_avg"].tolist(), abs=0.00501
    )
    assert r"\begin{tabular}" in (tmp_path / "a" / "ranks.tex").read_text()
    script = Path(__file__).parents[2] / "analysis" / "ranking.py"
    subprocess.run(
        [sys.executable, str(script), *arguments, str(tmp_path / "b")],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    for name in ("ranks.csv", "rank_summary.csv", "rank_tests.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "arguments", "status", "sentence"),
    [
        ("method,seed,speed\na,0,1\n", [], 2, "Expected a direction for column speed"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "miou:min"], 2, "Expected miou:max"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "iou:max"], 2, "column for --metrics 'iou'"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "miou:up"], 2, "COLUMN:min or COLUMN:max"),
        ("method,seed,miou\na,0,1\n", ["--by", "loss"], 2, "column for --by 'loss'"),
        ("method,seed,miou\na,0,1\n", ["--tie-tolerance", "rmse=1"], 2, "rmse"),
        ("method,seed,miou\na,0,1\n", ["--tie-tolerance", "miou=-1"], 2, "a value of 0 or more"),
        ("method,seed,miou\na,0,\n", [], 1, "a usable value of miou"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "seed:min"], 2, "column for --metrics 'seed'"),
        ("method,seed,miou\n", [], 1, "at least one row"),
        ("method,seed,miou\na,.5,1\n", [], 1, "whole numbers in column seed"),
        (
            "method,priority_depth,priority_normal,miou\na,.5,.6,1\n",
            [],
            1,
            "priorities that sum to 1",
        ),
        ("method,seed\na,0\n", [], 1, "a numeric column to rank"),
        ("method,seed,miou\na,0,1\n", ["--baseline", "zz"], 2, "zz"),
        ("method,seed,miou\na,0,1\n", ["--blocks", "zz"], 2, "column for --blocks 'zz'"),
        (
            "method,seed,priority_depth,miou\na,1,1,1\n",
            ["--blocks", "priority_depth"],
            2,
            "Say --blocks seed",
        ),
        ("method,d,miou\na,0,1\nb,1,1\n", ["--metrics", "miou", "--blocks", "d"], 2, "5 blocks"),
        ("method,seed,miou\na,0,.5\na,1,40\n", [], 1, "either shares or percentages"),
        ("method,seed,miou\na,0,.5\na,0,.6\n", [], 1, "got 'a', 0 in row 2 after the head"),
    ],
)
def test_wrong_input_is_one_sentence(text, arguments, status, sentence, tmp_path, capsys):
    path = write(tmp_path, text)
    assert main([path, *arguments, "--out", str(tmp_path / "out")]) == status
    shown = capsys.readouterr().err
    assert sentence in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_rows_without_a_value_and_copies_are_left_out_with_a_note(tmp_path, capsys):
    path = write(tmp_path, "method,seed,miou\na,-1,20\na,-1,20\nb,0,\nb,1,inf\nb,-2,10\n")
    assert main([path, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Left out: method b, seed 0: no value of miou." in shown
    assert "Left out: method b, seed 1" in shown
    assert "Left out as a copy of an earlier one: row 2 after the head." in shown
    assert f"Written: 5 files in {tmp_path}" in shown
    assert not re.search(r"-\d", shown.split("Written")[0]), "a true minus sign"
    assert len(pd.read_csv(tmp_path / "ranks.csv")) == 2


def test_several_groups_have_folders_and_titles_in_words(tmp_path, capsys):
    store = Store(tmp_path / "store")
    for rate in (0.001, 0.002):
        for method in ("lsb", "fixed"):
            spec = make_spec(method, 0.5, 0, optimizer=OptimizerSpec(learning_rate=rate))
            finish(store, spec, depth_and_segmentation(0.8, 0.5))
    assert main([str(store.root), "--out", str(tmp_path / "out")]) == 0
    assert "\ndepth and segmentation, learning rate 0.001\n" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("optimizer.learning_rate=*/ranks.csv"))) == 2


def test_delta_m_of_a_store_is_against_its_single_task_runs(tmp_path, capsys):
    store = Store(tmp_path / "store")
    ids = fill(store, seeds=2, shift=0.1)
    spec = store.spec(ids[0])
    out = ["--out", str(tmp_path / "out")]
    assert main([str(store.root), *out]) == 0
    shown = capsys.readouterr().out
    assert "No Delta_m: not every ranked metric has single-task runs" in shown
    assert "0 of 4 differences" in shown
    # Two seeds, however many priorities: 2 of 4 sign patterns.
    tests = pd.read_csv(tmp_path / "out" / "rank_tests.csv")
    assert set(tests["min_attainable_p"]) == {0.5}
    assert tests["p"].min() >= 0.5
    assert "delta_m" not in (tmp_path / "out" / "rank_summary.csv").read_text()
    network = NetworkSpec(**{**vars(spec.network), "architecture": "single_task"})
    for task, metrics in depth_and_segmentation(0.8, 0.5).items():
        single = RunSpec(
            tasks=(task,), method="equal", epochs=spec.epochs, data=spec.data, network=network
        )
        finish(store, single, {task: metrics})
    shutil.rmtree(tmp_path / "out")
    assert main([str(store.root), *out]) == 0
    assert "Delta_m, tasks first (%)" in capsys.readouterr().out
    summary = pd.read_csv(tmp_path / "out" / "rank_summary.csv").set_index("method")
    lsb = summary.loc["lsb"]
    changes = {
        "depth": [lsb["mean_depth_delta1"] / 0.8 - 1, 1 - lsb["mean_depth_rmse"] / 0.7],
        "segmentation": [
            lsb["mean_segmentation_miou"] / 0.5 - 1,
            lsb["mean_segmentation_pixel_accuracy"] / 0.9 - 1,
        ],
    }
    tasks_first = 100 * np.mean([np.mean(task) for task in changes.values()])
    assert lsb["delta_m_percent_tasks_first"] == pytest.approx(tasks_first)
    assert len(pd.read_csv(tmp_path / "out" / "ranks.csv")) == 20


def tidy_csv() -> str:
    """Return the table that pareto.py takes: two methods at five priorities, two seeds."""
    generator = np.random.default_rng(21)
    rows = [
        f"{method},{seed},{p},{1 - p:.1f},{0.7 + lead + generator.normal(0, 0.01):.4f},"
        f"{0.5 + lead + generator.normal(0, 0.01):.4f}"
        for method, lead in (("lsb", 0.2), ("fixed", 0.0))
        for p in (0.1, 0.3, 0.5, 0.7, 0.9)
        for seed in range(2)
    ]
    head = "method,seed,priority_depth,priority_segmentation,depth_delta1,segmentation_miou"
    return "\n".join([head, *rows, ""])


def test_priorities_of_a_table_identify_the_trial(tmp_path, capsys):
    assert main([write(tmp_path, tidy_csv()), "--out", str(tmp_path)]) == 0
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    assert list(ranks)[:4] == ["method", "priority_depth", "priority_segmentation", "seed"]
    assert "rank_priority_depth" not in ranks
    tests = pd.read_csv(tmp_path / "rank_tests.csv")
    assert tests["min_attainable_p"].tolist() == tests["p"].tolist() == [0.5, 0.5]
    assert tests["paired"].all()
    assert "is 0.5. Whole seeds are permuted." in capsys.readouterr().out


def test_pair_that_cannot_be_tested_has_its_reason(tmp_path, capsys):
    path = write(tmp_path, tidy_csv())
    pd.read_csv(path).drop(columns="seed").to_csv(path, index=False)
    assert main([path, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Not tested: lsb \N{MINUS SIGN} fixed: without a column of seeds" in shown


@pytest.mark.parametrize("by", ["method", "loss"])
def test_methods_called_none_or_na_are_ranked(by, tmp_path, capsys):
    text = f"{by},seed,miou\nNone,0,1\nNA,0,2\nnan,0,3\n007,0,\n007,1,4\n"
    assert main([write(tmp_path, text), "--by", by, "--out", str(tmp_path)]) == 0
    assert f"Left out: {by} 007, seed 0" in capsys.readouterr().out
    held = pd.read_csv(tmp_path / "ranks.csv", keep_default_na=False, dtype={by: str})
    assert held[by].tolist() == ["None", "NA", "nan", "007"]


def test_baseline_of_zero_gives_no_delta_m(tmp_path, capsys):
    path = write(tmp_path, "method,seed,miou,rmse\na,0,0,1\na,1,0,1\nb,0,2,1\nb,1,3,1\n")
    assert main([path, "--baseline", "a", "--out", str(tmp_path)]) == 0
    assert "No Delta_m: the baseline of miou is 0" in capsys.readouterr().out
    assert "delta_m" not in (tmp_path / "rank_summary.csv").read_text()
