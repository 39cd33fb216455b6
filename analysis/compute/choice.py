"""Which network for what I want? The points to choose from, and how sure the default choice is.

Everything is on one scale: a loss of 0 is the best mean that any point has on an axis, 1 the
worst. The page's script (`templates/picker.js`) chooses by the reader's weights and levels; here is
what it chooses from, the choice at equal weights, and the knee point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compute.fronts import minimised, nondominated
from analysis.compute.inference import run_widening
from analysis.load.axes import Axis
from analysis.load.matched import Key, Runs
from analysis.load.text import SAME

SUM_SHARE = 0.001
"""Weight of the sum of losses beside the largest weighted one: so that no dominated point wins."""
DECIMALS = 6
"""Of losses and scores; what differs by less is equal."""
NUM_RESAMPLES = 100
SAMPLING_SEED = 0


@dataclass(frozen=True)
class Candidates:
    """All operating points on one scale."""

    keys: tuple[Key, ...]
    """Method and priorities of each point."""
    losses: np.ndarray
    """(points, axes): mean losses, in shares of the range of means."""
    resampled: np.ndarray
    """(resamples, points, axes): mean losses in each resample of the seeds; none with one seed."""
    middle_seeds: tuple[int, ...]
    """Of each point the seed with the middle score at equal weights, of two the better."""
    best: tuple[float, ...]
    """Best mean of any point on each axis, in metric units."""
    worst: tuple[float, ...]

    @property
    def offered(self) -> np.ndarray:
        """Return the rows of nondominated points: no others win, whatever is asked."""
        return np.flatnonzero(nondominated(self.losses))


@dataclass(frozen=True)
class Choice:
    """The point chosen where all metrics matter alike."""

    index: int
    """Its row."""
    num_equal: int
    """Points that are equally good, with the chosen one, the first of them: 1 for a choice."""
    sureness: float | None
    """Share of resamples of the seeds that choose the same point, and it alone; None with a single
    seed, and where other points are equally good."""


def candidates(runs: Runs, axes: Sequence[Axis], arms: Sequence[str] = ()) -> Candidates:
    """Return all points on one scale.

    `runs` are (method, priorities) -> seed -> values of the axes, at least one point, all finite.
    Methods come in the order of `arms`, others follow.
    """
    order = {arm: number for number, arm in enumerate(arms)}
    keys = sorted(runs, key=lambda k: (order.get(k[0], len(order)), k[0], k[1] or ()))
    values = [minimised(np.array(list(runs[key].values())), axes) for key in keys]
    means = np.array([of.mean(axis=0) for of in values])
    best, worst = means.min(axis=0), means.max(axis=0)
    # Means that differ by rounding alone are the same.
    worst = np.where(np.isclose(best, worst, rtol=SAME, atol=0), best, worst)
    width = np.where(worst > best, worst - best, np.inf)
    losses = [(of - best) / width for of in values]
    seeds = [list(runs[key]) for key in keys]
    turn = minimised(np.ones(len(axes)), axes)
    return Candidates(
        tuple(keys),
        np.array([of.mean(axis=0) for of in losses]).round(DECIMALS),
        _resampled(losses, seeds),
        tuple(_middle_seed(*of) for of in zip(losses, seeds, strict=True)),
        tuple(map(float, best * turn)),
        tuple(map(float, worst * turn)),
    )


def _resampled(losses: Sequence[np.ndarray], seeds: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the mean losses in each resample of the seeds, (resamples, points, axes).

    A seed with all its runs is one observation. Deviations from the mean are widened by
    sqrt(n / (n - 1)) for n seeds, as resampling few seeds makes them too small. A point none of
    whose seeds is drawn keeps its mean.
    """
    place = {seed: number for number, seed in enumerate(sorted(set().union(*seeds)))}
    shape = (len(losses), losses[0].shape[1])
    if len(place) < 2:
        return np.empty((0, *shape))
    generator = np.random.default_rng(SAMPLING_SEED)
    draws = generator.multinomial(len(place), [1 / len(place)] * len(place), size=NUM_RESAMPLES)
    found = np.empty((NUM_RESAMPLES, *shape))
    for k, (of, own) in enumerate(zip(losses, seeds, strict=True)):
        mean = of.mean(axis=0)
        counts = draws[:, [place[seed] for seed in own]]
        totals = counts.sum(axis=1)[:, None]
        widening = run_widening(len(own)) if len(own) > 1 else 0.0
        drawn = mean + widening * ((counts @ of) / np.maximum(totals, 1) - mean)
        found[:, k] = np.where(totals > 0, drawn, mean)
    return found


def scores(losses: np.ndarray) -> np.ndarray:
    """Return the score of losses (..., axes) at equal weights; less is better.

    The largest loss, with a thousandth of the sum of all (augmented Chebyshev achievement).
    """
    return np.asarray(losses.max(axis=-1) + SUM_SHARE * losses.sum(axis=-1)).round(DECIMALS)


def choice_at_equal_weights(held: Candidates) -> Choice:
    """Return the point with the least score, the first of equal ones, and how sure it is."""
    own = scores(held.losses)
    equal = np.flatnonzero(own == own.min())
    sureness = None
    if len(equal) == 1 and len(held.resampled):
        again = scores(held.resampled)
        is_least = again == again.min(axis=1, keepdims=True)
        sureness = float(np.mean(is_least[:, equal[0]] & (is_least.sum(axis=1) == 1)))
    return Choice(int(equal[0]), len(equal), sureness)


def _middle_seed(losses: np.ndarray, seeds: Sequence[int]) -> int:
    ranked = np.argsort(scores(losses), kind="stable")
    return seeds[int(ranked[(len(ranked) - 1) // 2])]


def knee(losses: np.ndarray) -> int | None:
    """Return the row of the knee point of `losses` (points, axes): leaving it costs most.

    On two axes the nondominated point that lies farthest from the line through the front's two
    ends, on the better side. On more, the one for which the least ratio of what another
    nondominated point loses to what it gains is largest (high trade-off). All axes are on one
    scale, lower is better. None for fewer than three different nondominated points, or where no
    point lies on the better side of the line.
    """
    front = np.flatnonzero(nondominated(losses))
    _, first = np.unique(losses[front], axis=0, return_index=True)
    front = front[np.sort(first)]
    if len(front) < 3:
        return None
    values = losses[front]
    if losses.shape[1] == 2:
        left, right = values[values[:, 0].argmin()], values[values[:, 0].argmax()]
        along = right - left
        distances = along[0] * (left[1] - values[:, 1]) - along[1] * (left[0] - values[:, 0])
        if distances.max() <= 1e-9 * np.hypot(*along):
            return None
        return int(front[distances.argmax()])
    others = values[None, :, :] - values[:, None, :]
    lost = np.clip(others, 0, None).sum(axis=2)
    gained = np.clip(-others, 0, None).sum(axis=2)
    np.fill_diagonal(gained, 1.0)
    worth = lost / gained
    np.fill_diagonal(worth, np.inf)
    return int(front[int(worth.min(axis=1).argmax())])
