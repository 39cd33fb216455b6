"""What can be wrong with the official file: each cause is one sentence that names the file."""

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from mtl.data.readers.nyuv2 import Nyuv2Options, open_nyuv2
from mtl.errors import BadSampleError, UserError
from tests.data.readers.nyuv2_formats import (
    Frames,
    corner_normal_map,
    room,
    write_eigen,
    write_ladicky,
    write_official,
    write_splits,
)

NAME = "nyu_depth_v2_labeled.mat"
OPTIONS = Nyuv2Options(validation_share=0)
RAW = Nyuv2Options(validation_share=0, depth="raw")


@pytest.fixture(scope="module")
def two() -> Frames:
    return room(number=2)


@pytest.fixture
def source(tmp_path: Path, two: Frames) -> Path:
    return write_official(tmp_path, two, (1,), (2,)).parent


def refused(source: Path, words: str, options: Nyuv2Options = OPTIONS) -> None:
    with pytest.raises(UserError) as caught:
        open_nyuv2(source, options)
    checked(str(caught.value), words)


def bad_sample(source: Path, words: str, options: Nyuv2Options = OPTIONS) -> None:
    data = open_nyuv2(source, options)
    with pytest.raises(BadSampleError) as caught:
        data.read("0001")
    checked(str(caught.value), words)


def checked(message: str, words: str) -> None:
    assert re.search(words, message), message
    assert re.search(r"^Expected .*, got .*\. .*\.$|got .*0001", message, re.DOTALL), message
    assert "\n" not in message


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "got No such file"),
        (link_to_itself, "symbolic links"),
        (truncate, "whole MATLAB 7.3 file"),
        (lambda path: path.write_bytes(b""), "begins with b''"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>404"), "begins with b'<!DOCTYPE"),
        (lambda path: scipy.io.savemat(path, {"images": np.zeros((2, 2))}), "MATLAB 5.*-v7.3"),
    ],
)
def test_file_that_is_no_whole_hdf5_is_refused(
    source: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(source / NAME)
    refused(source, words)
    refused(source / NAME, words)


@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        ({"labels": None}, OPTIONS, "none such for labels"),
        ({"rawDepths": None}, RAW, "none such for rawDepths"),
        ({"depths": np.zeros((2, 480, 640), np.float32)}, OPTIONS, r"shape \(2, 480, 640\)"),
        ({"depths": np.zeros((1, 640, 480), np.float32)}, OPTIONS, r"depths, .* \(1, 640, 480\)"),
        ({"images": np.zeros((2, 3, 320, 240), np.uint8)}, OPTIONS, r"\(2, 3, 320, 240\)"),
        ({"images": np.zeros((0, 3, 640, 480), np.uint8)}, OPTIONS, "images, which is"),
        ({"images": np.zeros((2, 3, 640, 480), np.uint16)}, OPTIONS, "images of 8 bits"),
        ({"depths": np.zeros((2, 640, 480), np.uint16)}, OPTIONS, "depths, which is uint16"),
        ({"labels": np.zeros((2, 640, 480), np.float32)}, OPTIONS, "labels, which is float32"),
    ],
)
def test_arrays_of_another_kind_are_refused(
    tmp_path: Path, two: Frames, arrays: dict, options: Nyuv2Options, words: str
) -> None:
    write_official(tmp_path, two, (1,), (2,), **arrays)
    refused(tmp_path, words, options)


def test_group_in_place_of_array_is_refused(source: Path) -> None:
    with h5py.File(source / NAME, "r+") as file:
        del file["images"]
        file.create_group("images")
    refused(source, "whole MATLAB 7.3 file")


def test_splits_may_lie_elsewhere_and_must_be_there(source: Path) -> None:
    (source / "splits.mat").unlink()
    refused(source, "official split at .*splits.mat.*option splits")
    write_splits(source / "elsewhere.mat", (2,), (1,))
    options = Nyuv2Options(splits=str(source / "elsewhere.mat"), validation_share=0)
    assert open_nyuv2(source, options).samples["train"] == ("0002",)


@pytest.mark.parametrize(
    ("train", "test"), [((1, 3), (2,)), ((0,), (2,)), ((1,), (1, 2)), ((1, 1), (2,)), ((), (1, 2)),
                        ([1.5], [2]), ("one", (2,))]
)  # fmt: skip
def test_splits_that_do_not_fit_are_refused(source: Path, train: object, test: object) -> None:
    scipy.io.savemat(source / "splits.mat", {"trainNdxs": train, "testNdxs": test})
    refused(source, "splits.mat")


def test_splits_damaged_anywhere_are_refused(source: Path) -> None:
    whole = (source / "splits.mat").read_bytes()
    for length in range(0, len(whole), 61):
        (source / "splits.mat").write_bytes(whole[:length])
        refused(source, "splits.mat")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": "both"}, "depth filled or raw"),
        ({"border": "white"}, "border eigen, none"),
        ({"border": 240}, "below 240"),
        ({"border": -1}, "border eigen, none"),
        ({"normals": "x", "signs": "+-"}, "signs of x, y, z"),
        ({"normals": "x", "signs": None}, "signs=-,-,-"),
        ({"normals": "x"}, "signs of x, y, z .* got ''"),
        ({"normals": "nowhere", "signs": "+--"}, "Expected normals at nowhere"),
        ({"normal_window_px": 4}, "normal_window_px odd"),
        ({"validation_share": 1.0}, "validation share"),
        ({"validation_share": 0.1}, "more training samples"),
    ],
)
def test_options_that_cannot_be_are_refused(source: Path, options: dict, words: str) -> None:
    refused(source, words, Nyuv2Options(**({"validation_share": 0} | options)))


@pytest.mark.parametrize(
    ("options", "where", "value", "words"),
    [
        (OPTIONS, (200, 300), np.nan, "nan m at 1 pixels"),
        (OPTIONS, (200, 300), -0.5, "got -0.5 m at 1 pixels"),
        (RAW, (200, 300), 3615, "got 3615 m"),
        (OPTIONS, ..., 0, "some valid depth inside the border"),
        (RAW, ..., 0, "some valid depth inside the border"),
        (OPTIONS, ..., 1950, "a median of 1950 m"),
        (RAW, ..., 0.002, "a median of 0.002 m"),
    ],
)
def test_depth_that_cannot_be_is_named(
    tmp_path: Path, two: Frames, options: Nyuv2Options, where: object, value: float, words: str
) -> None:
    key = "depths" if options is OPTIONS else "raw_depths"
    write_official(tmp_path, two.changed(key, 0, value, where), (1,), (2,))
    bad_sample(tmp_path, f"sample 0001 .*{words}|{words}.*sample 0001", options)


def test_label_above_894_is_named(tmp_path: Path, two: Frames) -> None:
    write_official(tmp_path, two.changed("labels", 0, 895, (5, 6)), (1,), (2,))
    bad_sample(tmp_path, "labels 0..894, got 895.*sample 0001")


def test_damaged_chunk_and_file_that_went_away_are_named(source: Path, two: Frames) -> None:
    with h5py.File(source / NAME, "r+") as file:
        del file["labels"]
        data = two.labels.transpose(0, 2, 1)
        labels = file.create_dataset("labels", data=data, chunks=(1, 640, 480), compression="gzip")
        chunk = labels.id.get_chunk_info(0)
    with open(source / NAME, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    bad_sample(source, "Expected labels in sample 0001")
    data = open_nyuv2(source, OPTIONS)
    (source / NAME).unlink()
    with pytest.raises(BadSampleError, match="Expected images in sample 0001"):
        data.read("0001")


NORMALS = {index: corner_normal_map(0.1 * (index - 1)) for index in (1, 2)}


def with_normals(path: Path) -> Nyuv2Options:
    return Nyuv2Options(normals=str(path), signs="+++", validation_share=0)


def test_normals_need_their_files_and_masks(source: Path) -> None:
    path = write_eigen(source / "n", NORMALS)
    (path / "masks" / "0000.png").unlink()
    bad_sample(source, "masks/0000.png", with_normals(path))
    (path / "masks" / "0001.png").unlink()
    (path / "masks").rmdir()
    refused(source, "Expected normals at", with_normals(path))
    path = write_ladicky(source / "l", {2: NORMALS[2]}, train=())
    bad_sample(source, "ladicky normals of sample 0001", with_normals(path))


HALVED = np.rint(((NORMALS[1] + 1) / 2 + 1) / 2 * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "00001.png"),
        (lambda path: Image.new("RGB", (320, 240)).save(path), "480x640 pixels .* 240x320"),
        (lambda path: Image.new("I;16", (640, 480)).save(path), "16-bit"),
        (lambda path: Image.fromarray(HALVED).save(path), "normals of length 1"),
    ],
)
def test_damaged_normals_are_named(
    source: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path = write_ladicky(source / "n", NORMALS, train=(1,))
    spoil(path / "train" / "00001.png")
    bad_sample(source, words, with_normals(path))
