"""What is attainable before any result."""

import numpy as np
import pytest

from analysis.compute.inference import seed_difference_test
from analysis.compute.significance import SIGNIFICANCE, holm, min_seeds, minimum_p


@pytest.mark.parametrize("num_seeds", [1, 2, 5, 6, 13, 14, 20])
def test_minimum_p_is_that_of_the_most_extreme_outcome(num_seeds):
    # All differences are alike: only exchanging everything is as extreme, unless drawn by chance.
    p, least = seed_difference_test(np.ones(num_seeds))
    assert least == minimum_p(num_seeds)
    assert p == least or num_seeds == 14


@pytest.mark.parametrize(
    ("num_comparisons", "seeds"), [(1, 6), (2, 7), (3, 7), (6, 8), (15, 10), (204, 13), (409, 14)]
)
def test_min_seeds_are_the_fewest_that_holm_leaves_significant(num_comparisons, seeds):
    assert min_seeds(num_comparisons) == seeds
    for number, is_enough in ((seeds, True), (seeds - 1, False)):
        adjusted = holm([minimum_p(number)] * num_comparisons)
        assert (min(adjusted) < SIGNIFICANCE) == is_enough


def test_too_many_comparisons_are_beyond_drawn_permutations():
    assert min_seeds(410) is None


def test_holm_by_hand():
    # .01 x 3 = .03; .03 x 2 = .06; .04 x 1 = .04 but never below the one before: .06.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
