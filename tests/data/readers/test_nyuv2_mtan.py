"""The MTAN layout, written and read back, and what can be wrong with it."""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.readers.nyuv2_mtan import MtanOptions, open_nyuv2_mtan
from mtl.errors import BadSampleError, BadSourceError
from tests.data.readers.nyuv2_formats import write_mtan


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("NYUv2 (MTAN), geprüft")
    for number in (0, 2, 10):
        write_mtan(folder, "train", number)
    write_mtan(folder, "val", 0)
    return folder


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "root"))


def stored(root: Path, name: str, split: str = "train", number: int = 0) -> np.ndarray:
    return np.load(root / split / name / f"{number}.npy")


def test_round_trip_equals_what_was_written(whole: Path) -> None:
    data = open_nyuv2_mtan(whole)
    assert data.tasks == ("depth", "normal", "segmentation")
    assert data.classes == CLASSES_13
    sample = data.read("val/0")
    np.testing.assert_array_equal(
        sample.image, np.rint(stored(whole, "image", "val") * 255).astype(np.uint8)
    )
    for task, name in (("depth", "depth"), ("normal", "normal")):
        np.testing.assert_allclose(
            sample.targets[task], stored(whole, name, "val"), rtol=1e-6, atol=1e-7
        )
        assert sample.targets[task].dtype == np.float32
        assert sample.valid[task].all()
    label = stored(whole, "label", "val")
    np.testing.assert_array_equal(sample.valid["segmentation"], label != -1)
    np.testing.assert_array_equal(
        sample.targets["segmentation"][label != -1], label[label != -1].astype(int)
    )
    assert sample.targets["segmentation"].dtype == np.uint8
    assert sample.camera is None
    assert not sample.measured


def test_splits_are_by_number_and_a_part_of_train_is_held_out(whole: Path) -> None:
    samples = open_nyuv2_mtan(whole).samples
    assert samples["test"] == ("val/0",)
    assert len(samples["validation"]) == 1
    assert set(samples["train"]) | set(samples["validation"]) == {"train/0", "train/2", "train/10"}
    all_train = open_nyuv2_mtan(whole, MtanOptions(validation_share=0)).samples
    assert all_train["train"] == ("train/0", "train/2", "train/10")
    assert any("3 training and 1 test" in note for note in open_nyuv2_mtan(whole).notes)
    assert open_nyuv2_mtan(whole).options == {
        "tasks": ("depth", "normal", "segmentation"), "validation_share": 0.1, "validation_seed": 0,
    }  # fmt: skip


def test_readers_can_be_sent_to_processes(whole: Path) -> None:
    sent = pickle.loads(pickle.dumps(open_nyuv2_mtan(whole)))
    assert sent.read("train/2").image.shape == (288, 384, 3)


def test_masks_go_by_any_component_not_by_their_sum(root: Path) -> None:
    normal = np.zeros((288, 384, 3))
    normal[0] = [np.sqrt(0.5), -np.sqrt(0.5), 0]  # sums to 0 and is a normal
    normal[1] = [0, 0, -1]
    depth = np.full((288, 384, 1), 2.0)
    depth[5:9] = 0
    write_mtan(root, "train", 0, normal=normal, depth=depth)
    sample = open_nyuv2_mtan(root).read("train/0")
    assert sample.valid["normal"][:2].all()
    assert not sample.valid["normal"][2:].any()
    np.testing.assert_array_equal(sample.valid["depth"], depth[..., 0] > 0)


def test_other_number_types_and_shapes_without_channel_are_taken(root: Path) -> None:
    expected = open_nyuv2_mtan(root).read("train/0")
    folder = root / "train"
    label, depth = stored(root, "label"), stored(root, "depth")
    np.save(folder / "label" / "0.npy", label.astype(np.int64)[..., None])
    np.save(folder / "depth" / "0.npy", depth.astype(np.float32)[..., 0])
    np.save(folder / "image" / "0.npy", stored(root, "image").astype(np.float32))
    got = open_nyuv2_mtan(root).read("train/0")
    np.testing.assert_array_equal(got.image, expected.image)
    for task in ("depth", "segmentation"):
        np.testing.assert_array_equal(got.targets[task], expected.targets[task])


def refused(root: Path, words: str) -> None:
    with pytest.raises(BadSourceError) as caught:
        open_nyuv2_mtan(root)
    checked(str(caught.value), words)


def bad_sample(root: Path, words: str, sample_id: str = "train/0") -> None:
    data = open_nyuv2_mtan(root)
    with pytest.raises(BadSampleError) as caught:
        data.read(sample_id)
    checked(str(caught.value), words)
    assert data.read("train/2").valid["depth"].any()


def checked(message: str, words: str) -> None:
    assert re.search(words, message), message
    assert re.search(r"Expected .*, got:? .*\. .*\.$", message), message
    assert "\n" not in message


def test_no_such_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "folder .*nowhere/train/image")


@pytest.mark.parametrize("name", ["image", "depth", "normal", "label"])
def test_folder_of_a_modality_missing(root: Path, name: str) -> None:
    shutil.rmtree(root / "train" / name)
    refused(root, f"Expected the folder .*train/{name}")


def test_val_missing(root: Path) -> None:
    shutil.rmtree(root / "val")
    refused(root, "Expected the folder .*val/image")


def test_folder_that_is_a_loop(root: Path) -> None:
    shutil.rmtree(root / "val")
    os.symlink(root / "val", root / "val")
    refused(root, "symbolic links")


def test_empty_folders(root: Path) -> None:
    for name in ("image", "depth", "normal", "label"):
        (root / "val" / name / "0.npy").unlink()
    refused(root, "Expected files such as .*val/image/0.npy")


def test_other_files_are_no_samples(root: Path) -> None:
    for name in ("readme.txt", "00.npy", "1.npy.part", "x.npy", ".1.npy"):
        (root / "train" / "image" / name).write_text("x")
    assert len(open_nyuv2_mtan(root, MtanOptions(validation_share=0)).samples["train"]) == 3


def test_one_training_sample_cannot_be_split(root: Path) -> None:
    for name in ("image", "depth", "normal", "label"):
        for number in (2, 10):
            (root / "train" / name / f"{number}.npy").unlink()
    refused(root, "more training samples than the 1")


@pytest.mark.parametrize("name", ["image", "depth", "normal", "label"])
def test_modality_missing_for_one_sample(root: Path, name: str) -> None:
    (root / "train" / name / "0.npy").unlink()
    bad_sample(root, f"the {name} of sample train/0 at .*{name}/0.npy, got no file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"\x93NUMPY\x01\x00", "0.npy"),
        (b"<html>not found</html>", "0.npy"),
        (pickle.dumps({"a": 1}), "0.npy"),
        (b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'shape': (9**99,".ljust(118), "0.npy"),
    ],
)
def test_files_that_are_no_arrays(root: Path, content: bytes, words: str) -> None:
    (root / "train" / "depth" / "0.npy").write_bytes(content)
    bad_sample(root, words)


def test_truncated_array(root: Path) -> None:
    path = root / "train" / "normal" / "0.npy"
    path.write_bytes(path.read_bytes()[:-1000])
    bad_sample(root, "normal/0.npy")


def test_array_of_objects_is_never_unpickled(root: Path) -> None:
    np.save(root / "train" / "label" / "0.npy", np.array([{}, []], dtype=object))
    bad_sample(root, "label/0.npy")


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("image", np.zeros((3, 288, 384)), r"image of shape \(288, 384, 3\)"),
        ("image", np.zeros((480, 640, 3)), r"got \(480, 640, 3\)"),
        ("depth", np.ones((1, 288, 384)), r"depth of shape"),
        ("label", np.zeros((288, 384, 3)), r"label of shape"),
        ("normal", np.zeros((288, 384)), r"normal of shape"),
        ("image", np.full((288, 384, 3), 255.0), "image from 0 to 1 .* got 255 to 255"),
        ("image", np.full((288, 384, 3), np.nan), "finite image"),
        ("depth", np.full((288, 384, 1), np.inf), "finite depth"),
        ("depth", np.full((288, 384, 1), -1.0), "at least 0 m .* got -1"),
        ("depth", np.full((288, 384, 1), 2500.0), "depth in metres from 0 to 100"),
        ("depth", np.zeros((288, 384, 1)), "some valid depth .* 0 everywhere"),
        ("normal", np.full((288, 384, 3), 127.0), "normal from -1 to 1"),
        ("label", np.full((288, 384), 13.0), "labels from -1 to 12 .* got 13"),
        ("label", np.full((288, 384), 255), "labels from -1 to 12 .* got 255"),
        ("label", np.full((288, 384), -2), "labels from -1 to 12"),
        ("label", np.full((288, 384), 0.5), "whole numbers"),
        ("depth", np.full((288, 384, 1), 1j), "values of type complex"),
        ("label", np.full((288, 384), "wall"), "values of type"),
    ],
)
def test_values_that_cannot_be(root: Path, name: str, array: np.ndarray, words: str) -> None:
    np.save(root / "train" / name / "0.npy", array)
    bad_sample(root, words)
