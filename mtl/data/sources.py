"""What preparation reads samples from, and what losses and metrics must know of a data set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mtl.data.scenes import VARIANTS, render_scene
from mtl.spec import SPLITS, DataSpec


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


def scenes_info(data: DataSpec) -> DataInfo:
    """Return what is known of rendered scenes."""
    variant = VARIANTS[data.variant]
    return DataInfo(classes=variant.classes, depth_range_m=variant.depth_range_m)


@dataclass(frozen=True)
class SceneRecipe:
    """Rendered scenes, as a recipe of `mtl.data.writing`."""

    data: DataSpec

    def counts(self) -> dict[str, int]:
        """Return split -> number of scenes."""
        return {split: self.data.count(split) for split in SPLITS}

    def state(self, _split: str, _start: int, _stop: int, /) -> str:
        """Return nothing: scenes come from no files."""
        return ""

    def sample(self, split: str, index: int) -> Sample:
        """Render a scene with its nine targets."""
        scene = render_scene(
            self.data.variant,
            seed=self.data.seed,
            split=split,
            index=index,
            height=self.data.height,
            width=self.data.width,
        )
        return Sample(image=scene.image, targets=scene.targets, valid=scene.valid)

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of them."""
        info = asdict(scenes_info(self.data))
        return {
            "name": self.data.name,
            "data": asdict(self.data),
            "info": {name: list(values) for name, values in info.items()},
        }
