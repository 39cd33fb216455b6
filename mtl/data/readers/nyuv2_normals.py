"""Normals of NYU Depth V2 from the three public origins; the official file has none.

    ladicky  {train,test}/00001.png   8-bit RGB, numbers from 1 over both folders
             Ladicky, Zeisl, Pollefeys, ECCV 2014 (nyu_normals_gt.zip)
    eigen    normals/0000.png and masks/0000.png, numbers from 0, mask > 0 = valid
             Eigen, Fergus, ICCV 2015 (normals_gt.tgz); used by MTAN
    fair     all_normals.pklz         a gzipped pickle: all_normals (N, 480, 640, 3) in -1..1,
             all_filenames ("000001", from 1), all_valid_depth_masks (N, 480, 640) if there
             Goyal et al., ICCV 2019 (nyuv2_surfacenormal_metadata.zip)

8-bit values are n = value / 255 * 2 - 1. In all of them channel 0 is x, to the right; the signs of
the axes differ from origin to origin, and are found by comparing with normals from depth. A normal
of less than half the unit length, such as that of a grey border, is no normal.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtl.data.manifest import new_array
from mtl.data.readers.images import read_rgb, read_uint8
from mtl.data.sample import Camera
from mtl.data.targets.derive import BoolArray, FloatArray, normals_from_depth
from mtl.errors import BadSampleError, BadSourceError, UsageError

SPOOLED_BYTES = 1 << 16
"""Strings of bytes longer than this go to the file beside."""
_PIECE_BYTES = 1 << 20
_GZIP_START = b"\x1f\x8b"


def load_arrays(path: Path, spool: Path) -> Any:
    """Return what a pickle holds, gzipped or not, numpy arrays read-only.

    Args:
        path: of the pickle.
        spool: file to be written, into which large arrays are mapped; must outlive them.

    Raises:
        BadSourceError: if the file is damaged or holds anything but arrays, lists, dictionaries,
            strings and numbers.
    """
    try:
        with open(path, "rb") as start:
            is_gzip = start.read(2) == _GZIP_START
        opener: Callable[..., Any] = gzip.open if is_gzip else open
        with opener(path, "rb") as file, open(spool, "wb") as beside:
            content = _Reader(file, beside).load()
        return _resolved(content, spool)
    except _RefusedNameError as error:
        raise BadSourceError(
            f"Expected {path} to hold arrays, lists and strings alone, got the name {error}. "
            "Do not open this file with other programs: it could run code; download it again."
        ) from error
    except Exception as error:  # a damaged pickle makes the machine raise nearly anything
        raise BadSourceError(
            f"Expected a whole pickle of arrays at {path}, got: {type(error).__name__}: {error}. "
            "Download it again."
        ) from error


class _RefusedNameError(Exception):
    """A name in the pickle that is not one of numpy's arrays."""


class _Bytes:
    """Bytes in the file beside."""

    def __init__(self, offset: int, size: int) -> None:
        self.offset, self.size = offset, size


class _Dtype:
    """What a pickle says of a number type, in place of `numpy.dtype`."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = str(name), "="

    def build(self, state: Any) -> None:
        self.order = str(state[1]).replace("|", "=")

    def real(self) -> np.dtype:
        return np.dtype(self.name).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """What a pickle says of an array, in place of `numpy.ndarray`."""

    def __init__(self, shape: Any = (), dtype: Any = None, content: Any = None) -> None:
        self.shape, self.dtype, self.content, self.order = shape, dtype, content, "C"

    def build(self, state: Any) -> None:
        _, self.shape, self.dtype, by_columns, self.content = state
        self.order = "F" if by_columns else "C"

    def real(self, spool: Path) -> Any:
        if isinstance(self.content, list):  # an array of objects
            return _resolved(self.content, spool)
        dtype, shape = self.dtype.real(), tuple(map(int, self.shape))
        if dtype.hasobject:
            raise UsageError(f"an array of type {dtype} without a list of its elements")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        held = self.content.size if isinstance(self.content, _Bytes) else len(self.content)
        if min(shape, default=0) < 0 or size != held:
            raise UsageError(f"an array of shape {shape} and type {dtype} in {held} bytes")
        order: Any = self.order
        if isinstance(self.content, _Bytes):
            return np.memmap(spool, dtype, "r", self.content.offset, shape, order)
        if isinstance(self.content, str):  # Python 2's bytes
            self.content = self.content.encode("latin1")
        flat: NDArray[Any] = np.frombuffer(self.content, dtype)
        return flat.reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array(shape, dtype, buffer)
    array.order = "F" if order == "F" else "C"
    return array


def _scalar(dtype: Any, content: Any) -> _Array:
    return _Array((), dtype, content)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise UsageError(f"bytes written as {encoding}")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Reader(pickle._Unpickler):
    """The pickle machine, with stand-ins for names and large bytes in the file beside."""

    # Of the machine; its types are not published.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], beside: IO[bytes]) -> None:
        # latin1 keeps the bytes that Python 2 calls strings.
        super().__init__(file, encoding="latin1")
        self._beside = beside

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _RefusedNameError(f"{module}.{name}")
        return _NAMES[module, name]

    def _load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        # The machine's own would set attributes of anything.
        if not isinstance(target, (_Array, _Dtype)):
            raise UsageError(f"a state for {type(target).__name__}")
        target.build(state)

    def _load_bytes(self, size: int, decode: bool) -> None:
        if size < 0:
            raise UsageError(f"a string of {size} bytes")
        if size <= SPOOLED_BYTES:
            short = self.read(size)
            if len(short) < size:
                raise EOFError("it ends too early")
            self.append(short.decode("latin1") if decode else short)
            return
        held = _Bytes(self._beside.tell(), size)
        left = size
        while left:
            piece = self.read(min(left, _PIECE_BYTES))
            if not piece:
                raise EOFError("it ends too early")
            self._beside.write(piece)
            left -= len(piece)
        self.append(held)

    def _load_counted(self, layout: str, decode: bool) -> None:
        head = self.read(struct.calcsize(layout))
        self._load_bytes(struct.unpack(layout, head)[0], decode)

    # Ways to make objects that no array needs.
    for opcode in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.PERSID),
        *(pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    ):
        del dispatch[opcode[0]]
    dispatch[pickle.BUILD[0]] = _load_build
    dispatch[pickle.BINSTRING[0]] = lambda self: self._load_counted("<i", True)
    dispatch[pickle.BINBYTES[0]] = lambda self: self._load_counted("<I", False)
    dispatch[pickle.BINBYTES8[0]] = lambda self: self._load_counted("<Q", False)
    dispatch[pickle.BYTEARRAY8[0]] = lambda self: self._load_counted("<Q", False)


def _resolved(content: Any, spool: Path) -> Any:
    """Return the content with real arrays in place of stand-ins."""
    if isinstance(content, _Array):
        array = content.real(spool)
        return array[()] if isinstance(array, np.ndarray) and array.ndim == 0 else array
    if isinstance(content, dict):
        return {_resolved(key, spool): _resolved(value, spool) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(_resolved(value, spool) for value in content)
    return content


SHORTEST_NORMAL = 0.5
CHECK_BLOCK_PX = 8
"""Side of the blocks whose means are compared for the signs: single pixels of depth are too
noisy for normals."""
WORST_CHECK_DEG = 45.0
"""A median angle above this means that normals and depth are not of the same images."""
SURE_MARGIN_DEG = 5.0
UNPACKED = ".unpacked"
"""Ending of the folder beside a pickle."""

_Frame = tuple[FloatArray, BoolArray, FloatArray, BoolArray]
"""Depth (H, W), where it is valid, normals (H, W, 3), where they are valid."""


@dataclass(frozen=True)
class NormalFiles:
    """Normals on disk, opened. `signs` are of x, y, z, such as `+--`."""

    origin: str
    path: Path
    signs: str
    size: tuple[int, int]
    indices: Mapping[int, Any] = field(repr=False)
    """Official 1-based index -> path of the picture, or row of the unpacked arrays."""


def open_normals(path: Path, signs: str, size: tuple[int, int]) -> NormalFiles:
    """Find out of which origin the normals at `path` are and list them.

    A pickle is unpacked into a folder beside it, `<name>.unpacked`, once.

    Args:
        path: the folder of ladicky or eigen, or all_normals.pklz or the folder that holds it.
        signs: of x, y, z, such as `+--`; `auto` stands for `+++` until they are chosen.
        size: height and width in pixels.

    Raises:
        BadSourceError: if there are no normals of a known origin.
    """
    signs = "+++" if signs == "auto" else signs
    pickled = path / "all_normals.pklz" if path.is_dir() else path
    if pickled.is_file():
        unpacked = _unpacked(pickled, size)
        rows = json.loads((unpacked / "index.json").read_text("utf-8"))["indices"]
        indices = {index: row for row, index in enumerate(rows)}
        return NormalFiles("fair", unpacked, signs, size, indices)
    for folder in (path, path / "nyu_normals_gt"):
        found = _numbered(folder / "train", 0) | _numbered(folder / "test", 0)
        if found:
            return NormalFiles("ladicky", folder, signs, size, found)
    found = _numbered(path / "normals", 1)
    if found:
        if not (path / "masks").is_dir():
            raise BadSourceError(
                f"Expected the folder masks beside normals in {path}, got none. "
                "Unpack all of normals_gt.tgz there."
            )
        return NormalFiles("eigen", path, signs, size, found)
    raise BadSourceError(
        f"Expected normals at {path} as train/ and test/ with 00001.png, or normals/ and masks/ "
        "with 0000.png, or all_normals.pklz, got none of these. Give the unpacked folder, or "
        "from_depth."
    )


def read_normals(files: NormalFiles, index: int) -> tuple[FloatArray, BoolArray]:
    """Return the unit normals (H, W, 3) of the 1-based `index`, and where they are valid (H, W).

    Raises:
        BadSampleError: if there are none, or they cannot be read.
    """
    if index not in files.indices:
        raise BadSampleError(
            f"Expected {files.origin} normals of sample {index:04d} in {files.path}, got none. "
            "Unpack the archive again, or leave the sample out."
        )
    if files.origin == "fair":
        row = files.indices[index]
        normals = np.load(files.path / "normals.npy", mmap_mode="r")[row].astype(np.float64)
        valid = np.array(np.load(files.path / "valid.npy", mmap_mode="r")[row])
    else:
        normals, valid = _read_pictures(files, Path(files.indices[index]))
    valid &= np.isfinite(normals).all(axis=-1)
    normals = np.where(valid[..., None], normals, 0.0)
    length = np.linalg.norm(normals, axis=-1)
    valid &= length > SHORTEST_NORMAL
    unit = normals / np.where(valid, length, 1.0)[..., None] * _factors(files.signs)
    return np.where(valid[..., None], unit, 0.0), valid


def files_of_normals(files: NormalFiles, index: int) -> tuple[Path, ...]:
    """Return the files that hold the normals of the 1-based `index`; none if there are none."""
    if index not in files.indices:
        return ()
    if files.origin == "fair":  # the pickle: its unpacked arrays may be made anew at any time
        return (files.path.with_name(files.path.name.removesuffix(UNPACKED)),)
    path = Path(files.indices[index])
    masks = (files.path / "masks" / path.name,) if files.origin == "eigen" else ()
    return (path, *masks)


def choose_signs(frames: Sequence[_Frame], camera: Camera, path: Path) -> tuple[str, str]:
    """Return the signs with the smallest median angle to normals from depth, and a sentence.

    Args:
        frames: some frames, normals as the files hold them.
        camera: of the frames.
        path: of the normals, for messages.

    Raises:
        BadSourceError: if no signs fit.
    """
    pairs = [_block_normals(frame, camera) for frame in frames]
    given = np.concatenate([pair[0] for pair in pairs] or [np.zeros((0, 3))])
    derived = np.concatenate([pair[1] for pair in pairs] or [np.zeros((0, 3))])
    if not len(given):
        raise BadSourceError(
            f"Expected pixels with both depth and normals to find the signs of {path}, got none. "
            "Give the signs, such as +--, or other normals."
        )
    angles = {}
    for signs in map("".join, itertools.product("+-", repeat=3)):
        cosine = np.sum(given * _factors(signs) * derived, axis=-1)
        angles[signs] = _balanced_median_deg(np.degrees(np.arccos(cosine.clip(-1, 1))), derived)
    best, second = sorted(angles, key=lambda signs: angles[signs])[:2]
    if angles[best] > WORST_CHECK_DEG:
        raise BadSourceError(
            f"Expected normals in {path} that fit the depth of their images, got a median angle "
            f"of {angles[best]:.0f} degrees at best. Check that they belong to this data set."
        )
    doubt = ", which is close" if angles[second] - angles[best] < SURE_MARGIN_DEG else ""
    return best, (
        f"Signs {best} of the normals' x, y, z fit normals from depth best: median angle "
        f"{angles[best]:.1f} degrees in {len(frames)} frames, next {second} with "
        f"{angles[second]:.1f}{doubt}."
    )


def _balanced_median_deg(angles_deg: FloatArray, derived: FloatArray) -> float:
    """Return the mean of the medians over normals that point mainly along x, along y and along z.

    In one median over all, the walls, which are most of a room and have next to no y, would hide
    that the floor is upside down.
    """
    axis = np.abs(derived).argmax(axis=-1)
    return float(np.mean([np.median(angles_deg[axis == k]) for k in np.unique(axis)]))


def _factors(signs: str) -> FloatArray:
    return np.array([1.0 if sign == "+" else -1.0 for sign in signs])


def _block_normals(frame: _Frame, camera: Camera) -> tuple[FloatArray, FloatArray]:
    """Return the file's and the depth's unit normals of those blocks that have both: (n, 3)."""
    depth, depth_valid, normals, normals_valid = frame
    whole = depth_valid & normals_valid
    every = _block_mean(whole.astype(float)) == 1
    block = CHECK_BLOCK_PX
    middle = (block - 1) / 2
    small = Camera(
        fx=camera.fx / block,
        fy=camera.fy / block,
        cx=(camera.cx - middle) / block,
        cy=(camera.cy - middle) / block,
    )
    derived, exists = normals_from_depth(np.where(every, _block_mean(depth), 1.0), small, every)
    given = _block_mean(normals)
    length = np.linalg.norm(given, axis=-1)
    use = exists & (length > SHORTEST_NORMAL)
    return given[use] / length[use][:, None], derived[use]


def _block_mean(values: FloatArray) -> FloatArray:
    block = CHECK_BLOCK_PX
    height, width = (length // block for length in values.shape[:2])
    cut = values[: height * block, : width * block]
    return cut.reshape(height, block, width, block, *values.shape[2:]).mean(axis=(1, 3))


def _numbered(folder: Path, first: int) -> dict[int, str]:
    """Return 1-based index -> path of the pictures 0001.png in a folder, empty if it is absent.

    `first` is 1 where files count from 0: what must be added.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    found = {}
    for name in names:
        match = re.fullmatch(r"(\d{4,6})\.png", name, re.ASCII)
        if match:
            found[int(match[1]) + first] = str(folder / name)
    return found


def _read_pictures(files: NormalFiles, path: Path) -> tuple[FloatArray, BoolArray]:
    colours = read_rgb(path, lossless=True)
    _check_size(path, colours, files.size)
    valid = np.ones(colours.shape[:2], bool)
    if files.origin == "eigen":
        mask_path = files.path / "masks" / path.name
        mask = read_uint8(mask_path)
        _check_size(mask_path, mask, files.size)
        valid = mask > 0
    return colours / 255 * 2 - 1, valid


def _check_size(path: Path, values: NDArray[Any], size: tuple[int, int]) -> None:
    if values.shape[:2] != size:
        raise BadSampleError(
            f"Expected {size[0]}x{size[1]} pixels in {path}, got "
            f"{values.shape[0]}x{values.shape[1]}. Give the original files, not resized ones."
        )


def _unpacked(path: Path, size: tuple[int, int]) -> Path:
    """Return the folder with the pickle's arrays, made now unless it is there already."""
    stamp = {"bytes": path.stat().st_size, "modified_ns": path.stat().st_mtime_ns}
    folder = path.with_name(f"{path.name}{UNPACKED}")
    try:
        known = json.loads((folder / "index.json").read_text("utf-8"))
        if known["stamp"] == stamp:
            return folder
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or half of it: made anew
    beside = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        beside.mkdir()
        try:
            _unpack(path, beside, size, stamp)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise BadSourceError(
            f"Expected to unpack {path} into {folder}, got: {error.strerror or error}. "
            "Put the file on a disk with room for some 11 GB, into a folder that you may write to."
        ) from error
    return folder


def _unpack(path: Path, folder: Path, size: tuple[int, int], stamp: dict[str, int]) -> None:
    spool = folder / "spool"
    content = load_arrays(path, spool)
    keys = ("all_normals", "all_filenames")
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise BadSourceError(
            f"Expected a dictionary with {' and '.join(keys)} in {path}, got another pickle. "
            "Give all_normals.pklz of nyuv2_surfacenormal_metadata.zip."
        )
    normals, names = content["all_normals"], [str(name) for name in content["all_filenames"]]
    masks = content.get("all_valid_depth_masks")
    if masks is None:
        masks = np.broadcast_to(np.ones(size, bool), (len(names), *size))
    indices = [int(name) if name.isdecimal() and name.isascii() else 0 for name in names]
    if len(set(indices)) < len(names) or min(indices, default=0) < 1:
        raise BadSourceError(
            f"Expected names such as 000001 once each in all_filenames of {path}, got others. "
            "Download it again."
        )
    for name, values, shape in (("normals", normals, (*size, 3)), ("valid masks", masks, size)):
        shapes = {np.shape(value) for value in values}
        if len(values) != len(names) or shapes != {shape}:
            raise BadSourceError(
                f"Expected {len(names)} {name} of shape {shape} in {path}, got {len(values)} of "
                f"{sorted(shapes)[:2]}. Download it again."
            )
    kept = new_array(folder / "normals.npy", np.float32, (len(names), *size, 3))
    valid = new_array(folder / "valid.npy", np.bool_, (len(names), *size))
    for row in range(len(names)):
        kept[row], valid[row] = normals[row], np.asarray(masks[row]) != 0
    kept.flush()
    valid.flush()
    spool.unlink(missing_ok=True)
    text = json.dumps({"stamp": stamp, "indices": indices})
    (folder / "index.json").write_text(text, "utf-8")
