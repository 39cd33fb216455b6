"""Few of many, evenly picked: for what a page cannot hold in full."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many items in their order, evenly spread; the first and last are kept.

    Args:
        items: any number.
        most: 2 or more.
    """
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]
