"""Panels as plotly draws them in the page: plain JSON values, as `Plotly.react` takes them."""

import html
import math
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.render.labels import title_lines
from analysis.render.panels import (
    GRID,
    INK,
    MUTED,
    PAPER,
    SCALE_COLOURS,
    Area,
    Arrow,
    Callout,
    ColouredPoints,
    Drawn,
    Heatmap,
    Label,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
)
from analysis.render.scales import (
    TICK_CHARACTERS,
    TITLE_CHARACTERS,
    shortened,
    title_characters,
    with_width,
)

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
FONT_PIXELS = 12
MARGIN = {"l": 12, "r": 12, "t": 12, "b": 12, "pad": 0}
"""Around panels without layouts of their own; plotly widens it for titles and ticks."""
WIDTHS = ((0, 30, 20), (420, TITLE_CHARACTERS, TICK_CHARACTERS))
"""Least pixels of a panel's width; characters of a line of the x title, and of a y tick."""
BAR_PIXELS = 58
"""That a colour bar takes above a narrow panel, with its title."""


def plotly_values(panel: Panel) -> dict[str, Any]:
    """Return `{data, layout, variants}` of a panel.

    `variants` are `{min_width, layout}`: the page takes the widest that fits and lays its entries
    over those of `layout`.
    """
    data: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for mark in panel.marks:
        if isinstance(mark, Rule):
            shapes.append(_rule_shape(mark))
            if mark.text:
                annotations.append(_rule_text(mark, panel))
        elif isinstance(mark, Label):
            annotations.append(_label(mark, panel))
        elif isinstance(mark, Arrow):
            annotations.append(_arrow(mark, panel))
        else:
            data.append(_TRACES[type(mark)](mark))
    layout: dict[str, Any] = {
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "hoverlabel": {"font": {"family": FONT}},
        "hovermode": "closest",
        "showlegend": False,
        "shapes": shapes,
    }
    return {"data": data, "layout": layout, "variants": _variants(panel, annotations)}


def _variants(panel: Panel, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def variant(min_width: int, font: int, **layout: Any) -> dict[str, Any]:
        layout["font"] = {"size": font, "family": FONT, "color": INK}
        return {"min_width": min_width, "layout": layout}

    if not panel.layouts:
        return [
            variant(
                width,
                FONT_PIXELS,
                margin=MARGIN,
                annotations=annotations,
                **_axes(panel, (of_title, title_characters(panel.height)), of_tick),
                **{"height": panel.height} | _colour_axis(panel, is_narrow=width == 0),
            )
            for width, of_title, of_tick in WIDTHS
        ]
    return [
        variant(
            size.min_width,
            size.font,
            height=size.height,
            margin={"l": size.left, "r": size.right, "t": size.top, "b": size.bottom, "pad": 0},
            annotations=[*annotations, *(_callout(held, size.font) for held in size.callouts)],
            **_axes(panel, title_lines(size), TICK_CHARACTERS),
        )
        for size in panel.layouts
    ]


def _axes(panel: Panel, of_titles: tuple[int, int], of_tick: int) -> dict[str, Any]:
    """Return both axes with so many characters in a line of the x, y title and of a y tick."""
    # Plotly turns long ticks of the x axis: they may take a third of the panel's height.
    of_x_tick = title_characters(panel.height) // 2
    xaxis = _axis(with_width(panel.x, panel, "x"), of_titles[0], of_x_tick, panel)
    yaxis = _axis(with_width(panel.y, panel, "y"), of_titles[1], of_tick, panel)
    if panel.is_equal:
        yaxis |= {"scaleanchor": "x", "scaleratio": 1}
    return {"xaxis": xaxis, "yaxis": yaxis}


def _axis(scale: Scale, of_title: int, of_tick: int, panel: Panel) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": _lines(textwrap.fill(scale.title, of_title)), "standoff": 10},
        "gridcolor": GRID,
        "linecolor": MUTED,
        "tickcolor": MUTED,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": not panel.layouts,  # margins of layouts must stay as they are
    }
    if scale.is_log:
        axis["type"] = "log"
    if scale.limits is not None:
        axis["range"] = [_place(value, scale) for value in scale.limits]
    if scale.ticks is not None:
        axis |= {
            "tickvals": [value for value, _ in scale.ticks],
            "ticktext": [_lines(shortened(text, of_tick)) for _, text in scale.ticks],
        }
    if not scale.is_shown:
        axis["visible"] = False
    return axis


def _lines(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _colour_axis(panel: Panel, *, is_narrow: bool) -> dict[str, Any]:
    """Return what the colours of a panel say: a bar beside it, above it where it is narrow."""
    for mark in panel.marks:
        if isinstance(mark, ColouredPoints | Heatmap):
            characters = WIDTHS[0][1] if is_narrow else title_characters(panel.height)
            text = _lines(textwrap.fill(mark.bar.title, characters))
            bar: dict[str, Any] = {"thickness": 12, "outlinewidth": 0, "tickcolor": MUTED}
            bar["title"] = {"text": text, "side": "top" if is_narrow else "right"}
            if is_narrow:
                bar |= {"orientation": "h", "y": 1, "yanchor": "bottom"}
            stops = SCALE_COLOURS[mark.bar.colours]
            colours = {
                "colorscale": [[k / (len(stops) - 1), colour] for k, colour in enumerate(stops)],
                "cmin": mark.bar.limits[0],
                "cmax": mark.bar.limits[1],
                "colorbar": bar,
            }
            extra = {"height": panel.height + BAR_PIXELS} if is_narrow else {}
            return {"coloraxis": colours, **extra}
    return {}


def _scatter(mark: Points | ColouredPoints | Line | Area, mode: str) -> dict[str, Any]:
    trace: dict[str, Any] = {"type": "scatter", "mode": mode, "x": list(mark.x), "y": list(mark.y)}
    if not isinstance(mark, ColouredPoints):
        trace["name"] = html.escape(mark.name)
    hover = () if isinstance(mark, Area) else mark.hover
    if not hover:
        return trace | {"hoverinfo": "skip"}
    template = "%{hovertext}<extra></extra>"
    return trace | {"hovertext": [_lines(text) for text in hover], "hovertemplate": template}


def _points(mark: Points) -> dict[str, Any]:
    style = mark.style
    trace = _scatter(mark, "markers")
    trace["marker"] = {
        "symbol": style.symbol,
        "size": mark.size,
        "color": style.colour,
        "opacity": mark.opacity,
        # Faint ones overlap without a rim, as clouds do.
        "line": {"color": PAPER, "width": 1.5 if mark.opacity == 1 else 0},
    }
    bar = {"type": "data", "color": style.colour, "thickness": 1.2, "width": 3}
    for name, errors in (("error_x", mark.errors_x), ("error_y", mark.errors_y)):
        if errors is not None:
            trace[name] = {**bar, "array": list(errors)}
    return trace


def _coloured_points(mark: ColouredPoints) -> dict[str, Any]:
    return _scatter(mark, "markers") | {
        "marker": {
            "symbol": "circle",
            "size": mark.size,
            "color": list(mark.values),
            "coloraxis": "coloraxis",
            "line": {"color": MUTED, "width": 0.7},
        }
    }


def _line(mark: Line) -> dict[str, Any]:
    # Simplification drops corners and draws slopes between the rest.
    line = {"color": mark.colour, "width": mark.width, "dash": mark.dash, "simplify": False}
    return _scatter(mark, "lines") | {"line": line, "opacity": mark.opacity}


def _area(mark: Area) -> dict[str, Any]:
    return _scatter(mark, "lines") | {
        "fill": "toself",
        "fillcolor": mark.colour,
        "line": {"width": 0, "simplify": False},
        "opacity": mark.opacity,
    }


def _heatmap(mark: Heatmap) -> dict[str, Any]:
    rows = np.asarray(mark.values, dtype=float).T
    return {
        "type": "heatmap",
        "x": list(mark.x_edges),
        "y": list(mark.y_edges),
        "z": [[None if math.isnan(value) else value for value in row] for row in rows.tolist()],
        "coloraxis": "coloraxis",
        "hovertemplate": "%{z:.3g}<extra></extra>",
    }


_TRACES: dict[type[Drawn], Callable[[Any], dict[str, Any]]] = {
    Points: _points,
    ColouredPoints: _coloured_points,
    Line: _line,
    Area: _area,
    Heatmap: _heatmap,
}


def _rule_shape(mark: Rule) -> dict[str, Any]:
    across = "y" if mark.axis == "x" else "x"
    return {
        "type": "line",
        "layer": "above",
        f"{mark.axis}ref": mark.axis,
        f"{mark.axis}0": mark.value,
        f"{mark.axis}1": mark.value,
        f"{across}ref": "paper",
        f"{across}0": 0,
        f"{across}1": 1,
        "line": {"color": MUTED, "width": 1.2, "dash": mark.dash},
    }


def _place(value: float, scale: Scale) -> float:
    """Return a value as annotations hold it: on a logarithmic axis, its logarithm."""
    return math.log10(value) if scale.is_log else value


def _rule_text(mark: Rule, panel: Panel) -> dict[str, Any]:
    along, side, edge = mark.text_place
    across = "y" if mark.axis == "x" else "x"
    scale = panel.x if mark.axis == "x" else panel.y
    return {
        f"{mark.axis}ref": mark.axis,
        mark.axis: _place(mark.value, scale),
        f"{across}ref": "paper",
        across: along,
        "xanchor": side,
        "yanchor": edge,
        "textangle": -90 if mark.axis == "x" else 0,
        "text": html.escape(mark.text),
        "font": {"size": FONT_PIXELS - 1, "color": MUTED},
        "showarrow": False,
        "borderpad": 2,
    }


def _callout(mark: Callout, font: int) -> dict[str, Any]:
    return {
        "x": mark.x,
        "y": mark.y,
        "ax": mark.offset[0],
        "ay": mark.offset[1],
        "text": html.escape(mark.text),
        "font": {"size": font, "color": mark.colour},
        "showarrow": True,
        "arrowhead": 2 if mark.has_head else 0,
        "arrowwidth": 1.4 if mark.has_head else 0.7,
        "arrowcolor": MUTED,
        "standoff": 0 if mark.has_head else 7,
        "borderpad": 1,
        "bgcolor": PAPER,
    }


def _label(mark: Label, panel: Panel) -> dict[str, Any]:
    return {
        "x": _place(mark.x, panel.x),
        "y": _place(mark.y, panel.y),
        "text": html.escape(mark.text),
        "font": {"color": INK},
        "xanchor": mark.anchor,
        "showarrow": False,
    }


def _arrow(mark: Arrow, panel: Panel) -> dict[str, Any]:
    (x0, x1), (y0, y1) = mark.x, mark.y
    return {
        "ax": _place(x0, panel.x),
        "ay": _place(y0, panel.y),
        "axref": "x",
        "ayref": "y",
        "x": _place(x1, panel.x),
        "y": _place(y1, panel.y),
        "text": "",
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": 1,
        "arrowwidth": 1,
        "arrowcolor": MUTED,
        "standoff": 6,
        "startstandoff": 6,
        "opacity": 0.7,
    }
