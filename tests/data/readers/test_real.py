"""Derived targets on real photographs and real depth; skipped where there are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mtl.data.sample import Camera
from mtl.data.targets import derive

# Intrinsics of NYUv2's labelled frames at 640x480.
NYUV2_CAMERA = Camera(fx=518.8579, fy=519.4696, cx=325.5824, cy=253.7362)


def first_files(folder: Path, number: int) -> list[Path]:
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} among the real images")
    return sorted(folder.glob("*.png"))[:number]


def test_edges_of_street_photographs_equal_definition(real_data: Path) -> None:
    filters = pytest.importorskip("skimage.filters")
    for path in first_files(real_data / "camvid_240x180" / "val" / "image", 3):
        image = np.asarray(Image.open(path).convert("RGB"))
        grey = image @ np.array([0.2125, 0.7154, 0.0721]) / 255
        sigma_px = 3 * image.shape[0] / 512
        seen = ndimage.gaussian_filter(np.ones_like(grey), sigma_px, mode="constant")
        blurred = ndimage.gaussian_filter(grey, sigma_px, mode="constant") / seen
        got = derive.edge2d(image)
        np.testing.assert_allclose(got, filters.sobel(blurred), atol=1e-12)
        # Real images have edges, in few places: the mean is of the scale that the scenes have.
        assert 0.005 < got.mean() < 0.15
        keypoints = derive.keypoint2d(image)
        assert keypoints.min() >= 0
        assert 0 < keypoints.mean() < got.mean()


def test_normals_from_real_depth_are_unit_and_face_camera(real_data: Path) -> None:
    for path in first_files(real_data / "nyuv2_real18" / "depth_mm", 4):
        depth_m = np.asarray(Image.open(path)).astype(np.float64) / 1000
        normals, valid = derive.normals_from_depth(depth_m, NYUV2_CAMERA)
        assert valid.mean() > 0.9
        np.testing.assert_allclose(np.linalg.norm(normals[valid], axis=-1), 1, atol=1e-6)
        rays = derive.camera_rays(NYUV2_CAMERA, *depth_m.shape)
        assert ((normals * rays).sum(-1)[valid] <= 1e-9).mean() > 0.999
        shade = derive.reshading(depth_m, normals, NYUV2_CAMERA)
        assert 0 <= shade.min() <= shade.max() <= 1
