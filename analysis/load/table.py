"""A table from anywhere -> the same `Loaded` as from a store.

A file, or what `analysis.load.frames` knows: all go one way. One row a run. Columns: `method`,
`seed`, `priority_<task>` for each task, or `priorities` of lists (empty for methods without
priorities), `state`, metrics as `<task>_<metric>` or, where one task alone has it, by the metric's
own name or alias; optional `run_id`, `architecture`, `encoder`, `epochs`, options of methods (empty
= off), `prior_<task>_<metric>`, `validation_<task>_<metric>`, costs.

A row with priority 1 for one of several tasks, 0 for the others and metrics of that task alone is a
network that was trained for this task only. It is no run of a method, whatever its `method` says,
but a baseline that the figures draw, as `analysis.load.baselines` gives them for stores.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.load.frames import frame_of
from analysis.load.metrics import Declared, column_names, known_columns
from analysis.load.priorities import PRIORITY_PREFIX, priority_column, settings_of
from analysis.load.runs import COSTS, VALIDATION, Baselines, Loaded, RunState, arm_names
from analysis.load.sheet import (
    EXACT_SUM,
    TEXTS,
    Sheet,
    check_priorities,
    is_single_task,
    one_setting,
    sheet_of,
)
from mtl.errors import UserError
from mtl.spec import PERIOD_FIELDS
from mtl.spec.methods import METHODS
from mtl.spec.tasks import DECLARED_TASKS, MAX_VALUE, Metric

PRIOR = "prior_"
COMPARED_COLUMNS = ("architecture", "encoder", "epochs", "dataset")
"""Columns in which runs that are compared must agree, where they are there."""
_OPTIONS = sorted(
    {*(option for needs in METHODS.values() for option in needs.options), *PERIOD_FIELDS}
)


def load_table(
    results: Any, own: Declared | None = None, columns: Mapping[str, str] | None = None
) -> Loaded:
    """Return the runs in a table.

    A `UserError` refuses a table that lacks columns, text where a number belongs, a value outside
    its metric's range, and two rows for one run.

    Args:
        results: see `analysis.load.frames.frame_of`, as for `columns`.
        own: declares the metrics of tasks that are not ours.
        columns: their column -> ours, where names differ.
    """
    own = own or {}
    sheet = _with_last_priority(_with_priorities(sheet_of(*frame_of(results, columns)), own), own)
    frame, notes = sheet.frame, sheet.notes
    declared = _declared(sheet, own)
    tasks = tuple(declared)
    known = known_columns(declared)
    priorities = [priority_column(task) for task in tasks]
    metrics = _metric_columns(sheet, declared)
    runs = frame[[name for name in TEXTS if name in frame]].copy()
    runs["seed"] = sheet.seeds()
    for name in (*priorities, *_OPTIONS, "epochs", *COSTS):
        if name in frame:
            runs[name] = sheet.numbers(name)
    for column, source in metrics.items():
        runs[column] = sheet.metric_values(source, known[column])
        name = f"{VALIDATION}_{column}"
        if name in frame:
            runs[name] = sheet.metric_values(name, known[column])
    alone = is_single_task(runs[priorities])
    check_priorities(sheet, runs.loc[~alone, priorities])
    prior = _prior(sheet, [*metrics], known)
    used = {*runs, *metrics.values(), *(f"{PRIOR}{column}" for column in metrics), "arm"}
    unused = [name for name in sheet.columns if name not in used]
    if unused:
        notes.append(f"Columns that were not used: {', '.join(unused)}.")
    runs = sheet.without_copies(runs, [*runs])
    rows = pd.Series([f"row {i + 1}" for i in runs.index], index=runs.index)
    run_ids = runs.pop("run_id").fillna(rows) if "run_id" in runs else rows
    runs.insert(0, "run_id", run_ids)
    alone = alone[runs.index]
    joint = runs[~alone].copy()
    if joint.empty:
        raise UserError(
            f"Expected runs of several tasks in {sheet.where}, got rows of single tasks only. Add "
            "the runs that they are the baselines of, or give the columns of one task alone."
        )
    arms = arm_names({row["run_id"]: (row["method"], _options_of(row)) for row in _rows(joint)})
    joint.insert(2, "arm", [arms[run_id] for run_id in joint["run_id"]])
    joint[priorities] = one_setting(joint, priorities, ["arm", "seed"], notes)
    baselines = _baselines(sheet, runs[alone], joint, declared, [*metrics])
    settings = [*unused, *(name for name in COMPARED_COLUMNS if name in joint)]
    for key in (["run_id"], ["arm", "seed", *priorities]):
        twice = joint.duplicated(key)
        names = _differing(sheet, joint, key, settings)
        remedy = (
            f"Rows of the same differ in {', '.join(names)}. Where that is a setting, give the "
            "rows of each of its values on their own."
            if names
            else "It is the second one: remove one."
        )
        sheet.refuse(twice, f"one row for each {', '.join(key)} in", joint[key], remedy)
    joint = joint.reset_index(drop=True)
    states, fields = [], {}
    for r, setting in zip(_rows(joint), settings_of(joint, tasks), strict=True):
        states.append(RunState(r["run_id"], "done", "", r["arm"], setting, int(r["seed"])))
        fields[r["run_id"]] = {
            name: r[name] for name in COMPARED_COLUMNS if name in r and not pd.isna(r[name])
        }
    return Loaded(tasks, declared, joint, tuple(states), fields, {}, prior, tuple(notes), baselines)


def _differing(
    sheet: Sheet, runs: pd.DataFrame, key: Sequence[str], others: Sequence[str]
) -> list[str]:
    """Return in which of the other columns the first two runs with the same key differ."""
    twice = runs.loc[runs.duplicated(key, keep=False), list(key)].astype(str)
    if twice.empty:
        return []
    same = twice.index[(twice == twice.iloc[0]).all(axis=1)]
    rows = sheet.frame.loc[same[:2], list(others)].astype(str)
    return [str(name) for name in others if len(set(rows[name])) > 1]


def _rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in runs.to_dict("records")]


def _with_priorities(sheet: Sheet, own: Declared) -> Sheet:
    """Return the sheet with a column of priorities a task, from a column `priorities` of lists.

    Their order is that of a column `tasks`, else that in which metrics are declared.
    """
    frame = sheet.frame
    if "priorities" not in frame or any(priority_column(task) in frame for task in own):
        return sheet
    order = _listed(frame["tasks"].iloc[0]) if "tasks" in frame else list(own)
    if not order:
        raise UserError(
            "Expected the tasks of the column priorities, got none. Declare their metrics in the "
            f"order of the priorities, or give a column {priority_column('<task>')} for each."
        )
    rows = {}
    for place, held in zip(frame.index.to_list(), frame["priorities"], strict=True):
        is_empty = held is None or (isinstance(held, float) and np.isnan(held))
        rows[place] = [None] * len(order) if is_empty else _listed(held)
        if len(rows[place]) != len(order):
            raise UserError(
                f"Expected priorities of the tasks {', '.join(order)} in row {place + 1} of "
                f"{sheet.where}, got {held}."
            )
    names = [priority_column(task) for task in order]
    columns = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    rest = frame.drop(columns=["priorities", *({"tasks"} & set(frame))])
    return Sheet(rest.join(columns), sheet.where, sheet.notes)


def _listed(held: Any) -> list[Any]:
    """Return a list, which in a CSV is text; empty for anything else."""
    if isinstance(held, str):
        try:
            held = json.loads(held)
        except ValueError:
            return []
    return list(held) if isinstance(held, list | tuple | np.ndarray) else []


def _with_last_priority(sheet: Sheet, own: Declared) -> Sheet:
    """Return the sheet with the priority of a declared task that has no column.

    It is 1 minus those of the others, where they leave something.
    """
    given = [name for name in sheet.columns if name.startswith(PRIORITY_PREFIX)]
    absent = [name for name in map(priority_column, own) if name not in given]
    if len(absent) != 1 or not given:
        return sheet
    rest = 1 - pd.DataFrame({n: sheet.numbers(n) for n in given}).sum(axis=1, skipna=False)
    if not (rest.dropna() > EXACT_SUM).all():
        return sheet
    note = f"There is no column {absent[0]}: taken is 1 minus the other priorities."
    return Sheet(sheet.frame.assign(**{absent[0]: rest}), sheet.where, [*sheet.notes, note])


def _declared(sheet: Sheet, own: Declared) -> Declared:
    """Return the tasks of the priority columns, in their order, and what is known of each."""
    columns = sheet.columns
    prefixed = [name for name in columns if name.startswith(PRIORITY_PREFIX)]
    tasks = tuple(name.removeprefix(PRIORITY_PREFIX) for name in prefixed)
    lacking = [name for name in ("method", "seed") if name not in columns]
    if not tasks:
        lacking.append(priority_column("<task>"))
    if lacking:
        needed = " Seeds are needed for a comparison: methods are matched by seed."
        raise UserError(
            f"Expected columns method, seed and {priority_column('<task>')} in {sheet.where}, got "
            f"none named {', '.join(lacking)}. Its columns: {', '.join(columns)}."
            f"{needed if 'seed' in lacking else ''}"
        )
    known = {**DECLARED_TASKS, **own}
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise UserError(
            f"Expected columns {priority_column('<task>')} of known tasks in {sheet.where}, got "
            f"{', '.join(unknown)}. Declare the metrics of your own: --metrics "
            f"{unknown[0]}=COLUMN:min:UNIT, from Python metrics="
            f'{{"{unknown[0]}": "COLUMN:min:UNIT"}}. Known: {", ".join(sorted(known))}.'
        )
    foreign = [task for task in own if task not in tasks]
    if foreign:
        raise UserError(
            f"Expected a column {priority_column(foreign[0])} in {sheet.where}, of the task whose "
            f"metrics are declared, got none. Its columns: {', '.join(columns)}."
        )
    return {task: known[task] for task in tasks}


def _metric_columns(sheet: Sheet, declared: Declared) -> dict[str, str]:
    """Return our column -> the sheet's column, for every metric in it."""
    found = {}
    for column, names in column_names(declared).items():
        source = next((name for name in names if name in sheet.frame), None)
        if source is not None:
            found[column] = source
    for task, held in declared.items():
        own = known_columns({task: held})
        if not found.keys() & own.keys():
            raise UserError(
                f"Expected a column with a metric of {task} in {sheet.where}, got none. "
                f"Name it {' or '.join(own)}. Its columns: {', '.join(sheet.columns)}."
            )
    return found


def _prior(sheet: Sheet, columns: Sequence[str], known: Mapping[str, Metric]) -> dict[str, float]:
    prior = {}
    for column in columns:
        name = f"{PRIOR}{column}"
        if name in sheet.frame:
            numbers = sheet.metric_values(name, known[column])
            values = sorted(set(numbers[numbers.abs() <= MAX_VALUE]))
            if len(values) == 1:
                prior[column] = float(values[0])
            elif values:
                sheet.notes.append(
                    f"Column {name} is not the same in all rows, so it is not drawn."
                )
    return prior


def _baselines(
    sheet: Sheet,
    alone: pd.DataFrame,
    joint: pd.DataFrame,
    declared: Declared,
    columns: Sequence[str],
) -> Baselines:
    """Return the metrics of single-task rows by seed; a note says which are no baseline."""
    found: dict[str, dict[int, float]] = {}
    for place, row in zip(alone.index, _rows(alone), strict=True):
        where = f"row {place + 1} after the head"
        task = next(task for task in declared if row[priority_column(task)] == 1)
        known, seed = known_columns({task: declared[task]}), int(row["seed"])
        other = [column for column in columns if column not in known and not pd.isna(row[column])]
        if other:
            raise UserError(
                f"Expected metrics of {task} alone in {where} of {sheet.where}, which has priority "
                f"1 for {task} and 0 for the others, got {', '.join(other)} too. Leave those "
                "cells empty."
            )
        differs = [
            name
            for name in ("encoder", "epochs", "dataset")
            if name in row and not (joint[name] == row[name]).any() and joint[name].notna().any()
        ]
        if differs:
            sheet.notes.append(
                f"The single-task run in {where} is no baseline of the others: it differs in "
                f"{', '.join(differs)}."
            )
            continue
        for column in (c for c in columns if c in known and not known[c].problem(row[c])):
            held = found.setdefault(column, {})
            if seed in held:
                raise UserError(
                    f"Expected one single-task run a seed in {sheet.where}, got two of {task} with "
                    f"seed {seed}. Remove one."
                )
            held[seed] = float(row[column])
    return found


def _options_of(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the options in a row; an empty cell is an option that is off, or no option at all."""
    known = METHODS[row["method"]].options if row["method"] in METHODS else {}
    off = [name for name, default in known.items() if default is None]
    return {
        name: None if np.isnan(row[name]) else row[name]
        for name in _OPTIONS
        if name in row and (name in off or not np.isnan(row[name]))
    }
