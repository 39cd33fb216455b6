"""How many operating points of one method does another one dominate?"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.compute.dominance import covered_by
from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import OperatingPoint, means_of, minimised
from analysis.load.run_files import RunFiles
from analysis.load.text import first_items
from analysis.render.section import Section
from analysis.render.table import Column, Table

MAX_PAIRS = 10


@dataclass(frozen=True)
class _Coverage:
    """Which points of two methods the other one dominates, on the means over seeds."""

    arms: tuple[str, str]
    points: tuple[list[OperatingPoint], list[OperatingPoint]]
    covered: tuple[np.ndarray, np.ndarray]
    """For each point of each method: does a point of the other dominate it?"""


def dominance(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on dominance; None with fewer than two methods that take priorities."""
    prioritised = {point.arm for point in findings.points if point.priorities is not None}
    wanted = every_pair([arm for arm in findings.arms if arm in prioritised])
    if not wanted:
        return None
    pairs, note = first_items(wanted, MAX_PAIRS, "pairs of methods")
    found = [_coverage(findings, pair) for pair in pairs]
    words = [
        f"{' and '.join(held.arms)} have different priorities ({len(held.points[0])} and "
        f"{len(held.points[1])}), so their coverages are of unequal grids."
        for held in found
        if len({frozenset(point.priorities for point in side) for side in held.points}) > 1
    ]
    return Section(
        name="dominance",
        title="Dominance",
        lead=_lead(found[0]),
        parts=(_table(found, note), *words),
        values={"pairs": [_values(held) for held in found]},
    )


def _coverage(findings: Findings, pair: tuple[str, str]) -> _Coverage:
    a, b = (minimised(means_of(findings.points, arm), findings.axes) for arm in pair)
    points = [[point for point in findings.points if point.arm == arm] for arm in pair]
    return _Coverage(pair, (points[0], points[1]), (covered_by(b, a), covered_by(a, b)))


def _lead(held: _Coverage) -> str:
    (a, b), (of_a, of_b) = held.arms, held.covered
    counts = sorted({point.n for side in held.points for point in side})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    if counts == [1]:
        seeds = "1 seed"
    return (
        f"Points of {a} dominate {of_b.sum()} of the {len(of_b)} points of {b}, and points of {b} "
        f"dominate {of_a.sum()} of the {len(of_a)} of {a}. Points are means over {seeds}."
    )


_COLUMNS = (
    Column("method", "A"),
    Column("other", "B"),
    Column("coverage", "C(A, B)", ".2f"),
    Column("num_dominated", "points of B dominated"),
    Column("num_points_of_other", "of"),
    Column("num_undominated_own", "points of A undominated"),
    Column("num_points_own", "of"),
)


def _table(found: list[_Coverage], note: str) -> Table:
    records = [
        {
            "method": held.arms[own],
            "other": held.arms[other],
            "coverage": float(held.covered[other].mean()),
            "num_dominated": int(held.covered[other].sum()),
            "num_points_of_other": len(held.covered[other]),
            "num_undominated_own": int((~held.covered[own]).sum()),
            "num_points_own": len(held.covered[own]),
        }
        for held in found
        for own, other in ((0, 1), (1, 0))
    ]
    return Table.of(
        "dominance_coverage",
        "Coverage C(A, B): share of the points of B that some point of A dominates, being on the "
        "means over seeds at least as good on every metric and better on one. More points alone "
        f"cover more.{note}",
        records,
        _COLUMNS,
        num_words=2,
    )


def _values(held: _Coverage) -> dict[str, Any]:
    return {
        "method_a": held.arms[0],
        "method_b": held.arms[1],
        "coverage_a_over_b": float(held.covered[1].mean()),
        "coverage_b_over_a": float(held.covered[0].mean()),
        "undominated": {
            arm: [
                list(p.priorities or ())
                for p, lost in zip(points, covered, strict=True)
                if not lost
            ]
            for arm, points, covered in zip(held.arms, held.points, held.covered, strict=True)
        },
    }
