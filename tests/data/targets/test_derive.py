"""Derived targets against scikit-image, closed forms and invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mtl.data.sample import Camera
from mtl.data.targets import derive

CAMERA = Camera(fx=50.0, fy=52.0, cx=31.5, cy=23.5)
HEIGHT, WIDTH = 48, 64


def _image(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    print(f"{seed=}")
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _plane_depth(normal: np.ndarray, distance_m: float) -> np.ndarray:
    """Depth of the plane n.p = -distance in each pixel: rays have z = 1."""
    return -distance_m / (derive.camera_rays(CAMERA, HEIGHT, WIDTH) @ normal)


def _tilted_normal() -> np.ndarray:
    normal = np.array([0.3, -0.4, -0.8])
    return normal / np.linalg.norm(normal)


@pytest.mark.parametrize(("height", "sigma_px"), [(512, 3.0), (64, 0.375), (256, 1.5)])
def test_edge2d_equals_normalised_blur_then_sobel(height: int, sigma_px: float) -> None:
    filters = pytest.importorskip("skimage.filters")
    image = _image(1, height, 40)
    grey = image @ np.array([0.2125, 0.7154, 0.0721]) / 255
    seen = ndimage.gaussian_filter(np.ones_like(grey), sigma_px, mode="constant")
    blurred = ndimage.gaussian_filter(grey, sigma_px, mode="constant") / seen
    np.testing.assert_allclose(derive.edge2d(image), filters.sobel(blurred), atol=1e-12)


def test_keypoint2d_at_full_size_equals_definition() -> None:
    reference = pytest.importorskip("skimage.feature._hessian_det_appx")
    image = _image(3, 512, 100)
    integral = derive.luminance(image).cumsum(0).cumsum(1)
    expected = np.maximum.reduce(
        [reference._hessian_matrix_det(integral, s) for s in np.linspace(1, 30, 10)]
    )
    found = derive.keypoint2d(image)
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-8)


def test_edge3d_equals_scikit_image_with_mask() -> None:
    filters = pytest.importorskip("skimage.filters")
    rng = np.random.default_rng(4)
    depth_m, valid = rng.uniform(0.7, 10, (30, 40)), rng.random((30, 40)) < 0.97
    raw = np.where(valid, depth_m * 512, 0)
    expected = filters.sobel(np.sqrt(raw / 65536), mask=valid)
    np.testing.assert_allclose(derive.edge3d(depth_m, valid), expected, atol=1e-12)


def test_edge3d_of_depth_step_in_closed_form() -> None:
    depth_m = np.full((9, 9), 2.0)
    depth_m[:, 5:] = 4.5
    # A step of the root by (1.5 - 1) * sqrt(2 / 128), once under a unit Sobel kernel.
    expected = 0.5 * np.sqrt(2 / 128) / np.sqrt(2)
    np.testing.assert_allclose(derive.edge3d(depth_m)[4, 4:6], expected)
    assert derive.edge3d(depth_m)[4, 2] == 0


def test_reshading_of_wall_in_closed_form() -> None:
    camera = Camera(fx=50.0, fy=50.0, cx=10.0, cy=10.0)
    depth_m = np.full((21, 21), 3.0)
    normals = np.broadcast_to(np.array([0.0, 0.0, -1.0]), (21, 21, 3))
    found = derive.reshading(depth_m, normals, camera)
    assert found[10, 10] == pytest.approx(1.595 * 8 / (8 + 9))
    # Off the axis by 10 / 50: euclidean distance 3 sqrt(1.04), cosine 1 / sqrt(1.04).
    expected = 1.595 / np.sqrt(1.04) * 8 / (8 + 9 * 1.04)
    assert found[10, 20] == pytest.approx(expected)
    # Clipped near, and dark from behind.
    assert derive.reshading(np.full((21, 21), 0.7), normals, camera).max() == 1.0
    assert derive.reshading(depth_m, -normals, camera).max() == 0.0


def test_both_sides_of_depth_border_keep_their_normals() -> None:
    near, far = np.array([0.0, 0.0, -1.0]), _tilted_normal()
    depth_m = _plane_depth(far, 4.0)
    depth_m[:, :20] = 1.0
    found, exists = derive.normals_from_depth(depth_m, CAMERA)
    assert exists.all()
    np.testing.assert_allclose(found[:, :20], np.broadcast_to(near, (HEIGHT, 20, 3)), atol=1e-9)
    np.testing.assert_allclose(found[:, 20:], np.broadcast_to(far, (HEIGHT, 44, 3)), atol=1e-9)


def test_holes_are_not_used_and_have_no_normal() -> None:
    normal = _tilted_normal()
    depth_m = _plane_depth(normal, 2.5)
    valid = np.random.default_rng(5).random(depth_m.shape) < 0.8
    depth_m[~valid] = 0.0
    found, exists = derive.normals_from_depth(depth_m, CAMERA, valid)
    assert not exists[~valid].any()
    assert exists.mean() > 0.6
    np.testing.assert_allclose(found[exists], np.broadcast_to(normal, found[exists].shape),
                               atol=1e-9)  # fmt: skip


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected a uint8 image"):
        derive.edge2d(np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"Expected depth of shape \(height, width\)"):
        derive.normals_from_depth(np.ones((4, 4, 1)), CAMERA)


def test_crease_is_keypoint3d_and_depth_border_is_not() -> None:
    rays = derive.camera_rays(CAMERA, HEIGHT, WIDTH)
    left = np.array([1.0, 0.0, -1.0]) / np.sqrt(2)
    right = np.array([-1.0, 0.0, -1.0]) / np.sqrt(2)
    # A concave corner of two walls that meet 3 m ahead.
    depth_m = np.minimum(*(-(3 / np.sqrt(2)) / (rays @ n) for n in (left, right)))
    normals = np.where((rays[..., 0] < 0)[..., None], left, right)
    crease = derive.keypoint3d(depth_m, normals, CAMERA)
    assert 0.1 < crease[24, 31] < 0.3
    assert crease[24, 5] < 0.01

    step_m = np.where(rays[..., 0] < 0, 1.5, 4.0)
    facing = np.broadcast_to(np.array([0.0, 0.0, -1.0]), normals.shape)
    assert derive.keypoint3d(step_m, facing, CAMERA).max() < 1e-5


def test_keypoint3d_ignores_invalid_pixels() -> None:
    normal = _tilted_normal()
    depth_m = _plane_depth(normal, 2.5)
    normals = np.broadcast_to(normal, (HEIGHT, WIDTH, 3)).copy()
    valid = np.ones(depth_m.shape, bool)
    valid[10:20, 10:20] = False
    depth_m[~valid], normals[~valid] = 0.0, (1.0, 0.0, 0.0)
    assert derive.keypoint3d(depth_m, normals, CAMERA, valid).max() < 1e-5


def test_depth_targets_turn_with_depth() -> None:
    rng = np.random.default_rng(7)
    depth_m = ndimage.gaussian_filter(rng.uniform(1, 6, (HEIGHT, WIDTH)), 3)
    camera = Camera(50.0, 50.0, 30.0, 23.5)
    mirrored = Camera(50.0, 50.0, WIDTH - 1 - camera.cx, 23.5)
    normals, _ = derive.normals_from_depth(depth_m, camera)
    other, _ = derive.normals_from_depth(depth_m[:, ::-1], mirrored)
    other = other[:, ::-1] * np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(other, normals, atol=1e-9)
    score = derive.keypoint3d(depth_m, normals, camera)
    flipped_normals = normals[:, ::-1] * np.array([-1.0, 1.0, 1.0])
    flipped = derive.keypoint3d(depth_m[:, ::-1], flipped_normals, mirrored)[:, ::-1]
    # Sampled pixels are rounded, which may differ by one pixel at a tie.
    np.testing.assert_allclose(flipped, score, atol=0.02)


SEES_ONLY = {
    "edge2d": (derive.edge2d, derive.edge2d_sees_only),
    "keypoint2d": (derive.keypoint2d, derive.keypoint2d_sees_only),
}


@given(
    st.sampled_from(sorted(SEES_ONLY)),
    st.integers(8, 96),
    st.integers(3, 60),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
def test_pixels_outside_picture_never_reach_valid_ones(name, height, width, seed, share) -> None:
    function, sees_only = SEES_ONLY[name]
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # Half of the masks have a frame, as a white border is, the others a few pixels anywhere.
    inside = rng.random((height, width)) > 0.02 * share
    if share < 0.5:
        inside = np.zeros((height, width), bool)
        top, left, bottom, right = rng.integers(0, (height // 3, width // 3) * 2)
        inside[top : height - bottom, left : width - right] = True
    other = np.where(inside[..., None], image, 255 - image)
    valid = sees_only(inside)
    assert not (valid & ~inside).any()
    # Sums of an integral image are off by rounding; the reversal of a pixel is off by far more.
    np.testing.assert_allclose(function(other)[valid], function(image)[valid], atol=1e-10)
    assert sees_only(np.ones_like(inside)).all()


@pytest.mark.parametrize("height", [24, 128, 480])
def test_edges_are_left_out_no_further_than_they_reach(height: int) -> None:
    # One white pixel outside: its blur, and the Sobel kernel around that, are not 0 in a square.
    image, inside = np.zeros((height, 40, 3), np.uint8), np.ones((height, 40), bool)
    image[height // 2, 20], inside[height // 2, 20] = 255, False
    reached = np.argwhere(derive.edge2d(image) > 0)
    left_out = np.argwhere(~derive.edge2d_sees_only(inside))
    np.testing.assert_array_equal(reached.min(0), left_out.min(0))
    np.testing.assert_array_equal(reached.max(0), left_out.max(0))
    # At 480: sigma 2.8125, cut at int(11.25 + .5) = 11 pixels, and one more for Sobel.
    if height == 480:
        assert left_out.min(0).tolist() == [240 - 12, 20 - 12]


def test_keypoints_are_left_out_as_far_as_largest_box() -> None:
    # At 512 the largest filter has 90 pixels: from 43 before its pixel to 46 behind it, and the
    # pixel at 200 is seen from 200 - 46 to 200 + 43.
    inside = np.ones((512, 400), bool)
    inside[200, 200] = False
    left_out = np.argwhere(~derive.keypoint2d_sees_only(inside))
    assert left_out.min(0).tolist() == [154, 154]
    assert left_out.max(0).tolist() == [243, 243]
