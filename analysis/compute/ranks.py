"""Ranks of trials over several metrics, in the manner of Table S-3 of the supplement.

For each metric all trials of all methods are ranked together, 1 for the best. Values are rounded
to the decimals that the metric is shown with, and equal ones share the mean of their ranks
(fractional ranks). A trial's least, greatest and average rank are over the metrics; a method's
average rank is the mean over its trials.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy import stats

from analysis.compute.inference import holm
from analysis.load.axes import shown_number
from analysis.load.priorities import PRIORITY_PREFIX
from analysis.load.text import listed
from mtl.errors import UsageError
from mtl.records import Metric

TOP_SHARE = 0.2
"""Of the trials of a metric: those that Table S-3 prints in red."""


@dataclass(frozen=True)
class RankedMetric:
    """A column that is ranked."""

    column: str
    metric: Metric
    """Its direction, and the decimals to which values are rounded."""
    factor: float
    """From the column's values to displayed ones; 1 where the column holds displayed values."""
    tie_tolerance: float = 0.0
    """Displayed values that lie so near to the best of their group tie with it."""


@dataclass(frozen=True)
class RankTable:
    """Ranks of all trials, and what they say of each method."""

    by: str
    """Column that names the methods."""
    metrics: tuple[RankedMetric, ...]
    trials: pd.DataFrame
    """One row a trial in the order given: the columns that identify it, each metric's value as
    given, `rank_<metric>`, `rank_min`, `rank_max`, `rank_avg`, and `num_top`, the number of metrics
    in which the trial is among the best fifth."""
    summary: pd.DataFrame
    """One row a method in order of appearance: `num_trials`, `rank_min`, `rank_max` and `rank_avg`
    over its trials, `num_top`; then of its mean values, ranked among the methods' means, each
    `mean_<metric>`, `rank_<metric>`, and `rank_of_means_min`, `_max`, `_avg`."""


def identifier_text(value: object) -> str:
    """Return what identifies a trial as people read it; a dash for a priority that is not there."""
    if isinstance(value, Integral):
        return shown_number(int(value), "d")
    if isinstance(value, Real):
        return shown_number(None if np.isnan(float(value)) else float(value), ".4g")
    return str(value)


def displayed(values: Sequence[float], ranked: RankedMetric) -> np.ndarray:
    """Return values as they are shown: in display units, rounded half up to the decimals."""
    step = Decimal(1).scaleb(-ranked.metric.decimals)
    # Twelve digits: 0.285 x 100 must be 28.5, not 28.499999999999996.
    shown = [Decimal(f"{value * ranked.factor:.12g}") for value in values]
    return np.array([float(value.quantize(step, ROUND_HALF_UP)) for value in shown])


def fractional_ranks(shown: np.ndarray, direction: str, tie_tolerance: float = 0.0) -> np.ndarray:
    """Return the ranks of `shown` (n,), 1 for the best, ties sharing the mean of their ranks.

    With a tolerance, values tie with the best of their group: going from the best to the worst, a
    value farther than the tolerance from the group's first begins a new group.

    Args:
        shown: finite values.
        direction: `min` or `max`, whichever is better.
        tie_tolerance: in the units of `shown`, 0 for equal values only.
    """
    signed = -shown if direction == "max" else shown
    order = np.argsort(signed, kind="stable")
    groups = np.zeros(len(signed))
    first = np.inf
    for previous, index in zip([None, *order[:-1]], order, strict=True):
        # A billionth more: 40.1 - 40.05 is a hair above 0.05.
        same = previous is not None and signed[index] - first <= tie_tolerance * (1 + 1e-9) + 1e-12
        if not same:
            first = signed[index]
        groups[index] = 0 if previous is None else groups[previous] + (not same)
    return np.asarray(stats.rankdata(groups, method="average"), dtype=float)


def rank_table(
    frame: pd.DataFrame, by: str, identifiers: Sequence[str], metrics: Sequence[RankedMetric]
) -> RankTable:
    """Return the ranks of every row of `frame`.

    Args:
        frame: one row a trial; every metric finite.
        by: column that names the methods.
        identifiers: further columns that say which trial a row is.
        metrics: what is ranked, at least one.

    Raises:
        ValueError: without rows or metrics, or for a value that is not finite.
    """
    if frame.empty or not metrics:
        raise UsageError("Expected at least one trial and one metric to rank, got none.")
    trials = frame[[by, *identifiers]].reset_index(drop=True)
    ranks = {}
    for ranked in metrics:
        values = frame[ranked.column].to_numpy(float)
        if not np.isfinite(values).all():
            raise UsageError(
                f"Expected a finite number of {ranked.column} in every row, got "
                f"{values[~np.isfinite(values)][0]}. Leave such rows out."
            )
        trials[ranked.column] = values
        ranks[f"rank_{ranked.column}"] = _ranks_of(values, ranked)
    cells = pd.DataFrame(ranks)
    top = cells <= TOP_SHARE * len(cells)
    trials = trials.join(cells).assign(**_extremes(cells), num_top=top.sum(axis=1))
    return RankTable(by, tuple(metrics), trials, _summary(trials, by, metrics))


def _ranks_of(values: np.ndarray, ranked: RankedMetric) -> np.ndarray:
    shown = displayed(values.tolist(), ranked)
    return fractional_ranks(shown, ranked.metric.direction, ranked.tie_tolerance)


def _extremes(cells: pd.DataFrame, prefix: str = "rank") -> dict[str, pd.Series]:
    return {
        f"{prefix}_min": cells.min(axis=1),
        f"{prefix}_max": cells.max(axis=1),
        f"{prefix}_avg": cells.mean(axis=1),
    }


def _summary(trials: pd.DataFrame, by: str, metrics: Sequence[RankedMetric]) -> pd.DataFrame:
    methods = trials.groupby(by, sort=False)
    summary = pd.DataFrame(
        {
            "num_trials": methods.size(),
            "rank_min": methods["rank_min"].min(),
            "rank_max": methods["rank_max"].max(),
            "rank_avg": methods["rank_avg"].mean(),
            "num_top": methods["num_top"].sum(),
        }
    )
    cells = {}
    for ranked in metrics:
        means = methods[ranked.column].mean()
        summary[f"mean_{ranked.column}"] = means
        cells[f"rank_{ranked.column}"] = pd.Series(_ranks_of(means.to_numpy(), ranked), means.index)
    ranks = pd.DataFrame(cells)
    return summary.join(ranks).assign(**_extremes(ranks, "rank_of_means")).reset_index()


@dataclass(frozen=True)
class Misprint:
    """A rank that a table prints and that its values do not give."""

    row: Mapping[str, object]
    """What identifies the trial."""
    column: str
    printed: float
    computed: float


def misprints(table: RankTable, printed: pd.DataFrame) -> tuple[list[Misprint], int]:
    """Compare ranks that a table brought along with those computed from its values.

    Printed averages are compared after rounding half up to two decimals, as tables print them.

    Args:
        table: the computed ranks.
        printed: the rows as they came; columns named like those of `table.trials` are compared.

    Returns:
        The differing cells and the number of cells compared.
    """
    columns = [c for c in map(str, table.trials) if c.startswith("rank_") and c in printed]
    names = [str(name) for name in table.trials]
    identifiers = names[: names.index(table.metrics[0].column)]
    found, count = [], 0
    for index, row in enumerate(table.trials.to_dict("records")):
        for column in columns:
            shown = float(printed[column].iloc[index])
            if pd.isna(shown):
                continue
            count += 1
            computed = float(row[column])
            if column == "rank_avg":
                rounded = Decimal(f"{computed:.9f}").quantize(Decimal("0.01"), ROUND_HALF_UP)
                same = abs(float(rounded) - shown) < 1e-9
            else:
                same = abs(computed - shown) < 1e-9
            if not same:
                where = {name: row[name] for name in identifiers}
                found.append(Misprint(where, column, shown, computed))
    return found, count


FEWEST_BLOCKS = 5
"""Below this the Friedman test's approximation is worthless."""
NEMENYI_LEVEL = 0.05
MOST_BLOCKS_ENUMERATED = 10_000
"""Relabellings up to this many are all counted; beyond, as many are drawn."""
SAMPLING_SEED = 0


@dataclass(frozen=True)
class BlockTest:
    """Friedman's test over blocks."""

    column: str
    average_ranks: Mapping[str, float]
    p: float
    critical_difference: float | None
    """Nemenyi's, of average ranks; None where blocks share seeds, for which it does not hold."""
    smallest_p: float | None
    """Reachable by relabelling so many seeds; None where blocks do not share seeds."""
    num_blocks: int


def why_no_block_test(frame: pd.DataFrame, by: str, blocks: str, seed: str) -> str | None:
    """Return why whole seeds cannot be relabelled over these blocks, or None if they can."""
    if frame[seed].isna().any():
        return f"some trials have no {seed}"
    num_seeds = frame[seed].nunique()
    if num_seeds < 2:
        return "whole seeds are relabelled, and there is a single one"
    counts = frame.groupby([by, blocks, seed]).size()
    if (
        len(counts) < frame[by].nunique() * frame[blocks].nunique() * num_seeds
        or len(set(counts)) > 1
    ):
        return "not every method has equally many trials of every seed in every block"
    return None


def seed_block_tests(
    frame: pd.DataFrame, by: str, blocks: str, seed: str, metrics: Sequence[RankedMetric]
) -> list[BlockTest]:
    """Return the test of each metric over blocks that share seeds.

    Args:
        frame: one row a trial.
        by: column that names the methods.
        blocks: column that names the blocks, such as priorities.
        seed: column of the seeds.
        metrics: what is tested.

    Raises:
        ValueError: for fewer than five blocks or three methods, or seeds that cannot be relabelled.
    """
    _check_numbers(frame, by, blocks)
    reason = why_no_block_test(frame, by, blocks, seed)
    if reason is not None:
        raise UsageError(
            f"Expected trials of which whole seeds can be relabelled, got others: {reason}. Leave "
            "--blocks out."
        )
    found = []
    for ranked in metrics:
        cells = frame.pivot_table(ranked.column, [seed, blocks], by, aggfunc="mean", sort=False)
        ranks = pd.DataFrame(_ranks(cells, ranked), cells.index).groupby(level=0).mean().to_numpy()
        p, smallest = _relabelled_p(ranks)
        averages = dict(zip(map(str, cells.columns), ranks.mean(axis=0).tolist(), strict=True))
        num_blocks = frame[blocks].nunique()
        found.append(BlockTest(ranked.column, averages, p, None, smallest, num_blocks))
    return found


def _relabelled_p(ranks: np.ndarray) -> tuple[float, float]:
    """Return p and the smallest reachable one of average ranks (seeds, methods)."""
    num_seeds, num_methods = ranks.shape
    # The spread of the methods' mean ranks does not change where all seeds are relabelled alike,
    # so the first one keeps its labels.
    count = math.factorial(num_methods) ** (num_seeds - 1)
    if count <= MOST_BLOCKS_ENUMERATED:
        orders = list(itertools.permutations(range(num_methods)))
        rest = itertools.product(orders, repeat=num_seeds - 1)
        sums = [
            ranks[0] + sum(r[list(o)] for r, o in zip(ranks[1:], held, strict=True))
            for held in rest
        ]
        smallest = 1 / count
    else:
        generator = np.random.default_rng(SAMPLING_SEED)
        drawn = (
            generator.permuted(ranks, axis=1).sum(axis=0) for _ in range(MOST_BLOCKS_ENUMERATED - 1)
        )
        sums = [ranks.sum(axis=0), *drawn]
        smallest = 1 / MOST_BLOCKS_ENUMERATED
    # Rounded, so that equal ranks summed in another order count as equal.
    spreads = np.round(np.var(np.array(sums) / num_seeds, axis=1), 9)
    return float(np.mean(spreads >= np.round(np.var(ranks.mean(axis=0)), 9))), smallest


def _ranks(cells: pd.DataFrame, ranked: RankedMetric) -> np.ndarray:
    """Return the ranks of methods in each row, 1 for the best."""
    sign = -1 if ranked.metric.direction == "max" else 1
    shown = np.array([displayed(row, ranked) for row in cells.to_numpy().tolist()])
    return np.asarray(stats.rankdata(sign * shown, axis=1), dtype=float)


def _check_numbers(frame: pd.DataFrame, by: str, blocks: str) -> None:
    num_blocks, num_methods = frame[blocks].nunique(), frame[by].nunique()
    if num_blocks < FEWEST_BLOCKS or num_methods < 3:
        raise UsageError(
            f"Expected at least {FEWEST_BLOCKS} blocks and 3 methods for Friedman's test, got "
            f"{num_blocks} values of {blocks} and {num_methods} of {by}. Leave --blocks out."
        )


def block_tests(
    frame: pd.DataFrame, by: str, blocks: str, metrics: Sequence[RankedMetric]
) -> list[BlockTest]:
    """Return Friedman's test of each metric over the blocks, a method's trials of a block averaged.

    Args:
        frame: one row a trial.
        by: column that names the methods.
        blocks: column that names independent blocks: data sets; never metrics, nor priorities.
        metrics: what is tested.

    Raises:
        ValueError: for fewer than five blocks or three methods, or a method absent in a block.
    """
    _check_numbers(frame, by, blocks)
    num_blocks, num_methods = frame[blocks].nunique(), frame[by].nunique()
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
        ranks = _ranks(cells, ranked)
        spread = stats.studentized_range.ppf(1 - NEMENYI_LEVEL, num_methods, np.inf) / math.sqrt(2)
        found.append(
            BlockTest(
                ranked.column,
                dict(zip(map(str, cells.columns), ranks.mean(axis=0).tolist(), strict=True)),
                _friedman(ranks),
                float(spread * math.sqrt(num_methods * (num_methods + 1) / (6 * num_blocks))),
                None,
                num_blocks,
            )
        )
    return found


def _friedman(values: np.ndarray) -> float:
    """Return Friedman's p of (blocks, methods); 1 where all methods tie in every block."""
    if not np.ptp(values, axis=1).any():
        return 1.0
    return float(stats.friedmanchisquare(*values.T).pvalue)


MOST_ENUMERATED = 100_000
"""Relabellings up to this many are all counted; beyond, as many are drawn."""


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
        trials: one row a trial; see `analysis.compute.ranks.RankTable.trials`.
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
            raise UsageError(
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
