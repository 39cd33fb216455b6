"""What every report holds: hypervolumes, ranges over the seed spread, runs, provenance."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.findings import Comparison, Findings
from analysis.compute.fronts import OperatingPoint
from analysis.load.axes import MINUS, NONE, Axis, place_words, shown_number, volume_unit
from analysis.load.priorities import priority_values, settings_of
from analysis.load.run_files import RunFiles
from analysis.load.runs import SPLIT, STATES
from analysis.load.text import listed
from analysis.render.section import Part, Section
from analysis.render.table import Column, Table
from analysis.sections.verdict import not_compared, partly_compared, single_point_words

MAX_RATIOS = 6
"""Ratios of range to spread that a sentence names; of more it gives the smallest and largest."""


def operating_point_table(findings: Findings) -> Table:
    """Return one row an operating point: means and standard deviations over seeds."""
    axes = findings.axes
    tasks = ", ".join(axis.task for axis in axes)
    shown_names = [f"shown_{axis.column}" for axis in axes]
    columns = [
        Column("method", "method"),
        Column(None, f"priorities ({tasks})", lambda record: record["priorities"]),
        *(Column(key) for key in priority_values(None, [axis.task for axis in axes])),
    ]
    for axis in axes:
        columns += [
            Column(None, axis.title, operator.itemgetter(f"shown_{axis.column}")),
            Column(f"{axis.column}_mean"),
            Column(f"{axis.column}_sd"),
        ]
    columns += [
        Column("num_seeds", "seeds"),
        Column("nondominated", "nondominated", lambda value: "yes" if value else ""),
        Column("nondominated_within_method"),
    ]
    records = [
        {
            "method": point.arm,
            "priorities": findings.shown_priorities(point.priorities),
            **dict(zip(shown_names, mean_cells(point, axes), strict=True)),
            **point_values(point, axes),
            "nondominated": point.nondominated,
            "nondominated_within_method": point.nondominated_in_arm,
        }
        for point in findings.points
    ]
    return Table.of(
        "operating_points",
        "Operating points on the test split: mean ± standard deviation over seeds. Nondominated: "
        "no mean of any method is at least as good on every axis and better on one.",
        records,
        columns,
        num_words=2,
        marked=[point.nondominated for point in findings.points],
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


def run_table(findings: Findings) -> Table:
    """Return every usable run; its CSV is a tidy table that `pareto.py` reads back."""
    tasks = [axis.task for axis in findings.axes]
    runs = findings.runs.drop(columns="arm", errors="ignore")
    columns = [
        Column(None, "method", lambda record: record["arm"]),
        Column(None, "priorities", lambda record: record["priorities"]),
        Column(None, "run", lambda record: record["run_id"]),
        Column(None, "seed", lambda record: str(record["seed"])),
        *(
            Column(None, axis.title, operator.itemgetter(f"shown_{axis.column}"))
            for axis in findings.axes
        ),
        *(Column(str(name)) for name in runs),
        *(Column(f"prior_{name}") for name in findings.prior),
    ]
    settings = settings_of(findings.runs, tasks)
    records = [
        {
            **row,
            "priorities": findings.shown_priorities(setting),
            **{f"shown_{axis.column}": axis.shown(row[axis.column]) for axis in findings.axes},
            **{f"prior_{name}": value for name, value in findings.prior.items()},
        }
        for row, setting in zip(findings.runs.to_dict("records"), settings, strict=True)
    ]
    return Table.of(
        "runs", "Single runs behind the means, test split.", records, columns, num_words=3
    )


def hypervolume_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return hypervolumes and their differences; None without operating points."""
    if not findings.points:
        return None
    words = [
        *partly_compared(findings),
        *not_compared(findings),
        *single_point_words(findings),
    ]
    parts: list[Part] = []
    if findings.hypervolumes:
        parts.append(_hypervolume_table(findings))
    elif not findings.comparisons:
        words.append("No hypervolume is shown: no method has a front.")
    parts += words
    if findings.comparisons:
        parts.append(_comparison_table(findings))
    lead = "The part of the metrics' space that a front dominates: larger is better."
    volumes = [f"{arm} {volume:.4g}" for arm, volume in findings.hypervolumes.items()]
    if volumes:
        lead += f" {', '.join(volumes)}."
    return Section("hypervolume", "Hypervolume and differences", lead, tuple(parts))


def _hypervolume_table(findings: Findings) -> Table:
    reference = findings.reference
    assert reference is not None
    place = {
        f"reference_{axis.column}": value
        for axis, value in zip(findings.axes, reference.point, strict=True)
    }
    records = []
    for arm, volume in findings.hypervolumes.items():
        mine = [point for point in findings.points if point.arm == arm]
        counts = {"num_priorities": len(mine), "num_runs": sum(point.n for point in mine)}
        records.append({"method": arm, "hypervolume": volume, **counts, **place})
    return Table.of(
        "hypervolume",
        f"Hypervolume of the means at each priority, in {volume_unit(findings.axes)}. "
        f"Reference point: {place_words(findings.axes, reference.point)}. {reference.rule}",
        records,
        [
            Column("method", "method"),
            Column("hypervolume", "hypervolume", ".4g"),
            Column("num_priorities", "priorities"),
            Column("num_runs", "runs"),
            *map(Column, place),
        ],
    )


def _difference(record: Mapping[str, Any]) -> str:
    if record["difference"] is None:
        return "not tested" if record["untested"] else "not compared"
    return shown_number(record["difference"], "+.3g")


def _permutations(record: Mapping[str, Any]) -> str:
    if record["num_permutations"] is None:
        return NONE
    return f"{record['num_permutations']}, {'all' if record['exact'] else 'drawn'}"


COMPARISON_COLUMNS = (
    Column("method_a"),
    Column("method_b"),
    Column(None, "methods", lambda record: f"{record['method_a']} {MINUS} {record['method_b']}"),
    Column("why_not"),
    Column("num_priorities", "priorities"),
    Column("num_seeds", "seeds"),
    Column("difference"),
    Column(None, "difference", _difference),
    Column("p", "p", ".2g"),
    Column("p_adjusted", "p after Holm", ".2g"),
    Column("minimum_p", "minimum attainable p", ".2g"),
    Column("minimum_p_adjusted"),
    Column("num_permutations"),
    Column(None, "permutations", _permutations),
    Column("exact"),
    Column("seed"),
    Column("unit"),
    Column("hypervolume_a"),
    Column("hypervolume_b"),
    Column("seeds"),
    Column("left_out"),
)


def _comparison_table(findings: Findings) -> Table:
    return Table.of(
        "comparisons",
        "Differences of hypervolume with the two-sided p-value of a permutation test of whole "
        "seeds: the runs of a seed change method at all priorities at once. Two methods are "
        "compared on the priorities and seeds that both have.",
        [_comparison_record(comparison) for comparison in findings.comparisons],
        COMPARISON_COLUMNS,
    )


def _comparison_record(c: Comparison) -> dict[str, Any]:
    record: dict[str, Any] = {column.key: None for column in COMPARISON_COLUMNS if column.key}
    record |= {"method_a": c.arm_a, "method_b": c.arm_b, "why_not": c.why_not}
    record["untested"] = c.untested
    if c.test is not None:
        record |= vars(c) | vars(c.test)
        record |= {
            "num_seeds": len(c.seeds),
            "hypervolume_a": c.hypervolumes[0],
            "hypervolume_b": c.hypervolumes[1],
            "seeds": " ".join(map(str, c.seeds)),
            "left_out": " ".join(c.left_out),
        }
    return record


SPREAD_COLUMNS = (
    Column("arm", "method"),
    Column("column"),
    Column(None, "metric", lambda record: record["axis"].title),
    Column("range_of_means"),
    Column(None, "range of means", lambda record: record["axis"].shown(record["range_of_means"])),
    Column("pooled_sd"),
    Column(
        None,
        "seed spread",
        lambda record: record["axis"].shown(record["pooled_sd"], more_decimals=1),
    ),
    Column("ratio", "range / spread", ".1f"),
    Column("least_margin_over_prior"),
    Column(
        None,
        "least margin",
        lambda record: record["axis"].shown(record["least_margin_over_prior"], signed=True),
    ),
)


def spread_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return how far the priority moves each metric, against the spread over seeds."""
    if not findings.spreads:
        return None
    axes = {axis.column: axis for axis in findings.axes}
    table = Table.of(
        "range_over_spread",
        "Range of the means over the priorities, standard deviation over seeds pooled over the "
        "priorities, their ratio, and the least margin of a mean over the image-independent "
        "baseline.",
        [{**vars(spread), "axis": axes[spread.column]} for spread in findings.spreads],
        SPREAD_COLUMNS,
        num_words=2,
    )
    return Section(
        "spread",
        "Does the priority move a metric by more than the seed does?",
        _spread_lead(findings),
        (table,),
    )


def _spread_lead(findings: Findings) -> str:
    """Return by how many standard deviations over seeds the priority moves each metric."""
    ratios = [spread.ratio for spread in findings.spreads if spread.ratio is not None]
    if not ratios:
        return "How far the priority moves a metric; there is no spread over seeds to compare with."
    if len(ratios) > MAX_RATIOS:
        numbers = f"{_ratio_text(min(ratios))} to {_ratio_text(max(ratios))}"
        return f"The priority moves the metrics by {numbers} standard deviations over seeds."
    moved = []
    for axis in findings.axes:
        arms = [
            f"{_ratio_text(spread.ratio)} under {spread.arm}"
            for spread in findings.spreads
            if spread.column == axis.column and spread.ratio is not None
        ]
        if arms:
            moved.append(f"{axis.name} by {listed(arms)}")
    return f"The priority moves, in standard deviations over seeds, {'; '.join(moved)}."


def _ratio_text(ratio: float) -> str:
    return f"{ratio:.{0 if ratio >= 10 else 1}f}"


STATE_COLUMNS = (
    Column("run_id"),
    Column("method", "method", lambda value: value or "unknown"),
    Column("priorities"),
    Column(None, "priorities", lambda record: record["shown_priorities"]),
    Column("seed", "seed", lambda value: f"{value:d}"),
    Column("state", "state"),
    Column("reason", "reason"),
    Column(None, "run", operator.itemgetter("run_id")),
)


def run_section(findings: Findings, _: RunFiles) -> Section:
    """Return what became of the runs asked for, with the reasons."""
    meanings = [f"{number} {state} ({STATES[state]})" for state, number in findings.counts.items()]
    lead = f"Of {len(findings.states)} runs {listed(meanings) if meanings else 'none'}."
    if list(findings.counts) == ["done"]:
        several = len(findings.states) > 1
        lead = f"All {len(findings.states)} runs are done." if several else "The one run is done."
    return Section(
        "states",
        "What was run and what is missing",
        lead,
        (_state_table(findings),),
    )


def _state_table(findings: Findings) -> Table:
    records = [
        {
            **vars(state),
            "method": state.arm,
            "priorities": " ".join(f"{p:.12g}" for p in state.priorities or ()),
            "shown_priorities": findings.shown_priorities(state.priorities),
        }
        for state in findings.states
    ]
    table = Table.of(
        "states",
        "Runs that were asked for and are not in the figures.",
        records,
        STATE_COLUMNS,
        num_words=6,
    )
    kept = zip(table.rows, findings.states, strict=True)
    return replace(table, rows=tuple(row for row, state in kept if state.state != "done"))


def provenance_section(findings: Findings, _: RunFiles) -> Section:
    """Return where the numbers come from and what they cost."""
    provenance = findings.provenance
    return Section(
        "provenance",
        "Provenance and cost",
        _provenance_lead(findings),
        (_budget_table(findings),) if findings.points else (),
        template="provenance.html.j2",
        data={
            "varies": provenance.varies,
            "recorded": provenance.recorded,
            "common": provenance.common,
        },
    )


def _provenance_lead(findings: Findings) -> str:
    if not findings.points:
        return ""
    epochs = findings.runs["epochs"] if "epochs" in findings.runs else pd.Series([None])
    sentences = ["Epochs a run are in the table."]
    if epochs.isna().any():
        sentences = ["Not every run's epochs are recorded, so equal budget cannot be checked."]
    elif len(set(epochs)) == 1:
        sentences = [f"Equal budget: every run of every method trained {epochs.iloc[0]:g} epochs."]
    selections = findings.provenance.selections
    if selections == ("last",):
        sentences.append("The last epoch is reported: none was selected, by validation or by test.")
    elif selections:
        sentences.append(f"Epochs were selected by: {', '.join(selections)}.")
    return " ".join([*sentences, f"All metrics shown are of the {SPLIT} split."])


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")


BUDGET_COLUMNS = (
    Column("arm", "method"),
    Column("num_runs", "runs"),
    Column("epochs", "epochs a run", lambda value: value.replace(" ", ", ") or NONE),
    Column("wall_seconds"),
    Column("device_seconds"),
    Column("wall_seconds_per_run", "wall s a run", _seconds),
    Column(None, "wall s in all", lambda record: _seconds(record["wall_seconds"])),
    Column(None, "device s in all", lambda record: _seconds(record["device_seconds"])),
)


def _budget_table(findings: Findings) -> Table:
    columns = ["epochs", "wall_seconds", "device_seconds"]
    runs = findings.runs.reindex(columns=["arm", *columns]).astype(dict.fromkeys(columns, float))
    records = []
    for arm, mine in runs.groupby("arm", sort=False):
        totals = mine[columns[1:]].sum(min_count=1).replace(np.nan, None)
        per_run = mine["wall_seconds"].mean()
        records.append(
            {
                "arm": arm,
                "num_runs": len(mine),
                "epochs": " ".join(f"{e:g}" for e in sorted(mine["epochs"].dropna().unique())),
                **totals,
                "wall_seconds_per_run": None if math.isnan(per_run) else per_run,
            }
        )
    return Table.of(
        "budget",
        "Cost of the runs shown. Wall seconds of runs side by side add up to more than the time "
        "that passed.",
        records,
        BUDGET_COLUMNS,
    )
