"""The readers of data sets on disk, by name, and those from outside."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtl.data.readers.folder import FolderOptions, open_folder
from mtl.data.readers.huggingface import open_huggingface
from mtl.data.readers.nyuv2 import Nyuv2Options, open_nyuv2
from mtl.data.readers.nyuv2_mtan import MtanOptions, open_nyuv2_mtan
from mtl.data.readers.taskonomy import READABLE_TASKS, TaskonomyOptions, open_taskonomy
from mtl.data.sample import RawDataset
from mtl.errors import UsageError, UserError, printable
from mtl.spec.code import load_object
from mtl.spec.sections import SPLITS, TASKS
from mtl.spec.tasks import check_task


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
    "huggingface": Reader(FolderOptions, open_huggingface),
}


def open_own(name: str, source: Path, options: Mapping[str, Any]) -> RawDataset:
    """Return the data set that the function `module:name` opens: (source, **options).

    Raises:
        UserError: unless it returns a `RawDataset` that other processes can read.
    """
    function = load_object(name, "data set")
    try:
        dataset = function(source, **options)
    except UserError:
        raise
    except Exception as error:
        raise UsageError(
            f"Expected {name}(source, {', '.join(options) or 'no options'}) to open {source}, got "
            f"{printable(f'{type(error).__name__}: {error}').rstrip('.')}."
        ) from error
    if not isinstance(dataset, RawDataset):
        raise UsageError(
            f"Expected {name} to return a mtl.data.sample.RawDataset, got {dataset!r:.100}."
        )
    for task in dataset.tasks:
        check_task(task)
    if set(dataset.samples) != set(SPLITS):
        raise UsageError(
            f"Expected samples of {', '.join(SPLITS)} from {name}, got "
            f"{', '.join(map(str, dataset.samples)) or 'none'}. Give each split its ids, or ()."
        )
    ids = [sample_id for of_split in dataset.samples.values() for sample_id in of_split]
    if lacking := [sample_id for sample_id in ids if sample_id not in dataset.files]:
        raise UsageError(
            f"Expected files of each sample from {name}, got none of {lacking[0]!r}. Give {{}} "
            "where a sample has none."
        )
    try:
        pickle.dumps(dataset)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise UsageError(
            f"Expected the data set of {name} to be picklable for the processes that read it, got: "
            f"{printable(error)}. Let decode be a function of the module, or a partial of one."
        ) from error
    return replace(dataset, name=name, options={**options, **dataset.options})
