"""Scenes written in Taskonomy's files, trees and names, read back; splits and strides."""

import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.readers.taskonomy import (
    TASKONOMY_TASKS,
    TINY,
    TaskonomyOptions,
    find_views,
    open_taskonomy,
    read_split_csv,
    strided,
)
from mtl.data.targets import derive
from mtl.errors import BadSampleError, UserError
from tests.data.readers.taskonomy_formats import (
    EVERY,
    HEIGHT,
    TREES,
    VIEWS,
    WIDTH,
    encoded,
    path_of,
    scene,
    write_view,
)

# Half a quantisation step each, by the encodings of the facts.
BOUNDS = {
    "depth": 0.5 / 512,  # metres
    # Each component is off by 0.5 / 127.5; the vector by at most sqrt(3) times that, and making it
    # unit again moves it by no more than that once more.
    "normal": 2 * 3**0.5 * 0.5 / 127.5,
    "curvature": 0.5 / 127,
    "reshading": 0.5 / 255,
    "edge2d": 0.5 / 65535,
    "edge3d": 0.5 / 65535,
    "keypoint2d": 0.5 / 65535,
    "keypoint3d": 0.5 / 65535,
}


ROUNDING = 1e-6  # float32


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("tree", [*TREES, "sample"])
def test_scenes_read_back_equal_within_quantisation(
    tmp_path: Path, tree: str, generation: int
) -> None:
    root = tmp_path / "hanson" if tree == "sample" else tmp_path / "with spaces äß"
    views = VIEWS if tree != "sample" else [("hanson", p, v) for _, p, v in VIEWS]
    for index, view in enumerate(views):
        write_view(root, view, scene(index), tree, generation)
    options = TaskonomyOptions(stride=1, splits="all" if tree == "sample" else "tiny")
    data = open_taskonomy(root, options)
    assert data.tasks == TASKONOMY_TASKS
    assert len(data.tasks) == 8
    assert sum(len(ids) for ids in data.samples.values()) == 5
    for index, (building, point, number) in enumerate(views):
        got = data.read(f"{building}/point_{point}_view_{number}")
        np.testing.assert_array_equal(got.image, scene(index).image)
        for task, bound in BOUNDS.items():
            target = scene(index).targets[task]
            assert got.targets[task].dtype == np.float32
            assert got.targets[task].shape == target.shape
            assert got.valid[task].all()
            worst = np.abs(got.targets[task] - target).max()
            assert worst <= bound + ROUNDING, task
        length = np.linalg.norm(got.targets["normal"], axis=-1)
        np.testing.assert_allclose(length, 1, atol=1e-6)
        rays = derive.camera_rays(scene(index).camera, HEIGHT, WIDTH)
        facing = (got.targets["normal"] * rays).sum(-1)
        assert (facing < 0.02).all()  # towards the camera, but for the quantisation
        assert got.camera is None


def test_tiny_split_by_building_and_order(taskonomy_source: Path) -> None:
    write_view(taskonomy_source, ("hanson", 2, 0), scene(0))
    write_view(taskonomy_source, ("nowhere", 1, 0), scene(0))
    data = open_taskonomy(taskonomy_source, EVERY)
    # By number, not by letter: 2 before 10.
    assert data.samples["train"] == (
        "hanson/point_0_view_0", "hanson/point_2_view_0", "hanson/point_10_view_1",
        "merom/point_2_view_0",
    )  # fmt: skip
    assert data.samples["validation"] == ("darden/point_5_view_3",)
    assert data.samples["test"] == ("ihlen/point_7_view_0",)


def test_tiny_is_25_5_5() -> None:
    assert [len(names) for names in TINY.values()] == [25, 5, 5]
    assert len({name for names in TINY.values() for name in names}) == 35


def test_one_stride_runs_through_all_buildings_of_split() -> None:
    views = [("a", point, 0) for point in range(7)] + [("b", point, 0) for point in range(5)]
    kept = strided(views, {"train": ("a", "b"), "test": ()}, stride=5, offset=1)
    # Positions 1, 6 and 11 of the twelve; a stride per building would have begun again in b.
    assert kept == {"train": (("a", 1, 0), ("a", 6, 0), ("b", 4, 0)), "test": ()}
    paper = [("a", point, 0) for point in range(276_150)]
    assert len(strided(paper, {"train": ("a",)}, 100, 0)["train"]) == 2762


def test_counts_unlike_papers_are_reported_and_not_forced(taskonomy_source: Path) -> None:
    data = open_taskonomy(taskonomy_source)
    assert data.samples["test"] == ("ihlen/point_7_view_0",)
    # One training view is left by the stride, and darden's serves validation.
    assert data.samples["train"] == ("hanson/point_0_view_0",)
    assert "The paper has 2,762 train views, here are 1." in data.notes
    assert "The paper has 548 test views, here are 1." in data.notes
    assert data.options["stride"] == 100
    assert data.options["tasks"] == TASKONOMY_TASKS


def test_list_of_ids_has_hash_that_any_tool_can_make(taskonomy_source: Path) -> None:
    data = open_taskonomy(taskonomy_source, EVERY)
    text = "hanson/point_0_view_0\nhanson/point_10_view_1\nmerom/point_2_view_0"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert f"train: 3 views, SHA-256 of the list of ids {digest}." in data.notes
    assert not any("paper" in note for note in data.notes)
    again = open_taskonomy(taskonomy_source, EVERY)
    assert (again.samples, again.notes) == (data.samples, data.notes)


def test_without_validation_buildings_part_of_train_is_held_out(taskonomy_source: Path) -> None:
    for folder in taskonomy_source.glob("*/darden"):
        shutil.rmtree(folder)
    data = open_taskonomy(taskonomy_source, EVERY)
    assert len(data.samples["train"]) == 2
    assert len(data.samples["validation"]) == 1
    assert any("held out by seed 0" in note for note in data.notes)
    data.read(data.samples["validation"][0])


def test_all_shares_buildings_out_by_seed(taskonomy_source: Path) -> None:
    options = TaskonomyOptions(stride=1, splits="all", test_share=0.5)
    data = open_taskonomy(taskonomy_source, options)
    buildings = {s: {i.split("/")[0] for i in ids} for s, ids in data.samples.items()}
    assert len(buildings["test"]) == 2
    assert not buildings["test"] & (buildings["train"] | buildings["validation"])
    assert sum(len(ids) for ids in data.samples.values()) == 5
    others = {
        open_taskonomy(
            taskonomy_source,
            TaskonomyOptions(stride=1, splits="all", test_share=0.5, validation_seed=seed),
        ).samples["test"]
        for seed in range(6)
    }
    assert len(others) > 1


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_csv_with_any_line_ends(taskonomy_source: Path, tmp_path: Path, end: str) -> None:
    path = tmp_path / "splits.csv"
    lines = ["id,train,val,test", "hanson,0,0,1", "merom,1,0,0", "darden,1,0,0", "ihlen,0,1,0",
             "elsewhere,0,0,0"]  # fmt: skip
    path.write_bytes(end.join(lines).encode())
    assert read_split_csv(path) == {
        "train": ("merom", "darden"), "validation": ("ihlen",), "test": ("hanson",),
    }  # fmt: skip
    data = open_taskonomy(taskonomy_source, TaskonomyOptions(stride=1, splits=str(path)))
    assert data.samples["test"] == ("hanson/point_0_view_0", "hanson/point_10_view_1")


def test_views_that_lack_task_are_left_out_and_counted(taskonomy_source: Path) -> None:
    path_of(taskonomy_source, VIEWS[0], "normal").unlink()
    path_of(taskonomy_source, VIEWS[1], "keypoints2d").unlink()
    data = open_taskonomy(taskonomy_source, EVERY)
    assert data.samples["train"] == ("merom/point_2_view_0",)
    assert "2 of 5 views are left out: 1 lack normal, 1 lack keypoint2d." in data.notes
    fewer = open_taskonomy(taskonomy_source, TaskonomyOptions(stride=1, tasks=("edge2d", "depth")))
    assert len(fewer.samples["train"]) == 3
    assert fewer.tasks == ("depth", "edge2d")
    assert set(fewer.read("hanson/point_0_view_0").targets) == {"depth", "edge2d"}


@pytest.mark.parametrize("tree", [*TREES, "sample"])
def test_segmentation_is_read_where_it_is_asked_for(tmp_path: Path, tree: str) -> None:
    root = tmp_path / "hanson" if tree == "sample" else tmp_path / "data"
    views = VIEWS if tree != "sample" else [("hanson", p, v) for _, p, v in VIEWS]
    for index, view in enumerate(views):
        write_view(root, view, scene(index), tree, kinds=("image", "depth", "segmentation"))
    splits = "all" if tree == "sample" else "tiny"
    options = TaskonomyOptions(stride=1, splits=splits, tasks=("segmentation", "depth"))
    data = open_taskonomy(root, options)
    assert data.tasks == ("depth", "segmentation")
    assert (len(data.classes), data.classes[0], data.classes[16]) == (17, "background", "vase")
    assert open_taskonomy(root, replace(options, tasks=("depth",))).classes == ()
    sample = data.read("hanson/point_10_view_1")
    assert sample.targets["segmentation"].dtype == np.uint8
    np.testing.assert_array_equal(sample.valid["segmentation"], scene(1).valid["segmentation"])
    # Stored 0 is uncertain and 1 background, so class c is stored as c + 1; the scene's class c is
    # stored as c + 2, and comes back as c + 1.
    valid = sample.valid["segmentation"]
    expected = scene(1).targets["segmentation"][valid] + 1
    np.testing.assert_array_equal(sample.targets["segmentation"][valid], expected)
    assert not sample.targets["segmentation"][~valid].any()


def test_every_stored_label_becomes_its_class(taskonomy_source: Path) -> None:
    # By the list of the facts: 0 uncertain, 1 background, 2 bottle, ..., 17 vase.
    path = (
        taskonomy_source
        / "segment_semantic"
        / "hanson"
        / "point_0_view_0_domain_segmentsemantic.png"
    )
    for index, view in enumerate(VIEWS):
        write_view(taskonomy_source, view, scene(index), kinds=("segmentation",))
    stored = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 18
    Image.fromarray(stored).save(path)
    data = open_taskonomy(taskonomy_source, TaskonomyOptions(stride=1, tasks=("segmentation",)))
    sample = data.read("hanson/point_0_view_0")
    np.testing.assert_array_equal(sample.valid["segmentation"], stored > 0)
    for label, name in ((1, "background"), (2, "bottle"), (4, "couch"), (9, "tv"), (17, "vase")):
        classes = sample.targets["segmentation"][stored == label]
        assert {data.classes[c] for c in classes} == {name}
    Image.fromarray(stored + 1).save(path)
    with pytest.raises(BadSampleError, match=r"from 0 .uncertain. to 17 .vase.*got 18"):
        data.read("hanson/point_0_view_0")


def test_segment_semantic_and_unknown_domains_are_no_buildings(taskonomy_source: Path) -> None:
    folder = taskonomy_source / "segment_semantic" / "hanson"
    folder.mkdir(parents=True)
    semantic = folder / "point_0_view_0_domain_segmentsemantic.png"
    Image.new("L", (WIDTH, HEIGHT)).save(semantic)
    assert {view[0] for view in find_views(taskonomy_source).kinds} == {view[0] for view in VIEWS}


def test_invalid_pixels_of_every_encoding(taskonomy_source: Path) -> None:
    depth = encoded("depth", scene(0))
    depth[0, 0], depth[0, 1], depth[0, 2], depth[0, 3] = 65535, 64500, 0, 64499
    normal = encoded("normal", scene(0))
    normal[1, 0] = 128
    curvature = encoded("curvature", scene(0))
    curvature[2, 0] = 0
    curvature[2, 1] = (255, 0, 0)
    for array, domain in (
        (depth, "depth_zbuffer"), (normal, "normal"), (curvature, "principal_curvature"),
    ):  # fmt: skip
        Image.fromarray(array).save(path_of(taskonomy_source, VIEWS[0], domain))
    got = open_taskonomy(taskonomy_source, EVERY).read("hanson/point_0_view_0")
    # 64500 / 512 = 125.98 m: far, but nothing says that it is wrong.
    assert got.valid["depth"][0, :4].tolist() == [False, True, False, True]
    assert got.targets["depth"][0, 3, 0] == 64499 / 512
    margin = TaskonomyOptions(stride=1, depth_invalid_from=64500)
    careful = open_taskonomy(taskonomy_source, margin).read("hanson/point_0_view_0")
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
    shape = (HEIGHT, WIDTH)
    arrays = {
        "depth_zbuffer": np.full(shape, 1024, np.uint16),  # 2 m
        "edge_texture": np.full(shape, 65535, np.uint16),  # 1, never -1
        "normal": np.full((*shape, 3), (128, 127, 0), np.uint8),  # towards the camera
        "principal_curvature": np.full((*shape, 3), (127, 127, 0), np.uint8),  # flat
        "reshading": np.full(shape, 51, np.uint8),  # one channel will do: 0.2
    }
    for domain, array in arrays.items():
        Image.fromarray(array).save(path_of(taskonomy_source, VIEWS[0], domain))
    got = open_taskonomy(taskonomy_source, EVERY).read("hanson/point_0_view_0").targets
    assert got["depth"][0, 0, 0] == 2
    assert got["edge2d"][0, 0, 0] == 1
    np.testing.assert_allclose(got["normal"][0, 0], [0, 0, -1], atol=0.004)
    assert (got["curvature"] == 0).all()
    np.testing.assert_allclose(got["reshading"], 0.2, rtol=1e-6)


def test_masks_without_depth(taskonomy_source: Path) -> None:
    shutil.rmtree(taskonomy_source / "depth_zbuffer")
    options = TaskonomyOptions(stride=1, tasks=("reshading", "edge2d"))
    data = open_taskonomy(taskonomy_source, options)
    assert any("No view has depth or mask_valid" in note for note in data.notes)
    assert data.read("hanson/point_0_view_0").valid["reshading"].all()
    for view in (*VIEWS[:1], *VIEWS[2:]):
        write_view(taskonomy_source, view, scene(0), kinds=("mask",))
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[3] = 0
    Image.fromarray(mask).save(path_of(taskonomy_source, VIEWS[0], "mask_valid"))
    data = open_taskonomy(taskonomy_source, options)
    assert any("1 more views are left out" in note for note in data.notes)
    sample = data.read("hanson/point_0_view_0")
    np.testing.assert_array_equal(sample.valid["reshading"], mask > 0)
    assert sample.valid["edge2d"].all()
    write_view(taskonomy_source, VIEWS[1], scene(0), kinds=("distance",))
    data = open_taskonomy(taskonomy_source, options)
    assert data.read("hanson/point_10_view_1").valid["reshading"].all()


def test_reader_can_be_sent_to_another_process(taskonomy_source: Path) -> None:
    data = pickle.loads(pickle.dumps(open_taskonomy(taskonomy_source, EVERY)))
    np.testing.assert_array_equal(data.read("hanson/point_0_view_0").image, scene(0).image)


def test_views_of_buildings_in_no_split_are_told(taskonomy_source: Path) -> None:
    assert not any("in no split" in note for note in open_taskonomy(taskonomy_source, EVERY).notes)
    for number in range(2):
        write_view(taskonomy_source, ("mycastle", number, 0), scene(0))
    note = "2 views are left out, of buildings that are in no split (tiny): mycastle."
    assert note in open_taskonomy(taskonomy_source, EVERY).notes


def test_numbers_with_leading_zeros_are_same_numbers(taskonomy_source: Path) -> None:
    before = open_taskonomy(taskonomy_source, EVERY)
    for path in taskonomy_source.rglob("point_10_view_1_*.png"):
        path.rename(path.with_name(path.name.replace("point_10_view_1", "point_0010_view_01")))
    data = open_taskonomy(taskonomy_source, EVERY)
    assert data.samples == before.samples
    paths = list(data.files("hanson/point_10_view_1"))
    assert all(path.name.startswith("point_0010_view_01_domain_") for path in paths)
    data.read("hanson/point_10_view_1")
    copy = next(taskonomy_source.rglob("point_0010_view_01_domain_rgb.png"))
    copy.with_name("point_10_view_01_domain_rgb.png").write_bytes(copy.read_bytes())
    with pytest.raises(UserError, match="Expected one rgb of point 10, view 1"):
        open_taskonomy(taskonomy_source, EVERY)
