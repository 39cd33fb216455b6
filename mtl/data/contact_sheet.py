"""Contact sheets: image and targets of some samples, one a row, for people to look at."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

# Values shown as white; the scalar maps are shown linearly from 0.
FULL_SCALE = {
    "depth": 8.0, "reshading": 1.0, "edge2d": 0.25, "edge3d": 0.04, "keypoint2d": 0.012,
    "keypoint3d": 0.25,
}  # fmt: skip
GAP_PX = 2
TITLE_PX = 14


class Shown(Protocol):
    """What a sheet needs of a sample."""

    @property
    def image(self) -> np.ndarray:
        """Return uint8 (height, width, 3)."""

    @property
    def targets(self) -> Mapping[str, np.ndarray]:
        """Return task -> values."""

    @property
    def valid(self) -> Mapping[str, np.ndarray]:
        """Return task -> bool (height, width)."""


def panel(sample: Shown, name: str, num_classes: int) -> np.ndarray:
    """Return the uint8 RGB picture (H, W, 3) of the image or of one target; void is black."""
    if name == "image":
        return sample.image
    values, valid = sample.targets[name], sample.valid[name]
    if name == "segmentation":
        palette = [colorsys.hsv_to_rgb(i * 0.381966 % 1, 0.65, 0.95) for i in range(num_classes)]
        colours = np.array(palette)[np.minimum(values, num_classes - 1)]
    elif name == "normal":
        colours = (values + 1) / 2
    elif name == "curvature":
        signed = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
        colours = (signed + 1) / 2
    else:
        colours = np.repeat(np.clip(values / FULL_SCALE[name], 0, 1), 3, axis=-1)
    return np.rint(255 * colours * valid[..., None]).astype(np.uint8)


def sheet_of(
    samples: Sequence[Shown],
    columns: Sequence[str],
    num_classes: int,
    blocks: int = 1,
    least_px: int = 1,
) -> Image.Image:
    """Return a picture with one sample a row, `blocks` rows side by side, columns titled.

    Args:
        samples: at least one, all of one size.
        columns: `image` and names of tasks.
        num_classes: of segmentation.
        blocks: rows side by side.
        least_px: panels whose shorter side has fewer pixels are enlarged by a whole factor.
    """
    height, width = samples[0].image.shape[:2]
    factor = -(-least_px // min(height, width))
    height, width = factor * height, factor * width
    rows = -(-len(samples) // blocks)
    cell_x, cell_y = width + GAP_PX, height + GAP_PX
    block_x = cell_x * len(columns) + 3 * GAP_PX
    sheet = Image.new("RGB", (block_x * blocks, TITLE_PX + cell_y * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for block in range(blocks):
        for column, name in enumerate(columns):
            draw.text((block * block_x + column * cell_x + 1, 1), name, fill="black")
    for index, sample in enumerate(samples):
        block, row = divmod(index, rows)
        for column, name in enumerate(columns):
            corner = (block * block_x + column * cell_x, TITLE_PX + row * cell_y)
            picture = Image.fromarray(panel(sample, name, num_classes))
            sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), corner)
    return sheet
