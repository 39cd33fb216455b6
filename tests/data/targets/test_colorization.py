"""Filling of holes against the definition written out pixel by pixel and solved densely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.data.targets.colorization import fill, fill_normals
from mtl.data.targets.derive import luminance


def reference_weights(image: np.ndarray) -> np.ndarray:
    """Return W, (pixels, pixels), as the definition reads."""
    grey = luminance(image)
    height, width = grey.shape
    weights = np.zeros((grey.size, grey.size))
    for i in range(height):
        for j in range(width):
            near = [
                (r, c)
                for r in range(max(0, i - 1), min(height, i + 2))
                for c in range(max(0, j - 1), min(width, j + 2))
                if (r, c) != (i, j)
            ]
            centre = grey[i, j]
            window = np.array([grey[p] for p in near] + [centre])
            squared = (window[:-1] - centre) ** 2
            spread = max(0.6 * window.var(), -squared.min() / np.log(0.01), 2e-6)
            row = np.exp(-squared / spread)
            for (r, c), weight in zip(near, row / row.sum(), strict=True):
                weights[i * width + j, r * width + c] = weight
    return weights


def reference_fill(
    values: np.ndarray, known: np.ndarray, image: np.ndarray, exact: bool
) -> np.ndarray:
    system = np.eye(known.size) - reference_weights(image)
    mask, flat = known.reshape(-1), np.where(known, values, 0).reshape(-1)
    if exact:
        solution = np.linalg.solve(system + np.diag(mask.astype(float)), flat)
    else:
        fixed = np.where(mask[:, None], np.eye(known.size), system)
        solution = np.linalg.solve(fixed, flat)
    return np.where(known, values, solution.reshape(known.shape))


def random_case(seed: int, height: int = 9, width: int = 12) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if seed % 2:  # flat areas, where the floor of the spread holds
        image[:, : width // 2] = 90
    values = rng.uniform(0.7, 10, (height, width))
    known = rng.random((height, width)) < (0.85, 0.5, 0.05)[seed % 3]
    known[seed % height, 0] = True
    return values, known, image


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_dense_solution(seed: int, exact: bool) -> None:
    values, known, image = random_case(seed)
    got, present = fill(values, known, image, exact=exact)
    np.testing.assert_allclose(got, reference_fill(values, known, image, exact), rtol=1e-9)
    assert present.all()


def test_closed_forms_in_uniform_image() -> None:
    def grey(*shape: int) -> np.ndarray:
        return np.full((*shape, 3), 7, np.uint8)

    # One hole is the mean of its eight neighbours, and the pulled system keeps constants too.
    values = np.arange(9.0).reshape(3, 3) ** 2
    known = np.ones((3, 3), bool)
    known[1, 1] = False
    got, _ = fill(values, known, grey(3, 3))
    assert got[1, 1] == pytest.approx((np.sum(values) - values[1, 1]) / 8)
    constant, _ = fill(np.full((3, 3), 2.5), known, grey(3, 3), exact=True)
    assert constant[1, 1] == pytest.approx(2.5)
    # A line is filled linearly, and a plane stays a plane.
    known = np.array([[True, False, False, False, True]])
    got, _ = fill(np.array([[1.0, 0, 0, 0, 5.0]]), known, grey(1, 5))
    np.testing.assert_allclose(got, [[1, 2, 3, 4, 5]])
    rows, columns = np.indices((12, 15)).astype(float)
    plane = 1 + 0.1 * rows + 0.2 * columns
    known = np.ones(plane.shape, bool)
    known[3:9, 4:11] = False
    got, _ = fill(np.where(known, plane, np.nan), known, grey(12, 15))
    np.testing.assert_allclose(got, plane, rtol=1e-12)


def test_hole_follows_side_that_looks_like_it() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    values = np.where(np.arange(8) < 4, 1.0, 9.0) * np.ones((8, 1))
    known = np.ones((8, 8), bool)
    known[2:6, 2:6] = False
    got, _ = fill(values, known, image)
    assert np.abs(got - values).max() < 0.05


@pytest.mark.parametrize(
    ("exact", "channels", "dtype"),
    [(False, (), np.float64), (False, (3,), np.float32), (True, (3,), np.float32)],
)
def test_known_values_stay_and_second_fill_changes_nothing(exact, channels, dtype) -> None:
    _, known, image = random_case(3)
    values = np.random.default_rng(5).normal(size=(*known.shape, *channels)).astype(dtype)
    values[~known] = np.nan
    before = values.copy()
    once, _ = fill(values, known, image, exact=exact)
    twice, _ = fill(once, known, image, exact=exact)
    all_known, _ = fill(once, np.ones_like(known), image, exact=exact)
    assert once.dtype == dtype
    np.testing.assert_array_equal(once[known], values[known])
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(once, all_known)
    np.testing.assert_array_equal(values, before)
    assert np.isfinite(once).all()


def test_channels_are_filled_alike() -> None:
    values, known, image = random_case(2)
    several = np.stack([values, 2 * values, -values], axis=-1)
    got, _ = fill(several, known, image)
    for channel in range(3):
        np.testing.assert_allclose(got[..., channel], fill(several[..., channel], known, image)[0])


@given(st.integers(0, 10_000), st.floats(0, 1), st.booleans())
@settings(max_examples=40)
def test_filled_values_lie_between_known_ones(seed: int, share: float, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2)
    image = (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    known = rng.random((height, width)) < share
    values = rng.normal(size=(height, width))
    got, present = fill(values, known, image, exact=exact)
    if known.any():
        assert present.all()
        assert values[known].min() <= got.min() <= got.max() <= values[known].max()
    else:  # nothing known is not filled
        assert not present.any()
        assert not got.any()


def test_filled_normals_have_unit_length_and_known_ones_stay() -> None:
    _, known, image = random_case(4)
    normals = np.random.default_rng(1).normal(size=(*known.shape, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    got, present = fill_normals(normals, known, image)
    np.testing.assert_array_equal(got[known], normals[known])
    np.testing.assert_allclose(np.linalg.norm(got[present], axis=-1), 1)
    assert present[known].all()
    per_channel, _ = fill(normals, known, image)
    hole = tuple(np.argwhere(~known & present)[0])
    np.testing.assert_allclose(got[hole], per_channel[hole] / np.linalg.norm(per_channel[hole]))


def test_normals_that_cancel_out_are_not_present() -> None:
    normals = np.array([[[1.0, 0, 0], [0, 0, 0], [-1.0, 0, 0]]])
    known = np.array([[True, False, True]])
    got, present = fill_normals(normals, known, np.zeros((1, 3, 3), np.uint8))
    assert present.tolist() == [[True, False, True]]
    assert not got[0, 1].any()


def test_known_values_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite known values"):
        fill(np.full((4, 4), np.nan), np.ones((4, 4), bool), np.zeros((4, 4, 3), np.uint8))
