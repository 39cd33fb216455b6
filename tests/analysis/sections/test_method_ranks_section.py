"""The section on ranks: equal priorities alone, Delta_m by hand, and its words."""

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
from analysis.reports import write_reports
from analysis.sections.method_ranks import MAX_ROWS, method_ranks
from mtl.spec import RunSpec
from mtl.spec.methods import METHODS
from mtl.spec.sections import DataSpec, NetworkSpec
from tests.analysis.made_findings import words


def section_of(store):
    loaded = load_stores([store])
    findings = find(loaded, choose_axes(loaded.tasks))
    return findings, method_ranks(findings, NO_FILES)


def test_runs_at_equal_priorities_are_ranked_and_drawn(full_store):
    findings, section = section_of(full_store)
    trials = section.values["trials"]
    assert [(t["method"], t["seed"]) for t in trials] == [
        ("lsb", 0), ("lsb", 1), ("fixed", 0), ("fixed", 1),
    ]  # fmt: skip
    equal = findings.runs[findings.runs["priority_depth"] == 0.5]
    expected = stats.rankdata(-equal["depth_delta1"])
    assert sorted(t["rank_depth_delta1"] for t in trials) == sorted(expected)
    summary, ranks, tests = section.tables
    assert (summary.name, ranks.name, tests.name) == ("rank_summary", "ranks", "rank_tests")
    assert len(tests.rows) == 4  # two tasks of two metrics each
    (panel,) = section.figures[0].panels
    drawn = [m for m in panel.marks if isinstance(m, Points)]
    means = {m.name: m.x[0] for m in drawn if m.opacity == 1}
    assert means == {r["method"]: r["rank_avg"] for r in section.values["summary"]}
    of_trials = [x for m in drawn if m.opacity < 1 for x in m.x]
    assert sorted(of_trials) == sorted(t["rank_avg"] for t in trials)
    worse, better = panel.x.limits
    assert worse > better
    lower, upper = panel.y.limits
    pixels_a_row = (panel.height - 90) / (upper - lower)
    for single, mean in zip(drawn[::2], drawn[1::2], strict=True):
        # Beside each other whatever their ranks are: farther apart than both radii.
        apart = (mean.y[0] - max(single.y)) * pixels_a_row
        assert apart > (mean.size + single.size) / 2 + 2


@pytest.mark.parametrize("delta1", [0.5, 0.0])
def test_delta_m_is_relative_to_single_task_runs(delta1, full_store, synthetic, tmp_path):
    def alone(task: str, seed: int, epochs: int = 12) -> RunSpec:
        return RunSpec(
            method="equal",
            tasks=(task,),
            seed=seed,
            epochs=epochs,
            data=DataSpec(variant="simple"),
            network=NetworkSpec(architecture="single_task"),
        )

    both = synthetic.depth_and_segmentation(delta1, 0.5)
    for task in ("depth", "segmentation"):
        synthetic.finish(full_store, alone(task, 0), {task: both[task]})
    # Another number of epochs is no baseline.
    synthetic.finish(full_store, alone("depth", 0, epochs=99), {"depth": {"delta1": 0.1}})
    reports = write_reports([full_store], tmp_path / "out")
    joint = next(r for label, r in reports.items() if "epochs=12" in label and "depth+" in label)
    summary = json.loads((joint.path.parent / "summary.json").read_text())
    assert summary["baselines"]["depth_delta1"] == {"0": delta1}
    held = summary["sections"]["method_ranks"]
    lsb = next(row for row in held["summary"] if row["method"] == "lsb")
    if delta1 == 0:
        assert "delta_m_percent_tasks_first" not in lsb
        assert "the baseline of depth_delta1 is 0" in " ".join(held["notes"])
        return
    # Against delta1 .5, rmse 1.5 - .5 = 1, miou .5 and accuracy .9; accuracy is .9 in every run.
    depth = [(lsb["mean_depth_delta1"] - 0.5) / 0.5, 1 - lsb["mean_depth_rmse"]]
    segmentation = [(lsb["mean_segmentation_miou"] - 0.5) / 0.5, 0.0]
    tasks_first = 100 * np.mean([np.mean(depth), np.mean(segmentation)])
    assert lsb["delta_m_percent_tasks_first"] == pytest.approx(tasks_first)
    flat = 100 * np.mean([*depth, *segmentation])
    assert lsb["delta_m_percent_metrics_flat"] == pytest.approx(flat)
    # A baseline that comes later builds the report again.
    synthetic.finish(full_store, alone("depth", 2), {"depth": both["depth"]})
    again = write_reports([full_store], tmp_path / "out")
    assert next(r for r in again.values() if r.path == joint.path).rebuilt


def test_three_methods_with_five_seeds_have_friedmans_test(store, synthetic):
    generator = np.random.default_rng(3)
    for method in ("lsb", "fixed", "stch"):
        for seed in range(6 if method == "lsb" else 5):
            values = synthetic.depth_and_segmentation(*generator.uniform(0.5, 0.8, 2))
            synthetic.finish(store, synthetic.make_spec(method, 0.5, seed), values)
    findings, section = section_of(store)
    block = next(b for b in section.values["blocks"] if b.column == "depth_delta1")
    assert block.num_blocks == 5  # that all three have
    runs = findings.runs[findings.runs["seed"] < 5]
    shown = (runs["depth_delta1"] * 100).round(1).groupby(runs["arm"]).apply(list)
    assert block.p == pytest.approx(stats.friedmanchisquare(*shown).pvalue)
    assert "Friedman p" in words(section)


def test_every_pair_of_many_methods_is_tested(store, synthetic):
    generator = np.random.default_rng(4)
    methods = [m for m, needs in METHODS.items() if needs.min_tasks <= 2][:8]
    for method in methods:
        share = 0.5 if METHODS[method].takes_priorities else None
        for seed in range(2):
            values = synthetic.depth_and_segmentation(*generator.uniform(0.5, 0.8, 2))
            synthetic.finish(store, synthetic.make_spec(method, share, seed), values)
    _, section = section_of(store)
    assert len(section.values["tests"]) == 4 * len(methods) * (len(methods) - 1) // 2
    assert len(section.values["trials"]) == 2 * len(methods)
    tests = next(table for table in section.tables if table.name == "rank_tests")
    assert len(tests.rows) == MAX_ROWS < len(tests.raw)
    assert f"The first {MAX_ROWS} of {len(tests.raw)} rows" in tests.caption
    json.dumps(build(load_stores([store]), None, None).summary, allow_nan=False)


def test_no_equal_priority_or_a_single_method_is_named(store, synthetic):
    values = synthetic.depth_and_segmentation(0.5, 0.5)
    for share in (0.25, 0.75):
        for method in ("lsb", "fixed"):
            synthetic.finish(store, synthetic.make_spec(method, share, 0), values)
    assert "no two methods have runs in which every task counts 1/2" in section_of(store)[1].lead
    synthetic.finish(store, synthetic.make_spec("lsb", 0.5, 0), values)
    assert "only lsb has runs" in section_of(store)[1].lead


def test_methods_and_runs_without_values_are_named(store, synthetic):
    for method, share in (("lsb", 0.5), ("equal", None), ("fixed", 0.25)):
        values = synthetic.depth_and_segmentation(0.5, 0.6)
        if method == "equal":
            values["depth"]["rmse"] = None
        synthetic.finish(store, synthetic.make_spec(method, share, 0), values)
    text = words(section_of(store)[1])
    assert "without runs at equal priorities: fixed" in text
    assert "Left out: method equal, seed 0: no value of depth_rmse" in text
    assert "Not tested" in text
