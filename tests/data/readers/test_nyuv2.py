"""The official file, written in its layout and read back; what can be wrong names the file."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from mtl.data.prepare.__main__ import _option
from mtl.data.readers.nyuv2 import (
    CAMERA,
    MAT_NAME,
    PICTURE_MARGIN_PX,
    Nyuv2Options,
    inside_border,
    open_nyuv2,
)
from mtl.data.readers.nyuv2_classes import CLASSES_13, classes_13
from mtl.data.sample import RawSample
from mtl.data.targets.derive import normals_from_depth
from mtl.data.targets.derived_tasks import derived
from mtl.spec.strict import build_dataclass
from tests.data.readers.nyuv2_formats import (
    Frames,
    coded,
    corner_normal_map,
    room,
    write_eigen,
    write_ladicky,
    write_official,
    write_splits,
)
from tests.data.readers.refusals import refused, refused_sample

TRAIN, TEST = (1, 3, 4, 6), (2, 5)


@pytest.fixture(scope="module")
def source(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("ein Ordner für NYU"), frames, TRAIN, TEST)


@pytest.fixture(scope="module")
def whole(source: Path) -> RawSample:
    """Return the first sample with all its tasks and no border."""
    return open_nyuv2(source, Nyuv2Options(border="none")).read("0001")


def test_round_trip_equals_what_was_written(source: Path, frames: Frames, whole) -> None:
    data = open_nyuv2(source)
    assert data.tasks == ("depth", "normal", "segmentation")
    assert data.classes == CLASSES_13
    fast = Nyuv2Options(border="none", normals="none")
    for sample, position in ((whole, 0), (open_nyuv2(source, fast).read("0005"), 4)):
        np.testing.assert_array_equal(sample.image, frames.images[position])
        np.testing.assert_array_equal(sample.targets["depth"][..., 0], frames.depths[position])
        classes, labelled = classes_13(frames.labels[position])
        np.testing.assert_array_equal(sample.targets["segmentation"], classes)
        np.testing.assert_array_equal(sample.valid["segmentation"], labelled)
        assert sample.valid["depth"].all()
        assert sample.camera == CAMERA
    assert whole.targets["depth"].dtype == whole.targets["normal"].dtype == np.float32


@pytest.mark.parametrize(
    ("border", "num_inside"),
    [("eigen", 426 * 560), ("none", 480 * 640), (7, 466 * 626), ("10", 460 * 620)],
)
def test_border_is_invalid_in_every_task(source: Path, border: str | int, num_inside: int) -> None:
    inside = inside_border(border)
    assert inside.sum() == num_inside
    options = Nyuv2Options(border=border, tasks=("depth", "segmentation"))
    sample = open_nyuv2(source, options).read("0001")
    for task, valid in sample.valid.items():
        assert not valid[~inside].any(), task
    assert sample.valid["depth"][inside].all()
    # The white border of the image is no picture, whatever counts.
    expected = np.zeros((480, 640), bool)
    expected[10:470, 10:630] = True
    np.testing.assert_array_equal(sample.inside, expected)
    np.testing.assert_array_equal(sample.counted, inside)


def test_white_border_of_real_frames_is_left_out(real_data: Path) -> None:
    for path in sorted((real_data / "nyuv2_real18" / "rgb").glob("*.png"))[:2]:
        image = np.asarray(Image.open(path).convert("RGB"))
        white = (image == 255).all(-1)
        for edge in (white[:5], white[-5:], white[:, :6], white[:, -7:]):
            assert edge.mean() > 0.99
        sample = RawSample(
            image, {}, {}, inside=inside_border(PICTURE_MARGIN_PX), counted=inside_border("eigen")
        )
        # Of the Eigen crop's rows 45 to 470 and columns 41 to 600: edges see 12 pixels around, so
        # rows end at 469 - 12 = 457; the largest filter sees 40 before and 43 behind, so rows 50 to
        # 426 and columns 50 to 586 are left.
        for task, num_valid in (("edge2d", 413 * 560), ("keypoint2d", 377 * 537)):
            target, valid = derived(task, sample)
            assert valid.sum() == num_valid
            without = derived(task, RawSample(image, {}, {}))[0]
            assert without[:15].max() > target[valid].mean() * 3


def test_splits_are_official_ones(source: Path) -> None:
    samples = open_nyuv2(source, Nyuv2Options(validation_share=0)).samples
    assert samples == {
        "train": ("0001", "0003", "0004", "0006"), "validation": (), "test": ("0002", "0005"),
    }  # fmt: skip
    assert open_nyuv2(source.parent, Nyuv2Options(validation_share=0)).samples == samples


def test_filled_depth_is_measured_only_where_sensor_saw_it(whole: RawSample) -> None:
    missing = np.zeros((480, 640), bool)
    missing[200:220, 300:330] = missing[100:110, 100:110] = True
    np.testing.assert_array_equal(whole.measured["depth"], ~missing)
    assert whole.valid["normal"][210, 310]
    assert not whole.measured["normal"][210, 310]
    assert not whole.measured["normal"][199, 310]
    assert whole.measured["normal"][0, 0]


def test_raw_depth_has_holes_that_are_fillable_inside_border(source: Path, frames: Frames) -> None:
    fast = {"depth": "raw", "normal_window_px": 1}
    data = open_nyuv2(source, Nyuv2Options(**fast, border="none"))
    assert data.options["depth"] == "raw"
    sample = data.read("0004")
    raw = frames.raw_depths[3]
    known = (raw > 0) & (raw < 10)
    np.testing.assert_array_equal(sample.valid["depth"], known)
    np.testing.assert_array_equal(sample.targets["depth"][..., 0][known], raw[known])
    assert not sample.valid["normal"][~known].any()
    assert not sample.measured
    np.testing.assert_array_equal(sample.fillable["depth"], ~known)
    np.testing.assert_array_equal(sample.fillable["normal"], ~sample.valid["normal"])
    sample = open_nyuv2(source, Nyuv2Options(**fast)).read("0004")
    inside = inside_border("eigen")
    np.testing.assert_array_equal(sample.fillable["depth"], inside & ~sample.valid["depth"])
    filled = open_nyuv2(source, Nyuv2Options(normal_window_px=1)).read("0004")
    assert set(filled.fillable) == {"normal"}


def test_normals_from_depth_and_no_normals(source: Path, frames: Frames, whole) -> None:
    options = Nyuv2Options(border="none", normal_window_px=1)
    sample = open_nyuv2(source, options).read("0002")
    expected, exists = normals_from_depth(frames.depths[1].astype(float), CAMERA)
    np.testing.assert_allclose(sample.targets["normal"], expected, atol=1e-6)
    np.testing.assert_array_equal(sample.valid["normal"], exists)
    cosine = (whole.targets["normal"] * corner_normal_map(0.0)).sum(-1)[whole.valid["normal"]]
    angles_deg = np.degrees(np.arccos(cosine.clip(-1, 1)))
    assert np.median(angles_deg) < 0.1
    assert angles_deg.mean() < 2
    data = open_nyuv2(source, Nyuv2Options(normals="none"))
    assert data.tasks == ("depth", "segmentation")
    assert set(data.read("0002").targets) == {"depth", "segmentation"}


@pytest.fixture(scope="module")
def file_normals() -> dict[int, np.ndarray]:
    """Return normals as files may hold them: y and z turned against our axes, a grey border."""
    normals = {}
    for index in (1, 5):
        values = corner_normal_map(0.1 * (index - 1)) * [1, -1, -1]
        values[:10] = 0
        normals[index] = values
    return normals


@pytest.mark.parametrize(
    ("origin", "option"),
    [("ladicky", "signs=+--"), ("ladicky parent", "signs=+,-,-"), ("eigen", 'signs="+--"')],
)
def test_normals_of_each_origin_get_their_signs_and_masks(
    source, file_normals, tmp_path, origin, option
) -> None:
    if origin == "eigen":
        path = write_eigen(tmp_path / "n", file_normals)
    else:
        path = write_ladicky(tmp_path / "nyu_normals_gt", file_normals, TRAIN)
    path = path.parent if origin == "ladicky parent" else path
    values = {"normals": str(path), "border": "none"} | dict([_option(option)])
    data = open_nyuv2(source, build_dataclass(Nyuv2Options, values))
    assert (data.options["normals_origin"], data.options["signs"]) == (origin.split()[0], "+--")
    folders = [path.parent.name for path in data.files["0001"].values()][1:]
    assert folders == (["normals", "masks"] if origin == "eigen" else ["train"])
    for sample_id in ("0001", "0005"):
        sample = data.read(sample_id)
        valid = sample.valid["normal"]
        assert not valid[:10].any()
        assert valid[10:].all()
        expected = corner_normal_map(0.1 * (int(sample_id) - 1))
        cosine = (sample.targets["normal"] * expected).sum(-1)[valid]
        assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 0.6
        length = np.linalg.norm(sample.targets["normal"], axis=-1)
        np.testing.assert_allclose(length[valid], 1, atol=1e-6)


def test_masks_of_eigen_count(source: Path, file_normals: dict, tmp_path: Path) -> None:
    mask = np.zeros((480, 640), bool)
    mask[50:400, 60:600] = True
    path = write_eigen(tmp_path / "n", file_normals, dict.fromkeys(file_normals, mask))
    data = open_nyuv2(source, Nyuv2Options(normals=str(path), border="none", signs="+--"))
    np.testing.assert_array_equal(data.read("0001").valid["normal"], mask)
    for picture in (path / "masks").iterdir():  # a mask of 0 and 1 says the same
        Image.fromarray(mask.astype(np.uint8)).save(picture)
    np.testing.assert_array_equal(data.read("0001").valid["normal"], mask)


def test_three_minuses_need_commas_on_a_command_line() -> None:
    # A bare --- begins a document in YAML.
    signs = [_option(text)[1] for text in ("signs=---", "signs=-,-,-", 'signs="---"')]
    assert signs == [None, "-,-,-", "---"]


def test_unusual_counts_and_missing_raw_depth_are_noted(frames: Frames, tmp_path: Path) -> None:
    write_official(tmp_path, frames, rawDepths=None)
    data = open_nyuv2(tmp_path, Nyuv2Options(normals="none"))
    assert any("4 training and 2 test" in note for note in data.notes)
    assert any("rawDepths" in note for note in data.notes)
    assert not data.read("0001").measured


# What can be wrong, with two frames.

OPTIONS = Nyuv2Options(validation_share=0)
RAW = Nyuv2Options(validation_share=0, depth="raw")


@pytest.fixture(scope="module")
def two() -> Frames:
    return room(number=2)


@pytest.fixture
def pair(tmp_path: Path, two: Frames) -> Path:
    return write_official(tmp_path, two, (1,), (2,)).parent


def opening_fails(place: Path, *words: object, options: Nyuv2Options = OPTIONS) -> None:
    refused(lambda: open_nyuv2(place, options), *words)


def reading_fails(place: Path, *words: object, options: Nyuv2Options = OPTIONS) -> None:
    data = open_nyuv2(place, options)
    refused_sample(lambda: data.read("0001"), *words)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_a_group(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["images"]
        file.create_group("images")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "got No such file"),
        (cut, "whole MATLAB 7.3 file"),
        (with_a_group, "whole MATLAB 7.3 file"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>404"), "begins with b'<!DOCTYPE"),
        (lambda path: scipy.io.savemat(path, {"images": np.zeros((2, 2))}), "MATLAB 5"),
    ],
)
def test_file_that_is_no_whole_hdf5_is_refused(pair: Path, spoil: Callable, words: str) -> None:
    spoil(pair / MAT_NAME)
    opening_fails(pair, words, MAT_NAME, "-v7.3")
    opening_fails(pair / MAT_NAME, words)


@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        ({"labels": None}, OPTIONS, "none such for labels"),
        ({"rawDepths": None}, RAW, "none such for rawDepths"),
        ({"depths": np.zeros((1, 640, 480), np.float32)}, OPTIONS, "shape (1, 640, 480)"),
        ({"images": np.zeros((2, 3, 320, 240), np.uint8)}, OPTIONS, "(2, 3, 320, 240)"),
        ({"images": np.zeros((2, 3, 640, 480), np.uint16)}, OPTIONS, "images, which is uint16"),
        ({"depths": np.zeros((2, 640, 480), np.uint16)}, OPTIONS, "depths, which is uint16"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, two, arrays, options, words) -> None:
    write_official(tmp_path, two, (1,), (2,), **arrays)
    opening_fails(tmp_path, words, options=options)


def test_splits_may_lie_elsewhere_and_must_fit(pair: Path) -> None:
    path = pair / "splits.mat"
    whole = path.read_bytes()
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        opening_fails(pair, "splits.mat")
    for train, test in (
        ((1, 3), (2,)), ((0,), (2,)), ((1,), (1, 2)), ((1, 1), (2,)), ((), (1, 2)),
        ([1.5], [2]), ("one", (2,)),
    ):  # fmt: skip
        scipy.io.savemat(path, {"trainNdxs": train, "testNdxs": test})
        opening_fails(pair, "splits.mat")
    path.unlink()
    opening_fails(pair, "official split at", "splits.mat", "option splits")
    write_splits(pair / "elsewhere.mat", (2,), (1,))
    options = Nyuv2Options(splits=str(pair / "elsewhere.mat"), validation_share=0)
    assert open_nyuv2(pair, options).samples["train"] == ("0002",)


def test_options_that_cannot_be_are_refused(pair: Path) -> None:
    for options, words in (
        ({"depth": "both"}, "depth filled or raw"),
        ({"border": "white"}, "border eigen, none"),
        ({"border": 240}, "below 240"),
        ({"normals": "x", "signs": "+-"}, "signs of x, y, z"),
        ({"normals": "x", "signs": None}, "signs=-,-,-"),
        ({"normals": "x"}, "got ''"),
        ({"normals": "nowhere", "signs": "+--"}, "Expected normals at nowhere"),
        ({"normal_window_px": 4}, "normal_window_px odd"),
    ):
        opening_fails(pair, words, options=Nyuv2Options(**({"validation_share": 0} | options)))


@pytest.mark.parametrize(
    ("options", "where", "value", "words"),
    [
        (OPTIONS, (200, 300), np.nan, "nan m at 1 pixels"),
        (RAW, (200, 300), 3615, "got 3615 m"),
        (OPTIONS, ..., 0, "some valid depth inside the border"),
        (OPTIONS, ..., 1950, "a median of 1950 m"),
    ],
)
def test_depth_that_cannot_be_is_named(tmp_path, two, options, where, value, words) -> None:
    key = "depths" if options is OPTIONS else "raw_depths"
    write_official(tmp_path, two.changed(key, 0, value, where), (1,), (2,))
    reading_fails(tmp_path, words, "sample 0001", options=options)


def test_damaged_labels_and_file_that_went_away_are_named(pair: Path, two: Frames) -> None:
    write_official(pair, two.changed("labels", 0, 895, (5, 6)), (1,), (2,))
    reading_fails(pair, "labels 0..894, got 895", "sample 0001")
    with h5py.File(pair / MAT_NAME, "r+") as file:
        del file["labels"]
        data = two.labels.transpose(0, 2, 1)
        labels = file.create_dataset("labels", data=data, chunks=(1, 640, 480), compression="gzip")
        chunk = labels.id.get_chunk_info(0)
    with open(pair / MAT_NAME, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    reading_fails(pair, "Expected labels in sample 0001")
    data = open_nyuv2(pair, OPTIONS)
    (pair / MAT_NAME).unlink()
    refused_sample(lambda: data.read("0001"), "Expected images in sample 0001")


@cache
def normals_of_two() -> dict[int, np.ndarray]:
    return {index: corner_normal_map(0.1 * (index - 1)) for index in (1, 2)}


def with_normals(path: Path) -> Nyuv2Options:
    return Nyuv2Options(normals=str(path), signs="+++", validation_share=0)


def test_normals_need_their_files_and_masks(pair: Path) -> None:
    path = write_eigen(pair / "n", normals_of_two())
    (path / "masks" / "0000.png").unlink()
    reading_fails(pair, "masks/0000.png", options=with_normals(path))
    (path / "masks" / "0001.png").unlink()
    (path / "masks").rmdir()
    opening_fails(pair, "Expected normals at", options=with_normals(path))
    path = write_ladicky(pair / "l", {2: normals_of_two()[2]}, train=())
    reading_fails(pair, "ladicky normals of sample 0001", options=with_normals(path))


def test_damaged_normals_are_named(pair: Path) -> None:
    path = write_ladicky(pair / "n", normals_of_two(), train=(1,))
    picture = path / "train" / "00001.png"
    whole = picture.read_bytes()
    for content, words in (
        (whole[:2000], "00001.png"),
        (Image.new("RGB", (320, 240)), "480 x 640 pixels"),
        (Image.new("I;16", (640, 480)), "16-bit"),
        (Image.fromarray(coded((normals_of_two()[1] + 1) / 2)), "normals of length 1"),
    ):
        if isinstance(content, bytes):
            picture.write_bytes(content)
        else:
            content.save(picture)
        reading_fails(pair, words, picture, options=with_normals(path))
