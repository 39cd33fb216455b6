"""Normals by planes: exact on planes, and far better than differences where depth is noisy."""

import numpy as np
import pytest

from mtl.data.sample import Camera
from mtl.data.scenes.render import render_scene
from mtl.data.targets.derive import camera_rays, normals_from_depth, plane_normals

CAMERA = Camera(fx=80.0, fy=85.0, cx=33.0, cy=20.0)


def plane_depth(normal: np.ndarray, height: int = 48, width: int = 64) -> np.ndarray:
    return 2.0 / -(camera_rays(CAMERA, height, width) @ normal)


def angles_deg(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.sum(a * b, axis=-1)[where].clip(-1, 1)))


@pytest.mark.parametrize("window_px", [3, 7, 21])
@pytest.mark.parametrize("direction", [(0, 0, -1), (0.4, -0.3, -0.9), (0, -0.6, -0.8)])
def test_planes_are_exact_at_every_pixel(window_px: int, direction: tuple[float, ...]) -> None:
    normal = np.array(direction) / np.linalg.norm(direction)
    depth = plane_depth(normal)
    got, exists = plane_normals(depth, CAMERA, np.ones(depth.shape, bool), window_px)
    expected = np.ones(depth.shape, bool)
    if window_px == 3:  # a corner's window has four pixels, too few
        expected[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    np.testing.assert_array_equal(exists, expected)
    assert angles_deg(got, np.broadcast_to(normal, got.shape), exists).max() < 1e-3


def test_other_surface_and_missing_pixels_do_not_count() -> None:
    near, far = np.array([0.3, 0, -0.95]), np.array([-0.5, 0.1, -0.86])
    near, far = near / np.linalg.norm(near), far / np.linalg.norm(far)
    left = np.arange(64) < 30
    depth = np.where(left, plane_depth(near), 3 * plane_depth(far))
    valid = np.ones(depth.shape, bool)
    valid[10:14, 20:40] = False
    got, exists = plane_normals(np.where(valid, depth, np.nan), CAMERA, valid, 9)
    expected = np.where(left[:, None], near, far) * np.ones((48, 1, 1))
    np.testing.assert_array_equal(exists, valid)
    assert angles_deg(got, expected, exists).max() < 1e-3
    assert not got[~exists].any()


def test_no_depth_no_normals() -> None:
    got, exists = plane_normals(np.zeros((9, 9)), CAMERA, np.zeros((9, 9), bool), 5)
    assert not exists.any()
    assert not got.any()
    lonely = np.zeros((9, 9), bool)
    lonely[4] = True  # pixels on one line have no plane
    assert not plane_normals(np.ones((9, 9)), CAMERA, lonely, 9)[1].any()


def test_with_sensors_noise_it_beats_differences_on_scenes() -> None:
    rng = np.random.default_rng(0)
    scene = render_scene("rooms", seed=0, split="test", index=0, height=120, width=160)
    depth = scene.targets["depth"][..., 0].astype(float)
    # Kinect's axial noise, Nguyen, Izadi, Lovell, 3DIMPVT 2012.
    noisy = depth + rng.normal(size=depth.shape) * (0.0012 + 0.0019 * (depth - 0.4) ** 2)
    valid = np.ones(depth.shape, bool)
    medians = []
    for normals, exists in (
        normals_from_depth(noisy, scene.camera, valid),
        plane_normals(noisy, scene.camera, valid, 9),
    ):
        errors = angles_deg(normals, scene.targets["normal"], exists & scene.valid["normal"])
        medians.append(float(np.median(errors)))
    print(f"median angle in degrees: differences {medians[0]:.1f}, planes {medians[1]:.1f}")
    assert medians[1] < medians[0] / 2
