"""The section on three tasks and more: what is drawn is what was computed."""

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.compute.findings import Findings, find
from analysis.compute.ternary import differences, in_triangle, winners
from analysis.load.axes import choose_axes
from analysis.load.matched import by_point
from analysis.load.run_files import NO_FILES
from analysis.load.table import load_table
from analysis.render.panels import ColouredPoints, Figure, Label, Line, Points
from analysis.render.section import Folded
from analysis.sections.many_tasks import (
    MOST_ARMS,
    MOST_ARMS_IN_PAIRS,
    MOST_LINES,
    MOST_SETTINGS,
    many_tasks,
    parallel_places,
)

THREE = ("depth", "normal", "segmentation")
METRICS = {
    "depth": "depth_rmse",
    "normal": "normal_within_30",
    "segmentation": "segmentation_miou",
    "curvature": "curvature_l1",
    "reshading": "reshading_l1",
    "edge2d": "edge2d_l1",
    "edge3d": "edge3d_l1",
}


def findings_of(tmp_path, tasks=THREE, methods=("lsb", "fixed"), divisions=5, seeds=2, **changes):
    generator = np.random.default_rng(21)
    lattice = [
        np.array(parts) / sum(parts)
        for parts in itertools.product(range(1, divisions), repeat=len(tasks))
        if sum(parts) == divisions + len(tasks) - 3
    ]
    rows = []
    for method, seed in itertools.product(methods, range(seeds)):
        for priorities in lattice if method != "equal" else [None]:
            row = {"method": method, "seed": seed}
            for k, task in enumerate(tasks):
                row[f"priority_{task}"] = None if priorities is None else priorities[k]
                row[METRICS[task]] = generator.random()
            rows.append(row | changes)
    path = tmp_path / "runs.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    loaded = load_table(path)
    return find(loaded, choose_axes(loaded.tasks, {"depth": "rmse"}))


def figures_of(findings: Findings) -> dict[str, Figure]:
    section = many_tasks(findings, NO_FILES)
    assert section is not None
    return {figure.name: figure for figure in section.figures}


def words_of(findings: Findings) -> str:
    section = many_tasks(findings, NO_FILES)
    assert section is not None
    return " ".join([section.lead, *(p for p in section.parts if isinstance(p, str))])


def marks(panel, kind):
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def test_values_stand_at_their_priorities_in_display_units(tmp_path):
    findings = findings_of(tmp_path)
    figure = figures_of(findings)["ternary_values"]
    assert [p.title for p in figure.panels][:2] == ["lsb: depth rmse", "lsb: normal within_30"]
    assert len(figure.panels) == 6
    for panel, (arm, k) in zip(
        figure.panels, itertools.product(("lsb", "fixed"), range(3)), strict=True
    ):
        mine = [p for p in findings.points if p.arm == arm]
        (drawn,) = marks(panel, ColouredPoints)
        places = in_triangle(np.array([p.priorities for p in mine]))
        assert np.stack([drawn.x, drawn.y], axis=1) == pytest.approx(places, abs=1e-5)
        factor = findings.axes[k].metric.display_factor
        assert drawn.values == pytest.approx([p.means[k] * factor for p in mine])
        assert drawn.limits[0] <= min(drawn.values)
        assert drawn.limits[1] >= max(drawn.values)
        assert panel.is_equal
        assert not panel.x.is_shown
        assert {label.text for label in marks(panel, Label)} == set(THREE)
    # One colour scale a metric.
    assert figure.panels[0].marks[-4].limits == figure.panels[3].marks[-4].limits


def test_differences_and_winners_are_those_computed(tmp_path):
    findings = findings_of(tmp_path)
    section = many_tasks(findings, NO_FILES)
    runs = by_point(findings.runs, THREE, [axis.column for axis in findings.axes])
    found = differences(runs, "lsb", "fixed", findings.axes)
    figures = figures_of(findings)
    for k, panel in enumerate(figures["ternary_difference_0_1"].panels):
        (drawn,) = marks(panel, ColouredPoints)
        factor = findings.axes[k].metric.display_factor
        assert drawn.values == pytest.approx([d.gains[k] * factor for d in found])
        assert drawn.limits[0] == -drawn.limits[1]
    for k, panel in enumerate(figures["ternary_winners"].panels):
        computed = winners(runs, ["lsb", "fixed"], findings.axes, k)
        drawn = {
            (x, y): (points.name, points.size)
            for points in marks(panel, Points)
            for x, y in zip(points.x, points.y, strict=True)
        }
        places = in_triangle(np.array([w.priorities for w in computed])).round(5)
        assert len(drawn) == len(computed)
        for place, won in zip(map(tuple, places.tolist()), computed, strict=True):
            name, size = drawn[place]
            assert name == won.arm
            assert (size == 16.0) == (won.agreeing == 1)
    ahead = sum(d.gains[0] > 0 for d in found)
    assert (
        f"Of {len(found)} priorities that both ran, lsb is better than fixed in depth rmse at "
        in (section.lead)
    )
    assert f"rmse at {ahead} " in section.lead
    table = next(t for t in section.tables if t.name == "ternary_difference_0_1")
    assert table.raw["depth_rmse_gain"].tolist() == [d.gains[0] for d in found]


def test_pairs_and_parallel_lines_hold_every_mean(tmp_path):
    findings = findings_of(tmp_path, methods=("lsb", "fixed", "equal"))
    figures = figures_of(findings)
    pairs = figures["metric_pairs"].panels
    assert [panel.name for panel in pairs] == ["pair_0_1", "pair_0_2", "pair_1_2"]
    # depth rmse is better when lower, so its axis runs from high to low.
    assert pairs[0].x.limits[0] > pairs[0].x.limits[1]
    assert pairs[0].y.limits[0] < pairs[0].y.limits[1]
    drawn = {(x, y) for m in marks(pairs[0], Points) for x, y in zip(m.x, m.y, strict=True)}
    expected = {(p.means[0], p.means[1] * 100) for p in findings.points}
    assert sorted(drawn) == [pytest.approx(pair, rel=1e-5) for pair in sorted(expected)]
    (panel,) = figures["parallel_coordinates"].panels
    lines = [line for line in marks(panel, Line) if line.name]
    assert len(lines) == len(findings.points)
    assert {line.dash for line in lines} == {"solid", "dash", "dot"}
    places = np.array([line.x for line in lines])
    assert places.min(axis=0).tolist() == [0, 0, 0]
    assert places.max(axis=0).tolist() == [1, 1, 1]
    assert all(line.y == (0, 1, 2) for line in lines)
    best = min(findings.points, key=lambda p: p.means[0])
    assert (1.03, 0.0, f"{best.means[0]:.3f}") in [
        (label.x, label.y, label.text) for label in marks(panel, Label)
    ]


def test_places_by_hand():
    best, worst = np.array([-0.8, 1.0, 2.0]), np.array([-0.4, 3.0, 2.0])
    # (-0.4 - -0.5) / 0.4 = 0.25 of the way up; the best; a constant metric half way.
    places = parallel_places(np.array([-0.5, 1.0, 2.0]), best, worst)
    assert places == pytest.approx([0.25, 1.0, 0.5])


def test_two_tasks_and_no_results_have_no_section(tmp_path):
    assert many_tasks(findings_of(tmp_path, THREE[:2]), NO_FILES) is None
    empty = findings_of(tmp_path, segmentation_miou=np.inf)
    assert empty.points == ()
    assert many_tasks(empty, NO_FILES) is None


def test_more_tasks_have_no_triangles_and_at_most_six_in_small_plots(tmp_path):
    findings = findings_of(tmp_path, tuple(METRICS), divisions=5)
    figures = figures_of(findings)
    assert set(figures) == {"metric_pairs", "parallel_coordinates"}
    assert len(figures["metric_pairs"].panels) == 15
    words = words_of(findings)
    assert "Triangles of priorities need exactly three tasks; these runs have 7." in words
    assert "the first 6 of 7 tasks" in words


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 1}, "One seed at each priority: a winner here may be luck."),
        ({"methods": ("lsb", "equal")}, "lsb alone takes priorities"),
        ({"methods": ("equal",)}, "no method here takes priorities"),
        ({"divisions": 3}, "Of 1 priority that"),
        ({"depth_rmse": 0.5}, "depth rmse is the same at every point"),
    ],
)
def test_poor_results_are_shown_for_what_they_are(tmp_path, changes, said):
    assert said in words_of(findings_of(tmp_path, **changes))


def test_methods_without_common_priorities(tmp_path):
    path = tmp_path / "runs.csv"
    rows = [
        {"method": m, "seed": 0, **{f"priority_{t}": p for t, p in zip(THREE, ps, strict=True)},
         **{METRICS[t]: 0.5 for t in THREE}}
        for m, ps in (("lsb", (0.2, 0.2, 0.6)), ("fixed", (0.6, 0.2, 0.2)))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    loaded = load_table(path)
    words = words_of(find(loaded, choose_axes(THREE, {"depth": "rmse"})))
    assert "lsb and fixed share no priority and seed" in words
    assert "No winner is drawn" in words


def test_many_methods_and_priorities_are_bounded_in_words(tmp_path):
    methods = tuple(f"method{k}" for k in range(12))
    findings = findings_of(tmp_path, methods=methods, divisions=12, seeds=1)
    figures = figures_of(findings)
    assert len(figures["ternary_values"].panels) == 3 * MOST_ARMS
    arms = {points.name for points in marks(figures["metric_pairs"].panels[0], Points)}
    assert len(arms) == MOST_ARMS_IN_PAIRS
    lines = marks(figures["parallel_coordinates"].panels[0], Line)
    assert len([line for line in lines if line.name]) <= MOST_LINES
    words = words_of(findings)
    for said in ("the first 4 of 12 methods", "the first 8 of 12 methods", "3 of 66 pairs"):
        assert said in words


def test_many_priorities_are_thinned(tmp_path):
    findings = findings_of(tmp_path, divisions=40, seeds=1)
    figures = figures_of(findings)
    (drawn,) = marks(figures["ternary_values"].panels[0], ColouredPoints)
    assert len(drawn.x) == MOST_SETTINGS
    assert f"{MOST_SETTINGS} of up to 741 priorities are drawn" in figures["ternary_values"].caption
    section = many_tasks(findings, NO_FILES)
    (table,) = [t for t in section.tables if t.name == "ternary_winners"]
    assert len(table.raw) == 741


def test_names_are_unique_and_plain(tmp_path):
    findings = findings_of(tmp_path, methods=("<script>alert(1)</script>", "a_$x$"))
    section = many_tasks(findings, NO_FILES)
    names = [p.name for f in section.figures for p in f.panels] + [t.name for t in section.tables]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in names)
    assert any(isinstance(part, Folded) for part in section.parts)
