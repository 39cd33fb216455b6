"""Statistics of prepared targets: mean, spread, share valid, shares of classes; none is empty."""

from pathlib import Path
from typing import Any

import numpy as np

from mtl.data.manifest import PreparedDataError
from mtl.spec_sections import SPLITS


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
