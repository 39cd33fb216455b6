"""One image file -> one array, whatever the file holds.

Every function takes a path and returns an array at the file's own size, or raises a
`BadSampleError` that names the file, what was expected, what it is, and the remedy. Nothing is
guessed: 16-bit files never pass through int16, labels are never read from colours, bit depths
are those of the file and not of the mode into which Pillow turns it.

Pixels are taken as they are stored; an orientation noted in a photograph's EXIF data is not
applied, since targets are drawn on the stored pixels.
"""

import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.errors import BadSampleError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a small file can hold a gigapixel."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Where a PNG's first chunk, which must be IHDR, has bit depth and colour type.
PNG_BIT_DEPTH, PNG_COLOUR_TYPE = 24, 25
PNG_GREY, PNG_COLOURS, PNG_PALETTE = 0, 2, 3
JPEG_SIGNATURE = b"\xff\xd8\xff"
HEADER_BYTES = 26


def read_rgb(path: Path, lossless: bool = False, or_grey: bool = False) -> NDArray[np.uint8]:
    """Return an 8-bit PNG or JPEG as uint8 (height, width, 3).

    Grey pictures get three equal channels, palettes their colours; transparency is dropped.

    Args:
        path: of the file.
        lossless: take a PNG of three channels alone, as targets must: JPEG changes values, and a
            grey or transparent picture is another encoding than three values a pixel.
        or_grey: with `lossless`, take a PNG of one channel too, for maps whose channels are equal.

    Raises:
        BadSampleError: for a file that is damaged or is not such a picture.
    """
    expected = f"an 8-bit colour {'PNG' if lossless else 'PNG or JPEG'}"
    header = _header(path, expected)
    if _png_bit_depth(header) == 16:
        raise bad_file(path, expected, "a 16-bit PNG", "Convert it to 8 bits a channel")
    if lossless:
        taken = (PNG_COLOURS, PNG_GREY) if or_grey else (PNG_COLOURS,)
        _refuse_other_png(path, header, expected, taken)
    picture = _decoded(path, header, expected)
    if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
        remedy = "Convert it to 8-bit RGB"
        raise bad_file(path, expected, f"a picture of mode {picture.mode}", remedy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of palettes with transparency, which is dropped
        return np.array(picture.convert("RGB"), dtype=np.uint8)


def read_uint16(path: Path) -> NDArray[np.uint16]:
    """Return a 16-bit grey PNG as uint16 (height, width), all 65,536 values intact.

    Raises:
        BadSampleError: for a file that is damaged or is not such a picture.
    """
    expected = "a 16-bit grey PNG"
    header = _header(path, expected)
    _refuse_other_png(path, header, expected, (PNG_GREY,))
    if _png_bit_depth(header) != 16:
        got = f"{_png_bit_depth(header)} bits"
        raise bad_file(path, expected, got, "Write its values as uint16 again")
    # Pillow's mode is I;16, or I in some releases; both hold 0..65535, and int16 never occurs.
    return np.array(_decoded(path, header, expected)).astype(np.uint16)


def read_uint8(path: Path) -> NDArray[np.uint8]:
    """Return the values of a grey PNG or the indices of a palette PNG as uint8 (height, width).

    Raises:
        BadSampleError: for a file that is damaged or is not such a picture: colours, 16 bits and
            JPEG, whose compression invents labels, are refused.
    """
    expected = "an 8-bit grey or palette PNG"
    header = _header(path, expected)
    _refuse_other_png(path, header, expected, (PNG_GREY, PNG_PALETTE))
    bits = _png_bit_depth(header)
    if bits == 16:
        raise bad_file(path, expected, "16 bits", "Write its values as uint8 again")
    values = np.array(_decoded(path, header, expected)).astype(np.uint8)
    if header[PNG_COLOUR_TYPE] == PNG_GREY and bits < 8:
        # Pillow stretches grey values of 2 and 4 bits to 0..255; those of 1 bit come as 0 and 1.
        values //= np.uint8(1 if bits == 1 else 255 // (2**bits - 1))
    return values


def read_grey(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a grey PNG of 8 or 16 bits as uint8 or uint16 (height, width).

    Raises:
        BadSampleError: for a file that is damaged or is not such a picture.
    """
    header = _header(path, "an 8-bit or 16-bit grey PNG")
    return read_uint16(path) if _png_bit_depth(header) == 16 else read_uint8(path)


def read_array(path: Path) -> NDArray[Any]:
    """Return the numbers or booleans of a .npy file, any shape; nothing is ever unpickled.

    Raises:
        BadSampleError: for a file that is damaged, shorter than its header says, or holds objects.
    """
    expected = "a .npy file of numbers"
    _header(path, expected)
    remedy = "Write it again with numpy.save"
    try:
        # Mapped, since reading would allocate whatever a damaged header claims.
        mapped = np.lib.format.open_memmap(path, mode="r")
        array = np.array(mapped, order="C")
    except Exception as error:  # damaged headers make numpy raise errors of many kinds
        raise bad_file(path, expected, _words(error), remedy) from error
    if array.dtype.kind not in "biuf":
        raise bad_file(path, expected, f"values of type {array.dtype}", remedy)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def bad_file(path: Path, expected: str, got: str, remedy: str) -> BadSampleError:
    """Return the error for a file that is not what was expected, in the project's wording."""
    return BadSampleError(f"Expected {expected} in {path}, got {got}. {remedy}.")


def _header(path: Path, expected: str) -> bytes:
    """Return the first bytes of a regular file that is not empty; fewer if it is shorter."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # Opening a named pipe would wait for ever.
            raise bad_file(path, expected, "no regular file", "Put the picture there")
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        remedy = "Put a readable file there, or leave the sample out"
        raise bad_file(path, expected, _words(error), remedy) from error
    if not header:
        raise bad_file(path, expected, "an empty file", "Copy it again from its origin")
    return header


def _decoded(path: Path, header: bytes, expected: str) -> Image.Image:
    """Return the decoded picture."""
    if not header.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        got = f"a file that begins with {header[:8]!r}"
        raise bad_file(path, expected, got, "Convert it to PNG")
    try:
        with warnings.catch_warnings():
            # Of broken EXIF data and the like, which no pixel depends on.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                num_pixels = picture.width * picture.height
                if num_pixels <= MAX_PIXELS:
                    picture.load()
                    return picture.copy()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, expected, "more") from error
    except Exception as error:  # damaged files make Pillow's decoders raise errors of many kinds
        remedy = "The file is damaged: copy it again from its origin"
        raise bad_file(path, expected, _words(error), remedy) from error
    raise _too_large(path, expected, f"{num_pixels:,}")


def _too_large(path: Path, expected: str, got: str) -> BadSampleError:
    return bad_file(
        path, f"{expected} of at most {MAX_PIXELS:,} pixels", got, "Write a smaller picture"
    )


def _refuse_jpeg(path: Path, header: bytes, expected: str) -> None:
    if header.startswith(JPEG_SIGNATURE):
        remedy = "JPEG changes values: write the original ones as PNG"
        raise bad_file(path, expected, "a JPEG", remedy)


def _refuse_other_png(path: Path, header: bytes, expected: str, colour_types: tuple) -> None:
    """Raise unless the file is a PNG of one of the colour types (of the PNG specification)."""
    _refuse_jpeg(path, header, expected)
    if not header.startswith(PNG_SIGNATURE):
        got = f"a file that begins with {header[:8]!r}"
        raise bad_file(path, expected, got, "Convert it to PNG")
    if len(header) < HEADER_BYTES:
        raise bad_file(path, expected, "a truncated file", "Copy it again from its origin")
    found = header[PNG_COLOUR_TYPE]
    if found not in colour_types and PNG_COLOURS in colour_types:
        got = {PNG_GREY: "grey values", PNG_PALETTE: "a palette"}.get(found, "transparency")
        raise bad_file(path, expected, got, "Write three values a pixel, red, green and blue")
    if found not in colour_types:
        got = "colours or transparency" if found != PNG_PALETTE else "a palette"
        raise bad_file(path, expected, got, "Write one value a pixel")


def _png_bit_depth(header: bytes) -> int:
    """Return the bits a channel of a PNG, 0 of another file."""
    if header.startswith(PNG_SIGNATURE) and len(header) == HEADER_BYTES:
        return header[PNG_BIT_DEPTH]
    return 0


def _words(error: Exception) -> str:
    """Return what went wrong on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
