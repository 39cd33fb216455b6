"""Polynomials over the simplex of priorities."""

import numpy as np
import pytest

from analysis.compute.fitted import bernstein, between, fitted, least_sure, standard_errors
from sweeps.plan import simplex_lattice


def lattice(num_tasks, divisions):
    return np.array(simplex_lattice(num_tasks, divisions, interior=True))


def noisy(curve, seeds, sd, seed=0):
    noise = np.random.default_rng(seed).normal(0, sd, (len(curve), seeds, curve.shape[1]))
    return curve[:, None] + noise


@pytest.mark.parametrize("num_tasks", [2, 3])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_basis_sums_to_one_and_has_the_corners_as_control_points(num_tasks, degree):
    inside = bernstein(lattice(num_tasks, 7), degree)
    np.testing.assert_allclose(inside.sum(axis=1), 1)
    at_corners = bernstein(np.eye(num_tasks), degree)
    assert sorted(at_corners.max(axis=1)) == [1] * num_tasks
    assert np.count_nonzero(at_corners) == num_tasks


@pytest.mark.parametrize("num_tasks", [2, 3])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_polynomial_is_found_again_without_error(num_tasks, power):
    points = lattice(num_tasks, 8)
    curve = np.stack([points[:, 0] ** power, 1 - 2 * points[:, 1] ** power], axis=1)
    held = fitted(points, curve[:, None].repeat(3, axis=1))
    np.testing.assert_allclose(held.held_out_errors, 0, atol=1e-9)
    between = np.array([[0.3, 0.7], [0.62, 0.38]] if num_tasks == 2 else [[0.3, 0.5, 0.2]])
    expected = np.stack([between[:, 0] ** power, 1 - 2 * between[:, 1] ** power], axis=1)
    np.testing.assert_allclose(held.at(between).mean(axis=1), expected, atol=1e-9)
    np.testing.assert_allclose(held.half_widths(between), 0, atol=1e-9)


def test_noise_around_a_line_is_fitted_by_a_line_mostly():
    points = lattice(2, 8)
    line = np.stack([points[:, 0], 2 - points[:, 0]], axis=1)
    degrees = [fitted(points, noisy(line, 4, 0.05, seed)).degree for seed in range(40)]
    assert degrees.count(1) > 20


def test_held_out_error_is_that_of_a_fit_without_the_priority():
    points = lattice(2, 6)
    metrics = noisy(np.stack([points[:, 0] ** 2, points[:, 1]], axis=1), 3, 0.1)
    held = fitted(points, metrics)
    assert np.isnan(held.held_out[[0, -1]]).all()
    for left_out in range(1, len(points) - 1):
        rest = np.arange(len(points)) != left_out
        for seed in range(3):
            for axis in range(2):
                curve = np.polyfit(points[rest, 0], metrics[rest, seed, axis], held.degree)
                error = np.polyval(curve, points[left_out, 0]) - metrics[left_out, seed, axis]
                assert held.held_out[left_out, seed, axis] == pytest.approx(error)


def test_interval_covers_the_truth_as_often_as_it_says():
    points, between = lattice(2, 6), np.array([[0.42, 0.58]])
    truth = np.stack([points[:, 0] ** 2, points[:, 1]], axis=1)
    expected = np.array([0.42**2, 0.58])
    covered = []
    for seed in range(400):
        held = fitted(points, noisy(truth, 5, 0.02, seed))
        error = np.abs(held.at(between).mean(axis=1) - expected)
        covered.append(error <= held.half_widths(between))
    share = np.mean(covered)
    assert 0.92 < share < 0.98, "binomial: 0.95 +- 3 * 0.008, and what a degree too low misses"


def test_least_sure_is_where_the_seeds_differ():
    points = lattice(2, 6)
    metrics = np.stack([points[:, :1].repeat(4, axis=1)] * 2, axis=2)
    metrics[-1, :, 0] += [-0.3, 0.3, -0.1, 0.1]
    assert least_sure(fitted(points, metrics), points) == len(points) - 1
    assert least_sure(fitted(points, metrics[:, :1]), points) is None


@pytest.mark.parametrize("num_points", [1, 2])
def test_too_few_priorities_give_no_curve(num_points):
    points = lattice(2, 4)[:num_points]
    assert fitted(points, np.zeros((num_points, 3, 2))) is None


def test_constant_metric_is_no_error():
    points = lattice(2, 5)
    held = fitted(points, np.ones((len(points), 3, 2)))
    assert held.degree == 1
    np.testing.assert_allclose(held.at(points), 1)


def test_points_lie_between_nearest_neighbours():
    found = between(np.array([[0.2, 0.8], [0.4, 0.6], [0.8, 0.2]]))
    np.testing.assert_allclose(found[:, 0], [0.25, 0.3, 0.35, 0.5, 0.6, 0.7])
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_standard_error_is_that_of_the_means():
    # Means of 5 seeds: noise of sd 0.2 and 0.05 has standard errors of sd / 5 ** 0.5.
    generator = np.random.default_rng(3)
    metrics = generator.normal(0, [0.2, 0.05], (4000, 5, 2))
    np.testing.assert_allclose(standard_errors(metrics), np.array([0.2, 0.05]) / 5**0.5, rtol=0.05)
