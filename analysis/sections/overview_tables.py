"""Findings as tables: each once with full digits (CSV) and once as people read it (HTML, LaTeX)."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.compute.findings import Findings
from analysis.compute.fronts import OperatingPoint
from analysis.load.axes import MINUS, NONE, Axis, place_words, shown_number, volume_unit
from analysis.load.priorities import priority_values, settings_of
from analysis.render.table import Table


def all_tables(findings: Findings) -> dict[str, Table]:
    """Return every table by name."""
    tables = (
        operating_point_table(findings),
        hypervolume_table(findings),
        comparison_table(findings),
        spread_table(findings),
        budget_table(findings),
        run_table(findings),
        state_table(findings),
    )
    return {table.name: table for table in tables}


def operating_point_table(findings: Findings) -> Table:
    """Return one row an operating point: means and standard deviations over seeds."""
    axes = findings.axes
    rows, raw = [], []
    for point in findings.points:
        cells = mean_cells(point, axes)
        mark = "yes" if point.nondominated else ""
        rows.append(
            (point.arm, findings.shown_priorities(point.priorities), *cells, str(point.n), mark)
        )
        values = {
            "method": point.arm,
            **point_values(point, axes),
            "nondominated": point.nondominated,
            "nondominated_within_method": point.nondominated_in_arm,
        }
        raw.append(values)
    tasks = ", ".join(axis.task for axis in axes)
    return Table(
        "operating_points",
        "Operating points on the test split: mean ± standard deviation over seeds. Nondominated: "
        "no mean of any method is at least as good on every axis and better on one.",
        ("method", f"priorities ({tasks})", *(a.title for a in axes), "seeds", "nondominated"),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=2,
        marked=tuple(point.nondominated for point in findings.points),
    )


def mean_cells(point: OperatingPoint, axes: Sequence[Axis]) -> list[str]:
    """Return mean ± standard deviation on each axis as people read it."""
    return [
        axis.shown(mean) + (f" ± {axis.shown(sd)}" if sd is not None else "")
        for axis, mean, sd in zip(axes, point.means, point.sds, strict=True)
    ]


def point_values(point: OperatingPoint, axes: Sequence[Axis]) -> dict[str, Any]:
    """Return column -> value of an operating point with all digits."""
    values: dict[str, Any] = {**priority_values(point.priorities, [axis.task for axis in axes])}
    for axis, mean, sd in zip(axes, point.means, point.sds, strict=True):
        values |= {f"{axis.column}_mean": mean, f"{axis.column}_sd": sd}
    return values | {"num_seeds": point.n}


def hypervolume_table(findings: Findings) -> Table:
    """Return the hypervolume of each comparable method with the reference point."""
    reference = findings.reference
    rows, raw = [], []
    for arm, volume in findings.hypervolumes.items():
        mine = [point for point in findings.points if point.arm == arm]
        num_runs = sum(point.n for point in mine)
        rows.append((arm, f"{volume:.4g}", str(len(mine)), str(num_runs)))
        values: dict[str, Any] = {
            "method": arm,
            "hypervolume": volume,
            "num_priorities": len(mine),
            "num_runs": num_runs,
        }
        if reference is not None:
            named = zip(findings.axes, reference.point, strict=True)
            values |= {f"reference_{axis.column}": value for axis, value in named}
        raw.append(values)
    shown = ""
    if reference is not None:
        place = place_words(findings.axes, reference.point)
        shown = f" Reference point: {place}. {reference.rule}"
    unit = volume_unit(findings.axes)
    return Table(
        "hypervolume",
        f"Hypervolume of the means at each priority, in {unit}.{shown}",
        ("method", "hypervolume", "priorities", "runs"),
        tuple(rows),
        pd.DataFrame(raw),
    )


def comparison_table(findings: Findings) -> Table:
    """Return the permutation test of each pair of methods, or why there is none."""
    rows, raw = [], []
    for c in findings.comparisons:
        test = c.test
        on = c.matched
        values: dict[str, Any] = {"method_a": c.arm_a, "method_b": c.arm_b, "why_not": c.why_not}
        names = f"{c.arm_a} {MINUS} {c.arm_b}"
        if test is None or on is None:
            said = "not tested" if c.untested else "not compared"
            rows.append((names, NONE, NONE, said, *(NONE,) * 4))
        else:
            rows.append(
                (
                    names,
                    str(on.num_priorities),
                    str(len(on.seeds)),
                    shown_number(test.difference, "+.3g"),
                    f"{test.p:.2g}",
                    shown_number(c.p_adjusted, ".2g"),
                    f"{test.minimum_p:.2g}",
                    f"{test.num_permutations}, {'all' if test.exact else 'drawn'}",
                )
            )
            values |= {
                **vars(test),
                "p_adjusted": c.p_adjusted,
                "minimum_p_adjusted": c.minimum_p_adjusted,
                "hypervolume_a": on.hypervolumes[0],
                "hypervolume_b": on.hypervolumes[1],
                "num_priorities": on.num_priorities,
                "seeds": " ".join(map(str, on.seeds)),
                "left_out": " ".join(on.left_out),
            }
        raw.append(values)
    return Table(
        "comparisons",
        "Differences of hypervolume with the two-sided p of relabellings of whole seeds: the runs "
        "of a seed change method at all priorities at once. Two methods are compared on the "
        "priorities and seeds that both have.",
        (
            *("methods", "priorities", "seeds", "difference", "p", "p after Holm"),
            *("smallest reachable p", "relabellings"),
        ),
        tuple(rows),
        pd.DataFrame(raw),
    )


def spread_table(findings: Findings) -> Table:
    """Return how far the priority moves each metric, against the spread over seeds."""
    axes = {axis.column: axis for axis in findings.axes}
    rows = []
    for spread in findings.spreads:
        axis = axes[spread.column]
        rows.append(
            (
                spread.arm,
                axis.title,
                axis.shown(spread.range_of_means),
                axis.shown(spread.pooled_sd, more_decimals=1),
                shown_number(spread.ratio, ".1f"),
                axis.shown(spread.least_margin_over_prior, signed=True),
            )
        )
    return Table(
        "range_over_spread",
        "Range of the means over the priorities, standard deviation over seeds pooled over the "
        "priorities, their ratio, and the least margin of a mean over the per-pixel prior.",
        ("method", "metric", "range of means", "seed spread", "range / spread", "least margin"),
        tuple(rows),
        pd.DataFrame([vars(spread) for spread in findings.spreads]),
        num_words=2,
    )


def budget_table(findings: Findings) -> Table:
    """Return what the done runs of each method cost."""
    rows = [
        (
            budget.arm,
            str(budget.num_runs),
            ", ".join(map(str, budget.epochs)) or NONE,
            _seconds(budget.wall_seconds_per_run),
            _seconds(budget.wall_seconds),
            _seconds(budget.device_seconds),
        )
        for budget in findings.provenance.budgets
    ]
    raw = [{**vars(b), "epochs": " ".join(map(str, b.epochs))} for b in findings.provenance.budgets]
    return Table(
        "budget",
        "Cost of the runs shown. Wall seconds of runs side by side add up to more than the time "
        "that passed.",
        ("method", "runs", "epochs a run", "wall s a run", "wall s in all", "device s in all"),
        tuple(rows),
        pd.DataFrame(raw),
    )


def run_table(findings: Findings) -> Table:
    """Return every usable run; its CSV is a tidy table that `pareto.py` reads back."""
    tasks = [axis.task for axis in findings.axes]
    raw = findings.runs.drop(columns="arm", errors="ignore").copy()
    for column, value in findings.prior.items():
        raw[f"prior_{column}"] = value
    rows = []
    settings = settings_of(findings.runs, tasks)
    for row, priorities in zip(findings.runs.to_dict("records"), settings, strict=True):
        metrics = (axis.shown(row[axis.column]) for axis in findings.axes)
        rows.append(
            (
                str(row["arm"]),
                findings.shown_priorities(priorities),
                str(row["run_id"]),
                str(row["seed"]),
                *metrics,
            )
        )
    return Table(
        "runs",
        "Single runs behind the means, test split.",
        ("method", "priorities", "run", "seed", *(axis.title for axis in findings.axes)),
        tuple(rows),
        raw,
        num_words=3,
    )


def state_table(findings: Findings) -> Table:
    """Return every run that is not in the figures, with the reason; its CSV lists all runs."""
    rows = tuple(
        (
            state.arm or "unknown",
            findings.shown_priorities(state.priorities),
            NONE if state.seed is None else str(state.seed),
            state.state,
            state.reason,
            state.run_id,
        )
        for state in findings.states
        if state.state != "done"
    )
    raw = [
        {
            "run_id": s.run_id,
            "method": s.arm,
            "priorities": ""
            if s.priorities is None
            else " ".join(f"{p:.12g}" for p in s.priorities),
            "seed": s.seed,
            "state": s.state,
            "reason": s.reason,
        }
        for s in findings.states
    ]
    return Table(
        "states",
        "Runs that were asked for and are not in the figures.",
        ("method", "priorities", "seed", "state", "reason", "run"),
        rows,
        pd.DataFrame(raw),
        num_words=6,
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")
