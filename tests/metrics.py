"""The metrics of this project's own tasks, by name and by task."""

from mtl.spec.tasks import DECLARED_TASKS

METRICS = {metric.name: metric for task in DECLARED_TASKS.values() for metric in task.metrics}
TASK_METRICS = {name: task.metric_names for name, task in DECLARED_TASKS.items()}
PLOTTED_METRIC = {name: task.plotted for name, task in DECLARED_TASKS.items()}
LOSS_METRIC = {name: task.loss_metric for name, task in DECLARED_TASKS.items()}
