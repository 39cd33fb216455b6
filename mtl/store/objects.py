"""A store on object storage (S3, Google Cloud Storage, Azure), over pyarrow's file systems.

    s3://bucket/prefix?endpoint_override=host:port&scheme=http&region=us-east-1

Credentials come from where the provider's own tools take them (environment, files, the machine's
role). Those that an address carries are used and never shown.

One object is one PUT, which takes effect whole or not at all. What would have to be rewritten
again and again lies otherwise than in a folder:

    epochs.jsonl/000001.jsonl       segments of a log, 100 lines each; one that is not full ends it
    latest.pt.json                  a pointer, written after the object that it names
    latest.pt.<8 digits>            the object
"""

import errno
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pyarrow import ArrowInvalid, fs

from mtl.errors import StoreError, StoreUnreachableError, UsageError
from mtl.store.address import shown_address
from mtl.store.local import Kind, Storage, StoredFile, parse_json, too_large, with_schema

Answer = TypeVar("Answer")

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries."""
PROVIDER_TRIES = 3
"""Of the provider's library, within each of ours."""
CONNECT_TIMEOUT = 5.0
"""Seconds."""
MIN_SECRET = 4
"""Characters."""
SEGMENT_LINES = 100
POINTER_SCHEMA = 1

_S3_OPTIONS = ("endpoint_override", "region", "scheme", "tls_ca_file_path")
_SEGMENT = re.compile(r"[0-9]{6}\.jsonl")
_REFUSALS = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE"
    r"|INVALID_CLIENT_TOKEN_ID|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|TOKEN_REFRESH"
    r"|EXPIRED|PERMISSION_DENIED|UNAUTHENTICATED|HTTP status (?:401|403)|AuthenticationFailed",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|bucket (?:does not|not) exist|ContainerNotFound", re.I)


class ObjectStorage(Storage):
    """Objects below a prefix of a bucket.

    Raises:
        StoreError: if the address cannot be understood.
        StoreUnreachableError: if the bucket is absent or refused, or nothing answers.
    """

    def __init__(self, address: str) -> None:
        self._shown = shown_address(address)
        try:
            self._secrets = _secrets_of(address)
        except ValueError as error:
            raise self._no_address(error) from None
        self._fs, self._prefix = self._connected(address)
        self._logs: dict[str, list[bytes]] = {}
        # A signal that interrupts this thread must not cut a write in two, so that the writes of
        # the main thread are made, one after the other, by this one.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        bucket = self._prefix.partition("/")[0]
        if self._call("look for", "", lambda: self._kind(bucket)) == fs.FileType.NotFound:
            raise self._no_bucket()

    def _connected(self, address: str) -> tuple[Any, str]:
        """Return a file system and the bucket with the prefix."""
        parts = urlsplit(address)
        try:
            bucket = parts.netloc.rpartition("@")[2]
            if not bucket:  # a provider's library would look for one without end
                raise UsageError("expected a bucket")
            if parts.scheme == "s3":
                prefix = f"{bucket}{unquote(parts.path)}".rstrip("/")
                return self._s3(parts.query, parts.username, parts.password, bucket), prefix
            filesystem, path = fs.FileSystem.from_uri(address)
        except (ArrowInvalid, ValueError, TypeError) as error:
            raise self._no_address(self._scrubbed(error)) from None
        return filesystem, path.rstrip("/")

    def _no_address(self, why: object) -> StoreError:
        return StoreError(
            f"Expected an address like s3://bucket/prefix or gs://bucket/prefix for the "
            f"store, got {self._shown} ({why})."
        )

    def _s3(self, query: str, user: str | None, password: str | None, bucket: str) -> Any:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        unknown = sorted(set(options) - set(_S3_OPTIONS))
        if unknown:
            raise UsageError(f"expected options {', '.join(_S3_OPTIONS)}, got {unknown[0]}")
        if "region" not in options and "endpoint_override" not in options:
            options["region"] = self._call("look for", "", lambda: fs.resolve_s3_region(bucket))
        return fs.S3FileSystem(
            access_key=unquote(user) if user else None,
            secret_key=unquote(password) if password else None,
            connect_timeout=CONNECT_TIMEOUT,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=PROVIDER_TRIES),
            allow_delayed_open=True,  # a small object is one PUT
            **options,
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

    def _kind(self, path: str) -> Any:
        return self._fs.get_file_info(path).type

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}" if key else self._prefix

    def place(self, key: str) -> str:
        return f"{self._shown}/{key}" if key else self._shown

    def read(self, key: str, max_bytes: int | None = None) -> bytes:

        def get() -> bytes:
            with self._fs.open_input_file(self._path(key)) as file:
                if max_bytes is not None and file.size() > max_bytes:
                    raise too_large(self.place(key), file.size(), max_bytes)
                data = file.read()
                if len(data) != file.size():
                    raise OSError(f"got {len(data)} of {file.size()} bytes")
                return data

        return self._call("read", key, get)

    def write(self, key: str, data: bytes) -> None:
        """Write an object; an interrupted caller leaves the old one or the new one."""

        def put() -> None:
            with self._fs.open_output_stream(self._path(key)) as stream:
                stream.write(data)

        self._do("write", key, put)

    def _do(self, doing: str, key: str, action: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread():
            self._writer.submit(self._call, doing, key, action).result()
        else:
            self._call(doing, key, action)

    def kind(self, key: str) -> Kind:
        kind = self._call("look for", key, lambda: self._kind(self._path(key)))
        if kind == fs.FileType.File:
            return "file"
        return "absent" if kind == fs.FileType.NotFound else "folder"

    def files(self, key: str) -> list[StoredFile]:
        path = self._path(key)
        below = fs.FileSelector(path, allow_not_found=True, recursive=True)
        found = self._call("list", key, lambda: self._fs.get_file_info(below))
        return [
            StoredFile(info.path[len(path) + 1 :], info.size, info.mtime.timestamp())
            for info in found
            if info.type == fs.FileType.File
        ]

    def names(self, key: str) -> list[str]:
        below = fs.FileSelector(self._path(key), allow_not_found=True)
        found = self._call("list", key, lambda: self._fs.get_file_info(below))
        return sorted(info.base_name for info in found)

    def remove(self, key: str) -> None:

        def delete() -> None:
            path = self._path(key)
            kind = self._kind(path)
            if kind == fs.FileType.Directory:
                self._fs.delete_dir(path)
            elif kind == fs.FileType.File:
                self._fs.delete_file(path)

        self._do("remove", key, delete)

    def _segments(self, key: str) -> list[str]:
        return [name for name in self.names(key) if _SEGMENT.fullmatch(name)]

    def read_log(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return the lines of a log: its segments up to the first that is not full."""
        held = self._segments(key)
        read: list[bytes] = []
        while len(read) < len(held) and held[len(read)] == _segment(len(read)):
            left = None if max_bytes is None else max_bytes - sum(map(len, read))
            read.append(self.read(f"{key}/{_segment(len(read))}", left))
            if read[-1].count(b"\n") < SEGMENT_LINES:
                break
        if not read:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.place(key))
        return b"".join(read)

    def write_log(self, key: str, lines: Sequence[bytes]) -> None:
        """Write all segments, the surplus ones of an earlier log removed first."""
        for name in reversed(self._segments(key)):
            if name >= _segment(-(-len(lines) // SEGMENT_LINES)):
                self.remove(f"{key}/{name}")
        for start in range(0, len(lines), SEGMENT_LINES):
            self._write_segment(key, lines, start)
        self._logs[key] = list(lines)

    def append_log(self, key: str, line: bytes) -> None:
        """Write the last segment again, or begin the next."""
        if key not in self._logs:  # of an earlier process, which may have left more segments
            try:
                self.write_log(key, self.read_log(key).splitlines(keepends=True))
            except FileNotFoundError:
                self.write_log(key, [])
        lines = [*self._logs[key], line]
        self._write_segment(key, lines, (len(lines) - 1) // SEGMENT_LINES * SEGMENT_LINES)
        self._logs[key] = lines

    def _write_segment(self, key: str, lines: Sequence[bytes], start: int) -> None:
        segment = b"".join(lines[start : start + SEGMENT_LINES])
        self.write(f"{key}/{_segment(start // SEGMENT_LINES)}", segment)

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
        """Write an object, then the pointer to it, then drop the objects before it."""
        folder, _, base = key.rpartition("/")
        name = f"{base}.{secrets.token_hex(4)}"
        self.write(f"{folder}/{name}", data)
        check()
        pointer = {
            "schema": POINTER_SCHEMA,
            "object": name,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        self.write(_pointer_key(key), (json.dumps(pointer) + "\n").encode())
        self._remove_objects(key, keep=name)

    def _remove_objects(self, key: str, keep: str = "") -> None:
        """Remove what pointers named before, and what writes that were cut short left."""
        folder, _, base = key.rpartition("/")
        for name in self.names(folder):
            if re.fullmatch(rf"{re.escape(base)}\.[0-9a-f]{{8}}", name) and name != keep:
                self.remove(f"{folder}/{name}")

    def remove_large(self, key: str) -> None:
        """Remove the pointer, then the objects."""
        self.remove(_pointer_key(key))
        self._remove_objects(key)


def _secrets_of(address: str) -> list[str]:
    """Return what of an address must not be shown, the longest first."""
    parts = urlsplit(address)
    user_info = parts.netloc.rpartition("@")[0]
    found = {user_info, *user_info.split(":"), *(value for _, value in parse_qsl(parts.query))}
    found |= {unquote(text) for text in found}
    harmless = {value for name, value in parse_qsl(parts.query) if name in _S3_OPTIONS}
    # A shorter one would be found in every other word; with its neighbour it is found still.
    telling = {text for text in found - harmless if len(text) >= MIN_SECRET}
    return sorted(telling, key=len, reverse=True)


def _segment(index: int) -> str:
    return f"{index + 1:06d}.jsonl"


def _pointer_key(key: str) -> str:
    return f"{key}.json"
