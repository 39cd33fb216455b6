"""Page and paper draw the values of a panel, whatever names hold; paper alike each time."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from analysis.page import as_png, embedded
from analysis.render.labels import labelled, text_size
from analysis.render.panels import (
    Area,
    Arrow,
    ColourBar,
    ColouredPoints,
    Drawn,
    Figure,
    Heatmap,
    Key,
    Label,
    Line,
    Panel,
    PictureRow,
    Pictures,
    Points,
    Rule,
    Scale,
    Style,
)
from analysis.render.paper import FORMATS, figure_files
from analysis.render.plotly_json import plotly_values
from analysis.render.scales import log_ticks

WICKED = "</script><script>alert(1)</script> $\\frac{a}{b$ & _x"
CELLS = np.array([[0.5], [np.nan]])
XS, YS = (1.0, 2.0), (3.0, 4.0)
MARKS: dict[str, Drawn] = {
    "points": Points(XS, YS, Style(1), WICKED, (WICKED, "b\nc"), errors_y=(0.1, 0.2)),
    "coloured": ColouredPoints(XS, YS, (-1.0, 0.5), ColourBar(WICKED, "diverging", (-1, 1))),
    "line": Line((1.0, 2.0, 2.0), (3.0, 3.0, 4.0), Style(2).colour, "dashdot", WICKED),
    "area": Area((1.0, 2.0, 2.0), (3.0, 3.0, 4.0), Style(2).colour),
    "heatmap": Heatmap((1.0, 1.5, 2.0), YS, CELLS, ColourBar(WICKED, "sequential", (0, 1))),
    "rule": Rule("x", 1.5, WICKED),
    "label": Label(1.5, 3.5, WICKED, anchor="left"),
    "arrow": Arrow((1.0, 2.0), (3.0, 4.0)),
}  # fmt: skip


def panel_of(*marks: Drawn, name: str = "panel", **scales) -> Panel:
    given = {"x": Scale(WICKED), "y": Scale("metres (m)"), **scales}
    return Panel(name, marks=marks, title=WICKED, **given)


def figure_of(*panels: Panel, **changes) -> Figure:
    return Figure("a_figure", WICKED, WICKED, panels, WICKED, **changes)


@pytest.mark.parametrize("kind", MARKS)
def test_page_holds_the_values_and_no_markup_of_names(kind):
    drawn = plotly_values(panel_of(MARKS[kind]))
    mark = MARKS[kind]
    variant = drawn["variants"][0]
    if isinstance(mark, Rule):
        assert [shape["x0"] for shape in drawn["layout"]["shapes"]] == [1.5]
    elif isinstance(mark, Label):
        assert (variant["layout"]["annotations"][0]["x"], mark.x) == (1.5, 1.5)
    elif isinstance(mark, Arrow):
        note = variant["layout"]["annotations"][0]
        assert (note["ax"], note["ay"], note["x"], note["y"]) == (1.0, 3.0, 2.0, 4.0)
    elif isinstance(mark, Heatmap):
        # Rows of plotly's heat map run along y; an empty cell is null.
        assert drawn["data"][0]["z"] == [[0.5, None]]
        assert (drawn["data"][0]["x"], drawn["data"][0]["y"]) == ([1.0, 1.5, 2.0], [3.0, 4.0])
    else:
        assert (drawn["data"][0]["x"], drawn["data"][0]["y"]) == (list(mark.x), list(mark.y))
    text = embedded(drawn)
    assert "<" not in text
    shown = json.loads(text)
    assert "<script>" not in json.dumps(shown), "plotly takes tags in its texts for its own"


def test_logarithmic_axes_take_logarithms_where_plotly_wants_them():
    panel = panel_of(
        Label(10.0, 100.0, "here"), Rule("y", 100.0, "rule"),
        x=Scale("x", (1.0, 1000.0), is_log=True), y=Scale("y", is_log=True),
    )  # fmt: skip
    drawn = plotly_values(panel)
    label, rule = drawn["variants"][0]["layout"]["annotations"]
    assert (label["x"], label["y"], rule["y"]) == (1.0, 2.0, 2.0)  # log10 of 10, 100, 100
    assert drawn["variants"][0]["layout"]["xaxis"]["range"] == [0.0, 3.0]
    assert drawn["layout"]["shapes"][0]["y0"] == 100.0, "shapes hold values, unlike annotations"


def test_paper_draws_every_kind():
    panels = [panel_of(mark, name=f"panel{number}") for number, mark in enumerate(MARKS.values())]
    legend = (Key("_hidden?", Style(0)), Key(WICKED, Style(1)))
    figure = figure_of(*panels, legend=legend, columns=3)
    files = figure_files(figure)
    assert set(files) == {f"a_figure.{form}" for form in FORMATS}
    assert files["a_figure.pdf"].startswith(b"%PDF")
    assert b"<script>alert" not in files["a_figure.svg"]
    assert files["a_figure.svg"].count(b"axes_") >= len(panels)


def test_paper_shows_a_point_where_it_stands_alike_each_time():
    scale = {"x": Scale("x", (0.0, 1.0)), "y": Scale("y", (0.0, 1.0))}
    point = Points((0.9,), (0.5,), Style(0), size=20)
    figure = figure_of(panel_of(point, **scale))
    files = figure_files(figure)
    assert files == figure_files(figure)
    data = files["a_figure.png"]
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    blue = np.abs(picture - [0x00, 0x72, 0xB2]).sum(axis=2) < 30
    columns = np.nonzero(blue.any(axis=0))[0]
    assert len(columns)
    assert columns.min() > 0.75 * picture.shape[1]


@pytest.mark.parametrize("sides", [(5, 7), (20, 30)])  # with and without a palette
def test_pictures_are_embedded_pixel_by_pixel(sides):
    picture = np.random.default_rng(3).integers(0, 256, (*sides, 3)).astype(np.uint8)
    shown = Pictures(
        "seen", "Seen", "alt", ("one", "two"), (PictureRow(WICKED, (picture, None)),),
        scales=(ColourBar("m", "sequential", (0.0, 2.0)),),
    )  # fmt: skip
    data = base64.b64decode(as_png(picture).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), picture)
    assert set(figure_files(shown)) == {f"seen.{form}" for form in FORMATS}


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("limits", [None, (0.0034999999999999914, 0.003499999999999993)])
def test_an_axis_whose_values_agree_but_for_rounding_has_a_width(limits, is_log):
    line = Line(XS, (0.0034999999999999914, 0.003499999999999993), Style(0).colour)
    panel = panel_of(line, y=Scale("volume", limits, is_log=is_log))
    for variant in plotly_values(panel)["variants"]:
        low, high = variant["layout"]["yaxis"]["range"]
        held = [10**low, 10**high] if is_log else [low, high]
        # A tenth of the value to both sides, on a logarithmic axis by ratio.
        assert held == pytest.approx([0.0035 / 1.1 if is_log else 0.00315, 0.00385])
    assert set(figure_files(figure_of(panel))) == {f"a_figure.{form}" for form in FORMATS}
    apart = panel_of(MARKS["line"], y=Scale("volume", is_log=is_log))
    assert "range" not in plotly_values(apart)["variants"][0]["layout"]["yaxis"]


def test_zero_alone_and_bars_count_for_the_width():
    zero = panel_of(Points((0.0,), (0.0,), Style(0)))
    assert plotly_values(zero)["variants"][0]["layout"]["yaxis"]["range"] == [-1.0, 1.0]
    barred = panel_of(Points((1.0,), (1.0,), Style(0), errors_y=(0.5,)))
    layout = plotly_values(barred)["variants"][0]["layout"]
    assert "range" not in layout["yaxis"]
    assert layout["xaxis"]["range"] == pytest.approx([0.9, 1.1])


def test_long_ticks_are_shortened_more_where_the_panel_is_narrow():
    ticks = ((0.0, "a" * 90), (1.0, "short\n" + "b" * 90))
    panel = panel_of(MARKS["line"], x=Scale("x", ticks=ticks), y=Scale("y", ticks=ticks))
    narrow, wide = (v["layout"] for v in plotly_values(panel)["variants"])
    assert narrow["yaxis"]["ticktext"] == ["a" * 19 + "…", "short<br>" + "b" * 19 + "…"]
    assert wide["yaxis"]["ticktext"][0] == "a" * 39 + "…"
    # Turned ticks of the x axis keep to half of the lines beside a panel 340 pixels high.
    assert max(len(t) for t in wide["xaxis"]["ticktext"][0].split("<br>")) == 19


def test_titles_and_colour_bars_fit_narrow_panels():
    title = "distance of the reference from the best values (1 = printed)"
    bar = ColourBar(title * 2, "diverging", (-1.0, 1.0))
    points = ColouredPoints(XS, YS, (-1.0, 0.5), bar)
    panel = panel_of(points, x=Scale(title))
    narrow, wide = plotly_values(panel)["variants"]
    assert (narrow["min_width"], wide["min_width"]) == (0, 420)
    lines = narrow["layout"]["xaxis"]["title"]["text"].split("<br>")
    assert " ".join(lines) == title
    assert max(map(len, lines)) <= 30
    bar = narrow["layout"]["coloraxis"]["colorbar"]
    assert (bar["orientation"], bar["title"]["side"]) == ("h", "top")
    assert narrow["layout"]["height"] > wide["layout"]["height"] == panel.height
    of_bar = wide["layout"]["coloraxis"]["colorbar"]["title"]["text"].split("<br>")
    assert max(map(len, of_bar)) <= 38  # (340 - 70) / 7 pixels of a character
    assert (narrow["layout"]["coloraxis"]["cmin"], bar["thickness"]) == (-1.0, 12)


@pytest.mark.parametrize(
    ("low", "high"), [(0.96, 1.04), (0.06, 1.4), (1e-7, 3.0), (0.5, 2.0), (1.0, 1.0001), (1e-90, 1)]
)
def test_every_logarithmic_axis_has_a_few_ticks(low, high):
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 10, ticks
    assert all(low <= value <= high for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    assert all(math.isclose(float(text), value, rel_tol=1e-6) for value, text in ticks)


def test_long_axis_titles_are_wrapped_within_a_placed_panel():
    title = "steering mean absolute percentage error (degrees of the wheel), lower is better"
    scale = Scale(title, (1.0, 0.0))
    panel = labelled(Panel("p", scale, scale, ()), ())
    short = labelled(Panel("p", Scale("x", (1.0, 0.0)), Scale("y", (1.0, 0.0)), ()), ())
    narrow = plotly_values(panel)["variants"][0]["layout"]
    for axis, length in (("xaxis", 320.0), ("yaxis", 400.0)):
        lines = narrow[axis]["title"]["text"].split("<br>")
        assert " ".join(lines) == title
        assert max(text_size(line, narrow["font"]["size"])[0] for line in lines) <= length
    (least, *_), (usual, *_) = panel.layouts, short.layouts
    assert least.left > usual.left
    assert least.bottom > usual.bottom
    assert least.inner[3] - least.inner[1] == usual.inner[3] - usual.inner[1], "axes as high"
