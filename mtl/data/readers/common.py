"""What the readers share: whether decoded values can be right, and what they do alike.

Another encoding must not pass for the right one: what is refused names the file, what was expected,
and the remedy.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadSampleError, UsageError, UserError

Mask = NDArray[np.bool_]

MAX_NAMED = 5
MAX_TIMES_FAR = 2.0
"""Depth beyond this multiple of the far end of its range is in another unit, or no depth."""
MIN_LENGTH = 0.1
"""A shorter decoded normal has no direction: 8-bit zero vectors decode to 0.007."""
MAX_LENGTH_ERROR = 0.05
"""Median difference of a normal's length from 1; steps of 8 bits make at most 0.007."""


def first_names(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are, for a message."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def bad_file(place: Path | str, expected: str, got: str, remedy: str) -> BadSampleError:
    """Return the error for a file that is not what was expected, in the project's wording."""
    return BadSampleError(f"Expected {expected} in {place}, got {got}. {remedy}.")


def file_names(folder: Path, remedy: str) -> list[str]:
    """Return the sorted names in a folder; raise a `UserError` if it cannot be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(
            f"Expected the folder {folder}, got: {error.strerror or error}. {remedy}."
        ) from error


def hold_out(
    ids: Sequence[str], share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what stays in training and what is held out, both in the order of `ids`.

    Ids are drawn by a hash of seed and id: the same on every machine and in every version of numpy,
    and a sample more or less moves at most one other.

    Args:
        ids: distinct ids of the training samples.
        share: 0 holds nothing out; otherwise round(share * len(ids)) are, at least one.
        seed: of the draw.

    Raises:
        UserError: if the share is not in [0, 1) or leaves nothing to train on.
    """
    if not 0 <= share < 1:
        raise UsageError(
            f"Expected a validation share of at least 0 and below 1, got {share}. "
            "Give the part of the training samples to hold out, such as 0.1."
        )
    number = max(round(share * len(ids)), 1) if share > 0 else 0
    if number >= len(ids):
        raise UserError(
            f"Expected more training samples than the {number} to hold out, got {len(ids)}. "
            "Lower the validation share or give more samples."
        )
    drawn = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    held = set(drawn[:number])
    return (
        tuple(name for name in ids if name not in held),
        tuple(name for name in ids if name in held),
    )


def check_size(
    place: Path,
    array: NDArray[Any],
    size: tuple[int, ...],
    remedy: str = "Bring image and targets to one size",
) -> None:
    """Raise unless an array (H, W, ...) has the image's `size` (height, width)."""
    if array.shape[:2] != size:
        expected = f"{size[0]} x {size[1]} pixels, as the image has,"
        raise bad_file(place, expected, f"{array.shape[0]} x {array.shape[1]}", remedy)


def check_depth(
    place: Path | str,
    depth_m: NDArray[Any],
    valid: Mask,
    depth_range_m: tuple[float, ...],
    remedy: str,
) -> None:
    """Raise unless valid depths are positive and of the order that their range says.

    Their median must be in the range, and nothing beyond twice its far end: what a sensor clips or
    a loss clamps may be a little outside, another unit or a marker for missing depth is far.

    Args:
        place: of the file, for messages.
        depth_m: (H, W).
        valid: (H, W).
        depth_range_m: nearest and farthest depth.
        remedy: for values that cannot be.
    """
    values = depth_m[valid]
    if not values.size:
        raise bad_file(place, "some valid depth", "none at all", "Leave the sample out")
    good = np.isfinite(values) & (values > 0)
    if not good.all():
        bad = values[~good]
        got = f"{bad[0]:g} m at {bad.size} pixels"
        raise bad_file(place, "finite depths above 0 m", got, remedy)
    near, far = depth_range_m
    median, largest = float(np.median(values)), float(values.max())
    expected = f"depth in the range of {near:g} to {far:g} m"
    if not near <= median <= far:
        raise bad_file(place, expected, f"a median of {median:g} m", remedy)
    if largest > MAX_TIMES_FAR * far:
        share = float(np.mean(values > MAX_TIMES_FAR * far))
        raise bad_file(place, expected, f"{largest:g} m ({share:.1%} are so far)", remedy)


def unit_normals(
    place: Path | str,
    normals: NDArray[Any],
    valid: Mask,
    remedy: str,
    min_length: float = MIN_LENGTH,
) -> tuple[NDArray[Any], Mask]:
    """Return normals (H, W, 3) of unit length, 0 elsewhere, and where there are some (H, W).

    Args:
        place: of the file, for messages.
        normals: (H, W, 3), as decoded.
        valid: (H, W).
        remedy: for lengths that are mostly not near 1, such as of normals stored as (n + 1) / 2.
        min_length: shorter ones are no normals.
    """
    kept = np.where(valid[..., None], normals, normals.dtype.type(0))
    length = np.linalg.norm(kept, axis=-1)
    valid = valid & (length > min_length)
    if valid.any() and np.median(np.abs(length[valid] - 1)) > MAX_LENGTH_ERROR:
        got = f"a median length of {np.median(length[valid]):.2f}"
        raise bad_file(place, "normals of length 1", got, remedy)
    unit = kept / np.where(valid, length, 1)[..., None]
    return np.where(valid[..., None], unit, 0), valid
