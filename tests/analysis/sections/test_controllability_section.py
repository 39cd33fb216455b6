"""The section on controllability shows what `analysis.compute` computes."""

import json

import numpy as np
import pytest
from scipy import stats

from analysis.compute.findings import find
from analysis.load.axes import choose_axes
from analysis.load.run_files import RunFiles
from analysis.load.runs import load_stores
from analysis.page import build
from analysis.render.panels import Line, Points
from analysis.sections.controllability import controllability
from mtl.spec import RunSpec
from tests.analysis.made_findings import words


def section_of(store, **metrics):
    loaded = load_stores([store])
    findings = find(loaded, choose_axes(loaded.tasks, metrics))
    return findings, controllability(findings, RunFiles([store]))


def test_correlation_is_that_of_each_seeds_runs(full_store):
    findings, section = section_of(full_store)
    found = next(
        s for s in section.values["responses"] if (s.arm, s.column) == ("lsb", "segmentation_miou")
    )
    runs = findings.runs[findings.runs["arm"] == "lsb"]
    taus = [
        stats.kendalltau(mine["priority_segmentation"], mine["segmentation_miou"]).statistic
        for _, mine in runs.groupby("seed")
    ]
    assert found.control.rank_correlation == pytest.approx(np.mean(taus))
    assert (found.num_seeds, found.num_priorities) == (2, 5)
    (table,) = section.tables
    assert len(table.rows) == 4
    assert f"{found.control.rank_correlation:.2f}" in section.lead


def test_axis_is_reversed_where_lower_is_better(full_store):
    # The synthetic rmse is 1.5 - delta1.
    _, by_rmse = section_of(full_store, depth="rmse")
    _, by_delta1 = section_of(full_store)
    rmse, delta1 = (s.values["responses"][0].control for s in (by_rmse, by_delta1))
    assert rmse.rank_correlation == delta1.rank_correlation
    assert rmse.violations == delta1.violations
    worse, better = by_rmse.figures[0].panels[0].y.limits
    assert worse > better
    assert "reversed" in by_rmse.figures[0].panels[0].y.title


def test_figure_draws_means_and_single_seeds(full_store):
    findings, section = section_of(full_store)
    panel = section.figures[0].panels[0]
    means = [m for m in panel.marks if isinstance(m, Points) and m.opacity == 1 and m.name == "lsb"]
    mine = [p for p in findings.points if p.arm == "lsb"]
    assert means[0].x == pytest.approx([p.priorities[0] for p in mine])
    assert means[0].y == pytest.approx([p.means[0] * 100 for p in mine])
    singles = [m for m in panel.marks if isinstance(m, Points) and m.opacity < 1]
    assert len(singles) == 4
    drawn = sorted(y for m in singles for y in m.y)
    assert drawn == pytest.approx(sorted(findings.runs["depth_delta1"] * 100))
    # A line over the means and a faint one for each seed, of both methods.
    assert len([m for m in panel.marks if isinstance(m, Line)]) == 2 + 4


def test_constant_metric_has_no_correlation(store, synthetic):
    for seed in range(2):
        for priority in synthetic.priorities:
            values = synthetic.depth_and_segmentation(0.5, 0.4 + 0.1 * (1 - priority))
            synthetic.finish(store, synthetic.make_spec("lsb", priority, seed), values)
    _, section = section_of(store)
    depth, segmentation = section.values["responses"]
    assert (depth.control.rank_correlation, depth.control.span) == (None, 0.0)
    assert segmentation.control.rank_correlation == pytest.approx(1.0)
    assert "depth delta1 \N{EN DASH}, 0 violations in 4 steps" in section.lead
    json.dumps(build(load_stores([store])).summary, allow_nan=False)


def test_one_priority_shows_nothing(store, synthetic):
    synthetic.finish(
        store, synthetic.make_spec("lsb", 0.5, 0), synthetic.depth_and_segmentation(0.5, 0.5)
    )
    _, section = section_of(store)
    assert section.parts == ()
    assert "No method has complete runs at two priorities" in section.lead


def test_three_tasks_average_settings_that_share_a_priority(store, synthetic):
    tasks = ("depth", "normal", "segmentation")
    for k, priorities in enumerate(((0.2, 0.2, 0.6), (0.2, 0.6, 0.2), (0.6, 0.2, 0.2))):
        values = {
            **synthetic.depth_and_segmentation(0.5 + 0.1 * k, 0.6),
            "normal": {"within_30": 0.5 + 0.01 * k, "mean_angle": 20.0},
        }
        synthetic.finish(
            store, RunSpec(method="lsb", tasks=tasks, priorities=priorities, epochs=12), values
        )
    _, section = section_of(store)
    found = section.values["responses"]
    assert [(s.num_priorities, s.control.num_steps) for s in found] == [(2, 1)] * 3
    assert len(section.figures[0].panels) == 3
    assert "several settings give a task the same priority" in words(section)


def test_agreeing_seeds_have_no_interval(store, synthetic):
    for seed in range(3):
        for priority in synthetic.priorities:
            values = synthetic.depth_and_segmentation(0.5 + 0.1 * priority, 0.4 + 0.1 * priority)
            synthetic.finish(store, synthetic.make_spec("lsb", priority, seed), values)
    _, section = section_of(store)
    assert "depth delta1 1.00 (all 3 seeds agree)" in section.lead
    assert section.tables[0].rows[1][2].endswith("1.00 (all 3 seeds agree)")
    assert section.tables[0].raw["low"].isna().all()
