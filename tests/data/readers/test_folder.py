"""Folders of images with a dataset.yaml: scenes read back, CamVid, what the YAML may say."""

import json
import math
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.readers.folder import FolderOptions, open_folder
from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.spec.sections import TASKS
from tests.data.readers.folder_formats import (
    FIRST,
    HEIGHT,
    SPLITS,
    WIDTH,
    refused_sample,
    save,
    scene,
    stored,
    write_task,
    write_yaml,
)

# PNG: half a quantisation step each; see tests/data/test_taskonomy.py for normals.
BOUNDS = {
    "depth": 0.5 * 0.001,
    "normal": 2 * 3**0.5 * 0.5 / 127.5,
    "segmentation": 0,
    "curvature": 0.5 / 127,
    "reshading": 0.5 / 255,
    "edge2d": 0.5 / 65535,
    "edge3d": 0.5 / 65535,
    "keypoint2d": 0.5 / 65535,
    "keypoint3d": 0.5 / 65535,
}


ROUNDING = 1e-6  # float32


def test_scenes_read_back_equal_within_quantisation(folder_source: Path) -> None:
    data = open_folder(folder_source)
    assert (data.name, data.tasks, data.classes) == ("folder", TASKS, CLASSES_13)
    assert (data.licence, data.depth_range_m) == ("ours", (0.7, 10.0))
    assert data.samples["train"] == tuple(f"train/Bild {i} é" for i in range(3))
    assert data.samples["validation"] == ("val/Bild 3 é",)
    assert data.samples["test"] == ("test/Bild 4 é",)
    assert data.notes == ()
    names = [name for ids in data.samples.values() for name in ids]
    for index, name in enumerate(names):
        got = data.read(name)
        np.testing.assert_array_equal(got.image, scene(index).image)
        for task, bound in BOUNDS.items():
            valid = scene(index).valid[task]
            np.testing.assert_array_equal(got.valid[task], valid)
            target = scene(index).targets[task]
            assert got.targets[task].dtype == target.dtype
            assert got.targets[task].shape == target.shape
            error = np.abs(got.targets[task].astype(float) - target)[valid]
            assert error.max() <= bound + ROUNDING, task


def test_arrays_read_back_exactly(tmp_path: Path) -> None:
    for index, (split, _) in enumerate(SPLITS):
        image = scene(index).image
        save(tmp_path / split / "image" / "0.npy", image / np.float64(255) if index else image)
        for task in TASKS:
            target = scene(index).targets[task]
            if task == "segmentation":
                # As MTAN's files: floats, -1 where there is no class.
                target = np.where(scene(index).valid[task], target, -1.0)
            save(tmp_path / split / task / "0.npy", target)
    tasks = {task: {} for task in TASKS} | {"segmentation": {"void": -1}}
    write_yaml(tmp_path, tasks=tasks)
    data = open_folder(tmp_path)
    for index, (split, _) in enumerate(SPLITS):
        got = data.read(f"{split}/0")
        np.testing.assert_array_equal(got.image, scene(index).image)
        for task in TASKS:
            target, valid = scene(index).targets[task], scene(index).valid[task]
            np.testing.assert_array_equal(got.valid[task], valid)
            np.testing.assert_allclose(got.targets[task][valid], target[valid], atol=1e-6)


def test_without_validation_folder_part_of_train_is_held_out(folder_source: Path) -> None:
    (folder_source / "val").rename(folder_source / "elsewhere")
    data = open_folder(folder_source)
    assert len(data.samples["train"]) == 2
    assert len(data.samples["validation"]) == 1
    assert any("held out by seed 0" in note for note in data.notes)
    assert {
        open_folder(folder_source, FolderOptions(validation_seed=seed)).samples["validation"]
        for seed in range(9)
    } == {(f"train/Bild {i} é",) for i in range(3)}


def test_splits_may_bear_any_names(folder_source: Path) -> None:
    (folder_source / "val").rename(folder_source / "dev")
    write_yaml(folder_source, splits={"validation": "dev", "test": "dev"})
    data = open_folder(folder_source)
    assert data.samples["validation"] == data.samples["test"] == ("dev/Bild 3 é",)
    assert any("same images" in note for note in data.notes)


def test_names_pair_whatever_they_end_on_and_however_accents_are_stored(
    folder_source: Path,
) -> None:
    image = folder_source / "train" / "image"
    decomposed = unicodedata.normalize("NFD", "Bild 0 é")
    Image.fromarray(scene(0).image).save(image / f"{decomposed}.JPG", quality=95)
    (image / "Bild 0 é.png").unlink()
    (image / "Thumbs.db").write_bytes(b"x")
    (image / "._Bild 0 é.png").write_bytes(b"x")
    save(folder_source / "train" / "edge2d" / "Bild 0 é.npy", scene(0).targets["edge2d"])
    (folder_source / "train" / "edge2d" / "Bild 0 é.png").unlink()
    got = open_folder(folder_source).read(FIRST)
    np.testing.assert_array_equal(got.targets["edge2d"], scene(0).targets["edge2d"])
    assert np.abs(got.image.astype(int) - scene(0).image).mean() < 12


def test_files_of_other_endings_are_told(folder_source: Path) -> None:
    for name in ("1.BMP", "2.bmp", "3.webp", "notes"):
        (folder_source / "train" / "image" / name).write_bytes(b"x")
    (folder_source / "val" / "depth" / "1.tif").write_bytes(b"x")
    (folder_source / "val" / "depth" / "Thumbs.db").write_bytes(b"x")
    data = open_folder(folder_source)
    image, depth = data.notes
    assert image.startswith(
        f"4 files in {folder_source / 'train' / 'image'} are not read (2 of .bmp, "
    )
    assert "1 of .webp, 1 of no ending): only .png, .jpg" in image
    assert depth.startswith(
        f"1 files in {folder_source / 'val' / 'depth'} are not read (1 of .tif)"
    )
    assert len(data.samples["train"]) == 3


def test_missing_targets_are_error_or_unlabelled(folder_source: Path) -> None:
    for folder in ("label", "normal"):
        (folder_source / "train" / folder / "Bild 0 é.png").unlink()
    # Opening knows it and goes on: whether such samples are left out is for preparation to say.
    assert set(open_folder(folder_source).lacking) == {FIRST}
    refused_sample(open_folder(folder_source), "normal", "Bild 0 é.png", "missing: unlabelled")
    write_yaml(folder_source, missing="unlabelled")
    data = open_folder(folder_source)
    assert sum("1 of 3 images have no file" in note for note in data.notes) == 2
    got, other = data.read(FIRST), data.read("train/Bild 1 é")
    for task in ("segmentation", "normal"):
        assert not got.valid[task].any()
        assert got.targets[task].shape == other.targets[task].shape
        assert got.targets[task].dtype == other.targets[task].dtype
        assert other.valid[task].any()
    save(folder_source / "test" / "depth" / "alone.png", stored("depth", scene(0)))
    assert any(
        "1 files in" in note and "no image" in note for note in open_folder(folder_source).notes
    )


def test_masks_from_another_task(folder_source: Path) -> None:
    depth = stored("depth", scene(0))
    depth[2] = 0
    save(folder_source / "train" / "depth" / "Bild 0 é.png", depth)
    got = open_folder(folder_source).read(FIRST)
    for task in ("depth", "reshading"):
        np.testing.assert_array_equal(got.valid[task], depth > 0)
    assert got.valid["edge2d"].all()


def test_signs_turn_normals_of_other_axes(folder_source: Path) -> None:
    normal = scene(0).targets["normal"] * np.float32([1, -1, -1])
    save(folder_source / "train" / "normal" / "Bild 0 é.npy", normal)
    (folder_source / "train" / "normal" / "Bild 0 é.png").unlink()
    write_task(folder_source, "normal", signs=[1, -1, -1])
    got = open_folder(folder_source).read(FIRST)
    np.testing.assert_allclose(got.targets["normal"], scene(0).targets["normal"], atol=1e-6)


def test_nan_counts_as_invalid_only_if_said(folder_source: Path) -> None:
    depth = scene(0).targets["depth"].copy()
    depth[0, 0], depth[0, 1] = np.nan, -1
    (folder_source / "train" / "depth" / "Bild 0 é.png").unlink()
    save(folder_source / "train" / "depth" / "Bild 0 é.npy", depth)
    write_task(folder_source, "depth", scale=1, invalid=[-1])
    refused_sample(open_folder(folder_source), "finite", "Bild 0 é.npy", ".nan")
    write_task(folder_source, "depth", scale=1, invalid=[math.nan, -1])
    data = open_folder(folder_source)
    got = data.read(FIRST)
    assert np.argwhere(~got.valid["depth"]).tolist() == [[0, 0], [0, 1]]
    assert (got.targets["depth"][0, :2] == 0).all()
    json.dumps(data.options, allow_nan=False)


def test_camera_is_that_of_images_or_error(folder_source: Path) -> None:
    camera = {"fx": 20, "fy": "20.5", "cx": 11.5, "cy": 8.5, "height": HEIGHT, "width": WIDTH}
    write_yaml(folder_source, camera=camera)
    got = open_folder(folder_source).read(FIRST).camera
    assert got is not None
    assert (got.fx, got.fy, got.cx, got.cy) == (20, 20.5, 11.5, 8.5)
    write_yaml(folder_source, camera={**camera, "width": 640})
    refused_sample(open_folder(folder_source), "18 x 640", "18 x 24", "drop it from the YAML")


def test_numbers_may_be_fractions_and_exponents(folder_source: Path) -> None:
    path = write_yaml(folder_source, depth_range_m=["7e-1", "20/2"])
    path.write_text(path.read_text("utf-8").replace("scale: 0.001", "scale: 1e-3"), "utf-8")
    data = open_folder(folder_source)
    assert data.depth_range_m == (0.7, 10.0)
    assert data.read(FIRST).targets["depth"].max() == pytest.approx(
        scene(0).targets["depth"].max(), abs=0.001
    )


def test_images_alone_are_data_set_too(folder_source: Path) -> None:
    write_yaml(folder_source, tasks={}, classes=None, depth_range_m=None)
    data = open_folder(folder_source)
    assert data.tasks == ()
    assert data.read(FIRST).targets == {}


def test_reader_can_be_sent_to_another_process(folder_source: Path) -> None:
    data = pickle.loads(pickle.dumps(open_folder(folder_source)))
    np.testing.assert_array_equal(data.read(FIRST).image, scene(0).image)


CAMVID_YAML = """\
name: camvid
licence: CC BY-NC 4.0, personal and research use only (Brostow et al.)
classes: [sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist]
tasks:
  segmentation: {folder: label, void: 11}
"""


def test_camvid(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "camvid_240x180"
    if not folder.is_dir():
        pytest.skip("no camvid_240x180 among the real images")
    path = tmp_path / "camvid.yaml"
    path.write_text(CAMVID_YAML)
    data = open_folder(folder, FolderOptions(description=str(path)))
    assert {split: len(ids) for split, ids in data.samples.items()} == {
        "train": 367, "validation": 101, "test": 233,
    }  # fmt: skip
    assert len(data.classes) == 11
    seen, void = set(), 0
    for name in (*data.samples["train"][::40], *data.samples["test"][::40]):
        sample = data.read(name)
        assert sample.image.shape == (180, 240, 3)
        valid = sample.valid["segmentation"]
        void += (~valid).sum()
        seen |= set(np.unique(sample.targets["segmentation"][valid]).tolist())
    assert void > 0
    assert seen == set(range(11))
