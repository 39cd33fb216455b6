"""Ranks of methods where all tasks count alike, in the manner of Table S-3, with tests that fit."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.compute.findings import PAPER_PAIR, Findings, method_of
from analysis.compute.rank_tables import Ranking, ranking_of_trials
from analysis.compute.ranks import (
    FEWEST_BLOCKS,
    NEMENYI_LEVEL,
    TOP_SHARE,
    BlockTest,
    RankedMetric,
    displayed,
    identifier_text,
    seed_block_tests,
    why_no_block_test,
)
from analysis.load.axes import MINUS, shown_number
from analysis.load.priorities import Priorities, is_equal, settings_of
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, listed
from analysis.render.panels import Drawn, Figure, Panel, Points, Scale, mark_of
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Table, latex, plain

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


MOST_TESTS = 150
"""Pairs times metrics; with more, one method is tested against each other one."""
MOST_TRIALS = 60
"""Trials that the page tabulates; the CSV holds all."""
MOST_TESTS_SHOWN = 60
MOST_DRAWN = 20
"""Methods in the figure; the tables hold all."""
MOST_IN_BLOCKS = 10
"""Methods up to which priorities are taken as blocks."""


def method_ranks(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on ranks; None without any usable run."""
    if not findings.points:
        return None
    trials, apart = _trials(findings)
    arms = list(dict.fromkeys(trials["arm"])) if len(trials) else []
    if len(arms) < 2:
        return _nothing_to_rank(findings, arms)
    num_metrics = 2 * len(findings.axes)
    pairs = _pairs(findings, arms, num_metrics)
    tasks = [axis.task for axis in findings.axes]
    ranking = ranking_of_trials(trials, tasks, findings.baselines, pairs)
    if ranking is None:
        return _nothing_to_rank(findings, [])
    blocks, why_no_blocks = _blocks(findings, ranking.table.metrics)
    ranking = replace(ranking, blocks=blocks)
    parts: list[Part | Folded] = [
        _figure(findings, ranking),
        summary_table(ranking),
        *_delta_words(ranking),
        tests_in_words(ranking),
    ]
    if pairs is not None:
        parts.append(
            f"Of {len(arms)} methods {len(pairs)} pairs are tested: {pairs[0][0]} against others."
        )
    parts += [block_in_words(block) for block in ranking.blocks]
    parts += why_no_blocks
    parts += apart
    parts += _shortened_notes(ranking)
    parts += [ties_in_words(ranking.table.metrics), *_folded(ranking)]
    return Section(
        name="method_ranks",
        title="Ranks of methods at equal priorities",
        lead=_lead(ranking),
        parts=tuple(parts),
        values={
            "trials": ranking.table.trials.to_dict("records"),
            "summary": ranking.table.summary.to_dict("records"),
            "tests": ranking.tests,
            "untested": ranking.untested,
            "blocks": ranking.blocks,
            "delta_m": ranking.deltas,
            "why_no_delta_m": ranking.why_no_deltas,
        },
    )


def _trials(findings: Findings) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs in which every task counts alike, and a word on methods without."""
    tasks = [axis.task for axis in findings.axes]
    kept = [setting is None or is_equal(setting) for setting in settings_of(findings.runs, tasks)]
    trials = findings.runs[kept]
    order = {arm: number for number, arm in enumerate(findings.arms)}
    trials = trials.assign(_order=trials["arm"].map(order)).sort_values(["_order", "seed"])
    trials = trials.drop(columns="_order").reset_index(drop=True)
    ranked = set(trials["arm"])
    lacking = [arm for arm in dict.fromkeys(findings.runs["arm"]) if arm not in ranked]
    if not lacking:
        return trials, []
    return trials, [f"Not ranked, without runs at equal priorities: {listed(lacking)}."]


def _nothing_to_rank(findings: Findings, arms: Sequence[str]) -> Section:
    shown = "1/" + str(len(findings.axes))
    if len(arms) == 1:
        lead = f"Nothing to rank: only {arms[0]} has runs in which every task counts alike."
    else:
        lead = f"Nothing to rank: no two methods have runs in which every task counts {shown}."
    return Section("method_ranks", "Ranks of methods at equal priorities", lead, (), {})


def _pairs(
    findings: Findings, arms: Sequence[str], num_metrics: int
) -> tuple[tuple[str, str], ...] | None:
    """Return which pairs are tested; None for all of them."""
    every = len(list(itertools.combinations(arms, 2)))
    if every * num_metrics <= MOST_TESTS:
        return None
    methods = method_of(findings)
    first = next((arm for arm in arms if methods[arm] == PAPER_PAIR[0]), arms[0])
    others = [arm for arm in arms if arm != first]
    others.sort(key=lambda arm: methods[arm] != PAPER_PAIR[1])
    return tuple((first, arm) for arm in others[: max(MOST_TESTS // num_metrics, 1)])


def _blocks(
    findings: Findings, metrics: Sequence[RankedMetric]
) -> tuple[tuple[BlockTest, ...], list[str]]:
    """Return Friedman's tests over priorities as blocks, or why there are none."""
    grids: dict[str, set[Priorities]] = {}
    for point in findings.points:
        if point.priorities is not None:
            grids.setdefault(point.arm, set()).add(point.priorities)
    arms = list(grids)
    shared = set.intersection(*grids.values()) if grids else set()
    if len(arms) < 3 or len(shared) < FEWEST_BLOCKS:
        return (), [
            "Friedman's test over priorities as blocks needs 3 methods that share at least "
            f"{FEWEST_BLOCKS} priorities; here {_shared_in_words(len(arms), len(shared))}."
        ]
    if len(arms) > MOST_IN_BLOCKS:
        return (), [
            f"Friedman's test over priorities is left out: {len(arms)} methods are more than "
            f"{MOST_IN_BLOCKS}."
        ]
    tasks = [axis.task for axis in findings.axes]
    rows = findings.runs[findings.runs["arm"].isin(arms)]
    settings = settings_of(rows, tasks)
    frame = rows.assign(priorities=[str(setting) for setting in settings])
    frame = frame[[setting in shared for setting in settings]]
    finite = [m for m in metrics if frame[m.column].notna().all()]
    reason = why_no_block_test(frame, "arm", "priorities", "seed")
    if reason is not None:
        return (), [f"Friedman's test over priorities is left out: {reason}."]
    return tuple(seed_block_tests(frame, "arm", "priorities", "seed", finite)), []


def _shared_in_words(num_methods: int, num_shared: int) -> str:
    if num_methods < 2:
        return f"{counted(num_methods, 'method has', 'methods have')} priorities"
    return f"{num_methods} methods share {num_shared}"


def _lead(ranking: Ranking) -> str:
    summary = ranking.table.summary.sort_values("rank_avg", kind="stable")
    best = summary.to_dict("records")
    each = _averages(best[:4])
    more = f" and {len(best) - 4} methods behind them" if len(best) > 4 else ""
    num_trials = len(ranking.table.trials)
    return (
        f"Average rank among {num_trials} trials over {len(ranking.table.metrics)} metrics, 1 is "
        f"best and {(num_trials + 1) / 2:g} is the middle: {listed(each)}{more}. A rank says who "
        "is ahead and not by how much: see the differences and their p below."
    )


def _averages(rows: Sequence[Mapping[Hashable, object]]) -> list[str]:
    return [f"{row['method']} {row['rank_avg']:.2f}" for row in rows]


def _delta_words(ranking: Ranking) -> list[str]:
    if ranking.deltas:
        return [
            "Delta-m is the mean relative gain over single-task runs of the same settings. Tasks "
            "first: the metrics of a task are averaged, then the tasks. Metrics flat: all metrics "
            "count alike, so a task with more of them counts more."
        ]
    return [ranking.why_no_deltas]


def _shortened_notes(ranking: Ranking) -> list[str]:
    shown = list(ranking.notes[:5])
    rest = len(ranking.notes) - len(shown)
    return [*shown, *([f"{rest} more runs are left out for such reasons."] if rest else [])]


def _folded(ranking: Ranking) -> list[Folded]:
    """Return the long tables, cut to what a page can hold."""
    folded = []
    trials = trial_table(ranking)
    title = f"Ranks of each of {len(trials.rows)} trials"
    folded.append(Folded(title, (_cut(trials, MOST_TRIALS, " rows"),)))
    if ranking.tests:
        tests = test_table(ranking)
        title = f"{len(tests.rows)} tests of two methods in one metric"
        folded.append(Folded(title, (_cut(tests, MOST_TESTS_SHOWN),)))
    return folded


def _cut(table: Table, most: int, noun: str = "") -> Table:
    """Return the table with its first rows alone, which its caption then says."""
    if len(table.rows) <= most:
        return table
    words = f" Here are the first {most}; the CSV holds all {len(table.rows)}{noun}."
    return replace(table, rows=table.rows[:most], caption=table.caption + words)


def _figure(findings: Findings, ranking: Ranking) -> Figure:
    """Draw each trial's average rank and each method's, better to the right."""
    table = ranking.table
    summary = table.summary.sort_values("rank_avg", kind="stable").to_dict("records")
    shown = summary[:MOST_DRAWN]
    marks: list[Drawn] = []
    ticks = []
    for place, row in enumerate(shown):
        arm, y = str(row["method"]), float(len(shown) - place)
        mark = mark_of(findings.arms.index(arm))
        mine = table.trials[table.trials["method"] == arm]
        averages = tuple(map(float, mine["rank_avg"]))
        seeds = tuple(
            f"{arm}, seed {seed}: {v:.2f}" for seed, v in zip(mine["seed"], averages, strict=True)
        )
        hover = (f"{arm}\naverage rank {row['rank_avg']:.2f} over {len(mine)} trials",)
        marks += [
            Points(averages, (y - 0.2,) * len(averages), mark, arm, seeds, size=6, opacity=0.35),
            Points((float(row["rank_avg"]),), (y + 0.15,), mark, arm, hover, size=11),
        ]
        ticks.append((y, arm))
    num_trials = len(table.trials)
    rest = len(summary) - len(shown)
    panel = Panel(
        "method_ranks",
        Scale("average rank of a trial over all metrics, lower is better (reversed)",
              (num_trials + 0.4, 0.6)),
        Scale("", (0.4, len(shown) + 0.6), ticks=tuple(ticks)),
        tuple(marks),
        height=90 + 44 * len(shown),
    )  # fmt: skip
    return Figure(
        name="method_ranks",
        title="Average ranks at equal priorities",
        alt=f"Average ranks: {listed(_averages(shown))}.",
        panels=(panel,),
        caption="Large markers are the means of a method's trials. Faint markers below them are "
        "trials, one a seed: the mean of its ranks over all metrics."
        + (f" {rest} methods behind them stand in the table." if rest else ""),
    )
