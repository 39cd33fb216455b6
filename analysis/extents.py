"""From where to where an axis goes whose values leave it no width, and ticks that leave it room."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from analysis.panels import (
    Area,
    Arrow,
    Cells,
    ColouredPoints,
    Drawn,
    Label,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
)

SAME = 1e-9
"""Values that differ by less than this share of their size are the same but for rounding."""
ROOM = 0.1
"""Share of such a value that its axis holds on each side."""
TICK_CHARACTERS = 40
"""Of a tick's text at most."""


def no_width(low: float, high: float) -> bool:
    """Return whether two values are the same but for rounding."""
    return math.isclose(low, high, rel_tol=SAME, abs_tol=1e-12)


def with_width(scale: Scale, panel: Panel, axis: Literal["x", "y"]) -> Scale:
    """Return the scale with limits that are apart.

    Without limits a library fits the marks; of values that agree but for rounding it would show the
    rounding alone, or fail.
    """
    ends = scale.limits
    if ends is None:
        values = [value for mark in panel.marks for value in _values(mark, axis)]
        if not values:
            return scale
        ends = (min(values), max(values))
    if not no_width(*ends):
        return scale
    middle = ends[0]
    if scale.is_log:
        limits = (middle / (1 + ROOM), middle * (1 + ROOM))
    else:
        room = abs(middle) * ROOM or 1.0
        limits = (middle - room, middle + room)
    return dataclasses.replace(scale, limits=limits)


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters a line, with an ellipsis where it is cut."""
    lines = text.split("\n")
    return "\n".join(
        line if len(line) <= most else f"{line[: most - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
        for line in lines
    )


def _values(mark: Drawn, axis: Literal["x", "y"]) -> Iterator[float]:
    """Yield where a mark lies on an axis, with its bars."""
    if isinstance(mark, Rule):
        if mark.axis == axis:
            yield mark.value
    elif isinstance(mark, Cells):
        yield from mark.x_edges if axis == "x" else mark.y_edges
    elif isinstance(mark, Label):
        yield mark.x if axis == "x" else mark.y
    elif isinstance(mark, Points):
        values = mark.x if axis == "x" else mark.y
        errors = mark.errors_x if axis == "x" else mark.errors_y
        yield from values
        for value, error in zip(values, errors or (), strict=errors is not None):
            yield value - error
            yield value + error
    elif isinstance(mark, ColouredPoints | Line | Area | Arrow):
        yield from mark.x if axis == "x" else mark.y
