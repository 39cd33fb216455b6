"""Limits of axes whose values agree, and ticks."""

import dataclasses
import math
from typing import Literal

from analysis.load.text import no_width
from analysis.render.panels import Drawn, Heatmap, Panel, Points, Rule, Scale

ROOM = 0.1
"""Share of such a value that its axis holds on each side."""
TICK_CHARACTERS = 40
"""Of a tick's text at most."""
TITLE_CHARACTERS = 46
"""In a line of an axis title where panels stand side by side."""
PIXELS_OF_A_CHARACTER = 7.0
"""Of an axis title, about; a title beside an axis has lines no longer than the axis."""


CHARACTER_WIDTH = 0.58
"""Of a letter, about, as a share of the font's size."""


def characters_within(pixels: float, font: float) -> int:
    """Return how many characters of a font of so many pixels a line of some length holds."""
    return max(12, int(pixels / (font * CHARACTER_WIDTH)))


def title_characters(height: float) -> int:
    """Return the characters in a line of the y axis's title of a panel so many pixels high."""
    return min(TITLE_CHARACTERS, max(12, int((height - 70) / PIXELS_OF_A_CHARACTER)))


def with_width(scale: Scale, panel: Panel, axis: Literal["x", "y"]) -> Scale:
    """Return the scale with limits that are apart.

    Of values that agree but for rounding a library would show the rounding alone, or fail.
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


def _values(mark: Drawn, axis: Literal["x", "y"]) -> list[float]:
    """Return where a mark lies on an axis, with its error bars."""
    if isinstance(mark, Rule):
        return [mark.value] if mark.axis == axis else []
    if isinstance(mark, Heatmap):
        return list(mark.x_edges if axis == "x" else mark.y_edges)
    values = mark.x if axis == "x" else mark.y
    if isinstance(values, float | int):
        return [values]
    errors = None
    if isinstance(mark, Points):
        errors = mark.errors_x if axis == "x" else mark.errors_y
    ends = zip(values, errors or (0.0,) * len(values), strict=True)
    return [value + sign * error for value, error in ends for sign in (-1, 1)]


def log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Return about three to eight ticks between two positive numbers of a logarithmic axis.

    Plotly and matplotlib alike leave a narrow logarithmic axis with one number or none.
    """
    decades = math.log10(high / low)
    if decades < 0.9:
        rough = (high - low) / 5
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)
        values = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        digits = max(0, -math.floor(math.log10(step)))
        form = f".{digits}f" if digits < 5 else "g"
        return tuple((value, f"{value:{form}}") for value in values)
    factors = (1, 2, 5) if decades <= 2.5 else (1,)
    stride = max(1, math.ceil(decades / 7))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**power for power in powers if power % stride == 0 for m in factors]
    return tuple((value, f"{value:g}") for value in values if low <= value <= high)
