"""Which columns are ranked, in which direction: of a table from anywhere, or of a store's runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.axes import AnalysisError, metric_column
from analysis.load_table import column_numbers
from analysis.ranks import RankedMetric
from mtl.names import checked_name
from mtl.records import METRIC_ALIASES, METRICS, TASK_METRICS, Metric

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
            raise ValueError(
                f"Expected --metrics to name metrics, got {name}, which says which trial a row of "
                f"{path} is. Leave it out."
            )
        if name not in frame:
            raise ValueError(
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
        raise ValueError(
            f"Expected a direction for column {name} of {path}, got none: it is no metric that is "
            f"known. Say --metrics {name}:min or {name}:max with the others to rank."
        )
    if known is not None and asked not in (None, known.direction):
        raise ValueError(
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
            raise ValueError(f"Expected a metric of {' and '.join(tasks)}, got {column!r}.")
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
        raise ValueError(
            f"Expected one metric of these runs, got {name!r}, which names {len(fitting)}. "
            f"Known: {', '.join(columns)}."
        )
    return fitting[0]
