"""`python -m mtl.data.prepare`, as its tests call it."""

from pathlib import Path
from typing import Any

import pytest

from mtl.data.manifest import read_manifest
from mtl.data.prepare.__main__ import main


def command(name: str, source: Path, root: Path, *argv: str) -> list[str]:
    common = ["--source", str(source), "--size", "24x24", "--workers", "1"]
    return [name, *common, "--data-root", str(root), *argv]


def only_folder(root: Path) -> Path:
    (path,) = root.glob("*/manifest.json")
    return path.parent


def prepared(name: str, source: Path, root: Path, *argv: str) -> dict[str, Any]:
    """Prepare a data set and return the manifest of the new folder, with its place."""
    before = set(root.glob("*/manifest.json"))
    assert main(command(name, source, root, *argv)) == 0
    (path,) = set(root.glob("*/manifest.json")) - before
    return {**read_manifest(path.parent), "folder": path.parent}


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], *words: object) -> None:
    """The command ends with status 1 and one sentence that has the words."""
    capsys.readouterr()
    assert main(argv) == 1
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("prepare: ")]
    assert "xpected " in line
    assert ", got" in line
    assert "Traceback" not in error
    for word in words:
        assert str(word) in line, line
