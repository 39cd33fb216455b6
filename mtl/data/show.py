"""Look at prepared data: a contact sheet of the image and all tasks.

    python -m mtl.data.show PREPARED [--split validation] [--count 8] [--out sheet.png]

PREPARED is the folder that `python -m mtl.data.prepare` named. Invalid pixels are black.
"""

import argparse
import colorsys
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw

from mtl.data.manifest import check_whole, read_manifest
from mtl.data.sample import Sample
from mtl.errors import PreparedDataError
from mtl.spec.sections import SPLITS, TASKS

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


LEAST_PANEL_PX = 200
"""Smaller panels are enlarged: nobody sees an edge of one pixel."""


def prepared_samples(folder: Path, split: str, count: int) -> list[Sample]:
    """Return up to `count` samples of a prepared folder, evenly spread over a split."""
    tasks = [task for task in TASKS if task in read_manifest(folder)["tasks"]]
    arrays = {
        name: np.load(folder / split / f"{name}.npy", mmap_mode="r")
        for name in ["image", *tasks, *(f"{task}_valid" for task in tasks)]
    }
    num_images = len(arrays["image"])
    spread = np.linspace(0, num_images - 1, min(count, num_images)).round().astype(int)
    return [
        Sample(
            image=np.asarray(arrays["image"][index]),
            targets={task: np.asarray(arrays[task][index]) for task in tasks},
            valid={task: np.asarray(arrays[f"{task}_valid"][index]) for task in tasks},
        )
        for index in spread
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the sheet; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mtl.data.show", description=__doc__)
    parser.add_argument("prepared", type=Path, metavar="PREPARED")
    parser.add_argument("--split", choices=SPLITS, help="default: the first that is there")
    parser.add_argument("--count", type=int, default=8, help="samples (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    given = parser.parse_args(argv)
    try:
        check_whole(given.prepared)
        split = _split(given.prepared, given.split)
        samples = prepared_samples(given.prepared, split, max(1, given.count))
        classes = read_manifest(given.prepared)["info"]["classes"]
        columns = ["image", *samples[0].targets]
        sheet = sheet_of(samples, columns, len(classes), least_px=LEAST_PANEL_PX)
        sheet.save(given.out, optimize=True)
    except PreparedDataError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"Expected a picture to be written to {given.out}, got: {error}.", file=sys.stderr)
        return 1
    print(f"{given.out}: {len(samples)} samples of {split}, {', '.join(columns)}")
    return 0


def _split(folder: Path, wanted: str | None) -> str:
    """Return the split that is wanted, or the first that a prepared folder has."""
    held = [split for split in SPLITS if (folder / split).is_dir()]
    if not held or (wanted is not None and wanted not in held):
        raise PreparedDataError(
            f"Expected the split {wanted or SPLITS[0]} in {folder}, got "
            f"{', '.join(held) or 'none'}. Name another, or prepare the data with it."
        )
    return wanted or held[0]


if __name__ == "__main__":
    sys.exit(main())
