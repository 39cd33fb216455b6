"""The section on budgets says the computed values, and why something is not shown."""

import json

import numpy as np
import pytest

from analysis.compute.findings import find
from analysis.compute.fronts import hypervolume, means_of
from analysis.load.axes import choose_axes
from analysis.load.run_files import RunFiles
from analysis.load.runs import load_stores
from analysis.page import build
from analysis.render.panels import Line, Points
from analysis.sections.budget import compute_budget
from mtl.records import Result
from mtl.store import Store


def section_of(store, files=True):
    loaded = load_stores([store])
    findings = find(loaded, choose_axes(loaded.tasks))
    return findings, compute_budget(findings, RunFiles([store] if files else []))


@pytest.fixture
def three_seeds(store, synthetic) -> Store:
    synthetic.fill(store, seeds=3)
    return store


def words(section) -> str:
    return " ".join([section.lead, *(part for part in section.parts if isinstance(part, str))])


def test_curves_end_at_the_hypervolume_of_the_report_and_the_figure_draws_them(three_seeds):
    findings, section = section_of(three_seeds)
    figure = section.figures[0]
    for arm in ("lsb", "fixed"):
        curve = next(c for c in section.values["curves"] if c["arm"] == arm)
        assert curve["expected"][-1] == pytest.approx(findings.hypervolumes[arm], rel=1e-12)
        single = [
            hypervolume(point[None], findings.reference, findings.axes)
            for point in means_of(findings.points, arm)
        ]
        assert curve["expected"][0] == pytest.approx(np.mean(single))
        assert curve["num_runs"] == (3, 6, 9, 12, 15)
        for panel in figure.panels:
            (line,) = [m for m in panel.marks if isinstance(m, Line) and m.name == arm]
            assert line.y == curve["expected"]
        # Device seconds of a run are 17.25.
        assert line.x == pytest.approx([n * 17.25 / 3600 for n in curve["num_runs"]])
    assert section.values["matches"][0].arm == "lsb"
    table = next(t for t in section.tables if t.name == "budget_curves")
    assert len(table.rows) == 10
    assert table.raw["low"].notna().all()


def test_the_rival_is_chosen_on_validation_or_said_to_be_flattered(three_seeds):
    findings, section = section_of(three_seeds)
    (question,) = section.values["untuned"]
    # Validation holds the values of the test split in this store, so the choice is the same.
    assert question.chosen_on == "validation"
    middle = [p for p in findings.points if p.priorities == (0.5, 0.5)]
    lsb = next(p for p in middle if p.arm == "lsb")
    fixed = [p for p in findings.points if p.arm == "fixed"][question.chosen]
    for metric, a, b in zip(question.metrics, lsb.means, fixed.means, strict=True):
        assert metric.difference == pytest.approx(a - b)
    _, blind = section_of(three_seeds, files=False)
    assert blind.values["untuned"][0].chosen_on == "test"
    assert "flatters fixed" in words(blind)
    assert "flatters" not in words(section)


def test_one_seed_has_no_interval_and_says_so(store, synthetic):
    synthetic.fill(store, seeds=1)
    _, section = section_of(store)
    assert section.values["curves"][0]["interval"] is None
    assert "No interval for lsb and fixed" in words(section)
    assert section.values["untuned"][0].metrics[0].interval is None


def test_unequal_grids_are_not_matched(store, synthetic):
    synthetic.fill(store, seeds=3, skip=lambda s: s.method == "fixed" and s.priorities[0] > 0.8)
    _, section = section_of(store)
    assert section.values["matches"] == ()
    assert "more points alone raise a hypervolume" in words(section)
    assert len(section.values["curves"]) == 2


def test_a_seed_missing_at_one_priority_is_left_out_and_said(store, synthetic):
    synthetic.fill(
        store,
        seeds=3,
        skip=lambda s: (s.method, s.seed) == ("lsb", 2) and s.priorities[0] > 0.8,
    )
    _, section = section_of(store)
    curve = section.values["curves"][0]
    assert (curve["arm"], curve["num_seeds"]) == ("lsb", 2)
    assert "4 runs of lsb are not counted" in words(section)
    assert "their seeds that are done at every priority differ" in words(section)


def test_methods_without_priorities_have_seconds_and_no_curve(store, synthetic):
    for seed in range(2):
        for method in ("equal", "dwa"):
            values = synthetic.depth_and_segmentation(0.7, 0.6)
            synthetic.finish(store, synthetic.make_spec(method, None, seed), values)
    _, section = section_of(store)
    assert section.values["curves"] == []
    assert [c.arm for c in section.values["overheads"]] == ["equal", "dwa"]
    assert "no front whose budget" in words(section)
    assert "untuned question" in words(section)


def test_without_seconds_nothing_is_said_of_time(store, synthetic):
    for method in ("lsb", "fixed"):
        for priority, point in zip(synthetic.priorities, synthetic.means[method], strict=True):
            values = synthetic.depth_and_segmentation(*point)
            synthetic.finish(store, synthetic.make_spec(method, priority, 0), values, manifest={})
    _, section = section_of(store)
    assert section.values["overheads"] == ()
    assert "No run reports its seconds" in words(section)
    assert len(section.figures[0].panels) == 1


def test_overhead_counts_runs_and_draws_the_medians(three_seeds):
    _, section = section_of(three_seeds)
    fixed, lsb = section.values["overheads"]
    assert (fixed.arm, lsb.arm, lsb.num_runs) == ("fixed", "lsb", 15)
    # 17.25 seconds for 12 epochs, in every run.
    assert lsb.seconds == pytest.approx((17.25 / 12,) * 3)
    panel = section.figures[1].panels[0]
    medians = [m.x[0] for m in panel.marks if isinstance(m, Points) and m.opacity == 1]
    assert medians == [1.0, 1.0]


def test_validation_metrics_choose_where_they_differ_from_test(store, synthetic):
    for method in ("lsb", "fixed"):
        for k, (priority, point) in enumerate(
            zip(synthetic.priorities, synthetic.means[method], strict=True)
        ):
            spec = synthetic.make_spec(method, priority, 0)
            run_id = synthetic.finish(store, spec, synthetic.depth_and_segmentation(*point))
            # On validation the last of the grid is best by far.
            better = synthetic.depth_and_segmentation(0.1 + 0.2 * k, 0.1 + 0.2 * k)
            metrics = {"validation": better, "test": synthetic.depth_and_segmentation(*point)}
            store.write_result(Result(run_id, "done", 12, "last", 12, metrics, metrics))
    _, section = section_of(store)
    assert section.values["untuned"][0].chosen == 4


def test_the_page_holds_the_section(three_seeds):
    built = build(load_stores([three_seeds]), None, None, run_files=RunFiles([three_seeds]))
    assert 'id="compute_budget"' in built.html
    assert "tables/runs_to_match.csv" in built.files
    json.dumps(built.summary["sections"]["compute_budget"], allow_nan=False)


def test_no_runs_no_section(store, synthetic):
    store.write_spec(synthetic.make_spec("lsb", 0.5, 0))
    assert section_of(store)[1] is None


def test_seeds_that_agree_and_a_hypervolume_of_zero_are_said(store, synthetic):
    for seed in range(3):
        for method, shift in (("lsb", 0.0), ("fixed", -0.5)):
            for k, priority in enumerate(synthetic.priorities):
                # fixed is worse than the per-pixel prior (0.547) on depth.
                values = synthetic.depth_and_segmentation(0.7 + shift, 0.8 - 0.1 * k)
                synthetic.finish(store, synthetic.make_spec(method, priority, seed), values)
    _, section = section_of(store)
    told = words(section)
    assert "No curve of fixed is drawn: none of its points is better than the reference" in told
    assert "No interval for lsb: all 3 seeds agree" in told
    # Nothing is said to reach a hypervolume of 0.
    (match,) = section.values["matches"]
    assert (match.arm, match.num_runs, match.interval, match.num_agreeing) == (
        "fixed",
        None,
        None,
        3,
    )
    assert (
        "fixed does not reach the whole grid of lsb with as many runs (all 3 seeds agree)" in told
    )
    names = {m.name for p in section.figures[0].panels for m in p.marks if isinstance(m, Line)}
    assert names == {"lsb"}
    table = next(t for t in section.tables if t.name == "runs_to_match")
    assert table.rows[0][4] == "all 3 seeds agree"
