"""Hostile input through the command line: each names the file, --skip-bad goes on and lists it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main
from tests.data.readers.folder_formats import HEIGHT, WIDTH, save, write_source
from tests.data.readers.nyuv2_formats import Frames, room, write_mtan, write_official
from tests.data.readers.taskonomy_formats import VIEWS, path_of
from tests.data.readers.taskonomy_formats import write_source as taskonomy_source


def prepare(name: str, source: Path, root: Path, *argv: str) -> int:
    common = ["--source", str(source), "--size", "24x24", "--workers", "1"]
    return main([name, *common, "--data-root", str(root), *argv])


def refused(status: int, error: str, *words: object) -> None:
    """The command ended with status 1 and one sentence that has the words and a remedy."""
    assert status == 1
    (line,) = [line for line in error.splitlines() if line.startswith("prepare: ")]
    assert "xpected " in line
    assert ", got" in line
    assert "Traceback" not in error
    for word in words:
        assert str(word) in line, line


@dataclass(frozen=True)
class Case:
    """One of three training samples of a folder, spoiled."""

    kind: str
    spoil: Callable[[Path], object]
    says: str


def grey(value: int, mode: str = "L", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Callable:
    return lambda path: Image.new(mode, size, value).save(path)


def array(values: np.ndarray) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        save(path.with_suffix(".npy"), values)

    return spoil


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


FOLDER_CASES = {
    "empty image": Case("image", lambda p: p.write_bytes(b""), "an empty file"),
    "truncated image": Case("image", lambda p: p.write_bytes(p.read_bytes()[:200]), "damaged"),
    "web page": Case("image", lambda p: p.write_bytes(b"<html>404</html>"), "begins with"),
    "16-bit image": Case("image", grey(7, "I;16"), "a 16-bit PNG"),
    "8-bit depth": Case("depth", grey(7), "8 bits"),
    "wrong size": Case("edge2d", grey(7, "I;16", (WIDTH, 5)), "18 x 24 pixels, as the image has,"),
    "no depth": Case("depth", grey(0, "I;16"), "some valid depth"),
    "NaN depth": Case("depth", array(np.full((HEIGHT, WIDTH), np.nan)), "finite numbers"),
    "negative depth": Case("depth", array(np.full((HEIGHT, WIDTH), -2.0)), "depths above 0 m"),
    "no class": Case("label", grey(13), "labels from 0 to 12"),
    "colours as labels": Case("label", lambda p: Image.new("RGB", (24, 18)).save(p), "colours"),
    "JPEG as labels": Case("label", lambda p: Image.new("L", (24, 18)).save(p, "JPEG"), "a JPEG"),
    "no such target": Case("normal", lambda p: p.unlink(), "got no file named Bild 1 é"),
    "link to itself": Case("edge3d", link_to_itself, "symbolic links"),
}


@pytest.mark.parametrize("case", FOLDER_CASES.values(), ids=FOLDER_CASES.keys())
def test_a_bad_file_of_a_folder(case: Case, tmp_path: Path, capsys) -> None:
    # The folder has spaces and letters beyond ASCII in its name and those of its files.
    source, root = write_source(tmp_path), tmp_path / "prepared hier ü"
    path = source / "train" / case.kind / "Bild 1 é.png"
    case.spoil(path)
    named = source / "train" / case.kind
    refused(prepare("folder", source, root), capsys.readouterr().err, named, case.says, "skip-bad")
    assert list(root.glob("*/manifest.json")) == []
    assert prepare("folder", source, root, "--skip-bad") == 0
    assert "1 samples were left out" in capsys.readouterr().out
    (manifest,) = [read_manifest(path.parent) for path in root.glob("*/manifest.json")]
    assert manifest["counts"] == {"train": 2, "validation": 1, "test": 1}
    ((name, reason),) = manifest["skipped"]["train"].items()
    assert name == "train/Bild 1 é"
    assert manifest["ids"]["train"] == ["train/Bild 0 é", "train/Bild 2 é"]
    assert str(named) in reason
    assert case.says in reason


def test_missing_files_of_some_samples_are_told_before_any_is_read(tmp_path, capsys) -> None:
    source, root = write_source(tmp_path), tmp_path / "data"
    (source / "train" / "depth" / "Bild 0 é.png").unlink()
    (source / "train" / "label" / "Bild 0 é.png").unlink()
    (source / "train" / "label" / "Bild 2 é.png").unlink()
    words = "Files are missing of train/Bild 0 é, train/Bild 2 é; --skip-bad goes on"
    refused(prepare("folder", source, root), capsys.readouterr().err, "the depth of", words)
    assert not root.exists()
    # A split without the gap has none.
    assert prepare("folder", source, root, "--split", "test") == 0
    assert prepare("folder", source, root, "--skip-bad") == 0
    manifests = [read_manifest(path.parent) for path in root.glob("*/manifest.json")]
    assert sorted(m["counts"].get("train", 0) for m in manifests) == [0, 1]
    refused(prepare("folder", source, root), capsys.readouterr().err, "Files are missing")
    # Mended, the same command without --skip-bad is refused until the folder is removed.
    shutil.copytree(write_source(tmp_path / "again"), source, dirs_exist_ok=True)
    refused(prepare("folder", source, root), capsys.readouterr().err, "without 2 samples")


NYU_CASES: dict[str, tuple[Callable[[Frames], Frames], str]] = {
    "NaN depth": (lambda f: f.changed("depths", 0, np.nan, (200, 300)), "1 pixels of NaN"),
    "negative depth": (lambda f: f.changed("depths", 0, -1, (200, 300)), "got -1 m"),
    "millimetres": (lambda f: f.changed("depths", 0, 3615, (200, 300)), "millimetres"),
    "no depth at all": (lambda f: f.changed("depths", 0, 0), "some valid depth in sample 0001"),
    "label 895": (lambda f: f.changed("labels", 0, 895, (5, 6)), "labels 0..894, got 895"),
}


@pytest.mark.parametrize(("change", "says"), NYU_CASES.values(), ids=NYU_CASES.keys())
def test_a_bad_sample_of_the_official_file(change, says, tmp_path, capsys) -> None:
    source = write_official(tmp_path, change(room(4)), (1, 2, 3), (4,))
    argv = ("--tasks", "depth", "segmentation", "--option", "normals=none", "validation_share=0.4")
    root = tmp_path / "data"
    refused(prepare("nyuv2", source, root, *argv), capsys.readouterr().err, source, says, "0001")
    assert prepare("nyuv2", source, root, *argv, "--skip-bad") == 0
    (path,) = root.glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    ((split, reasons),) = manifest["skipped"].items()
    ((name, reason),) = reasons.items()
    assert name == "0001"
    assert name not in manifest["ids"][split]
    assert says in reason


def test_a_missing_modality_of_the_mtan_copy(tmp_path, capsys) -> None:
    for number in range(4):
        write_mtan(tmp_path / "mtan", "train", number)
    write_mtan(tmp_path / "mtan", "val", 0)
    path = tmp_path / "mtan" / "train" / "normal" / "1.npy"
    path.unlink()
    argv = ("nyuv2_mtan", tmp_path / "mtan", tmp_path / "data", "--tasks", "normal")
    refused(prepare(*argv), capsys.readouterr().err, path, "got no file")
    assert prepare(*argv, "--skip-bad") == 0
    (manifest,) = (tmp_path / "data").glob("*/manifest.json")
    assert str(path) in json.dumps(json.loads(manifest.read_text())["skipped"])


def test_a_bad_file_and_a_missing_modality_of_taskonomy(tmp_path, capsys) -> None:
    source, root = taskonomy_source(tmp_path), tmp_path / "data"
    bad = path_of(source, VIEWS[0], "depth_zbuffer")
    bad.write_bytes(bad.read_bytes()[:60])
    # Views of the sample are those with files of all tasks: this one is no sample at all.
    path_of(source, VIEWS[1], "normal").unlink()
    argv = ("taskonomy", source, root, "--option", "stride=1")
    refused(prepare(*argv), capsys.readouterr().err, bad, "damaged")
    assert prepare(*argv, "--skip-bad") == 0
    (path,) = root.glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["counts"]["train"] == 1
    assert str(bad) in manifest["skipped"]["train"]["hanson/point_0_view_0"]
    assert "1 of 5 views are left out: 1 lack normal." in manifest["notes"]


def test_lists_of_buildings_by_carriage_returns_alone(tmp_path, capsys) -> None:
    source = taskonomy_source(tmp_path)
    splits = tmp_path / "splits.csv"
    splits.write_bytes(b"id,train,val,test\rhanson,1,0,0\rmerom,0,1,0\rihlen,0,0,1\r")
    argv = ("--option", "stride=1", f"splits={splits}")
    assert prepare("taskonomy", source, tmp_path / "data", *argv) == 0
    assert "2 train, 1 validation, 1 test" in capsys.readouterr().out
    splits.write_bytes(b"id,train,val,test\rhanson,1,0,0\rmerom,yes,1,0\r")
    status = prepare("taskonomy", source, tmp_path / "data", *argv)
    refused(status, capsys.readouterr().err, splits, "line 3")


def test_a_mat_that_is_not_hdf5(tmp_path, capsys) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(200))
    status = prepare("nyuv2", path, tmp_path / "data")
    refused(status, capsys.readouterr().err, path, "that is HDF5, got an old MATLAB 5 file")


def test_a_source_that_is_a_circle_of_links(tmp_path, capsys) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for name in ("folder", "nyuv2", "nyuv2_mtan", "taskonomy"):
        refused(prepare(name, loop, tmp_path / "data"), capsys.readouterr().err, loop)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: _cut(folder / "test" / "depth.npy", 1), "depth.npy of"),
        (lambda folder: (folder / "train" / "image.npy").unlink(), "got no file"),
        (lambda folder: _flip(folder / "test" / "depth.npy"), "as it was written, got other bytes"),
        (lambda folder: _cut(folder / "manifest.json", 9), "Expected prepared data in"),
        (lambda folder: (folder / "manifest.json").unlink(), "one without a manifest"),
        (lambda folder: (folder / "manifest.json").write_text('{"schema": 99}'), "of schema 1"),
        (lambda folder: _edit(folder, skipped=None), "without skipped"),
        (lambda folder: _edit(folder, counts=None), "without counts"),
        (lambda folder: _edit(folder, arrays=[]), "another kind of value for arrays"),
        (lambda folder: _edit(folder, arrays={"train/image.npy": 3}), "of value for arrays"),
        (lambda folder: _edit(folder, info={}), "another kind of value for info"),
        (lambda folder: _edit(folder, tasks="depth"), "another kind of value for tasks"),
        (lambda folder: _edit(folder, skipped={"train": [1]}), "kind of value for skipped"),
    ],
    ids=[
        "cut",
        "gone",
        "flipped",
        "manifest cut",
        "manifest gone",
        "another schema",
        "no skipped",
        "no counts",
        "list of arrays",
        "odd array",
        "no info",
        "odd tasks",
        "odd skipped",
    ],
)
def test_a_prepared_folder_that_is_half_there(spoil, says, tmp_path, capsys) -> None:
    source, root = write_source(tmp_path), tmp_path / "data"
    argv = ("folder", source, root, "--tasks", "depth")
    assert prepare(*argv) == 0
    (path,) = root.glob("*/manifest.json")
    spoil(path.parent)
    capsys.readouterr()
    refused(prepare(*argv), capsys.readouterr().err, path.parent, says, "Remove")
    shutil.rmtree(path.parent)
    assert prepare(*argv) == 0


def _edit(folder: Path, **changes: object) -> None:
    """Change keys of the manifest; None removes one."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


def _cut(path: Path, number: int) -> None:
    path.write_bytes(path.read_bytes()[:-number])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_spoiling_is_what_these_tests_see(tmp_path: Path, capsys) -> None:
    # The same commands succeed where nothing is spoiled.
    assert prepare("folder", write_source(tmp_path), tmp_path / "a") == 0
    source = write_official(tmp_path, room(4), (1, 2, 3), (4,))
    argv = ("--tasks", "depth", "--option", "normals=none", "validation_share=0.4")
    assert prepare("nyuv2", source, tmp_path / "b", *argv) == 0
    assert "skipped" not in capsys.readouterr().out
