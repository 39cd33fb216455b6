"""The section on three tasks and more: what is drawn is what was computed."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from analysis.compute.findings import Findings, find
from analysis.load.axes import choose_axes
from analysis.load.matched import by_point
from analysis.load.run_files import NO_FILES
from analysis.load.table import load_table
from analysis.render.panels import ColouredPoints, Figure, Label, Points
from analysis.sections.many_tasks import (
    MAX_METHODS,
    MAX_SETTINGS,
    MAX_TRIANGLE_METHODS,
    differences,
    in_triangle,
    many_tasks,
)
from tests.analysis.made_findings import words

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
        assert drawn.bar.limits[0] <= min(drawn.values)
        assert drawn.bar.limits[1] >= max(drawn.values)
        assert panel.is_equal
        assert not panel.x.is_shown
        assert {label.text for label in marks(panel, Label)} == set(THREE)
    # One colour scale a metric.
    assert figure.panels[0].marks[-4].bar.limits == figure.panels[3].marks[-4].bar.limits


def test_differences_are_those_computed(tmp_path):
    findings = findings_of(tmp_path)
    section = many_tasks(findings, NO_FILES)
    runs = by_point(findings.runs, THREE, [axis.column for axis in findings.axes])
    found = differences(runs, "lsb", "fixed", findings.axes)
    for k, panel in enumerate(figures_of(findings)["ternary_difference_0_1"].panels):
        (drawn,) = marks(panel, ColouredPoints)
        factor = findings.axes[k].metric.display_factor
        assert drawn.values == pytest.approx([d.gains[k] * factor for d in found])
        assert drawn.bar.limits[0] == -drawn.bar.limits[1]
    ahead = sum(d.gains[0] > 0 for d in found)
    assert section.lead.startswith(
        f"Of {len(found)} priorities that both ran, lsb is better than fixed in depth rmse at "
        f"{ahead} "
    )
    (table,) = section.tables
    assert table.name == "ternary_difference_0_1"
    assert table.raw["depth_rmse_gain"].tolist() == [d.gains[0] for d in found]


def test_pairs_hold_every_mean(tmp_path):
    findings = findings_of(tmp_path, methods=("lsb", "fixed", "equal"))
    pairs = figures_of(findings)["metric_pairs"].panels
    assert [panel.name for panel in pairs] == ["pair_0_1", "pair_0_2", "pair_1_2"]
    # depth rmse is better when lower, so its axis runs from high to low.
    assert pairs[0].x.limits[0] > pairs[0].x.limits[1]
    assert pairs[0].y.limits[0] < pairs[0].y.limits[1]
    drawn = {(x, y) for m in marks(pairs[0], Points) for x, y in zip(m.x, m.y, strict=True)}
    expected = {(p.means[0], p.means[1] * 100) for p in findings.points}
    assert sorted(drawn) == [pytest.approx(pair, rel=1e-5) for pair in sorted(expected)]


def test_two_tasks_and_no_results_have_no_section(tmp_path):
    assert many_tasks(findings_of(tmp_path, THREE[:2]), NO_FILES) is None
    empty = findings_of(tmp_path, segmentation_miou=np.inf)
    assert empty.points == ()
    assert many_tasks(empty, NO_FILES) is None


def test_more_than_three_tasks_have_no_triangles(tmp_path):
    figures = figures_of(findings_of(tmp_path, tuple(METRICS), divisions=5))
    assert set(figures) == {"metric_pairs"}
    assert len(figures["metric_pairs"].panels) == 15
    assert "The first 6 of 7 tasks are shown." in figures["metric_pairs"].caption


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"methods": ("lsb", "equal")}, "lsb alone takes priorities"),
        ({"methods": ("equal",)}, "no method here takes priorities"),
        ({"divisions": 3}, "Of 1 priority that"),
    ],
)
def test_undrawn_comparisons_are_explained(tmp_path, changes, text):
    assert text in words(many_tasks(findings_of(tmp_path, **changes), NO_FILES))


def test_methods_without_common_priorities(tmp_path):
    path = tmp_path / "runs.csv"
    rows = [
        {"method": m, "seed": 0, **{f"priority_{t}": p for t, p in zip(THREE, ps, strict=True)},
         **{METRICS[t]: 0.5 for t in THREE}}
        for m, ps in (("lsb", (0.2, 0.2, 0.6)), ("fixed", (0.6, 0.2, 0.2)))
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    loaded = load_table(path)
    section = many_tasks(find(loaded, choose_axes(THREE, {"depth": "rmse"})), NO_FILES)
    assert "lsb and fixed share no priority and seed" in words(section)


def test_many_methods_and_priorities_are_bounded_in_words(tmp_path):
    methods = tuple(f"method{k}" for k in range(10))
    findings = findings_of(tmp_path, methods=methods, divisions=27, seeds=1)
    section = many_tasks(findings, NO_FILES)
    figures = {figure.name: figure for figure in section.figures}
    values, pairs = figures["ternary_values"], figures["metric_pairs"]
    assert len(values.panels) == 3 * MAX_TRIANGLE_METHODS
    assert "The first 4 of 10 methods are shown." in values.caption
    (drawn,) = marks(values.panels[0], ColouredPoints)
    assert len(drawn.x) == MAX_SETTINGS
    assert f"{MAX_SETTINGS} of up to 325 priorities are drawn" in values.caption
    assert len({points.name for points in marks(pairs.panels[0], Points)}) == MAX_METHODS
    assert "The first 8 of 10 methods are shown." in pairs.caption
    assert "The first 3 of 45 pairs of methods are shown." in words(section)


def test_names_are_unique_and_plain(tmp_path):
    findings = findings_of(tmp_path, methods=("<script>alert(1)</script>", "a_$x$"))
    section = many_tasks(findings, NO_FILES)
    names = [p.name for f in section.figures for p in f.panels] + [t.name for t in section.tables]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in names)


TRIO = choose_axes(("depth", "normal", "segmentation"), {"depth": "rmse"})
# depth rmse counts downwards, the other two upwards.
P, Q = (0.2, 0.3, 0.5), (0.6, 0.2, 0.2)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers)


RUNS = {
    ("lsb", P): {0: values(1.0, 0.5, 0.5), 1: values(2.0, 0.6, 0.5), 7: values(9.0, 0.0, 0.0)},
    ("fixed", P): {0: values(1.5, 0.4, 0.5), 1: values(1.0, 0.8, 0.5), 3: values(0.0, 1.0, 1.0)},
    ("lsb", Q): {0: values(1.0, 0.5, 0.5)},
    ("fixed", Q): {2: values(1.0, 0.5, 0.5)},
    ("equal", None): {0: values(1.0, 1.0, 1.0)},
}


def test_distance_to_the_opposite_side_is_the_priority():
    generator = np.random.default_rng(11)
    shares = generator.dirichlet((1, 1, 1), size=50)
    places = in_triangle(shares)
    height = math.sqrt(3) / 2
    assert places[:, 1] / height == pytest.approx(shares[:, 2])
    # Line through the second and third corner: sqrt(3) x + y = sqrt(3).
    distance = (math.sqrt(3) - math.sqrt(3) * places[:, 0] - places[:, 1]) / 2
    assert distance / height == pytest.approx(shares[:, 0])


def test_difference_over_the_seeds_of_both():
    (found,) = differences(RUNS, "lsb", "fixed", TRIO)
    assert found.priorities == P  # at the other priority no seed is shared
    assert found.seeds == (0, 1)
    # rmse falls from 1.5 to 1.0 (gain 0.5) and rises from 1.0 to 2.0 (-1.0): mean -0.25.
    # normal: 0.1 and -0.2, mean -0.05. segmentation: equal.
    assert found.gains == pytest.approx((-0.25, -0.05, 0.0))
    assert found.seeds_better == (0.5, 0.5, 0.5)
    (turned,) = differences(RUNS, "fixed", "lsb", TRIO)
    assert turned.gains == pytest.approx((0.25, 0.05, 0.0))
    assert differences(RUNS, "lsb", "equal", TRIO) == ()
    assert differences(RUNS, "lsb", "nobody", TRIO) == ()
