"""The permutation test against independent enumeration, and Holm by hand."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from analysis.compute import inference
from analysis.compute.fronts import OperatingPoint, Reference
from analysis.compute.inference import (
    holm,
    hypervolume_test,
    smallest_p,
    why_not_comparable,
    within_priority_test,
)
from analysis.load.axes import Axis
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


def slow_p(runs_a: np.ndarray, runs_b: np.ndarray) -> float:
    """Exchange the methods of every subset of the seeds, one at a time, in plain loops."""
    num_priorities, num_seeds, _ = runs_a.shape

    def difference(exchanged: tuple[int, ...]) -> float:
        a, b = runs_a.copy(), runs_b.copy()
        for seed in exchanged:
            for k in range(num_priorities):
                a[k, seed], b[k, seed] = runs_b[k, seed], runs_a[k, seed]
        return area(a.mean(axis=1)) - area(b.mean(axis=1))

    subsets = [
        chosen
        for size in range(num_seeds + 1)
        for chosen in itertools.combinations(range(num_seeds), size)
    ]
    differences = [difference(chosen) for chosen in subsets]
    return float(np.mean([abs(d) >= abs(differences[0]) - 1e-12 for d in differences]))


def draw(
    seed: int, shift: float, num_priorities: int = 3, num_seeds: int = 6, per_seed: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return two methods' runs; `per_seed` scales an effect of method x seed at all priorities."""
    generator = np.random.default_rng(seed)
    steps = np.arange(num_priorities)[:, None] / num_priorities
    means = np.stack([0.3 + 0.4 * steps, 0.7 - 0.4 * steps], axis=-1)
    shape = (num_priorities, num_seeds, 2)
    a, b = (
        means + generator.normal(0, 0.01, shape) + generator.normal(0, per_seed, (1, num_seeds, 1))
        for _ in range(2)
    )
    return a + shift, b


@pytest.mark.parametrize("shift", [0.0, 0.003, 0.1])
def test_exact_p_equals_independent_enumeration(shift):
    for seed in range(4):
        print(f"{seed=}")
        a, b = draw(seed, shift)
        a.setflags(write=False)
        b.setflags(write=False)
        test = hypervolume_test(a, b, ORIGIN, AXES)
        assert test.difference == pytest.approx(area(a.mean(axis=1)) - area(b.mean(axis=1)))
        assert test.p == pytest.approx(slow_p(a, b))
        assert (test.exact, test.num_relabellings, test.seed) == (True, 2**6, None)
        assert (test.num_seeds, test.relabelled) == (6, "whole seeds")
        swapped = hypervolume_test(b, a, ORIGIN, AXES)
        assert swapped.p == test.p
        assert swapped.difference == pytest.approx(-test.difference)


def test_p_by_hand():
    # One priority; areas of means over the seeds, second axis 1: differences of the seeds are
    # +.3, +.1, -.2, so the observed mean is .2 / 3. Of the 8 sign patterns of .3, .1, .2 the sums
    # are +-.6, +-.4, +-.2, 0, 0: six are at least .2 in size.
    a = np.array([[[0.6, 1.0], [0.5, 1.0], [0.3, 1.0]]])
    b = np.array([[[0.3, 1.0], [0.4, 1.0], [0.5, 1.0]]])
    test = hypervolume_test(a, b, ORIGIN, AXES)
    assert test.difference == pytest.approx(0.2 / 3)
    assert (test.p, test.smallest_p, test.num_relabellings) == (6 / 8, 2 / 8, 8)


@pytest.mark.parametrize(
    ("num_seeds", "smallest"), [(1, 1.0), (2, 0.5), (5, 2 / 32), (6, 2 / 64), (13, 2 / 8192)]
)
@pytest.mark.parametrize("num_priorities", [1, 5])
def test_smallest_p_is_reached_by_full_separation(num_seeds, smallest, num_priorities):
    # However many priorities there are: they do not add observations.
    test = hypervolume_test(*draw(0, 0.2, num_priorities, num_seeds), ORIGIN, AXES)
    assert test.p == test.smallest_p == smallest_p(num_seeds) == smallest


def test_identical_methods_have_p_one():
    a, _ = draw(0, 0.0)
    test = hypervolume_test(a, a, ORIGIN, AXES)
    assert (test.difference, test.p) == (0.0, 1.0)


def test_size_with_an_effect_of_method_and_seed():
    # Each method draws one offset a seed for all its priorities: a true null. Relabelling single
    # runs within priorities rejects it in a third of the cases. With 6 seeds only p = 2 / 64 is
    # below .05, so 3 % may reject; .05 plus three standard errors of 400 cases is .083.
    p = [
        hypervolume_test(*draw(seed, 0.0, 5, 6, per_seed=0.03), ORIGIN, AXES).p
        for seed in range(400)
    ]
    assert np.mean(np.array(p) < inference.SIGNIFICANCE) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert 0.4 < np.mean(p) < 0.6, "p is about uniform under the null"


def test_drawn_relabellings_agree_with_exact_ones(monkeypatch):
    a, b = draw(1, 0.003, num_priorities=4, num_seeds=11)
    exact = hypervolume_test(a, b, ORIGIN, AXES)
    assert 0.01 < exact.p < 0.99
    monkeypatch.setattr(inference, "MOST_ENUMERATED", 1000)
    drawn = hypervolume_test(a, b, ORIGIN, AXES)
    assert (drawn.exact, drawn.num_relabellings, drawn.seed) == (False, 1000, 0)
    # Four standard errors of a share of 1000 draws.
    assert abs(drawn.p - exact.p) < 4 * math.sqrt(exact.p * (1 - exact.p) / 1000)
    assert hypervolume_test(a, b, ORIGIN, AXES) == drawn, "the seed fixes the draws"


def test_many_seeds_are_drawn_without_enumerating():
    a, b = draw(2, 0.1, num_priorities=2, num_seeds=40)
    test = hypervolume_test(a, b, ORIGIN, AXES)
    assert (test.exact, test.p, test.smallest_p) == (False, 1 / 2**13, 1 / 2**13)


def slow_within_p(runs_a: np.ndarray, runs_b: np.ndarray) -> float:
    """Exchange the two runs of every subset of (priority, seed), in plain loops."""
    num_priorities, num_seeds, _ = runs_a.shape
    places = list(itertools.product(range(num_priorities), range(num_seeds)))
    differences = []
    for size in range(len(places) + 1):
        for chosen in itertools.combinations(places, size):
            a, b = runs_a.copy(), runs_b.copy()
            for place in chosen:
                a[place], b[place] = runs_b[place], runs_a[place]
            differences.append(area(a.mean(axis=1)) - area(b.mean(axis=1)))
    return float(np.mean([abs(d) >= abs(differences[0]) - 1e-12 for d in differences]))


@pytest.mark.parametrize("shift", [0.0, 0.003, 0.1])
def test_exact_p_within_priorities_equals_independent_enumeration(shift):
    for seed in range(2):
        print(f"{seed=}")
        a, b = draw(seed, shift, num_priorities=3, num_seeds=3)
        a.setflags(write=False)
        b.setflags(write=False)
        test = within_priority_test(a, b, ORIGIN, AXES)
        assert test.p == pytest.approx(slow_within_p(a, b))
        assert (test.exact, test.num_relabellings, test.smallest_p) == (True, 2**9, 2 / 2**9)
        assert (test.num_seeds, test.relabelled) == (3, "single runs within their priority")
        assert test.difference == hypervolume_test(a, b, ORIGIN, AXES).difference
    if shift == 0.1:
        assert test.p == test.smallest_p


def test_one_priority_within_is_the_whole_seed():
    a, b = draw(3, 0.002, num_priorities=1, num_seeds=6)
    assert within_priority_test(a, b, ORIGIN, AXES).p == hypervolume_test(a, b, ORIGIN, AXES).p


def test_many_runs_are_drawn_within_priorities():
    a, b = draw(2, 0.1, num_priorities=4, num_seeds=10)
    test = within_priority_test(a, b, ORIGIN, AXES)
    assert (test.exact, test.p, test.smallest_p, test.seed) == (False, 1 / 2**11, 1 / 2**11, 0)


def test_unequal_shapes_are_refused():
    a, b = draw(0, 0.0)
    for test in (hypervolume_test, within_priority_test):
        with pytest.raises(ValueError, match="equal priorities and seeds"):
            test(a, b[:2], ORIGIN, AXES)


def test_holm_by_hand():
    # .01 x 3 = .03; .03 x 2 = .06; .04 x 1 = .04 but never below the one before: .06.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def point(arm: str, priority: float, seeds: Sequence[int]) -> OperatingPoint:
    return OperatingPoint(
        arm, (priority, 1 - priority), tuple(seeds), (0.5, 0.5), (None, None), True, True
    )


def test_only_equal_grids_with_the_same_seeds_are_compared():
    a = [point("lsb", p, (0, 1)) for p in (0.2, 0.5)]
    assert why_not_comparable(a, [point("fixed", p, (1, 0)) for p in (0.5, 0.2)]) is None
    grid = why_not_comparable(a, [point("fixed", 0.2, (0, 1))])
    assert grid is not None
    assert "lsb has 2 priorities and fixed 1, 1 of them shared" in grid
    # As many, but others.
    others = why_not_comparable(a, [point("fixed", 0.2, (0, 1)), point("fixed", 0.5, (0, 2))])
    assert others == "lsb and fixed have different seeds at 1 priority; they are matched by seed"
    uneven = [[point(arm, 0.2, (0, 1)), point(arm, 0.5, (0, 2))] for arm in ("lsb", "fixed")]
    assert why_not_comparable(*uneven) == (
        "lsb and fixed do not have the same seeds at every priority; whole seeds are relabelled"
    )
