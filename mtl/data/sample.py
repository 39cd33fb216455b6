"""What preparation reads samples from, and what losses and metrics must know of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtl.errors import BadSampleError, UsageError, printable
from mtl.spec.code import is_reference

DEPTH_RANGE_WITHOUT_DEPTH_M = (0.1, 100.0)
"""Nothing is measured in it; losses of derived tasks do not use it."""


@dataclass(frozen=True)
class DataInfo:
    """What losses and metrics must know of a data set."""

    classes: tuple[str, ...]
    """Names of the segmentation classes; a class target is an index into them."""
    depth_range_m: tuple[float, float]
    """Shortest and longest depth."""


@dataclass(frozen=True)
class Sample:
    """One image with its targets: maps of its size, or what belongs to it as a whole.

    Raises:
        ValueError: for maps of another size, labels that are no integers, or a lacking mask.
    """

    image: np.ndarray
    """uint8 (height, width, 3)."""
    targets: Mapping[str, np.ndarray]
    """Task -> (height, width, channels) float32 or float16, or integer (height, width) class
    indices; of the image as a whole (channels,) floats, or an integer () class index."""
    valid: Mapping[str, np.ndarray]
    """Task -> bool (height, width) or (), True where the target counts in training."""
    measured: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Task -> as `valid`, given where valid pixels were filled in; True where they were
    not, which is all that metrics count."""

    def __post_init__(self) -> None:
        """Refuse what no loss could take."""
        size = self.image.shape[:2]
        if self.image.dtype != np.uint8 or self.image.shape != (*size, 3):
            raise UsageError(
                "Expected an image as uint8 (height, width, 3), got "
                f"{self.image.dtype} {self.image.shape}."
            )
        whole = {task for task, target in self.targets.items() if target.ndim < 2}
        for name, value in vars(self).items():
            maps = value if isinstance(value, Mapping) else {name: value}
            for key, array in maps.items():
                if key not in whole and isinstance(array, np.ndarray) and array.shape[:2] != size:
                    raise UsageError(
                        f"Expected {key} of the image's size {size}, got {array.shape[:2]}. "
                        "Give all maps at the size of the image."
                    )
        for task, target in self.targets.items():
            mask = self.valid.get(task)
            place = () if task in whole else size
            if mask is None or np.shape(mask) != place or np.asarray(mask).dtype != bool:
                got = "none" if mask is None else f"{np.asarray(mask).dtype} {np.shape(mask)}"
                raise UsageError(f"Expected valid[{task!r}] as bool {place}, got {got}.")
            if is_classes(target) and not np.issubdtype(target.dtype, np.integer):
                raise UsageError(
                    f"Expected {task} with a last axis of channels, or class indices as integers, "
                    f"got {target.dtype} {target.shape}."
                )


def is_classes(target: np.ndarray) -> bool:
    """Return whether a target holds class indices: it has no channels."""
    return target.ndim in (0, 2)


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels: focal lengths `fx`, `fy` and principal point `cx`, `cy`."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class RawSample(Sample):
    """A sample at its native size, before holes are filled and missing tasks are derived."""

    camera: Camera | None = None
    """Of the image at this size, where it is known."""
    fillable: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Task -> bool (height, width), True at invalid pixels that preparation may fill from their
    neighbours (supplement, section 3)."""
    inside: np.ndarray | None = None
    """bool (height, width), False where the image is no picture, such as a white border; None means
    that all of it is."""
    counted: np.ndarray | None = None
    """bool (height, width), where tasks that are derived from the image may count; the files' own
    targets have it in `valid`. None means everywhere."""


@dataclass(frozen=True)
class RawDataset:
    """A data set, opened. It can be pickled: other processes read samples too."""

    name: str
    tasks: tuple[str, ...]
    """Tasks with targets in the files, in the order of `mtl.spec.sections.TASKS`."""
    samples: Mapping[str, tuple[str, ...]]
    """Split (train, validation, test) -> ids, in a fixed order."""
    files: Mapping[str, Mapping[str, Path]]
    """Id -> name -> file, by which changes are noticed. Descriptions and lists of splits need not
    be among them: what they say stands in `options` and `samples`."""
    decode: Callable[[str, Mapping[str, Path]], RawSample]
    """Return the sample of an id from its files; raises `BadSampleError`."""
    licence: str
    """The owner's words on what may be done with the data."""
    classes: tuple[str, ...] = ()
    """Names of the segmentation classes; empty without segmentation."""
    depth_range_m: tuple[float, float] = DEPTH_RANGE_WITHOUT_DEPTH_M
    """Shortest and longest depth that the losses allow."""
    label: str = ""
    """What its owner calls it in reports, where that is more than `name`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen in reading it, defaults included; plain values."""
    notes: tuple[str, ...] = ()
    """What its user should know, a sentence each, such as counts unlike the paper's."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Id -> what is missing, for samples of which opening saw already that they cannot be read."""
    fillable: tuple[str, ...] = ()
    """Tasks in whose samples `RawSample.fillable` may name holes."""
    held: tuple[str, ...] = ()
    """Tasks with files, where not all of them were asked for."""

    def read(self, sample_id: str) -> RawSample:
        """Return the sample of an id.

        Raises:
            BadSampleError: if a file is missing or damaged, or holds what cannot be.
        """
        if sample_id in self.lacking:
            raise BadSampleError(self.lacking[sample_id])
        try:
            sample = self.decode(sample_id, self.files[sample_id])
            if not isinstance(sample, RawSample):
                raise TypeError(f"{type(sample).__name__} in place of a RawSample")
        except BadSampleError:
            raise
        except Exception as error:
            if not is_reference(self.name):
                raise
            raise BadSampleError(
                f"Expected {self.name} to read sample {sample_id!r}, got "
                f"{printable(f'{type(error).__name__}: {error}').rstrip('.')}."
            ) from error
        return sample
