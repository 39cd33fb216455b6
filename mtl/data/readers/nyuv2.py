"""NYU Depth V2, the official file: `nyu_depth_v2_labeled.mat` and `splits.mat`.

Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV
2012. The file is MATLAB 7.3, that is HDF5, where arrays of MATLAB show with their axes reversed:

    images     (N, 3, 640, 480)  uint8   RGB
    depths     (N, 640, 480)     float   metres, holes filled by the owners (colorization)
    rawDepths  (N, 640, 480)     float   metres, 0 = missing, 10 = too far to tell
    labels     (N, 640, 480)     uint    0 = unlabelled, 1..894

Images are read one at a time: all of them at once take 1.3 GB. Ids are the official 1-based index,
"0001". Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.io import loadmat

from mtl.data.readers.holdout import hold_out
from mtl.data.readers.nyuv2_classes import CLASSES_13, classes_13
from mtl.data.readers.nyuv2_normals import (
    NormalFiles,
    choose_signs,
    files_of_normals,
    open_normals,
    read_normals,
)
from mtl.data.sample import Camera, RawDataset, RawSample
from mtl.data.targets.derive import BoolArray, FloatArray, normals_from_depth, plane_normals
from mtl.data.targets.derived_tasks import tasks_to_read
from mtl.errors import BadSampleError, BadSourceError

MAT_NAME = "nyu_depth_v2_labeled.mat"
SPLITS_NAME = "splits.mat"
_KINDS = {"images": "u", "depths": "f", "rawDepths": "f", "labels": "u"}
"""Array -> kind of its numbers, as numpy calls it."""
_KIND_WORDS = {"u": "unsigned integers", "f": "floating numbers"}


def find_mat(source: Path) -> Path:
    """Return the path of the data file, given itself or its folder.

    Raises:
        BadSourceError: if there is none.
    """
    path = source / MAT_NAME if source.is_dir() else source
    if not path.is_file():
        raise BadSourceError(
            f"Expected {MAT_NAME} at {path}, got no such file. "
            "Give the file or the folder that holds it."
        )
    return path


def find_splits(mat: Path) -> Path:
    """Return the path of splits.mat beside the data file, which need not exist."""
    return mat.parent / SPLITS_NAME


def check_mat(path: Path, keys: list[str], size: tuple[int, int]) -> tuple[int, frozenset[str]]:
    """Return the number of samples and the names of the good arrays in the file.

    Args:
        path: of the data file.
        keys: arrays that must be there.
        size: height and width in pixels.

    Raises:
        BadSourceError: if the file is not HDF5, is cut off, or its arrays are not as expected.
    """
    if not _is_hdf5(path):
        raise BadSourceError(
            f"Expected {path} to be a MATLAB 7.3 file, that is HDF5, got {_looks_like(path)}. "
            f"Download {MAT_NAME} again, or save it with -v7.3."
        )
    try:
        with h5py.File(path, "r") as file:
            numbers = {key: _check_array(path, file, key, size) for key in keys}
            present = {key for key in _KINDS if key in file}
            for key in present - set(keys):
                numbers[key] = _check_array(path, file, key, size)
    except (OSError, RuntimeError) as error:
        raise BadSourceError(
            f"Expected a whole HDF5 file at {path}, got: {error}. Download it again."
        ) from error
    if len(set(numbers.values())) > 1:
        found = ", ".join(f"{key} {number}" for key, number in sorted(numbers.items()))
        raise BadSourceError(
            f"Expected as many samples in each array of {path}, got {found}. Download it again."
        )
    return numbers[keys[0]], frozenset(present)


def _check_array(path: Path, file: h5py.File, key: str, size: tuple[int, int]) -> int:
    array = file.get(key)
    if not isinstance(array, h5py.Dataset):
        others = ", ".join(sorted(file)) or "nothing"
        raise BadSourceError(
            f"Expected an array {key} in {path}, got {others}. Give the labelled data set, "
            f"{MAT_NAME}."
        )
    height, width = size
    inner = (3, width, height) if key == "images" else (width, height)
    if array.shape is None or array.shape[1:] != inner or not array.shape[0]:
        wanted = ", ".join(map(str, inner))
        raise BadSourceError(
            f"Expected {key} of shape (samples, {wanted}) in {path}, got {array.shape}. "
            "Write the axes as MATLAB does, reversed, at the original size."
        )
    kind, is_byte = array.dtype.kind, array.dtype.itemsize == 1
    if kind != _KINDS[key] or (key == "images" and not is_byte):
        wanted = "8-bit " * (key == "images") + _KIND_WORDS[_KINDS[key]]
        raise BadSourceError(
            f"Expected {key} of {wanted} in {path}, got {array.dtype}. Download the file again."
        )
    return int(array.shape[0])


def _is_hdf5(path: Path) -> bool:
    try:
        return bool(h5py.is_hdf5(path))
    except OSError:
        return False


def _looks_like(path: Path) -> str:
    """Return words for what a file that is not HDF5 may be."""
    try:
        with open(path, "rb") as file:
            start = file.read(128)
    except OSError as error:
        return f"an error: {error.strerror or error}"
    if not start:
        return "an empty file"
    if start.startswith(b"MATLAB 5.0"):
        return "an old MATLAB 5 file"
    if start.startswith(b"MATLAB 7.3"):
        return "one that is cut off or damaged"
    if start.lstrip().startswith(b"<"):
        return "a web page"
    return f"a file that begins with {start[:8]!r}"


def read_splits(path: Path, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the 1-based indices of the training and of the test samples, ascending.

    Args:
        path: of splits.mat with `trainNdxs` and `testNdxs`.
        number: of samples in the data file.

    Raises:
        BadSourceError: if the file cannot be read or the indices do not fit the data file.
    """
    if not path.is_file():
        raise BadSourceError(
            f"Expected the official split at {path}, got no such file. Download {SPLITS_NAME} and "
            "put it beside the data file, or give its path with the option splits."
        )
    try:
        content = loadmat(path)
    except Exception as error:  # a damaged file makes scipy raise nearly anything
        raise BadSourceError(
            f"Expected a MATLAB 5 file at {path}, got one that cannot be read "
            f"({type(error).__name__}: {error}). Download {SPLITS_NAME} again."
        ) from error
    train = _indices(path, content, "trainNdxs", number)
    test = _indices(path, content, "testNdxs", number)
    both = sorted(set(train) & set(test))
    if both:
        raise BadSourceError(
            f"Expected no sample in both trainNdxs and testNdxs of {path}, got {len(both)}, "
            f"the first {both[0]}. Download {SPLITS_NAME} again."
        )
    return train, test


def _indices(path: Path, content: dict[str, Any], key: str, number: int) -> tuple[int, ...]:
    array: NDArray[Any] | None = content.get(key)
    if array is None or array.dtype.kind not in "uif" or not array.size:
        found = "none" if array is None else f"{array.dtype} of shape {array.shape}"
        raise BadSourceError(
            f"Expected indices {key} in {path}, got {found}. Download {SPLITS_NAME} again."
        )
    flat = array.reshape(-1)
    outside = flat[~((flat >= 1) & (flat <= number) & (flat == np.floor(flat)))]
    if outside.size:
        raise BadSourceError(
            f"Expected indices from 1 to {number} in {key} of {path}, got {outside[0]}. "
            f"Give the {SPLITS_NAME} that belongs to the data file."
        )
    indices = sorted({int(index) for index in flat})
    if len(indices) < flat.size:
        raise BadSourceError(
            f"Expected each index once in {key} of {path}, got {flat.size - len(indices)} twice. "
            f"Download {SPLITS_NAME} again."
        )
    return tuple(indices)


HEIGHT, WIDTH = 480, 640
CAMERA = Camera(fx=518.8579, fy=519.4696, cx=325.5824, cy=253.7362)
"""Of the colour camera, from the toolbox of the data set (`camera_params.m`)."""
DEPTH_RANGE_M = (0.7, 10.0)
TOO_FAR_M = 10.0
"""The toolbox clips raw depth here, and its filling takes the value for missing."""
LARGEST_DEPTH_M = 100.0
"""No room is so deep: such values are millimetres or worse."""
EIGEN_CROP = (slice(45, 471), slice(41, 601))
"""Rows and columns of Eigen, Puhrsch, Fergus (NIPS 2014), inside the white border of the images."""
PICTURE_MARGIN_PX = 10
"""Images have a white border: 5 to 8 pixels wide, its blurred edge included, in the 18 frames that
were measured, and 7 to 10 by what others say."""
NO_NORMALS = ("normal", "none")
OFFICIAL_COUNTS = (795, 654)
SIGN_CHECK_FRAMES = 6
LARGEST_WINDOW_PX = 63
LICENCE = (
    "No licence is stated by the owners (Silberman et al., ECCV 2012): treat it as research use "
    "only and do not redistribute."
)


@dataclass(frozen=True, kw_only=True)
class Nyuv2Options:
    """How to read the official file; plain values, so that they can stand in a manifest."""

    tasks: tuple[str, ...] = ()
    """Tasks for which files are read; none means all. `--tasks` sets it to those wanted, and what
    they follow from is read too."""
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
    """`from_depth`, `none`, or the path of normals of one of the public origins, see
    `mtl.data.readers.nyuv2_normals`."""
    signs: str | None = "auto"
    """Signs of x, y, z that turn a file's normals into our axes, such as `+--` or `+,-,-`; `auto`
    compares them with normals from depth. Ignored for `from_depth` and `none`. On a command line,
    whose values are YAML, three minuses must be `-,-,-`: a bare `---` arrives as None."""
    normal_window_px: int = 13
    """For `from_depth`: side of the window into which a plane is fitted, see
    `mtl.data.targets.derive`; 1 takes differences of neighbours as they are, mostly noise here."""


@dataclass(frozen=True)
class _Opened:
    """What reading a sample needs; it can be sent to another process."""

    path: Path
    options: Nyuv2Options
    has_raw_depth: bool
    normals: NormalFiles | None
    tasks: tuple[str, ...]


def open_nyuv2(source: Path, options: Nyuv2Options | None = None) -> RawDataset:
    """Open the official data set.

    Args:
        source: nyu_depth_v2_labeled.mat or the folder that holds it.
        options: defaults if None.

    Raises:
        BadSourceError: if the file, the splits, the normals or the options are not as expected.
    """
    options = Nyuv2Options() if options is None else options
    _check_options(options)
    signs = _plain_signs(options.signs)
    path = find_mat(Path(source))
    keys = ["images", "rawDepths" if options.depth == "raw" else "depths", "labels"]
    number, present = check_mat(path, keys, (HEIGHT, WIDTH))
    splits_path = find_splits(path) if options.splits is None else Path(options.splits)
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
    opened = _Opened(path, options, "rawDepths" in present, None, tasks)
    notes = _count_notes(len(train_indices), len(test_indices))
    if options.depth == "filled" and not opened.has_raw_depth:
        notes.append("There is no rawDepths in the file, so filled depth counts as measured.")
    if options.normals not in ("from_depth", "none") and "normal" in tasks:
        files = open_normals(Path(options.normals), signs, (HEIGHT, WIDTH))
        if signs == "auto":
            files, note = _with_signs(opened, files, train_indices)
            notes.append(note)
        opened = dataclasses.replace(opened, normals=files)
    recorded = dataclasses.asdict(options) | {"signs": signs, "tasks": tasks}
    if opened.normals is not None:
        recorded |= {"normals_origin": opened.normals.origin, "signs": opened.normals.signs}
    fillable = ("depth", "normal") if options.depth == "raw" else ("normal",)
    return RawDataset(
        name="nyuv2",
        tasks=tasks,
        classes=CLASSES_13,
        depth_range_m=DEPTH_RANGE_M,
        samples=samples,
        read=partial(_read, opened),
        files=partial(_files, opened),
        fillable=tuple(task for task in fillable if task in tasks),
        licence=LICENCE,
        options=recorded,
        notes=tuple(notes),
        held=tuple(held),
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
        raise BadSourceError(f"Expected depth filled or raw, got {options.depth!r}. Give one.")
    border = options.border
    good = border in ("eigen", "none") or str(border).isdecimal()
    if not good or (str(border).isdecimal() and int(border) >= HEIGHT // 2):
        raise BadSourceError(
            f"Expected border eigen, none or a number of pixels below {HEIGHT // 2}, "
            f"got {border!r}. Give one of these."
        )
    window_px = options.normal_window_px
    if window_px % 2 == 0 or not 1 <= window_px <= LARGEST_WINDOW_PX:
        raise BadSourceError(
            f"Expected normal_window_px odd, from 1 to {LARGEST_WINDOW_PX}, got {window_px}. "
            "Give 1 for no window."
        )


def _plain_signs(signs: str | None) -> str:
    """Return `auto` or three signs without commas."""
    if signs is None:
        raise BadSourceError(
            "Expected signs auto or three of + and - such as +--, got none, or ---, which YAML "
            "takes for the beginning of a document. Write signs=-,-,- for three minuses."
        )
    plain = signs.replace(",", "")
    if plain != "auto" and not (len(plain) == 3 and set(plain) <= {"+", "-"}):
        raise BadSourceError(
            f"Expected signs auto or three of + and - such as +--, got {signs!r}. "
            "Give one of these."
        )
    return plain


def _count_notes(num_train: int, num_test: int) -> list[str]:
    if (num_train, num_test) == OFFICIAL_COUNTS:
        return []
    return [
        f"The split has {num_train} training and {num_test} test samples, "
        f"unlike the official {OFFICIAL_COUNTS[0]} and {OFFICIAL_COUNTS[1]}."
    ]


def _with_signs(
    opened: _Opened, files: NormalFiles, train_indices: tuple[int, ...]
) -> tuple[NormalFiles, str]:
    """Return the files with the signs that fit the depth of some training frames, and a note."""
    having = [index for index in train_indices if index in files.indices]
    if not having:
        raise BadSourceError(
            f"Expected normals of the training samples in {files.path}, got none of them. "
            "Check that the files belong to NYU Depth V2."
        )
    chosen = having[:: max(1, len(having) // SIGN_CHECK_FRAMES)][:SIGN_CHECK_FRAMES]
    frames = []
    for index in chosen:
        try:
            depth, valid = _read_depth(opened, index)
            normals, exists = read_normals(files, index)
        except BadSampleError:
            continue  # one bad frame is for `read` to report, and the others can tell the signs
        frames.append((depth, valid, normals, exists))
    signs, note = choose_signs(frames, CAMERA, files.path)
    return dataclasses.replace(files, signs=signs), note


def _files(opened: _Opened, sample_id: str) -> Iterable[Path]:
    """Return the data file, which holds all samples, and the normals' files of this one."""
    normals = () if opened.normals is None else files_of_normals(opened.normals, int(sample_id))
    return (opened.path, *normals)


def _read(opened: _Opened, sample_id: str) -> RawSample:
    """Return a sample of an opened data set; raises `BadSampleError`."""
    index = int(sample_id)
    options = opened.options
    inside = inside_border(options.border)
    image = np.ascontiguousarray(_read_array(opened, "images", index).transpose(2, 1, 0))
    read = _Maps({}, {}, {}, {})
    if "segmentation" in opened.tasks:
        labels, labelled = _read_labels(opened, index)
        read.targets["segmentation"], read.valid["segmentation"] = labels, labelled & inside
    if "depth" in opened.tasks or ("normal" in opened.tasks and opened.normals is None):
        _read_from_depth(opened, index, inside, read)
    if opened.normals is not None:
        _add_normals(*read_normals(opened.normals, index), inside, read)
    picture = inside_border(PICTURE_MARGIN_PX)
    return RawSample(
        image, read.targets, read.valid, read.measured, CAMERA, read.fillable, picture, inside
    )


@dataclass(frozen=True)
class _Maps:
    """Task -> map, as in `RawSample`, while a sample is read."""

    targets: dict[str, NDArray[Any]]
    valid: dict[str, BoolArray]
    measured: dict[str, BoolArray]
    fillable: dict[str, BoolArray]


def _read_from_depth(opened: _Opened, index: int, inside: BoolArray, read: _Maps) -> None:
    """Add depth, normals that come of it, or both, as they are wanted."""
    options = opened.options
    depth, known = _read_depth(opened, index)
    if not (known & inside).any():
        raise BadSampleError(
            f"Expected some valid depth in sample {_id_of(index)} of {opened.path}, got none "
            "inside the border. Leave the sample out or download the file again."
        )
    sensed = None
    if options.depth == "filled" and opened.has_raw_depth:
        raw = _checked_depth(opened, "rawDepths", index)
        sensed = known & (raw > 0) & (raw < TOO_FAR_M)
    if "depth" in opened.tasks:
        read.targets["depth"] = depth[..., None].astype(np.float32)
        read.valid["depth"] = known & inside
        if sensed is not None:
            read.measured["depth"] = sensed & inside
        if options.depth == "raw":
            read.fillable["depth"] = inside & ~known
    if "normal" in opened.tasks and opened.normals is None:
        window_px = options.normal_window_px
        normals, exists = (
            normals_from_depth(depth, CAMERA, known)
            if window_px == 1
            else plane_normals(depth, CAMERA, known, window_px)
        )
        _add_normals(normals, exists, inside, read)
        if sensed is not None:
            # A normal comes of its neighbours too, and of the nearest ones most.
            cross = ndimage.generate_binary_structure(2, 1)
            read.measured["normal"] = ndimage.binary_erosion(sensed, cross, border_value=1) & inside


def _add_normals(normals: FloatArray, exists: BoolArray, inside: BoolArray, read: _Maps) -> None:
    read.targets["normal"] = normals.astype(np.float32)
    read.valid["normal"] = exists & inside
    read.fillable["normal"] = inside & ~exists


def _read_depth(opened: _Opened, index: int) -> tuple[FloatArray, BoolArray]:
    """Return depth (480, 640) in metres, 0 where there is none, and where there is some."""
    is_raw = opened.options.depth == "raw"
    depth = _checked_depth(opened, "rawDepths" if is_raw else "depths", index)
    known = depth > 0
    if is_raw:
        known &= depth < TOO_FAR_M
    return np.where(known, depth, 0.0), known


def _checked_depth(opened: _Opened, key: str, index: int) -> FloatArray:
    depth = _read_array(opened, key, index).T.astype(np.float64)
    if not np.isfinite(depth).all():
        found = f"{np.count_nonzero(~np.isfinite(depth))} pixels of NaN or infinity"
    elif depth.min() < 0:
        found = f"{depth.min():g} m"
    elif depth.max() > LARGEST_DEPTH_M:
        found = f"{depth.max():g}, as if it were millimetres"
    else:
        return depth
    raise BadSampleError(
        f"Expected depth from 0 to {LARGEST_DEPTH_M:g} m in {key} of sample {_id_of(index)} of "
        f"{opened.path}, got {found}. Leave the sample out or download the file again."
    )


def _read_labels(opened: _Opened, index: int) -> tuple[NDArray[np.uint8], BoolArray]:
    labels = np.ascontiguousarray(_read_array(opened, "labels", index).T)
    try:
        return classes_13(labels)
    except ValueError as error:
        raise BadSampleError(f"Sample {_id_of(index)} of {opened.path}: {error}") from error


def _read_array(opened: _Opened, key: str, index: int) -> NDArray[Any]:
    """Return one image's part of an array of the file, axes as h5py shows them."""
    try:
        # Opened for each read: a handle cannot be sent to another process, and opening is cheap.
        with h5py.File(opened.path, "r") as file:
            return np.asarray(file[key][index - 1])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise BadSampleError(
            f"Expected to read {key} of sample {_id_of(index)} of {opened.path}, got: {error}. "
            f"Download {MAT_NAME} again if it is damaged."
        ) from error
