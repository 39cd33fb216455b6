"""Samples of a run as pictures, as in Figures S-5 and S-7 to S-9 of the supplement.

The arrays are untrusted: what takes them raises `UsageError` where they are not what
`mtl.training.samples` writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.render.panels import SCALE_COLOURS
from mtl.errors import UsageError

NO_VALUE = (196, 200, 205)
"""Colour of pixels that do not count."""
CLASS_COLOURS = (
    *("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255"),
    *("#aa4499", "#4477aa", "#ee8866", "#bbcc33", "#661100", "#ffaabb"),
)
"""Paul Tol's muted colours and some of his others, for the classes 0, 1, ...; they repeat."""
NUM_LEVELS = 255
"""Colours of a scale; with the one for no value, a pixel is one byte of a PNG."""
MAX_SIDE = 8192
"""Pixels of a picture's side at most."""
CLIPPED_SHARE = 0.01
"""Of the pixels with the largest errors, which all take the last colour: a few would darken all."""


@dataclass(frozen=True)
class Estimates:
    """Target and prediction of one task for one image.

    Classes as uint8 (height, width), all else as float32 (height, width, channels).
    """

    target: np.ndarray
    prediction: np.ndarray
    valid: np.ndarray

    @property
    def are_classes(self) -> bool:
        """Return whether the pixels hold classes."""
        return self.target.ndim == 2


def array_names(tasks: Sequence[str], kinds: Sequence[str]) -> frozenset[str]:
    """Return the names of the arrays that readers of these kinds of values need."""
    return frozenset({"indices", "image", *(f"{task}_{kind}" for task in tasks for kind in kinds)})


def image_numbers(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Return the numbers of the images in the validation split."""
    indices = _array(arrays, "indices")
    if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
        raise UsageError(f"indices hold {indices.dtype} {indices.shape}, not numbers of images")
    numbers = tuple(indices.tolist())
    if len(set(numbers)) < len(numbers):
        raise UsageError("an image is in it twice")
    image = _array(arrays, "image")
    sides = image.shape[1:3]
    is_image = image.ndim == 4 and image.dtype == np.uint8 and image.shape[3] == 3
    fits = is_image and len(image) == len(numbers) and min(sides) > 0
    if not fits or max(sides) > MAX_SIDE:
        raise UsageError(f"image holds {image.dtype} {image.shape}")
    return numbers


def input_image(arrays: Mapping[str, np.ndarray], image_number: int) -> np.ndarray:
    """Return an image, uint8 (height, width, 3)."""
    return np.asarray(arrays["image"][_place(arrays, image_number)])


def error_maps(
    arrays: Mapping[str, np.ndarray], tasks: Sequence[str], image_number: int
) -> dict[str, np.ndarray]:
    """Return task -> its error at each pixel of an image, float32, NaN where it does not count."""
    place = _place(arrays, image_number)
    maps = {}
    for task in tasks:
        whole = _array(arrays, f"{task}_error")
        if whole.shape != arrays["image"].shape[:3] or whole.dtype.kind != "f":
            raise UsageError(f"{task}_error holds {whole.dtype} {whole.shape}")
        valid = _valid(arrays, task)[place]
        with np.errstate(over="ignore"):  # what is beyond float32 is refused below
            maps[task] = np.where(valid, whole[place], np.nan).astype(np.float32)
        if not np.isfinite(maps[task][valid]).all():
            raise UsageError(f"{task}_error holds NaN or infinity")
    return maps


def summed(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the sum of the error maps of all tasks; NaN where no task counts."""
    stacked = np.stack([*maps.values()])
    return np.where(np.isnan(stacked).all(axis=0), np.nan, np.nansum(stacked, axis=0))


def estimates(arrays: Mapping[str, np.ndarray], task: str, image_number: int) -> Estimates:
    """Return target and prediction of one image."""
    place = _place(arrays, image_number)
    shape = arrays["image"].shape[:3]
    target, prediction = (_array(arrays, f"{task}_{kind}") for kind in ("target", "prediction"))
    are_classes = target.dtype == np.uint8 and target.shape == shape
    are_values = target.dtype.kind == "f" and target.ndim == 4 and target.shape[:3] == shape
    if not (are_classes or (are_values and target.shape[3])):
        raise UsageError(f"{task}_target holds {target.dtype} {target.shape}")
    if prediction.shape != target.shape or prediction.dtype.kind != target.dtype.kind:
        raise UsageError(f"{task}_prediction holds {prediction.dtype} {prediction.shape}")
    valid = _valid(arrays, task)[place]
    if are_classes:
        return Estimates(target[place], prediction[place], valid)
    with np.errstate(over="ignore"):  # what is beyond float32 is drawn as no value
        shown = (target[place].astype(np.float32), prediction[place].astype(np.float32))
    return Estimates(*shown, valid)


def _array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise UsageError(f"{name} is missing")
    return arrays[name]


def _place(arrays: Mapping[str, np.ndarray], image_number: int) -> int:
    numbers = image_numbers(arrays)
    if image_number not in numbers:
        raise UsageError(f"image {image_number} is missing")
    return numbers.index(image_number)


def _valid(arrays: Mapping[str, np.ndarray], task: str) -> np.ndarray:
    valid = _array(arrays, f"{task}_valid")
    if valid.shape != arrays["image"].shape[:3] or valid.dtype != np.bool_:
        raise UsageError(f"{task}_valid holds {valid.dtype} {valid.shape}")
    return valid


def shrink_factor(height: int, width: int, max_pixels: int) -> int:
    """Return the least whole factor by which both sides shrink to at most `max_pixels`."""
    factor = 1
    while max(height // factor, 1) * max(width // factor, 1) > max_pixels:
        factor += 1
    return factor


def shrunk_mean(values: np.ndarray, factor: int) -> np.ndarray:
    """Return means of squares of `factor` pixels a side, NaN left out; a rest is cut off."""
    height, width = (max(side // factor, 1) for side in values.shape[:2])
    tall, wide = min(factor, values.shape[0]), min(factor, values.shape[1])
    squares = values[: height * tall, : width * wide].reshape(
        height, tall, width, wide, *values.shape[2:]
    )
    held = ~np.isnan(squares)
    counts = held.sum(axis=(1, 3))
    totals = np.where(held, squares, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)


def shrunk_pick(values: np.ndarray, factor: int) -> np.ndarray:
    """Return the middle pixel of each square: classes and directions have no mean."""
    height, width = (max(side // factor, 1) for side in values.shape[:2])
    middle = [min(factor, side) // 2 for side in values.shape[:2]]
    return values[middle[0] :: factor, middle[1] :: factor][:height, :width]


def shared_limits(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return one colour range for all maps: from 0 (or the least) to nearly the largest value."""
    held = np.concatenate([values[np.isfinite(values)].ravel() for values in maps] or [np.zeros(0)])
    if not held.size:
        return 0.0, 1.0
    low = min(0.0, float(np.quantile(held, CLIPPED_SHARE)))
    high = float(np.quantile(held, 1 - CLIPPED_SHARE))
    if high <= low:
        high = float(held.max())
    return low, high if high > low else low + 1.0


def target_limits(shown: Estimates) -> tuple[float, float]:
    """Return the range of the target's valid pixels, for target and predictions."""
    held = shown.target[shown.valid]
    values = held[np.isfinite(held)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def image_picture(image: np.ndarray, factor: int) -> np.ndarray:
    """Return an image (height, width, 3) of uint8, shrunk."""
    return shrunk_mean(image.astype(np.float32), factor).round().astype(np.uint8)


def scale_picture(values: np.ndarray, limits: tuple[float, float], factor: int) -> np.ndarray:
    """Return a map (height, width) in the sequential colours; NaN stands for no value."""
    return _coloured(shrunk_mean(values, factor), limits)


def estimate_picture(
    values: np.ndarray,
    valid: np.ndarray,
    limits: tuple[float, float],
    factor: int,
    *,
    task: str,
) -> np.ndarray:
    """Return a target or prediction in colours.

    Classes by `CLASS_COLOURS`, normals as red, green and blue for x, y and z, depth in the
    sequential colours, other maps from black to white; of two channels one is red, one blue; of
    more the first three are shown.

    Args:
        values: classes uint8 (height, width) or float (height, width, channels).
        valid: (height, width); other pixels take `NO_VALUE`.
        limits: values of the first and last colour.
        factor: from `shrink_factor`.
        task: its name.
    """
    values, valid = shrunk_pick(values, factor), shrunk_pick(valid, factor)
    if values.ndim == 2:
        palette = np.array([_rgb(colour) for colour in CLASS_COLOURS])
        picture = palette[values.astype(int) % len(palette)]
    elif task == "depth" and values.shape[2] == 1:
        return _coloured(np.where(valid, values[..., 0], np.nan), limits)
    elif task == "normal" and values.shape[2] == 3:
        lengths = np.linalg.norm(values, axis=2, keepdims=True)
        valid = valid & np.isfinite(lengths[..., 0]) & (lengths[..., 0] > 0)
        units = np.divide(values, lengths, out=np.zeros_like(values), where=valid[..., None])
        picture = (127.5 + 127.5 * units).round()
    else:
        shares = np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1)
        valid = valid & np.isfinite(shares).all(axis=2)
        channels = [shares[..., i] for i in range(shares.shape[2])]
        if len(channels) == 2:
            channels.insert(1, (channels[0] + channels[1]) / 2)
        picture = np.stack([255 * np.nan_to_num(c) for c in (channels * 3)[:3]], axis=2).round()
    return np.where(valid[..., None], picture, NO_VALUE).astype(np.uint8)


def _coloured(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    stops = np.array([_rgb(colour) for colour in SCALE_COLOURS["sequential"]], dtype=np.float64)
    places, levels = np.linspace(0, 1, len(stops)), np.linspace(0, 1, NUM_LEVELS)
    colours = np.stack([np.interp(levels, places, channel) for channel in stops.T], axis=1).round()
    held = np.isfinite(values)
    low, high = limits
    shares = np.clip((np.where(held, values, low) - low) / (high - low), 0, 1)
    picture = colours[(shares * (NUM_LEVELS - 1)).round().astype(int)]
    return np.where(held[..., None], picture, NO_VALUE).astype(np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
