"""A tidy CSV or Parquet from anywhere -> the same `Loaded` as from a store.

One row a run. Columns: `method`, `seed`, `priority_<task>` for each task (empty for methods
without priorities), metrics as `<task>_<metric>` or, where one task alone has it, by the metric's
own name or alias; optional `run_id`, `architecture`, `encoder`, `epochs`, options of methods (empty
= off), `prior_<task>_<metric>`, `validation_<task>_<metric>`, seconds.

A row with priority 1 for one of several tasks, 0 for the others and metrics of that task alone is a
network that was trained for this task only. It is no run of a method, whatever its `method` says,
but a baseline that the figures draw, as `analysis.load.baselines` gives them for stores.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.load.axes import known_columns, metric_column
from analysis.load.baselines import Baselines
from analysis.load.priorities import PRIORITY_PREFIX, Priorities, setting_of
from analysis.load.runs import VALIDATION, Loaded, RunState, arm_names
from analysis.load.text import counted, first_listed, listed
from mtl.errors import UserError
from mtl.records import METRIC_ALIASES, TASK_METRICS
from mtl.spec import PERIOD_FIELDS
from mtl.spec.methods import METHODS
from mtl.spec.tasks import MAX_VALUE

PRIOR = "prior_"
COMPARED_COLUMNS = ("architecture", "encoder", "epochs", "dataset")
"""Columns in which runs that are compared must agree, where they are there."""
EXACT_SUM, ROUNDED_SUM = 1e-6, 1e-3
"""How far the priorities of a row may sum from 1, without a word and with a note."""
ROUNDED = 5e-4
"""Priorities that differ by no more, each, are one setting, rounded in some rows."""
MAX_SEED = 2**53
SECONDS = ("wall_seconds", "device_seconds")
TEXTS = ("run_id", "method", "architecture", "encoder", "dataset", "selection")
"""Columns of text, read as the letters that stand there."""
_OPTIONS = sorted(
    {*(option for needs in METHODS.values() for option in needs.options), *PERIOD_FIELDS}
)


def load_table(path: Path) -> Loaded:
    """Return the runs in a tidy CSV or Parquet file.

    Raises:
        UserError: if the file cannot be read, lacks columns, holds text where a number belongs or
            a value outside its metric's range, or holds two rows for one run.
    """
    notes: list[str] = []
    frame = read_table(path, "run", ("method",), notes)
    tasks = _tasks(frame, path)
    runs = pd.DataFrame(index=frame.index)
    for name in TEXTS:
        if name in frame:
            runs[name] = frame[name]
    seeds = column_numbers(frame, "seed", path)
    wrong = ~np.isfinite(seeds) | (seeds != seeds.round())
    _refuse(wrong, f"whole numbers in column seed of {path}", frame["seed"], "Correct it.")
    runs["seed"] = seeds.astype(int)
    priorities = [f"{PRIORITY_PREFIX}{task}" for task in tasks]
    metrics = _metric_columns(frame, tasks, path)
    for name in (*priorities, *_OPTIONS, "epochs", *SECONDS):
        if name in frame:
            runs[name] = column_numbers(frame, name, path)
    for column, source in metrics.items():
        runs[column] = _metric_values(frame, source, column, path)
        name = f"{VALIDATION}_{column}"
        if name in frame:
            runs[name] = _metric_values(frame, name, column, path)
    alone = _alone(runs[priorities])
    notes += _check_priorities(runs.loc[~alone, priorities], path)
    prior = _prior(frame, metrics, path, notes)
    known = {*runs.columns, *metrics.values(), *(f"{PRIOR}{column}" for column in metrics), "arm"}
    unused = [str(name) for name in frame.columns if name not in known]
    if unused:
        notes.append(f"Columns that were not used: {', '.join(unused)}.")
    copies = runs.duplicated()
    if copies.any():
        which = first_listed([str(i + 1) for i in runs.index[copies]], 4)
        notes.append(f"Left out as a copy of an earlier one: row {which} after the head.")
    runs = runs[~copies]
    rows = pd.Series([f"row {i + 1}" for i in runs.index], index=runs.index)
    run_ids = runs.pop("run_id").fillna(rows) if "run_id" in runs else rows
    runs.insert(0, "run_id", run_ids)
    alone = alone[runs.index]
    joint = runs[~alone].copy()
    if joint.empty:
        raise UserError(
            f"Expected runs of several tasks in {path}, got rows of single tasks only. Add the "
            "runs that they are the baselines of, or give the columns of one task alone."
        )
    methods = {row["run_id"]: (row["method"], _options_of(row)) for row in _rows(joint)}
    arms = arm_names(methods)
    joint.insert(2, "arm", [arms[run_id] for run_id in joint["run_id"]])
    joint[priorities] = one_setting(joint, priorities, ["arm", "seed"], notes)
    baselines = _baselines(runs[alone], joint, tasks, tuple(metrics), path, notes)
    for key in (["run_id"], ["arm", "seed", *priorities]):
        expected = f"one row for each {', '.join(key)} in {path}"
        _refuse(joint.duplicated(key), expected, joint[key], "It is the second one: remove one.")
    joint = joint.reset_index(drop=True)
    states = tuple(
        RunState(r["run_id"], "done", "", r["arm"], setting_of(r, tasks), int(r["seed"]))
        for r in _rows(joint)
    )
    fields = {
        r["run_id"]: {n: r[n] for n in COMPARED_COLUMNS if n in r and not pd.isna(r[n])}
        for r in _rows(joint)
    }
    return Loaded(tasks, joint, states, fields, {}, prior, tuple(notes), baselines)


def read_table(
    path: Path, row: str = "run", text: Sequence[str] = (), notes: list[str] | None = None
) -> pd.DataFrame:
    """Return a CSV or Parquet file with one row a `row`, numbered from 0.

    Args:
        path: of the file.
        row: what a row is, for messages.
        text: columns that are text without an empty cell, where they are there; beside `TEXTS`
            they are read letter by letter: a method may be called None or 007.
        notes: takes up what was corrected.

    Raises:
        UserError: if it cannot be read, has no row, a row longer than the head, an empty cell in a
            column of `text` or a seed that is not exact.
    """
    names = dict.fromkeys((*TEXTS, *text))
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else _csv(path, list(names))
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"Expected a table in {path}, got {str(error).splitlines()[0]}. "
            f"Give a CSV or Parquet file with one row a {row}."
        ) from error
    if frame.index.names != [None]:  # a Parquet file may keep columns as its index
        frame = frame.reset_index()
    frame = frame.reset_index(drop=True).rename(columns=lambda name: str(name).strip())
    if frame.empty:
        raise UserError(f"Expected at least one row in {path}, got none. Add a row a {row}.")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"Expected one column {twice[0]} in {path}, got two. Rename one.")
    for name in names:
        if name in frame:
            frame[name] = _trimmed(frame[name], notes)
    for name in text:
        if name in frame:
            remedy = "Fill it in, or remove the row."
            _refuse(frame[name].isna(), f"a value in column {name} of {path}", frame[name], remedy)
    if "seed" in frame and pd.api.types.is_numeric_dtype(frame["seed"]):
        # Larger ones are not exact as floats, in JSON and in the page's script.
        remedy = "Number the seeds 0, 1, 2 and so on."
        wrong = frame["seed"].abs() > MAX_SEED
        _refuse(wrong, f"seeds up to {MAX_SEED:,} in {path}", frame["seed"], remedy)
    return frame


def _csv(path: Path, text: Sequence[str]) -> pd.DataFrame:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        head = next(lines, [])
        for number, cells in enumerate(lines, 1):
            if len(cells) > len(head):
                raise UserError(
                    f"Expected rows of {len(head)} cells in {path}, as the head has, got "
                    f"{len(cells)} in row {number} after the head. Remove the cell or comma at "
                    "its end, or name its column."
                )
    frame = pd.read_csv(path, encoding="utf-8-sig")
    # pandas takes "None" and "NA" for empty cells, and 007 for a number; a name is its letters.
    wanted = [name for name in frame.columns if str(name).strip() in text]
    letters = pd.read_csv(
        path, usecols=wanted, dtype=str, keep_default_na=False, encoding="utf-8-sig"
    )
    return frame.assign(**{str(name): letters[name] for name in letters})


def _refuse(wrong: pd.Series, expected: str, cells: pd.Series | pd.DataFrame, remedy: str) -> None:
    """Raise a `UserError` for the first row that is wrong, with what stands in its cells."""
    if wrong.any():
        at = wrong.index[np.flatnonzero(wrong)[0]]
        raise UserError(
            f"Expected {expected}, got {_shown(cells.loc[at])} in row {at + 1} after the head. "
            f"{remedy}"
        )


def _shown(cell: Any) -> str:
    if isinstance(cell, pd.Series):
        return ", ".join(map(_shown, cell))
    if pd.isna(cell):
        return "an empty cell"
    if hasattr(cell, "item"):
        cell = cell.item()
    return f"{cell:.12g}" if isinstance(cell, float) else repr(cell)


def _trimmed(values: pd.Series, notes: list[str] | None) -> pd.Series:
    """Return texts without white space around them, empty ones as missing."""
    texts = values.astype(str).where(values.notna(), "")
    trimmed = texts.str.strip()
    number = int(((texts != trimmed) & (trimmed != "")).sum())
    if number and notes is not None:
        notes.append(
            f"White space around the {values.name} was removed in {counted(number, 'row', 'rows')}."
        )
    return trimmed.where(trimmed != "", None).astype(object)


def _rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in runs.to_dict("records")]


def _tasks(frame: pd.DataFrame, path: Path) -> tuple[str, ...]:
    tasks = tuple(
        name.removeprefix(PRIORITY_PREFIX)
        for name in map(str, frame)
        if name.startswith(PRIORITY_PREFIX)
    )
    lacking = [name for name in ("method", "seed") if name not in frame]
    if not tasks:
        lacking.append(f"{PRIORITY_PREFIX}<task>")
    if lacking:
        needed = " Seeds are needed for a comparison: methods are matched by seed."
        raise UserError(
            f"Expected columns method, seed and {PRIORITY_PREFIX}<task> in {path}, got none named "
            f"{', '.join(lacking)}. Its columns: {', '.join(frame.columns)}."
            f"{needed if 'seed' in lacking else ''}"
        )
    unknown = [task for task in tasks if task not in TASK_METRICS]
    if unknown:
        raise UserError(
            f"Expected columns {PRIORITY_PREFIX}<task> of known tasks in {path}, got "
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
    remedy = "Correct it, or leave it empty."
    _refuse(wrong, f"numbers in column {name} of {path}", frame[name], remedy)
    return values


def _metric_values(frame: pd.DataFrame, source: str, column: str, path: Path) -> pd.Series:
    """Return values of a metric; refuse those outside its range, however large ones are left."""
    metric = known_columns(list(TASK_METRICS))[column]
    values = column_numbers(frame, source, path)
    wrong = (values < metric.low) | ((values > metric.high) & (values <= MAX_VALUE))
    percent = metric.unit == "share" and (values[wrong] > 1).any()
    remedy = "Divide percentages by 100." if percent else "Correct it, or leave it empty."
    _refuse(wrong, f"a value {metric.range_text} in column {source} of {path}", values, remedy)
    return values


def _check_priorities(priorities: pd.DataFrame, path: Path) -> list[str]:
    """Return a note on rounded priorities; refuse rows that are no priorities."""
    partly = priorities.isna().any(axis=1) & priorities.notna().any(axis=1)
    wrong = partly | ((priorities <= 0) | (priorities == np.inf)).any(axis=1)
    _refuse(
        wrong,
        f"a positive priority for each task, or none for any, in {path}",
        priorities,
        "Correct it; a network trained for one task alone has 1 for it and 0 for the others.",
    )
    off = (priorities.sum(axis=1, skipna=False) - 1).abs()
    _refuse(
        off > ROUNDED_SUM + 1e-9,
        f"priorities that sum to 1 (rounded ones within {ROUNDED_SUM:g}) in {path}",
        priorities,
        "Divide each by their sum.",
    )
    num_rounded = int((off > EXACT_SUM).sum())
    if not num_rounded:
        return []
    return [
        f"In {num_rounded} of {len(off)} rows the priorities sum to 1 only within "
        f"{ROUNDED_SUM:g}; they are taken for rounded ones."
    ]


def one_setting(
    runs: pd.DataFrame, columns: Sequence[str], key: Sequence[str], notes: list[str]
) -> pd.DataFrame:
    """Return the priorities of runs, those of one setting that is rounded in some rows made equal.

    Settings that agree within `ROUNDED` are one, unless two runs would then be the same.

    Args:
        runs: one row a run.
        columns: of the priorities.
        key: of what a run is, beside its priorities.
        notes: takes up what was made equal.
    """
    priorities = runs[list(columns)].astype(float)
    settings = sorted(set(priorities.dropna().itertuples(index=False, name=None)))
    groups: list[list[Priorities]] = []
    for setting in settings:
        near = next((g for g in groups if np.allclose(g[0], setting, rtol=0, atol=ROUNDED)), None)
        if near is None:
            groups.append([setting])
        else:
            near.append(setting)
    for group in (group for group in groups if len(group) > 1):
        mine = pd.Series([tuple(row) in group for row in priorities.to_numpy()], index=runs.index)
        if runs.loc[mine, list(key)].duplicated().any():
            continue  # one method has both: they differ on purpose
        exact = max(group, key=lambda setting: sum(len(repr(value)) for value in setting))
        priorities.loc[mine] = exact
        shown = listed([_short(setting) for setting in group if setting != exact])
        notes.append(
            f"Priorities {shown} are taken for {_short(exact)}: they agree within {ROUNDED:g} and "
            "no method has both."
        )
    return priorities


def _short(setting: Priorities) -> str:
    return f"({', '.join(f'{value:.8g}' for value in setting)})"


def _prior(
    frame: pd.DataFrame, metrics: Mapping[str, str], path: Path, notes: list[str]
) -> dict[str, float]:
    prior = {}
    for column in metrics:
        name = f"{PRIOR}{column}"
        if name in frame:
            numbers = _metric_values(frame, name, column, path)
            values = sorted(set(numbers[numbers.abs() <= MAX_VALUE]))
            if len(values) == 1:
                prior[column] = float(values[0])
            elif values:
                notes.append(f"Column {name} is not the same in all rows, so it is not drawn.")
    return prior


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
    """Return the metrics of single-task rows by seed; a note says which are no baseline."""
    found: dict[str, dict[int, float]] = {}
    for index, row in alone.iterrows():
        place = f"row {int(str(index)) + 1} after the head"
        task = next(task for task in tasks if row[f"{PRIORITY_PREFIX}{task}"] == 1)
        own, seed = known_columns([task]), int(row["seed"])
        other = [column for column in metrics if column not in own and not pd.isna(row[column])]
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
        for column in (c for c in metrics if c in own and not own[c].problem(row[c])):
            held = found.setdefault(column, {})
            if seed in held:
                raise UserError(
                    f"Expected one single-task run a seed in {path}, got two of {task} with seed "
                    f"{seed}. Remove one."
                )
            held[seed] = float(row[column])
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
