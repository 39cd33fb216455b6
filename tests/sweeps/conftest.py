"""What tests of sweeps share."""

from pathlib import Path

import pytest

from sweeps import command


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let this machine have two CPUs, no GPU, and an empty cache of prepared data."""
    monkeypatch.setattr(command, "num_cpus", lambda: 2)
    monkeypatch.setattr(command, "num_gpus", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
