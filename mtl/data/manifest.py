"""The manifest of a prepared folder: what it holds, and whether it is all there."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mtl.data.sample import DataInfo
from mtl.errors import PreparedDataError

PREPARED_SCHEMA = 1
NEEDED: dict[str, type] = {
    "info": dict, "tasks": list, "arrays": dict, "folder_hash": str, "counts": dict,
    "skipped": dict,
}  # fmt: skip
"""What every manifest says, and as what."""


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
    _check_needed(manifest, ("info", "tasks", "arrays", "folder_hash"), folder)
    return manifest


def checked_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest as `read_manifest` does, of which every value is of its kind."""
    manifest = read_manifest(folder)
    _check_needed(manifest, NEEDED, folder)
    unlike = [name for name, kind in NEEDED.items() if not isinstance(manifest[name], kind)]
    unlike += ["arrays"] * (not unlike and not _are_arrays(manifest["arrays"]))
    unlike += ["info"] * (not unlike and not _is_info(manifest["info"]))
    unlike += ["skipped"] * (
        not unlike and not all(isinstance(each, dict) for each in manifest["skipped"].values())
    )
    if unlike:
        raise PreparedDataError(
            f"Expected a manifest in {folder} as it was written, got another kind of value for "
            f"{', '.join(unlike)}. Remove the folder and start again."
        )
    return manifest


def _check_needed(manifest: dict[str, Any], names: Iterable[str], folder: Path) -> None:
    missing = [name for name in names if name not in manifest]
    if missing:
        raise PreparedDataError(
            f"Expected a whole manifest in {folder}, got one without {', '.join(missing)}. "
            "Remove the folder and start again."
        )


def _are_arrays(arrays: dict[str, Any]) -> bool:
    return all(
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
        for entry in arrays.values()
    )


def _is_info(info: dict[str, Any]) -> bool:
    span, classes = info.get("depth_range_m"), info.get("classes")
    return (
        isinstance(classes, list)
        and isinstance(span, list)
        and len(span) == 2
        and all(isinstance(length, int | float) for length in span)
    )


def short_hash(value: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def data_info(folder: Path) -> DataInfo:
    """Return what losses and metrics must know of the prepared data set."""
    info = checked_manifest(folder)["info"]
    shortest, longest = info["depth_range_m"]
    return DataInfo(classes=tuple(info["classes"]), depth_range_m=(shortest, longest))


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


def content_hash(arrays: dict[str, Any], info: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for all arrays and for what losses know of them."""
    hashes = {name: entry["sha256"] for name, entry in arrays.items()}
    text = json.dumps([hashes, info], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_whole(folder: Path) -> None:
    """Raise a `PreparedDataError` unless the manifest and every array's size are as written."""
    for name, entry in checked_manifest(folder)["arrays"].items():
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


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Return a new mapped array of zeros whose blocks are on disk.

    A full disk is an `OSError` here and now; without blocks of its own, writing to the mapped
    array would end the process by a signal.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    array.flush()
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
