"""Three tasks and more: triangles of priorities, pairs of metrics, and parallel coordinates."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.findings import PAPER_PAIR, Findings, every_pair
from analysis.compute.fronts import OperatingPoint
from analysis.compute.ternary import CORNERS, Difference, Winner, differences, in_triangle, winners
from analysis.load.axes import NONE, Axis, shown_number, signs
from analysis.load.matched import Runs, by_point
from analysis.load.priorities import priority_values
from analysis.load.run_files import RunFiles
from analysis.load.text import evenly, listed
from analysis.render.figure_parts import axis_limits, point_text, range_text, rounded, widened
from analysis.render.panels import (
    GRID,
    INK,
    MUTED,
    ColouredPoints,
    Drawn,
    Figure,
    Key,
    Label,
    Line,
    Mark,
    Panel,
    Points,
    Scale,
    mark_of,
)
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Table

MOST_TASKS = 6
"""Tasks whose pairs are drawn: six have 15."""
MOST_ARMS_IN_PAIRS = 8
MOST_POINTS_IN_PAIRS = 100
"""Operating points of a method in each of the small panels."""
MOST_LINES = 120
"""Operating points in parallel coordinates."""
NARROWEST_PIXELS = 190
"""What remains beside the tasks' names on a page of 390 pixels."""


def metric_pairs(findings: Findings) -> tuple[Figure, str]:
    """Return small plots of every pair of metrics, and what is left out, in words."""
    axes = findings.axes[:MOST_TASKS]
    arms = list(dict.fromkeys(point.arm for point in findings.points))
    drawn_arms = arms[:MOST_ARMS_IN_PAIRS]
    panels: list[Panel] = []
    limits = [
        axis_limits([p.means[k] for p in findings.points], axis) for k, axis in enumerate(axes)
    ]
    bounded = {arm: _foremost(_of(findings, arm), MOST_POINTS_IN_PAIRS) for arm in drawn_arms}
    for i, j in itertools.combinations(range(len(axes)), 2):
        marks: list[Drawn] = []
        for arm in drawn_arms:
            mark = mark_of(findings.arms.index(arm))
            for is_front in (False, True):
                mine = [p for p in bounded[arm] if p.nondominated is is_front]
                if not mine:
                    continue
                x, y = (_shown_means(mine, axes[k], k) for k in (i, j))
                hover = tuple(point_text(findings, p) for p in mine) if len(panels) < 3 else ()
                marks.append(
                    Points(x, y, mark, arm, hover, size=9.0, opacity=1.0 if is_front else 0.35)
                )
        panels.append(
            Panel(
                f"pair_{i}_{j}",
                Scale(_short_title(axes[i]), limits[i]),
                Scale(_short_title(axes[j]), limits[j]),
                tuple(marks),
                f"{axes[i].task} and {axes[j].task}",
                height=300,
            )
        )
    num_front = sum(point.nondominated for point in findings.points)
    figure = Figure(
        "metric_pairs",
        "Every pair of metrics",
        f"Small scatter plots of {len(panels)} pairs of metrics. {num_front} of "
        f"{len(findings.points)} operating points are not dominated on all "
        f"{len(findings.axes)} metrics. The table of operating points holds every value.",
        tuple(panels),
        "Means over seeds; better is right and up, and an arrow says whether higher or lower is "
        f"better. Strong marks are not dominated on all {len(findings.axes)} metrics at once, "
        "faint ones are: a point may look beaten in one pair and be the best compromise over all.",
        columns=3,
        legend=tuple(Key(arm, mark_of(findings.arms.index(arm)), "point") for arm in drawn_arms),
    )
    left_out = []
    if len(findings.axes) > MOST_TASKS:
        left_out.append(f"the first {MOST_TASKS} of {len(findings.axes)} tasks")
    if len(arms) > MOST_ARMS_IN_PAIRS:
        left_out.append(f"the first {MOST_ARMS_IN_PAIRS} of {len(arms)} methods")
    if any(len(_of(findings, arm)) > MOST_POINTS_IN_PAIRS for arm in drawn_arms):
        left_out.append(
            f"at most {MOST_POINTS_IN_PAIRS} points a method, those that are not dominated first"
        )
    words = f"The small plots show {listed(left_out)}; the CSV holds all." if left_out else ""
    return figure, words


def _short_title(axis: Axis) -> str:
    """Return an axis' title for a small panel, whose own title names the tasks."""
    arrow = "\N{UPWARDS ARROW}" if axis.metric.direction == "max" else "\N{DOWNWARDS ARROW}"
    return f"{axis.metric.name} ({axis.unit}) {arrow}"


def parallel_coordinates(findings: Findings) -> tuple[Figure, str, list[dict[str, Any]]]:
    """Return parallel coordinates, what is left out in words, and the ends of each axis."""
    axes = findings.axes
    all_means = np.array([point.means for point in findings.points])
    losses = all_means * signs(axes)
    best, worst = losses.min(axis=0), losses.max(axis=0)
    width = worst - best
    arms = list(dict.fromkeys(point.arm for point in findings.points))
    share = max(1, MOST_LINES // len(arms))
    drawn_arms = arms[:MOST_LINES]
    marks: list[Drawn] = [
        Line((0.0, 1.0), (float(k), float(k)), MUTED, width=1.0) for k in range(len(axes))
    ]
    num_drawn = 0
    for arm in drawn_arms:
        mark = mark_of(findings.arms.index(arm))
        for point in reversed(_foremost(_of(findings, arm), share)):
            places = parallel_places(np.array(point.means) * signs(axes), best, worst)
            num_drawn += 1
            marks.append(
                Line(
                    rounded(places),
                    tuple(map(float, range(len(axes)))),
                    mark.colour,
                    mark.dash,
                    arm,
                    width=1.8 if point.nondominated else 1.0,
                    opacity=0.9 if point.nondominated else 0.35,
                    hover=(point_text(findings, point),) * len(axes),
                )
            )
    constant = [axis for axis, w in zip(axes, width, strict=True) if w == 0]
    for k, axis in enumerate(axes):
        turn = signs([axis])[0]
        marks += [
            Label(-0.03, float(k), axis.shown(float(worst[k] * turn)), anchor="right"),
            Label(1.03, float(k), axis.shown(float(best[k] * turn)), anchor="left"),
        ]
    texts = [mark.text for mark in marks if isinstance(mark, Label)]
    room = _room(max(map(len, texts)))
    ranges = [
        {"column": axis.column, "best": float(b * t), "worst": float(w * t)}
        for axis, b, w, t in zip(axes, best, worst, signs(axes), strict=True)
    ]
    figure = Figure(
        "parallel_coordinates",
        "All metrics side by side",
        f"Parallel coordinates of {num_drawn} operating points over {len(axes)} metrics. "
        f"{range_words(findings)} The table of operating points holds every value.",
        (
            Panel(
                "parallel_coordinates",
                Scale(
                    "share of the range",
                    (-room, 1 + room),
                    ticks=((0.0, "worst"), (1.0, "best")),
                ),
                Scale(
                    "",
                    (len(axes) - 0.7, -0.3),
                    ticks=tuple(
                        (float(k), f"{axis.task}\n{axis.metric.name}\n({axis.unit})")
                        for k, axis in enumerate(axes)
                    ),
                ),
                tuple(marks),
                height=110 + 64 * len(axes),
            ),
        ),
        "One line an operating point (mean over seeds). Each axis runs from the worst to the best "
        "mean, written at its ends. Strong lines are not dominated on all metrics.",
        legend=tuple(
            Key(arm, mark_of(findings.arms.index(arm)), "line")
            for arm in drawn_arms[:MOST_ARMS_IN_PAIRS]
        ),
    )
    notes = []
    if num_drawn < len(findings.points):
        notes.append(
            f"{num_drawn} of {len(findings.points)} operating points have a line, at most {share} "
            "a method, those that are not dominated first."
        )
    if constant:
        names = listed([f"{axis.name}" for axis in constant])
        notes.append(f"{names} is the same at every point: its lines meet half way.")
    return figure, " ".join(notes), ranges


def parallel_places(losses: np.ndarray, best: np.ndarray, worst: np.ndarray) -> np.ndarray:
    """Return places on axes from 0 (worst) to 1 (best); 0.5 where both are equal.

    All arguments are minimised: lower is better.
    """
    width = worst - best
    return np.where(width > 0, (worst - losses) / np.where(width > 0, width, 1.0), 0.5)


def range_words(findings: Findings) -> str:
    """Say between which values the means run."""
    said = [range_text(findings.points, axis, k) for k, axis in enumerate(findings.axes)]
    return f"Over {len(findings.points)} operating points the means run over {listed(said)}."


def _room(most_signs: int) -> float:
    """Return what the numbers beside the axes need, as a share of the axes' length."""
    pixels = 7 * most_signs + 6
    return pixels / max(NARROWEST_PIXELS - 2 * pixels, 80)


def _of(findings: Findings, arm: str) -> list[OperatingPoint]:
    return [point for point in findings.points if point.arm == arm]


def _foremost(points: Sequence[OperatingPoint], most: int) -> list[OperatingPoint]:
    """Return at most so many points, those that are not dominated first."""
    ranked = sorted(points, key=lambda p: (not p.nondominated, not p.nondominated_in_arm))
    return ranked[:most]


def _shown_means(points: Sequence[OperatingPoint], axis: Axis, k: int) -> tuple[float, ...]:
    return tuple(float(f"{p.means[k] * axis.metric.display_factor:.6g}") for p in points)


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


def many_tasks(findings: Findings, files: RunFiles) -> Section | None:  # noqa: ARG001
    """Return the section for three tasks and more; None for fewer, or without results."""
    axes = findings.axes
    if len(axes) < 3 or not findings.points:
        return None
    lead = range_words(findings)
    parts: list[Part | Folded] = []
    values: dict[str, Any] = {}
    if len(axes) == 3:
        compared = triangles(findings, parts, values)
        lead = compared or lead
    else:
        parts.append(
            f"Triangles of priorities need exactly three tasks; these runs have {len(axes)}."
        )
    matrix, drawn = metric_pairs(findings)
    parts += [matrix, drawn]
    lines, note, ranges = parallel_coordinates(findings)
    parts += [lines, note]
    values["ranges"] = ranges
    return Section(
        "many_tasks",
        f"{len(axes)} tasks at once",
        lead,
        tuple(part for part in parts if part),
        values,
    )
