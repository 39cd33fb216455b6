"""Figures drawn from findings: plotly for the page, with places of labels for several widths.

Each figure is laid out for several widths of the page, see `analysis.annotations`.
"""

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from analysis.annotations import (
    FONT,
    SIZES,
    shown_staircase,
    shown_values,
    variant,
)
from analysis.axes import Axis
from analysis.findings import Findings
from analysis.fronts import OperatingPoint, means_of
from analysis.marks import GRID, MUTED, PAPER, mark_of


@dataclass(frozen=True)
class Figure:
    """A figure with what the page needs beside it."""

    name: str
    title: str
    alt: str
    """What it shows, for those who cannot see it."""
    plot: go.Figure
    """Laid out for the widest size."""
    variants: tuple[dict[str, Any], ...]
    """For each of `SIZES`, the layout entries that depend on it."""


def operating_point_figures(findings: Findings) -> tuple[Figure, ...]:
    """Return one figure for each pair of tasks; empty without operating points."""
    if not findings.points:
        return ()
    pairs = itertools.combinations(range(len(findings.axes)), 2)
    return tuple(_operating_points(findings, i, j) for i, j in pairs)


def _operating_points(findings: Findings, i: int, j: int) -> Figure:
    axes = (findings.axes[i], findings.axes[j])
    ranges = _ranges(findings, (i, j))
    plot = go.Figure()
    for number, arm in enumerate(findings.arms):
        mine = [point for point in findings.points if point.arm == arm]
        if mine:
            _add_arm(plot, findings, mine, number, (i, j))
    _add_prior(plot, findings, axes, ranges)
    variants = tuple(variant(findings, (i, j), ranges, size) for size in SIZES)
    plot.update_layout(
        template="none",
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        hoverlabel={"font": {"family": FONT}},
        hovermode="closest",
        showlegend=False,
        xaxis=_axis(axes[0], ranges[0]),
        yaxis=_axis(axes[1], ranges[1]),
        **variants[-1],
    )
    return Figure(
        name=f"operating_points_{axes[0].task}_{axes[1].task}",
        title=f"{axes[0].task.capitalize()} against {axes[1].task}",
        alt=_alt(findings, axes, (i, j)),
        plot=plot,
        variants=variants,
    )


def _axis(axis: Axis, limits: tuple[float, float]) -> dict[str, Any]:
    return {
        "title": {"text": html.escape(axis_title(axis)), "standoff": 10},
        "range": list(limits),
        "gridcolor": GRID,
        "linecolor": MUTED,
        "tickcolor": MUTED,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": False,
    }


def axis_title(axis: Axis) -> str:
    """Return what a figure's axis says: task, metric, unit and which way is better."""
    # Better is right and up in every figure, so an axis is reversed where lower is better.
    reverse = " (reversed)" if axis.metric.direction == "min" else ""
    return f"{axis.title}, {axis.better}{reverse}"


def _add_arm(
    plot: go.Figure,
    findings: Findings,
    mine: Sequence[OperatingPoint],
    number: int,
    pair: tuple[int, int],
) -> None:
    arm = mine[0].arm
    axes = [findings.axes[k] for k in pair]
    mark = mark_of(number)
    colour = mark.colour
    runs = findings.runs[findings.runs["arm"] == arm]
    ghosts = [shown_values(runs[axis.column].tolist(), axis) for axis in axes]
    plot.add_scatter(
        x=ghosts[0],
        y=ghosts[1],
        mode="markers",
        name=f"{html.escape(arm)}, single seeds",
        marker={"symbol": mark.symbol, "size": 6, "color": colour, "opacity": 0.35},
        hovertext=[f"{html.escape(arm)}, seed {seed}" for seed in runs["seed"]],
        hovertemplate="%{hovertext}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        meta="ghosts",
    )
    corners = shown_staircase(findings, arm, pair)
    if corners:
        plot.add_scatter(
            x=[x for x, _ in corners],
            y=[y for _, y in corners],
            mode="lines",
            name=f"{html.escape(arm)}, nondominated",
            line={"color": colour, "width": 1.6, "dash": mark.dash},
            # Simplification drops corners and draws slopes between the rest.
            line_simplify=False,
            opacity=0.75,
            hoverinfo="skip",
            meta="staircase",
        )
    means = means_of(mine, arm)[:, list(pair)]
    errors = [
        [(point.sds[k] or 0.0) * axis.metric.display_factor for point in mine]
        for k, axis in zip(pair, axes, strict=True)
    ]
    bar = {"type": "data", "color": colour, "thickness": 1.2, "width": 3}
    plot.add_scatter(
        x=shown_values(means[:, 0].tolist(), axes[0]),
        y=shown_values(means[:, 1].tolist(), axes[1]),
        error_x={**bar, "array": errors[0]},
        error_y={**bar, "array": errors[1]},
        mode="markers",
        name=html.escape(arm),
        marker={
            "symbol": mark.symbol,
            "size": 11,
            "color": colour,
            "line": {"color": PAPER, "width": 1.5},
        },
        hovertext=[_hover(findings, point, axes, pair) for point in mine],
        hovertemplate="%{hovertext}<extra></extra>",
        meta="means",
    )


def _hover(
    findings: Findings, point: OperatingPoint, axes: Sequence[Axis], pair: tuple[int, int]
) -> str:
    lines = [
        f"<b>{html.escape(point.arm)}</b> {findings.shown_priorities(point.priorities, empty='')}"
    ]
    for axis, k in zip(axes, pair, strict=True):
        sd = f" ± {axis.shown(point.sds[k])}" if point.sds[k] is not None else ""
        lines.append(
            f"{axis.task} {axis.metric.name}: {axis.shown(point.means[k])}{sd} {axis.unit}"
        )
    return "<br>".join([*lines, f"seeds {', '.join(map(str, point.seeds))}"])


def _add_prior(
    plot: go.Figure, findings: Findings, axes: Sequence[Axis], ranges: Sequence[tuple[float, float]]
) -> None:
    for number, axis in enumerate(axes):
        if axis.column not in findings.prior:
            continue
        value = findings.prior[axis.column] * axis.metric.display_factor
        along, across = list(ranges[1 - number]), [value, value]
        x, y = (across, along) if number == 0 else (along, across)
        plot.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=f"per-pixel prior, {axis.task}",
            line={"color": MUTED, "width": 1.2, "dash": "dot"},
            line_simplify=False,
            hoverinfo="skip",
            meta="prior",
        )


def _ranges(findings: Findings, pair: tuple[int, int]) -> list[tuple[float, float]]:
    """Return axis limits in display units, the worse end first.

    They hold all seeds, bars and reference lines with some room.
    """
    limits = []
    for k in pair:
        axis = findings.axes[k]
        values = findings.runs[axis.column].tolist()
        for point in findings.points:
            sd = point.sds[k] or 0.0
            values += [point.means[k] - sd, point.means[k] + sd]
        if findings.reference is not None:
            values.append(findings.reference.point[k])
        low, high = min(values), max(values)
        room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        factor = axis.metric.display_factor
        ends = ((low - room) * factor, (high + room) * factor)
        limits.append(ends if axis.metric.direction == "max" else ends[::-1])
    return limits


def _alt(findings: Findings, axes: Sequence[Axis], pair: tuple[int, int]) -> str:
    parts = []
    for arm in findings.arms:
        mine = [point for point in findings.points if point.arm == arm]
        if mine:
            spans = [
                f"{axis.task} {axis.metric.name} {axis.shown(min(p.means[k] for p in mine))} to "
                f"{axis.shown(max(p.means[k] for p in mine))} {axis.unit}"
                for k, axis in zip(pair, axes, strict=True)
            ]
            parts.append(f"{arm}: {len(mine)} operating points, {', '.join(spans)}")
    return (
        f"Scatter plot of {axes[0].title} against {axes[1].title}. {'. '.join(parts)}. "
        "The table below holds every value."
    )
