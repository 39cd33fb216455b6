"""What figures share: titles and limits of axes, texts of points, and short numbers."""

from collections.abc import Sequence

import numpy as np

from analysis.compute.findings import Findings
from analysis.compute.fronts import OperatingPoint
from analysis.load.axes import Axis, priority_texts
from analysis.load.text import no_width

ROOM = 0.08
"""Share of the range of its values that an axis holds beyond them on each side."""
MOST_LABELLED_TASKS = 4
"""Beyond so many tasks a label holds the priorities of the two tasks drawn alone."""


def axis_title(axis: Axis) -> str:
    """Return what a figure's axis says: task, metric, unit and which way is better."""
    # Better is right and up in every figure, so an axis is reversed where lower is better.
    reverse = " (reversed)" if axis.metric.direction == "min" else ""
    return f"{axis.title}, {axis.better}{reverse}"


def axis_limits(values: Sequence[float], axis: Axis, room: float = ROOM) -> tuple[float, float]:
    """Return limits in display units that hold `values` with some room, the worse end first."""
    low, high = min(values), max(values)
    beyond = (abs(high) * 0.1 or 1.0) if no_width(low, high) else (high - low) * room
    factor = axis.metric.display_factor
    ends = ((low - beyond) * factor, (high + beyond) * factor)
    return ends if axis.metric.direction == "max" else ends[::-1]


def point_text(findings: Findings, point: OperatingPoint) -> str:
    """Return what hovering over a point tells: method, priorities, means, number of seeds."""
    lines = [f"{point.arm} {findings.shown_priorities(point.priorities, empty='')}".strip()]
    for k, axis in enumerate(findings.axes):
        sd = point.sds[k]
        spread = "" if sd is None else f" ± {axis.shown(sd)}"
        lines.append(f"{axis.name} {axis.shown(point.means[k])}{spread} {axis.unit}")
    return "\n".join([*lines, f"{point.n} {'seed' if point.n == 1 else 'seeds'}"])


def label_texts(findings: Findings, pair: tuple[int, int]) -> list[str]:
    """Return what stands beside each operating point: its priorities, or those of the two axes."""
    if len(findings.axes) <= MOST_LABELLED_TASKS:
        return [findings.shown_priorities(p.priorities, empty=p.arm) for p in findings.points]
    of_pair = [
        None if p.priorities is None else (p.priorities[pair[0]], p.priorities[pair[1]])
        for p in findings.points
    ]
    texts = priority_texts(held for held in of_pair if held is not None)
    return [
        point.arm if held is None else texts[held]
        for point, held in zip(findings.points, of_pair, strict=True)
    ]


def widened(low: float, high: float, axis: Axis) -> tuple[float, float]:
    """Return limits in display units, never of no width."""
    factor = axis.metric.display_factor
    room = 10.0**-axis.metric.decimals if no_width(low, high) else 0.0
    return (low * factor - room, high * factor + room)


def range_text(points: Sequence[OperatingPoint], axis: Axis, k: int) -> str:
    """Return between which values the means of points on axis number `k` lie."""
    means = [point.means[k] for point in points]
    return f"{axis.name} {axis.shown(min(means))} to {axis.shown(max(means))} {axis.unit}"


def rounded(values: np.ndarray) -> tuple[float, ...]:
    """Return coordinates with five decimals, which no eye tells from more."""
    return tuple(round(float(value), 5) for value in values)
