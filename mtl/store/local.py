"""Where a store's files lie: what every place can do, and how a local folder does it; no torch.

Keys are relative paths with slashes, such as `runs/<run_id>/spec.json`. Whatever the place, a
reader sees a file whole or not at all. A store may be untrusted: links in it are not followed, and
no more is read than a reader allows.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mtl.errors import StoreError, UsageError

Kind = Literal["file", "folder", "link", "device", "absent"]
"""`device` stands for sockets, pipes and the like."""


@dataclass(frozen=True)
class StoredFile:
    """What a listing tells of a file."""

    name: str
    """Its key below the one that was listed."""
    num_bytes: int
    written: float
    """Seconds since 1970, by the clock of the disk or the provider."""


@dataclass(frozen=True)
class Page:
    """A part of a listing."""

    files: list[StoredFile]
    is_last: bool


class Guard(Protocol):
    """Writes on conditions, by which one of several processes is first."""

    def read_tagged(self, key: str, max_bytes: int | None = None) -> tuple[bytes, str]:
        """Return a file's content, and the tag that tells it from what replaces it."""

    def write_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write a file that still bears `tag`, with None one that is absent.

        Returns:
            Its new tag; None if another was first, or if an answer to this same write was lost:
            what is there tells which.
        """


class Storage(Protocol):
    """Files under keys.

    Reading raises `FileNotFoundError` for what is absent, and a `StoreError` for what is no file or
    larger than `max_bytes`.
    """

    def place(self, key: str) -> str:
        """Return where a key lies, for people: without credentials."""

    def kind(self, key: str) -> Kind:
        """Return what bears a key."""

    def names(self, key: str) -> list[str]:
        """Return the names directly below `key`, sorted; empty if it is no folder."""

    def files(self, key: str) -> list[StoredFile]:
        """Return all files below `key`, however deep."""

    def pages(self, key: str, starting: str = "") -> Iterator[Page]:
        """Give `files` in parts, at least one, of those names that start with `starting`."""

    @property
    def guard(self) -> Guard | None:
        """Return what writes on conditions, None where nothing does."""

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a file's content."""

    def write(self, key: str, data: bytes) -> None:
        """Write a file, replacing an earlier one."""

    def remove(self, key: str) -> None:
        """Remove a file; what is absent stays so."""

    def remove_folder(self, key: str) -> None:
        """Remove all that lies below `key`; what is absent stays so."""

    def append_log(self, key: str, line: bytes) -> None:
        """Add a line, with its newline, to a log that this process alone writes.

        It may wait until something else of its run or sweep is written; `flush` writes it now.
        """

    def flush(self, key: str) -> None:
        """Write the lines that wait of the run or sweep that `key` lies in."""

    def forget(self, key: str) -> None:
        """Drop them."""

    # A log and a large file are files as any other, unless a place cannot rewrite them cheaply.

    def read_log(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return the lines of a log."""
        return self.read(key, max_bytes)

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write a log of these lines, each with its newline, replacing an earlier one."""
        self.write(key, b"".join(lines))

    def read_large(self, key: str) -> bytes:
        """Return a file that `write_large` wrote."""
        return self.read(key)

    def write_large(self, key: str, data: bytes, check: Callable[[], None]) -> None:
        """Write a file that takes a while; `check` is called just before it takes effect."""
        check()
        self.write(key, data)

    def remove_large(self, key: str) -> None:
        """Remove what `write_large` wrote; what is absent stays so."""
        self.remove(key)


class LocalStorage(Storage):
    """A folder on a local or shared POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, key: str) -> str:
        return str(self.path(key))

    def path(self, key: str) -> Path:
        return self.root / key if key else self.root

    def kind(self, key: str) -> Kind:
        """Return what bears a path; the store's own folder may be a link."""
        try:
            mode = os.stat(self.path(key), follow_symlinks=not key).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "absent"
        kinds: dict[int, Kind] = {
            stat.S_IFREG: "file",
            stat.S_IFDIR: "folder",
            stat.S_IFLNK: "link",
        }
        return kinds.get(stat.S_IFMT(mode), "device")

    def names(self, key: str) -> list[str]:
        return sorted(os.listdir(self.path(key))) if self.kind(key) == "folder" else []

    def files(self, key: str) -> list[StoredFile]:
        found: list[StoredFile] = []
        if self.kind(key) != "folder":  # a link is not followed
            return found
        for parent, _, names in os.walk(self.path(key)):
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):  # gone since it was listed
                    held = os.lstat(path)
                    if stat.S_ISREG(held.st_mode):
                        below = os.path.relpath(path, self.path(key))
                        found.append(StoredFile(below, held.st_size, held.st_mtime))
        return found

    def pages(self, key: str, starting: str = "") -> Iterator[Page]:
        files = [file for file in self.files(key) if file.name.startswith(starting)]
        yield Page(files, is_last=True)

    @property
    def guard(self) -> Guard | None:
        return None  # a lock of the operating system decides

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        path = self.path(key)
        descriptor = self._opened(path)
        try:
            held = os.fstat(descriptor)
            if not stat.S_ISREG(held.st_mode):
                raise StoreError(f"Expected a file at {path}, got a {self.kind(key)}. Remove it.")
            if max_bytes is not None and held.st_size > max_bytes:
                raise too_large(str(path), held.st_size, max_bytes)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)

    def _opened(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
                raise  # what may pass, or is simply absent
            what = "a link" if error.errno == errno.ELOOP else str(error.strerror)
            raise StoreError(f"Expected a file that can be read at {path}, got {what}.") from error

    def write(self, key: str, data: bytes) -> None:
        write_atomically(self._made(key), data)

    def _made(self, key: str) -> Path:
        """Return the path of a key below a folder that exists."""
        if not self.root.is_dir():  # a store that was removed meanwhile is not half made again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def remove_folder(self, key: str) -> None:
        if self.kind(key) == "folder":
            shutil.rmtree(self.path(key), ignore_errors=True)
        else:
            self.remove(key)  # a link, which is not followed

    def flush(self, key: str) -> None:
        pass  # each line is on disk

    def forget(self, key: str) -> None:
        pass

    def append_log(self, key: str, line: bytes) -> None:
        """Add a line and flush it to disk; one that a crash cut short is dropped first."""
        with open(self._made(key), "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it to disk and rename it into place."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def too_large(place: str, num_bytes: int, max_bytes: int) -> StoreError:
    """Return the error for a file that is larger than its reader allows."""
    return StoreError(
        f"Expected at most {max_bytes:,} bytes in {place}, got {num_bytes:,}. Remove the file."
    )


def json_bytes(value: Any) -> bytes:
    """Return `value` as strict JSON; raise a `ValueError` for NaN and infinity."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def parse_json(data: bytes, place: str) -> Any:
    """Return the content of a strict JSON file that was read from `place`.

    Raises:
        StoreError: if it does not parse, or holds NaN or an infinity.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"Expected JSON in {place}, got a damaged file ({error}). Remove the file."
        ) from error


def with_schema(held: Any, schema: int, what: str, place: str, remedy: str = "") -> dict[str, Any]:
    """Return `held`, the content of a JSON file at `place`, if it is a mapping of `schema`.

    Raises:
        StoreError: naming `what` was expected, if it is of another release, or damaged; for that
            one `remedy` says what to do, to remove it unless given.
    """
    found = held.get("schema") if isinstance(held, dict) else None
    if found == schema:
        return dict(held)
    if type(found) is int:
        got, remedy = f"schema {found}", "Use the release that wrote it"
    else:
        got, remedy = "a damaged file", remedy or "Remove the file"
    raise StoreError(f"Expected {what} of schema {schema} in {place}, got {got}. {remedy}.")


def _refuse_constant(name: str) -> None:
    raise UsageError(f"{name} is no number")
