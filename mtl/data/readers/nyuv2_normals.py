"""Normals of NYU Depth V2 from two public origins; the official file has none.

    ladicky  {train,test}/00001.png   8-bit RGB, numbers from 1 over both folders
             Ladicky, Zeisl, Pollefeys, ECCV 2014 (nyu_normals_gt.zip)
    eigen    normals/0000.png and masks/0000.png, numbers from 0
             Eigen, Fergus, ICCV 2015 (normals_gt.tgz); used by MTAN

8-bit values are n = value / 255 * 2 - 1. In both channel 0 is x, to the right; the signs of y and z
differ from copy to copy. A normal of less than half the unit length, such as that of a grey border,
is no normal.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtl.data.readers.checks import bad_file, unit_normals
from mtl.data.readers.images import read_mask, read_rgb
from mtl.data.targets.derive import BoolArray, FloatArray
from mtl.errors import UserError

MIN_LENGTH = 0.5


@dataclass(frozen=True)
class NormalFiles:
    """Normals on disk, opened."""

    origin: str
    path: Path
    signs: tuple[float, ...]
    """Factors of x, y, z that give x right, y down, z forward."""
    size: tuple[int, int]
    """Height and width."""
    paths: Mapping[int, Path] = field(repr=False)
    """Official 1-based index -> picture."""


def open_normals(path: Path, signs: tuple[float, ...], size: tuple[int, int]) -> NormalFiles:
    """Find out of which origin the normals in the folder `path` are and list them.

    Raises:
        UserError: if there are no normals of a known origin.
    """
    for folder in (path, path / "nyu_normals_gt"):
        found = _numbered(folder / "train", 0) | _numbered(folder / "test", 0)
        if found:
            return NormalFiles("ladicky", folder, signs, size, found)
    found = _numbered(path / "normals", 1)
    if found and (path / "masks").is_dir():
        return NormalFiles("eigen", path, signs, size, found)
    raise UserError(
        f"Expected normals at {path} as train/ and test/ with 00001.png, or normals/ and masks/ "
        "with 0000.png, got neither. Give the unpacked folder, or from_depth."
    )


def read_normals(files: NormalFiles, index: int) -> tuple[FloatArray, BoolArray]:
    """Return the unit normals (H, W, 3) of the 1-based `index`, and where they are valid (H, W).

    Raises:
        BadSampleError: if there are none, or they cannot be read.
    """
    places = files_of_normals(files, index)
    if not places:
        raise bad_file(
            files.path, f"{files.origin} normals of sample {index:04d}", "none",
            "Unpack the archive again, or leave the sample out",
        )  # fmt: skip
    colours = read_rgb(places[0], lossless=True)
    valid = np.ones(files.size, bool) if len(places) == 1 else read_mask(places[1])
    for place, values in zip(places, (colours, valid), strict=False):
        if values.shape[:2] != files.size:
            expected, got = (
                f"{height}x{width}" for height, width in (files.size, values.shape[:2])
            )
            remedy = "Give the original files, not resized ones"
            raise bad_file(place, f"{expected} pixels", got, remedy)
    remedy = "Give the original files, whose values are (n + 1) / 2 * 255"
    unit, valid = unit_normals(places[0], colours / 255 * 2 - 1, valid, remedy, MIN_LENGTH)
    return unit * np.array(files.signs), valid


def files_of_normals(files: NormalFiles, index: int) -> tuple[Path, ...]:
    """Return the files that hold the normals of the 1-based `index`; none if there are none."""
    path = files.paths.get(index)
    if path is None:
        return ()
    return (path, files.path / "masks" / path.name) if files.origin == "eigen" else (path,)


def _numbered(folder: Path, first: int) -> dict[int, Path]:
    """Return 1-based index -> path of the pictures 0001.png in a folder, empty if it is absent.

    `first` is 1 where files count from 0: what must be added.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    matches = (re.fullmatch(r"(\d{4,6})\.png", name, re.ASCII) for name in names)
    return {int(match[1]) + first: folder / match[0] for match in matches if match}
