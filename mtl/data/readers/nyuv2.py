"""NYU Depth V2, the official file: `nyu_depth_v2_labeled.mat` and `splits.mat`.

Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV
2012. The file is MATLAB 7.3, that is HDF5, where arrays of MATLAB show with their axes reversed:

    images     (N, 3, 640, 480)  uint8   RGB
    depths     (N, 640, 480)     float   metres, holes filled by the owners (colorization)
    rawDepths  (N, 640, 480)     float   metres, 0 = missing, 10 = too far to tell
    labels     (N, 640, 480)     uint    0 = unlabelled, 1..894

Normals, which that file lacks, follow from its depth or are those of one of two public origins:

    ladicky  {train,test}/00001.png   8-bit RGB, numbers from 1 over both folders
             Ladicky, Zeisl, Pollefeys, ECCV 2014 (nyu_normals_gt.zip)
    eigen    normals/0000.png and masks/0000.png, numbers from 0
             Eigen, Fergus, ICCV 2015 (normals_gt.tgz); used by MTAN

8-bit values are n = value / 255 * 2 - 1. In both channel 0 is x, to the right; the signs of y and z
differ from copy to copy.

Images are read one at a time: all of them at once take 1.3 GB. Ids are the official 1-based index,
"0001". Camera axes: x right, y down, z forward.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.io import loadmat

from mtl.data.readers.common import bad_file, check_depth, check_size, hold_out, unit_normals
from mtl.data.readers.images import read_mask, read_rgb
from mtl.data.readers.nyuv2_classes import CLASSES_13, classes_13
from mtl.data.sample import Camera, RawDataset, RawSample
from mtl.data.targets.derive import BoolArray, FloatArray, normals_from_depth, plane_normals
from mtl.data.targets.derived_tasks import tasks_to_read
from mtl.errors import BadSampleError, UsageError, UserError

MAT_NAME = "nyu_depth_v2_labeled.mat"
SPLITS_NAME = "splits.mat"
_KINDS = {"images": "u1", "depths": "f", "rawDepths": "f", "labels": "u"}
"""Array -> kind of its numbers, as numpy calls it, and their bytes where these matter."""


def check_mat(path: Path, needed: list[str]) -> tuple[int, frozenset[str]]:
    """Return the number of samples and the names of the good arrays in the data file.

    Raises:
        UserError: if the file is not HDF5, is cut off, or its arrays are not as expected.
    """
    try:
        with h5py.File(path, "r") as file:
            arrays = {k: (file[k].shape, file[k].dtype) for k in sorted(_KINDS) if k in file}
    except (OSError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"Expected a whole MATLAB 7.3 file, that is HDF5, at {path}, got {_first_bytes(path)} "
            f"({error}). Download {MAT_NAME} again, or save it with -v7.3."
        ) from error
    lacking = sorted(set(needed) - set(arrays))
    number = arrays[needed[0]][0][0] if needed[0] in arrays and arrays[needed[0]][0] else 0
    for key, (shape, kind) in arrays.items():
        inner = (3, WIDTH, HEIGHT) if key == "images" else (WIDTH, HEIGHT)
        good = f"{kind.kind}{kind.itemsize}".startswith(_KINDS[key])
        if shape != (number, *inner) or not good or not number:
            lacking.append(f"{key}, which is {kind} of shape {shape}")
    if lacking:
        raise UserError(
            f"Expected arrays {', '.join(needed)} of the labelled data set in {path}, axes as "
            f"MATLAB writes them, equally many samples of {HEIGHT}x{WIDTH}, got none such for "
            f"{'; '.join(lacking)}. Give {MAT_NAME} as it was downloaded."
        )
    return number, frozenset(arrays)


def _first_bytes(path: Path) -> str:
    """Return what a file that cannot be opened begins with, such as a web page or MATLAB 5."""
    try:
        with open(path, "rb") as file:
            return f"one that begins with {file.read(10)!r}"
    except OSError as error:
        return error.strerror or "none"


def read_splits(path: Path, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the 1-based indices of the training and of the test samples, ascending.

    Args:
        path: of splits.mat with `trainNdxs` and `testNdxs`.
        number: of samples in the data file.

    Raises:
        UserError: if the file cannot be read or the indices do not fit the data file.
    """
    remedy = (
        f"Download {SPLITS_NAME}, which belongs to the data file, and put it beside it, or give "
        "its path with the option splits."
    )
    try:
        content = loadmat(path)
        train, test = (np.ravel(content[key]) for key in ("trainNdxs", "testNdxs"))
        both = np.concatenate([train, test])
        indices = both.astype(np.intp)
        good = bool(len(train) and len(test)) and np.array_equal(indices, both)
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"Expected the official split at {path}, got {words}. {remedy}") from error
    if not good or indices.min() < 1 or indices.max() > number or len(set(indices)) < len(indices):
        raise UserError(
            f"Expected each index from 1 to {number} at most once in trainNdxs and testNdxs of "
            f"{path}, got others. {remedy}"
        )
    return tuple(sorted(indices[: len(train)].tolist())), tuple(
        sorted(indices[len(train) :].tolist())
    )


HEIGHT, WIDTH = 480, 640
CAMERA = Camera(fx=518.8579, fy=519.4696, cx=325.5824, cy=253.7362)
"""Of the colour camera, from the toolbox of the data set (`camera_params.m`)."""
DEPTH_RANGE_M = (0.7, 10.0)
TOO_FAR_M = 10.0
"""The toolbox clips raw depth here, and its filling takes the value for missing."""
EIGEN_CROP = (slice(45, 471), slice(41, 601))
"""Rows and columns of Eigen, Puhrsch, Fergus (NIPS 2014), inside the white border of the images."""
PICTURE_MARGIN_PX = 10
"""Images have a white border: 5 to 8 pixels wide, its blurred edge included, in the 18 frames that
were measured, and 7 to 10 by what others say."""
MIN_FILE_NORMAL = 0.5
"""Shorter ones in files, such as those of a grey border, are no normals."""
NO_NORMALS = ("normal", "none")
OFFICIAL_COUNTS = (795, 654)
MAX_WINDOW_PX = 63
LICENCE = (
    "No licence is stated by the owners (Silberman et al., ECCV 2012): treat it as research use "
    "only and do not redistribute."
)


@dataclass(frozen=True, kw_only=True)
class Nyuv2Options:
    """How to read the official file; plain values, so that they can stand in a manifest."""

    tasks: tuple[str, ...] = ()
    """Tasks for which files are read; none means all."""
    splits: str | None = None
    """Path of splits.mat; None means beside the data file."""
    depth: str = "filled"
    """`filled`: the owners' filled depth; pixels without raw depth are valid but not measured.
    `raw`: the sensor's; missing pixels inside the border are not valid but fillable."""
    border: str | int = "eigen"
    """What counts as the invalid border, in all tasks: all outside the `eigen` crop, `none`, or a
    number of pixels on each side. Whatever it is, tasks derived from the image count only where
    their filter does not reach the white border."""
    validation_share: float = 0.1
    """Part of the 795 training samples that is held out."""
    validation_seed: int = 0
    normals: str = "from_depth"
    """`from_depth`, `none`, or the path of normals of one of the public origins."""
    signs: str | None = ""
    """Signs of x, y, z that turn the normals of files into our axes (x right, y down, z forward,
    towards the camera): `+--` or `+,-,-`; must be given with such files. On a command line, whose
    values are YAML, three minuses must be `-,-,-`: a bare `---` arrives as None."""
    normal_window_px: int = 13
    """For `from_depth`: side of the window into which a plane is fitted, see
    `mtl.data.targets.derive`; 1 takes differences of neighbours as they are, mostly noise here."""


def open_nyuv2(source: Path, options: Nyuv2Options | None = None) -> RawDataset:
    """Open the official data set.

    Args:
        source: nyu_depth_v2_labeled.mat or the folder that holds it.
        options: defaults if None.

    Raises:
        UserError: if the file, the splits, the normals or the options are not as expected.
    """
    options = Nyuv2Options() if options is None else options
    _check_options(options)
    path = source / MAT_NAME if source.is_dir() else source
    needed = ["images", "rawDepths" if options.depth == "raw" else "depths", "labels"]
    number, present = check_mat(path, needed)
    splits_path = path.parent / SPLITS_NAME if options.splits is None else Path(options.splits)
    train_indices, test_indices = read_splits(splits_path, number)
    train, validation = hold_out(
        [_id_of(index) for index in train_indices],
        options.validation_share,
        options.validation_seed,
    )
    samples = {
        "train": train,
        "validation": validation,
        "test": tuple(_id_of(index) for index in test_indices),
    }
    held = [t for t in ("depth", "normal", "segmentation") if (t, options.normals) != NO_NORMALS]
    tasks = tasks_to_read(options.tasks, held)
    counts = (len(train_indices), len(test_indices))
    notes = []
    if counts != OFFICIAL_COUNTS:
        notes.append(
            f"The split has {counts[0]} training and {counts[1]} test samples, unlike the official "
            f"{OFFICIAL_COUNTS[0]} and {OFFICIAL_COUNTS[1]}."
        )
    if options.depth == "filled" and "rawDepths" not in present:
        notes.append("There is no rawDepths in the file, so filled depth counts as measured.")
    # Without files there are no signs; recorded is what has always been, the folder's name hangs
    # on it.
    recorded = asdict(options) | {"signs": "auto", "tasks": tasks}
    files = {name: {"data": path} for ids in samples.values() for name in ids}
    lacking = {}
    if options.normals not in ("from_depth", "none"):
        recorded["signs"] = _plain_signs(options.signs)
        if "normal" in tasks:
            origin, normals = _normal_files(Path(options.normals))
            recorded["normals_origin"] = origin
            for name in files:
                files[name] |= normals.get(int(name), {})
                if int(name) not in normals:
                    lacking[name] = (
                        f"Expected {origin} normals of sample {name} in {options.normals}, got "
                        "none. Unpack the archive again, or leave the sample out."
                    )
    fillable = ("depth", "normal") if options.depth == "raw" else ("normal",)
    return RawDataset(
        name="nyuv2",
        tasks=tasks,
        classes=CLASSES_13,
        depth_range_m=DEPTH_RANGE_M,
        samples=samples,
        files=files,
        decode=partial(_read, tasks=tasks, options=options, has_raw_depth="rawDepths" in present),
        fillable=tuple(task for task in fillable if task in tasks),
        licence=LICENCE,
        options=recorded,
        notes=tuple(notes),
        held=tuple(held),
        lacking=lacking,
    )


def inside_border(border: str | int) -> BoolArray:
    """Return (480, 640), True where a pixel does not belong to the border of `Nyuv2Options`."""
    inside = np.zeros((HEIGHT, WIDTH), bool)
    if border == "eigen":
        inside[EIGEN_CROP] = True
    else:
        width = 0 if border == "none" else int(border)
        inside[width : HEIGHT - width, width : WIDTH - width] = True
    return inside


def _id_of(index: int) -> str:
    return f"{index:04d}"


def _check_options(options: Nyuv2Options) -> None:
    if options.depth not in ("filled", "raw"):
        raise UsageError(f"Expected depth filled or raw, got {options.depth!r}. Give one.")
    border = options.border
    is_width = str(border).isdecimal() and int(border) < HEIGHT // 2
    if border not in ("eigen", "none") and not is_width:
        raise UsageError(
            f"Expected border eigen, none or a number of pixels below {HEIGHT // 2}, "
            f"got {border!r}. Give one of these."
        )
    window_px = options.normal_window_px
    if window_px % 2 == 0 or not 1 <= window_px <= MAX_WINDOW_PX:
        raise UsageError(
            f"Expected normal_window_px odd, from 1 to {MAX_WINDOW_PX}, got {window_px}. "
            "Give 1 for no window."
        )


def _plain_signs(signs: str | None) -> str:
    """Return three signs without commas."""
    plain = (signs or "").replace(",", "")
    if len(plain) != 3 or set(plain) - {"+", "-"}:
        raise UsageError(
            f"Expected the signs of x, y, z that give x right, y down, z forward for normals of "
            f"files, such as signs=+-- (or signs=-,-,-), got {signs!r}. Try some and look at them "
            "with `python -m mtl.data.show` beside those of from_depth."
        )
    return plain


@dataclass(frozen=True)
class _Frame:
    """A sample of the data file."""

    path: Path
    name: str

    @property
    def place(self) -> str:
        return f"sample {self.name} of {self.path}"

    def array(self, key: str) -> NDArray[Any]:
        """Return its part of an array of the file, axes as h5py shows them."""
        try:
            # Opened for each read: a handle cannot be sent to another process; opening is cheap.
            with h5py.File(self.path, "r") as file:
                return np.asarray(file[key][int(self.name) - 1])
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            remedy = f"Download {MAT_NAME} again if it is damaged"
            raise bad_file(self.place, key, str(error), remedy) from error


def _read(
    sample_id: str,
    files: Mapping[str, Path],
    tasks: tuple[str, ...],
    options: Nyuv2Options,
    has_raw_depth: bool,
) -> RawSample:
    frame = _Frame(files["data"], sample_id)
    inside = inside_border(options.border)
    image = np.ascontiguousarray(frame.array("images").transpose(2, 1, 0))
    targets: dict[str, NDArray[Any]] = {}
    valid: dict[str, BoolArray] = {}
    measured: dict[str, BoolArray] = {}
    fillable: dict[str, BoolArray] = {}
    if "segmentation" in tasks:
        try:
            labels, labelled = classes_13(np.ascontiguousarray(frame.array("labels").T))
        except ValueError as error:
            raise BadSampleError(f"{error} ({frame.place})") from error
        targets["segmentation"], valid["segmentation"] = labels, labelled & inside
    from_depth = "normal" in tasks and "normals" not in files
    sensed = None
    if "depth" in tasks or from_depth:
        depth, known = _read_depth(frame, options.depth)
        if not (known & inside).any():
            remedy = "Leave the sample out or download the file again"
            raise bad_file(frame.place, "some valid depth inside the border", "none", remedy)
        if options.depth == "filled" and has_raw_depth:
            raw = frame.array("rawDepths").T
            sensed = known & (raw > 0) & (raw < TOO_FAR_M)
    if "depth" in tasks:
        targets["depth"] = depth[..., None].astype(np.float32)
        valid["depth"] = known & inside
        if sensed is not None:
            measured["depth"] = sensed & inside
        if options.depth == "raw":
            fillable["depth"] = inside & ~known
    if "normal" in tasks:
        if not from_depth:
            normals, exists = _read_normals(files, options.signs)
        elif options.normal_window_px == 1:
            normals, exists = normals_from_depth(depth, CAMERA, known)
        else:
            normals, exists = plane_normals(depth, CAMERA, known, options.normal_window_px)
        targets["normal"] = normals.astype(np.float32)
        valid["normal"] = exists & inside
        fillable["normal"] = inside & ~exists
        if from_depth and sensed is not None:
            # A normal depends on its neighbours too, and on the nearest ones most.
            cross = ndimage.generate_binary_structure(2, 1)
            measured["normal"] = ndimage.binary_erosion(sensed, cross, border_value=1) & inside
    picture = inside_border(PICTURE_MARGIN_PX)
    return RawSample(image, targets, valid, measured, CAMERA, fillable, picture, inside)


def _read_depth(frame: _Frame, kind: str) -> tuple[FloatArray, BoolArray]:
    """Return depth (480, 640) in metres, 0 where there is none, and where there is some."""
    depth = frame.array("rawDepths" if kind == "raw" else "depths").T.astype(np.float64)
    known = depth != 0
    if known.any():
        remedy = "Download the file again, or leave the sample out"
        check_depth(frame.place, depth, known, DEPTH_RANGE_M, remedy)
    if kind == "raw":
        known &= depth < TOO_FAR_M
    return np.where(known, depth, 0.0), known


def _read_normals(files: Mapping[str, Path], signs: str | None) -> tuple[FloatArray, BoolArray]:
    """Return the unit normals (H, W, 3) of files, and where they are valid (H, W)."""
    colours = read_rgb(files["normals"], lossless=True)
    valid = read_mask(files["masks"]) if "masks" in files else np.ones((HEIGHT, WIDTH), bool)
    for name, values in (("normals", colours), ("masks", valid)):
        remedy = "Give the original files, not resized ones"
        check_size(files.get(name, Path()), values, (HEIGHT, WIDTH), remedy)
    remedy = "Give the original files, whose values are (n + 1) / 2 * 255"
    decoded = colours / 255 * 2 - 1
    unit, valid = unit_normals(files["normals"], decoded, valid, remedy, MIN_FILE_NORMAL)
    return unit * np.array([1.0 if sign == "+" else -1.0 for sign in _plain_signs(signs)]), valid


def _normal_files(path: Path) -> tuple[str, dict[int, dict[str, Path]]]:
    """Return of which origin the normals in a folder are, and 1-based index -> files.

    Raises:
        UserError: if there are no normals of a known origin.
    """
    for folder in (path, path / "nyu_normals_gt"):
        found = _numbered(folder / "train", 0) | _numbered(folder / "test", 0)
        if found:
            return "ladicky", {index: {"normals": each} for index, each in found.items()}
    found = _numbered(path / "normals", 1)
    if found and (path / "masks").is_dir():
        return "eigen", {
            index: {"normals": each, "masks": path / "masks" / each.name}
            for index, each in found.items()
        }
    raise UserError(
        f"Expected normals at {path} as train/ and test/ with 00001.png, or normals/ and masks/ "
        "with 0000.png, got neither. Give the unpacked folder, or from_depth."
    )


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
