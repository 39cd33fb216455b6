"""From files to a training: prepared, verified, continued, shown, and found by `--dataset`."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mtl.data import show
from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main
from mtl.data.scenes.render import render_scene
from mtl.spec import Runtime
from mtl.spec.sections import TASKS
from mtl.store import Store
from sweeps.options import parse_command
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from sweeps.priority_grid import main as sweep
from tests.data.readers.nyuv2_formats import room, write_mtan, write_official
from tests.data.readers.taskonomy_formats import write_source as taskonomy_source

DESCRIPTION = {
    "name": "our rooms",
    "classes": ["floor", "wall", "bookcase", "ceiling", "furniture"],
    "depth_range_m": [0.5, 10.0],
    "licence": "made for this test",
    "tasks": {"depth": {"scale": 0.001, "invalid": [0]}, "segmentation": {"void": [255]}},
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Write 12 scenes as a user's folder: JPEG-free RGB, depth in millimetres, labels."""
    root = tmp_path / "my räume"
    for split, name, count in (
        ("train", "train", 8),
        ("validation", "val", 2),
        ("test", "test", 2),
    ):
        for task in ("image", "depth", "segmentation"):
            (root / name / task).mkdir(parents=True)
        for index in range(count):
            scene = render_scene("simple", seed=1, split=split, index=index, height=48, width=64)
            depth_mm = np.rint(scene.targets["depth"][..., 0] * 1000).astype(np.uint16)
            pictures = {
                "image": scene.image,
                "depth": np.where(scene.valid["depth"], depth_mm, 0).astype(np.uint16),
                "segmentation": np.where(
                    scene.valid["segmentation"], scene.targets["segmentation"], 255
                ).astype(np.uint8),
            }
            for task, values in pictures.items():
                Image.fromarray(values).save(root / name / task / f"{index:03d}.png")
    (root / "dataset.yaml").write_text(
        yaml.safe_dump({**DESCRIPTION, "splits": {"validation": "val"}}), "utf-8"
    )
    return root


def prepare(source: Path, root: Path, *argv: str) -> list[str]:
    return [
        "folder", "--source", str(source), "--size", "32x32", "--data-root", str(root),
        "--workers", "1", *argv,
    ]  # fmt: skip


def test_files_become_training(mine: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    assert main(prepare(mine, root)) == 0
    out = capsys.readouterr().out
    assert "8 train, 2 validation, 2 test; tasks depth, segmentation, edge2d, edge3d" in out
    assert "Derived, not measured: edge2d, edge3d, keypoint2d." in out  # no camera, so no normals
    assert "Licence: made for this test" in out
    (folder,) = [p for p in root.iterdir() if p.is_dir()]
    manifest = read_manifest(folder)
    assert json.loads(out.splitlines()[-3]) == {
        "folder": str(folder),
        "hash": manifest["folder_hash"],
    }
    assert manifest["counts"] == {"train": 8, "validation": 2, "test": 2}
    assert manifest["statistics"]["depth"]["share_valid"] > 0.9
    # Asked for again: verified, and nothing written.
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert main(prepare(mine, root)) == 0
    assert "every byte of the arrays verified" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    # Its picture.
    assert show.main([str(folder), "--out", str(tmp_path / "sheet.png"), "--count", "3"]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] > 3 * 32 * 7  # the least whole factor by which 32 becomes 200
    # A run knows it by its hash, and trains on it.
    argv = [
        "--dataset", "folder", "--data-root", str(root), "--epochs", "1", "--methods", "lsb",
        "--divisions", "2", "--seeds", "1", "--set", "network.encoder_stride=8", "batch_size=4",
    ]  # fmt: skip
    (spec,) = grid_specs(parse_command("priority_grid", "", argv, GRID).grid)
    assert spec.data.prepared == manifest["folder_hash"]
    assert (spec.data.height, spec.data.num_train) == (32, 8)
    from mtl.training import fit

    store = Store(tmp_path / "store")
    result = fit(spec, store, Runtime(device="cpu", data_root=str(root)))
    assert result.final_metrics["test"]["segmentation"]["miou"] is not None
    assert store.manifest(spec.run_id())["data"]["label"] == "our rooms"
    # Elsewhere, under another name: the same content is the same run.
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved / "folder-0000000000000000")
    again = [*argv[:3], str(moved), *argv[4:]]
    (same,) = grid_specs(parse_command("priority_grid", "", again, GRID).grid)
    assert same.run_id() == spec.run_id()


def test_edited_description_is_another_preparation(mine: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    assert main(prepare(mine, root, "--tasks", "depth")) == 0
    edited = {**DESCRIPTION, "splits": {"validation": "val"}, "depth_range_m": [0.1, 20.0]}
    (mine / "dataset.yaml").write_text(yaml.safe_dump(edited))
    assert main(prepare(mine, root, "--tasks", "depth")) == 0
    assert len([p for p in root.iterdir() if p.is_dir()]) == 2
    # The arrays are equal, but what the losses allow is not: one must be chosen.
    capsys.readouterr()
    argv = ["--plan", "--dataset", "folder", "--tasks", "depth", "--data-root", str(root)]
    assert sweep(argv) == 1
    assert "Expected one prepared version of folder, got 2" in capsys.readouterr().err


@pytest.mark.parametrize("with_hole", [(5,), (0, 1, 2, 3, 4, 5)])
def test_holes_in_some_samples_alone_are_marked_in_all(with_hole, tmp_path) -> None:
    # Sensor depth with a hole in some training frames, in none of the test's: every array has its
    # measured mask, true where nothing was filled, and tasks from depth inherit it.
    frames = room(8)
    raw = frames.depths.copy()
    for index in with_hole:
        raw[index, 200:260, 300:380] = 0
    frames = dataclasses.replace(frames, raw_depths=raw)
    (tmp_path / "nyu").mkdir()
    source = write_official(tmp_path / "nyu", frames, train=(1, 2, 3, 4, 5, 6), test=(7, 8))
    argv = ["nyuv2", "--source", str(source), "--size", "48x64", "--workers", "1"]
    argv += ["--data-root", str(tmp_path / "data"), "--option", "depth=raw"]
    assert main([*argv, "validation_share=0.2", "--tasks", "depth", "edge3d", "edge2d"]) == 0
    (folder,) = [p for p in (tmp_path / "data").iterdir() if p.is_dir()]
    filled = 0
    for split in ("train", "validation", "test"):
        for task in ("depth", "edge3d"):
            valid = np.load(folder / split / f"{task}_valid.npy")
            measured = np.load(folder / split / f"{task}_measured.npy")
            assert not (measured & ~valid).any()
            filled += int((valid & ~measured).any(axis=(1, 2)).sum())
            if split == "test":
                assert np.array_equal(measured, valid)
    assert filled == 2 * len(with_hole)


BAD = [
    (["cityscapes", "--source", ".", "--size", "8x8"], 2, "Unknown data set 'cityscapes'"),
    (["folder", "--source", ".", "--size", "8"], 2, "--size HEIGHTxWIDTH"),
    (["folder", "--source", ".", "--size", "0x8"], 2, "--size HEIGHTxWIDTH"),
    (["folder", "--source", ".", "--size", "8x8", "--option", "seed"], 2, "KEY=VALUE"),
    (["folder", "--source", ".", "--size", "8x8", "--option", "sed=1"], 2, "Unknown field"),
    (["folder", "--source", ".", "--size", "8x8", "--split", "val"], 2, "Unknown split 'val'"),
    (["folder", "--source", ".", "--size", "8x8", "--no-fill", "--exact-fill"], 2, "not allowed"),
    (["folder", "--source", "/nowhere", "--size", "8x8"], 1, "/nowhere"),
    (["nyuv2", "--source", "/nowhere", "--size", "8x8"], 1, "/nowhere"),
    (["nyuv2_mtan", "--source", "/nowhere", "--size", "8x8"], 1, "/nowhere"),
    (["taskonomy", "--source", "/nowhere", "--size", "8x8"], 1, "/nowhere"),
]


@pytest.mark.parametrize(("argv", "status", "says"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input_is_one_sentence(argv, status, says, tmp_path, capsys) -> None:
    assert main([*argv, "--data-root", str(tmp_path / "data")]) == status
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_task_that_cannot_follow_is_refused_with_those_that_can(mine, tmp_path, capsys) -> None:
    assert main(prepare(mine, tmp_path / "data", "--tasks", "normal")) == 1
    assert "(depth, segmentation, edge2d, edge3d, keypoint2d)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["--dataset", "nyuv2"], 1, "Run `python -m mtl.data.prepare nyuv2 --source PATH"),
        (["--dataset", "folder", "--tasks", "normal"], 2, "holds .*got 'normal'"),
        (["--dataset", "folder", "--set", "data.height=8"], 2, "whose prepared data decide"),
        (["--set", "data.name=scenes,folder"], 2, "one data set, got scenes, folder"),
        (["--dataset", "folder", "--set", "data.prepared=0123456789abcdef"], 1, "got none"),
    ],
)
def test_sweeps_say_what_is_missing(argv, status, says, mine, tmp_path, capsys) -> None:
    import re

    root = tmp_path / "data"
    assert main(prepare(mine, root, "--tasks", "depth", "segmentation")) == 0
    capsys.readouterr()
    assert sweep(["--plan", *argv, "--data-root", str(root)]) == status
    error = capsys.readouterr().err
    assert re.search(says, error), error
    assert len(error.strip().splitlines()) == 1


def test_two_prepared_sizes_must_be_told_apart(mine: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    tasks = ["--tasks", "depth", "segmentation"]
    assert main(prepare(mine, root, *tasks)) == 0
    assert main([*prepare(mine, root, *tasks), "--size", "24x32"]) == 0
    capsys.readouterr()
    assert sweep(["--plan", "--dataset", "folder", "--data-root", str(root)]) == 1
    error = capsys.readouterr().err
    assert "got 2: " in error
    assert "32x32" in error
    chosen = json.loads(next(iter(root.glob("*/manifest.json"))).read_text())["folder_hash"]
    argv = ["--plan", "--probe", "--dataset", "folder", "--data-root", str(root)]
    assert sweep([*argv, "--set", f"data.prepared={chosen}"]) == 0
    assert "M parameters" in capsys.readouterr().out


def prepared_and_shown(name: str, source: Path, root: Path, capsys) -> dict:
    """Prepare a data set at 32x48, draw its sheet and return its manifest."""
    argv = [name, "--source", str(source), "--size", "32x48", "--data-root", str(root)]
    assert main([*argv, "--workers", "2"]) == 0, capsys.readouterr().err
    (folder,) = [p for p in root.iterdir() if p.is_dir()]
    assert show.main([str(folder), "--out", str(root / "sheet.png"), "--split", "test"]) == 0
    return read_manifest(folder)


def test_mtan_copy_of_nyuv2_is_prepared_whole(tmp_path: Path, capsys) -> None:
    for split, count in (("train", 4), ("val", 1)):
        for number in range(count):
            write_mtan(tmp_path / "nyu", split, number)
    manifest = prepared_and_shown("nyuv2_mtan", tmp_path / "nyu", tmp_path / "data", capsys)
    assert manifest["counts"] == {"train": 3, "validation": 1, "test": 1}
    assert set(manifest["tasks"]) >= {"depth", "normal", "segmentation", "edge2d", "keypoint2d"}
    # A share of 13 / 14 of the labels is not void; mixed cells keep what their centre says.
    assert manifest["statistics"]["segmentation"]["share_valid"] == pytest.approx(13 / 14, abs=0.02)


def test_taskonomy_is_prepared_whole_with_its_raw_scales(tmp_path: Path, capsys) -> None:
    source = taskonomy_source(tmp_path / "taskonomy")
    argv = ["taskonomy", "--source", str(source), "--size", "32x32", "--workers", "1"]
    assert main([*argv, "--data-root", str(tmp_path / "data"), "--option", "stride=1"]) == 0
    (folder,) = [p for p in (tmp_path / "data").iterdir() if p.is_dir()]
    manifest = read_manifest(folder)
    assert manifest["ids"]["train"] == ["hanson/point_0_view_0", "hanson/point_10_view_1",
                                        "merom/point_2_view_0"]  # fmt: skip
    assert len(manifest["ids_hash"]) == 16
    assert set(manifest["tasks"]) == set(TASKS) - {"segmentation"}
    statistics = manifest["statistics"]
    # value / 65535 without any rescaling: decades apart, which is what the method balances.
    assert statistics["edge3d"]["mean"][0] < 0.02 < statistics["reshading"]["mean"][0]
    for task in manifest["tasks"]:
        assert 0 < statistics[task]["share_valid"] <= 1


def test_show_elsewhere_advises_to_remove_nothing(tmp_path: Path, capsys) -> None:
    for place in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        assert show.main([str(place), "--out", str(tmp_path / "sheet.png")]) == 1
        error = capsys.readouterr().err
        assert f"Expected a prepared folder at {place}, got" in error
        assert "Give the folder that `python -m mtl.data.prepare` named" in error
        assert "Remove" not in error
