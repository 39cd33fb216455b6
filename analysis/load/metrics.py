"""What is known of metrics: the one place where they are looked up by task, name or column."""

from collections.abc import Sequence

from mtl.records import (
    LOSS_METRIC,
    METRIC_ALIASES,
    METRICS,
    PLOTTED_METRIC,
    TASK_METRICS,
    task_metric,
)
from mtl.spec.tasks import DECLARED_TASKS, Metric


def metric_column(task: str, metric: str) -> str:
    """Return the name of the run table's column of a task's metric."""
    return f"{task}_{metric}"


def known_tasks() -> list[str]:
    """Return the tasks whose metrics are known."""
    return sorted(TASK_METRICS)


def metric_of(task: str, name: str | None = None) -> Metric:
    """Return a task's metric by name or alias, by default the one that it is usually judged by.

    A `UsageError` names an unknown task, or a metric that the task does not have.
    """
    return task_metric(task, name or PLOTTED_METRIC.get(task, ""))


def loss_metric(task: str) -> Metric:
    """Return the metric that is a task's loss without regularisers."""
    return METRICS[LOSS_METRIC[task]]


def paper_factor(task: str, metric: str) -> int:
    """Return by what the supplement's tables multiply a metric."""
    return DECLARED_TASKS[task].paper_factor if metric == LOSS_METRIC[task] else 1


def known_columns(tasks: Sequence[str]) -> dict[str, Metric]:
    """Return the metric columns that runs of `tasks` may have."""
    return {
        metric_column(task, name): METRICS[name]
        for task in tasks
        for name in TASK_METRICS.get(task, ())
    }


def ranked_columns(tasks: Sequence[str]) -> list[str]:
    """Return the metric columns of `tasks` that are ranked by default."""
    return [metric_column(task, name) for task in tasks for name in DECLARED_TASKS[task].ranked]


def column_names(tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return metric column -> the names that it may be given, the preferred one first.

    `<task>_<metric>`, or the metric's own name where one alone of `tasks` has it; aliases too.
    """
    found = {}
    for task in tasks:
        for metric in TASK_METRICS.get(task, ()):
            short = [metric, *(a for a, full in METRIC_ALIASES.items() if full == metric)]
            is_own = sum(metric in TASK_METRICS.get(other, ()) for other in tasks) == 1
            names = [metric_column(task, name) for name in short]
            found[metric_column(task, metric)] = (*names, *(short if is_own else ()))
    return found


def facts_of(column: str) -> tuple[str, Metric | None]:
    """Return the task and the metric of a column of any table.

    A column that no single task claims stands for a task of its own.
    """
    task = next((task for task in TASK_METRICS if column.startswith(f"{task}_")), "")
    name = column.removeprefix(f"{task}_") if task else column
    metric = METRICS.get(METRIC_ALIASES.get(name, name))
    owners = [t for t, names in TASK_METRICS.items() if metric is not None and metric.name in names]
    return task or (owners[0] if len(owners) == 1 else column), metric
