"""Checkpoints: all that a run needs to go on as if it had never stopped, written atomically.

Random streams are functions of (seed, epoch), so no generator is stored. Files are read with
`weights_only=True`: a checkpoint from a stranger can hold tensors and plain values, nothing else.
"""

import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mtl.records import TaskMetrics
from mtl.store import StoreError, write_atomically
from mtl.weighting import Weighting

CHECKPOINT_SCHEMA = 2
WEIGHTS_SCHEMA = 1
LATEST = "latest.pt"
WEIGHTS = "weights.pt"

Keep = Literal["none", "final", "all"]
"""What stays of a finished run's checkpoints: nothing, the weights, or every epoch's."""


@dataclass(frozen=True)
class Trainee:
    """What changes while a run is trained."""

    network: nn.Module
    weighting: Weighting
    optimizer: torch.optim.Optimizer


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


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def _read(path: Path, device: torch.device, schema: int) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise StoreError(
            f"Expected a checkpoint in {path}, got a damaged file ({type(error).__name__}). "
            "Remove the file to train the run from its first epoch."
        ) from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise StoreError(
            f"Expected a checkpoint of schema {schema} in {path}, got another. "
            "Use the release that wrote it, or remove the file."
        )
    return content


def save_checkpoint(
    folder: Path, run_id: str, progress: Progress, trainee: Trainee, keep: Keep
) -> None:
    """Write the state after an epoch.

    Args:
        folder: the run's checkpoint folder.
        run_id: stored, so that a checkpoint copied to another run is refused.
        progress: epochs finished, clocks, and the best epoch so far where that matters.
        trainee: network, weighting and optimizer.
        keep: `all` keeps the checkpoint of every epoch beside the latest.
    """
    content = {
        "schema": CHECKPOINT_SCHEMA,
        "run_id": run_id,
        "epoch": progress.epoch,
        "seconds": progress.seconds,
        "selected": None if progress.selected is None else vars(progress.selected),
        "network": trainee.network.state_dict(),
        "weighting": trainee.weighting.state_dict(),
        "optimizer": trainee.optimizer.state_dict(),
    }
    if keep == "all":
        _write(folder / f"epoch_{progress.epoch:05d}.pt", content)
    _write(folder / LATEST, content)


def load_checkpoint(folder: Path, run_id: str, trainee: Trainee, device: torch.device) -> Progress:
    """Bring `trainee` to the state of the latest checkpoint, if there is one.

    Returns:
        How far the run is: nothing finished without a checkpoint.

    Raises:
        StoreError: if the checkpoint is damaged, of another schema or of another run.
    """
    path = folder / LATEST
    if not path.exists():
        return Progress()
    content = _read(path, device, CHECKPOINT_SCHEMA)
    if content["run_id"] != run_id:
        raise StoreError(
            f"Expected the checkpoint of run {run_id} in {path}, got that of "
            f"{content['run_id']}. Remove the file."
        )
    trainee.network.load_state_dict(content["network"])
    trainee.weighting.load_state_dict(content["weighting"])
    trainee.optimizer.load_state_dict(content["optimizer"])
    held = content["selected"]
    selected = None if held is None else Selected(**held)
    return Progress(content["epoch"], content["seconds"], selected)


def save_weights(folder: Path, run_id: str, network: nn.Module, keep: Keep) -> None:
    """Write the weights of a finished run unless nothing is to be kept."""
    if keep != "none":
        content = {
            "schema": WEIGHTS_SCHEMA,
            "run_id": run_id,
            "network": network.state_dict(),
        }
        _write(folder / WEIGHTS, content)


def tidy_checkpoints(folder: Path, keep: Keep) -> None:
    """Remove of a finished run's checkpoints what `keep` does not ask for."""
    if keep == "none":
        shutil.rmtree(folder, ignore_errors=True)
    elif keep == "final":
        (folder / LATEST).unlink(missing_ok=True)


def load_weights(folder: Path, network: nn.Module) -> None:
    """Load the weights of a finished run into `network`.

    Raises:
        StoreError: if they were not kept or are damaged.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise StoreError(
            f"Expected the weights of a finished run in {path}, got no file. "
            "Train the run with --keep final."
        )
    network.load_state_dict(_read(path, torch.device("cpu"), WEIGHTS_SCHEMA)["network"])
