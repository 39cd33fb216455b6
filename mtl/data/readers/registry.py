"""The readers of data sets on disk, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.data.readers.folder import FolderOptions, open_folder
from mtl.data.readers.nyuv2 import Nyuv2Options, open_nyuv2
from mtl.data.readers.nyuv2_mtan import MtanOptions, open_nyuv2_mtan
from mtl.data.readers.taskonomy import READABLE_TASKS, TaskonomyOptions, open_taskonomy
from mtl.data.sample import RawDataset
from mtl.spec.sections import TASKS


@dataclass(frozen=True)
class Reader:
    """A kind of data set on disk."""

    options: type[Any]
    """Frozen dataclass of what may be chosen in reading it, `tasks` among them: those for which
    files are read, which `--tasks` sets."""
    open: Callable[[Path, Any], RawDataset]
    """Return the data set in a file or folder; raises `UserError` where there is none."""
    tasks: tuple[str, ...] = TASKS
    """Those that its option `tasks` may name; files of other tasks are then read only where these
    follow from them."""


READERS: dict[str, Reader] = {
    "nyuv2": Reader(Nyuv2Options, open_nyuv2),
    "nyuv2_mtan": Reader(MtanOptions, open_nyuv2_mtan),
    "taskonomy": Reader(TaskonomyOptions, open_taskonomy, READABLE_TASKS),
    "folder": Reader(FolderOptions, open_folder),
}
