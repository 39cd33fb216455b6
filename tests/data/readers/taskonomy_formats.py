"""Scenes written in the files, trees and names of Taskonomy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mtl.data.readers.taskonomy import DOMAINS, TASKONOMY_TASKS, TaskonomyOptions
from mtl.data.sample import RawSample
from tests.data.readers.folder_formats import HEIGHT, WIDTH, coded, scene

EVERY = TaskonomyOptions(stride=1)


def encoded(kind: str, sample: RawSample) -> np.ndarray:
    """Return what a PNG of this kind holds."""
    if kind == "image":
        return sample.image
    if kind == "mask":
        return np.full((HEIGHT, WIDTH), 255, np.uint8)
    if kind == "distance":
        return np.full((HEIGHT, WIDTH), 1000, np.uint16)
    if kind == "segmentation":
        # Uncertain is 0, background 1; a scene's 13 classes take the first of the others.
        return np.where(sample.valid[kind], sample.targets[kind] + 2, 0).astype(np.uint8)
    array = coded(kind, sample, depth_units_per_m=512)
    return np.repeat(array[..., None], 3, 2) if kind == "reshading" else array


TREES: dict[str, Callable[[str, str], str]] = {
    "omnidata": lambda task, building: f"{task}/{building}",
    "annotator": lambda task, building: f"{building}/{task}",
    "starter": lambda task, building: f"{task}/taskonomy/{building}",
    "sample": lambda task, _: task,
}


def write_view(
    root: Path, view: tuple[str, int, int], sample: RawSample, tree: str = "omnidata",
    generation: int = 0, kinds: tuple[str, ...] = ("image", *TASKONOMY_TASKS),
) -> None:  # fmt: skip
    building, point, number = view
    for kind in kinds:
        domain = DOMAINS[kind][min(generation, len(DOMAINS[kind]) - 1)]
        place = "segment_semantic" if kind == "segmentation" else domain
        folder = root / TREES[tree](place, building)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"point_{point}_view_{number}_domain_{domain}.png"
        Image.fromarray(encoded(kind, sample)).save(folder / name)


VIEWS = [("hanson", 0, 0), ("hanson", 10, 1), ("merom", 2, 0), ("darden", 5, 3), ("ihlen", 7, 0)]
FIRST = "hanson/point_0_view_0"


def path_of(source: Path, view: tuple[str, int, int], domain: str) -> Path:
    building, point, number = view
    return source / domain / building / f"point_{point}_view_{number}_domain_{domain}.png"


def write_source(folder: Path) -> Path:
    """Write `VIEWS` in the first tree and the newer names."""
    root = folder / "taskonomy"
    for index, view in enumerate(VIEWS):
        write_view(root, view, scene(index))
    return root
