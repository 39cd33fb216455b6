"""Data sets of Hugging Face: Parquet files with images inside, and a `dataset.yaml`.

The source is a folder of `*.parquet`, or the name of a data set on the hub (`owner/name`), which is
downloaded once and then read from Hugging Face's own cache, without a network where
`HF_HUB_OFFLINE=1`. The YAML, which the option `description` names unless it lies in the folder, is
that of `folder_description`, with columns in place of folders::

    image: image                        # the column of the images
    splits: {train: train, validation: validation, test: test}    # how the files' names begin
    depth_range_m: [0.5, 10]
    tasks: {depth: {column: depth_map, scale: 1.0, invalid: 0}}

A value is a picture (PNG, JPEG and TIFF as they are in the file) or an array (lists of numbers);
pictures are read as files of their kind are, arrays as .npy.
"""

import functools
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from mtl.data.readers.common import hold_out
from mtl.data.readers.folder import (
    DESCRIPTION_NAME,
    FolderOptions,
    asked_tasks,
    read_files,
    without_nan,
)
from mtl.data.readers.folder_description import Description, read_description
from mtl.data.sample import DEPTH_RANGE_WITHOUT_DEPTH_M, RawDataset, RawSample
from mtl.errors import BadSampleError, UserError, printable
from mtl.spec.sections import SPLITS, TASKS

ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}
"""How a picture begins -> ending of the file that is read as it is; others become arrays."""
Row = tuple[str, int, int]
"""File, row group, and row in it."""


def open_huggingface(source: Path, options: FolderOptions | None = None) -> RawDataset:
    """Return the data set in Parquet files. Ids are ``<split>/<row>``.

    Raises:
        UserError: if there are none, or they or their description cannot be used.
    """
    options = FolderOptions() if options is None else options
    is_here = source.is_dir()
    folder = source if is_here else _downloaded(source)
    path = Path(options.description) if options.description else folder / DESCRIPTION_NAME
    description = read_description(path)
    tasks = asked_tasks(description, options.tasks)
    used = replace(description, tasks={task: description.tasks[task] for task in tasks})
    files = sorted(folder.rglob("*.parquet"))
    names = {split: split for split in SPLITS} | (description.splits or {})
    samples: dict[str, tuple[str, ...]] = {}
    rows: dict[str, Row] = {}
    for split in SPLITS:
        of_split = [file for file in files if _begins(file, folder, names[split])]
        places = sorted({str(file.parent.relative_to(folder)) for file in of_split})
        if len(places) > 1:
            raise UserError(
                f"Expected the {split} files of one configuration, got some in each of "
                f"{', '.join(places)} below {folder}. Give the folder of one as the source."
            )
        found = _rows(of_split, columns_of(used))
        rows |= {f"{split}/{number:07d}": row for number, row in enumerate(found)}
        samples[split] = tuple(f"{split}/{number:07d}" for number in range(len(found)))
    if not rows:
        held = ", ".join(file.name for file in files[:3]) or "none"
        raise UserError(
            f"Expected *.parquet in {folder} that begin with {', '.join(names.values())}, got "
            f"{held}. Name them under `splits` in {DESCRIPTION_NAME}."
        )
    notes = [] if is_here else [f"Revision {folder.name} of the data set on the hub."]
    if not samples["validation"] and samples["train"]:
        samples["train"], samples["validation"] = hold_out(
            samples["train"], options.validation_share, options.validation_seed
        )
        notes.append(
            f"No file is of the validation split: {len(samples['validation'])} of the training "
            f"samples are held out by seed {options.validation_seed}."
        )
    near, far = description.depth_range_m or DEPTH_RANGE_WITHOUT_DEPTH_M
    return RawDataset(
        name="huggingface",
        tasks=tasks,
        classes=description.classes,
        depth_range_m=(near, far),
        samples=samples,
        files={sample_id: {"rows": Path(row[0])} for sample_id, row in rows.items()},
        decode=partial(_read, rows=rows, description=used),
        fillable=tuple(task for task in tasks if description.tasks[task].fill),
        licence=description.licence,
        label=description.name,
        options={
            **asdict(options),
            "tasks": tasks,
            "dataset_yaml": without_nan(asdict(description)),
        },
        notes=tuple(notes),
        held=tuple(task for task in TASKS if task in description.tasks),
    )


def columns_of(description: Description) -> dict[str, str]:
    """Return what a sample is made of -> its column: the image and each task."""
    columns = {task: entry.folder or task for task, entry in description.tasks.items()}
    return {"image": description.image, **columns}


def _downloaded(source: Path) -> Path:
    """Return the folder of a data set of the hub, from the cache where it is there.

    Its name is the revision, as the hub's client lays out its cache.
    """
    parts = source.parts
    if source.is_absolute():  # a preparation makes every source so
        here = Path.cwd()
        parts = source.relative_to(here).parts if source.is_relative_to(here) else ()
    name = "/".join(parts) if len(parts) == 2 else str(source)
    if len(parts) != 2:
        raise UserError(
            f"Expected a folder of Parquet files, or the name of a data set on Hugging Face's hub "
            f"(owner/name), got {name}, which is neither."
        )
    from huggingface_hub import snapshot_download  # only here: it is slow to import

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns="*.parquet"))
    except Exception as error:  # of many kinds, by what the network did
        raise UserError(
            f"Expected the folder {name}, or a data set of this name on Hugging Face's hub or in "
            f"its cache, got none ({printable(error)})."
        ) from error


def _begins(file: Path, folder: Path, name: str) -> bool:
    """Return whether a file is of the split whose files, or folder, have a name."""
    parts = file.relative_to(folder).parts
    return name in parts[:-1] or file.stem == name or file.name.startswith(f"{name}-")


def _rows(files: list[Path], columns: Mapping[str, str]) -> list[Row]:
    """Return where each row of some files lies, in their order."""
    rows: list[Row] = []
    for file in files:
        try:
            opened = pq.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise UserError(
                f"Expected a Parquet file at {file}, got {printable(error).rstrip('.')}. "
                "Download it again."
            ) from error
        with opened:
            lacking = {*columns.values()} - {*opened.schema_arrow.names}
            if lacking:
                raise UserError(
                    f"Expected the columns {', '.join(sorted(lacking))} in {file}, got "
                    f"{', '.join(opened.schema_arrow.names)}. Name them in the YAML: image, and "
                    "column for each task."
                )
            for group in range(opened.num_row_groups):
                number = opened.metadata.row_group(group).num_rows
                rows += [(str(file), group, row) for row in range(number)]
    return rows


@functools.lru_cache(maxsize=1)
def _group(file: str, group: int, columns: tuple[str, ...]) -> Any:
    """Return a row group; samples are read in order, so that each is read once."""
    with pq.ParquetFile(file) as opened:
        return opened.read_row_group(group, columns=[*dict.fromkeys(columns)])


def _read(
    sample_id: str, _: Mapping[str, Path], rows: Mapping[str, Row], description: Description
) -> RawSample:
    file, group, row = rows[sample_id]
    columns = columns_of(description)
    try:
        table = _group(file, group, tuple(columns.values()))
    except (OSError, ValueError) as error:
        raise BadSampleError(
            f"Expected row group {group} of {file}, got {printable(error).rstrip('.')}. "
            "Download it again."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for kind, column in columns.items():
            value = table.column(column)[row].as_py()
            if value is not None:
                paths[kind] = _as_file(Path(folder, column.replace(os.sep, "_")), value)
        where = f"{file}, {sample_id}"
        try:
            if "image" not in paths:
                raise BadSampleError(f"Expected an image in column {columns['image']}, got none.")
            return read_files(sample_id, paths, description)
        except BadSampleError as error:
            raise BadSampleError(
                f"{where}: {str(error).replace(f'{folder}{os.sep}', '')}"
            ) from error


def _as_file(path: Path, value: Any) -> Path:
    """Write a value of a row as the file that `folder` would read: a picture or an array."""
    if not isinstance(value, dict):
        path = path.with_name(f"{path.name}.npy")
        np.save(path, np.array(value))
        return path
    data = value.get("bytes")
    if not data:
        raise BadSampleError(
            f"Expected the picture itself in column {path.name}, got {value.get('path')!r} alone. "
            "Download the data set with its pictures."
        )
    ending = next((e for magic, e in ENDINGS.items() if data.startswith(magic)), None)
    if ending is not None:
        path = path.with_name(f"{path.name}{ending}")
        path.write_bytes(data)
        return path
    path = path.with_name(f"{path.name}.npy")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            np.save(path, np.asarray(picture))
    except OSError as error:
        raise BadSampleError(
            f"Expected a picture in column {path.stem}, got {printable(error)}."
        ) from error
    return path
