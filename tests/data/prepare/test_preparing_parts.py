"""What part of a data set is prepared, how holes are filled, and which samples are left out."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mtl.data import show
from mtl.data.prepare.__main__ import main
from mtl.data.prepare.recipe import make_recipe
from mtl.spec.sections import TASKS
from sweeps.priority_grid import main as sweep
from tests.data.prepare.commands import command, prepared, refused
from tests.data.readers.folder_formats import save, scene, write_yaml
from tests.data.readers.nyuv2_formats import write_official
from tests.data.readers.taskonomy_formats import VIEWS, path_of


def test_some_splits_alone_can_be_shown_but_not_swept(folder_source, tmp_path, capsys) -> None:
    source, root = folder_source, tmp_path / "data"
    part = prepared("folder", source, root, "--tasks", "depth", "--split", "test", "train")
    assert "Without validation no sweep trains on it." in capsys.readouterr().out
    assert part["counts"] == {"train": 3, "test": 1}
    assert list(part["ids"]) == ["train", "test"]
    sheet = tmp_path / "sheet.png"
    assert show.main([str(part["folder"]), "--split", "test", "--out", str(sheet)]) == 0
    assert show.main([str(part["folder"]), "--split", "validation", "--out", str(sheet)]) == 1
    assert "Expected the split validation in" in capsys.readouterr().err
    argv = ["--plan", "--dataset", "folder", "--tasks", "depth", "--data-root", str(root)]
    argv += ["--set", "batch_size=2"]
    for more in ([], [f"data.prepared={part['folder_hash']}"]):
        assert sweep([*argv, *more]) == 1
        words = "got no validation. Run `python -m mtl.data.prepare folder` again"
        assert words in capsys.readouterr().err
    # Beside a whole one it stands in nobody's way.
    whole = prepared("folder", source, root, "--tasks", "depth")
    assert whole["counts"] == {"train": 3, "validation": 1, "test": 1}
    assert sweep(argv) == 0


def test_split_without_training_samples_has_its_own_statistics(folder_source, tmp_path) -> None:
    argv = ("--tasks", "depth", "--split", "validation", "test")
    part = prepared("folder", folder_source, tmp_path / "data", *argv)
    folder = part["folder"] / "validation"
    values, valid = np.load(folder / "depth.npy"), np.load(folder / "depth_valid.npy")
    assert part["statistics"]["depth"]["mean"] == pytest.approx([values[valid].mean()])
    assert show.main([str(part["folder"]), "--out", str(tmp_path / "sheet.png")]) == 0


def test_empty_split_is_refused_before_anything_is_prepared(folder_source, tmp_path, capsys):
    (folder_source / "val").rename(folder_source / "elsewhere")
    root = tmp_path / "data"
    argv = ("--tasks", "depth", "--option", "validation_share=0")
    words = ("Expected samples for validation in", "--split, or give a validation_share above 0")
    refused(command("folder", folder_source, root, *argv), capsys, *words)
    assert not root.exists()
    prepared("folder", folder_source, root, *argv, "--split", "train", "test")


# Files are read only where the wanted tasks need them.


def test_tasks_of_taskonomy_decide_which_views_must_be_whole(taskonomy_source, tmp_path, capsys):
    source, root = taskonomy_source, tmp_path / "data"
    path_of(source, VIEWS[0], "normal").unlink()
    every = prepared("taskonomy", source, root, "--option", "stride=1")
    assert every["counts"]["train"] == 2
    argv = ("--tasks", "depth", "edge2d", "--option", "stride=1")
    two = prepared("taskonomy", source, root, *argv)
    assert two["counts"]["train"] == 3
    assert two["options"]["tasks"] == ["depth", "edge2d"]
    assert (two["derived"], two["files"]["count"]) == ([], 5 * 3)
    # The reader's own option comes first: then the other is derived from the image.
    one = prepared("taskonomy", source, root, *argv, "tasks=[depth]")
    assert (one["options"]["tasks"], one["derived"]) == (["depth"], ["edge2d"])
    argv = command("taskonomy", source, root, "--option", "stride=1", "--tasks", "segmentation")
    refused(argv, capsys, "got none: 5 rgb, 0 segmentsemantic")


def test_folder_is_read_only_where_wanted_tasks_need_it(folder_source, tmp_path: Path) -> None:
    shutil.rmtree(folder_source / "val" / "normal")
    (folder_source / "train" / "curvature" / "Bild 0 é.png").unlink()
    (folder_source / "train" / "label" / "Bild 1 é.png").write_bytes(b"torn")
    # Reshading counts where depth does, so depth is read for it.
    argv = ("--tasks", "reshading", "edge2d")
    manifest = prepared("folder", folder_source, tmp_path / "data", *argv)
    assert manifest["options"]["tasks"] == ["depth", "reshading", "edge2d"]
    assert manifest["tasks"] == ["edge2d", "reshading"]
    assert manifest["files"]["count"] == 5 * 4


def test_naming_all_tasks_is_same_as_naming_none(folder_source: Path) -> None:
    given = {"height": 9, "width": 12, "options": {}}
    recipes = [make_recipe("folder", folder_source, **given, tasks=t) for t in (None, TASKS)]
    assert recipes[0].key() == recipes[1].key()


def test_official_file_is_read_only_where_wanted_tasks_need_it(frames, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("normals are not wanted")

    monkeypatch.setattr("mtl.data.readers.nyuv2.plane_normals", never)
    frames = frames.changed("labels", 0, 895, (5, 6))
    source, root = write_official(tmp_path, frames, (1, 2, 3), (4,)), tmp_path / "data"
    option = ("--option", "validation_share=0.4")
    assert prepared("nyuv2", source, root, "--tasks", "depth", *option)["tasks"] == ["depth"]
    frames = frames.changed("depths", 0, np.nan).changed("labels", 0, 1)
    source = write_official(tmp_path, frames, (1, 2, 3), (4,))
    manifest = prepared("nyuv2", source, tmp_path / "labels", "--tasks", "segmentation", *option)
    assert manifest["tasks"] == ["segmentation"]


def test_mtan_copy_is_read_only_where_wanted_tasks_need_it(mtan_source, tmp_path) -> None:
    (mtan_source / "train" / "normal" / "2.npy").unlink()
    argv = ("--tasks", "depth", "edge3d")
    manifest = prepared("nyuv2_mtan", mtan_source, tmp_path / "data", *argv)
    assert manifest["options"]["tasks"] == ["depth"]


# Holes.


def write_holes(source: Path, *splits: str) -> np.ndarray:
    """Write a hole into the first depth and normal of each split, and return it: (18, 24)."""
    hole = np.zeros((18, 24), bool)
    hole[3:7, 10:15] = True
    for split in splits:
        for task, nothing in (("depth", 0), ("normal", 128)):
            path = min((source / split / task).iterdir())
            values = np.array(Image.open(path))
            values[hole] = nothing
            Image.fromarray(values).save(path)
    return hole


def filling(source: Path, fill: bool = True) -> None:
    depth = {"scale": 0.001, "invalid": 0, "fill": fill}
    normal = {"invalid": [128, 128, 128], "fill": fill}
    write_yaml(source, tasks={"depth": depth, "normal": normal}, classes=None)


def test_holes_of_folder_are_filled_where_its_description_asks(folder_source, tmp_path) -> None:
    source = folder_source
    hole = write_holes(source, "test")
    tasks = ("--tasks", "depth", "normal", "edge3d", "--size", "18x24")
    filling(source, False)
    holes = prepared("folder", source, tmp_path / "a", *tasks)
    assert holes["filled"] == []
    filling(source)
    filled = prepared("folder", source, tmp_path / "b", *tasks)
    assert filled["filled"] == ["depth", "normal"]
    for task in ("depth", "normal"):
        for manifest, valid_in_hole in ((holes, False), (filled, True)):
            folder = manifest["folder"] / "test"
            valid, measured, values = (
                np.load(folder / f"{task}{end}.npy")[0] for end in ("_valid", "_measured", "")
            )
            assert (valid[hole] == valid_in_hole).all()
            assert not measured[hole].any()
            assert measured[~hole].mean() > 0.95
            assert (np.abs(values[hole]).max(-1) > 0).all() == valid_in_hole
    # A derived edge counts there in training alone, one pixel around the hole included.
    edges = filled["folder"] / "test"
    around = np.zeros_like(hole)
    around[2:8, 9:16] = True
    assert np.load(edges / "edge3d_valid.npy")[0][around].all()
    assert not np.load(edges / "edge3d_measured.npy")[0][around].any()
    none = prepared("folder", source, tmp_path / "c", *tasks, "--no-fill")
    assert none["filled"] == []
    assert not np.load(none["folder"] / "test" / "depth_valid.npy")[0][hole].any()


def test_hole_in_one_sample_gives_all_a_measured_mask(folder_source, tmp_path) -> None:
    write_holes(folder_source, "train", "val")
    filling(folder_source)
    tasks = ("--tasks", "depth", "edge3d", "edge2d")
    manifest = prepared("folder", folder_source, tmp_path / "data", *tasks)
    filled = 0
    for split in ("train", "validation", "test"):
        for task in ("depth", "edge3d"):
            valid = np.load(manifest["folder"] / split / f"{task}_valid.npy")
            measured = np.load(manifest["folder"] / split / f"{task}_measured.npy")
            assert not (measured & ~valid).any()
            filled += int((valid & ~measured).any(axis=(1, 2)).sum())
            if split == "test":
                assert np.array_equal(measured, valid)
    assert filled == 2 * 2


def test_exact_filling_is_another_preparation(folder_source, tmp_path) -> None:
    source, root = folder_source, tmp_path / "data"
    write_holes(source, "test")
    filling(source)
    argv = ("--tasks", "depth", "--size", "18x24")
    holes = prepared("folder", source, root, *argv)
    exact = prepared("folder", source, root, *argv, "--exact-fill")
    assert "exact_fill" not in holes
    assert exact["exact_fill"] is True
    values = [np.load(m["folder"] / "test" / "depth.npy") for m in (holes, exact)]
    measured = np.load(exact["folder"] / "test" / "depth_measured.npy")
    difference = np.abs(values[0] - values[1])[..., 0]
    assert difference[~measured].max() > 0
    assert difference[measured].max() == 0
    given = {"height": 18, "width": 24, "options": {}, "tasks": ("depth",)}
    keys = {make_recipe("folder", source, **given, exact_fill=e).key() for e in (False, True)}
    assert keys == {m["folder"].name.removeprefix("folder-") for m in (holes, exact)}


def test_exact_filling_of_nothing_is_refused(folder_source, nyuv2_source, tmp_path, capsys) -> None:
    root = tmp_path / "data"
    for name, source, tasks in (
        ("folder", folder_source, []),
        ("nyuv2", nyuv2_source, ["--tasks", "depth"]),  # its owners filled that
    ):
        argv = command(name, source, root, *tasks, "--exact-fill")
        refused(argv, capsys, "Expected something to fill for --exact-fill")
    assert not root.exists()


def test_derived_task_that_counts_nowhere_is_left_out(folder_source, tmp_path, capsys) -> None:
    # Depth at every other row and column alone: no 3x3 neighbourhood is known, so no 3D edge.
    for path in folder_source.glob("*/depth/*.png"):
        values = np.array(Image.open(path))
        values[1::2], values[:, 1::2] = 0, 0
        Image.fromarray(values).save(path)
    write_yaml(folder_source, tasks={"depth": {"scale": 0.001, "invalid": 0}}, classes=None)
    argv = ("folder", folder_source, tmp_path / "data", "--size", "18x24")
    manifest = prepared(*argv)
    assert manifest["tasks"] == ["depth", "edge2d", "keypoint2d"]
    assert not list(manifest["folder"].rglob("edge3d*"))
    assert "edge3d counts at no pixel" in " ".join(manifest["notes"])
    assert "edge3d is left out" in capsys.readouterr().out
    assert main(command(*argv)) == 0
    assert "every byte of the arrays verified" in capsys.readouterr().out
    words = "Expected some valid pixels of edge3d in split train"
    refused(command(*argv, "--tasks", "depth", "edge3d"), capsys, words)
    # Even where all tasks together bear the folder's name.
    tasks = ("--tasks", "depth", "edge2d", "keypoint2d", "edge3d")
    words = f"Expected edge3d in {manifest['folder']}, got none"
    refused(command(*argv, *tasks), capsys, words)


# Samples that cannot be read.


@pytest.mark.parametrize(
    ("name", "file", "content", "sample_id", "argv"),
    [
        ("folder", "train/edge3d/Bild 1 é.png", b"torn", "train/Bild 1 é", []),
        ("nyuv2_mtan", "train/normal/10.npy", None, "train/10", ["--tasks", "normal"]),
        ("taskonomy", "depth_zbuffer/hanson/point_10_view_1_domain_depth_zbuffer.png",
         b"<html>404</html>", "hanson/point_10_view_1", ["--option", "stride=1"]),
        ("nyuv2", "", None, "0003", ["--tasks", "segmentation"]),
    ],
)  # fmt: skip
def test_bad_sample_is_named_and_can_be_skipped(
    name: str, file: str, content: bytes | None, sample_id: str, argv: list[str], request, tmp_path,
    capsys,
) -> None:  # fmt: skip
    source = request.getfixturevalue(f"{name.removeprefix('nyuv2_')}_source")
    place = path = source / file
    if name == "nyuv2":
        with h5py.File(source, "r+") as mat:
            mat["labels"][2, 6, 5] = 895
    elif content is None:
        path.unlink()
        place = path.parent
    else:
        path.write_bytes(content)
    root = tmp_path / "prepared hier \u00fc"
    refused(command(name, source, root, *argv), capsys, place, "--skip-bad")
    assert list(root.glob("*/manifest.json")) == []
    manifest = prepared(name, source, root, *argv, "--skip-bad")
    assert "1 samples were left out" in capsys.readouterr().out
    ((split, reasons),) = manifest["skipped"].items()
    ((left_out, reason),) = reasons.items()
    assert left_out == sample_id
    assert str(place) in reason
    assert left_out not in manifest["ids"][split]
    assert len(manifest["ids"][split]) == manifest["counts"][split]


def test_incomplete_samples_are_named_before_any_is_read(folder_source, tmp_path, capsys) -> None:
    argv = command("folder", folder_source, tmp_path / "data")
    for name in ("depth/Bild 0 é.png", "label/Bild 0 é.png", "label/Bild 2 é.png"):
        (folder_source / "train" / name).rename(tmp_path / name.replace("/", " "))
    words = "Files are missing of train/Bild 0 é, train/Bild 2 é; --skip-bad goes on"
    refused(argv, capsys, "the depth of", words)
    assert not (tmp_path / "data").exists()
    # A split without the gap has none.
    assert main([*argv, "--split", "test"]) == 0
    assert main([*argv, "--skip-bad"]) == 0
    # Repaired, the same command without --skip-bad is refused until the folder is removed.
    for path in tmp_path.glob("* Bild *.png"):
        folder, _, name = path.name.partition(" ")
        path.rename(folder_source / "train" / folder / name)
    refused(argv, capsys, "without 2 samples")


def test_source_that_is_circle_of_links_is_refused(tmp_path, capsys) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for name in ("folder", "nyuv2", "nyuv2_mtan", "taskonomy"):
        refused(command(name, loop, tmp_path / "data"), capsys, loop)


# After public bug reports: each was once taken for something else without a word.


def test_normals_stored_in_0_1_need_the_scale_of_the_remedy(folder_source, tmp_path, capsys):
    for index, path in enumerate(sorted(folder_source.glob("*/normal/*.png"))):
        path.unlink()
        save(path.with_suffix(".npy"), (scene(index).targets["normal"] + 1) / 2)
    write_yaml(folder_source, tasks={"normal": {}}, classes=None)
    argv = ("folder", folder_source, tmp_path / "data", "--tasks", "normal", "--size", "18x24")
    refused(command(*argv), capsys, "normals of length 1", ".npy", "scale: 2, offset: -1")
    write_yaml(folder_source, tasks={"normal": {"scale": 2, "offset": -1}}, classes=None)
    normals = np.load(prepared(*argv)["folder"] / "test" / "normal.npy")
    np.testing.assert_allclose(normals[0], scene(0).targets["normal"], atol=1e-3)


def test_turned_photographs_are_noted(folder_source, tmp_path, capsys) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for split, ending in (("train", "jpg"), ("val", "png")):
        path = min((folder_source / split / "image").iterdir())
        picture = Image.open(path)
        path.unlink()
        picture.save(path.with_suffix(f".{ending}"), exif=exif)
    argv = ("folder", folder_source, tmp_path / "data", "--tasks", "depth")
    prepared(*argv)
    out = capsys.readouterr().out
    assert "1 images in" in out
    assert "such as Bild 0 é.jpg, are stored turned, as their EXIF data say" in out
    assert "such as Bild 3 é.png, are stored turned" in out
    path = folder_source / "train" / "depth" / "Bild 0 é.png"
    Image.open(path).crop((0, 0, 24, 10)).save(path)
    refused(command(*argv[:2], tmp_path / "other", *argv[3:]), capsys,
            "Bring image and targets to one size", "EXIF")  # fmt: skip


def test_void_with_leading_zero_is_decimal(folder_source, tmp_path) -> None:
    path = folder_source / "dataset.yaml"
    path.write_text(path.read_text("utf-8").replace("void: 255", "void: 0255"), "utf-8")
    manifest = prepared("folder", folder_source, tmp_path / "data", "--tasks", "segmentation")
    assert manifest["options"]["dataset_yaml"]["tasks"]["segmentation"]["void"] == [255]
