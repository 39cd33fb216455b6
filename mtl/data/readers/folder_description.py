"""What a `dataset.yaml` says of a folder of images: splits, classes, and how values are stored.

A complete one, with every key there is::

    name: kitchens                      # the data set's name in reports
    licence: our own pictures
    image: image                        # folder of the images
    splits: {train: train, validation: val, test: test}   # folders of the splits
    missing: error                      # or unlabelled: what a sample without a target is
    classes: [floor, wall, chair]
    depth_range_m: [0.3, 20]            # what losses allow
    camera: {fx: 500, fy: 500, cx: 319.5, cy: 239.5, height: 480, width: 640}
    tasks:
      segmentation: {folder: label, void: 255}
      depth: {scale: 0.001, invalid: 0, fill: true}            # metres a unit
      normal: {invalid: [128, 128, 128], signs: [1, -1, -1]}
      reshading: {scale: 1/255, valid_where: depth}

Only `tasks` must be there, `classes` with segmentation, `depth_range_m` and a depth's `scale` with
depth. Depth must lie in `depth_range_m`, or it is refused: its median inside, and nothing beyond
twice the far end. With `fill`, holes of depth or normals are filled by colorization, as of a Kinect
indoors, and do not count as measured; without, which is the default, they stay holes, as where
there is only sky. Numbers may be fractions such as 1/65535. Anything unknown is refused.
"""

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from mtl.errors import UserError
from mtl.spec.sections import SPLITS, TASKS
from mtl.spec.strict import build_dataclass, checked_name, parse_yaml

MAX_BYTES = 100_000
MAX_LEVELS = 20
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?(\s*/\s*\d+(\.\d*)?)?")
MAX_CLASSES = 255
"""Labels are kept as uint8."""


@dataclass(frozen=True)
class CameraDescription:
    """Intrinsics in pixels, and the size of the images that they are meant for."""

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int


@dataclass(frozen=True)
class TaskDescription:
    """How the files of a task are read: target = value * scale + offset."""

    folder: str = ""
    """Folder within the split, or `column` of Parquet files; the task's name by default."""
    scale: float | None = None
    """Default: 1 for .npy; in PNGs 1/127.5 for normals, 1/127 for curvature, 1/255 and 1/65535 for
    maps of 8 and 16 bits. Depth has none: metres a unit must be given."""
    offset: float | None = None
    """Default: -1 for normals and curvature in PNGs, else 0."""
    invalid: tuple[float, ...] = ()
    """Stored values of invalid pixels: for normals and curvature one value a channel, otherwise any
    number of values, `.nan` among them."""
    void: tuple[int, ...] = ()
    """Labels that are no class."""
    signs: tuple[float, ...] = (1.0, 1.0, 1.0)
    """For normals: 1 or -1 an axis, that gives x right, y down, z forward."""
    fill: bool = False
    """For depth and normals: whether invalid pixels are filled from their neighbours (unless
    `--no-fill`), where `valid_where` allows."""
    valid_where: str = ""
    """Another task: pixels count only where they count there."""


@dataclass(frozen=True)
class Description:
    """A data set as its `dataset.yaml` describes it."""

    tasks: dict[str, TaskDescription]
    name: str = ""
    licence: str = "none stated"
    image: str = "image"
    splits: dict[str, str] | None = None
    missing: Literal["error", "unlabelled"] = "error"
    classes: tuple[str, ...] = ()
    depth_range_m: tuple[float, ...] = ()
    camera: CameraDescription | None = None


def read_description(path: Path) -> Description:
    """Return what a YAML file says.

    Raises:
        UserError: if it cannot be read or parsed, or says something unknown or impossible.
    """
    values = _parsed(path)
    if not isinstance(values, dict):
        _refuse(path, "a mapping of keys", type(values).__name__, "Begin with the key tasks")
    if not isinstance(values.get("tasks"), dict):
        got = repr(values.get("tasks"))[:80]
        remedy = "Add it; {} if there are images alone"
        _refuse(path, "the key tasks with a mapping of task to its encoding", got, remedy)
    values["tasks"] = {task: _plain_task(entry) for task, entry in values["tasks"].items()}
    for key in ("depth_range_m", "camera"):
        if key in values:
            values[key] = _numbers(values[key])
    if isinstance(values.get("camera"), dict):
        lacking = [f.name for f in fields(CameraDescription) if f.name not in values["camera"]]
        if lacking:
            got = f"none for {', '.join(lacking)}"
            _refuse(path, "a number for each key of camera", got, "Add them, or drop camera")
    try:
        description = build_dataclass(Description, values, "dataset.yaml")
        for task in description.tasks:
            checked_name(task, TASKS, "task")
        for split in description.splits or {}:
            checked_name(split, SPLITS, "split")
    except ValueError as error:
        text = str(error).rstrip(".")
        raise UserError(
            f"Expected a description of a data set in {path}, got an error: {text}. "
            "Change that line of the file."
        ) from error
    _check(description, path)
    return description


def _parsed(path: Path) -> Any:
    remedy = "Write one as the documentation of mtl.data.readers.folder_description shows"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        _refuse(path, "a description of the data set", error.strerror or str(error), remedy)
    if len(data) > MAX_BYTES:
        _refuse(path, f"at most {MAX_BYTES:,} bytes of YAML", "more", remedy)
    try:
        text = data.decode("utf-8-sig")
        _check_tokens(text, path)
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        _refuse(path, "YAML", words, "Correct it at that place")


def _check_tokens(text: str, path: Path) -> None:
    """Raise for what takes for ever to parse or to print, before it is parsed."""
    level = 0
    for token in yaml.scan(text):
        name = type(token).__name__
        level += name.endswith("StartToken") - name.endswith("EndToken")
        # A few aliases of aliases unfold into gigabytes as soon as a message prints them.
        if level > MAX_LEVELS or isinstance(token, yaml.AliasToken):
            expected = f"YAML of at most {MAX_LEVELS} levels, without aliases (*name)"
            _refuse(path, expected, "others", "Write the values out")


def _plain_task(entry: Any) -> Any:
    """Return a task's entry with lists for scalars and numbers for fractions; None is empty."""
    if entry is None:
        return {}
    if not isinstance(entry, dict):
        return entry
    plain = dict(entry)
    if "column" in plain and "folder" not in plain:
        plain["folder"] = plain.pop("column")
    for key in ("scale", "offset", "invalid", "signs"):
        if key in plain:
            plain[key] = _numbers(plain[key])
    for key in ("invalid", "void"):
        if key in plain and not isinstance(plain[key], list):
            plain[key] = [plain[key]]
    return plain


def _numbers(value: Any) -> Any:
    """Return fractions such as 1/65535 and numbers in quotes as numbers.

    Whole numbers beyond the largest float are infinite, as 1e999 is: what is refused is one thing.
    """
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return math.inf
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, str) and NUMBER.fullmatch(value):
        above, _, below = value.partition("/")
        if not below or float(below):
            return float(above) / float(below or 1)
    return value


def _check(description: Description, path: Path) -> None:
    """Raise for what cannot be, or is missing."""
    tasks, classes = description.tasks, description.classes
    if len(set(classes)) != len(classes) or len(classes) > MAX_CLASSES:
        _refuse(path, f"at most {MAX_CLASSES} distinct classes", f"{len(classes)}", "Merge some")
    if ("segmentation" in tasks) != bool(classes):
        got = f"{len(classes)} classes and the tasks {', '.join(tasks) or 'none'}"
        _refuse(path, "classes if, and only if, segmentation is a task", got, "Add or drop one")
    span = description.depth_range_m
    if span and (len(span) != 2 or not 0 < span[0] < span[1] < math.inf):
        _refuse(path, "depth_range_m of two rising lengths above 0", list(span), "Change it")
    if "depth" in tasks and not span:
        remedy = "Write for example depth_range_m: [0.5, 10]"
        _refuse(path, "depth_range_m, since depth is a task,", "none", remedy)
    for key, value in vars(description.camera).items() if description.camera else ():
        # NaN would spread through every derived target.
        above = "" if key in ("cx", "cy") else " above 0"
        if not math.isfinite(value) or (above and value <= 0):
            expected = f"camera.{key} to be a finite number{above}"
            _refuse(path, expected, value, "Give it in pixels, or drop camera")
    folders = [description.image, *(entry.folder for entry in tasks.values() if entry.folder)]
    for folder in [*folders, *(description.splits or {}).values()]:
        parts = Path(folder).parts
        if not parts or Path(folder).is_absolute() or ".." in parts or "\0" in folder:
            _refuse(path, "names of folders below the source", repr(folder), "Change it")
    for task, entry in tasks.items():
        _check_task(task, entry, tasks, path)


def _check_task(
    task: str, entry: TaskDescription, tasks: Mapping[str, TaskDescription], path: Path
) -> None:
    labels = task == "segmentation"
    fits = {
        "void": labels,
        **dict.fromkeys(("scale", "offset", "invalid"), not labels),
        "fill": task in ("depth", "normal"),
        "signs": task == "normal",
    }
    plain = TaskDescription()
    wrong = [key for key in fits if not fits[key] and getattr(entry, key) != getattr(plain, key)]
    if wrong:
        remedy = (
            "Labels take folder, void and valid_where; signs is for normal alone, fill for normal "
            "and depth"
        )
        _refuse(path, f"keys that fit the task {task}", ", ".join(wrong), remedy)
    scale, offset = entry.scale, entry.offset
    if scale is not None and (scale == 0 or not math.isfinite(scale)):
        expected = f"tasks.{task}.scale to be a finite number other than 0"
        _refuse(path, expected, scale, "Change it")
    if task == "depth" and scale is not None and scale < 0:
        _refuse(path, "tasks.depth.scale, metres a unit, to be above 0", scale, "Change it")
    if offset is not None and not math.isfinite(offset):
        _refuse(path, f"tasks.{task}.offset to be a finite number", offset, "Change it")
    channels = {"normal": 3, "curvature": 2}.get(task)
    if channels and entry.invalid and len(entry.invalid) not in (channels, 3):
        expected = f"tasks.{task}.invalid to have one value a channel"
        _refuse(path, expected, list(entry.invalid), "Write for example [128, 128, 128]")
    if len(entry.signs) != 3 or set(entry.signs) - {1.0, -1.0}:
        expected = f"tasks.{task}.signs to be three of 1 and -1"
        _refuse(path, expected, list(entry.signs), "Write for example [1, -1, -1]")
    if entry.valid_where and (entry.valid_where not in tasks or entry.valid_where == task):
        expected = f"tasks.{task}.valid_where to name another task of the file"
        _refuse(path, expected, repr(entry.valid_where), f"Known: {', '.join(sorted(tasks))}")


def _refuse(path: Path, expected: str, got: Any, remedy: str) -> NoReturn:
    raise UserError(f"Expected {expected} in {path}, got {got}. {remedy}.")
