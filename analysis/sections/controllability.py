"""Does each metric follow its task's priority?"""

from dataclasses import dataclass

import numpy as np

from analysis.compute.controllability import Control, control
from analysis.compute.findings import Findings, prioritised_arms
from analysis.compute.inference import MIN_SEEDS, PERCENT
from analysis.load.axes import Axis, shown_number, signs
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, first_items, listed
from analysis.render.figure_parts import axis_limits, axis_title, legend_of, style_of
from analysis.render.panels import Drawn, Figure, Line, Panel, Points, Scale
from analysis.render.section import Section
from analysis.render.table import Column, Table

MAX_ARMS = 4
"""Methods that are drawn; the table holds all."""
MAX_RUNS_DRAWN = 400
"""Runs of a method up to which single seeds are drawn beside the means."""
ROOM = 0.06
"""Share of the range of the runs that a panel holds beyond them on each side."""
NAME, TITLE = "controllability", "Does a metric follow its priority?"


@dataclass(frozen=True)
class Response:
    """How one metric of one method follows its task's priority."""

    arm: str
    column: str
    num_seeds: int
    num_priorities: int
    """Distinct priorities of the task."""
    control: Control
    """Gains in metric units, turned so that higher is better."""


def controllability(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on controllability; None without any usable run."""
    if not findings.points:
        return None
    prioritised = prioritised_arms(findings)
    held = [arm_runs(findings.runs, findings.axes, arm) for arm in prioritised]
    usable = [runs for runs in held if runs.seeds]
    found = tuple(
        _response(runs, axis, k)
        for runs in usable
        for k, axis in enumerate(findings.axes)
        if len({setting[k] for setting in runs.priorities}) > 1
    )
    words = [note for runs in held for note in runs.left_out]
    if not found:
        words.append(
            "No method has complete runs at two priorities or more, so nothing shows whether a "
            "metric follows its priority."
        )
        return Section(NAME, TITLE, " ".join(words), (), {"responses": found})
    if len(findings.axes) > 2:
        words.append(
            "With more than two tasks several settings give a task the same priority; the curve is "
            "their mean, while the correlation counts each."
        )
    return Section(
        NAME,
        TITLE,
        _lead(findings, found),
        (_figure(findings, usable), _table(findings, found), *words),
        {"responses": found},
    )


def _response(runs: ArmRuns, axis: Axis, k: int) -> Response:
    priorities = [setting[k] for setting in runs.priorities]
    found = control(priorities, -signs([axis])[0] * runs.metrics[:, :, k].T)
    return Response(runs.arm, axis.column, len(runs.seeds), len(set(priorities)), found)


def _lead(findings: Findings, found: tuple[Response, ...]) -> str:
    sentences = []
    for arm in list(dict.fromkeys(response.arm for response in found))[:2]:
        parts = [
            f"{_axis(findings, response).name} {_tau(response.control)}, "
            f"{counted(response.control.violations, 'violation', 'violations')} in "
            f"{counted(response.control.num_steps, 'step', 'steps')}"
            for response in found
            if response.arm == arm
        ]
        sentences.append(f"{arm}: {'; '.join(parts)}.")
    return (
        "Kendall's rank correlation of metric and priority, 1 if the metric follows its priority. "
        "A violation is a step between neighbouring priorities at which the mean gets worse. "
        + " ".join(sentences)
    )


def _axis(findings: Findings, response: Response) -> Axis:
    return next(axis for axis in findings.axes if axis.column == response.column)


def _tau(found: Control) -> str:
    text = shown_number(found.rank_correlation, ".2f")
    if found.num_agreeing is not None:
        return f"{text} (all {found.num_agreeing} seeds agree)"
    if found.interval is None:
        return text
    return f"{text} ({' to '.join(shown_number(end, '.2f') for end in found.interval)})"


def _figure(findings: Findings, usable: list[ArmRuns]) -> Figure:
    shown, note = first_items(usable, MAX_ARMS, "methods")
    panels = []
    for k, axis in enumerate(findings.axes):
        values = [v for runs in shown for v in runs.metrics[:, :, k].ravel().tolist()]
        drawn = [of(findings, runs, k) for of in (_single_runs, _means) for runs in shown]
        panels.append(
            Panel(
                f"controllability_{axis.task}",
                Scale(f"priority of {axis.task}, share of 1"),
                Scale(axis_title(axis), axis_limits(values, axis, ROOM)),
                tuple(mark for marks in drawn for mark in marks),
                title=axis.task,
                height=400,
            )
        )
    alt = [
        f"{runs.arm} at {len(runs.priorities)} priorities and {len(runs.seeds)} seeds"
        for runs in shown
    ]
    return Figure(
        name=NAME,
        title="Each metric against the priority of its task",
        alt=f"Curves of each task's metric against its priority: {listed(alt)}.",
        panels=tuple(panels),
        caption="Large markers and lines: means over seeds; faint ones: single seeds. Better is "
        f"up: a metric that follows its priority only rises.{note}",
        columns=2,
        legend=legend_of(findings, [runs.arm for runs in shown]),
    )


def _single_runs(findings: Findings, runs: ArmRuns, k: int) -> list[Drawn]:
    if len(runs.priorities) * len(runs.seeds) > MAX_RUNS_DRAWN or len(runs.seeds) < 2:
        return []
    style = style_of(findings, runs.arm)
    priorities = tuple(setting[k] for setting in runs.priorities)
    marks: list[Drawn] = []
    for number, seed in enumerate(runs.seeds):
        values = runs.metrics[:, number, k] * findings.axes[k].metric.display_factor
        places = (priorities, tuple(values.tolist()))
        if len(findings.axes) == 2:
            marks.append(Line(*places, style.colour, style.dash, runs.arm, width=1, opacity=0.3))
        hover = (f"{runs.arm}, seed {seed}",) * len(values)
        marks.append(Points(*places, style, runs.arm, hover, size=5, opacity=0.35))
    return marks


def _means(findings: Findings, runs: ArmRuns, k: int) -> list[Drawn]:
    style, axis = style_of(findings, runs.arm), findings.axes[k]
    priorities = np.array([setting[k] for setting in runs.priorities])
    over_seeds = runs.metrics[:, :, k].mean(axis=1) * axis.metric.display_factor
    levels = tuple(np.unique(priorities).tolist())
    means = tuple(float(over_seeds[priorities == level].mean()) for level in levels)
    hover = tuple(
        f"{runs.arm}\npriority {level:.3g}: {value:.{axis.metric.decimals}f} {axis.unit}"
        for level, value in zip(levels, means, strict=True)
    )
    return [
        Line(levels, means, style.colour, style.dash, runs.arm),
        Points(levels, means, style, runs.arm, hover, size=9),
    ]


COLUMNS = (
    Column("method", "method"),
    Column("metric", "metric", lambda record: record["axis"].title),
    Column(None, "rank correlation", lambda record: _tau(record["control"])),
    Column("rank_correlation"),
    Column("low"),
    Column("high"),
    Column("num_seeds_agreeing"),
    Column("violations", "violations"),
    Column("num_steps", "steps"),
    Column("span", "span", lambda record: record["axis"].shown(record["span"])),
    Column("evenness", "evenness", ".2f"),
    Column("num_seeds", "seeds"),
    Column("num_priorities"),
)


def _table(findings: Findings, found: tuple[Response, ...]) -> Table:
    records = []
    for response in found:
        low, high = response.control.interval or (None, None)
        records.append(
            vars(response)
            | vars(response.control)
            | {
                "method": response.arm,
                "metric": response.column,
                "axis": _axis(findings, response),
                "low": low,
                "high": high,
                "num_seeds_agreeing": response.control.num_agreeing,
            }
        )
    return Table.of(
        NAME,
        "Kendall's rank correlation of metric and priority, mean over seeds with its "
        f"{PERCENT} interval (none from fewer than {MIN_SEEDS} seeds); violations: steps between "
        "neighbouring priorities at which the mean gets worse; span: largest minus smallest mean; "
        "evenness of the steps (1: all alike, 0: one step moves it alone). A dash: the metric is "
        "constant.",
        records,
        COLUMNS,
        num_words=2,
    )
