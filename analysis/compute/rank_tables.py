"""Results -> ranked tables with their tests: of a CSV from anywhere, or of a store's runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.compute.ranks import (
    BlockTest,
    DeltaM,
    Misprint,
    PairTest,
    RankedMetric,
    RankTable,
    Untested,
    block_tests,
    delta_m,
    identifier_text,
    misprints,
    pair_tests,
    rank_table,
    seed_block_tests,
)
from analysis.load.axes import AnalysisError, metric_column
from analysis.load.baselines import Baselines, baselines, spec_of
from analysis.load.groups import COMPARED, comparable_groups
from analysis.load.plans import planned_or_present
from analysis.load.priorities import PRIORITY_PREFIX, priority_column
from analysis.load.runs import load_stores
from analysis.load.table import column_numbers, read_table
from analysis.load.text import listed
from mtl.errors import UsageError
from mtl.records import METRIC_ALIASES, METRICS, TASK_METRICS, Metric
from mtl.spec.strict import checked_name
from mtl.store import Store

PRINTED = "rank_"
RANKED_METRICS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TASK_METRICS, ("l1",)),
    "depth": ("delta1", "rmse"),
    "normal": ("within_30", "mean_angle"),
    "segmentation": ("miou", "pixel_accuracy"),
}
"""Task -> metrics of a store's runs that are ranked by default: those of Table S-3."""


@dataclass(frozen=True)
class Request:
    """What the command line asks of a ranking."""

    by: str
    metrics: Mapping[str, str | None]
    """Column -> `min`, `max` or None for the one that is known; empty for every column."""
    tie_tolerances: Mapping[str, float]
    blocks: str | None = None
    baseline: str | None = None
    """Value of `by` whose rows delta-m is relative to; a store's single-task runs if None."""


def ranked_columns(
    frame: pd.DataFrame,
    request: Request,
    reserved: set[str | None],
    path: Path,
    notes: list[str],
) -> list[RankedMetric]:
    """Return the metrics of a table: those asked for, or every numeric column."""
    for name in request.metrics:
        if name in reserved:
            raise UsageError(
                f"Expected --metrics to name metrics, got {name}, which says which trial a row of "
                f"{path} is. Leave it out."
            )
        if name not in frame:
            raise UsageError(
                f"Expected --metrics to name columns of {path}, got {name!r}. Its columns: "
                f"{', '.join(map(str, frame.columns))}."
            )
    numeric = [
        str(name)
        for name in frame.columns
        if name not in reserved and pd.api.types.is_numeric_dtype(frame[name])
    ]
    chosen = list(request.metrics) or [name for name in numeric if not _is_printed(name, frame)]
    _check_tolerances(request, chosen)
    ranked = [_ranked(frame, name, request, path) for name in chosen]
    if not ranked:
        raise AnalysisError(
            f"Expected a numeric column to rank in {path}, got none. Add columns of metrics."
        )
    unused = [
        c for c in frame.columns if c not in {*chosen, *reserved} and not _is_printed(c, frame)
    ]
    if unused:
        notes.append(f"Not ranked: columns {', '.join(map(str, unused))}.")
    return ranked


def _is_printed(name: str, frame: pd.DataFrame) -> bool:
    """Return whether a column holds ranks that the table brought along."""
    rest = name.removeprefix(PRINTED)
    return rest != name and (rest in frame or rest in ("min", "max", "avg"))


def _ranked(frame: pd.DataFrame, name: str, request: Request, path: Path) -> RankedMetric:
    known, asked = known_metric(name), request.metrics.get(name)
    if known is None and asked is None:
        raise UsageError(
            f"Expected a direction for column {name} of {path}, got none: it is no metric that is "
            f"known. Say --metrics {name}:min or {name}:max with the others to rank."
        )
    if known is not None and asked not in (None, known.direction):
        raise UsageError(
            f"Expected {name}:{known.direction}, got {name}:{asked}. Rename the column if it holds "
            "something else."
        )
    # Of an unknown column nothing says how it is shown, so no digit is rounded away.
    metric = known or Metric(name, "", "max" if asked == "max" else "min", 9, "from the table")
    factor = metric.display_factor
    if factor != 1 and column_numbers(frame, name, path).abs().max() > 1:
        factor = 1.0  # a share that is given in percent
    return RankedMetric(name, metric, factor, request.tie_tolerances.get(name, 0.0))


def known_metric(column: str) -> Metric | None:
    """Return the metric that a column holds, by its name, alias or `<task>_<metric>`."""
    names = [column, *(column.removeprefix(f"{task}_") for task in TASK_METRICS)]
    for name in names:
        full = METRIC_ALIASES.get(name, name)
        if full in METRICS:
            return METRICS[full]
    return None


def task_of_column(column: str) -> str:
    """Return the task of a column; one that no task claims stands for itself."""
    metric = known_metric(column)
    for task, names in TASK_METRICS.items():
        if column.startswith(f"{task}_"):
            return task
        if metric is not None and metric.name in names and metric.name != "l1":
            return task
    return column


def _check_tolerances(request: Request, chosen: Sequence[str]) -> None:
    for name in request.tie_tolerances:
        checked_name(name, chosen, "ranked column for --tie-tolerance")


def ranked_of_tasks(
    frame: pd.DataFrame, tasks: Sequence[str], request: Request
) -> list[RankedMetric]:
    """Return the metrics of a store's runs: those asked for, or the tasks' `RANKED_METRICS`."""
    columns = [metric_column(t, name) for t in tasks for name in RANKED_METRICS[t]]
    chosen = [_full_name(name, frame) for name in request.metrics] or columns
    tolerances = {_full_name(n, frame): v for n, v in request.tie_tolerances.items()}
    full = replace(request, tie_tolerances=tolerances, metrics={})
    _check_tolerances(full, chosen)
    ranked = []
    for column in chosen:
        metric = known_metric(column)
        if metric is None:
            raise UsageError(f"Expected a metric of {' and '.join(tasks)}, got {column!r}.")
        tolerance = tolerances.get(column, 0.0)
        ranked.append(RankedMetric(column, metric, metric.display_factor, tolerance))
    return ranked


def _full_name(name: str, frame: pd.DataFrame) -> str:
    """Return the column of a store's runs that a metric's short name, alias or column means."""
    short = METRIC_ALIASES.get(name, name)
    fitting = [
        column
        for task, names in TASK_METRICS.items()
        for metric in names
        if (column := metric_column(task, metric)) in frame and (metric == short or column == name)
    ]
    if len(fitting) != 1:
        columns = [c for c in map(str, frame.columns) if known_metric(c) is not None]
        raise UsageError(
            f"Expected one metric of these runs, got {name!r}, which names {len(fitting)}. "
            f"Known: {', '.join(columns)}."
        )
    return fitting[0]


IDENTIFIERS = ("trial", "seed")
"""Columns that say which trial of a method a row is, beside the priorities."""
PRIORITIES = "priorities"
"""Column of all priorities of a run as text, where a store has several."""
SPEC_FIELDS = {"architecture": "network.architecture", "encoder": "network.encoder"}
"""What runs of a store can be ranked by, beside the method -> their field."""


@dataclass(frozen=True)
class Ranking:
    """One ranked table with all that is said of it."""

    label: str
    """What tells its runs from other ranked runs of the same results; empty for one table."""
    table: RankTable
    tests: tuple[PairTest, ...]
    untested: tuple[Untested, ...]
    blocks: tuple[BlockTest, ...]
    deltas: tuple[DeltaM, ...]
    why_no_deltas: str
    """A sentence where delta-m was asked for and there is none; else empty."""
    misprints: tuple[Misprint, ...]
    num_printed: int
    """Ranks that the table brought along and that were compared."""
    notes: tuple[str, ...]


def rankings_of_table(path: Path, request: Request) -> Ranking:
    """Return the ranking of a CSV or Parquet with one row a trial.

    Raises:
        AnalysisError: if it cannot be read or ranked.
        ValueError: for a request that does not fit it.
    """
    text = [request.by, *([request.blocks] if request.blocks else [])]
    frame = read_table(path, "trial", text)
    if request.by not in frame:
        raise UsageError(
            f"Expected --by to name a column of {path}, got {request.by!r}. Its columns: "
            f"{', '.join(map(str, frame.columns))}."
        )
    priorities = [str(name) for name in frame if str(name).startswith(PRIORITY_PREFIX)]
    identifiers = [n for n in (*priorities, *IDENTIFIERS) if n in frame and n != request.by]
    reserved = {request.by, *identifiers, request.blocks}
    varied = len(frame[priorities].dropna().round(9).drop_duplicates()) > 1
    settings = [name for name in priorities if varied and name != request.by]
    if request.blocks in frame and request.blocks not in (request.by, *identifiers):
        identifiers.insert(0, str(request.blocks))
        settings.append(str(request.blocks))
    notes: list[str] = []
    metrics = ranked_columns(frame, request, reserved, path, notes)
    values = frame.assign(**{m.column: column_numbers(frame, m.column, path) for m in metrics})
    task_of = {m.column: task_of_column(m.column) for m in metrics}
    return _ranking("", values, identifiers, settings, metrics, request, {}, task_of, notes, frame)


def rankings_of_stores(
    stores: Sequence[Store], run_ids: Sequence[str] | None, request: Request
) -> list[Ranking]:
    """Return a ranking for each set of a store's runs that may be compared.

    Single-task runs are the baseline of delta-m and are not ranked beside others.

    Raises:
        AnalysisError: if there is nothing to rank.
        ValueError: for a request that does not fit the runs.
    """
    checked_name(request.by, ("method", "arm", *SPEC_FIELDS), "column to rank a store's runs by")
    asked = list(dict.fromkeys(planned_or_present(stores) if run_ids is None else run_ids))
    specs = {run_id: spec for run_id in asked if (spec := spec_of(stores, run_id)) is not None}
    single = {i: s for i, s in specs.items() if len(s.tasks) == 1}
    joint = {i: s for i, s in specs.items() if len(s.tasks) > 1}
    compared = (*COMPARED, SPEC_FIELDS.get(request.by, "method"))
    found = []
    for label, ids in comparable_groups(joint, compared).items():
        loaded = load_stores(stores, ids)
        if loaded.runs.empty:
            continue
        notes = [
            f"Not ranked: run {state.run_id} is {state.state}: {state.reason}."
            for state in loaded.states
            if state.state != "done"
        ]
        frame, settings = _with_settings(loaded.runs, loaded.tasks)
        if request.by in SPEC_FIELDS and len(set(frame["arm"])) > 1:
            settings.append("arm")
        metrics = ranked_of_tasks(frame, loaded.tasks, request)
        task_of = {
            metric_column(task, name): task for task in loaded.tasks for name in TASK_METRICS[task]
        }
        baseline = baseline_means(baselines(stores, single, joint[ids[0]]), metrics)
        found.append(
            _ranking(
                label,
                frame,
                [*settings, "seed"],
                settings,
                metrics,
                request,
                baseline,
                task_of,
                notes,
                None,
            )
        )
    if not found:
        raise AnalysisError(
            "Expected finished runs of two tasks or more, got none to rank. Train some first."
        )
    return found


def _ranking(
    label: str,
    frame: pd.DataFrame,
    identifiers: Sequence[str],
    settings: Sequence[str],
    metrics: Sequence[RankedMetric],
    request: Request,
    baseline: Mapping[str, float],
    task_of: Mapping[str, str],
    notes: Sequence[str],
    printed: pd.DataFrame | None,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Ranking:
    notes = list(notes)
    columns = [m.column for m in metrics]
    finite = np.isfinite(frame[columns].to_numpy(float)).all(axis=1)
    for position in np.flatnonzero(~finite):
        row = frame.iloc[position]
        lacking = [c for c in columns if not np.isfinite(row[c])]
        names = (request.by, *identifiers)
        where = ", ".join(f"{name} {identifier_text(row[name])}" for name in names)
        notes.append(f"Left out: {where}, without a finite value of {', '.join(lacking)}.")
    frame = frame[finite].reset_index(drop=True)
    if frame.empty:
        raise AnalysisError(
            f"Expected rows with a finite value of {', '.join(columns)}, got none. Choose other "
            "columns with --metrics."
        )
    table = rank_table(frame, request.by, identifiers, metrics)
    wrong: list[Misprint] = []
    num_printed = 0
    if printed is not None:
        wrong, num_printed = misprints(table, printed[finite].reset_index(drop=True))
    if request.baseline is not None:
        rows = _rows_of(table, request)
        baseline = {m.column: float(rows[m.column].mean()) for m in metrics}
    seed = "seed" if "seed" in identifiers else None
    tests, untested = pair_tests(table.trials, request.by, metrics, seed, settings, pairs)
    # A table from elsewhere has no single-task runs that could lack.
    why_no_deltas = _why_no_deltas(baseline) if baseline or printed is None else ""
    return Ranking(
        label,
        table,
        tuple(tests),
        tuple(untested),
        tuple(_block_tests(frame, request, seed, metrics)),
        tuple(_deltas(table, baseline, task_of) if baseline and not why_no_deltas else ()),
        why_no_deltas,
        tuple(wrong),
        num_printed,
        tuple(notes),
    )


def _block_tests(
    frame: pd.DataFrame, request: Request, seed: str | None, metrics: Sequence[RankedMetric]
) -> list[BlockTest]:
    """Return the tests over the blocks asked for; runs at several priorities share their seeds."""
    if request.blocks is None:
        return []
    if request.blocks not in frame:
        raise UsageError(
            f"Expected --blocks to name a column, got {request.blocks!r}. Columns: "
            f"{', '.join(map(str, frame.columns))}."
        )
    if request.blocks != PRIORITIES and not request.blocks.startswith(PRIORITY_PREFIX):
        return block_tests(frame, request.by, request.blocks, metrics)
    if seed is None:
        raise UsageError(
            f"Expected a column of seeds beside blocks of {request.blocks}, got none. Leave "
            "--blocks out."
        )
    return seed_block_tests(frame, request.by, request.blocks, seed, metrics)


def _rows_of(table: RankTable, request: Request) -> pd.DataFrame:
    rows = table.trials[table.trials[table.by].astype(str) == request.baseline]
    checked_name(str(request.baseline), [*map(str, table.summary[table.by])], f"{table.by}")
    return rows[[m.column for m in table.metrics]]


def _why_no_deltas(baseline: Mapping[str, float]) -> str:
    """Return in a sentence why no delta-m is relative to `baseline`; empty where it is."""
    if not baseline:
        return (
            "No delta-m: not every ranked metric has single-task runs under the same settings "
            "among these results. A sweep with --baselines trains them."
        )
    zero = [column for column, value in baseline.items() if value == 0]
    if not zero:
        return ""
    return (
        f"No delta-m: the baseline of {listed(zero)} is 0, and a change relative to 0 has no "
        "meaning."
    )


def _deltas(
    table: RankTable, baseline: Mapping[str, float], task_of: Mapping[str, str]
) -> list[DeltaM]:
    metrics = [m for m in table.metrics if m.column in baseline]
    return [
        delta_m(
            {m.column: row[f"mean_{m.column}"] for m in metrics},
            baseline,
            metrics,
            task_of,
            str(row[table.by]),
        )
        for row in table.summary.to_dict("records")
    ]


def _with_settings(runs: pd.DataFrame, tasks: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs with a column of priorities as text, where they have more than one."""
    columns = [priority_column(task) for task in tasks]
    texts = [
        "" if row.isna().any() else " ".join(f"{value:.4g}" for value in row)
        for _, row in runs[columns].astype(float).iterrows()
    ]
    if len({text for text in texts if text}) < 2:
        return runs, []
    return runs.assign(**{PRIORITIES: texts}), [PRIORITIES]


def baseline_means(held: Baselines, metrics: Sequence[RankedMetric]) -> dict[str, float]:
    """Return column -> mean over seeds of the single-task runs.

    Empty unless every ranked metric has such runs: a delta-m over some tasks is another.
    """
    known = [m.column for m in metrics if m.column in held]
    means = {column: float(np.mean(list(held[column].values()))) for column in known}
    return means if len(means) == len(metrics) else {}


def ranking_of_trials(
    runs: pd.DataFrame,
    tasks: Sequence[str],
    held: Baselines,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Ranking | None:
    """Return the ranking of runs that are trials of one setting, by arm, paired by seed.

    Args:
        runs: see `analysis.load.runs.Loaded`; at most one a seed and arm.
        tasks: whose metrics of `RANKED_METRICS` are ranked, as far as the runs have them.
        held: single-task runs that delta-m is relative to; may be empty.
        pairs: of arms that are tested; None means every pair.

    Returns:
        The ranking, or None where no run has a finite value of every metric.
    """
    wanted = {metric_column(t, name): METRICS[name] for t in tasks for name in RANKED_METRICS[t]}
    lacking = [c for c in wanted if c not in runs or runs[c].isna().all()]
    metrics = [
        RankedMetric(column, metric, metric.display_factor)
        for column, metric in wanted.items()
        if column not in lacking
    ]
    notes = [f"Not ranked: {', '.join(lacking)}, of which no run has a value."] if lacking else []
    columns = [m.column for m in metrics]
    if not metrics or not np.isfinite(runs[columns].to_numpy(float)).all(axis=1).any():
        return None
    task_of = {metric_column(t, name): t for t in tasks for name in TASK_METRICS[t]}
    request = Request(by="method", metrics={}, tie_tolerances={})
    baseline = baseline_means(held, metrics)
    frame = runs.assign(method=runs["arm"])
    return _ranking(
        "", frame, ["seed"], [], metrics, request, baseline, task_of, notes, None, pairs
    )
