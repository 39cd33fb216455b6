"""NYUv2's classes: official labels 0..894 to the 40 classes and to the 13 of multi-task papers.

Gupta, Arbelaez, Malik, "Perceptual Organization and Recognition of Indoor Scenes from RGB-D
Images", CVPR 2013 (894 -> 40, `classMapping40.mat`); Couprie et al., "Indoor Semantic Segmentation
using depth information", ICLR 2013, and SceneNet (40 -> 13, `class13Mapping.mat`); both files from
github.com/ankurhanda/nyuv2-meta-data. In the files 0 is void and classes count from 1; here void is
a mask and the 13 classes count from 0, as in the MTAN and LibMTL files.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.errors import UsageError

NUM_LABELS = 894
"""Official labels are 1..894; 0 is unlabelled."""

CLASSES_13: tuple[str, ...] = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa",
    "table", "tv", "wall", "window",
)  # fmt: skip
"""Names of the 13 classes, in the order of their indices 0..12."""

_TO_40 = """
    40 40 3 22 5 40 12 38 40 40 2 39 40 40 26 40 24 40 7 40 1 40 40 34 38 29 40 8 40 40 40 40 38
    40 40 14 40 38 40 40 40 15 39 40 30 40 40 39 40 39 38 40 38 40 37 40 38 38 9 40 40 38 40 11
    38 40 40 40 40 40 40 40 40 40 40 40 40 40 38 13 40 40 6 40 23 40 39 10 16 40 40 40 40 38 40
    40 40 40 40 40 40 40 40 38 40 39 40 40 40 40 39 38 40 40 40 40 40 40 18 40 40 19 28 33 40 40
    40 40 40 40 40 40 40 38 27 36 40 40 40 40 21 40 20 35 40 40 40 40 40 40 40 40 38 40 40 40 4
    32 40 40 39 40 39 40 40 40 40 40 17 40 40 25 40 39 40 40 40 40 40 40 40 40 39 40 40 40 40 40
    40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 39 40 40 40 40 40 40 40 40 40 39 38 38 40 40 39
    40 39 40 38 39 38 40 40 40 40 40 40 40 40 40 40 39 40 38 40 40 38 38 40 40 40 40 40 40 40 40
    40 40 40 40 40 38 40 40 40 40 40 39 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 39 40 40 40
    40 40 40 40 40 40 40 40 40 39 40 40 40 38 40 40 39 40 40 38 40 40 40 40 40 40 40 40 40 40 40
    39 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 31 40 40 40 40 40 40 40 38 40 40 38 39
    39 40 40 40 40 40 40 40 40 40 38 40 39 40 40 39 40 40 40 38 40 40 40 40 40 40 40 40 38 39 40
    40 40 40 40 40 38 40 40 40 40 40 40 40 40 40 40 40 38 39 40 40 40 40 40 40 40 39 40 40 40 40
    40 40 38 40 40 40 38 40 39 40 40 40 39 39 40 40 40 40 40 40 40 40 40 40 39 40 40 40 40 40 40
    40 40 40 40 40 40 39 39 40 40 39 39 40 40 40 40 38 40 40 38 39 39 40 39 40 39 38 40 40 40 40
    40 40 40 40 40 40 40 39 40 38 40 39 40 40 40 40 40 39 39 40 40 40 40 40 40 39 39 40 40 38 39
    39 40 40 40 40 40 40 40 40 40 39 39 40 40 40 40 39 40 40 40 40 40 39 40 40 39 40 40 40 40 40
    40 40 40 40 40 40 40 40 40 40 39 38 40 40 40 40 40 40 40 39 38 39 40 38 39 40 39 40 39 40 40
    40 40 40 40 40 40 38 40 40 40 40 40 38 40 40 39 40 40 40 39 40 38 40 40 40 40 40 40 40 40 38
    40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 39 38 40 40 38 40 40 38 40 40 40 40 40 40 40
    40 40 39 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 38 40 40 38 40 40 40 40 40 40 40 40
    40 40 40 38 38 38 40 40 40 38 40 40 40 38 38 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40
    40 38 40 40 40 40 40 40 40 40 40 40 40 40 40 38 40 38 39 40 40 40 40 40 40 40 40 40 40 40 40
    40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 39 40 40 40 40 40 40 40 40 40 40 40 40
    40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 40 39 40 39 40 40 40 40 38
    38 40 40 40 38 40 40 40 40 40 40 40 40 40 40 40 40 40 40 39 40 40 39 40 40 39 39 40 40 40 40
    40 40 40 40 39 39 39 40 40 40 40 39 40 40 40 40 40 40 40 40 39 40 40 40 40 40 39 40 40 40 40
    40 40 40 40 40 40 40 40 40 40 38 40 40 40 40 40 40 40 39 40 40 38 40 39 40 40 40 40 38 40 40
    40 40 40 38 40 40 40 40 40 40 40 39 40 40 40 40 40 40 40 40 40 39 40 40
"""
_TO_13 = """
    12 5 6 1 4 9 10 12 13 6 8 6 13 10 6 13 6 7 7 5 7 3 2 6 11 7 7 7 7 7 7 6 7 7 7 7 7 7 6 7
"""

TO_40: tuple[int, ...] = tuple(map(int, _TO_40.split()))
"""Class 1..40 of the official labels 1..894, in this order."""
TO_13: tuple[int, ...] = tuple(map(int, _TO_13.split()))
"""Class 1..13 of the classes 1..40, in this order."""

_VOID = 0
_FROM_LABEL_TO_40 = np.array([_VOID, *TO_40], np.uint8)
_FROM_40_TO_13 = np.array([_VOID, *TO_13], np.uint8)


def classes_13(labels: NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the class 0..12 of each pixel as uint8, and where there is one.

    Args:
        labels: official labels 0..894 of any shape; 0 is void. Void pixels get class 0 and False.

    Raises:
        ValueError: if a label is not in 0..894, or labels are no integers.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"Expected integer labels, got {labels.dtype}. Convert them first.")
    lowest, highest = int(labels.min(initial=0)), int(labels.max(initial=0))
    if lowest < 0 or highest > NUM_LABELS:
        raise UsageError(
            f"Expected labels 0..{NUM_LABELS}, got {lowest if lowest < 0 else highest}. "
            "Give the labels of the official file, not mapped ones."
        )
    from_one = _FROM_40_TO_13[_FROM_LABEL_TO_40[labels]]
    valid = from_one != _VOID
    return np.where(valid, from_one - np.uint8(1), np.uint8(0)), valid
