"""The section on trends: loss scales, weights, losses, difficulties, as in Figures S-2 to S-4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compute.chosen_runs import ChosenRuns, runs_near_equal
from analysis.compute.curves import (
    QUANTITIES,
    SETTLED_FACTOR,
    Curve,
    MethodTrends,
    check_records,
    trends,
)
from analysis.compute.findings import Findings
from analysis.load.axes import NONE
from analysis.load.priorities import is_equal, priority_values
from analysis.load.run_files import RunFiles
from analysis.load.text import evenly, listed
from analysis.render.panels import Area, Drawn, Figure, Key, Line, Panel, Points, Scale, mark_of
from analysis.render.scales import log_ticks
from analysis.render.section import Folded, Section
from analysis.render.table import Table
from mtl.errors import UsageError
from mtl.records import EpochRecord

MOST_EPOCHS, FEWEST_EPOCHS, MOST_POINTS = 100, 40, 2000
"""Drawn of a curve, at most and where curves are many, and of a figure; the CSV holds all."""
COLUMNS = 3


@dataclass(frozen=True)
class ShownTrends:
    """One method with its curves."""

    runs: ChosenRuns
    trends: MethodTrends


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
            shown.append(ShownTrends(runs, trends(read, tasks)))
    if not shown:
        words = "No epoch records of the runs that would be drawn can be read."
        return Section("trends", "Trends", words, tuple(notes), {"notes": tuple(notes)})
    notes += _uneven(shown)
    most = most_epochs(len(shown) * len(tasks))
    figures = {name: _figure(name, shown, tasks, most) for name in QUANTITIES}
    first, folded = figures["loss_scales"], list(figures.values())[1:]
    no_scales = [s.runs.arm for s in shown if "loss_scales" not in s.trends.curves]
    if no_scales:
        notes.append(
            f"Without loss weights, and so without loss scales: {listed(no_scales)}. Their task "
            "losses are below."
        )
    parts = [first, spread_table(shown, findings), figures["weights"]]
    others = [figures[name] for name in ("losses", "difficulties")]
    return Section(
        name="trends",
        title="Trends of loss scales and weights",
        lead=_lead(shown, findings),
        parts=(
            *(part for part in parts if part is not None),
            *notes,
            Folded(
                "Task losses, difficulties and all values",
                (*(f for f in others if f is not None), trend_table(shown, findings)),
            ),
        ),
        values={
            "methods": [_values(s, most) for s in shown],
            "settled_factor": SETTLED_FACTOR,
            "notes": tuple(notes),
            "figures": [f.name for f in (first, *folded) if f is not None],
        },
    )


def _read(
    runs: ChosenRuns, files: RunFiles, num_tasks: int
) -> tuple[dict[int, list[EpochRecord]], list[str]]:
    """Return the records of each seed that has good ones, and what is wrong with the others."""
    read: dict[int, list[EpochRecord]] = {}
    refused: dict[str, list[tuple[int, str]]] = {}
    for seed, run_id in runs.runs:
        records = files.epochs(run_id)
        try:
            if not records:
                raise UsageError("it has no epoch records that can be read")
            check_records(records, num_tasks)
        except ValueError as error:
            refused.setdefault(str(error), []).append((seed, run_id))
            continue
        read[seed] = records
    return read, [_refusal(runs.arm, which, why) for why, which in refused.items()]


def _refusal(arm: str, which: Sequence[tuple[int, str]], why: str) -> str:
    (seed, run_id), others = which[0], which[1:]
    words = f"Run {run_id} ({arm}, seed {seed}) is not drawn: {why}."
    if others:
        words += f" The same holds for its seeds {', '.join(str(seed) for seed, _ in others)}."
    return words


def _uneven(shown: Sequence[ShownTrends]) -> list[str]:
    notes = []
    seeds = {s.trends.seeds for s in shown}
    if len(seeds) > 1:
        each = "; ".join(f"{s.runs.arm} {', '.join(map(str, s.trends.seeds))}" for s in shown)
        notes.append(f"The methods differ in their seeds: {each}.")
    elif len(shown[0].trends.seeds) == 1:
        notes.append("One seed a method: there are no bands.")
    ends = {c[0].epochs[-1] for s in shown for c in s.trends.curves.values() if c[0].epochs}
    lasts = {e for s in shown if s.trends.spread for e in s.trends.spread.epochs}
    if len(ends) > 1 or len(lasts) > 1:
        notes.append("The records do not all end at the same epoch; each is drawn to its end.")
    return notes


def _lead(shown: Sequence[ShownTrends], findings: Findings) -> str:
    spreads = [(s, s.trends.spread) for s in shown if s.trends.spread is not None]
    if not spreads:
        if len(findings.axes) < 2:
            return "With a single task there are no loss scales to set against each other."
        return "No method shown has positive loss scales of every task at its end."
    ends = listed([f"{_factor(spread.median)} ({s.runs.arm})" for s, spread in spreads])
    words = (
        f"The largest and smallest loss scale of the tasks end within a factor of {ends}; at 1 "
        "all tasks would weigh alike."
    )
    settled = [
        f"{s.runs.arm} from epoch {max(e for e in spread.settled if e is not None)}"
        for s, spread in spreads
        if None not in spread.settled
    ]
    words += (
        f" Within a factor of {SETTLED_FACTOR:g} to the end, in every seed: {listed(settled)}."
        if settled
        else f" None stays within a factor of {SETTLED_FACTOR:g} to the end in every seed."
    )
    settings = dict.fromkeys(s.runs.priorities for s, _ in spreads)
    asked = [p for p in settings if p is not None and not is_equal(p)]
    if asked:
        each = listed([f"{max(p) / min(p):.3g} at {findings.shown_priorities(p)}" for p in asked])
        words += f" The priorities shown are unequal and by themselves ask for a factor of {each}."
    return words


def spread_table(shown: Sequence[ShownTrends], findings: Findings) -> Table | None:
    """Return one row a method: how far apart its loss scales end; None where none has any."""
    tasks = [axis.task for axis in findings.axes]
    rows, raw = [], []
    for s in shown:
        spread = s.trends.spread
        if spread is None:
            continue
        low, high = min(spread.ratios), max(spread.ratios)
        settled = [NONE if epoch is None else str(epoch) for epoch in spread.settled]
        rows.append(
            (
                s.runs.arm,
                findings.shown_priorities(s.runs.priorities),
                _factor(spread.median),
                NONE if len(spread.ratios) == 1 else f"{_factor(low)} to {_factor(high)}",
                ", ".join(settled),
                str(len(spread.ratios)),
            )
        )
        raw += [
            {
                "method": s.runs.arm,
                **priority_values(s.runs.priorities, tasks),
                "seed": seed,
                "epoch": epoch,
                "largest_over_smallest_loss_scale": ratio,
                "settled_from_epoch": start,
            }
            for seed, epoch, ratio, start in zip(
                s.trends.seeds, spread.epochs, spread.ratios, spread.settled, strict=True
            )
        ]
    if not rows:
        return None
    return Table(
        "loss_scale_spread",
        "Largest over smallest loss scale in the last epoch: median and range over seeds; and for "
        f"each seed the epoch from which on it stays within {SETTLED_FACTOR:g}.",
        ("method", "priorities", "largest / smallest", "range", "settled from epoch", "seeds"),
        tuple(rows),
        pd.DataFrame(raw),
        num_words=2,
    )


def _factor(ratio: float) -> str:
    return f"{ratio:.3g}" if ratio < 1000 or ratio >= 1e7 else f"{ratio:,.0f}".replace(",", " ")


def trend_table(shown: Sequence[ShownTrends], findings: Findings) -> Table:
    """Return first and last values a method and task; its CSV holds every epoch."""
    rows, raw = [], []
    names = list(QUANTITIES)
    tasks = [axis.task for axis in findings.axes]
    for s in shown:
        for index, axis in enumerate(findings.axes):
            cells = []
            for name in names:
                curve = s.trends.curves[name][index] if name in s.trends.curves else None
                cells.append(_from_to(curve))
            rows.append(
                (s.runs.arm, findings.shown_priorities(s.runs.priorities), axis.task, *cells)
            )
        for name, curves in s.trends.curves.items():
            for curve in curves:
                frame = pd.DataFrame(
                    {
                        "epoch": curve.epochs,
                        "mean": curve.means,
                        "lowest": curve.lows,
                        "highest": curve.highs,
                        "num_seeds": curve.counts,
                    }
                )
                held = {"method": s.runs.arm, **priority_values(s.runs.priorities, tasks)}
                held |= {"task": curve.task, "quantity": name}
                for place, (column, value) in enumerate(held.items()):
                    frame.insert(place, column, value)
                raw.append(frame)
    whole = pd.concat([f for f in raw if len(f)], ignore_index=True)
    return Table(
        "trends",
        "From the first to the last epoch, means over seeds. The CSV holds all "
        f"{len(whole)} values, with the lowest and highest seed of each epoch.",
        ("method", "priorities", "task", *(name.replace("_", " ") for name in names)),
        tuple(rows),
        whole,
        num_words=3,
    )


def _from_to(curve: Curve | None) -> str:
    if curve is None or not curve.means:
        return NONE
    return f"{curve.means[0]:.3g} → {curve.means[-1]:.3g}"


def _values(shown: ShownTrends, most: int) -> dict[str, Any]:
    """Return what is drawn; all epochs stand in trends.csv."""
    curves: dict[str, list[dict[str, Any]]] = {
        name: [vars(drawn_curve(curve, most)) for curve in curves]
        for name, curves in shown.trends.curves.items()
    }
    spread = shown.trends.spread
    return {
        "method": shown.runs.arm,
        "priorities": shown.runs.priorities,
        "run_ids": [run_id for seed, run_id in shown.runs.runs if seed in shown.trends.seeds],
        "seeds": shown.trends.seeds,
        "curves": curves,
        "loss_scale_spread": None if spread is None else {**vars(spread), "median": spread.median},
    }


def most_epochs(num_curves: int) -> int:
    """Return how many epochs are drawn of each curve where a figure has so many."""
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, MOST_POINTS // max(num_curves, 1)))


def drawn_curve(curve: Curve, most: int) -> Curve:
    """Return the curve at the epochs that are drawn."""
    kept = set(evenly(curve.epochs, most))
    places = [place for place, epoch in enumerate(curve.epochs) if epoch in kept]

    def pick(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[place] for place in places)

    return Curve(
        curve.task,
        pick(curve.epochs),
        pick(curve.means),
        pick(curve.lows),
        pick(curve.highs),
        pick(curve.counts),
    )


def _figure(
    name: str, shown: Sequence[ShownTrends], tasks: Sequence[str], most: int
) -> Figure | None:
    """Return one panel a method that has the quantity, all with the same axes."""
    having = [s for s in shown if name in s.trends.curves]
    whole = {s.runs.arm: s.trends.curves[name] for s in having}
    positive = [
        value
        for curves in whole.values()
        for curve in curves
        for values in (curve.means, curve.lows, curve.highs)
        for value in values
        if value > 0
    ]
    if not positive:
        return None
    limits = _padded(min(positive), max(positive))
    y = Scale(QUANTITIES[name], limits, is_log=True, ticks=log_ticks(*limits))
    epochs = [e for curves in whole.values() for curve in curves for e in curve.epochs]
    x = Scale("epoch", (min(epochs) - 0.5, max(epochs) + 0.5))
    panels = tuple(
        Panel(
            name=f"trend_{name}_{s.runs.number}",
            x=x,
            y=y,
            marks=_marks(whole[s.runs.arm], most),
            title=s.runs.arm,
            height=300,
        )
        for s in having
    )
    words = QUANTITIES[name].partition(" (")[0]
    return Figure(
        name=f"trends_{name}",
        title=f"{words[0].upper()}{words[1:]} over the epochs",
        alt=f"{words} of {listed(list(tasks))} by epoch, one panel each for "
        f"{listed([s.runs.arm for s in having])}; the values are in trends.csv.",
        panels=panels,
        caption=_caption(shown, whole, most),
        columns=min(COLUMNS, len(panels)),
        legend=tuple(Key(task, mark_of(i), "line") for i, task in enumerate(tasks)),
    )


def _caption(shown: Sequence[ShownTrends], whole: Mapping[str, Sequence[Curve]], most: int) -> str:
    words = ["Mean over seeds; the band reaches from the lowest to the highest seed."]
    words.append("Logarithmic axis, the same for all methods.")
    longest = max(len(curve.epochs) for curves in whole.values() for curve in curves)
    if longest > most:
        words.append(f"{most} of {longest} epochs are drawn, the CSV holds all.")
    without = [s.runs.arm for s in shown if s.runs.arm not in whole]
    if without:
        words.append(f"Not recorded for {listed(without)}.")
    lost = sum(v <= 0 for curves in whole.values() for curve in curves for v in curve.means)
    if lost:
        words.append(f"{lost} means of 0 or less cannot stand on this axis; the CSV holds them.")
    return " ".join(words)


def _marks(curves: Sequence[Curve], most: int) -> tuple[Drawn, ...]:
    bands: list[Drawn] = []
    lines: list[Drawn] = []
    for index, curve in enumerate(curves):
        mark = mark_of(index)
        for part in _unbroken(drawn_curve(curve, most)):
            epochs, means, lows, highs = (tuple(map(float, v)) for v in zip(*part, strict=True))
            hover = tuple(
                f"{curve.task}, epoch {e:g}: {m:.4g}\n{low:.4g} to {high:.4g} over seeds"
                for e, m, low, high in part
            )
            if len(part) == 1:
                lines.append(Points(epochs, means, mark, curve.task, hover, size=6.0))
                continue
            if lows != highs and min(lows) > 0:
                outline = ((*epochs, *reversed(epochs)), (*highs, *reversed(lows)))
                bands.append(Area(*outline, mark.colour, curve.task))
            lines.append(Line(epochs, means, mark.colour, mark.dash, curve.task, hover=hover))
    return (*bands, *lines)


def _unbroken(curve: Curve) -> list[list[tuple[int, float, float, float]]]:
    """Return the stretches of a curve without a value that a logarithmic axis cannot hold."""
    parts: list[list[tuple[int, float, float, float]]] = [[]]
    for row in zip(curve.epochs, curve.means, curve.lows, curve.highs, strict=True):
        if row[1] > 0:
            parts[-1].append(row)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = max((high / low) ** 0.06, 1.01)
    return low / margin, high * margin
