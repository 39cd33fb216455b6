"""The section on ranks: equal priorities alone, delta-m by hand, bounded tests, and its words."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from analysis.compute.findings import find
from analysis.load.axes import choose_axes
from analysis.load.run_files import NO_FILES
from analysis.load.runs import load_stores
from analysis.page import build
from analysis.render.panels import Points
from analysis.render.section import Folded
from analysis.report import write_reports
from analysis.sections.method_ranks import MOST_TESTS, method_ranks
from mtl.spec import RunSpec
from mtl.spec.methods import METHODS
from mtl.spec.sections import DataSpec, NetworkSpec


def section_of(store):
    loaded = load_stores([store])
    findings = find(loaded, choose_axes(loaded.tasks))
    return findings, method_ranks(findings, NO_FILES)


def words(section) -> str:
    return " ".join([section.lead, *(part for part in section.parts if isinstance(part, str))])


def test_only_runs_at_equal_priorities_are_ranked(full_store):
    findings, section = section_of(full_store)
    trials = section.values["trials"]
    assert [(t["method"], t["seed"]) for t in trials] == [
        ("lsb", 0), ("lsb", 1), ("fixed", 0), ("fixed", 1),
    ]  # fmt: skip
    equal = findings.runs[findings.runs["priority_depth"] == 0.5]
    expected = dict(zip(equal["run_id"], stats.rankdata(-equal["depth_delta1"]), strict=True))
    assert sorted(t["rank_depth_delta1"] for t in trials) == sorted(expected.values())
    summary, ranks, tests = section.tables
    assert (summary.name, ranks.name, tests.name) == ("rank_summary", "ranks", "rank_tests")
    # Two tasks of two metrics each.
    assert len(tests.rows) == 4
    assert "No delta-m" in words(section)


def test_figure_draws_the_average_ranks(full_store):
    _, section = section_of(full_store)
    (panel,) = section.figures[0].panels
    means = {m.name: m.x[0] for m in panel.marks if isinstance(m, Points) and m.opacity == 1}
    assert means == {r["method"]: r["rank_avg"] for r in section.values["summary"]}
    ghosts = [x for m in panel.marks if isinstance(m, Points) and m.opacity < 1 for x in m.x]
    assert sorted(ghosts) == sorted(t["rank_avg"] for t in section.values["trials"])
    worse, better = panel.x.limits
    assert worse > better
    drawn = [m for m in panel.marks if isinstance(m, Points)]
    lower, upper = panel.y.limits
    pixels_a_row = (panel.height - 90) / (upper - lower)
    for trials, mean in zip(drawn[::2], drawn[1::2], strict=True):
        # Beside each other whatever their ranks are: farther apart than both radii.
        apart = (mean.y[0] - max(trials.y)) * pixels_a_row
        assert apart > (mean.size + trials.size) / 2 + 2


def test_delta_m_against_single_task_runs_of_the_same_settings(full_store, synthetic, tmp_path):
    def alone(task: str, seed: int, epochs: int = 12) -> RunSpec:
        return RunSpec(
            method="equal",
            tasks=(task,),
            seed=seed,
            epochs=epochs,
            data=DataSpec(variant="simple"),
            network=NetworkSpec(architecture="single_task"),
        )

    both = synthetic.depth_and_segmentation(0.5, 0.5)
    for seed in range(2):
        for task in ("depth", "segmentation"):
            synthetic.finish(full_store, alone(task, seed), {task: both[task]})
    # Another learning rate or number of epochs is no baseline.
    synthetic.finish(full_store, alone("depth", 0, epochs=99), {"depth": {"delta1": 0.1}})
    reports = write_reports([full_store], tmp_path / "out")
    joint = next(
        report for label, report in reports.items() if "epochs=12" in label and "depth+" in label
    )
    summary = json.loads((joint.path.parent / "summary.json").read_text())
    assert summary["baselines"]["depth_delta1"] == {"0": 0.5, "1": 0.5}
    held = summary["sections"]["method_ranks"]
    lsb = next(row for row in held["summary"] if row["method"] == "lsb")
    # Against delta1 .5, rmse 1.5 - .5 = 1, miou .5 and accuracy .9; accuracy is .9 in every run.
    depth = [(lsb["mean_depth_delta1"] - 0.5) / 0.5, 1 - lsb["mean_depth_rmse"]]
    segmentation = [(lsb["mean_segmentation_miou"] - 0.5) / 0.5, 0.0]
    found = next(d for d in held["delta_m"] if d["method"] == "lsb")
    tasks_first = 100 * np.mean([np.mean(depth), np.mean(segmentation)])
    assert found["tasks_first_percent"] == pytest.approx(tasks_first)
    assert found["metrics_flat_percent"] == pytest.approx(100 * np.mean([*depth, *segmentation]))
    # A baseline that comes later makes the report anew.
    synthetic.finish(full_store, alone("depth", 2), {"depth": both["depth"]})
    again = write_reports([full_store], tmp_path / "out")
    assert next(r for r in again.values() if r.path == joint.path).rebuilt


def test_a_baseline_of_zero_costs_delta_m_alone(full_store, synthetic, tmp_path):
    for task in ("depth", "segmentation"):
        alone = RunSpec(
            method="equal", tasks=(task,), epochs=12, data=DataSpec(variant="simple"),
            network=NetworkSpec(architecture="single_task"),
        )  # fmt: skip
        values = synthetic.depth_and_segmentation(0.0, 0.5)
        synthetic.finish(full_store, alone, {task: values[task]})
    reports = write_reports([full_store], tmp_path / "out")
    joint = next(report for label, report in reports.items() if "depth+" in label)
    held = json.loads((joint.path.parent / "summary.json").read_text())["sections"]["method_ranks"]
    assert held["delta_m"] == []
    assert "the baseline of depth_delta1 is 0" in held["why_no_delta_m"]
    assert held["why_no_delta_m"] in joint.path.read_text()


def test_methods_that_share_a_single_priority_are_counted(store, synthetic):
    for number, method in enumerate(("lsb", "fixed")):
        for seed in range(2):
            values = synthetic.depth_and_segmentation(0.6 + number / 10 + seed / 100, 0.5)
            synthetic.finish(store, synthetic.make_spec(method, 0.5, seed), values)
    _, section = section_of(store)
    assert "here 2 methods share 1." in words(section)


def test_friedman_takes_priorities_as_blocks_and_says_when_it_cannot(store, synthetic):
    synthetic.fill(store, seeds=2)
    _, section = section_of(store)
    assert "needs 3 methods" in words(section)
    print("seed 3")
    generator = np.random.default_rng(3)
    for priority in synthetic.priorities:
        for seed in range(2):
            values = synthetic.depth_and_segmentation(*generator.uniform(0.5, 0.8, 2))
            synthetic.finish(store, synthetic.make_spec("stch", priority, seed), values)
    findings, section = section_of(store)
    block = next(b for b in section.values["blocks"] if b.column == "depth_delta1")
    assert block.num_blocks == 5
    runs = findings.runs.assign(shown=(findings.runs["depth_delta1"] * 100).round(1))
    cells = runs.pivot_table("shown", ["seed", "priority_depth"], "arm")
    ranks = (-cells).rank(axis=1).groupby("seed").mean()
    assert block.average_ranks == pytest.approx(dict(ranks.mean()))
    # Brute force: every relabelling of seed 1 against seed 0.
    first, second = ranks.to_numpy()
    spreads = [np.var(first + second[list(o)]) for o in itertools.permutations(range(3))]
    assert block.p == pytest.approx(np.mean(np.array(spreads) >= spreads[0] - 1e-9))
    assert block.smallest_p == pytest.approx(1 / 6)
    assert "whole seeds being relabelled; so many can reach 0.17" in words(section)
    # pixel_accuracy is .9 in every run: all methods tie in every block.
    assert next(b for b in section.values["blocks"] if "accuracy" in b.column).p == 1.0


def test_many_methods_are_tested_against_one(store, synthetic):
    print("seed 4")
    generator = np.random.default_rng(4)
    methods = [m for m, needs in METHODS.items() if needs.least_tasks <= 2]
    for method in methods:
        share = 0.5 if METHODS[method].takes_priorities else None
        for seed in range(2):
            values = synthetic.depth_and_segmentation(*generator.uniform(0.5, 0.8, 2))
            synthetic.finish(store, synthetic.make_spec(method, share, seed), values)
    _, section = section_of(store)
    tests = section.values["tests"]
    assert 0 < len(tests) <= MOST_TESTS
    assert {t.method_a for t in tests} == {"lsb"}
    assert len(section.values["trials"]) == 2 * len(methods)
    assert "pairs are tested: lsb against others" in words(section)
    folded = [part for part in section.parts if isinstance(part, Folded)]
    assert len(folded) == 2
    page = build(load_stores([store]), None, None)
    json.dumps(page.summary, allow_nan=False)


def test_no_equal_priority_or_a_single_method_is_said(store, synthetic):
    for share in (0.25, 0.75):
        for method in ("lsb", "fixed"):
            synthetic.finish(
                store,
                synthetic.make_spec(method, share, 0),
                synthetic.depth_and_segmentation(0.5, 0.5),
            )
    _, section = section_of(store)
    assert "no two methods have runs in which every task counts 1/2" in section.lead
    synthetic.finish(
        store, synthetic.make_spec("lsb", 0.5, 0), synthetic.depth_and_segmentation(0.5, 0.5)
    )
    _, section = section_of(store)
    assert "only lsb has runs" in section.lead


def test_methods_without_equal_priorities_and_odd_metrics_are_named(store, synthetic):
    for method, share in (("lsb", 0.5), ("equal", None), ("fixed", 0.25)):
        values = synthetic.depth_and_segmentation(0.5, 0.6)
        if method == "equal":
            values["depth"]["rmse"] = None
        synthetic.finish(store, synthetic.make_spec(method, share, 0), values)
    _, section = section_of(store)
    text = words(section)
    assert "without runs at equal priorities: fixed" in text
    assert "Left out: method equal, seed 0, without a finite value of depth_rmse" in text
    assert "Not tested" in text
