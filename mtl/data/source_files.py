"""The files from which samples come: whether they are still as they were.

A file's state is its size and the time of its last change, one `os.stat` each: reading the content
of a large data set again would take as long as preparing it.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MOST_NAMED = 3
"""Folders named in a message."""


def fingerprint(paths: Iterable[Path], source: Path) -> dict[str, Any]:
    """Return what stands for the state of files, plain values.

    `count` files, a `hash` over all of them, and `folders`: folder relative to the source -> hash
    over its files, by which a change can be told with its place.

    Args:
        paths: of the files; each counts once.
        source: file or folder to which names are relative.
    """
    base = os.fspath(source if source.is_dir() else source.parent)
    above = os.path.join(base, "")
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    names = sorted({os.fspath(path) for path in paths})
    for path in names:
        # Most lie below the source: relpath would take longer than the stat.
        name = path[len(above) :] if path.startswith(above) else os.path.relpath(path, base)
        digests[os.path.dirname(name) or "."].update(os.fsencode(f"{name}\0{_state(path)}\n"))
    folders = {folder: digest.hexdigest()[:16] for folder, digest in sorted(digests.items())}
    return {"count": len(names), "hash": _hash(folders), "folders": folders}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return words for where files changed between two fingerprints; empty if nowhere."""
    if before["hash"] == now["hash"]:
        return ""
    old, new = before["folders"], now["folders"]
    places = sorted(place for place in {*old, *new} if old.get(place) != new.get(place))
    named = ", ".join("the source itself" if p == "." else p for p in places[:MOST_NAMED])
    return named + (f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else "")


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "none"  # reading it says why
    return f"{found.st_size} {found.st_mtime_ns}"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
