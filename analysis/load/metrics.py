"""What is known of metrics: the one place where they are looked up by task, name or column."""

from collections.abc import Sequence

from mtl.records import METRIC_ALIASES, METRICS, TASK_METRICS
from mtl.spec.tasks import DECLARED_TASKS, Metric


def metric_column(task: str, metric: str) -> str:
    """Return the name of the run table's column of a task's metric."""
    return f"{task}_{metric}"


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
