"""Ray's throw-away folder: held while it is used, and removed by the next start after a kill."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCRATCH_PREFIX = "mtl-sweep-"
SCRATCH_LOCK = ".lock"
"""File in the throw-away folder, held by the process that uses it."""
LONGEST_SCRATCH_PATH = 40
"""Ray puts sockets below its folder, and their paths may have 107 characters."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a throw-away folder; those that killed processes have left are removed before."""
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= LONGEST_SCRATCH_PATH else "/tmp"
    remove_abandoned(Path(parent))
    with (
        tempfile.TemporaryDirectory(
            prefix=f"{SCRATCH_PREFIX}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
        ) as scratch,
        held(Path(scratch)),
    ):
        yield Path(scratch)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a throw-away folder; it goes with this process, however that one ends."""
    begun = folder / f"{SCRATCH_LOCK}.begun"
    with open(begun, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        begun.rename(folder / SCRATCH_LOCK)  # it never has its name without being held
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove this user's throw-away folders whose lock is free: their processes were killed."""
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / SCRATCH_LOCK, "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
