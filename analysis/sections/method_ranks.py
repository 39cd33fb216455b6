"""Ranks of methods where all tasks count alike, in the manner of Table S-3, with tests that fit."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.findings import Findings
from analysis.marks import mark_of
from analysis.pairs import PAPER_PAIR, method_of
from analysis.panels import Drawn, Figure, Panel, Points, Scale
from analysis.priorities import Priorities, is_equal, settings_of
from analysis.rank_blocks import FEWEST_BLOCKS, BlockTest, seed_block_tests, why_no_block_test
from analysis.rank_report import (
    block_in_words,
    summary_table,
    test_table,
    tests_in_words,
    ties_in_words,
    trial_table,
)
from analysis.rank_tables import Ranking, ranking_of_trials
from analysis.ranks import RankedMetric
from analysis.result_tables import Table
from analysis.run_files import RunFiles
from analysis.section import Folded, Part, Section
from analysis.words import counted, listed

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
