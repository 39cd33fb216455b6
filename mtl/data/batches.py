"""Batches from prepared data: order and flips are functions of (seed, epoch)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.data.manifest import check_tasks
from mtl.streams import numpy_stream


@dataclass(frozen=True)
class Batch:
    """Images with targets and masks, on the training device.

    targets: task -> (batch, channels, height, width) float32, or (batch, height, width) int64
    for classes. valid: task -> (batch, height, width) bool. Targets of the image as a whole are
    without height and width.
    """

    images: Float[Tensor, "batch 3 height width"]
    """Values in [0, 1]."""
    targets: dict[str, Tensor]
    valid: dict[str, Bool[Tensor, "batch ..."]]

    def parts(self, num_parts: int) -> "list[Batch]":
        """Return the batch in `num_parts` consecutive parts of nearly equal size, none empty."""
        num_images = len(self.images)
        edges = np.linspace(0, num_images, min(num_parts, num_images) + 1).round().astype(int)
        return [
            Batch(
                self.images[start:stop],
                {task: target[start:stop] for task, target in self.targets.items()},
                {task: mask[start:stop] for task, mask in self.valid.items()},
            )
            for start, stop in zip(edges[:-1], edges[1:], strict=True)
        ]


@dataclass(frozen=True)
class Derivation:
    """How a task's targets follow from those of other tasks."""

    sources: tuple[str, ...]
    """Tasks whose stored targets are read."""
    function: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, Tensor]]
    """Of the sources' targets and masks, as a `Batch` has them; returns the task's."""


class MappedSplit:
    """A split of a prepared data set, memory-mapped.

    Args:
        folder: what `prepare` returned.
        split: train, validation or test.
        tasks: tasks whose targets are read.
        measured_only: count measured pixels alone, not those that were filled in; for metrics.
        derived: how the targets of some tasks follow from others'.

    Raises:
        PreparedDataError: if the data hold no targets for a task.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        tasks: Sequence[str],
        *,
        measured_only: bool = False,
        derived: Mapping[str, Derivation] | None = None,
    ) -> None:
        self.tasks, self._derived = tuple(tasks), derived or {}
        stored = dict.fromkeys(source for task in tasks for source in self._sources(task))
        check_tasks(folder, stored)
        self._arrays = {"image": _mapped(folder / split / "image.npy")}
        for task in stored:
            mask = folder / split / f"{task}_measured.npy"
            if not (measured_only and mask.exists()):
                mask = folder / split / f"{task}_valid.npy"
            self._arrays[task] = _mapped(folder / split / f"{task}.npy")
            self._arrays[f"{task}_valid"] = _mapped(mask)

    def __len__(self) -> int:
        return len(self._arrays["image"])

    def batch(self, indices: np.ndarray, device: torch.device) -> Batch:
        """Return the samples `indices` on `device`."""
        images = self._read("image", indices, device).permute(0, 3, 1, 2).float() / 255
        labels = {task: self._labels(task, indices, device) for task in self.tasks}
        targets = {task: target for task, (target, _) in labels.items()}
        valid = {task: mask for task, (_, mask) in labels.items()}
        return Batch(images.contiguous(memory_format=torch.channels_last), targets, valid)

    def labels(self, task: str) -> tuple[Tensor, Bool[Tensor, "samples ..."]]:
        """Return (targets, valid) of the whole split for a task, on the CPU."""
        return self._labels(task, np.arange(len(self)), torch.device("cpu"))

    def _sources(self, task: str) -> tuple[str, ...]:
        return self._derived[task].sources if task in self._derived else (task,)

    def _labels(
        self, task: str, indices: np.ndarray, device: torch.device
    ) -> tuple[Tensor, Bool[Tensor, "samples ..."]]:
        sources = self._sources(task)
        targets = {name: _as_target(self._read(name, indices, device)) for name in sources}
        valid = {name: self._read(f"{name}_valid", indices, device) for name in sources}
        if task in self._derived:
            return self._derived[task].function(targets, valid)
        return targets[task], valid[task]

    def _read(self, name: str, indices: np.ndarray, device: torch.device) -> Tensor:
        # Indexing by an array copies out of the map, so the tensor is writable.
        return torch.from_numpy(self._arrays[name][indices]).to(device)


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _as_target(values: Tensor) -> Tensor:
    """Return stored targets in the layout of predictions: float32, or int64 for classes."""
    if values.ndim in (1, 3):
        return values.long()
    return values.float() if values.ndim == 2 else values.permute(0, 3, 1, 2).float()


def mirrored(batch: Batch, flips: np.ndarray, mirror_signs: dict[str, tuple[float, ...]]) -> Batch:
    """Return the batch with the images where `flips` is True mirrored left to right.

    Args:
        batch: any batch.
        flips: bool (batch,).
        mirror_signs: task -> factor of each target channel under the flip (n_x changes sign);
            tasks left out keep theirs.
    """
    chosen = torch.from_numpy(flips).to(batch.images.device)

    def flip(values: Tensor) -> Tensor:
        if values.ndim < 3:  # of the image as a whole
            return values
        return torch.where(chosen.reshape(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)

    targets = {}
    for task, target in batch.targets.items():
        signs = mirror_signs.get(task)
        if signs is not None:
            places = [1] * (target.ndim - 2)
            factors = target.new_tensor(signs).reshape(1, -1, *places)
            target = torch.where(chosen.reshape(-1, 1, *places), target * factors, target)
        targets[task] = flip(target)
    valid = {task: flip(mask) for task, mask in batch.valid.items()}
    images = flip(batch.images).contiguous(memory_format=torch.channels_last)
    return Batch(images, targets, valid)


def epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """Return the order of the samples in an epoch: a permutation of range(num_samples)."""
    return numpy_stream(seed, "order", epoch).permutation(num_samples)


def epoch_flips(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """Return, by sample index, whether the sample is mirrored in an epoch."""
    return numpy_stream(seed, "flips", epoch).random(num_samples) < 0.5


def training_batches(
    split: MappedSplit,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    horizontal_flips: bool,
    mirror_signs: dict[str, tuple[float, ...]],
    device: torch.device,
) -> Iterator[Batch]:
    """Yield the batches of an epoch; the last one holds what is left over."""
    order = epoch_order(seed, epoch, len(split))
    flips = epoch_flips(seed, epoch, len(split))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        batch = split.batch(indices, device)
        yield mirrored(batch, flips[indices], mirror_signs) if horizontal_flips else batch


def evaluation_batches(
    split: MappedSplit, *, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Yield the whole split in order."""
    for start in range(0, len(split), batch_size):
        yield split.batch(np.arange(start, min(start + batch_size, len(split))), device)
