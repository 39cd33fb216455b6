"""The epoch that a run must select, from the validation metrics of all its epochs."""

from collections.abc import Sequence

from mtl.records import TaskMetrics
from mtl.training.checkpoint import is_better


def selected_epoch(metrics: Sequence[TaskMetrics]) -> int:
    """Return the epoch, counted from 1, that no other epoch beats and that came first."""
    chosen = 0
    for index in range(1, len(metrics)):
        if is_better(metrics[index], metrics[chosen]):
            chosen = index
    return chosen + 1
