"""Checkpoints: all that a run needs to go on as if it had never stopped, written atomically.

Random streams are functions of (seed, epoch), so no generator is stored. Files are read with
`weights_only=True`: an untrusted checkpoint can hold tensors and plain values, nothing else.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from mtl.errors import StoreError
from mtl.records import (
    CHECKPOINT_SCHEMA,
    LATEST,
    WEIGHTS,
    WEIGHTS_SCHEMA,
    TaskMetrics,
)
from mtl.spec.tasks import declared_task
from mtl.store import Store

Keep = Literal["none", "final", "all"]
"""What stays of a finished run's checkpoints: nothing, the weights, or every epoch's."""


Trained = Mapping[str, Any]
"""`network`, `weighting` and `optimizer`: what changes while a run is trained."""


@dataclass(frozen=True)
class Selected:
    """The best epoch so far, for runs that are selected on validation."""

    epoch: int
    metrics: TaskMetrics
    """Of the validation split."""
    network: dict[str, torch.Tensor]
    """Its weights: the `state_dict` of the network after that epoch, on the CPU."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    epoch: int = 0
    """Epochs finished."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Clocks that go on after a resume."""
    selected: Selected | None = None


def _to_bytes(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _from_bytes(
    data: bytes, place: str, device: torch.device, schema: int, remedy: str
) -> dict[str, Any]:
    try:
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise StoreError(
            f"Expected a checkpoint in {place}, got a damaged file ({type(error).__name__}). "
            f"{remedy}"
        ) from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise StoreError(
            f"Expected a checkpoint of schema {schema} in {place}, got another. "
            "Use the release that wrote it, or remove the file."
        )
    return content


def save_checkpoint(
    store: Store, run_id: str, progress: Progress, trained: Trained, keep: Keep
) -> None:
    """Write the state after an epoch; `keep` "all" keeps that of every epoch beside the latest."""
    content = {
        "schema": CHECKPOINT_SCHEMA,
        "run_id": run_id,  # a checkpoint that was copied to another run is refused
        "epoch": progress.epoch,
        "seconds": progress.seconds,
        "selected": None if progress.selected is None else vars(progress.selected),
        **{name: part.state_dict() for name, part in trained.items()},
    }
    data = _to_bytes(content)
    if keep == "all":
        store.write(_key(store, run_id, f"epoch_{progress.epoch:05d}.pt"), data)
    store.write_large(_key(store, run_id, LATEST), data)


def _key(store: Store, run_id: str, name: str) -> str:
    return store.run_key(run_id, "checkpoint", name)


def load_checkpoint(store: Store, run_id: str, trained: Trained, device: torch.device) -> Progress:
    """Bring `trained` to the state of the latest checkpoint, if there is one; return how far it is.

    Raises:
        StoreError: if the checkpoint is damaged, of another schema or of another run.
    """
    key = _key(store, run_id, LATEST)
    try:
        data = store.read_large(key)
    except FileNotFoundError:
        return Progress()
    remedy = "Remove the file to train the run from its first epoch."
    content = _from_bytes(data, store.place(key), device, CHECKPOINT_SCHEMA, remedy)
    if content["run_id"] != run_id:
        raise StoreError(
            f"Expected the checkpoint of run {run_id} in {store.place(key)}, got that of "
            f"{content['run_id']}. Remove the file."
        )
    for name, part in trained.items():
        part.load_state_dict(content[name])
    held = content["selected"]
    selected = None if held is None else Selected(**held)
    return Progress(content["epoch"], content["seconds"], selected)


def save_weights(store: Store, run_id: str, network: nn.Module, keep: Keep) -> None:
    """Write the weights of a finished run unless nothing is to be kept."""
    if keep != "none":
        content = {"schema": WEIGHTS_SCHEMA, "run_id": run_id, "network": network.state_dict()}
        store.write(_key(store, run_id, WEIGHTS), _to_bytes(content))


def tidy_checkpoints(store: Store, run_id: str, keep: Keep) -> None:
    """Remove of a finished run's checkpoints what `keep` does not ask for."""
    if keep == "none":
        store.remove(store.run_key(run_id, "checkpoint"))
    elif keep == "final":
        store.remove_large(_key(store, run_id, LATEST))


def load_weights(store: Store, run_id: str, network: nn.Module) -> None:
    """Load the weights of a finished run into `network`.

    Raises:
        StoreError: if they were not kept or are damaged.
    """
    key = _key(store, run_id, WEIGHTS)
    # A run that is done is never trained again, whatever becomes of its weights.
    remedy = (
        f"Remove the run (python -m mtl.store remove {store.place('')} --run {run_id}) and ask for "
        "it again with --keep final."
    )
    try:
        data = store.read(key)
    except FileNotFoundError as error:
        raise StoreError(
            f"Expected the weights of a finished run in {store.place(key)}, got no file. {remedy}"
        ) from error
    content = _from_bytes(data, store.place(key), torch.device("cpu"), WEIGHTS_SCHEMA, remedy)
    network.load_state_dict(content["network"])


SMALLEST_ERROR = 1e-12
"""Keeps the logarithm of a perfect task finite."""


def validation_error(metrics: TaskMetrics) -> float | None:
    """Return the geometric mean over the tasks of their errors, which knows no units.

    A task's error is its plotted metric where less is better, and where more is better what is
    missing to the highest value (1 of a share), or its reciprocal if there is no highest. None if
    no task could be measured.
    """
    errors = []
    for task, values in metrics.items():
        declared = declared_task(task)
        metric = declared.metric(declared.plotted)
        value = values[metric.name]
        if value is not None:
            if metric.direction == "min":
                errors.append(value)
            elif metric.high is not None:
                errors.append(metric.high - value)
            else:
                errors.append(1 / max(value, SMALLEST_ERROR))
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
