"""Which code computes a run; no torch."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

CODE_VERSION_VARIABLE = "LOSS_SCALE_BALANCING_CODE_VERSION"
"""Environment variable that names the version of code sent to another machine without its git."""


def code_version() -> str:
    """Return the release, and the commit where the code lies in a git checkout."""
    if sent := os.environ.get(CODE_VERSION_VARIABLE):
        return sent
    import importlib.metadata  # only here: it takes as long to import as the rest of a store

    release = importlib.metadata.version("loss-scale-balancing")
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        return release  # an installed package, whatever checkout its environment lies in
    with suppress(OSError, subprocess.SubprocessError):
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return f"{release}+{described.stdout.strip()}"
    return release
