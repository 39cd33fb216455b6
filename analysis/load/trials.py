"""Trials to be ranked: the rows of a CSV or Parquet from anywhere, or the runs of stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.load.axes import shown_number
from analysis.load.baselines import baselines
from analysis.load.groups import baseline_ids, groups_of_stores
from analysis.load.metrics import Declared, column_names, facts_of, known_columns, ranked_columns
from analysis.load.plans import COMPARED, Asked
from analysis.load.priorities import PRIORITY_PREFIX, priority_column
from analysis.load.runs import Baselines, load_stores
from analysis.load.sheet import (
    Sheet,
    check_priorities,
    is_single_task,
    one_setting,
    read_sheet,
)
from mtl.errors import UsageError, UserError
from mtl.spec.strict import checked_name
from mtl.spec.tasks import Metric
from mtl.store import Store

PRINTED = "rank_"
"""Start of the columns of ranks that a table brings along; they are not ranked."""
TRIAL_COLUMNS = ("trial", "seed")
"""Columns that say which trial of a method a row is, beside the priorities."""
PRIORITIES = "priorities"
"""Column of all priorities of a run as text, where a store has several."""
SPEC_FIELDS = {"architecture": "network.architecture", "encoder": "network.encoder"}
"""What runs of a store can be ranked by, beside the method -> their field."""


@dataclass(frozen=True)
class Request:
    """What the command line asks of a ranking."""

    by: str = "method"
    metrics: Mapping[str, str | None] | None = None
    """Column -> `min`, `max` or None for the one that is known; None for every column."""
    tie_tolerances: Mapping[str, float] | None = None
    blocks: str | None = None
    """Column of independent blocks for Friedman's test."""


@dataclass(frozen=True)
class RankedMetric:
    """A column that is ranked."""

    column: str
    metric: Metric
    """Its direction, and the decimals to which values are rounded."""
    factor: float
    """From the column's values to displayed ones; 1 where the column holds displayed values."""
    tie_tolerance: float = 0.0
    """Displayed values that lie so near to the best of their group tie with it."""
    task: str = ""
    """Whose metrics Delta_m averages first."""

    @property
    def sign(self) -> int:
        """Return 1 where higher is better, -1 where lower is."""
        return 1 if self.metric.direction == "max" else -1


@dataclass(frozen=True)
class Trials:
    """Rows that are ranked together."""

    frame: pd.DataFrame
    """One row a trial; metrics may be missing."""
    by: str
    """Column that names the methods."""
    identifiers: tuple[str, ...]
    """Further columns that say which trial of a method a row is."""
    settings: tuple[str, ...]
    """Those of them in which the rows of a seed differ."""
    metrics: tuple[RankedMetric, ...]
    baselines: Baselines | None
    """Metrics of single-task runs; None for a table, which has none."""
    notes: tuple[str, ...] = ()
    label: str = ""
    """What tells these trials from others of the same results; empty where there are no others."""
    title: str = ""
    """The label as people say it."""


def identifier_text(value: object) -> str:
    """Return what identifies a trial as people read it; a dash for a priority that is not there."""
    if isinstance(value, Integral):
        return shown_number(int(value), "d")
    if isinstance(value, Real):
        return shown_number(None if np.isnan(float(value)) else float(value), ".4g")
    return str(value)


def trials_of_table(path: Path, request: Request) -> Trials:
    """Return the trials in a CSV or Parquet with one row a trial.

    A `UserError` refuses what cannot be read and two different rows of a trial, a `UsageError` a
    request that does not fit.
    """
    by, blocks = request.by, request.blocks
    sheet = read_sheet(path, "trial", [by, *([blocks] if blocks else [])])
    frame = sheet.frame
    for option, name in (("--by", by), ("--blocks", blocks)):
        if name is not None:
            checked_name(name, sheet.columns, f"column for {option}", of=sheet.where)
    priorities = [name for name in sheet.columns if name.startswith(PRIORITY_PREFIX)]
    others = [name for name in TRIAL_COLUMNS if name in frame and name != by]
    frame = frame.assign(**{name: sheet.numbers(name) for name in priorities})
    if priorities:
        check_priorities(sheet, frame.loc[~is_single_task(frame[priorities]), priorities])
    if "seed" in others:
        frame["seed"] = sheet.seeds()
    frame[priorities] = one_setting(frame, priorities, [by, *others], sheet.notes)
    varied = len(frame[priorities].dropna().round(9).drop_duplicates()) > 1
    identifiers = [name for name in (*priorities, *others) if name != by]
    settings = [name for name in priorities if varied and name != by]
    if blocks not in (None, by, *identifiers):
        identifiers.insert(0, str(blocks))
        settings.append(str(blocks))
    metrics = []
    for ranked, values in _metrics_of_sheet(sheet, request, [by, *identifiers]):
        metrics.append(ranked)
        frame[ranked.column] = values
    if others:
        key = [by, *identifiers]
        frame = sheet.without_copies(frame, [*key, *(m.column for m in metrics)])
        twice = frame.duplicated(key)
        sheet.refuse(twice, "one row a trial in", frame[key], "It is the second one: remove one.")
    return Trials(
        frame, by, tuple(identifiers), tuple(settings), tuple(metrics), None, tuple(sheet.notes)
    )


def _metrics_of_sheet(
    sheet: Sheet, request: Request, reserved: Sequence[str]
) -> list[tuple[RankedMetric, pd.Series]]:
    """Return the metrics of a table, those asked for or every numeric column, with their values."""
    frame, asked = sheet.frame, request.metrics or {}
    columns = [name for name in sheet.columns if name not in reserved]
    others = [name for name in columns if not name.startswith(PRINTED)]
    for name in asked:
        checked_name(name, columns, "column for --metrics", of=sheet.where)
    chosen = [*asked] or [n for n in others if pd.api.types.is_numeric_dtype(frame[n])]
    if not chosen:
        raise UserError(
            f"Expected a numeric column to rank in {sheet.where}, got none. Add columns of metrics."
        )
    tolerances = _tolerances(request.tie_tolerances, chosen)
    unused = [name for name in others if name not in chosen]
    if unused:
        sheet.notes.append(f"Not ranked: columns {', '.join(unused)}.")
    found = []
    for name in chosen:
        task, metric = _facts(name, asked.get(name), sheet.where)
        # A share may be given in percent.
        is_percent = metric.unit == "share" and sheet.numbers(name).max() > 1
        factor = 1.0 if is_percent else metric.display_factor
        values = sheet.metric_values(name, metric, metric.display_factor / factor)
        shares = values[(values > 0) & (values < 1)]
        if is_percent and len(shares):
            raise UserError(
                f"Expected either shares or percentages in column {name} of {sheet.where}, got "
                f"{values.max():g} and {shares.iloc[0]:g}. Give all in one of them."
            )
        found.append((RankedMetric(name, metric, factor, tolerances.get(name, 0.0), task), values))
    return found


def _facts(name: str, direction: str | None, where: str) -> tuple[str, Metric]:
    """Return the task and metric of a table's column."""
    task, known = facts_of(name)
    if known is None and direction is None:
        raise UsageError(
            f"Expected a direction for column {name} of {where}, got none: it is no metric that is "
            f"known. Say --metrics {name}:min or {name}:max with the others to rank."
        )
    if known is not None and direction not in (None, known.direction):
        raise UsageError(
            f"Expected {name}:{known.direction}, got {name}:{direction}. Rename the column if it "
            "holds something else."
        )
    # Of an unknown column nothing says how it is shown, so no digit is rounded away.
    unknown = Metric(
        name, "value", "max" if direction == "max" else "min", 9, "from the table", display_unit=""
    )
    return task, known or unknown


def _tolerances(given: Mapping[str, float] | None, chosen: Sequence[str]) -> Mapping[str, float]:
    for name in given or {}:
        checked_name(name, chosen, "ranked column for --tie-tolerance")
    return given or {}


def trials_of_stores(
    stores: Sequence[Store], asked: Asked | None, request: Request
) -> list[Trials]:
    """Return the trials of each set of a store's runs that may be compared.

    Single-task runs are the baseline of Delta_m and are not ranked beside others. A `UserError`
    says that there is nothing to rank, a `UsageError` refuses a request that does not fit.
    """
    by = request.by
    checked_name(by, ("method", "arm", *SPEC_FIELDS), "column to rank a store's runs by")
    groups = groups_of_stores(stores, asked, (*COMPARED, SPEC_FIELDS.get(by, "method")))
    joint = [group for group in groups if len(group.tasks) > 1]
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
        held, said = baselines(loaded, stores, baseline_ids(groups, group), group.tuned)
        frame, settings = _with_settings(loaded.runs, loaded.tasks)
        if by in SPEC_FIELDS and len(set(frame["arm"])) > 1:
            settings.append("arm")
        trials = Trials(
            frame,
            by,
            (*settings, "seed"),
            tuple(settings),
            _metrics_of_tasks(frame, loaded.declared, request),
            held,
            (*notes, *said),
        )
        several = len(joint) > 1
        found.append(replace(trials, label=group.label, title=group.title) if several else trials)
    if not found:
        raise UserError(
            "Expected finished runs of two tasks or more, got none to rank. Train some first."
        )
    return found


def trials_of_setting(runs: pd.DataFrame, declared: Declared, held: Baselines) -> Trials | None:
    """Return runs of one setting, at most one a seed and arm, to be ranked by arm.

    Ranked are the default metrics that the runs have; None where no run has a finite
    value of each. `held` are single-task runs that Delta_m is relative to; maybe none.
    """
    wanted = ranked_columns(declared)
    lacking = [c for c in wanted if c not in runs or runs[c].isna().all()]
    columns = [c for c in wanted if c not in lacking]
    if not columns or not np.isfinite(runs[columns].to_numpy(float)).all(axis=1).any():
        return None
    notes = [f"Not ranked: {', '.join(lacking)}, of which no run has a value."] if lacking else []
    frame = runs.assign(method=runs["arm"])
    metrics = _metrics_of_tasks(frame, declared, Request(metrics=dict.fromkeys(columns)))
    return Trials(frame, "method", ("seed",), (), metrics, held, tuple(notes))


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
    frame: pd.DataFrame, declared: Declared, request: Request
) -> tuple[RankedMetric, ...]:
    """Return the metrics of a store's runs: those asked for, or those that tasks declare."""
    known = known_columns(declared)
    names = {column: held for column, held in column_names(declared).items() if column in frame}

    def full_name(name: str) -> str:
        fitting = [column for column, held in names.items() if name in held]
        return fitting[0] if fitting else checked_name(name, names, "metric", of="these runs")

    chosen = [full_name(name) for name in request.metrics or ()] or ranked_columns(declared)
    given = {full_name(name): value for name, value in (request.tie_tolerances or {}).items()}
    tolerances = _tolerances(given, chosen)
    task_of = {c: task for task, held in declared.items() for c in known_columns({task: held})}
    return tuple(
        RankedMetric(c, known[c], known[c].display_factor, tolerances.get(c, 0.0), task_of[c])
        for c in chosen
    )
