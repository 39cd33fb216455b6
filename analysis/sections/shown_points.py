"""What the sections' figures share: texts of points, limits, and short numbers."""

import numpy as np

from analysis.axes import Axis
from analysis.findings import Findings
from analysis.fronts import OperatingPoint


def point_text(findings: Findings, point: OperatingPoint) -> str:
    """Return what hovering over a point tells: method, priorities, means, number of seeds."""
    lines = [f"{point.arm} {findings.shown_priorities(point.priorities, empty='')}".strip()]
    for k, axis in enumerate(findings.axes):
        sd = point.sds[k]
        spread = "" if sd is None else f" ± {axis.shown(sd)}"
        lines.append(
            f"{axis.task} {axis.metric.name} {axis.shown(point.means[k])}{spread} {axis.unit}"
        )
    return "\n".join([*lines, f"{point.n} {'seed' if point.n == 1 else 'seeds'}"])


def widened(low: float, high: float, axis: Axis) -> tuple[float, float]:
    """Return limits in display units, never of no width."""
    factor = axis.metric.display_factor
    room = 0.0 if high > low else 10.0**-axis.metric.decimals
    return (low * factor - room, high * factor + room)


def rounded(values: np.ndarray) -> tuple[float, ...]:
    """Return coordinates with five decimals, which no eye tells from more."""
    return tuple(round(float(value), 5) for value in values)
