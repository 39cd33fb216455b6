"""Normals from the noisy depth of a sensor: a plane fitted around every pixel.

Differences of neighbouring pixels, as in `mtl.data.derive.normals_from_depth`, are right for exact
depth; from a Kinect's they are mostly noise. A plane of any slant has an inverse depth that is
linear in pixel coordinates, so the fit is a linear one: the inverse depth of the window's pixels by
least squares, those on another surface left out.
"""

from __future__ import annotations

import numpy as np

from mtl.data.derive import BoolArray, Camera, FloatArray

STEP_PX = 2
"""Of a large window every second row and column is looked at: a sensor's noise is alike in
neighbours."""
LARGE_WINDOW_PX = 9
SAME_SURFACE = 0.05
"""Largest relative difference of inverse depth within a surface; depth borders are larger."""
FEWEST_PIXELS = 6
_LEAST_DETERMINANT = 1e-3


def plane_normals(
    depth_m: FloatArray, camera: Camera, valid: BoolArray, window_px: int
) -> tuple[FloatArray, BoolArray]:
    """Return camera-facing unit normals (H, W, 3), and where they exist (H, W).

    Args:
        depth_m: (H, W), z-buffer depth in metres.
        camera: of the depth map.
        valid: (H, W), True where there is depth.
        window_px: side of the square window, at least 3.
    """
    height, width = depth_m.shape
    inverse = np.where(valid, 1.0 / np.where(valid, depth_m, 1.0), 0.0)
    # n, x, y, xx, xy, yy, r, rx, ry: sums over the window's pixels at (x, y) from its centre, r
    # being the inverse depth relative to the centre's.
    sums = np.zeros((9, height, width))
    reach = window_px // 2
    steps = [*range(-reach, reach + 1, STEP_PX if window_px >= LARGE_WINDOW_PX else 1)]
    for dy in steps:
        for dx in steps:
            here, there = _overlap(height, width, dy, dx)
            centre = inverse[here]
            offset = inverse[there] - centre
            same = valid[there] & (np.abs(offset) < SAME_SURFACE * centre)
            count = same.astype(np.float64)
            rest = offset * count
            terms = (count, dx, dy, dx * dx, dx * dy, dy * dy, rest, dx, dy)
            for number, factor in enumerate(terms[1:6], start=1):
                if factor:
                    sums[number][here] += count * factor
            sums[0][here] += count
            sums[6][here] += rest
            sums[7][here] += rest * dx
            sums[8][here] += rest * dy
    n, x, y, xx, xy, yy, r, rx, ry = sums
    xx, xy, yy = n * xx - x * x, n * xy - x * y, n * yy - y * y
    rx, ry = n * rx - x * r, n * ry - y * r
    determinant = xx * yy - xy * xy
    exists = valid & (n >= FEWEST_PIXELS) & (determinant > _LEAST_DETERMINANT * n**4)
    safe = np.where(exists, determinant, 1.0)
    slope_x, slope_y = (rx * yy - ry * xy) / safe, (xx * ry - xy * rx) / safe
    fitted = inverse + (r - slope_x * x - slope_y * y) / np.maximum(n, 1)
    rows, columns = np.indices(depth_m.shape)
    # With n . P = -d on the plane, the inverse depth is -(n . ray) / d, linear in the pixel.
    at_axis = fitted + slope_x * (camera.cx - columns) + slope_y * (camera.cy - rows)
    normals = -np.stack([slope_x * camera.fx, slope_y * camera.fy, at_axis], axis=-1)
    length = np.linalg.norm(normals, axis=-1)
    exists &= length > 0
    unit = normals / np.where(exists, length, 1.0)[..., None]
    return np.where(exists[..., None], unit, 0.0), exists


def _overlap(
    height: int, width: int, dy: int, dx: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the pixels that have a neighbour at (dy, dx) in the image, and these neighbours."""
    here = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
    there = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
    return here, there
