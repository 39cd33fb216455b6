"""Image files of every kind, whole and broken: an array, or one sentence."""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtl.data.readers.images import (
    read_array,
    read_grey,
    read_mask,
    read_rgb,
    read_uint8,
    read_uint16,
)
from mtl.errors import BadSampleError
from tests.data.readers.refusals import refused_sample

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
READERS = (read_rgb, read_uint16, read_uint8, read_grey, read_array)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def png(path: Path, width: int, height: int, depth: int, colour: int, rows: bytes) -> Path:
    """Write a PNG by hand: kinds that Pillow does not write, and sizes that lie."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def refused(read: Callable[[Path], np.ndarray], path: Path, *words: str) -> None:
    refused_sample(lambda: read(path), path, *words)


def test_each_kind_of_file_is_read_exactly(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", COLOURS)), COLOURS)
    np.testing.assert_array_equal(read_uint8(save(tmp_path / "b.png", GREY)), GREY)
    np.testing.assert_array_equal(read_grey(tmp_path / "b.png"), GREY)
    DEEP[0, :6] = [0, 1, 32767, 32768, 64500, 65535]  # none turns negative
    deep = save(tmp_path / "c.png", DEEP)
    assert read_uint16(deep).dtype == read_grey(deep).dtype == np.uint16
    np.testing.assert_array_equal(read_uint16(deep), DEEP)
    np.testing.assert_array_equal(read_grey(deep), DEEP)
    np.save(tmp_path / "d.npy", COLOURS.astype(">f4"))
    read = read_array(tmp_path / "d.npy")
    assert read.dtype == np.float32
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, COLOURS)


def test_grey_photographs_and_transparency_become_colours(tmp_path: Path) -> None:
    grey = read_rgb(save(tmp_path / "a.png", GREY))
    np.testing.assert_array_equal(grey, np.repeat(GREY[..., None], 3, 2))
    clear = np.concatenate([COLOURS, GREY[..., None]], 2)
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "b.png", clear)), COLOURS)
    smooth = np.full((16, 16, 3), 90, np.uint8)
    assert abs(read_rgb(save(tmp_path / "c.jpg", smooth)).astype(int) - 90).max() <= 2


def test_palette_gives_indices_as_labels_and_colours_as_image(tmp_path: Path) -> None:
    picture = Image.new("P", (7, 5))
    picture.putdata((GREY % 3).ravel().tolist())
    picture.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    path = tmp_path / "a.png"
    picture.save(path, transparency=b"\x00\x80\xff")
    np.testing.assert_array_equal(read_uint8(path), GREY % 3)
    palette = np.array([[255, 0, 0], [0, 255, 0], [9, 9, 9]])
    np.testing.assert_array_equal(read_rgb(path), palette[GREY % 3])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    per_byte = 8 // bits
    labels = np.arange(2 * 2 * per_byte).reshape(2, -1) % 2**bits
    packed = bytearray()
    for row in labels.reshape(2, -1, per_byte):
        packed.append(0)  # no filter
        for group in row:
            packed.append(sum(int(v) << (8 - bits * (i + 1)) for i, v in enumerate(group)))
    path = png(tmp_path / "a.png", labels.shape[1], 2, bits, 0, bytes(packed))
    np.testing.assert_array_equal(read_uint8(path), labels)


def test_mask_is_set_at_larger_of_two_values(tmp_path: Path) -> None:
    expected = np.arange(12).reshape(3, 4) > 4
    path = tmp_path / "a.png"
    for low, high in ((0, 1), (0, 255), (1, 2), (100, 101)):
        mask = read_mask(save(path, np.where(expected, high, low).astype(np.uint8)))
        np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(read_mask(save(path, expected)), expected)  # a PNG of 1 bit
    for value, is_set in ((1, True), (255, True), (0, False)):
        assert (read_mask(save(path, np.full((3, 4), value, np.uint8))) == is_set).all()
    assert read_mask(save(path, np.ones((3, 4), bool))).all()


@pytest.mark.parametrize("read", READERS)
def test_no_reader_takes_empty_missing_endless_or_odd_file(tmp_path, read) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    refused(read, tmp_path / "empty.png", "an empty file")
    refused(read, tmp_path / "missing.png", "No such file")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(read, tmp_path / "loop.png", "symbolic links")
    (tmp_path / "folder.png").mkdir()
    refused(read, tmp_path / "folder.png", "no regular file")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    refused(read, tmp_path / "pipe.png", "no regular file")
    (tmp_path / "words.png").write_text("<html>404 Not Found</html>")
    refused(read, tmp_path / "words.png")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("share", [0.05, 0.7])
def test_truncated_files_are_refused(tmp_path, read, share) -> None:
    path = tmp_path / ("a.npy" if read is read_array else "a.png")
    large = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    if read is read_array:
        np.save(path, large)
    else:
        array = {read_rgb: large, read_uint16: large[..., 0].astype(np.uint16) * 257}
        save(path, array.get(read, large[..., 0]))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(read, path)


def test_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", RNG.integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-600])
    refused(read_rgb, path, "damaged")


def test_wrong_bit_depths_are_refused(tmp_path: Path) -> None:
    shallow, deep = save(tmp_path / "a.png", GREY), save(tmp_path / "b.png", DEEP)
    refused(read_uint16, shallow, "16-bit grey PNG", "8 bits")
    refused(read_uint8, deep, "16 bits")
    refused(read_rgb, deep, "16-bit")
    # Pillow itself would halve the bits of a 48-bit picture without a word.
    rows = b"".join(b"\0" + bytes(3 * 2 * 4) for _ in range(3))
    refused(read_rgb, png(tmp_path / "c.png", 4, 3, 16, 2, rows), "16-bit")


def test_colours_and_jpeg_are_no_labels(tmp_path: Path) -> None:
    refused(read_uint8, save(tmp_path / "a.png", COLOURS), "colours")
    Image.merge("LA", [Image.fromarray(GREY)] * 2).save(tmp_path / "b.png")
    refused(read_uint8, tmp_path / "b.png", "transparency")
    refused(read_uint8, save(tmp_path / "c.jpg", GREY), "JPEG")
    path = save(tmp_path / "d.jpg", COLOURS)
    refused_sample(lambda: read_rgb(path, lossless=True), path, "JPEG changes values")


def test_other_formats_and_modes_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.bmp", COLOURS).rename(tmp_path / "a.png")
    refused(read_rgb, tmp_path / "a.png", "another kind", "Convert it to PNG")
    Image.new("CMYK", (4, 4)).save(tmp_path / "b.jpg")
    refused(read_rgb, tmp_path / "b.jpg", "CMYK")


@pytest.mark.parametrize("side", [8_100, 12_000, 60_000])
def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    # Below Pillow's own warning, above it, and above its error.
    path = png(tmp_path / "a.png", side, side, 8, 0, bytes(1000))
    refused(read_uint8, path, "64,000,000 pixels")
    refused(read_rgb, path, "64,000,000 pixels")


def test_array_that_claims_more_than_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 4), np.float32))
    claim = path.read_bytes().replace(b"(4, 4), }" + b" " * 11, b"(4000000, 400000), }")
    assert b"4000000" in claim
    path.write_bytes(claim)
    refused(read_array, path)
    np.save(path, np.zeros((4, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-4])
    refused(read_array, path, "numpy.save")


def test_arrays_of_objects_and_words_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    refused(read_array, tmp_path / "a.npy", "numbers")
    np.save(tmp_path / "b.npy", np.array(["x"]))
    refused(read_array, tmp_path / "b.npy", "<U1")


@settings(max_examples=60)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), kind=st.sampled_from("abcd"))
def test_damaged_byte_gives_array_or_our_error(tmp_path_factory, place, value, kind) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / ("a.npy" if kind == "d" else "a.jpg" if kind == "b" else "a.png")
    if kind == "d":
        np.save(path, GREY)
    else:
        save(path, DEEP if kind == "c" else COLOURS)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    for read in READERS:
        # Any other error ends the test.
        with contextlib.suppress(BadSampleError):
            assert isinstance(read(path), np.ndarray)
