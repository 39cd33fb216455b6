"""Permutation tests against independent enumeration; Holm, resamples and intervals by hand."""

import itertools
import math

import numpy as np
import pytest

from analysis.compute import inference
from analysis.compute.fronts import Reference
from analysis.compute.inference import (
    run_level_resamples,
    run_level_test,
    run_widening,
    seed_level_resamples,
    seed_level_test,
    seed_widening,
    symmetric_interval,
)
from analysis.compute.significance import SIGNIFICANCE
from analysis.load.axes import Axis
from tests.metrics import METRICS

AXES = (Axis("depth", METRICS["delta1"]), Axis("segmentation", METRICS["miou"]))
ORIGIN = Reference((0.0, 0.0), "")


def area(points: np.ndarray) -> float:
    """Return the area that points dominate over (0, 0), both axes maximised."""
    total, height = 0.0, 0.0
    for x, y in sorted(points.tolist(), reverse=True):
        total += x * max(0.0, y - height)
        height = max(height, y)
    return total


def enumerated_p(runs_a: np.ndarray, runs_b: np.ndarray, units: list) -> float:
    """Exchange the methods of every subset of the units (indices into runs) in plain loops."""
    differences = []
    for size in range(len(units) + 1):
        for chosen in itertools.combinations(units, size):
            a, b = runs_a.copy(), runs_b.copy()
            for place in chosen:
                a[place], b[place] = runs_b[place], runs_a[place]
            differences.append(area(a.mean(axis=1)) - area(b.mean(axis=1)))
    return float(np.mean([abs(d) >= abs(differences[0]) - 1e-12 for d in differences]))


def draw(
    seed: int, shift: float, num_priorities: int = 3, num_seeds: int = 6, per_seed: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return two methods' runs; `per_seed` scales an effect of method x seed at all priorities."""
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    steps = np.arange(num_priorities)[:, None] / num_priorities
    means = np.stack([0.3 + 0.4 * steps, 0.7 - 0.4 * steps], axis=-1)
    shape = (num_priorities, num_seeds, 2)
    a, b = (
        means + generator.normal(0, 0.01, shape) + generator.normal(0, per_seed, (1, num_seeds, 1))
        for _ in range(2)
    )
    a += shift
    for runs in (a, b):
        runs.setflags(write=False)
    return a, b


@pytest.mark.parametrize(("seed", "shift"), [(0, 0.0), (1, 0.003), (2, 0.003), (3, 0.1)])
def test_seed_level_p_equals_independent_enumeration(seed, shift):
    a, b = draw(seed, shift)
    test = seed_level_test(a, b, ORIGIN, AXES)
    assert test.difference == pytest.approx(area(a.mean(axis=1)) - area(b.mean(axis=1)))
    assert test.p == pytest.approx(enumerated_p(a, b, [(slice(None), s) for s in range(6)]))
    assert (test.exact, test.num_permutations, test.seed) == (True, 2**6, None)
    assert (test.num_seeds, test.unit) == (6, "whole seeds")
    swapped = seed_level_test(b, a, ORIGIN, AXES)
    assert swapped.p == test.p
    assert swapped.difference == pytest.approx(-test.difference)


@pytest.mark.parametrize("shift", [0.0, 0.003])
def test_run_level_p_equals_independent_enumeration(shift):
    a, b = draw(1, shift, num_seeds=3)
    test = run_level_test(a, b, ORIGIN, AXES)
    assert test.p == pytest.approx(enumerated_p(a, b, list(itertools.product(range(3), range(3)))))
    assert (test.exact, test.num_permutations, test.minimum_p) == (True, 2**9, 2 / 2**9)
    assert (test.num_seeds, test.unit) == (3, "single runs within their priority")
    assert test.difference == seed_level_test(a, b, ORIGIN, AXES).difference


def test_p_by_hand():
    # One priority; areas of means over the seeds, second axis 1: differences of the seeds are
    # +.3, +.1, -.2, so the observed mean is .2 / 3. Of the 8 sign patterns of .3, .1, .2 the sums
    # are +-.6, +-.4, +-.2, 0, 0: six are at least .2 in size.
    a = np.array([[[0.6, 1.0], [0.5, 1.0], [0.3, 1.0]]])
    b = np.array([[[0.3, 1.0], [0.4, 1.0], [0.5, 1.0]]])
    for test in (seed_level_test(a, b, ORIGIN, AXES), run_level_test(a, b, ORIGIN, AXES)):
        assert test.difference == pytest.approx(0.2 / 3)
        assert (test.p, test.minimum_p, test.num_permutations) == (6 / 8, 2 / 8, 8)


@pytest.mark.parametrize(
    ("num_seeds", "minimum"), [(1, 1.0), (2, 0.5), (5, 2 / 32), (6, 2 / 64), (13, 2 / 8192)]
)
def test_full_separation_attains_the_minimum_p(num_seeds, minimum):
    for num_priorities in (1, 5) if num_seeds < 13 else (1,):
        test = seed_level_test(*draw(0, 0.2, num_priorities, num_seeds), ORIGIN, AXES)
        assert test.p == test.minimum_p == minimum


def test_seed_level_test_keeps_its_size_under_seed_effects():
    # Each method draws one offset a seed for all its priorities: a true null. Exchanging single
    # runs within priorities rejects it in a third of the cases. With 6 seeds only p = 2 / 64 is
    # below .05, so 3 % may reject; .05 plus three standard errors of 400 cases is .083.
    p = [
        seed_level_test(*draw(seed, 0.0, 5, 6, per_seed=0.03), ORIGIN, AXES).p
        for seed in range(400)
    ]
    assert np.mean(np.array(p) < SIGNIFICANCE) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert 0.4 < np.mean(p) < 0.6, "p is about uniform under the null"


def test_drawn_permutations_agree_with_exact_ones(monkeypatch):
    a, b = draw(1, 0.003, num_priorities=4, num_seeds=11)
    exact = seed_level_test(a, b, ORIGIN, AXES)
    assert 0.01 < exact.p < 0.99
    monkeypatch.setattr(inference, "MAX_ENUMERATED", 1000)
    drawn = seed_level_test(a, b, ORIGIN, AXES)
    assert (drawn.exact, drawn.num_permutations, drawn.seed) == (False, 1000, 0)
    # Four standard errors of a share of 1000 draws.
    assert abs(drawn.p - exact.p) < 4 * math.sqrt(exact.p * (1 - exact.p) / 1000)
    assert seed_level_test(a, b, ORIGIN, AXES) == drawn, "the seed fixes the draws"


@pytest.mark.parametrize(
    ("run_test", "number"), [(seed_level_test, 2**13), (run_level_test, 2**11)]
)
def test_many_permutations_are_drawn(run_test, number):
    test = run_test(*draw(2, 0.1, num_priorities=1, num_seeds=40), ORIGIN, AXES)
    assert (test.exact, test.p, test.minimum_p, test.seed) == (False, 1 / number, 1 / number, 0)


@pytest.mark.parametrize("run_test", [seed_level_test, run_level_test])
def test_unequal_shapes_are_refused(run_test):
    a, b = draw(0, 0.0)
    with pytest.raises(ValueError, match="equal priorities and seeds"):
        run_test(a, b[:2], ORIGIN, AXES)


def test_widening_by_hand():
    # t with 1, 2 and 4 degrees of freedom: 12.706, 4.303 and 2.776, over 1.960.
    for num_seeds, student in ((2, 12.706), (3, 4.303), (5, 2.776)):
        run = math.sqrt(num_seeds / (num_seeds - 1))
        assert run_widening(num_seeds) == pytest.approx(run)
        assert seed_widening(num_seeds) == pytest.approx(student / 1.960 * run, rel=1e-3)


def test_symmetric_interval_by_hand():
    # The estimate is 10; distances of 0 ... 40 from it are 0 to 30, of which 95 % are at most 28
    # (39 of 41 values lie below 39, 40 is the 41st: place 38 of 0 ... 40).
    resampled = np.arange(41.0)
    assert symmetric_interval(10.0, resampled, 1.0) == (10 - 28, 10 + 28)
    assert symmetric_interval(10.0, resampled, 2.0) == (10 - 56, 10 + 56)


def test_resamples_draw_whole_seeds_or_single_runs():
    # Run of seed s is s everywhere: every mean of a resample is the same number.
    a = np.broadcast_to(np.arange(3.0)[None, :, None], (4, 3, 2))

    def spread(means_a: np.ndarray, means_b: np.ndarray) -> tuple[float, float]:
        return (np.ptp(means_a), np.abs(means_a - means_b).max())

    assert (seed_level_resamples(a, a, spread, 50) == 0).all()
    runs = run_level_resamples(a, a, spread, 50)
    assert (runs > 0).any(axis=0).all()
    np.testing.assert_array_equal(run_level_resamples(a, a, spread, 50), runs)
    # Three values, means of three draws: sd of the mean of a resample sqrt(2 / 3) / sqrt(3).
    means = seed_level_resamples(a, a, lambda x, y: (x[0, 0],), 2000)
    assert means.std() == pytest.approx(math.sqrt(2 / 9), rel=0.06)
