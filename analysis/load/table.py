"""A tidy CSV or Parquet from anywhere -> the same `Loaded` as from a store.

One row a run. Columns: `method`, `seed`, `priority_<task>` for each task (empty for methods
without priorities), metrics as `<task>_<metric>` or, where one task alone has it, by the metric's
own name or alias; optional `run_id`, `architecture`, `encoder`, `epochs`, options of methods (empty
= off), `prior_<task>_<metric>`, `validation_<task>_<metric>`, seconds.

A row with priority 1 for one of several tasks, 0 for the others and metrics of that task alone is a
network that was trained for this task only. It is no run of a method, whatever its `method` says,
but a baseline that the figures draw, as `analysis.load.baselines` gives them for stores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.load.axes import known_columns, metric_column, priority_texts
from analysis.load.baselines import Baselines
from analysis.load.priorities import PRIORITY_PREFIX, setting_of
from analysis.load.runs import VALIDATION, Loaded, RunState, arm_names
from analysis.load.text import counted, first_listed
from mtl.errors import UserError
from mtl.records import METRIC_ALIASES, TASK_METRICS
from mtl.spec import PERIOD_FIELDS
from mtl.spec.methods import METHODS

PRIORITY = PRIORITY_PREFIX
PRIOR = "prior_"
GUARDED = ("architecture", "encoder", "epochs", "dataset")
"""Columns that the comparison guard watches when they are there."""
EXACT_SUM, ROUNDED_SUM = 1e-6, 1e-3
"""How far the priorities of a row may sum from 1, without a word and with a note."""
SECONDS = ("wall_seconds", "device_seconds")
NAMES = ("method", "run_id")
"""Columns that hold names, read as the letters that stand there."""
_OPTIONS = sorted(
    {
        *(option for needs in METHODS.values() for option in needs.options),
        *PERIOD_FIELDS,
    }
)


def load_table(path: Path) -> Loaded:
    """Return the runs in a tidy CSV or Parquet file.

    Raises:
        UserError: if the file cannot be read, lacks columns, holds text where a number
            belongs, or holds two rows for one run.
    """
    frame = read_table(path, text=("method",))
    tasks = _tasks(frame, path)
    notes: list[str] = []
    runs = pd.DataFrame(index=frame.index)
    runs["run_id"] = _run_ids(frame)
    runs["method"] = frame["method"]
    for name in ("architecture", "encoder", "dataset", "selection"):
        if name in frame:
            runs[name] = frame[name].astype(str)
    runs["seed"] = _whole(frame, "seed", path)
    priorities = [f"{PRIORITY}{task}" for task in tasks]
    metrics = _metric_columns(frame, tasks, path)
    numbers = [n for n in (*priorities, *_OPTIONS, "epochs", *SECONDS) if n in frame]
    for name in numbers:
        runs[name] = column_numbers(frame, name, path)
    for column, source in metrics.items():
        runs[column] = _checked_share(column_numbers(frame, source, path), column, source)
    for column in metrics:
        name = f"{VALIDATION}_{column}"
        if name in frame:
            runs[name] = _checked_share(column_numbers(frame, name, path), column, name)
    alone = _alone(runs[priorities])
    notes += _check_priorities(runs.loc[~alone, priorities], path)
    prior = _prior(frame, metrics, path, notes)
    known = {*runs.columns, *metrics.values(), *(f"{PRIOR}{column}" for column in metrics), "arm"}
    unused = [str(name) for name in frame.columns if name not in known]
    if unused:
        notes.append(f"Columns that were not used: {', '.join(unused)}.")
    runs = _without_copies(runs, notes)
    alone = alone[runs.index]
    joint = runs[~alone].reset_index(drop=True)
    if joint.empty:
        raise UserError(
            f"Expected runs of several tasks in {path}, got rows of single tasks only. Add the "
            "runs that they are the baselines of, or give the columns of one task alone."
        )
    baselines = _baselines(runs[alone], joint, tasks, tuple(metrics), path, notes)
    return _loaded(joint, tasks, prior, notes, path, baselines)


def read_table(path: Path, row: str = "run", text: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV or Parquet file with one row a `row`.

    Args:
        path: of the file.
        row: what a row is, for messages.
        text: columns that are read as text letter by letter, where they are there: a method may
            be called None or NA, which in other columns mean an empty cell.

    Raises:
        UserError: if it cannot be read, has no row or a column of `text` has an empty cell.
    """
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else _csv(path, text)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"Expected a table in {path}, got {str(error).splitlines()[0]}. "
            f"Give a CSV or Parquet file with one row a {row}."
        ) from error
    if frame.empty:
        raise UserError(f"Expected at least one row in {path}, got none. Add a row a {row}.")
    return frame.assign(**{name: _as_text(frame, name, path) for name in text if name in frame})


def _as_text(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    values = frame[name].astype(str)
    empty = frame[name].isna() | (values.str.strip() == "")
    if empty.any():
        position = int(np.flatnonzero(empty)[0])
        raise UserError(
            f"Expected a value in column {name} of {path}, got an empty cell in row "
            f"{position + 1} after the head. Fill it in, or remove the row."
        )
    return values


def _csv(path: Path, text: Sequence[str]) -> pd.DataFrame:
    frame = pd.read_csv(path)
    # pandas takes "None" and "NA" for empty cells, and 007 for a number; a name is its letters.
    wanted = {*NAMES, *text}
    names = pd.read_csv(path, usecols=lambda c: c in wanted, dtype=str, keep_default_na=False)
    for column in names:
        frame[column] = names[column].where(names[column] != "").to_numpy()
    return frame


def _tasks(frame: pd.DataFrame, path: Path) -> tuple[str, ...]:
    tasks = tuple(str(c)[len(PRIORITY) :] for c in frame.columns if str(c).startswith(PRIORITY))
    lacking = [name for name in ("method", "seed") if name not in frame]
    if not tasks:
        lacking.append(f"{PRIORITY}<task>")
    if lacking:
        needed = " Seeds are needed for a comparison: methods are matched by seed."
        raise UserError(
            f"Expected columns method, seed and {PRIORITY}<task> in {path}, got none named "
            f"{', '.join(lacking)}. Its columns: {', '.join(map(str, frame.columns))}."
            f"{needed if 'seed' in lacking else ''}"
        )
    unknown = [task for task in tasks if task not in TASK_METRICS]
    if unknown:
        raise UserError(
            f"Expected columns {PRIORITY}<task> of known tasks in {path}, got "
            f"{', '.join(unknown)}. Known: {', '.join(sorted(TASK_METRICS))}."
        )
    return tasks


def _metric_columns(frame: pd.DataFrame, tasks: Sequence[str], path: Path) -> dict[str, str]:
    """Return our column name -> the file's column, for every metric in the file."""
    found: dict[str, str] = {}
    for task in tasks:
        for name in TASK_METRICS[task]:
            aliases = [alias for alias, full in METRIC_ALIASES.items() if full == name]
            short = [name, *aliases]
            # A metric that several of the tasks have is told apart by the task's name alone.
            own = sum(name in TASK_METRICS[other] for other in tasks) == 1
            for column in [*(metric_column(task, n) for n in short), *(short if own else ())]:
                if column in frame:
                    found[metric_column(task, name)] = column
                    break
        if not any(column in found for column in known_columns([task])):
            raise UserError(
                f"Expected a column with a metric of {task} in {path}, got none. "
                f"Name it {' or '.join(known_columns([task]))}."
            )
    return found


def column_numbers(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Return a column of a table as floats, empty cells as NaN.

    Raises:
        UserError: for text, naming its row.
    """
    values = pd.to_numeric(frame[name], errors="coerce").astype(float)
    wrong = values.isna() & frame[name].notna()
    if wrong.any():
        position = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"Expected numbers in column {name} of {path}, got {frame[name].iloc[position]!r} in "
            f"row {position + 1} after the head. Correct it, or leave it empty."
        )
    return values


def _whole(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    values = column_numbers(frame, name, path)
    wrong = ~np.isfinite(values) | (values != values.round())
    if wrong.any():
        position = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"Expected whole numbers in column {name} of {path}, got "
            f"{frame[name].iloc[position]!r} in row {position + 1} after the head. Correct it."
        )
    return values.astype(int)


def _checked_share(values: pd.Series, column: str, source: str) -> pd.Series:
    metric = known_columns(list(TASK_METRICS))[column]
    if metric.unit != "share":
        return values
    for value in values[np.isfinite(values) & ((values < 0) | (values > 1))]:
        remedy = "Divide percentages by 100" if value > 1 else "Correct it"
        raise UserError(
            f"Expected shares between 0 and 1 in column {source}, got {value:g}. {remedy}."
        )
    return values


def _check_priorities(priorities: pd.DataFrame, path: Path) -> list[str]:
    """Return a note on rounded priorities; refuse rows that are no priorities."""
    partly = priorities.isna().any(axis=1) & priorities.notna().any(axis=1)
    values = priorities.to_numpy(dtype=np.float64)
    wrong = partly.to_numpy() | (values <= 0).any(axis=1) | np.isinf(values).any(axis=1)
    if wrong.any():
        position = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"Expected a positive priority for each task, or none for any, in {path}, got "
            f"{priorities.iloc[position].tolist()} in row {_row(priorities, position)} after the "
            "head. Correct it; a network trained for one task alone has 1 for it and 0 for the "
            "others."
        )
    off = np.abs(values.sum(axis=1) - 1)
    far = off > ROUNDED_SUM + 1e-9
    if far.any():
        position = int(np.flatnonzero(far)[0])
        raise UserError(
            f"Expected priorities that sum to 1 (rounded ones within {ROUNDED_SUM:g}) in {path}, "
            f"got {priorities.iloc[position].tolist()} in row {_row(priorities, position)} after "
            "the head. Divide each by their sum."
        )
    if (off > EXACT_SUM).any():
        return [
            f"In {int((off > EXACT_SUM).sum())} of {len(off)} rows the priorities sum to 1 only "
            f"within {ROUNDED_SUM:g}; they are taken for rounded ones."
        ]
    return []


def _prior(
    frame: pd.DataFrame, metrics: dict[str, str], path: Path, notes: list[str]
) -> dict[str, float]:
    prior = {}
    for column in metrics:
        name = f"{PRIOR}{column}"
        if name in frame:
            values = sorted(set(column_numbers(frame, name, path).dropna()))
            if len(values) == 1:
                prior[column] = float(values[0])
            elif values:
                notes.append(f"Column {name} is not the same in all rows, so it is not drawn.")
    return prior


def _run_ids(frame: pd.DataFrame) -> pd.Series:
    rows = pd.Series([f"row {i + 1}" for i in range(len(frame))], index=frame.index)
    if "run_id" not in frame:
        return rows
    named = frame["run_id"]
    return named.astype(str).where(named.notna() & (named.astype(str) != ""), rows)


def _row(part: pd.DataFrame, position: int) -> int:
    """Return the number of a row in its file, from 1 on after the head."""
    return int(part.index[position]) + 1


def _without_copies(runs: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    copies = runs.duplicated()
    number = int(copies.sum())
    if number:
        which = first_listed([str(_row(runs, int(i))) for i in np.flatnonzero(copies)], 4)
        notes.append(
            f"{counted(number, 'row repeats', 'rows repeat')} an earlier one in all that is used "
            f"and {'is' if number == 1 else 'are'} left out: row {which} after the head."
        )
    return runs[~copies]


def _alone(priorities: pd.DataFrame) -> pd.Series:
    """Return which rows have priority 1 for one of several tasks and 0 for the others."""
    if priorities.shape[1] < 2:
        return pd.Series(False, index=priorities.index)
    return ((priorities == 1).sum(axis=1) == 1) & (
        (priorities == 0).sum(axis=1) == priorities.shape[1] - 1
    )


def _baselines(
    alone: pd.DataFrame,
    joint: pd.DataFrame,
    tasks: Sequence[str],
    metrics: Sequence[str],
    path: Path,
    notes: list[str],
) -> Baselines:
    """Return the metrics of the single-task rows by seed; those of other settings are said."""
    found: dict[str, dict[int, float]] = {}
    seen: set[tuple[str, int]] = set()
    for index, row in alone.iterrows():
        place = f"row {int(str(index)) + 1} after the head"
        task = next(task for task in tasks if row[f"{PRIORITY}{task}"] == 1)
        other = [c for c in metrics if c not in known_columns([task]) and not pd.isna(row[c])]
        if other:
            raise UserError(
                f"Expected metrics of {task} alone in {place} of {path}, which has priority 1 for "
                f"{task} and 0 for the others, got {', '.join(other)} too. Leave those cells empty."
            )
        differs = [
            name
            for name in ("encoder", "epochs", "dataset")
            if name in row and not (joint[name] == row[name]).any() and joint[name].notna().any()
        ]
        if differs:
            notes.append(
                f"The single-task run in {place} is no baseline of the others: it differs in "
                f"{', '.join(differs)}."
            )
            continue
        key = (task, int(row["seed"]))
        if key in seen:
            raise UserError(
                f"Expected one single-task run a seed in {path}, got two of {task} with seed "
                f"{key[1]}. Remove one."
            )
        seen.add(key)
        for column in (c for c in metrics if c in known_columns([task])):
            if np.isfinite(row[column]):
                found.setdefault(column, {})[key[1]] = float(row[column])
    return found


def _options_of(row: dict[str, Any]) -> dict[str, float | None]:
    """Return the options in a row; an empty cell is an option that is off, or no option at all."""
    known = METHODS[row["method"]].options if row["method"] in METHODS else {}
    off = [name for name, default in known.items() if default is None]
    return {
        name: None if np.isnan(row[name]) else row[name]
        for name in _OPTIONS
        if name in row and (name in off or not np.isnan(row[name]))
    }


def _loaded(
    runs: pd.DataFrame,
    tasks: tuple[str, ...],
    prior: dict[str, float],
    notes: list[str],
    path: Path,
    baselines: Baselines,
) -> Loaded:
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in r.items()} for r in runs.to_dict("records")
    ]
    methods = {row["run_id"]: (row["method"], _options_of(row)) for row in rows}
    arms = arm_names(methods)
    texts = priority_texts(s for row in rows if (s := setting_of(row, tasks)) is not None)
    seen: dict[Any, str] = {}
    for row in rows:
        setting = setting_of(row, tasks)
        if row["run_id"] in seen:
            raise UserError(
                f"Expected one row a run in {path}, got two with run_id {row['run_id']}. "
                "Remove one, or name them apart."
            )
        key = (arms[row["run_id"]], setting, row["seed"])
        if key in seen:
            where = "without priorities" if setting is None else f"at priorities {texts[setting]}"
            raise UserError(
                f"Expected one row a run in {path}, got two for method {row['method']}, seed "
                f"{row['seed']} {where} ({seen[key]} and {row['run_id']}). Remove one."
            )
        seen |= {row["run_id"]: row["run_id"], key: row["run_id"]}
    runs.insert(2, "arm", [arms[row["run_id"]] for row in rows])
    states = tuple(
        RunState(r["run_id"], "done", "", arms[r["run_id"]], setting_of(r, tasks), int(r["seed"]))
        for r in rows
    )
    fields = {r["run_id"]: {n: r[n] for n in GUARDED if n in r} for r in rows}
    fields = {i: {n: v for n, v in held.items() if v == v} for i, held in fields.items()}
    return Loaded(tasks, runs, states, fields, {}, prior, tuple(notes), baselines)
