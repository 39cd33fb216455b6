"""What a run reports: metrics by name, epoch records and results; no torch.

Metrics are nested as `{split: {task: {metric: number or None}}}`; None means that the split held
nothing to measure it on. No NaN is ever written. What is read may come from an untrusted store:
every value's type is checked.
"""

import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mtl.errors import UsageError
from mtl.spec.tasks import DeclaredTask

RESULT_SCHEMA = 1
"""Version of `result.json` and of the lines of `epochs.jsonl`."""
PAUSED_AFTER = "paused_after"
"""Entry of the manifest of a run that was left on purpose: the epochs it has finished."""


TaskMetrics = dict[str, dict[str, float | None]]
"""task -> metric -> value."""
SplitMetrics = dict[str, TaskMetrics]
"""split -> task -> metric -> value."""


METRIC_ALIASES: dict[str, str] = {"acc": "pixel_accuracy", "delta30": "within_30"}
"""Names that papers print -> ours."""


@dataclass(frozen=True)
class EpochRecord:
    """One line of `epochs.jsonl`: what happened in one epoch; lists follow the task order."""

    epoch: int
    """1 for the first."""
    losses: list[float | None]
    """Mean training loss of each task over the epoch, regularisers included; None if absent."""
    weights: list[float | None] | None
    """Mean over the epoch's steps of the effective loss weights, None for a task absent all
    epoch; None where the method has no weights."""
    loss_scales: list[float | None] | None
    """Mean over the epoch's steps of weight x loss, with None as for the weights."""
    difficulties: list[float] | None
    """LSB's difficulties at the start of the epoch; None elsewhere and in its first periods."""
    learning_rate: float | None
    """At the last step of the epoch; None where one's own training does not say."""
    metrics: SplitMetrics
    """Validation metrics after the epoch."""
    seconds: float
    """Wall time of the epoch, evaluation included."""
    cross_stitch: list[list[float]] | None = None
    """Matrix that mixes the encoders' outputs after the epoch, row i for decoder i (equation (1)
    of the supplement); None for architectures without one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Any) -> "EpochRecord":
        """Build a record from what a line of `epochs.jsonl` holds.

        Raises:
            ValueError: for missing or unknown fields, or a value of a wrong type.
        """
        if not isinstance(values, dict):
            raise UsageError(f"Expected an epoch record, got {values!r:.100}.")
        names = set(cls.__dataclass_fields__)
        if not names - {"cross_stitch"} <= set(values) <= names:
            wrong = sorted(names.symmetric_difference(values) - {"cross_stitch"})
            raise UsageError(f"Expected the fields of an epoch record, not {', '.join(wrong)}.")
        record = cls(**values)
        _check("epoch", record.epoch, _is_count(record.epoch))
        for name in ("losses", "weights", "loss_scales", "difficulties"):
            held = values[name]
            _check(name, held, _is_vector(held) or (held is None and name != "losses"))
        _check("seconds", record.seconds, is_number(record.seconds))
        rate = record.learning_rate
        _check("learning_rate", rate, rate is None or is_number(rate))
        _check_metrics("metrics", record.metrics)
        rows = record.cross_stitch
        is_matrix = isinstance(rows, list) and all(map(_is_vector, rows))
        _check("cross_stitch", rows, is_matrix or rows is None)
        return record


@dataclass(frozen=True)
class Result:
    """`result.json`: its presence means that the run is done. It holds no times."""

    run_id: str
    status: Literal["done"]
    epochs: int
    selection: Literal["last", "validation"]
    """Rule by which the selected epoch was chosen; never by the test split."""
    selected_epoch: int
    selected_metrics: SplitMetrics
    final_metrics: SplitMetrics
    declared: Mapping[str, DeclaredTask] = field(default_factory=dict)
    """Task -> what its metrics are; empty in results of older releases, of built-in tasks alone."""
    schema: int = RESULT_SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        declared = {task: held.to_dict() for task, held in self.declared.items()}
        return {**vars(self), "declared": declared}

    @classmethod
    def from_dict(cls, values: Any) -> "Result":
        """Build a result from what `result.json` holds.

        Raises:
            ValueError: for another schema, missing fields or a value of a wrong type.
        """
        schema = values.get("schema") if isinstance(values, dict) else None
        if schema != RESULT_SCHEMA:
            raise UsageError(
                f"Expected a result of schema {RESULT_SCHEMA}, got {schema!r}. "
                "Read it with the release that wrote it."
            )
        missing = sorted(set(cls.__dataclass_fields__) - set(values) - {"declared"})
        if missing:
            raise UsageError(f"Expected a complete result, got one without {', '.join(missing)}.")
        declared = values.get("declared", {})
        _check("declared", declared, isinstance(declared, dict))
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        tasks = {task: _declaration(json.dumps(held)) for task, held in declared.items()}
        result = cls(**{**fields, "declared": tasks})
        _check("run_id", result.run_id, isinstance(result.run_id, str))
        _check("status", result.status, result.status == "done")
        _check("epochs", result.epochs, _is_count(result.epochs))
        _check("selection", result.selection, result.selection in ("last", "validation"))
        last = result.selected_epoch
        _check("selected_epoch", last, _is_count(last) and last <= result.epochs)
        for name in ("selected_metrics", "final_metrics"):
            _check_metrics(name, values[name])
        return result


@functools.lru_cache(maxsize=1000)  # a report reads thousands of results with the same tasks
def _declaration(text: str) -> DeclaredTask:
    return DeclaredTask.from_dict(json.loads(text))


def _check(name: str, value: Any, is_right: bool) -> None:
    if not is_right:
        raise UsageError(f"Expected another {name}, got {value!r:.100}.")


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number; true and false are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_vector(values: Any) -> bool:
    return isinstance(values, list) and all(v is None or is_number(v) for v in values)


def _check_metrics(name: str, held: Any) -> None:
    _check(name, held, isinstance(held, Mapping))
    for split, by_task in held.items():
        _check(f"{name} of {split}", by_task, isinstance(by_task, Mapping))
        for task, values in by_task.items():
            _check(f"{name} of {split} {task}", values, isinstance(values, Mapping))
            for metric, value in values.items():
                is_right = value is None or is_number(value)
                _check(f"{name} of {split} {task} {metric}", value, is_right)


CHECKPOINT_SCHEMA = 2
WEIGHTS_SCHEMA = 1
LATEST = "latest.pt"
WEIGHTS = "weights.pt"
