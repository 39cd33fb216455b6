"""Dominance and coverage by definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.compute.dominance import covered_by, dominates

points = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.integers(0, 3).map(float)
)


def test_dominance_is_weak_everywhere_and_strict_somewhere():
    assert dominates(np.array([1, 1]), np.array([1, 2]))
    assert not dominates(np.array([1, 1]), np.array([1, 1]))
    assert not dominates(np.array([0, 2]), np.array([1, 1]))


@settings(max_examples=50)
@given(points, points)
def test_coverage_is_that_of_the_definition(a, b):
    a.flags.writeable = False
    wanted = [any((x <= y).all() and (x < y).any() for x in a) for y in b]
    assert covered_by(a, b).tolist() == wanted


def test_values_that_are_not_finite_are_refused():
    bad, good = np.array([[0.0, np.nan]]), np.ones((1, 2))
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match="finite"):
            covered_by(*pair)
