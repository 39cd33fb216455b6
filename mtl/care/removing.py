"""Runs removed so that what is left of one never looks complete."""

import os

from mtl.care.files import (
    UnreadableError,
    entries_of,
    held_alone,
    kind_of,
    remove_whole,
    sync_folder,
)
from mtl.store import RunBusyError, Store

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
