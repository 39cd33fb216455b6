"""Where one method's seeds reach further than another's: the attainment difference, drawn."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.attainment import AttainmentCells, attainment_band, attainment_cells
from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import minimised
from analysis.load.axes import MINUS, Axis, signs
from analysis.load.matched import MatchedRuns, Settings, by_arm, matched_runs, why_not_matched
from analysis.load.run_files import RunFiles
from analysis.render.figure_parts import axis_title
from analysis.render.panels import Cells, Figure, Key, Line, Panel, Scale, mark_of
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Table

MOST_PAIRS = 3
MOST_PANELS = 6
MOST_CELLS = 120
"""Along an axis of a panel."""
MOST_CELL_ROWS = 12
ROOM = 0.06
"""Share of the range of the runs that a panel holds beyond them on each side."""


@dataclass(frozen=True)
class Comparison:
    """One panel: two methods on two tasks."""

    matched: MatchedRuns
    pair: tuple[int, int]
    """Numbers of the axes."""
    cells: AttainmentCells
    medians: tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]
    """Median attainment staircases of both methods, metric units."""


def attainment(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section on attainment; None with fewer than two methods that take priorities."""
    del files
    runs = by_arm(findings.runs, findings.axes)
    pairs = every_pair([arm for arm in findings.arms if arm in runs])
    if not pairs:
        return None
    title = "Attainment: what share of the seeds reaches a result"
    if len(findings.axes) < 2:
        one = "Not shown: these results have one task, and attainment is drawn for two."
        return Section("attainment", title, one, (), {"comparisons": [], "why_not": [one]})
    task_pairs = list(itertools.combinations(range(len(findings.axes)), 2))
    shown: list[Comparison] = []
    words: list[str] = []
    why_not: list[str] = []
    for methods in pairs[:MOST_PAIRS]:
        matched = matched_runs(runs, methods, same_seeds=False)
        reason = _why_not(runs, methods, matched)
        if matched is None or reason:
            why_not.append(reason)
            continue
        room = MOST_PANELS - len(shown)
        if room:
            both = f"{methods[0]} and {methods[1]}"
            words += [f"{both}: {sentence}" for sentence in matched.left_out]
        shown += [_comparison(findings, matched, pair) for pair in task_pairs[:room]]
    words += why_not
    num_all = len(pairs) * len(task_pairs)
    num_left = num_all - len(shown) - len(why_not) * len(task_pairs)
    if num_left:
        words.append(
            f"{num_left} of {num_all} combinations of two methods and two tasks are not drawn."
        )
    if len(findings.axes) > 2 and shown:
        words.append(
            "Each panel looks at two tasks alone: a run that reaches a place there may be poor on "
            "the others."
        )
    values: dict[str, Any] = {
        "comparisons": [_values(findings, comparison) for comparison in shown],
        "why_not": why_not,
    }
    if not shown:
        return Section("attainment", title, " ".join(words), (), values)
    parts: list[Part | Folded] = [*_figures(findings, shown), _lead_table(findings, shown)]
    parts += words
    parts.append(Folded("Cells of the figures", tuple(_cell_table(findings, c) for c in shown)))
    return Section("attainment", title, _lead(findings, shown[0]), tuple(parts), values)


def _why_not(
    runs: Mapping[str, Settings], methods: tuple[str, str], matched: MatchedRuns | None
) -> str:
    a, b = methods
    if matched is None:
        return f"Not shown for {a} and {b}: {why_not_matched(runs, methods)}"
    if min(len(matched.seeds_a), len(matched.seeds_b)) < 2:
        return (
            f"Not shown for {a} and {b}: {len(matched.seeds_a)} and {len(matched.seeds_b)} seeds "
            "are complete, and a share of seeds needs two of each method."
        )
    return ""


def _comparison(findings: Findings, matched: MatchedRuns, pair: tuple[int, int]) -> Comparison:
    axes = [findings.axes[k] for k in pair]
    sides = [_by_seed(runs, pair) for runs in (matched.runs_a, matched.runs_b)]
    low_sides = [[minimised(points, axes) for points in side] for side in sides]
    everything = np.concatenate([*low_sides[0], *low_sides[1]])
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = np.where(high > low, (high - low) * ROOM, np.maximum(np.abs(high) * 0.1, 1e-3))
    side_a, side_b = low_sides
    cells = attainment_cells(side_a, side_b, low - room, high + room, MOST_CELLS)
    corner = (high + room) * signs(axes)
    medians = [attainment_band(side, corner, axes).median for side in sides]
    return Comparison(matched, pair, cells, (medians[0], medians[1]))


def _by_seed(runs: np.ndarray, pair: tuple[int, int]) -> list[np.ndarray]:
    """Return for each seed its results (priorities, 2)."""
    return list(np.swapaxes(runs[:, :, list(pair)], 0, 1))


def _shown_edges(edges: np.ndarray, axis: Axis) -> tuple[np.ndarray, slice]:
    """Return edges in display units, rising, and the order of cells that goes with them."""
    values = edges * signs([axis])[0] * axis.metric.display_factor
    order = slice(None) if values[-1] > values[0] else slice(None, None, -1)
    return values[order], order


def _limits(edges: np.ndarray, axis: Axis) -> tuple[float, float]:
    """Return the panel's ends, the worse one first."""
    turned = edges * signs([axis])[0] * axis.metric.display_factor
    return float(turned[-1]), float(turned[0])


def _figures(findings: Findings, shown: Sequence[Comparison]) -> list[Figure]:
    figures = []
    for number, (methods, group) in enumerate(
        itertools.groupby(shown, key=lambda c: (c.matched.arm_a, c.matched.arm_b)), 1
    ):
        panels = tuple(_panel(findings, c, number) for c in group)
        a, b = methods
        matched = next(c.matched for c in shown if (c.matched.arm_a, c.matched.arm_b) == methods)
        seeds = f"{len(matched.seeds_a)} seeds of {a} and {len(matched.seeds_b)} of {b}"
        figures.append(
            Figure(
                f"attainment_difference_{number}",
                f"Attainment of {a} {MINUS} attainment of {b}",
                f"Coloured plane for each pair of tasks: share of the {seeds} with a run at least "
                "as good on both axes, one minus the other. The table below holds the largest "
                "differences.",
                panels,
                f"Colour: of {seeds}, the share with a run at least as good as this place on both "
                f"axes, {a} minus {b}: purple where {a} leads, orange where {b} does, without "
                f"colour where they are equal. Over the {len(matched.priorities)} priorities that "
                "both have. Lines: what half of the seeds reach, of two the better one."
                + ("" if all(c.cells.is_exact for c in shown) else _sampled()),
                columns=min(2, len(panels)),
                legend=tuple(
                    Key(f"{arm}, half of the seeds", mark_of(findings.arms.index(arm)), "line")
                    for arm in methods
                ),
            )
        )
    return figures


def _sampled() -> str:
    return (
        f" Where runs are too many to draw every step, {MOST_CELLS} by {MOST_CELLS} places are "
        "shown, each exact at its centre."
    )


def _panel(findings: Findings, c: Comparison, number: int) -> Panel:
    axes = [findings.axes[k] for k in c.pair]
    (x_edges, x_order), (y_edges, y_order) = (
        _shown_edges(edges, axis)
        for edges, axis in zip((c.cells.x_edges, c.cells.y_edges), axes, strict=True)
    )
    factors = [axis.metric.display_factor for axis in axes]
    lines = []
    for arm, median in zip((c.matched.arm_a, c.matched.arm_b), c.medians, strict=True):
        mark = mark_of(findings.arms.index(arm))
        lines.append(
            Line(
                tuple(x * factors[0] for x, _ in median),
                tuple(y * factors[1] for _, y in median),
                mark.colour,
                mark.dash,
                f"{arm}, half of the seeds",
                width=2.2,
            )
        )
    cells = Cells(
        tuple(map(float, x_edges)),
        tuple(map(float, y_edges)),
        c.cells.difference[x_order, y_order],
        "diverging",
        (-1.0, 1.0),
        f"share of seeds, {c.matched.arm_a} {MINUS} {c.matched.arm_b}",
    )
    return Panel(
        f"attainment_difference_{number}_{axes[0].task}_{axes[1].task}",
        Scale(axis_title(axes[0]), _limits(c.cells.x_edges, axes[0])),
        Scale(axis_title(axes[1]), _limits(c.cells.y_edges, axes[1])),
        (cells, *lines),
        title=f"{axes[0].task} and {axes[1].task}",
        height=400,
    )


def _level(axis: Axis, value: float) -> str:
    """Say a level that a run must reach; `value` is minimised."""
    least = "at least" if axis.metric.direction == "max" else "at most"
    shown = axis.shown(value * signs([axis])[0], more_decimals=1)
    return f"{axis.name} {least} {shown} {axis.unit}"


def _seeds(share: float, number: int) -> str:
    return f"{round(share * number)} of {number}"


def _lead(findings: Findings, c: Comparison) -> str:
    a, b = c.matched.arm_a, c.matched.arm_b
    axes = [findings.axes[k] for k in c.pair]
    places = [(c.cells.largest(sign), sign) for sign in (1, -1)]
    held = [(cell, sign) for cell, sign in places if cell is not None]
    on = f"On {axes[0].task} and {axes[1].task}"
    if not held:
        return f"{on}, the seeds of {a} and {b} differ nowhere: as many of each get to every level."
    ahead, behind = (
        f"on {led:.0%} of the plane drawn" if led else "nowhere" for led in c.cells.led
    )
    text = f"{on}, more of the seeds of {a} than of {b} get there {ahead}, and fewer {behind}."
    cell, _ = max(held, key=lambda h: abs(c.cells.difference[h[0]]))
    x, y = c.cells.point(*cell)
    num_a, num_b = c.cells.num_seeds
    return (
        f"{text} They differ most where {_level(axes[0], x)} and {_level(axes[1], y)} are asked "
        f"for: {_seeds(c.cells.share_a[cell], num_a)} seeds of {a} and "
        f"{_seeds(c.cells.share_b[cell], num_b)} of {b} have such a run."
    )


def _lead_table(findings: Findings, shown: Sequence[Comparison]) -> Table:
    rows, raw = [], []
    for c in shown:
        axes = [findings.axes[k] for k in c.pair]
        a, b = c.matched.arm_a, c.matched.arm_b
        for sign, ahead, behind, led in ((1, a, b, c.cells.led[0]), (-1, b, a, c.cells.led[1])):
            cell = c.cells.largest(sign)
            shares = [c.cells.share_a, c.cells.share_b][::sign]
            numbers = c.cells.num_seeds[::sign]
            levels: list[float | None] = [None, None]
            if cell is not None:
                levels = [
                    value * float(signs([axis])[0])
                    for value, axis in zip(c.cells.point(*cell), axes, strict=True)
                ]
            counts = ["never"] * 2
            if cell is not None:
                counts = [_seeds(s[cell], n) for s, n in zip(shares, numbers, strict=True)]
            rows.append(
                (
                    ahead,
                    behind,
                    f"{axes[0].name}, {axes[1].name}",
                    f"{led:.1%}",
                    *(
                        f"{axis.shown(level, more_decimals=1)} {axis.unit}"
                        if level is not None
                        else axis.shown(None)
                        for axis, level in zip(axes, levels, strict=True)
                    ),
                    *counts,
                )
            )
            raw.append(
                {
                    "method_ahead": ahead,
                    "method_behind": behind,
                    "x": axes[0].column,
                    "y": axes[1].column,
                    "share_of_plane": led,
                    "level_x": levels[0],
                    "level_y": levels[1],
                    "share_of_seeds_ahead": None if cell is None else shares[0][cell],
                    "share_of_seeds_behind": None if cell is None else shares[1][cell],
                    "num_seeds_ahead": numbers[0],
                    "num_seeds_behind": numbers[1],
                    "num_priorities": len(c.matched.priorities),
                }
            )
    return Table(
        "attainment_difference",
        "Where more seeds of one method than of the other have a run at least as good on both "
        "metrics: share of the plane drawn, and the levels at which they differ most.",
        (
            "method ahead",
            "method behind",
            "metrics",
            "share of plane",
            "level of the first",
            "level of the second",
            "seeds ahead",
            "seeds behind",
        ),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=3,
    )


def _cell_table(findings: Findings, c: Comparison) -> Table:
    """Return the cells in which the methods differ, largest first; the CSV holds all of them."""
    axes = [findings.axes[k] for k in c.pair]
    turn = [float(signs([axis])[0]) for axis in axes]
    difference, areas = c.cells.difference, c.cells.areas
    places = np.argwhere(difference != 0)
    order = np.argsort(-(np.abs(difference) * areas)[tuple(places.T)], kind="stable")
    places = places[order]
    i, j = places.T
    ends: dict[str, np.ndarray] = {}
    for axis, sign, name, edges, at in zip(
        axes, turn, "xy", (c.cells.x_edges, c.cells.y_edges), (i, j), strict=True
    ):
        low, high = edges[at] * sign, edges[at + 1] * sign
        ends |= {f"{axis.column}_from": high, f"{axis.column}_to": low}
        ends[f"share_of_{name}"] = (edges[at + 1] - edges[at]) / (edges[-1] - edges[0])
    raw = pd.DataFrame(
        {
            **ends,
            "share_of_seeds_a": c.cells.share_a[i, j],
            "share_of_seeds_b": c.cells.share_b[i, j],
            "difference": difference[i, j],
        }
    )
    raw.insert(0, "method_b", c.matched.arm_b)
    raw.insert(0, "method_a", c.matched.arm_a)
    rows = tuple(
        (
            *(
                f"{axis.shown(row[f'{axis.column}_from'], more_decimals=1)} to "
                f"{axis.shown(row[f'{axis.column}_to'], more_decimals=1)}"
                for axis in axes
            ),
            _seeds(row["share_of_seeds_a"], c.cells.num_seeds[0]),
            _seeds(row["share_of_seeds_b"], c.cells.num_seeds[1]),
        )
        for row in raw.head(MOST_CELL_ROWS).to_dict("records")
    )
    shown = "" if len(raw) <= len(rows) else f" The {len(rows)} weightiest; "
    shown += f"the CSV holds all {len(raw)} cells." if shown else ""
    return Table(
        f"attainment_{_file_name(findings, c)}",
        f"Cells in which {c.matched.arm_a} and {c.matched.arm_b} differ.{shown}",
        (
            axes[0].title,
            axes[1].title,
            f"seeds of {c.matched.arm_a}",
            f"seeds of {c.matched.arm_b}",
        ),
        rows,
        raw,
        num_words=0,
    )


def _file_name(findings: Findings, c: Comparison) -> str:
    """Return a stem of letters and digits: methods may be named anything."""
    numbers = [findings.arms.index(arm) + 1 for arm in (c.matched.arm_a, c.matched.arm_b)]
    tasks = "_".join(findings.axes[k].task for k in c.pair)
    return f"cells_{numbers[0]}_{numbers[1]}_{tasks}"


def _values(findings: Findings, c: Comparison) -> dict[str, Any]:
    axes = [findings.axes[k] for k in c.pair]
    return {
        "method_a": c.matched.arm_a,
        "method_b": c.matched.arm_b,
        "metrics": [axis.column for axis in axes],
        "num_priorities": len(c.matched.priorities),
        "seeds_a": list(c.matched.seeds_a),
        "seeds_b": list(c.matched.seeds_b),
        "share_of_plane_led_by_a": c.cells.led[0],
        "share_of_plane_led_by_b": c.cells.led[1],
        "is_exact": c.cells.is_exact,
        "medians": [[list(corner) for corner in median] for median in c.medians],
    }
