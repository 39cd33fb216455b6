"""Taskonomy: scenes in its files, trees and names read back; splits, strides, and what is wrong."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.readers.taskonomy import (
    READABLE_TASKS,
    TASKONOMY_TASKS,
    TINY,
    TaskonomyOptions,
    open_taskonomy,
    read_split_csv,
    strided,
)
from mtl.data.sample import RawDataset, RawSample
from mtl.data.targets import derive
from tests.data.readers.folder_formats import BOUNDS, HEIGHT, WIDTH, assert_read_back, save, scene
from tests.data.readers.refusals import refused, refused_sample
from tests.data.readers.taskonomy_formats import EVERY, FIRST, VIEWS, encoded, path_of, write_view

SHAPE = (HEIGHT, WIDTH)


def opened(source: Path, **options: object) -> RawDataset:
    return open_taskonomy(source, TaskonomyOptions(**{"stride": 1, **options}))


def first(source: Path, **options: object) -> RawSample:
    return opened(source, **options).read(FIRST)


def replace_first(source: Path, domain: str, array: np.ndarray) -> None:
    """Replace a file of the first view."""
    Image.fromarray(array).save(path_of(source, VIEWS[0], domain))


@pytest.mark.parametrize(
    ("tree", "generation"), [("omnidata", 0), ("annotator", 1), ("starter", 1), ("sample", 0)]
)
def test_scenes_read_back_equal_within_quantisation(tmp_path, tree, generation) -> None:
    is_one_building = tree == "sample"
    root = tmp_path / "hanson" if is_one_building else tmp_path / "with spaces äß"
    views = [("hanson", p, v) for _, p, v in VIEWS] if is_one_building else VIEWS
    for index, view in enumerate(views):
        kinds = ("image", *READABLE_TASKS)
        write_view(root, view, scene(index), tree, generation, kinds)
    splits = "all" if is_one_building else "tiny"
    assert opened(root, splits=splits).tasks == TASKONOMY_TASKS
    assert opened(root, splits=splits).classes == ()
    data = opened(root, splits=splits, tasks=READABLE_TASKS[::-1])
    assert data.tasks == READABLE_TASKS
    assert sum(len(ids) for ids in data.samples.values()) == 5
    for index, (building, point, number) in enumerate(views):
        got = data.read(f"{building}/point_{point}_view_{number}")
        # Background comes before the scene's 13 classes.
        classes = (scene(index).targets["segmentation"] + 1).astype(np.uint8)
        targets = {**scene(index).targets, "segmentation": classes}
        expected = replace(scene(index), targets=targets)
        assert_read_back(got, expected, {**BOUNDS, "depth": 0.5 / 512})
        length = np.linalg.norm(got.targets["normal"], axis=-1)
        np.testing.assert_allclose(length, 1, atol=1e-6)
        rays = derive.camera_rays(scene(index).camera, HEIGHT, WIDTH)
        facing = (got.targets["normal"] * rays).sum(-1)
        assert (facing < 0.02).all()  # towards the camera, but for the quantisation
        assert got.camera is None


def test_tiny_split_by_building_and_order(taskonomy_source: Path) -> None:
    assert [len(names) for names in TINY.values()] == [25, 5, 5]
    assert len({name for names in TINY.values() for name in names}) == 35
    write_view(taskonomy_source, ("hanson", 2, 0), scene(0))
    for number in range(2):
        write_view(taskonomy_source, ("mycastle", number, 0), scene(0))
    data = opened(taskonomy_source)
    # By number, not by letter: 2 before 10.
    assert data.samples["train"] == (
        FIRST, "hanson/point_2_view_0", "hanson/point_10_view_1", "merom/point_2_view_0",
    )  # fmt: skip
    assert data.samples["validation"] == ("darden/point_5_view_3",)
    assert data.samples["test"] == ("ihlen/point_7_view_0",)
    note = "2 views are left out, of buildings that are in no split (tiny): mycastle."
    assert note in data.notes


def test_one_stride_runs_through_all_buildings_of_split() -> None:
    views = [("a", point, 0) for point in range(7)] + [("b", point, 0) for point in range(5)]
    kept = strided(views, {"train": ("a", "b"), "test": ()}, stride=5, offset=1)
    # Positions 1, 6 and 11 of the twelve; a stride per building would have begun again in b.
    assert kept == {"train": (("a", 1, 0), ("a", 6, 0), ("b", 4, 0)), "test": ()}
    paper = [("a", point, 0) for point in range(276_150)]
    assert len(strided(paper, {"train": ("a",)}, 100, 0)["train"]) == 2762


def test_counts_unlike_papers_and_hash_of_ids_are_noted(taskonomy_source: Path) -> None:
    data = open_taskonomy(taskonomy_source)
    # One training view is left by the stride, and darden's serves validation.
    assert data.samples["train"] == (FIRST,)
    assert "The paper has 2,762 train views, here are 1." in data.notes
    assert "The paper has 548 test views, here are 1." in data.notes
    assert data.options["stride"] == 100
    assert data.options["tasks"] == TASKONOMY_TASKS
    data = opened(taskonomy_source)
    text = "hanson/point_0_view_0\nhanson/point_10_view_1\nmerom/point_2_view_0"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert f"train: 3 views, SHA-256 of the list of ids {digest}." in data.notes
    assert not any("paper" in note for note in data.notes)


def test_without_validation_buildings_part_of_train_is_held_out(taskonomy_source: Path) -> None:
    for folder in taskonomy_source.glob("*/darden"):
        shutil.rmtree(folder)
    data = opened(taskonomy_source)
    assert any("held out by seed 0" in note for note in data.notes)
    data.read(data.samples["validation"][0])


def test_all_shares_buildings_out_by_seed(taskonomy_source: Path) -> None:
    options = {"splits": "all", "test_share": 0.5}
    data = opened(taskonomy_source, **options)
    buildings = {s: {i.split("/")[0] for i in ids} for s, ids in data.samples.items()}
    assert len(buildings["test"]) == 2
    assert not buildings["test"] & (buildings["train"] | buildings["validation"])
    by_seed = (opened(taskonomy_source, **options, validation_seed=seed) for seed in range(6))
    assert len({data.samples["test"] for data in by_seed}) > 1


def test_csv_with_any_line_ends(taskonomy_source: Path, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    lines = ["id,train,val,test", "hanson,0,0,1", "merom,1,0,0", "darden,1,0,0", "ihlen,0,1,0",
             "elsewhere,0,0,0"]  # fmt: skip
    for end in ("\r", "\n", "\r\n"):
        path.write_bytes(end.join(lines).encode())
        assert read_split_csv(path) == {
            "train": ("merom", "darden"), "validation": ("ihlen",), "test": ("hanson",),
        }  # fmt: skip
    data = opened(taskonomy_source, splits=str(path))
    assert data.samples["test"] == (FIRST, "hanson/point_10_view_1")


def test_views_that_lack_task_are_left_out_and_counted(taskonomy_source: Path) -> None:
    path_of(taskonomy_source, VIEWS[0], "normal").unlink()
    path_of(taskonomy_source, VIEWS[1], "keypoints2d").unlink()
    data = opened(taskonomy_source)
    assert data.samples["train"] == ("merom/point_2_view_0",)
    assert "2 of 5 views are left out: 1 lack normal, 1 lack keypoint2d." in data.notes
    fewer = opened(taskonomy_source, tasks=("edge2d", "depth"))
    assert len(fewer.samples["train"]) == 3
    assert set(fewer.read(FIRST).targets) == {"depth", "edge2d"}


def test_every_stored_label_becomes_its_class(taskonomy_source: Path) -> None:
    # By the list of taskbank: 0 uncertain, 1 background, 2 bottle, ..., 17 vase.
    for index, view in enumerate(VIEWS):
        write_view(taskonomy_source, view, scene(index), kinds=("segmentation",))
    (path,) = taskonomy_source.glob("segment_semantic/*/point_0_view_0_*")
    stored = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(SHAPE) % 18
    Image.fromarray(stored).save(path)
    data = opened(taskonomy_source, tasks=("segmentation",))
    sample = data.read(FIRST)
    np.testing.assert_array_equal(sample.valid["segmentation"], stored > 0)
    for label, name in ((1, "background"), (2, "bottle"), (4, "couch"), (9, "tv"), (17, "vase")):
        classes = sample.targets["segmentation"][stored == label]
        assert {data.classes[c] for c in classes} == {name}
    Image.fromarray(stored + 1).save(path)
    refused_sample(lambda: data.read(FIRST), "from 0 (uncertain) to 17 (vase)", "got 18")


def test_invalid_pixels_of_every_encoding(taskonomy_source: Path) -> None:
    depth = encoded("depth", scene(0))
    depth[0, 0], depth[0, 1], depth[0, 2], depth[0, 3] = 65535, 64500, 0, 64499
    normal = encoded("normal", scene(0))
    normal[1, 0] = 128
    curvature = encoded("curvature", scene(0))
    curvature[2, 0] = 0
    curvature[2, 1] = (255, 0, 0)
    replace_first(taskonomy_source, "depth_zbuffer", depth)
    replace_first(taskonomy_source, "normal", normal)
    replace_first(taskonomy_source, "principal_curvature", curvature)
    got = first(taskonomy_source)
    # 64500 / 512 = 125.98 m: far, but nothing says that it is wrong.
    assert got.valid["depth"][0, :4].tolist() == [False, True, False, True]
    assert got.targets["depth"][0, 3, 0] == 64499 / 512
    careful = first(taskonomy_source, depth_invalid_from=64500)
    assert careful.valid["depth"][0, :4].tolist() == [False, False, False, True]
    for task in ("reshading", "edge3d", "keypoint3d"):
        np.testing.assert_array_equal(careful.valid[task], careful.valid["depth"])
        assert (careful.targets[task][~careful.valid[task]] == 0).all()
    for task, place in (("normal", (1, 0)), ("curvature", (2, 0))):
        assert np.argwhere(~got.valid[task]).tolist() == [list(place)]
        # Not the 0.004 to which (128, 128, 128) decodes, nor the -1 of (0, 0, 0).
        assert (got.targets[task][place] == 0).all()
    assert got.targets["curvature"][2, 1].tolist() == [1.0, -1.0]  # 128 / 127 is clipped
    assert got.valid["edge2d"].all()
    assert got.valid["keypoint2d"].all()


def test_known_codes_by_hand(taskonomy_source: Path) -> None:
    replace_first(taskonomy_source, "depth_zbuffer", np.full(SHAPE, 1024, np.uint16))  # 2 m
    replace_first(taskonomy_source, "edge_texture", np.full(SHAPE, 65535, np.uint16))  # 1, never -1
    towards_camera, flat = np.uint8([128, 127, 0]), np.uint8([127, 127, 0])
    replace_first(taskonomy_source, "normal", np.tile(towards_camera, (*SHAPE, 1)))
    replace_first(taskonomy_source, "principal_curvature", np.tile(flat, (*SHAPE, 1)))
    replace_first(taskonomy_source, "reshading", np.full(SHAPE, 51, np.uint8))  # one channel: 0.2
    got = first(taskonomy_source).targets
    assert got["depth"][0, 0, 0] == 2
    assert got["edge2d"][0, 0, 0] == 1
    np.testing.assert_allclose(got["normal"][0, 0], [0, 0, -1], atol=0.004)
    assert (got["curvature"] == 0).all()
    np.testing.assert_allclose(got["reshading"], 0.2, rtol=1e-6)


def test_masks_without_depth(taskonomy_source: Path) -> None:
    shutil.rmtree(taskonomy_source / "depth_zbuffer")
    tasks = ("reshading", "edge2d")
    data = opened(taskonomy_source, tasks=tasks)
    assert any("No view has depth or mask_valid" in note for note in data.notes)
    assert data.read(FIRST).valid["reshading"].all()
    for view in (*VIEWS[:1], *VIEWS[2:]):
        write_view(taskonomy_source, view, scene(0), kinds=("mask",))
    mask = np.ones(SHAPE, np.uint8)  # any two values are a mask, so 0 and 1 too
    mask[3] = 0
    replace_first(taskonomy_source, "mask_valid", mask)
    data = opened(taskonomy_source, tasks=tasks)
    assert any("1 more views are left out" in note for note in data.notes)
    sample = data.read(FIRST)
    np.testing.assert_array_equal(sample.valid["reshading"], mask > 0)
    assert sample.valid["edge2d"].all()
    write_view(taskonomy_source, VIEWS[1], scene(0), kinds=("distance",))
    data = opened(taskonomy_source, tasks=tasks)
    assert data.read("hanson/point_10_view_1").valid["reshading"].all()


def test_numbers_with_leading_zeros_are_same_numbers(taskonomy_source: Path) -> None:
    before = opened(taskonomy_source)
    for path in taskonomy_source.rglob("point_10_view_1_*.png"):
        path.rename(path.with_name(path.name.replace("point_10_view_1", "point_0010_view_01")))
    data = opened(taskonomy_source)
    assert data.samples == before.samples
    paths = list(data.files["hanson/point_10_view_1"].values())
    assert all(path.name.startswith("point_0010_view_01_domain_") for path in paths)
    data.read("hanson/point_10_view_1")
    copy = next(taskonomy_source.rglob("point_0010_view_01_domain_rgb.png"))
    copy.with_name("point_10_view_01_domain_rgb.png").write_bytes(copy.read_bytes())
    refused(lambda: opened(taskonomy_source), "Expected one rgb of point 10, view 1")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "an empty file"),
        (b"name,split\rhanson,train\r", "name,split"),
        (b"id,train,val,test\rhanson,1,0,1\r", "line 2"),
        (b"id,train,val,test\rhanson,1,0,0\rhanson,0,0,1\r", "line 3"),
        (b"\xff\xfe\x00\x80", "utf-8"),
    ],
)
def test_csv_that_is_no_list_of_buildings(tmp_path: Path, content: bytes | None, words: str):
    path = tmp_path / "splits.csv"
    if content is not None:
        path.write_bytes(content)
    refused(lambda: read_split_csv(path), words, path)


def test_sources_that_are_none_are_refused(taskonomy_source: Path, tmp_path: Path) -> None:
    refused(lambda: opened(tmp_path / "missing"), "Expected a folder of Taskonomy's files")
    (tmp_path / "other" / "rgb").mkdir(parents=True)
    (tmp_path / "other" / "rgb" / "holiday.png").write_bytes(b"x")
    refused(lambda: opened(tmp_path / "other"), "named point_<P>_view_<V>")
    few = {"stride": 50, "offset": 49}
    refused(lambda: opened(taskonomy_source, **few), "views of train buildings")
    for folder in taskonomy_source.glob("*/ihlen"):
        shutil.rmtree(folder)
    words = ("views of test buildings (tiny)", "darden, hanson")
    refused(lambda: opened(taskonomy_source), *words)
    shutil.rmtree(taskonomy_source / "edge_occlusion")
    refused(lambda: opened(taskonomy_source), "4 rgb, ", "0 edge_occlusion", "fewer tasks")
    twin = taskonomy_source / "depth" / "taskonomy" / "hanson"
    twin.mkdir(parents=True)
    depth = path_of(taskonomy_source, VIEWS[0], "depth_zbuffer")
    shutil.copy(depth, twin / "point_0_view_0_domain_depth.png")
    refused(lambda: opened(taskonomy_source), "Expected one depth_zbuffer of point 0, view 0")


def test_links_to_folders_are_followed_but_not_in_circle(taskonomy_source, tmp_path) -> None:
    (taskonomy_source / "rgb" / "hanson" / "up").symlink_to(taskonomy_source)
    (taskonomy_source / "normal" / "self").symlink_to(taskonomy_source / "normal" / "self")
    shutil.move(taskonomy_source / "reshading" / "merom", tmp_path / "elsewhere")
    (taskonomy_source / "reshading" / "merom").symlink_to(tmp_path / "elsewhere")
    data = open_taskonomy(taskonomy_source, EVERY)
    assert len(data.samples["train"]) == 3
    data.read("merom/point_2_view_0")


def holding(picture: np.ndarray | Image.Image) -> Callable[[Path], None]:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return lambda path: image.save(path)


@pytest.mark.parametrize(
    ("domain", "spoil", "words"),
    [
        ("edge_texture", lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged"),
        ("edge_occlusion", lambda path: path.unlink(), "No such file"),
        ("depth_zbuffer", holding(Image.new("L", (WIDTH, HEIGHT))), "8 bits"),
        ("depth_zbuffer", holding(np.full(SHAPE, 20, np.uint16)), "a median of 0.0390625 m"),
        ("principal_curvature", holding(Image.new("RGB", (25, 18))), "18 x 24 pixels, as the"),
        ("normal", holding(Image.new("RGBA", (WIDTH, HEIGHT))), "three values a pixel"),
        ("normal", holding(np.full((*SHAPE, 3), 160, np.uint8)), "normals of length 1"),
        ("reshading", lambda path: save(path, scene(0).image), "channels that differ"),
    ],
)
def test_files_that_cannot_be_read_are_named(taskonomy_source, domain, spoil, words) -> None:
    data = open_taskonomy(taskonomy_source, EVERY)
    path = path_of(taskonomy_source, VIEWS[0], domain)
    spoil(path)
    refused_sample(lambda: data.read(FIRST), path, words)
    data.read("hanson/point_10_view_1")  # the others can be read


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tasks": ()}, "at least one"),
        ({"tasks": ("depth", "depth")}, "distinct"),
        ({"tasks": ("dept",)}, "Did you mean depth"),
        ({"stride": 0}, "stride of at least 1"),
        ({"offset": 100}, "offset from 0 to 99"),
        ({"validation_share": 1.0}, "validation_share between"),
        ({"test_share": 0.0}, "test_share between"),
        ({"depth_invalid_from": 70000}, "depth_invalid_from from 2"),
        ({"depth_range_m": (5.0, 1.0)}, "two rising lengths"),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TaskonomyOptions(**values)
