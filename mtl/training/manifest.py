"""A run's manifest: all that is worth knowing about a run and does not enter its identity."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtl.data.batches import MappedSplit
from mtl.data.manifest import data_info, read_manifest
from mtl.data.sample import DataInfo
from mtl.records import TaskMetrics
from mtl.spec import SPLITS, RunSpec
from mtl.spec.code import is_reference
from mtl.store import write_json
from mtl.store.code_version import code_version
from mtl.store.store import MANIFEST_SCHEMA
from mtl.tasks import Task, derivations, task_of
from mtl.training.evaluation import memory_format


def reset_peak_memory() -> None:
    """Start the measurement again, for a process that trained another run before."""
    with suppress(OSError):  # Linux alone can; elsewhere the peak is that of all runs so far
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes() -> int | None:
    """Return the most main memory that this process had of its own since `reset_peak_memory`.

    Mapped files (prepared data, libraries) do not count: processes share them, and the system
    takes them back when it needs the room. None where the system does not say.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    pairs = (line.split(":") for line in lines if line.endswith("kB"))  # VmHWM:  1024 kB
    kibibytes = {name: int(rest.split()[0]) for name, rest in pairs}
    return (kibibytes["VmHWM"] - kibibytes["RssFile"]) * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Return the most of a GPU's memory that tensors took since then; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def weights_hash(network: nn.Module) -> str:
    """Return 16 hexadecimal digits of a hash of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def network_size(network: nn.Module, spec: RunSpec, device: torch.device) -> dict[str, int]:
    """Return the number of a network's parameters and the operations of one image's forward pass.

    Convolutions and matrix products count, a multiply-add as two. The network is left in training
    mode, with nothing of it changed.
    """
    shape = (1, 3, spec.data.height, spec.data.width)
    image = torch.zeros(shape, device=device).contiguous(memory_format=memory_format(spec))
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train()
    return {
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "forward_flops": counter.get_total_flops(),
    }


def new_manifest(spec: RunSpec, folder: Path, device: torch.device) -> dict[str, Any]:
    """Return the manifest of a run that starts on `device` from the prepared data in `folder`."""
    prepared = read_manifest(folder)
    packages = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy")}
    baselines = {task: _baseline_of_task(task, folder) for task in spec.tasks}
    return {
        "schema": MANIFEST_SCHEMA,
        "code_version": code_version(),
        "environment": {
            "python": platform.python_version(),
            **packages,
            "platform": platform.platform(),
        },
        "hardware": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            **({"driver": gpu_driver()} if device.type == "cuda" else {}),
            "cpu": platform.processor() or platform.machine(),
            # Other instructions sum in another order, so that trainings differ.
            "cpu_instructions": torch.backends.cpu.get_cpu_capability(),
            "num_threads": torch.get_num_threads(),
            "niceness": os.nice(0),
        },
        "execution": execution(spec, device),
        "data": {
            "name": spec.data.name,
            # Of data from files alone, and not always.
            "label": prepared.get("label") or None,
            "folder_hash": prepared["folder_hash"],
            "info": asdict(data_info(folder)),
        },
        # The image-independent baseline, by its first name.
        "per_pixel_prior": {
            split: {task: baselines[task][split] for task in spec.tasks}
            for split in ("validation", "test")
        },
    }


def execution(spec: RunSpec, device: torch.device) -> dict[str, Any]:
    """Return how numbers are computed on `device`: the precision, and on a GPU what cuDNN may do.

    `float32_convolutions` and `float32_products` are `ieee` (also said as `none`) or `tf32`, whose
    products have 10 bits of mantissa: what float32 means where the network computes in it.
    """
    held: dict[str, Any] = {"precision": spec.precision}
    if device.type == "cuda":
        held |= {
            "float32_convolutions": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
            "float32_products": torch.backends.cuda.matmul.fp32_precision,
            "cudnn": {
                "version": torch.backends.cudnn.version(),
                "benchmark": torch.backends.cudnn.benchmark,
                "deterministic": torch.backends.cudnn.deterministic,
            },
        }
    return held


DRIVER_FILE = Path("/proc/driver/nvidia/version")


def gpu_driver() -> str | None:
    """Return the version of NVIDIA's kernel driver, or None where the system does not say."""
    try:
        found = re.search(r"Kernel Module.*?(\d+(?:\.\d+)+)", DRIVER_FILE.read_text())
    except OSError:
        return None
    return found and found[1]


def _baseline_of_task(task: str, folder: Path) -> TaskMetrics:
    """Return the baseline's metrics by split, kept beside the data that they belong to."""
    path = folder / f"per_pixel_prior_{task}.json"
    if path.exists() and not is_reference(task):
        held: TaskMetrics = json.loads(path.read_text("utf-8"))
        # An earlier release may have kept fewer metrics.
        if all(tuple(values) == task_of(task).declared.metric_names for values in held.values()):
            return held
    info = data_info(folder)
    labels = {
        split: MappedSplit(
            folder, split, (task,), measured_only=split != "train", derived=derivations([task])
        ).labels(task)
        for split in SPLITS
    }
    metrics = {
        split: baseline_metrics(task_of(task), labels["train"], labels[split], info)
        for split in ("validation", "test")
    }
    # Shared data folders may be read-only; then every run computes its own. So it does of a task
    # from outside, whose code may change.
    if not is_reference(task):
        with suppress(OSError):
            write_json(path, metrics)
    return metrics


def baseline_metrics(
    task: Task, train: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], info: DataInfo
) -> dict[str, float | None]:
    """Return a task's metrics of the best prediction that ignores the image.

    It is made from (targets, valid) of the training split, `train`, and measured on `other`.
    """
    prediction = task.prior(*train, info)
    metrics = task.metrics(info)
    targets, valid = other
    for target, mask in zip(targets.split(64), valid.split(64), strict=True):
        metrics.update(prediction.expand(len(mask), *prediction.shape[1:]), target, mask)
    return metrics.compute()
