"""Prepared data written: in parallel, atomically, and continued where it was interrupted.

A recipe says which samples there are and reads them one by one. Its arrays are filled in a folder
beside the final one, `<folder>.unfinished`, which is renamed when everything is there; a folder
that exists is therefore whole. What is done is noted there too, see `mtl.data.writing`, so that the
same command continues after any interruption.
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mtl.data.manifest import PREPARED_SCHEMA, array_entry, content_hash, new_array, short_hash
from mtl.data.sample import Sample
from mtl.errors import BadSampleError, PreparedDataError
from mtl.spec.sections import SPLITS
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


def statistics_of(folder: Path, classes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return task -> statistics over the training split, read sample by sample.

    A data set of other splits alone has those of the first of them in the order of `SPLITS`.

    `share_valid` and, where pixels were filled in, `share_measured`, of all pixels; for maps
    `mean` and `std` a channel over the valid pixels; for classes `class_shares`
    of the valid pixels.

    Raises:
        PreparedDataError: if a task counts at no pixel of a split.
    """
    splits = [folder / name for name in SPLITS if (folder / name).is_dir()]
    first = splits[0]
    tasks = sorted(p.name.removesuffix("_valid.npy") for p in first.glob("*_valid.npy"))
    for task in tasks:
        for split in splits:
            _check_counts_somewhere(split, task)
    return {task: _of_task(first, task, classes) for task in tasks}


def _check_counts_somewhere(split: Path, task: str) -> None:
    """Raise if a task has no pixel in a split: no loss could learn it, or no metric be computed."""
    if not counts_somewhere(split, task):
        number = len(np.load(split / f"{task}_valid.npy", mmap_mode="r"))
        kind = "measured" if _is_by_metrics(split, task) else "valid"
        raise PreparedDataError(
            f"Expected some {kind} pixels of {task} in split {split.name}, got none in {number} "
            f"samples. Leave {task} out with --tasks, or mend its files and masks."
        )


def counts_somewhere(split: Path, task: str) -> bool:
    """Return whether a task has a pixel in a split that losses or, but for train, metrics count."""
    kind = "measured" if _is_by_metrics(split, task) else "valid"
    masks = np.load(split / f"{task}_{kind}.npy", mmap_mode="r")
    return any(mask.any() for mask in masks)


def _is_by_metrics(split: Path, task: str) -> bool:
    # Losses count valid pixels; metrics, which all but the training split is for, measured ones.
    return split.name != "train" and (split / f"{task}_measured.npy").exists()


def _of_task(split: Path, task: str, classes: tuple[str, ...]) -> dict[str, Any]:
    targets = np.load(split / f"{task}.npy", mmap_mode="r")
    valid = np.load(split / f"{task}_valid.npy", mmap_mode="r")
    found: dict[str, Any] = {"share_valid": float(np.mean([mask.mean() for mask in valid]))}
    measured = split / f"{task}_measured.npy"
    if measured.exists():
        masks = np.load(measured, mmap_mode="r")
        found["share_measured"] = float(np.mean([mask.mean() for mask in masks]))
    if targets.ndim == 3:
        return found | {"class_shares": _class_shares(targets, valid, classes)}
    return found | _moments(targets, valid)


def _class_shares(
    targets: np.ndarray, valid: np.ndarray, classes: tuple[str, ...]
) -> dict[str, float]:
    counts = np.zeros(len(classes), np.int64)
    for labels, mask in zip(targets, valid, strict=True):
        counts += np.bincount(labels[mask], minlength=len(classes))[: len(classes)]
    shares = counts / counts.sum()
    return dict(zip(classes, shares.tolist(), strict=True))


def _moments(targets: np.ndarray, valid: np.ndarray) -> dict[str, list[float]]:
    count, sums, squares = 0, np.zeros(targets.shape[-1]), np.zeros(targets.shape[-1])
    for values, mask in zip(targets, valid, strict=True):
        kept = values[mask].astype(np.float64)
        count += len(kept)
        sums += kept.sum(axis=0)
        squares += (kept**2).sum(axis=0)
    mean = sums / count
    std = np.sqrt(np.maximum(0, squares / count - mean**2))
    return {"mean": mean.tolist(), "std": std.tolist()}


CHUNK = 10
"""Samples that a worker process reads before it reports back."""
PARENT_CHECK_S = 0.5
"""How often a worker process looks whether the one that started it is still there."""

Progress = Callable[[int, int], None]
"""Called with the number of samples written and their number in all."""


class Recipe(Protocol):
    """What is to be prepared; picklable, because other processes read samples too."""

    def counts(self) -> dict[str, int]:
        """Return split -> number of samples."""

    def sample(self, split: str, index: int) -> Sample:
        """Return a sample; raise a `BadSampleError` where its files do not give one."""

    def state(self, split: str, start: int, stop: int, /) -> str:
        """Return what changes with the files of these samples; empty if they come from none."""

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of it: `name`, `info` and more, plain values.

        `files`, where there is such an entry, is the state of all files together.
        """


def write_prepared(
    recipe: Recipe,
    folder: Path,
    *,
    num_workers: int,
    on_progress: Progress | None,
    on_message: Message,
    skip_bad: bool = False,
    optional: Collection[str] = (),
) -> None:
    """Write the arrays and the manifest of a recipe to `folder`, which must not exist yet.

    Args:
        recipe: what to write.
        folder: where, in the end.
        num_workers: processes that read samples; 1 reads in this one.
        on_progress: called now and then.
        on_message: called where what was interrupted cannot be continued, or not all of it.
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
    # As JSON has it, so that what an interrupted preparation noted can be compared.
    counts, about = recipe.counts(), json.loads(json.dumps(recipe.about()))
    written = earlier(
        beside, about, lambda chunk: recipe.state(chunk.split, chunk.start, chunk.stop), on_message
    )
    if written is None:
        written = []
        _allocate(recipe, beside, counts, about)
    done = {result.chunk for result in written}
    classes = tuple(about["info"]["classes"])
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
    for result in _each_written(recipe, classes, beside, chunks, num_workers, skip_bad):
        note(beside, result)
        written.append(result)
        finished += result.chunk.stop - result.chunk.start
        if on_progress is not None:
            on_progress(finished, total)
    bad = _drop_bad(beside, counts, written)
    dropped = _drop_empty(beside, counts, optional)
    _finish(beside, folder, _as_written(about, bad, dropped), _by_id(about, bad))


def unfinished(folder: Path) -> Path:
    """Return where the arrays of a folder lie until they are whole."""
    return folder.with_name(f"{folder.name}.unfinished")


def _allocate(recipe: Recipe, beside: Path, counts: dict[str, int], about: dict[str, Any]) -> None:
    shutil.rmtree(beside, ignore_errors=True)
    first = _first_arrays(recipe, counts)
    beside.mkdir()
    for split, count in counts.items():
        (beside / split).mkdir()
        for name, array in first.items():
            new_array(beside / split / f"{name}.npy", array.dtype, (count, *array.shape))
    begin_notes(beside, about)


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
    recipe: Recipe,
    classes: tuple[str, ...],
    beside: Path,
    chunks: list[Chunk],
    num_workers: int,
    skip_bad: bool,
) -> Iterator[Written]:
    """Yield the chunks as they are written."""
    if num_workers == 1:
        for chunk in chunks:
            yield _write_chunk(recipe, classes, beside, chunk, skip_bad)
        return
    # spawn: forking a process that may run threads (torch, ray, rich) can hang the child.
    with ProcessPoolExecutor(
        num_workers,
        multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(os.getpid(),),
    ) as pool:
        futures = [
            pool.submit(_write_chunk, recipe, classes, beside, chunk, skip_bad) for chunk in chunks
        ]
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
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _write_chunk(
    recipe: Recipe, classes: tuple[str, ...], folder: Path, chunk: Chunk, skip_bad: bool
) -> Written:
    """Read the samples of a chunk and write them into the arrays."""
    # Before reading: a change in between shows later as a change, never as none.
    state = recipe.state(chunk.split, chunk.start, chunk.stop)
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
    return Written(chunk, tuple(bad), state)


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
    bad = {split: reasons for split, reasons in bad.items() if reasons}
    for split, reasons in bad.items():
        if len(reasons) == counts[split]:
            raise PreparedDataError(
                f"Expected samples that can be read in split {split}, got none: "
                f"{next(iter(reasons.values()))}"
            )
    if bad:
        note_dropping(beside)
    for split, reasons in bad.items():
        kept = [index for index in range(counts[split]) if str(index) not in reasons]
        for path in sorted((beside / split).glob("*.npy")):
            _keep_rows(path, kept)
    return bad


def _drop_empty(beside: Path, counts: dict[str, int], optional: Collection[str]) -> list[str]:
    """Remove the arrays of optional tasks that count nowhere in a split; return these tasks."""
    ends = ("", "_valid", "_measured")
    dropped = []
    for task in sorted(optional):
        paths = [beside / split / f"{task}{end}.npy" for split in counts for end in ends]
        # Some are gone already where an earlier try was interrupted here.
        if all(path.exists() for path in paths) and all(
            counts_somewhere(beside / split, task) for split in counts
        ):
            continue
        note_dropping(beside)
        for path in paths:
            path.unlink(missing_ok=True)
        dropped.append(task)
    return dropped


def _as_written(
    about: dict[str, Any], bad: dict[str, dict[str, str]], dropped: list[str]
) -> dict[str, Any]:
    """Return what a recipe says of itself without the samples and tasks that were left out."""
    about = dict(about)
    if "ids" in about:
        # Row i of an array is sample i of this list.
        about["ids"] = {
            split: [name for index, name in enumerate(ids) if str(index) not in bad.get(split, {})]
            for split, ids in about["ids"].items()
        }
        about["ids_hash"] = short_hash(about["ids"])
    if dropped:
        about["derived"] = [task for task in about["derived"] if task not in dropped]
        about["notes"] = [
            *about["notes"],
            *(f"{task} counts at no pixel of some split and is left out." for task in dropped),
        ]
    return about


def _by_id(about: dict[str, Any], bad: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return split -> id -> reason; recipes without ids keep the index in their order."""
    if "ids" not in about:
        return bad
    return {
        split: {about["ids"][split][int(index)]: reason for index, reason in reasons.items()}
        for split, reasons in bad.items()
    }


def _keep_rows(path: Path, kept: list[int]) -> None:
    """Rewrite an array with the rows `kept`, one at a time."""
    whole = np.load(path, mmap_mode="r")
    if len(whole) == len(kept):  # an earlier try was interrupted after this array
        return
    smaller = path.with_suffix(".part")
    target = new_array(smaller, whole.dtype, (len(kept), *whole.shape[1:]))
    for row, index in enumerate(kept):
        target[row] = whole[index]
    target.flush()
    os.replace(smaller, path)


def _finish(
    beside: Path, folder: Path, about: dict[str, Any], bad: dict[str, dict[str, str]]
) -> None:
    """Write the manifest and give the folder its name.

    Args:
        beside: where the arrays are.
        folder: its name.
        about: what the recipe says of what was written.
        bad: split -> id of each sample left out -> reason.
    """
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
    remove_notes(beside)
    os.replace(beside, folder)
