"""From files to a training: prepared, verified, shown, and found by `--dataset`."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mtl.data import show
from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main
from mtl.spec import Runtime
from mtl.spec.sections import TASKS
from mtl.store import Store
from sweeps.options import parse_command
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.priority_grid import main as sweep
from tests.data.prepare.commands import command, only_folder, prepared, refused
from tests.data.readers.folder_formats import write_yaml


@pytest.fixture
def mine(folder_source: Path) -> Path:
    """Return a folder with depth and labels alone."""
    describe(folder_source)
    return folder_source


def describe(source: Path, **changes: object) -> None:
    depth, labels = {"scale": 0.001, "invalid": [0]}, {"void": [255], "folder": "label"}
    write_yaml(source, tasks={"depth": depth, "segmentation": labels}, **changes)


def test_files_become_training(mine: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    argv = command("folder", mine, root, "--size", "32x32")
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "3 train, 1 validation, 1 test; tasks depth, segmentation, edge2d, edge3d" in out
    assert "Derived, not measured: edge2d, edge3d, keypoint2d." in out  # no camera, so no normals
    assert "Licence: ours" in out
    folder = only_folder(root)
    manifest = read_manifest(folder)
    named = {"folder": str(folder), "hash": manifest["folder_hash"]}
    assert json.loads(out.splitlines()[-3]) == named
    assert manifest["counts"] == {"train": 3, "validation": 1, "test": 1}
    assert manifest["statistics"]["depth"]["share_valid"] > 0.9
    # Asked for again: verified, and nothing written.
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert main(argv) == 0
    assert "every byte of the arrays verified" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    # Its picture.
    assert show.main([str(folder), "--out", str(tmp_path / "sheet.png"), "--count", "3"]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] > 3 * 32 * 7  # the least whole factor by which 32 becomes 200
    # A run knows it by its hash, and trains on it.
    argv = [
        "--dataset", "folder", "--data-root", str(root), "--epochs", "1", "--methods", "lsb",
        "--divisions", "2", "--seeds", "1", "--set", "network.encoder_stride=8", "batch_size=2",
    ]  # fmt: skip
    (spec,) = grid_specs(parse_command("priority_grid", "", argv, GRID).grid)
    assert spec.data.prepared == manifest["folder_hash"]
    assert (spec.data.height, spec.data.num_train) == (32, 3)
    from mtl.training import fit

    store = Store(tmp_path / "store")
    result = fit(spec, store, Runtime(device="cpu", data_root=str(root)))
    assert result.final_metrics["test"]["segmentation"]["miou"] is not None
    assert store.manifest(spec.run_id())["data"]["label"] == "rooms"
    # Elsewhere, under another name: the same content is the same run.
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved / "folder-0000000000000000")
    again = [*argv[:3], str(moved), *argv[4:]]
    (same,) = grid_specs(parse_command("priority_grid", "", again, GRID).grid)
    assert same.run_id() == spec.run_id()


BAD = [
    (["cityscapes", "--source", ".", "--size", "8x8"], 2, "Unknown data set 'cityscapes'"),
    (["folder", "--source", ".", "--size", "8"], 2, "--size HEIGHTxWIDTH"),
    (["folder", "--source", ".", "--size", "8x8", "--option", "seed"], 2, "KEY=VALUE"),
    (["folder", "--source", ".", "--size", "8x8", "--option", "sed=1"], 2, "Unknown field"),
    (["folder", "--source", ".", "--size", "8x8", "--split", "val"], 2, "Unknown split 'val'"),
    (["folder", "--source", ".", "--size", "8x8", "--no-fill", "--exact-fill"], 2, "not allowed"),
    (["folder", "--source", "/nowhere", "--size", "8x8"], 1, "/nowhere"),
]


@pytest.mark.parametrize(("argv", "status", "says"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input_is_one_sentence(argv, status, says, tmp_path, capsys) -> None:
    assert main([*argv, "--data-root", str(tmp_path / "data")]) == status
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_task_that_cannot_follow_is_refused_with_those_that_can(mine, tmp_path, capsys) -> None:
    argv = command("folder", mine, tmp_path / "data", "--tasks", "normal")
    refused(argv, capsys, "(depth, segmentation, edge2d, edge3d, keypoint2d)")


def test_sweeps_refuse_what_is_not_prepared(mine, tmp_path, capsys) -> None:
    root = tmp_path / "data"
    assert main(command("folder", mine, root, "--tasks", "depth", "segmentation")) == 0
    for argv, status, says in (
        (["--dataset", "nyuv2"], 1, "Run `python -m mtl.data.prepare nyuv2 --source PATH"),
        (["--dataset", "folder", "--tasks", "normal"], 2, "folder has .*got 'normal'"),
        (["--dataset", "folder", "--set", "data.height=8"], 2, "whose prepared data decide"),
        (["--set", "data.name=scenes,folder"], 2, "one data set, got scenes, folder"),
        (["--dataset", "folder", "--set", "data.prepared=0123456789abcdef"], 1, "got none"),
    ):
        capsys.readouterr()
        assert sweep(["--plan", *argv, "--data-root", str(root)]) == status
        error = capsys.readouterr().err
        assert re.search(says, error), error
        assert len(error.strip().splitlines()) == 1


def test_sweep_chooses_among_several_preparations(mine: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    prepared("folder", mine, root, "--tasks", "depth")
    # Another size, and an edited description with equal arrays, of which losses allow less.
    chosen = prepared("folder", mine, root, "--tasks", "depth", "--size", "32x32")["folder_hash"]
    describe(mine, depth_range_m=[0.1, 20.0])
    prepared("folder", mine, root, "--tasks", "depth")
    capsys.readouterr()
    argv = ["--plan", "--dataset", "folder", "--tasks", "depth", "--data-root", str(root)]
    assert sweep(argv) == 1
    error = capsys.readouterr().err
    assert "Expected one prepared version of folder, got 3: " in error
    assert "32x32" in error
    assert sweep([*argv, "--set", f"data.prepared={chosen}", "batch_size=2"]) == 0


def test_mtan_copy_of_nyuv2_is_prepared_whole(mtan_source: Path, tmp_path: Path) -> None:
    manifest = prepared("nyuv2_mtan", mtan_source, tmp_path / "data", "--size", "32x48")
    assert manifest["counts"] == {"train": 2, "validation": 1, "test": 1}
    assert set(manifest["tasks"]) >= {"depth", "normal", "segmentation", "edge2d", "keypoint2d"}
    # A share of 13 / 14 of the labels is not void; mixed cells keep what their centre says.
    assert manifest["statistics"]["segmentation"]["share_valid"] == pytest.approx(13 / 14, abs=0.02)


def test_taskonomy_is_prepared_whole_with_its_raw_scales(taskonomy_source, tmp_path) -> None:
    root = tmp_path / "data"
    manifest = prepared("taskonomy", taskonomy_source, root, "--option", "stride=1")
    ids = ["hanson/point_0_view_0", "hanson/point_10_view_1", "merom/point_2_view_0"]
    assert manifest["ids"]["train"] == ids
    assert set(manifest["tasks"]) == set(TASKS) - {"segmentation"}
    statistics = manifest["statistics"]
    # value / 65535 without any rescaling: decades apart, which is what the method balances.
    assert statistics["edge3d"]["mean"][0] < 0.02 < statistics["reshading"]["mean"][0]
    for task in manifest["tasks"]:
        assert 0 < statistics[task]["share_valid"] <= 1


def test_show_of_another_folder_advises_to_remove_nothing(tmp_path: Path, capsys) -> None:
    for place in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        assert show.main([str(place), "--out", str(tmp_path / "sheet.png")]) == 1
        error = capsys.readouterr().err
        assert f"Expected a prepared folder at {place}, got" in error
        assert "Give the folder that `python -m mtl.data.prepare` named" in error
        assert "Remove" not in error
