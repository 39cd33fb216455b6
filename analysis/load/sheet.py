"""A CSV or Parquet from anywhere as rows and columns: read with care, refused by its rows."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.load.priorities import Priorities
from analysis.load.text import counted, first_listed, listed
from mtl.errors import UserError
from mtl.spec.tasks import MAX_VALUE, Metric

EXACT_SUM, ROUNDED_SUM = 1e-6, 1e-3
"""How far the priorities of a row may sum from 1, without and with a note."""
ROUNDED = 5e-4
"""Priorities that differ by no more, each, are one setting, rounded in some rows."""
MAX_SEED = 2**53
TEXTS = ("run_id", "method", "architecture", "encoder", "dataset", "selection")
"""Columns of text, read as the letters that stand there."""
STATE_COLUMNS = ("state", "State")
FINISHED = ("COMPLETE", "COMPLETED", "done", "finished", "TERMINATED")
"""What Optuna, SLURM, this project, W&B and Tune call a run that is done."""


@dataclass(frozen=True)
class Sheet:
    """A table from elsewhere, its names and texts trimmed, and what is said of it."""

    frame: pd.DataFrame
    """At least one row; the index counts the rows of the results from 0, left out ones too."""
    where: str
    """What messages call it."""
    notes: list[str] = field(default_factory=list)
    """What was corrected or left out."""

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return [str(name) for name in self.frame]

    def refuse(self, wrong: pd.Series, expected: str, cells: Any, remedy: str) -> None:
        """Raise a `UserError` for the first row that is wrong, with what stands in its cells."""
        if wrong.any():
            at = wrong.index[np.flatnonzero(wrong)[0]]
            raise UserError(
                f"Expected {expected} {self.where}, got {_shown(cells.loc[at])} in row {at + 1} "
                f"after the head. {remedy}"
            )

    def numbers(self, name: str) -> pd.Series:
        """Return a column as floats, empty cells as NaN; refuse text."""
        cells = self.frame[name]
        values = pd.to_numeric(cells, errors="coerce").astype(float)
        wrong = values.isna() & cells.notna()
        remedy = "Correct it, or leave it empty."
        self.refuse(wrong, f"numbers in column {name} of", cells, remedy)
        return values

    def seeds(self) -> pd.Series:
        """Return the column `seed` as whole numbers; refuse others."""
        seeds = self.numbers("seed")
        wrong = ~np.isfinite(seeds) | (seeds != seeds.round())
        self.refuse(wrong, "whole numbers in column seed of", self.frame["seed"], "Correct it.")
        return seeds.astype(int)

    def metric_values(self, name: str, metric: Metric, factor: float = 1.0) -> pd.Series:
        """Return values of a metric; refuse those outside its range, however large ones are left.

        `factor` is 100 for a share in percent.
        """
        values = self.numbers(name)
        wrong = values.isna() & False
        if metric.low is not None:
            wrong |= values < metric.low * factor
        if metric.high is not None:
            wrong |= (values > metric.high * factor) & (values <= MAX_VALUE)
        is_percent = metric.unit == "share" and factor == 1 and (values[wrong] > 1).any()
        remedy = "Divide percentages by 100." if is_percent else "Correct it, or leave it empty."
        self.refuse(wrong, f"a value {metric.range_text} in column {name} of", values, remedy)
        return values

    def without_copies(self, rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        """Return `rows` without those that repeat an earlier one in `columns`, with a note."""
        copies = rows.duplicated(list(columns))
        if copies.any():
            which = first_listed([str(i + 1) for i in rows.index[copies]], 4)
            self.notes.append(f"Left out as a copy of an earlier one: row {which} after the head.")
        return rows[~copies]


def read_sheet(path: Path, row: str = "run", text: Sequence[str] = ("method",)) -> Sheet:
    """Return a CSV or Parquet file with one row a `row`; see `sheet_of`.

    Columns of text are those of `TEXTS` and `text`.
    """
    return sheet_of(read_frame(path, row, (*TEXTS, *text)), str(path), row, text)


def read_frame(path: Path, row: str = "run", text: Sequence[str] = TEXTS) -> pd.DataFrame:
    """Return a CSV or Parquet file with one row a `row`.

    Columns of text are read letter by letter: a method may be called None or 007. A `UserError`
    refuses what cannot be read, and a row with more cells than the head.
    """
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else _csv(path, text)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"Expected a table in {path}, got {str(error).splitlines()[0]}. "
            f"Give a CSV or Parquet file with one row a {row}."
        ) from error


def sheet_of(
    frame: pd.DataFrame, where: str, row: str = "run", text: Sequence[str] = ("method",)
) -> Sheet:
    """Return a table, called `where` in messages, with one row a `row`.

    Rows that a column `state` does not call finished are left out with a note. Columns named in
    `text` are text without an empty cell, where they are there. A `UserError` refuses a table
    without such rows, two columns of a name, and seeds that are not exact as floats.
    """
    if frame.index.names != [None]:  # a Parquet file may keep columns as its index
        frame = frame.reset_index()
    frame = frame.reset_index(drop=True).rename(columns=lambda name: str(name).strip())
    if frame.empty:
        raise UserError(f"Expected at least one row in {where}, got none. Add a row a {row}.")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"Expected one column {twice[0]} in {where}, got two. Rename one.")
    notes: list[str] = []
    sheet = Sheet(_finished(frame, where, notes), where, notes)
    frame = sheet.frame
    for name in (name for name in dict.fromkeys((*TEXTS, *text)) if name in frame):
        frame[name] = _trimmed(frame[name], sheet.notes)
    for name in (name for name in text if name in frame):
        remedy = "Fill it in, or remove the row."
        sheet.refuse(frame[name].isna(), f"a value in column {name} of", frame[name], remedy)
    if "seed" in frame and pd.api.types.is_numeric_dtype(frame["seed"]):
        # Larger ones are not exact in JSON and in the page's script either.
        remedy = "Number the seeds 0, 1, 2 and so on."
        wrong = frame["seed"].abs() > MAX_SEED
        sheet.refuse(wrong, f"seeds up to {MAX_SEED:,} in", frame["seed"], remedy)
    return sheet


def _finished(frame: pd.DataFrame, where: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows of finished runs, by a column of states if there is one."""
    name = next((name for name in STATE_COLUMNS if name in frame), None)
    if name is None:
        return frame
    states = frame[name].astype(str).str.strip().str.removeprefix("TrialState.")
    done = states.str.casefold().isin([state.casefold() for state in FINISHED])
    if not done.any():
        raise UserError(
            f"Expected finished runs in {where}, got {counted(len(frame), 'run', 'runs')} in the "
            f"states {first_listed(sorted(set(states)), 4)} of column {name}. A finished one is "
            f"{listed(FINISHED)}; rename the column if it says something else."
        )
    left_out = [f"{number} {state}" for state, number in states[~done].value_counts().items()]
    if left_out:
        notes.append(f"Not shown, as not finished: {', '.join(left_out)}.")
    return frame.drop(columns=name)[done].copy()


def _csv(path: Path, text: Sequence[str]) -> pd.DataFrame:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        head = next(lines, [])
        if len(head) == 1 and ";" in head[0]:
            raise UserError(
                f"Expected commas between the columns of {path}, got semicolons. Save it with "
                "commas, and points in its numbers."
            )
        twice = [name for name in head if name and head.count(name) > 1]
        if twice:
            raise UserError(f"Expected one column {twice[0]} in {path}, got two. Rename one.")
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


def _shown(cell: Any) -> str:
    if isinstance(cell, pd.Series):
        return ", ".join(map(_shown, cell))
    if pd.isna(cell):
        return "an empty cell"
    if hasattr(cell, "item"):
        cell = cell.item()
    return f"{cell:.12g}" if isinstance(cell, float) else repr(cell)


def _trimmed(values: pd.Series, notes: list[str]) -> pd.Series:
    """Return texts without white space around them, empty ones as missing."""
    texts = values.astype(str).where(values.notna(), "")
    trimmed = texts.str.strip()
    number = int(((texts != trimmed) & (trimmed != "")).sum())
    if number:
        notes.append(
            f"White space around the {values.name} was removed in {counted(number, 'row', 'rows')}."
        )
    return trimmed.where(trimmed != "", None).astype(object)


def is_single_task(priorities: pd.DataFrame) -> pd.Series:
    """Return which rows say that a network was trained for one of several tasks alone.

    They have priority 1 for it and 0 for the others.
    """
    is_one, is_zero = (priorities.eq(value).sum(axis=1) for value in (1, 0))
    num_tasks = len(priorities.columns)
    return (is_one == 1) & (is_zero == num_tasks - 1) & (num_tasks > 1)


def check_priorities(sheet: Sheet, priorities: pd.DataFrame) -> None:
    """Refuse rows that are no priorities; take rounded ones with a note."""
    partly = priorities.isna().any(axis=1) & priorities.notna().any(axis=1)
    sheet.refuse(
        partly | ((priorities <= 0) | (priorities == np.inf)).any(axis=1),
        "a positive priority for each task, or none for any, in",
        priorities,
        "Correct it; a network trained for one task alone has 1 for it and 0 for the others.",
    )
    off = (priorities.sum(axis=1, skipna=False) - 1).abs()
    sheet.refuse(
        off > ROUNDED_SUM + 1e-9,
        f"priorities that sum to 1 (rounded ones within {ROUNDED_SUM:g}) in",
        priorities,
        "Divide each by their sum.",
    )
    num_rounded = int((off > EXACT_SUM).sum())
    if num_rounded:
        sheet.notes.append(
            f"In {num_rounded} of {len(off)} rows the priorities sum to 1 only within "
            f"{ROUNDED_SUM:g}; they are taken for rounded ones."
        )


def one_setting(
    runs: pd.DataFrame, columns: Sequence[str], key: Sequence[str], notes: list[str]
) -> pd.DataFrame:
    """Return the priorities of runs, those of one setting that is rounded in some rows made equal.

    Settings that agree within `ROUNDED` are one, unless two runs of equal `key` columns would then
    be the same. `notes` takes up what was made equal.
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
