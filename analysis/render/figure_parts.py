"""What figures share: styles of arms, titles and limits of axes, texts of points."""

from collections.abc import Iterable, Sequence
from typing import Literal

from analysis.compute.findings import Findings
from analysis.compute.fronts import OperatingPoint
from analysis.load.axes import Axis
from analysis.load.runs import trained_arm
from analysis.load.text import no_width
from analysis.render.panels import Area, Key, Style

ROOM = 0.08
"""Share of the range of its values that an axis holds beyond them on each side."""


def style_of(findings: Findings, arm: str) -> Style:
    """Return how an arm is drawn everywhere in a report.

    Mixed networks have their forks' colour, and a marker of their own.
    """
    number = findings.arms.index(trained_arm(arm))
    return Style(number) if arm in findings.arms else Style(number, -1 - number)


def legend_of(
    findings: Findings, arms: Iterable[str], shape: Literal["point", "line", "both"] = "both"
) -> tuple[Key, ...]:
    """Return a legend of arms."""
    return tuple(Key(arm, style_of(findings, arm), shape) for arm in arms)


def band(
    xs: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    style: Style,
    name: str,
    opacity: float,
) -> Area:
    """Return the area between two curves."""
    return Area((*xs, *xs[::-1]), (*highs, *lows[::-1]), style.colour, name, opacity)


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


def mean_text(axis: Axis, mean: float, sd: float | None) -> str:
    """Return a mean with its standard deviation over seeds, if there is one."""
    return axis.shown(mean) + ("" if sd is None else f" ± {axis.shown(sd)}")


def point_text(findings: Findings, point: OperatingPoint) -> str:
    """Return what hovering over a point shows: method, priorities, means, number of seeds."""
    lines = [f"{point.arm} {findings.shown_priorities(point.priorities, empty='')}".strip()]
    for k, axis in enumerate(findings.axes):
        lines.append(f"{axis.name} {mean_text(axis, point.means[k], point.sds[k])} {axis.unit}")
    return "\n".join([*lines, f"{point.n} {'seed' if point.n == 1 else 'seeds'}"])


def range_text(points: Sequence[OperatingPoint], axis: Axis, k: int) -> str:
    """Return between which values the means of points on axis number `k` lie."""
    means = [point.means[k] for point in points]
    return f"{axis.name} {axis.shown(min(means))} to {axis.shown(max(means))} {axis.unit}"
