"""Tasks that follow from image and depth, against the exact targets of rendered scenes."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from mtl.data.sample import Camera, RawSample
from mtl.data.scenes.render import render_scene
from mtl.data.targets import derive
from mtl.data.targets.derive import camera_rays, curvature, normals_from_depth
from mtl.data.targets.derived_tasks import derivable, derived, derived_measured
from mtl.spec.sections import TASKS

HEIGHT, WIDTH = 96, 128


@cache
def rgbd(variant: str, index: int) -> tuple[RawSample, object]:
    """Return a scene as an RGB-D camera would give it, and the scene itself."""
    scene = render_scene(variant, seed=0, split="train", index=index, height=HEIGHT, width=WIDTH)
    sample = RawSample(
        scene.image,
        {"depth": scene.targets["depth"]},
        {"depth": scene.valid["depth"]},
        camera=scene.camera,
    )
    return sample, scene


def test_what_follows_depends_on_what_is_there() -> None:
    sample, _ = rgbd("simple", 0)
    assert set(derivable(sample)) == set(TASKS) - {"depth", "segmentation"}
    without_camera = RawSample(sample.image, sample.targets, sample.valid)
    assert set(derivable(without_camera)) == {"edge2d", "keypoint2d", "edge3d"}
    image_only = RawSample(sample.image, {}, {})
    assert set(derivable(image_only)) == {"edge2d", "keypoint2d"}


# Median and mean absolute error against the exact targets of five scenes of each variant; measured
# by `python -m tests.benchmarks derived`, see docs/EXPERIMENTS.md. Medians are exact to rounding;
# means are those of depth borders, where the window of a fit meets two surfaces, which keypoint3d
# carries further in rooms. The bounds are about twice what was measured, or far above rounding.
SAME = {"edge2d": (1e-7, 1e-7), "keypoint2d": (1e-7, 1e-7), "edge3d": (1e-7, 1e-7)}
ERROR_BOUNDS = {
    "simple": {
        **SAME, "normal": (1e-5, 0.02), "curvature": (1e-5, 0.03), "reshading": (1e-5, 0.01),
        "keypoint3d": (1e-5, 0.005),
    },
    "rooms": {
        **SAME, "normal": (1e-5, 0.08), "curvature": (1e-5, 0.16), "reshading": (1e-5, 0.06),
        "keypoint3d": (0.011, 0.02),
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", sorted(ERROR_BOUNDS))
def test_errors_against_exact_targets(variant: str) -> None:
    for task, (max_median, max_mean) in ERROR_BOUNDS[variant].items():
        errors = []
        for index in range(3):
            sample, scene = rgbd(variant, index)
            target, valid = derived(task, sample)
            both = valid & scene.valid[task]
            assert both.mean() > 0.9
            errors.append(np.abs(target - scene.targets[task])[both].ravel())
        pooled = np.concatenate(errors)
        print(f"{variant} {task}: median {np.median(pooled):.2e}, mean {pooled.mean():.2e}")
        assert np.median(pooled) < max_median
        assert pooled.mean() < max_mean


def test_curvature_of_sphere_and_of_cylinder_by_hand() -> None:
    # Radius 0.5 m: k = 2 / m, times 0.03 m = 0.06; convex, so positive. Flat: 0.
    camera = Camera(60.0, 60.0, 31.5, 31.5)
    rays = camera_rays(camera, 64, 64)
    centre, radius = np.array([0.0, 0.0, 2.0]), 0.5
    middle = ((np.indices((64, 64)) - 31.5) ** 2).sum(0) < 100
    for flat_axis, expected in ((None, (0.06, 0.06)), (1, (0.06, 0.0))):
        axes = [i for i in range(3) if i != flat_axis]
        a = (rays[..., axes] ** 2).sum(-1)
        b = rays[..., axes] @ centre[axes]
        root = np.sqrt(np.maximum(0.0, b**2 - a * (centre[axes] @ centre[axes] - radius**2)))
        depth = np.where(root > 0, (b - root) / a, 5.0)
        normals, exists = normals_from_depth(depth, camera)
        found, defined = curvature(depth, normals, camera, exists)
        assert defined[middle].all()
        np.testing.assert_allclose(np.median(found[middle], axis=0), expected, atol=2e-3)
    wall, exists = normals_from_depth(np.full((64, 64), 3.0), camera)
    flat, _ = curvature(np.full((64, 64), 3.0), wall, camera, exists)
    np.testing.assert_allclose(flat, 0.0, atol=1e-9)


def test_tasks_of_image_count_in_picture_and_where_allowed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    inside, counted = np.zeros((2, 32, 48), bool)
    inside[:, 12:40] = counted[4:20] = True
    for task, sees_only in (
        ("edge2d", derive.edge2d_sees_only), ("keypoint2d", derive.keypoint2d_sees_only),
    ):  # fmt: skip
        _, valid = derived(task, RawSample(image, {}, {}, inside=inside, counted=counted))
        np.testing.assert_array_equal(valid, sees_only(inside) & counted)
        assert valid.any()
        assert derived(task, RawSample(image, {}, {}))[1].all()


def around(row: int, column: int, reach: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[row - reach : row + reach + 1, column - reach : column + reach + 1] = True
    return mask


def cross(row: int, column: int, reach: int) -> np.ndarray:
    """Return the pixels within `reach` steps along rows and columns."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    return np.abs(rows - row) + np.abs(columns - column) <= reach


def test_3d_edges_count_neither_beside_hole_nor_along_frame() -> None:
    sample, scene = rgbd("rooms", 0)
    known = sample.valid["depth"] & ~around(40, 60, 0)
    target, valid = derived("edge3d", dataclasses.replace(sample, valid={"depth": known}))
    expected = scene.valid["depth"] & ~around(40, 60, 1)
    expected[[0, -1]] = expected[:, [0, -1]] = False
    np.testing.assert_array_equal(valid, expected)
    # What counts is what it would be without the hole.
    np.testing.assert_allclose(target[valid], scene.targets["edge3d"][valid], atol=1e-6)


@pytest.mark.parametrize(
    ("task", "unmeasured"),
    [
        ("edge3d", around(40, 60, 1)),
        ("normal", cross(40, 60, 1)),
        ("reshading", cross(40, 60, 1)),
        ("keypoint3d", cross(40, 60, 1)),
        ("curvature", cross(40, 60, 2)),
        ("edge2d", np.zeros((HEIGHT, WIDTH), bool)),
    ],
)
def test_what_comes_of_filled_depth_is_not_measured(task: str, unmeasured: np.ndarray) -> None:
    sample, _ = rgbd("simple", 0)
    filled = dataclasses.replace(
        sample, measured={"depth": sample.valid["depth"] & ~around(40, 60, 0)}
    )
    _, valid = derived(task, filled)
    np.testing.assert_array_equal(derived_measured(task, filled, valid), valid & ~unmeasured)
    # A hole that nobody filled is invalid and no reason to doubt its neighbours.
    np.testing.assert_array_equal(derived_measured(task, sample, valid), valid)


def test_what_comes_of_filled_normal_is_not_measured() -> None:
    sample, scene = rgbd("simple", 0)
    normal = scene.valid["normal"]
    both = dataclasses.replace(
        sample,
        targets={**sample.targets, "normal": scene.targets["normal"]},
        valid={**sample.valid, "normal": normal},
        measured={"normal": normal & ~around(40, 60, 0)},
    )
    for task, reach in (("reshading", 0), ("keypoint3d", 0), ("curvature", 1)):
        _, valid = derived(task, both)
        expected = valid & ~cross(40, 60, reach)
        np.testing.assert_array_equal(derived_measured(task, both, valid), expected)
    _, valid = derived("edge3d", both)
    np.testing.assert_array_equal(derived_measured("edge3d", both, valid), valid)
