"""Budgets: expected hypervolumes against every subset, runs to match and intervals by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.compute import budget
from analysis.compute.budget import (
    best_of_grid,
    budget_curve,
    dominance_volumes,
    equal_priority_question,
    expected_hypervolumes,
    run_seconds,
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
    # Nothing is better than the reference on both axes.
    none = dominance_volumes(np.array([[2.0, 0.0], [0.0, 1.0]]), np.ones(2))
    assert expected_hypervolumes(none, [1, 2]).tolist() == [0.0, 0.0]


def test_curve_of_thousands_of_points_is_finite_and_ends_right():
    print("seed 2")
    points = np.random.default_rng(2).random((2_000, 2))
    curve = budget_curve("lsb", points[:, None, :], ZERO, AXES)
    assert len(curve.num_runs) <= budget.MAX_BUDGETS
    assert (curve.num_runs[0], curve.num_runs[-1]) == (1, 2_000)
    assert curve.expected[-1] == pytest.approx(hypervolume(points, ZERO, AXES), rel=1e-9)
    # One priority: the mean over the single boxes.
    assert curve.expected[0] == pytest.approx(points.prod(axis=1).mean(), rel=1e-9)
    assert (np.diff(curve.expected) > 0).all()


def test_too_many_cells_have_no_curve(monkeypatch):
    monkeypatch.setattr(budget, "MAX_CELLS", 8)
    assert budget_curve("lsb", np.full((3, 1, 2), 0.5), ZERO, AXES) is None


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


def test_two_seeds_have_no_interval():
    curve = budget_curve("lsb", np.array([[[0.2, 1.0], [0.4, 1.0]]]), ZERO, AXES)
    assert (curve.interval, runs_to_match(curve, curve).interval) == (None, None)
    assert runs_to_match(curve, curve).num_runs == 2


def test_runs_to_match():
    # Boxes .5 x 1 at both priorities against .5 and .25 x 1, three seeds: from its first priority
    # on the one reaches the other's whole grid of 6 runs; the other needs both of its priorities:
    # with one it has .375 on average.
    wide = np.array([[[0.5, 1.0]] * 3, [[0.5, 1.0]] * 3])
    uneven = np.array([[[0.5, 1.0]] * 3, [[0.25, 1.0]] * 3])
    a, b = budget_curve("a", wide, ZERO, AXES), budget_curve("b", uneven, ZERO, AXES)
    match = runs_to_match(a, b)
    assert (match.num_runs, match.num_runs_rival) == (3, 6)
    assert (match.interval, match.share_reached) == (None, 1.0)  # all seeds are alike
    assert runs_to_match(b, a).num_runs == 6
    lower = budget_curve("c", uneven * [0.9, 1.0], ZERO, AXES)
    never = runs_to_match(lower, a)
    assert (never.num_runs, never.interval, never.share_reached) == (None, None, 0.0)


def test_interval_of_runs_to_match_holds_numbers_of_the_curves():
    print("seed 6")
    runs = np.random.default_rng(6).uniform(0.4, 0.6, (2, 4, 3, 2))
    a, b = (budget_curve(name, held, ZERO, AXES) for name, held in zip("ab", runs, strict=True))
    match = runs_to_match(a, b)
    assert match.interval is not None
    assert set(match.interval) <= {*a.num_runs, None}
    assert 0 < match.share_reached < 1


def test_seconds_are_relative_to_fixed():
    runs = pd.DataFrame(
        {
            "arm": ["lsb", "lsb", "lsb", "fixed", "fixed"],
            "method": ["lsb", "lsb", "lsb", "fixed", "fixed"],
            "epochs": [2, 2, 4, 2, 2],
            "device_seconds": [4.0, 6.0, 16.0, None, None],
            "wall_seconds": [8.0, 12.0, 32.0, 8.0, None],
        }
    )
    found = run_seconds(runs)
    assert (found.kind, found.per, found.num_silent) == ("wall", "epoch", 1)
    fixed, lsb = found.arms
    assert (fixed.arm, fixed.num_runs) == ("fixed", 1)
    assert (fixed.ratio, fixed.mean_of_run) == ((1,) * 3, 8.0)
    assert (lsb.seconds, lsb.ratio) == ((5.0, 6.0, 7.0), (1.25, 1.5, 1.75))
    assert lsb.mean_of_run == pytest.approx(52 / 3)
    alone = run_seconds(runs[:3].drop(columns="epochs"))
    assert (alone.kind, alone.per, alone.arms[0].seconds[1]) == ("device", "run", 6.0)
    assert run_seconds(runs[["arm", "method"]]) is None


def test_best_of_grid_counts_tasks_alike():
    # Relative to means .5 and 10: (+.2, -.1), (-.2, +.1) and (0, 0), where less rmse is better.
    axes = choose_axes(("segmentation", "depth"), {"depth": "rmse"})
    means = np.array([[0.4, 9.0], [0.6, 11.0], [0.5, 10.0]])
    assert best_of_grid(means, axes) == 1
    assert best_of_grid(means[::-1], axes) == 1
    assert best_of_grid(np.zeros((2, 2)), axes) == 0


def test_equal_priorities_against_best_of_grid_by_hand():
    runs = np.array([[0.5, 0.6], [0.7, 0.6]])
    grid = np.array([[[0.4, 0.5], [0.6, 0.5]], [[0.8, 0.1], [0.8, 0.1]], [[0.9, 0.9], [0.9, 0.9]]])
    on_test = equal_priority_question("lsb", runs, "fixed", grid, AXES, None)
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
    blind = equal_priority_question("lsb", runs, "fixed", grid, AXES, validation)
    assert (blind.chosen, blind.chosen_on) == (0, "validation")
    assert [m.num_seeds_better for m in blind.metrics] == [2, 2]
