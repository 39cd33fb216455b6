"""Budgets: expected hypervolumes against every subset, runs to match and intervals by hand."""

import itertools

import numpy as np
import pytest

from analysis.compute import budget
from analysis.compute.budget import (
    budget_curve,
    dominance_volumes,
    expected_hypervolumes,
    overheads,
    runs_to_match,
)
from analysis.compute.fronts import Reference, hypervolume, minimised_hypervolume
from analysis.load.axes import choose_axes

AXES = choose_axes(("depth", "segmentation"))
"""delta1 and miou, shares of which more is better."""
ZERO = Reference((0.0, 0.0), "nothing")


@pytest.mark.parametrize("num_axes", [1, 2, 3, 4])
def test_expected_hypervolume_is_the_mean_over_all_subsets(num_axes):
    print("seed 1")
    generator = np.random.default_rng(1)
    points = generator.random((6, num_axes))
    points[1] = points[0]  # a duplicate
    points[2] = 1.5  # worse than the reference: adds nothing
    points[3, 0] = points[4, 0]
    reference = np.ones(num_axes)
    volumes = dominance_volumes(points, reference)
    found = expected_hypervolumes(volumes, range(1, 7))
    for number, value in zip(range(1, 7), found, strict=True):
        subsets = [list(s) for s in itertools.combinations(range(6), number)]
        brute = np.mean([minimised_hypervolume(points[s], reference) for s in subsets])
        assert value == pytest.approx(brute, rel=1e-12)


def test_volumes_by_hand():
    # Boxes towards (1, 1) from (0, .5) and (.5, 0): each alone has 1/4, both have 1/4, none 1/4.
    points = np.array([[0.0, 0.5], [0.5, 0.0]])
    volumes = dominance_volumes(points, np.ones(2))
    assert volumes.tolist() == [0.25, 0.5, 0.25]
    # One of two: 1/2; both: 3/4.
    assert expected_hypervolumes(volumes, [1, 2]).tolist() == [0.5, 0.75]


def test_a_front_worse_than_the_reference_has_no_volume():
    volumes = dominance_volumes(np.array([[2.0, 0.0], [0.0, 1.0]]), np.ones(2))
    assert expected_hypervolumes(volumes, [1, 2]).tolist() == [0.0, 0.0]


def test_thousands_of_points_neither_overflow_nor_lose_the_end():
    print("seed 2")
    points = np.random.default_rng(2).random((2_000, 2))
    curve = budget_curve("lsb", points[:, None, :], ZERO, AXES)
    assert curve.is_exact
    assert len(curve.num_runs) <= budget.MOST_BUDGETS
    assert (curve.num_runs[0], curve.num_runs[-1]) == (1, 2_000)
    assert curve.expected[-1] == pytest.approx(hypervolume(points, ZERO, AXES), rel=1e-9)
    # One priority: the mean over the single boxes.
    assert curve.expected[0] == pytest.approx(points.prod(axis=1).mean(), rel=1e-9)
    assert (np.diff(curve.expected) > 0).all()


def test_sampled_volumes_come_near_the_exact_ones(monkeypatch):
    print("seed 3")
    runs = np.random.default_rng(3).uniform(0.3, 0.9, (9, 3, 2))
    exact = budget_curve("lsb", runs, ZERO, AXES)
    monkeypatch.setattr(budget, "MOST_CELLS", 10)
    monkeypatch.setattr(budget, "MOST_CELLS_RESAMPLED", 10)
    sampled = budget_curve("lsb", runs, ZERO, AXES)
    assert (exact.is_exact, sampled.is_exact, sampled.sampling_seed) == (True, False, 0)
    np.testing.assert_allclose(sampled.expected, exact.expected, rtol=1e-3)
    np.testing.assert_allclose(sampled.interval, exact.interval, rtol=5e-3)
    again = budget_curve("lsb", runs, ZERO, AXES)
    assert again.expected == sampled.expected


def test_interval_of_three_seeds_by_hand():
    # One priority, boxes .35, .4 and .45 x 1; the mean .4. Of 27 resamples two lie .05 from it,
    # six .05 * 2 / 3; the 95 % point of the distances is at .95 * 26 = 24.7 between them, .045.
    # That times sqrt(3 / 2) and Student's over the normal quantile, 4.3027 / 1.9600.
    boxes = np.array([[[0.35, 1.0], [0.4, 1.0], [0.45, 1.0]]])
    curve = budget_curve("lsb", boxes, ZERO, AXES)
    assert curve.expected == (pytest.approx(0.4),)
    reach = 0.045 * np.sqrt(1.5) * 4.30265 / 1.95996
    assert curve.interval == (pytest.approx((0.4 - reach, 0.4 + reach), abs=1e-6),)
    # Four times as far apart it would reach below 0, where no volume is.
    wide = budget_curve("lsb", np.array([[[0.2, 1.0], [0.4, 1.0], [0.6, 1.0]]]), ZERO, AXES)
    assert wide.interval == (pytest.approx((0.0, 0.4 + 4 * reach), abs=1e-6),)


def test_the_interval_covers_the_truth_of_whole_seeds():
    # Three priorities, three seeds; a seed moves all priorities alike. Without Student's quantile
    # .74 of the intervals held the truth.
    print("seed 5")
    generator = np.random.default_rng(5)
    truth = np.array([[0.4, 0.8], [0.6, 0.6], [0.8, 0.4]])
    volume = hypervolume(truth, ZERO, AXES)
    covered = []
    for _ in range(600):
        seeds = generator.normal(0, 0.01, (1, 3, 2))
        runs = truth[:, None] + seeds + generator.normal(0, 0.003, (3, 3, 2))
        interval = budget_curve("lsb", runs, ZERO, AXES).interval
        assert interval is not None
        covered.append(interval[-1][0] <= volume <= interval[-1][1])
    print(f"covered {np.mean(covered):.3f}")
    # .93 is claimed; the standard error of the share is .01.
    assert 0.90 <= np.mean(covered) <= 0.99


def test_two_seeds_give_no_interval():
    curve = budget_curve("lsb", np.array([[[0.2, 1.0], [0.4, 1.0]]]), ZERO, AXES)
    assert (curve.interval, runs_to_match(curve, curve).interval) == (None, None)
    assert runs_to_match(curve, curve).num_runs == 2


def test_order_of_priorities_and_read_only_input_do_not_matter():
    print("seed 4")
    generator = np.random.default_rng(4)
    runs = generator.random((5, 3, 2))
    runs.setflags(write=False)
    curve = budget_curve("lsb", runs, ZERO, AXES)
    moved = budget_curve("lsb", runs[generator.permutation(5)], ZERO, AXES)
    np.testing.assert_allclose(moved.expected, curve.expected, rtol=1e-12)
    np.testing.assert_allclose(moved.interval, curve.interval, rtol=1e-12)
    turned = budget_curve("lsb", runs[..., ::-1], ZERO, AXES)
    np.testing.assert_allclose(turned.expected, curve.expected, rtol=1e-12)


def test_runs_to_match():
    # Boxes .5 x 1 at both priorities against .5 and .25 x 1, three seeds: from its first priority
    # on the one reaches the other's whole grid of 6 runs; the other needs both of its priorities:
    # with one it has .375 on average.
    wide = np.array([[[0.5, 1.0]] * 3, [[0.5, 1.0]] * 3])
    uneven = np.array([[[0.5, 1.0]] * 3, [[0.25, 1.0]] * 3])
    a, b = budget_curve("a", wide, ZERO, AXES), budget_curve("b", uneven, ZERO, AXES)
    match = runs_to_match(a, b)
    assert (match.num_runs, match.num_runs_rival) == (3, 6)
    assert (match.interval, match.num_agreeing) == (None, 3)  # all seeds are alike
    assert match.share_reached == 1.0
    assert runs_to_match(b, a).num_runs == 6
    lower = budget_curve("c", uneven * [0.9, 1.0], ZERO, AXES)
    never = runs_to_match(lower, a)
    assert (never.num_runs, never.interval, never.num_agreeing) == (None, None, 3)
    assert never.share_reached == 0.0


def test_curves_of_unequal_budgets_are_refused():
    runs = np.full((3, 2, 2), 0.5)
    curve = budget_curve("a", runs, ZERO, AXES)
    for other in (runs[:2], runs[:, :1]):
        with pytest.raises(ValueError, match="equal budgets"):
            runs_to_match(curve, budget_curve("b", other, ZERO, AXES))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    runs = np.full((3, 2, 2), 0.5)
    runs[1, 1, 0] = bad
    with pytest.raises(ValueError, match="finite"):
        budget_curve("a", runs, ZERO, AXES)
    with pytest.raises(ValueError, match="one priority or more"):
        budget_curve("a", np.zeros((0, 2, 2)), ZERO, AXES)


def test_overhead_is_relative_to_the_median_of_the_base():
    found = overheads({"lsb": np.array([2.0, 3.0, 4.0]), "fixed": np.array([2.0, 2.0])}, "fixed")
    assert found[0].seconds == (2.5, 3.0, 3.5)
    assert found[0].ratio == (1.25, 1.5, 1.75)
    assert found[1].ratio == (1.0, 1.0, 1.0)
