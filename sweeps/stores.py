"""The store of a sweep before anything is written there."""

import os
from pathlib import Path

from mtl.store import Store, StoreError, is_address


def existing_store(path: str) -> Store | None:
    """Return the store at `path` for reading, or None if nothing is there yet.

    Raises:
        StoreError: for what is no store, or where none can be made.
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    if is_address(path):
        return Store.if_there(path)
    folder = Path(path.removeprefix("file://")).expanduser().absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        return Store(path, create=False)
    _check_can_be_made(folder)
    return None


def _check_can_be_made(folder: Path) -> None:
    """Raise a `StoreError` if `folder` could not be made or written, as far as a look tells."""
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    if not writable or parent.resolve().is_relative_to("/proc"):  # root may write even there
        raise StoreError(
            f"Expected a folder that can be written, got {folder}, and {parent} is none. "
            "Give another one with --store."
        )
