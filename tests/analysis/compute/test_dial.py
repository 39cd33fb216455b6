"""Networks between forks against the straight line between these, in closed form."""

import numpy as np
import pytest

from analysis.compute.dial import Ends, dial
from analysis.compute.fronts import Reference
from analysis.load.axes import choose_axes

# The first is better the lower, the second the higher.
AXES = choose_axes(("depth", "segmentation"), {"depth": "rmse"})
REFERENCE = Reference((2.0, 0.0), "given")
A, B, BETWEEN = (0.25, 0.75), (0.75, 0.25), (0.375, 0.625)


def held(*points, seeds=(0, 1)):
    """Return priorities -> seed -> metrics, the seeds on both sides of the point."""
    return {
        priorities: {seed: np.array(metrics) + 0.01 * (2 * k - 1) for k, seed in enumerate(seeds)}
        for priorities, metrics in points
    }


FORKS = held((A, (1.5, 0.9)), (B, (0.5, 0.1)))


def test_gain_and_hypervolume_are_those_of_the_closed_form():
    # A quarter of the way from A: the line is at (1.25, 0.7).
    found = dial(
        "lsb", FORKS, held((BETWEEN, (1.0, 0.8))), {BETWEEN: Ends(A, B, 0.25)}, AXES, REFERENCE
    )
    (point,) = found.points
    assert point.gains == pytest.approx((0.25, 0.1))
    assert found.mean_gains == found.least_gains == point.gains
    assert point.means == pytest.approx((1.0, 0.8))
    # Rectangles from (2, 0): 0.5 x 0.9 of A, 1.5 x 0.1 of B; 1.0 x 0.8 of the network between.
    assert found.hypervolume_forks == pytest.approx(0.5 * 0.9 + 1.0 * 0.1)
    assert found.hypervolume == pytest.approx(0.5 * 0.9 + 0.5 * 0.8 + 0.5 * 0.1)
    assert (found.num_forks, found.seeds) == (2, (0, 1))


def test_network_on_the_line_gains_nothing_and_a_dominated_one_adds_nothing():
    on, below = (0.5, 0.5), (0.6, 0.4)
    ends = {on: Ends(A, B, 0.5), below: Ends(A, B, 0.7)}
    found = dial("lsb", FORKS, held((on, (1.0, 0.5)), (below, (1.6, 0.05))), ends, AXES, REFERENCE)
    by_priorities = {point.priorities: point.gains for point in found.points}
    assert by_priorities[on] == pytest.approx((0, 0))
    assert by_priorities[below] == pytest.approx((0.8 - 1.6, 0.05 - 0.34))
    assert found.mean_gains == pytest.approx((-0.4, -0.145))
    assert found.least_gains == pytest.approx((-0.8, -0.29))
    assert found.hypervolume == pytest.approx(0.5 * 0.9 + 0.5 * 0.5 + 0.5 * 0.1)


def test_only_seeds_that_all_have_and_networks_with_both_forks_count():
    mixed = held((BETWEEN, (1.0, 0.8)), seeds=(1, 2))
    ends = {BETWEEN: Ends(A, B, 0.25)}
    found = dial("lsb", FORKS, mixed, ends, AXES, REFERENCE)
    assert found.seeds == (1,)
    assert (
        dial("lsb", FORKS, held((BETWEEN, (1.0, 0.8)), seeds=(2,)), ends, AXES, REFERENCE) is None
    )
    assert dial("lsb", {A: FORKS[A]}, mixed, ends, AXES, REFERENCE) is None
