"""Where a store's files lie: what every place can do, and how a local folder does it; no torch.

Keys are relative paths with slashes, such as `runs/<run_id>/spec.json`. Whatever the place, a
reader sees a file whole or not at all.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mtl.errors import StoreError, TooLargeError


class Storage(Protocol):
    """Files under keys. What is absent raises `FileNotFoundError` when it is read."""

    def place(self, key: str) -> str:
        """Return where a key lies, for people: without credentials."""

    def read(self, key: str, most_bytes: int | None = None) -> bytes:
        """Return a file's content; raise a `TooLargeError` for more than `most_bytes`."""

    def write(self, key: str, data: bytes) -> None:
        """Write a file, replacing an earlier one."""

    def exists(self, key: str) -> bool:
        """Return whether a file is there."""

    def names(self, key: str) -> list[str]:
        """Return the names directly below `key`, sorted; empty if there is nothing."""

    def remove(self, key: str) -> None:
        """Remove a file, or all that lies below `key`; what is absent stays so."""

    def read_log(self, key: str) -> bytes:
        """Return the lines of a log, as one file."""

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write a log of these lines, each with its newline, replacing an earlier one."""

    def append_log(self, key: str, line: bytes) -> None:
        """Add a line, with its newline, to a log that this process alone writes."""

    def read_large(self, key: str) -> bytes:
        """Return a file that `write_large` wrote."""

    def write_large(self, key: str, data: bytes, check: Callable[[], None]) -> None:
        """Write a file that takes a while; `check` is called just before it takes effect."""

    def remove_large(self, key: str) -> None:
        """Remove what `write_large` wrote; what is absent stays so."""


class LocalStorage:
    """A folder on a local or shared POSIX file system.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, key: str) -> str:
        """Return the path."""
        return str(self.path(key))

    def path(self, key: str) -> Path:
        """Return the path of a key."""
        return self.root / key if key else self.root

    def read(self, key: str, most_bytes: int | None = None) -> bytes:
        """Return a file's content."""
        path = self.path(key)
        if most_bytes is not None and (size := path.stat().st_size) > most_bytes:
            raise TooLargeError(self.place(key), size, most_bytes)
        return path.read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """Write a file beside its place, flush it to disk and rename it."""
        write_atomically(self._made(key), data)

    def _made(self, key: str) -> Path:
        """Return the path of a key below a folder that exists."""
        if not self.root.is_dir():  # a store that was removed meanwhile is not half made again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def exists(self, key: str) -> bool:
        """Return whether a file is there."""
        return self.path(key).is_file()

    def names(self, key: str) -> list[str]:
        """Return the names in a folder."""
        folder = self.path(key)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def remove(self, key: str) -> None:
        """Remove a file or a folder."""
        path = self.path(key)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def read_log(self, key: str) -> bytes:
        """Return the lines of a log."""
        return self.read(key)

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write a log as one file."""
        self.write(key, b"".join(lines))

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

    def read_large(self, key: str) -> bytes:
        """Return a file's content."""
        return self.read(key)

    def write_large(self, key: str, data: bytes, check: Callable[[], None]) -> None:
        """Write a file as any other."""
        check()
        self.write(key, data)

    def remove_large(self, key: str) -> None:
        """Remove a file."""
        self.remove(key)


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


def parse_json(data: bytes, place: str) -> Any:
    """Return the content of a JSON file that was read from `place`.

    Raises:
        StoreError: if it does not parse.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"Expected JSON in {place}, got a damaged file ({error}). Remove the file."
        ) from error
