"""Targets that follow from an image, a depth map or a normal map alone.

Plain functions on arrays, so that any RGB-D set can use them. The definitions are those that
reproduce the files of Taskonomy and Omnidata, at any working size. All maps keep the natural value
scale of those files (``value / 65535``): their means differ by orders of magnitude, on purpose.

Lengths in pixels are defined for a frame 512 pixels high and shrink with the height of the image,
``height / 512``: the vertical field of view is what a square frame and a wider one have in common.

Pixel convention: the centre of the pixel in row i and column j is the point (j, i), so a
horizontal flip moves ``cx`` to ``width - 1 - cx``. Camera axes: x right, y down, z forward.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtl.data.sample import Camera
from mtl.errors import UsageError

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

REFERENCE_HEIGHT_PX = 512
EDGE2D_SIGMA_PX = 3.0
# In sigmas: where the blur ends, so that what lies beyond has no weight at all, not a small one.
EDGE2D_TRUNCATE = 4.0
# The Sobel kernel reaches one pixel further than the blur.
SOBEL_REACH_PX = 1
KEYPOINT2D_SIGMAS_PX = np.linspace(1.0, 30.0, 10)
# A box filter for a second derivative has three lobes, hence three pixels at least.
KEYPOINT2D_MIN_SIGMA_PX = 1.0
KEYPOINT3D_RADIUS_M = 0.3
# Share of the radius, number of samples, and turn of the ring in units of a sample.
KEYPOINT3D_RINGS = ((0.3, 4, 0.5), (0.62, 8, 0.5), (0.93, 8, 0.0))
# Standard deviation in image heights.
KEYPOINT3D_SMOOTHING = 0.008
# Depth files hold 1/512 m as uint16, and the 3D edges are taken of sqrt(raw / 65536).
DEPTH_FULL_SCALE_M = 65536 / 512
RESHADING_GAIN = 1.595
RESHADING_FALLOFF_M2 = 8.0
# Taskonomy's unit of curvature: values are k * 0.03 m, clipped to -1..1.
CURVATURE_SCALE_M = 0.03
# ITU-R BT.709, as scikit-image uses for grey images.
LUMINANCE_WEIGHTS = np.array([0.2125, 0.7154, 0.0721])


def camera_rays(camera: Camera, height: int, width: int) -> FloatArray:
    """Return the ray through each pixel centre, scaled to z = 1: (height, width, 3)."""
    x = (np.arange(width) - camera.cx) / camera.fx
    y = (np.arange(height) - camera.cy) / camera.fy
    rays = np.ones((height, width, 3))
    rays[..., 0] = x[None, :]
    rays[..., 1] = y[:, None]
    return rays


def back_project(depth_m: FloatArray, camera: Camera) -> FloatArray:
    """Return the camera-frame point of each pixel in metres: z-buffer depth (H, W) -> (H, W, 3)."""
    height, width = depth_m.shape
    return camera_rays(camera, height, width) * depth_m[..., None]


def normals_from_depth(
    depth_m: FloatArray, camera: Camera, valid: BoolArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """Return camera-facing unit normals (H, W, 3) from depth (H, W), and where they exist (H, W).

    The two tangents are one-sided differences of back-projected points; along each axis the
    neighbour nearer in depth is taken, so that a normal beside a depth border belongs to one
    surface. A pixel that has no valid neighbour along an axis has no normal.
    """
    known = _known(depth_m, valid)
    points = back_project(np.where(known, depth_m, 1.0), camera)
    tangent_x, exists_x = _nearer_difference(points, known, axis=1)
    tangent_y, exists_y = _nearer_difference(points, known, axis=0)
    normals: FloatArray = np.cross(tangent_y, tangent_x)
    length = np.linalg.norm(normals, axis=-1)
    exists = known & exists_x & exists_y & (length > 0)
    normals = normals / np.where(exists, length, 1.0)[..., None]
    away = np.sum(normals * points, axis=-1) > 0
    normals = np.where(away[..., None], -normals, normals)
    return np.where(exists[..., None], normals, 0.0), exists


def curvature(
    depth_m: FloatArray, normals: FloatArray, camera: Camera, valid: BoolArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """Return principal curvatures k1 >= k2 times 0.03 m, in -1..1 (H, W, 2), and where they exist.

    Convex is positive. The shape operator at a pixel is the linear map that takes the one-sided
    differences of its points to those of its normals, along each axis towards the neighbour nearer
    in depth; its symmetric part has the principal curvatures as eigenvalues. Noise in depth enters
    twice differentiated: smooth measured depth first, or take the maps for what they are.
    """
    known = _known(depth_m, valid)
    points = back_project(np.where(known, depth_m, 1.0), camera)
    both = np.concatenate([points, normals], axis=-1)
    along_x, exists_x = _nearer_difference(both, known, axis=1)
    along_y, exists_y = _nearer_difference(both, known, axis=0)
    steps = np.stack([along_x, along_y], axis=-2)
    tangents, turns = steps[..., :3], steps[..., 3:]
    first = tangents @ np.swapaxes(tangents, -1, -2)
    second = turns @ np.swapaxes(tangents, -1, -2)
    second = (second + np.swapaxes(second, -1, -2)) / 2
    area = first[..., 0, 0] * first[..., 1, 1] - first[..., 0, 1] ** 2
    exists = known & exists_x & exists_y & (area > 0)
    safe = np.where(exists, area, 1.0)
    # Trace and determinant of first^-1 second are the sum and the product of k1 and k2.
    total = (
        first[..., 1, 1] * second[..., 0, 0]
        - 2 * first[..., 0, 1] * second[..., 0, 1]
        + first[..., 0, 0] * second[..., 1, 1]
    ) / safe
    product = (second[..., 0, 0] * second[..., 1, 1] - second[..., 0, 1] ** 2) / safe
    root = np.sqrt(np.maximum(0.0, (total / 2) ** 2 - product))
    principal = np.stack([total / 2 + root, total / 2 - root], axis=-1)
    scaled = np.clip(CURVATURE_SCALE_M * principal, -1.0, 1.0)
    return np.where(exists[..., None], scaled, 0.0), exists


def luminance(image: NDArray[np.uint8]) -> FloatArray:
    """Return the grey image in 0..1 of an 8-bit RGB image: (H, W, 3) -> (H, W).

    ITU-R BT.709's weights, also for colorization, where NYU's toolbox has those of BT.601.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(
            f"Expected a uint8 image of shape (height, width, 3), got {image.dtype} "
            f"{image.shape}. Convert it to 8-bit RGB."
        )
    return image @ (LUMINANCE_WEIGHTS / 255.0)


def edge2d(image: NDArray[np.uint8]) -> FloatArray:
    """Return the texture edges (H, W) of an RGB image: blur, then Sobel magnitude; means near .015.

    Sigma is 3 pixels at a height of 512 and shrinks with the height. Beyond the border the blur
    sees nothing, and the rest is normalised; there is no thinning and no threshold
    (Taskonomy's "Canny without non-maximum suppression").
    """
    grey = luminance(image)
    sigma_px = _edge2d_sigma_px(grey.shape[0])
    blurred, seen = (
        ndimage.gaussian_filter(values, sigma_px, mode="constant", truncate=EDGE2D_TRUNCATE)
        for values in (grey, np.ones_like(grey))
    )
    return sobel_magnitude(blurred / seen)


def edge2d_sees_only(inside: BoolArray) -> BoolArray:
    """Return where the texture edges follow from pixels `inside` alone: (H, W) -> (H, W).

    The frame's own border is not outside: there the blur is normalised.
    """
    # As far as ndimage.gaussian_filter cuts its kernel.
    blur_px = int(EDGE2D_TRUNCATE * _edge2d_sigma_px(inside.shape[0]) + 0.5)
    side_px = 2 * (blur_px + SOBEL_REACH_PX) + 1
    return ndimage.minimum_filter(inside, side_px, mode="constant", cval=True)


def _edge2d_sigma_px(height: int) -> float:
    return EDGE2D_SIGMA_PX * height / REFERENCE_HEIGHT_PX


def edge3d(depth_m: FloatArray, valid: BoolArray | None = None) -> FloatArray:
    """Return the occlusion edges (H, W): Sobel magnitude of sqrt(depth / 128 m); means near .001.

    Zero where a pixel of the 3x3 neighbourhood is invalid or outside the image.
    """
    known = _known(depth_m, valid)
    root = np.sqrt(np.where(known, depth_m, 0.0) / DEPTH_FULL_SCALE_M)
    inside = ndimage.binary_erosion(known, np.ones((3, 3), bool), border_value=0)
    return sobel_magnitude(root) * inside


def sobel_magnitude(values: FloatArray) -> FloatArray:
    """Return sqrt((gx^2 + gy^2) / 2) with Sobel kernels of unit smoothing: (H, W) -> (H, W)."""
    smooth, difference = np.array([0.25, 0.5, 0.25]), np.array([1.0, 0.0, -1.0])
    down = ndimage.convolve1d(ndimage.convolve1d(values, difference, 0), smooth, 1)
    across = ndimage.convolve1d(ndimage.convolve1d(values, difference, 1), smooth, 0)
    return np.sqrt((down**2 + across**2) / 2)


def keypoint2d(image: NDArray[np.uint8]) -> FloatArray:
    """Return the 2D keypoint response (H, W) of an RGB image, at least 0; means near .001.

    The largest over ten scales of SURF's determinant of the Hessian with box filters, negative
    values set to 0. The scales are 1 to 30 pixels at a height of 512 and shrink with the height,
    but not below 1 pixel, the smallest filter there is.
    """
    grey = luminance(image)
    integral = grey.cumsum(0).cumsum(1)
    response = np.zeros_like(grey)
    for size in _keypoint2d_sizes_px(grey.shape[0]):
        np.maximum(response, hessian_determinant(integral, size), out=response)
    return response


def keypoint2d_sees_only(inside: BoolArray) -> BoolArray:
    """Return where the 2D keypoints follow from pixels `inside` alone: (H, W) -> (H, W).

    All boxes of a filter lie in the square of its size, and the squares of smaller filters in that
    of the largest; its place is that of the boxes, moved inside at the frame's border as they are.
    """
    size = _keypoint2d_sizes_px(inside.shape[0])[-1]
    outside = (~inside).cumsum(0).cumsum(1).astype(np.float64)
    half = (size - 1) // 2
    # The boxes never see the first row and column of the frame, which may be outside themselves.
    return inside & (_box_sum(outside, -half, -half, size, size) == 0)


def _keypoint2d_sizes_px(height: int) -> list[int]:
    """Return the sizes of the box filters at an image height, ascending."""
    scales = KEYPOINT2D_SIGMAS_PX * height / REFERENCE_HEIGHT_PX
    return sorted({int(3 * sigma) for sigma in np.maximum(scales, KEYPOINT2D_MIN_SIGMA_PX)})


def hessian_determinant(integral: FloatArray, size_px: int) -> FloatArray:
    """Return SURF's approximate determinant of the Hessian (H, W) for a filter of `size_px`.

    `integral` is the running sum of a grey image over rows and columns, (H, W). Bay, Tuytelaars,
    Van Gool, "SURF: Speeded Up Robust Features", ECCV 2006: second derivatives by boxes of the
    integral image, mixed term weighted by 0.9^2; the alignment of the boxes is scikit-image's.
    """
    lobe, half = size_px // 3, (size_px - 1) // 2
    band = 2 * lobe - 1
    box = partial(_box_sum, integral)
    mixed = box(-lobe, 1, lobe, lobe) + box(1, -lobe, lobe, lobe)
    mixed = mixed - box(-lobe, -lobe, lobe, lobe) - box(1, 1, lobe, lobe)
    across = box(1 - lobe, -half, band, size_px) - 3 * box(1 - lobe, -(lobe // 2), band, lobe)
    down = box(-half, 1 - lobe, size_px, band) - 3 * box(-(lobe // 2), 1 - lobe, lobe, band)
    area = size_px**2
    return (across / area) * (down / area) - 0.81 * (mixed / area) ** 2


def _box_sum(
    integral: FloatArray, top: int, left: int, num_rows: int, num_columns: int
) -> FloatArray:
    """Return for each pixel the sum over a box (H, W), placed by its offset from the pixel."""
    rows, columns = (np.arange(length) for length in integral.shape)
    # A box that would begin before the image is moved inside; one that ends beyond is cut.
    row = np.clip(rows + top, 0, len(rows) - 1)
    column = np.clip(columns + left, 0, len(columns) - 1)
    strip = integral[np.minimum(row + num_rows, len(rows) - 1)] - integral[row]
    total = strip[:, np.minimum(column + num_columns, len(columns) - 1)] - strip[:, column]
    return np.maximum(total, 0.0)


def reshading(depth_m: FloatArray, normals: FloatArray, camera: Camera) -> FloatArray:
    """Return the image (H, W) in 0..1 of a white world lit by a lamp at the camera.

    min(1, 1.595 max(0, n.v) 8 / (8 + r^2)) with v towards the camera and r the euclidean distance
    in metres: fits the files of Taskonomy (r = .997) and Replica (.992).
    """
    points = back_project(depth_m, camera)
    distance_m = np.linalg.norm(points, axis=-1)
    facing = np.maximum(0.0, -np.sum(normals * points, axis=-1) / np.maximum(distance_m, 1e-9))
    falloff = RESHADING_FALLOFF_M2 / (RESHADING_FALLOFF_M2 + distance_m**2)
    return np.minimum(1.0, RESHADING_GAIN * facing * falloff)


def keypoint3d(
    depth_m: FloatArray, normals: FloatArray, camera: Camera, valid: BoolArray | None = None
) -> FloatArray:
    """Return a 3D keypoint score (H, W) in 0..1: a stand-in for NARF's interest image.

    NARF (Steder et al., 2011) likes points where the surface around them changes much and the
    points themselves lie on stable surface, not at a depth border. So, in a sphere of 0.3 m:
    the spread of the normals, 1 - |mean normal| (0 on a plane), times the squared share of the
    image neighbourhood that lies inside the sphere (small beside a depth border). The
    neighbourhood is sampled on three rings, symmetric under a flip, and the score is smoothed by
    0.008 image heights, since NARF's interest image is smooth where samples are not.
    """
    known = _known(depth_m, valid)
    safe_depth_m = np.where(known, depth_m, 1.0)
    points = back_project(safe_depth_m, camera).astype(np.float32)
    directions = normals.astype(np.float32)
    height, width = depth_m.shape
    rows, columns = np.indices(depth_m.shape)
    total = np.where(known[..., None], directions, 0.0)
    num_inside = known.astype(np.float32)
    num_sampled = np.ones(depth_m.shape, np.float32)
    for share, number, phase in KEYPOINT3D_RINGS:
        for angle in 2 * np.pi * (np.arange(number) + phase) / number:
            reach_m = KEYPOINT3D_RADIUS_M * share / safe_depth_m
            row = rows + np.rint(reach_m * camera.fy * np.sin(angle)).astype(np.intp)
            column = columns + np.rint(reach_m * camera.fx * np.cos(angle)).astype(np.intp)
            in_frame = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            # Outside the frame there is nothing to be learnt: neither inside nor sampled.
            index = np.where(in_frame, row * width + column, 0)
            offset = points.reshape(-1, 3)[index] - points
            near = np.einsum("hwc,hwc->hw", offset, offset) < KEYPOINT3D_RADIUS_M**2
            inside = near & in_frame & known.reshape(-1)[index]
            total += directions.reshape(-1, 3)[index] * inside[..., None]
            num_inside += inside
            num_sampled += in_frame
    mean_length = np.linalg.norm(total, axis=-1) / np.maximum(num_inside, 1.0)
    spread = np.clip(1.0 - mean_length, 0.0, 1.0)
    score = np.where(known, spread * (num_inside / num_sampled) ** 2, 0.0)
    smoothed = ndimage.gaussian_filter(score, KEYPOINT3D_SMOOTHING * height)
    return np.where(known, smoothed, 0.0)


def _nearer_difference(
    points: FloatArray, known: BoolArray, axis: int
) -> tuple[FloatArray, BoolArray]:
    """Difference of points along an axis to the valid neighbour that is nearer in depth."""
    step = np.diff(points, axis=axis)
    size = known.shape[axis]
    pair = known.take(range(size - 1), axis) & known.take(range(1, size), axis)
    jump = np.where(pair, np.abs(step[..., 2]), np.inf)
    before, after = np.zeros((3, 2), int), np.zeros((3, 2), int)
    before[axis], after[axis] = (1, 0), (0, 1)
    jump_before = np.pad(jump, before[:2], constant_values=np.inf)
    jump_after = np.pad(jump, after[:2], constant_values=np.inf)
    use_after = jump_after <= jump_before
    exists = np.isfinite(np.minimum(jump_before, jump_after))
    return np.where(use_after[..., None], np.pad(step, after), np.pad(step, before)), exists


def _known(depth_m: FloatArray, valid: BoolArray | None) -> BoolArray:
    """Return where there is depth; refuse a map of another shape."""
    if depth_m.ndim != 2:
        raise UsageError(
            f"Expected depth of shape (height, width), got {depth_m.shape}. Drop other axes."
        )
    return np.ones(depth_m.shape, bool) if valid is None else valid


STEP_PX = 2
"""Of a large window every second row and column is looked at: a sensor's noise is alike in
neighbours."""
LARGE_WINDOW_PX = 9
SAME_SURFACE = 0.05
"""Largest relative difference of inverse depth within a surface; depth borders are larger."""
MIN_PIXELS = 6
MIN_DETERMINANT = 1e-3


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
    exists = valid & (n >= MIN_PIXELS) & (determinant > MIN_DETERMINANT * n**4)
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
