"""Prepared data written: in parallel, atomically, and continued where it was interrupted.

A recipe says which samples there are and reads them one by one. Its arrays are filled in a folder
beside the final one, `<folder>.unfinished`, which is renamed when everything is there; a folder
that exists is therefore whole. Which chunks are done is noted there too, so that the same command
continues after any interruption.
"""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mtl.data.manifest import PREPARED_SCHEMA, PreparedDataError, array_entry, content_hash
from mtl.data.raw import BadSampleError
from mtl.data.sources import Sample
from mtl.data.statistics import statistics_of
from mtl.store import write_json

CHUNK = 10
"""Samples that a worker process reads before it reports back."""
NOTES = "chunks.jsonl"

Progress = Callable[[int, int], None]
"""Called with the number of samples written and their number in all."""


class Recipe(Protocol):
    """What is to be prepared; picklable, because other processes read samples too."""

    def counts(self) -> dict[str, int]:
        """Return split -> number of samples."""

    def sample(self, split: str, index: int) -> Sample:
        """Return a sample; raise a `BadSampleError` where its files do not give one."""

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of it: `name`, `info` and more, plain values."""


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


def write_prepared(
    recipe: Recipe,
    folder: Path,
    *,
    num_workers: int,
    on_progress: Progress | None,
    skip_bad: bool = False,
) -> None:
    """Write the arrays and the manifest of a recipe to `folder`, which must not exist yet.

    Args:
        recipe: what to write.
        folder: where, in the end.
        num_workers: processes that read samples; 1 reads in this one.
        on_progress: called now and then.
        skip_bad: leave out samples that cannot be read and list them in the manifest.

    Raises:
        PreparedDataError: for a sample that cannot be read, unless `skip_bad`; if every sample of
            a split is bad; if a process was killed.
    """
    beside = folder.with_name(f"{folder.name}.unfinished")
    if folder.exists():
        raise PreparedDataError(
            f"Expected no folder {folder} yet, got one without a manifest: it was not prepared to "
            "its end, or changed since. Remove it and start again."
        )
    # As JSON has it, so that what an interrupted preparation noted can be compared.
    counts, about = recipe.counts(), json.loads(json.dumps(recipe.about()))
    written = _earlier(beside, about)
    if written is None:
        written = []
        _allocate(recipe, beside, counts, about)
    done = {result.chunk for result in written}
    chunks = [
        chunk
        for split, count in counts.items()
        for start in range(0, count, CHUNK)
        if (chunk := Chunk(split, start, min(start + CHUNK, count))) not in done
    ]
    total = sum(counts.values())
    finished = sum(chunk.stop - chunk.start for chunk in done)
    if on_progress is not None:
        on_progress(finished, total)
    for result in _each_written(recipe, beside, chunks, num_workers, skip_bad):
        _note(beside, result)
        written.append(result)
        finished += result.chunk.stop - result.chunk.start
        if on_progress is not None:
            on_progress(finished, total)
    bad = _drop_bad(beside, counts, written)
    _finish(beside, folder, about, bad)


def _earlier(beside: Path, about: dict[str, Any]) -> list[Written] | None:
    """Return the chunks of an interrupted preparation of the same recipe; None to begin anew."""
    try:
        if json.loads((beside / "recipe.json").read_text("utf-8")) != about:
            return None
        lines = (beside / NOTES).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    written = []
    for line in lines:
        try:
            held = json.loads(line)
        except ValueError:  # the last line of a process that was killed while it wrote
            break
        if not held["bad"]:  # bad files may have been mended since
            written.append(Written(Chunk(held["split"], held["start"], held["stop"]), ()))
    return written


def _note(beside: Path, result: Written) -> None:
    entry = {**vars(result.chunk), "bad": result.bad}
    with open(beside / NOTES, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _allocate(recipe: Recipe, beside: Path, counts: dict[str, int], about: dict[str, Any]) -> None:
    shutil.rmtree(beside, ignore_errors=True)
    first = _first_arrays(recipe, counts)
    beside.mkdir()
    for split, count in counts.items():
        (beside / split).mkdir()
        for name, array in first.items():
            _new_array(beside / split / f"{name}.npy", array.dtype, (count, *array.shape))
    write_json(beside / "recipe.json", about)
    (beside / NOTES).touch()


def _new_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Return a new mapped array whose blocks are on disk: a full disk is an error here and now."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    array.flush()
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _first_arrays(recipe: Recipe, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Return the arrays of the first sample that can be read: names, types and shapes of all."""
    reason = "there is none"
    for split, count in counts.items():
        for index in range(count):
            try:
                return arrays_of(recipe.sample(split, index))
            except BadSampleError as error:
                reason = str(error)
    raise PreparedDataError(f"Expected at least one sample that can be read: {reason}")


def _each_written(
    recipe: Recipe, beside: Path, chunks: list[Chunk], num_workers: int, skip_bad: bool
) -> Iterator[Written]:
    """Yield the chunks as they are written."""
    if num_workers == 1:
        for chunk in chunks:
            yield _write_chunk(recipe, beside, chunk, skip_bad)
        return
    # spawn: forking a process that may run threads (torch, ray, rich) can hang the child.
    # Workers ignore Ctrl-C, which reaches the whole process group: this process ends them.
    with ProcessPoolExecutor(
        num_workers,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        futures = [pool.submit(_write_chunk, recipe, beside, chunk, skip_bad) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise PreparedDataError(
                "Expected every preparing process to end by itself, got one that was killed, "
                "mostly for lack of memory. The same command continues."
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_chunk(recipe: Recipe, folder: Path, chunk: Chunk, skip_bad: bool) -> Written:
    """Read the samples of a chunk and write them into the arrays."""
    classes = tuple(recipe.about()["info"]["classes"])
    names = {path.stem for path in (folder / chunk.split).glob("*.npy")}
    held, bad = {}, []
    for index in range(chunk.start, chunk.stop):
        try:
            sample = recipe.sample(chunk.split, index)
        except BadSampleError as error:
            if not skip_bad:
                raise PreparedDataError(
                    f"{error} (--skip-bad goes on without such samples and lists them.)"
                ) from error
            bad.append((index, str(error)))
            continue
        check_labels(sample, classes, f"sample {index} of split {chunk.split}")
        held[index] = arrays_of(sample)
        if set(held[index]) != names:
            raise PreparedDataError(
                f"Expected arrays {', '.join(sorted(names))} of sample {index} of split "
                f"{chunk.split}, got {', '.join(sorted(held[index]))}. Start again with data "
                "whose samples are alike."
            )
    for name in names:
        array = np.load(folder / chunk.split / f"{name}.npy", mmap_mode="r+")
        for index, arrays in held.items():
            array[index] = arrays[name]
        array.flush()
    return Written(chunk, tuple(bad))


def check_labels(sample: Sample, classes: tuple[str, ...], where: str) -> None:
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


def arrays_of(sample: Sample) -> dict[str, np.ndarray]:
    """Return the arrays of a sample by file name, invalid pixels set to 0."""
    arrays = {"image": sample.image}
    for task, target in sample.targets.items():
        valid = sample.valid[task]
        mask = valid if target.ndim == 2 else valid[..., None]
        arrays[task] = np.where(mask, target, np.zeros((), target.dtype))
        arrays[f"{task}_valid"] = valid
        if task in sample.measured:
            arrays[f"{task}_measured"] = sample.measured[task] & valid
    return arrays


def _drop_bad(
    beside: Path, counts: dict[str, int], written: list[Written]
) -> dict[str, dict[str, str]]:
    """Rewrite the arrays of splits that hold bad samples; return split -> index -> reason."""
    bad: dict[str, dict[str, str]] = {split: {} for split in counts}
    for result in written:
        for index, reason in result.bad:
            bad[result.chunk.split][str(index)] = reason
    for split, reasons in bad.items():
        if not reasons:
            continue
        kept = [index for index in range(counts[split]) if str(index) not in reasons]
        if not kept:
            raise PreparedDataError(
                f"Expected samples that can be read in split {split}, got none: "
                f"{next(iter(reasons.values()))}"
            )
        for path in (beside / split).glob("*.npy"):
            _keep_rows(path, kept)
    return {split: reasons for split, reasons in bad.items() if reasons}


def _keep_rows(path: Path, kept: list[int]) -> None:
    """Rewrite an array with the rows `kept`, one at a time."""
    whole = np.load(path, mmap_mode="r")
    if len(whole) == len(kept):  # an earlier try was interrupted after this array
        return
    smaller = path.with_suffix(".part")
    target = _new_array(smaller, whole.dtype, (len(kept), *whole.shape[1:]))
    for row, index in enumerate(kept):
        target[row] = whole[index]
    target.flush()
    os.replace(smaller, path)


def _finish(
    beside: Path, folder: Path, about: dict[str, Any], bad: dict[str, dict[str, str]]
) -> None:
    """Write the manifest and give the folder its name."""
    arrays = {
        str(path.relative_to(beside)): array_entry(path) for path in sorted(beside.rglob("*.npy"))
    }
    manifest = {
        "schema": PREPARED_SCHEMA,
        **about,
        "counts": {
            path.parent.name: len(np.load(path, mmap_mode="r"))
            for path in beside.glob("*/image.npy")
        },
        "tasks": sorted(
            path.name.removesuffix("_valid.npy")
            for path in next(beside.glob("*/image.npy")).parent.glob("*_valid.npy")
        ),
        "skipped": bad,
        "statistics": statistics_of(beside, tuple(about["info"]["classes"])),
        "arrays": arrays,
        "folder_hash": content_hash(arrays, about["info"]),
        "numpy": np.__version__,
    }
    write_json(beside / "manifest.json", manifest)
    for name in ("recipe.json", NOTES):
        (beside / name).unlink()
    os.replace(beside, folder)
