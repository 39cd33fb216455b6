"""The two official files of NYU Depth V2, found and checked before anything is read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from mtl.data.raw import BadSourceError

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
