"""Friedman's test of methods over blocks: data sets as they are, priorities by whole seeds.

Data sets are independent blocks. Priorities are not: their runs share seeds, and a seed that
favours a method does so at all of them. There the methods are ranked in each block and seed, and
the labels of the methods are exchanged seed by seed, at all priorities at once, as in
`analysis.inference`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.ranks import RankedMetric, displayed

FEWEST_BLOCKS = 5
"""Below this the Friedman test's approximation is worthless."""
NEMENYI_LEVEL = 0.05
MOST_ENUMERATED = 10_000
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
        raise ValueError(
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
    if count <= MOST_ENUMERATED:
        orders = list(itertools.permutations(range(num_methods)))
        rest = itertools.product(orders, repeat=num_seeds - 1)
        sums = [
            ranks[0] + sum(r[list(o)] for r, o in zip(ranks[1:], held, strict=True))
            for held in rest
        ]
        smallest = 1 / count
    else:
        generator = np.random.default_rng(SAMPLING_SEED)
        drawn = (generator.permuted(ranks, axis=1).sum(axis=0) for _ in range(MOST_ENUMERATED - 1))
        sums = [ranks.sum(axis=0), *drawn]
        smallest = 1 / MOST_ENUMERATED
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
        raise ValueError(
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
            raise ValueError(
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
