"""The ledger of two methods from their runs, bounded to what a matrix can hold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.findings import Findings
from analysis.fronts import minimised
from analysis.ledger import Ledger, covered_by, ledger
from analysis.priorities import Priorities
from analysis.single_runs import Settings
from analysis.thinning import evenly

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
    """Return the ledger of a pair of methods; `all_runs` as of `analysis.single_runs.by_arm`."""
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
