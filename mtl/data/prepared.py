"""Data prepared once and then mapped: `prepare` writes it, every training on the node reads it.

    ROOT/<name>-<key>/manifest.json          source, info, arrays with their hashes
                      <split>/image.npy      uint8 (samples, height, width, 3)
                      <split>/<task>.npy     float32 or uint8, see `mtl.data.sources.Sample`
                      <split>/<task>_valid.npy  bool (samples, height, width)

Arrays are filled beside their place and the folder is renamed when it is complete, so a folder
that exists is whole. Two processes that want the same data: one prepares, the other waits. Needs
numpy, not torch.
"""

import dataclasses
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtl.data.sources import DataInfo, Sample, source
from mtl.spec import SPLITS, DataSpec
from mtl.store import write_json

PREPARED_SCHEMA = 1
CHUNK = 10
"""Samples that a worker process renders before it reports back."""

Progress = Callable[[int, int], None]
"""Called with the number of samples written and their number in all."""


class PreparedDataError(Exception):
    """Prepared data that cannot be made or read, in one sentence for its user."""


def default_data_root() -> Path:
    """Return the folder of prepared data in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "loss-scale-balancing"


def prepared_folder(data: DataSpec, data_root: str | None = None) -> Path:
    """Return where the data set lies once it is prepared, whether or not it is there."""
    text = json.dumps([PREPARED_SCHEMA, dataclasses.asdict(data)], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    root = default_data_root() if data_root is None else Path(data_root).expanduser()
    return root / f"{data.name}-{key}"


def is_prepared(data: DataSpec, data_root: str | None = None) -> bool:
    """Return whether the data set is there already."""
    return (prepared_folder(data, data_root) / "manifest.json").exists()


def expected_bytes(data: DataSpec) -> int:
    """Return the bytes that the prepared data set takes on disk, without rendering any of it.

    image 3; depth, reshading, edge2d, edge3d, keypoint2d, keypoint3d 4 each; curvature 8;
    normal 12; segmentation 1; nine masks 1 each: 57 bytes a pixel.
    """
    num_images = sum(data.count(split) for split in SPLITS)
    return 57 * data.height * data.width * num_images


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
        PreparedDataError: if the folder cannot be written or holds something damaged.
    """
    folder = prepared_folder(data, data_root)
    if is_prepared(data, data_root):
        _check_whole(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_space(folder.parent, expected_bytes(data))
        with _exclusive(folder.with_name(f"{folder.name}.lock")):
            if not is_prepared(data, data_root):
                _prepare_beside(data, folder, num_workers, on_progress)
    except OSError as error:
        raise PreparedDataError(
            f"Expected to write prepared data to {folder.parent}, got: {error.strerror or error}. "
            "Give another folder with --data-root."
        ) from error
    return folder


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise PreparedDataError(
            f"Expected {needed / 1e9:,.1f} GB of free disk for the prepared data in {root}, got "
            f"{free / 1e9:,.1f} GB. Ask for fewer or smaller images, or give another folder with "
            "--data-root."
        )


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the file lock `path`, waiting for it if another process has it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare_beside(
    data: DataSpec, folder: Path, num_workers: int, on_progress: Progress | None
) -> None:
    beside = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)  # left by a process that was killed
    beside.mkdir()
    first = source(data).read(data, SPLITS[0], 0)
    for split in SPLITS:
        (beside / split).mkdir()
        for name, array in _arrays_of(first).items():
            np.lib.format.open_memmap(
                beside / split / f"{name}.npy",
                mode="w+",
                dtype=array.dtype,
                shape=(data.count(split), *array.shape),
            ).flush()
    chunks = [
        (split, start, min(start + CHUNK, data.count(split)))
        for split in SPLITS
        for start in range(0, data.count(split), CHUNK)
    ]
    _fill(data, beside, chunks, num_workers, on_progress)
    arrays = {
        str(path.relative_to(beside)): _array_entry(path) for path in sorted(beside.rglob("*.npy"))
    }
    manifest = {
        "schema": PREPARED_SCHEMA,
        "data": dataclasses.asdict(data),
        "info": dataclasses.asdict(source(data).info(data)),
        "tasks": sorted(first.targets),
        "arrays": arrays,
        "folder_hash": _hash_of_hashes(arrays),
        "numpy": np.__version__,
    }
    write_json(beside / "manifest.json", manifest)
    os.replace(beside, folder)


def _fill(
    data: DataSpec,
    folder: Path,
    chunks: list[tuple[str, int, int]],
    num_workers: int,
    on_progress: Progress | None,
) -> None:
    total, written = sum(stop - start for _, start, stop in chunks), 0

    def report(done: int) -> None:
        nonlocal written
        written += done
        if on_progress is not None:
            on_progress(written, total)

    report(0)
    if num_workers == 1:
        for chunk in chunks:
            report(_write_chunk(data, folder, chunk))
        return
    # spawn: forking a process that may run threads (torch, ray, rich) can hang the child.
    # Workers ignore Ctrl-C, which reaches the whole process group: this process ends them.
    with ProcessPoolExecutor(
        num_workers,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        futures = [pool.submit(_write_chunk, data, folder, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                report(future.result())
        except BrokenProcessPool as error:
            raise PreparedDataError(
                "Expected every rendering process to end by itself, got one that was killed, "
                "mostly for lack of memory. The same command starts the preparation again."
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_chunk(data: DataSpec, folder: Path, chunk: tuple[str, int, int]) -> int:
    """Render the samples start to stop of a split into the arrays; return their number."""
    split, start, stop = chunk
    classes = source(data).info(data).classes
    samples = []
    for index in range(start, stop):
        sample = source(data).read(data, split, index)
        _check_labels(sample, classes, f"sample {index} of split {split}")
        samples.append(_arrays_of(sample))
    for name in samples[0]:
        array = np.load(folder / split / f"{name}.npy", mmap_mode="r+")
        array[start:stop] = np.stack([sample[name] for sample in samples])
        array.flush()
    return stop - start


def _check_labels(sample: Sample, classes: tuple[str, ...], where: str) -> None:
    """Raise a `PreparedDataError` if a valid pixel has a label that is none of the classes."""
    for task, target in sample.targets.items():
        if target.ndim == 2:
            labels = target[sample.valid[task]]
            outside = labels[(labels < 0) | (labels >= len(classes))]
            if outside.size:
                raise PreparedDataError(
                    f"Expected {task} labels from 0 to {len(classes) - 1} ({', '.join(classes)}), "
                    f"got {outside.max()} in {where}. Mark such pixels as not valid, or name their "
                    "classes in the data set."
                )


def _arrays_of(sample: Sample) -> dict[str, np.ndarray]:
    """Return the arrays of a sample by file name, invalid pixels set to 0."""
    arrays = {"image": sample.image}
    for task, target in sample.targets.items():
        valid = sample.valid[task]
        mask = valid if target.ndim == 2 else valid[..., None]
        arrays[task] = np.where(mask, target, np.zeros((), target.dtype))
        arrays[f"{task}_valid"] = valid
    return arrays


def _array_entry(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _hash_of_hashes(arrays: dict[str, Any]) -> str:
    text = json.dumps({name: entry["sha256"] for name, entry in arrays.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder.

    Raises:
        PreparedDataError: if there is none that can be read, or it is of another schema.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PreparedDataError(
            f"Expected prepared data in {folder}, got: {error}. Remove the folder and start again."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != PREPARED_SCHEMA:
        raise PreparedDataError(
            f"Expected prepared data of schema {PREPARED_SCHEMA} in {folder}, got another. "
            "Remove the folder and start again."
        )
    return manifest


def data_info(folder: Path) -> DataInfo:
    """Return what losses and metrics must know of the prepared data set."""
    info = read_manifest(folder)["info"]
    shortest, longest = info["depth_range_m"]
    return DataInfo(classes=tuple(info["classes"]), depth_range_m=(shortest, longest))


def _check_whole(folder: Path) -> None:
    """Raise unless every array has the size that the manifest says."""
    for name, entry in read_manifest(folder)["arrays"].items():
        path = folder / name
        size = path.stat().st_size if path.exists() else None
        if size != entry["bytes"]:
            raise PreparedDataError(
                f"Expected {path} of {entry['bytes']} bytes, got "
                f"{'no file' if size is None else f'{size} bytes'}. "
                f"Remove {folder} and start again."
            )
