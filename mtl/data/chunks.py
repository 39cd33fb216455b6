"""Chunks of an unfinished preparation: noted when they are written, so that it can be continued.

`recipe.json` beside the arrays says what is prepared, `chunks.jsonl` has a line for each chunk with
the samples that were bad and the state in which the files were. A last line says that the bad
samples are being dropped from the arrays: from then on, rows no longer stand at their index.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.store import write_json

RECIPE, NOTES = "recipe.json", "chunks.jsonl"
DROPPING = {"dropping": True}

Message = Callable[[str], None]
"""Called with a sentence for the user."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a split: from `start` up to, not including, `stop`."""

    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class Written:
    """A chunk that was written."""

    chunk: Chunk
    bad: tuple[tuple[int, str], ...]
    """Index and reason of each sample left out."""
    state: str
    """Of the samples' files before they were read."""


def begin_notes(beside: Path, about: dict[str, Any]) -> None:
    """Note in the folder `beside` what will be prepared there."""
    write_json(beside / RECIPE, about)
    (beside / NOTES).touch()


def note(beside: Path, result: Written) -> None:
    """Note that a chunk is written."""
    _append(beside, {**vars(result.chunk), "bad": result.bad, "state": result.state})


def note_dropping(beside: Path) -> None:
    """Note that rows of bad samples are dropped from now on."""
    _append(beside, DROPPING)


def remove_notes(beside: Path) -> None:
    """Remove the notes of a preparation that is whole."""
    for name in (RECIPE, NOTES):
        (beside / name).unlink()


def _append(beside: Path, entry: dict[str, Any]) -> None:
    with open(beside / NOTES, "a", encoding="utf-8") as file:
        # A line of its own, even after one that a killed process or a full disk left torn.
        file.write(("\n" if _is_torn(beside / NOTES) else "") + json.dumps(entry) + "\n")


def _is_torn(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.seek(0, 2) > 0 and file.seek(-1, 2) >= 0 and file.read(1) != b"\n"


def earlier(
    beside: Path, about: dict[str, Any], state: Callable[[Chunk], str], on_message: Message
) -> list[Written] | None:
    """Return the chunks of an interrupted preparation that still stand; None to begin anew.

    Args:
        beside: folder of the preparation.
        about: what is prepared now, as JSON has it.
        state: chunk -> state of its files now.
        on_message: called where not everything can be continued.
    """
    try:
        before = json.loads((beside / RECIPE).read_text("utf-8"))
        written, is_dropping = _noted(beside)
    except (OSError, ValueError):
        return None
    # Files are compared chunk by chunk: one that was mended must not undo hours of work.
    other = sorted(
        key for key in {*before, *about} - {"files"} if before.get(key) != about.get(key)
    )
    since = f"since the preparation in {beside} was interrupted"
    if other:
        on_message(f"Beginning anew: {', '.join(other)} changed {since}.")
        return None
    changed = [result.chunk for result in written if state(result.chunk) != result.state]
    if is_dropping:
        if changed:
            on_message(f"Beginning anew: source files changed {since}.")
            return None
        return written
    if changed:
        number = sum(chunk.stop - chunk.start for chunk in changed)
        on_message(f"Source files changed {since}: {number:,} samples around them are read again.")
    # Bad files may have been mended in a way that cannot be seen here, so they are tried again.
    return [result for result in written if not result.bad and result.chunk not in changed]


def _noted(beside: Path) -> tuple[list[Written], bool]:
    """Return the chunks noted, each as it was last written, and whether dropping had begun."""
    written: dict[Chunk, Written] = {}
    is_dropping = False
    for line in (beside / NOTES).read_text("utf-8").splitlines():
        try:
            held = json.loads(line)
        except ValueError:  # torn: that chunk is written again
            continue
        if held == DROPPING:
            is_dropping = True
            continue
        chunk = Chunk(held["split"], held["start"], held["stop"])
        bad = tuple((index, reason) for index, reason in held["bad"])
        written[chunk] = Written(chunk, bad, held.get("state", ""))
    return list(written.values()), is_dropping
