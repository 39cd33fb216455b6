"""Data sets from files, as a recipe of `mtl.data.writing`: read, fill, resize, derive.

Missing depths and normals are filled at native size, everything is then brought to the working
size, and tasks that the files lack are derived there, as scenes do it, so that lengths in pixels
mean the same in both.
"""

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mtl.data.manifest import short_hash
from mtl.data.readers.common import first_names
from mtl.data.readers.registry import READERS, open_own
from mtl.data.sample import RawDataset, RawSample, Sample, is_classes
from mtl.data.targets.colorization import fill, fill_normals
from mtl.data.targets.derived_tasks import derivable, derived, derived_measured
from mtl.data.targets.resize import resized
from mtl.errors import BadSampleError, UserError
from mtl.spec.code import OWN, code_of, is_reference
from mtl.spec.sections import SPLITS, TASKS
from mtl.spec.strict import build_dataclass, checked_name
from mtl.spec.tasks import check_task


def fingerprint(paths: Iterable[Path], source: Path) -> dict[str, Any]:
    """Return what stands for the state of files, plain values.

    `count` files, a `hash` over all of them, and `folders`: folder relative to `source` -> hash
    over its files, by which a change can be named with its place.
    """
    base = os.fspath(source if source.is_dir() else source.parent)
    above = os.path.join(base, "")
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    names = sorted({os.fspath(path) for path in paths})
    for path in names:
        # Most lie below the source: relpath would take longer than the stat.
        name = path[len(above) :] if path.startswith(above) else os.path.relpath(path, base)
        digests[os.path.dirname(name) or "."].update(os.fsencode(f"{name}\0{_state(path)}\n"))
    folders = {folder: digest.hexdigest()[:16] for folder, digest in sorted(digests.items())}
    return {"count": len(names), "hash": short_hash(folders), "folders": folders}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return words for where files changed between two fingerprints; empty if nowhere."""
    old, new = before["folders"], now["folders"]
    places = sorted(place for place in {*old, *new} if old.get(place) != new.get(place))
    return first_names(["the source itself" if place == "." else place for place in places])


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "none"  # reading it says why
    return f"{found.st_size} {found.st_mtime_ns}"


STORED_AS: dict[str, type[np.generic]] = {
    "normal": np.float16,
    "curvature": np.float16,
    "reshading": np.float16,
}
"""Maps that files hold in 8 bits or that are derived: half precision loses nothing of them. All
other maps are float32, because their files have 16 bits."""
BYTES_PER_PIXEL = {"image": 3, "normal": 6, "curvature": 4, "reshading": 2, "segmentation": 1}
"""Bytes of a pixel in the arrays; maps not named have 4, and each task 2 more for its masks."""

RECIPE_VERSION = 3
"""Raised when the same files become other arrays: what was prepared before is not taken for it.
2: tasks derived from the image do not count along a white border.
3: derived 3D edges do not count beside holes nor along the border of the frame or crop, where they
were 0; what is derived beside filled pixels does not count as measured."""
MAX_TRIED = 20
"""Samples tried to see which tasks can be derived; a data set may begin with bad ones."""


@dataclass(frozen=True)
class RawRecipe:
    """How a data set from files becomes arrays of one size."""

    name: str
    source: str
    """Absolute path of the files."""
    dataset: RawDataset
    """Opened; other processes get it as it is, so the files are looked through once."""
    height: int
    width: int
    tasks: tuple[str, ...]
    """Those wanted, in the order of `mtl.spec.sections.TASKS`."""
    filled: bool
    """Whether missing values that the reader calls fillable are filled."""
    exact_fill: bool
    """Whether the full system is solved for that, see `mtl.data.targets.colorization`."""
    splits: tuple[str, ...]
    """Those wanted, in the order of `mtl.spec.sections.SPLITS`."""
    optional: tuple[str, ...]
    """Derived tasks that nobody asked for by name: left out where they count nowhere."""
    layouts: Mapping[str, tuple[int, int]]
    """Task of the files -> number of axes and of channels (0: class indices), in every sample."""
    files: Mapping[str, Any]
    """Fingerprint of the files of all samples when the data set was opened."""

    def counts(self) -> dict[str, int]:
        """Return split -> number of samples."""
        return {split: len(self.dataset.samples[split]) for split in self.splits}

    def sample(self, split: str, index: int) -> Sample:
        """Return a sample at the working size with all wanted tasks."""
        raw = self.dataset.read(self.dataset.samples[split][index])
        self._check(raw, f"sample {self.dataset.samples[split][index]!r} of {split}")
        if self.filled:
            raw = with_holes_filled(raw, exact=self.exact_fill)
        raw = resized(raw, self.height, self.width)
        targets, valid, measured = dict(raw.targets), dict(raw.valid), dict(raw.measured)
        for task in self.tasks:
            if task not in targets:
                targets[task], valid[task] = derived(task, raw)
                measured[task] = derived_measured(task, raw, valid[task])
        return Sample(
            image=raw.image,
            targets={t: targets[t].astype(_stored_as(t, targets[t])) for t in self.tasks},
            valid={t: valid[t] for t in self.tasks},
            # Of every task in every sample: the arrays of a data set have one layout.
            measured={t: measured.get(t, valid[t]) for t in self.tasks},
        )

    def _check(self, raw: RawSample, where: str) -> None:
        """Raise a `BadSampleError` unless a sample is laid out as the first one, and finite."""
        for task, layout in self.layouts.items():
            if task not in raw.targets:
                raise BadSampleError(
                    f"Expected a target of {task} in {where}, as in others, got "
                    f"{', '.join(raw.targets) or 'none'}. Give one, not valid where it is unknown."
                )
            target = raw.targets[task]
            if layout_of(target) != layout:
                raise BadSampleError(
                    f"Expected {task} of {_layout_text(layout)} in {where}, as in others, got "
                    f"{target.dtype} {target.shape}. Give all samples one layout."
                )
            if not np.isfinite(target[np.asarray(raw.valid[task])]).all():
                raise BadSampleError(
                    f"Expected finite values of {task} where it is valid in {where}, got others. "
                    "Mark them as not valid."
                )

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        dataset = self.dataset
        ids = {split: list(dataset.samples[split]) for split in self.splits}
        about = {
            "name": self.name,
            "label": dataset.label,
            "recipe_version": RECIPE_VERSION,
            "source": self.source,
            "options": dict(dataset.options),
            "size": {"height": self.height, "width": self.width},
            "info": {
                "classes": list(dataset.classes),
                "depth_range_m": list(dataset.depth_range_m),
            },
            "derived": [task for task in self.tasks if task not in dataset.tasks],
            "filled": list(self.dataset.fillable) if self.filled else [],
            "ids": ids,
            "ids_hash": short_hash(ids, sort_keys=False),
            "licence": dataset.licence,
            "notes": list(dataset.notes),
            "versions": {name: version(name) for name in ("numpy", "scipy", "pillow")},
            "files": dict(self.files),
        }
        # Named only where it is chosen, so that the key of all others stays as it was.
        about |= {"exact_fill": True} if self.exact_fill else {}
        # What read the files, if it can change: edited code prepares anew.
        return about | ({"code": code_of([self.name])} if is_reference(self.name) else {})

    def key(self) -> str:
        """Return 16 digits of this preparation, unlike those of others of the same data set.

        Ids and options are what opening found, so that an edited description is another. The
        state of the files is no part of it: changed files are refused, not prepared beside.
        """
        about = {k: v for k, v in self.about().items() if k not in ("notes", "versions", "files")}
        return short_hash([about, self.tasks])

    def expected_bytes(self) -> int:
        """Return the bytes of the arrays."""
        maps = [task for task in self.tasks if self.layouts.get(task, (3, 1))[0] > 1]
        per_pixel = BYTES_PER_PIXEL["image"] + sum(BYTES_PER_PIXEL.get(t, 4) + 2 for t in maps)
        return per_pixel * self.height * self.width * sum(self.counts().values())


def make_recipe(
    name: str,
    source: Path,
    *,
    height: int,
    width: int,
    options: Mapping[str, Any],
    tasks: tuple[str, ...] | None,
    splits: tuple[str, ...] = SPLITS,
    filled: bool = True,
    exact_fill: bool = False,
    skip_bad: bool = False,
) -> RawRecipe:
    """Return the recipe of a data set, which is opened to see what it has.

    Args:
        name: in `READERS`, or `module:name` of a function (source, **options) -> `RawDataset`.
        source: folder or file.
        height: pixels.
        width: pixels.
        options: of the reader; those left out have its defaults.
        tasks: those wanted; None means all in the files and all that can be derived.
        splits: those wanted.
        filled: as in `RawRecipe`.
        exact_fill: as in `RawRecipe`.
        skip_bad: whether samples whose files are not all there will be left out.

    Raises:
        UserError: if it cannot be opened or lacks a task, or files of some samples are missing
            and that is not to be skipped.
        ValueError: for an unknown data set, option, task or split.
    """
    for task in tasks or ():
        check_task(task)
    for split in splits:
        checked_name(split, SPLITS, "split")
    place = source.expanduser().absolute()
    dataset = _opened(name, place, options, tasks or ())
    splits = tuple(split for split in SPLITS if split in splits)
    for split in splits:
        if not dataset.samples[split]:
            raise UserError(
                f"Expected samples for {split} in {source}, got none. Name the other splits with "
                "--split, or give a validation_share above 0 with --option."
            )
    ids = [sample_id for split in splits for sample_id in dataset.samples[split]]
    lacking = [sample_id for sample_id in ids if sample_id in dataset.lacking]
    if lacking and not skip_bad:
        raise UserError(
            f"{dataset.lacking[lacking[0]]} (Files are missing of {first_names(lacking)}; "
            "--skip-bad goes on without such samples and lists them.)"
        )
    if exact_fill and not dataset.fillable:
        raise UserError(
            f"Expected something to fill for --exact-fill, got {name} data with the tasks "
            f"{', '.join(dataset.tasks) or 'none'}, whose holes stay. Leave it out, or let depth "
            "or normals be filled: fill: true in a folder's YAML, --option depth=raw of nyuv2."
        )
    first = _first_sample(dataset, ids)
    available = (*dataset.tasks, *derivable(first))
    for task in tasks or ():
        if task not in available:
            there = ", ".join(_in_order({*available, *dataset.held}))
            raise UserError(
                f"Expected tasks that {source} has or that follow from it ({there}), got "
                f"{task!r}. Leave it out, or see in the code of {name} whether an --option adds it."
            )
    wanted = _in_order(tasks or available)
    return RawRecipe(
        name=name,
        source=str(place),
        dataset=dataset,
        height=height,
        width=width,
        tasks=wanted,
        filled=filled,
        exact_fill=exact_fill,
        splits=splits,
        optional=tuple(t for t in wanted if tasks is None and t not in dataset.tasks),
        layouts={t: layout_of(first.targets[t]) for t in wanted if t in first.targets},
        files=fingerprint((path for i in ids for path in dataset.files[i].values()), place),
    )


def layout_of(target: np.ndarray) -> tuple[int, int]:
    """Return the number of axes of a target and of its channels, 0 for class indices."""
    return target.ndim, 0 if is_classes(target) else target.shape[-1]


def _layout_text(layout: tuple[int, int]) -> str:
    place = "the image's pixels" if layout[0] > 1 else "the image as a whole"
    return f"{place} with {f'{layout[1]} channels' if layout[1] else 'class indices'}"


def _opened(
    name: str, source: Path, options: Mapping[str, Any], tasks: Sequence[str]
) -> RawDataset:
    if is_reference(name):
        return open_own(name, source, options)
    reader = READERS[checked_name(name, [*READERS, OWN], "data set")]
    read = [task for task in reader.tasks if task in tasks]
    if read and "tasks" not in options:
        options = {**options, "tasks": read}
    return reader.open(source, build_dataclass(reader.options, dict(options), f"options of {name}"))


def _in_order(tasks: Collection[str]) -> tuple[str, ...]:
    """Return distinct tasks in the order of `TASKS`, then those from outside in their own."""
    return tuple(
        dict.fromkeys([t for t in TASKS if t in tasks] + [t for t in tasks if t not in TASKS])
    )


def _first_sample(dataset: RawDataset, ids: Sequence[str]) -> RawSample:
    """Return the first sample that can be read, of the first few: it shows what there is."""
    whole = [sample_id for sample_id in ids if sample_id not in dataset.lacking]
    tried = (whole or ids)[:MAX_TRIED]
    for sample_id in tried[:-1]:
        with contextlib.suppress(BadSampleError):
            return dataset.read(sample_id)
    return dataset.read(tried[-1])


def with_holes_filled(sample: RawSample, *, exact: bool = False) -> RawSample:
    """Return the sample with fillable pixels filled by colorization, marked as not measured."""
    targets, valid, measured = dict(sample.targets), dict(sample.valid), dict(sample.measured)
    for task, holes in sample.fillable.items():
        if not holes.any():
            continue
        known = sample.valid[task]
        # Pixels of the frame that are neither known nor wanted need not be solved for.
        box = _bounding_box(known | holes)
        function = fill_normals if task == "normal" else fill
        values, found = function(
            sample.targets[task][box], known[box], sample.image[box], exact=exact
        )
        new = np.zeros_like(known)
        new[box] = holes[box] & ~known[box] & found
        filled = sample.targets[task].astype(np.float32)
        filled[new] = values[new[box]]
        targets[task] = filled
        valid[task] = known | new
        measured[task] = sample.measured.get(task, known) & known
    return replace(sample, targets=targets, valid=valid, measured=measured, fillable={})


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest rectangle around a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _stored_as(task: str, values: np.ndarray) -> Any:
    return values.dtype if is_classes(values) else STORED_AS.get(task, np.float32)
