"""Ranks: Table S-3 cell by cell, ties by hand, tests by brute force, the command."""

import itertools
import re
import shutil
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.compute.inference import minimum_p
from analysis.compute.ranks import (
    RankedMetric,
    block_tests,
    delta_m,
    displayed,
    fractional_ranks,
    misprints,
    pair_tests,
    rank_table,
    seed_block_tests,
)
from analysis.ranking import main
from mtl.records import METRIC_ALIASES, METRICS, Metric
from mtl.spec import RunSpec
from mtl.spec.sections import NetworkSpec
from mtl.store import Store
from tests.analysis.conftest import depth_and_segmentation, fill, finish

TABLE_S3 = Path(__file__).with_name("table_s3.csv")
"""The 25 trials of Table S-3 of the supplement with their printed ranks."""
COLUMNS = ("delta1", "rmse", "delta30", "mean_angle", "miou", "acc")
LOW = Metric("error", "m", "min", 1, "an error")
HIGH = Metric("score", "", "max", 1, "a score")
SCORE = [RankedMetric("score", Metric("score", "", "max", 6, "a score"), 1.0)]


def known(column: str, tolerance: float = 0.0) -> RankedMetric:
    return RankedMetric(column, METRICS[METRIC_ALIASES.get(column, column)], 1.0, tolerance)


@pytest.fixture(scope="module")
def printed() -> pd.DataFrame:
    return pd.read_csv(TABLE_S3)


def rounded(value: float) -> float:
    return float(Decimal(f"{value:.9f}").quantize(Decimal("0.01"), ROUND_HALF_UP))


def test_table_s3_is_reproduced_but_for_its_one_misprint(printed):
    table = rank_table(printed, "algorithm", ["trial"], [known(c) for c in COLUMNS])
    wrong, count = misprints(table, printed)
    # 150 cells and 25 each of min, max and average.
    assert count == 225
    (cell,) = wrong
    assert cell.row == {"algorithm": "Equal weighting", "trial": 2}
    # Three trials share 59.7: ranks 17, 18 and 19, mean 18; the printed column sums to 325.5.
    assert (cell.column, cell.printed, cell.computed) == ("rank_delta1", 18.5, 18.0)
    for column in COLUMNS:
        assert table.trials[f"rank_{column}"].sum() == 25 * 26 / 2
    averages = {r["algorithm"]: r["rank_avg"] for r in table.summary.to_dict("records")}
    assert {name: rounded(value) for name, value in averages.items()} == {
        "Equal weighting": 16.88, "Uncert": 11.62, "DWA": 16.12, "GLS": 13.57, "Proposed": 6.82,
    }  # fmt: skip
    # "the top 20% trials are mostly performed by the proposed algorithm"
    tops = table.summary.set_index("algorithm")["num_top"]
    assert tops["Proposed"] > tops.sum() / 2
    # The last rows of the table: average ranks of the five means, 1.08 and 2.58.
    means = table.summary.set_index("algorithm")["rank_of_means_avg"].map(rounded)
    assert (means["Proposed"], means["Uncert"]) == (1.08, 2.58)


def test_ranks_by_hand_in_both_directions():
    shown = np.array([3.0, 1.0, 3.0, 2.0])
    # Lower is better: 1 is first, 2 second, both 3 share (3 + 4) / 2.
    assert fractional_ranks(shown, "min").tolist() == [3.5, 1, 3.5, 2]
    # Higher is better: both 3 share (1 + 2) / 2.
    assert fractional_ranks(shown, "max").tolist() == [1.5, 4, 1.5, 3]


def test_a_tolerance_ties_with_the_best_of_the_group_and_no_farther():
    shown = np.array([40.0, 40.05, 40.1, 40.15])
    # From 40: 40.05 is within 0.05 of it, 40.1 is not and begins a group that 40.15 joins.
    assert fractional_ranks(shown, "min", 0.05).tolist() == [1.5, 1.5, 3.5, 3.5]
    assert fractional_ranks(shown, "max", 0.05).tolist() == [3.5, 3.5, 1.5, 1.5]
    assert fractional_ranks(shown, "min", 0.15).tolist() == [2.5] * 4


def test_values_are_rounded_half_up_as_they_are_shown():
    share = METRICS["delta1"]
    ranked = RankedMetric("delta1", share, share.display_factor)
    # 0.2855 x 100 = 28.55, half up to 28.6, although the product is 28.549999999999997.
    assert displayed([0.2855, 0.28549], ranked).tolist() == [28.6, 28.5]


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=12),
    st.sampled_from(["min", "max"]),
    st.floats(0, 5),
)
def test_ranks_are_a_permutation_with_ties_and_follow_their_values(values, direction, tolerance):
    shown = np.array(values, dtype=float)
    ranks = fractional_ranks(shown, direction, tolerance)
    n = len(values)
    assert ranks.sum() == pytest.approx(n * (n + 1) / 2)
    if tolerance < 1:  # whole numbers tie only when equal
        sign = -1 if direction == "max" else 1
        assert ranks.tolist() == stats.rankdata(sign * shown).tolist()
    order = np.argsort(-shown if direction == "max" else shown, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()
    again = fractional_ranks(shown[order], direction, tolerance)
    assert again.tolist() == ranks[order].tolist()


def test_a_value_that_is_no_number_is_refused():
    frame = pd.DataFrame({"by": ["a", "b"], "error": [1.0, np.nan]})
    with pytest.raises(ValueError, match="finite number of error"):
        rank_table(frame, "by", [], [RankedMetric("error", LOW, 1.0)])


def frame_of(a: list[float], b: list[float], name: str = "score") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "by": ["a"] * len(a) + ["b"] * len(b),
            "seed": [*range(len(a)), *range(len(b))],
            name: [*a, *b],
        }
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [([3, 4, 5], [1, 2, 3]), ([1, 5, 2, 2], [2, 2, 7, 9]), ([1, 2], [3, 4, 5])],
)
def test_independent_p_is_that_of_all_relabellings(a, b):
    (test,), _ = pair_tests(frame_of(a, b), "by", [RankedMetric("score", HIGH, 1.0)], None)
    pooled = np.array([*a, *b], dtype=float)
    differences = []
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        mask = np.isin(np.arange(len(pooled)), chosen)
        differences.append(abs(pooled[mask].mean() - pooled[~mask].mean()))
    observed = abs(np.mean(a) - np.mean(b))
    assert test.p == pytest.approx(np.mean(np.array(differences) >= observed - 1e-9))
    assert test.exact
    assert not test.paired
    assert test.probability_a_better == pytest.approx(
        np.mean([(x > y) + (x == y) / 2 for x in a for y in b])
    )


def test_smallest_p_is_reached_by_the_most_extreme_trials():
    # 3 against 3: C(6, 3) = 20 relabellings, the observed one and its mirror: 0.1.
    (test,), _ = pair_tests(
        frame_of([7, 8, 9], [1, 2, 3]), "by", [RankedMetric("score", HIGH, 1.0)], None
    )
    assert test.p == test.smallest_p == pytest.approx(0.1)
    # Paired, 5 seeds: 2^5 = 32 sign patterns, two of them as extreme: 0.0625.
    (test,), _ = pair_tests(
        frame_of([2, 3, 4, 5, 6], [1, 2, 3, 4, 5]),
        "by", [RankedMetric("score", HIGH, 1.0)], "seed",
    )  # fmt: skip
    assert test.paired
    assert test.p == test.smallest_p == pytest.approx(0.0625)


def grid_frame(scores: np.ndarray) -> pd.DataFrame:
    """Return trials of scores (2 methods, seeds, priorities)."""
    names = np.ndindex(scores.shape)
    rows = [("ab"[m], s, f"p{p}", scores[m, s, p]) for m, s, p in names]
    return pd.DataFrame(rows, columns=["by", "seed", "priorities", "score"])


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_a_seed_with_all_its_priorities_is_one_observation(num_seeds):
    # a is better by 1 in every cell: no relabelling but the mirror is as extreme.
    base = np.arange(num_seeds * 5).reshape(1, num_seeds, 5)
    scores = base + np.array([1.0, 0.0])[:, None, None]
    trials = grid_frame(scores).sample(frac=1, random_state=0)
    (test,), untested = pair_tests(trials, "by", SCORE, "seed", ["priorities"])
    assert not untested
    assert test.paired
    assert test.p == test.smallest_p == minimum_p(num_seeds) == 2 / 2**num_seeds
    assert test.difference == pytest.approx(1 if test.method_a == "a" else -1)


def test_whole_seeds_change_method_at_once_by_brute_force():
    print("seed 11")
    scores = np.random.default_rng(11).normal(size=(2, 4, 3)).round(3)
    (test,), _ = pair_tests(grid_frame(scores), "by", SCORE, "seed", ["priorities"])
    held = []
    for signs in itertools.product((1, -1), repeat=4):
        changed = np.array([s if sign == 1 else s[::-1] for s, sign in zip(
            scores.transpose(1, 0, 2), signs, strict=True)])  # fmt: skip
        held.append(abs(changed[:, 0].mean() - changed[:, 1].mean()))
    assert test.p == pytest.approx(np.mean(np.array(held) >= held[0] - 1e-9))


def test_the_size_holds_where_a_seed_favours_a_method_at_all_priorities():
    print("seed 12")
    generator = np.random.default_rng(12)
    below = single = 0
    for _ in range(300):
        own = generator.normal(0, 1, (2, 6, 1))  # method x seed
        scores = own + generator.normal(0, 0.5, (2, 6, 5))
        (test,), _ = pair_tests(grid_frame(scores), "by", SCORE, "seed", ["priorities"])
        below += test.p < 0.05
        single += stats.ttest_ind(scores[0].ravel(), scores[1].ravel()).pvalue < 0.05
    # 6 seeds reach 2/64 = .031 and nothing else below .05: 9.4 of 300, three standard errors more
    # are 18.4. Taken for 30 independent runs, the same scores are "different" in every third case.
    assert below <= 18
    assert single > 75


@pytest.mark.parametrize(
    ("rows", "settings", "reason"),
    [
        ("a 0 p, a 1 p, b 0 p, b 2 p", ["p"], "different seeds"),
        ("a 0 p, a 0 q, b 0 p, b 0 q", ["p"], "all trials are of a single one"),
        ("a 0 p, a 1 p, b 0 q, b 1 q", ["p"], "different p"),
        ("a 0 p, a 1 q, b 0 q, b 1 p", ["p"], "not equally many trials of every seed at all p"),
        ("a 0 p, a 0 p, a 1 p, b 0 p, b 1 p", [], "not equally many trials of every seed"),
        ("a 0 p, a 0 q, a 1 p, b 2 p, b 3 p", [], "different seeds"),
        ("a 0 p, a 1 p, b nan p, b 1 p", [], "some trials have no seed"),
        ("a 0 p, b 0 p, b 1 p", [], "two trials of each"),
    ],
)
def test_what_cannot_be_relabelled_is_not_tested_and_says_why(rows, settings, reason):
    cells = [row.split() for row in rows.split(", ")]
    trials = pd.DataFrame(cells, columns=["by", "seed", "p"]).assign(score=range(len(cells)))
    trials["seed"] = trials["seed"].astype(float)
    tests, (held,) = pair_tests(trials, "by", SCORE, "seed", settings)
    assert tests == []
    assert reason in held.reason


def test_trials_of_which_none_shares_a_seed_are_independent():
    trials = frame_of([7, 8, 9], [1, 2, 3]).assign(seed=range(6))
    (test,), _ = pair_tests(trials, "by", SCORE, "seed")
    assert not test.paired
    assert test.p == pytest.approx(0.1)


def test_a_metric_where_lower_is_better_turns_the_probability_not_the_difference():
    metric = [RankedMetric("error", LOW, 1.0)]
    (test,), _ = pair_tests(frame_of([1, 2], [3, 4], "error"), "by", metric, None)
    assert test.difference == -2
    assert test.probability_a_better == 1


def test_friedman_is_scipys_and_wants_real_blocks():
    generator = np.random.default_rng(5)
    values = generator.normal(size=(6, 3)).round(3)
    frame = pd.DataFrame(
        [
            {"by": name, "dataset": block, "score": values[block, column]}
            for block in range(6)
            for column, name in enumerate("abc")
        ]
    )
    metric = [RankedMetric("score", Metric("score", "", "max", 3, "a score"), 1.0)]
    (test,) = block_tests(frame, "by", "dataset", metric)
    assert test.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    # Demsar 2006, table 5: q = 2.343 for 3 methods, times sqrt(3 x 4 / (6 x 6)).
    assert test.critical_difference == pytest.approx(2.343 * np.sqrt(12 / 36), abs=1e-3)
    assert sum(test.average_ranks.values()) == pytest.approx(1 + 2 + 3)
    with pytest.raises(ValueError, match="at least 5 blocks"):
        block_tests(frame[frame["dataset"] < 4], "by", "dataset", metric)
    with pytest.raises(ValueError, match="got no a in dataset 0"):
        block_tests(frame.iloc[1:], "by", "dataset", metric)


def methods_by_seed(scores: np.ndarray) -> pd.DataFrame:
    """Return trials of scores (methods, seeds, priorities)."""
    cells = np.ndindex(scores.shape)
    rows = [("abc"[m], s, f"p{p}", scores[m, s, p]) for m, s, p in cells]
    return pd.DataFrame(rows, columns=["by", "seed", "priorities", "score"])


def test_friedman_over_priorities_relabels_whole_seeds():
    # Two seeds, three methods always in the order c, b, a: of the 3! relabellings of the second
    # seed against the first, the given one alone is as extreme, 1/6.
    scores = np.arange(3.0)[:, None, None] * 10 + np.arange(10.0).reshape(1, 2, 5)
    (test,) = seed_block_tests(methods_by_seed(scores), "by", "priorities", "seed", SCORE)
    assert test.p == test.smallest_p == pytest.approx(1 / 6)
    assert test.average_ranks == {"a": 3, "b": 2, "c": 1}
    with pytest.raises(ValueError, match="there is a single one"):
        seed_block_tests(methods_by_seed(scores[:, :1]), "by", "priorities", "seed", SCORE)
    uneven = methods_by_seed(scores).iloc[1:]
    with pytest.raises(ValueError, match="equally many trials of every seed"):
        seed_block_tests(uneven, "by", "priorities", "seed", SCORE)


def test_the_size_of_friedmans_test_holds_where_seeds_favour_methods():
    print("seed 13")
    generator = np.random.default_rng(13)
    below = independent = 0
    for _ in range(200):
        scores = generator.normal(0, 1, (3, 4, 1)) + generator.normal(0, 0.5, (3, 4, 5))
        (test,) = seed_block_tests(methods_by_seed(scores), "by", "priorities", "seed", SCORE)
        below += test.p < 0.05
        independent += stats.friedmanchisquare(*scores.mean(axis=1)).pvalue < 0.05
    # .05 of 200 are 10, and three standard errors more are 19.2. Priorities taken for independent
    # blocks find a difference in more than half.
    assert below <= 19
    assert independent > 100


def test_delta_m_in_both_conventions_by_hand():
    metrics = [
        RankedMetric("delta1", HIGH, 1.0),
        RankedMetric("rmse", LOW, 1.0),
        RankedMetric("miou", HIGH, 1.0),
    ]
    task_of = {"delta1": "depth", "rmse": "depth", "miou": "segmentation"}
    found = delta_m(
        {"delta1": 55.0, "rmse": 0.8, "miou": 18.0},
        {"delta1": 50.0, "rmse": 1.0, "miou": 20.0},
        metrics,
        task_of,
        "lsb",
    )
    # delta1 +10 %, rmse 20 % less: +20 %, miou -10 %.
    assert found.tasks_first_percent == pytest.approx(((10 + 20) / 2 - 10) / 2)
    assert found.metrics_flat_percent == pytest.approx((10 + 20 - 10) / 3)


def test_the_command_on_table_s3(tmp_path, capsys):
    assert main([str(TABLE_S3), "--by", "algorithm", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Misprint: algorithm Equal weighting, trial 2, rank_delta1: printed 18.5" in said
    assert "mean_angle 0 at 1 decimals" in said
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    assert len(ranks) == 25
    assert ranks["rank_avg"].map(rounded).tolist() == pd.read_csv(TABLE_S3)["rank_avg"].tolist()
    assert (tmp_path / "rank_summary.csv").exists()
    assert r"\begin{tabular}" in (tmp_path / "ranks.tex").read_text()


def test_the_command_in_another_process_writes_the_same_bytes(tmp_path):
    arguments = [str(TABLE_S3), "--by", "algorithm", "--out"]
    main([*arguments, str(tmp_path / "a")])
    script = Path(__file__).parents[3] / "analysis" / "ranking.py"
    subprocess.run(
        [sys.executable, str(script), *arguments, str(tmp_path / "b")],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    for name in ("ranks.csv", "rank_summary.csv", "rank_tests.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def table(folder: Path, text: str) -> str:
    path = folder / "table.csv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "arguments", "status", "sentence"),
    [
        ("method,seed,speed\na,0,1\n", [], 2, "Expected a direction for column speed"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "miou:min"], 2, "Expected miou:max"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "iou:max"], 2, "--metrics to name columns"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "miou:up"], 2, "COLUMN:min or COLUMN:max"),
        ("method,seed,miou\na,0,1\n", ["--by", "loss"], 2, "--by to name a column"),
        ("method,seed,miou\na,0,1\n", ["--tie-tolerance", "rmse=1"], 2, "rmse"),
        ("method,seed,miou\na,0,1\n", ["--tie-tolerance", "miou=-1"], 2, "a value of 0 or more"),
        ("method,seed,miou\na,0,x\n", ["--metrics", "miou"], 1, "got 'x' in row 1"),
        ("method,seed,miou\na,0,\n", [], 1, "a finite value of miou"),
        ("method,seed,miou\na,0,1\n,1,2\n", [], 1, "got an empty cell in row 2 after the head"),
        ("method,seed,miou\na,0,1\n", ["--metrics", "seed:min"], 2, "which says which trial"),
        ("method,seed,miou\n", [], 1, "at least one row"),
        ("method,seed\na,0\n", [], 1, "a numeric column to rank"),
        ("method,seed,miou\na,0,1\n", ["--baseline", "zz"], 2, "zz"),
        ("method,seed,miou\na,0,1\n", ["--blocks", "zz"], 2, "--blocks to name a column"),
        ("method,priority_depth,miou\na,.1,1\n", ["--blocks", "priority_depth"], 2, "of seeds"),
        ("method,d,miou\na,0,1\nb,1,1\n", ["--metrics", "miou", "--blocks", "d"], 2, "5 blocks"),
    ],
)
def test_rubbish_is_one_sentence(text, arguments, status, sentence, tmp_path, capsys):
    path = table(tmp_path, text)
    assert main([path, *arguments, "--out", str(tmp_path / "out")]) == status
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_value_is_named_and_not_ranked(tmp_path, capsys):
    path = table(tmp_path, "method,seed,miou\na,0,20\nb,0,\nb,1,inf\nb,2,10\n")
    assert main([path, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Left out: method b, seed 0, without a finite value of miou." in said
    assert "Left out: method b, seed 1" in said
    assert len(pd.read_csv(tmp_path / "ranks.csv")) == 2


def test_a_store_is_ranked_by_method_with_delta_m_against_its_single_task_runs(tmp_path, capsys):
    store = Store(tmp_path / "store")
    ids = fill(store, seeds=2)
    spec = store.spec(ids[0])
    out = ["--out", str(tmp_path / "out")]
    assert main([str(store.root), *out]) == 0
    assert "delta_m" not in (tmp_path / "out" / "rank_summary.csv").read_text()
    network = NetworkSpec(**{**vars(spec.network), "architecture": "single_task"})
    for task, metrics in depth_and_segmentation(0.8, 0.5).items():
        single = RunSpec(
            tasks=(task,), method="equal", epochs=spec.epochs, data=spec.data, network=network
        )
        finish(store, single, {task: metrics})
    shutil.rmtree(tmp_path / "out")
    assert main([str(store.root), *out]) == 0
    assert "delta-m, tasks first (%)" in capsys.readouterr().out
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


def tidy_csv(num_seeds: int = 2) -> str:
    """Return the table that pareto.py takes: two methods at five priorities."""
    print("seed 21")
    generator = np.random.default_rng(21)
    rows = [
        f"{method},{seed},{p},{1 - p:.1f},{0.7 + lead + generator.normal(0, 0.01):.4f},"
        f"{0.5 + lead + generator.normal(0, 0.01):.4f}"
        for method, lead in (("lsb", 0.2), ("fixed", 0.0))
        for p in (0.1, 0.3, 0.5, 0.7, 0.9)
        for seed in range(num_seeds)
    ]
    head = "method,seed,priority_depth,priority_segmentation,depth_delta1,segmentation_miou"
    return "\n".join([head, *rows, ""])


def test_priorities_of_a_tidy_table_identify_rows_and_whole_seeds_are_relabelled(tmp_path, capsys):
    assert main([table(tmp_path, tidy_csv()), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    assert list(ranks)[:4] == ["method", "priority_depth", "priority_segmentation", "seed"]
    assert "rank_priority_depth" not in ranks
    tests = pd.read_csv(tmp_path / "rank_tests.csv")
    # Two seeds, however many priorities: 2 of 4 sign patterns.
    assert tests["smallest_p"].tolist() == tests["p"].tolist() == [0.5, 0.5]
    assert tests["paired"].all()
    assert "is 0.5, whole seeds being relabelled." in said


def test_a_store_of_priorities_reaches_the_p_of_its_seeds(tmp_path, capsys):
    store = Store(tmp_path / "store")
    fill(store, seeds=2, shift=0.3)
    assert main([str(store.root), "--out", str(tmp_path / "out")]) == 0
    tests = pd.read_csv(tmp_path / "out" / "rank_tests.csv")
    assert set(tests["smallest_p"]) == {minimum_p(2)} == {0.5}
    assert tests["p"].min() >= 0.5
    assert "0 of 4 differences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.drop(columns="seed"), "without a column of seeds"),
        (lambda f: f[(f["method"] == "lsb") | (f["priority_depth"] > 0.2)], "different priorities"),
        (lambda f: f[(f["method"] == "lsb") | (f["seed"] > 0)], "different seeds"),
    ],
)
def test_what_is_not_tested_is_said_by_the_command(change, sentence, tmp_path, capsys):
    path = table(tmp_path, tidy_csv())
    change(pd.read_csv(path)).to_csv(path, index=False)
    assert main([path, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Not tested: lsb \N{MINUS SIGN} fixed: " in said
    assert sentence in said


@pytest.mark.parametrize("by", ["method", "loss"])
def test_methods_called_none_or_na_are_ranked(by, tmp_path, capsys):
    text = f"{by},seed,miou\nNone,0,1\nNA,0,2\nnan,0,3\n007,0,\n007,1,4\n"
    assert main([table(tmp_path, text), "--by", by, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"Left out: {by} 007, seed 0" in said
    held = pd.read_csv(tmp_path / "ranks.csv", keep_default_na=False, dtype={by: str})
    assert held[by].tolist() == ["None", "NA", "nan", "007"]


def test_no_row_of_a_parquet_is_dropped_for_its_method(tmp_path, capsys):
    path = tmp_path / "table.parquet"
    pd.DataFrame({"method": ["None", None], "miou": [1.0, 2.0]}).to_parquet(path)
    assert main([str(path), "--out", str(tmp_path)]) == 1
    assert "column method" in (said := capsys.readouterr().err)
    assert "empty cell in row 2" in said


def test_a_baseline_of_zero_is_said_and_no_delta_m_is_shown(tmp_path, capsys):
    path = table(tmp_path, "method,seed,miou,rmse\na,0,0,1\na,1,0,1\nb,0,2,1\nb,1,3,1\n")
    assert main([path, "--baseline", "a", "--out", str(tmp_path)]) == 0
    assert "No delta-m: the baseline of miou is 0" in capsys.readouterr().out
    assert "delta_m" not in (tmp_path / "rank_summary.csv").read_text()


def test_negative_numbers_have_a_true_minus_sign(tmp_path, capsys):
    path = table(tmp_path, "method,seed,trial,score,rank_score\na,-1,-2.5,-1,-3\nb,-2,1.0,2,1\n")
    assert main([path, "--metrics", "score:max", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.split("Written")[0]
    assert not re.search(r"-\d", said)
    assert "printed \N{MINUS SIGN}3" in said
