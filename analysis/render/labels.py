"""Labels beside points, placed for each width of the page so that they cover little.

Axes run from worse to better: to the right and upwards, whichever direction a metric has.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from analysis.render.panels import MUTED, Arrow, Callout, Layout, Line, Panel, Points, Rule
from analysis.render.scales import CHARACTER_WIDTH, characters_within

DISTANCES = np.array((13.0, 18.0, 25.0, 34.0, 45.0, 58.0, 74.0, 92.0))
"""Gaps between a point and the edge of its label that are tried, in pixels."""
NUM_DIRECTIONS = 24
PADDING = 2.0
"""Pixels kept free around a label."""
NUM_PASSES = 8
ARROW_GRID = 9
"""Places for the arrow towards better that are tried along each axis."""
LEADER_SHARES = np.linspace(0.15, 0.85, 6)
"""Spots along the line from point to label that must not lie on anything else."""
MARKER_RADIUS = 7.0
# Costs: a square pixel of another label, of an obstacle; a pixel outside; a pixel of distance; a
# spot of a leader on a marker or label. Chosen by eye on crowded figures.
LABEL_COST, OBSTACLE_COST, OUTSIDE_COST, DISTANCE_COST, LEADER_COST = 4.0, 3.0, 50.0, 0.8, 40.0
# How much an obstacle counts: a mean, a single run, a line, an arrow.
MEAN_WEIGHT, RUN_WEIGHT, LINE_WEIGHT, ARROW_WEIGHT = 1.0, 0.6, 0.25, 0.4

MAX_COVERED = 0.2
"""Share of a figure that labels may cover; where there are more, hover and the table name them."""
SIGNS_WITHIN = 4
"""Digits and point of a tick that the left margin of a size has room for."""
SIZES = (
    Layout(min_width=320, height=400, font=10, left=46, bottom=46),
    Layout(min_width=600, height=480, font=11, left=58, bottom=52),
    Layout(min_width=900, height=580, font=12, left=64, bottom=56),
)
"""The page takes the widest that fits."""

Box = tuple[float, float, float, float]
Pixels = Callable[[float, float], tuple[float, float]]
"""Display units -> pixels, y downwards."""


def labelled(panel: Panel, labels: Sequence[Callout]) -> Panel:
    """Return the panel with labels and an arrow towards better, placed for each of `SIZES`.

    Args:
        panel: with limits on both axes.
        labels: yet without offsets, the most important first; where not all fit, the first have
            one.
    """
    return replace(panel, layouts=tuple(_layout(panel, labels, size) for size in SIZES))


def _layout(panel: Panel, labels: Sequence[Callout], size: Layout) -> Layout:
    (x0, x1), (y0, y1) = panel.x.limits or (0, 1), panel.y.limits or (0, 1)
    size = replace(size, left=size.left + _tick_room(y0, y1, size.font))
    size = _with_title_room(panel, size)
    left, top, right, bottom = inner = size.inner

    def pixels(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return (left + across * (right - left), bottom - up * (bottom - top))

    held = _obstacles(panel, pixels, inner, size.font)
    arrow, arrow_box = _better_arrow(panel, inner, size.font, held)
    sizes = [text_size(label.text, size.font) for label in labels]
    covered = itertools.accumulate(width * height for width, height in sizes)
    room = MAX_COVERED * (right - left) * (bottom - top)
    shown = [label for label, total in zip(labels, covered, strict=True) if total <= room]
    offsets = place_labels(
        [pixels(label.x, label.y) for label in shown],
        sizes[: len(shown)],
        [*held, (arrow_box, MEAN_WEIGHT)],
        inner,
    )
    placed = [replace(label, offset=o) for label, o in zip(shown, offsets, strict=True)]
    return replace(size, callouts=(arrow, *placed))


def title_lines(size: Layout) -> tuple[int, int]:
    """Return the characters in a line of the x and of the y title."""
    x, y = (characters_within(pixels, size.font) for pixels in size.title_rooms)
    return x, y


def _with_title_room(panel: Panel, size: Layout) -> Layout:
    """Return the size with margins for titles of several lines; its axes stay as high."""

    def extra(title: str, characters: int) -> int:
        return math.ceil((len(textwrap.wrap(title, characters)) - 1) * text_size("", size.font)[1])

    left = size.left + extra(panel.y.title, title_lines(size)[1])
    size = replace(size, left=left)
    below = extra(panel.x.title, title_lines(size)[0])
    return replace(size, bottom=size.bottom + below, height=size.height + below)


def _tick_room(low: float, high: float, font: int) -> int:
    """Return the pixels that ticks need beyond the left margin: more with many decimals."""
    # Plotly has some ten ticks on an axis.
    decimals = max(0, -math.floor(math.log10(abs(high - low) / 10)))
    digits = max(len(str(int(abs(end)))) for end in (low, high))
    num_signs = digits + (decimals + 1 if decimals else 0)
    return math.ceil(max(num_signs - SIGNS_WITHIN, 0) * font * CHARACTER_WIDTH)


def _obstacles(panel: Panel, pixels: Pixels, inner: Box, font: int) -> list[tuple[Box, float]]:
    """Return the boxes of what stands in a panel, with how much each counts."""
    left, top, right, bottom = inner
    found: list[tuple[Box, float]] = []
    for mark in panel.marks:
        if isinstance(mark, Points):
            is_mean = mark.opacity == 1
            radius, weight = (MARKER_RADIUS, MEAN_WEIGHT) if is_mean else (4.0, RUN_WEIGHT)
            bars = [held or (0.0,) * len(mark.x) for held in (mark.errors_x, mark.errors_y)]
            for x, y, bar_x, bar_y in zip(mark.x, mark.y, *bars, strict=True):
                spot = pixels(x, y)
                found.append((around(*spot, radius, radius), weight))
                if bar_x or bar_y:
                    ends = pixels(x + bar_x, y + bar_y)
                    found.append((around(*spot, abs(ends[0] - spot[0]), 3), weight))
                    found.append((around(*spot, 3, abs(ends[1] - spot[1])), weight))
        elif isinstance(mark, Line):
            corners = [pixels(x, y) for x, y in zip(mark.x, mark.y, strict=True)]
            found += [(_between(*ends), LINE_WEIGHT) for ends in itertools.pairwise(corners)]
        elif isinstance(mark, Rule):
            x, y = pixels(mark.value, mark.value)
            start, end = ((x, bottom), (x, top)) if mark.axis == "x" else ((left, y), (right, y))
            found.append((_between(start, end), LINE_WEIGHT))
            if mark.text:
                found.append((_rule_text_box(mark, start, end, font), MEAN_WEIGHT))
        elif isinstance(mark, Arrow):
            for share in np.linspace(0.1, 0.9, 5):
                x, y = (a + share * (b - a) for a, b in (mark.x, mark.y))
                found.append((around(*pixels(x, y), 4, 4), ARROW_WEIGHT))
    return found


def _between(start: tuple[float, float], end: tuple[float, float]) -> Box:
    (x0, y0), (x1, y1) = start, end
    return (min(x0, x1) - 2, min(y0, y1) - 2, max(x0, x1) + 2, max(y0, y1) + 2)


def _rule_text_box(
    rule: Rule, start: tuple[float, float], end: tuple[float, float], font: int
) -> Box:
    """Return about where the text of a reference line stands that runs between two places."""
    along, side, edge = rule.text_place
    x, y = (a + along * (b - a) for a, b in zip(start, end, strict=True))
    width, height = text_size(rule.text, font)
    if rule.axis == "x":
        width, height = height, width
    left = x - width if side == "right" else x
    top = y - height if edge == "bottom" else y
    return (left, top, left + width, top + height)


def text_size(text: str, font_pixels: float) -> tuple[float, float]:
    """Return about how wide and high a line of text is, in pixels."""
    return (math.ceil(len(text) * font_pixels * CHARACTER_WIDTH), font_pixels * 1.3)


def _better_arrow(
    panel: Panel, inner: Box, font: int, held: Sequence[tuple[Box, float]]
) -> tuple[Callout, Box]:
    """Return an arrow towards better on both axes, and its box.

    It stands in the first corner without points and texts; where every corner has some, in the free
    place of a grid that is nearest to the upper right.
    """
    left, top, right, bottom = inner
    reach = 3.2 * font
    wide, high = right - left, bottom - top
    across = np.linspace(0.03 + 1.8 * reach / wide, 0.985, ARROW_GRID)
    up = np.linspace(0.05 + 1.1 * reach / high, 0.98, ARROW_GRID)
    (x0, *_, x1), (y0, *_, y1) = across, up
    corners = [(x1, y1), (x0, y1), (x0, y0), (x1, y0)]
    places = [*corners, *sorted(itertools.product(across, up), key=sum, reverse=True)]
    tips = [(left + x * wide, bottom - y * high) for x, y in places]
    boxes = [(x - reach * 1.8, y, x, y + reach) for x, y in tips]
    taken = np.array([box for box, weight in held if weight >= RUN_WEIGHT]).reshape(-1, 4)
    best = int(overlaps(np.array(boxes), taken).sum(axis=1).argmin())
    (x0, x1), (y0, y1) = panel.x.limits or (0, 1), panel.y.limits or (0, 1)
    x, y = map(float, places[best])
    tip = (x0 + x * (x1 - x0), y0 + y * (y1 - y0))
    return Callout(*tip, "better", MUTED, (-reach, reach * 0.75), has_head=True), boxes[best]


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

    Each label takes the cheapest of many places around its point; in a few passes they make way for
    each other.

    Args:
        points: where the markers are.
        sizes: width and height of each label.
        obstacles: boxes that labels should not cover, with weights (1 for a marker).
        bounds: labels stay inside.
    """
    if not points:
        return []
    spots = np.array(points, dtype=np.float64)
    offsets = [_offsets(size) for size in sizes]
    boxes = [
        np.concatenate([spot + o - half - PADDING, spot + o + half + PADDING], axis=1)
        for spot, o, half in zip(spots, offsets, np.array(sizes) / 2, strict=True)
    ]
    leaders = [
        spot + o[:, None, :] * LEADER_SHARES[None, :, None]
        for spot, o in zip(spots, offsets, strict=True)
    ]
    fixed = [
        _fixed_costs(boxes[k], leaders[k], np.delete(spots, k, axis=0), obstacles, bounds)
        for k in range(len(spots))
    ]
    chosen = [int(costs.argmin()) for costs in fixed]
    for _ in range(NUM_PASSES if len(spots) > 1 else 0):
        before = list(chosen)
        for k, costs in enumerate(fixed):
            rest = [i for i in range(len(spots)) if i != k]
            others = np.array([boxes[i][chosen[i]] for i in rest])
            lines = np.concatenate([leaders[i][chosen[i]] for i in rest])
            total = costs + LABEL_COST * overlaps(boxes[k], others).sum(axis=1)
            total += LEADER_COST * _inside(lines[None], boxes[k][:, None, :]).sum(axis=1)
            crossed = _inside(leaders[k][None], others[:, None, None, :])
            total += LEADER_COST * crossed.sum(axis=(0, 2))
            chosen[k] = int(total.argmin())
        if chosen == before:
            break
    return [(float(x), float(y)) for x, y in (offsets[k][c] for k, c in enumerate(chosen))]


def _offsets(size: tuple[float, float]) -> np.ndarray:
    """Return centres of a label around its point, (places, 2), near ones first."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    direction = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    # Distance is measured to the label's edge along the direction: wide labels stand as near.
    with np.errstate(divide="ignore"):
        to_edge = np.min(np.array(size) / 2 / np.abs(direction), axis=1)
    reach = DISTANCES[:, None] + to_edge[None, :]
    return (reach[:, :, None] * direction[None]).reshape(-1, 2)


def _fixed_costs(
    boxes: np.ndarray,
    leaders: np.ndarray,
    markers: np.ndarray,
    obstacles: Sequence[tuple[Box, float]],
    bounds: Box,
) -> np.ndarray:
    """Return what each place of a label costs, whatever the other labels do."""
    held = np.array([box for box, _ in obstacles], dtype=np.float64).reshape(-1, 4)
    weights = np.array([weight for _, weight in obstacles], dtype=np.float64)
    # What lies farther away than any place costs nothing, and would take time.
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    near = ((held[:, 2:] > low) & (held[:, :2] < high)).all(axis=1)
    outside = np.clip(np.array(bounds[:2]) - boxes[:, :2], 0, None).sum(axis=1)
    outside += np.clip(boxes[:, 2:] - np.array(bounds[2:]), 0, None).sum(axis=1)
    apart = np.linalg.norm(leaders[:, :, None] - markers[None, None], axis=3)
    return np.asarray(
        OBSTACLE_COST * (overlaps(boxes, held[near]) @ weights[near])
        + OUTSIDE_COST * outside
        + DISTANCE_COST * np.repeat(DISTANCES, NUM_DIRECTIONS)
        + LEADER_COST * (apart < MARKER_RADIUS).any(axis=2).sum(axis=1)
    )


def _inside(spots: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return which spots (..., 2) lie in the box (..., 4)."""
    return np.asarray(((spots >= box[..., :2]) & (spots <= box[..., 2:])).all(axis=-1))
