"""Batches from prepared data: order and flips are functions of (seed, epoch)."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.data.manifest import check_tasks
from mtl.streams import numpy_stream

MAX_SHARE_OF_FREE_MEMORY = 0.25


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
    of: int | None = None
    """Images of the batch that this is a process's share of; None where it is all of it."""

    @property
    def num_whole(self) -> int:
        """Return the number of images of the whole batch, over all processes that train it."""
        return len(self.images) if self.of is None else self.of

    def cut(self, start: int, stop: int, of: int | None = None) -> "Batch":
        """Return the images from `start` up to `stop`, as a share `of` so many if need be."""
        return Batch(
            self.images[start:stop],
            {task: target[start:stop] for task, target in self.targets.items()},
            {task: mask[start:stop] for task, mask in self.valid.items()},
            of,
        )

    def parts(self, num_parts: int) -> "list[Batch]":
        """Return the batch in `num_parts` consecutive parts of nearly equal size, none empty."""
        return [
            self.cut(start, stop)
            for start, stop in itertools.pairwise(part_edges(len(self.images), num_parts))
        ]


def part_edges(num_images: int, num_parts: int) -> list[int]:
    """Return where so many parts of a batch begin and the last ends: nearly equal, none empty."""
    edges = np.linspace(0, num_images, min(num_parts, num_images) + 1)
    return edges.round().astype(int).tolist()


@dataclass(frozen=True)
class Derivation:
    """How a task's targets follow from those of other tasks."""

    sources: tuple[str, ...]
    """Tasks whose stored targets are read."""
    function: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, Tensor]]
    """Of the sources' targets and masks, as a `Batch` has them; returns the task's."""


Stored = dict[str, Tensor]
"""Rows of a split's arrays by name, as on disk: uint8 images (batch, height, width, 3), ..."""


@dataclass(frozen=True)
class Mirror:
    """Which images of a batch are mirrored left to right."""

    chosen: Bool[Tensor, " batch"]
    """On the device of the batch."""
    signs: Mapping[str, Float[Tensor, " channels"]]
    """Task -> factor of each target channel under the flip (n_x changes sign); tasks left out keep
    theirs. On the device of the batch."""

    def flipped(self, values: Tensor, axis: int) -> Tensor:
        """Return `values`, whose width is `axis`; those of an image as a whole stay."""
        return values if values.ndim < 3 else self._where(values.flip(axis), values)

    def signed(self, task: str, target: Tensor) -> Tensor:
        """Return a target (batch, channels, ...) with its signs changed."""
        signs = self.signs.get(task)
        if signs is None:
            return target
        return self._where(target * signs.reshape(1, -1, *[1] * (target.ndim - 2)), target)

    def _where(self, changed: Tensor, values: Tensor) -> Tensor:
        return torch.where(self.chosen.reshape(-1, *[1] * (values.ndim - 1)), changed, values)


class Split(ABC):
    """A split of a prepared data set, wherever its arrays are.

    Args:
        arrays: name -> what is stored: `image`, and `<task>` with `<task>_valid` of each task
            whose targets are read. The first axis is the sample's.
        tasks: tasks whose targets batches hold.
        derived: how the targets of some tasks follow from others'.
    """

    place: ClassVar[str]
    """Where the arrays are, in a word for the manifest."""

    def __init__(
        self,
        arrays: Mapping[str, Any],
        tasks: Sequence[str],
        derived: Mapping[str, Derivation] | None = None,
    ) -> None:
        self.tasks, self._arrays, self._derived = tuple(tasks), dict(arrays), dict(derived or {})

    def __len__(self) -> int:
        return len(self._arrays["image"])

    @property
    def num_bytes(self) -> int:
        """The size of all arrays as stored."""
        return sum(array.nbytes for array in self._arrays.values())

    @abstractmethod
    def stored(self, batches: Sequence[np.ndarray], device: torch.device) -> Iterator[Stored]:
        """Yield the rows of each batch, of which `batches` has the indices, on `device`.

        Neither a copy of a batch nor anything else waits for the queue of a GPU.
        """

    def batch(self, indices: np.ndarray, device: torch.device) -> Batch:
        """Return the samples `indices` on `device`."""
        (stored,) = self.stored([indices], device)
        return self.assembled(stored)

    def assembled(self, stored: Stored, mirror: Mirror | None = None) -> Batch:
        """Return the batch of stored rows, some of it mirrored."""
        images = stored["image"]
        # Mirrored as stored, in a quarter of the bytes.
        images = images if mirror is None else mirror.flipped(images, axis=2)
        images = images.permute(0, 3, 1, 2).float() / 255
        labels = {task: self._labels(task, stored, mirror) for task in self.tasks}
        targets = {task: target for task, (target, _) in labels.items()}
        valid = {task: mask for task, (_, mask) in labels.items()}
        return Batch(images.contiguous(memory_format=torch.channels_last), targets, valid)

    def _labels(
        self, task: str, stored: Stored, mirror: Mirror | None = None
    ) -> tuple[Tensor, Bool[Tensor, "samples ..."]]:
        derivation = self._derived.get(task)
        if derivation is None:
            target, valid = stored[task], stored[f"{task}_valid"]
            if mirror is not None:
                target, valid = mirror.flipped(target, axis=2), mirror.flipped(valid, axis=2)
            target = _as_target(target)
        else:  # of what is not mirrored: its author need not think of it
            target, valid = derivation.function(
                {name: _as_target(stored[name]) for name in derivation.sources},
                {name: stored[f"{name}_valid"] for name in derivation.sources},
            )
            if mirror is not None:
                target, valid = mirror.flipped(target, axis=-1), mirror.flipped(valid, axis=-1)
        return (target if mirror is None else mirror.signed(task, target)), valid


class MappedSplit(Split):
    """A split whose files are memory-mapped: each batch is read, and for a GPU copied.

    Args:
        folder: what `prepare` returned.
        split: train, validation or test.
        tasks: tasks whose targets are read.
        measured_only: count measured pixels alone, not those that were filled in; for metrics.
        derived: how the targets of some tasks follow from others'.

    Raises:
        PreparedDataError: if the data hold no targets for a task.
    """

    place = "mapped"

    def __init__(
        self,
        folder: Path,
        split: str,
        tasks: Sequence[str],
        *,
        measured_only: bool = False,
        derived: Mapping[str, Derivation] | None = None,
    ) -> None:
        derived = derived or {}
        sources = {task: derived[task].sources if task in derived else (task,) for task in tasks}
        stored = dict.fromkeys(source for task in tasks for source in sources[task])
        check_tasks(folder, stored)
        arrays = {"image": _mapped(folder / split / "image.npy")}
        for task in stored:
            mask = folder / split / f"{task}_measured.npy"
            if not (measured_only and mask.exists()):
                mask = folder / split / f"{task}_valid.npy"
            arrays[task] = _mapped(folder / split / f"{task}.npy")
            arrays[f"{task}_valid"] = _mapped(mask)
        super().__init__(arrays, tasks, derived)

    def labels(self, task: str) -> tuple[Tensor, Bool[Tensor, "samples ..."]]:
        """Return (targets, valid) of the whole split for a task, on the CPU."""
        everything = np.arange(len(self))
        names = (name for name in self._arrays if name != "image")
        return self._labels(task, {name: self._rows(name, everything) for name in names})

    def stored(self, batches: Sequence[np.ndarray], device: torch.device) -> Iterator[Stored]:
        """Yield the rows of each batch on `device`."""
        read = ({name: self._rows(name, indices) for name in self._arrays} for indices in batches)
        return read if device.type == "cpu" else _copied(read, device)

    def _rows(self, name: str, indices: np.ndarray) -> Tensor:
        # Indexing by an array copies out of the map, so the tensor is writable.
        return torch.from_numpy(self._arrays[name][indices])


class DeviceSplit(Split):
    """A split whose arrays lie on the training device as they are stored."""

    place = "device"

    @classmethod
    def of(cls, split: Split, device: torch.device) -> "DeviceSplit":
        """Copy all arrays of a split to `device`."""
        arrays = {
            name: torch.from_numpy(np.array(array)).to(device)
            for name, array in split._arrays.items()
        }
        return cls(arrays, split.tasks, split._derived)

    def stored(self, batches: Sequence[np.ndarray], device: torch.device) -> Iterator[Stored]:
        """Yield the rows of each batch; the indices go over to the device, the arrays', once."""
        order = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *batches])).to(device)
        for indices in order.split([len(batch) for batch in batches]):
            yield {name: array.index_select(0, indices) for name, array in self._arrays.items()}


def placed(split: Split, device: torch.device) -> Split:
    """Return the split where a training on `device` reads it fastest.

    Of a GPU's memory it may take a quarter of what is free: network and other runs need the rest.
    """
    if device.type == "cpu":
        return split
    free_bytes, _ = torch.cuda.mem_get_info(device)
    fits = split.num_bytes <= MAX_SHARE_OF_FREE_MEMORY * free_bytes
    return DeviceSplit.of(split, device) if fits else split


def _copied(batches: Iterator[Stored], device: torch.device) -> Iterator[Stored]:
    """Yield batches on a GPU, copied from pinned memory on a stream of their own.

    The host runs ahead of the GPU: it reads a batch, and the copy runs, beside the step before.
    """
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = {
                name: rows.pin_memory().to(device, non_blocking=True)
                for name, rows in batch.items()
            }
        consumer = torch.cuda.current_stream(device)
        consumer.wait_stream(stream)
        for rows in copied.values():
            rows.record_stream(consumer)
        yield copied


def _mapped(path: Path) -> np.ndarray:
    # A plain array over the map: `memmap` itself spends its time on keeping its class.
    return np.asarray(np.load(path, mmap_mode="r"))


def _as_target(values: Tensor) -> Tensor:
    """Return stored targets in the layout of predictions: float32, or int64 for classes."""
    if values.ndim in (1, 3):
        return values.long()
    return values.float() if values.ndim == 2 else values.permute(0, 3, 1, 2).float()


def epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """Return the order of the samples in an epoch: a permutation of range(num_samples)."""
    return numpy_stream(seed, "order", epoch).permutation(num_samples)


def epoch_flips(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """Return, by sample index, whether the sample is mirrored in an epoch."""
    return numpy_stream(seed, "flips", epoch).random(num_samples) < 0.5


def training_batches(
    split: Split,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    horizontal_flips: bool,
    mirror_signs: Mapping[str, tuple[float, ...]],
    device: torch.device,
    rows: Callable[[int], np.ndarray] | None = None,
) -> Iterator[Batch]:
    """Yield the batches of an epoch; the last one holds what is left over.

    Order and flips go over to the device once. With `rows`, batches hold those of their images
    alone whose places it returns of a batch of so many.
    """
    wholes = _in_batches(epoch_order(seed, epoch, len(split)), batch_size)
    batches = wholes if rows is None else [whole[rows(len(whole))] for whole in wholes]
    mirrors: Iterator[Mirror | None] = itertools.repeat(None)
    if horizontal_flips:
        flips = epoch_flips(seed, epoch, len(split))[np.concatenate(batches)]
        signs = {task: torch.tensor(held, device=device) for task, held in mirror_signs.items()}
        of_batches = torch.from_numpy(flips).to(device).split([len(batch) for batch in batches])
        mirrors = (Mirror(chosen, signs) for chosen in of_batches)
    for whole, stored, mirror in zip(wholes, split.stored(batches, device), mirrors, strict=False):
        batch = split.assembled(stored, mirror)
        yield batch if rows is None else replace(batch, of=len(whole))


def evaluation_batches(
    split: Split, *, batch_size: int, device: torch.device, rank: int = 0, num_ranks: int = 1
) -> Iterator[Batch]:
    """Yield the whole split in order; of several ranks each gets its share of the batches."""
    batches = _in_batches(np.arange(len(split)), batch_size)[rank::num_ranks]
    yield from map(split.assembled, split.stored(batches, device))


def _in_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return np.split(order, range(batch_size, len(order), batch_size))
