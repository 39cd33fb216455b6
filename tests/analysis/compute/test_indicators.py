"""Indicators: closed forms, brute force, invariance."""

import math

import numpy as np
import pytest

from analysis.compute import indicators as module
from analysis.compute.fronts import Reference
from analysis.compute.indicators import axis_ranges, indicators
from analysis.load.axes import Axis
from tests.metrics import METRICS

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
    assert found.difference.seed_level is None


def brute(a: np.ndarray, b: np.ndarray, ranges: np.ndarray) -> dict[str, float]:
    """Return epsilon and IGD+ from their definitions; a, b (points, axes), minimised."""
    a, b = a / ranges, b / ranges
    front = [r for r in b if not any((q <= r).all() and (q < r).any() for q in b)]
    epsilon = max(min(max(p - r) for p in a) for r in b)
    distances = [min(math.dist(np.maximum(p - r, 0), (0, 0)) for p in a) for r in front]
    return {"epsilon": epsilon, "igd_plus": float(np.mean(distances))}


@pytest.mark.parametrize("seed", range(4))
def test_indicators_are_those_of_their_definitions(seed):
    a, b = draw(seed)
    axes, ranges = (RMSE, MIOU), np.array([0.7, 0.4])
    found = indicators(a, b, Reference((1.0, 0.1), ""), axes, ranges, 20)
    turn = np.array([1.0, -1.0])
    low_a, low_b = a.mean(axis=1) * turn, b.mean(axis=1) * turn
    for mine, other, suffix in ((low_a, low_b, "a"), (low_b, low_a, "b")):
        for name, value in brute(mine, other, ranges).items():
            assert getattr(found, f"{name}_{suffix}").value == pytest.approx(value), name


def test_order_of_axes_priorities_and_methods_does_not_matter():
    a, b = draw(1)
    a.setflags(write=False)
    b.setflags(write=False)
    found = indicators(a, b, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    turned = indicators(a[::-1, :, ::-1], b[::-1, :, ::-1], ORIGIN, (MIOU, DELTA1), (0.25, 0.5), 50)
    for name in ("hypervolume_a", "difference", "ratio", "epsilon_a", "epsilon_b", "igd_plus_b"):
        first, second = getattr(found, name), getattr(turned, name)
        assert first.value == pytest.approx(second.value), name
        # Whole seeds are the same draws whatever the order of priorities.
        assert first.seed_level == pytest.approx(second.seed_level), name
    back = indicators(b, a, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    for name in ("hypervolume", "epsilon", "igd_plus"):
        first, second = getattr(found, f"{name}_a"), getattr(back, f"{name}_b")
        assert (first.value, first.seed_level) == (second.value, second.seed_level), name
    assert back.difference.value == pytest.approx(-found.difference.value)


def test_identical_methods_differ_by_nothing():
    a, _ = draw(0)
    found = indicators(a, a, ORIGIN, (DELTA1, MIOU), (0.5, 0.25), 50)
    assert (found.difference.value, found.ratio.value) == (0.0, 1.0)
    assert (found.epsilon_a.value, found.igd_plus_a.value) == (0.0, 0.0)
    # Whole seeds are drawn for both at once, so there is nothing left to vary.
    assert found.difference.seed_level == (0.0, 0.0)
    low, high = found.difference.run_level
    assert low < 0 < high


def test_ratio_to_no_hypervolume_is_none():
    a, b = draw(0)
    # b is worse than the reference everywhere.
    found = indicators(a + 1, b - 1, ORIGIN, (DELTA1, MIOU), (1.0, 1.0), 20)
    assert found.hypervolume_b.value == 0
    assert (found.ratio.value, found.ratio.seed_level) == (None, None)
    assert found.difference.seed_level is not None


def test_many_points_on_many_axes_have_no_interval(monkeypatch):
    monkeypatch.setattr(module, "MAX_PRIORITIES_OF_MANY_AXES", 3)
    axes = tuple(Axis(f"task {k}", METRICS["rmse"]) for k in range(5))
    runs = np.random.default_rng(0).random((4, 2, 5))
    found = indicators(runs, runs, Reference((1.0,) * 5, ""), axes, (1.0,) * 5)
    assert (found.num_resamples, found.ratio.seed_level, found.ratio.value) == (0, None, 1.0)


def test_constant_axis_has_range_zero():
    assert axis_ranges(np.array([[1.0, 5.0], [3.0, 5.0]])) == (2.0, 0.0)
    # 0.1 + 0.2 is 0.3 but for rounding.
    assert axis_ranges(np.array([[0.1 + 0.2], [0.3]])) == (0.0,)
