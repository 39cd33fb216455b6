"""Attainment: by hand and against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.compute.attainment import (
    attained_share,
    attainment_difference,
    attainment_surface,
)

results = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 6).map(float)
)
seeds_of_results = st.lists(results, min_size=1, max_size=5)

BOX = (np.array([-1.0, -1.0]), np.array([9.0, 9.0]))
"""Holds every result that is drawn here."""
MANY = 1000


def attains(points: np.ndarray, z: tuple[float, float]) -> bool:
    return any(x <= z[0] and y <= z[1] for x, y in points)


def test_two_seeds_by_hand():
    # Seed 0 has (0, 2) and (2, 0), seed 1 has (1, 1): both attain (2, 1), (1, 2) and (2, 2).
    seeds = [np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([[1.0, 1.0]])]
    for points in seeds:
        points.flags.writeable = False
    share = attained_share(seeds, np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    assert share.tolist() == [[0, 0, 0.5], [0, 0.5, 1], [0.5, 1, 1]]
    assert attainment_surface(seeds, 1.0).tolist() == [[1, 2], [2, 1]]
    assert attainment_surface(seeds, 0.5).tolist() == [[0, 2], [1, 1], [2, 0]]


@settings(max_examples=50)
@given(seeds_of_results, seeds_of_results, st.tuples(st.floats(0, 8), st.floats(0, 8)))
def test_difference_is_exact_with_unequal_seeds(a, b, z):
    found = attainment_difference(a, b, *BOX, MANY)
    i = np.searchsorted(found.x_edges, z[0], side="right") - 1
    j = np.searchsorted(found.y_edges, z[1], side="right") - 1
    wanted = np.mean([attains(p, z) for p in a]) - np.mean([attains(p, z) for p in b])
    assert found.difference[i, j] == pytest.approx(wanted)
    turned = attainment_difference(b, a, *BOX, MANY)
    assert (turned.difference == -found.difference).all()
    assert turned.led == found.led[::-1]


def test_led_shares_and_largest_difference_by_hand():
    # In the box (0, 0) to (4, 4): both seeds of a attain 2 x 2 from (2, 2), b's one seed 3 x 1
    # from (1, 3): b alone leads on 1 x 1, a alone on 2 x 1; on 2 x 1 all are equal.
    a, b = [np.array([[2.0, 2.0]])] * 2, [np.array([[1.0, 3.0]])]
    found = attainment_difference(a, b, np.zeros(2), np.full(2, 4.0), MANY)
    assert found.led == (2 / 16, 1 / 16)
    i, j = found.largest()
    # Both lead by all of their seeds; a is named.
    assert (found.x_edges[i], found.y_edges[j], found.difference[i, j]) == (2.0, 2.0, 1.0)
    assert attainment_difference(a, a, np.zeros(2), np.full(2, 4.0), MANY).largest() is None


def test_coarse_cells_are_exact_at_their_best_corners():
    generator = np.random.default_rng(5)
    print("seed 5")
    a, b = ([generator.random((9, 2)) * 8 for _ in range(3)] for _ in range(2))
    found = attainment_difference(a, b, *BOX, 7)
    assert found.difference.shape == (7, 7)
    for i, x in enumerate(found.x_edges[:-1]):
        for j, y in enumerate(found.y_edges[:-1]):
            shares = [np.mean([attains(p, (x, y)) for p in side]) for side in (a, b)]
            assert found.difference[i, j] == pytest.approx(shares[0] - shares[1])


@settings(max_examples=50)
@given(seeds_of_results, st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.randoms(use_true_random=False))
def test_surface_is_what_so_many_seeds_attain_in_any_order(seeds, share, random):
    corners = attainment_surface(seeds, share)
    for x, y in corners:
        assert np.mean([attains(points, (x, y)) for points in seeds]) >= share - 1e-9
        # A hair better on one axis is attained by fewer.
        for z in ((x - 1e-6, y), (x, y - 1e-6)):
            assert np.mean([attains(points, z) for points in seeds]) < share - 1e-9
    assert (np.diff(corners[:, 0]) > 0).all()
    assert (np.diff(corners[:, 1]) < 0).all()
    other = [points[random.sample(range(len(points)), len(points))] for points in seeds]
    random.shuffle(other)
    assert (attainment_surface(other, share) == corners).all()


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "at least one seed"),
        ([np.zeros((0, 2))], "each with results"),
        ([np.array([[np.nan, 1.0]])], "finite"),
        ([np.array([[np.inf, 1.0]])], "finite"),
        ([np.zeros((2, 3))], "on two axes"),
    ],
)
def test_bad_seeds_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        attainment_surface(seeds, 0.5)
    with pytest.raises(ValueError, match=message):
        attainment_difference(seeds, [np.zeros((1, 2))], *BOX, MANY)
