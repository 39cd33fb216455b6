"""Three tasks and more: every pair of metrics, and triangles of priorities for three."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import OperatingPoint
from analysis.load.axes import Axis, shown_number, signs
from analysis.load.matched import Runs, by_point, shared_seeds
from analysis.load.priorities import Priorities, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, first_items, listed, no_width, subsample
from analysis.render.figure_parts import (
    axis_limits,
    legend_of,
    point_text,
    range_text,
    style_of,
)
from analysis.render.panels import (
    GRID,
    MUTED,
    ColourBar,
    ColouredPoints,
    Figure,
    Label,
    Line,
    Panel,
    Points,
    Scale,
)
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table

MAX_TASKS = 6
"""Tasks whose pairs are drawn: six have 15."""
MAX_METHODS = 8
"""In the plots of pairs."""
MAX_TRIANGLE_METHODS = 4
"""Methods with triangles of their own; each has three."""
MAX_PAIRS = 3
"""Of methods with triangles of differences."""
MAX_SETTINGS = 300
"""Priorities drawn in a triangle."""
GRID_STEP = 0.2
SIDE = Scale("", (-0.1, 1.1), is_shown=False)
HEIGHT = Scale("", (-0.13, 1.0), is_shown=False)
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, math.sqrt(3) / 2))
"""Of the triangle with sides of length 1: first task left, second right, third above."""


@dataclass(frozen=True)
class Difference:
    """How much better one method is than another at one priority, over the seeds of both."""

    priorities: tuple[float, ...]
    seeds: tuple[int, ...]
    gains: tuple[float, ...]
    """One an axis, in metric units: positive where the first method is better."""
    seeds_better: tuple[float, ...]
    """One an axis: share of the seeds in which the first method is better; a tie counts half."""


@dataclass(frozen=True)
class Pair:
    """The differences of two methods at every priority that both have."""

    arm_a: str
    arm_b: str
    differences: tuple[Difference, ...]

    def name(self, findings: Findings) -> str:
        """Return the stem of files."""
        return f"ternary_difference_{'_'.join(str(findings.arms.index(a)) for a in self.arms)}"

    @property
    def arms(self) -> tuple[str, str]:
        """Return both methods."""
        return self.arm_a, self.arm_b


def many_tasks(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section for three tasks and more; None for fewer, or without results."""
    axes = findings.axes
    if len(axes) < 3 or not findings.points:
        return None
    spans = [range_text(findings.points, axis, k) for k, axis in enumerate(axes)]
    lead = f"Over {len(findings.points)} operating points the means run over {listed(spans)}."
    parts: list[Part | Folded] = []
    pairs: list[Pair] = []
    if len(axes) == 3:
        pairs, parts = _triangles(findings)
        if pairs:
            lead = _difference_text(axes, pairs[0])
    parts.append(_metric_pairs(findings))
    return Section("many_tasks", f"{len(axes)} tasks at once", lead, tuple(parts), {"pairs": pairs})


def _metric_pairs(findings: Findings) -> Figure:
    """Return small plots of every pair of metrics."""
    axes, task_note = first_items(findings.axes, MAX_TASKS, "tasks")
    every_arm = list(dict.fromkeys(point.arm for point in findings.points))
    arms, arm_note = first_items(every_arm, MAX_METHODS, "methods")
    scales = [
        Scale(_short_title(axis), axis_limits([p.means[k] for p in findings.points], axis))
        for k, axis in enumerate(axes)
    ]
    panels: list[Panel] = []
    for i, j in itertools.combinations(range(len(axes)), 2):
        marks = []
        for arm, is_front in itertools.product(arms, (False, True)):
            mine = [p for p in findings.points if p.arm == arm and p.nondominated is is_front]
            if mine:
                x, y = (_shown_means(mine, axes[k], k) for k in (i, j))
                hover = tuple(point_text(findings, p) for p in mine) if len(panels) < 3 else ()
                opacity = 1.0 if is_front else 0.35
                marks.append(Points(x, y, style_of(findings, arm), arm, hover, opacity=opacity))
        title = f"{axes[i].task} and {axes[j].task}"
        panels.append(Panel(f"pair_{i}_{j}", scales[i], scales[j], tuple(marks), title, height=300))
    num_front = sum(point.nondominated for point in findings.points)
    return Figure(
        "metric_pairs",
        "Every pair of metrics",
        f"Small scatter plots of {len(panels)} pairs of metrics. {num_front} of "
        f"{len(findings.points)} operating points are not dominated on all "
        f"{len(findings.axes)} metrics. The table of operating points holds every value.",
        tuple(panels),
        f"Means over seeds; better is right and up. Faint points are dominated on all "
        f"{len(findings.axes)} metrics at once: a point that looks beaten in one pair may be the "
        f"best compromise over all.{task_note}{arm_note}",
        columns=3,
        legend=legend_of(findings, arms, "point"),
    )


def _short_title(axis: Axis) -> str:
    """Return an axis' title for a small panel, whose own title names the tasks."""
    arrow = "\N{UPWARDS ARROW}" if axis.metric.direction == "max" else "\N{DOWNWARDS ARROW}"
    return f"{axis.metric.name} ({axis.unit}) {arrow}"


def _shown_means(points: Sequence[OperatingPoint], axis: Axis, k: int) -> tuple[float, ...]:
    return tuple(float(f"{p.means[k] * axis.metric.display_factor:.6g}") for p in points)


def _triangles(findings: Findings) -> tuple[list[Pair], list[Part | Folded]]:
    """Return the differences of pairs of methods, and the parts with the triangles."""
    axes = findings.axes
    columns = [axis.column for axis in axes]
    runs = by_point(findings.runs, [axis.task for axis in axes], columns)
    prioritised = [a for a in findings.arms if any(arm == a and key for arm, key in runs)]
    if not prioritised:
        return [], ["No triangle is drawn: no method here takes priorities."]
    pairs, tables, notes = [], [], []
    parts: list[Part | Folded] = [_value_figure(findings, prioritised)]
    shown, note = first_items(every_pair(prioritised), MAX_PAIRS, "pairs of methods")
    for a, b in shown:
        pair = Pair(a, b, differences(runs, a, b, axes))
        if pair.differences:
            pairs.append(pair)
            parts.append(_difference_figure(findings, pair))
            tables.append(_difference_table(findings, pair))
        else:
            notes.append(f"{a} and {b} share no priority and seed, so no difference is drawn.")
    if len(prioritised) == 1:
        notes.append(f"{prioritised[0]} alone takes priorities, so there is no difference.")
    parts += [*notes, *([note.strip()] if note else [])]
    if tables:
        parts.append(Folded("Values in the triangles", tuple(tables)))
    return pairs, parts


def _value_figure(findings: Findings, prioritised: Sequence[str]) -> Figure:
    arms, arm_note = first_items(prioritised, MAX_TRIANGLE_METHODS, "methods")
    of_arm = {
        arm: [p for p in findings.points if p.arm == arm and p.priorities is not None]
        for arm in arms
    }
    panels, spans = [], []
    for number, (arm, mine) in enumerate(of_arm.items()):
        drawn = subsample(mine, MAX_SETTINGS)
        for k, axis in enumerate(findings.axes):
            means = [p.means[k] for points in of_arm.values() for p in points]
            limits = _widened(min(means), max(means), axis)
            points = _coloured(
                [p.priorities for p in drawn if p.priorities],
                [p.means[k] * axis.metric.display_factor for p in drawn],
                ColourBar(f"{axis.unit}, {axis.better}", "sequential", limits),
                [point_text(findings, p) for p in drawn],
            )
            name, title = f"ternary_{number}_{k}", f"{arm}: {axis.name}"
            panels.append(_triangle(name, title, findings.axes, points))
        of_axes = (range_text(mine, axis, k) for k, axis in enumerate(findings.axes))
        spans.append(f"{arm}: {', '.join(of_axes)}")
    most = max(map(len, of_arm.values()))
    drawn_note = f" {MAX_SETTINGS} of up to {most} priorities are drawn, evenly picked."
    return Figure(
        "ternary_values",
        "What each priority gives",
        f"Triangles of priorities, one a method and metric. {'. '.join(spans)}. The table of "
        "operating points holds every value.",
        tuple(panels),
        "Means over seeds. A setting stands nearer to a task's corner the higher the task's "
        "priority; grey lines are steps of 0.2. One colour scale a metric for all methods."
        f"{arm_note}{drawn_note if most > MAX_SETTINGS else ''}",
        columns=3,
    )


def _difference_text(axes: Sequence[Axis], pair: Pair) -> str:
    found = pair.differences
    ahead = []
    for k, axis in enumerate(axes):
        mean = axis.shown(float(np.mean([d.gains[k] for d in found])), signed=True)
        count = sum(d.gains[k] > 0 for d in found)
        ahead.append(f"{axis.name} at {count} (mean gain {mean} {axis.difference_unit})")
    settings = counted(len(found), "priority", "priorities")
    return (
        f"Of {settings} that both ran, {pair.arm_a} is better than {pair.arm_b} in {listed(ahead)}."
    )


def _difference_figure(findings: Findings, pair: Pair) -> Figure:
    drawn = subsample(pair.differences, MAX_SETTINGS)
    name = pair.name(findings)
    panels = []
    for k, axis in enumerate(findings.axes):
        factor = axis.metric.display_factor
        reach = max(abs(d.gains[k]) for d in pair.differences) * factor
        reach = reach or 10.0**-axis.metric.decimals
        hover = [
            f"{findings.shown_priorities(d.priorities)}\n"
            f"{axis.shown(d.gains[k], signed=True)} {axis.difference_unit}, better in "
            f"{shown_number(d.seeds_better[k] * len(d.seeds), 'g')} of {len(d.seeds)} seeds"
            for d in drawn
        ]
        points = _coloured(
            [d.priorities for d in drawn],
            [d.gains[k] * factor for d in drawn],
            ColourBar(f"gain ({axis.difference_unit})", "diverging", (-reach, reach)),
            hover,
        )
        panels.append(_triangle(f"{name}_{k}", axis.name, findings.axes, points))
    a, b = pair.arms
    return Figure(
        name,
        f"{a} against {b} at equal priority",
        f"Triangles of the gain of {a} over {b}. {_difference_text(findings.axes, pair)}",
        tuple(panels),
        f"Gain of {a} over {b}, positive where {a} is better: means over the seeds that both have "
        "at a priority.",
        columns=3,
    )


def _difference_table(findings: Findings, pair: Pair) -> Table:
    a, b = pair.arms
    tasks = [axis.task for axis in findings.axes]

    def gain_columns(k: int, axis: Axis) -> list[Column]:
        def shown(record: Mapping[str, Any]) -> str:
            gain = axis.shown(record["gains"][k], signed=True)
            return f"{gain} ({record['seeds_better'][k] * record['num_seeds']:g})"

        head = f"{axis.name} ({axis.difference_unit})"
        return [Column(f"{axis.column}_gain", head, shown), Column(f"{axis.column}_seeds_better")]

    records = []
    for d in pair.differences:
        record = {"method_a": a, "method_b": b, "num_seeds": len(d.seeds), **vars(d)}
        record |= priority_values(d.priorities, tasks)
        for axis, gain, better in zip(findings.axes, d.gains, d.seeds_better, strict=True):
            record |= {f"{axis.column}_gain": gain, f"{axis.column}_seeds_better": better}
        records.append(record)
    return Table.of(
        pair.name(findings),
        f"Gain of {a} over {b} at each priority, positive where {a} is better; in parentheses the "
        "number of seeds in which it is, a tie counting half.",
        records,
        [
            Column(
                None,
                f"priorities ({', '.join(tasks)})",
                lambda record: findings.shown_priorities(record["priorities"]),
            ),
            *map(Column, ("method_a", "method_b", *priority_values(None, tasks))),
            *(c for k, axis in enumerate(findings.axes) for c in gain_columns(k, axis)),
            Column("num_seeds", "seeds"),
        ],
    )


def _coloured(
    settings: Sequence[Priorities],
    values: Sequence[float],
    bar: ColourBar,
    hover: Sequence[str],
) -> ColouredPoints:
    """Return points at their priorities in the triangle, coloured by values."""
    return ColouredPoints(
        *_places(np.array(settings)),
        tuple(map(float, values)),
        bar,
        hover=tuple(hover),
        size=14.0 if len(settings) <= 100 else 7.0,
    )


def _triangle(name: str, title: str, axes: Sequence[Axis], points: ColouredPoints) -> Panel:
    """Return a panel with the triangle, its lines of equal priority and its corners' names."""
    lines = []
    for k in range(3):
        for step in np.arange(GRID_STEP, 1 - 1e-9, GRID_STEP):
            # Both ends have `step` of task k; one has the rest of the next task, one of the other.
            ends = np.zeros((2, 3))
            ends[:, k] = step
            ends[0, (k + 1) % 3] = ends[1, (k + 2) % 3] = 1 - step
            lines.append(Line(*_places(ends), GRID, width=1.0))
    lines.append(Line(*_places(np.eye(3)[[0, 1, 2, 0]]), MUTED, width=1.2))
    left, right, top = (axis.task for axis in axes)
    names = (
        Label(-0.1, -0.07, left, "left"),
        Label(1.1, -0.07, right, "right"),
        Label(0.5, CORNERS[2][1] + 0.07, top),
    )
    return Panel(name, SIDE, HEIGHT, (*lines, points, *names), title, height=250, is_equal=True)


def _widened(low: float, high: float, axis: Axis) -> tuple[float, float]:
    """Return limits in display units, never of no width."""
    factor = axis.metric.display_factor
    room = 10.0**-axis.metric.decimals if no_width(low, high) else 0.0
    return (low * factor - room, high * factor + room)


def _places(priorities: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return x and y of settings in the triangle, with five decimals."""
    x, y = np.round(in_triangle(priorities), 5).T.tolist()
    return tuple(x), tuple(y)


def in_triangle(priorities: np.ndarray) -> np.ndarray:
    """Return where settings (n, 3) stand in the triangle of `CORNERS`, (n, 2)."""
    return np.asarray(priorities / priorities.sum(axis=1, keepdims=True) @ np.array(CORNERS))


def differences(runs: Runs, arm_a: str, arm_b: str, axes: Sequence[Axis]) -> tuple[Difference, ...]:
    """Return by how much `arm_a` is better at every priority that both methods have.

    Only seeds that both have there are counted; a priority without any is left out.
    """
    found = []
    for key in sorted(key for arm, key in runs if arm == arm_a and key is not None):
        pair = (runs[(arm_a, key)], runs.get((arm_b, key), {}))
        seeds = shared_seeds(pair)
        if not seeds:
            continue
        # Turned so that higher is better.
        gains = -signs(axes) * np.array([pair[0][seed] - pair[1][seed] for seed in seeds])
        better = (gains > 0) + 0.5 * (gains == 0)
        means = (tuple(map(float, of.mean(axis=0))) for of in (gains, better))
        found.append(Difference(key, tuple(seeds), *means))
    return tuple(found)
