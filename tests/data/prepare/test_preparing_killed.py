"""A preparation that is killed leaves no process, one on a full disk no folder that looks whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl.data.prepare.__main__ import main
from mtl.data.prepare.recipe import RawRecipe
from tests.data.readers.folder_formats import HEIGHT, WIDTH, write_source

PATIENCE_S = 60


def command(source: Path, root: Path, *argv: str) -> list[str]:
    return [
        "folder", "--source", str(source), "--size", f"{HEIGHT}x{WIDTH}", "--workers", "1",
        "--data-root", str(root), "--tasks", "depth", "edge2d", *argv,
    ]  # fmt: skip


def children(pid: int) -> dict[int, str]:
    """Return pid -> command line of the processes that `pid` has started and that live."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal():
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found[int(entry.name)] = (entry / "cmdline").read_text()
        except OSError:
            continue  # it ended just now
    return found


def until(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_workers_end_by_themselves_when_one_that_started_them_is_killed(tmp_path) -> None:
    # Thousands of scenes take minutes, and the chunks written show that the workers are at work.
    code = (
        "from mtl.data.prepared import prepare\n"
        "from mtl.spec.sections import DataSpec\n"
        "if __name__ == '__main__':\n"
        "    data = DataSpec(height=96, width=128, num_train=9000, num_validation=9, num_test=9)\n"
        f"    prepare(data, {str(tmp_path)!r}, num_workers=2)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    workers: dict[int, str] = {}
    try:
        until(
            lambda: any(tmp_path.glob("*.unfinished/chunks/*/*/note.json")),
            "a first chunk",
        )
        workers = {p: line for p, line in children(parent.pid).items() if "spawn_main" in line}
        assert len(workers) == 2
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: not any(alive(pid) for pid in workers), "the workers to end")
    finally:
        parent.kill()
        parent.wait()
        for pid in filter(alive, workers):
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


def ends_with_a_sentence(argv: list[str], disk: Path, capsys) -> None:
    capsys.readouterr()
    assert main(argv) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    (line,) = [line for line in lines if line.startswith("prepare: Expected")]
    assert "No space left on device. Give another folder with --data-root." in line
    assert "Traceback" not in "".join(lines)
    assert list(disk.glob("*/manifest.json")) == []


@pytest.mark.parametrize("left", [4096, 40960, 81920])
def test_disk_that_is_full_while_arrays_are_made(
    left, small_disk, tmp_path, capsys, monkeypatch
) -> None:
    # Filled by somebody else after the free space was looked at.
    argv = command(write_source(tmp_path), small_disk)
    ballast = fill(small_disk, left)
    with monkeypatch.context() as patch:
        patch.setattr("mtl.data.prepared._check_space", lambda *_: None)
        ends_with_a_sentence([*argv, "--size", "48x64"], small_disk, capsys)
    ballast.unlink()
    assert main([*argv, "--size", "48x64"]) == 0


def test_disk_that_is_full_at_end_needs_no_sample_again(
    small_disk, tmp_path, capsys, monkeypatch
) -> None:
    argv = command(write_source(tmp_path), small_disk)
    ballast: list[Path] = []
    from mtl.data import writing

    original = writing.statistics_of

    def statistics(*given):
        ballast.append(fill(small_disk, 0))
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "statistics_of", statistics)
        ends_with_a_sentence(argv, small_disk, capsys)
    ballast[0].unlink()
    monkeypatch.setattr(RawRecipe, "sample", lambda *_: pytest.fail("read again"))
    assert main(argv) == 0
