"""Which epoch of a run counts, by its validation metrics; the test split has no say."""

import math

from mtl.records import METRICS, PLOTTED_METRIC, TaskMetrics

SMALLEST_ERROR = 1e-12
"""Keeps the logarithm of a perfect task finite."""


def validation_error(metrics: TaskMetrics) -> float | None:
    """Return the geometric mean over the tasks of their errors, which knows no units.

    A task's error is its plotted metric where less is better, and 1 minus it where more is better
    (those are shares). None if no task could be measured.

    Args:
        metrics: of the validation split, task -> metric -> value.
    """
    errors = []
    for task, values in metrics.items():
        metric = METRICS[PLOTTED_METRIC[task]]
        value = values[metric.name]
        if value is not None:
            errors.append(value if metric.direction == "min" else 1 - value)
    if not errors:
        return None
    logs = [math.log(max(error, SMALLEST_ERROR)) for error in errors]
    return math.exp(sum(logs) / len(logs))


def is_better(metrics: TaskMetrics, best: TaskMetrics | None) -> bool:
    """Return whether an epoch's validation metrics beat those of the best epoch before it.

    Of equal epochs the earlier stays; where nothing can be measured, the later counts.
    """
    if best is None:
        return True
    error, least = validation_error(metrics), validation_error(best)
    if error is None or least is None:
        return True
    return error < least
