"""Lists and numbers of things as a sentence holds them."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def listed(parts: Sequence[str]) -> str:
    """Return parts as a sentence holds them: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(number: int, one: str, many: str) -> str:
    """Return `1 priority`, `2 priorities`."""
    return f"{number} {one if number == 1 else many}"


def first_listed(parts: Sequence[str], most: int) -> str:
    """Return as `listed` does, of long lists only the first: a, b and 26 more."""
    left = len(parts) - most
    return listed(parts) if left <= 0 else f"{', '.join(parts[:most])} and {left} more"


def first_items(items: Sequence[Item], limit: int, noun: str) -> tuple[list[Item], str]:
    """Return at most `limit` items, and the note on the rest for a caption; "" if all are there.

    `noun` says what they are, in the plural.
    """
    note = f" The first {limit} of {len(items)} {noun} are shown." if len(items) > limit else ""
    return list(items[:limit]), note


SAME = 1e-9
"""Values that differ by less than this share of their size are the same but for rounding."""


def no_width(low: float, high: float) -> bool:
    """Return whether two values are the same but for rounding."""
    return math.isclose(low, high, rel_tol=SAME, abs_tol=1e-12)


def subsample(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` (2 or more) items in their order, evenly spread, with the ends."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]
