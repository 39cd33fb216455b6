"""Places in the triangle of priorities, differences and winners there."""

import math

import numpy as np
import pytest

from analysis.compute.ternary import CORNERS, differences, in_triangle, winners
from analysis.load.axes import choose_axes

AXES = choose_axes(("depth", "normal", "segmentation"), {"depth": "rmse"})
# depth rmse counts downwards, the other two upwards.
P, Q = (0.2, 0.3, 0.5), (0.6, 0.2, 0.2)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers)


RUNS = {
    ("lsb", P): {0: values(1.0, 0.5, 0.5), 1: values(2.0, 0.6, 0.5), 7: values(9.0, 0.0, 0.0)},
    ("fixed", P): {0: values(1.5, 0.4, 0.5), 1: values(1.0, 0.8, 0.5), 3: values(0.0, 1.0, 1.0)},
    ("lsb", Q): {0: values(1.0, 0.5, 0.5)},
    ("fixed", Q): {2: values(1.0, 0.5, 0.5)},
    ("equal", None): {0: values(1.0, 1.0, 1.0)},
}


def test_corners_centre_and_sides():
    places = in_triangle(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.5, 0.5, 0]]))
    assert places[:3].tolist() == [list(corner) for corner in CORNERS]
    # The centre is a third of the height above the base: (sqrt(3) / 2) / 3.
    assert places[3] == pytest.approx([0.5, math.sqrt(3) / 6])
    assert places[4] == pytest.approx([0.5, 0.0])
    sides = [math.dist(CORNERS[a], CORNERS[b]) for a, b in ((0, 1), (1, 2), (2, 0))]
    assert sides == pytest.approx([1, 1, 1])


def test_distance_to_the_opposite_side_is_the_priority():
    generator = np.random.default_rng(11)
    shares = generator.dirichlet((1, 1, 1), size=50)
    places = in_triangle(shares)
    height = math.sqrt(3) / 2
    assert places[:, 1] / height == pytest.approx(shares[:, 2])
    # Line through the second and third corner: sqrt(3) x + y = sqrt(3).
    distance = (math.sqrt(3) - math.sqrt(3) * places[:, 0] - places[:, 1]) / 2
    assert distance / height == pytest.approx(shares[:, 0])


@pytest.mark.parametrize(
    "wrong", [[[0.5, 0.5]], [0.2, 0.3, 0.5], [[-0.1, 0.6, 0.5]], [[np.nan, 0.5, 0.5]], [[0, 0, 0]]]
)
def test_other_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        in_triangle(np.array(wrong))


def test_difference_over_the_seeds_of_both():
    (found,) = differences(RUNS, "lsb", "fixed", AXES)
    assert found.priorities == P  # at the other priority no seed is shared
    assert found.seeds == (0, 1)
    # rmse falls from 1.5 to 1.0 (gain 0.5) and rises from 1.0 to 2.0 (-1.0): mean -0.25.
    # normal: 0.1 and -0.2, mean -0.05. segmentation: equal.
    assert found.gains == pytest.approx((-0.25, -0.05, 0.0))
    assert found.seeds_better == (0.5, 0.5, 0.5)
    (turned,) = differences(RUNS, "fixed", "lsb", AXES)
    assert turned.gains == pytest.approx((0.25, 0.05, 0.0))
    assert differences(RUNS, "lsb", "equal", AXES) == ()
    assert differences(RUNS, "lsb", "nobody", AXES) == ()


def test_winner_by_seeds_then_by_means_then_nobody():
    rmse, normal, segmentation = (winners(RUNS, ["lsb", "fixed"], AXES, k) for k in range(3))
    # One seed each; mean rmse 1.5 against 1.25, mean normal 0.55 against 0.6.
    assert [(w.arm, w.agreeing, w.num_seeds) for w in rmse] == [("fixed", 0.5, 2)]
    assert [(w.arm, w.agreeing) for w in normal] == [("fixed", 0.5)]
    assert [(w.arm, w.agreeing) for w in segmentation] == [(None, 0.0)]
    assert winners(RUNS, [], AXES, 0) == ()
    # Three methods, one of which is nowhere with the others: nothing to say.
    assert winners(RUNS, ["lsb", "fixed", "nobody"], AXES, 0) == ()


def test_most_seeds_win_over_the_better_mean():
    runs = {
        ("a", P): {0: values(1, 0, 0), 1: values(1, 0, 0), 2: values(100, 0, 0)},
        ("b", P): {0: values(2, 0, 0), 1: values(2, 0, 0), 2: values(1, 0, 0)},
    }
    (won,) = winners(runs, ["a", "b"], AXES, 0)
    assert (won.arm, won.agreeing, won.num_seeds) == ("a", pytest.approx(2 / 3), 3)


def test_brute_force_over_random_runs():
    generator = np.random.default_rng(3)
    arms = ["a", "b", "c"]
    runs = {}
    for arm in arms:
        for priorities in (P, Q):
            seeds = [s for s in range(6) if generator.random() < 0.8]
            runs[(arm, priorities)] = {s: generator.integers(0, 4, 3) / 4 for s in seeds}
    before = {key: {s: v.copy() for s, v in held.items()} for key, held in runs.items()}
    for k, sign in enumerate((-1, 1, 1)):
        for won in winners(runs, arms, AXES, k):
            shared = [s for s in range(6) if all(s in runs[(a, won.priorities)] for a in arms)]
            counts = dict.fromkeys(arms, 0)
            for seed in shared:
                own = {a: sign * runs[(a, won.priorities)][seed][k] for a in arms}
                best = [a for a in arms if own[a] == max(own.values())]
                if len(best) == 1:
                    counts[best[0]] += 1
            assert won.num_seeds == len(shared)
            if won.arm is not None:
                assert counts[won.arm] == max(counts.values())
                assert won.agreeing == counts[won.arm] / len(shared)
            else:
                assert list(counts.values()).count(max(counts.values())) > 1
    for key, held in before.items():
        for seed, value in held.items():
            assert (runs[key][seed] == value).all()
