"""One image file -> one array, whatever the file holds.

Every function takes a path and returns an array at the file's own size, or raises a
`BadSampleError` that names the file, what was expected, what it is, and the remedy. Nothing is
guessed: 16-bit files never pass through int16, labels are never read from colours, bit depths
are those of the file and not of the mode into which Pillow turns it.

Pixels are taken as they are stored; an orientation in a photograph's EXIF data is not
applied, since targets are drawn on the stored pixels.
"""

import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mtl.data.readers.common import bad_file

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a small file can hold a gigapixel."""
UPRIGHT = 1
"""EXIF's number for a picture that is stored as it is to be seen."""

GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8}
PALETTES = ("P;1", "P;2", "P;4", "P")
KINDS = {
    **{kind: f"grey values of {bits} bits" for kind, bits in GREY_BITS.items()},
    **dict.fromkeys(PALETTES, "a palette"),
    "I;16B": "grey values of 16 bits",
    "RGB": "colours",
    "RGB;16B": "colours of 16 bits",
    **dict.fromkeys(("LA", "RGBA"), "transparency"),
    **dict.fromkeys(("LA;16B", "RGBA;16B"), "transparency and 16 bits"),
}
"""How a PNG stores its pixels, as Pillow's decoder calls it -> words."""


def read_rgb(
    path: Path, lossless: bool = False, or_grey: bool = False, upright: bool = False
) -> NDArray[np.uint8]:
    """Return an 8-bit PNG or JPEG as uint8 (height, width, 3).

    Grey pictures get three equal channels, palettes their colours; transparency is dropped.

    Args:
        path: of the file.
        lossless: take a PNG of three channels alone, as targets must: JPEG changes values, and a
            grey or transparent picture is another encoding than three values a pixel.
        or_grey: with `lossless`, take a PNG of one channel too, for maps whose channels are equal.
        upright: turn the picture as its EXIF data say.
    """
    expected = f"an 8-bit colour {'PNG' if lossless else 'PNG or JPEG'}"
    picture, kind = _decoded(path, expected)
    remedy = "Write three values a pixel, red, green and blue, of 8 bits each"
    if "16" in kind:
        raise bad_file(path, expected, f"a 16-bit PNG of {KINDS[kind]}", remedy)
    if lossless and kind != "RGB" and not (or_grey and kind in GREY_BITS):
        _refuse_kind(path, expected, kind, remedy)
    if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
        raise bad_file(path, expected, f"a picture of mode {picture.mode}", remedy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of palettes with transparency, which is dropped
        colours = picture.convert("RGB")
        return np.array(ImageOps.exif_transpose(colours) if upright else colours, dtype=np.uint8)


def read_uint16(path: Path) -> NDArray[np.uint16]:
    """Return a 16-bit grey PNG as uint16 (height, width), all 65,536 values intact."""
    return _grey(path, "a 16-bit grey PNG", ("I;16B",))


def read_uint8(path: Path) -> NDArray[np.uint8]:
    """Return the values of a grey PNG or the indices of a palette PNG as uint8 (height, width).

    Colours, 16 bits and JPEG, whose compression invents labels, are refused.
    """
    return _grey(path, "an 8-bit grey or palette PNG", (*GREY_BITS, *PALETTES))


def read_grey(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a grey PNG of 8 or 16 bits as uint8 or uint16 (height, width)."""
    return _grey(path, "an 8-bit or 16-bit grey PNG", (*GREY_BITS, *PALETTES, "I;16B"))


def _grey(path: Path, expected: str, kinds: tuple[str, ...]) -> NDArray[Any]:
    picture, kind = _decoded(path, expected)
    if kind not in kinds:
        _refuse_kind(path, expected, kind, "Write its values again, one a pixel")
    values = np.array(picture)
    if kind == "I;16B":
        # Pillow's mode is I;16, or I in some releases; both hold 0..65535, and int16 never occurs.
        return values.astype(np.uint16)
    if kind in ("L;2", "L;4"):  # Pillow stretches these to 0..255
        values //= np.uint8(255 // (2 ** GREY_BITS[kind] - 1))
    return values.astype(np.uint8)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return where an 8-bit mask is set: bool (height, width).

    Of two values the larger counts as set, be they 0 and 1, 0 and 255, or others; one value alone
    is set unless it is 0. Values between, of resizing, go to the nearer of the two ends.
    """
    values = read_uint8(path)
    low, high = int(values.min()), int(values.max())
    return values > ((low + high) / 2 if low < high else 0)


def is_turned(path: Path) -> bool:
    """Return whether EXIF data ask to turn or mirror a picture; False if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                if "exif" not in picture.info:  # asking a PNG without any would decode it
                    return False
                return bool(picture.getexif().get(0x0112, UPRIGHT) != UPRIGHT)
    except Exception:  # reading it will say what is wrong
        return False


def read_array(path: Path) -> NDArray[Any]:
    """Return the numbers or booleans of a .npy file, any shape; nothing is ever unpickled."""
    expected = "a .npy file of numbers"
    _check_regular(path, expected)
    remedy = "Write it again with numpy.save"
    try:
        # Mapped, since reading would allocate whatever a damaged header claims.
        mapped = np.lib.format.open_memmap(path, mode="r")
        array = np.array(mapped, order="C")
    except Exception as error:  # damaged headers make numpy raise errors of many kinds
        raise bad_file(path, expected, _first_line(error), remedy) from error
    if array.dtype.kind not in "biuf":
        raise bad_file(path, expected, f"values of type {array.dtype}", remedy)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_regular(path: Path, expected: str) -> None:
    """Raise unless there is a file with something in it; opening a named pipe would hang."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise bad_file(path, expected, "no regular file", "Give a picture")
        with open(path, "rb"):
            pass
    except OSError as error:
        remedy = "Give a file that can be read"
        raise bad_file(path, expected, _first_line(error), remedy) from error
    if not status.st_size:
        raise bad_file(path, expected, "an empty file", "Copy it again from its origin")


def _decoded(path: Path, expected: str) -> tuple[Image.Image, str]:
    """Return the decoded picture and the kind of its pixels in the file; "JPEG" for any JPEG."""
    _check_regular(path, expected)
    too_large = f"{expected} of at most {MAX_PIXELS:,} pixels"
    try:
        with warnings.catch_warnings():
            # Of broken EXIF data and the like, which no pixel depends on.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                num_pixels = picture.width * picture.height
                kind = "JPEG" if picture.format == "JPEG" else str(picture.tile[0][3])
                if num_pixels <= MAX_PIXELS:
                    picture.load()
                    return picture.copy(), kind
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise bad_file(path, too_large, "more", "Write a smaller picture") from error
    except UnidentifiedImageError as error:
        remedy = "Convert it to PNG, or copy it again if it is damaged"
        raise bad_file(path, expected, "a file of another kind", remedy) from error
    except Exception as error:  # damaged files make Pillow's decoders raise errors of many kinds
        remedy = "Copy it again from its origin if it is damaged, or convert it to PNG"
        raise bad_file(path, expected, _first_line(error), remedy) from error
    raise bad_file(path, too_large, f"{num_pixels:,}", "Write a smaller picture")


def _refuse_kind(path: Path, expected: str, kind: str, remedy: str) -> None:
    if kind == "JPEG":
        raise bad_file(path, expected, "a JPEG", "JPEG changes values: write them as PNG")
    raise bad_file(path, expected, KINDS.get(kind, kind), remedy)


def _first_line(error: Exception) -> str:
    """Return what went wrong on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
