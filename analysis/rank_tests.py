"""Tests that fit a table of trials: exact permutations with Holm, and delta-m beside them.

Metrics of the same trials are no independent blocks, so a mean rank alone proves nothing. Trials
that share a seed share weights and data order at every priority and in every method, so a seed
with all its rows is one observation, as in `analysis.inference`: all rows of a seed change method
at once. Only trials of which none shares a seed with another are independent. What the smallest
reachable p is, is said beside every test: with 3 against 3 independent trials it is 0.1, with 2
shared seeds 0.5, whatever the values are.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference import holm
from analysis.priorities import PRIORITY_PREFIX
from analysis.ranks import RankedMetric, displayed
from analysis.words import listed

MOST_ENUMERATED = 100_000
"""Relabellings up to this many are all counted; beyond, as many are drawn."""
SAMPLING_SEED = 0


@dataclass(frozen=True)
class PairTest:
    """Whether two methods differ in one metric."""

    method_a: str
    method_b: str
    column: str
    difference: float
    """Mean of a minus mean of b, in displayed units."""
    probability_a_better: float
    """Share of pairs of trials in which a's value is better, ties counted half."""
    p: float
    """Two-sided, of the difference of means under relabelled trials."""
    p_adjusted: float
    """After Holm, over all pairs of methods and metrics."""
    smallest_p: float
    """Reachable with so many trials."""
    paired: bool
    """Whole seeds were relabelled; else single independent trials."""
    exact: bool


@dataclass(frozen=True)
class Untested:
    """Two methods of which no test is made."""

    method_a: str
    method_b: str
    reason: str


def pair_tests(
    trials: pd.DataFrame,
    by: str,
    metrics: Sequence[RankedMetric],
    seed: str | None,
    settings: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] | None = None,
) -> tuple[list[PairTest], list[Untested]]:
    """Test pairs of methods in every metric.

    Args:
        trials: one row a trial; see `analysis.ranks.RankTable.trials`.
        by: column that names the methods.
        metrics: what is compared.
        seed: column of the seeds, which are relabelled as a whole; None without any.
        settings: columns, such as priorities, in which the rows of a seed differ; two methods are
            compared where both have the same ones of every seed.
        pairs: of methods; None means every pair.

    Returns:
        The tests, and the pairs without any with the reason.
    """
    groups = {str(name): held for name, held in trials.groupby(by, sort=False)}
    chosen = list(itertools.combinations(groups, 2) if pairs is None else pairs)
    reasons = {(a, b): _why_untested(groups[a], groups[b], seed, settings) for a, b in chosen}
    found = [
        _pair_test(a, b, groups[a], groups[b], ranked, seed)
        for ranked in metrics
        for a, b in chosen
        if reasons[a, b] is None
    ]
    adjusted = holm([test.p for test in found])
    tests = [
        PairTest(**{**vars(test), "p_adjusted": p}) for test, p in zip(found, adjusted, strict=True)
    ]
    return tests, [Untested(a, b, why) for (a, b), why in reasons.items() if why is not None]


def _why_untested(
    rows_a: pd.DataFrame, rows_b: pd.DataFrame, seed: str | None, settings: Sequence[str]
) -> str | None:
    """Return why no relabelling of these rows is exchangeable, or None if one is."""
    if min(len(rows_a), len(rows_b)) < 2:
        return "a difference between methods needs two trials of each or more"
    of_a, of_b = (_setting_texts(rows, settings) for rows in (rows_a, rows_b))
    if seed is None:
        if max(len(set(of_a)), len(set(of_b))) > 1:
            return (
                f"without a column of seeds nothing says which runs at several {_named(settings)} "
                "belong together"
            )
        return None
    seeds_a, seeds_b = rows_a[seed], rows_b[seed]
    if seeds_a.isna().any() or seeds_b.isna().any():
        return f"some trials have no {seed}"
    if not _share_seeds(rows_a, rows_b, seed):
        return None
    if set(seeds_a) != set(seeds_b):
        return f"they have different seeds, and are matched by {seed}"
    if seeds_a.nunique() < 2:
        return "whole seeds are relabelled, and all trials are of a single one"
    if set(of_a) != set(of_b):
        return f"they have different {_named(settings)}"
    if Counter(zip(seeds_a, of_a, strict=True)) != Counter(zip(seeds_b, of_b, strict=True)):
        return f"they have not equally many trials of every {seed}" + (
            f" at all {_named(settings)}" if settings else ""
        )
    return None


def _named(settings: Sequence[str]) -> str:
    """Return what the rows of a seed differ in, in words."""
    others = [name for name in settings if not name.startswith(PRIORITY_PREFIX)]
    priorities = ["priorities"] if len(others) < len(settings) else []
    return listed([*dict.fromkeys([*priorities, *others])] or ["settings"])


def _setting_texts(rows: pd.DataFrame, settings: Sequence[str]) -> list[tuple[str, ...]]:
    # Nine digits: 0.1 + 0.2 and 0.3 are one priority.
    texts = rows[list(settings)].round(9).astype(str)
    return list(texts.itertuples(index=False, name=None))


def _share_seeds(rows_a: pd.DataFrame, rows_b: pd.DataFrame, seed: str) -> bool:
    return not pd.concat([rows_a[seed], rows_b[seed]]).is_unique


def _pair_test(
    a: str,
    b: str,
    rows_a: pd.DataFrame,
    rows_b: pd.DataFrame,
    ranked: RankedMetric,
    seed: str | None,
) -> PairTest:
    x, y = (displayed(rows[ranked.column].tolist(), ranked) for rows in (rows_a, rows_b))
    paired = seed is not None and _share_seeds(rows_a, rows_b, seed)
    if seed is not None and paired:
        sums_a, sums_b = (
            pd.Series(values).groupby(rows[seed].to_numpy()).sum()
            for values, rows in ((x, rows_a), (y, rows_b))
        )
        # What each seed adds to the difference of means, so that their mean is that difference.
        differences = (sums_a - sums_b).to_numpy() * (len(sums_a) / len(x))
        p, exact = _paired_p(differences)
        count = 2 ** len(differences)
    else:
        p, exact = _independent_p(x, y)
        count = math.comb(len(x) + len(y), len(x))
    # Each relabelling has a mirror of the same size; with unequal numbers of independent trials
    # the mirror is not among the relabellings.
    mirrored = paired or len(x) == len(y)
    sign = 1 if ranked.metric.direction == "max" else -1
    better = np.sign(sign * (x[:, None] - y[None, :]))
    return PairTest(
        method_a=a,
        method_b=b,
        column=ranked.column,
        difference=float(x.mean() - y.mean()),
        probability_a_better=float((better + 1).mean() / 2),
        p=p,
        p_adjusted=p,
        smallest_p=min(1.0, (2 if mirrored else 1) / count)
        if count <= MOST_ENUMERATED
        else 1 / (MOST_ENUMERATED + 1),
        paired=paired,
        exact=exact,
    )


def _independent_p(x: np.ndarray, y: np.ndarray) -> tuple[float, bool]:
    exact = math.comb(len(x) + len(y), len(x)) <= MOST_ENUMERATED
    return _p((x, y), "independent", exact), exact


def _paired_p(differences: np.ndarray) -> tuple[float, bool]:
    exact = 2 ** len(differences) <= MOST_ENUMERATED
    return _p((differences, np.zeros(len(differences))), "samples", exact), exact


def _p(samples: tuple[np.ndarray, np.ndarray], kind: str, exact: bool) -> float:
    """Return the two-sided p of |difference of means|."""
    result = stats.permutation_test(
        samples,
        # Rounded, so that equal differences summed in another order count as equal.
        lambda x, y, axis: np.round(np.abs(x.mean(axis=axis) - y.mean(axis=axis)), 9),
        permutation_type=kind,
        vectorized=True,
        n_resamples=np.inf if exact else MOST_ENUMERATED,
        alternative="greater",
        rng=np.random.default_rng(SAMPLING_SEED),
    )
    return float(result.pvalue)


@dataclass(frozen=True)
class DeltaM:
    """Mean signed relative change of a method against single-task runs; positive is better."""

    method: str
    tasks_first_percent: float
    """Each task's metrics averaged, then the tasks: every task counts alike (Maninis et al. 2019
    in the form with several metrics a task, as MTL libraries report it)."""
    metrics_flat_percent: float
    """All metrics averaged: a task with more metrics counts more."""


def delta_m(
    means: Mapping[str, float],
    baseline: Mapping[str, float],
    metrics: Sequence[RankedMetric],
    task_of: Mapping[str, str],
    method: str,
) -> DeltaM:
    """Return the two conventions of delta-m for a method's mean values.

    Args:
        means: column -> the method's mean.
        baseline: column -> the mean of the single-task runs; none 0.
        metrics: what is averaged.
        task_of: column -> task.
        method: its name.

    Raises:
        ValueError: if a baseline is 0, to which nothing is relative.
    """
    changes: dict[str, list[float]] = {}
    for ranked in metrics:
        column = ranked.column
        if baseline[column] == 0:
            raise ValueError(
                f"Expected a baseline other than 0 for {column}, got 0: a change relative to it "
                "has no meaning. Leave that metric out."
            )
        sign = 1 if ranked.metric.direction == "max" else -1
        change = sign * (means[column] - baseline[column]) / abs(baseline[column])
        changes.setdefault(task_of[column], []).append(100 * change)
    return DeltaM(
        method,
        float(np.mean([np.mean(task) for task in changes.values()])),
        float(np.mean([change for task in changes.values() for change in task])),
    )
