"""Undisturbed sweeps to compare with, computed once a session without Ray, and a small disk."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from sweeps import priority_grid
from tests.faults.tiny_sweep import Outcome, Sweeps, options, outcome
from tests.test_docs import own_modules

Undisturbed = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def _small_net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the network of the tiny sweeps where Python imports from, here and in their processes."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "small_net.py").write_text(own_modules()["small_net.py"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture
def sweeps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_root: str
) -> Sweeps:
    """Return what runs sweeps in this process."""
    return Sweeps(monkeypatch, capsys, data_root)


@pytest.fixture(scope="session")
def _references(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    return {}


@pytest.fixture
def undisturbed(
    _references: dict[tuple[str, ...], Path],
    tmp_path_factory: pytest.TempPathFactory,
    data_root: str,
    capsys: pytest.CaptureFixture[str],
) -> Undisturbed:
    """Return a function from a tiny sweep's options to its outcome if nothing disturbs it."""

    def of(*more: str) -> Outcome:
        if more not in _references:
            folder = tmp_path_factory.mktemp("undisturbed") / "store"
            capsys.readouterr()
            assert priority_grid.main(options(data_root, *more, "--plan", "--json")) == 0
            for run in json.loads(capsys.readouterr().out)["runs"]:
                runtime = Runtime(device="cpu", num_threads=1, data_root=data_root)
                fit(RunSpec.from_dict(run["spec"]), Store(folder), runtime)
            _references[more] = folder
        return outcome(_references[more])

    return of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 32 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"cannot mount a small disk: {error}")
    if done.returncode != 0:
        pytest.skip(f"may not mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
