"""Places in the triangle of priorities, and differences of methods there."""

import math

import numpy as np
import pytest

from analysis.compute.ternary import CORNERS, differences, in_triangle
from analysis.load.axes import choose_axes

AXES = choose_axes(("depth", "normal", "segmentation"), {"depth": "rmse"})
# depth rmse counts downwards, the other two upwards.
P, Q = (0.2, 0.3, 0.5), (0.6, 0.2, 0.2)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers)


RUNS = {
    ("lsb", P): {0: values(1.0, 0.5, 0.5), 1: values(2.0, 0.6, 0.5), 7: values(9.0, 0.0, 0.0)},
    ("fixed", P): {0: values(1.5, 0.4, 0.5), 1: values(1.0, 0.8, 0.5), 3: values(0.0, 1.0, 1.0)},
    ("lsb", Q): {0: values(1.0, 0.5, 0.5)},
    ("fixed", Q): {2: values(1.0, 0.5, 0.5)},
    ("equal", None): {0: values(1.0, 1.0, 1.0)},
}


def test_corners_centre_and_sides():
    places = in_triangle(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.5, 0.5, 0]]))
    assert places[:3].tolist() == [list(corner) for corner in CORNERS]
    # The centre is a third of the height above the base: (sqrt(3) / 2) / 3.
    assert places[3] == pytest.approx([0.5, math.sqrt(3) / 6])
    assert places[4] == pytest.approx([0.5, 0.0])
    sides = [math.dist(CORNERS[a], CORNERS[b]) for a, b in ((0, 1), (1, 2), (2, 0))]
    assert sides == pytest.approx([1, 1, 1])


def test_distance_to_the_opposite_side_is_the_priority():
    generator = np.random.default_rng(11)
    shares = generator.dirichlet((1, 1, 1), size=50)
    places = in_triangle(shares)
    height = math.sqrt(3) / 2
    assert places[:, 1] / height == pytest.approx(shares[:, 2])
    # Line through the second and third corner: sqrt(3) x + y = sqrt(3).
    distance = (math.sqrt(3) - math.sqrt(3) * places[:, 0] - places[:, 1]) / 2
    assert distance / height == pytest.approx(shares[:, 0])


@pytest.mark.parametrize(
    "wrong", [[[0.5, 0.5]], [0.2, 0.3, 0.5], [[-0.1, 0.6, 0.5]], [[np.nan, 0.5, 0.5]], [[0, 0, 0]]]
)
def test_other_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        in_triangle(np.array(wrong))


def test_difference_over_the_seeds_of_both():
    (found,) = differences(RUNS, "lsb", "fixed", AXES)
    assert found.priorities == P  # at the other priority no seed is shared
    assert found.seeds == (0, 1)
    # rmse falls from 1.5 to 1.0 (gain 0.5) and rises from 1.0 to 2.0 (-1.0): mean -0.25.
    # normal: 0.1 and -0.2, mean -0.05. segmentation: equal.
    assert found.gains == pytest.approx((-0.25, -0.05, 0.0))
    assert found.seeds_better == (0.5, 0.5, 0.5)
    (turned,) = differences(RUNS, "fixed", "lsb", AXES)
    assert turned.gains == pytest.approx((0.25, 0.05, 0.0))
    assert differences(RUNS, "lsb", "equal", AXES) == ()
    assert differences(RUNS, "lsb", "nobody", AXES) == ()
