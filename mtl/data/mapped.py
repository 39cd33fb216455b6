"""New arrays on disk, mapped, for which there is room."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Return a new mapped array of zeros whose blocks are on disk.

    A full disk is an `OSError` here and now; without blocks of its own, writing to the mapped
    array would end the process by a signal.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    array.flush()
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
