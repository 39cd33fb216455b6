"""Controllability: curves whose answers are plain."""

import numpy as np
import pytest
from scipy import stats

from analysis.compute.controllability import control

THIRDS = (0.25, 0.5, 0.75)


def test_metric_that_rises_evenly():
    found = control(THIRDS, np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, 5.0]]))
    assert (found.rank_correlation, found.violations, found.num_steps) == (1.0, 0, 2)
    assert found.span == 2.0
    assert found.evenness == pytest.approx(1.0)
    # Three seeds of one correlation: any resample of them is the same, which is no certainty.
    assert (found.interval, found.num_agreeing) == (None, 3)


def test_falling_and_constant_metrics():
    found = control(THIRDS, np.array([[3.0, 2.0, 1.0]]))
    assert (found.rank_correlation, found.violations, found.interval) == (-1.0, 2, None)
    still = control(THIRDS, np.array([[1.0, 1.0, 1.0]]))
    assert (still.rank_correlation, still.span, still.evenness) == (None, 0.0, None)


def test_evenness_by_hand():
    # Steps of 1 and 3: shares 1/4 and 3/4, entropy 0.5623 of at most ln 2 = 0.6931.
    found = control(THIRDS, np.array([[0.0, 1.0, 4.0]]))
    assert found.evenness == pytest.approx(0.5623 / 0.6931, abs=1e-3)
    # One step moves all: 0.
    assert control(THIRDS, np.array([[0.0, 0.0, 4.0]])).evenness == 0.0


def test_correlation_is_kendalls_of_each_seed_in_any_order():
    generator = np.random.default_rng(4)
    print("seed 4")
    gains = generator.normal(size=(3, 5))
    priorities = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    found = control(priorities, gains)
    taus = [stats.kendalltau(priorities, curve).statistic for curve in gains]
    assert found.rank_correlation == pytest.approx(np.mean(taus))
    order = generator.permutation(5)
    again = control(priorities[order], gains[:, order])
    assert again == found
    assert found.interval is not None
    assert found.interval[0] <= found.rank_correlation <= found.interval[1]


def test_points_that_share_a_priority_are_averaged():
    # Three tasks: two points give this task 0.2, with mean gain 1; one gives it 0.6.
    found = control((0.2, 0.2, 0.6), np.array([[0.0, 2.0, 3.0]]))
    assert (found.num_steps, found.span, found.violations) == (1, 2.0, 0)
