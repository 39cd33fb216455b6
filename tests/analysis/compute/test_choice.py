"""The choice among operating points at equal weights, how sure it is, and the knee point."""

import math

import numpy as np
import pytest

from analysis.compute.choice import (
    NUM_RESAMPLES,
    candidates,
    choice_at_equal_weights,
    knee,
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
    held = candidates(FOUR, AXES)
    assert held.best == (0.2, 0.75)
    assert held.worst == (0.6, 0.50)
    # B: rmse (0.3 - 0.2) / 0.4 = 0.25 of the range, miou (0.75 - 0.70) / 0.25 = 0.2.
    assert held.losses[:2].tolist() == [[0, 1], [0.25, 0.2]]
    assert held.offered.tolist() == [0, 1, 2]
    # Largest losses: A 1, B 0.25, C 1, D 0.6.
    choice = choice_at_equal_weights(held)
    assert (choice.index, choice.num_equal, choice.sureness) == (1, 1, None)  # one seed


def test_scores_by_hand():
    # max(0.2, 0.8) + 0.001 x 1.0; max(0.5, 0.5) + 0.001 x 1.0
    assert scores(np.array([[0.2, 0.8], [0.5, 0.5]])).tolist() == [0.801, 0.501]


def test_the_chosen_point_can_be_chosen():
    generator = np.random.default_rng(5)
    for axes in (AXES, THREE) * 10:
        held = candidates(random_runs(generator, len(axes)), axes)
        choice = choice_at_equal_weights(held)
        assert choice.index in held.offered
        assert choice.index == scores(held.losses).argmin()


def test_sureness_by_hand():
    # Two seeds; the first seed says A by far, the second says B by a little less.
    runs = {
        ("a", (0.5, 0.5)): {0: np.array([0.0, 0.0]), 1: np.array([1.0, 1.0])},
        ("b", (0.5, 0.5)): {0: np.array([1.0, 1.0]), 1: np.array([0.1, 0.1])},
    }
    axes = choose_axes(("depth", "normal"), {"depth": "rmse", "normal": "mean_angle"})
    held = candidates(runs, axes)
    # Means 0.5 and 0.55: A. A resample of seed 1 alone (a quarter) chooses B.
    choice = choice_at_equal_weights(held)
    assert held.keys[choice.index][0] == "a"
    only_second = int((held.resampled[:, 0, 0] > held.resampled[:, 1, 0]).sum())
    assert 10 < only_second < 40
    assert choice.sureness == 1 - only_second / NUM_RESAMPLES


def test_resamples_are_widened_means_over_the_seeds_drawn():
    runs = {("a", None): {0: np.array([0.0, 0.0]), 3: np.array([1.0, 4.0])},
            ("b", None): {3: np.array([0.2, 0.4])}}  # fmt: skip
    found = candidates(runs, AXES).resampled
    assert found.shape == (NUM_RESAMPLES, 2, 2)
    # Means of a are 0.5 and 2, of b 0.2 and 0.4: ranges 0.3 and 1.6. a drawn from one seed alone
    # lies 0.5 / 0.3 from its mean, times sqrt(2 / 1).
    far = math.sqrt(2) * 0.5 / 0.3
    drawn = found[:, 0, 0] - 1
    assert all(min(abs(drawn - x) for x in (-far, 0, far)) < 1e-9 for drawn in drawn)
    assert set(found[:, 1, 0].round(9)) == {0.0}  # one seed, drawn or not


def test_the_middle_seed_is_taken():
    rows = {0: (0.9, 0.1), 1: (0.2, 0.9), 2: (0.5, 0.5), 3: (0.4, 0.6)}
    runs = {("a", None): {s: np.array(v) for s, v in rows.items()}, **one_seed((0.1, 0.0))}
    # Seeds rank 1, 3, 2, 0 (best first); of the two middle ones the better.
    assert candidates(runs, AXES).middle_seeds == (3, 0)


def test_equal_points_are_counted_and_have_no_sureness():
    rows = {s: np.array([0.3, 0.5]) for s in range(3)}
    tied = candidates({("lsb", (k / 10, 1 - k / 10)): rows for k in range(1, 6)}, AXES)
    choice = choice_at_equal_weights(tied)
    assert (choice.index, choice.num_equal, choice.sureness) == (0, 5, None)
    # Two seeds and seven of the same value have means that may differ by rounding.
    few = {s: np.array([0.1, 0.7]) for s in range(2)}
    many = {s: np.array([0.1, 0.7]) for s in range(7)}
    rounded = candidates({("a", (0.5, 0.5)): few, ("b", (0.5, 0.5)): many}, AXES)
    assert choice_at_equal_weights(rounded).num_equal == 2
    assert rounded.best == rounded.worst


def test_axes_in_another_order_give_the_same_choice():
    runs = random_runs(np.random.default_rng(9))
    turned = {
        key: {seed: value[::-1].copy() for seed, value in held.items()}
        for key, held in reversed(runs.items())
    }
    a, b = candidates(runs, AXES), candidates(turned, AXES[::-1])
    one, other = choice_at_equal_weights(a), choice_at_equal_weights(b)
    assert a.keys[one.index] == b.keys[other.index]
    assert one.sureness == other.sureness


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


@pytest.mark.parametrize("num_seeds", [2, 5])
def test_sureness_is_how_often_the_choice_is_true(num_seeds):
    """Simulated: two methods of nine points each, noise of runs and of whole seeds."""
    generator = np.random.default_rng(0)
    along = np.linspace(0.1, 0.9, 9)
    front = np.stack([0.6 + 0.2 * np.sqrt(along), 0.6 + 0.2 * np.sqrt(1 - along)], axis=1)
    true = {("a", k): v for k, v in enumerate(front)} | {
        ("b", k): v - 0.003 for k, v in enumerate(front)
    }
    axes = choose_axes(("depth", "segmentation"))
    losses = -np.array(list(true.values()))
    best = scores((losses - losses.min(axis=0)) / np.ptp(losses, axis=0)).argmin()
    said, right = [], []
    for _ in range(150):
        of_seed = generator.normal(0, 0.004, (num_seeds, 2))
        runs = {
            (arm, (float(along[k]), float(1 - along[k]))): {
                s: mean + of_seed[s] + generator.normal(0, 0.006, 2) for s in range(num_seeds)
            }
            for (arm, k), mean in true.items()
        }
        choice = choice_at_equal_weights(candidates(runs, axes))
        said.append(choice.sureness)
        right.append(choice.index == best)
    said, right = np.array(said, dtype=float), np.array(right)
    assert abs(said.mean() - right.mean()) < 0.2
    assert right[said >= 0.8].mean() > right[said < 0.8].mean()
