"""Does each metric follow its task's priority? One curve a seed, and what they say together."""

from dataclasses import dataclass

import numpy as np

from analysis.compute.controllability import Control, control
from analysis.compute.findings import Findings, prioritised_arms
from analysis.compute.inference import MIN_SEEDS, PERCENT
from analysis.load.axes import Axis, shown_number, signs
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import counted, first_items, listed
from analysis.render.figure_parts import axis_limits, axis_title
from analysis.render.panels import Drawn, Figure, Key, Line, Panel, Points, Scale, mark_of
from analysis.render.section import Part, Section
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
    drawn, note = first_items(usable, MAX_ARMS, "methods")
    parts: list[Part] = [_figure(findings, drawn, note), _table(findings, found), *words]
    return Section(NAME, TITLE, _lead(findings, found), tuple(parts), {"responses": found})


def _response(runs: ArmRuns, axis: Axis, index: int) -> Response:
    priorities = [setting[index] for setting in runs.priorities]
    gains = -signs([axis])[0] * runs.metrics[:, :, index].T
    return Response(
        arm=runs.arm,
        column=axis.column,
        num_seeds=len(runs.seeds),
        num_priorities=len(set(priorities)),
        control=control(priorities, gains),
    )


def _lead(findings: Findings, found: tuple[Response, ...]) -> str:
    """Return how the first methods follow, with numbers."""
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


def _figure(findings: Findings, shown: list[ArmRuns], note: str) -> Figure:
    panels = []
    for index, axis in enumerate(findings.axes):
        values = [v for runs in shown for v in runs.metrics[:, :, index].ravel().tolist()]
        singles = [mark for runs in shown for mark in _single_runs(findings, runs, index)]
        means = [mark for runs in shown for mark in _means(findings, runs, index)]
        panels.append(
            Panel(
                f"controllability_{axis.task}",
                Scale(f"priority of {axis.task}, share of 1"),
                Scale(axis_title(axis), axis_limits(values, axis, ROOM)),
                (*singles, *means),
                title=axis.task,
                height=400,
            )
        )
    alt = [
        f"{runs.arm} at {len(runs.priorities)} priorities and {len(runs.seeds)} seeds"
        for runs in shown
    ]
    return Figure(
        name="controllability",
        title="Each metric against the priority of its task",
        alt=f"Curves of each task's metric against its priority: {listed(alt)}.",
        panels=tuple(panels),
        caption="Large markers are means over seeds, joined by lines; faint ones are single "
        "seeds. Better is up: a metric that follows its priority only rises."
        f"{note}",
        columns=2,
        legend=tuple(Key(runs.arm, mark_of(findings.arms.index(runs.arm))) for runs in shown),
    )


def _single_runs(findings: Findings, runs: ArmRuns, index: int) -> list[Drawn]:
    if len(runs.priorities) * len(runs.seeds) > MAX_RUNS_DRAWN or len(runs.seeds) < 2:
        return []
    mark = mark_of(findings.arms.index(runs.arm))
    factor = findings.axes[index].metric.display_factor
    priorities = tuple(setting[index] for setting in runs.priorities)
    marks: list[Drawn] = []
    for number, seed in enumerate(runs.seeds):
        values = tuple((runs.metrics[:, number, index] * factor).tolist())
        if len(findings.axes) == 2:
            marks.append(
                Line(priorities, values, mark.colour, mark.dash, runs.arm, width=1, opacity=0.3)
            )
        hover = (f"{runs.arm}, seed {seed}",) * len(values)
        marks.append(Points(priorities, values, mark, runs.arm, hover, size=5, opacity=0.35))
    return marks


def _means(findings: Findings, runs: ArmRuns, index: int) -> list[Drawn]:
    mark = mark_of(findings.arms.index(runs.arm))
    axis = findings.axes[index]
    priorities = np.array([setting[index] for setting in runs.priorities])
    over_seeds = runs.metrics[:, :, index].mean(axis=1) * axis.metric.display_factor
    levels = tuple(np.unique(priorities).tolist())
    means = tuple(float(over_seeds[priorities == level].mean()) for level in levels)
    hover = tuple(
        f"{runs.arm}\npriority {level:.3g}: {value:.{axis.metric.decimals}f} {axis.unit}"
        for level, value in zip(levels, means, strict=True)
    )
    return [
        Line(levels, means, mark.colour, mark.dash, runs.arm),
        Points(levels, means, mark, runs.arm, hover, size=9),
    ]


COLUMNS = (
    Column("method", "method"),
    Column("metric"),
    Column(None, "metric", lambda record: record["axis"].title),
    Column(None, "rank correlation", lambda record: _tau(record["control"])),
    Column("rank_correlation"),
    Column("low"),
    Column("high"),
    Column("num_seeds_agreeing"),
    Column("violations", "violations"),
    Column("num_steps", "steps"),
    Column("span"),
    Column(None, "span", lambda record: record["axis"].shown(record["span"])),
    Column("evenness", "evenness", ".2f"),
    Column("num_seeds", "seeds"),
    Column("num_priorities"),
)


def _table(findings: Findings, found: tuple[Response, ...]) -> Table:
    records = []
    for response in found:
        control = response.control
        low, high = control.interval or (None, None)
        records.append(
            {
                "method": response.arm,
                "metric": response.column,
                "axis": _axis(findings, response),
                "control": control,
                "low": low,
                "high": high,
                "num_seeds_agreeing": control.num_agreeing,
                "num_seeds": response.num_seeds,
                "num_priorities": response.num_priorities,
                **vars(control),
            }
        )
    return Table.of(
        "controllability",
        "Kendall's rank correlation of metric and priority, mean over seeds with its "
        f"{PERCENT} interval over them (1: the metric always improves with its priority); "
        "violations: steps between neighbouring priorities at which the mean gets worse; largest "
        "minus smallest mean; and evenness of the steps (1: all alike, 0: one step moves it "
        f"alone). A dash: the metric is constant. No interval from fewer than {MIN_SEEDS} seeds.",
        records,
        COLUMNS,
        num_words=2,
    )
