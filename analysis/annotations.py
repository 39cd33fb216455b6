"""What stands around the points of a figure, placed anew for each width of the page.

Colours come from `LIGHT`; the page exchanges them for `DARK` one by one where the reader's system
is dark, so each colour has one meaning in a figure.
"""

import html
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.axes import Axis, signs
from analysis.findings import Findings
from analysis.fronts import OperatingPoint, means_of, staircase
from analysis.labels import MARKER_RADIUS, Box, around, place_labels, text_size

Pixels = Callable[[float, float], tuple[float, float]]
"""Display units -> pixels, y downwards."""

ARM_COLOURS = ("#0072b2", "#d55e00", "#00795c", "#a8487e", "#6f5b00", "#55606b")
"""Okabe and Ito's, darkened where needed: at least 4.5 to 1 on white; never the only mark."""
INK, MUTED, GRID, PAPER = "#1b2430", "#5b6673", "#e6e9ed", "#ffffff"
LIGHT = (*ARM_COLOURS, INK, MUTED, GRID, PAPER)
DARK = (
    *("#56b4e9", "#ff9248", "#2bc79a", "#f09cc8", "#d9c04a", "#aeb8c2"),
    *("#e8ecf1", "#9aa5b1", "#2c343e", "#161b22"),
)
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MOST_LABELLED = 60
"""More operating points than this are not labelled one by one; the table names them."""


@dataclass(frozen=True)
class Size:
    """The figure on a page of at least this width, in pixels."""

    width: int
    height: int
    font: int
    left: int
    bottom: int
    top: int = 14
    right: int = 16


SIZES = (
    Size(width=320, height=400, font=10, left=46, bottom=46),
    Size(width=600, height=480, font=11, left=58, bottom=52),
    Size(width=900, height=580, font=12, left=64, bottom=56),
)
"""The page takes the widest that fits."""


def shown_values(values: Sequence[float], axis: Axis) -> list[float]:
    """Return metric values in display units."""
    return [value * axis.metric.display_factor for value in values]


def variant(
    findings: Findings, pair: tuple[int, int], ranges: Sequence[tuple[float, float]], size: Size
) -> dict[str, Any]:
    """Return layout entries for one size: height, margins, fonts, labels, the arrow to better."""
    axes = [findings.axes[k] for k in pair]
    left, top = size.left, size.top
    right, bottom = size.width - size.right, size.height - size.bottom

    def pixels(x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = ranges
        return (
            left + (x - x0) / (x1 - x0) * (right - left),
            bottom - (y - y0) / (y1 - y0) * (bottom - top),
        )

    inner = (left, top, right, bottom)
    arrow, arrow_box = _better_arrow(axes, inner, size)
    texts = [findings.shown_priorities(p.priorities, empty=p.arm) for p in findings.points]
    annotations = [arrow, *_prior_notes(findings, axes, ranges, size)]
    if len(texts) <= MOST_LABELLED:
        spots, obstacles = _occupied(findings, pair, pixels)
        obstacles += [(arrow_box, 1.0), *_line_boxes(findings, pair, ranges, pixels)]
        sizes = [text_size(text, size.font) for text in texts]
        offsets = place_labels(spots, sizes, obstacles, inner)
        for point, text, offset in zip(findings.points, texts, offsets, strict=True):
            number = findings.arms.index(point.arm)
            annotations.append(_label(point, text, offset, axes, pair, size, number))
    return {
        "height": size.height,
        "margin": {"l": size.left, "r": size.right, "t": size.top, "b": size.bottom, "pad": 0},
        "font": {"size": size.font, "family": FONT, "color": INK},
        "annotations": annotations,
    }


def _label(
    point: OperatingPoint,
    text: str,
    offset: tuple[float, float],
    axes: Sequence[Axis],
    pair: tuple[int, int],
    size: Size,
    number: int,
) -> dict[str, Any]:
    x, y = (point.means[k] * axis.metric.display_factor for k, axis in zip(pair, axes, strict=True))
    colour = ARM_COLOURS[number % len(ARM_COLOURS)]
    return {
        "x": x,
        "y": y,
        "ax": offset[0],
        "ay": offset[1],
        "text": html.escape(text),
        "font": {"size": size.font, "color": colour},
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 0.7,
        "arrowcolor": MUTED,
        "standoff": 7,
        "borderpad": 1,
        "bgcolor": PAPER,
    }


def _occupied(
    findings: Findings, pair: tuple[int, int], pixels: Pixels
) -> tuple[list[tuple[float, float]], list[tuple[Box, float]]]:
    """Return where the means stand, and the boxes of markers, spread bars and single seeds."""
    axes = [findings.axes[k] for k in pair]
    spots, boxes = [], []
    for point in findings.points:
        shown = [_shown(point.means[k], axis) for k, axis in zip(pair, axes, strict=True)]
        sd = [_shown(point.sds[k] or 0.0, axis) for k, axis in zip(pair, axes, strict=True)]
        x, y = pixels(shown[0], shown[1])
        reach_x = abs(pixels(shown[0] + sd[0], shown[1])[0] - x)
        reach_y = abs(pixels(shown[0], shown[1] + sd[1])[1] - y)
        spots.append((x, y))
        boxes += [
            (around(x, y, MARKER_RADIUS, MARKER_RADIUS), 1.0),
            (around(x, y, reach_x, 3), 1.0),
            (around(x, y, 3, reach_y), 1.0),
        ]
    columns = [shown_values(findings.runs[axis.column].tolist(), axis) for axis in axes]
    boxes += [(around(*pixels(x, y), 4, 4), 0.6) for x, y in zip(*columns, strict=True)]
    return spots, boxes


def _line_boxes(
    findings: Findings,
    pair: tuple[int, int],
    ranges: Sequence[tuple[float, float]],
    pixels: Pixels,
) -> list[tuple[Box, float]]:
    """Return thin boxes along reference lines and staircases, which may be covered in need."""
    axes = [findings.axes[k] for k in pair]
    lines = []
    for number, axis in enumerate(axes):
        if axis.column in findings.prior:
            value = _shown(findings.prior[axis.column], axis)
            ends = [(value, end) if number == 0 else (end, value) for end in ranges[1 - number]]
            lines.append(ends)
    for arm in findings.arms:
        corners = shown_staircase(findings, arm, pair)
        lines += [list(ends) for ends in itertools.pairwise(corners)]
    boxes = []
    for start, end in lines:
        (x0, y0), (x1, y1) = pixels(*start), pixels(*end)
        box = (min(x0, x1) - 2, min(y0, y1) - 2, max(x0, x1) + 2, max(y0, y1) + 2)
        boxes.append((box, 0.25))
    return boxes


def shown_staircase(
    findings: Findings, arm: str, pair: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return an arm's staircase over two axes in display units; empty for a single point."""
    means = means_of(findings.points, arm)
    if findings.reference is None or len(means) < 2:
        return []
    axes = [findings.axes[k] for k in pair]
    corner = np.array([findings.reference.point[k] for k in pair])
    corners = staircase(means[:, list(pair)], corner, axes)
    return [(_shown(x, axes[0]), _shown(y, axes[1])) for x, y in corners]


def _shown(value: float, axis: Axis) -> float:
    return value * axis.metric.display_factor


def _better_arrow(axes: Sequence[Axis], inner: Box, size: Size) -> tuple[dict[str, Any], Box]:
    """Return an arrow towards better on both axes, in the corner where better is, and its box."""
    right, up = -signs(axes)
    x, y = (0.985 if right > 0 else 0.015), (0.98 if up > 0 else 0.02)
    reach = 3.2 * size.font
    arrow = {
        "xref": "paper",
        "yref": "paper",
        "x": x,
        "y": y,
        "ax": -right * reach,
        "ay": up * reach * 0.75,
        "text": "better",
        "font": {"size": size.font, "color": MUTED},
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": 1.1,
        "arrowwidth": 1.4,
        "arrowcolor": MUTED,
    }
    tip = (inner[0] + x * (inner[2] - inner[0]), inner[3] - y * (inner[3] - inner[1]))
    tail = (tip[0] - right * reach * 1.8, tip[1] + up * reach)
    (left, right_end), (top, bottom) = (sorted(ends) for ends in zip(tip, tail, strict=True))
    return arrow, (left, top, right_end, bottom)


def _prior_notes(
    findings: Findings, axes: Sequence[Axis], ranges: Sequence[tuple[float, float]], size: Size
) -> list[dict[str, Any]]:
    """Return a name for each reference line, at the better end of the line."""
    notes = []
    for number, axis in enumerate(axes):
        if axis.column not in findings.prior:
            continue
        value = findings.prior[axis.column] * axis.metric.display_factor
        other = axes[1 - number]
        far = ranges[1 - number][1 if other.metric.direction == "max" else 0]
        at_high_end = other.metric.direction == "max"
        place = {"x": value, "y": far} if number == 0 else {"x": far, "y": value}
        # On the worse side of its line, where points are rare; along the line.
        worse_low = axis.metric.direction == "max"
        anchors: dict[str, Any] = (
            {
                "textangle": -90,
                "xanchor": "right" if worse_low else "left",
                "yanchor": "top" if at_high_end else "bottom",
            }
            if number == 0
            else {
                "xanchor": "right" if at_high_end else "left",
                "yanchor": "top" if worse_low else "bottom",
            }
        )
        notes.append(
            {
                **place,
                **anchors,
                "text": f"per-pixel prior {axis.shown(findings.prior[axis.column])} {axis.unit}",
                "font": {"size": size.font - 1, "color": MUTED},
                "showarrow": False,
                "borderpad": 3,
            }
        )
    return notes
