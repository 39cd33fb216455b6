"""The run store: a folder or a prefix on object storage; no torch.

    STORE/store.json                    schema of the store
    STORE/runs/<run_id>/spec.json       the full spec
                        epochs.jsonl    one line an epoch
                        manifest.json   code version, environment, data, hardware, seconds
                        result.json     written last: its presence means done
                        error.txt       the last failure, if any
                        checkpoint/     of a run that is trained; once done, the weights
                        samples/        predictions on a few validation images
    STORE/sweeps/<name>/                plan, events, lease and report of a sweep

A reader never sees half a file. In a folder every file is written beside its place and renamed,
and a run is trained by one process at a time: `Store.run_lock` is a lock of the operating system,
so it goes with the process that held it, however that one ended. On object storage it is a lease,
where the provider writes on conditions; docs/stores.md says what holds there.
"""

import contextlib
import copy
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from mtl.errors import StoreError, UsageError
from mtl.records import LATEST, EpochRecord, Result
from mtl.spec import Spec, read_spec
from mtl.store.address import is_address, local_folder
from mtl.store.lease import (
    HeldLease,
    Lease,
    Watch,
    check_lease,
    lock_id,
    run_busy,
)
from mtl.store.local import (
    Kind,
    LocalStorage,
    Page,
    Storage,
    StoredFile,
    json_bytes,
    parse_json,
    with_schema,
    write_atomically,
)

STORE_SCHEMA = 1
"""Version of the layout of a store."""
MANIFEST_SCHEMA = 1
"""Version of manifest.json."""
MAX_TEXT_BYTES = 64_000_000
"""Of a JSON file or a log: a thousand epochs of nine tasks take a fiftieth of this."""
CONCURRENT_READS = 16
"""Of small objects, where each takes a round trip."""
MIN_PAGES_AT_A_TIME = 4
"""Of a list of all runs; one of fewer pages is read one after the other."""

_RUN_ID = re.compile(r"[0-9a-f]{16}")
_SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Answer = TypeVar("Answer")


def storage_at(address: str | Path) -> Storage:
    """Return the files at a path or address.

    Raises:
        StoreError: for an address that cannot be understood.
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    folder = local_folder(address)
    if folder is not None:
        return LocalStorage(folder.absolute())
    # Only here: pyarrow takes a while to import, and a folder does not need it.
    from mtl.store.objects import ObjectStorage

    return ObjectStorage(str(address))


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as strict JSON (NaN and infinity are refused)."""
    write_atomically(path, json_bytes(value))


def check_sweep_name(name: str) -> str:
    """Return `name`; raise a `ValueError` unless it can be a folder of the store."""
    if not _SWEEP_NAME.fullmatch(name):
        raise UsageError(
            "Expected a sweep name of letters, digits, '.', '_' and '-' that starts with a "
            f"letter or digit, got {name!r}. Give another one with --name."
        )
    return name


class Store:
    """Runs and sweeps in a folder or on object storage.

    What is read may come from somebody untrusted: sizes are bounded, links are not followed, every
    value is checked. Reading raises a `StoreError` for what is damaged or of another release.

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
        self._held: HeldLease | None = None
        """What this process keeps, of a sweep or a run, and writes under."""
        self.storage: Storage = storage_at(root)
        self.address = str(root) if is_address(root) else self.place("")
        """What opens it again; it may hold credentials, so it is never shown: see `place`."""
        try:
            self._open(create)
        except OSError as error:
            raise StoreError(
                f"Expected a folder that can be {'written' if create else 'read'}, got "
                f"{self.place('')}: {error.strerror}."
            ) from error

    def _open(self, create: bool) -> None:
        place = self.place("")
        is_store = self._has_schema()
        if not is_store and self.storage.kind("") in ("file", "device"):
            raise StoreError(f"Expected the folder of a store, got the file {place}.")
        if not is_store and not create:
            raise StoreError(
                f"Expected a run store, got {place}, which holds no store.json. "
                f"Give {self._store_above() or 'the folder that a sweep wrote'}; a new sweep takes "
                "a new or an empty folder."
            )
        if not is_store and self.names(""):
            raise StoreError(
                f"Expected a run store or an empty folder, got {place}, which holds other "
                f"things. Give {self._store_above() or 'another folder'}."
            )
        if create and isinstance(self.storage, LocalStorage):
            for key in ("", "runs", "sweeps"):
                self.storage.path(key).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.storage.root):
                """Proves that the folder can be written before anything is trained."""
        if create and not is_store:
            self.write_json("store.json", {"schema": STORE_SCHEMA})

    def _store_above(self) -> str:
        """Return the store that a folder lies in, such as that of a sweep's folder, or ""."""
        above = self.root.parents if isinstance(self.storage, LocalStorage) else ()
        return next(
            (f"{p}, the store it lies in" for p in above if (p / "store.json").exists()), ""
        )

    def _has_schema(self) -> bool:
        """Return whether a store is here; raise a `StoreError` for one of another release."""
        try:
            held = self.read_json("store.json")
        except FileNotFoundError:
            return False
        except StoreError as error:
            raise StoreError(
                f"Expected JSON in {self.place('store.json')}, got a damaged file. If this "
                f'release wrote the store, write {{"schema": {STORE_SCHEMA}}} into it.'
            ) from error
        with_schema(held, STORE_SCHEMA, "a store", self.place(""))
        for key in ("runs", "sweeps"):
            if self.is_local and self.storage.kind(key) not in ("folder", "absent"):
                raise StoreError(
                    f"Expected a folder at {self.place(key)}, got a {self.storage.kind(key)}. "
                    "Links within a store are not followed: move the whole store and link that."
                )
        return True

    def under(self, held: HeldLease) -> Self:
        """Return the same store, written under a lease that this process keeps."""
        store = copy.copy(self)
        store._held, store.lease = held, self.lease or held.lease
        return store

    @property
    def is_local(self) -> bool:
        """Return whether it is a folder."""
        return isinstance(self.storage, LocalStorage)

    @property
    def root(self) -> Path:
        """Return the folder of a store that is one; raise a `StoreError` for another."""
        return self._local_path("")

    def _local_path(self, key: str) -> Path:
        if isinstance(self.storage, LocalStorage):
            return self.storage.path(key)
        raise StoreError(
            f"Expected a store in a folder, got {self.place('')}. Copy it to a folder first."
        )

    # Files.

    def place(self, key: str) -> str:
        """Return where a file lies, for people: a path, or an address without credentials."""
        return self.storage.place(key)

    def kind(self, key: str) -> Kind:
        """Return what bears a key."""
        return self.storage.kind(key)

    def names(self, key: str) -> list[str]:
        """Return the names directly below `key`, sorted; empty if it is no folder."""
        return self.storage.names(key)

    def files(self, key: str) -> list[StoredFile]:
        """Return all files below `key`, however deep, with size and time."""
        return self.storage.files(key)

    def read(self, key: str, max_bytes: int | None = MAX_TEXT_BYTES) -> bytes:
        """Return a file's content; raise `FileNotFoundError` if it is absent."""
        return self.storage.read(key, max_bytes)

    def read_json(self, key: str) -> Any:
        """Return a JSON file's content; raise `FileNotFoundError` if it is absent."""
        return parse_json(self.read(key), self.place(key))

    def read_log(self, key: str) -> bytes:
        """Return the lines of a log; raise `FileNotFoundError` if it is absent."""
        return self.storage.read_log(key, MAX_TEXT_BYTES)

    def read_large(self, key: str) -> bytes:
        """Return what `write_large` wrote; raise `FileNotFoundError` if it is absent."""
        return self.storage.read_large(key)

    @property
    def _writable(self) -> Storage:
        """Return the files for writing; raise a `StaleLeaseError` under a stale lease."""
        self.check_lease()
        return self.storage

    def check_lease(self) -> None:
        """Raise a `StaleLeaseError` if another process has taken the sweep or the run."""
        if self._held is not None:
            self._held.check()
        elif self.lease is not None:
            check_lease(self.storage, self.lease)

    def write(self, key: str, data: bytes) -> None:
        """Write a file; as all that follows, refused under a stale lease."""
        self._writable.write(key, data)

    def write_json(self, key: str, value: Any) -> None:
        """Write `value` as strict JSON (NaN and infinity are refused)."""
        self.write(key, json_bytes(value))

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write a log of these lines, replacing an earlier one."""
        self._writable.write_log(key, lines)

    def append_line(self, key: str, value: Any) -> None:
        """Add a line of strict JSON to a log that this process alone writes."""
        self._writable.append_log(key, (json.dumps(value, allow_nan=False) + "\n").encode())

    def write_large(self, key: str, data: bytes) -> None:
        """Write a file that takes a while and replaces an earlier one, such as a checkpoint."""
        self._writable.write_large(key, data, self.check_lease)

    def remove_large(self, key: str) -> None:
        """Remove what `write_large` wrote; what is absent stays so."""
        self._writable.remove_large(key)

    def remove(self, key: str) -> None:
        """Remove a file; what is absent stays so."""
        self._writable.remove(key)

    def remove_folder(self, key: str) -> None:
        """Remove all below `key`; what is absent stays so."""
        self._writable.remove_folder(key)

    def for_each(self, function: Callable[[str], Answer], names: Iterable[str]) -> list[Answer]:
        """Return what `function` says of each run, sweep or key.

        On object storage, where each takes a round trip, many are asked at a time.
        """
        if self.is_local:
            return [function(name) for name in names]
        with ThreadPoolExecutor(CONCURRENT_READS) as pool:
            return list(pool.map(function, names))

    # Locks.

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[str | None]:
        """Hold a run or sweep for this process; the lock goes with it, however it ends.

        On object storage the lock keeps off processes of this machine alone.

        Yields:
            None while it is held; if another process holds it, the text by which that one named
            itself.
        """
        with open(self._lock_path(key), "a+", opener=_open_lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                yield file.read(1000).strip()
            else:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
                file.flush()
                yield None

    def is_locked(self, key: str) -> bool:
        """Return whether a process trains a run, or runs a sweep; False on object storage.

        The lock is asked for, shared and for an instant: a training that starts in that instant is
        refused as busy, and tried again by its sweep.
        """
        if not isinstance(self.storage, LocalStorage) or self.kind(f"{key}/.lock") != "file":
            return False
        try:
            descriptor = os.open(self.storage.path(f"{key}/.lock"), os.O_RDONLY | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):  # gone, or in a folder of somebody else
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    def _lock_path(self, key: str) -> Path:
        if isinstance(self.storage, LocalStorage):
            folder = self.storage.path(key)
            folder.mkdir(parents=True, exist_ok=True)
            return folder / ".lock"
        folder = Path(tempfile.gettempdir()) / f"mtl-locks-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        parts = urlsplit(self.address)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return folder / hashlib.sha256(f"{address}/{key}".encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def run_lock(self, run_id: str, watch: Watch | None = None) -> Iterator[Self]:
        """Hold the run for this process while it is trained.

        On object storage this waits for up to `WATCH_SECONDS` where another process has not given
        the run back, unless `watch`, given at each of several tries, has seen it for so long.

        Yields:
            The store, which refuses to be written once another process has taken the run.

        Raises:
            RunBusyError: if another process holds it.
        """
        key = self.run_key(run_id)
        with self.locked(key) as holder:
            if holder is not None:
                raise run_busy(run_id, holder)
            if self.storage.guard is None:
                yield self
                return
            lock = HeldLease(
                self.storage, f"{key}/.lock", locked=False, lock=self.lock_id(key),
                under=self.lease, watch=watch,
            )  # fmt: skip
            with lock:
                yield self.under(lock)

    def lock_id(self, key: str) -> str:
        """Return the identity of the lock that `locked` holds on this machine alone."""
        return "" if self.is_local else lock_id(self._lock_path(key))

    @property
    def lock_note(self) -> str | None:
        """Return a sentence where nothing keeps two machines from training the same run."""
        if self.is_local or self.storage.guard is not None:
            return None
        return (
            f"{self.place('')} does not write on conditions: sweeps that share runs may train them "
            "twice at the same time on different machines. Start them one after the other."
        )

    # Runs and sweeps.

    def run_key(self, run_id: str, *names: str) -> str:
        """Return the key of a run, or of something below it."""
        if not _RUN_ID.fullmatch(run_id):
            raise StoreError(f"Expected a run id of 16 hexadecimal digits, got {run_id!r}.")
        return "/".join(("runs", run_id, *names))

    def sweep_key(self, name: str, *names: str) -> str:
        """Return the key of a sweep, or of something below it."""
        return "/".join(("sweeps", check_sweep_name(name), *names))

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run of a local store, whether or not it exists."""
        return self._local_path(self.run_key(run_id))

    def sweep_folder(self, name: str) -> Path:
        """Return the folder of a sweep of a local store, whether or not it exists."""
        return self._local_path(self.sweep_key(name))

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that were ever started, sorted."""
        return [name for name in self.names("runs") if _RUN_ID.fullmatch(name)]

    def sweep_names(self) -> list[str]:
        """Return the names of all sweeps that have a plan, sorted."""
        names = [name for name in self.names("sweeps") if _SWEEP_NAME.fullmatch(name)]
        kinds = self.for_each(lambda name: self.kind(f"sweeps/{name}/plan.json"), names)
        return [name for name, kind in zip(names, kinds, strict=True) if kind != "absent"]

    def run_files(self, run_ids: Collection[str]) -> dict[str, list[StoredFile]]:
        """Return run id -> all its files, however deep; of a run that is not there none.

        On object storage all runs are listed where that takes fewer requests than to ask for each:
        ids are hashes, so the first page tells about how many pages there are.
        """
        found: dict[str, list[StoredFile]] = {run_id: [] for run_id in run_ids}
        pages = self.storage.pages("runs")
        first = Page([], is_last=False) if self.is_local else next(pages)
        share = _share_of_ids(first)
        if not first.is_last and share * len(found) < 1:
            files = self.for_each(lambda run_id: self.files(self.run_key(run_id)), run_ids)
            return dict(zip(run_ids, files, strict=True))

        def pages_of(digit: str) -> list[Page]:
            return list(self.storage.pages("runs", digit))

        is_short = first.is_last or share * MIN_PAGES_AT_A_TIME > 1
        parts = [[first, *pages]] if is_short else self.for_each(pages_of, "0123456789abcdef")
        for file in (file for part in parts for page in part for file in page.files):
            run_id, _, name = file.name.partition("/")
            if run_id in found:
                found[run_id].append(replace(file, name=name))
        return found

    def has_checkpoint(self, run_id: str) -> bool:
        """Return whether the run has a checkpoint or weights."""
        names = self.names(self.run_key(run_id, "checkpoint"))
        return any(not name.startswith(".") for name in names)

    def has_whole_checkpoint(self, run_id: str) -> bool:
        """Return whether the latest checkpoint is there, from which the run or a fork goes on."""
        # On object storage the name is that of its pointer too.
        names = self.names(self.run_key(run_id, "checkpoint"))
        return any(name.startswith(LATEST) for name in names)

    def is_done(self, run_id: str) -> bool:
        """Return whether the run has a result that can be read; a damaged one is none."""
        try:
            return self.result(run_id) is not None
        except StoreError:
            return False

    def done(self, run_ids: Iterable[str]) -> set[str]:
        """Return those of `run_ids` that have a result that can be read."""
        asked = list(run_ids)
        answers = self.for_each(self.is_done, asked)
        return {run_id for run_id, is_done in zip(asked, answers, strict=True) if is_done}

    def write_spec(self, spec: Spec) -> str:
        """Write `spec.json` of a run unless it is there, whole; return the run id."""
        run_id = spec.run_id()
        key = self.run_key(run_id, "spec.json")
        try:
            held = self.read_json(key)
        except (FileNotFoundError, StoreError):
            held = None
        if held != spec.to_dict():
            self.write_json(key, spec.to_dict())
        return run_id

    def spec(self, run_id: str) -> Spec:
        """Return a run's spec.

        Raises:
            StoreError: if the file is damaged, or describes another run.
            FileNotFoundError: if there is none.
        """
        key = self.run_key(run_id, "spec.json")
        held = self.read_json(key)
        try:
            spec = read_spec(held)
            described = spec.run_id()
        except Exception as error:  # whatever untrusted values make of it
            raise StoreError(f"Expected a spec in {self.place(key)}: {error}") from error
        if described != run_id:
            raise StoreError(
                f"Expected the spec of run {run_id} in {self.place(key)}, got that of {described}: "
                "it was edited, or written by another release."
            )
        return spec

    def write_epochs(self, run_id: str, records: Iterable[EpochRecord]) -> None:
        """Write all epoch records of a run, replacing those that are there."""
        lines = [json.dumps(record.to_dict(), allow_nan=False) + "\n" for record in records]
        self.write_log(self.run_key(run_id, "epochs.jsonl"), [line.encode() for line in lines])

    def append_epoch(self, run_id: str, record: EpochRecord) -> None:
        """Add the record of a run's next epoch."""
        self.append_line(self.run_key(run_id, "epochs.jsonl"), record.to_dict())

    def epochs(self, run_id: str) -> list[EpochRecord]:
        """Return the epoch records of a run, the first epoch first; empty if there are none.

        A last line without its newline was cut short, or is being written, and does not count.

        Raises:
            StoreError: if a line is damaged.
        """
        key = self.run_key(run_id, "epochs.jsonl")
        try:
            log = self.read_log(key)
        except FileNotFoundError:
            return []
        lines = log[: log.rfind(b"\n") + 1].splitlines()
        try:
            return [EpochRecord.from_dict(json.loads(line)) for line in lines]
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"Expected epoch records in {self.place(key)}, got others ({error}). Use the "
                f"release that wrote them; if they are damaged, remove "
                f"{self.place(self.run_key(run_id))} to train the run again."
            ) from error

    def write_result(self, result: Result) -> None:
        """Write `result.json`, after which the run is done, and drop an earlier failure."""
        self.write_json(self.run_key(result.run_id, "result.json"), result.to_dict())
        self.clear_error(result.run_id)

    def result(self, run_id: str) -> Result | None:
        """Return a run's result, or None while it is not done.

        Raises:
            StoreError: if the file is damaged, of another schema or of another run.
        """
        key = self.run_key(run_id, "result.json")
        try:
            result = Result.from_dict(self.read_json(key))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{self.place(key)}: {error}") from error
        if result.run_id != run_id:
            raise StoreError(
                f"Expected the result of run {run_id} in {self.place(key)}, got that of "
                f"{result.run_id}. Remove the file."
            )
        return result

    def write_manifest(self, run_id: str, manifest: dict[str, Any]) -> None:
        """Write `manifest.json`: everything about a run that does not enter its identity."""
        self.write_json(self.run_key(run_id, "manifest.json"), manifest)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's manifest, or None if there is none yet.

        Raises:
            StoreError: if the file is damaged or of another schema.
        """
        key = self.run_key(run_id, "manifest.json")
        try:
            held = self.read_json(key)
        except FileNotFoundError:
            return None
        if isinstance(held, dict):
            held = {"schema": MANIFEST_SCHEMA, **held}
        return with_schema(held, MANIFEST_SCHEMA, "a manifest", self.place(key))

    def write_error(self, run_id: str, text: str) -> None:
        """Write the last failure of a run."""
        self.write(self.run_key(run_id, "error.txt"), (text.rstrip() + "\n").encode())

    def clear_error(self, run_id: str) -> None:
        """Forget the last failure of a run, so that it is tried again."""
        self.remove(self.run_key(run_id, "error.txt"))

    def error(self, run_id: str) -> str | None:
        """Return the last failure of a run, or None."""
        try:
            return self.read(self.run_key(run_id, "error.txt")).decode(errors="replace")
        except FileNotFoundError:
            return None


def _share_of_ids(page: Page) -> float:
    """Return the share of all run ids that the first page of the runs goes through, above 0."""
    last = page.files[-1].name.partition("/")[0] if page.files else ""
    return (int(last, 16) + 1) / 16**16 if _RUN_ID.fullmatch(last) else 1e-9


def _open_lock(path: str, flags: int) -> int:
    """Open a lock, never what a link in an untrusted store points to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def existing_store(address: str) -> Store | None:
    """Return the store at `address` for reading, or None if nothing is there yet.

    Raises:
        StoreError: for what is no store, or where none can be made.
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    storage = storage_at(address)
    if storage.kind("") == "file" or storage.names(""):
        return Store(address, create=False)
    if isinstance(storage, LocalStorage):
        _check_can_be_made(storage.root)
    return None


def _check_can_be_made(folder: Path) -> None:
    """Raise a `StoreError` if `folder` could not be made or written, as far as a look tells."""
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    writable = os.access(parent, os.W_OK | os.X_OK)
    if not parent.is_dir():
        why = "is no folder"
    elif not writable or parent.resolve().is_relative_to("/proc"):  # root may write even there
        why = "is not writable"
    else:
        return
    raise StoreError(f"Expected a folder that can be written, got {folder}: {parent} {why}.")
