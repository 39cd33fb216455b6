"""How many seeds settle a comparison: closed forms, and promises kept in simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.compute.fronts import Reference, hypervolume
from analysis.compute.inference import seed_difference_test, seed_level_test
from analysis.compute.seeds import (
    MAX_SEEDS,
    PLANNED_SEEDS,
    POWER,
    Compared,
    seed_differences,
    seeds_needed,
    settled_effect,
    settling,
)
from analysis.compute.significance import SIGNIFICANCE
from analysis.load.axes import choose_axes

AXES = choose_axes(("depth", "segmentation"))
REFERENCE = Reference((0.3, 0.3), "given")
FRONT = np.array([(0.5, 0.8), (0.62, 0.76), (0.7, 0.7), (0.76, 0.62), (0.8, 0.5)])


def test_effects_agree_with_closed_forms():
    # Six seeds: all differences have one sign, with probability Phi(z)^6 (and next to 0 the other).
    assert settled_effect(6) == pytest.approx(stats.norm.ppf(POWER ** (1 / 6)), abs=0.01)
    assert settled_effect(5) == math.inf
    large = stats.norm.ppf(1 - SIGNIFICANCE / 2) + stats.norm.ppf(POWER)
    assert settled_effect(MAX_SEEDS) == pytest.approx(large / math.sqrt(MAX_SEEDS), rel=0.01)
    effects = [settled_effect(n) for n in range(6, 60)]
    assert effects == sorted(effects, reverse=True)


@pytest.mark.parametrize("effect", [0.1, -0.3, 0.5, 0.9, 1.3, 2.0])
def test_seeds_needed_are_the_fewest(effect):
    number = seeds_needed(effect)
    assert settled_effect(number) <= abs(effect) < settled_effect(number - 1)


def test_seeds_needed_are_never_too_few_for_any_significance():
    assert (seeds_needed(50.0), seeds_needed(50.0, 2), seeds_needed(50.0, 15)) == (6, 7, 10)
    assert seeds_needed(0.01) is None
    assert seeds_needed(50.0, 410) is None


def given(shifts, name="fixed", *, is_primary=False):
    """Return a comparison in which the first method is better by so much at each seed."""
    b = np.repeat(FRONT[:, None], len(shifts), axis=1)
    return Compared("lsb", name, is_primary, b + np.array(shifts)[None, :, None], b)


def test_verdict_is_reached_where_it_stays():
    better = 0.02 + 0.001 * np.arange(8)
    (held,) = settling([given(better)], REFERENCE, AXES)
    # All of one sign: p = 2 / 2^n, below .05 from six seeds on.
    assert held.p == pytest.approx([2 / 2**n for n in range(1, 9)])
    assert held.settled_with == 6
    # The last two seeds turn a verdict that six had reached: not settled.
    (turned,) = settling([given([*better[:6], -0.05, -0.05])], REFERENCE, AXES)
    assert turned.p[5] < SIGNIFICANCE < turned.p[7]
    assert turned.settled_with is None


def test_holm_is_that_of_the_others_at_each_number_of_seeds():
    better = 0.02 + 0.001 * np.arange(8)
    three = [
        given(better, is_primary=True),
        given(better, "stch"),
        given(better, "scaled_fixed"),
    ]
    found = settling(three, REFERENCE, AXES)
    assert [held.settled_with for held in found] == [6, 7, 7]
    assert [held.num_needed for held in found] == [6, 7, 7]
    assert found[1].p[-1] == pytest.approx(2 * 2 / 2**8)


def test_mean_and_spread_are_those_of_the_seeds_own_fronts():
    shifts = [0.01, 0.03, 0.02, 0.05]
    (held,) = settling([given(shifts)], REFERENCE, AXES)
    base = hypervolume(FRONT, REFERENCE, AXES)
    by_hand = [hypervolume(FRONT + shift, REFERENCE, AXES) - base for shift in shifts]
    assert held.mean == pytest.approx(np.mean(by_hand))
    assert held.sd == pytest.approx(np.std(by_hand, ddof=1))
    assert held.smallest == tuple(held.sd * settled_effect(n) for n in PLANNED_SEEDS)
    assert held.num_needed == seeds_needed(held.mean / held.sd)
    assert held.num_more == held.num_needed - 4


def test_two_seeds_or_no_spread_promise_nothing():
    (two,) = settling([given([0.01, 0.02])], REFERENCE, AXES)
    assert (two.sd, two.num_needed, two.num_more, two.smallest) == (None, None, None, ())
    (alike,) = settling([given([0.0] * 6)], REFERENCE, AXES)
    assert (alike.settled_with, alike.sd, alike.num_needed) == (None, 0.0, None)


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [6, 7, 8, 9, 10, 11, 20])
def test_promised_power_is_met_for_normal_differences(num_seeds):
    print("seed 4")
    generator = np.random.default_rng(4)
    repetitions = 1000
    drawn = generator.normal(settled_effect(num_seeds), 1, (repetitions, num_seeds))
    found = np.mean([seed_difference_test(values)[0] < SIGNIFICANCE for values in drawn])
    assert abs(found - POWER) < 3 * math.sqrt(POWER * (1 - POWER) / repetitions)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [(0.02, 0.0), (0.005, 0.02)])
def test_promised_power_is_met_by_the_test_of_hypervolumes(noise):
    # Noise of single runs, and of a seed with a method at all priorities; eight seeds.
    print("seed 5")
    generator = np.random.default_rng(5)
    of_run, of_seed = noise

    def drawn(num_seeds, shift):
        size = (len(FRONT), num_seeds, 2)
        return (
            FRONT[:, None]
            + shift
            + (generator.normal(0, of_run, size) + generator.normal(0, of_seed, (1, num_seeds, 2)))
        )

    sd = seed_differences(drawn(2000, 0), drawn(2000, 0), REFERENCE, AXES).std()
    base, wanted = hypervolume(FRONT, REFERENCE, AXES), sd * settled_effect(8)
    shift = wanted / (hypervolume(FRONT + 1e-4, REFERENCE, AXES) - base) * 1e-4
    repetitions = 400
    found = np.mean(
        [
            seed_level_test(drawn(8, shift), drawn(8, 0), REFERENCE, AXES).p < SIGNIFICANCE
            for _ in range(repetitions)
        ]
    )
    assert abs(found - POWER) < 3 * math.sqrt(POWER * (1 - POWER) / repetitions)
