"""What stands around the points of a figure, placed anew for each width of the page.

Axes run from worse to better: to the right and upwards, whichever direction a metric has.
"""

import html
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.compute.attainment import attainment_surface
from analysis.compute.findings import PAPER_PAIR, Findings, method_of
from analysis.compute.fronts import OperatingPoint, means_of, minimised, nondominated, staircase
from analysis.load.axes import Axis, signs
from analysis.load.matched import ArmRuns
from analysis.render.figure_parts import label_texts
from analysis.render.panels import INK, MUTED, PAPER, mark_of

DISTANCES = (13.0, 18.0, 25.0, 34.0, 45.0, 58.0, 74.0, 92.0)
"""Gaps between a point and the edge of its label that are tried, in pixels."""
NUM_DIRECTIONS = 24
PADDING = 2.0
"""Pixels kept free around a label."""
NUM_PASSES = 8
NUM_LEADER_SAMPLES = 6
"""Spots along the line from point to label that must not lie on anything else."""
MARKER_RADIUS = 7.0

# Costs: a square pixel of another label, of an obstacle; a pixel outside; a pixel of distance; a
# spot of a leader on a marker or label. Chosen by eye on crowded figures.
LABEL_COST, OBSTACLE_COST, OUTSIDE_COST, DISTANCE_COST, LEADER_COST = 4.0, 3.0, 50.0, 0.8, 40.0

Box = tuple[float, float, float, float]


def around(x: float, y: float, half_width: float, half_height: float) -> Box:
    """Return the box with this centre."""
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the areas shared by `boxes` (m, 4) and `others` (n, 4), in square pixels, (m, n)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[tuple[Box, float]],
    bounds: Box,
) -> list[tuple[float, float]]:
    """Return for each label the offset of its centre from its point, in pixels.

    Args:
        points: where the markers are.
        sizes: width and height of each label.
        obstacles: boxes that labels should not cover, with weights (1 for a marker; less for a
            line that may be covered in need).
        bounds: labels stay inside.
    """
    if not points:
        return []
    spots = np.array(points, dtype=np.float64)
    boxes_at = np.array([box for box, _ in obstacles], dtype=np.float64).reshape(-1, 4)
    weights = np.array([weight for _, weight in obstacles], dtype=np.float64)
    offsets = [_offsets(size) for size in sizes]
    boxes = [
        np.concatenate([spot + o - half - PADDING, spot + o + half + PADDING], axis=1)
        for spot, o, half in zip(spots, offsets, np.array(sizes) / 2, strict=True)
    ]
    leaders = [_leader_samples(s, o) for s, o in zip(spots, offsets, strict=True)]
    fixed = []
    for k in range(len(points)):
        near = _near(boxes[k], boxes_at)
        covered = overlaps(boxes[k], boxes_at[near]) @ weights[near]
        outside = np.clip(np.array(bounds[:2]) - boxes[k][:, :2], 0, None).sum(axis=1)
        outside += np.clip(boxes[k][:, 2:] - np.array(bounds[2:]), 0, None).sum(axis=1)
        far = np.repeat(DISTANCES, NUM_DIRECTIONS)
        markers = np.delete(spots, k, axis=0)
        around_markers = np.concatenate([markers - MARKER_RADIUS, markers + MARKER_RADIUS], axis=1)
        markers = markers[_near(boxes[k], around_markers)]
        fixed.append(
            OBSTACLE_COST * covered
            + OUTSIDE_COST * outside
            + DISTANCE_COST * far
            + LEADER_COST * _on_markers(leaders[k], markers)
        )
    chosen = [int(costs.argmin()) for costs in fixed]
    for _ in range(NUM_PASSES):
        before = list(chosen)
        for k, costs in enumerate(fixed):
            rest = [i for i in range(len(points)) if i != k]
            if not rest:
                continue
            others = np.array([boxes[i][chosen[i]] for i in rest])
            lines = np.concatenate([leaders[i][chosen[i]] for i in rest])
            total = costs + LABEL_COST * overlaps(boxes[k], others).sum(axis=1)
            total += LEADER_COST * _inside(lines[None], boxes[k][:, None, :]).sum(axis=1)
            crossed = _inside(leaders[k][None], others[:, None, None, :])
            total += LEADER_COST * crossed.sum(axis=(0, 2))
            chosen[k] = int(total.argmin())
        if chosen == before:
            break
    return [(float(x), float(y)) for x, y in (offsets[k][chosen[k]] for k in range(len(points)))]


def _near(places: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return which `boxes` (n, 4) meet the hull of `places` (m, 4); the others cost nothing."""
    low, high = places[:, :2].min(axis=0), places[:, 2:].max(axis=0)
    return np.asarray(((boxes[:, 2:] > low) & (boxes[:, :2] < high)).all(axis=1))


def _offsets(size: tuple[float, float]) -> np.ndarray:
    """Return centres of a label around its point, (places, 2), near ones first."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    direction = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    # Distance is measured to the label's edge along the direction: wide labels stand as near.
    half = np.array(size) / 2
    with np.errstate(divide="ignore"):
        to_edge = np.min(half / np.abs(direction), axis=1)
    reach = np.array(DISTANCES)[:, None] + to_edge[None, :]
    return (reach[:, :, None] * direction[None]).reshape(-1, 2)


def _leader_samples(spot: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return spots on the line from the point towards each place, (places, samples, 2)."""
    shares = np.linspace(0.15, 0.85, NUM_LEADER_SAMPLES)
    return spot + offsets[:, None, :] * shares[None, :, None]


def _on_markers(samples: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Return for each place how many of its leader's samples lie on a marker."""
    if len(markers) == 0:
        return np.zeros(len(samples))
    distances = np.hypot(*np.moveaxis(samples[:, :, None] - markers[None, None], -1, 0))
    return (distances < MARKER_RADIUS).any(axis=2).sum(axis=1)


def _inside(spots: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return which spots (..., 2) lie in the box (..., 4)."""
    x, y = spots[..., 0], spots[..., 1]
    left, top, right, bottom = np.moveaxis(box, -1, 0)
    return np.asarray((x >= left) & (x <= right) & (y >= top) & (y <= bottom))


def text_size(text: str, font_pixels: float) -> tuple[float, float]:
    """Return about how wide and high a line of text is, in pixels."""
    return (math.ceil(len(text) * font_pixels * 0.58), font_pixels * 1.3)


Pixels = Callable[[float, float], tuple[float, float]]
"""Display units -> pixels, y downwards."""

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MOST_COVERED = 0.2
"""Share of a figure that labels may cover. Where there are more, nondominated points are labelled
first, and hover and the table name the rest."""


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


CORNER = 0.75
"""Share of an axis behind which a reference line runs into the upper right corner."""
PRIOR, SINGLE_TASK = "image-independent", "single task"
"""Kinds of reference lines, as they are named in a figure."""
MOST_OBSTACLES = 3_000
"""Boxes that labels keep clear of; of more as many evenly chosen ones count."""
MOST_ARROWS = 12
"""Priorities up to which points of two methods are joined."""
LEAST_ARROW = 0.04
"""Of the panel's width or height."""
MOST_ATTAINED = 1_500
"""Results, over all seeds, up to which bands are drawn."""
SIGNS_WITHIN = 4
"""Digits and point of a tick that the left margin of a size has room for."""
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
    left, top = _left_margin(ranges[1], size), size.top
    right, bottom = size.width - size.right, size.height - size.bottom

    def pixels(x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = ranges
        return (
            left + (x - x0) / (x1 - x0) * (right - left),
            bottom - (y - y0) / (y1 - y0) * (bottom - top),
        )

    inner = (left, top, right, bottom)
    spots, obstacles = _occupied(findings, pair, pixels)
    arrow, arrow_box = _better_arrow(inner, size, spots)
    notes = _reference_notes(findings, axes, ranges, size)
    annotations = [arrow, *notes]
    texts = label_texts(findings, pair)
    sizes = [text_size(text, size.font) for text in texts]
    chosen = _labelled(findings.points, sizes, MOST_COVERED * (right - left) * (bottom - top))
    obstacles += [(arrow_box, 1.0), *((_note_box(note, pixels), 1.0) for note in notes)]
    obstacles += _line_boxes(findings, pair, ranges, pixels)
    # Within a cloud a label covers some of it wherever it stands.
    obstacles = obstacles[:: -(-len(obstacles) // MOST_OBSTACLES) or 1]
    offsets = place_labels([spots[k] for k in chosen], [sizes[k] for k in chosen], obstacles, inner)
    for k, offset in zip(chosen, offsets, strict=True):
        point = findings.points[k]
        number = findings.arms.index(point.arm)
        annotations.append(_label(point, texts[k], offset, axes, pair, size, number))
    return {
        "height": size.height,
        "margin": {"l": left, "r": size.right, "t": size.top, "b": size.bottom, "pad": 0},
        "font": {"size": size.font, "family": FONT, "color": INK},
        "annotations": annotations,
    }


def _left_margin(limits: tuple[float, float], size: Size) -> int:
    """Return the pixels left of the plot: wider where the ticks have many decimals."""
    # Plotly has some ten ticks on an axis.
    decimals = max(0, -math.floor(math.log10(abs(limits[1] - limits[0]) / 10)))
    digits = max(len(str(int(abs(end)))) for end in limits)
    num_signs = digits + (decimals + 1 if decimals else 0)
    return size.left + math.ceil(max(num_signs - SIGNS_WITHIN, 0) * size.font * 0.58)


def _labelled(
    points: Sequence[OperatingPoint], sizes: Sequence[tuple[float, float]], area: float
) -> list[int]:
    """Return which points have a label, as many as the area in square pixels holds, in order."""
    by_weight = sorted(
        range(len(points)),
        key=lambda k: (not points[k].nondominated, not points[k].nondominated_in_arm),
    )
    covered = itertools.accumulate(sizes[k][0] * sizes[k][1] for k in by_weight)
    return sorted(k for k, total in zip(by_weight, covered, strict=True) if total <= area)


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
    return {
        "x": x,
        "y": y,
        "ax": offset[0],
        "ay": offset[1],
        "text": html.escape(text),
        "font": {"size": size.font, "color": mark_of(number).colour},
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
        for _, metric_value in references(findings, axis):
            value = _shown(metric_value, axis)
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
    for (x0, y0), (x1, y1) in pair_arrows(findings, pair, ranges):
        for share in np.linspace(0.1, 0.9, 5):
            x, y = pixels(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
            boxes.append((around(x, y, 4, 4), 0.4))
    return boxes


def references(findings: Findings, axis: Axis) -> list[tuple[str, float]]:
    """Return what is drawn as a line at one value of an axis: (kind, value in metric units)."""
    lines = []
    if axis.column in findings.prior:
        lines.append((PRIOR, findings.prior[axis.column]))
    if axis.column in findings.baselines:
        values = list(findings.baselines[axis.column].values())
        lines.append((SINGLE_TASK, sum(values) / len(values)))
    return lines


def pair_arrows(
    findings: Findings, pair: tuple[int, int], ranges: Sequence[tuple[float, float]]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return (from, to) in display units, from fixed to lsb at the same priorities.

    None where there are many, or several arms of either. Points that nearly coincide have none:
    an arrow needs some length.
    """
    methods = method_of(findings)
    ends = [[arm for arm, method in methods.items() if method == name] for name in PAPER_PAIR[::-1]]
    if [len(arms) for arms in ends] != [1, 1]:
        return []
    axes = [findings.axes[k] for k in pair]
    starts, tips = (
        {
            point.priorities: (
                _shown(point.means[pair[0]], axes[0]),
                _shown(point.means[pair[1]], axes[1]),
            )
            for point in findings.points
            if point.arm == arms[0] and point.priorities is not None
        }
        for arms in ends
    )
    shared = [priorities for priorities in starts if priorities in tips]
    if len(shared) > MOST_ARROWS:
        return []
    widths = [abs(end - start) for start, end in ranges]
    return [
        (starts[p], tips[p])
        for p in shared
        if math.hypot(*((b - a) / w for a, b, w in zip(starts[p], tips[p], widths, strict=True)))
        > LEAST_ARROW
    ]


def attained_stairs(
    findings: Findings, runs: ArmRuns, pair: tuple[int, int], shares: Sequence[float]
) -> list[list[tuple[float, float]]] | None:
    """Return for each share of the seeds the corners of what it attains, in display units.

    None for more results than can be drawn so.
    """
    axes = [findings.axes[k] for k in pair]
    seeds = []
    for number in range(len(runs.seeds)):
        low = minimised(runs.metrics[:, number, :][:, list(pair)], axes)
        # What a seed attains rests on its nondominated results alone.
        seeds.append(low[nondominated(low)])
    if findings.reference is None or sum(map(len, seeds)) > MOST_ATTAINED:
        return None
    corner = np.array([findings.reference.point[k] for k in pair])
    return [
        [
            (_shown(x, axes[0]), _shown(y, axes[1]))
            for x, y in staircase(attainment_surface(seeds, share) * signs(axes), corner, axes)
        ]
        for share in shares
    ]


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


def _better_arrow(
    inner: Box, size: Size, spots: Sequence[tuple[float, float]]
) -> tuple[dict[str, Any], Box]:
    """Return an arrow towards better on both axes, and its box.

    It stands in the upper right corner; where means stand there, as those of good methods do, in
    the lower left one.
    """
    reach = 3.2 * size.font
    wide, high = inner[2] - inner[0], inner[3] - inner[1]
    places = ((0.985, 0.98), (0.03 + 1.8 * reach / wide, 0.05 + 1.1 * reach / high))
    boxes = []
    for x, y in places:
        tip = (inner[0] + x * wide, inner[3] - y * high)
        boxes.append((tip[0] - reach * 1.8, tip[1], tip[0], tip[1] + reach))
    covered = [
        sum(left <= x <= right and top <= y <= bottom for x, y in spots)
        for left, top, right, bottom in boxes
    ]
    best = covered.index(min(covered))
    arrow = {
        "xref": "paper",
        "yref": "paper",
        "x": places[best][0],
        "y": places[best][1],
        "ax": -reach,
        "ay": reach * 0.75,
        "text": "better",
        "font": {"size": size.font, "color": MUTED},
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": 1.1,
        "arrowwidth": 1.4,
        "arrowcolor": MUTED,
        "bgcolor": PAPER,
    }
    return arrow, boxes[best]


def _reference_notes(
    findings: Findings, axes: Sequence[Axis], ranges: Sequence[tuple[float, float]], size: Size
) -> list[dict[str, Any]]:
    """Return a name for each reference line, along the line."""
    notes = []
    for number, axis in enumerate(axes):
        for kind, metric_value in references(findings, axis):
            value = _shown(metric_value, axis)
            place = _PLACES[kind](value, number, ranges)
            notes.append(
                {
                    **place,
                    "text": f"{kind} {axis.shown(metric_value)} {axis.unit}",
                    "font": {"size": size.font - 1, "color": MUTED},
                    "showarrow": False,
                    "borderpad": 3,
                }
            )
    return notes


def _at_an_end(value: float, number: int, ranges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return a place at the better end of a line and on its worse side, where points are rare.

    A line that runs into the corner of the arrow has its name at the other end.
    """
    worse, better = ranges[number]
    into_corner = (value - worse) / (better - worse) > CORNER
    end = ranges[1 - number][0 if into_corner else 1]
    place: dict[str, Any] = (
        {"x": value, "y": end, "textangle": -90} if number == 0 else {"x": end, "y": value}
    )
    place["xanchor"] = "left" if into_corner and number == 1 else "right"
    place["yanchor"] = "bottom" if into_corner and number == 0 else "top"
    return place


def _half_way(value: float, number: int, ranges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return a place half-way along a line and on its better side, where no other name stands."""
    middle = sum(ranges[1 - number]) / 2
    if number == 0:
        return {"x": value, "y": middle, "textangle": -90, "xanchor": "left", "yanchor": "top"}
    return {"x": middle, "y": value, "xanchor": "left", "yanchor": "bottom"}


_PLACES = {PRIOR: _at_an_end, SINGLE_TASK: _half_way}


def _note_box(note: dict[str, Any], pixels: Pixels) -> Box:
    """Return about where the text of a note of `_reference_notes` stands."""
    x, y = pixels(note["x"], note["y"])
    width, height = text_size(note["text"], note["font"]["size"])
    if "textangle" in note:
        width, height = height, width
    left = x - width if note["xanchor"] == "right" else x
    top = y - height if note["yanchor"] == "bottom" else y
    return (left, top, left + width, top + height)
