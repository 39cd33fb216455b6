"""Curves of losses, weights and loss scales over the epochs, with their spread over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.load.axes import TIMES
from mtl.errors import UsageError
from mtl.records import EpochRecord

QUANTITIES: dict[str, str] = {
    "loss_scales": f"loss scale (weight {TIMES} task loss)",
    "weights": "loss weight",
    "losses": "task loss on the training split",
    "difficulties": "difficulty",
}
"""Field of an epoch record -> what it is, in words."""
LARGEST = 1e100
"""No loss or weight of a training that means anything is larger; sums of these stay finite."""
SETTLED_FACTOR = 1.5
"""Loss scales within this factor of each other count as balanced."""


@dataclass(frozen=True)
class Curve:
    """One quantity of one task over the epochs, over the seeds of a method."""

    task: str
    epochs: tuple[int, ...]
    """Rising; epochs without a value in any seed are left out."""
    means: tuple[float, ...]
    lows: tuple[float, ...]
    """Smallest value of a seed."""
    highs: tuple[float, ...]
    counts: tuple[int, ...]
    """Seeds behind each mean."""


@dataclass(frozen=True)
class ScaleSpread:
    """Largest over smallest loss scale of the tasks; 1 where they are all alike."""

    epochs: tuple[int, ...]
    """The last epoch of each seed."""
    ratios: tuple[float, ...]
    """In that epoch, one a seed."""
    settled: tuple[int | None, ...]
    """One a seed: the epoch from which on the ratio stays within `SETTLED_FACTOR`; None where it
    does not at the end."""

    @property
    def median(self) -> float:
        """Return the median over seeds of the ratio at the end."""
        return float(np.median(self.ratios))


@dataclass(frozen=True)
class MethodTrends:
    """Curves of one method at one setting."""

    seeds: tuple[int, ...]
    curves: Mapping[str, tuple[Curve, ...]]
    """Quantity -> one curve a task; without the quantities that the method does not have."""
    spread: ScaleSpread | None
    """None for a single task, or where some scale at the end is absent or not positive."""


def check_records(records: Sequence[EpochRecord], num_tasks: int) -> None:
    """Check what a file of unknown origin holds.

    Raises:
        ValueError: unless epochs rise from 1 on and every list holds one number up to `LARGEST` or
            None a task.
    """
    last = 0
    for place, record in enumerate(records, start=1):
        epoch: Any = record.epoch
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch <= last:
            raise UsageError(f"record {place} is of epoch {epoch!r}, after epoch {last}")
        last = epoch
        for name in QUANTITIES:
            values = getattr(record, name)
            if values is None and name != "losses":
                continue
            if not isinstance(values, list) or len(values) != num_tasks:
                raise UsageError(f"record {place} does not hold {num_tasks} {name}")
            if not all(value is None or _is_number(value) for value in values):
                raise UsageError(
                    f"record {place} holds {name} that are no numbers up to {LARGEST:g}"
                )


def _is_number(value: Any) -> bool:
    # NaN is not below anything.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def trends(
    records_of_seeds: Mapping[int, Sequence[EpochRecord]], tasks: Sequence[str]
) -> MethodTrends:
    """Return the curves of one method at one setting.

    Args:
        records_of_seeds: seed -> its checked epoch records, at least one each.
        tasks: in the order of the records' lists.
    """
    epochs = sorted({r.epoch for records in records_of_seeds.values() for r in records})
    curves = {}
    for name in QUANTITIES:
        values = _table(records_of_seeds, name, epochs, len(tasks))
        if not np.isnan(values).all():
            curves[name] = tuple(
                _curve(task, epochs, values[:, :, i]) for i, task in enumerate(tasks)
            )
    return MethodTrends(tuple(records_of_seeds), curves, _spread(records_of_seeds))


def _table(
    records_of_seeds: Mapping[int, Sequence[EpochRecord]],
    name: str,
    epochs: Sequence[int],
    num_tasks: int,
) -> np.ndarray:
    """Return the values (seeds, epochs, tasks) with NaN where there is none."""
    places = {epoch: place for place, epoch in enumerate(epochs)}
    table = np.full((len(records_of_seeds), len(epochs), num_tasks), np.nan)
    for seed, records in enumerate(records_of_seeds.values()):
        for record in records:
            held = getattr(record, name)
            if held is not None:
                table[seed, places[record.epoch]] = [np.nan if v is None else v for v in held]
    return table


def _curve(task: str, epochs: Sequence[int], values: np.ndarray) -> Curve:
    """Return the curve of `values` (seeds, epochs)."""
    counts = (~np.isnan(values)).sum(axis=0)
    held = counts > 0
    kept = values[:, held]
    return Curve(
        task=task,
        epochs=tuple(np.asarray(epochs)[held].tolist()),
        means=tuple(np.nanmean(kept, axis=0).tolist()),
        lows=tuple(np.nanmin(kept, axis=0, initial=np.inf).tolist()),
        highs=tuple(np.nanmax(kept, axis=0, initial=-np.inf).tolist()),
        counts=tuple(counts[held].tolist()),
    )


def _spread(records_of_seeds: Mapping[int, Sequence[EpochRecord]]) -> ScaleSpread | None:
    ratios, settled = [], []
    for records in records_of_seeds.values():
        of_epochs = [_ratio(record.loss_scales) for record in records]
        last = of_epochs[-1]
        if last is None:
            return None
        ratios.append(last)
        outside = [
            i for i, ratio in enumerate(of_epochs) if ratio is None or ratio > SETTLED_FACTOR
        ]
        start = outside[-1] + 1 if outside else 0
        settled.append(records[start].epoch if start < len(records) else None)
    last_epochs = tuple(records[-1].epoch for records in records_of_seeds.values())
    return ScaleSpread(last_epochs, tuple(ratios), tuple(settled))


def _ratio(scales: Sequence[float | None] | None) -> float | None:
    """Return the largest over the smallest; None for a single task or no positive numbers."""
    held = [scale for scale in scales or () if scale is not None and scale > 1 / LARGEST]
    if len(held) < 2 or len(held) < len(scales or ()):
        return None
    return max(held) / min(held)
