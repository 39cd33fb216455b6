"""The MTAN layout, written and read back, and what can be wrong with it."""

import shutil
from pathlib import Path

import numpy as np

from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.readers.nyuv2_mtan import MtanOptions, open_nyuv2_mtan
from tests.data.readers.nyuv2_formats import write_mtan
from tests.data.readers.refusals import refused, refused_sample

SHAPE = (288, 384)


def stored(mtan_source: Path, name: str, split: str = "train") -> np.ndarray:
    return np.load(mtan_source / split / name / "0.npy")


def test_round_trip_equals_what_was_written(mtan_source: Path) -> None:
    data = open_nyuv2_mtan(mtan_source)
    assert data.tasks == ("depth", "normal", "segmentation")
    assert data.classes == CLASSES_13
    sample = data.read("val/0")
    image = np.rint(stored(mtan_source, "image", "val") * 255).astype(np.uint8)
    np.testing.assert_array_equal(sample.image, image)
    for task in ("depth", "normal"):
        target = stored(mtan_source, task, "val")
        np.testing.assert_allclose(sample.targets[task], target, rtol=1e-6, atol=1e-7)
        assert sample.targets[task].dtype == np.float32
        assert sample.valid[task].all()
    label, labels = stored(mtan_source, "label", "val"), sample.targets["segmentation"]
    np.testing.assert_array_equal(sample.valid["segmentation"], label != -1)
    np.testing.assert_array_equal(labels[label != -1], label[label != -1].astype(int))
    assert labels.dtype == np.uint8
    assert sample.camera is None
    assert not sample.measured


def test_samples_are_in_order_of_their_numbers(mtan_source: Path) -> None:
    for name in ("readme.txt", "00.npy", "1.npy.part", "x.npy", ".1.npy"):  # no samples
        (mtan_source / "train" / "image" / name).write_text("x")
    data = open_nyuv2_mtan(mtan_source, MtanOptions(validation_share=0))
    assert data.samples == {
        "train": ("train/0", "train/2", "train/10"), "validation": (), "test": ("val/0",),
    }  # fmt: skip
    assert any("3 training and 1 test" in note for note in data.notes)
    assert data.options == {
        "tasks": ("depth", "normal", "segmentation"), "validation_share": 0, "validation_seed": 0,
    }  # fmt: skip


def test_masks_go_by_any_component_not_by_their_sum(mtan_source: Path) -> None:
    normal = np.zeros((*SHAPE, 3))
    normal[0] = [np.sqrt(0.5), -np.sqrt(0.5), 0]  # sums to 0 and is a normal
    normal[1] = [0, 0, -1]
    depth = np.full((*SHAPE, 1), 2.0)
    depth[5:9] = 0
    write_mtan(mtan_source, "train", 0, normal=normal, depth=depth)
    sample = open_nyuv2_mtan(mtan_source).read("train/0")
    assert sample.valid["normal"][:2].all()
    assert not sample.valid["normal"][2:].any()
    np.testing.assert_array_equal(sample.valid["depth"], depth[..., 0] > 0)


def test_other_number_types_and_shapes_without_channel_are_taken(mtan_source: Path) -> None:
    expected = open_nyuv2_mtan(mtan_source).read("train/0")
    folder = mtan_source / "train"
    label, depth = stored(mtan_source, "label"), stored(mtan_source, "depth")
    np.save(folder / "label" / "0.npy", label.astype(np.int64)[..., None])
    np.save(folder / "depth" / "0.npy", depth.astype(np.float32)[..., 0])
    np.save(folder / "image" / "0.npy", stored(mtan_source, "image").astype(np.float32))
    got = open_nyuv2_mtan(mtan_source).read("train/0")
    np.testing.assert_array_equal(got.image, expected.image)
    for task in ("depth", "segmentation"):
        np.testing.assert_array_equal(got.targets[task], expected.targets[task])


def test_missing_folders_and_splits_are_named(mtan_source: Path) -> None:
    for name in ("image", "depth", "normal", "label"):
        (mtan_source / "val" / name / "0.npy").unlink()
    refused(lambda: open_nyuv2_mtan(mtan_source), "files such as", "val/image/0.npy")
    for place in ("val", "train/label", "train/image", "train"):
        shutil.rmtree(mtan_source / place)
        refused(lambda: open_nyuv2_mtan(mtan_source), "Expected the folder", place)


def test_files_and_values_that_cannot_be_are_named(mtan_source: Path) -> None:
    data = open_nyuv2_mtan(mtan_source)
    for name, values, words in (
        ("normal", None, "normal/0.npy, got No such file"),
        ("normal", b"<html>not found</html>", "normal/0.npy"),
        ("label", np.array([{}, []], dtype=object), "label/0.npy"),
        ("image", np.zeros((3, *SHAPE)), "image of shape (288, 384, 3)"),
        ("depth", np.ones((1, *SHAPE)), "depth of shape"),
        ("label", np.zeros((*SHAPE, 3)), "label of shape"),
        ("image", np.full((*SHAPE, 3), 255.0), "got 255 to 255"),
        ("image", np.full((*SHAPE, 3), np.nan), "finite image"),
        ("depth", np.full((*SHAPE, 1), np.inf), "finite depth"),
        ("depth", np.full((*SHAPE, 1), -1.0), "got -1"),
        ("depth", np.full((*SHAPE, 1), 2500.0), "a median of 2500 m"),
        ("depth", np.zeros((*SHAPE, 1)), "some valid depth"),
        ("normal", np.full((*SHAPE, 3), 127.0), "219.97"),
        ("label", np.full(SHAPE, 13.0), "got 13"),
        ("label", np.full(SHAPE, -2), "labels from -1 to 12"),
        ("label", np.full(SHAPE, 0.5), "whole numbers"),
        ("label", np.full(SHAPE, "wall"), "values of type"),
    ):
        path = mtan_source / "train" / name / "0.npy"
        kept = path.read_bytes()
        path.unlink()
        if isinstance(values, bytes):
            path.write_bytes(values)
        elif values is not None:
            np.save(path, values)
        refused_sample(lambda: data.read("train/0"), words)
        path.write_bytes(kept)
    assert data.read("train/0").valid["depth"].any()
