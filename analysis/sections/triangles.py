"""Three tasks: values, differences and winners over the triangle of priorities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.axes import NONE, Axis, shown_number
from analysis.figure_parts import point_text, range_text, rounded, widened
from analysis.findings import Findings
from analysis.marks import GRID, INK, MUTED, Mark, mark_of
from analysis.pairs import PAPER_PAIR, every_pair
from analysis.panels import ColouredPoints, Drawn, Figure, Key, Label, Line, Panel, Points, Scale
from analysis.priorities import priority_values
from analysis.result_tables import Table
from analysis.section import Folded, Part
from analysis.single_runs import Runs, by_point
from analysis.ternary import (
    CORNERS,
    Difference,
    Winner,
    differences,
    in_triangle,
    winners,
)
from analysis.thinning import evenly
from analysis.words import listed

MOST_ARMS = 4
"""Methods with triangles of their own; each has three."""
MOST_PAIRS = 3
MOST_SETTINGS = 300
"""Priorities drawn in a triangle."""
GRID_STEP = 0.2
SIDE = Scale("", (-0.1, 1.1), is_shown=False)
HEIGHT = Scale("", (-0.13, 1.0), is_shown=False)


def triangles(findings: Findings, parts: list[Part | Folded], values: dict[str, Any]) -> str | None:
    """Add the triangles to `parts` and their values; return what the first pair shows, in words."""
    axes = findings.axes
    runs: Runs = by_point(
        findings.runs, [axis.task for axis in axes], [axis.column for axis in axes]
    )
    steered = [a for a in findings.arms if any(arm == a and key for arm, key in runs)]
    if not steered:
        parts.append("No triangle is drawn: no method here takes priorities.")
        return None
    if len(steered) > MOST_ARMS:
        parts.append(
            f"Triangles are drawn for the first {MOST_ARMS} of {len(steered)} methods; the CSV "
            "files of the operating points hold all."
        )
    parts.append(_value_figure(findings, steered[:MOST_ARMS]))
    every = every_pair(steered)
    has_papers = PAPER_PAIR in every
    pairs = every[: 1 if has_papers and len(steered) > MOST_ARMS else MOST_PAIRS]
    words: str | None = None
    shown: list[dict[str, Any]] = []
    tables: list[Part] = []
    figures: list[Part] = []
    for a, b in pairs:
        found = differences(runs, a, b, axes)
        if not found:
            parts.append(f"{a} and {b} share no priority and seed, so no difference is drawn.")
            continue
        shown.append({"arm_a": a, "arm_b": b, "differences": found})
        words = words or _difference_words(axes, a, b, found)
        figures.append(_difference_figure(findings, a, b, found))
        tables.append(_difference_table(findings, a, b, found))
    if shown and len(pairs) < len(every):
        parts.append(f"Differences are drawn for {len(pairs)} of {len(every)} pairs of methods.")
    parts += figures
    if len(steered) > 1:
        by_axis = [winners(runs, steered, axes, k) for k in range(3)]
        if by_axis[0]:
            parts.append(_winner_figure(findings, steered, by_axis))
            tables.append(_winner_table(findings, by_axis))
            values["winners"] = dict(zip((a.column for a in axes), by_axis, strict=True))
            if max(w.num_seeds for w in by_axis[0]) == 1:
                parts.append("One seed at each priority: a winner here may be luck.")
        else:
            parts.append(
                f"No winner is drawn: no priority was run by all of {listed(steered)} with a seed "
                "in common."
            )
    else:
        parts.append(f"{steered[0]} alone takes priorities, so there is no difference and winner.")
    if tables:
        parts.append(Folded("Values in the triangles", tuple(tables)))
    values["pairs"] = shown
    return words


def _difference_words(axes: Sequence[Axis], a: str, b: str, found: Sequence[Difference]) -> str:
    said = []
    for k, axis in enumerate(axes):
        ahead = sum(d.gains[k] > 0 for d in found)
        mean = float(np.mean([d.gains[k] for d in found]))
        said.append(
            f"{axis.name} at {ahead} (mean gain "
            f"{axis.shown(mean, signed=True)} {axis.difference_unit})"
        )
    settings = "1 priority" if len(found) == 1 else f"{len(found)} priorities"
    return f"Of {settings} that both ran, {a} is better than {b} in {listed(said)}."


def _value_figure(findings: Findings, arms: Sequence[str]) -> Figure:
    panels = []
    for arm in arms:
        mine = evenly([p for p in findings.points if p.arm == arm and p.priorities], MOST_SETTINGS)
        for k, axis in enumerate(findings.axes):
            over = [p.means[k] for p in findings.points if p.arm in arms and p.priorities]
            limits = widened(min(over), max(over), axis)
            panels.append(
                _triangle_panel(
                    f"ternary_{arms.index(arm)}_{k}",
                    f"{arm}: {axis.name}",
                    findings.axes,
                    [p.priorities for p in mine if p.priorities],
                    [p.means[k] * axis.metric.display_factor for p in mine],
                    "sequential",
                    limits,
                    f"{axis.unit}, {axis.better}",
                    [point_text(findings, p) for p in mine],
                )
            )
    axes = findings.axes
    spans = [
        f"{arm}: " + ", ".join(range_text(mine, axis, k) for k, axis in enumerate(axes))
        for arm in arms
        if (mine := [p for p in findings.points if p.arm == arm and p.priorities])
    ]
    return Figure(
        "ternary_values",
        "What each priority gives",
        f"Triangles of priorities, one a method and metric. {'. '.join(spans)}. The table of "
        "operating points holds every value.",
        tuple(panels),
        "A setting stands nearer to a task's corner the higher the task's priority; at a corner "
        "that task would have all of it. Grey lines are steps of 0.2. One colour scale a metric "
        f"for all methods; means over seeds.{_thinned_words(findings, arms)}",
        columns=3,
    )


def _thinned_words(findings: Findings, arms: Sequence[str]) -> str:
    most = max(
        sum(p.arm == arm and p.priorities is not None for p in findings.points) for arm in arms
    )
    if most <= MOST_SETTINGS:
        return ""
    return (
        f" {MOST_SETTINGS} of up to {most} priorities are drawn, evenly picked; the CSV holds all."
    )


def _difference_figure(findings: Findings, a: str, b: str, found: Sequence[Difference]) -> Figure:
    drawn = evenly(found, MOST_SETTINGS)
    panels = []
    axes = findings.axes
    number_a, number_b = findings.arms.index(a), findings.arms.index(b)
    for k, axis in enumerate(axes):
        factor = axis.metric.display_factor
        reach = max(abs(d.gains[k]) for d in found) * factor or 10.0**-axis.metric.decimals
        panels.append(
            _triangle_panel(
                f"ternary_difference_{number_a}_{number_b}_{k}",
                f"{axis.name}",
                axes,
                [d.priorities for d in drawn],
                [d.gains[k] * factor for d in drawn],
                "diverging",
                (-reach, reach),
                f"gain ({axis.difference_unit})",
                [_difference_text(findings, axis, k, d) for d in drawn],
            )
        )
    return Figure(
        f"ternary_difference_{number_a}_{number_b}",
        f"{a} against {b} at equal priority",
        f"Triangles of the gain of {a} over {b}. {_difference_words(axes, a, b, found)}",
        tuple(panels),
        f"Gain of {a} over {b}: positive where {a} is better, whichever way the metric counts; "
        "means over the seeds that both have at a priority.",
        columns=3,
    )


def _winner_figure(
    findings: Findings, arms: Sequence[str], by_axis: Sequence[Sequence[Winner]]
) -> Figure:
    panels = []
    for k, axis in enumerate(findings.axes):
        marks: list[Drawn] = []
        drawn = evenly(by_axis[k], MOST_SETTINGS)
        for arm in arms:
            mark = mark_of(findings.arms.index(arm))
            for all_agree in (True, False):
                mine = [w for w in drawn if w.arm == arm and (w.agreeing == 1) == all_agree]
                marks += _winner_points(findings, mine, mark, arm, all_agree)
        neither = [w for w in drawn if w.arm is None]
        marks += _undecided(neither)
        panels.append(
            _outlined(
                f"ternary_winner_{k}",
                f"{axis.name}",
                findings.axes,
                marks,
            )
        )
    said = [
        f"{axis.name}: "
        + (
            listed(
                [
                    f"{arm} at {sum(w.arm == arm for w in by_axis[k])}"
                    for arm in arms
                    if any(w.arm == arm for w in by_axis[k])
                ]
                or ["nobody"]
            )
        )
        for k, axis in enumerate(findings.axes)
    ]
    legend = [
        Key(arm, mark_of(findings.arms.index(arm)), "point")
        for arm in arms
        if any(w.arm == arm for of in by_axis for w in of)
    ]
    return Figure(
        "ternary_winners",
        "Which method is best where",
        f"Triangles of the best method at each of {len(by_axis[0])} priorities. {'. '.join(said)}.",
        tuple(panels),
        "Large marks: the method is best in all seeds at that priority. Small marks: in most "
        "seeds, or in as many as another and better in the mean. A dash: no method is ahead.",
        columns=3,
        legend=tuple(legend),
    )


def _winner_points(
    findings: Findings, mine: Sequence[Winner], mark: Mark, arm: str, all_agree: bool
) -> list[Drawn]:
    if not mine:
        return []
    places = in_triangle(np.array([w.priorities for w in mine]))
    return [
        Points(
            rounded(places[:, 0]),
            rounded(places[:, 1]),
            mark,
            arm,
            tuple(
                f"{arm} {findings.shown_priorities(w.priorities)}\nbest in "
                f"{round(w.agreeing * w.num_seeds)} of {w.num_seeds} seeds"
                for w in mine
            ),
            size=16.0 if all_agree else 8.0,
        )
    ]


def _undecided(neither: Sequence[Winner]) -> list[Drawn]:
    if not neither:
        return []
    places = in_triangle(np.array([w.priorities for w in neither]))
    return [Label(x, y, NONE, MUTED) for x, y in zip(*map(rounded, places.T), strict=True)]


def _triangle_panel(
    name: str,
    title: str,
    axes: Sequence[Axis],
    settings: Sequence[tuple[float, ...]],
    shown: Sequence[float],
    colours: Any,
    limits: tuple[float, float],
    bar_title: str,
    hover: Sequence[str],
) -> Panel:
    places = in_triangle(np.array(settings))
    points = ColouredPoints(
        rounded(places[:, 0]),
        rounded(places[:, 1]),
        tuple(map(float, shown)),
        colours,
        limits,
        bar_title,
        hover=tuple(hover),
        size=14.0 if len(settings) <= 100 else 7.0,
    )
    return _outlined(name, title, axes, [points])


def _outlined(name: str, title: str, axes: Sequence[Axis], marks: Sequence[Drawn]) -> Panel:
    """Return a panel with the triangle, its lines of equal priority and its corners' names."""
    corners = np.array(CORNERS)
    grid: list[Drawn] = []
    for k in range(3):
        for step in np.arange(GRID_STEP, 1 - 1e-9, GRID_STEP):
            # Both ends have `step` of task k; one has the rest of the next task, one of the other.
            ends = np.zeros((2, 3))
            ends[:, k] = step
            ends[0, (k + 1) % 3] = ends[1, (k + 2) % 3] = 1 - step
            line = in_triangle(ends)
            grid.append(Line(rounded(line[:, 0]), rounded(line[:, 1]), GRID, width=1.0))
    around = corners[[0, 1, 2, 0]]
    outline = Line(rounded(around[:, 0]), rounded(around[:, 1]), MUTED, width=1.2)
    left, right, top = (axis.task for axis in axes)
    names: list[Drawn] = [
        Label(-0.1, -0.07, left, INK, "left"),
        Label(1.1, -0.07, right, INK, "right"),
        Label(0.5, float(corners[2, 1]) + 0.07, top, INK, "center"),
    ]
    return Panel(
        name, SIDE, HEIGHT, (*grid, outline, *marks, *names), title, height=250, is_equal=True
    )


def _difference_table(findings: Findings, a: str, b: str, found: Sequence[Difference]) -> Table:
    axes = findings.axes
    tasks = [axis.task for axis in axes]
    rows, raw = [], []
    for d in found:
        cells = [
            f"{axis.shown(d.gains[k], signed=True)} ({d.seeds_better[k] * len(d.seeds):g})"
            for k, axis in enumerate(axes)
        ]
        rows.append((findings.shown_priorities(d.priorities), *cells, str(len(d.seeds))))
        values: dict[str, Any] = {"method_a": a, "method_b": b}
        values |= priority_values(d.priorities, tasks)
        for k, axis in enumerate(axes):
            values |= {
                f"{axis.column}_gain": d.gains[k],
                f"{axis.column}_seeds_better": d.seeds_better[k],
            }
        raw.append({**values, "num_seeds": len(d.seeds)})
    heads = [f"{axis.name} ({axis.difference_unit})" for axis in axes]
    return Table(
        f"ternary_difference_{findings.arms.index(a)}_{findings.arms.index(b)}",
        f"Gain of {a} over {b} at each priority, positive where {a} is better; in parentheses the "
        f"number of seeds in which it is, a tie counting half.",
        (f"priorities ({', '.join(tasks)})", *heads, "seeds"),
        tuple(rows),
        pd.DataFrame(raw),
    )


def _winner_table(findings: Findings, by_axis: Sequence[Sequence[Winner]]) -> Table:
    axes = findings.axes
    tasks = [axis.task for axis in axes]
    rows, raw = [], []
    for held in zip(*by_axis, strict=True):
        cells = [
            "no method" if w.arm is None else f"{w.arm} ({w.agreeing * w.num_seeds:.0f})"
            for w in held
        ]
        rows.append((findings.shown_priorities(held[0].priorities), *cells, str(held[0].num_seeds)))
        values: dict[str, Any] = {**priority_values(held[0].priorities, tasks)}
        for axis, w in zip(axes, held, strict=True):
            values |= {f"{axis.column}_winner": w.arm, f"{axis.column}_agreeing": w.agreeing}
        raw.append({**values, "num_seeds": held[0].num_seeds})
    return Table(
        "ternary_winners",
        "Best method at each priority; in parentheses the number of seeds in which it alone is "
        "best.",
        (
            f"priorities ({', '.join(tasks)})",
            *(f"{axis.name}" for axis in axes),
            "seeds",
        ),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=4,
    )


def _difference_text(findings: Findings, axis: Axis, k: int, d: Difference) -> str:
    return (
        f"{findings.shown_priorities(d.priorities)}\n"
        f"{axis.shown(d.gains[k], signed=True)} {axis.difference_unit}, better in "
        f"{shown_number(d.seeds_better[k] * len(d.seeds), 'g')} of {len(d.seeds)} seeds"
    )
