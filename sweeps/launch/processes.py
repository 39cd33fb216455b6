"""Ray's throw-away folder: held while it is used, and removed by a later start after a kill."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private import services, utils

SCRATCH_PREFIX = "mtl-sweep-"
SCRATCH_LOCK = ".lock"
"""File in the throw-away folder, held by the process that uses it."""
RAY = "ray"
"""What Ray gets within the throw-away folder; it opens that to all users of the machine."""
LONGEST_PARENT_BYTES = 12
"""A socket's path may have 107 bytes: PARENT/mtl-sweep-PID-8 bytes/ray/session_TIME_PID/
sockets/plasma_store has 95 beside the parent, where process ids have seven digits."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a throw-away folder of this user alone.

    Those that killed processes have left are removed before, and again afterwards: for some seconds
    after a kill Ray's agents live on, and make what they write to anew.
    """
    parent = tempfile.gettempdir()
    parent = parent if len(os.fsencode(parent)) <= LONGEST_PARENT_BYTES else "/tmp"
    remove_abandoned(Path(parent))
    begun = Path(tempfile.mkdtemp(prefix=f".{SCRATCH_PREFIX}{os.getpid()}-", dir=parent))
    scratch = begun.with_name(begun.name.removeprefix("."))
    try:
        with held(begun):
            begun.rename(scratch)  # it never has its name without being held
            yield scratch
    finally:
        shutil.rmtree(begun, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        remove_abandoned(Path(parent))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a throw-away folder; it goes with this process, however that one ends."""
    with open(folder / SCRATCH_LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove this user's throw-away folders whose processes were killed."""
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder whose lock is free, or that was made anew, without one, for a dead process.

    Raises:
        OSError: if it is held.
    """
    try:
        with open(folder / SCRATCH_LOCK, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:
        if not _lives(folder.name.removeprefix(SCRATCH_PREFIX).partition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(process_id: str) -> bool:
    """Return whether a process of this machine has that id; what is no id counts as one."""
    if not process_id.isdecimal():
        return True
    try:
        os.kill(int(process_id), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


class _OwnSession(services.ConsolePopen):
    """A process of Ray that leads a session of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, start_new_session=True)


@contextlib.contextmanager
def sessions_of_their_own() -> Iterator[None]:
    """Start the processes of Ray that start meanwhile in sessions of their own.

    Ray only shields them from SIGINT. A stop signal to the driver's process group, as `timeout` and
    batch systems send it, would end them under a driver that wants to stop in order. They still go
    with a driver that is killed: the kernel tells them of it by PR_SET_PDEATHSIG, whatever their
    session. Where it cannot, Ray ends the driver's process group instead, and they stay in it.
    """
    if not utils.detect_fate_sharing_support():
        yield
        return
    rays_own = services.ConsolePopen
    services.ConsolePopen = _OwnSession  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = rays_own  # type: ignore[misc]
