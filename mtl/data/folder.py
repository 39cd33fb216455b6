"""Any user's images: ``<split>/<task>/<name>.png`` (or .jpg, .npy) and a small `dataset.yaml`.

What the YAML may say stands in `mtl.data.folder_description`. Files of one sample have one name,
whatever they end on. Targets:

- depth: 16-bit PNG or .npy (H, W) or (H, W, 1), times `scale` = metres;
- normal: 8-bit colour PNG or .npy (H, W, 3), made unit; vectors near 0 are invalid;
- segmentation: grey or palette PNG or .npy (H, W) of whole numbers;
- curvature: 8-bit colour PNG (red, green) or .npy (H, W, 2), k1 and k2 times 0.03 m in -1..1;
- reshading, edges, keypoints: grey PNG of 8 or 16 bits or .npy (H, W) or (H, W, 1).

Images are 8-bit PNG or JPEG, or .npy (H, W, 3) of uint8 or of floats 0..1.
"""

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mtl.data.derivation import tasks_to_read
from mtl.data.folder_description import Description, read_description
from mtl.data.folder_samples import read_sample
from mtl.data.holdout import hold_out
from mtl.data.raw import BadSampleError, BadSourceError, RawDataset, RawSample
from mtl.spec_sections import TASKS

ENDINGS = (".png", ".jpg", ".jpeg", ".npy")
NO_PICTURES = ("Thumbs.db", "desktop.ini")
"""Files that a system leaves in folders of pictures."""
DESCRIPTION_NAME = "dataset.yaml"
SPLIT_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
DEPTH_RANGE_WITHOUT_DEPTH_M = (0.1, 100.0)
"""Nothing is measured in it; losses of derived tasks do not use it."""


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """How a folder of images is read."""

    tasks: tuple[str, ...] = ()
    """Tasks for which files are read; none means all. `--tasks` sets it to those wanted, and what
    they follow from is read too."""
    description: str = ""
    """Path of the YAML file; `dataset.yaml` in the source by default."""
    validation_seed: int = 0
    """Of a held-out validation part."""
    validation_share: float = 0.1
    """Share of the training samples held out where there is no validation folder."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 < self.validation_share < 1:
            raise BadSourceError(
                f"Expected validation_share between 0 and 1, got {self.validation_share}. "
                "Change this option of the folder."
            )


def open_folder(source: Path, options: FolderOptions | None = None) -> RawDataset:
    """Return the data set in a folder. Ids are ``<split folder>/<name>``.

    Raises:
        BadSourceError: if the folder or its description cannot be used.
    """
    options = FolderOptions() if options is None else options
    source = Path(source)
    if not source.is_dir():
        raise BadSourceError(
            f"Expected a folder of images at {source}, got none. Give the folder of the splits."
        )
    path = Path(options.description) if options.description else source / DESCRIPTION_NAME
    description = read_description(path)
    tasks = _tasks(description, options.tasks)
    samples: dict[str, tuple[str, ...]] = {}
    files: dict[str, dict[str, Path]] = {}
    notes: list[str] = []
    lacking: dict[str, str] = {}
    given = description.splits or {}
    folders = {**SPLIT_FOLDERS, **given}
    if len(set(folders.values())) < len(folders) and not _only_validation_is_test(folders):
        raise BadSourceError(
            f"Expected one folder a split in {path}, got {folders}. Name a folder once; validation "
            "and test alone may share one."
        )
    for split, folder in folders.items():
        if split == "validation" and split not in given and not os.path.lexists(source / folder):
            continue
        found, missing, words = _split_files(source / folder, description, tasks)
        files |= {f"{folder}/{name}": paths for name, paths in found.items()}
        samples[split] = tuple(f"{folder}/{name}" for name in found)
        lacking |= {f"{folder}/{name}": reason for name, reason in missing.items()}
        notes += words
    if "validation" not in samples:
        samples["train"], samples["validation"] = hold_out(
            samples["train"], options.validation_share, options.validation_seed
        )
        notes.append(
            f"There is no folder for validation: {len(samples['validation'])} of the training "
            f"samples are held out by seed {options.validation_seed}."
        )
    if folders["validation"] == folders["test"]:
        notes.append("Validation and test are the same images: choose nothing by validation.")
    return RawDataset(
        name="folder",
        tasks=tasks,
        classes=description.classes,
        depth_range_m=_depth_range(description),
        samples={split: samples[split] for split in SPLIT_FOLDERS},
        read=partial(
            _read,
            files=files,
            lacking=lacking,
            description=replace(description, tasks={t: description.tasks[t] for t in tasks}),
        ),
        fillable=tuple(task for task in tasks if description.tasks[task].fill),
        files=partial(_files, files=files),
        licence=description.licence,
        label=description.name,
        options={
            **asdict(options),
            "tasks": tasks,
            "dataset_yaml": _without_nan(asdict(description)),
        },
        notes=tuple(notes),
        held=tuple(task for task in TASKS if task in description.tasks),
        lacking=lacking,
    )


def _tasks(description: Description, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks to read: those wanted or needed, and those that say where these count."""
    held = [task for task in TASKS if task in description.tasks]
    read = tasks_to_read(wanted, held)
    masks = {description.tasks[task].valid_where for task in read}
    return tuple(task for task in held if task in read or task in masks)


def _files(name: str, files: Mapping[str, Mapping[str, Path]]) -> Iterable[Path]:
    return files[name].values()


def _read(
    name: str,
    files: Mapping[str, Mapping[str, Path]],
    lacking: Mapping[str, str],
    description: Description,
) -> RawSample:
    if name in lacking:
        raise BadSampleError(lacking[name])
    return read_sample(name, files, description)


def _without_nan(value: Any) -> Any:
    """Return plain values with NaN and infinity as words, since JSON has neither."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_without_nan(each) for each in value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _only_validation_is_test(folders: Mapping[str, str]) -> bool:
    return folders["validation"] == folders["test"] != folders["train"]


def _depth_range(description: Description) -> tuple[float, float]:
    if not description.depth_range_m:
        return DEPTH_RANGE_WITHOUT_DEPTH_M
    return description.depth_range_m[0], description.depth_range_m[1]


def _split_files(
    folder: Path, description: Description, tasks: tuple[str, ...]
) -> tuple[dict[str, dict[str, Path]], dict[str, str], list[str]]:
    """Return name -> kind -> file of a split, by name, and what does not pair up.

    That is name -> what is missing, where the description calls it an error, and notes.
    """
    images, notes = _files_by_name(folder / description.image)
    if not images:
        raise BadSourceError(
            f"Expected images ({', '.join(ENDINGS)}) in {folder / description.image}, got none. "
            "Put them there, or name another folder under splits or image in the YAML."
        )
    samples = {name: {"image": path} for name, path in sorted(images.items())}
    missing: dict[str, str] = {}
    for task in tasks:
        targets_folder = folder / (description.tasks[task].folder or task)
        targets, words = _files_by_name(targets_folder)
        notes += words
        lacking = [name for name in samples if name not in targets]
        if description.missing == "error":
            for name in lacking:
                missing.setdefault(
                    name,
                    f"Expected the {task} of {samples[name]['image']} in {targets_folder}, got no "
                    f"file named {name}. Add it, or write missing: unlabelled in the YAML.",
                )
        elif lacking:
            notes.append(
                f"{len(lacking)} of {len(samples)} images have no file in {targets_folder}: their "
                f"{task} counts nowhere."
            )
        alone = len(targets.keys() - samples.keys())
        if alone:
            notes.append(f"{alone} files in {targets_folder} have no image and are left out.")
        for name in samples.keys() & targets.keys():
            samples[name][task] = targets[name]
    return samples, missing, notes


def _files_by_name(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return name without ending -> file, and notes on what is not read.

    Names are normalised, since macOS decomposes accents.
    """
    others: Counter[str] = Counter()
    found: dict[str, Path] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BadSourceError(
            f"Expected a folder of files at {folder}, got: {error.strerror or error}. "
            "Put it there, or name another folder in the YAML."
        ) from error
    for file_name in names:
        stem, ending = os.path.splitext(file_name)
        if file_name.startswith(".") or file_name in NO_PICTURES:
            continue
        if ending.lower() not in ENDINGS:
            others[ending.lower() or "no ending"] += 1
            continue
        try:
            stem.encode()
        except UnicodeEncodeError as error:
            raise BadSourceError(
                f"Expected file names in UTF-8 in {folder}, got {file_name!r}. Rename the file."
            ) from error
        name = unicodedata.normalize("NFC", stem)
        if name in found:
            raise BadSourceError(
                f"Expected one file named {name} in {folder}, got {found[name].name} and "
                f"{file_name}. Move one of them elsewhere."
            )
        found[name] = folder / file_name
    if not others:
        return found, []
    counts = ", ".join(f"{number} of {ending}" for ending, number in sorted(others.items()))
    return found, [
        f"{others.total()} files in {folder} are not read ({counts}): only "
        f"{', '.join(ENDINGS)} are."
    ]
