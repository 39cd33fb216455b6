"""Ranks of trials over several metrics, in the manner of Table S-3 of the supplement.

For each metric all trials of all methods are ranked together, 1 for the best. Values are rounded
to the decimals that the metric is shown with, and equal ones share the mean of their ranks
(fractional ranks). A trial's least, greatest and average rank are over the metrics; a method's
average rank is the mean over its trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy import stats

from analysis.axes import shown_number
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
        raise ValueError("Expected at least one trial and one metric to rank, got none.")
    trials = frame[[by, *identifiers]].reset_index(drop=True)
    ranks = {}
    for ranked in metrics:
        values = frame[ranked.column].to_numpy(float)
        if not np.isfinite(values).all():
            raise ValueError(
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
