"""Curves of losses, weights and loss scales over the epochs, with their spread over seeds."""

from collections.abc import Mapping, Sequence

import pandas as pd

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
EQUAL_FACTOR = 2.0
"""Loss scales count as equal while the largest is at most this many times the smallest."""
MAX_VALUE = 1e100
"""No loss or weight that means anything is larger; sums of these stay finite."""


def check_records(records: Sequence[EpochRecord], num_tasks: int) -> None:
    """Check what an untrusted file holds, beyond what `EpochRecord.from_dict` does.

    A `UsageError` unless epochs rise and every list holds a value up to `MAX_VALUE` or None a task.
    """
    last = 0
    for record in records:
        if record.epoch <= last:
            raise UsageError(f"a record of epoch {record.epoch} comes after epoch {last}")
        last = record.epoch
        for name in QUANTITIES:
            values = getattr(record, name)
            if values is not None and len(values) != num_tasks:
                raise UsageError(f"epoch {last} does not hold {num_tasks} {name}")
            if any(value is not None and abs(value) > MAX_VALUE for value in values or ()):
                raise UsageError(f"epoch {last} holds {name} above {MAX_VALUE:g}")


def curves(
    records_of_seeds: Mapping[int, Sequence[EpochRecord]], tasks: Sequence[str]
) -> pd.DataFrame:
    """Return the curves of one method at one setting over the epochs.

    `records_of_seeds` is seed -> its checked records, `tasks` the order of their lists. One row for
    a quantity of `QUANTITIES`, task and epoch with a value in any seed, in this order: `quantity`,
    `task`, `epoch`, `mean`, `lowest` and `highest` over the seeds, and `num_seeds`, those with a
    value.
    """
    rows = [
        (name, task, record.epoch, value)
        for records in records_of_seeds.values()
        for record in records
        for name in QUANTITIES
        for task, value in zip(tasks, getattr(record, name) or (), strict=False)
        if value is not None
    ]
    frame = pd.DataFrame(rows, columns=["quantity", "task", "epoch", "value"])
    order = {"quantity": pd.CategoricalDtype([*QUANTITIES]), "task": pd.CategoricalDtype([*tasks])}
    frame = frame.astype(order)
    values = frame.groupby(["quantity", "task", "epoch"], observed=True)["value"]
    found = values.agg(mean="mean", lowest="min", highest="max", num_seeds="count").reset_index()
    return found.astype({"quantity": str, "task": str})


def end_ratios(records_of_seeds: Mapping[int, Sequence[EpochRecord]]) -> tuple[float, ...]:
    """Return the largest over the smallest loss scale in each seed's last epoch, 1 if all agree.

    Empty for a single task, or where some scale is absent or not positive.
    """
    ratios = [_ratio(records[-1]) for records in records_of_seeds.values()]
    return tuple(r for r in ratios if r is not None) if None not in ratios else ()


def equal_from(records: Sequence[EpochRecord]) -> int | None:
    """Return the epoch from which on the loss scales stay within `EQUAL_FACTOR`; None if never."""
    first = None
    for record in reversed(records):
        ratio = _ratio(record)
        if ratio is None or ratio > EQUAL_FACTOR:
            break
        first = record.epoch
    return first


def _ratio(record: EpochRecord) -> float | None:
    """Return the largest over the smallest loss scale; None unless all of several are above 0."""
    scales = record.loss_scales or []
    held = [scale for scale in scales if scale is not None and scale > 1 / MAX_VALUE]
    return max(held) / min(held) if len(held) > 1 and len(held) == len(scales) else None
