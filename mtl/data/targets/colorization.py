"""Filling of holes in a map, guided by the image: a missing value follows pixels that look alike.

Levin, Lischinski, Weiss, "Colorization using Optimization", SIGGRAPH 2004, as NYU's toolbox uses it
for depth (`fill_depth_colorization.m`, alpha 1). Each missing value is a weighted mean of its
neighbours in the 3x3 window, and a neighbour of like luminance weighs more. With W the matrix of
these weights (rows sum to 1), L = I - W:

- exact: (L + diag(known)) x = known * value. Known pixels are pulled towards their value.
- holes only (default): known pixels are fixed, and L x = 0 is solved for the missing ones.

Either way a known pixel keeps its value and only the missing ones take x. The two differ by some
millimetres on indoor depth, and holes only is several times faster.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from mtl.data.targets.derive import BoolArray, FloatArray, luminance
from mtl.errors import UsageError

VARIANCE_SHARE = 0.6
"""Spread of the weights' Gaussian, as a share of the luminance variance of the window."""
MIN_BEST_WEIGHT = 0.01
"""The neighbour most alike weighs at least this much before weights are normalised."""
MIN_SPREAD = 2e-6
"""Floor under the spread, for uniform windows; luminance is in 0..1."""
EXACT_TOLERANCE = 1e-12
"""Largest change, relative to the largest value, at which the exact system counts as solved."""
MIN_LENGTH = 1e-6
"""A filled normal shorter than this, before renormalisation, has no direction."""

_ROW_STEPS = np.array([-1, -1, -1, 0, 0, 1, 1, 1])
_COLUMN_STEPS = np.array([-1, 0, 1, -1, 1, -1, 0, 1])

IndexArray = NDArray[np.intp]


def fill(
    values: NDArray[Any], known: BoolArray, image: NDArray[np.uint8], *, exact: bool = False
) -> tuple[NDArray[Any], BoolArray]:
    """Return the map with its holes filled, and where it has values now.

    Where nothing at all is known, nothing can be filled: all pixels stay 0 and are not present.
    Otherwise every pixel is, since any pixel reaches any other through neighbours and no weight is
    zero (a window's variance grows with its contrast, so a weight is at least exp(-30)).

    Args:
        values: (H, W) or (H, W, C), floating; what stands where `known` is False is never read.
        known: (H, W), True where the value was measured.
        image: (H, W, 3), RGB.
        exact: solve the full system instead of the holes alone.

    Returns:
        The map, of the type and shape of `values`, known pixels untouched and the others within
        the range of the known ones; and (H, W), True where it has a value.

    Raises:
        ValueError: if a known value is not finite.
    """
    if not np.isfinite(values[known]).all():
        raise UsageError(
            "Expected finite known values, got NaN or infinity. Mark such pixels as not known."
        )
    mask = known if values.ndim == 2 else known[..., None]
    filled = np.where(mask, values, np.zeros((), values.dtype))
    present = np.full(known.shape, bool(known.any()))
    if known.all() or not known.any():
        return filled, present
    by_pixel = filled.reshape(known.size, -1).astype(np.float64)
    is_hole = ~known.reshape(-1)
    grey = luminance(image)
    if exact:
        solution = _solve_exact(by_pixel, is_hole, grey)
    else:
        solution = _Holes(grey, is_hole).solve(by_pixel)
    # Means of known values lie between them; rounding may not.
    measured = by_pixel[~is_hole]
    solution = np.clip(solution, measured.min(axis=0), measured.max(axis=0))
    filled.reshape(known.size, -1)[is_hole] = solution
    return filled, present


def fill_normals(
    normals: NDArray[Any], known: BoolArray, image: NDArray[np.uint8], *, exact: bool = False
) -> tuple[NDArray[Any], BoolArray]:
    """Return unit normals with their holes filled, and where there are normals now.

    Each channel is filled as by `fill`, then filled normals get unit length. Where the channels
    cancel out, there is no direction: the normal is 0 and not present.

    Args:
        normals: (H, W, 3), floating, unit length where known.
        known: (H, W), True where the normal was measured.
        image: (H, W, 3), RGB.
        exact: solve the full system instead of the holes alone.

    Raises:
        ValueError: if a known normal is not finite.
    """
    filled, present = fill(normals, known, image, exact=exact)
    length = np.linalg.norm(filled.astype(np.float64), axis=-1)
    present &= known | (length > MIN_LENGTH)
    unit = filled / np.where(present & ~known, length, 1.0)[..., None]
    filled = np.where(known[..., None], filled, unit.astype(filled.dtype))
    filled[~present] = 0
    return filled, present


def _weights(grey: FloatArray, pixels: IndexArray) -> tuple[IndexArray, FloatArray]:
    """Return the neighbours of the `pixels`, flat indices (n,), and their weights: both (n, 8).

    Beside the border of the image the neighbour is the pixel itself and the weight is 0.
    """
    height, width = grey.shape
    row, column = np.divmod(pixels, width)
    rows, columns = row[:, None] + _ROW_STEPS, column[:, None] + _COLUMN_STEPS
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    neighbour = np.where(inside, rows * width + columns, pixels[:, None])
    flat = grey.reshape(-1)
    # Relative to the centre: the centre's own difference is 0, and so is that of an absent one.
    difference = flat[neighbour] - flat[pixels][:, None]
    squared = difference**2
    num = 1 + inside.sum(axis=1)
    variance = squared.sum(axis=1) / num - (difference.sum(axis=1) / num) ** 2
    nearest = np.where(inside, squared, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(nearest), nearest, 0.0)
    spread = np.maximum(VARIANCE_SHARE * variance, -nearest / np.log(MIN_BEST_WEIGHT))
    spread = np.maximum(spread, MIN_SPREAD)
    weight = np.exp(-squared / spread[:, None]) * inside
    total = weight.sum(axis=1, keepdims=True)
    return neighbour, weight / np.where(total > 0, total, 1.0)


class _Holes:
    """The equations of the missing pixels with known ones fixed, factorised once."""

    def __init__(self, grey: FloatArray, is_hole: BoolArray) -> None:
        holes = np.flatnonzero(is_hole)
        number = np.zeros(is_hole.size, np.intp)
        number[holes] = np.arange(holes.size)
        neighbour, weight = _weights(grey, holes)
        equation = np.broadcast_to(np.arange(holes.size)[:, None], weight.shape)
        inner = is_hole[neighbour] & (weight > 0)
        outer = ~is_hole[neighbour] & (weight > 0)
        diagonal = np.arange(holes.size)
        matrix = sparse.csc_array(
            (
                np.concatenate([np.ones(holes.size), -weight[inner]]),
                (
                    np.concatenate([diagonal, equation[inner]]),
                    np.concatenate([diagonal, number[neighbour[inner]]]),
                ),
            ),
            shape=(holes.size, holes.size),
        )
        self._from_known = sparse.csr_array(
            (weight[outer], (equation[outer], neighbour[outer])), shape=(holes.size, is_hole.size)
        )
        # Rows are diagonally dominant and the pattern is symmetric: no pivoting is needed, and an
        # ordering for symmetric patterns leaves far fewer entries than the default one.
        self._factors = splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )

    def solve(self, by_pixel: FloatArray) -> FloatArray:
        """Return the missing values (holes, C) from all values (pixels, C)."""
        right = self._from_known @ by_pixel
        return np.asarray(self._factors.solve(np.asfortranarray(right)))


def _solve_exact(by_pixel: FloatArray, is_hole: BoolArray, grey: FloatArray) -> FloatArray:
    """Solve (L + diag(known)) x = known * value for the missing pixels: (holes, C).

    In turns: x_known = (value + W x) / 2, the equations of the known pixels, then the missing ones
    given these. The error of x halves at least in every turn, whatever the image, since rows of W
    sum to 1 and a missing value lies between known ones; a factorisation of the whole matrix costs
    several times the time and memory.
    """
    known = np.flatnonzero(~is_hole)
    neighbour, weight = _weights(grey, known)
    mean = sparse.csr_array(
        (weight.reshape(-1), neighbour.reshape(-1), np.arange(known.size + 1) * weight.shape[1]),
        shape=(known.size, is_hole.size),
    )
    holes = _Holes(grey, is_hole)
    value = by_pixel[known]
    now = by_pixel.copy()
    now[is_hole] = holes.solve(now)
    tolerance = EXACT_TOLERANCE * np.abs(value).max()
    change = np.inf
    while change > tolerance:
        before = now[known]
        now[known] = (value + mean @ now) / 2
        now[is_hole] = holes.solve(now)
        change = np.abs(now[known] - before).max()
    return now[is_hole]
