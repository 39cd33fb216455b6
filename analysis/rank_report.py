"""Rankings as files and as words for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.axes import MINUS, shown_number
from analysis.rank_blocks import FEWEST_BLOCKS, NEMENYI_LEVEL, BlockTest
from analysis.rank_tables import Ranking
from analysis.ranks import TOP_SHARE, RankedMetric, displayed, identifier_text
from analysis.result_tables import Table, latex, plain
from analysis.words import listed

MOST_TRIALS_PRINTED = 60
"""More are in ranks.csv alone."""
MOST_UNTESTED_NAMED = 5
"""Pairs of methods without a test that are named for each reason."""


def trial_table(ranking: Ranking) -> Table:
    """Return one row a trial: values with their ranks, and the trial's min, max and average."""
    table = ranking.table
    identifiers = [str(c) for c in table.trials.columns[: _num_identifiers(ranking)]]
    shown = {m.column: _shown(table.trials[m.column].tolist(), m) for m in table.metrics}
    rows = []
    for index, row in enumerate(table.trials.to_dict("records")):
        cells = [
            _ranked_cell(shown[m.column][index], row[f"rank_{m.column}"], len(table.trials))
            for m in table.metrics
        ]
        extremes = (f"{row['rank_min']:g}", f"{row['rank_max']:g}", f"{row['rank_avg']:.2f}")
        rows.append((*(identifier_text(row[name]) for name in identifiers), *cells, *extremes))
    return Table(
        "ranks",
        f"Ranks over {len(rows)} trials, 1 for the best; ties share the mean of their ranks. "
        f"A star marks the best {TOP_SHARE:.0%} of a metric.",
        (*identifiers, *(_head(m) for m in table.metrics), "min", "max", "avg"),
        tuple(rows),
        table.trials,
        num_words=len(identifiers),
    )


def summary_table(ranking: Ranking) -> Table:
    """Return one row a method: its trials' ranks, and its mean values with the ranks of these."""
    table = ranking.table
    summary = table.summary.merge(_delta_frame(ranking), how="left", on=table.by)
    shown = {m.column: _shown(summary[f"mean_{m.column}"].tolist(), m) for m in table.metrics}
    rows = []
    for index, row in enumerate(summary.to_dict("records")):
        means = [f"{shown[m.column][index]} ({row[f'rank_{m.column}']:g})" for m in table.metrics]
        deltas = [shown_number(row[name], "+.1f") for name in _DELTA_COLUMNS if ranking.deltas]
        rows.append(
            (
                str(row[table.by]),
                str(row["num_trials"]),
                f"{row['rank_min']:g}",
                f"{row['rank_max']:g}",
                f"{row['rank_avg']:.2f}",
                str(row["num_top"]),
                *means,
                f"{row['rank_of_means_avg']:.2f}",
                *deltas,
            )
        )
    heads = ("delta-m, tasks first (%)", "delta-m, metrics flat (%)") if ranking.deltas else ()
    return Table(
        "rank_summary",
        f"Ranks of each method's trials (top: cells among the best {TOP_SHARE:.0%} of a metric), "
        "and its mean values with their ranks among the methods' means.",
        (
            table.by, "trials", "min", "max", "avg", "top",
            *(f"mean {_head(m)}" for m in table.metrics), "avg of means", *heads,
        ),
        tuple(rows),
        summary,
    )  # fmt: skip


def test_table(ranking: Ranking) -> Table:
    """Return one row a pair of methods and metric: difference, probability of improvement, p."""
    heads = {m.column: _head(m) for m in ranking.table.metrics}
    rows = tuple(
        (
            f"{t.method_a} {MINUS} {t.method_b}",
            heads[t.column],
            shown_number(t.difference, "+.3g"),
            f"{t.probability_a_better:.2f}",
            f"{t.p:.2g}",
            f"{t.p_adjusted:.2g}",
            f"{t.smallest_p:.2g}",
            "paired" if t.paired else "independent",
        )
        for t in ranking.tests
    )
    return Table(
        "rank_tests",
        "Differences of mean values, the probability that a trial of the first method is better, "
        "and the two-sided p of relabelled trials.",
        ("methods", "metric", "difference", "P(better)", "p", "p after Holm", "smallest p",
         "trials"),
        rows,
        pd.DataFrame([vars(test) for test in ranking.tests]),
        num_words=2,
    )  # fmt: skip


def ranking_files(ranking: Ranking) -> dict[str, str]:
    """Return the files of a ranking by name."""
    tables = (trial_table(ranking), summary_table(ranking), test_table(ranking))
    files = {f"{table.name}.csv": table.raw.to_csv(index=False) for table in tables}
    return files | {f"{table.name}.tex": latex(table) for table in tables if table.rows}


def ranking_words(ranking: Ranking) -> str:
    """Return what a terminal shows of a ranking."""
    table = ranking.table
    lines = [f"\n{ranking.label}"] if ranking.label else []
    trials = trial_table(ranking)
    if len(trials.rows) <= MOST_TRIALS_PRINTED:
        lines += [plain(trials), ""]
    lines += [plain(summary_table(ranking)), "", ties_in_words(table.metrics)]
    lines += _printed_in_words(ranking)
    lines += [*([ranking.why_no_deltas] if ranking.why_no_deltas else [])]
    lines += [tests_in_words(ranking), *(block_in_words(b) for b in ranking.blocks)]
    lines += ranking.notes
    return "\n".join(lines)


def ties_in_words(metrics: Sequence[RankedMetric]) -> str:
    """Return the tie tolerances, to be recorded beside every rank table."""
    used = ", ".join(
        f"{m.column} {m.tie_tolerance:g} at {m.metric.decimals} decimals"
        f"{' in %' if m.factor == 1 and m.metric.display_factor == 100 else ''}"
        for m in metrics
    )
    return f"Tie tolerances used, in displayed units: {used}."


def _printed_in_words(ranking: Ranking) -> list[str]:
    if not ranking.num_printed:
        return []
    same = ranking.num_printed - len(ranking.misprints)
    lines = [f"Ranks in the table: {same} of {ranking.num_printed} are those computed."]
    for wrong in ranking.misprints:
        where = ", ".join(f"{name} {identifier_text(value)}" for name, value in wrong.row.items())
        lines.append(
            f"Misprint: {where}, {wrong.column}: printed {shown_number(wrong.printed, 'g')}, "
            f"computed {wrong.computed:g}."
        )
    return lines


def tests_in_words(ranking: Ranking) -> str:
    """Return what the tests of a ranking carry."""
    tests, untested = ranking.tests, _untested_in_words(ranking)
    if not tests:
        return untested or "Not tested: there are no two methods."
    below = [test for test in tests if test.p_adjusted < 0.05]
    floor = min(test.smallest_p for test in tests)
    pairs = "; ".join(
        f"{t.method_a} {MINUS} {t.method_b} in {t.column} {shown_number(t.difference, '+.3g')} "
        f"(p {t.p_adjusted:.2g})"
        for t in sorted(below, key=lambda t: t.p_adjusted)
    )
    said = f": {pairs}" if below else ""
    return (
        f"{len(below)} of {len(tests)} differences between two methods in one metric are below .05 "
        f"after Holm{said}. The smallest p that so many trials can reach, before Holm, is "
        f"{floor:.2g}{_relabelled(ranking)}. An average rank is no test: metrics of the same "
        f"trials are not independent.{f' {untested}' if untested else ''}"
    )


def _relabelled(ranking: Ranking) -> str:
    kinds = {test.paired for test in ranking.tests}
    if kinds == {True}:
        return ", whole seeds being relabelled"
    return ", whole seeds being relabelled where trials share them" if True in kinds else ""


def _untested_in_words(ranking: Ranking) -> str:
    """Return which pairs have no test and why; empty where all have."""
    pairs: dict[str, list[str]] = {}
    for held in ranking.untested:
        pairs.setdefault(held.reason, []).append(f"{held.method_a} {MINUS} {held.method_b}")
    sentences = []
    for reason, named in pairs.items():
        rest = len(named) - MOST_UNTESTED_NAMED
        more = [f"{rest} more pairs"] if rest > 0 else []
        sentences.append(f"Not tested: {listed([*named[:MOST_UNTESTED_NAMED], *more])}: {reason}.")
    return " ".join(sentences)


def block_in_words(block: BlockTest) -> str:
    """Return what Friedman's test says of a metric."""
    ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in block.average_ranks.items())
    return (
        f"{block.column} over {block.num_blocks} blocks (at least {FEWEST_BLOCKS}): average ranks "
        f"{ranks}; Friedman p {block.p:.2g}{_block_limits(block)}."
    )


def _block_limits(block: BlockTest) -> str:
    if block.critical_difference is None:
        return f", whole seeds being relabelled; so many can reach {block.smallest_p:.2g}"
    apart = f"{block.critical_difference:.2f}"
    return f"; ranks farther apart than {apart} differ (Nemenyi, {NEMENYI_LEVEL:g})"


_DELTA_COLUMNS = ("delta_m_percent_tasks_first", "delta_m_percent_metrics_flat")


def _delta_frame(ranking: Ranking) -> pd.DataFrame:
    rows: list[Mapping[str, Any]] = [
        {
            ranking.table.by: delta.method,
            _DELTA_COLUMNS[0]: delta.tasks_first_percent,
            _DELTA_COLUMNS[1]: delta.metrics_flat_percent,
        }
        for delta in ranking.deltas
    ]
    if not rows:
        return ranking.table.summary[[ranking.table.by]]
    return pd.DataFrame(rows).astype(
        {ranking.table.by: ranking.table.summary[ranking.table.by].dtype}
    )


def _ranked_cell(shown: str, rank: float, num_trials: int) -> str:
    return f"{shown} ({rank:g}){'*' if rank <= TOP_SHARE * num_trials else ''}"


def _num_identifiers(ranking: Ranking) -> int:
    return list(ranking.table.trials).index(ranking.table.metrics[0].column)


def _head(ranked: RankedMetric) -> str:
    unit = ranked.metric.display_unit or ranked.metric.unit
    return f"{ranked.column} ({unit})" if unit else ranked.column


def _shown(values: Sequence[float], ranked: RankedMetric) -> list[str]:
    decimals = ranked.metric.decimals
    return [shown_number(value, f".{decimals}f") for value in displayed(values, ranked)]
