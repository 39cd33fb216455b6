"""Scenes as image files, and a folder of them with a dataset.yaml."""

from functools import cache
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from mtl.data.readers.nyuv2_classes import CLASSES_13
from mtl.data.sample import RawSample
from mtl.data.scenes.render import render_scene
from mtl.spec.sections import TASKS

HEIGHT, WIDTH = 18, 24
SPLITS = (("train", 3), ("val", 1), ("test", 1))
FIRST = "train/Bild 0 é"
BOUNDS = {
    "depth": 0.5 * 0.001,
    # Each component is off by 0.5 / 127.5; the vector by at most sqrt(3) times that, and making it
    # unit again moves it by no more than that once more.
    "normal": 2 * 3**0.5 * 0.5 / 127.5,
    "segmentation": 0,
    "curvature": 0.5 / 127,
    "reshading": 0.5 / 255,
    **dict.fromkeys(("edge2d", "edge3d", "keypoint2d", "keypoint3d"), 0.5 / 65535),
}
"""Half a step of quantisation in PNGs, to which float32 adds `ROUNDING`."""
ROUNDING = 1e-6


def assert_read_back(got: RawSample, sample: RawSample, bounds: dict[str, float]) -> None:
    """A sample is a scene, but for the quantisation of its files."""
    np.testing.assert_array_equal(got.image, sample.image)
    assert set(got.targets) == set(sample.targets)
    for task, target in sample.targets.items():
        np.testing.assert_array_equal(got.valid[task], sample.valid[task])
        assert got.targets[task].dtype == target.dtype
        assert got.targets[task].shape == target.shape
        error = np.abs(got.targets[task].astype(float) - target)[sample.valid[task]]
        assert error.max() <= bounds[task] + ROUNDING, task


YAML = {
    "name": "rooms",
    "licence": "ours",
    "classes": list(CLASSES_13),
    "depth_range_m": [0.7, 10],
    "tasks": {
        "depth": {"scale": 0.001, "invalid": 0},
        "segmentation": {"void": 255, "folder": "label"},
        "normal": {"invalid": [128, 128, 128]},
        "curvature": None,
        "reshading": {"scale": "1/255", "valid_where": "depth"},
        "edge2d": {},
        "edge3d": {},
        "keypoint2d": {},
        "keypoint3d": {},
    },
}


@cache
def scene(index: int) -> RawSample:
    return render_scene("rooms", seed=1, split="train", index=index, height=HEIGHT, width=WIDTH)


def coded(task: str, sample: RawSample, depth_units_per_m: int = 1000) -> np.ndarray:
    """Return what a PNG of the task holds."""
    target = sample.targets[task].astype(np.float64)
    if task == "segmentation":
        return np.where(sample.valid[task], target, 255).astype(np.uint8)
    if task == "depth":
        return np.rint(target[..., 0] * depth_units_per_m).astype(np.uint16)
    if task == "normal":
        return np.rint((target + 1) * 127.5).astype(np.uint8)
    if task == "curvature":
        flat = np.zeros((HEIGHT, WIDTH, 1))
        return np.concatenate([np.rint(target * 127 + 127), flat], 2).astype(np.uint8)
    if task == "reshading":
        return np.rint(target[..., 0] * 255).astype(np.uint8)
    return np.rint(target[..., 0] * 65535).astype(np.uint16)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def write_yaml(source: Path, **changes: object) -> Path:
    """Write dataset.yaml: `YAML` with `changes`; None removes a key."""
    values = {k: v for k, v in {**YAML, **changes}.items() if v is not None}
    path = source / "dataset.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    return path


def write_task(source: Path, task: str, **entry: object) -> Path:
    """Write dataset.yaml with one more key for a task."""
    tasks = {**YAML["tasks"], task: {**(YAML["tasks"][task] or {}), **entry}}
    return write_yaml(source, tasks=tasks)


def write_source(folder: Path) -> Path:
    """Write five scenes as PNGs into a folder with spaces and letters beyond ASCII."""
    root = folder / "unsere Küche 部屋"
    index = 0
    for split, number in SPLITS:
        for _ in range(number):
            name = f"Bild {index} é.png"
            save(root / split / "image" / name, scene(index).image)
            for task in TASKS:
                place = "label" if task == "segmentation" else task
                save(root / split / place / name, coded(task, scene(index)))
            index += 1
    write_yaml(root)
    return root
