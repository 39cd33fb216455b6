"""Who dominates whom, point by point, how surely, and what nobody dominates."""

import math
from typing import Any

import numpy as np

from analysis.findings import Findings
from analysis.ledger import Dominance, Ledger
from analysis.marks import Mark, mark_of
from analysis.pairs import every_pair
from analysis.panels import Cells, Figure, Key, Panel, Points, Scale
from analysis.run_files import RunFiles
from analysis.section import Folded, Part, Section
from analysis.sections.ledger_book import Book, book_of, is_numbered
from analysis.sections.ledger_tables import coverage_table, pair_table, point_table
from analysis.single_runs import by_arm

MOST_PAIRS = 3
TICK_CHARACTERS = 75
"""Along an axis of a matrix."""
STRICT, WEAK = "circle", "diamond"


def dominance(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section on dominance; None with fewer than two methods that take priorities."""
    del files
    runs = by_arm(findings.runs, findings.axes)
    wanted = every_pair([arm for arm in findings.arms if arm in runs])
    if not wanted:
        return None
    title = "Dominance ledger"
    books = [book_of(findings, runs, pair) for pair in wanted[:MOST_PAIRS]]
    words = [sentence for book in books for sentence in _remarks(book)]
    if len(wanted) > len(books):
        words.append(f"{len(wanted) - len(books)} of {len(wanted)} pairs of methods are left out.")
    parts: list[Part | Folded] = [coverage_table(books)]
    for number, book in enumerate(books, 1):
        parts += [_figure(findings, book, number), point_table(findings, book, number)]
    parts += [_how(), *words]
    parts.append(
        Folded(
            "Every pair of points",
            tuple(pair_table(findings, book, number) for number, book in enumerate(books, 1)),
        )
    )
    values = {"pairs": [_values(book) for book in books]}
    return Section("dominance", title, _lead(findings, books[0]), tuple(parts), values)


def _lead(findings: Findings, book: Book) -> str:
    a, b = book.arms
    counts = [int(covered.sum()) for covered in book.covered]
    text = (
        f"On the means, points of {a} dominate {counts[1]} of the {len(book.points[1])} points of "
        f"{b}, and points of {b} dominate {counts[0]} of the {len(book.points[0])} of {a}."
    )
    text += f" {_surest(findings, book)}"
    least, most = book.nums_seeds
    seeds = "is 1 seed" if most == 1 else f"are {most} seeds"
    if least < most:
        seeds = f"are {least} to {most} seeds"
    return f"{text} There {seeds} a point."


def _surest(findings: Findings, book: Book) -> str:
    """Say where one point dominates another in the largest share of pairs, of both methods."""
    shares = [np.array(_shares(held)) for held in book.ledgers]
    most = max(float(held.max()) for held in shares)
    if most == 0:
        return "In no pair of runs does one of these points dominate another."
    parts, total = [], 0
    for side, held in enumerate(shares):
        places = np.argwhere(held == most)
        total += len(places)
        if len(places):
            i, j = places[0]
            mine = findings.shown_priorities(book.shown[side][i])
            theirs = findings.shown_priorities(book.shown[1 - side][j])
            parts.append(
                f"{book.arms[side]} at {mine} dominates {book.arms[1 - side]} at {theirs}"
                f"{f' ({len(places)} such cases)' if len(places) > 1 else ''}"
            )
    case = "The surest case" if total == 1 else "Surest"
    return f"{case}: {' and '.join(parts)}, in {most:.0%} of the pairs of their runs."


def _shares(held: Ledger) -> list[list[float]]:
    return [[cell.share_of_pairs for cell in row] for row in held.cells]


def _how() -> str:
    return (
        "A point dominates another if it is at least as good on every metric and better on one: "
        "strictly, if it is better on all. On the means this is yes or no; the share of pairs "
        "takes each run of the one with each run of the other, and says how often a new run of "
        "each would come out so. More points alone cover more."
    )


def _remarks(book: Book) -> list[str]:
    a, b = book.arms
    words = []
    if set(book.points[0]) != set(book.points[1]):
        words.append(
            f"{a} and {b} have different priorities ({len(book.points[0])} and "
            f"{len(book.points[1])}), so their coverages are of unequal grids."
        )
    for arm, points, shown in zip(book.arms, book.points, book.shown, strict=True):
        if len(shown) < len(points):
            words.append(
                f"The matrix of {a} and {b} holds {len(shown)} of the {len(points)} points of "
                f"{arm}, evenly spaced; coverage and the list of points are of all."
            )
    return words


def _figure(findings: Findings, book: Book, number: int) -> Figure:
    a, b = book.arms
    panels = []
    for side in (0, 1):
        # Columns are always the first method's points, rows the second's.
        cells = _over(book.ledgers[side], side)
        share = np.array([[cell.share_of_pairs for cell in row] for row in cells])
        mark = mark_of(findings.arms.index(book.arms[side]))
        marks: list[Cells | Points] = [
            Cells(
                tuple(np.arange(share.shape[0] + 1) - 0.5),
                tuple(np.arange(share.shape[1] + 1) - 0.5),
                np.where(share > 0, share, np.nan),
                "sequential",
                (0.0, 1.0),
                "share of pairs of runs",
            )
        ]
        for symbol, wanted, words in ((STRICT, True, "strictly"), (WEAK, False, "weakly")):
            places = [
                (i, j)
                for i, row in enumerate(cells)
                for j, cell in enumerate(row)
                if cell.mean_dominates and cell.mean_strictly is wanted
            ]
            if places:
                marks.append(
                    Points(
                        tuple(float(i) for i, _ in places),
                        tuple(float(j) for _, j in places),
                        Mark(mark.colour_number, symbol, mark.dash),
                        f"means: {words}",
                        tuple(
                            _hover(findings, book, side, i, j, cells[i][j], words)
                            for i, j in places
                        ),
                        size=8.0,
                    )
                )
        panels.append(
            Panel(
                f"dominance_{number}_{side + 1}",
                _places(findings, book, 0),
                _places(findings, book, 1),
                tuple(marks),
                title=f"{book.arms[side]} dominates {book.arms[1 - side]}",
                height=max(300, 110 + 24 * len(book.shown[1])),
            )
        )
    tasks = ", ".join(axis.task for axis in findings.axes)
    return Figure(
        f"dominance_{number}",
        f"{a} against {b}, point by point",
        f"Two matrices of the points of {a} by the points of {b}: share of pairs of runs in which "
        "one dominates the other, with marks where it does so on the means. The tables below hold "
        "every value.",
        tuple(panels),
        "Colour: share of the pairs of runs in which one dominates the other; empty where it "
        f"never does. Priorities are of {tasks}"
        + (
            ", too long for an axis: the points stand by the numbers that the table below gives."
            if is_numbered(findings, book)
            else "."
        ),
        columns=1,
        legend=_keys(findings, book),
    )


def _keys(findings: Findings, book: Book) -> tuple[Key, ...]:
    """Return the marks that stand in the matrices."""
    keys = []
    for arm, held in zip(book.arms, book.ledgers, strict=True):
        mark = mark_of(findings.arms.index(arm))
        on_means = {c.mean_strictly for row in held.cells for c in row if c.mean_dominates}
        for symbol, is_strict, words in ((STRICT, True, "strictly"), (WEAK, False, "weakly")):
            if is_strict in on_means:
                key = Mark(mark.colour_number, symbol, mark.dash)
                keys.append(Key(f"{arm} dominates {words} on the means", key, "point"))
    return tuple(keys)


def _over(book: Ledger, side: int) -> tuple[tuple[Dominance, ...], ...]:
    """Return a ledger with the first method's points in rows, whichever method it is of."""
    return book.cells if side == 0 else tuple(zip(*book.cells, strict=True))


def _hover(
    findings: Findings, book: Book, side: int, i: int, j: int, cell: Dominance, words: str
) -> str:
    texts = [
        f"{arm} {findings.shown_priorities(points[k])}"
        for arm, points, k in zip(book.arms, book.shown, (i, j), strict=True)
    ]
    return (
        f"{texts[side]} dominates\n{texts[1 - side]}\n{words} on the means, "
        f"in {cell.share_of_pairs:.0%} of pairs of runs"
    )


def _places(findings: Findings, book: Book, side: int) -> Scale:
    """Return the axis of a method's points: the first's across, the second's upwards."""
    points = book.shown[side]
    title = f"priorities of {book.arms[side]}"
    texts = [findings.shown_priorities(point) for point in points]
    if is_numbered(findings, book):
        texts = [str(number) for number in range(1, len(points) + 1)]
        title += " (numbers: see the table)"
    step = 1
    if side == 0:
        step = max(1, math.ceil(sum(len(text) + 2 for text in texts) / TICK_CHARACTERS))
    ticks = tuple((float(k), texts[k]) for k in range(0, len(texts), step))
    return Scale(title, (-0.5, len(points) - 0.5), ticks=ticks)


def _values(book: Book) -> dict[str, Any]:
    a, b = book.arms
    return {
        "method_a": a,
        "method_b": b,
        "coverage_a_over_b": book.coverage[0],
        "coverage_b_over_a": book.coverage[1],
        "undominated": {
            arm: [list(p) for p, held in zip(points, covered, strict=True) if not held]
            for arm, points, covered in zip(book.arms, book.points, book.covered, strict=True)
        },
        "points_shown": {
            arm: [list(p) for p in shown] for arm, shown in zip(book.arms, book.shown, strict=True)
        },
        "a_over_b": _shares(book.ledgers[0]),
        "b_over_a": _shares(book.ledgers[1]),
    }
