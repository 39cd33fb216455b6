"""A store on object storage (S3, Google Cloud Storage, Azure).

    s3://bucket/prefix?endpoint_override=host:port&scheme=http&region=us-east-1

Credentials come from where the provider's own tools take them (environment, files, the machine's
role). Those that an address carries are used and never shown.

One object is one PUT, which takes effect whole or not at all. What would have to be rewritten
again and again lies otherwise than in a folder:

    epochs.jsonl/000001.jsonl       segments of a log, 100 lines each; one that is not full ends it
    latest.pt.json                  a pointer, written after the object that it names
    latest.pt.<8 digits>            the object

Lines of a log wait for the next write to their run or sweep, or for `SECONDS_BETWEEN_LINES`: short
epochs are no requests. What is written after them is never stored before them.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from mtl.errors import StoreError, StoreUnreachableError, UsageError
from mtl.store.address import shown_address
from mtl.store.clients import (
    S3_OPTIONS,
    ArrowClient,
    Client,
    ConditionRefusedError,
    Listing,
    S3Client,
)
from mtl.store.local import (
    Guard,
    Kind,
    Page,
    Storage,
    StoredFile,
    parse_json,
    too_large,
    with_schema,
)

Answer = TypeVar("Answer")

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries."""
MIN_SECRET = 4
"""Characters."""
SEGMENT_LINES = 100
SECONDS_BETWEEN_LINES = 10.0
"""Between two writes of a log at least, unless something else is written."""
POINTER_SCHEMA = 1
NO_TAG = '"00000000000000000000000000000000"'
"""Of no object."""

_REFUSALS = re.compile(
    r"ACCESS_?DENIED|INVALID_?ACCESS_?KEY_?ID|SIGNATURE_?DOES_?NOT_?MATCH|INVALID_?SIGNATURE"
    r"|INVALID_?CLIENT_?TOKEN_?ID|MISSING_?AUTHENTICATION_?TOKEN|UNRECOGNIZED_?CLIENT"
    r"|TOKEN_?REFRESH|EXPIRED|PERMISSION_?DENIED|UNAUTHENTICATED|HTTP status (?:401|403)"
    r"|\((?:401|403)\)|InvalidToken|AuthenticationFailed|(?:locate|Partial) credentials"
    r"|(?:config profile|credentials found)",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(
    r"NO_?SUCH_?BUCKET|bucket (?:does not|not) exist|ContainerNotFound", re.IGNORECASE
)


@dataclass
class _Log:
    """The end of a log that this process alone writes."""

    index: int
    """Of the segment that is being filled; those before it are written."""
    lines: list[bytes]
    """Of this segment and those after it."""
    num_written: int
    """Of these lines."""
    written: float = float("-inf")
    """Reading of the monotonic clock."""
    cleared: int = -1
    """The last segment that holds nothing of an earlier process."""


class ObjectStorage(Storage):
    """Objects below a prefix of a bucket.

    Raises:
        StoreError: if the address cannot be understood.
        StoreUnreachableError: if it is refused, or nothing answers.
    """

    def __init__(self, address: str) -> None:
        self._shown = shown_address(address)
        try:
            self._secrets = _secrets_of(address)
        except ValueError as error:
            raise self._no_address(error) from None
        self._client, self._prefix = self._connected(address)
        self._logs: dict[str, _Log] = {}
        self._large: dict[str, set[str]] = {}
        """Key -> objects that this process wrote and has not removed."""
        self._logging = threading.RLock()
        # A signal that interrupts this thread must not cut a write in two, so that the writes of
        # the main thread are made, one after the other, by this one; those of logs always are.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")

    def _connected(self, address: str) -> tuple[Client, str]:
        """Return the client of a bucket and the prefix in it."""
        parts = urlsplit(address)
        try:
            bucket = parts.netloc.rpartition("@")[2]
            if not bucket:  # a provider's library would look for one without end
                raise UsageError("expected a bucket")
            if parts.scheme != "s3":
                return ArrowClient(address, bucket), parts.path.strip("/")
            asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            user, password = (
                None if text is None else unquote(text) for text in (parts.username, parts.password)
            )
            client = S3Client(bucket, dict(asked), user, password)
            return client, unquote(parts.path).strip("/")
        except OSError as error:
            raise StoreUnreachableError(
                f"Expected to reach {self._shown}, could not begin ({self._scrubbed(error)})."
            ) from None
        except (ValueError, TypeError) as error:
            raise self._no_address(self._scrubbed(error)) from None

    def _no_address(self, why: object) -> StoreError:
        return StoreError(
            f"Expected an address like s3://bucket/prefix or gs://bucket/prefix for the "
            f"store, got {self._shown} ({why})."
        )

    def _scrubbed(self, error: Exception) -> str:
        text = " ".join(str(error).split()).rstrip(".")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _no_bucket(self) -> StoreUnreachableError:
        return StoreUnreachableError(
            f"Expected a bucket at {self._shown}, found none. Make it, or give another address."
        )

    def _call(self, doing: str, key: str, action: Callable[[], Answer]) -> Answer:
        """Return what `action` returns, after several tries if need be."""
        text = ""
        for pause in (0.0, *RETRY_PAUSES):
            time.sleep(pause)
            try:
                return action()
            except FileNotFoundError:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), self.place(key)
                ) from None
            except ConditionRefusedError:
                raise
            except OSError as error:
                text = self._scrubbed(error)
            if _NO_BUCKET.search(text):
                raise self._no_bucket()
            if _REFUSALS.search(text):
                raise StoreUnreachableError(
                    f"Expected to be allowed to {doing} {self.place(key)}, was refused ({text}). "
                    "Give credentials that may, as docs/stores.md says."
                )
        raise StoreUnreachableError(
            f"{self.place(key)} did not answer in {len(RETRY_PAUSES) + 1} tries ({text}). What is "
            "stored there is whole; once it answers the same command continues."
        )

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}".strip("/")

    def place(self, key: str) -> str:
        return f"{self._shown}/{key}" if key else self._shown

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        return self.read_tagged(key, max_bytes)[0]

    def read_tagged(self, key: str, max_bytes: int | None = None) -> tuple[bytes, str]:
        """Return an object's content, and the tag that tells it from what replaces it."""
        data, tag = self._call("read", key, lambda: self._client.get(self._path(key), max_bytes))
        if isinstance(data, int):
            raise too_large(self.place(key), data, max_bytes or 0)
        return data, tag

    def write(self, key: str, data: bytes) -> None:
        """Write an object; an interrupted caller leaves the old one or the new one."""
        self.flush(key)
        self._do("write", key, lambda: self._client.put(self._path(key), data))

    def _do(self, doing: str, key: str, action: Callable[[], Answer]) -> Answer:
        if threading.current_thread() is threading.main_thread():
            return self._in_order(doing, key, action)
        return self._call(doing, key, action)

    def _in_order(self, doing: str, key: str, action: Callable[[], Answer]) -> Answer:
        return self._writer.submit(self._call, doing, key, action).result()

    @property
    def guard(self) -> Guard | None:
        """Return what writes on conditions; None where the server does not keep them.

        Some ignore them: it is tried, once a process, with conditions that do not hold and with
        what is there already.
        """
        if self._client.honours_conditions is None:
            held = self.read("store.json")
            try:
                are_honoured = all(
                    self.write_if("store.json", held, tag) is None for tag in (None, NO_TAG)
                )
            except ConditionRefusedError:
                are_honoured = False
            self._client.found_conditions(are_honoured)
        return self if self._client.honours_conditions else None

    def write_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write an object that still bears `tag`, with None one that is absent.

        Returns:
            Its new tag; None if another was first, or if an answer to this same write was lost:
            what is there tells which.
        """
        return self._do("write", key, lambda: self._client.put_if(self._path(key), data, tag))

    def kind(self, key: str) -> Kind:
        return self._call("look for", key, lambda: self._client.kind(self._path(key)))

    def files(self, key: str) -> list[StoredFile]:
        return [file for page in self.pages(key) for file in page.files]

    def pages(self, key: str, starting: str = "") -> Iterator[Page]:
        for page in self._pages(key, starting, deep=True):
            yield Page(page.files, is_last=page.goes_on is None)

    def names(self, key: str) -> list[str]:
        pages = list(self._pages(key, deep=False))
        folders = [name for page in pages for name in page.folders]
        return sorted(folders + [file.name for page in pages for file in page.files])

    def _pages(self, key: str, starting: str = "", *, deep: bool) -> Iterator[Listing]:
        ask = partial(self._client.page, self._path(key), starting, deep=deep)
        page = self._call("list", key, partial(ask, after=None))
        yield page
        while page.goes_on is not None:
            page = self._call("list", key, partial(ask, after=page.goes_on))
            yield page

    def remove(self, key: str) -> None:
        self._do("remove", key, lambda: self._client.delete(self._path(key)))

    def remove_folder(self, key: str) -> None:
        for file in self.files(key):
            self.remove(f"{key}/{file.name}")

    # Logs.

    def read_log(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return the lines of a log: its segments up to the first that is not full."""
        with self._logging:
            held = self._logs.get(key)
            waiting = held is not None and held.num_written < len(held.lines)
            last = held.lines[:] if held is not None and waiting else None
            index = -1 if held is None else held.index
        read: list[bytes] = []
        while not read or read[-1].count(b"\n") >= SEGMENT_LINES:
            if last is not None and len(read) == index:
                return b"".join([*read, *last])
            left = None if max_bytes is None else max_bytes - sum(map(len, read))
            try:
                read.append(self.read(_segment(key, len(read)), left))
            except FileNotFoundError:
                if not read:
                    raise
                break
        return b"".join(read)

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write all segments; what an earlier log has beyond them does not count any more."""
        with self._logging:
            self._logs[key] = _Log(0, list(lines), 0)
            if not lines:
                self.remove(_segment(key, 0))
            self._write_lines(key)

    def append_log(self, key: str, line: bytes) -> None:
        with self._logging:
            if key not in self._logs:  # of an earlier process
                try:
                    held = self.read_log(key).splitlines(keepends=True)
                except FileNotFoundError:
                    held = []
                index = len(held) // SEGMENT_LINES
                rest = held[index * SEGMENT_LINES :]
                self._logs[key] = _Log(index, rest, len(rest), cleared=index - 1)
            log = self._logs[key]
            log.lines.append(line)
            if time.monotonic() - log.written >= SECONDS_BETWEEN_LINES:
                self._write_lines(key)

    def flush(self, key: str) -> None:
        with self._logging:
            for log_key, log in self._logs.items():
                if _owner(log_key) == _owner(key) and log.num_written < len(log.lines):
                    self._write_lines(log_key)

    def forget(self, key: str) -> None:
        with self._logging:
            self._logs = {k: log for k, log in self._logs.items() if _owner(k) != _owner(key)}

    def _write_lines(self, key: str) -> None:
        """Write the segment that is being filled, and those after it."""
        log = self._logs[key]
        while log.num_written < len(log.lines):
            lines = log.lines[:SEGMENT_LINES]
            is_full = len(lines) == SEGMENT_LINES
            # A full segment goes on in the next, where an earlier process may have left lines.
            if is_full and log.cleared <= log.index:
                path = self._path(_segment(key, log.index + 1))
                self._in_order("remove", key, partial(self._client.delete, path))
                log.cleared = log.index + 1
            path = self._path(_segment(key, log.index))
            self._in_order("write", key, partial(self._client.put, path, b"".join(lines)))
            if is_full:
                log.index, log.num_written = log.index + 1, 0
                del log.lines[:SEGMENT_LINES]
            else:
                log.num_written = len(lines)
        log.written = time.monotonic()

    # Large files.

    def read_large(self, key: str) -> bytes:
        """Return the object that the pointer names, once it is known to be whole."""
        pointer = self._pointer(key)
        place = f"{key.rpartition('/')[0]}/{pointer['object']}"
        try:
            data = self.read(place)
        except FileNotFoundError:
            if self._pointer(key) != pointer:  # it was replaced between the two
                return self.read_large(key)
            data = b""
        if len(data) != pointer["bytes"] or hashlib.sha256(data).hexdigest() != pointer["sha256"]:
            raise StoreError(
                f"Expected {pointer['bytes']} bytes in {self.place(place)}, got {len(data)} or "
                f"others. Remove {self.place(_pointer_key(key))} to do without them."
            )
        return data

    def _pointer(self, key: str) -> dict[str, Any]:
        place = self.place(_pointer_key(key))
        held = parse_json(self.read(_pointer_key(key)), place)
        remedy = "Remove it to do without what it names"
        pointer = with_schema(held, POINTER_SCHEMA, "a pointer", place, remedy)
        if not {"object", "bytes", "sha256"} <= pointer.keys():
            raise StoreError(f"Expected a whole pointer in {place}, got a damaged file. {remedy}.")
        return pointer

    def write_large(self, key: str, data: bytes, check: Callable[[], None]) -> None:
        """Write an object, then the pointer to it, then drop the objects before it.

        What others left is looked for once; after that, what this process wrote last is dropped.
        """
        folder, _, base = key.rpartition("/")
        name = f"{base}.{secrets.token_hex(4)}"
        is_first = key not in self._large
        mine = self._large.setdefault(key, set())
        mine.add(name)
        self.write(f"{folder}/{name}", data)
        check()
        pointer = {
            "schema": POINTER_SCHEMA,
            "object": name,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        self.write(_pointer_key(key), (json.dumps(pointer) + "\n").encode())
        if is_first:
            self._remove_objects(key, keep=name)
        for before in mine - {name}:
            self.remove(f"{folder}/{before}")
        mine.intersection_update({name})

    def _remove_objects(self, key: str, keep: str = "") -> None:
        """Remove what pointers named before, and what writes that were cut short left."""
        folder, _, base = key.rpartition("/")
        for name in self.names(folder):
            if re.fullmatch(rf"{re.escape(base)}\.[0-9a-f]{{8}}", name) and name != keep:
                self.remove(f"{folder}/{name}")

    def remove_large(self, key: str) -> None:
        """Remove the pointer, then the objects."""
        self._large.pop(key, None)
        self.remove(_pointer_key(key))
        self._remove_objects(key)


def _secrets_of(address: str) -> list[str]:
    """Return what of an address must not be shown, the longest first."""
    parts = urlsplit(address)
    user_info = parts.netloc.rpartition("@")[0]
    found = {user_info, *user_info.split(":"), *(value for _, value in parse_qsl(parts.query))}
    found |= {unquote(text) for text in found}
    harmless = {value for name, value in parse_qsl(parts.query) if name in S3_OPTIONS}
    # A shorter one would be found in every other word; with its neighbour it is found still.
    telling = {text for text in found - harmless if len(text) >= MIN_SECRET}
    return sorted(telling, key=len, reverse=True)


def _owner(key: str) -> list[str]:
    """Return what tells of which run or sweep something is."""
    return key.split("/")[:2]


def _segment(key: str, index: int) -> str:
    return f"{key}/{index + 1:06d}.jsonl"


def _pointer_key(key: str) -> str:
    return f"{key}.json"
