"""Folders of images with a dataset.yaml: scenes read back, what the YAML may say, what is wrong."""

import json
import math
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.readers.folder import FolderOptions, open_folder
from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.sample import RawSample
from mtl.spec.sections import TASKS
from tests.data.readers.folder_formats import (
    BOUNDS,
    FIRST,
    HEIGHT,
    SPLITS,
    WIDTH,
    assert_read_back,
    coded,
    save,
    scene,
    write_task,
    write_yaml,
)
from tests.data.readers.refusals import refused, refused_sample

SHAPE = (HEIGHT, WIDTH)


def first(source: Path) -> RawSample:
    return open_folder(source).read(FIRST)


def replace_first(source: Path, task: str, array: np.ndarray) -> Path:
    """Replace the first training sample's file of a task by an array, and return its path."""
    path = source / "train" / task / "Bild 0 é.png"
    path.unlink()
    save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy")


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
        assert_read_back(data.read(name), scene(index), BOUNDS)


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
        assert_read_back(data.read(f"{split}/0"), scene(index), dict.fromkeys(TASKS, 0))


def test_without_validation_folder_part_of_train_is_held_out(folder_source: Path) -> None:
    (folder_source / "val").rename(folder_source / "elsewhere")
    assert any("held out by seed 0" in note for note in open_folder(folder_source).notes)
    for folder in (folder_source / "train").iterdir():
        for index in (1, 2):
            (folder / f"Bild {index} é.png").unlink()
    refused(lambda: open_folder(folder_source), "to hold out")


def test_splits_may_bear_any_names(folder_source: Path) -> None:
    (folder_source / "val").rename(folder_source / "dev")
    write_yaml(folder_source, splits={"validation": "dev", "test": "dev"})
    data = open_folder(folder_source)
    assert data.samples["validation"] == data.samples["test"] == ("dev/Bild 3 é",)
    assert any("same images" in note for note in data.notes)


def test_names_pair_whatever_their_ending_and_accents(folder_source: Path) -> None:
    image = folder_source / "train" / "image"
    decomposed = unicodedata.normalize("NFD", "Bild 0 é")
    Image.fromarray(scene(0).image).save(image / f"{decomposed}.JPG", quality=95)
    (image / "Bild 0 é.png").unlink()
    (image / "._Bild 0 é.png").write_bytes(b"x")
    replace_first(folder_source, "edge2d", scene(0).targets["edge2d"])
    got = first(folder_source)
    np.testing.assert_array_equal(got.targets["edge2d"], scene(0).targets["edge2d"])
    assert np.abs(got.image.astype(int) - scene(0).image).mean() < 12


def test_files_of_other_endings_are_noted(folder_source: Path) -> None:
    folder = folder_source / "train" / "image"
    for name in ("1.BMP", "2.bmp", "3.webp", "notes", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    data = open_folder(folder_source)
    (note,) = data.notes
    assert note.startswith(f"4 files in {folder} are not read (2 of .bmp, 1 of .webp, 1 of no ")
    assert "): only .png, .jpg" in note
    assert len(data.samples["train"]) == 3


def test_missing_targets_are_error_or_unlabelled(folder_source: Path) -> None:
    for folder in ("label", "normal"):
        (folder_source / "train" / folder / "Bild 0 é.png").unlink()
    # Opening knows it and goes on: whether such samples are left out is for preparation to say.
    assert set(open_folder(folder_source).lacking) == {FIRST}
    words = ("normal", "Bild 0 é.png", "missing: unlabelled")
    refused_sample(lambda: first(folder_source), *words)
    write_yaml(folder_source, missing="unlabelled")
    data = open_folder(folder_source)
    assert sum("1 of 3 images have no file" in note for note in data.notes) == 2
    got, other = data.read(FIRST), data.read("train/Bild 1 é")
    for task in ("segmentation", "normal"):
        assert not got.valid[task].any()
        assert got.targets[task].shape == other.targets[task].shape
        assert got.targets[task].dtype == other.targets[task].dtype
        assert other.valid[task].any()
    save(folder_source / "test" / "depth" / "alone.png", coded("depth", scene(0)))
    assert any("1 files in" in note and "no image" in note
               for note in open_folder(folder_source).notes)  # fmt: skip


def test_masks_from_another_task(folder_source: Path) -> None:
    depth = coded("depth", scene(0))
    depth[2] = 0
    save(folder_source / "train" / "depth" / "Bild 0 é.png", depth)
    got = first(folder_source)
    for task in ("depth", "reshading"):
        np.testing.assert_array_equal(got.valid[task], depth > 0)
    assert got.valid["edge2d"].all()


def test_signs_turn_normals_of_other_axes(folder_source: Path) -> None:
    replace_first(folder_source, "normal", scene(0).targets["normal"] * np.float32([1, -1, -1]))
    write_task(folder_source, "normal", signs=[1, -1, -1])
    got = first(folder_source).targets["normal"]
    np.testing.assert_allclose(got, scene(0).targets["normal"], atol=1e-6)


def test_nan_counts_as_invalid_only_if_listed(folder_source: Path) -> None:
    depth = scene(0).targets["depth"].copy()
    depth[0, 0], depth[0, 1] = np.nan, -1
    replace_first(folder_source, "depth", depth)
    write_task(folder_source, "depth", scale=1, invalid=[-1])
    refused_sample(lambda: first(folder_source), "finite", "Bild 0 é.npy", ".nan")
    write_task(folder_source, "depth", scale=1, invalid=[math.nan, -1])
    data = open_folder(folder_source)
    got = data.read(FIRST)
    assert np.argwhere(~got.valid["depth"]).tolist() == [[0, 0], [0, 1]]
    assert (got.targets["depth"][0, :2] == 0).all()
    json.dumps(data.options, allow_nan=False)


def test_camera_is_that_of_images_or_error(folder_source: Path) -> None:
    camera = {"fx": 20, "fy": "20.5", "cx": 11.5, "cy": 8.5, "height": HEIGHT, "width": WIDTH}
    write_yaml(folder_source, camera=camera)
    got = first(folder_source).camera
    assert got is not None
    assert (got.fx, got.fy, got.cx, got.cy) == (20, 20.5, 11.5, 8.5)
    write_yaml(folder_source, camera={**camera, "width": 640})
    refused_sample(lambda: first(folder_source), "18 x 640", "18 x 24", "drop it from the YAML")


def test_numbers_may_be_fractions_and_exponents(folder_source: Path) -> None:
    path = write_yaml(folder_source, depth_range_m=["7e-1", "20/2"])
    path.write_text(path.read_text("utf-8").replace("scale: 0.001", "scale: 1e-3"), "utf-8")
    data = open_folder(folder_source)
    assert data.depth_range_m == (0.7, 10.0)
    found, expected = data.read(FIRST).targets["depth"], scene(0).targets["depth"]
    assert found.max() == pytest.approx(expected.max(), abs=0.001)


def test_images_alone_are_data_set_too(folder_source: Path) -> None:
    write_yaml(folder_source, tasks={}, classes=None, depth_range_m=None)
    assert open_folder(folder_source).tasks == ()
    assert first(folder_source).targets == {}


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


def camera(**values: object) -> str:
    """Return a description with a camera; `values` replace good ones."""
    good = {"fx": 1, "fy": 1, "cx": 0, "cy": 0, "height": 4, "width": 4}
    lines = "".join(f"\n  {key}: {value}" for key, value in (good | values).items())
    return f"tasks: {{}}\ncamera:{lines}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tasks: {depth: {scale: 1", "YAML"),
        ("- depth", "a mapping of keys"),
        ("tasks: {}\ntasks: {}", "the key tasks twice"),
        ("tasks: {}\ncolour: red", "Unknown field 'colour' of dataset.yaml"),
        ("tasks: {edge2d: {scale: 0}}", "other than 0"),
        ("tasks: {edge2d: {scale: 1/0}}", "of type float"),
        ("tasks: {edge2d: {void: 3}}", "keys that fit the task edge2d"),
        ("tasks: {normal: {signs: [1, 2, -1]}}", "three of 1 and -1"),
        ("tasks: {normal: {invalid: [128]}}", "one value a channel"),
        ("tasks: {edge2d: {valid_where: depth}}", "valid_where to name another task"),
        ("tasks: {edge2d: {folder: ../../etc}}", "folders below the source"),
        ('tasks: {}\nimage: "a\\0b"', "folders below the source"),
        ("tasks: {}\nsplits: {train: val}", "one folder a split"),
        ("tasks: {segmentation: {}}", "classes if, and only if"),
        ("tasks: {segmentation: {}}\nclasses: [a, a]", "distinct classes"),
        ("tasks: {depth: {scale: 1}}", "depth_range_m, since depth is a task"),
        ("tasks: {}\ndepth_range_m: [10, 1]", "two rising lengths"),
        ("tasks: {}\ncamera: {fx: 1}", "none for fy, cx, cy, height, width"),
        (camera(fx=0), "camera.fx to be a finite number above 0"),
        (camera(cx="-.inf"), "camera.cx to be a finite number in"),
        (camera(fx="1" + 400 * "0"), "camera.fx to be a finite number above 0"),
        ("tasks: {edge2d: {offset: .nan}}", "tasks.edge2d.offset to be a finite number"),
        ("tasks: {depth: {scale: -0.001}}\ndepth_range_m: [1, 9]", "tasks.depth.scale, metres a"),
        ("a: &a [x, x]\nb: &b [*a, *a]\ntasks: {}", "without aliases"),
        ("tasks: !!python/object/apply:os.system [ls]", "YAML"),
        ("tasks: " + "[" * 50_000, "YAML"),
        ("#" * 2_000_000, "bytes of YAML"),
        (b"\xff\xfe\x81tasks", "YAML"),
    ],
)
def test_description_that_is_none_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lambda: open_folder(tmp_path), words, path)


def test_sources_that_are_none_are_refused(folder_source: Path, tmp_path: Path) -> None:
    def fails(*words: object, source: Path = folder_source, **options: str) -> None:
        refused(lambda: open_folder(source, FolderOptions(**options)), *words)

    fails("a folder of images", source=tmp_path / "missing")
    fails("No such file", description=str(folder_source / "other.yaml"))
    (folder_source / "val" / "edge3d").rename(folder_source / "val" / "edges")
    fails(folder_source / "val" / "edge3d", "No such file", "name another folder")
    for path in (folder_source / "val" / "image").iterdir():
        path.unlink()
    fails("Expected images", folder_source / "val" / "image")  # nor is a part held out instead
    (folder_source / "dataset.yaml").unlink()
    (folder_source / "dataset.yaml").symlink_to(folder_source / "dataset.yaml")
    fails("symbolic links")


def test_names_that_are_ambiguous_or_no_text_are_refused(folder_source: Path) -> None:
    images = folder_source / "train" / "image"
    save(images / "Bild 0 é.jpg", scene(0).image)
    words = ("one file named Bild 0 é", "Bild 0 é.jpg", "Bild 0 é.png")
    refused(lambda: open_folder(folder_source), *words)
    (images / "Bild 0 é.jpg").unlink()
    try:
        Path(os.fsdecode(os.fsencode(images) + b"/\xff\xfe.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    refused(lambda: open_folder(folder_source), "UTF-8")


def grey(value: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (WIDTH, HEIGHT), value)


@pytest.mark.parametrize(
    ("folder", "content", "words"),
    [
        ("image", grey(7, "I;16"), ("16-bit",)),
        ("depth", Image.new("I;16", (WIDTH, 5), 2000), ("18 x 24 pixels, as the image has,",)),
        ("depth", grey(7), ("8 bits",)),
        ("depth", grey(0, "I;16"), ("some valid depth",)),
        ("label", grey(0, "RGB"), ("colours",)),
        ("label", grey(13), ("labels from 0 to 12 or 255 for void",)),
        ("normal", grey(0), ("grey values",)),
        ("curvature", grey(0, "LA"), ("transparency",)),
        ("curvature", grey(0, "RGBA"), ("three values a pixel",)),
        ("depth", np.full(SHAPE, -2e3), ("depths above 0 m",)),
        ("depth", np.ones((*SHAPE, 3)), ("shape (18, 24, 3)",)),
        ("label", np.full(SHAPE, 0.5), ("labels from 0 to 12",)),
        ("label", np.full(SHAPE, -1), ("got -1 at 432 pixels",)),
        ("normal", np.ones((3, *SHAPE)), ("shape (3, 18, 24)",)),
        ("edge2d", np.zeros((0, WIDTH)), ("shape (0, 24, 1)",)),
        ("image", np.full((*SHAPE, 3), 2.0), ("floats 0..1",)),
        ("image", np.zeros((3, *SHAPE), np.uint8), ("shape (3, 18, 24)",)),
        # Values that a task cannot have name the scale; the YAML has 1/255 for reshading.
        ("normal", np.full((*SHAPE, 3), -1.02), ("tasks.normal.scale", "-1.02 to -1.02")),
        ("reshading", np.full(SHAPE, 255 * 200.0), ("tasks.reshading.scale", "200 to 200")),
        ("edge3d", np.full(SHAPE, -0.02), ("tasks.edge3d.scale", "-0.02 to -0.02")),
        ("curvature", np.full((*SHAPE, 2), 127, np.uint8), ("tasks.curvature.scale", "of 127")),
    ],
)
def test_files_that_cannot_be_are_named(folder_source, folder, content, words) -> None:
    if isinstance(content, Image.Image):
        path = folder_source / "train" / folder / "Bild 0 é.png"
        content.save(path)
    else:
        path = replace_first(folder_source, folder, content)
    refused_sample(lambda: first(folder_source), *words, path)
    open_folder(folder_source).read("train/Bild 1 é")  # the others can be read


MISSING_AS_MAXIMUM = np.where(np.arange(WIDTH) < 3, 65.535, 2)


@pytest.mark.parametrize(
    ("scale", "span", "depth", "words"),
    [
        # 65535 * 0.001 m = 65.5 m at 3 of 24 columns, 12.5 %: a missing value, not a distance.
        (1, [0.7, 10], MISSING_AS_MAXIMUM, ("65.535 m (12.5%", "depth.invalid", "0.7 to 10")),
        (1, [0.7, 10], 1932, ("a median of 1932 m", "tasks.depth.scale")),
        (1, [5, 20], 1.9, ("a median of 1.9 m", "depth_range_m")),
        (0.001, [0.7, 10], 1.9, ("a median of 0.0019 m", "tasks.depth.scale")),
    ],
    ids=["65535 is missing", "millimetres as metres", "another range", "metres in millimetres"],
)
def test_depth_far_from_declared_range_is_refused(folder_source, scale, span, depth, words) -> None:
    array = np.broadcast_to(np.float32(depth), SHAPE).copy()
    path = replace_first(folder_source, "depth", array)
    write_yaml(folder_source, depth_range_m=span, tasks={"depth": {"scale": scale}}, classes=None)
    refused_sample(lambda: first(folder_source), *words, path)


def test_values_at_end_of_range_are_taken(folder_source: Path) -> None:
    for task, value in (("edge2d", 1.0), ("reshading", 255.0), ("keypoint3d", -0.005)):
        replace_first(folder_source, task, np.full(SHAPE, value))
    first(folder_source)


def test_depth_in_png_needs_its_unit(folder_source: Path) -> None:
    write_yaml(folder_source, tasks={"depth": {"invalid": 0}}, classes=None)
    refused_sample(lambda: first(folder_source), "tasks.depth.scale")
