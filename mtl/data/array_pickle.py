"""Pickles of strangers that hold arrays: read without running anything and without filling memory.

`pickle.load` does what the file says, so a downloaded pickle can run any program. This reader knows
numpy's arrays, lists, dictionaries, strings and numbers, by stand-ins of its own, and refuses every
other name. The bytes of large arrays go to a file beside, and come back mapped from there: a pickle
of all normals of NYUv2 holds more than 5 GB.

It builds on the pickle machine in Python that `pickle` comes with, since the one in C reads the
bytes of an array in one piece.
"""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtl.data.raw import BadSourceError

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
            raise ValueError(f"an array of type {dtype} without a list of its elements")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        held = self.content.size if isinstance(self.content, _Bytes) else len(self.content)
        if min(shape, default=0) < 0 or size != held:
            raise ValueError(f"an array of shape {shape} and type {dtype} in {held} bytes")
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
        raise ValueError(f"bytes written as {encoding}")
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
            raise ValueError(f"a state for {type(target).__name__}")
        target.build(state)

    def _load_bytes(self, size: int, decode: bool) -> None:
        if size < 0:
            raise ValueError(f"a string of {size} bytes")
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
