"""What the reference point does to the ratio of two methods' hypervolumes: figure and table."""

from collections.abc import Sequence

import pandas as pd

from analysis.axes import shown_number
from analysis.findings import Findings
from analysis.indicators import (
    Sensitivity,
)
from analysis.marks import Mark, mark_of
from analysis.panels import Figure, Key, Line, Panel, Rule, Scale
from analysis.result_tables import Table
from analysis.single_runs import MatchedRuns
from analysis.ticks import log_ticks

SHOWN_DISTANCES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""At the axis's ticks and in the table."""
LINEAR_UP_TO = 3.0
"""Largest over smallest ratio beyond which the axis is logarithmic."""

Strip = tuple[MatchedRuns, Sensitivity]


def strip_figure(findings: Findings, strips: Sequence[Strip]) -> Figure:
    """Return the ratio of hypervolumes against the distance of the reference, a panel a pair."""
    panels = []
    for index, (matched, found) in enumerate(strips, 1):
        marks: list[Line | Rule] = [Rule("y", 1.0), Rule("x", 1.0, "as printed")]
        ends = [1.0]
        ratios_of = [found.together, *found.each]
        all_ratios = [1.0, *(r for ratios in ratios_of for r in ratios if r)]
        is_log = max(all_ratios) / min(all_ratios) > LINEAR_UP_TO
        for key, ratios in zip(_keys(findings), ratios_of, strict=True):
            text = key.text
            held = [
                (m, r)
                for m, r in zip(found.multiples, ratios, strict=True)
                if r is not None and (r > 0 or not is_log)
            ]
            ends += [r for _, r in held]
            marks.append(
                Line(
                    tuple(m for m, _ in held),
                    tuple(r for _, r in held),
                    key.mark.colour,
                    key.mark.dash,
                    text,
                    width=2.4 if ratios is found.together else 1.6,
                    hover=tuple(f"{text}\ndistance {m:.3g}\nratio {r:.4g}" for m, r in held),
                )
            )
        low, high = min(ends), max(ends)
        if is_log:
            limits = (low / 1.1, high * 1.1)
        else:
            room = (high - low) * 0.08 or 0.05
            limits = (low - room, high + room)
        a, b = matched.arm_a, matched.arm_b
        panels.append(
            Panel(
                f"indicators_reference_{index}",
                Scale(
                    "distance of the reference from the best values (1 = printed)",
                    (found.multiples[0], found.multiples[-1]),
                    is_log=True,
                    ticks=tuple((v, f"{v:g}") for v in SHOWN_DISTANCES),
                ),
                Scale(
                    "ratio of hypervolumes, higher is better",
                    limits,
                    is_log=is_log,
                    ticks=log_ticks(*limits) if is_log else None,
                ),
                tuple(marks),
                title=f"{a} over {b}",
                height=300,
            )
        )
    return Figure(
        "indicators_reference",
        "What the reference point does to the ratio",
        "Lines of the ratio of hypervolumes against the distance of the reference point, moved on "
        "all metrics at once and on each alone. The table below holds every value.",
        tuple(panels),
        "Dotted: equal hypervolumes, and the printed place. A near reference counts only the "
        "middle of the fronts, a far one mostly their ends; moved away on all metrics it draws "
        "the ratio towards 1. A line ends where a method has no hypervolume left. "
        "A winner that changes along a line hangs on where the reference is.",
        columns=min(2, len(panels)),
        legend=_keys(findings),
    )


def _keys(findings: Findings) -> tuple[Key, ...]:
    """Return what the lines of a strip are: all metrics, then each by itself."""
    together = Mark(colour_number=5, symbol="circle", dash="solid")
    each = [
        Mark(mark_of(k).colour_number, "circle", mark_of(k + 1).dash)
        for k in range(len(findings.axes))
    ]
    names = ["all metrics", *(f"{axis.task} alone" for axis in findings.axes)]
    return tuple(
        Key(name, mark, "line") for name, mark in zip(names, [together, *each], strict=True)
    )


def strip_table(findings: Findings, strips: Sequence[Strip]) -> Table:
    """Return the same values; the CSV holds every distance."""
    rows, raw = [], []
    for matched, found in strips:
        a, b = matched.arm_a, matched.arm_b
        for index, multiple in enumerate(found.multiples):
            ratios = [found.together[index], *(each[index] for each in found.each)]
            raw.append(
                {
                    "method_a": a,
                    "method_b": b,
                    "distance": multiple,
                    "ratio_all": ratios[0],
                    **{
                        f"ratio_{axis.column}_alone": ratio
                        for axis, ratio in zip(findings.axes, ratios[1:], strict=True)
                    },
                }
            )
            if multiple in SHOWN_DISTANCES:
                shown = [shown_number(ratio, ".3f") for ratio in ratios]
                rows.append((f"{a} / {b}", f"{multiple:g}", *shown))
    return Table(
        "indicators_reference",
        "Ratio of hypervolumes with the reference point at a multiple of its printed distance from "
        f"the best values; a dash where the second method has none. The CSV holds all {len(raw)} "
        "places.",
        ("methods", "distance", "all metrics", *(f"{axis.task} alone" for axis in findings.axes)),
        tuple(rows),
        pd.DataFrame(raw),
    )
