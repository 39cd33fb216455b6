"""Rendered scenes as a recipe for `mtl.data.writing`.

The renderer is imported where it renders: it needs scipy, which a plan need not wait for.
"""

from dataclasses import asdict, dataclass
from typing import Any

from mtl.data.sample import DataInfo, Sample
from mtl.spec.sections import SPLITS, DataSpec


def scenes_info(data: DataSpec) -> DataInfo:
    """Return what is known of rendered scenes."""
    from mtl.data.scenes.render import VARIANTS

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
        from mtl.data.scenes.render import render_scene

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
