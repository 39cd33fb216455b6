"""What is known of metrics: the one place where they are looked up by task, name or column.

`declared` is task -> what the runs say of its metrics, in the order of the tasks; results of older
releases say nothing, and mean this project's own tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mtl.errors import UsageError, UserError
from mtl.records import METRIC_ALIASES, Result
from mtl.spec.strict import checked_name
from mtl.spec.tasks import DECLARED_TASKS, DeclaredTask, Metric

Declared = Mapping[str, DeclaredTask]


def metric_column(task: str, metric: str) -> str:
    """Return the name of the run table's column of a task's metric."""
    return f"{task}_{metric}"


def declared_by(
    results: Iterable[Result], tasks: Sequence[str], planned: Declared | None = None
) -> dict[str, DeclaredTask]:
    """Return what results say of the metrics of `tasks`, those of later releases included.

    Of a task that no result has, what the specs say counts, `planned`, or this project.

    Raises:
        UserError: where two results mean different things by one name.
    """
    found: dict[str, DeclaredTask] = {}
    for held in dict.fromkeys(
        (task, result.declared.get(task, DECLARED_TASKS.get(task)))
        for result in results
        for task in tasks
    ):
        task, declared = held
        if declared is not None:
            earlier = found.get(task)
            found[task] = declared if earlier is None else _joined(task, earlier, declared)
    known = {**DECLARED_TASKS, **(planned or {}), **found}
    for task in tasks:
        if task not in known:
            raise UserError(
                f"Expected a finished run that declares the metrics of {task}, got none. Train one."
            )
    return {task: known[task] for task in tasks}


def _joined(task: str, one: DeclaredTask, other: DeclaredTask) -> DeclaredTask:
    for earlier, metric in _contradictions(one, other):
        raise UserError(
            f"Expected one meaning of {task} {metric.name} in all runs, got {earlier.unit} "
            f"({earlier.direction}) and {metric.unit} ({metric.direction}). Report the runs "
            "apart, or rename the metric."
        )
    held = {metric.name: metric for metric in (*other.metrics, *one.metrics)}
    names = dict.fromkeys((*one.metric_names, *other.metric_names))
    return replace(one, metrics=tuple(held[name] for name in names))


def _contradictions(one: DeclaredTask, other: DeclaredTask) -> list[tuple[Metric, Metric]]:
    shared = [name for name in one.metric_names if name in other.metric_names]
    pairs = [(one.metric(name), other.metric(name)) for name in shared]
    return [(a, b) for a, b in pairs if (a.unit, a.direction) != (b.unit, b.direction)]


def agree(one: Declared, other: Declared) -> bool:
    """Return whether two declarations mean the same by the metrics that both name."""
    return not any(_contradictions(one[task], other[task]) for task in one.keys() & other.keys())


def metric_of(declared: Declared, task: str, name: str | None = None) -> Metric:
    """Return a task's metric by name or alias, by default the one that it is usually judged by.

    A `UsageError` names an unknown task, or a metric that the task does not have.
    """
    held = declared[checked_name(task, declared, "task")]
    full = name or held.plotted
    if full not in held.metric_names:  # a metric of one's own may be called as an alias is
        full = METRIC_ALIASES.get(full, full)
    checked_name(full, held.metric_names, "metric", of=f"task {task!r}")
    return held.metric(full)


def paper_factor(declared: Declared, task: str, metric: str) -> int:
    """Return by what the supplement's tables multiply a metric."""
    held = declared[task]
    return held.paper_factor if metric == held.loss_metric else 1


def known_columns(declared: Declared) -> dict[str, Metric]:
    """Return the metric columns that runs may have."""
    return {
        metric_column(task, metric.name): metric
        for task, held in declared.items()
        for metric in held.metrics
    }


def ranked_columns(declared: Declared) -> list[str]:
    """Return the metric columns that are ranked by default."""
    return [metric_column(task, name) for task, held in declared.items() for name in held.ranked]


def column_names(declared: Declared) -> dict[str, tuple[str, ...]]:
    """Return metric column -> the names that it may be given, the preferred one first.

    `<task>_<metric>`, or the metric's own name where one task alone has it; aliases too.
    """
    found = {}
    for task, held in declared.items():
        for metric in held.metric_names:
            short = [metric, *(a for a, full in METRIC_ALIASES.items() if full == metric)]
            is_own = sum(metric in other.metric_names for other in declared.values()) == 1
            names = [metric_column(task, name) for name in short]
            found[metric_column(task, metric)] = (*names, *(short if is_own else ()))
    return found


def facts_of(column: str) -> tuple[str, Metric | None]:
    """Return the task and the metric of a column of any table, by this project's own tasks.

    A column that no single task claims stands for a task of its own.
    """
    task = next((task for task in DECLARED_TASKS if column.startswith(f"{task}_")), "")
    name = column.removeprefix(f"{task}_") if task else column
    name = METRIC_ALIASES.get(name, name)
    owners = [t for t, held in DECLARED_TASKS.items() if name in held.metric_names]
    if not owners:
        return task or column, None
    metric = DECLARED_TASKS[owners[0]].metric(name)
    return task or (owners[0] if len(owners) == 1 else column), metric


def parse_metrics(texts: Sequence[str]) -> tuple[dict[str, str], dict[str, DeclaredTask]]:
    """Read what `--metrics` is given: TASK=METRIC, or of a task of one's own TASK=METRIC:DIRECTION.

    `steering=mae:min:degrees,p95:min:degrees` declares two metrics, of which the first is shown on
    the task's axis; the unit may be left out.

    Returns:
        Task -> metric that judges it; task -> declaration, for tasks with directions.

    Raises:
        UsageError: for anything else.
    """
    chosen: dict[str, str] = {}
    declared: dict[str, DeclaredTask] = {}
    for text in texts:
        task, sign, names = text.partition("=")
        metrics = [name.split(":", 2) for name in names.split(",")]
        if not (sign and task and all(all(parts) for parts in metrics)):
            raise UsageError(
                f"Expected metrics as TASK=METRIC or TASK=METRIC:min:UNIT, from Python "
                f'{{"TASK": "METRIC:min:UNIT"}}, got {text!r}. Tasks of this project: '
                f"{', '.join(sorted(DECLARED_TASKS))}."
            )
        if task in chosen:
            raise UsageError(
                f"Expected one metric a task, got two for {task}. Name one, or several with their "
                f"directions: {task}=A:min,B:max."
            )
        chosen[task] = metrics[0][0]
        if len(metrics) > 1 or len(metrics[0]) > 1:
            declared[task] = DeclaredTask(
                metrics=tuple(_declared_metric(task, parts) for parts in metrics),
                plotted=metrics[0][0],
            )
    _check_directions(declared)
    return chosen, declared


def asked_metrics(
    metrics: Mapping[str, str | Metric | Sequence[Metric]],
) -> tuple[dict[str, str], dict[str, DeclaredTask]]:
    """Return the same of task -> text as `--metrics` has it, a metric, or several."""
    chosen, declared = parse_metrics([f"{t}={m}" for t, m in metrics.items() if isinstance(m, str)])
    for task, given in metrics.items():
        if not isinstance(given, str):
            held = (given,) if isinstance(given, Metric) else tuple(given)
            plotted = held[0].name if held else ""
            declared[task] = DeclaredTask(metrics=held, plotted=plotted)
            chosen[task] = plotted
    _check_directions(declared)
    return {t: chosen[t] for t in metrics}, {t: declared[t] for t in metrics if t in declared}


def refuse_declared(own: Declared) -> None:
    """Refuse declarations where runs bring their own."""
    for task in own:
        raise UsageError(
            f"Expected the name of a metric of {task}, got a declaration: the runs of a store say "
            "themselves what their metrics are."
        )


def _declared_metric(task: str, parts: Sequence[str]) -> Metric:
    name, direction, unit = (*parts, "", "")[:3]
    if direction not in ("min", "max"):
        raise UsageError(
            f"Expected a direction of {task}={name}, got {direction or 'none'}. Say {name}:min, or "
            f"{name}:max where higher is better, and the unit: {name}:min:degrees."
        )
    return Metric(name, unit or "value", "max" if direction == "max" else "min", 4)


def _check_directions(declared: Declared) -> None:
    """Refuse another direction for what this project measures."""
    for task in (task for task in declared if task in DECLARED_TASKS):
        known = {metric.name: metric.direction for metric in DECLARED_TASKS[task].metrics}
        for metric in declared[task].metrics:
            name = metric.name
            direction = known.get(METRIC_ALIASES.get(name, name), metric.direction)
            if direction != metric.direction:
                raise UsageError(
                    f"Expected {task}={name}:{direction}, as this project means {name} of {task}, "
                    f"got {name}:{metric.direction}. Rename the metric if it is another."
                )
