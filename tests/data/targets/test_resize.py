"""Resizing: exact on what is known by hand, and what holds for any map, mask and size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.data.sample import Camera, RawSample
from mtl.data.scenes.render import render_scene
from mtl.data.targets.resize import (
    resized,
    resized_camera,
    resized_image,
    resized_labels,
    resized_map,
    resized_mask,
    resized_normals,
)

sides = st.integers(1, 23)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, height: int, width: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a random map and a mask in which about 2 of 3 pixels are valid."""
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 2, (height, width, channels)).astype(np.float32)
    return values, rng.random((height, width)) < 0.67


def test_halving_by_hand() -> None:
    values = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    all_valid = np.ones((4, 4), bool)
    # Mean of rows 0-1, columns 0-1: (0 + 1 + 4 + 5) / 4, and so on.
    got, valid = resized_map(values, all_valid, 2, 2)
    np.testing.assert_array_equal(got[..., 0], [[2.5, 4.5], [10.5, 12.5]])
    assert valid.all()
    # One, two and three of the four pixels of a block invalid: 3/4, 2/4 and 1/4 of the area.
    holes = all_valid.copy()
    holes[0, 0] = holes[0, 2] = holes[1, 2] = holes[2, 0] = holes[2, 1] = holes[3, 0] = False
    got, valid = resized_map(values, holes, 2, 2)
    np.testing.assert_array_equal(valid, [[True, True], [False, True]])
    np.testing.assert_allclose(got[..., 0], [[10 / 3, 5.0], [0.0, 12.5]], rtol=1e-6)


def test_ratio_of_three_to_two_by_hand() -> None:
    # Target pixel 0 covers pixel 0 and half of pixel 1: (2 * 3 + 1 * 6) / 3.
    row = np.array([3.0, 6.0, 12.0], np.float32).reshape(1, 3, 1)
    got, _ = resized_map(row, np.ones((1, 3), bool), 1, 2)
    np.testing.assert_allclose(got.ravel(), [4.0, 10.0])
    # Upwards: target pixel 1 of 3 covers half of each.
    got, _ = resized_map(row[:, :2], np.ones((1, 2), bool), 1, 3)
    np.testing.assert_allclose(got.ravel(), [3.0, 4.5, 6.0])
    labels = np.array([[7, 8, 9]], np.uint8)
    got, _ = resized_labels(labels, np.ones((1, 3), bool), 1, 2)
    np.testing.assert_array_equal(got, [[7, 9]])


def test_image_is_antialiased() -> None:
    checker = np.indices((32, 32)).sum(0) % 2 * 255
    image = np.repeat(checker[..., None], 3, 2).astype(np.uint8)
    np.testing.assert_array_equal(resized_image(image, 8, 8), 128)
    np.testing.assert_array_equal(resized_image(np.full((7, 5, 3), 90, np.uint8), 3, 4), 90)


def test_normals_stay_unit_and_are_invalid_where_they_cancel() -> None:
    normals = np.zeros((2, 4, 3), np.float32)
    normals[:, :2] = (0, 0, -1)
    normals[:, 2] = (1, 0, 0)
    normals[:, 3] = (-1, 0, 0)
    got, valid = resized_normals(normals, np.ones((2, 4), bool), 1, 2)
    np.testing.assert_array_equal(valid, [[True, False]])
    np.testing.assert_array_equal(got, [[[0, 0, -1], [0, 0, 0]]])
    mixed = normals[:, 1:3]
    got, _ = resized_normals(mixed, np.ones((2, 2), bool), 1, 1)
    np.testing.assert_allclose(got[0, 0], np.array([1, 0, -1]) / np.sqrt(2), rtol=1e-6)


def test_camera_by_hand() -> None:
    camera = Camera(fx=500, fy=520, cx=319.5, cy=239.5)
    # The middle of an image stays its middle: (640 - 1) / 2 becomes (320 - 1) / 2.
    half = resized_camera(camera, (480, 640), 240, 320)
    assert half == Camera(fx=250, fy=260, cx=159.5, cy=119.5)
    squeezed = resized_camera(camera, (480, 640), 480, 320)
    assert (squeezed.fx, squeezed.fy, squeezed.cy) == (250, 520, 239.5)


def test_measured_is_half_of_area_and_never_more_than_valid() -> None:
    depth = np.ones((2, 8, 1), np.float32)
    valid = np.ones((2, 8), bool)
    valid[:, 4:6] = valid[0, 6:] = False
    measured = np.ones((2, 8), bool)
    measured[:, 0] = measured[0, 1] = measured[:, 2] = False
    measured[1, 6:] = False  # so that of the last block the invalid half alone is measured
    sample = RawSample(
        np.zeros((2, 8, 3), np.uint8), {"depth": depth}, {"depth": valid}, {"depth": measured}
    )
    small = resized(sample, 1, 4)
    np.testing.assert_array_equal(small.valid["depth"], [[True, True, False, True]])
    np.testing.assert_array_equal(small.measured["depth"], [[False, True, False, False]])


@pytest.mark.parametrize("size", [(48, 64), (31, 17), (1, 1), (50, 129)])
def test_whole_scene_at_any_size(size: tuple[int, int]) -> None:
    scene = render_scene("rooms", seed=3, split="train", index=0, height=48, width=64)
    full = {task: np.ones((48, 64), bool) for task in scene.targets}
    sample = RawSample(scene.image, scene.targets, scene.valid, full, scene.camera)
    got = resized(sample, *size)
    assert got.image.shape == (*size, 3)
    assert got.image.dtype == np.uint8
    for task, target in scene.targets.items():
        assert got.targets[task].shape == (*size, *target.shape[2:])
        assert got.targets[task].dtype == target.dtype
        assert got.valid[task].shape == got.measured[task].shape == size
        assert got.valid[task].dtype == got.measured[task].dtype == bool
        assert not (got.measured[task] & ~got.valid[task]).any()
        if task not in ("segmentation", "normal"):
            mean = target.mean(dtype=np.float64)
            assert got.targets[task].mean(dtype=np.float64) == pytest.approx(mean, rel=1e-5)
    length = np.linalg.norm(got.targets["normal"], axis=-1)
    np.testing.assert_allclose(length[got.valid["normal"]], 1, atol=1e-6)
    assert (got.camera == scene.camera) == (size == (48, 64))


def test_sizes_that_do_not_fit_are_refused() -> None:
    image, depth = np.zeros((4, 4, 3), np.uint8), np.ones((4, 5, 1), np.float32)
    for maps in ({"targets": {"depth": depth}}, {"inside": depth[..., 0]}):
        with pytest.raises(ValueError, match="Expected (depth|inside) of the image's size"):
            RawSample(image, **{"targets": {}, "valid": {}, **maps})
    with pytest.raises(ValueError, match="at least 1 pixel, got 0 x 2"):
        resized(RawSample(image, {}, {}), 0, 2)


@given(sides, sides, sides, sides, seeds)
def test_mean_is_kept_and_averages_stay_within_valid_values(h, w, height, width, seed):
    values, valid = drawn(seed, h, w)
    got, kept = resized_map(values, np.ones((h, w), bool), height, width)
    assert kept.all()
    assert got.mean(dtype=float) == pytest.approx(values.mean(dtype=float), abs=1e-5)
    got, kept = resized_map(values, valid, height, width)
    if kept.any():
        assert got[kept].min() >= values[valid].min() - 1e-5
        assert got[kept].max() <= values[valid].max() + 1e-5
    assert (got[~kept] == 0).all()


@given(sides, sides, sides, sides, seeds)
def test_flip_commutes_with_resize(h: int, w: int, height: int, width: int, seed: int) -> None:
    values, valid = drawn(seed, h, w, 3)
    image = (np.abs(values) * 20).astype(np.uint8)
    flipped = resized_image(image[:, ::-1], height, width)
    np.testing.assert_array_equal(flipped, resized_image(image, height, width)[:, ::-1])
    for resize in (resized_map, resized_normals):
        got, kept = resize(values[:, ::-1], valid[:, ::-1], height, width)
        expected, expected_kept = resize(values, valid, height, width)
        if resize is resized_normals and not np.array_equal(kept, expected_kept[:, ::-1]):
            continue  # a mean of length 1e-3, within rounding
        np.testing.assert_array_equal(kept, expected_kept[:, ::-1])
        np.testing.assert_allclose(got, expected[:, ::-1], atol=1e-5)
    if w % 2 or width % 2 == 0:  # otherwise the middle column has two nearest ones
        labels = image[..., 0]
        got, kept = resized_labels(labels[:, ::-1], valid[:, ::-1], height, width)
        expected, expected_kept = resized_labels(labels, valid, height, width)
        np.testing.assert_array_equal(got, expected[:, ::-1])
        np.testing.assert_array_equal(kept, expected_kept[:, ::-1])


@given(sides, sides, sides, sides, seeds, st.sampled_from([np.nan, np.inf, -np.inf, 3e38]))
def test_what_invalid_pixels_hold_never_leaks(h, w, height, width, seed, junk) -> None:
    values, valid = drawn(seed, h, w, 3)
    dirty = np.where(valid[..., None], values, np.float32(junk))
    for resize in (resized_map, resized_normals):
        got, kept = resize(dirty, valid, height, width)
        expected, expected_kept = resize(values, valid, height, width)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(kept, expected_kept)
        assert np.isfinite(got).all()


@given(sides, sides, sides, sides, seeds)
def test_masks_go_by_half_of_area_and_pictures_by_all_of_it(h, w, height, width, seed) -> None:
    values, inside = drawn(seed, h, w, 3)
    # Exactly, by cutting every pixel of both sizes into the pieces that they share.
    fine = np.repeat(np.repeat(inside, height, 0), width, 1).reshape(height, h, width, w)
    expected = 2 * fine.sum((1, 3)) >= h * w
    np.testing.assert_array_equal(resized_mask(inside, height, width), expected)
    image = (np.abs(values) * 20).clip(0, 200).astype(np.uint8)
    white = np.where(inside[..., None], image, np.uint8(255))
    small, other = (
        resized(RawSample(each, {}, {}, inside=inside, counted=inside), height, width)
        for each in (image, white)
    )
    # White outside the picture never colours a pixel inside.
    np.testing.assert_array_equal(other.image[small.inside], small.image[small.inside])
    np.testing.assert_array_equal(small.inside, fine.all((1, 3)))
    np.testing.assert_array_equal(small.counted, expected)


@given(sides, sides, sides, sides, seeds)
def test_labels_are_those_under_centre(h: int, w: int, height: int, width: int, seed: int) -> None:
    _, valid = drawn(seed, h, w)
    labels = np.arange(h * w).reshape(h, w)
    got, kept = resized_labels(labels, valid, height, width)
    rows, columns = np.divmod(got[kept], w)
    place = np.argwhere(kept)
    for index, old, new, axis in ((rows, h, height, 0), (columns, w, width, 1)):
        centre = (place[:, axis] + 0.5) * old / new
        assert (np.abs(centre - (index + 0.5)) <= 0.5 + 1e-9).all()
    assert valid.ravel()[got[kept]].all()


@settings(max_examples=30)
@given(sides, sides, seeds)
def test_equal_size_changes_nothing(h: int, w: int, seed: int) -> None:
    values, valid = drawn(seed, h, w, 3)
    for resize in (resized_map, resized_normals):
        got, kept = resize(values, valid, h, w)
        np.testing.assert_array_equal(got, np.where(valid[..., None], values, 0))
        np.testing.assert_array_equal(kept, valid)
    labels = (np.abs(values[..., 0]) * 10).astype(np.uint8)
    np.testing.assert_array_equal(resized_labels(labels, valid, h, w)[0][valid], labels[valid])
    np.testing.assert_array_equal(resized_mask(valid, h, w), valid)
