"""Does each metric follow its task's priority? One curve a seed, and what they say together."""

from dataclasses import dataclass

import numpy as np

from analysis.compute.controllability import Control, control
from analysis.compute.findings import Findings, steered_arms
from analysis.compute.inference import MIN_SEEDS, PERCENT
from analysis.load.axes import NONE, Axis, signs
from analysis.load.matched import ArmRuns, arm_runs
from analysis.load.run_files import RunFiles
from analysis.load.text import listed
from analysis.render.figure_parts import axis_limits, axis_title
from analysis.render.panels import Drawn, Figure, Key, Line, Panel, Points, Scale, mark_of
from analysis.render.section import Part, Section
from analysis.render.table import Column, Table

MOST_ARMS = 4
"""Methods that are drawn; the table holds all."""
MOST_GHOSTS = 400
"""Single runs of a method that are drawn in a panel; of more priorities the means alone are."""
ROOM = 0.06
MOST_MARKED = 200
"""Priorities with a marker each; of more the line alone is drawn."""


@dataclass(frozen=True)
class Steering:
    """How one metric of one method follows its task's priority."""

    arm: str
    column: str
    num_seeds: int
    num_priorities: int
    """Distinct priorities of the task."""
    control: Control
    """Gains in metric units, turned so that higher is better."""


def controllability(findings: Findings, _: RunFiles) -> Section | None:
    """Return the section on steering; None without any usable run."""
    if not findings.points:
        return None
    steered = steered_arms(findings)
    held = [arm_runs(findings.runs, findings.axes, arm) for arm in steered]
    usable = [runs for runs in held if runs.seeds]
    found = tuple(
        _steering(runs, axis, k)
        for runs in usable
        for k, axis in enumerate(findings.axes)
        if len({setting[k] for setting in runs.priorities}) > 1
    )
    words = _words(findings, held, found)
    parts: list[Part] = []
    if found:
        parts = [_figure(findings, usable[:MOST_ARMS]), _table(findings, found)]
    return Section(
        name="controllability",
        title="Does a metric follow its priority?",
        lead=_lead(findings, found) if found else words.pop(0),
        parts=(*parts, *words),
        values={"steering": found},
    )


def _steering(runs: ArmRuns, axis: Axis, index: int) -> Steering:
    priorities = [setting[index] for setting in runs.priorities]
    gains = -signs([axis])[0] * runs.metrics[:, :, index].T
    return Steering(
        arm=runs.arm,
        column=axis.column,
        num_seeds=len(runs.seeds),
        num_priorities=len(set(priorities)),
        control=control(priorities, gains),
    )


def _words(findings: Findings, held: list[ArmRuns], found: tuple[Steering, ...]) -> list[str]:
    words = []
    if not held:
        words.append(
            "No method has runs at two priorities or more, so nothing shows whether a metric "
            "follows its priority."
        )
    lacking = [runs.arm for runs in held if not runs.seeds]
    if lacking:
        words.append(
            f"Not shown: {listed(lacking)}, without a seed that is done at every priority."
        )
    partly = [f"{runs.num_left_out} of {runs.arm}" for runs in held if runs.num_left_out]
    if partly and found:
        words.append(
            f"Runs of seeds that are not done at every priority are left out: {listed(partly)}."
        )
    constant = [
        f"{steering.column} of {steering.arm}"
        for steering in found
        if steering.control.rank_correlation is None
    ]
    if constant:
        words.append(f"Constant, so without any correlation: {listed(constant)}.")
    if any(steering.num_seeds < MIN_SEEDS for steering in found):
        words.append(f"With fewer than {MIN_SEEDS} seeds there is no interval.")
    if len(findings.axes) > 2 and found:
        words.append(
            "With more than two tasks several settings give a task the same priority; the curve is "
            "their mean, while the correlation counts each."
        )
    return words


def _lead(findings: Findings, found: tuple[Steering, ...]) -> str:
    """Return how the first arms follow, with numbers."""
    sentences = []
    for arm in list(dict.fromkeys(steering.arm for steering in found))[:2]:
        parts = []
        for steering in found:
            if steering.arm == arm:
                axis = _axis(findings, steering)
                parts.append(
                    f"{axis.name} {_tau(steering.control)}, "
                    f"{steering.control.violations} of {steering.control.num_steps} steps back"
                )
        sentences.append(f"{arm}: {'; '.join(parts)}.")
    return "Kendall's rank correlation of metric and priority, 1 if it follows. " + " ".join(
        sentences
    )


def _axis(findings: Findings, steering: Steering) -> Axis:
    return next(axis for axis in findings.axes if axis.column == steering.column)


def _tau(found: Control) -> str:
    if found.rank_correlation is None:
        return NONE
    text = f"{found.rank_correlation:.2f}"
    if found.num_agreeing is not None:
        return f"{text} (all {found.num_agreeing} seeds agree)"
    if found.interval is None:
        return text
    return f"{text} ({found.interval[0]:.2f} to {found.interval[1]:.2f})"


def _figure(findings: Findings, shown: list[ArmRuns]) -> Figure:
    panels = []
    for index, axis in enumerate(findings.axes):
        values = [v for runs in shown for v in runs.metrics[:, :, index].ravel().tolist()]
        ghosts: list[Drawn] = []
        means: list[Drawn] = []
        for runs in shown:
            ghosts += _ghosts(findings, runs, index)
            means += _means(findings, runs, index)
        panels.append(
            Panel(
                f"controllability_{axis.task}",
                Scale(f"priority of {axis.task}, share of 1"),
                Scale(axis_title(axis), axis_limits(values, axis, ROOM)),
                (*ghosts, *means),
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
        "seeds. A method that can be steered has curves that go one way, up as the priority "
        "rises: better is up.",
        columns=2,
        legend=tuple(Key(runs.arm, mark_of(findings.arms.index(runs.arm))) for runs in shown),
    )


def _ghosts(findings: Findings, runs: ArmRuns, index: int) -> list[Drawn]:
    if len(runs.priorities) * len(runs.seeds) > MOST_GHOSTS or len(runs.seeds) < 2:
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
    line = Line(levels, means, mark.colour, mark.dash, runs.arm)
    if len(levels) > MOST_MARKED:
        return [line]
    hover = tuple(
        f"{runs.arm}\npriority {level:.3g}: {value:.{axis.metric.decimals}f} {axis.unit}"
        for level, value in zip(levels, means, strict=True)
    )
    return [
        line,
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
    Column("violations"),
    Column(None, "steps back", lambda record: f"{record['violations']} of {record['num_steps']}"),
    Column("num_steps"),
    Column("span"),
    Column(None, "span", lambda record: record["axis"].shown(record["span"])),
    Column("evenness", "evenness", ".2f"),
    Column("num_seeds", "seeds"),
    Column("num_priorities"),
)


def _table(findings: Findings, found: tuple[Steering, ...]) -> Table:
    records = []
    for steering in found:
        control = steering.control
        low, high = control.interval or (None, None)
        records.append(
            {
                "method": steering.arm,
                "metric": steering.column,
                "axis": _axis(findings, steering),
                "control": control,
                "low": low,
                "high": high,
                "num_seeds_agreeing": control.num_agreeing,
                "num_seeds": steering.num_seeds,
                "num_priorities": steering.num_priorities,
                **vars(control),
            }
        )
    return Table.of(
        "controllability",
        "Kendall's rank correlation of metric and priority, mean over seeds with its "
        f"{PERCENT} interval over them (1: the metric always improves with its priority); steps "
        "between neighbouring priorities at which the mean gets worse; largest minus smallest "
        "mean; and evenness of the steps (1: all alike, 0: one step moves it alone).",
        records,
        COLUMNS,
        num_words=2,
    )
