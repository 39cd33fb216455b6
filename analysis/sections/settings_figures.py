"""Figures of what a sweep varies: all operating points, fronts, metrics against numbers."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.compute.fronts import OperatingPoint, means_of, staircase
from analysis.compute.settings import (
    METHOD,
    Row,
    SettingsComparison,
)
from analysis.load.axes import Axis, priority_texts
from analysis.load.groups import field_name
from analysis.load.text import counted, first_items, listed
from analysis.render.figure_parts import axis_limits, axis_title, mean_text
from analysis.render.labels import labelled
from analysis.render.panels import (
    ARM_COLOURS,
    SYMBOLS,
    Drawn,
    Figure,
    Key,
    Line,
    Panel,
    Points,
    Rule,
    Scale,
    Style,
)

MAX_PANELS = 24
"""Of small multiples; the table holds all."""
GREY = 5
"""Number of the colour of markers in a legend, where colours say the setting."""
LOG_RATIO = 5.0
"""An axis whose ends differ by this factor is logarithmic."""


def value_text(value: Any) -> str:
    """Return the value of a spec field as people read it."""
    if isinstance(value, float):
        return f"{value:g}"
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def setting_text(made: SettingsComparison, setting: int) -> str:
    """Return a setting in words: names as they are, numbers with the name of their field."""
    return values_text(made, setting, range(len(made.family.fields)))


def values_text(made: SettingsComparison, setting: int, places: Sequence[int]) -> str:
    """Return the same of the varying fields with these numbers alone."""
    values = made.family.settings[setting]
    texts = [
        value_text(values[k])
        if isinstance(values[k], str)
        else f"{field_name(made.family.fields[k])} {value_text(values[k])}"
        for k in places
    ]
    return ", ".join(texts) or "one setting"


def _styles(
    made: SettingsComparison,
) -> tuple[dict[tuple[int, str], Style], tuple[Key, ...], str]:
    """Return (setting, method) -> style, the legend, and what colour and marker say.

    Colour is the setting. Where there are more settings than colours it is the field with the most
    values that have colours; the marker then says the others with the method.
    """
    settings, fields = made.family.settings, made.family.fields
    colour_fields = list(range(len(fields)))
    if len(settings) > len(ARM_COLOURS):
        counts = {k: len({values[k] for values in settings}) for k in colour_fields}
        fitting = {k: n for k, n in counts.items() if n <= len(ARM_COLOURS)}
        if fitting:
            colour_fields = [max(fitting, key=lambda k: fitting[k])]
    mark_fields = [k for k in range(len(fields)) if k not in colour_fields]
    colours = [values_text(made, k, colour_fields) for k in range(len(settings))]
    rest = [values_text(made, k, mark_fields) if mark_fields else "" for k in range(len(settings))]
    colour_number = {text: k for k, text in enumerate(dict.fromkeys(colours))}
    marks = {
        (arm, text): number
        for number, (arm, text) in enumerate(itertools.product(made.arms, dict.fromkeys(rest)))
    }
    styles = {
        (k, arm): Style(colour_number[colours[k]], marks[arm, rest[k]])
        for k in range(len(settings))
        for arm in made.arms
    }
    keys = [Key(text, Style(k, 0), "line") for text, k in colour_number.items()]
    if not fields:
        keys = []
    keys += [
        Key(f"{arm}, {text}" if text else arm, Style(GREY, number), "point")
        for (arm, text), number in marks.items()
    ]
    names = listed([field_name(fields[k]) for k in colour_fields]) if fields else "the setting"
    repeats = " Markers repeat: hover names the method." if len(marks) > len(SYMBOLS) else ""
    with_method = listed([METHOD, *(field_name(fields[k]) for k in mark_fields)])
    return styles, tuple(keys), f"Colour: {names}. Marker: {with_method}.{repeats}"


def _place(point: OperatingPoint, axes: Sequence[Axis], pair: tuple[int, int]) -> list[float]:
    return [point.means[k] * axes[k].metric.display_factor for k in pair]


def _hover(made: SettingsComparison, setting: int, point: OperatingPoint) -> str:
    texts = priority_texts(
        p.priorities for held in made.points for p in held if p.priorities is not None
    )
    where = "" if point.priorities is None else f" {texts[point.priorities]}"
    lines = [setting_text(made, setting), f"{point.arm}{where}"]
    for k, axis in enumerate(made.axes):
        lines.append(f"{axis.name} {mean_text(axis, point.means[k], point.sds[k])} {axis.unit}")
    return "\n".join([*lines, counted(point.n, "seed", "seeds")])


def _limits(made: SettingsComparison, pair: tuple[int, int]) -> list[tuple[float, float]]:
    """Return limits that hold all means with their bars, and single-task networks."""
    limits = []
    for k in pair:
        axis = made.axes[k]
        values = [row.means[axis.column] for row in made.rows if not row.arm]
        held = [value for value in values if value is not None]
        for point in itertools.chain(*made.points):
            sd = point.sds[k] or 0.0
            held += [point.means[k] - sd, point.means[k] + sd]
        limits.append(axis_limits(held, axis))
    return limits


def _marks(
    made: SettingsComparison, setting: int, arm: str, pair: tuple[int, int], style: Style
) -> list[Points]:
    mine = [point for point in made.points[setting] if point.arm == arm]
    if not mine:
        return []
    xs, ys = zip(*(_place(point, made.axes, pair) for point in mine), strict=True)
    bars = [
        tuple((p.sds[k] or 0.0) * made.axes[k].metric.display_factor for p in mine) for k in pair
    ]
    hover = tuple(_hover(made, setting, point) for point in mine)
    return [Points(xs, ys, style, f"{setting_text(made, setting)}, {arm}", hover, 10, 1.0, *bars)]


def points_figure(made: SettingsComparison, pair: tuple[int, int], suffix: str) -> Figure:
    """Return all operating points on two axes; `suffix` tells families apart in its name."""
    x, y = (made.axes[k] for k in pair)
    styles, keys, meaning = _styles(made)
    limits = _limits(made, pair)
    marks: list[Drawn] = []
    singles = [row for row in made.rows if not row.arm]
    if len(singles) == 1:
        directions: tuple[tuple[Any, Axis], ...] = (("x", x), ("y", y))
        for direction, axis in directions:
            value = singles[0].means[axis.column]
            if value is not None:
                at = value * axis.metric.display_factor
                marks.append(Rule(direction, at, "single task", "longdash", "middle"))
    for (setting, arm), style in styles.items():
        marks += _marks(made, setting, arm, pair, style)
    name = f"points_{x.task}_{y.task}{suffix}"
    panel = Panel(
        name, Scale(axis_title(x), limits[0]), Scale(axis_title(y), limits[1]), tuple(marks)
    )
    return Figure(
        name=name,
        title=f"All operating points: {x.task} against {y.task}",
        alt=f"Scatter plot of {x.title} against {y.title} for every setting and method. The table "
        "above has the values.",
        panels=(labelled(panel, ()),),
        caption=f"{meaning} Means over seeds with bars of one standard deviation; better is right "
        "and up.",
        legend=keys,
    )


def front_figures(
    made: SettingsComparison, pair: tuple[int, int], suffix: str
) -> tuple[Figure, ...]:
    """Return the fronts of each setting beside each other; none without a front."""
    if made.reference is None:
        return ()
    x, y = axes = tuple(made.axes[k] for k in pair)
    corner = np.array([made.reference.point[k] for k in pair])
    limits, panels = _limits(made, pair), []
    for setting, points in enumerate(made.points):
        marks: list[Drawn] = []
        for number, arm in enumerate(made.arms):
            means = means_of(points, arm)
            style = Style(number)
            corners = staircase(means[:, list(pair)], corner, axes) if len(means) > 1 else []
            if corners:
                by_x, by_y = (axis.metric.display_factor for axis in axes)
                xs = tuple(x * by_x for x, _ in corners)
                ys = tuple(y * by_y for _, y in corners)
                marks.append(Line(xs, ys, style.colour, style.dash, f"{arm}, nondominated"))
            marks += _marks(made, setting, arm, pair, style)
        if any(isinstance(mark, Line) for mark in marks):
            name = f"front_{x.task}_{y.task}_{setting}{suffix}"
            scales = (Scale(axis_title(x), limits[0]), Scale(axis_title(y), limits[1]))
            title = setting_text(made, setting)
            panels.append(Panel(name, *scales, tuple(marks), title, height=300))
    if not panels:
        return ()
    shown, more = first_items(panels, MAX_PANELS, "settings")
    return (
        Figure(
            name=f"fronts_{x.task}_{y.task}{suffix}",
            title=f"Fronts, one setting a panel: {x.task} against {y.task}",
            alt=f"Fronts of each method in {x.title} and {y.title}, one panel a setting.",
            panels=tuple(shown),
            caption=f"All panels have the same axes. Steps: a method's nondominated means.{more}",
            columns=2 if len(shown) in (2, 4) else 3,
            legend=tuple(Key(arm, Style(k)) for k, arm in enumerate(made.arms)),
        ),
    )


def numeric_figure(made: SettingsComparison, field: int, suffix: str) -> Figure:
    """Return each metric against the value of a field, one line a method, with single seeds."""
    fields, settings = made.family.fields, made.family.settings
    name = field_name(fields[field])
    others = [k for k in range(len(fields)) if k != field]
    values = sorted({setting[field] for setting in settings})
    is_log = values[0] > 0 and values[-1] / values[0] >= LOG_RATIO
    room = (values[-1] / values[0]) ** 0.1 if is_log else (values[-1] - values[0]) * 0.1
    ends = (
        (values[0] / room, values[-1] * room) if is_log else (values[0] - room, values[-1] + room)
    )
    x = Scale(name, ends, is_log, tuple((float(value), value_text(value)) for value in values))
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for number, setting in enumerate(settings):
        kinds.setdefault(tuple(setting[k] for k in others), []).append(number)
    panels = []
    stem = "".join(sign if sign.isalnum() else "_" for sign in fields[field])
    for place, (axis, numbers) in enumerate(itertools.product(made.axes, kinds.values())):
        rows = [row for row in made.rows if row.arm]
        held = [value for row in rows for _, value in _seed_values(made, row, axis.column)]
        held += [
            (row.means[axis.column] or 0.0) + side * (row.sds[axis.column] or 0.0)
            for row in rows
            for side in (-1, 1)
        ]
        title = values_text(made, numbers[0], others) if others else ""
        marks = [
            mark
            for k, arm in enumerate(made.arms)
            for mark in _numeric_marks(made, axis, field, numbers, arm, Style(k))
        ]
        y = Scale(axis_title(axis), axis_limits(held, axis))
        panel_name = f"{stem}_{axis.task}_{place}{suffix}"
        panels.append(Panel(panel_name, x, y, tuple(marks), title, height=300))
    shown, more = first_items(panels, MAX_PANELS, "panels")
    return Figure(
        name=f"against_{stem}{suffix}",
        title=f"Metrics against {name}",
        alt=f"Each task's metric against the {name}, one line a method.",
        panels=tuple(shown),
        caption="Means over seeds at the priorities of the table, with bars of one standard "
        f"deviation; faint: single seeds. Better is up.{more}",
        columns=min(3, max(2, len(kinds))),
        legend=tuple(Key(arm, Style(k)) for k, arm in enumerate(made.arms)),
    )


def _numeric_marks(
    made: SettingsComparison,
    axis: Axis,
    field: int,
    numbers: Sequence[int],
    arm: str,
    style: Style,
) -> list[Drawn]:
    rows = [row for row in made.rows if row.arm == arm and row.settings[0] in numbers]
    rows.sort(key=lambda row: made.value_of(row, field))
    if not rows:
        return []
    factor = axis.metric.display_factor
    xs = tuple(float(made.value_of(row, field)) for row in rows)
    ys = tuple(float(row.means[axis.column] or 0.0) * factor for row in rows)
    bars = tuple((row.sds[axis.column] or 0.0) * factor for row in rows)
    hover = tuple(
        f"{setting_text(made, row.settings[0])}\n{arm}\n"
        f"{mean_text(axis, float(row.means[axis.column] or 0.0), row.sds[axis.column])} {axis.unit}"
        for row in rows
    )
    single = [
        (at, seed, value * factor)
        for at, row in zip(xs, rows, strict=True)
        for seed, value in _seed_values(made, row, axis.column)
    ]
    seeds = Points(
        tuple(at for at, _, _ in single),
        tuple(value for _, _, value in single),
        style,
        f"{arm}, single seeds",
        tuple(f"{arm}, seed {seed}\n{value:.4g}" for _, seed, value in single),
        size=6,
        opacity=0.35,
    )
    line = Line(xs, ys, style.colour, style.dash, arm)
    return [seeds, line, Points(xs, ys, style, arm, hover, 10, 1.0, None, bars)]


def _seed_values(made: SettingsComparison, row: Row, column: str) -> list[tuple[int, float]]:
    runs = made.runs_at(row.settings[0], row.arm, row.priorities)
    return list(zip(map(int, runs["seed"]), map(float, runs[column]), strict=True))
