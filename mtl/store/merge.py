"""Changes to whole runs of local stores: copying those that another store lacks, and removing.

A run is copied beside its place and renamed, so that the store never holds half of one.
"""

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mtl.errors import StoreError
from mtl.store.lease import RunBusyError
from mtl.store.states import read_run
from mtl.store.store import Store
from mtl.store.verify import verify_run, verify_sweep

UNFINISHED_PREFIX = ".merging-"
"""Of what is being copied; without its process, it can be removed."""
REMOVED_PREFIX = ".removed-"
"""Of a run on its way out; nobody reads it."""
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
    """Copy the runs and sweeps of `source` that `target` lacks, and results that it lacks.

    A run that both hold is left, unless it is done in `source` alone. Nothing is written there.

    Raises:
        StoreError: if one store lies in the other, or another merge into `target` is running.
    """
    first, second = source.root.resolve(), target.root.resolve()
    if first == second:
        raise StoreError(f"Expected two different stores, got {first} twice.")
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise StoreError(f"Expected two stores, got {first} and {second}, one within the other.")
    merged = Merged()
    with _only_merge(target):
        for run_id in source.run_ids():
            problem = _merge_run(source, target, run_id, merged)
            if problem is not None:
                merged.problems.append(f"Run {run_id} {problem}")
        for name in source.names("sweeps"):
            _merge_sweep(source, target, name, merged)
    return merged


@contextlib.contextmanager
def _only_merge(target: Store) -> Iterator[None]:
    """Hold the store against other merges, and remove what one that was killed has left."""
    with target.locked("") as holder:
        if holder is not None:
            raise StoreError(f"Another merge into {target.root} is running ({holder}). Wait.")
        for folder in ("runs", "sweeps"):
            _remove_left(target, folder, UNFINISHED_PREFIX)
        yield


def _remove_left(store: Store, folder: str, prefix: str) -> None:
    for name in store.names(folder):
        if name.startswith(prefix):
            store.remove_folder(f"{folder}/{name}")


def _merge_run(source: Store, target: Store, run_id: str, merged: Merged) -> str | None:
    """Merge a run; return what to say if it was left although it was asked for."""
    theirs, ours = read_run(source, run_id), read_run(target, run_id)
    if theirs.state == "running":
        return "is being trained by another process. It was left; merge again later."
    damages = verify_run(source, run_id)
    if damages:
        first = f"{damages[0].path}: {damages[0].what}"
        return f"is damaged in {source.root} and was not copied ({first})."
    if ours.state == "damaged":
        return (
            f"is damaged in {target.root} ({ours.reason}) and was left. Remove it there and merge "
            "again."
        )
    if ours.result is not None and theirs.result is not None and ours.result != theirs.result:
        return f"has different results in {source.root} and {target.root}; both were left."
    if target.kind(target.run_key(run_id)) == "absent":
        _copy(source.run_folder(run_id), target.run_folder(run_id))
        merged.counts["copied"] += 1
    elif ours.result is None and theirs.result is not None:
        try:
            with target.run_lock(run_id):
                _copy(source.run_folder(run_id), target.run_folder(run_id))
        except RunBusyError:
            return f"is being trained in {target.root}. It was left; merge again later."
        merged.counts["replaced by the finished one"] += 1
    else:
        merged.counts["there already"] += 1
    return None


def _copy(source: Path, place: Path) -> None:
    """Copy a folder beside `place` and rename it there; what is there goes."""
    beside = place.with_name(f"{UNFINISHED_PREFIX}{place.name}")
    aside = place.with_name(f"{UNFINISHED_PREFIX}old-{place.name}")
    try:
        # No locks, and nothing that a kill has left.
        ignored = shutil.ignore_patterns(".*")
        shutil.copytree(source, beside, symlinks=True, ignore=ignored, copy_function=_copy_file)
        if place.exists():
            os.rename(place, aside)
        os.rename(beside, place)
    finally:
        for left in (beside, aside):
            shutil.rmtree(left, ignore_errors=True)


def _copy_file(source: str, target: str) -> None:
    """Copy a file, never what a link points to, and flush it to disk."""
    shutil.copyfile(source, target, follow_symlinks=False)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _merge_sweep(source: Store, target: Store, name: str, merged: Merged) -> None:
    try:
        key = source.sweep_key(name)
    except ValueError:
        return  # verify tells of it
    damages = verify_sweep(source, name)
    if damages:
        merged.problems.append(
            f"Sweep {name} is damaged in {source.root} and was not copied: {damages[0].path} "
            f"{damages[0].what}."
        )
    elif target.kind(f"{key}/plan.json") != "absent":
        merged.notes.append(
            f"Sweep {name} is in both; the plan in {target.root} stands, and the runs of both "
            "are there."
        )
    else:
        for file in SWEEP_FILES[::-1]:  # the plan last: it makes the folder a sweep
            if source.kind(f"{key}/{file}") == "file":
                target.write(f"{key}/{file}", source.read(f"{key}/{file}"))
        merged.num_sweeps += 1


def remove_runs(store: Store, run_ids: list[str]) -> list[str]:
    """Remove runs; return a sentence for each that could not be.

    Sweeps stay as they are: their plans still list the runs.
    """
    _remove_left(store, "runs", REMOVED_PREFIX)
    refused = []
    for run_id in run_ids:
        try:
            _remove_run(store, run_id)
        except RunBusyError as error:
            refused.append(f"{error} It was left; stop that process first.")
        except OSError as error:
            refused.append(f"Run {run_id} cannot be removed: {error}.")
    return refused


def _remove_run(store: Store, run_id: str) -> None:
    folder = store.run_folder(run_id)
    if store.kind(store.run_key(run_id)) != "folder":  # a link goes, and what it points to stays
        folder.unlink()
        return
    gone = folder.with_name(f"{REMOVED_PREFIX}{run_id}-{os.getpid()}")
    with store.run_lock(run_id):
        os.rename(folder, gone)  # a kill leaves the run whole, or absent
    shutil.rmtree(gone)
