"""A preparation asked for again: changed files, a kill, a full disk, another process."""

import dataclasses
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl.data import prepared, writing
from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main
from mtl.data.prepare.recipe import RawRecipe, changed, fingerprint, make_recipe
from tests.data.prepare import commands
from tests.data.prepare.commands import only_folder, refused
from tests.data.readers.folder_formats import HEIGHT, WIDTH

PATIENCE_S = 60


def command(source: Path, root: Path) -> list[str]:
    return commands.command("folder", source, root, "--tasks", "depth", "edge2d")


@pytest.fixture
def depth(folder_source: Path) -> list[Path]:
    """Return the depth files of the five samples."""
    return [next(folder_source.glob(f"*/depth/Bild {index} é.png")) for index in range(5)]


def test_changed_source_files_are_named_by_folder(folder_source, depth, tmp_path, capsys) -> None:
    argv = command(folder_source, tmp_path / "data")
    assert main(argv) == 0
    folder = only_folder(tmp_path / "data")
    files = read_manifest(folder)["files"]
    assert files["count"] == 15  # 5 images with their targets of the 2 wanted tasks
    assert len(files["folders"]) == 9
    kept = depth[3].rename(tmp_path / "kept.png")
    shutil.copy(depth[0], depth[3])
    refused(
        argv, capsys,
        f"prepared in {folder}, got others in val/depth: size or time changed",
        f"Remove {folder} to start again, or restore the files.",
    )  # fmt: skip
    # A file that is gone is a change too.
    depth[3].unlink()
    refused(argv, capsys, "val/depth")
    kept.rename(depth[3])
    os.utime(folder_source / "dataset.yaml")  # what it says is in the options
    assert main(argv) == 0
    assert "15 source files are as they were" in capsys.readouterr().out


def test_fingerprint_is_relative_and_tells_changed_folders(tmp_path: Path) -> None:
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
def test_folders_of_earlier_versions_are_still_found(name: str, key: str, request) -> None:
    # Pinned at RECIPE_VERSION 3: only a raised version, or other files and options, may change it.
    source = request.getfixturevalue(f"{name}_source")
    given = {"height": HEIGHT, "width": WIDTH, "options": {}, "tasks": ("depth", "edge2d")}
    if name == "taskonomy":
        given |= {"options": {"stride": 1}, "tasks": None}
    recipe = make_recipe(name, source, **given)
    assert dataclasses.replace(recipe, source="/somewhere").key() == key


def test_waiting_for_another_process_is_reported_once(folder_source, tmp_path, capsys) -> None:
    argv = command(folder_source, tmp_path / "data")
    assert main(argv) == 0
    folder = only_folder(tmp_path / "data")
    shutil.rmtree(folder)
    with open(folder.with_name(f"{folder.name}.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = threading.Timer(0.5, fcntl.flock, (lock, fcntl.LOCK_UN))
        release.start()
        capsys.readouterr()
        assert main(argv) == 0
        release.join()
    error = " ".join(capsys.readouterr().err.split())
    assert error.count("Another process prepares") == 1
    assert "Waiting for it." in error


def test_continuing_needs_space_for_the_rest_alone(folder_source, tmp_path, capsys, monkeypatch):
    argv = command(folder_source, tmp_path / "data")
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(argv) == 1
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: usage._replace(free=0))
    (array,) = (tmp_path / "data").glob("*.unfinished/chunks/train/0/edge2d.npy")
    kept = array.read_bytes()
    array.write_bytes(b"")
    refused(argv, capsys, "GB of free disk")
    array.write_bytes(kept)
    assert main(argv) == 0


def process_states() -> dict[int, tuple[str, int]]:
    """Return pid -> state and parent of every process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended just now
        found[int(entry.name)] = (state, int(parent))
    return found


def until(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    # So many scenes take minutes, and the chunks written show that the workers are at work.
    script = tmp_path / "script.py"
    script.write_text(
        "from mtl.data.prepared import prepare\n"
        "from mtl.spec.sections import DataSpec\n"
        "if __name__ == '__main__':\n"
        "    data = DataSpec(height=24, width=32, num_train=30_000, num_validation=9, num_test=9)\n"
        f"    prepare(data, {str(tmp_path)!r}, num_workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    workers: set[int] = set()

    def alive() -> set[int]:
        states = process_states()
        return {pid for pid in workers if states.get(pid, ("Z", 0))[0] != "Z"}

    try:
        until(lambda: any(tmp_path.glob("*.unfinished/chunks/*/*/note.json")), "a first chunk")
        workers = {pid for pid, (_, above) in process_states().items() if above == parent.pid}
        assert len(workers) >= 2
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: not alive(), "the workers to end")
    finally:
        parent.kill()
        parent.wait()
        for pid in alive():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 2 MB, where that is permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    given = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if not given or given.returncode:
        pytest.skip(f"no disk may be mounted here: {given.stderr.strip() if given else 'no mount'}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Fill a disk but for some bytes, and return the file that does it."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left)
    return ballast


FULL = "No space left on device. Give another folder with --data-root."


@pytest.mark.parametrize("left", [4096, 40960, 81920])
def test_disk_full_while_arrays_are_made_leaves_no_folder(
    left, small_disk, folder_source, capsys, monkeypatch
) -> None:
    # Filled by somebody else after the free space was looked at.
    argv = [*command(folder_source, small_disk), "--size", "48x64"]
    ballast = fill(small_disk, left)
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_check_space", lambda *_: None)
        refused(argv, capsys, FULL)
    assert list(small_disk.glob("*/manifest.json")) == []
    ballast.unlink()
    assert main(argv) == 0


def test_disk_full_at_end_needs_no_sample_again(small_disk, folder_source, capsys, monkeypatch):
    argv = command(folder_source, small_disk)
    ballast: list[Path] = []
    original = writing.statistics_of

    def statistics(*given):
        ballast.append(fill(small_disk, 0))
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "statistics_of", statistics)
        refused(argv, capsys, FULL)
    assert list(small_disk.glob("*/manifest.json")) == []
    ballast[0].unlink()
    monkeypatch.setattr(RawRecipe, "sample", lambda *_: pytest.fail("read again"))
    assert main(argv) == 0
