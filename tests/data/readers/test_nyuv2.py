"""The official file, written in its layout and read back: values, masks, splits, normals."""

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.prepare.__main__ import _option
from mtl.data.readers.holdout import hold_out
from mtl.data.readers.nyuv2 import CAMERA, Nyuv2Options, inside_border, open_nyuv2
from mtl.data.readers.nyuv2_classes import CLASSES_13, classes_13
from mtl.data.targets.derive import normals_from_depth
from mtl.data.targets.derived_tasks import derived
from mtl.errors import UserError
from mtl.spec.strict import build_dataclass
from tests.data.readers.nyuv2_formats import (
    Frames,
    coded,
    corner_normal_map,
    real_frames,
    write_eigen,
    write_ladicky,
    write_official,
)

TRAIN, TEST = (1, 3, 4, 6), (2, 5)


@pytest.fixture(scope="module")
def source(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("ein Ordner für NYU"), frames, TRAIN, TEST)


@pytest.fixture(scope="module")
def file_normals() -> dict[int, np.ndarray]:
    """Return normals as files may hold them: y and z turned against our axes, a grey border."""
    normals = {}
    for index in range(1, 7):
        values = corner_normal_map(0.1 * (index - 1)) * [1, -1, -1]
        values[:10] = 0
        normals[index] = values
    return normals


def test_round_trip_equals_what_was_written(source: Path, frames: Frames) -> None:
    data = open_nyuv2(source, Nyuv2Options(border="none"))
    assert data.tasks == ("depth", "normal", "segmentation")
    assert data.classes == CLASSES_13
    for sample_id in ("0001", "0005"):
        sample = data.read(sample_id)
        position = int(sample_id) - 1
        np.testing.assert_array_equal(sample.image, frames.images[position])
        np.testing.assert_array_equal(sample.targets["depth"][..., 0], frames.depths[position])
        classes, labelled = classes_13(frames.labels[position])
        np.testing.assert_array_equal(sample.targets["segmentation"], classes)
        np.testing.assert_array_equal(sample.valid["segmentation"], labelled)
        assert sample.valid["depth"].all()
        assert sample.camera == CAMERA
        assert sample.targets["depth"].dtype == sample.targets["normal"].dtype == np.float32


@pytest.mark.parametrize("border", ["eigen", "none", 3])
def test_white_border_is_no_picture_whatever_counts(source: Path, border: str | int) -> None:
    sample = open_nyuv2(source, Nyuv2Options(border=border, tasks=("depth",))).read("0001")
    expected = np.zeros((480, 640), bool)
    expected[10:470, 10:630] = True
    np.testing.assert_array_equal(sample.inside, expected)
    np.testing.assert_array_equal(sample.counted, inside_border(border))


def test_white_border_of_real_frames_is_left_out(real_data: Path, tmp_path: Path) -> None:
    real = real_frames(real_data, (1, 7, 9))
    data = open_nyuv2(
        write_official(tmp_path, real, (1, 3), (2,)), Nyuv2Options(validation_share=0)
    )
    for sample_id in ("0001", "0002", "0003"):
        sample = data.read(sample_id)
        white = (sample.image == 255).all(-1)
        for edge in (white[:5], white[-5:], white[:, :6], white[:, -7:]):
            assert edge.mean() > 0.99
        for task in ("edge2d", "keypoint2d"):
            target, valid = derived(task, sample)
            # Of the Eigen crop's rows 45 to 470 and columns 41 to 600: edges see 12 pixels around,
            # so rows end at 469 - 12 = 457; the largest filter sees 40 before and 43 behind, so
            # rows 50 to 426 and columns 50 to 586 are left.
            num_valid = 413 * 560 if task == "edge2d" else 377 * 537
            assert valid.sum() == num_valid
            without = derived(task, dataclasses.replace(sample, inside=None, counted=None))[0]
            assert without[:15].max() > target[valid].mean() * 3


def test_folder_and_file_open_alike_and_readers_can_be_sent_to_processes(source: Path) -> None:
    options = Nyuv2Options(tasks=("depth",))
    by_folder, by_file = (open_nyuv2(place, options) for place in (source.parent, source))
    assert by_folder.samples == by_file.samples
    sent = pickle.loads(pickle.dumps(by_folder)).read("0003")
    np.testing.assert_array_equal(sent.image, by_file.read("0003").image)


def test_splits_are_official_ones_and_part_of_train_is_held_out(source: Path) -> None:
    samples = open_nyuv2(source).samples
    assert samples["test"] == ("0002", "0005")
    assert sorted(samples["train"] + samples["validation"]) == ["0001", "0003", "0004", "0006"]
    assert len(samples["validation"]) == 1
    none_held = open_nyuv2(source, Nyuv2Options(validation_share=0)).samples
    assert (none_held["train"], none_held["validation"]) == (("0001", "0003", "0004", "0006"), ())
    held = {
        open_nyuv2(source, Nyuv2Options(validation_seed=seed)).samples["validation"]
        for seed in range(12)
    }
    assert len(held) > 1


def test_held_out_samples_are_these_for_ever() -> None:
    ids = [f"{index:04d}" for index in range(1, 796)]
    kept, held = hold_out(ids, 0.1, seed=0)
    assert (len(kept), len(held)) == (715, 80)
    assert held[:5] == HELD_FIRST
    fewer, _ = hold_out(ids[:-1], 0.1, seed=0)
    assert len(set(kept) ^ set(fewer)) <= 2


HELD_FIRST = ("0002", "0019", "0021", "0023", "0025")


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan"), 0.9])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    with pytest.raises(UserError, match="Expected .* got .*"):
        hold_out(["a", "b"], share, 0)


def test_filled_depth_is_measured_only_where_sensor_saw_something(source: Path) -> None:
    sample = open_nyuv2(source, Nyuv2Options(border="none")).read("0001")
    missing = np.zeros((480, 640), bool)
    missing[200:220, 300:330] = missing[100:110, 100:110] = True
    np.testing.assert_array_equal(sample.measured["depth"], ~missing)
    assert sample.valid["normal"][210, 310]
    assert not sample.measured["normal"][210, 310]
    assert not sample.measured["normal"][199, 310]
    assert sample.measured["normal"][0, 0]


def test_raw_depth_leaves_holes_invalid(source: Path, frames: Frames) -> None:
    data = open_nyuv2(source, Nyuv2Options(depth="raw", border="none"))
    sample = data.read("0004")
    raw = frames.raw_depths[3]
    known = (raw > 0) & (raw < 10)
    np.testing.assert_array_equal(sample.valid["depth"], known)
    np.testing.assert_array_equal(sample.targets["depth"][..., 0][known], raw[known])
    assert not sample.valid["normal"][~known].any()
    assert not sample.measured
    np.testing.assert_array_equal(sample.fillable["depth"], ~known)
    np.testing.assert_array_equal(sample.fillable["normal"], ~sample.valid["normal"])
    assert data.options["depth"] == "raw"


def test_only_pixels_inside_border_are_fillable(source: Path) -> None:
    sample = open_nyuv2(source, Nyuv2Options(depth="raw")).read("0004")
    inside = inside_border("eigen")
    assert not sample.fillable["depth"][~inside].any()
    np.testing.assert_array_equal(sample.fillable["depth"], inside & ~sample.valid["depth"])
    assert set(open_nyuv2(source).read("0004").fillable) == {"normal"}


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


def test_normals_from_depth_and_no_normals(source: Path, frames: Frames) -> None:
    options = Nyuv2Options(border="none", normal_window_px=1)
    sample = open_nyuv2(source, options).read("0002")
    expected, exists = normals_from_depth(frames.depths[1].astype(float), CAMERA)
    np.testing.assert_allclose(sample.targets["normal"], expected, atol=1e-6)
    np.testing.assert_array_equal(sample.valid["normal"], exists)
    sample = open_nyuv2(source, Nyuv2Options(border="none")).read("0002")
    cosine = (sample.targets["normal"] * corner_normal_map(0.1)).sum(-1)[sample.valid["normal"]]
    angles_deg = np.degrees(np.arccos(cosine.clip(-1, 1)))
    assert np.median(angles_deg) < 0.1
    assert angles_deg.mean() < 2
    data = open_nyuv2(source, Nyuv2Options(normals="none"))
    assert data.tasks == ("depth", "segmentation")
    assert set(data.read("0002").targets) == {"depth", "segmentation"}


def _ladicky(folder: Path, normals: dict[int, np.ndarray]) -> Path:
    return write_ladicky(folder / "nyu_normals_gt", normals, TRAIN)


def _ladicky_parent(folder: Path, normals: dict[int, np.ndarray]) -> Path:
    return _ladicky(folder, normals).parent


@pytest.mark.parametrize(
    ("origin", "write"),
    [
        ("ladicky", _ladicky),
        ("ladicky", _ladicky_parent),
        ("eigen", write_eigen),
    ],
)
def test_normals_of_each_origin_get_their_signs_and_masks(
    source: Path,
    file_normals: dict[int, np.ndarray],
    tmp_path: Path,
    origin: str,
    write: Callable[[Path, dict[int, np.ndarray]], Path],
) -> None:
    path = write(tmp_path / "normals", file_normals)
    data = open_nyuv2(source, Nyuv2Options(normals=str(path), border="none", signs="+--"))
    assert (data.options["normals_origin"], data.options["signs"]) == (origin, "+--")
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


def test_masks_of_eigen_count(
    source: Path, file_normals: dict[int, np.ndarray], tmp_path: Path
) -> None:
    mask = np.zeros((480, 640), bool)
    mask[50:400, 60:600] = True
    path = write_eigen(tmp_path / "n", file_normals, dict.fromkeys(file_normals, mask))
    data = open_nyuv2(source, Nyuv2Options(normals=str(path), border="none", signs="+--"))
    np.testing.assert_array_equal(data.read("0006").valid["normal"], mask)
    for picture in (path / "masks").iterdir():  # a mask of 0 and 1 says the same
        Image.fromarray(mask.astype(np.uint8)).save(picture)
    np.testing.assert_array_equal(data.read("0006").valid["normal"], mask)


@pytest.mark.parametrize(
    ("option", "signs", "factors"),
    [
        ("signs=-++", "-++", [-1, 1, 1]),
        ("signs=-,+,+", "-++", [-1, 1, 1]),
        ("signs=-,-,-", "---", [-1, -1, -1]),  # a bare --- begins a document in YAML
        ('signs="---"', "---", [-1, -1, -1]),
    ],
)
def test_given_signs_are_taken_as_they_are(
    option: str,
    signs: str,
    factors: list[int],
    source: Path,
    file_normals: dict[int, np.ndarray],
    tmp_path: Path,
) -> None:
    path = write_eigen(tmp_path / "n", file_normals)
    values = {"normals": str(path), "border": "none"} | dict([_option(option)])
    data = open_nyuv2(source, build_dataclass(Nyuv2Options, values))
    got = data.read("0001").targets["normal"][100, 100]
    colour = coded(file_normals[1])[100, 100] / 255 * 2 - 1
    np.testing.assert_allclose(got, colour / np.linalg.norm(colour) * factors, atol=1e-6)
    assert data.options["signs"] == signs


def test_counts_unlike_official_ones_and_missing_raw_depth_are_noted(
    frames: Frames, tmp_path: Path
) -> None:
    write_official(tmp_path, frames, rawDepths=None)
    data = open_nyuv2(tmp_path)
    assert any("4 training and 2 test" in note for note in data.notes)
    assert any("rawDepths" in note for note in data.notes)
    assert not data.read("0001").measured
