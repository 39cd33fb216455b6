"""What names a store: a path, `file://` and an absolute path, or an address of object storage."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mtl.errors import UsageError

_ONE_SLASH = re.compile(r"(file|s3|gs|gcs|abfss?):/(?!/)", re.IGNORECASE)


def local_folder(address: str | Path) -> Path | None:
    """Return the path that `address` names; None if it is on object storage.

    After `file://`, `%20` stands for a space; in a plain path it is part of the name.

    Raises:
        UsageError: for an empty address, `file://` without an absolute path, or a scheme with one
            slash.
    """
    text = str(address)
    if not text.strip():
        raise UsageError("Expected the folder or address of a store, got an empty name.")
    if _ONE_SLASH.match(text):
        scheme, _, rest = text.partition(":/")
        raise UsageError(
            f"Expected two slashes after {scheme}:, got {scheme}:/{_without_user(rest)}. Write "
            f"{scheme}://, or ./{scheme}: for a folder of that name."
        )
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text).expanduser()
    if scheme.lower() != "file":
        return None
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UsageError(f"Expected an address like file:///home/me/results, got {text}.")
    return Path(unquote(parts.path))


def is_address(address: str | Path) -> bool:
    """Return whether `address` is on object storage."""
    return local_folder(address) is None


def shown_address(address: str) -> str:
    """Return an address without user, password and options, fit for people and for files."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{_without_user(rest).rstrip('/')}"


def _without_user(rest: str) -> str:
    """Return what follows the slashes of an address, without user, password and options."""
    bucket, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{bucket.rpartition('@')[2]}{slash}{path}"
