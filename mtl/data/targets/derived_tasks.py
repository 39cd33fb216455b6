"""Which tasks follow from an image, or from depth and a camera, and their targets."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy import ndimage

from mtl.data.sample import Camera, RawSample
from mtl.data.targets import derive

WINDOW_SHARE = 12 / 480
"""Of the image's height: 13 pixels in a Kinect's frame, where the fit beats the sensor's noise."""

SQUARE = ndimage.generate_binary_structure(2, 2)
CROSS = ndimage.generate_binary_structure(2, 1)

Derived = tuple[np.ndarray, np.ndarray]
"""Target (height, width, channels) float32 and where it is valid (height, width)."""


def _as_map(values: np.ndarray) -> np.ndarray:
    return values[..., None].astype(np.float32)


def _edge2d(sample: RawSample) -> Derived:
    return _in_picture(derive.edge2d(sample.image), derive.edge2d_sees_only, sample)


def _keypoint2d(sample: RawSample) -> Derived:
    return _in_picture(derive.keypoint2d(sample.image), derive.keypoint2d_sees_only, sample)


def _normal(sample: RawSample) -> Derived:
    if "normal" in sample.targets:
        return sample.targets["normal"], sample.valid["normal"]
    assert sample.camera is not None, "derivable() asks for a camera first"
    depth, known = _depth(sample)
    window_px = max(3, 2 * round(WINDOW_SHARE * len(depth) / 2) + 1)
    normals, exists = derive.plane_normals(depth, sample.camera, known, window_px)
    return normals.astype(np.float32), exists & known


def _edge3d(sample: RawSample) -> Derived:
    """Return occlusion edges, valid where all nine pixels that they follow from are.

    Elsewhere, the outermost rows and columns of the frame included, `derive.edge3d` is 0 for want
    of anything better, and a 0 that counts would teach that depth has no edge at the rim of holes.
    """
    depth, known = _depth(sample)
    seen = ndimage.binary_erosion(known, SQUARE, border_value=0)
    return _as_map(derive.edge3d(depth, known)), seen


def _surface(sample: RawSample) -> tuple[np.ndarray, np.ndarray, np.ndarray, Camera]:
    """Return depth, normals, where both are known, and the camera."""
    assert sample.camera is not None, "derivable() asks for a camera first"
    normals, exists = _normal(sample)
    depth, known = _depth(sample)
    return depth, normals, exists & known, sample.camera


def _reshading(sample: RawSample) -> Derived:
    depth, normals, known, camera = _surface(sample)
    return _as_map(derive.reshading(np.where(known, depth, 1.0), normals, camera)), known


def _keypoint3d(sample: RawSample) -> Derived:
    depth, normals, known, camera = _surface(sample)
    return _as_map(derive.keypoint3d(depth, normals, camera, known)), known


def _curvature(sample: RawSample) -> Derived:
    depth, normals, known, camera = _surface(sample)
    curvature, defined = derive.curvature(depth, normals, camera, known)
    return curvature.astype(np.float32), defined


DERIVED: dict[str, Callable[[RawSample], Derived]] = {
    "edge2d": _edge2d,
    "keypoint2d": _keypoint2d,
    "edge3d": _edge3d,
    "normal": _normal,
    "curvature": _curvature,
    "reshading": _reshading,
    "keypoint3d": _keypoint3d,
}
NEED_CAMERA = ("normal", "curvature", "reshading", "keypoint3d")
NEEDS: dict[str, tuple[str, ...]] = {
    "edge3d": ("depth",),
    "normal": ("depth",),
    **dict.fromkeys(("curvature", "reshading", "keypoint3d"), ("depth", "normal")),
}
"""Tasks of the files from which a task follows; normals themselves may follow from depth."""


def tasks_to_read(wanted: Iterable[str], held: Iterable[str]) -> tuple[str, ...]:
    """Return those of the tasks `held` in files that must be read for the `wanted`, if any."""
    held, wanted = tuple(held), tuple(wanted)
    needed: set[str] = set()
    for task in wanted:
        needed.update((task,) if task in held else NEEDS.get(task, ()))
    return tuple(task for task in held if task in needed or not wanted)


def derivable(sample: RawSample) -> tuple[str, ...]:
    """Return the tasks that a sample's files lack and that follow from what they have."""
    tasks = [task for task in DERIVED if task not in sample.targets]
    if "depth" not in sample.targets:
        tasks = [task for task in tasks if task not in NEEDS]
    if sample.camera is None:
        tasks = [task for task in tasks if task not in NEED_CAMERA]
    return tuple(tasks)


def derived(task: str, sample: RawSample) -> Derived:
    """Return the target of a task that `derivable` names, and where it is valid."""
    return DERIVED[task](sample)


def derived_measured(task: str, sample: RawSample, valid: np.ndarray) -> np.ndarray:
    """Return where a derived target follows from measured values alone: (height, width).

    Not where a filled pixel is within its filter: for 3D edges among the nine pixels of Sobel; for
    normals, as those of the files, among the nearest five, which weigh most; for curvature a filled
    normal among the nearest five. Shading and 3D keypoints, whose sphere is as large as furniture,
    need measured depth and a measured normal at the pixel itself.

    Args:
        task: the derived one.
        sample: from which it was derived.
        valid: where the target is valid.
    """
    if task not in NEEDS:
        return valid
    depth = _filled(sample, "depth")
    if task == "edge3d":
        return valid & ~ndimage.binary_dilation(depth, SQUARE)
    if "normal" in sample.targets:
        normal = depth | _filled(sample, "normal")
    else:
        normal = ndimage.binary_dilation(depth, CROSS)
    if task == "curvature":
        normal = ndimage.binary_dilation(normal, CROSS)
    return valid & ~normal


def _filled(sample: RawSample, task: str) -> np.ndarray:
    """Return where a target of the files is valid without having been measured."""
    valid = sample.valid[task]
    return valid & ~sample.measured.get(task, valid)


def _in_picture(
    values: np.ndarray, sees_only: Callable[[np.ndarray], np.ndarray], sample: RawSample
) -> Derived:
    """Return values that count where their filter sees nothing but the picture."""
    valid = np.ones(values.shape, bool)
    if sample.inside is not None:
        # A white border has an edge of its own, the strongest of many images.
        valid &= sees_only(sample.inside)
    if sample.counted is not None:
        valid &= sample.counted
    return _as_map(values), valid


def _depth(sample: RawSample) -> Derived:
    return sample.targets["depth"][..., 0], sample.valid["depth"]
