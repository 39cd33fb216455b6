"""The choice among operating points: by weights, by least levels, and how sure."""

import itertools
import math

import numpy as np
import pytest

from analysis.compute.choice import (
    MOST_OFFERED,
    NUM_RESAMPLES,
    STEPS,
    UNIT,
    choose,
    knee,
    offers,
    resampled,
    scores,
)
from analysis.compute.fronts import nondominated
from analysis.load.axes import choose_axes

AXES = choose_axes(("depth", "segmentation"), {"depth": "rmse"})
THREE = choose_axes(("depth", "normal", "segmentation"))


def one_seed(*rows: tuple[float, ...]) -> dict:
    """Points of `lsb` at rising first priorities, one seed each."""
    return {
        ("lsb", (0.1 * k + 0.1, 0.9 - 0.1 * k)): {0: np.array(row)} for k, row in enumerate(rows)
    }


def random_runs(generator: np.random.Generator, axes: int = 2, points: int = 12) -> dict:
    runs = {}
    for k in range(points):
        seeds = [s for s in range(5) if generator.random() < 0.7] or [0]
        runs[("ab"[k % 2], (float(k), 1.0))] = {s: generator.random(axes) for s in seeds}
    return runs


# rmse down, miou up: A best depth, B between, C best segmentation, D dominated by B.
FOUR = one_seed((0.2, 0.50), (0.3, 0.70), (0.6, 0.75), (0.4, 0.60))


def test_losses_are_shares_of_the_range_of_means():
    held = offers(FOUR, AXES)
    assert held.best == (0.2, 0.75)
    assert held.worst == (0.6, 0.50)
    # B: rmse (0.3 - 0.2) / 0.4 = 0.25 of the range, miou (0.75 - 0.70) / 0.25 = 0.2.
    assert held.points[1].losses.tolist() == [[UNIT // 4, UNIT // 5]]
    assert held.points[0].mean.tolist() == [0, UNIT]


@pytest.mark.parametrize(
    ("weights", "index"),
    [
        ((50, 50), 1),  # largest losses: A 1, B 0.25, C 1, D 0.6
        ((100, 100), 1),
        ((0, 0), 1),  # all 0 counts as equal
        ((100, 0), 0),
        ((0, 100), 2),
        # Weighted largest: A 0.1 x 1 = 0.1, B 0.25, C 1.
        ((100, 10), 0),
        ((10, 100), 2),
    ],
)
def test_weights_choose(weights, index):
    assert choose(offers(FOUR, AXES), weights, (0, 0)).index == index


def test_levels_choose():
    held = offers(FOUR, AXES)
    # At most 0.3 + ... rmse: level 75 allows a loss of 0.25, B's very own: A and B meet it.
    assert choose(held, (0, 100), (75, 0)).index == 1
    assert choose(held, (0, 100), (75, 0)).shortfall == 0
    assert choose(held, (0, 100), (76, 0)).index == 0
    # Both at their best: nobody. A and C miss by 1, B by 0.25, D by 0.6.
    nearest = choose(held, (50, 50), (100, 100))
    assert (nearest.index, nearest.shortfall) == (1, 0.25)
    # Levels come before weights.
    assert choose(held, (100, 0), (0, 100)).index == 2


def test_one_seed_gives_no_sureness():
    choice = choose(offers(FOUR, AXES), (50, 50), (0, 0))
    assert choice.sureness is None
    assert choice.seed == 0


def test_a_dominated_point_is_never_chosen():
    generator = np.random.default_rng(5)
    for _ in range(20):
        runs = random_runs(generator)
        held = offers(runs, AXES)
        kept = nondominated(held.means)
        for weights in ((0, 100), (100, 0), (50, 50), (0, 0), (3, 97)):
            assert kept[choose(held, weights, (0, 0)).index]


def test_choice_against_brute_force():
    generator = np.random.default_rng(6)
    for axes in (AXES, THREE):
        held = offers(random_runs(generator, len(axes)), axes)
        for _ in range(60):
            weights = generator.integers(0, STEPS + 1, len(axes)).tolist()
            levels = generator.integers(0, STEPS + 1, len(axes)).tolist()
            if generator.random() < 0.3:
                levels = [0] * len(axes)

            def key(point, weights=weights, levels=levels):
                means = [sum(r) / len(r) for r in zip(*point.losses.tolist(), strict=True)]
                allowed = [(100 - level) / 100 * UNIT for level in levels]
                missed = max(max(m - a, 0) for m, a in zip(means, allowed, strict=True))
                weighted = [w / max(weights) * m for w, m in zip(weights, means, strict=True)]
                return (missed if missed >= 1 else 0, max(weighted) + 0.001 * sum(means))

            best = min(held.points, key=key)
            assert held.points[choose(held, weights, levels).index] is best


def test_sureness_by_hand():
    # Two seeds; the first seed says A by far, the second says B by a little less.
    runs = {
        ("a", (0.5, 0.5)): {0: np.array([0.0, 0.0]), 1: np.array([1.0, 1.0])},
        ("b", (0.5, 0.5)): {0: np.array([1.0, 1.0]), 1: np.array([0.1, 0.1])},
    }
    axes = choose_axes(("depth", "normal"), {"depth": "rmse", "normal": "mean_angle"})
    held = offers(runs, axes)
    # Means 0.5 and 0.55: A. A resample of seed 1 alone (a quarter) chooses B.
    choice = choose(held, (50, 50), (0, 0))
    assert held.points[choice.index].arm == "a"
    only_second = int((held.draws[:, 0] == 0).sum())
    assert 10 < only_second < 40
    assert choice.sureness == 1 - only_second / NUM_RESAMPLES


def test_resamples_are_widened_means_over_the_seeds_drawn():
    generator = np.random.default_rng(8)
    held = offers(random_runs(generator), AXES)
    found = resampled(held)
    assert found.shape == (NUM_RESAMPLES, len(held.points), 2)
    for b, k in itertools.product((0, 17, 99), range(len(held.points))):
        point = held.points[k]
        drawn = [
            point.losses[point.seeds.index(seed)]
            for seed, count in zip(held.seeds, held.draws[b], strict=True)
            for _ in range(count)
            if seed in point.seeds
        ]
        expected = point.mean
        n = len(point.seeds)
        if n > 1 and drawn:
            expected = point.mean + math.sqrt(n / (n - 1)) * (np.mean(drawn, axis=0) - point.mean)
        assert found[b, k] == pytest.approx(expected)


def test_the_middle_seed_is_taken():
    rows = {0: (0.9, 0.1), 1: (0.2, 0.9), 2: (0.5, 0.5), 3: (0.4, 0.6)}
    runs = {("a", None): {s: np.array(v) for s, v in rows.items()}, **one_seed((0.1, 0.0))}
    held = offers(runs, AXES)
    assert held.points[1].arm == "lsb"
    # All alike, seeds rank 1, 3, 2, 0 (best first); of the two middle ones the better.
    choice = choose(held, (50, 50), (0, 90))
    assert held.points[choice.index].arm == "a"
    assert choice.seed == 3


def test_constant_axes_equal_points_and_a_single_point():
    constant = offers(one_seed((0.3, 0.5), (0.2, 0.5)), AXES)
    assert constant.means[:, 1].tolist() == [0, 0]
    assert choose(constant, (0, 100), (0, 100)).index == 1
    equal = offers(one_seed((0.3, 0.5), (0.3, 0.5)), AXES)
    assert choose(equal, (10, 90), (100, 100)).index == 0
    alone = offers({("equal", None): {4: np.array([0.3, 0.5])}}, AXES)
    assert (choose(alone, (0, 0), (100, 100)).index, alone.points[0].seeds) == (0, (4,))


def test_columns_in_another_order_give_the_same_choice():
    generator = np.random.default_rng(9)
    runs = random_runs(generator)
    turned = {
        key: {seed: value[::-1].copy() for seed, value in held.items()}
        for key, held in reversed(runs.items())
    }
    a, b = offers(runs, AXES), offers(turned, AXES[::-1])
    for weights, levels in (((30, 80), (0, 0)), ((50, 50), (40, 60)), ((0, 9), (80, 80))):
        one, other = choose(a, weights, levels), choose(b, weights[::-1], levels[::-1])
        assert a.points[one.index].priorities == b.points[other.index].priorities
        assert one.sureness == other.sureness


def test_inputs_stay_as_they_are():
    runs = random_runs(np.random.default_rng(10))
    for held in runs.values():
        for value in held.values():
            value.flags.writeable = False
    choose(offers(runs, AXES), (1, 2), (3, 4))


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match="Expected operating points"):
        offers({}, AXES)
    with pytest.raises(ValueError, match="Expected finite"):
        offers(one_seed((0.1, np.nan)), AXES)
    held = offers(FOUR, AXES)
    for weights, levels in (((1,), (0, 0)), ((1, 101), (0, 0)), ((1, 1), (-1, 0))):
        with pytest.raises(ValueError, match="from 0 to 100"):
            choose(held, weights, levels)


def test_of_many_points_the_foremost_are_offered():
    generator = np.random.default_rng(12)
    many = {("a", (float(k), 1.0)): {0: row} for k, row in enumerate(generator.random((2000, 2)))}
    held = offers(many, AXES)
    assert (len(held.points), held.num_all) == (MOST_OFFERED, 2000)
    values = np.array([v[0] * [1, -1] for v in many.values()])
    front = {(float(k), 1.0) for k in np.flatnonzero(nondominated(values))}
    assert front <= {point.priorities for point in held.points}
    # A front that is larger than what fits is thinned evenly and keeps its ends.
    along = np.linspace(0, 1, 1000)
    line = {("a", (float(k), 1.0)): {0: np.array([x, x])} for k, x in enumerate(along)}
    thinned = offers(line, AXES)
    assert len(thinned.points) == MOST_OFFERED
    assert {p.priorities[0] for p in thinned.points} >= {0.0, 999.0}


def brute_knee(losses: np.ndarray) -> int | None:
    rows = [k for k in range(len(losses)) if nondominated(losses)[k]]
    rows = [k for k in rows if not any((losses[j] == losses[k]).all() for j in rows if j < k)]
    if len(rows) < 3:
        return None
    best, best_worth = None, -1.0
    for k in rows:
        worth = min(
            sum(max(0, b - a) for a, b in zip(losses[k], losses[j], strict=True))
            / sum(max(0, a - b) for a, b in zip(losses[k], losses[j], strict=True))
            for j in rows
            if j != k
        )
        if worth > best_worth:
            best, best_worth = k, worth
    return best


def test_knee_in_two_dimensions():
    # Line from (0, 1) to (1, 0); (0.2, 0.3) lies 0.5 / sqrt(2) below it, (0.6, 0.2) 0.2 / sqrt(2).
    bent = np.array([[0.0, 1.0], [0.2, 0.3], [0.6, 0.2], [1.0, 0.0], [0.9, 0.9]])
    assert knee(bent) == 1
    assert knee(bent[::-1]) == 3
    assert knee(bent[:, ::-1]) == 1
    straight = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    assert knee(straight) is None
    bulging = np.array([[0.0, 1.0], [0.7, 0.7], [1.0, 0.0]])
    assert knee(bulging) is None
    assert knee(bent[:2]) is None
    assert knee(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])) is None


def test_knee_in_more_dimensions_against_brute_force():
    generator = np.random.default_rng(13)
    for _ in range(30):
        losses = generator.integers(0, 6, (9, 3)) / 5
        assert knee(losses) == brute_knee(losses)
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            knee(np.array([[wrong, 1.0], [0.0, 1.0]]))


def test_scores_by_hand():
    losses = np.array([[0.2, 0.8], [0.5, 0.5]])
    # Weights 50 and 100 count 0.5 and 1: max(0.1, 0.8) + 0.001 x 1.0; max(0.25, 0.5) + 0.001.
    assert scores(losses, (50, 100)) == pytest.approx([0.801, 0.501])


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_sureness_is_about_how_often_the_choice_is_the_true_one(num_seeds):
    """Simulated: two methods of nine points each, noise of runs and of whole seeds.

    Measured with 150 results each: the shares said are 0.75, 0.69, 0.69 in the mean for 2, 3, 5
    seeds, and 0.61, 0.63, 0.75 of the choices are the true ones (standard error 0.04).
    """
    generator = np.random.default_rng(0)
    along = np.linspace(0.1, 0.9, 9)
    front = np.stack([0.6 + 0.2 * np.sqrt(along), 0.6 + 0.2 * np.sqrt(1 - along)], axis=1)
    true = {("a", k): v for k, v in enumerate(front)} | {
        ("b", k): v - 0.003 for k, v in enumerate(front)
    }
    axes = choose_axes(("depth", "segmentation"))
    losses = -np.array(list(true.values()))
    losses = (losses - losses.min(axis=0)) / np.ptp(losses, axis=0)
    said, right = [], []
    for _ in range(150):
        of_seed = generator.normal(0, 0.004, (num_seeds, 2))
        runs = {
            (arm, (float(along[k]), float(1 - along[k]))): {
                s: mean + of_seed[s] + generator.normal(0, 0.006, 2) for s in range(num_seeds)
            }
            for (arm, k), mean in true.items()
        }
        weights = generator.integers(0, STEPS + 1, 2).tolist()
        choice = choose(offers(runs, axes), weights, (0, 0))
        said.append(choice.sureness)
        right.append(scores(losses, weights).argmin() == choice.index)
    said, right = np.array(said, dtype=float), np.array(right)
    print(f"{num_seeds} seeds: said {said.mean():.2f}, right {right.mean():.2f}")
    print(f"  of those said 0.8 and more: {right[said >= 0.8].mean():.2f} of {(said >= 0.8).sum()}")
    assert abs(said.mean() - right.mean()) < 0.2
    assert right[said >= 0.8].mean() > right[said < 0.8].mean()


def test_ties_are_counted_and_not_certified():
    rows = {s: np.array([0.3, 0.5]) for s in range(3)}
    tied = offers({("lsb", (k / 10, 1 - k / 10)): rows for k in range(1, 6)}, AXES)
    choice = choose(tied, (50, 50), (0, 0))
    assert (choice.index, choice.num_equal, choice.sureness) == (0, 5, None)
    # Equal only by these weights: losses (0, 1) and (1, 0) weigh alike.
    mirrored = offers(one_seed((0.2, 0.5), (0.6, 0.75)), AXES)
    assert choose(mirrored, (50, 50), (0, 0)).num_equal == 2
    assert choose(mirrored, (50, 49), (0, 0)).num_equal == 1
    # Two seeds and three of the same value have means that may differ by rounding.
    few = {s: np.array([0.1, 0.7]) for s in range(2)}
    many = {s: np.array([0.1, 0.7]) for s in range(7)}
    rounded = offers({("a", (0.5, 0.5)): few, ("b", (0.5, 0.5)): many}, AXES)
    assert choose(rounded, (50, 50), (0, 0)).num_equal == 2
    assert rounded.best == rounded.worst
