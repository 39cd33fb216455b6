"""What would a priority give that was not trained? The fitted front, and how far to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.findings import Findings, prioritised_arms
from analysis.compute.fitted import Fitted, between, fitted, least_sure, standard_errors
from analysis.compute.inference import MIN_SEEDS, PERCENT
from analysis.load.axes import Axis
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import first_items, listed
from analysis.render.figure_parts import axis_limits, axis_title, legend_of, style_of
from analysis.render.panels import Drawn, Figure, Line, Panel, Points, Scale
from analysis.render.section import Section
from analysis.render.table import Column, Table

NAME, TITLE = "fitted", "What would a priority in between give?"
NUM_DRAWN = 101
"""Priorities at which a curve is drawn."""
MAX_ARMS = 4
"""Methods that are drawn; the table holds all."""
ROOM = 0.06
"""Share of the range of the points that a figure holds beyond them on each side."""


@dataclass(frozen=True)
class FittedArm:
    """A method's fitted front and its check; metrics in metric units, in the order of the axes."""

    arm: str
    degree: int
    held_out_errors: tuple[float, ...]
    standard_errors: tuple[float, ...] | None
    """Of the means that were seen, root mean square over the priorities; None for few seeds."""
    least_sure: tuple[float, ...] | None
    """The priorities between those trained where the interval is widest; None for few seeds."""
    predicted: tuple[float, ...] | None
    """There."""
    half_widths: tuple[float, ...] | None
    """There."""
    trained: tuple[tuple[float, ...], ...]
    """Priorities."""
    means: tuple[tuple[float, ...], ...]
    """Over seeds, at `trained`."""
    curve: tuple[tuple[float, ...], ...]
    """With two tasks the fitted means at `NUM_DRAWN` priorities; else empty."""


def _fitted_arm(runs: ArmRuns, front: Fitted) -> FittedArm:
    priorities = np.array(runs.priorities)
    points = between(priorities)
    place = least_sure(front, points)
    errors = predicted = half_widths = None
    if place is not None:
        errors = standard_errors(runs.metrics)
        predicted = front.at(points[[place]]).mean(axis=1)[0]
        widths = front.half_widths(points[[place]])
        assert widths is not None
        half_widths = widths[0]
    curve = np.empty((0, 2))
    if priorities.shape[1] == 2:
        shares = np.linspace(priorities[:, 0].min(), priorities[:, 0].max(), NUM_DRAWN)
        curve = front.at(np.stack([shares, 1 - shares], axis=1)).mean(axis=1)
    return FittedArm(
        runs.arm, front.degree, tuple(front.held_out_errors.tolist()), _plain(errors),
        None if place is None else _plain(points[place]), _plain(predicted), _plain(half_widths),
        runs.priorities, _rows(runs.metrics.mean(axis=1)), _rows(curve),
    )  # fmt: skip


def _plain(values: np.ndarray | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values.tolist())


def _rows(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.tolist()))


def fitted_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on priorities in between; None where no method has enough of them."""
    held = [arm_runs(findings.runs, findings.axes, arm) for arm in prioritised_arms(findings)]
    fronts = [(runs, fitted(runs.priorities, runs.metrics)) for runs in held if runs.seeds]
    found = [_fitted_arm(runs, front) for runs, front in fronts if front is not None]
    if not found:
        return None
    figures = (_figure(findings, found),) if len(findings.axes) == 2 else ()
    return Section(
        NAME,
        TITLE,
        _lead(findings.axes, found[0]),
        (*figures, _table(findings.axes, found)),
        {"fronts": tuple(found)},
    )


def _lead(axes: Sequence[Axis], held: FittedArm) -> str:
    errors = [
        f"{axis.name} {axis.shown(error, more_decimals=1)} {axis.difference_unit}"
        for axis, error in zip(axes, held.held_out_errors, strict=True)
    ]
    lead = (
        f"Each metric of {held.arm} as a polynomial of the priorities (degree "
        f"{held.degree}, that which predicts best). Each priority between the outermost "
        f"left out in turn and predicted from the others: error {listed(errors)}, root mean square"
    )
    if held.standard_errors is None:
        return f"{lead}. Fewer than {MIN_SEEDS} seeds say nothing of how sure it is."
    shown = [
        axis.shown(error, more_decimals=1)
        for axis, error in zip(axes, held.standard_errors, strict=True)
    ]
    return (
        f"{lead}, where the means predicted have a standard error of {listed(shown)} themselves. "
        f"It is least sure of {_shown(held.least_sure)}."
    )


def _shown(priorities: Sequence[float] | None) -> str:
    return "" if priorities is None else f"({', '.join(f'{p:.3g}' for p in priorities)})"


def _figure(findings: Findings, found: Sequence[FittedArm]) -> Figure:
    shown, note = first_items(list(found), MAX_ARMS, "methods")
    x_axis, y_axis = findings.axes
    factors = np.array([axis.metric.display_factor for axis in findings.axes])
    curves: list[Drawn] = []
    means: list[Drawn] = []
    for held in shown:
        style = style_of(findings, held.arm)
        x, y = map(tuple, (np.array(held.curve) * factors).T.tolist())
        curves.append(Line(x, y, style.colour, style.dash, f"{held.arm}, fitted"))
        x, y = map(tuple, (np.array(held.means) * factors).T.tolist())
        hover = tuple(f"{held.arm}\npriorities {_shown(p)}" for p in held.trained)
        means.append(Points(x, y, style, held.arm, hover, size=9))
    values = np.array([point for held in shown for point in (*held.curve, *held.means)])
    x_scale, y_scale = (
        Scale(axis_title(axis), axis_limits(values[:, k].tolist(), axis, ROOM))
        for k, axis in enumerate(findings.axes)
    )
    return Figure(
        name=NAME,
        title="Fitted fronts",
        alt=f"Curves through the operating points of {listed([held.arm for held in shown])}: "
        f"{y_axis.task} against {x_axis.task}.",
        panels=(Panel(NAME, x_scale, y_scale, (*curves, *means)),),
        caption="Markers: means over seeds that were trained. Lines: the polynomial; between the "
        f"markers nothing was trained.{note}",
        legend=legend_of(findings, [held.arm for held in shown]),
    )


def _table(axes: Sequence[Axis], found: Sequence[FittedArm]) -> Table:
    nothing = (None,) * len(axes)
    records = [
        {
            "method": held.arm,
            "metric": axis.column,
            "axis": axis,
            "degree": held.degree,
            "held_out_error": held.held_out_errors[k],
            "standard_error": (held.standard_errors or nothing)[k],
            "least_sure": _shown(held.least_sure),
            "predicted": (held.predicted or nothing)[k],
            "half_width": (held.half_widths or nothing)[k],
        }
        for held in found
        for k, axis in enumerate(axes)
    ]

    def shown(name: str) -> Column:
        titles = {
            "held_out_error": "error, left out",
            "standard_error": "standard error, seen",
            "predicted": "predicted there",
            "half_width": "plus or minus",
        }
        return Column(name, titles[name], lambda r: r["axis"].shown(r[name], more_decimals=1))

    return Table.of(
        NAME,
        "Error, left out: root mean square, over the priorities between the outermost, of the mean "
        "predicted without the priority minus the mean seen. Standard error, seen: of those means. "
        f"Least sure at: the priorities between trained ones where the {PERCENT} interval of the "
        "fitted front is widest, what it predicts there, and half that interval (over seeds; what "
        "the polynomial cannot follow is not in it).",
        records,
        [
            Column("method", "method"),
            Column("metric", "metric", lambda r: r["axis"].title),
            Column("degree", "degree", "d"),
            shown("held_out_error"),
            shown("standard_error"),
            Column("least_sure", "least sure at"),
            shown("predicted"),
            shown("half_width"),
        ],
        num_words=2,
    )
