"""What a search decided, in `STORE/sweeps/NAME/decisions.jsonl`: written once, never changed.

A line is a decision: what it is about (its key) and what was decided. It holds no times, so the
same search writes the same bytes however often it was stopped.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtl.store import StoreError

SCHEMA = 1
"""Version of the lines."""

Key = tuple[Any, ...]
KEY_FIELDS: dict[str, tuple[str, ...]] = {
    "begun": ("method",),
    "candidate": ("method", "candidate"),
    "candidate_told": ("method", "candidate"),
    "rung": ("method", "rung"),
    "tuned": ("method",),
    "asked": ("method", "trial"),
    "told": ("method", "trial"),
    "chosen": ("method", "trials", "points"),
}
"""Kind of decision -> fields that say what it is about; there is one decision for each key.

begun           the settings that every later decision rests on
candidate       nuisance parameters to be tried
candidate_told  the study was told how a candidate did at the first rung; null: it failed
rung            candidates of a rung, the best first, and which of them go on
tuned           the nuisance parameters of all that follows
asked           priorities to be tried
told            the study was told how they did; null: every run of them failed
chosen          trials that are reported, after so many trials for so many points
"""


class DecisionLog:
    """Decisions by key; made while the sweep's lock is held.

    Args:
        path: of decisions.jsonl; a torn last line, left by a killed process, is dropped.

    Raises:
        StoreError: if the file is damaged or of another schema.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decisions: dict[Key, dict[str, Any]] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._length = len(whole)
        for line in whole.splitlines():
            decision = self._parsed(line)
            self._decisions[_key(decision)] = decision

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            decision = json.loads(line)
            if decision["schema"] == SCHEMA and _key(decision):
                return decision
        except (ValueError, KeyError, TypeError):
            pass
        raise StoreError(
            f"Expected decisions of schema {SCHEMA} in {self._path}, got {line[:80]!r}. "
            "Give another --name; finished runs are used again."
        )

    def get(self, kind: str, *about: Any) -> dict[str, Any] | None:
        """Return what was decided, or None if nothing was yet."""
        return self._decisions.get((kind, *about))

    def decide(self, kind: str, *about: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was decided; if nothing was, decide what `make` returns and write it."""
        held = self.get(kind, *about)
        if held is not None:
            return held
        fields = dict(zip(KEY_FIELDS[kind], about, strict=True))
        text = json.dumps({"schema": SCHEMA, "decision": kind, **fields, **make()}, allow_nan=False)
        line = text.encode() + b"\n"
        with open(self._path, "ab") as file:
            file.truncate(self._length)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._length += len(line)
        # As it will be read again: lists for tuples.
        decision: dict[str, Any] = json.loads(text)
        self._decisions[_key(decision)] = decision
        return decision


def _key(decision: dict[str, Any]) -> Key:
    kind = decision["decision"]
    return (kind, *(decision[name] for name in KEY_FIELDS[kind]))
