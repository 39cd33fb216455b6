"""What a setting gives on every task at once: the figures of operating points and their means."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.compute.attainment import attainment_surface
from analysis.compute.findings import PAPER_PAIR, Findings, method_of, steered_arms
from analysis.compute.fronts import OperatingPoint, means_of, minimised, nondominated, staircase
from analysis.load.axes import Axis, priority_texts, signs
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.run_files import RunFiles
from analysis.load.runs import SPLIT
from analysis.render.figure_parts import (
    axis_limits,
    axis_title,
    range_text,
)
from analysis.render.labels import PointLabel, labelled
from analysis.render.panels import (
    Area,
    Arrow,
    Drawn,
    Figure,
    Key,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    Scale,
    mark_of,
)
from analysis.render.section import Folded, Part, Section
from analysis.sections.overview_tables import operating_point_table, run_table

MAX_SINGLE_RUNS = 3_000
"""Single runs in a figure; of more as many evenly chosen ones are drawn."""
MAX_FIGURES = 6
"""Figures beyond this number are folded away: eight tasks have 28 pairs."""
MAX_BANDS = 2
"""Methods with a band: more of them hide each other."""
MAX_LABELLED_TASKS = 4
"""Beyond so many tasks a label holds the priorities of the two tasks drawn alone."""
SHARES = (0.25, 0.5, 0.75)
"""Of seeds, that attain the better edge of the band, the median and the worse edge."""
MIN_FOR_MEDIAN = 3
"""Seeds; the median of two is what either attains."""
MAX_ARROWS = 12
"""Priorities up to which points of two methods are joined."""
MIN_ARROW = 0.04
"""Length of an arrow, of the panel's width or height."""
MAX_ATTAINED = 1_500
"""Results, over all seeds, up to which bands are drawn."""
PRIOR, SINGLE_TASK = "image-independent", "single task"
"""Kinds of reference lines, as they are named in a figure."""


def point_section(findings: Findings, _: RunFiles) -> Section:
    """Return the section of the operating points, with or without a figure."""
    figures = operating_point_figures(findings)
    parts: list[Part | Folded] = []
    # The caption is that of all figures.
    parts += [replace(f, caption=f.caption if k == 0 else "") for k, f in enumerate(figures)]
    if len(figures) > MAX_FIGURES:
        more = [replace(figure, caption="") for figure in figures[MAX_FIGURES:]]
        parts[MAX_FIGURES:] = [Folded(f"{len(more)} more pairs of tasks", tuple(more))]
    lead = "No run has a usable result yet."
    if findings.points:
        tasks = ", ".join(axis.task for axis in findings.axes)
        few = len(findings.axes) <= MAX_LABELLED_TASKS
        lead = f"What a setting gives on every task at once, {SPLIT} split."
        if figures:
            lead += (
                f" Labels are the priorities {f'({tasks})' if few else 'of the two tasks drawn'}."
            )
        meanings = [f"{a.name}: {a.metric.meaning}, {a.better}." for a in findings.axes]
        parts += [
            operating_point_table(findings),
            Folded(
                "Single runs, and what the metrics mean",
                (run_table(findings), " ".join(meanings)),
            ),
        ]
    return Section("points", "Operating points", lead, tuple(parts))


def operating_point_figures(findings: Findings) -> tuple[Figure, ...]:
    """Return one figure for each pair of tasks; empty without operating points."""
    if not findings.points:
        return ()
    banded = [
        arm_runs(findings.runs, findings.axes, arm) for arm in steered_arms(findings)[:MAX_BANDS]
    ]
    pairs = itertools.combinations(range(len(findings.axes)), 2)
    return tuple(_operating_points(findings, banded, pair) for pair in pairs)


def _operating_points(
    findings: Findings, banded: Sequence[ArmRuns], pair: tuple[int, int]
) -> Figure:
    axes = [findings.axes[k] for k in pair]
    ranges = _ranges(findings, pair)
    arms = [
        (arm, mine, mark_of(number))
        for number, arm in enumerate(findings.arms)
        if (mine := [point for point in findings.points if point.arm == arm])
    ]
    bands = {runs.arm: _band(findings, runs, pair) for runs in banded}
    marks: list[Drawn] = [area for area, _ in bands.values() if area is not None]
    marks += _reference_lines(findings, axes)
    every = -(-len(findings.runs) // MAX_SINGLE_RUNS)
    for arm, _, mark in arms:
        marks.append(_single_runs(findings, arm, mark, axes, every))
    for arm, _, mark in arms:
        corners = shown_staircase(findings, arm, pair)
        if corners:
            xs, ys = zip(*corners, strict=True)
            name = f"{arm}, nondominated"
            marks.append(Line(xs, ys, mark.colour, mark.dash, name, opacity=0.75))
    medians = [median for _, median in bands.values() if median is not None]
    arrows = pair_arrows(findings, pair, ranges)
    marks += medians
    marks += [Arrow((a[0], b[0]), (a[1], b[1])) for a, b in arrows]
    marks += [_means(findings, mine, mark, pair) for _, mine, mark in arms]
    name = f"operating_points_{axes[0].task}_{axes[1].task}"
    panel = Panel(
        name=name,
        x=Scale(axis_title(axes[0]), ranges[0]),
        y=Scale(axis_title(axes[1]), ranges[1]),
        marks=tuple(marks),
    )
    num_seeds = {runs.arm: len(runs.seeds) for runs in banded if bands[runs.arm][0] is not None}
    return Figure(
        name=name,
        title=f"{axes[0].task.capitalize()} against {axes[1].task}",
        alt=_alt(findings, axes, pair),
        panels=(labelled(panel, _labels(findings, pair)),),
        caption=_caption(findings, num_seeds, bool(medians), bool(arrows), every),
        legend=tuple(
            Key(arm, mark, "both" if len(mine) > 1 else "point") for arm, mine, mark in arms
        ),
    )


def _single_runs(
    findings: Findings, arm: str, mark: Mark, axes: Sequence[Axis], every: int
) -> Points:
    runs = findings.runs[findings.runs["arm"] == arm].iloc[::every]
    xs, ys = ([_shown(v, axis) for v in runs[axis.column]] for axis in axes)
    hover = tuple(
        f"{arm}, seed {seed}\n{x:.4g}, {y:.4g}"
        for seed, x, y in zip(runs["seed"], xs, ys, strict=True)
    )
    name = f"{arm}, single seeds"
    return Points(tuple(xs), tuple(ys), mark, name, hover, size=6, opacity=0.35)


def _band(
    findings: Findings, runs: ArmRuns, pair: tuple[int, int]
) -> tuple[Area | None, Line | None]:
    """Return what a quarter of the seeds attain and three quarters do not, and the median."""
    if findings.reference is None or len(runs.seeds) < 2:
        return None, None
    stairs = _attained_stairs(findings, runs, pair, SHARES)
    if stairs is None or not stairs[0]:
        return None, None
    better, median, worse = stairs
    if not worse:
        axes = [findings.axes[k] for k in pair]
        corner = [
            findings.reference.point[k] * a.metric.display_factor
            for k, a in zip(pair, axes, strict=True)
        ]
        worse = [(corner[0], corner[1])]
    xs, ys = zip(*better, *worse[::-1], strict=True)
    mark = mark_of(findings.arms.index(runs.arm))
    band = Area(xs, ys, mark.colour, f"{runs.arm}, 25 to 75 % of seeds", 0.13)
    if len(runs.seeds) < MIN_FOR_MEDIAN or not median:
        return band, None
    xs, ys = zip(*median, strict=True)
    name = f"{runs.arm}, median attainment"
    return band, Line(xs, ys, mark.colour, "dot", name, width=1.1, opacity=0.8)


def _reference_lines(findings: Findings, axes: Sequence[Axis]) -> list[Drawn]:
    """Return lines at the per-pixel prior and at the mean of single-task runs."""
    lines: list[Drawn] = []
    for number, axis in enumerate(axes):
        for kind, value in _references(findings, axis):
            is_prior = kind == PRIOR
            lines.append(
                Rule(
                    "x" if number == 0 else "y",
                    _shown(value, axis),
                    f"{kind} {axis.shown(value)} {axis.unit}",
                    dash="dot" if is_prior else "longdash",
                    text_at="end" if is_prior else "middle",
                )
            )
    return lines


def _label_texts(findings: Findings, pair: tuple[int, int]) -> list[str]:
    """Return what stands beside each operating point: its priorities, or those of the two axes."""
    if len(findings.axes) <= MAX_LABELLED_TASKS:
        return [findings.shown_priorities(p.priorities, empty=p.arm) for p in findings.points]
    of_pair = [
        None if p.priorities is None else (p.priorities[pair[0]], p.priorities[pair[1]])
        for p in findings.points
    ]
    texts = priority_texts(held for held in of_pair if held is not None)
    return [
        point.arm if held is None else texts[held]
        for point, held in zip(findings.points, of_pair, strict=True)
    ]


def _labels(findings: Findings, pair: tuple[int, int]) -> list[PointLabel]:
    """Return what stands beside each operating point, nondominated ones first."""
    texts = _label_texts(findings, pair)
    order = sorted(
        range(len(texts)),
        key=lambda k: (
            not findings.points[k].nondominated,
            not findings.points[k].nondominated_in_arm,
        ),
    )
    return [
        PointLabel(
            _shown(point.means[pair[0]], findings.axes[pair[0]]),
            _shown(point.means[pair[1]], findings.axes[pair[1]]),
            texts[k],
            mark_of(findings.arms.index(point.arm)).colour,
        )
        for k in order
        for point in (findings.points[k],)
    ]


def _means(
    findings: Findings, mine: Sequence[OperatingPoint], mark: Mark, pair: tuple[int, int]
) -> Points:
    axes = [findings.axes[k] for k in pair]
    means = means_of(mine, mine[0].arm)[:, list(pair)]
    errors = [
        tuple((point.sds[k] or 0.0) * axis.metric.display_factor for point in mine)
        for k, axis in zip(pair, axes, strict=True)
    ]
    return Points(
        tuple(_shown(float(value), axes[0]) for value in means[:, 0]),
        tuple(_shown(float(value), axes[1]) for value in means[:, 1]),
        mark,
        mine[0].arm,
        tuple(_hover(findings, point, axes, pair) for point in mine),
        size=11,
        errors_x=errors[0],
        errors_y=errors[1],
    )


def _hover(
    findings: Findings, point: OperatingPoint, axes: Sequence[Axis], pair: tuple[int, int]
) -> str:
    lines = [f"{point.arm} {findings.shown_priorities(point.priorities, empty='')}".rstrip()]
    for axis, k in zip(axes, pair, strict=True):
        sd = f" ± {axis.shown(point.sds[k])}" if point.sds[k] is not None else ""
        lines.append(f"{axis.name}: {axis.shown(point.means[k])}{sd} {axis.unit}")
    return "\n".join([*lines, f"seeds {', '.join(map(str, point.seeds))}"])


def _caption(
    findings: Findings,
    num_seeds: dict[str, int],
    has_medians: bool,
    has_arrows: bool,
    every: int,
) -> str:
    of_two = " of these two axes" if len(findings.axes) > 2 else ""
    parts = [
        "Better is right and up. Large markers: means over seeds, bars of one standard deviation. "
        "Small ones: single runs. Steps: a method's nondominated means; the area between them and "
        f"the reference point is the hypervolume{of_two}."
    ]
    if len(findings.axes) > MAX_LABELLED_TASKS:
        parts.append("The table of means has the priorities of the other tasks.")
    if every > 1:
        parts.append(
            f"One in {every} of the {len(findings.runs)} single runs is drawn; runs.csv holds all."
        )
    if num_seeds:
        shown = " and ".join(f"{arm} ({number})" for arm, number in num_seeds.items())
        two = ", with two seeds between what both and what either attain"
        parts.append(
            f"Bands of {shown} seeds: between what 75 % and what 25 % of the seeds attain"
            f"{two if 2 in num_seeds.values() else ''}."
        )
    if has_medians:
        parts.append("Dotted steps: what half of the seeds attain.")
    if has_arrows:
        parts.append("Arrows: from fixed to lsb at the same priorities.")
    if findings.prior:
        parts.append(
            "Dotted lines: a baseline that does not look at the image (at each pixel the median "
            "value, mean normal or most frequent class of the training targets)."
        )
    if any(axis.column in findings.baselines for axis in findings.axes):
        parts.append("Long dashes: means of networks that train that task alone, otherwise alike.")
    return " ".join(parts)


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
        values += [value for _, value in _references(findings, axis)]
        if findings.reference is not None:
            values.append(findings.reference.point[k])
        limits.append(axis_limits(values, axis))
    return limits


def _alt(findings: Findings, axes: Sequence[Axis], pair: tuple[int, int]) -> str:
    parts = []
    for arm in findings.arms:
        mine = [point for point in findings.points if point.arm == arm]
        if mine:
            spans = [range_text(mine, axis, k) for k, axis in zip(pair, axes, strict=True)]
            parts.append(f"{arm}: {len(mine)} operating points, {', '.join(spans)}")
    return (
        f"Scatter plot of {axes[0].title} against {axes[1].title}. {'. '.join(parts)}. "
        "The table below has every value."
    )


def _references(findings: Findings, axis: Axis) -> list[tuple[str, float]]:
    """Return what is drawn as a line at one value of an axis: (kind, value in metric units)."""
    lines = []
    if axis.column in findings.prior:
        lines.append((PRIOR, findings.prior[axis.column]))
    if axis.column in findings.baselines:
        values = list(findings.baselines[axis.column].values())
        lines.append((SINGLE_TASK, sum(values) / len(values)))
    return lines


def pair_arrows(
    findings: Findings, pair: tuple[int, int], ranges: Sequence[tuple[float, float]]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return (from, to) in display units, from fixed to lsb at the same priorities.

    None where there are many, or several arms of either. Points that nearly coincide have none:
    an arrow needs some length.
    """
    methods = method_of(findings)
    ends = [[arm for arm, method in methods.items() if method == name] for name in PAPER_PAIR[::-1]]
    if [len(arms) for arms in ends] != [1, 1]:
        return []
    axes = [findings.axes[k] for k in pair]
    starts, tips = (
        {
            point.priorities: (
                _shown(point.means[pair[0]], axes[0]),
                _shown(point.means[pair[1]], axes[1]),
            )
            for point in findings.points
            if point.arm == arms[0] and point.priorities is not None
        }
        for arms in ends
    )
    shared = [priorities for priorities in starts if priorities in tips]
    if len(shared) > MAX_ARROWS:
        return []
    widths = [abs(end - start) for start, end in ranges]
    return [
        (starts[p], tips[p])
        for p in shared
        if math.hypot(*((b - a) / w for a, b, w in zip(starts[p], tips[p], widths, strict=True)))
        > MIN_ARROW
    ]


def _attained_stairs(
    findings: Findings, runs: ArmRuns, pair: tuple[int, int], shares: Sequence[float]
) -> list[list[tuple[float, float]]] | None:
    """Return for each share of the seeds the corners of what it attains, in display units.

    None for more results than can be drawn so.
    """
    axes = [findings.axes[k] for k in pair]
    seeds = []
    for number in range(len(runs.seeds)):
        low = minimised(runs.metrics[:, number, :][:, list(pair)], axes)
        # What a seed attains rests on its nondominated results alone.
        seeds.append(low[nondominated(low)])
    if findings.reference is None or sum(map(len, seeds)) > MAX_ATTAINED:
        return None
    corner = np.array([findings.reference.point[k] for k in pair])
    return [
        [
            (_shown(x, axes[0]), _shown(y, axes[1]))
            for x, y in staircase(attainment_surface(seeds, share) * signs(axes), corner, axes)
        ]
        for share in shares
    ]


def shown_staircase(
    findings: Findings, arm: str, pair: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return an arm's staircase over two axes in display units; empty for a single point."""
    means = means_of(findings.points, arm)
    if findings.reference is None or len(means) < 2:
        return []
    axes = [findings.axes[k] for k in pair]
    corner = np.array([findings.reference.point[k] for k in pair])
    corners = staircase(means[:, list(pair)], corner, axes)
    return [(_shown(x, axes[0]), _shown(y, axes[1])) for x, y in corners]


def _shown(value: float, axis: Axis) -> float:
    return value * axis.metric.display_factor
