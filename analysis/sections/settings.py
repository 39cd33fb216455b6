"""What a sweep varies, compared: the sections of its first page, and its table on a terminal."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.compute.settings import (
    EPOCH_SECONDS,
    HYPERVOLUME,
    METHOD,
    Difference,
    Row,
    SettingsComparison,
    numeric_fields,
)
from analysis.compute.significance import SIGNIFICANCE
from analysis.load.axes import MINUS, TIMES, Axis, priority_texts, shown_number, volume_unit
from analysis.load.groups import field_name
from analysis.load.priorities import is_equal, priority_values
from analysis.load.runs import SPLIT, VALIDATION
from analysis.load.text import counted, first_items, listed
from analysis.render.figure_parts import mean_text
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table, plain
from analysis.sections.settings_figures import (
    front_figures,
    numeric_figure,
    points_figure,
    setting_text,
    value_text,
    values_text,
)

MAX_OPEN = 3
"""Pairs of tasks whose figures are open; the others are folded."""
SINGLE = "single-task networks"
SEEDS_TRIED = range(2, 15)
"""Beyond, permutations are drawn, and more seeds do not lower the minimum attainable p."""


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
        figures = [points_figure(made, pair, suffix), *front_figures(made, pair, suffix)]
        names = " and ".join(made.axes[k].task for k in pair)
        parts += figures if k < MAX_OPEN else [Folded(names, tuple(figures))]
    parts += [numeric_figure(made, field, suffix) for field in numeric_fields(made)]
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
    chosen: dict[str, list[str]] = {}
    for best in made.best:
        row = made.rows[best.row]
        chosen.setdefault(setting_text(made, row.settings[0]), []).append(row.arm)
    if len(chosen) == 1:
        return f"Best setting by validation, for every method: {next(iter(chosen))}."
    each = [f"{setting} for {listed(arms)}" for setting, arms in chosen.items()]
    shown, more = first_items(each, 4, "settings")
    return f"Best setting by validation: {'; '.join(shown)}.{more}"


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
    number, least = len(made.differences), min(d.minimum_p for d in made.differences)
    if number * least >= SIGNIFICANCE:
        enough = next((n for n in SEEDS_TRIED if number * 2 / 2**n < SIGNIFICANCE), None)
        remedy = f"with {enough} seeds one of them could be" if enough else "compare fewer settings"
        return (
            f"None of {number} paired differences can be significant (p below .05 after Holm): "
            f"the minimum attainable p of one test is {least:.2g} with so few seeds; {remedy}."
        )
    below = sorted(
        (d for d in made.differences if d.p_adjusted < SIGNIFICANCE), key=lambda d: d.p_adjusted
    )
    shown, more = first_items([_difference_words(made, d) for d in below], 4, "differences")
    return (
        f"{len(below)} of {number} paired differences are significant (p below .05 after Holm)"
        f"{': ' if shown else '.'}{'; '.join(shown)}{'.' if shown else ''}{more} The minimum "
        f"attainable p of one test, before Holm, is {least:.2g}."
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
    where = ", ".join([a.arm, *([values_text(made, a.settings[0], rest)] if rest else [])])
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
