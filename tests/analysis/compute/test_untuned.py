"""The untuned question and the best of a grid, by hand."""

import numpy as np
import pytest

from analysis.compute.budget import best_of_grid, untuned_question
from analysis.load.axes import choose_axes

AXES = choose_axes(("depth", "segmentation"))
"""delta1 and miou, shares of which more is better."""


def test_best_of_grid_counts_tasks_alike():
    # Relative to means .5 and 10: (+.2, -.1), (-.2, +.1) and (0, 0), where less rmse is better.
    axes = choose_axes(("segmentation", "depth"), {"depth": "rmse"})
    means = np.array([[0.4, 9.0], [0.6, 11.0], [0.5, 10.0]])
    assert best_of_grid(means, axes) == 1
    assert best_of_grid(means[::-1], axes) == 1
    assert best_of_grid(np.zeros((2, 2)), axes) == 0


def test_the_untuned_question_by_hand():
    runs = np.array([[0.5, 0.6], [0.7, 0.6]])
    grid = np.array([[[0.4, 0.5], [0.6, 0.5]], [[0.8, 0.1], [0.8, 0.1]], [[0.9, 0.9], [0.9, 0.9]]])
    on_test = untuned_question("lsb", runs, "fixed", grid, AXES, None)
    assert (on_test.chosen, on_test.chosen_on) == (2, "test")
    # The third point dominates (.6, .6), which dominates the first.
    assert (on_test.num_dominating, on_test.num_dominated, on_test.num_candidates) == (1, 1, 3)
    first = on_test.metrics[0]
    # Differences -.4 and -.2: mean -.3, sd .1414, t(.975, 1) = 12.706: reach 12.706 * .1 = 1.2706.
    assert first.difference == pytest.approx(-0.3)
    assert first.interval == pytest.approx((-1.5706, 0.9706), abs=1e-4)
    assert (first.num_seeds, first.num_seeds_better) == (2, 0)
    # On validation the first point is best; on the test split it is behind in both seeds.
    validation = grid[[2, 1, 0]]
    blind = untuned_question("lsb", runs, "fixed", grid, AXES, validation)
    assert (blind.chosen, blind.chosen_on) == (0, "validation")
    assert [m.num_seeds_better for m in blind.metrics] == [2, 2]
    with pytest.raises(ValueError, match="equal seeds"):
        untuned_question("lsb", runs[:1], "fixed", grid, AXES, None)
