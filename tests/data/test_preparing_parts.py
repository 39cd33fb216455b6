"""What part of a data set is prepared, and how holes are filled: --split, --tasks, --exact-fill."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl.data import show
from mtl.data.manifest import read_manifest
from mtl.data.prepare import main
from mtl.data.recipe import make_recipe
from sweeps.priority_grid import main as sweep
from tests.data.folder_formats import write_source
from tests.data.nyuv2_formats import room, write_official
from tests.data.taskonomy_formats import VIEWS, path_of
from tests.data.taskonomy_formats import write_source as taskonomy_source


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


def test_a_split_without_training_samples_has_its_own_statistics(tmp_path) -> None:
    source, root = write_source(tmp_path), tmp_path / "data"
    part = prepared("folder", source, root, "--tasks", "depth", "--split", "validation", "test")
    (values, valid) = (
        np.load(part["folder"] / "validation" / f"depth{kind}.npy") for kind in ("", "_valid")
    )
    assert part["statistics"]["depth"]["mean"] == pytest.approx([values[valid].mean()])
    assert show.main([str(part["folder"]), "--out", str(tmp_path / "sheet.png")]) == 0


def test_a_split_that_there_is_not_is_refused(tmp_path, capsys) -> None:
    argv = ["folder", "--source", str(write_source(tmp_path)), "--size", "8x8"]
    assert main([*argv, "--data-root", str(tmp_path / "data"), "--split", "val"]) == 2
    assert "Unknown split 'val'" in capsys.readouterr().err


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


def test_exact_filling_and_none_cannot_both_be(tmp_path, capsys) -> None:
    argv = ["nyuv2", "--source", str(tmp_path), "--size", "8x8", "--no-fill", "--exact-fill"]
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "--exact-fill: not allowed with argument --no-fill" in capsys.readouterr().err
