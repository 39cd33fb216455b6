"""A contact sheet of images and their targets, to be looked at before training on them.

    python -m mtl.data.show PREPARED [--split validation] [--count 8] [--out sheet.png]
    python -m mtl.data.show --scenes rooms [--seed 1] [--height 72 --width 96] [--blocks 2]

PREPARED is the folder that `python -m mtl.data.prepare` named; --scenes renders some instead.
Invalid pixels are black.
"""

import colorsys
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mtl.command_line import Parser, answer, run
from mtl.data.manifest import check_whole, read_manifest
from mtl.data.sample import Sample, is_classes
from mtl.data.scenes.records import VARIANTS
from mtl.data.scenes.render import render_scene
from mtl.errors import PreparedDataError, UsageError
from mtl.spec.sections import SPLITS, TASKS

# Values shown as white; scalar maps are shown linearly from 0, up to their own largest if not here.
FULL_SCALE = {
    "depth": 8.0, "reshading": 1.0, "edge2d": 0.25, "edge3d": 0.04, "keypoint2d": 0.012,
    "keypoint3d": 0.25,
}  # fmt: skip
GAP_PX = 2
TITLE_PX = 14


def panel(sample: Sample, name: str, num_classes: int) -> np.ndarray:
    """Return the uint8 RGB picture (H, W, 3) of the image or of one target; void is black."""
    if name == "image":
        return sample.image
    values, valid = sample.targets[name], sample.valid[name]
    if values.ndim < 2:
        return written(values if valid else "void", sample.image.shape)
    if is_classes(values):
        num_classes = num_classes if name == "segmentation" else int(values.max()) + 1
        palette = [colorsys.hsv_to_rgb(i * 0.381966 % 1, 0.65, 0.95) for i in range(num_classes)]
        colours = np.array(palette)[np.minimum(values, num_classes - 1)]
    elif name == "normal":
        colours = (values + 1) / 2
    elif name == "curvature":
        signed = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
        colours = (signed + 1) / 2
    else:
        is_scalar = values.shape[-1] == 1
        size = values if is_scalar else np.linalg.norm(values, axis=-1, keepdims=True)
        colours = np.repeat(np.clip(size / FULL_SCALE.get(name, size.max() or 1), 0, 1), 3, axis=-1)
    return np.rint(255 * colours * valid[..., None]).astype(np.uint8)


def written(values: np.ndarray | str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture of `shape` with what belongs to an image as a whole, as text."""
    picture = Image.new("RGB", (shape[1], shape[0]))
    if isinstance(values, str):
        text = values
    else:
        text = ", ".join(f"{value:.3g}" for value in np.atleast_1d(values))
    ImageDraw.Draw(picture).multiline_text((1, 1), textwrap.fill(text, max(1, shape[1] // 7)))
    return np.asarray(picture)


def sheet_of(
    samples: Sequence[Sample],
    columns: Sequence[str],
    num_classes: int,
    blocks: int = 1,
    min_px: int = 1,
) -> Image.Image:
    """Return a picture with one sample a row, `blocks` rows side by side, columns titled.

    Args:
        samples: at least one, all of one size.
        columns: `image` and names of tasks.
        num_classes: of segmentation.
        blocks: rows side by side.
        min_px: panels whose shorter side has fewer pixels are enlarged by a whole factor.
    """
    height, width = samples[0].image.shape[:2]
    factor = -(-min_px // min(height, width))
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


MIN_PANEL_PX = 200
"""Smaller panels are enlarged: nobody sees an edge of one pixel."""


def prepared_samples(folder: Path, split: str, count: int) -> list[Sample]:
    """Return up to `count` samples of a prepared folder, evenly spread over a split."""
    tasks = read_manifest(folder)["tasks"]
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
    return run("show", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m mtl.data.show", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("prepared", type=Path, nargs="?", metavar="PREPARED")
    what.add_argument("--scenes", choices=sorted(VARIANTS), help="render scenes of this variant")
    parser.add_argument("--split", choices=SPLITS, help="default: the first that is there")
    parser.add_argument("--count", type=int, default=8, help="samples (default: 8)")
    parser.add_argument("--blocks", type=int, default=1, help="samples side by side (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of scenes (default: 0)")
    parser.add_argument("--height", type=int, default=72, help="of scenes (default: 72)")
    parser.add_argument("--width", type=int, default=96, help="of scenes (default: 96)")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    given = parser.parse_args(argv)
    count = max(1, given.count)
    samples: Sequence[Sample]
    if given.scenes:
        split = given.split or SPLITS[0]
        samples = [
            render_scene(
                given.scenes, seed=given.seed, split=split, index=index,
                height=given.height, width=given.width,
            )
            for index in range(count)
        ]  # fmt: skip
        num_classes = len(VARIANTS[given.scenes].classes)
    else:
        check_whole(given.prepared)
        split = _split(given.prepared, given.split)
        samples = prepared_samples(given.prepared, split, count)
        num_classes = len(read_manifest(given.prepared)["info"]["classes"])
    held = samples[0].targets
    columns = ["image", *(t for t in TASKS if t in held), *(t for t in held if t not in TASKS)]
    # Pictures of scenes stand in the documentation, at their own size.
    min_px = 1 if given.scenes else MIN_PANEL_PX
    sheet = sheet_of(samples, columns, num_classes, max(1, given.blocks), min_px)
    try:
        sheet.save(given.out, optimize=True)
    except ValueError as error:
        raise UsageError(
            f"Expected the name of a picture after --out, such as sheet.png, got {given.out} "
            f"({error})."
        ) from error
    print(f"{given.out}: {len(samples)} samples of {split}, {', '.join(columns)}")
    answer({"file": str(given.out), "samples": len(samples), "split": split, "columns": columns})
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
