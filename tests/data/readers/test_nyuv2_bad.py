"""What can be wrong with the official file: each cause is one sentence that names the file."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from mtl.data.readers.nyuv2 import Nyuv2Options, open_nyuv2
from mtl.errors import BadSampleError, BadSourceError
from tests.data.readers.nyuv2_formats import (
    Frames,
    corner_normal_map,
    dump_pickle,
    room,
    write_eigen,
    write_fair,
    write_ladicky,
    write_official,
    write_splits,
)

NAME = "nyu_depth_v2_labeled.mat"


@pytest.fixture(scope="module")
def frames() -> Frames:
    return room(number=2)


def write(folder: Path, frames: Frames, **arrays: np.ndarray | None) -> Path:
    return write_official(folder, frames, (1,), (2,), **arrays)


OPTIONS = Nyuv2Options(validation_share=0)


def refused(source: Path, words: str, options: Nyuv2Options = OPTIONS) -> str:
    """Expect opening to fail with a message that names the folder and has the words."""
    with pytest.raises(BadSourceError) as caught:
        open_nyuv2(source, options)
    return checked(str(caught.value), words)


def bad_sample(source: Path, words: str, options: Nyuv2Options = OPTIONS) -> str:
    data = open_nyuv2(source, options)
    with pytest.raises(BadSampleError) as caught:
        data.read("0001")
    return checked(str(caught.value), words)


def checked(message: str, words: str) -> str:
    assert re.search(words, message), message
    assert re.search(r"[Ee]xpected .*, got:? .*\. .*\.$", message, re.DOTALL), message
    assert "\n" not in message
    return message


def test_no_such_file_and_a_folder_without_it(tmp_path: Path) -> None:
    refused(tmp_path, f"Expected {NAME} at {tmp_path}")
    refused(tmp_path / "nothing.mat", "nothing.mat")


def test_symbolic_link_loop(tmp_path: Path) -> None:
    os.symlink(tmp_path / NAME, tmp_path / NAME)
    refused(tmp_path, "got no such file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"\x00" * 4096, "a file that begins with"),
        (b"MATLAB 7.3 MAT-file, Platform".ljust(512), "cut off or damaged"),
    ],
)
def test_not_hdf5(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / NAME).write_bytes(content)
    refused(tmp_path, words)


def test_old_matlab_file(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / NAME, {"images": np.zeros((2, 2))})
    refused(tmp_path, "old MATLAB 5 file.*-v7.3")


def test_truncated_file(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path, frames)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    refused(tmp_path, "whole HDF5 file at .*truncated")


def test_missing_array(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames, labels=None)
    refused(tmp_path, "array labels in .*got depths, images, rawDepths")


def test_raw_depth_asked_for_but_not_there(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames, rawDepths=None)
    refused(tmp_path, "array rawDepths", Nyuv2Options(depth="raw", validation_share=0))


def test_group_in_place_of_an_array(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path, frames, images=None)
    with h5py.File(path, "r+") as file:
        file.create_group("images")
    refused(tmp_path, "array images")


def test_axes_not_reversed(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames, depths=frames.depths)
    refused(tmp_path, r"depths of shape \(samples, 640, 480\)")


def test_resized_images(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames, images=frames.images[:, ::2, ::2].transpose(0, 3, 2, 1))
    refused(tmp_path, r"images of shape \(samples, 3, 640, 480\)")


def test_no_samples(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames, images=np.zeros((0, 3, 640, 480), np.uint8))
    refused(tmp_path, "images of shape")


@pytest.mark.parametrize(
    ("key", "dtype", "words"),
    [
        ("images", np.uint16, "8-bit unsigned"),
        ("depths", np.uint16, "floating"),
        ("labels", np.float32, "unsigned"),
    ],
)
def test_wrong_number_types(
    tmp_path: Path, frames: Frames, key: str, dtype: type, words: str
) -> None:
    shape = (2, 3, 640, 480) if key == "images" else (2, 640, 480)
    write(tmp_path, frames, **{key: np.zeros(shape, dtype)})
    refused(tmp_path, f"{key} of {words}")


def test_arrays_of_different_length(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames, depths=frames.depths[:1].transpose(0, 2, 1))
    refused(tmp_path, "as many samples in each array .* depths 1, images 2")


def test_splits_missing(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    (tmp_path / "splits.mat").unlink()
    refused(tmp_path, "official split at .*splits.mat")
    other = tmp_path / "elsewhere.mat"
    write_splits(other, (2,), (1,))
    options = Nyuv2Options(splits=str(other), validation_share=0)
    assert open_nyuv2(tmp_path, options).samples["train"] == ("0002",)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n", b"x" * 999])
def test_splits_damaged(tmp_path: Path, frames: Frames, content: bytes) -> None:
    write(tmp_path, frames)
    (tmp_path / "splits.mat").write_bytes(content)
    refused(tmp_path, "splits.mat, got one that cannot be read")


def test_splits_truncated_anywhere_are_refused(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    path = tmp_path / "splits.mat"
    whole = path.read_bytes()
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        refused(tmp_path, "splits.mat")


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ((1, 3), (2,), "indices from 1 to 2 in trainNdxs .* got 3"),
        ((0,), (2,), "indices from 1 to 2 in trainNdxs .* got 0"),
        ((1,), (1, 2), "no sample in both .* the first 1"),
        ((1, 1), (2,), "each index once"),
        ((), (1, 2), "indices trainNdxs"),
    ],
)
def test_splits_that_do_not_fit(
    tmp_path: Path, frames: Frames, train: tuple[int, ...], test: tuple[int, ...], words: str
) -> None:
    write(tmp_path, frames)
    write_splits(tmp_path / "splits.mat", train, test)
    refused(tmp_path, words)


def test_splits_without_their_names_or_numbers(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    scipy.io.savemat(tmp_path / "splits.mat", {"train": [1], "testNdxs": [2]})
    refused(tmp_path, "indices trainNdxs in .* got none")
    scipy.io.savemat(tmp_path / "splits.mat", {"trainNdxs": "one", "testNdxs": [2]})
    refused(tmp_path, "indices trainNdxs")
    scipy.io.savemat(tmp_path / "splits.mat", {"trainNdxs": [1.5], "testNdxs": [2]})
    refused(tmp_path, "got 1.5")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": "both"}, "depth filled or raw"),
        ({"border": "white"}, "border eigen, none"),
        ({"border": 240}, "below 240"),
        ({"border": -1}, "border eigen, none"),
        ({"signs": "+-"}, "three of"),
        ({"signs": "+,-"}, "three of"),
        ({"signs": None}, "got none, or ---, which YAML .* Write signs=-,-,- for three"),
        ({"normal_window_px": 4}, "normal_window_px odd"),
        ({"validation_share": 1.0}, "validation share"),
        ({"validation_share": 0.1}, "more training samples"),
    ],
)
def test_unknown_options(
    tmp_path: Path, frames: Frames, options: dict[str, object], words: str
) -> None:
    write(tmp_path, frames)
    refused(tmp_path, words, Nyuv2Options(**({"validation_share": 0} | options)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "1 pixels of NaN"),
        (np.inf, "1 pixels of NaN or infinity"),
        (-0.5, "got -0.5 m"),
        (3615, "got 3615, as if it were millimetres"),
    ],
)
def test_depth_that_cannot_be(tmp_path: Path, frames: Frames, value: float, words: str) -> None:
    write(tmp_path, frames.changed("depths", 0, value, (200, 300)))
    bad_sample(tmp_path, f"depths of sample 0001 .*{words}")
    assert open_nyuv2(tmp_path, OPTIONS).read("0002").valid["depth"].any()


def test_no_valid_depth_at_all(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames.changed("depths", 0, 0).changed("raw_depths", 0, 0))
    bad_sample(tmp_path, "some valid depth in sample 0001")
    bad_sample(tmp_path, "some valid depth", Nyuv2Options(depth="raw", validation_share=0))


def test_label_above_894(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames.changed("labels", 0, 895, (5, 6)))
    bad_sample(tmp_path, "Sample 0001 of .*labels 0..894, got 895")


def test_damaged_chunk(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path, frames, labels=None)
    with h5py.File(path, "r+") as file:
        labels = file.create_dataset(
            "labels",
            data=frames.labels.transpose(0, 2, 1),
            chunks=(1, 640, 480),
            compression="gzip",
        )
        chunk = labels.id.get_chunk_info(0)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    bad_sample(tmp_path, "to read labels of sample 0001")


def test_file_that_goes_away_after_opening(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path, frames)
    data = open_nyuv2(tmp_path, OPTIONS)
    path.unlink()
    with pytest.raises(BadSampleError, match="to read images of sample 0001"):
        data.read("0001")


# Normals of the public origins

NORMALS = {index: corner_normal_map(0.1 * (index - 1)) for index in (1, 2)}


def with_normals(path: Path, signs: str = "+++") -> Nyuv2Options:
    return Nyuv2Options(normals=str(path), signs=signs, validation_share=0)


def test_normals_of_no_origin(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    refused(tmp_path, "Expected normals at", with_normals(tmp_path / "nowhere"))
    (tmp_path / "normals").mkdir()
    refused(tmp_path, "Expected normals at", with_normals(tmp_path))


def test_eigen_without_masks(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    path = write_eigen(tmp_path / "n", NORMALS)
    (path / "masks" / "0000.png").unlink()
    bad_sample(tmp_path, "masks/0000.png", with_normals(path))
    (path / "masks" / "0001.png").unlink()
    (path / "masks").rmdir()
    refused(tmp_path, "folder masks beside normals", with_normals(path))


def test_normals_missing_for_some_ids(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    path = write_ladicky(tmp_path / "n", {2: NORMALS[2]}, train=())
    bad_sample(tmp_path, "ladicky normals of sample 0001", with_normals(path))
    refused(tmp_path, "normals of the training samples", with_normals(path, "auto"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "00001.png"),
        (lambda path: Image.new("RGB", (320, 240)).save(path), "480x640 pixels .* 240x320"),
        (lambda path: Image.new("I;16", (640, 480)).save(path), "16-bit"),
    ],
)
def test_damaged_normal_pictures(
    tmp_path: Path, frames: Frames, spoil: Callable[[Path], object], words: str
) -> None:
    write(tmp_path, frames)
    path = write_ladicky(tmp_path / "n", NORMALS, train=(1,))
    spoil(path / "train" / "00001.png")
    bad_sample(tmp_path, words, with_normals(path))


def test_normals_that_do_not_fit_the_depth(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    noise = np.random.default_rng(0).normal(size=(60, 80, 3))
    noise = (noise / np.linalg.norm(noise, axis=-1, keepdims=True)).repeat(8, 0).repeat(8, 1)
    path = write_eigen(tmp_path / "n", {1: noise, 2: noise})
    refused(tmp_path, "that fit the depth of their images", with_normals(path, "auto"))


def test_normals_that_are_grey_all_over(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    grey = np.zeros((480, 640, 3))
    path = write_eigen(tmp_path / "n", {1: grey, 2: grey})
    refused(tmp_path, "pixels with both depth and normals", with_normals(path, "auto"))


# Pickles of strangers


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/this-must-not-be",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_would_run_code_runs_none(
    tmp_path: Path, frames: Frames, protocol: int
) -> None:
    write(tmp_path, frames)
    path = dump_pickle(tmp_path / "all_normals.pklz", {"all_normals": [Evil()]}, protocol)
    refused(tmp_path, "got the name (posix|os|nt).system.*could run code", with_normals(path))
    assert not Path("/tmp/this-must-not-be").exists()
    assert [p.name for p in tmp_path.glob("*unpacked*")] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("all_filenames"), "dictionary with all_normals and"),
        (lambda content: content.update(all_filenames=["000001", "x"]), "names such as 000001"),
        (lambda content: content.update(all_filenames=["000001"] * 2), "names such as 000001"),
        (lambda content: content.update(all_filenames=["000001"]), "1 normals of shape"),
        (lambda content: content.update(all_normals=np.zeros((2, 5, 5, 3))), "normals of shape"),
        (lambda content: content.update(all_valid_depth_masks=[1, 2]), "valid masks of shape"),
    ],
)
def test_pickle_of_other_content(
    tmp_path: Path, frames: Frames, change: Callable[[dict[str, object]], object], words: str
) -> None:
    write(tmp_path, frames)
    content: dict[str, object] = {
        "all_normals": np.zeros((2, 480, 640, 3), np.float16),
        "all_filenames": ["000001", "000002"],
    }
    change(content)
    path = dump_pickle(tmp_path / "all_normals.pklz", content)
    refused(tmp_path, words, with_normals(path))
    assert [p.name for p in tmp_path.glob("*unpacked*")] == []


def test_unpacking_into_a_folder_that_cannot_be_made(tmp_path: Path, frames: Frames) -> None:
    write(tmp_path, frames)
    path = write_fair(tmp_path / "n", NORMALS)
    (tmp_path / "n" / "all_normals.pklz.unpacked").write_text("in the way")
    refused(tmp_path, "Expected to unpack", with_normals(path))
