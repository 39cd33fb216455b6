"""Does a metric follow its priority? Rank correlation, violations, span and evenness.

For each seed the metrics of the runs along the priorities are one curve; reported is the mean over
these curves, with an interval from resampling whole seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.compute.inference import LEVEL, MIN_SEEDS, SAMPLING_SEED, Interval, run_widening
from analysis.load.text import no_width

NUM_RESAMPLES = 2_000


@dataclass(frozen=True)
class Control:
    """How one metric of a method follows its task's priority."""

    rank_correlation: float | None
    """Kendall's tau-b of gain and priority, mean over seeds; None where the metric is constant."""
    interval: Interval | None
    """Of the mean over seeds, by resampling them; None with fewer than `MIN_SEEDS`, or where
    all agree: resampling them says nothing."""
    num_agreeing: int | None
    """Seeds with a correlation, if there are `MIN_SEEDS` or more and all have the same."""
    violations: int
    """Neighbouring priorities between which the mean gain falls as the priority rises."""
    num_steps: int
    """Neighbouring priorities."""
    span: float
    """Largest minus smallest mean gain."""
    evenness: float | None
    """Of the means along the priorities: 1 if every step moves the metric alike, 0 if one step
    moves it alone; None for less than two steps or no span."""


def control(priorities: Sequence[float], gains: np.ndarray) -> Control:
    """Return how gains follow priorities.

    `priorities` (n,) are of the task, at least two distinct ones; `gains` (num_seeds, n) of the
    metric, finite, turned so that higher is better.
    """
    values = np.asarray(priorities, dtype=float)
    taus = [float(stats.kendalltau(values, curve).statistic) for curve in gains]
    known = np.array([tau for tau in taus if np.isfinite(tau)])
    # With three tasks and more, several operating points give a task the same priority.
    mean = gains.mean(axis=0)
    means = np.array([mean[values == priority].mean() for priority in np.unique(values)])
    steps = np.diff(means)
    is_enough = len(known) >= MIN_SEEDS
    agree = is_enough and no_width(float(known.min()), float(known.max()))
    return Control(
        rank_correlation=float(known.mean()) if len(known) else None,
        interval=_interval(known) if is_enough and not agree else None,
        num_agreeing=len(known) if agree else None,
        violations=int((steps < 0).sum()),
        num_steps=len(steps),
        span=float(np.ptp(means)),
        evenness=_evenness(np.abs(steps)),
    )


def _interval(values: np.ndarray) -> Interval:
    """Return the percentile interval of the mean, widened about it; within what a tau can be."""
    generator = np.random.default_rng(SAMPLING_SEED)
    n = len(values)
    means = values[generator.integers(0, n, size=(NUM_RESAMPLES, n))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    centre, wider = values.mean(), run_widening(n)
    ends = centre + (low - centre) * wider, centre + (high - centre) * wider
    return float(max(ends[0], -1.0)), float(min(ends[1], 1.0))


def _evenness(steps: np.ndarray) -> float | None:
    """Return the entropy of the steps' shares of the way over its largest value."""
    if len(steps) < 2 or steps.sum() == 0:
        return None
    shares = steps[steps > 0] / steps.sum()
    return float(abs((shares * np.log(shares)).sum()) / np.log(len(steps)))
