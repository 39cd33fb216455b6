"""Write a contact sheet: image and nine targets of some scenes.

Usage: python -m mtl.data.scene_sheet --variant rooms --count 24 --out docs/scenes_rooms.png
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mtl.data.scenes import SPLITS, VARIANTS, SceneSample, render_scene

COLUMNS = (
    "image", "depth", "normal", "segmentation", "curvature", "reshading", "edge2d", "edge3d",
    "keypoint2d", "keypoint3d",
)  # fmt: skip
# Values shown as white; the scalar maps are shown linearly from 0.
FULL_SCALE = {
    "depth": 8.0, "reshading": 1.0, "edge2d": 0.25, "edge3d": 0.04, "keypoint2d": 0.012,
    "keypoint3d": 0.25,
}  # fmt: skip
GAP_PX = 2
TITLE_PX = 14


def panel(sample: SceneSample, name: str, num_classes: int) -> np.ndarray:
    """Return the uint8 RGB picture (H, W, 3) of the image or of one target; void is black."""
    if name == "image":
        return sample.image
    values, valid = sample.targets[name], sample.valid[name]
    if name == "segmentation":
        palette = [colorsys.hsv_to_rgb(i * 0.381966 % 1, 0.65, 0.95) for i in range(num_classes)]
        colours = np.array(palette)[values]
    elif name == "normal":
        colours = (values + 1) / 2
    elif name == "curvature":
        signed = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
        colours = (signed + 1) / 2
    else:
        colours = np.repeat(np.clip(values / FULL_SCALE[name], 0, 1), 3, axis=-1)
    return np.rint(255 * colours * valid[..., None]).astype(np.uint8)


def contact_sheet(
    variant: str, count: int, *, seed: int, split: str, height: int, width: int, blocks: int
) -> Image.Image:
    """Return a picture with one scene a row, `blocks` rows side by side, columns titled."""
    rows = -(-count // blocks)
    cell_x, cell_y = width + GAP_PX, height + GAP_PX
    block_x = cell_x * len(COLUMNS) + 3 * GAP_PX
    sheet = Image.new("RGB", (block_x * blocks, TITLE_PX + cell_y * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for block in range(blocks):
        for column, name in enumerate(COLUMNS):
            draw.text((block * block_x + column * cell_x + 1, 1), name, fill="black")
    for index in range(count):
        sample = render_scene(
            variant, seed=seed, split=split, index=index, height=height, width=width
        )
        block, row = divmod(index, rows)
        for column, name in enumerate(COLUMNS):
            picture = Image.fromarray(panel(sample, name, len(VARIANTS[variant].classes)))
            corner = (block * block_x + column * cell_x, TITLE_PX + row * cell_y)
            sheet.paste(picture, corner)
    return sheet


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="rooms", choices=sorted(VARIANTS))
    parser.add_argument("--count", type=int, default=24, help="scenes (default: 24)")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", choices=SPLITS)
    parser.add_argument("--height", type=int, default=72, help="pixels (default: 72)")
    parser.add_argument("--width", type=int, default=96, help="pixels (default: 96)")
    parser.add_argument("--blocks", type=int, default=1, help="scenes side by side (default: 1)")
    options = parser.parse_args(argv)
    sheet = contact_sheet(
        options.variant, options.count, seed=options.seed, split=options.split,
        height=options.height, width=options.width, blocks=options.blocks,
    )  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)
    print(f"{options.out}: {options.count} scenes, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
