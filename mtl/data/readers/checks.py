"""What every reader asks of decoded values: another encoding must not pass for the right one.

Each function raises a `BadSampleError` that names the file, what was expected, and the remedy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadSampleError

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
    if not np.isfinite(values).all() or values.min() <= 0:
        bad = values[~(np.isfinite(values) & (values > 0))]
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
