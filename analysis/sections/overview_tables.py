"""What every report holds: hypervolumes, ranges over the seed spread, runs, provenance."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
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
from analysis.render.figure_parts import mean_text
from analysis.render.section import Part, Section
from analysis.render.table import Column, Table


def operating_point_table(findings: Findings, split: str = SPLIT) -> Table:
    """Return one row an operating point: means and standard deviations over seeds."""
    return Table.of(
        "operating_points",
        f"Operating points on the {split} split: mean ± standard deviation over seeds. "
        "Nondominated: no mean of any method is at least as good on every axis and better on one.",
        [
            {
                **point_record(point, findings.axes),
                "nondominated": point.nondominated,
                "nondominated_within_method": point.nondominated_in_arm,
            }
            for point in findings.points
        ],
        [
            *point_columns(findings),
            Column("num_seeds", "seeds"),
            Column("nondominated", "nondominated", lambda r: "yes" if r["nondominated"] else ""),
            Column("nondominated_within_method"),
        ],
        num_words=2,
        marked=[point.nondominated for point in findings.points],
    )


def point_columns(findings: Findings) -> list[Column]:
    """Return the first columns of tables of operating points: method, priorities and means."""
    tasks = [axis.task for axis in findings.axes]
    columns = [
        Column("method", "method"),
        _priorities_column(findings, f"priorities ({', '.join(tasks)})"),
        *map(Column, priority_values(None, tasks)),
    ]
    for axis in findings.axes:
        columns += [_mean_column(axis), Column(f"{axis.column}_sd")]
    return columns


def _priorities_column(findings: Findings, head: str) -> Column:
    return Column(None, head, lambda record: findings.shown_priorities(record["priorities"]))


def _mean_column(axis: Axis) -> Column:
    mean, sd = f"{axis.column}_mean", f"{axis.column}_sd"
    return Column(mean, axis.title, lambda record: mean_text(axis, record[mean], record[sd]))


def point_record(point: OperatingPoint, axes: Sequence[Axis]) -> dict[str, Any]:
    """Return the record of an operating point, see `point_columns`, with `num_seeds`."""
    record: dict[str, Any] = {"method": point.arm, "priorities": point.priorities}
    record |= priority_values(point.priorities, [axis.task for axis in axes])
    for axis, mean, sd in zip(axes, point.means, point.sds, strict=True):
        record |= {f"{axis.column}_mean": mean, f"{axis.column}_sd": sd}
    return record | {"num_seeds": point.n}


def run_table(findings: Findings) -> Table:
    """Return every usable run; its CSV is a tidy table that `pareto.py` reads back."""

    def value_column(axis: Axis) -> Column:
        return Column(None, axis.title, lambda record: axis.shown(record[axis.column]))

    columns = [
        Column(None, "method", operator.itemgetter("arm")),
        _priorities_column(findings, "priorities"),
        Column(None, "run", operator.itemgetter("run_id")),
        Column(None, "seed", lambda record: str(record["seed"])),
        *map(value_column, findings.axes),
        *(Column(str(name)) for name in findings.runs if name != "arm"),
        *(Column(f"prior_{name}") for name in findings.prior),
    ]
    prior = {f"prior_{name}": value for name, value in findings.prior.items()}
    settings = settings_of(findings.runs, [axis.task for axis in findings.axes])
    records = [
        {**row, **prior, "priorities": setting}
        for row, setting in zip(findings.runs.to_dict("records"), settings, strict=True)
    ]
    return Table.of(
        "runs", "Single runs behind the means, test split.", records, columns, num_words=3
    )


def hypervolume_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return hypervolumes and their differences; None without operating points."""
    if not findings.points:
        return None
    parts: list[Part] = []
    if findings.hypervolumes:
        parts.append(_hypervolume_table(findings))
    if findings.comparisons:
        parts.append(_comparison_table(findings))
    elif not findings.hypervolumes:
        parts.append("No hypervolume is shown: no method has a front.")
    lead = "The volume that a front dominates, up to the reference point: larger is better."
    volumes = [f"{arm} {volume:.4g}" for arm, volume in findings.hypervolumes.items()]
    if volumes:
        lead += f" {', '.join(volumes)}."
        if findings.baseline_hypervolume is not None:
            lead += f" The image-independent baseline has {findings.baseline_hypervolume:.4g}."
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
    if findings.baseline_hypervolume is not None:
        own = {"method": PRIOR_NAME, "hypervolume": findings.baseline_hypervolume}
        records.append({**own, "num_priorities": 0, "num_runs": 0, **place})
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


PRIOR_NAME = "image-independent baseline"


def _difference(record: Mapping[str, Any]) -> str:
    if record["difference"] is None:
        return "not tested" if record["untested"] else "not compared"
    return shown_number(record["difference"], "+.3g")


def _permutations(record: Mapping[str, Any]) -> str:
    if record["num_permutations"] is None:
        return NONE
    return f"{record['num_permutations']}, {'all' if record['exact'] else 'drawn'}"


COMPARISON_COLUMNS = (
    Column(
        "method_a", "methods", lambda record: f"{record['method_a']} {MINUS} {record['method_b']}"
    ),
    Column("method_b"),
    Column("is_primary", "primary", lambda record: "yes" if record["is_primary"] else ""),
    Column("why_not"),
    Column("num_priorities", "priorities"),
    Column("num_seeds", "seeds"),
    Column("difference", "difference", _difference),
    Column("p", "p", ".2g"),
    Column("p_adjusted", "p adjusted", ".2g"),
    Column("minimum_p", "minimum attainable p", ".2g"),
    Column("minimum_p_adjusted"),
    Column("num_permutations", "permutations", _permutations),
    *map(Column, ("exact", "seed", "unit", "hypervolume_a", "hypervolume_b", "seeds", "left_out")),
)


def _comparison_table(findings: Findings) -> Table:
    return Table.of(
        "comparisons",
        "Differences of hypervolume with the two-sided p-value of a permutation test of whole "
        "seeds: the runs of a seed change method at all priorities at once. Two methods are "
        "compared on the priorities and seeds that both have. Adjusted: the p of the primary "
        "comparison, declared before training, stands; the others' are adjusted by Holm.",
        [_comparison_record(comparison) for comparison in findings.comparisons],
        COMPARISON_COLUMNS,
    )


def _comparison_record(c: Comparison) -> dict[str, Any]:
    record: dict[str, Any] = {column.key: None for column in COMPARISON_COLUMNS if column.key}
    record |= {"method_a": c.arm_a, "method_b": c.arm_b, "why_not": c.why_not}
    record["is_primary"] = c.is_primary
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


def _shown(key: str, **options: Any) -> Callable[[Mapping[str, Any]], str]:
    """Return what shows a value of a record with its `axis`."""
    return lambda record: str(record["axis"].shown(record[key], **options))


SPREAD_COLUMNS = (
    Column("arm", "method"),
    Column("column", "metric", lambda record: record["axis"].title),
    Column("range_of_means", "range of means", _shown("range_of_means")),
    Column("pooled_sd", "seed spread", _shown("pooled_sd", more_decimals=1)),
    Column("ratio", "range / spread", ".1f"),
    Column("min_margin_over_prior", "minimum margin", _shown("min_margin_over_prior", signed=True)),
)


def spread_section(findings: Findings, _: RunFiles) -> Section | None:
    """Return how far the priority moves each metric, against the spread over seeds."""
    if not findings.spreads:
        return None
    axes = {axis.column: axis for axis in findings.axes}
    table = Table.of(
        "range_over_spread",
        "Range of the means over the priorities, pooled standard deviation over seeds, their "
        "ratio, and the minimum margin of a mean over the image-independent baseline.",
        [{**vars(spread), "axis": axes[spread.column]} for spread in findings.spreads],
        SPREAD_COLUMNS,
        num_words=2,
    )
    title = "Does the priority move a metric by more than the seed does?"
    return Section("spread", title, _spread_lead(findings), (table,))


def _spread_lead(findings: Findings) -> str:
    ratios = [spread.ratio for spread in findings.spreads if spread.ratio is not None]
    if not ratios:
        return "How far the priority moves a metric; there is no spread over seeds to compare with."
    ends = " to ".join(dict.fromkeys(f"{ratio:.1f}" for ratio in (min(ratios), max(ratios))))
    return f"The priority moves the metrics by {ends} standard deviations over seeds."


def run_section(findings: Findings, _: RunFiles) -> Section:
    """Return what became of the runs asked for, with the reasons."""
    meanings = [f"{number} {state} ({STATES[state]})" for state, number in findings.counts.items()]
    lead = f"Of {len(findings.states)} runs {listed(meanings) if meanings else 'none'}."
    if list(findings.counts) == ["done"]:
        lead = f"All {len(findings.states)} runs are done."
    return Section("states", "What was run and what is missing", lead, (_state_table(findings),))


def _state_table(findings: Findings) -> Table:
    records = [
        {
            **vars(state),
            "method": state.arm,
            "setting": state.priorities,
            "priorities": " ".join(f"{p:.12g}" for p in state.priorities or ()),
        }
        for state in findings.states
    ]
    table = Table.of(
        "states",
        "Runs that were asked for and are not in the figures.",
        records,
        [
            Column("run_id"),
            Column("method", "method", lambda r: r["method"] or NONE),
            Column("priorities", "priorities", lambda r: findings.shown_priorities(r["setting"])),
            Column("seed", "seed", "d"),
            Column("state", "state"),
            Column("reason", "reason"),
            Column(None, "run", operator.itemgetter("run_id")),
        ],
        num_words=6,
    )
    kept = zip(table.rows, findings.states, strict=True)
    return replace(table, rows=tuple(row for row, state in kept if state.state != "done"))


def provenance_section(findings: Findings, _: RunFiles) -> Section:
    """Return where the numbers come from and what they cost."""
    return Section(
        "provenance",
        "Provenance and cost",
        _provenance_lead(findings),
        (_budget_table(findings),) if findings.points else (),
        template="provenance.html.j2",
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


def _seconds(key: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what shows the seconds of a record."""

    def text(record: Mapping[str, Any]) -> str:
        value = record[key]
        if value is None:
            return NONE
        return f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")

    return text


BUDGET_COLUMNS = (
    Column("arm", "method"),
    Column("num_runs", "runs"),
    Column("epochs", "epochs a run", lambda record: record["epochs"].replace(" ", ", ") or NONE),
    Column("wall_seconds"),
    Column("device_seconds"),
    Column("wall_seconds_per_run", "wall s a run", _seconds("wall_seconds_per_run")),
    Column(None, "wall s in all", _seconds("wall_seconds")),
    Column(None, "device s in all", _seconds("device_seconds")),
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
        "Cost of the runs shown. Wall seconds of parallel runs add up to more than the time that "
        "passed.",
        records,
        BUDGET_COLUMNS,
    )
