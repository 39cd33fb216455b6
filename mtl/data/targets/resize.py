"""A sample at another size: every task resized as its values allow.

Each target pixel covers a rectangle of the source, and areas are shares of that rectangle:

- image: area average, so that downscaling does not alias;
- what belongs to the image as a whole: unchanged;
- labels: the source pixel under the target pixel's centre, valid where that one is;
- depth, curvature, reshading, edges, keypoints: area average over the valid part. With no invalid
  pixels the mean of the map, which is the scale of its loss, stays what it was. At a depth border
  the average lies between the two surfaces, as the image's colours do;
- normals: area average over the valid part, back to unit length; invalid where they cancel;
- a pixel of these counts if at least half of its area was valid, and counts as measured if at
  least half of its area was measured;
- where the image is a picture: all of a pixel's area must be, or what lies outside would colour it;
- where derived tasks may count: at least half of the area, as for the other masks;
- camera: scaled with the image; pixel centres as in `mtl.data.targets.derive`.

Height and width scale independently: the aspect ratio may change, and nothing is cropped. Normals
and depths then still are those of the camera, whose two focal lengths change differently.
Resizing commutes with a horizontal flip; labels do, except if an even width becomes odd, whose
middle column must take one of two neighbours.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mtl.data.sample import Camera, RawSample
from mtl.errors import UsageError

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

MIN_MEAN_LENGTH = 1e-3
"""An average of unit normals shorter than this has no direction."""


def resized(sample: RawSample, height: int, width: int) -> RawSample:
    """Return the sample at `height` x `width` pixels; values at invalid pixels are 0.

    Raises:
        ValueError: for a size below 1.
    """
    if height < 1 or width < 1:
        raise UsageError(
            f"Expected a height and width of at least 1 pixel, got {height} x {width}. "
            "Ask for a positive size."
        )
    targets, valid, measured = {}, {}, {}
    for task, target in sample.targets.items():
        known = sample.valid[task]
        if target.ndim < 2:
            targets[task], valid[task] = target, known
            if task in sample.measured:
                measured[task] = sample.measured[task]
            continue
        resize: Callable[..., tuple[NDArray, Mask]] = resized_map
        if task == "normal":
            resize = resized_normals
        elif target.ndim == 2:
            resize = resized_labels
        targets[task], valid[task] = resize(target, known, height, width)
        if task in sample.measured:
            known = known & sample.measured[task]
            if target.ndim == 2:
                kept = resized_labels(target, known, height, width)[1]
            else:
                kept = resized_mask(known, height, width)
            measured[task] = kept & valid[task]
    size, camera = sample.image.shape[:2], sample.camera
    return RawSample(
        image=resized_image(sample.image, height, width),
        targets=targets,
        valid=valid,
        measured=measured,
        camera=None if camera is None else resized_camera(camera, size, height, width),
        inside=None if sample.inside is None else ~touched(~sample.inside, height, width),
        counted=None if sample.counted is None else resized_mask(sample.counted, height, width),
    )


def resized_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the area average of an image, (H, W, 3) -> (height, width, 3), rounded to uint8."""
    area = image.shape[0] * image.shape[1]
    # Whole numbers until the division: a flipped image rounds the same way.
    return np.rint(_area_sum(image.astype(np.float64), height, width) / area).astype(np.uint8)


def resized_labels(
    labels: NDArray, valid: Mask, height: int, width: int
) -> tuple[NDArray, Mask]:  # fmt: skip
    """Return labels and mask of the pixels under the new centres: (H, W) -> (height, width)."""
    rows = _nearest(labels.shape[0], height)
    columns = _nearest(labels.shape[1], width)
    kept = valid[rows][:, columns]
    return np.where(kept, labels[rows][:, columns], labels.dtype.type(0)), kept


def resized_map(values: Array, valid: Mask, height: int, width: int) -> tuple[Array, Mask]:
    """Return the average over the valid part and where it counts.

    Args:
        values: (H, W, C); what invalid pixels hold, NaN included, has no effect.
        valid: (H, W).
        height: of the result.
        width: of the result.

    Returns:
        float32 (height, width, C), 0 where it does not count, and bool (height, width).
    """
    if valid.shape == (height, width):
        # Nothing to average; also exact.
        return np.where(valid[..., None], values, 0.0).astype(np.float32), valid.copy()
    average, kept = _masked_average(values, valid, height, width)
    return average.astype(np.float32), kept


def resized_normals(normals: Array, valid: Mask, height: int, width: int) -> tuple[Array, Mask]:
    """Return unit normals (H, W, 3) -> (height, width, 3) as `resized_map`, and where they count.

    Where valid normals cancel there is no direction, and the pixel does not count.
    """
    if valid.shape == (height, width):
        return resized_map(normals, valid, height, width)
    average, kept = _masked_average(normals, valid, height, width)
    length = np.linalg.norm(average, axis=-1)
    kept &= length > MIN_MEAN_LENGTH
    unit = average / np.where(kept, length, 1.0)[..., None]
    return np.where(kept[..., None], unit, 0.0).astype(np.float32), kept


def resized_mask(mask: Mask, height: int, width: int) -> Mask:
    """Return where at least half of the area is True: (H, W) -> bool (height, width)."""
    return _covers_half(_area_sum(mask.astype(np.float64), height, width), mask)


def touched(mask: Mask, height: int, width: int) -> Mask:
    """Return where any of the area is True: (H, W) -> bool (height, width)."""
    return _area_sum(mask.astype(np.float64), height, width) > 0


def resized_camera(camera: Camera, size: tuple[int, ...], height: int, width: int) -> Camera:
    """Return the intrinsics of an image of `size` (height, width) at the new height and width.

    The centre of pixel (row i, column j) is the point (j, i), so the image begins at -1/2:
    it is cx + 1/2 that scales.
    """
    down, across = height / size[0], width / size[1]
    return Camera(
        fx=camera.fx * across,
        fy=camera.fy * down,
        cx=(camera.cx + 0.5) * across - 0.5,
        cy=(camera.cy + 0.5) * down - 0.5,
    )


def _masked_average(values: Array, valid: Mask, height: int, width: int) -> tuple[Array, Mask]:
    counted = _area_sum(valid.astype(np.float64), height, width)
    kept = _covers_half(counted, valid)
    total = _area_sum(np.where(valid[..., None], values, 0.0).astype(np.float64), height, width)
    average = total / np.where(counted > 0, counted, 1.0)[..., None]
    return np.where(kept[..., None], average, 0.0), kept


def _covers_half(counted: Array, mask: Mask) -> Mask:
    return 2 * counted >= mask.size


def _area_sum(values: Array, height: int, width: int) -> Array:
    """Sum (H, W, ...) over each target pixel's rectangle, in units of 1 / (H W) of it."""
    rows, columns = values.shape[:2]
    down = _overlaps(rows, height) @ values.reshape(rows, -1)
    sideways = down.reshape(height, columns, -1).transpose(1, 0, 2)
    across = _overlaps(columns, width) @ sideways.reshape(columns, -1)
    result = across.reshape(width, height, -1).transpose(1, 0, 2)
    return result.reshape(height, width, *values.shape[2:])


@lru_cache(maxsize=16)
def _overlaps(source: int, target: int) -> sparse.csr_array:
    """Return the lengths that cells of two divisions of one line share: (target, source).

    The line is source x target long, so target cell i is [i source, (i + 1) source), source cell j
    is [j target, (j + 1) target), and all lengths are whole numbers. Rows sum to `source`.
    """
    # All the ends of cells of both divisions; between two of them lies one shared piece.
    ends = np.union1d(np.arange(source + 1) * target, np.arange(target + 1) * source)
    lengths = np.diff(ends).astype(np.float64)
    places = (ends[:-1] // source, ends[:-1] // target)
    return sparse.csr_array((lengths, places), shape=(target, source))


@lru_cache(maxsize=16)
def _nearest(source: int, target: int) -> NDArray[np.intp]:
    """Return for each target cell the source cell under its centre: (target,).

    A centre on the border of two source cells takes the one nearer to the middle of the line, so
    that a reversed line gives the reversed cells.
    """
    twice_centre = (2 * np.arange(target) + 1) * source  # in units of 1 / (2 target)
    index = twice_centre // (2 * target)
    on_border = twice_centre % (2 * target) == 0
    return index - (on_border & (2 * index > source))
