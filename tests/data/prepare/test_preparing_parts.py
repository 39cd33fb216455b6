"""What part of a data set is prepared, and how holes are filled: --split, --tasks, --exact-fill."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtl.data import show
from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main
from mtl.data.prepare.recipe import make_recipe
from mtl.spec.sections import TASKS
from sweeps.priority_grid import main as sweep
from tests.data.readers.folder_formats import write_source, write_yaml
from tests.data.readers.nyuv2_formats import room, write_mtan, write_official
from tests.data.readers.taskonomy_formats import VIEWS, path_of
from tests.data.readers.taskonomy_formats import write_source as taskonomy_source


def prepared(name: str, source: Path, root: Path, *argv: str) -> dict[str, Any]:
    """Prepare a data set and return the manifest of the newest folder."""
    before = set(root.glob("*/manifest.json"))
    common = ["--source", str(source), "--size", "24x24", "--workers", "1"]
    assert main([name, *common, "--data-root", str(root), *argv]) == 0
    (path,) = set(root.glob("*/manifest.json")) - before
    return {**read_manifest(path.parent), "folder": path.parent}


def test_some_splits_alone_can_be_looked_at_and_no_sweep_takes_them(tmp_path, capsys) -> None:
    source, root = write_source(tmp_path), tmp_path / "data"
    part = prepared("folder", source, root, "--tasks", "depth", "--split", "test", "train")
    out = capsys.readouterr().out
    assert "Without validation no sweep trains on it." in out
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
        error = capsys.readouterr().err
        assert "got no validation. Run `python -m mtl.data.prepare folder` again" in error
        assert len(error.strip().splitlines()) == 1
    # Beside a whole one it stands in nobody's way.
    whole = prepared("folder", source, root, "--tasks", "depth")
    assert whole["counts"] == {"train": 3, "validation": 1, "test": 1}
    assert sweep(argv) == 0


def test_split_without_training_samples_has_its_own_statistics(tmp_path) -> None:
    source, root = write_source(tmp_path), tmp_path / "data"
    part = prepared("folder", source, root, "--tasks", "depth", "--split", "validation", "test")
    (values, valid) = (
        np.load(part["folder"] / "validation" / f"depth{kind}.npy") for kind in ("", "_valid")
    )
    assert part["statistics"]["depth"]["mean"] == pytest.approx([values[valid].mean()])
    assert show.main([str(part["folder"]), "--out", str(tmp_path / "sheet.png")]) == 0


def test_tasks_of_taskonomy_decide_which_views_must_be_whole(tmp_path, capsys) -> None:
    source, root = taskonomy_source(tmp_path), tmp_path / "data"
    path_of(source, VIEWS[0], "normal").unlink()
    every = prepared("taskonomy", source, root, "--option", "stride=1")
    assert every["counts"]["train"] == 2
    argv = ("--tasks", "depth", "edge2d", "--option", "stride=1")
    two = prepared("taskonomy", source, root, *argv)
    assert two["counts"]["train"] == 3
    assert two["options"]["tasks"] == ["depth", "edge2d"]
    assert two["derived"] == []
    assert two["files"]["count"] == 5 * 3
    # The reader's own option comes first: then the other is derived from the image.
    one = prepared("taskonomy", source, root, *argv, "tasks=[depth]")
    assert one["options"]["tasks"] == ["depth"]
    assert one["derived"] == ["edge2d"]
    capsys.readouterr()
    argv = ["taskonomy", "--source", str(source), "--size", "8x8", "--data-root", str(root)]
    assert main([*argv, "--option", "stride=1", "--tasks", "segmentation"]) == 1
    assert "got none: 5 rgb, 0 segmentsemantic" in capsys.readouterr().err


def test_exact_filling_is_another_preparation(tmp_path, capsys) -> None:
    # Depth steps where the image does not, so that the two systems differ along the hole.
    frames = room(4)
    raw = frames.raw_depths.copy()
    raw[:, :240, 310:330] = 0
    frames = dataclasses.replace(frames, raw_depths=raw)
    source, root = write_official(tmp_path, frames, (1, 2, 3), (4,)), tmp_path / "data"
    options = {"depth": "raw", "normals": "none", "validation_share": 0.4}
    argv = ("--option", *(f"{key}={value}" for key, value in options.items()), "--tasks", "depth")
    holes = prepared("nyuv2", source, root, *argv)
    exact = prepared("nyuv2", source, root, *argv, "--exact-fill")
    assert "exact_fill" not in holes
    assert exact["exact_fill"] is True
    values = [np.load(m["folder"] / "test" / "depth.npy") for m in (holes, exact)]
    measured = np.load(exact["folder"] / "test" / "depth_measured.npy")
    difference = np.abs(values[0] - values[1])[..., 0]
    assert 0 < difference[~measured].max() < 0.1
    # Cells at its edge have a share of the hole; all others are as measured.
    assert np.median(difference[measured]) == 0
    given = {"height": 24, "width": 24, "options": options, "tasks": ("depth",)}
    keys = {make_recipe("nyuv2", source, **given, exact_fill=e).key() for e in (False, True)}
    assert keys == {m["folder"].name.removeprefix("nyuv2-") for m in (holes, exact)}


def test_folder_is_read_only_where_wanted_tasks_need_it(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    shutil.rmtree(source / "val" / "normal")
    (source / "train" / "curvature" / "Bild 0 é.png").unlink()
    (source / "train" / "label" / "Bild 1 é.png").write_bytes(b"torn")
    # Reshading counts where depth does, so depth is read for it.
    manifest = prepared("folder", source, tmp_path / "data", "--tasks", "reshading", "edge2d")
    assert manifest["options"]["tasks"] == ["depth", "reshading", "edge2d"]
    assert manifest["tasks"] == ["edge2d", "reshading"]
    assert manifest["files"]["count"] == 5 * 4


def test_naming_all_tasks_is_same_as_naming_none(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    given = {"height": 9, "width": 12, "options": {}}
    keys = {make_recipe("folder", source, **given, tasks=tasks).key() for tasks in (None, TASKS)}
    assert len(keys) == 1


def test_official_file_is_read_only_where_wanted_tasks_need_it(tmp_path, monkeypatch) -> None:
    def never(*_):
        raise AssertionError("normals are not wanted")

    monkeypatch.setattr("mtl.data.readers.nyuv2.plane_normals", never)
    frames = room(4).changed("labels", 0, 895, (5, 6))
    source, root = write_official(tmp_path, frames, (1, 2, 3), (4,)), tmp_path / "data"
    option = ("--option", "validation_share=0.4")
    assert prepared("nyuv2", source, root, "--tasks", "depth", *option)["tasks"] == ["depth"]
    frames = frames.changed("depths", 0, np.nan).changed("labels", 0, 1)
    source = write_official(tmp_path, frames, (1, 2, 3), (4,))
    manifest = prepared("nyuv2", source, tmp_path / "labels", "--tasks", "segmentation", *option)
    assert manifest["tasks"] == ["segmentation"]


def test_mtan_copy_is_read_only_where_wanted_tasks_need_it(tmp_path: Path) -> None:
    source = tmp_path / "mtan"
    for number in range(3):
        write_mtan(source, "train", number)
    write_mtan(source, "val", 0)
    (source / "train" / "normal" / "1.npy").unlink()
    manifest = prepared("nyuv2_mtan", source, tmp_path / "data", "--tasks", "depth", "edge3d")
    assert manifest["options"]["tasks"] == ["depth"]


def with_hole(folder: Path) -> Path:
    """Write scenes as a folder, with a hole in every depth and normal, 4 x 5 of 18 x 24 pixels."""
    source = write_source(folder)
    for task, nothing in (("depth", 0), ("normal", 128)):
        for path in source.glob(f"*/{task}/*.png"):
            values = np.array(Image.open(path))
            values[3:7, 10:15] = nothing
            Image.fromarray(values).save(path)
    return source


def test_holes_of_folder_are_filled_where_its_description_says_so(tmp_path: Path) -> None:
    source = with_hole(tmp_path)
    tasks = ("--tasks", "depth", "normal", "edge3d", "--size", "18x24")
    holes = prepared("folder", source, tmp_path / "a", *tasks)
    assert holes["filled"] == []
    write_yaml(
        source,
        tasks={
            "depth": {"scale": 0.001, "invalid": 0, "fill": True},
            "normal": {"invalid": [128, 128, 128], "fill": True},
        },
        classes=None,
    )
    filled = prepared("folder", source, tmp_path / "b", *tasks)
    assert filled["filled"] == ["depth", "normal"]
    hole = np.zeros((18, 24), bool)
    hole[3:7, 10:15] = True
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


def test_exact_filling_where_nothing_may_be_filled_is_refused(tmp_path, capsys) -> None:
    for number in range(3):
        write_mtan(tmp_path / "mtan", "train", number)
    write_mtan(tmp_path / "mtan", "val", 0)
    mat = write_official(tmp_path, room(4), (1, 2, 3), (4,))
    for name, source, tasks in (
        ("folder", write_source(tmp_path), []),
        ("taskonomy", taskonomy_source(tmp_path), []),
        ("nyuv2_mtan", tmp_path / "mtan", []),
        ("nyuv2", mat, ["--tasks", "depth"]),  # its owners filled that
    ):
        argv = [name, "--source", str(source), "--size", "8x8", "--data-root", str(tmp_path / "d")]
        option = ["--option", "stride=1"] if name == "taskonomy" else []
        assert main([*argv, *tasks, *option, "--exact-fill"]) == 1
        assert "Expected something to fill for --exact-fill" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_empty_split_is_told_before_anything_is_prepared(tmp_path, capsys) -> None:
    source, root = write_official(tmp_path, room(4), (1, 2, 3), (4,)), tmp_path / "data"
    argv = ["nyuv2", "--source", str(source), "--size", "8x8", "--data-root", str(root)]
    assert main([*argv, "--tasks", "depth", "--option", "validation_share=0"]) == 1
    error = capsys.readouterr().err
    assert "Expected samples for validation in" in error
    assert "--split, or give a validation_share above 0" in error
    assert not root.exists()
    argv += ["--tasks", "depth", "--option", "validation_share=0", "--split", "train", "test"]
    assert main([*argv, "--workers", "1"]) == 0


def test_derived_task_that_counts_nowhere_is_left_out_unless_asked_for(tmp_path, capsys) -> None:
    # Depth at every other row and column alone: no 3x3 neighbourhood is known, so no 3D edge.
    source, root = write_source(tmp_path), tmp_path / "data"
    for path in source.glob("*/depth/*.png"):
        values = np.array(Image.open(path))
        values[1::2], values[:, 1::2] = 0, 0
        Image.fromarray(values).save(path)
    write_yaml(source, tasks={"depth": {"scale": 0.001, "invalid": 0}}, classes=None)
    size = ("--size", "18x24")
    manifest = prepared("folder", source, root, *size)
    assert manifest["tasks"] == ["depth", "edge2d", "keypoint2d"]
    assert manifest["derived"] == ["edge2d", "keypoint2d"]
    assert not list(manifest["folder"].rglob("edge3d*"))
    assert "edge3d counts at no pixel" in " ".join(manifest["notes"])
    assert "edge3d is left out" in capsys.readouterr().out
    argv = ["folder", "--source", str(source), *size, "--data-root", str(root), "--workers", "1"]
    assert main(argv) == 0
    assert "every byte of the arrays verified" in capsys.readouterr().out
    assert main([*argv, "--tasks", "depth", "edge3d"]) == 1
    assert "Expected some valid pixels of edge3d in split train" in capsys.readouterr().err
    # Even where all tasks together bear the folder's name.
    assert main([*argv, "--tasks", "depth", "edge2d", "keypoint2d", "edge3d"]) == 1
    assert f"Expected edge3d in {manifest['folder']}, got none" in capsys.readouterr().err
