"""Write a contact sheet: image and nine targets of some scenes.

Usage: python -m mtl.data.scenes.sheet --variant rooms --count 24 --out docs/scenes_rooms.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from mtl.data.scenes.render import SPLITS, VARIANTS, render_scene
from mtl.data.show import sheet_of

COLUMNS = (
    "image", "depth", "normal", "segmentation", "curvature", "reshading", "edge2d", "edge3d",
    "keypoint2d", "keypoint3d",
)  # fmt: skip


def contact_sheet(
    variant: str, count: int, *, seed: int, split: str, height: int, width: int, blocks: int
) -> Image.Image:
    """Return a picture with one scene a row, `blocks` rows side by side, columns titled."""
    scenes = [
        render_scene(variant, seed=seed, split=split, index=index, height=height, width=width)
        for index in range(count)
    ]
    return sheet_of(scenes, COLUMNS, len(VARIANTS[variant].classes), blocks)


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
