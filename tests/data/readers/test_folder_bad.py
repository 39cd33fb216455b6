"""Folders of images: what may be wrong with files, names and the dataset.yaml."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.readers.folder import open_folder
from tests.data.readers.folder_formats import (
    HEIGHT,
    WIDTH,
    refused,
    refused_sample,
    save,
    scene,
    write_yaml,
)


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
        ("", "a mapping"),
        ("tasks: {}\ntasks: {}", "the key tasks twice"),
        ("tasks: {}\ncolour: red", "Unknown field of dataset.yaml 'colour'"),
        ("tasks: {depht: {}}", "Did you mean depth"),
        ("tasks: {edge2d: {scale: big}}", "of type float"),
        ("tasks: {edge2d: {scale: 0}}", "other than 0"),
        ("tasks: {edge2d: {scale: 1/0}}", "of type float"),
        ("tasks: {edge2d: {void: 3}}", "keys that fit the task edge2d"),
        ("tasks: {edge2d: {signs: [1, -1, -1]}}", "signs"),
        ("tasks: {edge2d: {fill: true}}", "keys that fit the task edge2d"),
        ("tasks: {normal: {signs: [1, 2, -1]}}", "three of 1 and -1"),
        ("tasks: {normal: {invalid: [128]}}", "one value a channel"),
        ("tasks: {edge2d: {valid_where: depth}}", "valid_where to name another task"),
        ("tasks: {edge2d: {folder: ../../etc}}", "folders below the source"),
        ('tasks: {}\nimage: "a\\0b"', "folders below the source"),
        ("tasks: {}\nsplits: {trian: a}", "Did you mean train"),
        ("tasks: {}\nsplits: {train: /data}", "folders below the source"),
        ("tasks: {}\nsplits: {train: val}", "one folder a split"),
        ("tasks: {}\nmissing: ignore", "Known: error, unlabelled"),
        ("tasks: {segmentation: {}}", "classes if, and only if"),
        ("tasks: {segmentation: {}}\nclasses: [a, a]", "distinct classes"),
        ("tasks: {segmentation: {}}\nclasses: [on, off]", "classes[0] to be of type str"),
        ("tasks: {depth: {scale: 1}}", "depth_range_m, since depth is a task"),
        ("tasks: {}\ndepth_range_m: [10, 1]", "two rising lengths"),
        ("tasks: {}\ncamera: {fx: 1}", "none for fy, cx, cy, height, width"),
        (camera(fx=0), "camera.fx to be a finite number above 0"),
        (camera(fy="-1/2"), "camera.fy to be a finite number above 0"),
        (camera(cx="-.inf"), "camera.cx to be a finite number in"),
        (camera(fx="1" + 400 * "0"), "camera.fx to be a finite number above 0"),
        ("tasks: {edge2d: {scale: .nan}}", "tasks.edge2d.scale to be a finite number"),
        ("tasks: {edge2d: {offset: .nan}}", "tasks.edge2d.offset to be a finite number"),
        ("tasks: {depth: {scale: -0.001}}\ndepth_range_m: [1, 9]", "tasks.depth.scale, metres a"),
        ("tasks: {depth: {}}\ndepth_range_m: [.nan, 9]", "two rising lengths"),
        ("a: &a [x, x]\nb: &b [*a, *a]\ntasks: {}", "without aliases"),
        ("tasks: !!python/object/apply:os.system [ls]", "YAML"),
        ("tasks: " + "[" * 50_000, "YAML"),
        ("#" * 2_000_000, "bytes of YAML"),
    ],
)
def test_descriptions_that_are_none(folder_source: Path, text: str, words: str) -> None:
    (folder_source / "dataset.yaml").write_text(text)
    refused(folder_source, words, folder_source / "dataset.yaml")


def test_description_that_is_missing_or_no_text(folder_source: Path) -> None:
    refused(folder_source, "No such file", description=str(folder_source / "other.yaml"))
    (folder_source / "dataset.yaml").write_bytes(b"\xff\xfe\x81tasks")
    refused(folder_source, "YAML")
    (folder_source / "dataset.yaml").unlink()
    (folder_source / "dataset.yaml").symlink_to(folder_source / "dataset.yaml")
    refused(folder_source, "symbolic links")


def test_sources_that_are_none(folder_source: Path, tmp_path: Path) -> None:
    refused(tmp_path / "missing", "a folder of images")
    (folder_source / "test").rename(folder_source / "test2")
    refused(folder_source, folder_source / "test", "No such file")
    (folder_source / "test" / "image").mkdir(parents=True)
    (folder_source / "test" / "image" / "readme.txt").write_text("empty")
    refused(folder_source, "Expected images", folder_source / "test" / "image")
    (folder_source / "test" / "image" / "readme.txt").unlink()
    (folder_source / "test" / "image").rmdir()
    (folder_source / "test" / "image").symlink_to(folder_source / "test" / "image")
    refused(folder_source, "symbolic links")


def test_empty_validation_folder_is_no_held_out_part(folder_source: Path) -> None:
    for path in (folder_source / "val" / "image").iterdir():
        path.unlink()
    refused(folder_source, "Expected images", folder_source / "val" / "image")


def test_two_files_of_one_name(folder_source: Path) -> None:
    save(folder_source / "train" / "image" / "Bild 0 é.jpg", scene(0).image)
    refused(folder_source, "one file named Bild 0 é", "Bild 0 é.jpg", "Bild 0 é.png")


def test_missing_task_folder(folder_source: Path) -> None:
    (folder_source / "val" / "edge3d").rename(folder_source / "val" / "edges")
    refused(folder_source, folder_source / "val" / "edge3d", "name another folder")


def test_too_few_images_to_hold_one_out(folder_source: Path) -> None:
    (folder_source / "val").rename(folder_source / "elsewhere")
    for folder in (folder_source / "train").iterdir():
        for index in (1, 2):
            (folder / f"Bild {index} é.png").unlink()
    refused(folder_source, "to hold out")


def test_file_names_that_are_no_text(folder_source: Path) -> None:
    raw = os.fsencode(folder_source / "train" / "image") + b"/\xff\xfe.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    refused(folder_source, "UTF-8")


def _grey(value: int, mode: str = "L") -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (WIDTH, HEIGHT), value).save(path)


@pytest.mark.parametrize(
    ("folder", "spoil", "words"),
    [
        ("image", _grey(7, "I;16"), "16-bit"),
        ("image", lambda p: Image.new("RGB", (WIDTH, 5)).save(p), "5 x 24 pixels"),
        ("depth", _grey(7), "8 bits"),
        ("depth", _grey(0, "I;16"), "some valid depth"),
        ("label", lambda p: Image.new("RGB", (WIDTH, HEIGHT)).save(p), "colours"),
        ("label", _grey(13), "labels from 0 to 12 or 255 for void"),
        ("edge2d", lambda p: Image.new("L", (WIDTH, HEIGHT)).save(p, "JPEG"), "JPEG"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(
    folder_source: Path, folder: str, spoil: Callable[[Path], object], words: str
) -> None:
    data = open_folder(folder_source)
    path = folder_source / "train" / folder / "Bild 0 é.png"
    spoil(path)
    # A wrong size shows in a target.
    refused_sample(data, words, folder_source if words == "5 x 24 pixels" else path)
    data.read("train/Bild 1 é")


@pytest.mark.parametrize(
    ("folder", "array", "words"),
    [
        ("depth", np.full((HEIGHT, WIDTH), -2.0), "depths above 0 m"),
        ("depth", np.full((HEIGHT, WIDTH), np.nan), "finite"),
        ("depth", np.full((HEIGHT, WIDTH), 1e300), "finite"),
        ("depth", np.zeros((HEIGHT, WIDTH)), "some valid depth"),
        ("depth", np.ones((HEIGHT, WIDTH, 3)), "shape (18, 24, 3)"),
        ("label", np.full((HEIGHT, WIDTH), 0.5), "labels from 0 to 12"),
        ("label", np.full((HEIGHT, WIDTH), -1), "got -1 at 432 pixels"),
        ("normal", np.ones((3, HEIGHT, WIDTH)), "shape (3, 18, 24)"),
        ("normal", np.full((HEIGHT, WIDTH + 1, 3), 3**-0.5), "18 x 24 pixels, as the image has,"),
        ("edge2d", np.zeros((0, WIDTH)), "shape (0, 24, 1)"),
        ("image", np.full((HEIGHT, WIDTH, 3), 2.0), "floats 0..1"),
        ("image", np.zeros((3, HEIGHT, WIDTH), np.uint8), "shape (3, 18, 24)"),
    ],
)
def test_arrays_that_cannot_be_are_named(
    folder_source: Path, folder: str, array: np.ndarray, words: str
) -> None:
    path = folder_source / "train" / folder / "Bild 0 é.png"
    path.unlink()
    save(path.with_suffix(".npy"), array)
    refused_sample(open_folder(folder_source), words, path.with_suffix(".npy"))


MISSING_AS_MAXIMUM = np.where(np.arange(WIDTH) < 3, 65535, 2000).astype(np.uint16)


@pytest.mark.parametrize(
    ("scale", "span", "depth", "words"),
    [
        # 65535 * 0.001 m = 65.5 m at 3 of 24 columns, 12.5 %: a missing value, not a distance.
        (0.001, [0.7, 10], MISSING_AS_MAXIMUM, ("65.535 m (12.5%", "depth.invalid", "0.7 to 10")),
        (1, [0.7, 10], np.uint16(1932), ("a median of 1932 m", "tasks.depth.scale")),
        (0.001, [5, 20], np.uint16(1900), ("a median of 1.9 m", "depth_range_m")),
        (0.001, [0.7, 10], np.float32(1.9), ("a median of 0.0019 m", "tasks.depth.scale")),
    ],
    ids=["65535 is missing", "millimetres as metres", "another range", "metres in millimetres"],
)
def test_depth_far_from_what_is_declared(folder_source: Path, scale, span, depth, words) -> None:
    path = folder_source / "train" / "depth" / "Bild 0 é.png"
    path.unlink()
    path = path.with_suffix(".png" if depth.dtype == np.uint16 else ".npy")
    save(path, np.broadcast_to(depth, (HEIGHT, WIDTH)).copy())
    write_yaml(folder_source, depth_range_m=span, tasks={"depth": {"scale": scale}}, classes=None)
    refused_sample(open_folder(folder_source), *words, path)


@pytest.mark.parametrize(
    ("task", "array", "got"),
    [
        ("normal", np.full((HEIGHT, WIDTH, 3), 200, np.uint8), "200 to 200"),
        ("normal", np.full((HEIGHT, WIDTH, 3), -1.02), "-1.02 to -1.02"),
        ("reshading", np.full((HEIGHT, WIDTH), 255 * 200.0), "200 to 200"),  # the YAML has 1/255
        ("edge2d", np.full((HEIGHT, WIDTH), 65535, np.uint16), "65535 to 65535"),
        ("edge3d", np.full((HEIGHT, WIDTH), -0.02), "-0.02 to -0.02"),
        ("keypoint2d", np.full((HEIGHT, WIDTH), 1.02), "1.02 to 1.02"),
        ("keypoint3d", np.full((HEIGHT, WIDTH), 9, np.uint8), "9 to 9"),
        ("curvature", np.full((HEIGHT, WIDTH, 2), 127, np.uint8), "a median size of 127"),
    ],
)
def test_values_that_task_cannot_have_name_scale(
    folder_source: Path, task: str, array: np.ndarray, got: str
) -> None:
    path = folder_source / "train" / task / "Bild 0 é.png"
    path.unlink()
    save(path.with_suffix(".npy"), array)
    refused_sample(open_folder(folder_source), got, f"tasks.{task}.scale", path.with_suffix(".npy"))


def test_values_at_end_of_range_are_taken(folder_source: Path) -> None:
    for task, value in (("edge2d", 1.0), ("reshading", 255.0), ("keypoint3d", -0.005)):
        path = folder_source / "train" / task / "Bild 0 é.png"
        path.unlink()
        save(path.with_suffix(".npy"), np.full((HEIGHT, WIDTH), value))
    open_folder(folder_source).read("train/Bild 0 é")


@pytest.mark.parametrize(
    ("mode", "got"),
    [("L", "grey values"), ("LA", "transparency"), ("RGBA", "transparency"), ("P", "a palette")],
)
@pytest.mark.parametrize("task", ["normal", "curvature"])
def test_targets_of_three_channels_have_three(
    folder_source: Path, task: str, mode: str, got: str
) -> None:
    path = folder_source / "train" / task / "Bild 0 é.png"
    Image.new(mode, (WIDTH, HEIGHT)).save(path)
    refused_sample(
        open_folder(folder_source), "8-bit colour PNG", got, "three values a pixel", path
    )


def test_depth_in_png_without_its_unit(folder_source: Path) -> None:
    write_yaml(folder_source, tasks={"depth": {"invalid": 0}}, classes=None)
    refused_sample(open_folder(folder_source), "tasks.depth.scale")
