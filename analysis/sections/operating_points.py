"""What a setting gives on every task at once: the figures of operating points and their means."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from analysis.compute.attainment import attainment_surface
from analysis.compute.findings import PAPER_PAIR, Findings, method_of, prioritised_arms
from analysis.compute.fronts import OperatingPoint, means_of, minimised, nondominated, staircase
from analysis.load.axes import Axis, priority_texts, signs
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.priorities import Priorities
from analysis.load.run_files import RunFiles
from analysis.load.runs import SPLIT, mixed_arm, trained_arm
from analysis.render.figure_parts import (
    axis_limits,
    axis_title,
    point_text,
    range_text,
    style_of,
)
from analysis.render.labels import labelled
from analysis.render.panels import (
    Area,
    Arrow,
    Callout,
    Drawn,
    Figure,
    Key,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
)
from analysis.render.section import Folded, Part, Section
from analysis.sections.overview_tables import operating_point_table, run_table

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

Place = tuple[float, float]
"""x and y in display units."""


def point_section(findings: Findings, _: RunFiles) -> Section:
    """Return the section of the operating points, with or without a figure."""
    title = "Operating points"
    if not findings.points:
        return Section("points", title, "No run has a usable result yet.", ())
    first, *rest = operating_point_figures(findings) or (None,)
    # One caption for all figures.
    others = [replace(figure, caption="") for figure in rest if figure]
    parts: list[Part | Folded] = [] if first is None else [first, *others[: MAX_FIGURES - 1]]
    more = others[MAX_FIGURES - 1 :]
    if more:
        parts.append(Folded(f"{len(more)} more pairs of tasks", tuple(more)))
    lead = f"What a setting gives on every task at once, {SPLIT} split."
    if first is not None:
        tasks = ", ".join(axis.task for axis in findings.axes)
        few = len(findings.axes) <= MAX_LABELLED_TASKS
        lead += f" Labels are the priorities {f'({tasks})' if few else 'of the two tasks drawn'}."
    meanings = [f"{a.name}: {a.metric.meaning}, {a.better}." for a in findings.axes]
    parts += [
        operating_point_table(findings),
        Folded("Single runs, and what the metrics mean", (run_table(findings), " ".join(meanings))),
    ]
    return Section("points", title, lead, tuple(parts))


def operating_point_figures(findings: Findings, *, is_over: bool = True) -> tuple[Figure, ...]:
    """Return one figure for each pair of tasks; empty without operating points.

    Without `is_over` there are no labels, whose places take a second to find; a pointer on a point
    shows them.
    """
    if not findings.points:
        return ()
    banded = [
        arm_runs(findings.runs, findings.axes, arm)
        for arm in prioritised_arms(findings)[:MAX_BANDS]
    ]
    pairs = itertools.combinations(range(len(findings.axes)), 2)
    return tuple(_figure(findings, banded, pair, is_labelled=is_over) for pair in pairs)


def _is_one_line(findings: Findings) -> bool:
    """Return whether the priorities of mixed networks are one line, as those of two tasks are."""
    return len(findings.axes) == 2


def _figure(
    findings: Findings, banded: Sequence[ArmRuns], pair: tuple[int, int], *, is_labelled: bool
) -> Figure:
    plane = Plane(findings, pair)
    x, y = plane.axes
    arms = [arm for arm in findings.arms if plane.of(arm)]
    mixed = [arm for arm in map(mixed_arm, arms) if plane.of(arm)]
    bands = [(runs, band) for runs in banded if (band := plane.band(runs))]
    medians = [median for _, (_, median) in bands if median is not None]
    limits = plane.limits()
    arrows = plane.arrows(limits)
    # From below to above.
    marks: list[Drawn] = [area for _, (area, _) in bands]
    marks += plane.reference_lines(limits)
    marks += map(plane.single_runs, arms)
    for arm in arms:
        corners = plane.staircase(arm)
        if corners:
            xs, ys = zip(*corners, strict=True)
            style, name = style_of(findings, arm), f"{arm}, nondominated"
            marks.append(Line(xs, ys, style.colour, style.dash, name, opacity=0.75))
    marks += filter(None, map(plane.mixed_front, mixed))
    marks += [*medians, *arrows, *map(plane.means, (*arms, *mixed))]
    name = f"operating_points_{x.task}_{y.task}"
    scales = (Scale(axis_title(x), limits[0]), Scale(axis_title(y), limits[1]))
    panel = Panel(name, *scales, tuple(marks))
    fronts = [arm for arm in arms if len(plane.of(arm)) > 1]
    fronts += mixed if _is_one_line(findings) else []
    return Figure(
        name=name,
        title=f"{x.task.capitalize()} against {y.task}",
        alt=plane.alt(),
        panels=(labelled(panel, plane.labels() if is_labelled else ()),),
        caption=_caption(findings, [runs for runs, _ in bands], bool(medians), bool(arrows)),
        legend=tuple(
            Key(arm, style_of(findings, arm), "both" if arm in fronts else "point")
            for arm in (*arms, *mixed)
        ),
    )


@dataclass(frozen=True)
class Plane:
    """Findings as two of their axes show them; all that is returned is in display units."""

    findings: Findings
    pair: tuple[int, int]

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Return the two axes."""
        first, second = self.pair
        return self.findings.axes[first], self.findings.axes[second]

    def of(self, arm: str) -> list[OperatingPoint]:
        """Return the operating points of a method, or of its mixed networks."""
        points = (*self.findings.points, *self.findings.mixed_points)
        return [point for point in points if point.arm == arm]

    def shown(self, values: Iterable[Sequence[float]]) -> list[Place]:
        """Return (x, y) of rows with a value for each of the two axes, in metric units."""
        x, y = (axis.metric.display_factor for axis in self.axes)
        return [(float(row[0]) * x, float(row[1]) * y) for row in values]

    def place(self, point: OperatingPoint) -> Place:
        """Return where the mean of an operating point lies."""
        return self.shown([[point.means[k] for k in self.pair]])[0]

    def corner(self) -> np.ndarray | None:
        """Return the reference point on the two axes in metric units; None without one."""
        reference = self.findings.reference
        return None if reference is None else np.array([reference.point[k] for k in self.pair])

    def single_runs(self, arm: str) -> Points:
        """Return the runs of a method."""
        runs = self.findings.runs[self.findings.runs["arm"] == arm]
        places = self.shown(runs[[axis.column for axis in self.axes]].to_numpy())
        hover = tuple(
            f"{arm}, seed {seed}\n{x:.4g}, {y:.4g}"
            for seed, (x, y) in zip(runs["seed"], places, strict=True)
        )
        xs, ys = zip(*places, strict=True)
        style, name = style_of(self.findings, arm), f"{arm}, single seeds"
        return Points(xs, ys, style, name, hover, size=6, opacity=0.35)

    def means(self, arm: str) -> Points:
        """Return the means of a method with their standard deviations."""
        mine = self.of(arm)
        xs, ys = zip(*map(self.place, mine), strict=True)
        deviations = self.shown([[point.sds[k] or 0.0 for k in self.pair] for point in mine])
        errors = tuple(zip(*deviations, strict=True))
        hover = tuple(point_text(self.findings, point) for point in mine)
        return Points(xs, ys, style_of(self.findings, arm), arm, hover, 11, 1.0, *errors)

    def mixed_front(self, arm: str) -> Line | None:
        """Return the line through mixed networks and their forks by priority, with two tasks."""
        if not _is_one_line(self.findings):
            return None
        points = [*self.of(trained_arm(arm)), *self.of(arm)]
        ordered = sorted(points, key=lambda point: point.priorities or ())
        xs, ys = zip(*map(self.place, ordered), strict=True)
        style = style_of(self.findings, arm)
        name = f"{trained_arm(arm)}, forks and mixed"
        return Line(xs, ys, style.colour, style.dash, name, width=1.1, opacity=0.8)

    def staircase(self, arm: str) -> list[Place]:
        """Return a method's staircase; empty for a single point."""
        means, corner = means_of(self.findings.points, arm), self.corner()
        if corner is None or len(means) < 2:
            return []
        return self.shown(staircase(means[:, list(self.pair)], corner, self.axes))

    def band(self, runs: ArmRuns) -> tuple[Area, Line | None] | None:
        """Return what a quarter of the seeds attain and three quarters do not, and the median.

        None without a band: for one seed, or more results than can be drawn so.
        """
        corner = self.corner()
        if corner is None or len(runs.seeds) < 2:
            return None
        seeds = []
        for number in range(len(runs.seeds)):
            low = minimised(runs.metrics[:, number, :][:, list(self.pair)], self.axes)
            # What a seed attains rests on its nondominated results alone.
            seeds.append(low[nondominated(low)])
        if sum(map(len, seeds)) > MAX_ATTAINED:
            return None
        turn = signs(self.axes)
        better, median, worse = (
            self.shown(staircase(attainment_surface(seeds, share) * turn, corner, self.axes))
            for share in SHARES
        )
        if not better:
            return None
        colour = style_of(self.findings, runs.arm).colour
        xs, ys = zip(*better, *(worse or self.shown([corner.tolist()]))[::-1], strict=True)
        area = Area(xs, ys, colour, f"{runs.arm}, 25 to 75 % of seeds", 0.13)
        if len(runs.seeds) < MIN_FOR_MEDIAN or not median:
            return area, None
        xs, ys = zip(*median, strict=True)
        name = f"{runs.arm}, median attainment"
        return area, Line(xs, ys, colour, "dot", name, width=1.1, opacity=0.8)

    def references(self, axis: Axis) -> dict[str, float]:
        """Return what is drawn as a line at one value of an axis: kind -> value, metric units."""
        lines = {}
        if axis.column in self.findings.prior:
            lines[PRIOR] = self.findings.prior[axis.column]
        if axis.column in self.findings.baselines:
            values = self.findings.baselines[axis.column].values()
            lines[SINGLE_TASK] = sum(values) / len(values)
        return lines

    def reference_lines(self, limits: Sequence[tuple[float, float]]) -> list[Rule]:
        """Return the lines of `references`; `limits` are those of the axes, in display units."""
        # Two lines that cross near the better corner would have their texts there on each other.
        crossing = [
            (self.references(axis)[PRIOR] * axis.metric.display_factor - worse) / (better - worse)
            for axis, (worse, better) in zip(self.axes, limits, strict=True)
            if PRIOR in self.references(axis)
        ]
        prior_text_at: Literal["start", "end"] = "end"
        if len(crossing) == 2 and min(crossing) > 0.5:
            prior_text_at = "start"
        directions: tuple[Literal["x", "y"], ...] = ("x", "y")
        return [
            Rule(
                direction,
                value * axis.metric.display_factor,
                f"{kind} {axis.shown(value)} {axis.unit}",
                dash="dot" if kind == PRIOR else "longdash",
                text_at=prior_text_at if kind == PRIOR else "middle",
            )
            for direction, axis in zip(directions, self.axes, strict=True)
            for kind, value in self.references(axis).items()
        ]

    def limits(self) -> list[tuple[float, float]]:
        """Return axis limits, the worse end first: all seeds, bars and lines with some room."""
        limits = []
        for axis, k in zip(self.axes, self.pair, strict=True):
            values = self.findings.runs[axis.column].tolist()
            for point in (*self.findings.points, *self.findings.mixed_points):
                sd = point.sds[k] or 0.0
                values += [point.means[k] - sd, point.means[k] + sd]
            values += self.references(axis).values()
            if self.findings.reference is not None:
                values.append(self.findings.reference.point[k])
            limits.append(axis_limits(values, axis))
        return limits

    def arrows(self, limits: Sequence[tuple[float, float]]) -> list[Arrow]:
        """Return arrows from fixed to lsb at the same priorities.

        None where there are many, or several arms of either, or between points that nearly
        coincide.
        """
        methods = method_of(self.findings)
        ends = [[arm for arm, name in methods.items() if name == end] for end in PAPER_PAIR[::-1]]
        if [len(arms) for arms in ends] != [1, 1]:
            return []
        starts, tips = (
            {point.priorities: self.place(point) for point in self.of(arm) if point.priorities}
            for (arm,) in ends
        )
        shared = [(starts[key], tips[key]) for key in starts if key in tips]
        if len(shared) > MAX_ARROWS:
            return []
        widths = np.abs(np.diff(np.array(limits), axis=1)[:, 0])
        return [
            Arrow((a[0], b[0]), (a[1], b[1]))
            for a, b in shared
            if np.linalg.norm((np.array(b) - a) / widths) > MIN_ARROW
        ]

    def labels(self) -> list[Callout]:
        """Return what stands beside each operating point, nondominated ones first.

        That is its priorities, of many tasks those of the two axes, or its method.
        """
        settings = [point.priorities for point in self.findings.points]
        texts: Callable[[Priorities], str] = self.findings.shown_priorities
        if len(self.findings.axes) > MAX_LABELLED_TASKS:
            settings = [s and (s[self.pair[0]], s[self.pair[1]]) for s in settings]
            texts = priority_texts(s for s in settings if s is not None).__getitem__
        held = sorted(
            zip(self.findings.points, settings, strict=True),
            key=lambda one: (not one[0].nondominated, not one[0].nondominated_in_arm),
        )
        return [
            Callout(
                *self.place(point),
                point.arm if setting is None else texts(setting),
                style_of(self.findings, point.arm).colour,
            )
            for point, setting in held
        ]

    def alt(self) -> str:
        """Return what the figure shows, for those who cannot see it."""
        parts = []
        for arm in (*self.findings.arms, *map(mixed_arm, self.findings.arms)):
            mine = self.of(arm)
            if mine:
                named = zip(self.pair, self.axes, strict=True)
                spans = ", ".join(range_text(mine, axis, k) for k, axis in named)
                parts.append(f"{arm}: {len(mine)} operating points, {spans}")
        x, y = self.axes
        return (
            f"Scatter plot of {x.title} against {y.title}. {'. '.join(parts)}. "
            "The table below has every value."
        )


def _caption(
    findings: Findings, banded: Sequence[ArmRuns], has_medians: bool, has_arrows: bool
) -> str:
    of_two = " of these two axes" if len(findings.axes) > 2 else ""
    parts = [
        "Better is right and up. Large markers: means over seeds, bars of one standard deviation; "
        "small ones: single runs. Steps: a method's nondominated means; the area between them and "
        f"the reference point is the hypervolume{of_two}."
    ]
    if len(findings.axes) > MAX_LABELLED_TASKS:
        parts.append("The table of means has the priorities of the other tasks.")
    if banded:
        shown = " and ".join(f"{runs.arm} ({len(runs.seeds)})" for runs in banded)
        parts.append(f"Bands of {shown} seeds: between what 75 % and what 25 % of them attain.")
    if has_medians:
        parts.append("Dotted steps: what half of the seeds attain.")
    if has_arrows:
        parts.append("Arrows: from fixed to lsb at the same priorities.")
    if findings.mixed_points:
        parts.append(
            "Mixed: networks with a mean of two forks' weights, not trained; means over seeds."
        )
    if findings.mixed_points and _is_one_line(findings):
        parts.append(
            "Thin lines: forks and mixed networks by priority. Each mix between has a network, but "
            "only those with a marker were measured."
        )
    if findings.prior:
        parts.append(
            "Dotted lines: the image-independent baseline (at each pixel the median value, mean "
            "normal or most frequent class of the training targets)."
        )
    if any(axis.column in findings.baselines for axis in findings.axes):
        parts.append("Long dashes: means of networks that train that task alone, otherwise alike.")
    return " ".join(parts)
