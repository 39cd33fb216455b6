"""What does a front cost, and what does a method give that nobody tunes?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.axes import NONE
from analysis.compute_budget import (
    BudgetCurve,
    Match,
    Overhead,
    budget_curve,
    runs_to_match,
)
from analysis.findings import Findings
from analysis.inference import why_not_comparable
from analysis.intervals import FEWEST_RESAMPLED, PERCENT
from analysis.pairs import PAPER_PAIR, method_of, paper_pairs, steered_arms
from analysis.priorities import is_equal, priority_values
from analysis.result_tables import Table
from analysis.run_files import RunFiles
from analysis.section import Part, Section
from analysis.sections.budget_parts import curve_figure, curve_table, interval_text, match_table
from analysis.sections.seconds_parts import (
    arm_overheads,
    overhead_figure,
    overhead_table,
    run_seconds,
    seconds_words,
)
from analysis.single_runs import ArmRuns, arm_runs
from analysis.untuned import UntunedQuestion, untuned_question
from analysis.words import listed

MOST_ARMS = 6
"""Methods whose budgets are followed: as many as colours."""
MOST_PAIRS = 10


def compute_budget(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section on budgets, seconds and the untuned question."""
    if not findings.points:
        return None
    steered = steered_arms(findings)
    held = [arm_runs(findings.runs, findings.axes, arm) for arm in steered[:MOST_ARMS]]
    words = _left_out_words(steered, held)
    curves = _curves(findings, held)
    drawn = {arm: curve for arm, curve in curves.items() if curve.expected[-1] > 0}
    words += _curve_words(curves, drawn)
    matches, refused = _matches(findings, curves)
    words += refused
    seconds = run_seconds(findings)
    costs = arm_overheads(findings, seconds)
    questions = _questions(findings, files, held)
    if not (curves or costs or questions):
        return None
    parts: list[Part] = []
    if drawn:
        parts += [curve_figure(findings, drawn, seconds), curve_table(drawn, seconds)]
    if matches:
        parts.append(match_table(matches))
    parts += words
    if costs and seconds is not None:
        parts += [overhead_figure(findings, costs, seconds), overhead_table(costs, seconds)]
        parts += seconds_words(findings, seconds)
    else:
        parts.append("No run reports its seconds, so nothing is said of time.")
    parts += _question_parts(findings, questions)
    return Section(
        name="compute_budget",
        title="What does it cost?",
        lead=" ".join(
            [*_match_lead(matches), *_overhead_lead(costs), *_question_lead(findings, questions)]
        ),
        parts=tuple(parts),
        values={
            "curves": [_without_resamples(curve) for curve in curves.values()],
            "matches": matches,
            "overheads": costs,
            "untuned": [question for question, _, _ in questions],
        },
    )


def _without_resamples(curve: BudgetCurve) -> dict[str, Any]:
    held = {name: value for name, value in vars(curve).items() if name != "resampled"}
    return {**held, "num_runs": curve.num_runs}


def _left_out_words(steered: Sequence[str], held: Sequence[ArmRuns]) -> list[str]:
    words = []
    if len(steered) > MOST_ARMS:
        words.append(
            f"Budgets are followed for {MOST_ARMS} of {len(steered)} methods with priorities: "
            f"{listed(steered[:MOST_ARMS])}."
        )
    for runs in held:
        if not runs.seeds:
            words.append(
                f"No budget of {runs.arm}: no seed is done at all {len(runs.priorities)} of its "
                "priorities."
            )
        elif runs.num_left_out:
            words.append(
                f"{runs.num_left_out} runs of {runs.arm} are not counted here: their seeds are "
                "not done at every priority."
            )
    few = [runs for runs in held if 0 < len(runs.seeds) < FEWEST_RESAMPLED]
    if few:
        words.append(
            f"No interval for {listed([runs.arm for runs in few])}: that takes at least "
            f"{FEWEST_RESAMPLED} seeds; resampling fewer looks surer than it is."
        )
    if not steered:
        words.append(
            "No method has runs at two priorities or more, so there is no front whose budget "
            "could be followed."
        )
    return words


def _curve_words(curves: dict[str, BudgetCurve], drawn: dict[str, BudgetCurve]) -> list[str]:
    words = [
        f"No curve of {arm} is drawn: none of its points is better than the reference point on "
        "every metric, so its hypervolume is 0."
        for arm in curves
        if arm not in drawn
    ]
    words += [
        f"No interval for {arm}: all {curve.num_seeds} seeds agree."
        for arm, curve in drawn.items()
        if curve.num_seeds >= FEWEST_RESAMPLED and curve.interval is None
    ]
    return words


def _curves(findings: Findings, held: Sequence[ArmRuns]) -> dict[str, BudgetCurve]:
    if findings.reference is None:
        return {}
    return {
        runs.arm: budget_curve(runs.arm, runs.metrics, findings.reference, findings.axes)
        for runs in held
        if runs.seeds
    }


def _matches(
    findings: Findings, curves: dict[str, BudgetCurve]
) -> tuple[tuple[Match, ...], list[str]]:
    """Return runs to match of each pair, both ways, and why some pairs have none."""
    pairs = paper_pairs(findings, list(curves))
    matches: list[Match] = []
    words = []
    for a, b in pairs[:MOST_PAIRS]:
        points = ([p for p in findings.points if p.arm == arm] for arm in (a, b))
        why_not = why_not_comparable(*points)
        if why_not is not None:
            words.append(f"The budgets of {a} and {b} are not set against each other: {why_not}.")
            continue
        # Nothing is needed to reach a hypervolume of 0.
        pair = ((curves[a], curves[b]), (curves[b], curves[a]))
        matches += [runs_to_match(own, rival) for own, rival in pair if rival.expected[-1] > 0]
    if len(pairs) > MOST_PAIRS:
        words.append(f"Only the first {MOST_PAIRS} of {len(pairs)} pairs are matched.")
    return tuple(matches), words


_Question = tuple[UntunedQuestion, ArmRuns, ArmRuns]


def _questions(
    findings: Findings, files: RunFiles, held: Sequence[ArmRuns]
) -> tuple[_Question, ...]:
    """Return each `lsb` arm at equal priorities against the whole grid of each `fixed` arm."""
    methods = method_of(findings)
    steered = {runs.arm: runs for runs in held}
    tuned = [runs for runs in held if methods[runs.arm] == PAPER_PAIR[1]]
    untuned = [arm for arm, method in methods.items() if method == PAPER_PAIR[0]]
    found = []
    for arm in untuned[:MOST_ARMS]:
        own = steered.get(arm) or arm_runs(findings.runs, findings.axes, arm)
        equal = [k for k, setting in enumerate(own.priorities) if is_equal(setting)]
        for rival in tuned:
            seeds = sorted(set(own.seeds) & set(rival.seeds))
            if not equal or not seeds:
                continue
            mine = own.metrics[equal[0]][[own.seeds.index(s) for s in seeds]]
            columns = [rival.seeds.index(s) for s in seeds]
            question = untuned_question(
                arm,
                mine,
                rival.arm,
                rival.metrics[:, columns],
                findings.axes,
                _validation(findings, files, rival, columns),
            )
            found.append((question, own, rival))
    return tuple(found)


def _validation(
    findings: Findings, files: RunFiles, runs: ArmRuns, columns: Sequence[int]
) -> np.ndarray | None:
    """Return runs (priorities, seeds, axes) on the validation split, or None if one lacks it."""
    values: list[list[list[float]]] = []
    for row in runs.run_ids:
        values.append([])
        for column in columns:
            metrics = files.metrics(row[column], "validation")
            held = [metrics.get(a.task, {}).get(a.metric.name) for a in findings.axes]
            known = [value for value in held if value is not None and math.isfinite(value)]
            if len(known) < len(held):
                return None
            values[-1].append(known)
    return np.array(values)


def _question_parts(findings: Findings, questions: Sequence[_Question]) -> list[Part]:
    if not questions:
        return [
            "The untuned question, lsb at equal priorities against the best of fixed's whole "
            "grid, is not asked: it needs lsb at equal priorities and fixed at two priorities or "
            "more, with a seed in common."
        ]
    parts: list[Part] = [_question_table(findings, questions)]
    parts += [_choice_words(findings, question, rival) for question, _, rival in questions]
    return parts


def _choice_words(findings: Findings, question: UntunedQuestion, rival: ArmRuns) -> str:
    chosen = findings.shown_priorities(rival.priorities[question.chosen])
    where = (
        "chosen on the validation split, as a user would"
        if question.chosen_on == "validation"
        else "chosen on the test split itself, because the results hold no validation metrics: "
        f"that flatters {question.rival}"
    )
    num_seeds = question.metrics[0].num_seeds
    return (
        f"The best of {question.num_candidates} priorities of {question.rival} is {chosen}, "
        f"{where}; best is the greatest relative gain over its grid's mean, averaged over tasks. "
        f"That took {question.num_candidates * num_seeds} runs, {question.arm} at equal "
        f"priorities {num_seeds}. On the test split {question.num_dominating} of "
        f"{question.num_candidates} points of {question.rival} dominate {question.arm} at equal "
        f"priorities, which dominates {question.num_dominated}. Where neither dominates, which is "
        "better depends on how much each task matters."
    )


def _question_table(findings: Findings, questions: Sequence[_Question]) -> Table:
    tasks = [axis.task for axis in findings.axes]
    rows, raw = [], []
    for question, own, rival in questions:
        chosen = findings.shown_priorities(rival.priorities[question.chosen])
        for axis, metric in zip(findings.axes, question.metrics, strict=True):
            interval = NONE
            if metric.interval is not None:
                interval = " to ".join(axis.shown(v, signed=True) for v in metric.interval)
            rows.append(
                (
                    f"{question.arm} at equal priorities",
                    f"{question.rival} {chosen}",
                    axis.title,
                    axis.shown(metric.difference, signed=True),
                    interval,
                    f"{metric.num_seeds_better} of {metric.num_seeds}",
                )
            )
            low, high = metric.interval or (None, None)
            raw.append(
                {
                    "method": question.arm,
                    "rival": question.rival,
                    **priority_values(rival.priorities[question.chosen], tasks, "rival_"),
                    "chosen_on": question.chosen_on,
                    "metric": axis.column,
                    "difference": metric.difference,
                    "low": low,
                    "high": high,
                    "num_seeds_better": metric.num_seeds_better,
                    "num_seeds": metric.num_seeds,
                    "num_seeds_of_method": len(own.seeds),
                }
            )
    return Table(
        "untuned",
        "No tuning against a whole grid: the method at equal priorities minus the best of the "
        f"rival's grid, test split, with Student's {PERCENT} interval over matched seeds and the "
        "seeds in which the method is better.",
        ("method", "against", "metric", "difference", f"{PERCENT} interval", "seeds better"),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=3,
    )


def _match_lead(matches: Sequence[Match]) -> list[str]:
    if not matches:
        return []
    few = "" if interval_text(matches[0]) else "; no interval from so few seeds"
    return [f"{listed([_match_words(match) for match in matches[:2]])}{few}."]


def _match_words(match: Match) -> str:
    if match.num_runs is None:
        text = f"{match.arm} does not reach the whole grid of {match.rival} with as many runs"
    else:
        text = (
            f"{match.arm} reaches the hypervolume of all {match.num_runs_rival} runs of "
            f"{match.rival} with {match.num_runs} on average"
        )
    interval = interval_text(match)
    if not interval:
        return text
    return f"{text} ({interval if match.interval is None else f'{PERCENT} interval {interval}'})"


def _overhead_lead(costs: Sequence[Overhead]) -> list[str]:
    if len(costs) < 2:
        return []
    others = sorted(costs[1:], key=lambda cost: cost.ratio[1])
    ends = [others[0]] if len(others) == 1 else [others[0], others[-1]]
    each = [f"{c.arm} {c.ratio[1]:.2f} ({c.ratio[0]:.2f} to {c.ratio[2]:.2f})" for c in ends]
    which = "Time" if len(others) == 1 else "Least and most time"
    return [f"{which} relative to {costs[0].arm}, median and quartiles: {listed(each)}."]


def _question_lead(findings: Findings, questions: Sequence[_Question]) -> list[str]:
    if not questions:
        return []
    question, _, rival = questions[0]
    each = [
        f"{axis.name} {axis.shown(m.difference, signed=True)} {axis.difference_unit}"
        for axis, m in zip(findings.axes, question.metrics, strict=True)
    ]
    flattered = ", chosen on the test split" if question.chosen_on == "test" else ""
    chosen = findings.shown_priorities(rival.priorities[question.chosen])
    return [
        f"{question.arm} at equal priorities minus the best of {question.num_candidates} settings "
        f"of {question.rival}, {chosen}{flattered}: {listed(each)}."
    ]
