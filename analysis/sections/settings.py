"""What a sweep varies, compared: the sections of its first page, and its table on a terminal."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.compute.fronts import OperatingPoint, means_of, staircase
from analysis.compute.inference import SIGNIFICANCE
from analysis.compute.settings import (
    EPOCH_SECONDS,
    HYPERVOLUME,
    METHOD,
    Difference,
    Row,
    SettingsComparison,
    numeric_fields,
)
from analysis.load.axes import MINUS, TIMES, Axis, priority_texts, shown_number, volume_unit
from analysis.load.groups import field_name
from analysis.load.priorities import is_equal, priority_values
from analysis.load.runs import SPLIT, VALIDATION
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
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table, plain

MAX_OPEN = 3
"""Pairs of tasks whose figures are open; the others are folded."""
MAX_PANELS = 24
"""Of small multiples; the table holds all."""
SINGLE = "single-task networks"
GREY = 5
"""Number of the colour of markers in a legend, where colours say the setting."""
LOG_RATIO = 5.0
"""An axis whose ends differ by this factor is logarithmic."""


def settings_section(made: SettingsComparison, number: int) -> Section:
    """Return the section on family `number` of the page, counted from 0."""
    suffix = f"_{number + 1}" if number else ""
    title = made.family.title or "Settings and methods"
    name = f"settings{suffix}"
    if not made.rows:
        return Section(name, title, "No run has a usable result yet.", tuple(made.notes))
    parts: list[Part | Folded] = [settings_table(made, name)]
    best = best_table(made, f"best{suffix}")
    parts += [best] if best is not None else []
    parts += made.notes
    pairs = list(itertools.combinations(range(len(made.axes)), 2))
    for k, pair in enumerate(pairs):
        figures = [_points_figure(made, pair, suffix), *_front_figures(made, pair, suffix)]
        names = " and ".join(made.axes[k].task for k in pair)
        parts += figures if k < MAX_OPEN else [Folded(names, tuple(figures))]
    parts += [_numeric_figure(made, field, suffix) for field in numeric_fields(made)]
    parts.append(differences_text(made))
    if made.differences:
        table = _difference_table(made, f"differences{suffix}")
        parts.append(Folded(f"{len(made.differences)} paired differences", (table,)))
    values = {
        "fields": made.family.fields,
        "settings": made.family.settings,
        "rows": made.rows,
        "best": made.best,
        "differences": made.differences,
    }
    return Section(name, title, lead(made), tuple(parts), values)


def lead(made: SettingsComparison) -> str:
    """Return what is compared, and on what, in a sentence or two."""
    arms = {row.arm for row in made.rows if row.arm}
    varied = listed([field_name(name) for name in made.family.fields]) if made.family.fields else ""
    settings = counted(len(made.family.groups), "setting", "settings")
    return (
        f"{settings}{f' of {varied}' if varied else ''} {TIMES} "
        f"{counted(len(arms), 'method', 'methods')}, all measured on the same images of the "
        f"{SPLIT} split: {made.num_done} of {made.num_asked} runs done."
    )


def best_text(made: SettingsComparison) -> str:
    """Return each method's best setting in words; empty where none is chosen."""
    if not made.best:
        return ""
    each = [
        f"{made.rows[best.row].arm} {setting_text(made, made.rows[best.row].settings[0])}"
        for best in made.best
    ]
    shown, more = first_items(each, 4, "methods")
    return f"Best setting by validation: {'; '.join(shown)}.{more}"


def value_text(value: Any) -> str:
    """Return the value of a spec field as people read it."""
    if isinstance(value, float):
        return f"{value:g}"
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def setting_text(made: SettingsComparison, setting: int) -> str:
    """Return a setting in words: names as they are, numbers with the name of their field."""
    return _values_text(made, setting, range(len(made.family.fields)))


def _values_text(made: SettingsComparison, setting: int, places: Sequence[int]) -> str:
    values = made.family.settings[setting]
    texts = [
        value_text(values[k])
        if isinstance(values[k], str)
        else f"{field_name(made.family.fields[k])} {value_text(values[k])}"
        for k in places
    ]
    return ", ".join(texts) or "one setting"


# Tables.


def _records(made: SettingsComparison) -> list[dict[str, Any]]:
    tasks = [axis.task for axis in made.axes]
    records = []
    for row in made.rows:
        record: dict[str, Any] = {
            field: made.value_of(row, k) for k, field in enumerate(made.family.fields)
        }
        record |= {"method": row.arm or SINGLE, **priority_values(row.priorities, tasks)}
        record |= {"priorities": row.priorities, "num_seeds": len(row.seeds)}
        for metric in made.metrics:
            record[f"{metric.column}_mean"] = row.means.get(metric.column)
            record[f"{metric.column}_sd"] = row.sds.get(metric.column)
        first, flat = row.delta_m or (None, None)
        record |= {"delta_m_percent_tasks_first": first, "delta_m_percent_metrics_flat": flat}
        record |= {"average_rank": row.average_rank, "hypervolume": row.hypervolume, **row.costs}
        records.append(record)
    return records


def _setting_columns(made: SettingsComparison) -> list[Column]:
    def column(field: str) -> Column:
        return Column(
            field,
            field_name(field),
            lambda record: "any" if record[field] is None else value_text(record[field]),
        )

    return [*map(column, made.family.fields), Column("method", "method")]


def _metric_columns(metrics: Sequence[Axis]) -> list[Column]:
    def columns(metric: Axis) -> tuple[Column, Column]:
        mean, sd = f"{metric.column}_mean", f"{metric.column}_sd"
        shown = Column(mean, metric.title, lambda r: mean_text(metric, r[mean], r[sd]))
        return shown, Column(sd)

    return [column for metric in metrics for column in columns(metric)]


def _scaled(key: str, head: str, factor: float, form: str) -> Column:
    """Return a column in another unit than that of its values, which the CSV keeps."""

    def text(record: Mapping[str, Any]) -> str:
        return shown_number(None if record[key] is None else record[key] * factor, form)

    return Column(key, head, text)


def _comparing_columns(made: SettingsComparison) -> list[Column]:
    columns = [Column("num_seeds", "seeds")]
    if any(row.delta_m is not None for row in made.rows):
        columns.append(Column("delta_m_percent_tasks_first", "Delta_m (%)", "+.1f"))
    columns.append(Column("average_rank", "average rank", ".2f"))
    if any(row.hypervolume is not None for row in made.rows):
        columns.append(Column("hypervolume", "hypervolume", ".4g"))
    return columns


COSTS = (
    _scaled("num_parameters", "parameters (M)", 1e-6, ".2f"),
    _scaled("forward_flops", "GFLOPs an image", 1e-9, ".3f"),
    _scaled(EPOCH_SECONDS, "s an epoch", 1, ".2f"),
    _scaled("peak_memory_bytes", "peak memory (MiB)", 2**-20, ".0f"),
    _scaled("peak_device_bytes", "GPU memory (MiB)", 2**-20, ".0f"),
)


def settings_table(made: SettingsComparison, name: str) -> Table:
    """Return the table in the shape of the paper's Table 2: one row a setting and method."""
    known = [c for c in COSTS if any(row.costs[str(c.key)] is not None for row in made.rows)]
    unknown = [str(c.head) for c in COSTS[:4] if c not in known]
    columns = [
        *_setting_columns(made),
        *_metric_columns(made.metrics),
        *_comparing_columns(made),
        *known,
        *(Column(f"priority_{axis.task}") for axis in made.axes),
        Column("delta_m_percent_metrics_flat"),
    ]
    return Table.of(
        name,
        _caption(made, unknown),
        _records(made),
        columns,
        num_words=len(made.family.fields) + 1,
        marked=[k in {best.row for best in made.best} for k in range(len(made.rows))],
    )


def _caption(made: SettingsComparison, unknown: Sequence[str]) -> str:
    sentences = [f"Mean ± standard deviation over seeds, {SPLIT} split{_where_text(made)}."]
    if any(row.average_rank is not None for row in made.rows):
        sentences.append(
            "Average rank: of the means of all metrics among all rows, 1 is best; it says who is "
            "ahead, not by how much."
        )
    if any(row.delta_m is not None for row in made.rows):
        sentences.append(
            "Delta_m: mean relative gain over single-task networks trained alike, tasks counted "
            "alike; the CSV has metrics counted alike too."
        )
    if any(row.hypervolume is not None for row in made.rows):
        sentences.append(
            f"Hypervolume of all priorities in {volume_unit(made.axes)}, one reference point."
        )
    if any(not row.arm for row in made.rows):
        sentences.append(
            "Single-task networks: one for each task; parameters, operations and times are sums."
        )
    if made.best:
        sentences.append("Set off: each method's best setting by validation.")
    if unknown:
        sentences.append(f"Not recorded with these runs, so unknown: {listed(unknown)}.")
    return " ".join(sentences)


def _where_text(made: SettingsComparison) -> str:
    """Return at which priorities the rows are, where they have any."""
    shown = {row.priorities for row in made.rows if row.priorities is not None}
    if not shown:
        return ""
    if all(map(is_equal, shown)):
        return ", at equal priorities"
    texts = priority_texts(sorted(shown)).values()
    return f", at the priorities nearest to equal ones, {listed([*texts])}"


def terminal_table(made: SettingsComparison) -> str:
    """Return the table as a terminal shows it: one metric a task, no costs but parameters."""
    if not made.rows:
        return ""
    columns = [
        *_setting_columns(made),
        *_metric_columns(made.axes),
        *_comparing_columns(made),
        *(COSTS[:1] if any(row.costs["num_parameters"] is not None for row in made.rows) else ()),
    ]
    words = len(made.family.fields) + 1
    return plain(Table.of("settings", "", _records(made), columns, num_words=words))


def best_table(made: SettingsComparison, name: str) -> Table | None:
    """Return each method's best setting, chosen on validation and shown on test."""
    if not made.best:
        return None
    records = _records(made)
    tried = made.best[0].num_tried
    return Table.of(
        name,
        f"The best setting of each method, chosen on the {VALIDATION} split and shown on the "
        f"{SPLIT} split. Each method had the same {tried} settings to choose from; chosen is the "
        "least of the largest loss over the tasks, as in the choice of a network at equal weights.",
        [records[best.row] for best in made.best],
        [Column("method", "method"), *_setting_columns(made)[:-1], *_metric_columns(made.axes),
         Column("num_seeds", "seeds")],
        num_words=len(made.family.fields) + 1,
    )  # fmt: skip


def differences_text(made: SettingsComparison) -> str:
    """Return how many paired differences are significant, and which are the clearest."""
    if not made.differences:
        return (
            "No paired test: no two rows that differ in one thing share two seeds and their "
            "training data."
        )
    below = sorted(
        (d for d in made.differences if d.p_adjusted < SIGNIFICANCE), key=lambda d: d.p_adjusted
    )
    shown, more = first_items([_difference_words(made, d) for d in below], 4, "differences")
    least = min(d.minimum_p for d in made.differences)
    return (
        f"{len(below)} of {len(made.differences)} paired differences are significant (p below "
        f".05 after Holm){': ' if shown else '.'}{'; '.join(shown)}{'.' if shown else ''}{more} "
        f"The minimum attainable p of one test, before Holm, is {least:.2g}."
    )


def _difference_words(made: SettingsComparison, d: Difference) -> str:
    value = shown_number(_shown_difference(made, d), "+.3g")
    return f"{_pair_text(made, d)} in {d.column} {value} (p {d.p_adjusted:.2g})"


def _shown_difference(made: SettingsComparison, d: Difference) -> float:
    factors = {axis.column: axis.metric.display_factor for axis in made.axes}
    return d.difference * factors.get(d.column, 1.0)


def _pair_text(made: SettingsComparison, d: Difference) -> str:
    a, b = made.rows[d.row_a], made.rows[d.row_b]
    if d.varied == METHOD:
        where = setting_text(made, a.settings[0]) if made.family.fields else ""
        return f"{a.arm} {MINUS} {b.arm}{f' ({where})' if where else ''}"
    place = made.family.fields.index(d.varied)
    x, y = (value_text(made.value_of(row, place)) for row in (a, b))
    rest = [k for k in range(len(made.family.fields)) if k != place]
    where = ", ".join([a.arm, *([_values_text(made, a.settings[0], rest)] if rest else [])])
    return f"{field_name(d.varied)} {x} {MINUS} {y} ({where})"


def _difference_table(made: SettingsComparison, name: str) -> Table:
    axes = {axis.column: axis for axis in made.axes}

    def metric_text(record: Mapping[str, Any]) -> str:
        column = record["column"]
        return axes[column].title if column in axes else HYPERVOLUME

    def side(row: Row) -> str:
        return f"{row.arm}, {setting_text(made, row.settings[0])}"

    records = [
        {
            **vars(d),
            "words": _pair_text(made, d),
            "a": side(made.rows[d.row_a]),
            "b": side(made.rows[d.row_b]),
            "shown": _shown_difference(made, d),
            "num_seeds": len(d.seeds),
        }
        for d in sorted(made.differences, key=lambda d: d.p_adjusted)
    ]
    return Table.of(
        name,
        "Differences of means of rows that differ in the method or in one field, over the "
        "priorities and seeds that both have, with the two-sided p of permuted seeds; those with "
        "the least p first. Rows with different training images are not paired.",
        records,
        [
            Column(None, "difference of", lambda record: str(record["words"])),
            *map(Column, ("a", "b", "varied")),
            Column("column", "metric", metric_text),
            Column("num_priorities", "priorities"),
            Column("num_seeds", "seeds"),
            Column(None, "difference", lambda record: shown_number(record["shown"], "+.3g")),
            Column("difference"),
            Column("p", "p", ".2g"),
            Column("p_adjusted", "p after Holm", ".2g"),
            Column("minimum_p", "minimum attainable p", ".2g"),
        ],
        num_words=2,
    )


# Figures.


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
    colours = [_values_text(made, k, colour_fields) for k in range(len(settings))]
    rest = [_values_text(made, k, mark_fields) if mark_fields else "" for k in range(len(settings))]
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


def _points_figure(made: SettingsComparison, pair: tuple[int, int], suffix: str) -> Figure:
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


def _front_figures(
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
            columns=3,
            legend=tuple(Key(arm, Style(k)) for k, arm in enumerate(made.arms)),
        ),
    )


def _numeric_figure(made: SettingsComparison, field: int, suffix: str) -> Figure:
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
        title = _values_text(made, numbers[0], others) if others else ""
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
