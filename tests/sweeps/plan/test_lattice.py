"""Lattices against closed forms, and their order against its definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.plan.lattice import coarse_to_fine, simplex_lattice


@given(num_tasks=st.integers(1, 5), divisions=st.integers(1, 12))
def test_lattice_has_the_closed_form_number_of_points(num_tasks, divisions):
    whole = simplex_lattice(num_tasks, divisions, interior=False)
    assert len(whole) == len(set(whole)) == math.comb(divisions + num_tasks - 1, num_tasks - 1)
    inside = [point for point in whole if min(point) > 0]
    if divisions >= num_tasks:
        assert list(simplex_lattice(num_tasks, divisions)) == inside
        assert len(inside) == math.comb(divisions - 1, num_tasks - 1)
    for point in whole:
        assert sum(point) == pytest.approx(1, abs=1e-12)


def test_lattice_of_two_tasks_in_quarters():
    assert simplex_lattice(2, 4) == ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
    assert simplex_lattice(2, 2, interior=False) == ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0))
    assert simplex_lattice(1, 5) == ((1.0,),)


@pytest.mark.parametrize(
    ("num_tasks", "divisions", "says"),
    [(2, 1, "--divisions 2 or more"), (4, 1, "--divisions 4 or more"), (0, 3, "at least 1 task")],
)
def test_lattice_without_an_interior_is_refused(num_tasks, divisions, says):
    with pytest.raises(ValueError, match=says):
        simplex_lattice(num_tasks, divisions)


def test_coarse_to_fine_order_of_the_default_job():
    firsts = [point[0] for point in coarse_to_fine(simplex_lattice(2, 6))]
    assert firsts == pytest.approx([1 / 2, 1 / 6, 5 / 6, 1 / 3, 2 / 3])


def farthest_first(points):
    """The order by its definition, in quadratic time."""
    coordinates = np.array(points)

    def squared(point):
        return np.round(((coordinates - point) ** 2).sum(axis=1), 9)

    chosen = int(np.argmin(squared(coordinates.mean(axis=0))))
    nearest = np.full(len(points), np.inf)
    order = []
    for _ in points:
        order.append(points[chosen])
        nearest = np.minimum(nearest, squared(coordinates[chosen]))
        nearest[chosen] = -1.0
        chosen = int(np.argmax(nearest))
    return tuple(order)


@pytest.mark.parametrize(("num_tasks", "divisions"), [(2, 101), (2, 400), (3, 6), (3, 30), (4, 9)])
def test_coarse_to_fine_is_the_farthest_first_order(num_tasks, divisions):
    points = simplex_lattice(num_tasks, divisions)
    assert coarse_to_fine(points) == farthest_first(points)
    uneven = (*points[::-3], *points[:5], *points[:5])  # in another order, some twice
    assert coarse_to_fine(uneven) == farthest_first(uneven)
