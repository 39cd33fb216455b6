"""A preparation asked for again: after changed files, beside another one, on a disk half full."""

import dataclasses
import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest

from mtl.data import prepared
from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main
from mtl.data.prepare.recipe import RawRecipe, changed, fingerprint, make_recipe
from mtl.data.readers.folder import open_folder
from mtl.data.readers.nyuv2 import Nyuv2Options, open_nyuv2
from mtl.data.readers.nyuv2_mtan import open_nyuv2_mtan
from mtl.data.readers.taskonomy import open_taskonomy
from mtl.data.sample import RawDataset
from tests.data.readers.folder_formats import FIRST, HEIGHT, WIDTH
from tests.data.readers.nyuv2_formats import (
    corner_normal_map,
    room,
    write_eigen,
    write_ladicky,
    write_official,
)
from tests.data.readers.taskonomy_formats import EVERY


@pytest.fixture
def source(folder_source: Path) -> Path:
    return folder_source


def command(source: Path, root: Path, *argv: str) -> list[str]:
    return [
        "folder", "--source", str(source), "--size", f"{HEIGHT}x{WIDTH}", "--workers", "1",
        "--data-root", str(root), "--tasks", "depth", "edge2d", *argv,
    ]  # fmt: skip


def only_folder(root: Path) -> Path:
    (folder,) = [path.parent for path in root.glob("*/manifest.json")]
    return folder


def recipe_of(source: Path) -> RawRecipe:
    return make_recipe(
        "folder", source, height=HEIGHT, width=WIDTH, options={}, tasks=("depth", "edge2d")
    )


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The command ends with one sentence and status 1."""
    capsys.readouterr()
    assert main(argv) == 1
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line and not line.startswith("preparing")]
    assert line.startswith("prepare: Expected "), error
    return line


def test_changed_source_files_are_told_with_their_folder(source, tmp_path, capsys) -> None:
    root, argv = tmp_path / "data", command(source, tmp_path / "data")
    assert main(argv) == 0
    folder = only_folder(root)
    noted = read_manifest(folder)["files"]
    assert noted["count"] == 15  # 5 images with their targets of the 2 wanted tasks
    assert len(noted["folders"]) == 9
    path = source / "val" / "depth" / "Bild 3 é.png"
    before = path.stat()
    shutil.copy(source / "train" / "depth" / "Bild 0 é.png", path)
    error = refused(argv, capsys)
    assert f"prepared in {folder}, got others in val/depth: size or time changed" in error
    assert f"Remove {folder} to start again, or restore the files." in error
    # A file that is gone is a change too, and what the description says is in the options.
    os.utime(source / "dataset.yaml")
    path.unlink()
    assert "val/depth" in refused(argv, capsys)
    shutil.copy(source / "train" / "depth" / "Bild 0 é.png", path)
    shutil.rmtree(folder)
    assert main(argv) == 0
    capsys.readouterr()
    assert main(argv) == 0
    assert "15 source files are as they were" in capsys.readouterr().out
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "val/depth" in refused(argv, capsys)


def test_interrupted_and_then_changed_starts_again(source, tmp_path, capsys, monkeypatch) -> None:
    original, reads = RawRecipe.sample, []

    def sample(self, split, index):
        reads.append((split, index))
        if split == "test" and reads.count(("test", 0)) == 1:
            raise KeyboardInterrupt
        return original(self, split, index)

    monkeypatch.setattr(RawRecipe, "sample", sample)
    argv = command(source, tmp_path / "data")
    assert main(argv) == 1
    assert "the same command continues" in capsys.readouterr().err
    shutil.copy(
        source / "train" / "depth" / "Bild 1 é.png", source / "train" / "depth" / "Bild 0 é.png"
    )
    reads[:] = [("test", 0)]
    assert main(argv) == 0
    assert "Starting again: files changed since the preparation" in capsys.readouterr().err
    assert len(reads) == 1 + 5
    assert main(command(source, tmp_path / "fresh")) == 0
    hashes = [read_manifest(only_folder(tmp_path / name)) for name in ("data", "fresh")]
    assert hashes[0]["folder_hash"] == hashes[1]["folder_hash"]


def files_of(data: RawDataset, sample_id: str) -> set[str]:
    return {path.name for path in data.files(sample_id)}


def test_every_reader_names_files_of_sample(source, taskonomy_source, mtan_source) -> None:
    folder = open_folder(source)
    assert len(list(folder.files(FIRST))) == 10
    taskonomy = open_taskonomy(taskonomy_source, EVERY)
    assert len(list(taskonomy.files("hanson/point_0_view_0"))) == 9
    mtan = open_nyuv2_mtan(mtan_source)
    assert {path.parent.name for path in mtan.files("val/0")} == {
        "image", "depth", "normal", "label",
    }  # fmt: skip
    for data in (folder, taskonomy, mtan):
        for ids in data.samples.values():
            assert all(path.is_file() for sample_id in ids for path in data.files(sample_id))


def test_official_file_is_its_own_list_and_normals_are_on_it(tmp_path: Path) -> None:
    write_official(tmp_path, room(2), (1,), (2,))
    normals = {index: corner_normal_map(0.1 * (index - 1)) for index in (1, 2)}
    options = Nyuv2Options(validation_share=0, signs="+++")
    mat = "nyu_depth_v2_labeled.mat"
    assert files_of(open_nyuv2(tmp_path, options), "0001") == {mat}
    for path, names in ((write_ladicky(tmp_path / "l", normals, train=(1,)), {"00001.png"}),):
        data = open_nyuv2(tmp_path, dataclasses.replace(options, normals=str(path)))
        assert files_of(data, "0001") == {mat, *names}
    eigen = write_eigen(tmp_path / "e", normals)
    data = open_nyuv2(tmp_path, dataclasses.replace(options, normals=str(eigen)))
    assert [path.parent.name for path in data.files("0001")][1:] == ["normals", "masks"]


def test_fingerprint_is_relative_and_says_where_files_changed(tmp_path: Path) -> None:
    for place in ("a/x", "a/y", "outside"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1").write_text(place)
        os.utime(tmp_path / place / "1", ns=(1, 1))
    paths = [tmp_path / place / "1" for place in ("a/x", "a/y", "outside", "a/x")]
    one = fingerprint(paths, tmp_path / "a")
    assert one["count"] == 3
    assert sorted(one["folders"]) == ["../outside", "x", "y"]
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "a")
    shutil.copytree(tmp_path / "outside", tmp_path / "b" / "outside")
    moved = [tmp_path / "b" / path.relative_to(tmp_path) for path in paths]
    assert fingerprint(reversed(moved), tmp_path / "b" / "a") == one
    assert changed(one, one) == ""
    os.utime(tmp_path / "a" / "y" / "1", ns=(1, 2))
    paths[0].write_text("more")
    os.utime(paths[0], ns=(1, 1))
    assert changed(one, fingerprint(paths, tmp_path / "a")) == "x, y"
    paths[2].unlink()
    assert changed(one, fingerprint(paths, tmp_path / "a")) == "../outside, x, y"


@pytest.mark.parametrize(
    ("name", "key"), [("folder", "fbe2fba813ef5f3b"), ("taskonomy", "8f19c82bd9603baf")]
)
def test_folders_of_earlier_versions_are_still_found(name, key, source, taskonomy_source) -> None:
    # Pinned at RECIPE_VERSION 3: only a raised version, or other files and options, may change it.
    given = {"height": HEIGHT, "width": WIDTH, "options": {}, "tasks": ("depth", "edge2d")}
    if name == "taskonomy":
        source = taskonomy_source
        given |= {"options": {"stride": 1}, "tasks": None}
    recipe = make_recipe(name, source, **given)
    assert dataclasses.replace(recipe, source="/somewhere").key() == key


def test_one_that_waits_for_another_says_so_once(source, tmp_path, capsys) -> None:
    root, argv = tmp_path / "data", command(source, tmp_path / "data")
    assert main(argv) == 0
    folder = only_folder(root)
    shutil.rmtree(folder)
    with open(folder.with_name(f"{folder.name}.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = threading.Timer(1, fcntl.flock, (lock, fcntl.LOCK_UN))
        release.start()
        capsys.readouterr()
        assert main(argv) == 0
        release.join()
    error = capsys.readouterr().err
    assert " ".join(error.split()).count("Another process prepares") == 1
    assert "Waiting for it." in " ".join(error.split())
    assert main(argv) == 0
    assert "Another process" not in capsys.readouterr().err


def test_continuing_needs_missing_space_alone(source, tmp_path, capsys, monkeypatch) -> None:
    argv = command(source, tmp_path / "data")
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("mtl.data.writing._join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(argv) == 1
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: usage._replace(free=0))
    (array,) = (tmp_path / "data").glob("*.unfinished/chunks/train/0/edge2d.npy")
    kept = array.read_bytes()
    array.write_bytes(b"")
    assert "GB of free disk" in refused(argv, capsys)
    array.write_bytes(kept)
    assert main(argv) == 0
