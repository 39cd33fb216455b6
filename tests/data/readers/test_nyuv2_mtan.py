"""The MTAN layout, written and read back, and what can be wrong with it."""

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.readers.nyuv2_mtan import MtanOptions, open_nyuv2_mtan
from mtl.errors import BadSampleError, UserError
from tests.data.readers.nyuv2_formats import write_mtan


def stored(mtan_source: Path, name: str, split: str = "train", number: int = 0) -> np.ndarray:
    return np.load(mtan_source / split / name / f"{number}.npy")


def test_round_trip_equals_what_was_written(mtan_source: Path) -> None:
    data = open_nyuv2_mtan(mtan_source)
    assert data.tasks == ("depth", "normal", "segmentation")
    assert data.classes == CLASSES_13
    sample = data.read("val/0")
    np.testing.assert_array_equal(
        sample.image, np.rint(stored(mtan_source, "image", "val") * 255).astype(np.uint8)
    )
    for task, name in (("depth", "depth"), ("normal", "normal")):
        np.testing.assert_allclose(
            sample.targets[task], stored(mtan_source, name, "val"), rtol=1e-6, atol=1e-7
        )
        assert sample.targets[task].dtype == np.float32
        assert sample.valid[task].all()
    label = stored(mtan_source, "label", "val")
    np.testing.assert_array_equal(sample.valid["segmentation"], label != -1)
    np.testing.assert_array_equal(
        sample.targets["segmentation"][label != -1], label[label != -1].astype(int)
    )
    assert sample.targets["segmentation"].dtype == np.uint8
    assert sample.camera is None
    assert not sample.measured


def test_splits_are_by_number_and_part_of_train_is_held_out(mtan_source: Path) -> None:
    samples = open_nyuv2_mtan(mtan_source).samples
    assert samples["test"] == ("val/0",)
    assert len(samples["validation"]) == 1
    assert set(samples["train"]) | set(samples["validation"]) == {"train/0", "train/2", "train/10"}
    all_train = open_nyuv2_mtan(mtan_source, MtanOptions(validation_share=0)).samples
    assert all_train["train"] == ("train/0", "train/2", "train/10")
    assert any("3 training and 1 test" in note for note in open_nyuv2_mtan(mtan_source).notes)
    assert open_nyuv2_mtan(mtan_source).options == {
        "tasks": ("depth", "normal", "segmentation"), "validation_share": 0.1, "validation_seed": 0,
    }  # fmt: skip


def test_readers_can_be_sent_to_processes(mtan_source: Path) -> None:
    sent = pickle.loads(pickle.dumps(open_nyuv2_mtan(mtan_source)))
    assert sent.read("train/2").image.shape == (288, 384, 3)


def test_masks_go_by_any_component_not_by_their_sum(mtan_source: Path) -> None:
    normal = np.zeros((288, 384, 3))
    normal[0] = [np.sqrt(0.5), -np.sqrt(0.5), 0]  # sums to 0 and is a normal
    normal[1] = [0, 0, -1]
    depth = np.full((288, 384, 1), 2.0)
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


def refused(root: Path, words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_nyuv2_mtan(root)
    checked(str(caught.value), words)


def checked(message: str, words: str) -> None:
    assert re.search(words, message), message
    assert re.search(r"Expected .*, got:? .*\. .*\.$", message), message
    assert "\n" not in message


@pytest.mark.parametrize("place", ["train", "train/image", "train/label", "val"])
def test_missing_folder_is_named(mtan_source: Path, place: str) -> None:
    shutil.rmtree(mtan_source / place)
    refused(mtan_source, f"Expected the folder .*{place}")
    (mtan_source / place).symlink_to(mtan_source / place)
    refused(mtan_source, "symbolic links")


def test_split_without_samples_is_refused(mtan_source: Path) -> None:
    for name in ("image", "depth", "normal", "label"):
        (mtan_source / "val" / name / "0.npy").rename(mtan_source / f"{name}.npy")
    refused(mtan_source, "Expected files such as .*val/image/0.npy")


def test_other_files_are_no_samples(mtan_source: Path) -> None:
    for name in ("readme.txt", "00.npy", "1.npy.part", "x.npy", ".1.npy"):
        (mtan_source / "train" / "image" / name).write_text("x")
    data = open_nyuv2_mtan(mtan_source, MtanOptions(validation_share=0))
    assert len(data.samples["train"]) == 3


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("normal", None, "normal/0.npy, got No such file"),
        ("normal", b"", "an empty file"),
        ("normal", b"<html>not found</html>", "normal/0.npy"),
        ("normal", pickle.dumps({"a": 1}), "normal/0.npy"),
        ("label", np.array([{}, []], dtype=object), "label/0.npy"),
        ("image", np.zeros((3, 288, 384)), r"image of shape \(288, 384, 3\)"),
        ("depth", np.ones((1, 288, 384)), r"depth of shape"),
        ("label", np.zeros((288, 384, 3)), r"label of shape"),
        ("normal", np.zeros((288, 384)), r"normal of shape"),
        ("image", np.full((288, 384, 3), 255.0), "image from 0 to 1 .* got 255 to 255"),
        ("image", np.full((288, 384, 3), np.nan), "finite image"),
        ("depth", np.full((288, 384, 1), np.inf), "finite depth"),
        ("depth", np.full((288, 384, 1), -1.0), "above 0 m .* got -1"),
        ("depth", np.full((288, 384, 1), 2500.0), "depth in the range .* a median of 2500 m"),
        ("depth", np.zeros((288, 384, 1)), "some valid depth"),
        ("normal", np.full((288, 384, 3), 127.0), "normals of length 1 .* 219.97"),
        ("label", np.full((288, 384), 13.0), "labels from -1 to 12 .* got 13"),
        ("label", np.full((288, 384), -2), "labels from -1 to 12"),
        ("label", np.full((288, 384), 0.5), "whole numbers"),
        ("depth", np.full((288, 384, 1), 1j), "values of type complex"),
        ("label", np.full((288, 384), "wall"), "values of type"),
    ],
)
def test_files_and_values_that_cannot_be_are_named(
    mtan_source: Path, name: str, values: np.ndarray | bytes | None, words: str
) -> None:
    path = mtan_source / "train" / name / "0.npy"
    path.unlink()
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif values is not None:
        np.save(path, values)
    data = open_nyuv2_mtan(mtan_source)
    with pytest.raises(BadSampleError) as caught:
        data.read("train/0")
    checked(str(caught.value), words)
    assert data.read("train/2").valid["depth"].any()
