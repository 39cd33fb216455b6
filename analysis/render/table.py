"""A table, and its words for LaTeX and plain text."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.load.axes import MINUS, NONE, TIMES


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
