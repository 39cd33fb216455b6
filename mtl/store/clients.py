"""Clients of object storage: what one bucket answers, one request a call and no second try.

S3 is spoken by boto3, which writes on conditions, reads with a single request and finds
credentials where Amazon's own tools do; Google Cloud Storage and Azure by pyarrow.
"""

import errno
import functools
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from mtl.errors import UsageError
from mtl.store.local import Kind, StoredFile

CONNECT_TIMEOUT = 5.0
"""Seconds."""
READ_TIMEOUT = 15.0
"""Seconds in which not a byte comes."""
MAX_CONNECTIONS = 32
"""Of a process: its threads that read, and those that write meanwhile."""
PART_BYTES = 32 * 2**20
"""Of an upload in parts; what is larger than two of them is one."""
S3_OPTIONS = ("endpoint_override", "region", "scheme", "tls_ca_file_path")


class ConditionRefusedError(OSError):
    """The server does not know conditional writes."""


@dataclass(frozen=True)
class Listing:
    """One page of what lies below a path."""

    files: list[StoredFile]
    folders: list[str]
    """Names directly below; none of a listing that goes deep."""
    goes_on: str | None = None
    """What asks for the next page."""


class Client(Protocol):
    """A bucket. Paths are keys within it.

    Raises a `FileNotFoundError` for what is absent, an `OSError` with the provider's words for
    whatever else goes wrong.
    """

    @property
    def honours_conditions(self) -> bool | None:
        """Return whether `put_if` keeps what it promises; None until somebody has tried."""

    def found_conditions(self, are_honoured: bool) -> None:
        """Keep, for this process, whether it does."""

    def get(self, path: str, max_bytes: int | None) -> tuple[bytes | int, str]:
        """Return content and tag; in place of what has more than `max_bytes`, its size."""

    def put(self, path: str, data: bytes) -> None:
        """Write an object; it takes effect whole or not at all."""

    def put_if(self, path: str, data: bytes, tag: str | None) -> str | None:
        """Write an object that still bears `tag`, or with None is absent; return its new tag.

        None is returned if another was first. A `ConditionRefusedError` is raised where the
        provider has no such writes.
        """

    def delete(self, path: str) -> None:
        """Remove an object; what is absent stays so."""

    def kind(self, path: str) -> Kind:
        """Return what bears a path."""

    def page(self, path: str, starting: str, *, deep: bool, after: str | None) -> Listing:
        """Return a page of what lies below a path and starts so, `after` what another gave.

        Names are relative to the path.
        """


@functools.lru_cache(maxsize=8)
def _boto3_client(_pid: int, user: str | None, password: str | None, **options: Any) -> Any:
    """Return a client, one a process: to make it takes a while, and its connections are kept."""
    import boto3
    from botocore.config import Config

    endpoint = options.get("endpoint_override")
    if endpoint is not None and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=options.get("region") or ("us-east-1" if endpoint else None),
        use_ssl=options.get("scheme", "https") == "https",
        verify=options.get("tls_ca_file_path"),
        aws_access_key_id=user,
        aws_secret_access_key=password,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": 1},
            max_pool_connections=MAX_CONNECTIONS,
            tcp_keepalive=True,
            # What other servers than Amazon's understand.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **({"s3": {"addressing_style": "path"}} if endpoint else {}),
        ),
    )


class S3Client(Client):
    """A bucket of S3, or of a server that speaks it.

    Raises:
        UsageError: for unknown options.
    """

    def __init__(
        self, bucket: str, options: Mapping[str, str], user: str | None, password: str | None
    ) -> None:
        unknown = sorted(set(options) - set(S3_OPTIONS))
        if unknown:
            raise UsageError(f"expected options {', '.join(S3_OPTIONS)}, got {unknown[0]}")
        self._bucket = bucket
        with _words_of_boto3(""):
            self.boto3 = _boto3_client(os.getpid(), user, password, **options)

    _honoured: ClassVar[dict[tuple[Any, str], bool]] = {}

    @property
    def honours_conditions(self) -> bool | None:
        return self._honoured.get((self.boto3, self._bucket))

    def found_conditions(self, are_honoured: bool) -> None:
        self._honoured[self.boto3, self._bucket] = are_honoured

    def get(self, path: str, max_bytes: int | None) -> tuple[bytes | int, str]:
        with _words_of_boto3(path):
            answer = self.boto3.get_object(Bucket=self._bucket, Key=path)
            size = answer["ContentLength"]
            with answer["Body"] as body:
                if max_bytes is not None and size > max_bytes:
                    return size, answer["ETag"]
                data = body.read()
        if len(data) != size:
            raise OSError(f"got {len(data)} of {size} bytes")
        return data, answer["ETag"]

    def put(self, path: str, data: bytes) -> None:
        with _words_of_boto3(path):
            if len(data) <= 2 * PART_BYTES:
                self.boto3.put_object(Bucket=self._bucket, Key=path, Body=data)
                return
            from boto3.s3.transfer import TransferConfig

            parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
            self.boto3.upload_fileobj(io.BytesIO(data), self._bucket, path, Config=parts)

    def put_if(self, path: str, data: bytes, tag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            with _words_of_boto3(path, on_condition=True):
                answer = self.boto3.put_object(
                    Bucket=self._bucket, Key=path, Body=data, **condition
                )
        except (FileNotFoundError, _ConditionFailedError):  # absent is no longer what it was
            return None
        return str(answer["ETag"])

    def delete(self, path: str) -> None:
        with _words_of_boto3(path):
            self.boto3.delete_object(Bucket=self._bucket, Key=path)

    def kind(self, path: str) -> Kind:
        try:
            with _words_of_boto3(path):
                if path:
                    self.boto3.head_object(Bucket=self._bucket, Key=path)
                    return "file"
        except FileNotFoundError:
            pass
        with _words_of_boto3(path):
            below = self.boto3.list_objects_v2(Bucket=self._bucket, Prefix=_folder(path), MaxKeys=1)
        return "folder" if below.get("KeyCount") or not path else "absent"

    def page(self, path: str, starting: str, *, deep: bool, after: str | None) -> Listing:
        prefix = _folder(path)
        options = {} if deep else {"Delimiter": "/"}
        if after is not None:
            options["ContinuationToken"] = after
        with _words_of_boto3(path):
            held = self.boto3.list_objects_v2(
                Bucket=self._bucket, Prefix=f"{prefix}{starting}", **options
            )
        files = [
            StoredFile(file["Key"][len(prefix) :], file["Size"], file["LastModified"].timestamp())
            for file in held.get("Contents", ())
            if file["Key"] != prefix  # what a console leaves as a folder
        ]
        folders = [part["Prefix"][len(prefix) : -1] for part in held.get("CommonPrefixes", ())]
        return Listing(files, folders, held.get("NextContinuationToken"))


_REFUSED_CONDITIONS = ("NotImplemented", "501", "InvalidArgument", "InvalidRequest")


class _ConditionFailedError(OSError):
    """Another was first."""


@contextmanager
def _words_of_boto3(path: str, *, on_condition: bool = False) -> Iterator[None]:
    """Raise as an `OSError` what boto3 raises as its own."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ("NoSuchKey", "NotFound", "404"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        if code in ("PreconditionFailed", "412"):
            raise _ConditionFailedError(str(error)) from error
        if on_condition and code in _REFUSED_CONDITIONS:
            raise ConditionRefusedError(str(error)) from error
        raise OSError(str(error)) from error
    except ParamValidationError as error:
        raise UsageError(" ".join(str(error).split())) from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(str(error) or type(error).__name__) from error


def _folder(path: str) -> str:
    return f"{path}/" if path else ""


class ArrowClient(Client):
    """A bucket of another provider; nothing is written on conditions.

    Raises:
        ValueError, TypeError: for an address that pyarrow does not understand.
    """

    def __init__(self, address: str, bucket: str) -> None:
        from pyarrow import fs

        self._fs, _ = fs.FileSystem.from_uri(address)
        self._bucket, self._select = bucket, fs.FileSelector
        self._kinds: dict[Any, Kind] = {
            fs.FileType.File: "file", fs.FileType.Directory: "folder",
            fs.FileType.NotFound: "absent", fs.FileType.Unknown: "device",
        }  # fmt: skip

    honours_conditions = False

    def found_conditions(self, are_honoured: bool) -> None:
        raise ConditionRefusedError("pyarrow has no conditional writes")

    def _path(self, path: str) -> str:
        return f"{self._bucket}/{path}".rstrip("/")

    def get(self, path: str, max_bytes: int | None) -> tuple[bytes | int, str]:
        with self._fs.open_input_file(self._path(path)) as file:
            size = file.size()
            if max_bytes is not None and size > max_bytes:
                return size, ""
            data = file.read()
        if len(data) != size:
            raise OSError(f"got {len(data)} of {size} bytes")
        return data, ""

    def put(self, path: str, data: bytes) -> None:
        with self._fs.open_output_stream(self._path(path)) as stream:
            stream.write(data)

    def put_if(self, path: str, data: bytes, tag: str | None) -> str | None:
        raise ConditionRefusedError("pyarrow has no conditional writes")

    def delete(self, path: str) -> None:
        if self.kind(path) == "file":
            self._fs.delete_file(self._path(path))

    def kind(self, path: str) -> Kind:
        return self._kinds[self._fs.get_file_info(self._path(path)).type]

    def page(self, path: str, starting: str, *, deep: bool, after: str | None) -> Listing:
        top = self._path(path)
        found = self._fs.get_file_info(self._select(top, allow_not_found=True, recursive=deep))
        files = [
            StoredFile(info.path[len(top) + 1 :], info.size, info.mtime.timestamp())
            for info in found
            if self._kinds[info.type] == "file" and info.path[len(top) + 1 :].startswith(starting)
        ]
        folders = [info.base_name for info in found if self._kinds[info.type] == "folder"]
        return Listing(files, [] if deep else folders)
