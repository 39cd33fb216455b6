"""Seconds of runs as the report shows them: relative to a base method, with figure and table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compute_budget import Overhead, overheads
from analysis.findings import Findings
from analysis.marks import mark_of
from analysis.pairs import method_of
from analysis.panels import Drawn, Figure, Line, Panel, Points, Scale
from analysis.result_tables import Table
from analysis.thinning import evenly
from analysis.words import listed

MOST_TIMED = 20
"""Methods whose seconds are drawn; the table holds all."""
MOST_GHOSTS = 100
"""Single runs of a method that are drawn, evenly chosen."""
BASES = ("fixed", "equal")
"""Methods that an epoch's seconds are relative to, the first that is there."""
SECONDS = {"device_seconds": "device", "wall_seconds": "wall"}


@dataclass(frozen=True)
class RunSeconds:
    """What the runs report of their time."""

    kind: str
    """`device` or `wall`."""
    a_run: dict[str, np.ndarray]
    """Arm -> seconds of each of its runs that reports them."""
    an_epoch: dict[str, np.ndarray] | None
    """The same by epoch; None where the runs do not say their epochs."""
    num_silent: int
    """Runs without seconds."""


def run_seconds(findings: Findings) -> RunSeconds | None:
    """Return device seconds where every method reports them, else wall seconds, else either."""
    runs = findings.runs
    known = {}
    for column in SECONDS:
        if column in runs:
            values = runs[column].astype(float)
            known[column] = runs[np.isfinite(values) & (values > 0)]
    arms = runs["arm"].nunique()
    by_arms = sorted(known, key=lambda name: -known[name]["arm"].nunique())
    if not by_arms or known[by_arms[0]].empty:
        return None
    full = [name for name in SECONDS if name in known and known[name]["arm"].nunique() == arms]
    column = (full or by_arms)[0]
    rows = known[column]
    groups = {str(arm): held for arm, held in rows.groupby("arm", sort=False)}
    epochs = None
    if "epochs" in rows and bool((rows["epochs"].astype(float) > 0).all()):
        epochs = {
            arm: (held[column].astype(float) / held["epochs"].astype(float)).to_numpy()
            for arm, held in groups.items()
        }
    return RunSeconds(
        kind=SECONDS[column],
        a_run={arm: held[column].astype(float).to_numpy() for arm, held in groups.items()},
        an_epoch=epochs,
        num_silent=len(runs) - len(rows),
    )


def arm_overheads(findings: Findings, seconds: RunSeconds | None) -> tuple[Overhead, ...]:
    """Return the seconds of each arm, the base first; none without seconds."""
    if seconds is None:
        return ()
    values = seconds.an_epoch or seconds.a_run
    methods = method_of(findings)
    bases = [arm for base in BASES for arm in values if methods[arm] == base]
    base = (bases or list(values))[0]
    rest = [arm for arm in values if arm != base]
    return overheads({arm: values[arm] for arm in (base, *rest)}, base)


def overhead_figure(findings: Findings, costs: Sequence[Overhead], seconds: RunSeconds) -> Figure:
    """Return medians, quartiles and single runs, relative to the base."""
    shown = costs[:MOST_TIMED]
    values = seconds.an_epoch or seconds.a_run
    unit = costs[0].seconds[1]
    marks: list[Drawn] = []
    for place, cost in enumerate(shown):
        y = float(len(shown) - place)
        mark = mark_of(findings.arms.index(cost.arm))
        ghosts = tuple(evenly((np.sort(values[cost.arm]) / unit).tolist(), MOST_GHOSTS))
        low, median, high = cost.ratio
        hover = (
            f"{cost.arm}\n{median:.3g} times {costs[0].arm}, quartiles {low:.3g} to {high:.3g}\n"
            f"{cost.num_runs} runs",
        )
        marks += [
            Points(ghosts, (y - 0.18,) * len(ghosts), mark, cost.arm, size=5, opacity=0.35),
            Line((low, high), (y, y), mark.colour, "solid", cost.arm, width=3),
            Points((median,), (y,), mark, cost.arm, hover, size=10),
        ]
    per = "epoch" if seconds.an_epoch else "run"
    panel = Panel(
        "overhead",
        Scale(f"{seconds.kind} seconds an {per}, times {costs[0].arm}, lower is better")
        if per == "epoch"
        else Scale(f"{seconds.kind} seconds a run, times {costs[0].arm}, lower is better"),
        Scale(
            "",
            (0.4, len(shown) + 0.6),
            ticks=tuple((float(len(shown) - k), cost.arm) for k, cost in enumerate(shown)),
        ),
        tuple(marks),
        height=90 + 38 * len(shown),
    )
    rest = len(costs) - len(shown)
    return Figure(
        name="overhead",
        title=f"Seconds of each method, relative to {costs[0].arm}",
        alt="Seconds relative to "
        f"{costs[0].arm}: {listed([f'{c.arm} {c.ratio[1]:.3g}' for c in shown])}.",
        panels=(panel,),
        caption="Large markers are medians, bars reach from quartile to quartile, faint markers "
        "are single runs." + (f" The table holds {rest} more methods." if rest else ""),
    )


def overhead_table(costs: Sequence[Overhead], seconds: RunSeconds) -> Table:
    """Return seconds and ratios of every arm."""
    per = "epoch" if seconds.an_epoch else "run"
    rows = tuple(
        (
            cost.arm,
            str(cost.num_runs),
            f"{cost.seconds[1]:.3g}",
            f"{cost.seconds[0]:.3g} to {cost.seconds[2]:.3g}",
            f"{cost.ratio[1]:.3f}",
            f"{cost.ratio[0]:.3f} to {cost.ratio[2]:.3f}",
        )
        for cost in costs
    )
    raw = [
        {
            "method": cost.arm,
            "num_runs": cost.num_runs,
            **dict(
                zip(("seconds_q25", "seconds_median", "seconds_q75"), cost.seconds, strict=True)
            ),
            **dict(zip(("ratio_q25", "ratio_median", "ratio_q75"), cost.ratio, strict=True)),
        }
        for cost in costs
    ]
    head = f"{seconds.kind} s, each {per}"
    return Table(
        "overhead",
        f"{seconds.kind.capitalize()} seconds of each {per}: median and quartiles over a method's "
        f"runs, and the same relative to the median of {costs[0].arm}.",
        ("method", "runs", head, "quartiles", f"times {costs[0].arm}", "quartiles of it"),
        rows,
        pd.DataFrame(raw),
    )


def seconds_words(findings: Findings, seconds: RunSeconds) -> list[str]:
    """Return what readers must know of these seconds."""
    words = []
    if seconds.num_silent:
        words.append(
            f"{seconds.num_silent} of {len(findings.runs)} runs report no {seconds.kind} seconds "
            "and are not counted in these times."
        )
    lacking = [arm for arm in dict.fromkeys(findings.runs["arm"]) if arm not in seconds.a_run]
    if lacking:
        words.append(f"Without any time: {listed(lacking)}.")
    kinds = [
        name
        for name, values in findings.provenance.recorded.items()
        if name.startswith("hardware.") and len(values) > 1
    ]
    if kinds:
        words.append(
            f"The runs come from different machines ({listed(kinds)} differ), so their seconds "
            "say little about the methods."
        )
    words.append(
        "Runs side by side slow each other down: small differences of seconds are no finding."
    )
    return words
