"""What preparation reads samples from, and what losses and metrics must know of a data set."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DataInfo:
    """What losses and metrics must know of a data set."""

    classes: tuple[str, ...]
    """Names of the segmentation classes; a class target is an index into them."""
    depth_range_m: tuple[float, float]
    """Shortest and longest depth."""


@dataclass(frozen=True)
class Sample:
    """One image with its targets.

    image: uint8 (height, width, 3). targets: task -> (height, width, channels) float32 or float16,
    or (height, width) uint8 for segmentation. valid: task -> bool (height, width), True = counted
    in training. measured: task -> bool (height, width), given where valid pixels were filled in;
    True where they were not, which is all that metrics count.
    """

    image: np.ndarray
    targets: Mapping[str, np.ndarray]
    valid: Mapping[str, np.ndarray]
    measured: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels: focal lengths `fx`, `fy` and principal point `cx`, `cy`."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class RawSample:
    """One sample at its native size.

    image: uint8 (height, width, 3). targets: task -> float32 (height, width, channels), or uint8
    (height, width) class indices for segmentation. valid: task -> bool (height, width), True where
    the target counts in training. measured: task -> bool (height, width), given where some valid
    pixels were filled in; True where they were not, and metrics count these alone. camera: of the
    image at this size, where it is known. fillable: task -> bool (height, width), True at invalid
    pixels that preparation may fill from their neighbours (supplement, section 3). inside: bool
    (height, width), False where the image is no picture, such as a white border; None means that
    all of it is. counted: bool (height, width), where tasks that are derived from the image may
    count; the files' own targets have it in `valid`. None means everywhere.
    """

    image: np.ndarray
    targets: Mapping[str, np.ndarray]
    valid: Mapping[str, np.ndarray]
    measured: Mapping[str, np.ndarray] = field(default_factory=dict)
    camera: Camera | None = None
    fillable: Mapping[str, np.ndarray] = field(default_factory=dict)
    inside: np.ndarray | None = None
    counted: np.ndarray | None = None


@dataclass(frozen=True)
class RawDataset:
    """A data set on disk, opened."""

    name: str
    tasks: tuple[str, ...]
    """Tasks with targets in the files, in the order of `mtl.spec.run.TASKS`."""
    classes: tuple[str, ...]
    """Names of the segmentation classes; empty without segmentation."""
    depth_range_m: tuple[float, float]
    """Shortest and longest depth that the losses allow."""
    samples: Mapping[str, tuple[str, ...]]
    """Split (train, validation, test) -> ids, in a fixed order."""
    read: Callable[[str], RawSample]
    """Return the sample of an id; raises `BadSampleError`."""
    files: Callable[[str], Iterable[Path]]
    """Return the files of an id, by which changes are noticed. Descriptions and lists of splits
    need not be among them: what they say stands in `options` and `samples`."""
    licence: str
    """The owner's words on what may be done with the data."""
    label: str = ""
    """What its owner calls it in reports, where that is more than `name`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen in reading it, defaults included; plain values."""
    notes: tuple[str, ...] = ()
    """What its user should know, a sentence each, such as counts unlike the paper's."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Id -> what is missing, for samples of which opening saw already that `read` will fail."""
    fillable: tuple[str, ...] = ()
    """Tasks in whose samples `RawSample.fillable` may name holes."""
    held: tuple[str, ...] = ()
    """Tasks with files, where not all of them were asked for."""
