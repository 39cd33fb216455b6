"""Results -> ranked tables with their tests: of a CSV from anywhere, or of a store's runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.ranks import (
    BlockTest,
    PairTest,
    RankedMetric,
    RankTable,
    Untested,
    delta_m,
    friedman_tests,
    pair_tests,
    rank_table,
)
from analysis.load.axes import known_columns, metric_column, shown_number
from analysis.load.baselines import Baselines, baselines
from analysis.load.groups import COMPARED, groups_of_stores
from analysis.load.plans import Asked
from analysis.load.priorities import PRIORITY_PREFIX, priority_column
from analysis.load.runs import load_stores
from analysis.load.table import column_numbers, one_setting, read_table
from analysis.load.text import counted, listed
from mtl.errors import UsageError, UserError
from mtl.records import METRIC_ALIASES, METRICS, TASK_METRICS
from mtl.spec.strict import checked_name
from mtl.spec.tasks import DECLARED_TASKS, MAX_VALUE, Metric
from mtl.store import Store

PRINTED = "rank_"
"""Start of the columns of ranks that a table brings along; they are not ranked."""
TRIAL_COLUMNS = ("trial", "seed")
"""Columns that say which trial of a method a row is, beside the priorities."""
PRIORITIES = "priorities"
"""Column of all priorities of a run as text, where a store has several."""
SPEC_FIELDS = {"architecture": "network.architecture", "encoder": "network.encoder"}
"""What runs of a store can be ranked by, beside the method -> their field."""
DELTA_COLUMNS = ("delta_m_percent_tasks_first", "delta_m_percent_metrics_flat")
"""Of the summary, where there is a baseline; see `analysis.compute.ranks.delta_m`."""


@dataclass(frozen=True)
class Request:
    """What the command line asks of a ranking."""

    by: str = "method"
    metrics: Mapping[str, str | None] | None = None
    """Column -> `min`, `max` or None for the one that is known; None for every column."""
    tie_tolerances: Mapping[str, float] | None = None
    blocks: str | None = None
    baseline: str | None = None
    """Value of `by` whose rows Delta_m is relative to; a store's single-task runs if None."""


@dataclass(frozen=True)
class Ranking:
    """One ranked table with all that is said of it."""

    label: str
    """What tells its runs from other ranked runs of the same results; empty for one table."""
    table: RankTable
    """Its summary has `DELTA_COLUMNS` where there is a baseline."""
    tests: tuple[PairTest, ...]
    untested: tuple[Untested, ...]
    blocks: tuple[BlockTest, ...]
    notes: tuple[str, ...]
    title: str = ""
    """The label as people say it."""

    @property
    def has_deltas(self) -> bool:
        """Return whether there is a baseline that Delta_m is relative to."""
        return DELTA_COLUMNS[0] in self.table.summary


def identifier_text(value: object) -> str:
    """Return what identifies a trial as people read it; a dash for a priority that is not there."""
    if isinstance(value, Integral):
        return shown_number(int(value), "d")
    if isinstance(value, Real):
        return shown_number(None if np.isnan(float(value)) else float(value), ".4g")
    return str(value)


def ranking_of_table(path: Path, request: Request) -> Ranking:
    """Return the ranking of a CSV or Parquet with one row a trial.

    Raises:
        UserError: if it cannot be read or ranked.
        UsageError: for a request that does not fit it.
    """
    notes: list[str] = []
    text = [request.by, *([request.blocks] if request.blocks else [])]
    frame = read_table(path, "trial", text, notes)
    for option, name in (("by", request.by), ("blocks", request.blocks)):
        if name is not None and name not in frame:
            raise UsageError(
                f"Expected --{option} to name a column of {path}, got {name!r}. Its columns: "
                f"{', '.join(map(str, frame.columns))}."
            )
    priorities = [str(name) for name in frame if str(name).startswith(PRIORITY_PREFIX)]
    identifiers = [n for n in (*priorities, *TRIAL_COLUMNS) if n in frame and n != request.by]
    numbers = {name: column_numbers(frame, name, path) for name in priorities}
    others = [n for n in identifiers if n not in priorities]
    frame = frame.assign(**numbers)
    frame[priorities] = one_setting(frame, priorities, [request.by, *others], notes)
    varied = len(frame[priorities].dropna().round(9).drop_duplicates()) > 1
    settings = [name for name in priorities if varied and name != request.by]
    if request.blocks not in (None, request.by, *identifiers):
        identifiers.insert(0, str(request.blocks))
        settings.append(str(request.blocks))
    metrics = _metrics_of_table(frame, request, {request.by, *identifiers}, path, notes)
    values = frame.assign(**{m.column: column_numbers(frame, m.column, path) for m in metrics})
    for ranked in metrics:
        _check_values(values, ranked, path)
    names = [request.by, *identifiers]
    if set(TRIAL_COLUMNS) & set(identifiers):
        values = _without_copies(values, names, metrics, path, notes)
    task_of = {m.column: _task_of_column(m.column) for m in metrics}
    return _ranking("", values, identifiers, settings, metrics, request, None, task_of, notes)


def _metrics_of_table(
    frame: pd.DataFrame, request: Request, reserved: set[str], path: Path, notes: list[str]
) -> list[RankedMetric]:
    """Return the metrics of a table: those asked for, or every numeric column."""
    asked = request.metrics or {}
    for name in asked:
        if name not in frame or name in reserved:
            raise UsageError(
                f"Expected --metrics to name columns of metrics of {path}, got {name!r}"
                f"{', which says which trial a row is' if name in reserved else ''}. Its columns: "
                f"{', '.join(map(str, frame.columns))}."
            )
    others = [str(n) for n in frame if n not in reserved and not str(n).startswith(PRINTED)]
    chosen = [*asked] or [n for n in others if pd.api.types.is_numeric_dtype(frame[n])]
    if not chosen:
        raise UserError(
            f"Expected a numeric column to rank in {path}, got none. Add columns of metrics."
        )
    tolerances = _tolerances(request, chosen)
    unused = [name for name in others if name not in chosen]
    if unused:
        notes.append(f"Not ranked: columns {', '.join(unused)}.")
    ranked = []
    for name in chosen:
        metric = _metric_of_column(name, asked.get(name), path)
        # A share may be given in percent.
        is_percent = metric.unit == "share" and column_numbers(frame, name, path).max() > 1
        factor = 1.0 if is_percent else metric.display_factor
        ranked.append(RankedMetric(name, metric, factor, tolerances.get(name, 0.0)))
    return ranked


def _metric_of_column(name: str, direction: str | None, path: Path) -> Metric:
    known = known_metric(name)
    if known is None and direction is None:
        raise UsageError(
            f"Expected a direction for column {name} of {path}, got none: it is no metric that is "
            f"known. Say --metrics {name}:min or {name}:max with the others to rank."
        )
    if known is not None and direction not in (None, known.direction):
        raise UsageError(
            f"Expected {name}:{known.direction}, got {name}:{direction}. Rename the column if it "
            "holds something else."
        )
    # Of an unknown column nothing says how it is shown, so no digit is rounded away.
    return known or Metric(name, "", "max" if direction == "max" else "min", 9, "from the table")


def _check_values(frame: pd.DataFrame, ranked: RankedMetric, path: Path) -> None:
    """Refuse values out of range, and shares and percentages in one column."""
    values, metric = frame[ranked.column], ranked.metric
    scale = metric.display_factor / ranked.factor
    wrong = (values < metric.low * scale) | ((values > metric.high * scale) & (values <= MAX_VALUE))
    if wrong.any():
        raise UserError(
            f"Expected a value {metric.range_text} in column {ranked.column} of {path}, got "
            f"{values[wrong].iloc[0]:g} in row {np.flatnonzero(wrong)[0] + 1} after the head. "
            "Correct it, or leave it empty."
        )
    shares = values[(values > 0) & (values < 1)]
    if ranked.metric.unit == "share" and ranked.factor == 1 and len(shares):
        raise UserError(
            f"Expected either shares or percentages in column {ranked.column} of {path}, got "
            f"{values.max():g} and {shares.iloc[0]:g}. Give all in one of them."
        )


def _without_copies(
    frame: pd.DataFrame,
    names: Sequence[str],
    metrics: Sequence[RankedMetric],
    path: Path,
    notes: list[str],
) -> pd.DataFrame:
    """Return a table without rows that repeat another; two different ones of a trial are refused.

    Args:
        frame: one row a trial.
        names: columns that say which trial a row is.
        metrics: what is ranked.
        path: of the table.
        notes: takes up what is left out.
    """
    copies = frame.duplicated([*names, *(m.column for m in metrics)])
    kept = frame[~copies]
    twice = kept[kept.duplicated(list(names))]
    if len(twice):
        where = ", ".join(f"{name} {identifier_text(twice.iloc[0][name])}" for name in names)
        raise UserError(f"Expected one row a trial in {path}, got two of {where}. Remove one.")
    if copies.any():
        rows = counted(int(copies.sum()), "row that repeats", "rows that repeat")
        notes.append(f"Left out: {rows} an earlier one.")
    return kept


def known_metric(column: str) -> Metric | None:
    """Return the metric that a column holds, by its name, alias or `<task>_<metric>`."""
    names = [column, *(column.removeprefix(f"{task}_") for task in TASK_METRICS)]
    known = [METRICS[f] for name in names if (f := METRIC_ALIASES.get(name, name)) in METRICS]
    return known[0] if known else None


def _task_of_column(column: str) -> str:
    """Return the task of a column; one that no task claims stands for itself."""
    metric = known_metric(column)
    for task, names in TASK_METRICS.items():
        if column.startswith(f"{task}_"):
            return task
        if metric is not None and metric.name in names and metric.name != "l1":
            return task
    return column


def _tolerances(request: Request, chosen: Sequence[str]) -> Mapping[str, float]:
    tolerances = request.tie_tolerances or {}
    for name in tolerances:
        checked_name(name, chosen, "ranked column for --tie-tolerance")
    return tolerances


def rankings_of_stores(
    stores: Sequence[Store], asked: Asked | None, request: Request
) -> list[Ranking]:
    """Return a ranking for each set of a store's runs that may be compared.

    Single-task runs are the baseline of Delta_m and are not ranked beside others.

    Raises:
        UserError: if there is nothing to rank.
        UsageError: for a request that does not fit the runs.
    """
    checked_name(request.by, ("method", "arm", *SPEC_FIELDS), "column to rank a store's runs by")
    groups = groups_of_stores(stores, asked, (*COMPARED, SPEC_FIELDS.get(request.by, "method")))
    joint = [group for group in groups if len(group.tasks) > 1]
    single = {i: s for group in groups for i, s in group.specs.items() if len(s.tasks) == 1}
    found = []
    for group in joint:
        loaded = load_stores(stores, group.run_ids, group.specs)
        if loaded.runs.empty:
            continue
        notes = [
            f"Not ranked: run {state.run_id} is {state.state}: {state.reason}."
            for state in loaded.states
            if state.state != "done"
        ]
        frame, settings = _with_settings(loaded.runs, loaded.tasks)
        if request.by in SPEC_FIELDS and len(set(frame["arm"])) > 1:
            settings.append("arm")
        metrics = _metrics_of_tasks(frame, loaded.tasks, request)
        held = baselines(stores, single, group.specs[str(loaded.runs["run_id"].iloc[0])])
        label = group.label if len(joint) > 1 else ""
        names = [*settings, "seed"]
        task_of = _task_of_columns(loaded.tasks)
        made = _ranking(label, frame, names, settings, metrics, request, held, task_of, notes)
        found.append(replace(made, title=group.title if label else ""))
    if not found:
        raise UserError(
            "Expected finished runs of two tasks or more, got none to rank. Train some first."
        )
    return found


def ranking_of_trials(runs: pd.DataFrame, tasks: Sequence[str], held: Baselines) -> Ranking | None:
    """Return the ranking of runs that are trials of one setting, by arm, paired by seed.

    Args:
        runs: see `analysis.load.runs.Loaded`; at most one a seed and arm.
        tasks: whose metrics are ranked, as far as the runs have them.
        held: single-task runs that Delta_m is relative to; may be empty.

    Returns:
        The ranking, or None where no run has a finite value of every metric.
    """
    wanted = [metric_column(task, name) for task in tasks for name in DECLARED_TASKS[task].ranked]
    lacking = [c for c in wanted if c not in runs or runs[c].isna().all()]
    asked = {column: None for column in wanted if column not in lacking}
    if not asked or not np.isfinite(runs[[*asked]].to_numpy(float)).all(axis=1).any():
        return None
    notes = [f"Not ranked: {', '.join(lacking)}, of which no run has a value."] if lacking else []
    frame = runs.assign(method=runs["arm"])
    request = Request(metrics=asked)
    metrics = _metrics_of_tasks(frame, tasks, request)
    task_of = _task_of_columns(tasks)
    return _ranking("", frame, ["seed"], [], metrics, request, held, task_of, notes)


def _task_of_columns(tasks: Sequence[str]) -> dict[str, str]:
    return {metric_column(task, name): task for task in tasks for name in TASK_METRICS[task]}


def _with_settings(runs: pd.DataFrame, tasks: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs with a column of priorities as text, where they have more than one."""
    columns = [priority_column(task) for task in tasks]
    texts = [
        "" if row.isna().any() else " ".join(f"{value:.4g}" for value in row)
        for _, row in runs[columns].astype(float).iterrows()
    ]
    if len({text for text in texts if text}) < 2:
        return runs, []
    return runs.assign(**{PRIORITIES: texts}), [PRIORITIES]


def _metrics_of_tasks(
    frame: pd.DataFrame, tasks: Sequence[str], request: Request
) -> list[RankedMetric]:
    """Return the metrics of a store's runs: those asked for, or those that tasks declare."""
    columns = [metric_column(task, name) for task in tasks for name in DECLARED_TASKS[task].ranked]
    chosen = [_full_name(name, frame) for name in request.metrics or ()] or columns
    given = {_full_name(n, frame): v for n, v in (request.tie_tolerances or {}).items()}
    tolerances = _tolerances(replace(request, tie_tolerances=given), chosen)
    metrics = known_columns(tasks)
    return [
        RankedMetric(c, metrics[c], metrics[c].display_factor, tolerances.get(c, 0.0))
        for c in chosen
    ]


def _full_name(name: str, frame: pd.DataFrame) -> str:
    """Return the column of a store's runs that a metric's short name, alias or column means."""
    columns = {c: m for c, m in known_columns([*TASK_METRICS]).items() if c in frame}
    short = METRIC_ALIASES.get(name, name)
    fitting = [
        column for column, metric in columns.items() if name == column or metric.name == short
    ]
    if len(fitting) != 1:
        raise UsageError(
            f"Expected one metric of these runs, got {name!r}, which names {len(fitting)}. "
            f"Known: {', '.join(columns)}."
        )
    return fitting[0]


def _ranking(
    label: str,
    frame: pd.DataFrame,
    identifiers: Sequence[str],
    settings: Sequence[str],
    metrics: Sequence[RankedMetric],
    request: Request,
    held: Baselines | None,
    task_of: Mapping[str, str],
    notes: Sequence[str],
) -> Ranking:
    """Return the ranking of trials.

    Args:
        label: of the ranking.
        frame: one row a trial; those without a finite value of every metric are left out.
        identifiers: columns that say which trial of a method a row is.
        settings: those of them in which the rows of a seed differ.
        metrics: what is ranked.
        request: its `by`, `blocks` and `baseline` count.
        held: the metrics of single-task runs; None for a table, which has none.
        task_of: column -> task.
        notes: what is said of it.
    """
    notes = list(notes)
    columns = [m.column for m in metrics]
    usable = np.ones(len(frame), dtype=bool)
    for position, row in enumerate(frame.to_dict("records")):
        lacking = [problem for m in metrics if (problem := _problem(m, row))]
        usable[position] = not lacking
        if lacking:
            names = (request.by, *identifiers)
            where = ", ".join(f"{name} {identifier_text(row[name])}" for name in names)
            notes.append(f"Left out: {where}: {', '.join(lacking)}.")
    frame = frame[usable].reset_index(drop=True)
    if frame.empty:
        raise UserError(
            f"Expected rows with a usable value of {', '.join(columns)}, got none. Choose other "
            "columns with --metrics."
        )
    table = rank_table(frame, request.by, identifiers, metrics)
    baseline = _baseline_means(table, request, held or {})
    reason = "" if held is None and request.baseline is None else _why_no_deltas(baseline)
    if reason:
        notes.append(reason)
    elif baseline:
        table = replace(table, summary=_with_deltas(table, baseline, task_of))
    seed = "seed" if "seed" in identifiers else None
    tests, untested = pair_tests(table.trials, request.by, metrics, seed, settings)
    blocks: list[BlockTest] = []
    if request.blocks is not None:
        if request.blocks == PRIORITIES or request.blocks.startswith(PRIORITY_PREFIX):
            raise UsageError(
                f"Expected --blocks to name independent blocks, such as data sets or seeds, got "
                f"{request.blocks}, at which the same seeds are run. Say --blocks seed."
            )
        checked_name(request.blocks, [*map(str, frame.columns)], "column for --blocks")
        blocks = friedman_tests(frame, request.by, request.blocks, metrics)
    return Ranking(label, table, tuple(tests), tuple(untested), tuple(blocks), tuple(notes))


def _problem(ranked: RankedMetric, row: Mapping[Any, Any]) -> str:
    """Return why a row cannot be ranked by a metric; empty if it can."""
    value = float(row[ranked.column]) * ranked.factor / ranked.metric.display_factor
    problem = ranked.metric.problem(value)
    return f"{problem} of {ranked.column}" if problem else ""


def _baseline_means(table: RankTable, request: Request, held: Baselines) -> dict[str, float]:
    """Return column -> mean of the baseline.

    Empty unless every ranked metric has one: a Delta_m over some tasks is another.
    """
    columns = [m.column for m in table.metrics]
    if request.baseline is not None:
        rows = {str(row[table.by]): row for row in table.summary.to_dict("records")}
        row = rows[checked_name(request.baseline, [*rows], table.by)]
        return {column: float(row[f"mean_{column}"]) for column in columns}
    if not all(column in held for column in columns):
        return {}
    return {column: float(np.mean(list(held[column].values()))) for column in columns}


def _why_no_deltas(baseline: Mapping[str, float]) -> str:
    """Return in a sentence why no Delta_m is relative to `baseline`; empty where it is."""
    if not baseline:
        return (
            "No Delta_m: not every ranked metric has single-task runs under the same settings "
            "among these results. A sweep with --baselines trains them."
        )
    zero = [column for column, value in baseline.items() if value == 0]
    if zero:
        return (
            f"No Delta_m: the baseline of {listed(zero)} is 0, and a change relative to 0 has no "
            "meaning."
        )
    return ""


def _with_deltas(
    table: RankTable, baseline: Mapping[str, float], task_of: Mapping[str, str]
) -> pd.DataFrame:
    """Return the summary with `DELTA_COLUMNS`."""
    deltas = [
        delta_m(
            {m.column: row[f"mean_{m.column}"] for m in table.metrics},
            baseline,
            table.metrics,
            task_of,
        )
        for row in table.summary.to_dict("records")
    ]
    return table.summary.assign(**dict(zip(DELTA_COLUMNS, zip(*deltas, strict=True), strict=True)))
