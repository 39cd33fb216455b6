"""Budget curves and runs to match as the report shows them: figure and tables."""

from collections.abc import Sequence

import pandas as pd

from analysis.axes import NONE, volume_unit
from analysis.compute_budget import BudgetCurve, Match
from analysis.extents import no_width
from analysis.findings import Findings
from analysis.intervals import PERCENT
from analysis.marks import mark_of
from analysis.panels import Area, Drawn, Figure, Key, Line, Panel, Points, Scale
from analysis.result_tables import Table
from analysis.sections.seconds_parts import RunSeconds
from analysis.words import listed

LINEAR_UP_TO = 50
"""Runs beyond which the axis is logarithmic."""


def curve_figure(
    findings: Findings, curves: dict[str, BudgetCurve], seconds: RunSeconds | None
) -> Figure:
    """Return hypervolume against runs and, where seconds are known, against hours."""
    by_runs: list[Drawn] = []
    by_hours: list[Drawn] = []
    longest = max(curve.num_runs[-1] for curve in curves.values())
    for bands in (True, False):
        for arm, curve in curves.items():
            number = findings.arms.index(arm)
            by_runs += _curve_marks(curve, list(map(float, curve.num_runs)), number, bands, "runs")
            hours = _hours(curve, seconds)
            if hours is not None and seconds is not None:
                unit = f"{seconds.kind} hours"
                by_hours += _curve_marks(curve, hours, number, bands, unit)
    unit = volume_unit(findings.axes)
    volume = Scale("hypervolume, higher is better")
    is_log = longest > LINEAR_UP_TO
    panels = [
        Panel(
            "budget_runs",
            Scale("runs trained, fewer are better", is_log=is_log),
            volume,
            tuple(by_runs),
            title="By runs",
        )
    ]
    if by_hours and seconds is not None:
        panels.append(
            Panel(
                "budget_hours",
                Scale(f"{seconds.kind} hours, fewer are better", is_log=is_log),
                volume,
                tuple(by_hours),
                title=f"By {seconds.kind} hours",
            )
        )
    ends = [f"{arm} {c.expected[-1]:.4g} with {c.num_runs[-1]} runs" for arm, c in curves.items()]
    sampled = [c for c in curves.values() if not c.is_exact]
    how = (
        f" Volumes are sampled at {sampled[0].num_places} places, seed {sampled[0].sampling_seed}."
        if sampled
        else ""
    )
    shaded = ""
    if any(curve.interval is not None for curve in curves.values()):
        shaded = f" Bands are {PERCENT} intervals from resampling whole seeds."
    return Figure(
        name="compute_budget",
        title="Hypervolume against the budget",
        alt=f"Lines of hypervolume against runs. Whole grids: {listed(ends)}.",
        panels=tuple(panels),
        caption=f"Hypervolume of the means over seeds (in {unit}) if only so many of the "
        "priorities had been trained, each with all seeds: the mean over all choices of "
        f"priorities, without drawing any.{shaded}{how}",
        columns=2,
        legend=tuple(Key(arm, mark_of(findings.arms.index(arm))) for arm in curves),
    )


def _curve_marks(
    curve: BudgetCurve, xs: Sequence[float], number: int, bands: bool, unit: str
) -> list[Drawn]:
    mark = mark_of(number)
    if bands:
        if curve.interval is None:
            return []
        low, high = zip(*curve.interval, strict=True)
        return [Area((*xs, *xs[::-1]), (*high, *low[::-1]), mark.colour, curve.arm, 0.14)]
    hover = tuple(
        f"{curve.arm}\n{x:.3g} {unit}: {priorities} priorities, {runs} runs\n"
        f"hypervolume {value:.4g}{_ends(curve, k)}"
        for k, (x, priorities, runs, value) in enumerate(
            zip(xs, curve.num_priorities, curve.num_runs, curve.expected, strict=True)
        )
    )
    return [
        Line(tuple(xs), curve.expected, mark.colour, mark.dash, curve.arm),
        Points(tuple(xs), curve.expected, mark, curve.arm, hover, size=8),
    ]


def _ends(curve: BudgetCurve, index: int) -> str:
    if curve.interval is None:
        return ""
    return f" ({_interval_text(curve, index)})"


def _interval_text(curve: BudgetCurve, index: int) -> str:
    if curve.interval is None:
        return NONE
    low, high = curve.interval[index]
    return "all seeds agree" if no_width(low, high) else f"{low:.4g} to {high:.4g}"


def _hours(curve: BudgetCurve, seconds: RunSeconds | None) -> list[float] | None:
    """Return the mean device hours of each budget; the mean over the method's runs counts."""
    if seconds is None or curve.arm not in seconds.a_run:
        return None
    a_run = float(seconds.a_run[curve.arm].mean()) / 3600
    return [number * a_run for number in curve.num_runs]


def curve_table(curves: dict[str, BudgetCurve], seconds: RunSeconds | None) -> Table:
    """Return every value of the curves."""
    rows, raw = [], []
    kind = seconds.kind if seconds is not None else "device"
    for arm, curve in curves.items():
        hours = _hours(curve, seconds)
        for k, number in enumerate(curve.num_priorities):
            low, high = (None, None) if curve.interval is None else curve.interval[k]
            rows.append(
                (
                    arm,
                    str(number),
                    str(curve.num_runs[k]),
                    f"{curve.expected[k]:.4g}",
                    _interval_text(curve, k),
                    NONE if hours is None else f"{hours[k]:.3g}",
                )
            )
            raw.append(
                {
                    "method": arm,
                    "num_priorities": number,
                    "num_runs": curve.num_runs[k],
                    "hypervolume": curve.expected[k],
                    "low": low,
                    "high": high,
                    f"{kind}_hours": None if hours is None else hours[k],
                    "exact": curve.is_exact,
                }
            )
    return Table(
        "budget_curves",
        "Hypervolume of the means over seeds at so many priorities, the mean over all choices of "
        f"them, with its {PERCENT} interval over seeds.",
        ("method", "priorities", "runs", "hypervolume", f"{PERCENT} interval", f"{kind} hours"),
        tuple(rows),
        pd.DataFrame(raw),
    )


def match_table(matches: Sequence[Match]) -> Table:
    """Return how many runs of one method reach the whole grid of another."""
    rows = tuple(
        (
            match.arm,
            f"the {match.num_runs_rival} runs of {match.rival}",
            _runs_text(match.num_runs),
            NONE if match.num_runs is None else f"{match.num_runs / match.num_runs_rival:.2f}",
            interval_text(match) or NONE,
            NONE if match.share_reached is None else f"{100 * match.share_reached:.0f}",
        )
        for match in matches
    )
    raw = []
    for match in matches:
        low, high = match.interval or (None, None)
        held = {name: value for name, value in vars(match).items() if name != "interval"}
        raw.append({**held, "low": low, "high": high})
    return Table(
        "runs_to_match",
        "Runs that a method needs on average, its priorities chosen blindly, to reach the "
        f"hypervolume of another's whole grid, with the {PERCENT} interval over seeds and the "
        "share of resamples in which it is reached at all.",
        ("method", "to reach", "runs", "share of them", f"{PERCENT} interval", "reached (%)"),
        rows,
        pd.DataFrame(raw),
        num_words=2,
    )


def interval_text(match: Match) -> str:
    """Return a match's interval in words, empty where it has none for lack of seeds."""
    if match.num_agreeing is not None:
        return f"all {match.num_agreeing} seeds agree"
    if match.interval is None:
        return ""
    low, high = map(_runs_text, match.interval)
    return f"{low} in nearly all resamples" if low == high else f"{low} to {high}"


def _runs_text(number: int | None) -> str:
    return "never" if number is None else str(number)
