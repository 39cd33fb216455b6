"""A run's manifest: all that is worth knowing about a run and does not enter its identity."""

import hashlib
import importlib.metadata
import json
import platform
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtl.data.batches import MappedSplit
from mtl.data.manifest import data_info, read_manifest
from mtl.data.sample import DataInfo
from mtl.records import TASK_METRICS, SplitMetrics
from mtl.spec import RunSpec
from mtl.store import write_json
from mtl.store.code_version import code_version
from mtl.tasks import TASKS, Task


def environment() -> dict[str, str]:
    """Return the versions that numbers may depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy")}
    return {"python": platform.python_version(), **packages, "platform": platform.platform()}


def reset_peak_memory() -> None:
    """Start the measurement again, for a process that trained another run before."""
    with suppress(OSError):  # Linux alone can; elsewhere the peak is that of all runs so far
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int | None:
    """Return the most main memory that this process had of its own since `reset_peak_memory`.

    Mapped files (prepared data, libraries) do not count: processes share them, and the system
    takes them back when it needs the room. None where the system does not say.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kibibytes = {name: int(rest.split()[0]) for name, rest in _sizes(lines)}
    return (kibibytes["VmHWM"] - kibibytes["RssFile"]) * 1024


def _sizes(lines: list[str]) -> list[tuple[str, str]]:
    """Return name and value of the lines that hold a size, such as `VmHWM:  1024 kB`."""
    pairs = (line.partition(":") for line in lines if line.endswith("kB"))
    return [(name, rest) for name, _, rest in pairs]


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what the run was computed on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "cpu": platform.processor() or platform.machine(),
        "num_threads": torch.get_num_threads(),
    }


def weights_hash(network: nn.Module) -> str:
    """Return 16 hexadecimal digits of a hash of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def new_manifest(spec: RunSpec, folder: Path, device: torch.device) -> dict[str, Any]:
    """Return the manifest at the start of a run.

    Args:
        spec: the run.
        folder: its prepared data.
        device: where it is trained.
    """
    prepared = read_manifest(folder)
    return {
        "schema": 1,
        "code_version": code_version(),
        "environment": environment(),
        "hardware": hardware(device),
        "data": {
            "name": spec.data.name,
            # Of data from files alone, and not always.
            "label": prepared.get("label") or None,
            "folder_hash": prepared["folder_hash"],
            "info": asdict(data_info(folder)),
        },
        "per_pixel_prior": _prior_metrics(spec, folder),
    }


def _prior_metrics(spec: RunSpec, folder: Path) -> SplitMetrics:
    """Return the metrics of the per-pixel prior on validation and test.

    They belong to the data, not to the run, so they are kept beside the data once computed.
    """
    priors = {task: _prior_of_task(task, folder) for task in spec.tasks}
    return {
        split: {task: priors[task][split] for task in spec.tasks}
        for split in ("validation", "test")
    }


def _prior_of_task(task: str, folder: Path) -> dict[str, dict[str, float | None]]:
    path = folder / f"per_pixel_prior_{task}.json"
    if path.exists():
        held: dict[str, dict[str, float | None]] = json.loads(path.read_text("utf-8"))
        # An earlier release may have kept fewer metrics.
        if all(tuple(values) == TASK_METRICS[task] for values in held.values()):
            return held
    info = data_info(folder)
    labels = {
        split: MappedSplit(folder, split, (task,), measured_only=split != "train").labels(task)
        for split in ("train", "validation", "test")
    }
    metrics = {
        split: per_pixel_prior(TASKS[task], labels["train"], labels[split], info)
        for split in ("validation", "test")
    }
    # Shared data folders may be read-only; then every run computes its own.
    with suppress(OSError):
        write_json(path, metrics)
    return metrics


def per_pixel_prior(
    task: Task, train: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], info: DataInfo
) -> dict[str, float | None]:
    """Return the metrics, on another split, of the best prediction that ignores the image.

    Args:
        task: the task.
        train: (targets, valid) of the training split.
        other: (targets, valid) of the split to measure on.
        info: the data set.
    """
    prediction = task.prior(*train, info)
    metrics = task.metrics(info)
    targets, valid = other
    for target, mask in zip(targets.split(64), valid.split(64), strict=True):
        metrics.update(prediction.expand(len(mask), -1, -1, -1), target, mask)
    return metrics.compute()
