"""One store into another: what is absent or further there is copied whole, results never replaced.

A run is copied beside its place and renamed, so that the store never holds half of one.
"""

import contextlib
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mtl.errors import StoreError
from mtl.store.states import Entry, read_entry, read_result, run_ids_of
from mtl.store.store import RunBusyError, Store, check_sweep_name
from mtl.store.untrusted import (
    UnreadableError,
    entries_of,
    held_alone,
    held_shared,
    kind_of,
    opened,
    remove_whole,
    sync_folder,
)
from mtl.store.verify import verify_run, verify_sweep

UNFINISHED_PREFIX = ".merging-"
"""Of what is being copied; without its process, it can be removed."""
SWEEP_FILES = ("plan.json", "events.jsonl", "decisions.jsonl", "status.json")


@dataclass
class Merged:
    """What became of the runs and sweeps of the store that was merged."""

    counts: Counter[str] = field(default_factory=Counter)
    """What was done -> to how many runs."""
    num_sweeps: int = 0
    """Copied."""
    problems: list[str] = field(default_factory=list)
    """Sentences about what was left as it was although it was asked for."""
    notes: list[str] = field(default_factory=list)


def merge(source: Store, target: Store) -> Merged:
    """Copy the runs and sweeps of `source` that `target` lacks, or has less far.

    Args:
        source: opened for reading; nothing is written there.
        target: made if it does not exist.

    Raises:
        StoreError: if one store lies in the other, or another merge into `target` is under way.
    """
    first, second = source.root.resolve(), target.root.resolve()
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise StoreError(f"Expected two stores, got {source.root} and {target.root}.")
    merged = Merged()
    with _only_merge(target):
        for run_id in run_ids_of(source):
            _merge_run(source, target, run_id, merged)
        for folder in entries_of(source.root / "sweeps"):
            _merge_sweep(source, target, folder.name, merged)
    return merged


@contextlib.contextmanager
def _only_merge(target: Store) -> Iterator[None]:
    """Hold the store against other merges, and remove what one that was killed has left."""
    path = target.root / ".merge.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"Another merge into {target.root} is under way. Wait.") from error
        for folder in (target.runs_folder, target.root / "sweeps"):
            for left in entries_of(folder):
                if left.name.startswith(UNFINISHED_PREFIX):
                    remove_whole(left)
        yield
    finally:
        os.close(descriptor)


def _merge_run(source: Store, target: Store, run_id: str, merged: Merged) -> None:
    theirs, ours = source.run_folder(run_id), target.run_folder(run_id)
    try:
        with held_shared(theirs):  # before the look: a run under way is busy, and not damaged
            damages = verify_run(source, run_id)
            if damages:
                merged.problems.append(
                    f"Run {run_id} is damaged in {source.root} and was not copied: "
                    f"{damages[0].path} {damages[0].what}."
                )
            elif kind_of(ours) == "absent":
                _copy_folder(theirs, ours)
                merged.counts["copied"] += 1
            else:
                _merge_into(source, target, run_id, merged)
    except RunBusyError as error:
        merged.problems.append(f"{error} It was left as it is; merge again later.")


def _merge_into(source: Store, target: Store, run_id: str, merged: Merged) -> None:
    """Merge a run that both stores hold."""
    theirs, ours = read_entry(source, run_id), read_entry(target, run_id)
    if ours.state == "damaged":
        merged.problems.append(
            f"Run {run_id} is damaged in {target.root} ({ours.reason}) and was left. Remove it "
            "there and merge again."
        )
    elif ours.state == "done" and theirs.state == "done":
        # Neither is damaged, so both can be read.
        if read_result(source.run_folder(run_id)) == read_result(target.run_folder(run_id)):
            merged.counts["the same in both"] += 1
        else:
            merged.problems.append(
                f"Conflict: run {run_id} has different results in {source.root} and "
                f"{target.root}; both were left."
            )
    elif _rank(theirs) > _rank(ours):
        _replace(source, target, run_id)
        merged.counts["replaced by one that is further"] += 1
    else:
        merged.counts[f"as far or further in {target.root.name}"] += 1


def _rank(entry: Entry) -> tuple[bool, int]:
    return (entry.state == "done", entry.epochs)


def _replace(source: Store, target: Store, run_id: str) -> None:
    """Put a run in the place of an unfinished one; a kill between leaves the run absent."""
    ours = target.run_folder(run_id)
    aside = ours.with_name(f"{UNFINISHED_PREFIX}old-{run_id}")
    with held_alone(ours):
        _copy_folder(source.run_folder(run_id), ours, aside)
    remove_whole(aside)


def _copy_folder(source: Path, place: Path, aside: Path | None = None) -> None:
    """Copy a folder beside `place` and rename it there; what is there goes `aside` before."""
    beside = place.with_name(f"{UNFINISHED_PREFIX}{place.name}")
    try:
        _copy_tree(source, beside)
        if aside is not None:
            os.rename(place, aside)
        os.rename(beside, place)
        sync_folder(place.parent)
    except UnreadableError as error:
        raise StoreError(f"A file below {source} changed while it was copied: {error}.") from error
    finally:
        remove_whole(beside)


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir()
    for path in entries_of(source):
        if path.name.startswith("."):
            continue  # locks, and what a kill has left
        if kind_of(path) == "folder":
            _copy_tree(path, target / path.name)
        else:
            _copy_file(path, target / path.name)
    sync_folder(target)


def _copy_file(source: Path, target: Path) -> None:
    with opened(source) as read, open(target, "xb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())


def _merge_sweep(source: Store, target: Store, name: str, merged: Merged) -> None:
    theirs, ours = (store.root / "sweeps" / name for store in (source, target))
    try:
        check_sweep_name(name)
    except ValueError:
        return  # verify tells of it
    damages = verify_sweep(source, name)
    if damages:
        merged.problems.append(
            f"Sweep {name} is damaged in {source.root} and was not copied: {damages[0].path} "
            f"{damages[0].what}."
        )
    elif kind_of(ours) != "absent":
        merged.notes.append(
            f"Sweep {name} is in both; the plan in {target.root} stands, and the runs of both "
            "are there."
        )
    else:
        beside = ours.with_name(f"{UNFINISHED_PREFIX}{name}")
        beside.mkdir()
        try:
            for file in SWEEP_FILES:
                if kind_of(theirs / file) == "file":
                    _copy_file(theirs / file, beside / file)
            os.rename(beside, ours)
        finally:
            remove_whole(beside)
        merged.num_sweeps += 1


REMOVED_PREFIX = ".removed-"
"""Of a run on its way out; nobody reads it."""


def remove_runs(store: Store, run_ids: list[str]) -> list[str]:
    """Remove runs; return a sentence for each that could not be.

    Sweeps stay as they are: their plans go on listing the runs.

    Raises:
        OSError: if the disk refuses.
    """
    for left in entries_of(store.runs_folder):
        if left.name.startswith(REMOVED_PREFIX):
            remove_whole(left)
    refused = []
    for run_id in run_ids:
        try:
            _remove_run(store, run_id)
        except RunBusyError as error:
            refused.append(f"{error} It was left; stop that process first.")
        except UnreadableError as error:
            refused.append(f"Run {run_id} {error}.")
    return refused


def _remove_run(store: Store, run_id: str) -> None:
    folder = store.run_folder(run_id)
    if kind_of(folder) != "folder":  # a link goes, and what it points to stays
        remove_whole(folder)
        return
    with held_alone(folder):
        # First: a kill from here on leaves a run that is not done.
        remove_whole(folder / "result.json")
        sync_folder(folder)
        gone = folder.with_name(f"{REMOVED_PREFIX}{run_id}-{os.getpid()}")
        os.rename(folder, gone)
    remove_whole(gone)
