"""Taskonomy (Zamir et al., CVPR 2018): 512x512 indoor views, 16-bit and 8-bit PNGs.

Camera axes are this project's: x right, y down, z forward, normals towards the camera. Curvature
is the files': principal curvatures k1 (red) and k2 (green) times 0.03 m, clipped to -1..1. The
files document neither that k1 >= k2, as rendered scenes have it, nor which sign is convex: order
and sign stay the files' own, as published baselines train on them. Segmentation is read only if
the option `tasks` names it: it is no task of the paper, fewer views have it, and it is what a
network trained on COCO saw: 16 of its classes, background, and 0 where it was not certain.

Depth, edges and keypoints keep their natural scale (value / 512 m, value / 65535).
"""

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from mtl.data.readers.common import (
    Mask,
    bad_file,
    check_depth,
    check_size,
    first_names,
    hold_out,
    unit_normals,
)
from mtl.data.readers.images import read_mask, read_rgb, read_uint8, read_uint16
from mtl.data.sample import RawDataset, RawSample
from mtl.errors import UsageError, UserError
from mtl.spec.sections import TASKS
from mtl.spec.strict import checked_name

View = tuple[str, int, int]
"""Building, point, view."""

FILE_NAME = re.compile(r"point_(\d+)_view_(\d+)_domain_(\w+)\.png", re.A)

DOMAINS: dict[str, tuple[str, ...]] = {
    "image": ("rgb",),
    "depth": ("depth_zbuffer", "depth"),
    "normal": ("normal",),
    "segmentation": ("segmentsemantic",),
    "curvature": ("principal_curvature", "curvature"),
    "reshading": ("reshading", "reshade"),
    "edge2d": ("edge_texture", "edge2d"),
    "edge3d": ("edge_occlusion", "edge"),
    "keypoint2d": ("keypoints2d", "keypoint2d"),
    "keypoint3d": ("keypoints3d", "keypoint"),
    "mask": ("mask_valid",),
    "distance": ("depth_euclidean", "mist"),
}
"""What is read -> its domain in the newer and in the older release."""
KIND_OF_DOMAIN = {domain: kind for kind, domains in DOMAINS.items() for domain in domains}
BIT_OF_KIND = {kind: 1 << number for number, kind in enumerate(DOMAINS)}
# Folders that are no building; `segment_semantic` alone holds files of another domain's name,
# `segmentsemantic`.
OTHER_DOMAINS = {
    "segment_semantic", "segment_unsup2d", "segment_unsup25d", "segment2d",
    "segment25d", "class_object", "class_scene", "class_places", "point_info", "points",
    "fragments", "nonfixated_matches", "fixatedpose", "nonfixatedpose", "ego_motion", "room_layout",
    "vanishing_point", "jigsaw", "denoise", "inpainting_whole", "colorization",
}  # fmt: skip

TINY: dict[str, tuple[str, ...]] = {
    "train": (
        "hanson", "merom", "klickitat", "onaga", "leonardo", "marstons", "newfields", "pinesdale",
        "lakeville", "cosmos", "benevolence", "pomaria", "tolstoy", "shelbyville", "allensville",
        "wainscott", "beechwood", "coffeen", "stockman", "hiteman", "woodbine", "lindenwood",
        "forkland", "mifflinburg", "ranchester",
    ),
    "validation": ("wiconisco", "corozal", "collierville", "markleeville", "darden"),
    "test": ("ihlen", "muleshoe", "uvalda", "noxapater", "mcdade"),
}  # fmt: skip
"""The official tiny split by building: splits_taskonomy.zip of StanfordVL/taskonomy."""


@dataclass
class Found:
    """What a source folder holds."""

    kinds: dict[View, int] = field(default_factory=dict)
    """View -> bits of the kinds of files that it has."""
    places: dict[tuple[str, str], set[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Kind and building -> pairs of folder and domain under which its files lie, mostly one."""
    padded: dict[tuple[View, str], Path] = field(default_factory=dict)
    """View and kind -> file, of names whose numbers have leading zeros."""

    def having(self, kinds: Iterable[str]) -> list[View]:
        """Return the views that have a file of every kind, by building, point and view."""
        wanted = sum(BIT_OF_KIND[kind] for kind in kinds)
        return sorted(view for view, bits in self.kinds.items() if bits & wanted == wanted)

    def path(self, view: View, kind: str) -> Path | None:
        """Return the file of a view, or None where it has none."""
        building, point, number = view
        if not self.kinds.get(view, 0) & BIT_OF_KIND[kind]:
            return None
        if (view, kind) in self.padded:
            return self.padded[view, kind]
        paths = [
            Path(folder) / f"point_{point}_view_{number}_domain_{domain}.png"
            for folder, domain in sorted(self.places[kind, building])
        ]
        # A link that leads nowhere is a file too: reading it says so.
        return next((path for path in paths if os.path.lexists(path)), paths[0])


def find_views(source: Path) -> Found:
    """Return all views in a folder and below; links to folders are followed, but never in a circle.

    Raises:
        UserError: if the source is no folder, holds no such files, or holds one file twice.
    """
    if not source.is_dir():
        raise UserError(
            f"Expected a folder of Taskonomy's files at {source}, got none. "
            "Give the folder that holds the tasks' or the buildings' folders."
        )
    found = Found()
    for folder, folders, names in os.walk(source, followlinks=True, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not _leads_back(source, folder, name))
        places = [source.resolve().name, *Path(folder).relative_to(source).parts]
        named = [f for f in places if f not in KIND_OF_DOMAIN and f not in OTHER_DOMAINS]
        building = named[-1] if named else places[0]
        for name in sorted(names):
            match = FILE_NAME.fullmatch(name)
            kind = KIND_OF_DOMAIN.get(match[3]) if match else None
            if match is None or kind is None:
                continue
            view = (building, int(match[1]), int(match[2]))
            bits = found.kinds.get(view, 0)
            if bits & BIT_OF_KIND[kind]:
                raise UserError(
                    f"Expected one {DOMAINS[kind][0]} of point {view[1]}, view {view[2]} of "
                    f"building {building} in {source}, got {found.path(view, kind)} and "
                    f"{Path(folder) / name}. Move one of them elsewhere."
                )
            found.kinds[view] = bits | BIT_OF_KIND[kind]
            if name == f"point_{view[1]}_view_{view[2]}_domain_{match[3]}.png":
                found.places[kind, building].add((folder, match[3]))
            else:
                found.padded[view, kind] = Path(folder) / name
    if not found.kinds:
        raise UserError(
            f"Expected files named point_<P>_view_<V>_domain_<domain>.png in {source}, got none. "
            "Give the folder that holds the tasks' or the buildings' folders."
        )
    return found


def _refuse_folder(error: OSError) -> NoReturn:
    raise UserError(
        f"Expected to list the folder {error.filename}, got: {error.strerror}. "
        "Give yourself the right to read it."
    ) from error


def _leads_back(source: Path, folder: str, name: str) -> bool:
    """Return whether a name is a link to a folder that leads to it."""
    path = Path(folder, name)
    above = [each for each in path.parents if each == source or source in each.parents]
    return path.is_symlink() and path.resolve() in [each.resolve() for each in above]


def read_split_csv(path: Path) -> dict[str, tuple[str, ...]]:
    """Return split -> buildings of an official list: columns id, train, val, test of 0 and 1.

    The official files end their lines with a carriage return alone.

    Raises:
        UserError: if the file cannot be read or is no such list.
    """
    remedy = "Take a file of splits_taskonomy.zip, or write id,train,val,test and a 1 in each row"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"Expected a CSV of buildings at {path}, got: {words}. {remedy}."
        ) from error
    columns = [name.lower() for name in rows[0]] if rows else []
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    if columns[:1] != ["id"] or sorted(columns[1:]) != sorted(splits):
        got = ",".join(columns)[:80] or "an empty file"
        raise UserError(f"Expected the columns id,train,val,test in {path}, got {got}. {remedy}.")
    seen: set[str] = set()
    for line, (name, *flags) in enumerate(rows[1:], 2):
        if len(flags) != 3 or set(flags) - {"0", "1"} or flags.count("1") > 1 or name in seen:
            raise UserError(
                f"Expected a new building and three flags, at most one of them 1, in line {line} "
                f"of {path}, got {','.join([name, *flags])[:80]}. {remedy}."
            )
        seen.add(name)
        if "1" in flags:
            splits[columns[1 + flags.index("1")]].append(name)
    names = {"train": "train", "validation": "val", "test": "test"}
    return {split: tuple(splits[name]) for split, name in names.items()}


def strided(
    views: Sequence[View], buildings: Mapping[str, Sequence[str]], stride: int, offset: int
) -> dict[str, tuple[View, ...]]:
    """Return split -> every `stride`-th of its views, counted over all its buildings together.

    Args:
        views: sorted by building, point and view.
        buildings: split -> names.
        stride: 1 keeps all.
        offset: of the first one kept, 0 to stride - 1.
    """
    split_of = {name: split for split, names in buildings.items() for name in names}
    members: dict[str, list[View]] = {split: [] for split in buildings}
    for view in views:
        if view[0] in split_of:
            members[split_of[view[0]]].append(view)
    return {split: tuple(chosen[offset::stride]) for split, chosen in members.items()}


READABLE_TASKS = tuple(task for task in TASKS if task in DOMAINS)
TASKONOMY_TASKS = tuple(task for task in READABLE_TASKS if task != "segmentation")
"""The eight tasks of the paper."""
CLASSES = (
    "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
"""Of segmentation, stored as 1, 2, ...; from taskbank's list of COCO's classes."""
UNCERTAIN = 0
"""The label of pixels that have none."""
MASKED_TASKS = ("reshading", "edge3d", "keypoint3d")
"""Tasks whose files cannot say that a pixel is invalid: they count where depth exists."""
MASK_KINDS = ("depth", "mask", "distance")
"""Files that say where depth exists, best first."""

DEPTH_UNITS_PER_M = 512.0
INVALID_DEPTH = 65535
INVALID_NORMAL = (128, 128, 128)
INVALID_CURVATURE = (0, 0, 0)
FLAT_CURVATURE = 127.0
MAX_COLOUR_IN_GREY = 2
"""Channels of a shading that differ by more, in 8-bit steps, are no shading."""

PAPER_STRIDE = 100
PAPER_COUNTS = {"train": 2762, "test": 548}
"""Sizes of the paper's sample: every 100th view of the tiny split."""
LICENCE = (
    "Taskonomy: for non-commercial research; may not be redistributed, in whole or part, or in any "
    "format, without written prior permission."
)


@dataclass(frozen=True, kw_only=True)
class TaskonomyOptions:
    """How a folder of Taskonomy is read."""

    tasks: tuple[str, ...] = TASKONOMY_TASKS
    """Tasks that every sample must have, read from its files: the paper's eight, or others with
    `segmentation`. Given by hand, tasks that `--tasks` names and this does not are derived."""
    splits: str = "tiny"
    """`tiny`: the official 25/5/5 buildings. `all`: the buildings that are there, shared out by
    seed; the views, if there is one building alone. Otherwise the path of a CSV with columns id,
    train, val, test."""
    stride: int = PAPER_STRIDE
    """Every which view is kept, counted over a whole split."""
    offset: int = 0
    """Position of the first one kept."""
    validation_seed: int = 0
    """Of the buildings' shares for `all`, and of a held-out validation part."""
    validation_share: float = 0.1
    """Share of the training samples held out where no validation building is there."""
    test_share: float = 0.2
    """Share of the buildings, or of the views of the only one, that `all` gives to test."""
    depth_invalid_from: int = INVALID_DEPTH
    """Raw depths from this on are invalid: 64500, as taskbank has it, for files that somebody has
    resized with interpolation, which smears the 65535 of invalid pixels."""
    depth_range_m: tuple[float, ...] = (0.1, 128.0)
    """What losses allow; the files can hold up to 128 m."""

    def __post_init__(self) -> None:
        """Refuse what cannot be read, naming the option."""
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            _refuse("tasks to be distinct and at least one", self.tasks)
        for task in self.tasks:
            checked_name(task, READABLE_TASKS, "task", of="Taskonomy")
        if self.stride < 1:
            _refuse("stride of at least 1", self.stride)
        if not 0 <= self.offset < self.stride:
            _refuse(f"offset from 0 to {self.stride - 1}", self.offset)
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                _refuse(f"{name} between 0 and 1", getattr(self, name))
        if not 1 < self.depth_invalid_from <= INVALID_DEPTH:
            _refuse(f"depth_invalid_from from 2 to {INVALID_DEPTH}", self.depth_invalid_from)
        if len(self.depth_range_m) != 2 or not 0 < self.depth_range_m[0] < self.depth_range_m[1]:
            _refuse("depth_range_m of two rising lengths above 0", self.depth_range_m)


def open_taskonomy(source: Path, options: TaskonomyOptions | None = None) -> RawDataset:
    """Return the data set in a folder; see `mtl.data.readers.taskonomy` for the trees it may have.

    Samples are the views that have all wanted tasks. Ids are ``building/point_P_view_V``.

    Raises:
        UserError: if the folder or the CSV cannot be used, or a split stays empty.
    """
    options = TaskonomyOptions() if options is None else options
    source = Path(source)
    tasks = tuple(task for task in TASKS if task in options.tasks)
    found = find_views(source)
    views, notes = _complete_views(source, found, tasks)
    buildings = _buildings(views, options)
    splits = strided(views, buildings, options.stride, options.offset)
    samples = {split: tuple(_id(view) for view in chosen) for split, chosen in splits.items()}
    if options.splits == "all" and not splits["test"]:
        samples["train"], samples["test"] = hold_out(
            samples["train"], options.test_share, options.validation_seed
        )
        notes.append(
            f"{views[0][0]} is the only building: its test views overlap with its training views, "
            "and results say nothing of other buildings."
        )
    for split in ("train", "test"):
        if not samples[split]:
            raise UserError(
                f"Expected views of {split} buildings ({options.splits}) in {source}, got none "
                f"among {len(views)} of {first_names(sorted({view[0] for view in views}))}. "
                "Add buildings, take a smaller stride, or give other splits."
            )
    notes += _notes_on_splits(views, buildings, samples, options)
    if not samples["validation"]:
        samples["train"], samples["validation"] = hold_out(
            samples["train"], options.validation_share, options.validation_seed
        )
        notes.append(
            f"No validation building is there: {len(samples['validation'])} of the training views "
            f"are held out by seed {options.validation_seed}, leaving {len(samples['train'])}."
        )
    return RawDataset(
        name="taskonomy",
        tasks=tasks,
        classes=CLASSES if "segmentation" in tasks else (),
        depth_range_m=(options.depth_range_m[0], options.depth_range_m[1]),
        samples={split: samples[split] for split in ("train", "validation", "test")},
        files={_id(view): _files(found, view, tasks) for kept in splits.values() for view in kept},
        decode=partial(_read, tasks=tasks, options=options),
        licence=LICENCE,
        options={**asdict(options), "tasks": tasks},
        notes=tuple(notes),
    )


def _complete_views(
    source: Path, found: Found, tasks: tuple[str, ...]
) -> tuple[list[View], list[str]]:
    """Return the views that have all that is wanted, in order, and notes on those left out."""
    kinds = ("image", *tasks)
    complete = found.having(kinds)
    lacking = {kind: len(found.kinds) - len(found.having((kind,))) for kind in kinds}
    if not complete:
        counts = ", ".join(f"{len(found.having((kind,)))} {DOMAINS[kind][0]}" for kind in kinds)
        raise UserError(
            f"Expected views with all of {', '.join(DOMAINS[kind][0] for kind in kinds)} in "
            f"{source}, got none: {counts}. Add the missing files, or ask for fewer tasks."
        )
    notes = []
    if len(complete) < len(found.kinds):
        words = ", ".join(f"{number:,} lack {kind}" for kind, number in lacking.items() if number)
        left_out = len(found.kinds) - len(complete)
        notes.append(f"{left_out:,} of {len(found.kinds):,} views are left out: {words}.")
    masked = [task for task in tasks if task in MASKED_TASKS]
    if masked:
        with_mask = sorted({view for kind in MASK_KINDS for view in found.having((kind,))})
        usable = sorted(set(complete).intersection(with_mask))
        if not usable:
            notes.append(
                f"No view has depth or mask_valid: {', '.join(masked)} count at every pixel, "
                "holes of the scan included."
            )
        elif len(usable) < len(complete):
            left_out = len(complete) - len(usable)
            notes.append(
                f"{left_out:,} more views are left out: they have neither depth nor mask_valid, "
                f"which say where {', '.join(masked)} count."
            )
        complete = usable or complete
    return complete, notes


def _buildings(views: list[View], options: TaskonomyOptions) -> dict[str, tuple[str, ...]]:
    """Return split -> buildings."""
    if options.splits == "tiny":
        return TINY
    if options.splits != "all":
        return read_split_csv(Path(options.splits))
    names = sorted({view[0] for view in views})
    if len(names) == 1:
        return {"train": (names[0],), "validation": (), "test": ()}
    train, test = hold_out(names, options.test_share, options.validation_seed)
    return {"train": train, "validation": (), "test": test}


def _notes_on_splits(
    views: list[View],
    buildings: Mapping[str, tuple[str, ...]],
    samples: dict[str, tuple[str, ...]],
    options: TaskonomyOptions,
) -> list[str]:
    known = {name for names in buildings.values() for name in names}
    others = [view for view in views if view[0] not in known]
    notes = []
    if others:
        notes.append(
            f"{len(others):,} views are left out, of buildings that are in no split "
            f"({options.splits}): {first_names(sorted({view[0] for view in others}))}."
        )
    for split, ids in samples.items():
        if ids:  # one a line, in their order
            digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
            notes.append(f"{split}: {len(ids):,} views, SHA-256 of the list of ids {digest}.")
    if options.splits == "tiny" and options.stride == PAPER_STRIDE:
        notes += [
            f"The paper has {expected:,} {split} views, here are {len(samples[split]):,}."
            for split, expected in PAPER_COUNTS.items()
            if len(samples[split]) != expected
        ]
    return notes


def _id(view: View) -> str:
    return f"{view[0]}/point_{view[1]}_view_{view[2]}"


def _files(found: Found, view: View, tasks: tuple[str, ...]) -> dict[str, Path]:
    """Return kind -> file; of the files that only say where depth exists, the best one."""
    paths = {kind: found.path(view, kind) for kind in ("image", *tasks)}
    if set(tasks) & set(MASKED_TASKS):
        masks = ((kind, found.path(view, kind)) for kind in MASK_KINDS)
        paths |= dict([next((m for m in masks if m[1] is not None), ("mask", None))])
    return {kind: path for kind, path in paths.items() if path is not None}


def _read(
    _: str, paths: Mapping[str, Path], tasks: tuple[str, ...], options: TaskonomyOptions
) -> RawSample:
    image = read_rgb(paths["image"])
    size = image.shape[:2]
    targets: dict[str, NDArray] = {}
    valid: dict[str, Mask] = {}
    exists = np.ones(size, bool)
    kind = next((kind for kind in MASK_KINDS if kind in paths), None)
    if kind is not None:
        exists = read_mask(paths[kind]) if kind == "mask" else _raw_depth(paths[kind], options)[1]
        check_size(paths[kind], exists, size)
    for task in tasks:
        target, mask = DECODERS.get(task, _decode_map)(paths[task], options)
        check_size(paths[task], target, size)
        valid[task] = mask & exists if task in MASKED_TASKS else mask
        labels = target.ndim == 2
        target = np.where(valid[task] if labels else valid[task][..., None], target, 0)
        targets[task] = target.astype(np.uint8 if labels else np.float32)
    return RawSample(image, targets, valid)


def _decode_depth(path: Path, options: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw, valid = _raw_depth(path, options)
    depth_m = raw / DEPTH_UNITS_PER_M
    remedy = "Give depths in 1/512 m, or another depth_range_m with --option"
    check_depth(path, depth_m, valid, options.depth_range_m, remedy)
    return depth_m[..., None], valid


def _raw_depth(path: Path, options: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw = read_uint16(path)
    return raw, (raw > 0) & (raw < options.depth_invalid_from)


def _decode_normal(path: Path, _: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw = read_rgb(path, lossless=True)
    # The mask comes from the raw values: decoded ones are not 0 at an invalid pixel but 0.004.
    valid = (raw != INVALID_NORMAL).any(-1)
    remedy = "Take the files of the official release, whose values are (n + 1) * 127.5"
    return unit_normals(path, raw / 127.5 - 1.0, valid, remedy)


def _decode_curvature(path: Path, _: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw = read_rgb(path, lossless=True)
    valid = (raw != INVALID_CURVATURE).any(-1)
    # Red and green; flat is 127, and 254 is the clipped 1.
    return np.clip((raw[..., :2] - FLAT_CURVATURE) / FLAT_CURVATURE, -1.0, 1.0), valid


def _decode_reshading(path: Path, _: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw = read_rgb(path, lossless=True, or_grey=True)
    spread = int((raw.max(-1) - raw.min(-1)).max())
    if spread > MAX_COLOUR_IN_GREY:
        got = f"channels that differ by {spread}"
        raise bad_file(path, "a grey shading", got, "Put the reshading there, not a photograph")
    return raw[..., :1] / 255.0, np.ones(raw.shape[:2], bool)


def _decode_labels(path: Path, _: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw = read_uint8(path)
    if raw.max() > len(CLASSES):
        expected = f"labels from 0 (uncertain) to {len(CLASSES)} ({CLASSES[-1]})"
        raise bad_file(path, expected, str(raw.max()), "Take the files of the official release")
    valid = raw != UNCERTAIN
    return np.where(valid, raw, 1) - 1, valid


def _decode_map(path: Path, _: TaskonomyOptions) -> tuple[NDArray, Mask]:
    raw = read_uint16(path)
    return raw[..., None] / 65535.0, np.ones(raw.shape, bool)


DECODERS: dict[str, Callable[[Path, TaskonomyOptions], tuple[NDArray, Mask]]] = {
    "depth": _decode_depth,
    "normal": _decode_normal,
    "segmentation": _decode_labels,
    "curvature": _decode_curvature,
    "reshading": _decode_reshading,
}


def _refuse(expected: str, got: object) -> NoReturn:
    raise UsageError(f"Expected {expected}, got {got!r}. Change this option of Taskonomy.")
