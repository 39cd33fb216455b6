"""Many metrics at once: small plots of every pair, and parallel coordinates."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.axes import Axis, signs
from analysis.figure_parts import axis_limits, point_text, range_text, rounded
from analysis.findings import Findings
from analysis.fronts import OperatingPoint
from analysis.marks import MUTED, mark_of
from analysis.panels import Drawn, Figure, Key, Label, Line, Panel, Points, Scale
from analysis.words import listed

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
