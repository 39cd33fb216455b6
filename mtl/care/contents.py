"""What the JSON files of a run must hold, value by value."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mtl.care.files import UnreadableError, is_number, parse_json, read_lines, read_object
from mtl.care.listing import read_result
from mtl.records import TASK_METRICS, EpochRecord, Result
from mtl.spec import RunSpec


def checked_result(folder: Path, spec: RunSpec) -> Result | None:
    """Return the result after a look at every value of it, None while there is none.

    Raises:
        UnreadableError: for the first value that its spec does not allow.
    """
    result = read_result(folder)
    if result is None:
        return None
    for name, found, expected in (
        ("status", result.status, "done"),
        ("epochs", result.epochs, spec.epochs),
        ("selection", result.selection, spec.selection),
    ):
        if found != expected or isinstance(found, bool):
            raise UnreadableError(f"has {name} {found!r}, its spec says {expected!r}")
    last = result.selected_epoch
    if not is_count(last) or not 1 <= last <= spec.epochs:
        raise UnreadableError(f"has selected_epoch {last!r} of {spec.epochs}")
    if spec.selection == "last" and last != spec.epochs:
        raise UnreadableError(f"has selected_epoch {last!r}, its spec says the last")
    for name in ("selected_metrics", "final_metrics"):
        _check_metrics(getattr(result, name), ("validation", "test"), spec, name)
    return result


def _check_metrics(held: Any, splits: Sequence[str], spec: RunSpec, name: str) -> None:
    if not isinstance(held, dict) or set(held) != set(splits):
        raise UnreadableError(f"has {name} without the splits {' and '.join(splits)}")
    for split, by_task in held.items():
        if not isinstance(by_task, dict) or set(by_task) != set(spec.tasks):
            raise UnreadableError(f"has {name}.{split} without the tasks {' '.join(spec.tasks)}")
        for task, values in by_task.items():
            if not isinstance(values, dict):
                raise UnreadableError(f"has {name}.{split}.{task} {values!r}")
            for metric, value in values.items():
                if metric not in TASK_METRICS[task] or not (value is None or is_number(value)):
                    raise UnreadableError(f"has {name}.{split}.{task}.{metric} {value!r}")


def checked_epochs(folder: Path, spec: RunSpec, is_done: bool) -> list[EpochRecord]:
    """Return the epoch records, which must be complete and in order.

    Raises:
        UnreadableError: for the first line that is not the next epoch.
    """
    records = []
    names = {field.name for field in fields(EpochRecord)}
    for number, line in enumerate(read_lines(folder / "epochs.jsonl"), 1):
        held = parse_json(line)
        if not isinstance(held, dict) or not names - {"cross_stitch"} <= set(held) <= names:
            raise UnreadableError(f"has no epoch record in line {number}")
        record = EpochRecord(**held)
        if not is_count(record.epoch) or record.epoch != number:
            raise UnreadableError(f"has epoch {record.epoch!r} in line {number}")
        for name in ("losses", "weights", "loss_scales", "difficulties"):
            values = held[name]
            if not (is_vector(values, len(spec.tasks)) or (values is None and name != "losses")):
                raise UnreadableError(f"has {name} {values!r} in line {number}")
        if not (is_number(record.learning_rate) and is_number(record.seconds)):
            raise UnreadableError(f"has no learning_rate or seconds in line {number}")
        _check_metrics(record.metrics, ("validation",), spec, f"line {number}: metrics")
        records.append(record)
    if len(records) > spec.epochs or (is_done and len(records) < spec.epochs):
        raise UnreadableError(f"has {len(records)} epochs of {spec.epochs}")
    return records


def check_agreement(result: Result, records: Sequence[EpochRecord]) -> None:
    """Raise an `UnreadableError` unless the result says what the epochs say."""
    for name, epoch, metrics in (
        ("final_metrics", len(records), result.final_metrics),
        ("selected_metrics", result.selected_epoch, result.selected_metrics),
    ):
        if metrics["validation"] != records[epoch - 1].metrics["validation"]:
            raise UnreadableError(f"has other {name} on validation than epoch {epoch} of its own")


def check_manifest(path: Path, is_done: bool) -> None:
    """Raise an `UnreadableError` for the first thing that a manifest lacks."""
    held = read_object(path)
    if held.get("schema") != 1:
        raise UnreadableError(f"is of schema {held.get('schema')!r}, not 1")
    for name in ("environment", "hardware", "data", "per_pixel_prior"):
        if not isinstance(held.get(name), dict):
            raise UnreadableError(f"holds no {name}")
    if not isinstance(held.get("code_version"), str):
        raise UnreadableError("holds no code_version")
    info = held["data"].get("info")
    if not isinstance(info, dict) or not isinstance(info.get("classes"), list):
        raise UnreadableError("holds no classes of its data")
    seconds = held.get("wall_seconds")
    if is_done and (seconds is None or not is_number(seconds) or seconds <= 0):
        raise UnreadableError(f"has wall_seconds {seconds!r}")


def is_count(value: Any) -> bool:
    """Return whether a JSON value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_vector(values: Any, length: int) -> bool:
    """Return whether a JSON value is a list of so many numbers, or null where there is none."""
    return (
        isinstance(values, list)
        and len(values) == length
        and all(value is None or is_number(value) for value in values)
    )
