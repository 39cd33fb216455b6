"""Mixed networks in the report: drawn and said as such, and in no comparison of trained ones."""

import itertools
import json
from dataclasses import replace

import pytest

from analysis.load.run_files import NO_FILES
from analysis.render.panels import Line, Points
from analysis.reports import write_reports
from analysis.sections.dial import dial_section
from analysis.sections.operating_points import operating_point_figures
from analysis.sections.picker import picker
from analysis.sections.verdict import verdict
from mtl.spec import RunSpec, forked, mixed
from mtl.store import Store
from tests.analysis.conftest import depth_and_segmentation, findings_of, finish, make_spec
from tests.analysis.made_findings import words

FORKS = {0.25: (0.70, 0.80), 0.5: (0.78, 0.70), 0.75: (0.85, 0.50)}
"""Depth priority -> delta1 and miou."""
BETWEEN = {0.375: (0.745, 0.77), 0.625: (0.82, 0.62)}
METHODS, SEEDS = ("lsb", "fixed"), (0, 1)


def fork(method: str, priority: float, seed: int) -> RunSpec:
    return forked(make_spec(method, priority, seed), 6)


def fill(store: Store, *, with_mixed: bool) -> None:
    for method, seed in itertools.product(METHODS, SEEDS):
        shift = 0.01 * seed - 0.02 * (method == "fixed")
        for priority, (delta1, miou) in FORKS.items():
            values = depth_and_segmentation(delta1 + shift, miou + shift)
            finish(store, fork(method, priority, seed), values)
        for priority, (delta1, miou) in BETWEEN.items() if with_mixed else ():
            first, second = (fork(method, priority + d, seed) for d in (-0.125, 0.125))
            values = depth_and_segmentation(delta1 + shift, miou + shift)
            finish(store, mixed(first, second, 0.5), values)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "results")
    fill(store, with_mixed=True)
    return store


def test_mixed_networks_enter_no_comparison(store, tmp_path):
    alone = Store(tmp_path / "alone")
    fill(alone, with_mixed=False)
    both, forks = findings_of(store), findings_of(alone)
    for name in ("points", "reference", "hypervolumes", "comparisons", "spreads", "arms"):
        assert getattr(both, name) == getattr(forks, name), name
    assert list(both.runs["run_id"]) == list(forks.runs["run_id"])
    assert {point.arm for point in both.mixed_points} == {"lsb, mixed", "fixed, mixed"}
    assert len(both.mixed_points) == 4
    said, expected = verdict(both), verdict(forks)
    assert (said.headline, said.statements) == (expected.headline, expected.statements)
    (added,) = {*said.caveats} - {*expected.caveats}
    assert added.startswith("4 points are of networks mixed between forks and not trained")


def test_front_is_drawn_through_forks_and_mixed_networks(store):
    findings = findings_of(store)
    (figure,) = operating_point_figures(findings)
    marks = figure.panels[0].marks
    line = next(m for m in marks if isinstance(m, Line) and m.name == "lsb, forks and mixed")
    factor = findings.axes[0].metric.display_factor
    ordered = dict(sorted((FORKS | BETWEEN).items()))
    assert line.x == pytest.approx([factor * (delta1 + 0.005) for delta1, _ in ordered.values()])
    styles = {m.name: m.style for m in marks if isinstance(m, Points) and m.opacity == 1}
    assert styles.keys() == {"lsb", "fixed", "lsb, mixed", "fixed, mixed"}
    assert styles["lsb, mixed"].colour == styles["lsb"].colour
    assert len({style.symbol for style in styles.values()}) == 4
    assert {key.text for key in figure.legend} == styles.keys()
    assert "not trained" in figure.caption


def test_section_says_what_mixed_networks_add(store):
    section = dial_section(findings_of(store), NO_FILES)
    assert section is not None
    lsb, fixed = section.values["dials"]
    assert (lsb.arm, fixed.arm) == ("lsb", "fixed")
    assert lsb.hypervolume > lsb.hypervolume_forks
    # Half-way the lines are at (.74, .75) and (.815, .6): better by (.005, .02) and (.005, .02).
    assert lsb.mean_gains == pytest.approx((0.005, 0.02))
    said = words(section)
    assert (
        f"hypervolume {lsb.hypervolume_forks:.4g} of 3 forks, {lsb.hypervolume:.4g} with 2" in said
    )
    assert "segmentation miou 2.00 points better (at worst +2.0)" in said
    (table,) = section.tables
    assert set(table.raw["method"]) == {"lsb, mixed", "fixed, mixed"}
    without = findings_of(store)
    assert dial_section(replace(without, mixed=without.mixed.iloc[:0]), NO_FILES) is None


def test_picker_offers_mixed_networks_as_such(store):
    section = picker(findings_of(store), NO_FILES)
    assert section is not None
    offered = {point["arm"] for point in section.data["points"]}
    assert offered == {"lsb", "lsb, mixed"}
    assert "Points called mixed are networks between two forks" in words(section)


def test_same_priorities_between_other_forks_count_once(store):
    first, second = (fork("lsb", priority, 0) for priority in (0.25, 0.75))
    wide = mixed(first, second, 0.25)  # at 0.375, as the network between nearer forks
    finish(store, wide, depth_and_segmentation(0.1, 0.1))
    findings = findings_of(store)
    assert wide.run_id() not in set(findings.mixed["run_id"])
    assert len(findings.mixed) == 2 * len(METHODS) * len(SEEDS)


def test_run_without_a_metric_is_left_out(store):
    spec = mixed(fork("lsb", 0.25, 7), fork("lsb", 0.5, 7), 0.5)
    finish(store, spec, depth_and_segmentation(None, 0.5))
    findings = findings_of(store)
    assert len(findings.mixed_points) == 4
    assert {s.run_id: s.state for s in findings.states}[spec.run_id()] == "excluded"


def test_report_is_one_page_with_its_label(store, tmp_path):
    (report,) = write_reports([store], tmp_path / "report").values()
    page = report.path.read_text("utf-8")
    assert "What lies between the forks?" in page
    assert "lsb, mixed" in page
    assert report.num_done == 2 * (6 + 4)
    summary = json.loads(report.path.with_name("summary.json").read_text("utf-8"))
    assert len(summary["mixed"]) == 8
    assert len(summary["mixed_points"]) == 4
