"""Data prepared once and then mapped: every training on the node reads the same arrays.

    ROOT/<name>-<key>/manifest.json             source, info, statistics, arrays with their hashes
                      <split>/image.npy         uint8 (samples, height, width, 3)
                      <split>/<task>.npy        float32, float16 or uint8, see `mtl.data.sample`
                      <split>/<task>_valid.npy     bool (samples, height, width)
                      <split>/<task>_measured.npy  likewise, where valid pixels were filled in

Scenes are rendered here when they are first asked for. Data sets from files are prepared beforehand
by `python -m mtl.data.prepare`, and known by the hash of their content. Needs numpy, not torch.
"""

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtl.data.manifest import (
    PREPARED_SCHEMA,
    check_hashes,
    check_whole,
    data_info,
    read_manifest,
    short_hash,
)
from mtl.data.sample import DataInfo, Sample
from mtl.data.scenes.records import VARIANTS
from mtl.data.writing import Progress, Recipe, unfinished, write_prepared
from mtl.errors import PreparedDataError
from mtl.spec.sections import SPLITS, DataSpec


def data_folder(data_root: str | None) -> Path:
    """Return the folder that holds the prepared data sets; None means the user's cache folder."""
    if data_root is not None:
        return Path(data_root).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "loss-scale-balancing"


def prepared_name(name: str) -> str:
    """Return the name of a data set as folders have it; `module:name` has a colon."""
    return name.replace(":", ".")


def prepared_sets(name: str, data_root: str | None = None) -> dict[Path, dict[str, Any]]:
    """Return folder -> manifest of every prepared version of the data set `name`."""
    found = {}
    for path in sorted(data_folder(data_root).glob(f"{prepared_name(name)}-*/manifest.json")):
        if not path.parent.name.endswith(".unfinished"):
            found[path.parent] = read_manifest(path.parent)
    return found


def prepared_folder(data: DataSpec, data_root: str | None = None) -> Path:
    """Return where the data set lies once it is prepared.

    Raises:
        PreparedDataError: for a data set from files that is not there.
    """
    if data.name == "scenes":
        # Fields that scenes do not have leave the key as it was before there were any.
        fields = {k: v for k, v in asdict(data).items() if k != "prepared"}
        return data_folder(data_root) / f"{data.name}-{short_hash([PREPARED_SCHEMA, fields])}"
    for folder, manifest in prepared_sets(data.name, data_root).items():
        if manifest["folder_hash"] == data.prepared:
            return folder
    raise PreparedDataError(
        f"Expected the prepared data {data.name} {data.prepared} in {data_folder(data_root)}, got "
        f"none. Run `python -m mtl.data.prepare {data.name}`, or name their folder with "
        "--data-root."
    )


def is_prepared(data: DataSpec, data_root: str | None = None) -> bool:
    """Return whether the data set is there already."""
    try:
        return (prepared_folder(data, data_root) / "manifest.json").exists()
    except PreparedDataError:
        return False


def info_of(data: DataSpec, data_root: str | None = None) -> DataInfo:
    """Return what losses and metrics must know of a data set; scenes need not be rendered."""
    if data.name == "scenes":
        variant = VARIANTS[data.variant]
        return DataInfo(classes=variant.classes, depth_range_m=variant.depth_range_m)
    return data_info(prepared_folder(data, data_root))


def expected_bytes(data: DataSpec) -> int:
    """Return the bytes that scenes will take on disk; other data are there already.

    image 3; depth, reshading, edge2d, edge3d, keypoint2d, keypoint3d 4 each; curvature 8;
    normal 12; segmentation 1; nine masks 1 each: 57 bytes a pixel.
    """
    num_images = sum(data.count(split) for split in SPLITS)
    return 57 * data.height * data.width * num_images if data.name == "scenes" else 0


@dataclass(frozen=True)
class SceneRecipe:
    """Rendered scenes, as a recipe of `mtl.data.writing`."""

    data: DataSpec

    def counts(self) -> dict[str, int]:
        """Return split -> number of scenes."""
        return {split: self.data.count(split) for split in SPLITS}

    def sample(self, split: str, index: int) -> Sample:
        """Render a scene with its nine targets."""
        # Imported where it renders: it needs scipy, which a plan need not wait for.
        from mtl.data.scenes.render import render_scene

        data = self.data
        return render_scene(
            data.variant, seed=data.seed, split=split, index=index,
            height=data.height, width=data.width,
        )  # fmt: skip

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of them."""
        info = asdict(info_of(self.data))
        return {
            "name": self.data.name,
            "data": asdict(self.data),
            "info": {name: list(values) for name, values in info.items()},
        }


def prepare(
    data: DataSpec,
    data_root: str | None = None,
    *,
    num_workers: int = 1,
    on_progress: Progress | None = None,
) -> Path:
    """Make sure that the data set is prepared and return its folder.

    Args:
        data: the data set.
        data_root: folder of prepared data; None means the user's cache folder.
        num_workers: processes that render; 1 renders in this one.
        on_progress: called now and then.

    Raises:
        PreparedDataError: if the folder cannot be written or holds something damaged, or if data
            from files are not there.
    """
    folder = prepared_folder(data, data_root)
    if (folder / "manifest.json").exists():
        check_whole(folder)
        if data.name != "scenes":
            _check_fits(data, folder)
        return folder
    write_once(
        SceneRecipe(data),
        folder,
        expected=expected_bytes(data),
        num_workers=num_workers,
        on_progress=on_progress,
    )
    return folder


def _check_fits(data: DataSpec, folder: Path) -> None:
    """Raise unless counts and size are those of the prepared arrays."""
    manifest = read_manifest(folder)
    held = {**manifest["size"], **manifest["counts"]}
    wanted = {"height": data.height, "width": data.width}
    wanted |= {split: data.count(split) for split in SPLITS}
    if held != wanted:
        raise PreparedDataError(
            f"Expected prepared data of {wanted}, got {held} in {folder}. Leave data.height, "
            "data.width and the counts to --dataset."
        )


def write_once(recipe: Recipe, folder: Path, *, expected: int, **options: Any) -> None:
    """Write a recipe's arrays to `folder` unless another process does it first.

    Args:
        recipe: what to write.
        folder: where; it appears when everything is in it.
        expected: bytes, to be refused where the disk has fewer.
        options: as `write_prepared` has them.

    Raises:
        PreparedDataError: if it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not (folder / "manifest.json").exists():
            _check_space(folder, expected - _held(folder), "--data-root")
        with _exclusive(folder):
            if not (folder / "manifest.json").exists():
                write_prepared(recipe, folder, **options)
    except OSError as error:
        raise PreparedDataError(
            f"Expected to write prepared data to {folder.parent}, got: {error.strerror or error}. "
            "Give another folder with --data-root."
        ) from error


def _held(folder: Path) -> int:
    """Return the bytes of arrays that an interrupted preparation left."""
    held = 0
    for path in unfinished(folder).rglob("*.npy"):
        with contextlib.suppress(FileNotFoundError):  # another process may be at work on them
            held += path.stat().st_size
    return held


def _check_space(folder: Path, needed: int, option: str) -> None:
    """Raise unless the disk of `folder` has room; `option` names another place."""
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise PreparedDataError(
            f"Expected {needed / 1e9:,.3g} GB of free disk for the prepared data in "
            f"{folder.parent}, got {free / 1e9:,.3g} GB. Ask for fewer or smaller images, or give "
            f"another folder with {option}."
        )


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of a prepared folder, waiting for it if another process has it."""
    with open(folder.with_name(f"{folder.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process prepares {folder}. Waiting for it.", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
        with _exclusive(target):
            if not (target / "manifest.json").exists():
                _copy(source, target)
            elif read_manifest(source)["folder_hash"] != read_manifest(target)["folder_hash"]:
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


def _copy(source: Path, target: Path) -> None:
    """Copy beside `target` and rename; what an interrupted copy left there is removed first."""
    beside = target.with_name(f"{target.name}.unfinished")
    needed = sum(entry["bytes"] for entry in read_manifest(source)["arrays"].values())
    shutil.rmtree(beside, ignore_errors=True)
    _check_space(target, needed, "--local-data")
    shutil.copytree(source, beside)
    check_hashes(beside)
    beside.rename(target)
