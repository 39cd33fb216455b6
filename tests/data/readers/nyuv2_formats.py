"""NYUv2's formats written by tests from synthetic arrays."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from mtl.data.readers.nyuv2 import CAMERA, HEIGHT, WIDTH
from mtl.data.readers.nyuv2_classes import classes_13

MATLAB_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sat Jan  1 00:00:00 2011 HDF5"


@dataclass(frozen=True)
class Frames:
    """Frames as people see them: (N, H, W, 3) and (N, H, W), in order of the index."""

    images: np.ndarray
    depths: np.ndarray
    raw_depths: np.ndarray
    labels: np.ndarray

    def changed(self, key: str, index: int, value: object, where: object = ...) -> "Frames":
        array = getattr(self, key).copy()
        array[index][where] = value
        return replace(self, **{key: array})


def room(number: int = 6, seed: int = 0) -> Frames:
    """Return frames of two walls and a floor, turned a little from frame to frame."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (number, HEIGHT, WIDTH, 3), dtype=np.uint8)
    depths = np.stack([corner_depth(0.1 * index) for index in range(number)]).astype(np.float32)
    raw_depths = depths.copy()
    raw_depths[:, 200:220, 300:330] = 0
    raw_depths[:, 100:110, 100:110] = 10
    labels = rng.integers(0, 895, (number, HEIGHT // 8, WIDTH // 8)).astype(np.uint16)
    return Frames(images, depths, raw_depths, labels.repeat(8, axis=1).repeat(8, axis=2))


def corner_normals(turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the normals (4, 3) and distances (4,) of a corner's planes, facing the camera."""
    normals = np.array(
        [
            [np.sin(turn - 0.7), 0, -np.cos(turn - 0.7)],
            [np.sin(turn + 0.7), 0, -np.cos(turn + 0.7)],
            [0, -0.98, -0.199],
            [0, 0.98, -0.199],
        ]
    )
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals, np.array([2.5, 2.2, 1.2, 1.4])


def _rays() -> np.ndarray:
    rows, columns = np.indices((HEIGHT, WIDTH))
    x, y = (columns - CAMERA.cx) / CAMERA.fx, (rows - CAMERA.cy) / CAMERA.fy
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def _corner_planes(turn: float) -> np.ndarray:
    normals, distances = corner_normals(turn)
    facing = -_rays() @ normals.T
    return np.where(facing > 1e-6, distances / np.maximum(facing, 1e-6), np.inf)


def corner_depth(turn: float) -> np.ndarray:
    return _corner_planes(turn).min(axis=-1)


def corner_normal_map(turn: float) -> np.ndarray:
    return corner_normals(turn)[0][_corner_planes(turn).argmin(axis=-1)]


def real_frames(real_data: Path, indices: tuple[int, ...]) -> Frames:
    """Return real frames; a label is any of the 894 that maps to the 13-class label."""
    folder = real_data / "nyuv2_real18"
    if not folder.is_dir():
        pytest.skip("no nyuv2_real18 among the real images")
    of_label = classes_13(np.arange(1, 895))[0]
    labels_of = np.array([0] + [1 + int((of_label == i).argmax()) for i in range(13)], np.uint16)
    images, depths, labels = [], [], []
    for index in indices:
        name = f"{index:04d}.png"
        images.append(np.asarray(Image.open(folder / "rgb" / name).convert("RGB")))
        depths.append(np.asarray(Image.open(folder / "depth_mm" / name)).astype(np.float32) / 1000)
        path = folder / "label13" / name
        by_13 = np.asarray(Image.open(path)) if path.exists() else np.zeros((HEIGHT, WIDTH), int)
        labels.append(labels_of[by_13])
    stacked = np.stack(depths)
    return Frames(np.stack(images), stacked, stacked, np.stack(labels))


def write_official(
    folder: Path,
    frames: Frames,
    train: tuple[int, ...] = (1, 3, 4, 6),
    test: tuple[int, ...] = (2, 5),
    **arrays: np.ndarray | None,
) -> Path:
    """Write both official files; `arrays` replace the ones of the file, None leaves one out."""
    path = folder / "nyu_depth_v2_labeled.mat"
    by_matlab = {
        "images": frames.images.transpose(0, 3, 2, 1),
        "depths": frames.depths.transpose(0, 2, 1),
        "rawDepths": frames.raw_depths.transpose(0, 2, 1),
        "labels": frames.labels.transpose(0, 2, 1),
    } | arrays
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in by_matlab.items():
            if array is not None:
                chunks = (1, *array.shape[1:]) if array.size else None
                file.create_dataset(name, data=array, chunks=chunks)
    with open(path, "r+b") as file:
        file.write(MATLAB_HEADER.ljust(124) + bytes([0, 2]) + b"IM")
    write_splits(folder / "splits.mat", train, test)
    return path


def write_splits(path: Path, train: tuple[int, ...], test: tuple[int, ...]) -> None:
    columns = {"trainNdxs": train, "testNdxs": test}
    scipy.io.savemat(
        path, {key: np.array(value, np.uint16)[:, None] for key, value in columns.items()}
    )


def coded(normals: np.ndarray) -> np.ndarray:
    """Return normals as the origins' 8-bit colours; zero normals are grey."""
    return np.rint((normals + 1) / 2 * 255).astype(np.uint8)


def write_ladicky(folder: Path, normals: dict[int, np.ndarray], train: tuple[int, ...]) -> Path:
    for index, values in normals.items():
        path = folder / ("train" if index in train else "test") / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coded(values)).save(path)
    return folder


def write_eigen(
    folder: Path, normals: dict[int, np.ndarray], masks: dict[int, np.ndarray] | None = None
) -> Path:
    for name in ("normals", "masks"):
        (folder / name).mkdir(parents=True)
    for index, values in normals.items():
        Image.fromarray(coded(values)).save(folder / "normals" / f"{index - 1:04d}.png")
        mask = np.ones(values.shape[:2], bool) if masks is None else masks[index]
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{index - 1:04d}.png")
    return folder


def write_mtan(folder: Path, split: str, number: int, **changes: np.ndarray) -> None:
    """Write a sample of the MTAN layout with float64 files, as they are met."""
    rng = np.random.default_rng(number)
    normal = rng.normal(size=(288, 384, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    sample = {
        "image": rng.integers(0, 256, (288, 384, 3)) / 255,
        "depth": rng.uniform(0.7, 10, (288, 384, 1)),
        "normal": normal,
        "label": rng.integers(-1, 13, (288, 384)).astype(float),
    } | changes
    for name, array in sample.items():
        path = folder / split / name / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
