"""Tables of the dominance ledger: coverage, points, and pairs of points."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.axes import shown_number
from analysis.findings import Findings
from analysis.priorities import priority_values
from analysis.result_tables import Table
from analysis.sections.ledger_book import MOST_POINTS, Book, is_numbered

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
