"""Ranks of trials over several metrics, in the manner of Table S-3 of the supplement, and tests.

For each metric all trials of all methods are ranked together, 1 for the best. Values are rounded
to the decimals that the metric is shown with, and equal ones share the mean of their ranks
(fractional ranks). A trial's least, greatest and average rank are over the metrics; a method's
average rank is the mean over its trials.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compute.significance import holm
from analysis.load.priorities import PRIORITY_PREFIX
from analysis.load.runs import Baselines
from analysis.load.text import listed
from analysis.load.trials import PRIORITIES, RankedMetric, Trials, identifier_text
from mtl.errors import UsageError, UserError
from mtl.spec.strict import checked_name

TOP_SHARE = 0.2
"""Of the trials of a metric: those that Table S-3 prints in red."""
MIN_BLOCKS, MIN_METHODS = 5, 3
"""Below these Friedman's approximation of p is worthless."""
MAX_ENUMERATED = 100_000
"""Permutations up to this many are all counted; beyond, as many are drawn."""
SAMPLING_SEED = 0
DELTA_COLUMNS = ("delta_m_percent_tasks_first", "delta_m_percent_metrics_flat")
"""Of the summary, where there is a baseline; see `delta_m`."""


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
    """Two-sided, of the difference of means under permuted trials."""
    p_adjusted: float
    """After Holm, over all pairs of methods and metrics."""
    min_attainable_p: float
    """With so many trials."""
    paired: bool
    """Whole seeds were permuted; else single independent trials."""
    exact: bool
    """Every permutation was counted; else some were drawn."""


@dataclass(frozen=True)
class Untested:
    """Two methods of which no test is made."""

    method_a: str
    method_b: str
    reason: str


@dataclass(frozen=True)
class BlockTest:
    """Friedman's test of one metric: whether some method's ranks in the blocks differ."""

    column: str
    average_ranks: Mapping[str, float]
    p: float
    num_blocks: int


@dataclass(frozen=True)
class Ranking:
    """Ranks of all trials, and what they say of each method."""

    by: str
    """Column that names the methods."""
    identifiers: tuple[str, ...]
    """Further columns that say which trial a row is."""
    metrics: tuple[RankedMetric, ...]
    trials: pd.DataFrame
    """One row a trial in the order given: the columns that identify it, each metric's value as
    given, `rank_<metric>`, `rank_min`, `rank_max`, `rank_avg`, and `num_top`, the number of metrics
    in which the trial is among the best fifth."""
    summary: pd.DataFrame
    """One row a method in order of appearance: `num_trials`, `rank_min`, `rank_max` and `rank_avg`
    over its trials, `num_top`; then of its mean values, ranked among the methods' means, each
    `mean_<metric>`, `rank_<metric>`, and `rank_of_means_min`, `_max`, `_avg`. `DELTA_COLUMNS` where
    there is a baseline."""
    tests: tuple[PairTest, ...] = ()
    untested: tuple[Untested, ...] = ()
    blocks: tuple[BlockTest, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_deltas(self) -> bool:
        """Return whether there is a baseline that Delta_m is relative to."""
        return DELTA_COLUMNS[0] in self.summary


def displayed(values: Sequence[float], ranked: RankedMetric) -> np.ndarray:
    """Return values as they are shown: in display units, rounded half up to the decimals."""
    step = Decimal(1).scaleb(-ranked.metric.decimals)
    # Twelve digits: 0.285 x 100 must be 28.5, not 28.499999999999996.
    shown = [Decimal(f"{value * ranked.factor:.12g}") for value in values]
    return np.array([float(value.quantize(step, ROUND_HALF_UP)) for value in shown])


def fractional_ranks(shown: np.ndarray, direction: str, tie_tolerance: float = 0.0) -> np.ndarray:
    """Return the ranks of finite `shown` (n,), 1 for the best; equal ones share their mean rank.

    `direction` is `min` or `max`, whichever is better. With a tolerance (in the units of `shown`),
    values tie with the best of their group: going from the best to the worst, a value farther than
    the tolerance from the group's first begins a new group.
    """
    signed = -shown if direction == "max" else shown
    groups = np.zeros(len(signed))
    group, first = -1, -np.inf
    for index in np.argsort(signed, kind="stable"):
        # A billionth more: 40.1 - 40.05 is a hair above 0.05.
        if signed[index] - first > tie_tolerance * (1 + 1e-9) + 1e-12:
            group, first = group + 1, signed[index]
        groups[index] = group
    return np.asarray(stats.rankdata(groups), dtype=float)


def rank_table(
    frame: pd.DataFrame, by: str, identifiers: Sequence[str], metrics: Sequence[RankedMetric]
) -> Ranking:
    """Return the ranks of every row of `frame`, one a trial, at least one, all metrics finite.

    `by` names the methods' column, `identifiers` further ones that say which trial a row is.
    """
    columns = [ranked.column for ranked in metrics]
    trials = frame[[by, *identifiers]].reset_index(drop=True)
    trials[columns] = frame[columns].to_numpy(float)
    ranks = _ranks(trials[columns], metrics)
    trials = trials.join(ranks).assign(
        **_extremes(ranks, "rank"), num_top=(ranks <= TOP_SHARE * len(ranks)).sum(axis=1)
    )
    methods = trials.groupby(by, sort=False)
    means = methods[columns].mean()
    ranks_of_means = _ranks(means, metrics)
    summary = pd.DataFrame(
        {
            "num_trials": methods.size(),
            "rank_min": methods["rank_min"].min(),
            "rank_max": methods["rank_max"].max(),
            "rank_avg": methods["rank_avg"].mean(),
            "num_top": methods["num_top"].sum(),
        }
    )
    summary = summary.join(means.add_prefix("mean_")).join(ranks_of_means)
    summary = summary.assign(**_extremes(ranks_of_means, "rank_of_means")).reset_index()
    return Ranking(by, tuple(identifiers), tuple(metrics), trials, summary)


def _ranks(values: pd.DataFrame, metrics: Sequence[RankedMetric]) -> pd.DataFrame:
    ranks = {
        f"rank_{ranked.column}": fractional_ranks(
            displayed(values[ranked.column].tolist(), ranked),
            ranked.metric.direction,
            ranked.tie_tolerance,
        )
        for ranked in metrics
    }
    return pd.DataFrame(ranks, index=values.index)


def _extremes(ranks: pd.DataFrame, prefix: str) -> dict[str, pd.Series]:
    return {
        f"{prefix}_min": ranks.min(axis=1),
        f"{prefix}_max": ranks.max(axis=1),
        f"{prefix}_avg": ranks.mean(axis=1),
    }


def friedman_tests(
    frame: pd.DataFrame, by: str, blocks: str, metrics: Sequence[RankedMetric]
) -> list[BlockTest]:
    """Return Friedman's test of each metric over the blocks, a method's trials of a block averaged.

    `blocks` is a column of independent blocks: data sets or seeds; never metrics, nor priorities,
    at which the same seeds are run. A `UsageError` refuses fewer than five blocks or three methods,
    and a method absent in a block.
    """
    num_blocks, num_methods = frame[blocks].nunique(), frame[by].nunique()
    if num_blocks < MIN_BLOCKS or num_methods < MIN_METHODS:
        raise UsageError(
            f"Expected at least {MIN_BLOCKS} blocks and {MIN_METHODS} methods for Friedman's test, "
            f"got {num_blocks} values of {blocks} and {num_methods} of {by}. Leave --blocks out."
        )
    found = []
    for ranked in metrics:
        cells = frame.pivot_table(ranked.column, blocks, by, aggfunc="mean", sort=False)
        absent = np.argwhere(cells.isna().to_numpy())
        if len(absent):
            block, method = cells.index[absent[0][0]], cells.columns[absent[0][1]]
            raise UsageError(
                f"Expected every method in every block, got no {method} in {blocks} {block}. "
                "Leave that block out."
            )
        shown = np.array([displayed(row, ranked) for row in cells.to_numpy().tolist()])
        ranks = stats.rankdata(-ranked.sign * shown, axis=1)
        # scipy has no p where all methods tie in every block.
        has_order = np.ptp(ranks, axis=1).any()
        p = float(stats.friedmanchisquare(*ranks.T).pvalue) if has_order else 1.0
        averages = dict(zip(map(str, cells.columns), ranks.mean(axis=0).tolist(), strict=True))
        found.append(BlockTest(ranked.column, averages, p, num_blocks))
    return found


def pair_tests(
    trials: pd.DataFrame,
    by: str,
    metrics: Sequence[RankedMetric],
    seed: str | None,
    settings: Sequence[str] = (),
) -> tuple[list[PairTest], list[Untested]]:
    """Test every pair of methods in every metric; return the tests, and the pairs without any.

    Args:
        trials: one row a trial; see `Ranking.trials`.
        by: column that names the methods.
        metrics: what is compared.
        seed: column of the seeds, which are permuted as a whole; None without any.
        settings: columns, such as priorities, in which the rows of a seed differ; two methods are
            compared where both have the same ones of every seed.
    """
    groups = {str(name): held for name, held in trials.groupby(by, sort=False)}
    pairs = list(itertools.combinations(groups, 2))
    reasons = [_why_untested(groups[a], groups[b], seed, settings) for a, b in pairs]
    found = [
        _pair_test((a, b), (groups[a], groups[b]), ranked, seed)
        for ranked in metrics
        for (a, b), reason in zip(pairs, reasons, strict=True)
        if not reason
    ]
    adjusted = holm([test.p for test in found])
    tests = [replace(test, p_adjusted=p) for test, p in zip(found, adjusted, strict=True)]
    return tests, [Untested(a, b, why) for (a, b), why in zip(pairs, reasons, strict=True) if why]


def _why_untested(
    rows_a: pd.DataFrame, rows_b: pd.DataFrame, seed: str | None, settings: Sequence[str]
) -> str:
    """Return why no permutation of these rows is exchangeable; empty if one is."""
    if min(len(rows_a), len(rows_b)) < 2:
        return "a test needs two trials of each or more"
    key = [*([seed] if seed else []), *settings]
    # Nine digits: 0.1 + 0.2 and 0.3 are one priority.
    of_a, of_b = (
        Counter(rows[key].round(9).astype(str).itertuples(index=False, name=None))
        for rows in (rows_a, rows_b)
    )
    if seed is None:
        if max(len(of_a), len(of_b)) > 1:
            return "without a column of seeds nothing says which of their runs belong together"
        return ""
    seeds = pd.concat([rows_a[seed], rows_b[seed]])
    if seeds.isna().any():
        return f"some trials have no {seed}"
    if seeds.is_unique:
        return ""
    if of_a != of_b:
        return f"they do not have equally many runs of every {' and '.join(_plain(key))}"
    if seeds.nunique() < 2:
        return "the test permutes seeds and needs at least two"
    return ""


def _plain(names: Sequence[str]) -> list[str]:
    """Return names of columns, all priorities as one."""
    return list(dict.fromkeys("priorities" if n.startswith("priority_") else n for n in names))


def _pair_test(
    methods: tuple[str, str],
    rows: tuple[pd.DataFrame, pd.DataFrame],
    ranked: RankedMetric,
    seed: str | None,
) -> PairTest:
    x, y = (displayed(of[ranked.column].tolist(), ranked) for of in rows)
    paired = seed is not None and not pd.concat([of[seed] for of in rows]).is_unique
    if paired:
        places = [np.unique(of[seed], return_inverse=True)[1] for of in rows]
        sums = [np.bincount(*of) for of in zip(places, (x, y), strict=True)]
        # What each seed adds to the difference of means, so that their mean is that difference.
        differences = (sums[0] - sums[1]) * (len(sums[0]) / len(x))
        samples, count = (differences, np.zeros(len(differences))), 2 ** len(differences)
    else:
        samples, count = (x, y), math.comb(len(x) + len(y), len(x))
    exact = count <= MAX_ENUMERATED
    # Each permutation has a mirror of the same size; with unequal numbers of independent trials
    # the mirror is not among the permutations.
    mirrors = 2 if paired or len(x) == len(y) else 1
    p = _permutation_p(samples, "samples" if paired else "independent", exact=exact)
    better = np.sign(ranked.sign * (x[:, None] - y[None, :]))
    return PairTest(
        *methods,
        column=ranked.column,
        difference=float(x.mean() - y.mean()),
        probability_a_better=float((better + 1).mean() / 2),
        p=p,
        p_adjusted=p,
        min_attainable_p=min(1.0, mirrors / count) if exact else 1 / (MAX_ENUMERATED + 1),
        paired=paired,
        exact=exact,
    )


def _permutation_p(samples: tuple[np.ndarray, np.ndarray], kind: str, *, exact: bool) -> float:
    """Return the two-sided p of |difference of means|."""
    result = stats.permutation_test(
        samples,
        # Rounded, so that equal differences summed in another order count as equal.
        lambda x, y, axis: np.round(np.abs(x.mean(axis=axis) - y.mean(axis=axis)), 9),
        permutation_type=kind,
        vectorized=True,
        n_resamples=np.inf if exact else MAX_ENUMERATED,
        alternative="greater",
        rng=np.random.default_rng(SAMPLING_SEED),
    )
    return float(result.pvalue)


def delta_m(
    means: Mapping[str, float], baseline: Mapping[str, float], metrics: Sequence[RankedMetric]
) -> tuple[float, float]:
    """Return the mean relative gain of means over a baseline in percent, by both conventions.

    Tasks first: each task's metrics averaged, then the tasks, so that every task counts alike
    (Maninis et al. 2019 in the form with several metrics a task, as MTL libraries report it).
    Metrics flat: all metrics averaged, so that a task with more metrics counts more. Both mappings
    are column -> mean; the baseline has no 0.
    """
    changes: dict[str, list[float]] = {}
    for ranked in metrics:
        column = ranked.column
        change = ranked.sign * (means[column] - baseline[column]) / abs(baseline[column])
        changes.setdefault(ranked.task, []).append(100 * change)
    return (
        float(np.mean([np.mean(of_task) for of_task in changes.values()])),
        float(np.mean([change for of_task in changes.values() for change in of_task])),
    )


def rank(trials: Trials, blocks: str | None = None, baseline: str | None = None) -> Ranking:
    """Return the ranking of trials; those without a usable value of every metric are left out.

    `blocks` is as for `friedman_tests`, None for no such test; `baseline` the method that Delta_m
    is relative to, None for the single-task runs. A `UserError` says that no trial is usable, a
    `UsageError` refuses blocks or a baseline that the trials do not have.
    """
    by, metrics, notes = trials.by, trials.metrics, [*trials.notes]
    usable = np.ones(len(trials.frame), dtype=bool)
    for position, row in enumerate(trials.frame.to_dict("records")):
        lacking = [problem for ranked in metrics if (problem := _problem(ranked, row))]
        if lacking:
            usable[position] = False
            names = (by, *trials.identifiers)
            where = ", ".join(f"{name} {identifier_text(row[name])}" for name in names)
            notes.append(f"Left out: {where}: {', '.join(lacking)}.")
    frame = trials.frame[usable].reset_index(drop=True)
    if frame.empty:
        raise UserError(
            f"Expected rows with a usable value of {', '.join(m.column for m in metrics)}, got "
            "none. Choose other columns with --metrics."
        )
    ranking = rank_table(frame, by, trials.identifiers, metrics)
    if trials.baselines is not None or baseline is not None:
        ranking, reason = _with_deltas(ranking, trials.baselines or {}, baseline)
        notes += [reason] if reason else []
    seed = "seed" if "seed" in trials.identifiers else None
    tests, untested = pair_tests(ranking.trials, by, metrics, seed, trials.settings)
    block_tests: list[BlockTest] = []
    if blocks is not None:
        if blocks == PRIORITIES or blocks.startswith(PRIORITY_PREFIX):
            raise UsageError(
                f"Expected --blocks to name independent blocks, such as data sets or seeds, got "
                f"{blocks}, at which the same seeds are run. Say --blocks seed."
            )
        checked_name(blocks, [*map(str, frame.columns)], "column for --blocks")
        block_tests = friedman_tests(frame, by, blocks, metrics)
    return replace(
        ranking,
        tests=tuple(tests),
        untested=tuple(untested),
        blocks=tuple(block_tests),
        notes=tuple(notes),
    )


def _problem(ranked: RankedMetric, row: Mapping[Any, Any]) -> str:
    """Return why a row cannot be ranked by a metric; empty if it can."""
    value = float(row[ranked.column]) * ranked.factor / ranked.metric.display_factor
    problem = ranked.metric.problem(value)
    return f"{problem} of {ranked.column}" if problem else ""


def _with_deltas(ranking: Ranking, single: Baselines, baseline: str | None) -> tuple[Ranking, str]:
    """Return the ranking with `DELTA_COLUMNS` in its summary, or as it is with the reason.

    A Delta_m over some of the metrics would be another.
    """
    columns = [ranked.column for ranked in ranking.metrics]
    means = {str(row[ranking.by]): row for row in ranking.summary.to_dict("records")}
    if baseline is not None:
        row = means[checked_name(baseline, means, ranking.by)]
        held = {column: float(row[f"mean_{column}"]) for column in columns}
    elif all(column in single for column in columns):
        held = {column: float(np.mean(list(single[column].values()))) for column in columns}
    else:
        return ranking, (
            "No Delta_m: not every ranked metric has single-task runs under the same settings "
            "among these results. A sweep with --baselines trains them."
        )
    zero = [column for column, value in held.items() if value == 0]
    if zero:
        return ranking, (
            f"No Delta_m: the baseline of {listed(zero)} is 0, and a change relative to 0 has no "
            "meaning."
        )
    deltas = [
        delta_m({column: row[f"mean_{column}"] for column in columns}, held, ranking.metrics)
        for row in means.values()
    ]
    named = dict(zip(DELTA_COLUMNS, zip(*deltas, strict=True), strict=True))
    return replace(ranking, summary=ranking.summary.assign(**named)), ""
