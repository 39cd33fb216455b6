"""NYU Depth V2 in the layout of MTAN and LibMTL: arrays of 288x384, one file a task and image.

    root/{train,val}/image/0.npy   (288, 384, 3)  0..1
                     depth/0.npy   (288, 384, 1)  metres, 0 = invalid
                     normal/0.npy  (288, 384, 3)  -1..1, all components 0 = invalid
                     label/0.npy   (288, 384)     0..12, -1 = void

Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019. The 795 files of
train are split by seed into train and validation; val, 654 files, is the test split. The order of
the files is not that of the official data set and is not documented, so the two are never joined by
number. Invalid pixels are left out, as those papers do, and not offered for filling. The frames
were cropped and resized by code that is lost, so the camera is not known. Their authors say that
the crop takes the white border away, so all of an image counts as picture.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.data.readers.common import bad_file, check_depth, file_names, hold_out, unit_normals
from mtl.data.readers.images import read_array
from mtl.data.readers.nyuv2 import DEPTH_RANGE_M, LICENCE
from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.sample import RawDataset, RawSample
from mtl.data.targets.derive import BoolArray
from mtl.data.targets.derived_tasks import tasks_to_read
from mtl.errors import UserError

HEIGHT, WIDTH = 288, 384
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "image": ((HEIGHT, WIDTH, 3),),
    "depth": ((HEIGHT, WIDTH, 1), (HEIGHT, WIDTH)),
    "normal": ((HEIGHT, WIDTH, 3),),
    "label": ((HEIGHT, WIDTH), (HEIGHT, WIDTH, 1)),
}
"""Folder -> shapes that its files may have; the first is the usual one."""
FOLDERS = {"depth": "depth", "normal": "normal", "segmentation": "label"}
"""Task -> folder."""
USUAL_COUNTS = (795, 654)
VOID = -1
SLACK = 1e-3
"""By how much rounding may carry values out of their range."""


@dataclass(frozen=True, kw_only=True)
class MtanOptions:
    """How to read the files; plain values, so that they can stand in a manifest."""

    tasks: tuple[str, ...] = ()
    """Tasks for which files are read; none means all."""
    validation_share: float = 0.1
    """Part of the training samples that is held out."""
    validation_seed: int = 0


def open_nyuv2_mtan(source: Path, options: MtanOptions | None = None) -> RawDataset:
    """Open the folder that holds train and val.

    A sample is whatever number has a file in any of the four folders; one that lacks a file fails
    when it is read, so that it can be left out and listed.

    Raises:
        UserError: if folders are absent or empty, or the options leave nothing to train on.
    """
    options = MtanOptions() if options is None else options
    root = Path(source)
    tasks = tasks_to_read(options.tasks, FOLDERS)
    folders = ("image", *(FOLDERS[task] for task in tasks))
    train = [f"train/{number}" for number in _numbers(root / "train")]
    test = tuple(f"val/{number}" for number in _numbers(root / "val"))
    kept, held = hold_out(train, options.validation_share, options.validation_seed)
    notes = ["The axes of the normals are those of the files: x to the right, y and z as found."]
    if (len(train), len(test)) != USUAL_COUNTS:
        notes.append(
            f"There are {len(train)} training and {len(test)} test samples, unlike the usual "
            f"{USUAL_COUNTS[0]} and {USUAL_COUNTS[1]}."
        )
    return RawDataset(
        name="nyuv2_mtan",
        tasks=tasks,
        classes=CLASSES_13,
        depth_range_m=DEPTH_RANGE_M,
        samples={"train": kept, "validation": held, "test": test},
        files={
            f"{split}/{number}": {name: root / split / name / f"{number}.npy" for name in folders}
            for split, number in (sample_id.split("/") for sample_id in (*train, *test))
        },
        decode=partial(_read, tasks=tasks),
        licence=LICENCE,
        options=asdict(options) | {"tasks": tasks},
        notes=tuple(notes),
        held=tuple(FOLDERS),
    )


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the samples in a split's folder, ascending."""
    remedy = "Give the folder that holds train and val, each with image, depth, normal, label"
    names = {name for kind in SHAPES for name in file_names(folder / kind, remedy)}
    found = sorted(int(name[:-4]) for name in names if re.fullmatch(r"(0|[1-9]\d*)\.npy", name))
    if not found:
        raise UserError(
            f"Expected files such as {folder / 'image' / '0.npy'}, got none. "
            "Unpack the archive there."
        )
    return found


def _read(_: str, files: Mapping[str, Path], tasks: tuple[str, ...]) -> RawSample:
    read = {task: READ[task](files[FOLDERS[task]]) for task in tasks}
    return RawSample(
        image=_image(files["image"]),
        targets={task: target for task, (target, _) in read.items()},
        valid={task: valid for task, (_, valid) in read.items()},
    )


def _numbers_of(path: Path, name: str) -> NDArray[np.float64]:
    """Return the values of a file, of the first of its shapes, as float64."""
    values = read_array(path)
    shapes = SHAPES[name]
    if values.shape not in shapes:
        remedy = "Give the files of the MTAN layout, channels last, at their own size"
        raise bad_file(path, f"{name} of shape {shapes[0]}", f"{values.shape}", remedy)
    values = values.reshape(shapes[0]).astype(np.float64)
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise bad_file(path, f"finite {name}", f"{bad} of NaN or infinity", "Unpack it again")
    return values


def _expect_range(path: Path, name: str, values: NDArray, lowest: int, highest: int) -> None:
    low, high = float(values.min()), float(values.max())
    if low < lowest - SLACK or high > highest + SLACK:
        remedy = "Write it in the scale of the MTAN layout"
        raise bad_file(path, f"{name} from {lowest} to {highest}", f"{low:g} to {high:g}", remedy)


def _image(path: Path) -> NDArray[np.uint8]:
    values = _numbers_of(path, "image")
    _expect_range(path, "image", values, 0, 1)
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _depth(path: Path) -> tuple[NDArray[np.float32], BoolArray]:
    values = _numbers_of(path, "depth")
    valid = values[..., 0] != 0
    remedy = "Write metres, and 0 for missing depth"
    check_depth(path, values[..., 0], valid, DEPTH_RANGE_M, remedy)
    return values.astype(np.float32), valid


def _normals(path: Path) -> tuple[NDArray[np.float32], BoolArray]:
    values = _numbers_of(path, "normal")
    # Not by the sum of the components: that of a unit normal can be 0.
    valid = (values != 0).any(axis=-1)
    remedy = "Write unit normals in the scale of the MTAN layout, -1 to 1"
    unit, valid = unit_normals(path, values, valid, remedy, min_length=0.0)
    return unit.astype(np.float32), valid


def _classes(path: Path) -> tuple[NDArray[np.uint8], BoolArray]:
    values = _numbers_of(path, "label")
    classes = np.rint(values)
    if np.abs(classes - values).max() > SLACK:
        remedy = "Resize labels by the nearest pixel"
        raise bad_file(path, "whole numbers as labels", "fractions", remedy)
    _expect_range(path, "labels", classes, VOID, len(CLASSES_13) - 1)
    valid = classes != VOID
    return np.where(valid, classes, 0).astype(np.uint8), valid


READ: dict[str, Callable[[Path], tuple[NDArray[Any], BoolArray]]] = {
    "depth": _depth,
    "normal": _normals,
    "segmentation": _classes,
}
