"""Reading a store that a stranger may have written: links are not followed, sizes are bounded.

Where a store may also lie on object storage, what is read is a `Place`.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

from rich.filesize import decimal

from mtl.errors import TooLargeError, UsageError, UserError
from mtl.store.local import LocalStorage
from mtl.store.store import RunBusyError, Store

if TYPE_CHECKING:
    from mtl.store.objects import ObjectStorage


@dataclass(frozen=True)
class ObjectPlace:
    """An object, or all whose keys go on after a slash."""

    storage: "ObjectStorage"
    key: str

    def __truediv__(self, name: str) -> Self:
        """Return the place below this one."""
        return type(self)(self.storage, f"{self.key}/{name}")

    def __str__(self) -> str:
        """Return the address, without credentials."""
        return self.storage.place(self.key)

    @property
    def name(self) -> str:
        """Return the last part of the key."""
        return self.key.rpartition("/")[2]


MOST_JSON_BYTES = 64_000_000
"""A thousand epochs of nine tasks take a fiftieth of this."""
MOST_DEPTH = 40
"""Objects and lists within each other."""
LOCK = ".lock"

Place = Path | ObjectPlace
"""A file, a folder, or what stands for them on object storage."""


T = TypeVar("T")


class UnreadableError(UserError):
    """What is wrong with a file, in a few words that follow its name."""


class AbsentError(UnreadableError):
    """There is no such file."""


def place_of(store: Store, *names: str) -> Place:
    """Return the place of what a store holds under a key, given in its parts."""
    key = "/".join(names)
    if isinstance(store.storage, LocalStorage):
        return store.storage.path(key)
    return ObjectPlace(store.storage, key)  # type: ignore[arg-type]  # the only other kind


def kind_of(path: Place) -> str:
    """Return `file`, `folder`, `link`, `absent` or, for sockets and the like, `device`."""
    if isinstance(path, ObjectPlace):
        return path.storage.kind(path.key)
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "device")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, whatever else may bear its name.

    Raises:
        UnreadableError: if it is absent, a link, a folder or a device, or cannot be opened.
    """
    kind = kind_of(path)
    if kind != "file":
        if kind == "absent":
            raise AbsentError("is absent")
        raise UnreadableError(f"is a {kind}, not a file")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        reason = "is a link" if error.errno == errno.ELOOP else str(error.strerror)
        raise UnreadableError(f"cannot be read ({reason})") from error
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Place, most: int = MOST_JSON_BYTES) -> bytes:
    """Return what a regular file of at most `most` bytes holds.

    Raises:
        AbsentError: if there is none.
        UnreadableError: if it is no such file.
    """
    if isinstance(path, ObjectPlace):
        return _fetched(lambda: path.storage.read(path.key, most))
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnreadableError(_too_large(size))
        try:
            return file.read(most)
        except OSError as error:
            raise UnreadableError(f"cannot be read ({error.strerror})") from error


def _fetched(fetch: Callable[[], T]) -> T:
    """Return what object storage gives; its refusals and silence are no fault of the file."""
    try:
        return fetch()
    except FileNotFoundError as error:
        raise AbsentError("is absent") from error
    except TooLargeError as error:
        raise UnreadableError(_too_large(error.num_bytes)) from error


def _too_large(num_bytes: int) -> str:
    return f"has {decimal(num_bytes)}, more than such a file can have"


def parse_json(data: bytes) -> Any:
    """Return strict JSON: without NaN, infinities or the depth that would exhaust the stack.

    Raises:
        UnreadableError: if it is not that.
    """
    try:
        held = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise UnreadableError("is nested too deeply") from error
    except ValueError as error:  # what cannot be decoded included
        raise UnreadableError(f"does not parse ({error})") from error
    level = [held]
    for _ in range(MOST_DEPTH):
        level = [child for value in level for child in _children(value)]
    if level:  # what walks through it later must not run out of stack
        raise UnreadableError("is nested too deeply")
    return held


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_constant(name: str) -> None:
    raise UsageError(f"{name} is no number")


def read_object(path: Place) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        AbsentError: if there is none.
        UnreadableError: if it is not that.
    """
    held = parse_json(read_bytes(path))
    if not isinstance(held, dict):
        raise UnreadableError(f"holds {type(held).__name__}, not an object")
    return held


def read_lines(path: Place) -> list[bytes]:
    """Return the lines of a log without those that are empty; a missing one has none.

    Raises:
        UnreadableError: if it is there but not a readable file.
    """
    try:
        if isinstance(path, ObjectPlace):
            return _lines(_fetched(lambda: path.storage.read_log(path.key, MOST_JSON_BYTES)))
        return _lines(read_bytes(path))
    except AbsentError:
        return []


def last_line(path: Place, num_known: int) -> tuple[int, bytes] | None:
    """Return how many lines a log has, and the last; None if fewer than `num_known` are found.

    On object storage one request is made: for the segment in which the next line would lie.

    Raises:
        UnreadableError: if it is there but not a readable file.
    """
    if isinstance(path, ObjectPlace):
        try:
            num_before, data = _fetched(
                lambda: path.storage.read_segment(path.key, num_known, MOST_JSON_BYTES)
            )
        except AbsentError:
            return None
        lines = _lines(data)
    else:
        num_before, lines = 0, read_lines(path)
    count = num_before + len(lines)
    return (count, lines[-1]) if lines and count >= num_known else None


def _lines(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line.strip()]


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number that fits a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def entries_of(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name; nothing in what is not a folder."""
    return sorted(folder.iterdir()) if kind_of(folder) == "folder" else []


def num_bytes(folder: Place) -> int:
    """Return the bytes of all regular files below `folder`."""
    if isinstance(folder, ObjectPlace):
        return sum(held.num_bytes for held in folder.storage.listed(folder.key))
    sizes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone since it was listed
                found = os.lstat(os.path.join(parent, name))
                sizes += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return sizes


def is_locked(folder: Place) -> bool:
    """Return whether a process trains the run, or runs the sweep, in `folder`.

    The lock is asked for, shared and for an instant: a training that starts in that instant is
    told that the run is busy, and tried again by its sweep. Object storage has no locks.
    """
    if isinstance(folder, ObjectPlace):
        return False
    try:
        with held_shared(folder):
            return False
    except RunBusyError:
        return True


@contextlib.contextmanager
def held_shared(folder: Path) -> Iterator[None]:
    """Keep trainings of the run in `folder` from starting; writes nothing.

    Raises:
        RunBusyError: if one is under way.
    """
    # Never trained, or what only pretends to be a run.
    if kind_of(folder) != "folder" or kind_of(folder / LOCK) != "file":
        yield
        return
    with opened(folder / LOCK) as file:
        _lock(file.fileno(), fcntl.LOCK_SH, folder)
        yield


@contextlib.contextmanager
def held_alone(folder: Path) -> Iterator[None]:
    """Hold the run in `folder` as `Store.run_lock` does, but follow no link.

    Raises:
        RunBusyError: if another process holds it.
    """
    if kind_of(folder / LOCK) not in ("file", "absent"):
        raise UnreadableError("has a .lock that is not a file; remove that first")
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        _lock(descriptor, fcntl.LOCK_EX, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunBusyError(f"Run {folder.name} is being trained by another process.") from error


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_whole(path: Path) -> None:
    """Remove a folder with all in it, or whatever else bears the name; links are not followed."""
    if kind_of(path) == "folder":
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
