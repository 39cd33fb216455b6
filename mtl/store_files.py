"""A store's files by their keys: opened, read, written under a lease, locked; no torch."""

import contextlib
import copy
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from mtl.lease import Lease, check_lease
from mtl.storage import LocalStorage, Storage, StoreError, parse_json

STORE_SCHEMA = 1
"""Version of the layout of a store."""
MOST_MARKER_BYTES = 100_000
"""Of store.json, whoever wrote it."""
READS_SIDE_BY_SIDE = 16
"""Of small objects, where each takes a round trip."""

Answer = TypeVar("Answer")


def is_address(root: str | Path) -> bool:
    """Return whether `root` is an address of object storage and not a path."""
    return "://" in str(root) and not str(root).startswith("file://")


def json_bytes(value: Any) -> bytes:
    """Return `value` as strict JSON; raise a `ValueError` for NaN and infinity."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def storage_at(root: str | Path) -> Storage:
    """Return the files at a path or address."""
    if is_address(root):
        # Only here: pyarrow takes a while to import, and a folder does not need it.
        from mtl.object_storage import ObjectStorage

        return ObjectStorage(str(root))
    text = str(root)
    path = Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(root)
    return LocalStorage(path.expanduser().absolute())


def _no_link(path: str, flags: int) -> int:
    """Open a lock, never what a link in a stranger's store points to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


class StoreFiles:
    """The files of a store by their keys, in a folder or on object storage.

    Args:
        root: a folder, `file://` and its path, or an address such as `s3://bucket/prefix`.
        create: make it (and check that it can be written) instead of only reading it.
        lease: of the sweep's driver; everything that is written is refused once it is stale.

    Raises:
        StoreError: if `root` is a file, not writable, absent while `create` is False, of another
            schema, or an address that cannot be understood.
        StoreUnreachableError: if object storage refuses or does not answer.
    """

    def __init__(
        self, root: str | Path, *, create: bool = True, lease: Lease | None = None
    ) -> None:
        """Open the store at `root`."""
        self.lease = lease
        self._files = storage_at(root)
        self.address = str(root) if is_address(root) else self.place("")
        """What opens it again; it may hold credentials, so it is never shown: see `place`."""
        try:
            self._open(create)
        except OSError as error:
            raise StoreError(
                f"Expected a folder that can be written, got {self.place('')} "
                f"({error.strerror}). Give another one with --store."
            ) from error

    def _open(self, create: bool) -> None:
        place = self.place("")
        local = self._files if isinstance(self._files, LocalStorage) else None
        if local and local.root.exists() and not local.root.is_dir():
            raise StoreError(
                f"Expected a folder for the store, got the file {place}. "
                "Give another one with --store."
            )
        is_store = self._files.exists("store.json")
        if is_store:
            try:
                marker = self._files.read("store.json", MOST_MARKER_BYTES)
                held = parse_json(marker, self.place("store.json"))
            except StoreError as error:
                raise StoreError(
                    f"Expected JSON in {self.place('store.json')}, got a damaged file. If this "
                    f'release wrote the store, write {{"schema": {STORE_SCHEMA}}} into it.'
                ) from error
            schema = held.get("schema") if isinstance(held, dict) else None
            if schema != STORE_SCHEMA:
                raise StoreError(
                    f"Expected a store of schema {STORE_SCHEMA}, got schema {schema!r} in "
                    f"{place}. Use the release that wrote it, or another --store."
                )
        elif not create:
            raise StoreError(
                f"Expected a run store, got {place}, which holds no store.json. "
                "Give the folder that a sweep wrote."
            )
        elif self._files.names(""):
            raise StoreError(
                f"Expected a run store or an empty folder, got {place}, which holds other "
                "things. Give another one with --store."
            )
        if create:
            if local:
                for key in ("", "runs", "sweeps"):
                    local.path(key).mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=local.root):
                    """Proves that the folder can be written before anything is trained."""
            if not is_store:
                self.write_json("store.json", {"schema": STORE_SCHEMA})

    @classmethod
    def if_there(cls, address: str) -> Self | None:
        """Return the store on object storage for reading, or None if the prefix is empty.

        Raises:
            StoreError: for what is no store, or cannot be reached.
        """
        files = storage_at(address)
        return cls(address, create=False) if files.names("") else None

    def under(self, lease: Lease) -> Self:
        """Return the same store, written under `lease`."""
        held = copy.copy(self)
        held.lease = lease
        return held

    @property
    def storage(self) -> Storage:
        """Return where the files lie."""
        return self._files

    @property
    def is_local(self) -> bool:
        """Return whether it is a folder."""
        return isinstance(self._files, LocalStorage)

    def place(self, key: str) -> str:
        """Return where a file lies, for people: a path, or an address without credentials."""
        return self._files.place(key)

    def read(self, key: str) -> bytes:
        """Return a file's content; raise `FileNotFoundError` if it is absent."""
        return self._files.read(key)

    def read_json(self, key: str) -> Any:
        """Return a JSON file's content; raise a `StoreError` if it does not parse."""
        return parse_json(self.read(key), self.place(key))

    def names(self, key: str) -> list[str]:
        """Return the names directly below `key`, sorted; empty if there is nothing."""
        return self._files.names(key)

    def check_lease(self) -> None:
        """Raise a `StaleLeaseError` if another driver has taken the sweep."""
        if self.lease is not None:
            check_lease(self._files, self.lease)

    def write(self, key: str, data: bytes) -> None:
        """Write a file; as all that follows, refused under a stale lease."""
        self.check_lease()
        self._files.write(key, data)

    def write_json(self, key: str, value: Any) -> None:
        """Write `value` as strict JSON (NaN and infinity are refused)."""
        self.write(key, json_bytes(value))

    def append_line(self, key: str, value: Any) -> None:
        """Add a line of strict JSON to a log that this process alone writes."""
        self.check_lease()
        self._files.append_log(key, (json.dumps(value, allow_nan=False) + "\n").encode())

    def read_log(self, key: str) -> bytes:
        """Return the lines of a log; raise `FileNotFoundError` if it is absent."""
        return self._files.read_log(key)

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write a log of these lines, replacing an earlier one."""
        self.check_lease()
        self._files.write_log(key, lines)

    def remove(self, key: str) -> None:
        """Remove a file, or all below `key`; what is absent stays so."""
        self.check_lease()
        self._files.remove(key)

    def read_large(self, key: str) -> bytes:
        """Return what `write_large` wrote; raise `FileNotFoundError` if it is absent."""
        return self._files.read_large(key)

    def write_large(self, key: str, data: bytes) -> None:
        """Write a file that takes a while and replaces an earlier one, such as a checkpoint."""
        self.check_lease()
        self._files.write_large(key, data, self.check_lease)

    def remove_large(self, key: str) -> None:
        """Remove what `write_large` wrote; what is absent stays so."""
        self.check_lease()
        self._files.remove_large(key)

    def for_each(self, function: Callable[[str], Answer], run_ids: Sequence[str]) -> list[Answer]:
        """Return what `function` says of each run; on object storage many are asked at a time."""
        if self.is_local:
            return [function(run_id) for run_id in run_ids]
        with ThreadPoolExecutor(READS_SIDE_BY_SIDE) as pool:
            return list(pool.map(function, run_ids))

    @property
    def root(self) -> Path:
        """Return the folder of a store that is one; raise a `StoreError` for another."""
        return self._local_path("")

    def _local_path(self, key: str) -> Path:
        if isinstance(self._files, LocalStorage):
            return self._files.path(key)
        raise StoreError(
            f"Expected a store in a folder, got {self.place('')}. Copy it to a folder first."
        )

    @contextlib.contextmanager
    def locked_file(self, key: str) -> Iterator[IO[str] | None]:
        """Hold the lock of a run or sweep, which goes with this process, however that one ends.

        Yields:
            The lock's file, which names this process, or None if another process holds it; then
            `lock_holder` says which.
        """
        with open(self._lock_path(key), "a+", opener=_no_link) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
                file.flush()
                yield file

    def lock_holder(self, key: str) -> str:
        """Return what the holder of a lock wrote into its file, "" for nothing."""
        return self._lock_path(key).read_text().strip()

    def _lock_path(self, key: str) -> Path:
        if isinstance(self._files, LocalStorage):
            folder = self._files.path(key)
            folder.mkdir(parents=True, exist_ok=True)
            return folder / ".lock"
        folder = Path(tempfile.gettempdir()) / f"mtl-locks-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        parts = urlsplit(self.address)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return folder / hashlib.sha256(f"{address}/{key}".encode()).hexdigest()[:32]
