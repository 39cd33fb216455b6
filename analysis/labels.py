"""Where labels stand beside their points so that nothing covers anything; pixels, y downwards.

A box is (left, top, right, bottom). Each label tries places around its point; a few passes of
coordinate descent over all labels lower the sum of what is covered. Deterministic.
"""

import math
from collections.abc import Sequence

import numpy as np

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
