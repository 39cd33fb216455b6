"""Where one method's seeds reach further than another's: the attainment difference, drawn."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.compute.attainment import (
    AttainmentDifference,
    attainment_difference,
    attainment_surface,
)
from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import minimised, staircase
from analysis.load.axes import MINUS, Axis, signs
from analysis.load.matched import Matched, by_arm, matched_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import first_items
from analysis.render.figure_parts import axis_title, style_of
from analysis.render.panels import ColourBar, Figure, Heatmap, Key, Line, Panel, Scale
from analysis.render.section import Section

MAX_PANELS = 6
MAX_CELLS = 120
"""Along an axis of a panel."""
ROOM = 0.06
"""Share of the range of the runs that a panel holds beyond them on each side."""
TITLE = "Attainment: what share of the seeds reaches a result"


@dataclass(frozen=True)
class _View:
    """What one panel shows: two methods on two tasks."""

    axes: tuple[Axis, Axis]
    found: AttainmentDifference
    medians: tuple[list[tuple[float, float]], ...]
    """Median attainment staircases of both methods, metric units."""


def attainment(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on attainment; None with fewer than two methods that take priorities.

    It shows the first pair of methods, the paper's first, that have runs to be compared.
    """
    runs = by_arm(findings.runs, findings.axes)
    pairs = every_pair([arm for arm in findings.arms if arm in runs])
    if not pairs:
        return None
    if len(findings.axes) < 2:
        words = "Not shown: these results have one task, and attainment is drawn for two."
        return Section("attainment", TITLE, words, ())
    why_not: list[str] = []
    for pair in pairs:
        matched = matched_runs(runs, pair, same_seeds=False)
        if isinstance(matched, str):
            why_not.append(f"Not shown: {matched}.")
        elif min(len(matched.a.seeds), len(matched.b.seeds)) < 2:
            why_not.append(
                "Not shown: needs at least two complete seeds of each method "
                f"({pair[0]} has {len(matched.a.seeds)}, {pair[1]} {len(matched.b.seeds)})."
            )
        else:
            return _section(findings, matched, why_not)
    return Section("attainment", TITLE, " ".join(why_not), ())


def _section(findings: Findings, matched: Matched, why_not: list[str]) -> Section:
    places = list(itertools.combinations(range(len(findings.axes)), 2))
    drawn, note = first_items(places, MAX_PANELS, "pairs of tasks")
    views = [_view(findings, matched, pair) for pair in drawn]
    lead, *more = (_difference_words(matched, view) for view in views)
    words = [*matched.left_out, *why_not, *more]
    if more:
        words.append("A run that reaches a place of one panel may be poor on the other tasks.")
    values = {
        "method_a": matched.a.arm,
        "method_b": matched.b.arm,
        "num_priorities": len(matched.a.priorities),
        "seeds_a": matched.a.seeds,
        "seeds_b": matched.b.seeds,
        "comparisons": [_values(view) for view in views],
    }
    figure = _figure(findings, matched, views, note)
    return Section("attainment", TITLE, lead, (figure, *words), values)


def _view(findings: Findings, matched: Matched, pair: tuple[int, int]) -> _View:
    axes = (findings.axes[pair[0]], findings.axes[pair[1]])
    # For each seed of each method its results (priorities, 2).
    sides = [
        list(np.swapaxes(minimised(runs[:, :, list(pair)], axes), 0, 1))
        for runs in (matched.a.metrics, matched.b.metrics)
    ]
    everything = np.concatenate([*sides[0], *sides[1]])
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = np.where(high > low, (high - low) * ROOM, np.maximum(np.abs(high) * 0.1, 1e-3))
    turn = signs(axes)
    return _View(
        axes,
        attainment_difference(sides[0], sides[1], low - room, high + room, MAX_CELLS),
        tuple(
            staircase(attainment_surface(side, 0.5) * turn, (high + room) * turn, axes)
            for side in sides
        ),
    )


def _figure(findings: Findings, matched: Matched, views: list[_View], note: str) -> Figure:
    a, b = matched.a.arm, matched.b.arm
    seeds = f"{len(matched.a.seeds)} seeds of {a} and {len(matched.b.seeds)} of {b}"
    many = ""
    if any(max(view.found.difference.shape) >= MAX_CELLS for view in views):
        many = f" {MAX_CELLS} by {MAX_CELLS} cells are drawn, coloured as at their best corner."
    return Figure(
        "attainment_difference",
        f"Attainment of {a} {MINUS} attainment of {b}",
        f"Coloured plane for each pair of tasks: share of the {seeds} with a run at least as good "
        "on both axes, one minus the other. The words below name the largest differences.",
        tuple(_panel(findings, matched, view) for view in views),
        f"Colour: of {seeds}, the share with a run at least as good as this place on both axes, "
        f"{a} minus {b}: purple where {a} leads, orange where {b} does. Over the "
        f"{len(matched.a.priorities)} priorities that both have. Lines: what half of the seeds "
        f"reach, of two the better one.{many}{note}",
        columns=min(2, len(views)),
        legend=tuple(
            Key(f"{arm}, half of the seeds", style_of(findings, arm), "line") for arm in (a, b)
        ),
    )


def _panel(findings: Findings, matched: Matched, view: _View) -> Panel:
    factors = np.array([axis.metric.display_factor for axis in view.axes])
    lines = []
    for arm, median in zip((matched.a.arm, matched.b.arm), view.medians, strict=True):
        style = style_of(findings, arm)
        x, y = (tuple(values) for values in (np.reshape(median, (-1, 2)) * factors).T.tolist())
        name = f"{arm}, half of the seeds"
        lines.append(Line(x, y, style.colour, style.dash, name, width=2.2))
    # The edges rise from better to worse; in display units they fall where higher is better.
    edges = (view.found.x_edges, view.found.y_edges)
    shown = [e * turn for e, turn in zip(edges, signs(view.axes) * factors, strict=True)]
    steps = [1 if e[-1] > e[0] else -1 for e in shown]
    cells = Heatmap(
        tuple(map(float, shown[0][:: steps[0]])),
        tuple(map(float, shown[1][:: steps[1]])),
        view.found.difference[:: steps[0], :: steps[1]],
        ColourBar(f"share of seeds, {matched.a.arm} {MINUS} {matched.b.arm}", "diverging", (-1, 1)),
    )
    x_scale, y_scale = (
        Scale(axis_title(axis), (float(e[-1]), float(e[0])))
        for axis, e in zip(view.axes, shown, strict=True)
    )
    x_task, y_task = (axis.task for axis in view.axes)
    return Panel(
        f"attainment_difference_{x_task}_{y_task}",
        x_scale,
        y_scale,
        (cells, *lines),
        title=f"{x_task} and {y_task}",
        height=400,
    )


def _difference_words(matched: Matched, view: _View) -> str:
    a, b, found = matched.a.arm, matched.b.arm, view.found
    on = f"On {view.axes[0].task} and {view.axes[1].task}"
    cell = found.largest()
    if cell is None:
        return f"{on}, the seeds of {a} and {b} differ nowhere: as many of each reach every level."
    ahead, behind = (f"{led:.0%} of the plane" if led else "no place" for led in found.led)
    x, y = (_level(axis, value) for axis, value in zip(view.axes, _corner(view, cell), strict=True))
    return (
        f"{on}, more seeds of {a} than of {b} reach {ahead}, and fewer reach {behind}. The largest "
        f"difference: {_seeds(found.share_a[cell], len(matched.a.seeds))} seeds of {a} and "
        f"{_seeds(found.share_b[cell], len(matched.b.seeds))} of {b} have a run with {x} and {y}."
    )


def _corner(view: _View, cell: tuple[int, int]) -> tuple[float, float]:
    """Return a cell's best corner in metric units."""
    x, y = np.array([view.found.x_edges[cell[0]], view.found.y_edges[cell[1]]]) * signs(view.axes)
    return float(x), float(y)


def _level(axis: Axis, value: float) -> str:
    bound = "at least" if axis.metric.direction == "max" else "at most"
    return f"{axis.name} {bound} {axis.shown(value, more_decimals=1)} {axis.unit}"


def _seeds(share: float, number: int) -> str:
    return f"{round(share * number)} of {number}"


def _values(view: _View) -> dict[str, Any]:
    cell = view.found.largest()
    return {
        "metrics": [axis.column for axis in view.axes],
        "share_of_plane_led_by_a": view.found.led[0],
        "share_of_plane_led_by_b": view.found.led[1],
        "largest_difference": None
        if cell is None
        else {
            "levels": _corner(view, cell),
            "share_of_seeds_a": float(view.found.share_a[cell]),
            "share_of_seeds_b": float(view.found.share_b[cell]),
        },
        "medians": view.medians,
    }
