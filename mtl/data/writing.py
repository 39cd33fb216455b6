"""Prepared data written: in parallel, chunk by chunk, and continued where it was interrupted.

A recipe says which samples there are and reads them one by one. All is written beside the final
folder, below `<folder>.unfinished`, and renamed at the end, so a folder that exists is whole:

    chunks/about.json                     what is being prepared; another recipe starts again
    chunks/<split>/<start>/<name>.npy     the arrays of a few samples, renamed when all are there
    chunks/<split>/<start>/note.json      which of them were bad, and which tasks count somewhere
    whole/<split>/<name>.npy              the chunks of an array, joined once all are written

The same command continues after any interruption with the chunks that are missing.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mtl.data.manifest import PREPARED_SCHEMA, array_entry, short_hash
from mtl.data.sample import Sample, is_classes
from mtl.errors import BadSampleError, PreparedDataError
from mtl.spec.sections import SPLITS
from mtl.spec.tasks import declared_task
from mtl.store import write_json

CHUNK = 10
"""Samples that a worker process reads before it reports back."""
PARENT_CHECK_S = 0.5
"""How often a worker process looks whether the one that started it is still there."""

Progress = Callable[[int, int], None]
"""Called with the number of samples written and their number in all."""
Bad = dict[str, dict[int, str]]
"""Split -> index of a sample that could not be read -> reason."""


class Recipe(Protocol):
    """What is to be prepared; picklable, because other processes read samples too."""

    def counts(self) -> dict[str, int]:
        """Return split -> number of samples."""

    def sample(self, split: str, index: int) -> Sample:
        """Return a sample; raise a `BadSampleError` where its files do not give one."""

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of it: `name`, `info` and more, plain values.

        Whatever changes the samples must change it, such as the state of their files.
        """


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples of a split: from `start` up to, not including, `stop`."""

    split: str
    start: int
    stop: int
    folder: Path
    """Of its arrays, which is there once they are whole."""

    def note(self) -> dict[str, Any]:
        """Return the note of a written chunk; empty if it is not written."""
        try:
            held: dict[str, Any] = json.loads((self.folder / "note.json").read_text())
        except FileNotFoundError:
            return {}
        return held


def write_prepared(
    recipe: Recipe,
    folder: Path,
    *,
    num_workers: int,
    on_progress: Progress | None = None,
    skip_bad: bool = False,
    optional: Collection[str] = (),
) -> None:
    """Write the arrays and the manifest of a recipe to `folder`, which must not exist yet.

    Args:
        recipe: what to write.
        folder: where, in the end.
        num_workers: processes that read samples; 1 reads in this one.
        on_progress: called now and then.
        skip_bad: leave out samples that cannot be read and list them in the manifest.
        optional: tasks to leave out, with a note in the manifest, where they count at no pixel of
            a split; another such task is an error.

    Raises:
        PreparedDataError: for a sample that cannot be read, unless `skip_bad`; if every sample of
            a split is bad; if a process was killed.
    """
    beside = unfinished(folder)
    if folder.exists():
        raise PreparedDataError(
            f"Expected no folder {folder} yet, got one without a manifest: it was not prepared to "
            "its end, or changed since. Remove it and start again."
        )
    # As JSON has it, so that it can be compared with that of an interrupted preparation.
    counts, about = recipe.counts(), json.loads(json.dumps(recipe.about()))
    _begin_or_continue(beside, about)
    chunks = [
        Chunk(split, start, min(start + CHUNK, count), beside / "chunks" / split / str(start))
        for split, count in counts.items()
        for start in range(0, count, CHUNK)
    ]
    # Bad files may have been repaired, unless the chunks are being joined already.
    done = {c for c in chunks if c.note() and (not c.note()["bad"] or (beside / "whole").exists())}
    missing = [chunk for chunk in chunks if chunk not in done]
    total = sum(counts.values())
    finished = total - sum(chunk.stop - chunk.start for chunk in missing)
    if on_progress is not None:
        on_progress(finished, total)
    classes = tuple(about["info"]["classes"])
    for chunk in _each_written(recipe, classes, missing, num_workers, skip_bad):
        finished += chunk.stop - chunk.start
        if on_progress is not None:
            on_progress(finished, total)
    notes = {chunk: chunk.note() for chunk in chunks}
    bad = _bad_samples(notes, counts)
    names = {name for note in notes.values() for name in note["arrays"]}
    dropped = _tasks_to_drop(names, notes, counts, optional)
    names -= {f"{task}{end}" for task in dropped for end in ("", "_valid", "_measured")}
    for split, count in counts.items():
        for name in sorted(names):
            places = [chunk.folder for chunk in chunks if chunk.split == split]
            _join(places, count - len(bad[split]), beside / "whole" / split / f"{name}.npy")
    _write_manifest(beside / "whole", about, bad, dropped)
    os.replace(beside / "whole", folder)
    shutil.rmtree(beside)


def unfinished(folder: Path) -> Path:
    """Return where the arrays of a folder lie until they are whole."""
    return folder.with_name(f"{folder.name}.unfinished")


def _begin_or_continue(beside: Path, about: dict[str, Any]) -> None:
    """Clear what lies in `beside` unless it is of the same preparation."""
    about = {**about, "chunk": CHUNK}
    path = beside / "chunks" / "about.json"
    try:
        before = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        before = {}
    if before == about:
        return
    if before:
        other = sorted(key for key in {*before, *about} if before.get(key) != about.get(key))
        print(
            f"Starting again: {', '.join(other)} changed since the preparation in {beside} was "
            "interrupted.",
            file=sys.stderr,
        )
    shutil.rmtree(beside, ignore_errors=True)
    path.parent.mkdir(parents=True)
    write_json(path, about)


def _each_written(
    recipe: Recipe,
    classes: tuple[str, ...],
    chunks: list[Chunk],
    num_workers: int,
    skip_bad: bool,
) -> Iterator[Chunk]:
    """Yield the chunks as they are written."""
    if num_workers == 1:
        for chunk in chunks:
            yield _write_chunk(recipe, classes, chunk, skip_bad)
        return
    # spawn: forking a process that may run threads (torch, ray, rich) can hang the child.
    with ProcessPoolExecutor(
        num_workers,
        multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(os.getpid(),),
    ) as pool:
        futures = [pool.submit(_write_chunk, recipe, classes, chunk, skip_bad) for chunk in chunks]
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


def _begin_worker(parent: int) -> None:
    """Let a worker process end with the process `parent` that started it, and with nothing else.

    It ignores Ctrl-C, which reaches the whole process group: the parent ends its workers. One that
    is killed cannot, and they would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _write_chunk(recipe: Recipe, classes: tuple[str, ...], chunk: Chunk, skip_bad: bool) -> Chunk:
    """Read the samples of a chunk and write their arrays."""
    held: dict[str, list[np.ndarray]] = {}
    bad: list[tuple[int, str]] = []
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
        for name, array in arrays_of(sample).items():
            held.setdefault(name, []).append(array)
    folder = chunk.folder
    part = folder.with_name(f"{folder.name}.part")
    for left in (part, folder):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    for name, arrays in held.items():
        _write_array(part / f"{name}.npy", arrays[0].dtype, (len(arrays), *arrays[0].shape), arrays)
    note = {
        "bad": bad,
        "arrays": sorted(held),
        "counted": [n for n in held if n.endswith(("_valid", "_measured")) and np.any(held[n])],
    }
    write_json(part / "note.json", note)
    part.rename(folder)
    return chunk


def check_labels(sample: Sample, classes: tuple[str, ...], where: str) -> None:
    """Raise a `PreparedDataError` if a valid pixel has a label that is none of the classes."""
    for task, target in sample.targets.items():
        if is_classes(target):
            names = class_names(task, classes)
            labels = target[sample.valid[task]]
            outside = labels[(labels < 0) | (labels >= len(names))]
            if outside.size:
                raise PreparedDataError(
                    f"Expected {task} labels from 0 to {len(names) - 1} ({', '.join(names)}), "
                    f"got {outside.max()} in {where}. Mark such pixels as not valid, or name their "
                    "classes in the data set."
                )


def class_names(task: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a task's classes; their numbers where they are not the data set's."""
    number = declared_task(task).num_channels
    return classes if number is None else tuple(map(str, range(number)))


def arrays_of(sample: Sample) -> dict[str, np.ndarray]:
    """Return the arrays of a sample by file name, invalid pixels set to 0."""
    arrays = {"image": sample.image}
    for task, target in sample.targets.items():
        valid = np.asarray(sample.valid[task])
        mask = valid if is_classes(target) else valid[..., None]
        arrays[task] = np.where(mask, target, np.zeros((), target.dtype))
        arrays[f"{task}_valid"] = valid
        if task in sample.measured:
            arrays[f"{task}_measured"] = sample.measured[task] & valid
    return arrays


def _bad_samples(notes: Mapping[Chunk, dict[str, Any]], counts: dict[str, int]) -> Bad:
    """Return the samples that are left out; raise if a split has no others."""
    bad: Bad = {split: {} for split in counts}
    for chunk, note in notes.items():
        bad[chunk.split].update(note["bad"])
    for split, reasons in bad.items():
        if len(reasons) == counts[split]:
            raise PreparedDataError(
                f"Expected samples that can be read in split {split}, got none: "
                f"{next(iter(reasons.values()), 'there is none')}"
            )
    return bad


def _tasks_to_drop(
    names: set[str],
    notes: Mapping[Chunk, dict[str, Any]],
    counts: dict[str, int],
    optional: Collection[str],
) -> list[str]:
    """Return the optional tasks that count nowhere in a split; raise if another one does.

    No loss could learn such a task, or no metric be computed.
    """
    tasks = sorted(name.removesuffix("_valid") for name in names if name.endswith("_valid"))
    dropped = set()
    for split, count in counts.items():
        of_split = [note for chunk, note in notes.items() if chunk.split == split]
        counted = {mask for note in of_split for mask in note["counted"]}
        for task in tasks:
            # Losses count valid pixels; metrics, which all but the training split is for, measured.
            is_by_metrics = split != "train" and f"{task}_measured" in names
            kind = "measured" if is_by_metrics else "valid"
            if f"{task}_{kind}" in counted:
                continue
            if task not in optional:
                number = count - sum(len(note["bad"]) for note in of_split)
                raise PreparedDataError(
                    f"Expected some {kind} pixels of {task} in split {split}, got none in {number} "
                    f"samples. Leave {task} out with --tasks, or correct its files and masks."
                )
            dropped.add(task)
    return sorted(dropped)


def _join(places: list[Path], num_rows: int, path: Path) -> None:
    """Write an array from its chunks in `places`, unless it is there, and remove these."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [place / path.name for place in places if (place / path.name).exists()]
    first = np.load(parts[0], mmap_mode="r")
    half = path.with_suffix(".part")
    _write_array(half, first.dtype, (num_rows, *first.shape[1:]), map(np.load, parts))
    os.replace(half, path)
    for part in parts:
        part.unlink()


def _write_array(
    path: Path, dtype: np.dtype, shape: tuple[int, ...], pieces: Iterable[np.ndarray]
) -> None:
    """Write a .npy file of consecutive pieces; unlike numpy, say why where it cannot be written."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(piece.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _write_manifest(folder: Path, about: dict[str, Any], bad: Bad, dropped: list[str]) -> None:
    """Write what there is to know of whole arrays beside them.

    That is what the recipe says of itself, without the samples and tasks that were left out.
    """
    ids = about.get("ids")
    skipped = {
        split: {ids[split][i] if ids else str(i): reason for i, reason in reasons.items()}
        for split, reasons in bad.items()
        if reasons
    }
    about = dict(about)
    if ids:
        # Row i of an array is sample i of this list.
        about["ids"] = {
            split: [name for index, name in enumerate(names) if index not in bad[split]]
            for split, names in ids.items()
        }
        about["ids_hash"] = short_hash(about["ids"], sort_keys=False)
    if dropped:
        about["derived"] = [task for task in about["derived"] if task not in dropped]
        about["notes"] = [
            *about["notes"],
            *(f"{task} counts at no pixel of some split and is left out." for task in dropped),
        ]
    paths = sorted(folder.rglob("*.npy"))
    arrays = {str(path.relative_to(folder)): array_entry(path) for path in paths}
    hashes = {name: entry["sha256"] for name, entry in arrays.items()}
    images = [path for path in paths if path.name == "image.npy"]
    manifest = {
        "schema": PREPARED_SCHEMA,
        **about,
        "counts": {path.parent.name: len(np.load(path, mmap_mode="r")) for path in images},
        "tasks": _tasks_in(images[0].parent),
        "skipped": skipped,
        "statistics": statistics_of(folder, tuple(about["info"]["classes"])),
        "arrays": arrays,
        "folder_hash": short_hash([hashes, about["info"]]),
        "numpy": np.__version__,
    }
    write_json(folder / "manifest.json", manifest)


def _tasks_in(split: Path) -> list[str]:
    return sorted(path.name.removesuffix("_valid.npy") for path in split.glob("*_valid.npy"))


def statistics_of(folder: Path, classes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return task -> statistics over the training split, or the first of those that there are.

    `share_valid` and, where pixels were filled in, `share_measured`, of all pixels; for maps
    `mean` and `std` a channel over the valid pixels; for classes `class_shares`
    of the valid pixels.
    """
    first = next(folder / split for split in SPLITS if (folder / split).is_dir())
    return {task: _of_task(first, task, classes) for task in _tasks_in(first)}


def _of_task(split: Path, task: str, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the statistics of a task, read sample by sample."""
    targets = np.load(split / f"{task}.npy", mmap_mode="r")
    valid = np.load(split / f"{task}_valid.npy", mmap_mode="r")
    found: dict[str, Any] = {"share_valid": float(np.mean([mask.mean() for mask in valid]))}
    measured = split / f"{task}_measured.npy"
    if measured.exists():
        masks = np.load(measured, mmap_mode="r")
        found["share_measured"] = float(np.mean([mask.mean() for mask in masks]))
    if is_classes(targets[0]):
        names = class_names(task, classes)
        counts = np.zeros(len(names), np.int64)
        for labels, mask in zip(targets, valid, strict=True):
            counts += np.bincount(labels[mask], minlength=len(names))
        shares = (counts / counts.sum()).tolist()
        return found | {"class_shares": dict(zip(names, shares, strict=True))}
    count, sums, squares = 0, np.zeros(targets.shape[-1]), np.zeros(targets.shape[-1])
    for values, mask in zip(targets, valid, strict=True):
        kept = values[mask].astype(np.float64)
        count += len(kept)
        sums += kept.sum(axis=0)
        squares += (kept**2).sum(axis=0)
    mean = sums / count
    std = np.sqrt(np.maximum(0, squares / count - mean**2))
    return found | {"mean": mean.tolist(), "std": std.tolist()}
