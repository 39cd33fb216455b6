"""Prepared data copied once per machine, from a shared folder to a disk of its own.

Whoever comes first copies, under a lock, and every byte is checked against the manifest before the
copy gets its name; the others wait and then map the same files.
"""

import shutil
from pathlib import Path

from mtl.data.manifest import PreparedDataError, check_hashes, check_whole, read_manifest
from mtl.data.prepared import data_folder, exclusive, prepared_folder
from mtl.spec import DataSpec


def copy_once(data: DataSpec, data_root: str | None, local_root: str) -> Path:
    """Make sure that `local_root` holds a whole copy of a prepared data set; return its folder.

    Args:
        data: the data set.
        data_root: folder of prepared data that all machines share; None means the user's cache.
        local_root: folder on a disk of this machine; a data root in its own right afterwards.

    Raises:
        PreparedDataError: if the data are not prepared, or cannot be copied whole.
    """
    source = prepared_folder(data, data_root)
    target = data_folder(local_root) / source.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target):
            if not (target / "manifest.json").exists():
                _copy(source, target)
            elif _hash(source) != _hash(target):
                raise PreparedDataError(
                    f"Expected a copy of {source} in {target}, got other data. Remove {target}, or "
                    "name another folder with --local-data."
                )
            check_whole(target)
    except OSError as error:
        raise PreparedDataError(
            f"Expected to copy {source} to {target.parent}, got: {error.strerror or error}. Give "
            "another folder with --local-data."
        ) from error
    return target


def _hash(folder: Path) -> str:
    return read_manifest(folder)["folder_hash"]


def _copy(source: Path, target: Path) -> None:
    """Copy beside `target` and rename; what an interrupted copy left there is removed first."""
    beside = target.with_name(f"{target.name}.unfinished")
    needed = sum(entry["bytes"] for entry in read_manifest(source)["arrays"].values())
    shutil.rmtree(beside, ignore_errors=True)
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise PreparedDataError(
            f"Expected {needed / 1e9:,.1f} GB of free disk for a copy of {source} in "
            f"{target.parent}, got {free / 1e9:,.1f} GB. Give another folder with --local-data."
        )
    shutil.copytree(source, beside)
    check_hashes(beside)
    beside.rename(target)
