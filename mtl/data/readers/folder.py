"""Any user's images: ``<split>/<task>/<name>.png`` (or .jpg, .npy) and a small `dataset.yaml`.

What the YAML may say stands in `folder_description`. Files of one sample have one name,
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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.data.readers.common import (
    Mask,
    bad_file,
    check_depth,
    check_size,
    file_names,
    hold_out,
    unit_normals,
)
from mtl.data.readers.folder_description import Description, TaskDescription, read_description
from mtl.data.readers.images import (
    is_turned,
    read_array,
    read_grey,
    read_rgb,
    read_uint8,
    read_uint16,
)
from mtl.data.sample import DEPTH_RANGE_WITHOUT_DEPTH_M, Camera, RawDataset, RawSample
from mtl.data.targets.derived_tasks import tasks_to_read
from mtl.errors import UserError
from mtl.spec.sections import TASKS

CHANNELS = {"normal": 3, "curvature": 2}
"""Channels of a task's target; 1 for those left out."""
VALUE_RANGES = {"normal": (-1.0, 1.0)}
"""Of a task's components as decoded; 0 to 1 for those left out. Curvature, which is clipped, and
depth have rules of their own."""
TURNED = "store its pixels upright, or draw the targets on the stored ones"
SLACK = 0.01
"""By how much rounding and interpolation may carry values out of their range."""


def read_files(_: str, paths: Mapping[str, Path], description: Description) -> RawSample:
    """Return the sample in the files of an image and its targets; raises `BadSampleError`."""
    image = _image(paths["image"])
    size = image.shape[:2]
    targets: dict[str, NDArray] = {}
    own: dict[str, Mask] = {}
    for task, entry in description.tasks.items():
        if task not in paths:
            labels = task == "segmentation"
            shape = size if labels else (*size, CHANNELS.get(task, 1))
            targets[task] = np.zeros(shape, np.uint8 if labels else np.float32)
            own[task] = np.zeros(size, bool)
            continue
        if task == "segmentation":
            targets[task], own[task] = _labels(paths[task], entry, len(description.classes))
        else:
            span = description.depth_range_m
            targets[task], own[task] = _values(paths[task], task, entry, span)
        remedy = "Bring image and targets to one size"
        if is_turned(paths["image"]):
            remedy += f"; {paths['image'].name} is stored turned, as its EXIF data say: {TURNED}"
        check_size(paths[task], own[task], size, remedy)
    valid = dict(own)
    fillable: dict[str, Mask] = {}
    for task, entry in description.tasks.items():
        allowed = own.get(entry.valid_where, np.ones(size, bool))
        valid[task] = own[task] & allowed
        if entry.fill and task in paths:
            fillable[task] = ~own[task] & allowed
    camera = _camera(paths["image"], size, description)
    return RawSample(image, targets, valid, camera=camera, fillable=fillable)


def _image(path: Path) -> NDArray[np.uint8]:
    if path.suffix.lower() != ".npy":
        return read_rgb(path)
    values = read_array(path)
    expected = "an image (height, width, 3) of uint8, or of floats 0..1,"
    if values.ndim != 3 or values.shape[2] != 3 or not values.size:
        raise bad_file(path, expected, f"shape {values.shape}", "Write it in this shape")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise bad_file(path, expected, f"values of type {values.dtype}", "Write it as uint8")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise bad_file(path, expected, "others", "Divide by the largest possible value")
    return np.rint(values * 255).astype(np.uint8)


def _camera(path: Path, size: tuple[int, ...], description: Description) -> Camera | None:
    camera = description.camera
    if camera is None:
        return None
    if size != (camera.height, camera.width):
        expected = f"{camera.height} x {camera.width} pixels, as the camera of the YAML has,"
        got = f"{size[0]} x {size[1]}"
        raise bad_file(path, expected, got, "Give images of one camera, or drop it from the YAML")
    return Camera(fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy)


def _labels(path: Path, entry: TaskDescription, num_classes: int) -> tuple[NDArray, Mask]:
    """Return class indices (H, W) and where there is one."""
    raw = _raw(path, "segmentation")[..., 0].astype(np.float64)
    valid = ~np.isin(raw, entry.void)
    labels = raw[valid]
    last = num_classes - 1
    # Neither a fraction nor NaN equals its own rounding.
    outside = labels[~((labels >= 0) & (labels <= last) & (labels == np.rint(labels)))]
    if outside.size:
        voids = f" or {', '.join(str(v) for v in entry.void)} for void" if entry.void else ""
        got = f"{outside[0]:g} at {outside.size} pixels"
        remedy = "Name its class under classes in the YAML, or list it under void"
        raise bad_file(path, f"labels from 0 to {last}{voids}", got, remedy)
    return np.where(valid, raw, 0).astype(np.uint8), valid


def _values(
    path: Path, task: str, entry: TaskDescription, depth_range_m: tuple[float, ...]
) -> tuple[NDArray, Mask]:
    """Return the target (H, W, C) of a regression and where it counts."""
    raw = _raw(path, task)
    valid = ~_is_invalid(raw, task, entry.invalid)
    scale, offset = _encoding(path, task, entry, raw)
    with np.errstate(over="ignore", invalid="ignore"):  # huge values are refused below
        values = (raw.astype(np.float64) * scale + offset).astype(np.float32)
    if not np.isfinite(values[valid]).all():
        remedy = "Repair the file, or list the value under invalid in the YAML (.nan for NaN)"
        raise bad_file(path, "finite numbers", "NaN or infinity at valid pixels", remedy)
    remedy = f"Correct tasks.{task}.scale and .offset, or list invalid values, in the YAML"
    if task == "depth":
        remedy = (
            "Correct tasks.depth.scale (metres a unit) or depth_range_m in the YAML, or list what "
            "stands for missing depth under tasks.depth.invalid"
        )
        check_depth(path, values[..., 0], valid, depth_range_m, remedy)
    else:
        _check_range(path, task, values[valid], remedy)
    if task == "normal":
        remedy += "; normals stored as (n + 1) / 2 have scale: 2, offset: -1"
        signed = values * np.array(entry.signs, np.float32)
        values, valid = unit_normals(path, signed, valid, remedy)
    if task == "curvature":
        values = np.clip(values[..., :2], -1, 1)  # a PNG has a blue channel too
    return np.where(valid[..., None], values, 0).astype(np.float32), valid


def _check_range(path: Path, task: str, values: NDArray, remedy: str) -> None:
    """Raise for decoded values (pixels, C) that the task cannot have, of another encoding."""
    if not values.size:
        return
    lowest, highest = VALUE_RANGES.get(task, (0.0, 1.0))
    expected = f"{task} from {lowest:g} to {highest:g}"
    low, high = float(values.min()), float(values.max())
    good, got = low >= lowest - SLACK and high <= highest + SLACK, f"{low:g} to {high:g}"
    if task == "curvature":
        # Beside depth borders it is beyond 1 and clipped; nowhere is most of a surface.
        size = float(np.median(np.abs(values[:, :2])))
        expected = "curvature times 0.03 m from -1 to 1"
        good, got = size <= 1, f"a median size of {size:g}"
    if not good:
        raise bad_file(path, expected, got, remedy)


def _raw(path: Path, task: str) -> NDArray:
    """Return the stored values (H, W, C), channels that no task needs included."""
    channels = CHANNELS.get(task, 1)
    if path.suffix.lower() == ".npy":
        values = read_array(path)
        values = values[..., None] if channels == 1 and values.ndim == 2 else values
        if values.ndim != 3 or values.shape[2] != channels or not values.size:
            expected = f"an array (height, width, {channels})"
            raise bad_file(path, expected, f"shape {values.shape}", "Write it in this shape")
        return values
    if channels > 1:
        return read_rgb(path, lossless=True)
    if task == "segmentation":
        return read_uint8(path)[..., None]
    return (read_uint16(path) if task == "depth" else read_grey(path))[..., None]


def _is_invalid(raw: NDArray, task: str, invalid: tuple[float, ...]) -> Mask:
    """Return where the stored values (H, W, C) are a listed one, NaN included."""

    def holds(values: NDArray, value: float) -> Mask:
        return np.isnan(values) if value != value else values == value

    if task in CHANNELS:  # one value a channel
        each = [holds(raw[..., c], v) for c, v in enumerate(invalid[: raw.shape[2]])]
        return np.logical_and.reduce(each) if each else np.zeros(raw.shape[:2], bool)
    hit = np.zeros(raw.shape[:2], bool)
    for value in invalid:
        hit |= holds(raw[..., 0], value)
    return hit


def _encoding(path: Path, task: str, entry: TaskDescription, raw: NDArray) -> tuple[float, float]:
    """Return scale and offset: as given, otherwise the usual ones of the kind of file."""
    scale, offset = 1.0, 0.0
    if path.suffix.lower() != ".npy":
        if task == "depth" and entry.scale is None:
            remedy = "Write for example depth: {scale: 0.001, invalid: 0}"
            raise bad_file(path, "tasks.depth.scale (metres a unit) in the YAML", "none", remedy)
        if task in CHANNELS:
            scale, offset = 1 / (127.5 if task == "normal" else 127), -1.0
        else:
            scale = 1 / np.iinfo(raw.dtype).max
    return (
        scale if entry.scale is None else entry.scale,
        offset if entry.offset is None else entry.offset,
    )


ENDINGS = (".png", ".jpg", ".jpeg", ".npy")
NO_PICTURES = ("Thumbs.db", "desktop.ini")
"""Files that a system leaves in folders of pictures."""
DESCRIPTION_NAME = "dataset.yaml"
SPLIT_FOLDERS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """How a folder of images, or of Parquet files, is read."""

    tasks: tuple[str, ...] = ()
    """Tasks for which files are read; none means all."""
    description: str = ""
    """Path of the YAML file; `dataset.yaml` in the source by default."""
    validation_seed: int = 0
    """Of a held-out validation part."""
    validation_share: float = 0.1
    """Share of the training samples held out where there is no validation folder or file."""


def open_folder(source: Path, options: FolderOptions | None = None) -> RawDataset:
    """Return the data set in a folder. Ids are ``<split folder>/<name>``.

    Raises:
        UserError: if the folder or its description cannot be used.
    """
    options = FolderOptions() if options is None else options
    source = Path(source)
    if not source.is_dir():
        raise UserError(
            f"Expected a folder of images at {source}, got none. Give the folder of the splits."
        )
    path = Path(options.description) if options.description else source / DESCRIPTION_NAME
    description = read_description(path)
    tasks = asked_tasks(description, options.tasks)
    samples: dict[str, tuple[str, ...]] = {}
    files: dict[str, dict[str, Path]] = {}
    notes: list[str] = []
    lacking: dict[str, str] = {}
    given = description.splits or {}
    folders = {**SPLIT_FOLDERS, **given}
    shared = folders["validation"] == folders["test"] != folders["train"]
    if len(set(folders.values())) < len(folders) and not shared:
        raise UserError(
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
    if shared:
        notes.append("Validation and test are the same images: choose nothing by validation.")
    near, far = description.depth_range_m or DEPTH_RANGE_WITHOUT_DEPTH_M
    return RawDataset(
        name="folder",
        tasks=tasks,
        classes=description.classes,
        depth_range_m=(near, far),
        samples={split: samples[split] for split in SPLIT_FOLDERS},
        files=files,
        decode=partial(
            read_files,
            description=replace(description, tasks={t: description.tasks[t] for t in tasks}),
        ),
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
        lacking=lacking,
    )


def asked_tasks(description: Description, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks to read: those wanted or needed, and those that say where these count."""
    held = [task for task in TASKS if task in description.tasks]
    read = tasks_to_read(wanted, held)
    masks = {description.tasks[task].valid_where for task in read}
    return tuple(task for task in held if task in read or task in masks)


def without_nan(value: Any) -> Any:
    """Return plain values with NaN and infinity as words, since JSON has neither."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(without_nan(each) for each in value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _split_files(
    folder: Path, description: Description, tasks: tuple[str, ...]
) -> tuple[dict[str, dict[str, Path]], dict[str, str], list[str]]:
    """Return name -> kind -> file of a split, by name, and what does not pair up.

    That is name -> what is missing, where the description calls it an error, and notes.
    """
    images, notes = _files_by_name(folder / description.image)
    if not images:
        raise UserError(
            f"Expected images ({', '.join(ENDINGS)}) in {folder / description.image}, got none. "
            "Put them there, or name another folder under splits or image in the YAML."
        )
    samples = {name: {"image": path} for name, path in sorted(images.items())}
    turned = [path.name for path in images.values() if is_turned(path)]
    if turned:
        notes.append(
            f"{len(turned)} images in {folder / description.image}, such as {min(turned)}, are "
            f"stored turned, as their EXIF data say, and read as stored: {TURNED}."
        )
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
    for file_name in file_names(folder, "Put it there, or name another folder in the YAML"):
        stem, ending = os.path.splitext(file_name)
        if file_name.startswith(".") or file_name in NO_PICTURES:
            continue
        if ending.lower() not in ENDINGS:
            others[ending.lower() or "no ending"] += 1
            continue
        try:
            stem.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"Expected file names in UTF-8 in {folder}, got {file_name!r}. Rename the file."
            ) from error
        name = unicodedata.normalize("NFC", stem)
        if name in found:
            raise UserError(
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
