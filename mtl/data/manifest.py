"""The manifest of a prepared folder: what it holds, and whether it is all there."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtl.data.sample import DataInfo
from mtl.errors import PreparedDataError

PREPARED_SCHEMA = 1


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder.

    Raises:
        PreparedDataError: if there is none that can be read, or it is of another schema.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        # No advice to remove it: the folder may be one that holds other things.
        raise PreparedDataError(
            f"Expected a prepared folder at {folder}, got one without manifest.json or none. Give "
            "the folder that `python -m mtl.data.prepare` named at its end."
        ) from error
    except (OSError, ValueError) as error:
        raise PreparedDataError(
            f"Expected prepared data in {folder}, got: {error}. Remove the folder and start again."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != PREPARED_SCHEMA:
        raise PreparedDataError(
            f"Expected prepared data of schema {PREPARED_SCHEMA} in {folder}, got another. "
            "Remove the folder and start again."
        )
    try:
        _check_values(manifest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PreparedDataError(
            f"Expected a manifest in {folder} as it was written, got a value that is missing or of "
            f"another kind ({error}). Remove the folder and start again."
        ) from error
    return manifest


def _check_values(manifest: dict[str, Any]) -> None:
    """Raise nearly anything unless all values that are used are there, each of its kind."""
    near, far = manifest["info"]["depth_range_m"]
    text = [manifest["folder_hash"], *manifest["tasks"], *manifest["info"]["classes"]]
    numbers = [near, far, *manifest["counts"].values()]
    for entry in manifest["arrays"].values():
        text.append(entry["sha256"])
        numbers.append(entry["bytes"])
    for reasons in manifest["skipped"].values():
        text += reasons.values()
    for kind, values in ((str, text), (int | float, numbers)):
        for value in values:
            if not isinstance(value, kind):
                raise TypeError(f"{value!r}"[:80])


def short_hash(value: Any, *, sort_keys: bool = True) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=sort_keys).encode()).hexdigest()[:16]


def data_info(folder: Path) -> DataInfo:
    """Return what losses and metrics must know of the prepared data set."""
    info = read_manifest(folder)["info"]
    near, far = info["depth_range_m"]
    return DataInfo(classes=tuple(info["classes"]), depth_range_m=(near, far))


def check_tasks(folder: Path, tasks: Iterable[str]) -> None:
    """Raise a `PreparedDataError` if a prepared folder has no targets for one of `tasks`."""
    held = read_manifest(folder)["tasks"]
    for task in tasks:
        if task not in held:
            raise PreparedDataError(
                f"Expected targets for {task} in {folder}, got {', '.join(held)}. Leave the task "
                "out, or prepare the data with it."
            )


def array_entry(path: Path) -> dict[str, Any]:
    """Return what the manifest says of an array: bytes and their hash."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def check_whole(folder: Path) -> None:
    """Raise a `PreparedDataError` unless the manifest and every array's size are as written."""
    for name, entry in read_manifest(folder)["arrays"].items():
        path = folder / name
        size = path.stat().st_size if path.exists() else None
        if size != entry["bytes"]:
            raise PreparedDataError(
                f"Expected {path} of {entry['bytes']} bytes, got "
                f"{'no file' if size is None else f'{size} bytes'}. "
                f"Remove {folder} and start again."
            )


def check_hashes(folder: Path) -> None:
    """Raise a `PreparedDataError` unless every array holds the bytes that were written."""
    check_whole(folder)
    for name, entry in read_manifest(folder)["arrays"].items():
        found = array_entry(folder / name)["sha256"]
        if found != entry["sha256"]:
            raise PreparedDataError(
                f"Expected {folder / name} as it was written, got other bytes. "
                f"Remove {folder} and start again."
            )
