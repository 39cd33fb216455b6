"""One sample of a folder of images: decoded as its description says, and checked."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.data.derive import Camera
from mtl.data.folder_description import Description, TaskDescription
from mtl.data.images import bad_file, read_array, read_grey, read_rgb, read_uint8, read_uint16
from mtl.data.raw import RawSample

Mask = NDArray[np.bool_]

CHANNELS = {"normal": 3, "curvature": 2}
"""Channels of a task's target; 1 for those left out."""
SHORTEST_NORMAL = 0.1
"""A shorter decoded normal has no direction: 8-bit zero vectors decode to 0.007."""
VALUE_RANGES = {"normal": (-1.0, 1.0)}
"""Of a task's components as decoded; 0 to 1 for those left out. Curvature, which is clipped, and
depth have rules of their own."""
SLACK = 0.01
"""By how much rounding and interpolation may carry values out of their range."""
MOST_TIMES_FAR = 2.0
"""Depth beyond this multiple of the far end of depth_range_m is another unit, or no depth."""


def read_sample(
    name: str, files: Mapping[str, Mapping[str, Path]], description: Description
) -> RawSample:
    """Return the sample of an id.

    Raises:
        BadSampleError: if a file is damaged, does not fit the image, or holds what cannot be.
    """
    paths = files[name]
    image = _image(paths["image"])
    size = image.shape[:2]
    targets: dict[str, NDArray] = {}
    valid: dict[str, Mask] = {}
    for task, entry in description.tasks.items():
        if task not in paths:
            targets[task], valid[task] = _unlabelled(task, size)
            continue
        if task == "segmentation":
            num_classes = len(description.classes)
            targets[task], valid[task] = _labels(paths[task], entry, num_classes)
        else:
            targets[task], valid[task] = _values(
                paths[task], task, entry, description.depth_range_m
            )
        if valid[task].shape != size:
            expected = f"{size[0]} x {size[1]} pixels, as the image has,"
            got = " x ".join(str(n) for n in valid[task].shape)
            remedy = "Bring image and targets to one size"
            raise bad_file(paths[task], expected, got, remedy)
    own = dict(valid)
    fillable: dict[str, Mask] = {}
    for task, entry in description.tasks.items():
        if entry.valid_where:
            valid[task] = own[task] & own[entry.valid_where]
        if entry.fill and task in paths:
            allowed = own.get(entry.valid_where, np.ones(size, bool))
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


def _unlabelled(task: str, size: tuple[int, ...]) -> tuple[NDArray, Mask]:
    nowhere = np.zeros(size, bool)
    if task == "segmentation":
        return np.zeros(size, np.uint8), nowhere
    return np.zeros((*size, CHANNELS.get(task, 1)), np.float32), nowhere


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
        remedy = "Mend the file, or list the value under invalid in the YAML (.nan for NaN)"
        raise bad_file(path, "finite numbers", "NaN or infinity at valid pixels", remedy)
    if task == "depth":
        if (values[valid] <= 0).any():
            got = f"{values[valid].min():g} m"
            remedy = "List what stands for missing depth under invalid in the YAML"
            raise bad_file(path, "depths above 0 m", got, remedy)
        if not valid.any():
            raise bad_file(path, "some valid depth", "none at all", "Leave the sample out")
        _check_depth(path, values[valid], depth_range_m)
    else:
        _check_range(path, task, values[valid])
    if task == "normal":
        values = values * np.array(entry.signs, np.float32)
        length = np.linalg.norm(np.where(valid[..., None], values, 0), axis=-1)
        valid &= length > SHORTEST_NORMAL
        values /= np.where(valid, length, 1)[..., None]
    if task == "curvature":
        values = np.clip(values[..., :2], -1, 1)  # a PNG has a blue channel too
    return np.where(valid[..., None], values, 0).astype(np.float32), valid


def _check_depth(path: Path, depth_m: NDArray, depth_range_m: tuple[float, ...]) -> None:
    """Raise for depth (pixels, 1) far from what the description declares."""
    near, far = depth_range_m
    median, largest = float(np.median(depth_m)), float(depth_m.max())
    expected = f"depth in the depth_range_m of {near:g} to {far:g} m"
    remedy = "Mend tasks.depth.scale (metres a unit) or depth_range_m in the YAML"
    if not near <= median <= far:
        raise bad_file(path, expected, f"a median of {median:g} m", remedy)
    if largest > MOST_TIMES_FAR * far:
        share = float(np.mean(depth_m > MOST_TIMES_FAR * far))
        remedy += ", or list what stands for missing depth under tasks.depth.invalid"
        raise bad_file(path, expected, f"{largest:g} m ({share:.1%} are so far)", remedy)


def _check_range(path: Path, task: str, values: NDArray) -> None:
    """Raise for decoded values (pixels, C) that the task cannot have, of another encoding."""
    if not values.size:
        return
    if task == "curvature":
        # Beside depth borders it is beyond 1 and clipped; nowhere is most of a surface.
        size = float(np.median(np.abs(values[:, :2])))
        if size <= 1:
            return
        expected, got = "curvature times 0.03 m from -1 to 1", f"a median size of {size:g}"
    else:
        lowest, highest = VALUE_RANGES.get(task, (0.0, 1.0))
        low, high = float(values.min()), float(values.max())
        if low >= lowest - SLACK and high <= highest + SLACK:
            return
        expected, got = f"{task} from {lowest:g} to {highest:g}", f"{low:g} to {high:g}"
    remedy = f"Mend tasks.{task}.scale and .offset, or list invalid values, in the YAML"
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
    if not invalid:
        return np.zeros(raw.shape[:2], bool)
    if task in CHANNELS:
        values = np.array(invalid)[: raw.shape[2]]
        first = raw[..., : len(values)]
        return ((first == values) | (np.isnan(first) & np.isnan(values))).all(-1)
    hit = np.isin(raw[..., 0], [value for value in invalid if value == value])
    if any(value != value for value in invalid):
        hit |= np.isnan(raw[..., 0])
    return hit


def _encoding(path: Path, task: str, entry: TaskDescription, raw: NDArray) -> tuple[float, float]:
    """Return scale and offset: as said, otherwise the usual ones of the kind of file."""
    scale, offset = 1.0, 0.0
    if task == "depth" and entry.scale is None and path.suffix.lower() != ".npy":
        remedy = "Write for example depth: {scale: 0.001, invalid: 0}"
        raise bad_file(path, "tasks.depth.scale (metres a unit) in the YAML", "none", remedy)
    if path.suffix.lower() != ".npy":
        if task == "normal":
            scale, offset = 1 / 127.5, -1.0
        elif task == "curvature":
            scale, offset = 1 / 127, -1.0
        else:
            scale = 1 / np.iinfo(raw.dtype).max
    return (
        scale if entry.scale is None else entry.scale,
        offset if entry.offset is None else entry.offset,
    )
