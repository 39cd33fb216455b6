"""Indicators: closed forms, brute force, invariance; intervals of what is known by hand."""

import dataclasses
import math

import numpy as np
import pytest

from analysis.compute import indicators as module
from analysis.compute.fronts import Reference
from analysis.compute.indicators import axis_ranges, indicators, reference_sensitivity
from analysis.compute.inference import (
    by_priority,
    by_seed,
    run_widening,
    seed_widening,
    symmetric_interval,
)
from analysis.load.axes import Axis
from mtl.records import METRICS

DELTA1 = Axis("depth", METRICS["delta1"])
RMSE = Axis("depth", METRICS["rmse"])
MIOU = Axis("segmentation", METRICS["miou"])
ORIGIN = Reference((0.0, 0.0), "")


def draw(seed: int, num_priorities: int = 4, num_seeds: int = 3) -> tuple[np.ndarray, np.ndarray]:
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    return tuple(generator.uniform(0.2, 0.9, (num_priorities, num_seeds, 2)) for _ in range(2))


def test_two_fronts_by_hand():
    # Higher is better, reference (0, 0), ranges (.5, .25), one seed.
    # a: (.6, .2), (.2, .6): .12 + .2 x .4 = .2. b: (.4, .4): .16. Ratio 1.25.
    a = np.array([[[0.6, 0.2]], [[0.2, 0.6]]])
    b = np.array([[[0.4, 0.4]], [[0.4, 0.4]]])
    found = indicators(a, b, ORIGIN, (DELTA1, MIOU), (0.5, 0.25))
    assert found.hypervolume_a.value == pytest.approx(0.2)
    assert found.hypervolume_b.value == pytest.approx(0.16)
    assert found.difference.value == pytest.approx(0.04)
    assert found.ratio.value == pytest.approx(1.25)
    # In ranges a is (1.2, .8), (.4, 2.4) and b (.8, 1.6). a misses b by .8 on the second axis with
    # its first point, by .4 on the first with its second: .4. b misses a's first by .4, its second
    # by .8: .8. IGD+ of a from b: .4; of b from a: (.4 + .8) / 2 = .6.
    assert found.epsilon_a.value == pytest.approx(0.4)
    assert found.epsilon_b.value == pytest.approx(0.8)
    assert found.igd_plus_a.value == pytest.approx(0.4)
    assert found.igd_plus_b.value == pytest.approx(0.6)
    assert found.num_resamples == 0
    assert found.difference.by_seed is None


def brute(a: np.ndarray, b: np.ndarray, ranges: np.ndarray) -> dict[str, float]:
    """Return epsilon and IGD+ from their definitions; a, b (points, axes), minimised."""
    a, b = a / ranges, b / ranges
    front = [r for r in b if not any((q <= r).all() and (q < r).any() for q in b)]
    epsilon = max(min(max(p - r) for p in a) for r in b)
    distances = [min(math.dist(np.maximum(p - r, 0), (0, 0)) for p in a) for r in front]
    return {"epsilon": epsilon, "igd_plus": float(np.mean(distances))}


@pytest.mark.parametrize("seed", range(10))
def test_indicators_are_those_of_their_definitions(seed):
    a, b = draw(seed)
    axes, ranges = (RMSE, MIOU), np.array([0.7, 0.4])
    found = indicators(a, b, Reference((1.0, 0.1), ""), axes, ranges, 20)
    turn = np.array([1.0, -1.0])
    low_a, low_b = a.mean(axis=1) * turn, b.mean(axis=1) * turn
    for mine, other, suffix in ((low_a, low_b, "a"), (low_b, low_a, "b")):
        for name, value in brute(mine, other, ranges).items():
            assert getattr(found, f"{name}_{suffix}").value == pytest.approx(value), name


@pytest.mark.parametrize("seed", range(3))
def test_neither_order_of_axes_nor_of_priorities_matters(seed):
    a, b = draw(seed)
    a.setflags(write=False)
    b.setflags(write=False)
    found = indicators(a, b, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    turned = indicators(a[::-1, :, ::-1], b[::-1, :, ::-1], ORIGIN, (MIOU, DELTA1), (0.25, 0.5), 50)
    for name in ("hypervolume_a", "difference", "ratio", "epsilon_a", "epsilon_b", "igd_plus_b"):
        first, second = getattr(found, name), getattr(turned, name)
        assert first.value == pytest.approx(second.value), name
        # Whole seeds are the same draws whatever the order of priorities.
        assert first.by_seed.low == pytest.approx(second.by_seed.low), name
        assert first.by_seed.high == pytest.approx(second.by_seed.high), name


def test_methods_exchanged_exchange_their_indicators():
    a, b = draw(0)
    found = indicators(a, b, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    back = indicators(b, a, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    assert back.epsilon_a == dataclasses.replace(
        found.epsilon_b, by_priority=back.epsilon_a.by_priority
    )
    assert back.difference.value == pytest.approx(-found.difference.value)


def test_identical_methods_differ_by_nothing():
    a, _ = draw(0)
    found = indicators(a, a, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    assert (found.difference.value, found.ratio.value) == (0.0, 1.0)
    assert (found.epsilon_a.value, found.igd_plus_a.value) == (0.0, 0.0)
    # Whole seeds are drawn for both at once, so there is nothing left to vary.
    assert (found.difference.by_seed.low, found.difference.by_seed.high) == (0.0, 0.0)
    assert found.difference.by_priority.low < 0 < found.difference.by_priority.high


def test_a_duplicated_point_changes_nothing_but_its_share_in_igd():
    a, b = draw(4)
    twice = [np.concatenate([runs, runs]) for runs in (a, b)]
    found = indicators(a, b, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 10)
    again = indicators(*twice, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 10)
    for name in ("hypervolume_a", "ratio", "epsilon_a", "epsilon_b", "igd_plus_a", "igd_plus_b"):
        assert getattr(found, name).value == pytest.approx(getattr(again, name).value), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_moocore_would_take_for_numbers_is_refused(value):
    a, b = draw(0)
    a[1, 1, 0] = value
    with pytest.raises(ValueError, match="finite"):
        indicators(a, b, ORIGIN, (DELTA1, MIOU), (1.0, 1.0))


def test_unequal_shapes_are_refused():
    a, b = draw(0)
    with pytest.raises(ValueError, match="equal priorities and seeds"):
        indicators(a, b[:, :2], ORIGIN, (DELTA1, MIOU), (1.0, 1.0))


def test_no_hypervolume_of_the_second_is_no_ratio():
    a, b = draw(0)
    # b is worse than the reference everywhere.
    found = indicators(a + 1, b - 1, ORIGIN, (DELTA1, MIOU), (1.0, 1.0), 20)
    assert found.hypervolume_b.value == 0
    assert (found.ratio.value, found.ratio.by_seed) == (None, None)
    assert found.difference.by_seed is not None


def test_many_points_on_many_axes_have_no_interval(monkeypatch):
    monkeypatch.setattr(module, "MOST_POINTS_OF_MANY_AXES", 3)
    axes = tuple(Axis(f"task {k}", METRICS["rmse"]) for k in range(5))
    runs = np.random.default_rng(0).random((4, 2, 5))
    found = indicators(runs, runs, Reference((1.0,) * 5, ""), axes, (1.0,) * 5)
    assert (found.num_resamples, found.ratio.by_seed, found.ratio.value) == (0, None, 1.0)


def test_ranges_of_constant_axes_are_one():
    assert axis_ranges(np.array([[1.0, 5.0], [3.0, 5.0]])) == (2.0, 0.0)
    # 0.1 + 0.2 is 0.3 but for rounding.
    assert axis_ranges(np.array([[0.1 + 0.2], [0.3]])) == (0.0,)


def test_widening_by_hand():
    # t with 1, 2 and 4 degrees of freedom: 12.706, 4.303 and 2.776, over 1.960.
    assert seed_widening(2) == pytest.approx(12.706 / 1.960 * math.sqrt(2), rel=1e-3)
    assert seed_widening(3) == pytest.approx(4.303 / 1.960 * math.sqrt(3 / 2), rel=1e-3)
    assert seed_widening(5) == pytest.approx(2.776 / 1.960 * math.sqrt(5 / 4), rel=1e-3)
    assert run_widening(2) == pytest.approx(math.sqrt(2))


def test_intervals_by_hand():
    # The estimate is 10; distances of 0 ... 40 from it are 0 to 30, of which 95 % are at most 28
    # (39 of 41 values lie below 39, 40 is the 41st: place 38 of 0 ... 40).
    resampled = np.arange(41.0)
    interval = symmetric_interval(10.0, resampled, 1.0)
    assert (interval.low, interval.high) == (10 - 28, 10 + 28)
    wide = symmetric_interval(10.0, resampled, 2.0)
    assert (wide.low, wide.high) == (10 - 56, 10 + 56)


def test_whole_seeds_are_drawn_for_both_methods_and_all_priorities():
    # Run of seed s is s everywhere: every mean of a resample is the same number.
    a = np.broadcast_to(np.arange(3.0)[None, :, None], (4, 3, 2))

    def spread(means_a: np.ndarray, means_b: np.ndarray) -> tuple[float, float]:
        return (np.ptp(means_a), np.abs(means_a - means_b).max())

    assert (by_seed(a, a, spread, 50) == 0).all()
    assert (by_priority(a, a, spread, 50) > 0).any(axis=0).all()
    # Three values, means of three draws: sd of the mean of a resample sqrt(2 / 3) / sqrt(3).
    means = by_seed(a, a, lambda x, y: (x[0, 0],), 2000)
    assert means.std() == pytest.approx(math.sqrt(2 / 9), rel=0.06)
    np.testing.assert_array_equal(by_priority(a, a, spread, 9), by_priority(a, a, spread, 9))


def test_the_ratio_against_the_reference_by_hand():
    # a: (.6, .4); b: (.4, .6), (.5, .5). Best (.6, .6); the reference (0, 0) is (.6, .6) from it.
    a, b = np.array([[0.6, 0.4]]), np.array([[0.4, 0.6], [0.5, 0.5]])
    found = reference_sensitivity(a, b, ORIGIN, (DELTA1, MIOU))
    assert found is not None
    at = found.multiples.index(1.0)
    # a .24; b .5 x .5 + .4 x .1 = .29.
    assert found.together[at] == pytest.approx(0.24 / 0.29)
    assert found.each[0][at] == found.each[1][at] == found.together[at]
    # At .25 the reference is (.45, .45): a has none of it, b .05 x .05.
    assert found.together[0] == pytest.approx(0.0)
    # At 4 it is (-1.8, -1.8): a 2.4 x 2.2; b 2.3 x 2.3 + 2.2 x .1.
    assert found.together[-1] == pytest.approx(2.4 * 2.2 / (2.3 * 2.3 + 2.2 * 0.1))
    # On the first axis alone (-1.8, 0): a 2.4 x .4; b 2.3 x .5 + 2.2 x .1.
    assert found.each[0][-1] == pytest.approx(2.4 * 0.4 / (2.3 * 0.5 + 2.2 * 0.1))
    # Far away every front fills the box: the ratio nears 1.
    assert abs(1 - found.together[-1]) < abs(1 - found.together[at])


def test_a_reference_better_than_every_value_has_no_strip():
    points = np.array([[0.6, 0.4]])
    assert reference_sensitivity(points, points, Reference((0.7, 0.0), ""), (DELTA1, MIOU)) is None
    lost = reference_sensitivity(
        np.array([[0.6, 0.6]]), np.array([[0.1, 0.1]]), ORIGIN, (DELTA1, MIOU)
    )
    assert lost is not None
    assert lost.together[0] is None
