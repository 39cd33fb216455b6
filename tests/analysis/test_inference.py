"""The permutation test against independent enumeration, and Holm by hand."""

import itertools
import math

import numpy as np
import pytest

from analysis import inference
from analysis.axes import Axis
from analysis.fronts import OperatingPoint, Reference
from analysis.inference import holm, hypervolume_test, smallest_p, why_not_comparable
from mtl.records import METRICS

AXES = (Axis("depth", METRICS["delta1"]), Axis("segmentation", METRICS["miou"]))
ORIGIN = Reference((0.0, 0.0), "")


def area(points: np.ndarray) -> float:
    """Return the area that points dominate over (0, 0), both axes maximised."""
    total, height = 0.0, 0.0
    for x, y in sorted(points.tolist(), reverse=True):
        total += x * max(0.0, y - height)
        height = max(height, y)
    return total


def slow_p(runs_a: list[np.ndarray], runs_b: list[np.ndarray]) -> float:
    pools = [np.concatenate(pair) for pair in zip(runs_a, runs_b, strict=True)]
    half = len(runs_a[0])

    def difference(chosen: tuple[tuple[int, ...], ...]) -> float:
        a = [pool[list(c)].mean(axis=0) for pool, c in zip(pools, chosen, strict=True)]
        b = [
            np.delete(pool, list(c), axis=0).mean(axis=0)
            for pool, c in zip(pools, chosen, strict=True)
        ]
        return area(np.array(a)) - area(np.array(b))

    halves = list(itertools.combinations(range(2 * half), half))
    observed = difference(tuple(tuple(range(half)) for _ in pools))
    all_differences = [difference(c) for c in itertools.product(halves, repeat=len(pools))]
    return float(np.mean([abs(d) >= abs(observed) - 1e-12 for d in all_differences]))


def draw(seed: int, shift: float, num_priorities: int = 3, num_seeds: int = 2) -> tuple[list, list]:
    generator = np.random.default_rng(seed)
    means = [
        np.array([0.3 + 0.4 * k / num_priorities, 0.7 - 0.4 * k / num_priorities])
        for k in range(num_priorities)
    ]
    a = [mean + shift + generator.normal(0, 0.01, (num_seeds, 2)) for mean in means]
    b = [mean + generator.normal(0, 0.01, (num_seeds, 2)) for mean in means]
    return a, b


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.1])
def test_exact_p_equals_independent_enumeration(shift):
    for seed in range(4):
        print(f"{seed=}")
        a, b = draw(seed, shift)
        for array in (*a, *b):
            array.setflags(write=False)
        test = hypervolume_test(a, b, ORIGIN, AXES)
        means = [np.array([runs.mean(axis=0) for runs in side]) for side in (a, b)]
        assert test.difference == pytest.approx(area(means[0]) - area(means[1]))
        assert test.p == pytest.approx(slow_p(a, b))
        assert (test.exact, test.num_relabellings, test.seed) == (True, 6**3, None)
        swapped = hypervolume_test(b, a, ORIGIN, AXES)
        assert swapped.p == test.p
        assert swapped.difference == pytest.approx(-test.difference)


def test_smallest_p_is_reached_by_full_separation_and_never_undercut():
    # 2 seeds at 3 priorities: 6^3 relabellings, both extremes count: 2 / 216.
    test = hypervolume_test(*draw(0, 0.2), ORIGIN, AXES)
    assert test.smallest_p == pytest.approx(2 / 216)
    assert test.p == test.smallest_p
    # One seed at 5 priorities: 2^5 relabellings, 2 / 32 > .05: nothing can be carried.
    alone = hypervolume_test(*draw(0, 0.2, num_priorities=5, num_seeds=1), ORIGIN, AXES)
    assert alone.p == alone.smallest_p == smallest_p([1] * 5) == 0.0625
    # 3 against 3 seeds at one priority: 2 / 20, as the two-sample permutation test has it.
    assert smallest_p([3]) == pytest.approx(0.1)
    assert smallest_p([5]) == pytest.approx(2 / 252)


def test_identical_methods_have_p_one():
    a, _ = draw(0, 0.0)
    test = hypervolume_test(a, a, ORIGIN, AXES)
    assert (test.difference, test.p) == (0.0, 1.0)


def test_drawn_relabellings_agree_with_exact_ones(monkeypatch):
    a, b = draw(1, 0.006, num_priorities=4, num_seeds=2)
    exact = hypervolume_test(a, b, ORIGIN, AXES)
    monkeypatch.setattr(inference, "MOST_ENUMERATED", 1000)
    drawn = hypervolume_test(a, b, ORIGIN, AXES)
    assert (drawn.exact, drawn.num_relabellings, drawn.seed) == (False, 1000, 0)
    # Four standard errors of a share of 1000 draws.
    assert abs(drawn.p - exact.p) < 4 * math.sqrt(exact.p * (1 - exact.p) / 1000)
    assert hypervolume_test(a, b, ORIGIN, AXES) == drawn, "the seed fixes the draws"


def test_many_seeds_are_drawn_without_enumerating():
    a, b = draw(2, 0.1, num_priorities=2, num_seeds=25)
    assert hypervolume_test(a, b, ORIGIN, AXES).p == 1 / inference.MOST_ENUMERATED


def test_unequal_shapes_are_refused():
    a, b = draw(0, 0.0)
    with pytest.raises(ValueError, match="equal priorities and seeds"):
        hypervolume_test(a, b[:2], ORIGIN, AXES)


def test_holm_by_hand():
    # .01 x 3 = .03; .03 x 2 = .06; .04 x 1 = .04 but never below the one before: .06.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def point(arm: str, priority: float, seeds: int) -> OperatingPoint:
    return OperatingPoint(
        arm, (priority, 1 - priority), tuple(range(seeds)), (0.5, 0.5), (None, None), True, True
    )


def test_only_equal_grids_with_equal_seeds_are_compared():
    a = [point("lsb", p, 2) for p in (0.2, 0.5)]
    assert why_not_comparable(a, [point("fixed", p, 2) for p in (0.5, 0.2)]) is None
    grid = why_not_comparable(a, [point("fixed", 0.2, 2)])
    assert grid is not None
    assert "lsb has 2 priorities and fixed 1, 1 of them shared" in grid
    seeds = why_not_comparable(a, [point("fixed", 0.2, 2), point("fixed", 0.5, 1)])
    assert seeds == "lsb and fixed have unequal numbers of seeds at 1 priority"
