"""Where images come from: each data set as a function that reads one sample.

A new data set is a module with two such functions and an entry in `SOURCES`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtl.data.scenes import VARIANTS, render_scene
from mtl.names import checked_name
from mtl.spec import DataSpec


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

    image: uint8 (height, width, 3). targets: task -> (height, width, channels) float32, or
    (height, width) uint8 for segmentation. valid: task -> bool (height, width), True = counted.
    """

    image: np.ndarray
    targets: dict[str, np.ndarray]
    valid: dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A data set: what it is, and how to read the sample `index` of a split."""

    info: Callable[[DataSpec], DataInfo]
    read: Callable[[DataSpec, str, int], Sample]


def _scenes_info(data: DataSpec) -> DataInfo:
    variant = VARIANTS[data.variant]
    return DataInfo(classes=variant.classes, depth_range_m=variant.depth_range_m)


def _read_scene(data: DataSpec, split: str, index: int) -> Sample:
    scene = render_scene(
        data.variant,
        seed=data.seed,
        split=split,
        index=index,
        height=data.height,
        width=data.width,
    )
    return Sample(image=scene.image, targets=scene.targets, valid=scene.valid)


SOURCES: dict[str, Source] = {"scenes": Source(info=_scenes_info, read=_read_scene)}


def source(data: DataSpec) -> Source:
    """Return the source of a data set by its name."""
    checked_name(data.name, SOURCES, "data set")
    return SOURCES[data.name]
