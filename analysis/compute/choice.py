"""Which network for what I want? The choice among operating points, by weights and least levels.

Everything is on one footing: a loss of 0 is the best mean that any point has on an axis, 1 the
worst. Losses are whole numbers of millionths, so that Python and the page's JavaScript, which does
the same (`templates/picker.js`), come to the same choice to the last bit. Nothing here reads files
or draws.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from analysis.compute.fronts import minimised, nondominated
from analysis.compute.inference import run_widening
from analysis.load.axes import Axis
from analysis.load.matched import Runs
from analysis.load.text import SAME, evenly
from mtl.errors import UsageError

UNIT = 1_000_000
"""The loss of the worst mean; the best has 0."""
STEPS = 100
"""Positions of a slider, from 0."""
SUM_SHARE = 0.001
"""Weight of the sum of losses beside the largest weighted one: so that no dominated point wins."""
MOST_VALUES = 60_000
"""Single losses (points x seeds x axes) that the page holds; beyond, fewer points are offered."""
MOST_OFFERED = 300
NUM_RESAMPLES = 100
SAMPLING_SEED = 0


@dataclass(frozen=True)
class Offer:
    """One operating point that may be chosen."""

    arm: str
    priorities: tuple[float, ...] | None
    seeds: tuple[int, ...]
    losses: np.ndarray
    """(seeds, axes) of int64, in millionths of the range of means."""

    @property
    def mean(self) -> np.ndarray:
        """Return the mean loss on each axis, (axes,), in millionths."""
        return np.asarray(self.losses.sum(axis=0) / len(self.seeds))


@dataclass(frozen=True)
class Offers:
    """Points to choose from, and what is needed to say how sure a choice is."""

    points: tuple[Offer, ...]
    best: tuple[float, ...]
    """Best mean of any point on each axis, in metric units."""
    worst: tuple[float, ...]
    num_all: int
    """Points before the number was bounded."""
    draws: np.ndarray
    """(resamples, seeds): how often each of `seeds` is drawn; none with a single seed."""
    seeds: tuple[int, ...]
    """All seeds of all points, rising; a seed with all its runs is one observation."""

    @property
    def means(self) -> np.ndarray:
        """Return the mean losses, (points, axes)."""
        return np.array([point.mean for point in self.points])

    @functools.cached_property
    def resamples(self) -> np.ndarray:
        """Return what `resampled` gives."""
        return resampled(self)


@dataclass(frozen=True)
class Choice:
    """The point chosen for some weights and least levels."""

    index: int
    """Place in `Offers.points`."""
    shortfall: float
    """By how much of an axis' range it misses the levels, on the worst axis; 0 if it meets all."""
    num_equal: int
    """Points that are equally good, with the chosen one, the first of them: 1 for a choice."""
    sureness: float | None
    """Share of resamples of the seeds that choose the same point, and it alone; None with a single
    seed, and where other points are equally good."""
    seed: int
    """The middle one of its seeds by their own scores, of two middle ones the better: the network
    to take."""


def offers(runs: Runs, axes: Sequence[Axis], arms: Sequence[str] = ()) -> Offers:
    """Return the points to choose from.

    Beyond `MOST_OFFERED` points, or `MOST_VALUES` losses, those that fewer other points dominate
    come first, in layers of fronts; within the last layer they are evenly picked along its first
    axis.

    Args:
        runs: (method, priorities) -> seed -> values of the axes; the same values are judged and
            must be finite.
        axes: of the values.
        arms: in their order; methods that are not named follow.

    Raises:
        ValueError: without points, or for values that are not finite.
    """
    if not runs:
        raise UsageError("Expected operating points, got none. Give runs with results.")
    order = {arm: number for number, arm in enumerate(arms)}
    keys = sorted(runs, key=lambda k: (order.get(k[0], len(order)), k[0], k[1] or ()))
    losses = [minimised(np.array(list(runs[key].values())), axes) for key in keys]
    means = np.array([of.mean(axis=0) for of in losses])
    best, worst = means.min(axis=0), means.max(axis=0)
    # Means that differ by rounding alone are the same.
    worst = np.where(np.isclose(best, worst, rtol=SAME, atol=0), best, worst)
    width = np.where(worst > best, worst - best, np.inf)
    num_seeds = max(len(of) for of in losses)
    most = max(1, min(MOST_OFFERED, MOST_VALUES // (num_seeds * len(axes))))
    points = tuple(
        Offer(
            keys[k][0],
            keys[k][1],
            tuple(runs[keys[k]]),
            np.rint((losses[k] - best) / width * UNIT).astype(np.int64),
        )
        for k in _foremost(means, most)
    )
    seeds = tuple(sorted({seed for point in points for seed in point.seeds}))
    turn = minimised(np.ones(len(axes)), axes)
    return Offers(
        points,
        tuple(map(float, best * turn)),
        tuple(map(float, worst * turn)),
        len(keys),
        _draws(len(seeds)),
        seeds,
    )


def choose(held: Offers, weights: Sequence[int], levels: Sequence[int]) -> Choice:
    """Return the point for what the reader wants.

    Points that meet every level come before those that do not; of the latter those that miss them
    by less. Among equals the least score wins: the largest weighted loss, with a thousandth of the
    sum of all (an augmented Chebyshev achievement function). Of equal points it is the first.

    Args:
        held: the points.
        weights: how much each axis matters, whole numbers from 0 to `STEPS`; all 0 counts as equal.
        levels: least level on each axis, from 0 (the worst mean: no demand) to `STEPS` (the best).

    Raises:
        ValueError: for another number of weights or levels, or for those out of range.
    """
    num_axes = len(held.best)
    for name, positions in (("weights", weights), ("levels", levels)):
        if len(positions) != num_axes or not all(0 <= p <= STEPS for p in positions):
            raise UsageError(
                f"Expected {num_axes} {name} from 0 to {STEPS}, got {list(positions)}."
            )
    means = held.means
    equal = _least(means, weights, levels)
    index = equal[0]
    again = [_least(drawn, weights, levels) for drawn in held.resamples] if len(equal) == 1 else []
    return Choice(
        index=index,
        num_equal=len(equal),
        shortfall=float(_shortfalls(means[index : index + 1], levels)[0] / UNIT),
        sureness=sum(found == equal for found in again) / len(again) if again else None,
        seed=_middle_seed(held.points[index], weights),
    )


def resampled(held: Offers) -> np.ndarray:
    """Return the mean losses in each resample of the seeds, (resamples, points, axes).

    Deviations from the mean are widened by sqrt(n / (n - 1)) for n seeds, as resampling few seeds
    makes them too small. A point none of whose seeds is drawn keeps its mean.
    """
    place = {seed: number for number, seed in enumerate(held.seeds)}
    found = np.empty((len(held.draws), len(held.points), len(held.best)))
    for k, point in enumerate(held.points):
        n, mean = len(point.seeds), point.mean
        counts = held.draws[:, [place[seed] for seed in point.seeds]]
        totals = counts.sum(axis=1)[:, None]
        drawn = (counts @ point.losses) / np.maximum(totals, 1)
        widening = run_widening(n) if n > 1 else 0.0
        found[:, k] = np.where(totals > 0, mean + widening * (drawn - mean), mean)
    return found


def scores(losses: np.ndarray, weights: Sequence[int]) -> np.ndarray:
    """Return the score of each row of losses (n, axes); less is better."""
    largest = max(weights)
    result, total = np.full(len(losses), -np.inf), np.zeros(len(losses))
    for k, weight in enumerate(weights):
        share = weight / largest if largest else 1.0
        result = np.maximum(result, share * losses[:, k])
        total = total + losses[:, k]
    return result + SUM_SHARE * total


def knee(losses: np.ndarray) -> int | None:
    """Return the knee point of a front: leaving it in any direction costs most.

    On two axes the undominated point that lies farthest from the line through the front's two ends,
    on the better side. On more, the one for which the least ratio of what another undominated point
    loses to what it gains is largest (high trade-off).

    Args:
        losses: (points, axes), all axes on one footing, lower is better.

    Returns:
        Its row; None for fewer than three different undominated points, or where no point lies on
        the better side of the line.
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


def _least(means: np.ndarray, weights: Sequence[int], levels: Sequence[int]) -> list[int]:
    """Return the rows of the best point and of those equally good, rising."""
    missed, own = _shortfalls(means, levels), scores(means, weights)
    own = np.where(missed == missed.min(), own, np.inf)
    return [int(k) for k in np.flatnonzero(own == own.min())]


def _shortfalls(means: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return by how many millionths of a range each point misses the levels on its worst axis."""
    allowed = np.array([(STEPS - level) * (UNIT // STEPS) for level in levels])
    missed = np.clip(means - allowed, 0, None).max(axis=1)
    # A level at a point's own mean is met, whatever rounding says.
    return np.where(missed < 1, 0.0, missed)


def _middle_seed(point: Offer, weights: Sequence[int]) -> int:
    own = scores(point.losses.astype(np.float64), weights)
    ranked = np.argsort(own, kind="stable")
    return point.seeds[int(ranked[(len(ranked) - 1) // 2])]


def _foremost(means: np.ndarray, most: int) -> list[int]:
    """Return the rows of at most so many points, undominated ones first, in rising order."""
    if len(means) <= most:
        return list(range(len(means)))
    layers = np.asarray(moocore.pareto_rank(np.array(means)))
    taken: list[int] = []
    for layer in range(int(layers.max()) + 1):
        rows = np.flatnonzero(layers == layer)
        room = most - len(taken)
        rows = rows[np.argsort(means[rows, 0], kind="stable")]
        taken += evenly(rows.tolist(), room)
        if len(taken) == most:
            break
    return sorted(set(taken))


def _draws(num_seeds: int) -> np.ndarray:
    if num_seeds < 2:
        return np.zeros((0, num_seeds), dtype=np.int64)
    generator = np.random.default_rng(SAMPLING_SEED)
    shares = np.full(num_seeds, 1 / num_seeds)
    return np.asarray(generator.multinomial(num_seeds, shares, size=NUM_RESAMPLES), dtype=np.int64)
