"""The section on budgets shows the computed values, or why it does not."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.compute.fronts import hypervolume, means_of
from analysis.load.run_files import NO_FILES
from analysis.render.panels import Line
from analysis.sections.budget import compute_budget
from mtl.records import Result
from mtl.store import Store
from tests.analysis.conftest import findings_of
from tests.analysis.made_findings import front_rows, made_findings, words


def section_of(store):
    findings = findings_of(store)
    return findings, compute_budget(findings, NO_FILES)


@pytest.fixture
def three_seeds(store, synthetic) -> Store:
    synthetic.fill(store, seeds=3)
    return store


def test_curves_end_at_the_hypervolume_of_the_report(three_seeds):
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
        (line,) = [m for m in figure.panels[0].marks if isinstance(m, Line) and m.name == arm]
        assert (line.x, line.y) == (curve["num_runs"], curve["expected"])
    assert section.values["matches"][0].arm == "lsb"
    table = next(t for t in section.tables if t.name == "budget_curves")
    assert len(table.rows) == 10
    assert table.raw["low"].notna().all()
    # Device seconds of a run are 17.25.
    hours = (table.raw["num_runs"] * 17.25 / 3600).tolist()
    assert table.raw["device_hours"].tolist() == pytest.approx(hours)


def test_seconds_of_runs_that_trained_together_are_named_shares(three_seeds):
    assert "trained together" not in words(section_of(three_seeds)[1])
    for run_id in three_seeds.run_ids()[:4]:
        manifest = three_seeds.manifest(run_id)
        three_seeds.write_manifest(run_id, {**manifest, "execution": {"packed": 2}})
    text = "4 runs trained together with others in one process, so their seconds are shares"
    assert text in words(section_of(three_seeds)[1])


def test_many_runs_have_a_logarithmic_axis_with_ticks():
    section = compute_budget(made_findings(front_rows((17, 17))), NO_FILES)
    assert section.values["seconds"] is None, "these runs report none"
    scale = section.figures[0].panels[0].x
    assert scale.is_log
    assert [text for _, text in scale.ticks] == ["20", "30", "40", "50"]


def test_best_of_rival_is_chosen_on_validation(store, synthetic):
    for method in ("lsb", "fixed"):
        points = zip(synthetic.priorities, synthetic.means[method], strict=True)
        for k, (priority, point) in enumerate(points):
            values = synthetic.depth_and_segmentation(*point)
            run_id = synthetic.finish(store, synthetic.make_spec(method, priority, 0), values)
            # On validation the last of the grid is best by far.
            better = synthetic.depth_and_segmentation(0.1 + 0.2 * k, 0.1 + 0.2 * k)
            metrics = {"validation": better, "test": values}
            store.write_result(Result(run_id, "done", 12, "last", 12, metrics, metrics))
    findings, section = section_of(store)
    (question,) = section.values["untuned"]
    assert (question.chosen, question.chosen_on) == (4, "validation")
    lsb = next(p for p in findings.points if (p.arm, p.priorities) == ("lsb", (0.5, 0.5)))
    fixed = [p for p in findings.points if p.arm == "fixed"][4]
    table = next(t for t in section.tables if t.name == "untuned").raw
    assert table["difference"].tolist() == pytest.approx(np.subtract(lsb.means, fixed.means))
    assert set(table["chosen_on"]) == {"validation"}
    others = [name for name in findings.runs if not name.startswith("validation_")]
    blind = compute_budget(replace(findings, runs=findings.runs[others]), NO_FILES)
    assert blind.values["untuned"][0].chosen_on == "test"
    assert "chosen on the test split" in blind.lead


def test_one_seed_has_no_interval(store, synthetic):
    synthetic.fill(store, seeds=1)
    _, section = section_of(store)
    assert section.values["curves"][0]["interval"] is None
    table = next(t for t in section.tables if t.name == "budget_curves")
    assert "A dash: fewer than 3 seeds" in table.caption
    assert section.values["untuned"][0].metrics[0].interval is None


def test_unequal_grids_are_not_matched(store, synthetic):
    synthetic.fill(store, seeds=3, skip=lambda s: s.method == "fixed" and s.priorities[0] > 0.8)
    _, section = section_of(store)
    assert section.values["matches"] == []
    assert "more points alone raise a hypervolume" in words(section)
    assert len(section.values["curves"]) == 2


def test_method_with_an_incomplete_seed_is_not_matched(store, synthetic):
    synthetic.fill(
        store,
        seeds=3,
        skip=lambda s: (s.method, s.seed) == ("lsb", 2) and s.priorities[0] > 0.8,
    )
    _, section = section_of(store)
    curve = section.values["curves"][0]
    assert (curve["arm"], curve["num_seeds"]) == ("lsb", 2)
    assert "4 runs of lsb are left out" in words(section)
    assert "their seeds that are done at every priority differ" in words(section)


def test_methods_without_priorities_have_seconds_and_no_curve(store, synthetic):
    for seed in range(2):
        for method in ("equal", "dwa"):
            values = synthetic.depth_and_segmentation(0.7, 0.6)
            synthetic.finish(store, synthetic.make_spec(method, None, seed), values)
    _, section = section_of(store)
    assert section.values["curves"] == []
    assert [held.arm for held in section.values["seconds"].arms] == ["equal", "dwa"]
    assert section.values["untuned"] == []


def test_overhead_is_relative_to_fixed(three_seeds):
    _, section = section_of(three_seeds)
    fixed, lsb = section.values["seconds"].arms
    assert (fixed.arm, lsb.arm, lsb.num_runs) == ("fixed", "lsb", 15)
    # 17.25 seconds for 12 epochs, in every run.
    assert lsb.seconds == pytest.approx((17.25 / 12,) * 3)
    table = next(t for t in section.tables if t.name == "overhead")
    assert table.rows[1][1:] == ("15", "1.44", "1.44 to 1.44", "1.000")


def test_front_below_the_baseline_has_a_curve(store, synthetic):
    for method, shift in (("lsb", 0.0), ("fixed", -0.5)):
        for k, priority in enumerate(synthetic.priorities):
            # fixed is worse than the per-pixel prior (0.547) on depth.
            values = synthetic.depth_and_segmentation(0.7 + shift, 0.8 - 0.1 * k)
            synthetic.finish(store, synthetic.make_spec(method, priority, 0), values)
    _, section = section_of(store)
    matches = {match.arm: match.num_runs for match in section.values["matches"]}
    assert matches["fixed"] is None
    assert matches["lsb"] is not None
    assert "fixed does not reach the whole grid of lsb with as many runs" in section.lead
    lines = [m for m in section.figures[0].panels[0].marks if isinstance(m, Line)]
    assert {line.name for line in lines} == {"lsb", "fixed"}
