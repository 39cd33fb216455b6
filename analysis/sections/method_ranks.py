"""Ranks of methods where all tasks count alike, in the manner of Table S-3, with tests that fit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from analysis.compute.findings import Findings
from analysis.compute.ranks import (
    DELTA_COLUMNS,
    MIN_BLOCKS,
    MIN_METHODS,
    TOP_SHARE,
    BlockTest,
    Ranking,
    displayed,
    friedman_tests,
    rank,
)
from analysis.load.axes import MINUS, shown_number
from analysis.load.groups import field_name
from analysis.load.priorities import is_equal, settings_of
from analysis.load.run_files import RunFiles
from analysis.load.text import first_items, first_listed, listed
from analysis.load.trials import RankedMetric, identifier_text, trials_of_setting
from analysis.render.figure_parts import style_of
from analysis.render.panels import Drawn, Figure, Panel, Points, Scale
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table, latex, plain

NAME, TITLE = "method_ranks", "Ranks of methods at equal priorities"
MAX_ROWS = 60
"""Trials, and tests, that the page or a terminal tabulates; the CSV holds all."""
MAX_NAMED = 5
"""Pairs of methods without a test, and runs left out, that are named."""
MAX_DRAWN = 20
"""Methods in the figure; the tables hold all."""


def method_ranks(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on ranks; None without any usable run."""
    if not findings.points:
        return None
    tasks = [axis.task for axis in findings.axes]
    trials = _trials(findings, tasks)
    ranked = list(dict.fromkeys(trials["arm"]))
    held = (
        trials_of_setting(trials, findings.declared, findings.baselines)
        if len(ranked) > 1
        else None
    )
    if held is None:
        who = f"only {ranked[0]} has" if len(ranked) == 1 else "no two methods have"
        lead = f"Nothing to rank: {who} runs in which every task counts 1/{len(tasks)}."
        return Section(NAME, TITLE, lead, (), {})
    ranking = rank(held)
    ranking = replace(ranking, blocks=_seed_blocks(ranking))
    notes, more = first_items(ranking.notes, MAX_NAMED, "notes")
    notes += [more.strip()] if more else []
    lacking = [arm for arm in dict.fromkeys(findings.runs["arm"]) if arm not in ranked]
    if lacking:
        notes.append(f"Not ranked, without runs at equal priorities: {listed(lacking)}.")
    if ranking.has_deltas:
        but = f" but {listed([*map(field_name, findings.tuned)])}" if findings.tuned else ""
        notes.append(
            f"Delta_m is the mean relative gain over single-task runs of the same settings{but}. "
            "Tasks first: the metrics of a task are averaged, then the tasks. Metrics flat: all "
            "metrics count alike, so a task with more of them counts more."
        )
    parts: list[Part | Folded] = [
        _figure(findings, ranking),
        summary_table(ranking),
        tests_text(ranking),
        *map(block_text, ranking.blocks),
        *notes,
        ties_text(ranking.metrics),
        Folded(f"Ranks of each of {len(trials)} trials", (_first_rows(trial_table(ranking)),)),
    ]
    if ranking.tests:
        title = f"{len(ranking.tests)} tests of two methods in one metric"
        parts.append(Folded(title, (_first_rows(test_table(ranking)),)))
    values = {
        "trials": ranking.trials.to_dict("records"),
        "summary": ranking.summary.to_dict("records"),
        "tests": ranking.tests,
        "untested": ranking.untested,
        "blocks": ranking.blocks,
        "notes": ranking.notes,
    }
    return Section(NAME, TITLE, _lead(ranking), tuple(parts), values)


def _trials(findings: Findings, tasks: Sequence[str]) -> pd.DataFrame:
    """Return the runs in which every task counts alike, method by method."""
    settings = settings_of(findings.runs, tasks)
    trials = findings.runs[[setting is None or is_equal(setting) for setting in settings]]
    place = trials["arm"].map({arm: number for number, arm in enumerate(findings.arms)})
    order = trials.assign(place=place).sort_values(["place", "seed"]).index
    return trials.loc[order].reset_index(drop=True)


def _seed_blocks(ranking: Ranking) -> tuple[BlockTest, ...]:
    """Return Friedman's tests with seeds as blocks; none where the methods share too few."""
    trials, by = ranking.trials, ranking.by
    num_methods = trials[by].nunique()
    shared = trials.groupby("seed")[by].nunique() == num_methods
    if num_methods < MIN_METHODS or shared.sum() < MIN_BLOCKS:
        return ()
    matched = trials[trials["seed"].map(shared)]
    return tuple(friedman_tests(matched, by, "seed", ranking.metrics))


def _lead(ranking: Ranking) -> str:
    summary = ranking.summary.sort_values("rank_avg", kind="stable")
    best = _averages(summary.to_dict("records"))
    num_trials = len(ranking.trials)
    tests = ": see the differences and their p below" if ranking.tests else ""
    return (
        f"Average rank among {num_trials} trials over {len(ranking.metrics)} metrics, 1 is "
        f"best and {(num_trials + 1) / 2:g} is the middle: {first_listed(best, 4)}. A rank says "
        f"who is ahead and not by how much{tests}."
    )


def _averages(rows: Sequence[Mapping[Any, object]]) -> list[str]:
    return [f"{row['method']} {row['rank_avg']:.2f}" for row in rows]


def _first_rows(table: Table) -> Table:
    rows, note = first_items(table.rows, MAX_ROWS, "rows")
    note += " The CSV holds all." if note else ""
    return replace(table, rows=tuple(rows), caption=table.caption + note)


def _figure(findings: Findings, ranking: Ranking) -> Figure:
    """Draw each trial's average rank and each method's, better to the right."""
    trials = ranking.trials
    summary = ranking.summary.sort_values("rank_avg", kind="stable").to_dict("records")
    shown, note = first_items(summary, MAX_DRAWN, "methods")
    marks: list[Drawn] = []
    ticks = []
    for place, row in enumerate(shown):
        arm, y = str(row["method"]), float(len(shown) - place)
        style, mine = style_of(findings, arm), trials[trials["method"] == arm]
        averages = tuple(map(float, mine["rank_avg"]))
        seeds = tuple(
            f"{arm}, seed {seed}: {v:.2f}" for seed, v in zip(mine["seed"], averages, strict=True)
        )
        hover = (f"{arm}\naverage rank {row['rank_avg']:.2f} over {len(mine)} trials",)
        marks += [
            Points(averages, (y - 0.2,) * len(averages), style, arm, seeds, size=6, opacity=0.35),
            Points((float(row["rank_avg"]),), (y + 0.15,), style, arm, hover, size=11),
        ]
        ticks.append((y, arm))
    title = "average rank of a trial over all metrics, lower is better (reversed)"
    panel = Panel(
        name=NAME,
        x=Scale(title, (len(trials) + 0.4, 0.6)),
        y=Scale("", (0.4, len(shown) + 0.6), ticks=tuple(ticks)),
        marks=tuple(marks),
        height=90 + 44 * len(shown),
    )
    return Figure(
        name=NAME,
        title="Average ranks at equal priorities",
        alt=f"Average ranks: {listed(_averages(shown))}.",
        panels=(panel,),
        caption=f"Large markers: means of a method's trials; faint ones: trials, one a seed.{note}",
    )


def trial_table(ranking: Ranking) -> Table:
    """Return one row a trial: values with their ranks, and the trial's min, max and average."""
    names = [ranking.by, *ranking.identifiers]
    num_top = TOP_SHARE * len(ranking.trials)

    def name_column(name: Any) -> Column:
        return Column(name, name, lambda trial: identifier_text(trial[name]))

    def cell(ranked: RankedMetric) -> Column:
        def shown(trial: Mapping[str, Any]) -> str:
            rank = trial[f"rank_{ranked.column}"]
            return _shown(trial[ranked.column], rank, ranked) + ("*" if rank <= num_top else "")

        return Column(ranked.column, _head(ranked), shown)

    return Table.of(
        "ranks",
        f"Ranks over {len(ranking.trials)} trials, 1 for the best; ties share the mean of their "
        f"ranks. A star: among the best {TOP_SHARE:.0%} of a metric.",
        ranking.trials.to_dict("records"),
        [
            *map(name_column, names),
            *map(cell, ranking.metrics),
            *(Column(f"rank_{ranked.column}") for ranked in ranking.metrics),
            *_RANKS,
            Column("num_top"),
        ],
        num_words=len(names),
    )


_RANKS = (
    Column("rank_min", "min", "g"),
    Column("rank_max", "max", "g"),
    Column("rank_avg", "avg", ".2f"),
)


def summary_table(ranking: Ranking) -> Table:
    """Return one row a method: its trials' ranks, and its mean values with the ranks of these."""

    def cell(ranked: RankedMetric) -> Column:
        mean, rank = f"mean_{ranked.column}", f"rank_{ranked.column}"
        head = f"mean {_head(ranked)}"
        return Column(mean, head, lambda row: _shown(row[mean], row[rank], ranked))

    heads = ("Delta_m, tasks first (%)", "Delta_m, metrics flat (%)")
    deltas = zip(DELTA_COLUMNS, heads, strict=True) if ranking.has_deltas else ()
    return Table.of(
        "rank_summary",
        f"Ranks of each method's trials (top: cells among the best {TOP_SHARE:.0%} of a metric), "
        "and its mean values with their ranks among the methods' means.",
        ranking.summary.to_dict("records"),
        [
            Column(ranking.by, ranking.by),
            Column("num_trials", "trials"),
            *_RANKS,
            Column("num_top", "top"),
            *map(cell, ranking.metrics),
            *(Column(f"rank_{ranked.column}") for ranked in ranking.metrics),
            Column("rank_of_means_min"),
            Column("rank_of_means_max"),
            Column("rank_of_means_avg", "avg of means", ".2f"),
            *(Column(name, head, "+.1f") for name, head in deltas),
        ],
    )


def test_table(ranking: Ranking) -> Table:
    """Return one row a pair of methods and metric: difference, probability of improvement, p."""
    heads = {ranked.column: _head(ranked) for ranked in ranking.metrics}
    return Table.of(
        "rank_tests",
        "Differences of mean values, the probability that a trial of the first method is better, "
        "and the two-sided p of permuted trials.",
        [asdict(test) for test in ranking.tests],
        [
            Column(
                "method_a", "methods", lambda test: f"{test['method_a']} {MINUS} {test['method_b']}"
            ),
            Column("method_b"),
            Column("column", "metric", lambda test: heads[test["column"]]),
            Column("difference", "difference", "+.3g"),
            Column("probability_a_better", "P(better)", ".2f"),
            Column("p", "p", ".2g"),
            Column("p_adjusted", "p after Holm", ".2g"),
            Column("min_attainable_p", "minimum attainable p", ".2g"),
            Column("paired", "trials", lambda test: "paired" if test["paired"] else "independent"),
            Column("exact"),
        ],
        num_words=2,
    )


def ranking_files(ranking: Ranking) -> dict[str, str]:
    """Return the files of a ranking by name."""
    tables = (trial_table(ranking), summary_table(ranking), test_table(ranking))
    files = {f"{table.name}.csv": table.raw.to_csv(index=False) for table in tables}
    return files | {f"{table.name}.tex": latex(table) for table in tables if table.rows}


def ranking_text(ranking: Ranking) -> str:
    """Return what a terminal shows of a ranking."""
    lines = []
    if len(ranking.trials) <= MAX_ROWS:
        lines += [plain(trial_table(ranking)), ""]
    lines += [plain(summary_table(ranking)), "", ties_text(ranking.metrics)]
    lines += [tests_text(ranking), *map(block_text, ranking.blocks), *ranking.notes]
    return "\n".join(lines)


def ties_text(metrics: Sequence[RankedMetric]) -> str:
    """Return the tie tolerances, to be recorded beside every rank table."""
    used = ", ".join(
        f"{m.column} {m.tie_tolerance:g} at {m.metric.decimals} decimals"
        f"{' in %' if m.factor == 1 and m.metric.display_factor == 100 else ''}"
        for m in metrics
    )
    return f"Tie tolerances used, in displayed units: {used}."


def tests_text(ranking: Ranking) -> str:
    """Return which differences of methods are significant, and what was not tested."""
    sentences = []
    if ranking.tests:
        below = [test for test in ranking.tests if test.p_adjusted < 0.05]
        each = "; ".join(
            f"{t.method_a} {MINUS} {t.method_b} in {t.column} {shown_number(t.difference, '+.3g')} "
            f"(p {t.p_adjusted:.2g})"
            for t in sorted(below, key=lambda t: t.p_adjusted)
        )
        floor = min(test.min_attainable_p for test in ranking.tests)
        whole = " Whole seeds are permuted." if any(t.paired for t in ranking.tests) else ""
        sentences.append(
            f"{len(below)} of {len(ranking.tests)} differences between two methods in one metric "
            f"are significant (p below .05 after Holm){f': {each}' if below else ''}. The minimum "
            f"attainable p of so many trials, before Holm, is {floor:.2g}.{whole} An average rank "
            "is no test: metrics of the same trials are not independent."
        )
    pairs: dict[str, list[str]] = {}
    for held in ranking.untested:
        pairs.setdefault(held.reason, []).append(f"{held.method_a} {MINUS} {held.method_b}")
    sentences += [
        f"Not tested: {first_listed(named, MAX_NAMED)}: {reason}."
        for reason, named in pairs.items()
    ]
    return " ".join(sentences) or "Not tested: there are no two methods."


def block_text(block: BlockTest) -> str:
    """Return what Friedman's test says of a metric."""
    ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in block.average_ranks.items())
    return (
        f"{block.column} over {block.num_blocks} blocks: average ranks {ranks}; "
        f"Friedman p {block.p:.2g}."
    )


def _head(ranked: RankedMetric) -> str:
    unit = ranked.metric.display_unit or ranked.metric.unit
    return f"{ranked.column} ({unit})" if unit else ranked.column


def _shown(value: float, rank: float, ranked: RankedMetric) -> str:
    text = shown_number(displayed([value], ranked)[0], f".{ranked.metric.decimals}f")
    return f"{text} ({rank:g})"
