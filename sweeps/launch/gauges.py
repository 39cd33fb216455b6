"""A run's numbers as gauges that Ray exports to its dashboard's Prometheus and Grafana.

Ray puts `ray_` before each name and tells the node of each worker. A gauge holds the last epoch;
it is gone a while after the run's process is, and the store alone keeps the history.
"""

import functools

from ray.util.metrics import Gauge

from mtl.records import EpochRecord
from mtl.spec import RunSpec

RUN_TAGS = ("run", "method", "task")
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "mtl_epoch": ("Epochs that the run has finished.", ("run", "method")),
    "mtl_epochs_planned": ("Epochs that the run will have.", ("run", "method")),
    "mtl_loss": ("Mean training loss of the task over the epoch.", RUN_TAGS),
    "mtl_weight": ("Mean effective loss weight of the task over the epoch.", RUN_TAGS),
    "mtl_loss_scale": ("Mean weight x loss of the task over the epoch.", RUN_TAGS),
    "mtl_metric": ("Validation metric after the epoch.", (*RUN_TAGS, "metric")),
}
"""Name -> what it says and its tags."""


@functools.cache
def _gauge(name: str) -> Gauge:
    text, tags = GAUGES[name]
    return Gauge(name, description=text, tag_keys=tags)


def values_of(spec: RunSpec, record: EpochRecord) -> list[tuple[str, dict[str, str], float]]:
    """Return gauge, tags and value of everything that an epoch's record says; what is None is not.

    Args:
        spec: the run.
        record: its newest epoch.
    """
    run = {"run": spec.run_id(), "method": spec.method}
    values: list[tuple[str, dict[str, str], float]] = [
        ("mtl_epoch", run, float(record.epoch)),
        ("mtl_epochs_planned", run, float(spec.epochs)),
    ]
    for name, of_tasks in (
        ("mtl_loss", record.losses),
        ("mtl_weight", record.weights),
        ("mtl_loss_scale", record.loss_scales),
    ):
        values += [
            (name, {**run, "task": task}, value)
            for task, value in zip(spec.tasks, of_tasks or (), strict=False)
            if value is not None
        ]
    for task, metrics in record.metrics.get("validation", {}).items():
        values += [
            ("mtl_metric", {**run, "task": task, "metric": name}, value)
            for name, value in metrics.items()
            if value is not None
        ]
    return values


def publish(spec: RunSpec, record: EpochRecord) -> None:
    """Set the gauges of this worker process to what an epoch's record says."""
    for name, tags, value in values_of(spec, record):
        _gauge(name).set(value, tags=tags)
