"""A table, declared once by its columns: for the page, LaTeX, CSV and a terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from analysis.load.axes import MINUS, NONE, TIMES, shown_number

MAX_ROWS = 250
"""Rows of a table that the page shows; its files hold all."""


@dataclass(frozen=True)
class Column:
    """A column of a table, declared once for the page, LaTeX and CSV."""

    key: str | None
    """Of the records and of the CSV; None for a cell made of several, shown only."""
    head: str | None = None
    """Over the shown column; None for a column of the CSV alone."""
    show: str | Callable[[Any], str] = ""
    """A format such as ".2f", which shows None and NaN as a dash, or a function of the record."""


def interval_columns(
    head: str,
    show: Callable[[Mapping[str, Any], float], str],
    low: str = "low",
    high: str = "high",
) -> tuple[Column, Column]:
    """Return the columns of an interval: "1.2 to 3.4" where it is shown, both ends in the CSV.

    Args:
        head: over the shown column.
        show: text of an end, from its record and the value.
        low: key of the low end; its value is None where there is no interval.
        high: key of the high end.
    """

    def text(record: Mapping[str, Any]) -> str:
        if record[low] is None:
            return NONE
        return f"{show(record, record[low])} to {show(record, record[high])}"

    return Column(low, head, text), Column(high)


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    name: str
    """Stem of its files."""
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Cells as shown."""
    raw: pd.DataFrame
    """The same values with all digits, for CSV."""
    num_words: int = 1
    """Leading columns that hold words; the others are numbers, aligned right."""
    marked: tuple[bool, ...] = ()
    """Rows to be set off; empty for none."""

    @classmethod
    def of(
        cls,
        name: str,
        caption: str,
        records: Sequence[Mapping[Any, Any]],
        columns: Sequence[Column],
        *,
        num_words: int = 1,
        marked: Sequence[bool] = (),
    ) -> Self:
        """Return the table of `records`, values by key with all digits, one a row.

        `columns` are in order, of the page and of the CSV alike; the rest as in the fields.
        """
        shown = [column for column in columns if column.head is not None]
        keys = [column.key for column in columns if column.key is not None]
        return cls(
            name,
            caption,
            tuple(str(column.head) for column in shown),
            tuple(tuple(_cell(column, record) for column in shown) for record in records),
            pd.DataFrame([[record[key] for key in keys] for record in records], columns=keys),
            num_words=num_words,
            marked=tuple(marked),
        )


def _cell(column: Column, record: Mapping[Any, Any]) -> str:
    if callable(column.show):
        return column.show(record)
    value: Any = record[column.key]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    return shown_number(value, column.show) if column.show else str(value)


def latex(table: Table) -> str:
    """Return a table as a LaTeX tabular for the booktabs package."""
    columns = "l" * table.num_words + "r" * (len(table.head) - table.num_words)
    lines = [
        f"% {_tex(table.caption)}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_tex, table.head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_tex, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def plain(table: Table) -> str:
    """Return a table as aligned plain text for a terminal."""
    columns = list(zip(table.head, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index < table.num_words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(table.head), *map(line, table.rows)])


_TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    TIMES: r"$\times$",
    MINUS: "$-$",
    NONE: "--",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)
