"""Who dominates whom, point by point, how surely, and what nobody dominates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.dominance import Dominance, Ledger, covered_by, ledger
from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import minimised
from analysis.load.axes import shown_number
from analysis.load.matched import Settings, by_arm
from analysis.load.priorities import Priorities, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.text import evenly
from analysis.render.panels import Cells, Figure, Key, Mark, Panel, Points, Scale, mark_of
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Table

MOST_POINTS = 24
"""Of a method in a matrix; more are thinned out evenly."""
LONGEST_TICK = 24
"""Characters of priorities that stand on an axis; longer ones are numbered."""


@dataclass(frozen=True)
class Book:
    """The ledger of two methods, on the points shown, and what holds of all points."""

    arms: tuple[str, str]
    points: tuple[tuple[Priorities, ...], tuple[Priorities, ...]]
    """All operating points of each method."""
    shown: tuple[tuple[Priorities, ...], tuple[Priorities, ...]]
    """Those in the matrix."""
    ledgers: tuple[Ledger, Ledger]
    """Of the points shown: the first method over the second, and the other way round."""
    matched: tuple[Ledger, Ledger] | None
    """The same of matched seeds; None where the points do not all have the same seeds."""
    covered: tuple[np.ndarray, np.ndarray]
    """For all points of each method: does a point of the other dominate its means?"""
    nums_seeds: tuple[int, int]
    """Fewest and most seeds of a point."""

    @property
    def coverage(self) -> tuple[float, float]:
        """Return C(first, second) and C(second, first)."""
        return float(self.covered[1].mean()), float(self.covered[0].mean())


def book_of(findings: Findings, all_runs: Mapping[str, Settings], pair: tuple[str, str]) -> Book:
    """Return the ledger of a pair of methods; `all_runs` as of `analysis.load.matched.by_arm`."""
    sides = [all_runs[arm] for arm in pair]
    means = [
        minimised(
            np.array([np.mean(list(runs.values()), axis=0) for runs in side.values()]),
            findings.axes,
        )
        for side in sides
    ]
    points = [tuple(side) for side in sides]
    shown = [tuple(evenly(held, MOST_POINTS)) for held in points]
    runs = [
        [
            minimised(np.array([held for _, held in sorted(side[p].items())]), findings.axes)
            for p in places
        ]
        for side, places in zip(sides, shown, strict=True)
    ]
    seeds = {
        tuple(sorted(side[p])) for side, places in zip(sides, shown, strict=True) for p in places
    }
    counts = [len(held) for side in sides for held in side.values()]

    def both(matched: bool) -> tuple[Ledger, Ledger]:
        return (
            ledger(runs[0], runs[1], matched=matched),
            ledger(runs[1], runs[0], matched=matched),
        )

    return Book(
        arms=pair,
        points=(points[0], points[1]),
        shown=(shown[0], shown[1]),
        ledgers=both(matched=False),
        matched=both(matched=True) if len(seeds) == 1 else None,
        covered=(covered_by(means[1], means[0]), covered_by(means[0], means[1])),
        nums_seeds=(min(counts), max(counts)),
    )


def is_numbered(findings: Findings, book: Book) -> bool:
    """Return whether the points in the matrix have numbers, their priorities being too long."""
    return any(
        len(findings.shown_priorities(point)) > LONGEST_TICK
        for held in book.shown
        for point in held
    )


MOST_ROWS = 2 * MOST_POINTS
"""So that a table can hold every point of a matrix."""


def coverage_table(books: Sequence[Book]) -> Table:
    """Return what share of each method's points the other one dominates."""
    rows, raw = [], []
    for book in books:
        for mine, other in ((0, 1), (1, 0)):
            covered = book.covered[other]
            held = {
                "method": book.arms[mine],
                "other": book.arms[other],
                "coverage": float(covered.mean()),
                "num_dominated": int(covered.sum()),
                "num_points_of_other": len(covered),
                "num_undominated_own": int((~book.covered[mine]).sum()),
                "num_points_own": len(book.covered[mine]),
            }
            raw.append(held)
            rows.append(
                (
                    book.arms[mine],
                    book.arms[other],
                    f"{held['coverage']:.2f}",
                    f"{held['num_dominated']} of {held['num_points_of_other']}",
                    f"{held['num_undominated_own']} of {held['num_points_own']}",
                )
            )
    return Table(
        "dominance_coverage",
        "Coverage C(A, B): share of the points of B that some point of A dominates on the means.",
        ("A", "B", "C(A, B)", "points of B dominated", "points of A that B leaves undominated"),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=2,
    )


def point_table(findings: Findings, book: Book, number: int) -> Table:
    """Return every operating point of both methods with what dominates it, undominated first."""
    entries: list[tuple[tuple[str, ...], dict[str, Any], bool]] = []
    numbered = is_numbered(findings, book)
    hidden: list[bool] = []
    for side in (0, 1):
        by_others = book.ledgers[1 - side]
        for k, point in enumerate(book.points[side]):
            is_free = not book.covered[side][k]
            worst, by = None, []
            if point in book.shown[side]:
                column = [row[book.shown[side].index(point)] for row in by_others.cells]
                worst = max(cell.share_of_pairs for cell in column)
                by = [
                    f"no. {place}" if numbered else findings.shown_priorities(other)
                    for place, (other, cell) in enumerate(
                        zip(book.shown[1 - side], column, strict=True), 1
                    )
                    if cell.mean_dominates
                ]
            shown_by = " ".join(by[:3]) + (f" and {len(by) - 3} more" if len(by) > 3 else "")
            hidden.append(numbered and point not in book.shown[side])
            shown_point = findings.shown_priorities(point)
            if numbered and point in book.shown[side]:
                shown_point = f"{book.shown[side].index(point) + 1}: {shown_point}"
            entries.append(
                (
                    (
                        book.arms[side],
                        shown_point,
                        "no point" if is_free else shown_by or "a point not in the matrix",
                        shown_number(worst, ".2f"),
                    ),
                    {
                        "method": book.arms[side],
                        **priority_values(point, [axis.task for axis in findings.axes]),
                        "undominated": is_free,
                        "num_dominating_shown": len(by),
                        "largest_share_of_pairs": worst,
                    },
                    is_free,
                )
            )
    # Where the matrix has numbers, the points that they stand for come first.
    order = sorted(range(len(entries)), key=lambda k: (hidden[k], not entries[k][2]))
    entries = [entries[k] for k in order]
    shown = entries[:MOST_ROWS]
    cut = (
        ""
        if len(shown) == len(entries)
        else f" {len(shown)} rows; the CSV holds all {len(entries)}."
    )
    a, b = book.arms
    return Table(
        f"dominance_points_{number}",
        f"Points of {a} and {b}: which points of the other method dominate them on the means, and "
        "the largest share of pairs of runs in which one of these does. Marked: undominated by "
        f"the other method.{cut}",
        ("method", "priorities", "dominated by", "largest share of pairs"),
        tuple(row for row, _, _ in shown),
        pd.DataFrame([raw for _, raw, _ in entries]),
        num_words=3,
        marked=tuple(is_free for _, _, is_free in shown),
    )


def pair_table(findings: Findings, book: Book, number: int) -> Table:
    """Return every pair of points of the matrix in which one dominates, surest first."""
    raw: list[dict[str, Any]] = []
    for side in (0, 1):
        for i, row in enumerate(book.ledgers[side].cells):
            for j, cell in enumerate(row):
                matched = None if book.matched is None else book.matched[side].cells[i][j]
                raw.append(
                    {
                        "method": book.arms[side],
                        "priorities": findings.shown_priorities(book.shown[side][i]),
                        "other": book.arms[1 - side],
                        "priorities_of_other": findings.shown_priorities(book.shown[1 - side][j]),
                        "mean_dominates": cell.mean_dominates,
                        "mean_strictly": cell.mean_strictly,
                        "share_of_pairs": cell.share_of_pairs,
                        "share_of_matched_seeds": None
                        if matched is None
                        else matched.share_of_pairs,
                    }
                )
    found = [row for row in raw if row["share_of_pairs"] > 0 or row["mean_dominates"]]
    found.sort(key=lambda row: (-row["share_of_pairs"], not row["mean_dominates"]))
    rows = tuple(
        (
            row["method"],
            row["priorities"],
            row["other"],
            row["priorities_of_other"],
            "strictly" if row["mean_strictly"] else "weakly" if row["mean_dominates"] else "no",
            f"{row['share_of_pairs']:.2f}",
            shown_number(row["share_of_matched_seeds"], ".2f"),
        )
        for row in found[:MOST_ROWS]
    )
    a, b = book.arms
    return Table(
        f"dominance_pairs_{number}",
        f"Pairs of points of {a} and {b} in which one dominates, the {len(rows)} surest of "
        f"{len(found)}; the CSV holds all {len(raw)} pairs of the matrix. Matched: runs of the "
        "same seed alone.",
        (
            "method",
            "priorities",
            "dominates",
            "priorities",
            "on the means",
            "share of pairs",
            "share of matched seeds",
        ),
        rows,
        pd.DataFrame(raw),
        num_words=5,
    )


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
