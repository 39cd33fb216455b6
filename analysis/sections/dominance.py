"""How many operating points of one method does another one dominate?"""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.compute.findings import Findings, every_pair
from analysis.compute.fronts import OperatingPoint, covered_by, means_of, minimised
from analysis.load.run_files import RunFiles
from analysis.load.text import first_items
from analysis.render.section import Section
from analysis.render.table import Column, Table

MAX_PAIRS = 10
_COLUMNS = (
    Column("method", "A"),
    Column("other", "B"),
    Column("coverage", "C(A, B)", ".2f"),
    Column("num_dominated", "points of B dominated"),
    Column("num_points_of_other", "of"),
    Column("num_undominated_own", "points of A undominated"),
    Column("num_points_own", "of"),
)


def dominance(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on dominance; None with fewer than two methods that take priorities."""
    of_arm: dict[str, list[OperatingPoint]] = {}
    for point in findings.points:
        if point.priorities is not None:
            of_arm.setdefault(point.arm, []).append(point)
    wanted = every_pair([arm for arm in findings.arms if arm in of_arm])
    if not wanted:
        return None
    pairs, note = first_items(wanted, MAX_PAIRS, "pairs of methods")
    both_ways = [
        (_record(findings, of_arm, *p), _record(findings, of_arm, *p[::-1])) for p in pairs
    ]
    words = [
        f"{a} and {b} have different priorities ({len(of_arm[a])} and {len(of_arm[b])}), so their "
        "coverages are of unequal grids."
        for a, b in pairs
        if {p.priorities for p in of_arm[a]} != {p.priorities for p in of_arm[b]}
    ]
    table = Table.of(
        "dominance_coverage",
        "Coverage C(A, B): share of the points of B that some point of A dominates, being on the "
        "means over seeds at least as good on every metric and better on one. More points alone "
        f"cover more.{note}",
        [record for both in both_ways for record in both],
        _COLUMNS,
        num_words=2,
    )
    values = [
        {
            "method_a": a["method"],
            "method_b": b["method"],
            "coverage_a_over_b": a["coverage"],
            "coverage_b_over_a": b["coverage"],
            "undominated": {of["method"]: of["undominated"] for of in (a, b)},
        }
        for a, b in both_ways
    ]
    points = [point for arm in pairs[0] for point in of_arm[arm]]
    lead = _lead(*both_ways[0], points)
    return Section("dominance", "Dominance", lead, (table, *words), {"pairs": values})


def _record(
    findings: Findings, of_arm: Mapping[str, Sequence[OperatingPoint]], method: str, other: str
) -> dict[str, Any]:
    means = [minimised(means_of(findings.points, arm), findings.axes) for arm in (method, other)]
    others_lost, own_lost = covered_by(*means), covered_by(*means[::-1])
    return {
        "method": method,
        "other": other,
        "coverage": float(others_lost.mean()),
        "num_dominated": int(others_lost.sum()),
        "num_points_of_other": len(others_lost),
        "num_undominated_own": int((~own_lost).sum()),
        "num_points_own": len(own_lost),
        "undominated": [
            list(point.priorities or ())
            for point, lost in zip(of_arm[method], own_lost, strict=True)
            if not lost
        ],
    }


def _lead(a: Mapping[str, Any], b: Mapping[str, Any], points: Sequence[OperatingPoint]) -> str:
    counts = sorted({point.n for point in points})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    if counts == [1]:
        seeds = "1 seed"
    return (
        f"Points of {a['method']} dominate {a['num_dominated']} of the {a['num_points_of_other']} "
        f"points of {b['method']}, and points of {b['method']} dominate {b['num_dominated']} of "
        f"the {b['num_points_of_other']} of {a['method']}. Points are means over {seeds}."
    )
