"""Figures hold the computed values, labels cover nothing, colours are legible."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.path import Path

from analysis.load.runs import load_stores
from analysis.page import build, environment
from analysis.render.labels import MAX_COVERED, around, overlaps, text_size
from analysis.render.panels import DARK, LIGHT, SYMBOLS, Area, Arrow, Callout, Rule, Style
from analysis.render.paper import MARKERS
from analysis.render.plotly_json import plotly_values
from analysis.sections.operating_points import (
    Plane,
    operating_point_figures,
)
from mtl.spec import RunSpec
from mtl.spec.methods import METHODS, OWN_METHODS
from mtl.spec.sections import TASKS
from tests.analysis.conftest import depth_and_segmentation, fill, findings_of, finish, make_spec
from tests.metrics import METRICS, PLOTTED_METRIC


def values_of(tasks, generator) -> dict:
    """Return plausible test metrics of these tasks, all of their plotted ones."""
    values = {}
    for task in tasks:
        name = PLOTTED_METRIC[task]
        scale = 0.001 if METRICS[name].direction == "min" else 1.0
        values[task] = {name: float(generator.uniform(0.4, 0.6) * scale)}
    return values


def arrow_of(layout) -> Callout:
    return next(callout for callout in layout.callouts if callout.text == "better")


def test_axis_is_reversed_where_lower_is_better(full_store):
    by_rmse, by_delta1 = findings_of(full_store, depth="rmse"), findings_of(full_store)
    # The synthetic rmse is 1.5 - delta1 and its prior 1.2, so ranks agree.
    assert [p.nondominated for p in by_rmse.points] == [p.nondominated for p in by_delta1.points]
    assert by_rmse.reference.point[0] > by_rmse.runs["depth_rmse"].max()
    figure = operating_point_figures(by_rmse)[0]
    panel = figure.panels[0]
    arrow = arrow_of(panel.layouts[0])
    worse, better = panel.x.limits
    assert worse > 1.2 > better
    assert arrow.x < (worse + better) / 2, "better is right and up, whatever the metric"
    assert arrow.y > sum(panel.y.limits) / 2
    assert arrow.offset[0] < 0 < arrow.offset[1], "the arrow comes from lower left"
    assert "lower is better (reversed)" in panel.x.title
    low, high = panel.y.limits
    assert low < high
    assert "reversed" not in panel.y.title


def drawn(figure) -> dict[str, object]:
    """Return the named marks of a figure."""
    return {mark.name: mark for mark in figure.panels[0].marks if getattr(mark, "name", "")}


def rules(figure) -> list[Rule]:
    return [mark for mark in figure.panels[0].marks if isinstance(mark, Rule)]


def test_figure_draws_the_computed_values(full_store):
    findings = findings_of(full_store)
    (figure,) = operating_point_figures(findings)
    marks = drawn(figure)
    for arm in ("lsb", "fixed"):
        mine = [p for p in findings.points if p.arm == arm]
        means = marks[arm]
        assert list(means.x) == [p.means[0] * 100 for p in mine]
        assert list(means.y) == [p.means[1] * 100 for p in mine]
        assert list(means.errors_x) == [p.sds[0] * 100 for p in mine]
        runs = findings.runs[findings.runs["arm"] == arm]
        singles = marks[f"{arm}, single seeds"]
        assert list(singles.y) == (runs["segmentation_miou"] * 100).tolist()
        corners = Plane(findings, (0, 1)).staircase(arm)
        steps = marks[f"{arm}, nondominated"]
        assert list(zip(steps.x, steps.y, strict=True)) == corners
    assert [(rule.axis, rule.value) for rule in rules(figure)] == [
        ("x", pytest.approx(54.7)),
        ("y", pytest.approx(27.9)),
    ]
    values = plotly_values(figure.panels[0])
    lines = [trace for trace in values["data"] if trace["mode"] == "lines"]
    assert all(trace["line"]["simplify"] is False for trace in lines)
    assert [v["min_width"] for v in values["variants"]] == [320, 600, 900]


def attained(findings, arm: str, places: np.ndarray) -> list[float]:
    """Return the share of an arm's seeds with a run at least as good as each place, in percent."""
    runs = findings.runs[findings.runs["arm"] == arm]
    values = runs[["depth_delta1", "segmentation_miou"]].to_numpy() * 100
    good = (values >= places[:, None]).all(axis=2)
    seeds = runs["seed"].to_numpy()
    return np.mean([good[:, seeds == s].any(axis=1) for s in np.unique(seeds)], axis=0).tolist()


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Return whether a place lies below a staircase, for axes where more is better."""
    return any(x <= cx and y <= cy for cx, cy in corners)


@pytest.mark.parametrize("seeds", [2, 3])
def test_band_and_median_are_what_the_seeds_attain(store, seeds):
    fill(store, seeds=seeds)
    findings = findings_of(store)
    (figure,) = operating_point_figures(findings)
    marks = drawn(figure)
    print("seed 8")
    generator = np.random.default_rng(8)
    worst = 100 * np.array(findings.reference.point)
    places = generator.uniform(worst, (95, 95), (200, 2))
    for arm in ("lsb", "fixed"):
        band = Path(list(zip(marks[f"{arm}, 25 to 75 % of seeds"].x,
                             marks[f"{arm}, 25 to 75 % of seeds"].y, strict=True)))  # fmt: skip
        shares = attained(findings, arm, places)
        for (x, y), share in zip(places, shares, strict=True):
            assert band.contains_point((x, y)) == (0.25 <= share < 0.75), (arm, x, y, share)
        if seeds > 2:
            median = marks[f"{arm}, median attainment"]
            corners = list(zip(median.x, median.y, strict=True))
            for (x, y), share in zip(places, shares, strict=True):
                assert inside(x, y, corners) == (share >= 0.5)
        else:
            assert f"{arm}, median attainment" not in marks
    assert f"Bands of lsb ({seeds}) and fixed ({seeds}) seeds" in figure.caption


def test_one_seed_has_no_band(store):
    fill(store, seeds=1)
    (figure,) = operating_point_figures(findings_of(store))
    assert not [mark for mark in figure.panels[0].marks if isinstance(mark, Area)]
    assert "Bands" not in figure.caption


def test_arrows_lead_from_fixed_to_lsb(full_store):
    findings = findings_of(full_store)
    (figure,) = operating_point_figures(findings)
    arrows = [mark for mark in figure.panels[0].marks if isinstance(mark, Arrow)]
    points = {(p.arm, p.priorities): tuple(v * 100 for v in p.means) for p in findings.points}
    settings = {priorities for _, priorities in points}
    expected = {(points["fixed", p], points["lsb", p]) for p in settings}
    found = {((a.x[0], a.y[0]), (a.x[1], a.y[1])) for a in arrows}
    assert found == expected
    ranges = [(0.0, 10_000.0)] * 2
    assert Plane(findings, (0, 1)).arrows(ranges) == [], "there they nearly coincide"
    # A second arm of fixed's rival: which one an arrow would mean is open.
    values = depth_and_segmentation(0.7, 0.6)
    other = make_spec("lsb", 0.5, 0, method_options={"increase_rate": 0.5})
    finish(full_store, other, values)
    (figure,) = operating_point_figures(findings_of(full_store))
    assert not [mark for mark in figure.panels[0].marks if isinstance(mark, Arrow)]


def test_arrow_to_better_leaves_its_corner_to_the_points(store):
    def is_upper_right(shared: tuple[float, float]) -> list[bool]:
        for k, share in enumerate((0.25, 0.5, 0.75)):
            best = shared if k == 1 else (0.6 + 0.01 * k, 0.4 - 0.01 * k)
            values = depth_and_segmentation(*best)
            finish(store, make_spec("lsb", share, 0), values)
        (figure,) = operating_point_figures(findings_of(store))
        (panel,) = figure.panels
        return [arrow_of(of).x > sum(panel.x.limits) / 2 for of in panel.layouts]

    # One point is best on both axes, so it stands in the upper right corner.
    assert is_upper_right((0.95, 0.95)) == [False] * 3
    assert is_upper_right((0.6, 0.41)) == [True] * 3


def test_quick_results_lie_under_neither_arrow_nor_text(store):
    # As of the quick sweep: few weak points, far below a baseline that is good on both axes.
    values = {0.25: (0.249, 0.067), 0.5: (0.385, 0.069), 0.75: (0.279, 0.067)}
    for share, pair in values.items():
        finish(store, make_spec("lsb", share, 0), depth_and_segmentation(*pair))
    prior = {"depth_delta1": 0.568, "segmentation_miou": 0.271}
    (figure,) = operating_point_figures(replace(findings_of(store), prior=prior))
    (panel,) = figure.panels
    (x0, x1), (y0, y1) = panel.x.limits, panel.y.limits
    assert {rule.text_at for rule in rules(figure)} == {"start"}, "apart, not both in one corner"
    for layout in panel.layouts:
        left, top, right, bottom = layout.inner
        arrow, reach = arrow_of(layout), 3.2 * layout.font
        for x, y in values.values():
            across = (100 * x - arrow.x) / (x1 - x0) * (right - left)
            down = (arrow.y - 100 * y) / (y1 - y0) * (bottom - top)
            assert not (-1.8 * reach < across < 0 and 0 < down < reach)


def test_single_task_runs_are_lines(full_store):
    findings = findings_of(full_store)
    baselines = {"depth_delta1": {0: 0.8, 1: 0.9}, "segmentation_miou": {0: 0.95}}
    findings = replace(findings, baselines=baselines)
    (figure,) = operating_point_figures(findings)
    alone = [(r.axis, r.value) for r in rules(figure) if r.dash == "longdash"]
    assert alone == [("x", pytest.approx(85)), ("y", pytest.approx(95))]
    low, high = figure.panels[0].y.limits
    assert low < 95 < high
    texts = {rule.text for rule in rules(figure)}
    assert {"single task 85.0 %", "single task 95.0 %"} <= texts
    assert "train that task alone" in figure.caption


def test_labels_cover_neither_each_other_nor_points(full_store):
    (figure,) = operating_point_figures(findings_of(full_store))
    (panel,) = figure.panels
    (x0, x1), (y0, y1) = panel.x.limits, panel.y.limits
    for layout in panel.layouts:
        left, top, right, bottom = layout.inner
        boxes, means = [], []
        for label in layout.callouts:
            if label.text.startswith("("):
                x = left + (label.x - x0) / (x1 - x0) * (right - left)
                y = bottom - (label.y - y0) / (y1 - y0) * (bottom - top)
                width, height = text_size(label.text, layout.font)
                means.append(around(x, y, 5.5, 5.5))
                x, y = x + label.offset[0], y + label.offset[1]
                boxes.append(around(x, y, width / 2, height / 2))
        assert len(boxes) == 10
        placed, markers = np.array(boxes), np.array(means)
        shared = overlaps(placed, placed)
        assert shared.sum() == pytest.approx(np.trace(shared))
        assert overlaps(placed, markers).sum() == 0, layout
        assert (placed[:, 0] >= 0).all()
        assert (placed[:, 2] <= layout.min_width).all()


def contrast(a: str, b: str) -> float:
    """Return the contrast ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_are_legible_on_their_paper(palette):
    paper = palette[-1]
    assert min(contrast(colour, paper) for colour in palette[:6]) >= 3.0
    assert min(contrast(colour, paper) for colour in palette[6:8]) >= 4.5
    assert len(set(palette)) == len(palette), "the page exchanges colours one by one"


def test_styles_of_many_arms_differ():
    styles = [Style(number) for number in range(78)]
    assert len({(style.colour, style.symbol) for style in styles}) == 78
    assert len({(style.colour, style.dash) for style in styles[:30]}) == 30
    assert len(METHODS) <= 78, "every method at once"
    assert len(OWN_METHODS) <= len(SYMBOLS) == len(MARKERS), "where colours say another thing"
    glyph = environment().get_template("parts.html.j2").module.glyph
    assert len({str(glyph(symbol)) for symbol in SYMBOLS}) == len(SYMBOLS)


def test_every_method_at_once_has_its_own_style(store):
    print("seed 5")
    generator = np.random.default_rng(5)
    methods = {m: needs for m, needs in METHODS.items() if needs.min_tasks <= 2}
    for method, needs in methods.items():
        for share in (0.25, 0.5, 0.75) if needs.takes_priorities else (None,):
            values = depth_and_segmentation(*generator.uniform(0.5, 0.8, 2))
            finish(store, make_spec(method, share, 0), values)
    findings = findings_of(store)
    assert set(findings.arms) == set(methods)
    assert set(findings.single_points) == {m for m in methods if not METHODS[m].takes_priorities}
    (figure,) = operating_point_figures(findings)
    means = [mark for name, mark in drawn(figure).items() if name in methods]
    assert len({(m.style.colour, m.style.symbol) for m in means}) == len(methods)
    for layout in figure.panels[0].layouts:
        texts = [callout.text for callout in layout.callouts if not callout.has_head]
        best = {p.arm for p in findings.points if p.nondominated and p.priorities is None}
        assert best <= set(texts), "nondominated points are labelled first"
        covered = sum(np.prod(text_size(text, layout.font)) for text in texts)
        left, top, right, bottom = layout.inner
        assert covered <= MAX_COVERED * (right - left) * (bottom - top)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_each_pair_of_tasks_has_a_figure(store, number):
    print("seed 6")
    generator = np.random.default_rng(6)
    tasks = TASKS[-number:]
    raised = [tuple(2.0 if i == k else 1.0 for i in range(number)) for k in range(min(number, 3))]
    for method in ("lsb", "fixed", "equal"):
        grid = [tuple(v / sum(row) for v in row) for row in raised]
        for priorities in grid if method != "equal" else [None]:
            spec = RunSpec(method=method, tasks=tasks, priorities=priorities, epochs=12)
            finish(store, spec, values_of(tasks, generator), manifest={})
    findings = findings_of(store)
    figures = operating_point_figures(findings)
    pairs = itertools.combinations(tasks, 2)
    assert [f.name for f in figures] == [f"operating_points_{x}_{y}" for x, y in pairs]
    for figure in figures:
        for axis in (figure.panels[0].x, figure.panels[0].y):
            worse, better = axis.limits
            assert (worse > better) == ("lower is better" in axis.title)
        if "keypoint2d" in figure.panels[0].y.title:
            assert figure.panels[0].layouts[0].left > 46, "ticks of 0.0005 are longer than of 50"
    built = build(load_stores([store]))
    assert ("more pairs of tasks" in built.html) == (len(figures) > 6)
    assert built.html.count('id="figure-operating_points_') == len(figures)
    json.dumps(built.summary, allow_nan=False)
