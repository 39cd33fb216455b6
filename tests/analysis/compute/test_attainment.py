"""Attainment: by hand, against brute force, against moocore where that is right."""

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.compute.attainment import (
    attained_share,
    attainment_band,
    attainment_cells,
    attainment_surface,
)
from analysis.load.axes import Axis
from mtl.records import METRICS

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
    share = attained_share(seeds, np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    assert share.tolist() == [[0, 0, 0.5], [0, 0.5, 1], [0.5, 1, 1]]
    assert attainment_surface(seeds, 1.0).tolist() == [[1, 2], [2, 1]]
    assert attainment_surface(seeds, 0.5).tolist() == [[0, 2], [1, 1], [2, 0]]


@given(seeds_of_results, st.tuples(st.floats(-1, 8), st.floats(-1, 8)))
def test_share_is_that_of_the_definition(seeds, z):
    share = attained_share(seeds, np.array([z[0]]), np.array([z[1]]))[0, 0]
    assert share == pytest.approx(np.mean([attains(points, z) for points in seeds]))


@given(seeds_of_results, seeds_of_results, st.tuples(st.floats(0, 8), st.floats(0, 8)))
def test_difference_is_exact_with_unequal_numbers_of_seeds(a, b, z):
    found = attainment_cells(a, b, *BOX, MANY)
    assert found.is_exact
    i = np.searchsorted(found.x_edges, z[0], side="right") - 1
    j = np.searchsorted(found.y_edges, z[1], side="right") - 1
    value = found.difference[i, j]
    wanted = np.mean([attains(p, z) for p in a]) - np.mean([attains(p, z) for p in b])
    assert value == pytest.approx(wanted)
    turned = attainment_cells(b, a, *BOX, MANY)
    assert (turned.difference == -found.difference).all()


@given(seeds_of_results, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_of_seeds_matters(seeds, random):
    other = [points[random.sample(range(len(points)), len(points))] for points in seeds]
    random.shuffle(other)
    for share in (0.25, 0.5, 1.0):
        assert (attainment_surface(seeds, share) == attainment_surface(other, share)).all()


@given(seeds_of_results, st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_surface_is_attained_by_so_many_and_nothing_better_is(seeds, share):
    corners = attainment_surface(seeds, share)
    for x, y in corners:
        assert np.mean([attains(points, (x, y)) for points in seeds]) >= share - 1e-9
        # A hair better on one axis is attained by fewer.
        for z in ((x - 1e-6, y), (x, y - 1e-6)):
            assert np.mean([attains(points, z) for points in seeds]) < share - 1e-9
    assert (np.diff(corners[:, 0]) > 0).all()
    assert (np.diff(corners[:, 1]) < 0).all()


def test_surfaces_are_moocores_on_sorted_rows():
    generator = np.random.default_rng(3)
    print("seed 3")
    seeds = [generator.random((6, 2)).round(2) for _ in range(5)]
    rows = np.concatenate(seeds)
    sets = np.repeat(np.arange(5), 6)
    for percent in (20, 40, 60, 80, 100):
        theirs = moocore.eaf(rows, sets, percentiles=[percent])[:, :2]
        ours = attainment_surface(seeds, percent / 100)
        assert sorted(map(tuple, theirs)) == sorted(map(tuple, ours))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "at least one seed"),
        ([np.zeros((0, 2))], "a seed without any"),
        ([np.array([[np.nan, 1.0]])], "finite"),
        ([np.array([[np.inf, 1.0]])], "finite"),
        ([np.zeros((2, 3))], "two axes"),
    ],
)
def test_what_cannot_be_attained_is_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        attainment_surface(seeds, 0.5)
    with pytest.raises(ValueError, match=message):
        attainment_cells(seeds, [np.zeros((1, 2))], *BOX, MANY)


def test_inputs_may_be_read_only():
    points = np.array([[0.0, 1.0]])
    points.flags.writeable = False
    assert not attainment_cells([points], [points], *BOX, MANY).difference.any()
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        attainment_surface([points], 0.0)


def test_the_band_by_hand_in_metric_units():
    # Higher is better on both. Four seeds of one point each: (.2, .8), (.4, .6), (.6, .4), (.3, .3)
    # over the reference (0, 0). Two of four attain (.4, .4) (the second and third) and (.2, .6)
    # (the first and second); three attain (.3, .3) (all but the first) and (.2, .4) (all but the
    # last).
    axes = (Axis("depth", METRICS["delta1"]), Axis("segmentation", METRICS["miou"]))
    seeds = [np.array([p]) for p in ((0.2, 0.8), (0.4, 0.6), (0.6, 0.4), (0.3, 0.3))]
    band = attainment_band(seeds, np.array([0.0, 0.0]), axes)
    assert band.num_seeds == 4
    assert {(0.4, 0.4), (0.2, 0.6)} <= set(band.median)
    assert (band.median[0][1], band.median[-1][0]) == (0.0, 0.0)
    assert band.outline[0] == band.outline[-1]
    # Area of the outline = area that a quarter attain minus what three quarters do:
    # .6 x .4 + .4 x .2 + .2 x .2 = .36, and .3 x .3 + .2 x .1 = .11.
    assert polygon_area(band.outline) == pytest.approx(0.36 - 0.11)


@given(seeds_of_results)
def test_the_band_lies_between_its_surfaces(seeds):
    axes = (Axis("depth", METRICS["rmse"]), Axis("segmentation", METRICS["miou"]))
    turned = [points * np.array([1.0, -1.0]) for points in seeds]
    corner = np.array([7.0, 7.0])
    band = attainment_band(turned, corner * np.array([1.0, -1.0]), axes)
    # Every value is below 7, so every seed attains something in the box.
    surfaces = [attainment_surface(seeds, share) for share in (0.25, 0.75)]
    areas = [moocore.hypervolume(points, ref=corner) for points in surfaces]
    assert polygon_area(band.outline) == pytest.approx(areas[0] - areas[1])
    median = attainment_surface(seeds, 0.5) * np.array([1.0, -1.0])
    assert set(map(tuple, median)) <= set(band.median)


def test_a_band_outside_the_box_is_empty():
    axes = (Axis("depth", METRICS["delta1"]), Axis("segmentation", METRICS["miou"]))
    band = attainment_band([np.array([[0.1, 0.1]])], np.array([0.5, 0.5]), axes)
    assert (band.median, band.outline) == ((), ())
    # One of two seeds in the box: the band reaches down to the reference.
    two = [np.array([[0.1, 0.1]]), np.array([[0.6, 0.7]])]
    band = attainment_band(two, np.array([0.5, 0.5]), axes)
    assert polygon_area(band.outline) == pytest.approx(0.1 * 0.2)


def polygon_area(outline) -> float:
    if not outline:
        return 0.0
    x, y = np.array(outline).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2
