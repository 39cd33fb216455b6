"""The section on trends: loss scales, weights, losses, difficulties, as in Figures S-2 to S-4."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.compute.chosen_runs import ChosenRuns, runs_near_equal
from analysis.compute.curves import (
    EQUAL_FACTOR,
    QUANTITIES,
    check_records,
    curves,
    end_ratios,
    equal_from,
)
from analysis.compute.findings import Findings
from analysis.load.axes import NONE, Axis
from analysis.load.priorities import is_equal, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.runs import VALIDATION
from analysis.load.text import listed, subsample
from analysis.render.figure_parts import band
from analysis.render.panels import Area, Drawn, Figure, Key, Line, Panel, Points, Scale, Style
from analysis.render.scales import log_ticks
from analysis.render.section import Folded, Part, Section
from analysis.render.table import Column, Table
from mtl.errors import UsageError
from mtl.records import EpochRecord

MAX_EPOCHS = 60
"""Drawn of a curve; the CSV holds all."""
COLUMNS = 3


@dataclass(frozen=True)
class ShownTrends:
    """One method with its curves."""

    runs: ChosenRuns
    seeds: tuple[int, ...]
    """Those whose records can be read."""
    curves: pd.DataFrame
    """See `analysis.compute.curves.curves`."""
    ends: tuple[float, ...]
    """See `analysis.compute.curves.end_ratios`."""
    equal_from: tuple[int | None, ...]
    """See `analysis.compute.curves.equal_from`; of each seed."""

    def drawn(self, quantity: str, task: str) -> pd.DataFrame:
        """Return a curve at the epochs that are drawn; empty where the method does not have it."""
        held = self.curves
        curve = held[(held["quantity"] == quantity) & (held["task"] == task)]
        return curve.iloc[subsample(range(len(curve)), MAX_EPOCHS)]


def trend_section(findings: Findings, files: RunFiles) -> Section | None:
    """Return the section; None where no store holds epoch records."""
    if not files.stores or not findings.points:
        return None
    choice = runs_near_equal(findings)
    tasks = [axis.task for axis in findings.axes]
    shown: list[ShownTrends] = []
    notes = list(choice.notes)
    for runs in choice.chosen:
        read, refused = _read(runs, files, len(tasks))
        notes += refused
        if read:
            ratios = (end_ratios(read), tuple(map(equal_from, read.values())))
            shown.append(ShownTrends(runs, tuple(read), curves(read, tasks), *ratios))
    if not shown:
        words = "No epoch records of the runs that would be drawn can be read."
        return Section("trends", "Trends", words, tuple(notes))
    if len({s.seeds for s in shown}) > 1:
        each = "; ".join(f"{s.runs.arm} {', '.join(map(str, s.seeds))}" for s in shown)
        notes.append(f"The methods differ in their seeds: {each}.")
    scales, weights, losses, difficulties = (_figure(name, shown, tasks) for name in QUANTITIES)
    parts: list[Part | Folded] = [figure for figure in (scales, weights) if figure]
    folded: list[Part] = [figure for figure in (losses, difficulties) if figure]
    folded.append(_table(shown, findings))
    parts += [*notes, Folded("Task losses, difficulties and all values", tuple(folded))]
    values = {
        "methods": [
            {
                "method": s.runs.arm,
                "priorities": s.runs.priorities,
                "run_ids": [run_id for seed, run_id in s.runs.runs if seed in s.seeds],
                "seeds": s.seeds,
                "largest_over_smallest_loss_scale": s.ends,
                "equal_from_epoch": s.equal_from,
            }
            for s in shown
        ],
    }
    title = "Trends of loss scales and weights"
    return Section("trends", title, _lead(shown, findings), tuple(parts), values)


def run_curves(runs: ChosenRuns, axes: Sequence[Axis], files: RunFiles, lead: str) -> Section:
    """Return the curves of a single run, which may still be running; its metrics first."""
    read, refused = _read(runs, files, len(axes))
    parts: list[Part | Folded] = list(refused)
    for seed, records in read.items():
        tasks = [axis.task for axis in axes]
        shown = ShownTrends(runs, (seed,), curves(read, tasks), (), ())
        figures = [_metric_figure(records, axes)]
        figures += [_figure(name, [shown], tasks) for name in QUANTITIES]
        parts += [replace(figure, caption="") for figure in figures if figure]
    return Section("curves", f"Run {runs.runs[0][1]}", lead, tuple(parts))


def _metric_figure(records: Sequence[EpochRecord], axes: Sequence[Axis]) -> Figure | None:
    """Return the metrics of a run on the validation split by epoch, one panel a task."""
    panels = []
    for number, axis in enumerate(axes):
        values = [_validated(record, axis) for record in records]
        held = [
            (float(record.epoch), value * axis.metric.display_factor)
            for record, value in zip(records, values, strict=True)
            if value is not None
        ]
        if not held:
            continue
        xs, ys = zip(*held, strict=True)
        hover = tuple(f"epoch {x:g}: {y:.4g} {axis.unit}" for x, y in held)
        style = Style(number)
        marks: list[Drawn] = [Line(xs, ys, style.colour, style.dash, axis.task)]
        marks.append(Points(xs, ys, style, axis.task, hover, size=6.0))
        scales = (Scale("epoch"), Scale(f"{axis.title}, {axis.better}"))
        panels.append(Panel(f"metric_{axis.task}", *scales, tuple(marks), axis.task, height=300))
    if not panels:
        return None
    names = listed([axis.name for axis in axes])
    return Figure(
        name="metrics",
        title="Metrics on the validation split over the epochs",
        alt=f"{names} by epoch, one panel each.",
        panels=tuple(panels),
        columns=min(COLUMNS, len(panels)),
    )


def _validated(record: EpochRecord, axis: Axis) -> float | None:
    return (record.metrics.get(VALIDATION, {}).get(axis.task) or {}).get(axis.metric.name)


def _read(
    runs: ChosenRuns, files: RunFiles, num_tasks: int
) -> tuple[dict[int, list[EpochRecord]], list[str]]:
    """Return the records of each seed that has good ones, and what is wrong with the others."""
    read: dict[int, list[EpochRecord]] = {}
    refused = []
    held = files.epochs_of([run_id for _, run_id in runs.runs])
    for seed, run_id in runs.runs:
        records = held[run_id]
        try:
            if not records:
                raise UsageError("it has no epoch records that can be read")
            check_records(records, num_tasks)
            read[seed] = records
        except UsageError as error:
            refused.append(f"Run {run_id} ({runs.arm}, seed {seed}) is not drawn: {error}.")
    return read, refused


def _lead(shown: Sequence[ShownTrends], findings: Findings) -> str:
    having = [s for s in shown if s.ends]
    if not having:
        if len(findings.axes) < 2:
            return "With a single task there are no loss scales to set against each other."
        return "No method shown has positive loss scales of every task at its end."
    ends = listed([f"{_factor(float(np.median(s.ends)))} ({s.runs.arm})" for s in having])
    words = (
        f"The largest and smallest loss scale of the tasks end within a factor of {ends}, median "
        "over seeds; 1 means equal loss scales."
    )
    settings = dict.fromkeys(s.runs.priorities for s in having)
    asked = [p for p in settings if p is not None and not is_equal(p)]
    if not asked:
        words += f" They stay within a factor of {EQUAL_FACTOR:g} {_since(having)}."
    else:
        each = listed([f"{max(p) / min(p):.3g} at {findings.shown_priorities(p)}" for p in asked])
        words += f" The priorities shown are unequal: LSB aims at a factor of {each}."
    return words


def _since(shown: Sequence[ShownTrends]) -> str:
    """Return from which epoch on each method's loss scales are equal, the last of its seeds."""
    held = []
    for s in shown:
        epochs = [epoch for epoch in s.equal_from if epoch is not None]
        num_never = len(s.equal_from) - len(epochs)
        when = f"from epoch {max(epochs)} on" if epochs else "at no time until the end"
        if epochs and num_never:
            when += f" but for {num_never} of {len(s.equal_from)} seeds"
        held.append(f"{when} ({s.runs.arm})")
    return listed(held)


def _factor(ratio: float) -> str:
    return f"{ratio:.3g}" if ratio < 1000 or ratio >= 1e7 else f"{ratio:,.0f}".replace(",", " ")


def _table(shown: Sequence[ShownTrends], findings: Findings) -> Table:
    """Return first and last values a method and task; its CSV holds every epoch."""
    tasks = [axis.task for axis in findings.axes]
    records, frames = [], []
    for s in shown:
        priorities = findings.shown_priorities(s.runs.priorities)
        for task in tasks:
            record = {"method": s.runs.arm, "priorities": priorities, "task": task}
            for name in QUANTITIES:
                means = s.drawn(name, task)["mean"].tolist()
                record[name] = f"{means[0]:.3g} → {means[-1]:.3g}" if means else NONE
            records.append(record)
        named = {"method": s.runs.arm, **priority_values(s.runs.priorities, tasks)}
        own = ["task", "quantity", "epoch", "mean", "lowest", "highest", "num_seeds"]
        frames.append(s.curves.assign(**named)[[*named, *own]])
    whole = pd.concat(frames, ignore_index=True)
    table = Table.of(
        "trends",
        "From the first to the last epoch, means over seeds. The CSV holds all "
        f"{len(whole)} values, with the lowest and highest seed of each epoch.",
        records,
        [Column(name, name.replace("_", " ")) for name in records[0]],
        num_words=3,
    )
    return replace(table, raw=whole)


def _figure(name: str, shown: Sequence[ShownTrends], tasks: Sequence[str]) -> Figure | None:
    """Return one panel a method that has the quantity, all with the same axes."""
    having = [s for s in shown if name in set(s.curves["quantity"])]
    if not having:
        return None
    whole = pd.concat([s.curves[s.curves["quantity"] == name] for s in having])
    values = whole[["mean", "lowest", "highest"]].to_numpy()
    positive = values[values > 0]
    if not positive.size:
        return None
    low, high = float(positive.min()), float(positive.max())
    margin = max((high / low) ** 0.06, 1.01)
    limits = (low / margin, high * margin)
    y = Scale(QUANTITIES[name], limits, is_log=True, ticks=log_ticks(*limits))
    x = Scale("epoch", (float(whole["epoch"].min()) - 0.5, float(whole["epoch"].max()) + 0.5))
    panels = []
    for s in having:
        marks = [
            mark for i, task in enumerate(tasks) for mark in _marks(s.drawn(name, task), Style(i))
        ]
        # Bands below all lines.
        marks.sort(key=lambda mark: not isinstance(mark, Area))
        arm, number = s.runs.arm, s.runs.number
        panels.append(Panel(f"trend_{name}_{number}", x, y, tuple(marks), arm, height=300))
    caption = ["Means over seeds, bands from the lowest to the highest; one axis for all methods."]
    if whole["epoch"].nunique() > MAX_EPOCHS:
        caption.append(f"{MAX_EPOCHS} epochs of each curve are drawn; the CSV holds all.")
    without = [s.runs.arm for s in shown if s not in having]
    if without:
        caption.append(f"Not recorded for {listed(without)}.")
    lost = int((whole["mean"] <= 0).sum())
    if lost:
        caption.append(f"{lost} means of 0 or less cannot stand on this axis; the CSV holds them.")
    words = QUANTITIES[name].partition(" (")[0]
    return Figure(
        name=f"trends_{name}",
        title=f"{words[0].upper()}{words[1:]} over the epochs",
        alt=f"{words} of {listed(list(tasks))} by epoch, one panel each for "
        f"{listed([s.runs.arm for s in having])}; the values are in trends.csv.",
        panels=tuple(panels),
        caption=" ".join(caption),
        columns=min(COLUMNS, len(panels)),
        legend=tuple(Key(task, Style(i), "line") for i, task in enumerate(tasks)),
    )


def _marks(curve: pd.DataFrame, style: Style) -> list[Drawn]:
    """Return line and band of a task's curve, broken where a logarithmic axis holds no value."""
    marks: list[Drawn] = []
    is_held = curve["mean"] > 0
    for _, part in curve[is_held].groupby((~is_held).cumsum()[is_held]):
        epochs, means, lows, highs = (
            tuple(part[name].astype(float)) for name in ("epoch", "mean", "lowest", "highest")
        )
        task = str(part["task"].iloc[0])
        hover = tuple(
            f"{task}, epoch {e:g}: {m:.4g}\n{low:.4g} to {high:.4g} over seeds"
            for e, m, low, high in zip(epochs, means, lows, highs, strict=True)
        )
        if len(part) == 1:
            marks.append(Points(epochs, means, style, task, hover, size=6.0))
            continue
        if lows != highs and min(lows) > 0:
            marks.append(band(epochs, lows, highs, style, task, 0.18))
        marks.append(Line(epochs, means, style.colour, style.dash, task, hover=hover))
    return marks
