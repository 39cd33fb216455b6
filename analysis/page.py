"""Findings -> the files of a report: one self-contained page, tables, and a summary."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

from analysis.compute.findings import Findings, find
from analysis.load.axes import NONE
from analysis.load.priorities import Priorities
from analysis.load.run_files import NO_FILES, RunFiles
from analysis.load.runs import SPLIT, STATES, Loaded, RunState
from analysis.load.text import first_listed, listed
from analysis.render.figure_parts import MOST_LABELLED_TASKS
from analysis.render.html import embedded, palette, section_views
from analysis.render.panels import DARK, DASHES, LIGHT, Figure, Pictures, mark_of
from analysis.render.plotly_json import plotly_values
from analysis.render.section import Section
from analysis.render.table import latex, plain
from analysis.sections import all_sections
from analysis.sections.operating_points import operating_point_figures
from analysis.sections.overview_tables import all_tables
from analysis.sections.verdict import not_compared, partly_compared, single_point_words, verdict

GLYPHS = {
    "done": "✓",
    "failed": "✕",
    "unfinished": "…",
    "paused": "‖",
    "missing": NONE,
    "damaged": "!",
    "excluded": "∅",
}
MOST_SHOWN_AT_ONCE = 6
"""Figures beyond this number are folded away: eight tasks have 28 pairs."""

MOST_ROWS = 250
"""Rows of a table that the page shows; its files hold all."""
MOST_ARMS = 12
"""Methods that the head of the page names."""


@dataclass(frozen=True)
class Built:
    """A report in memory."""

    html: str
    files: Mapping[str, str | bytes]
    """Path within the report's folder -> content, the page excepted."""
    summary: Mapping[str, Any]


def build(
    loaded: Loaded,
    metrics: Mapping[str, str] | None = None,
    title: str | None = None,
    *,
    paper_scaling: bool = False,
    tuned: Sequence[str] = (),
    run_files: RunFiles = NO_FILES,
    static: bool = False,
) -> Built:
    """Compute everything and render it.

    Args:
        loaded: the runs.
        metrics: see `analysis.load.axes.choose_axes`.
        title: of the page; None means one made of the tasks.
        paper_scaling: see `analysis.load.axes.choose_axes`.
        tuned: see `analysis.load.groups.common_fields`.
        run_files: where epoch records and samples are read.
        static: whether figures are drawn for paper as well, in figures/.

    Raises:
        UserError: if the runs must not be compared.
        ValueError: for an unknown task or metric.
    """
    axes, notes = loaded.axes(metrics, paper_scaling=paper_scaling)
    findings = find(replace(loaded, notes=(*loaded.notes, *notes)), axes, tuned)
    sections = all_sections(findings, run_files)
    tables = all_tables(findings)
    words = verdict(findings)
    figures = operating_point_figures(findings)
    shown_title = title or "Operating points"
    if not title and axes:
        shown_title += f": {listed([axis.task for axis in axes])}"
    written = [*tables.values(), *(table for section in sections for table in section.tables)]
    files: dict[str, str | bytes] = {
        f"tables/{table.name}.csv": table.raw.to_csv(index=False) for table in written
    }
    files |= {f"tables/{table.name}.tex": latex(table) for table in written if table.rows}
    if static:
        files |= _paper_files(figures, sections)
    templates = environment()
    views = section_views(sections, templates)
    page = templates.get_template("report.html.j2").render(
        title=shown_title,
        shown_arms=first_listed(findings.arms, MOST_ARMS) if findings.arms else "no method",
        comparison_words=[*partly_compared(findings), *not_compared(findings)],
        findings=findings,
        verdict=words,
        tables=tables,
        figures=[{"shown": figure, "json": _figure_json(figure)} for figure in figures],
        most_labelled=MOST_LABELLED_TASKS,
        most_shown=MOST_SHOWN_AT_ONCE,
        legend=_legend(findings),
        matrix=state_matrix(findings),
        single_points=single_point_words(findings) if findings.single_points else "",
        states=STATES,
        most_rows=MOST_ROWS,
        glyphs=GLYPHS,
        split=SPLIT,
        sections=views,
        palette=embedded(palette(LIGHT, DARK)),
        plotly_js=plotly.offline.get_plotlyjs()
        if figures or any(section.figures for section in sections)
        else "",
    )
    summary = {
        "title": shown_title,
        "split": SPLIT,
        "verdict": dataclasses.asdict(words),
        "counts": findings.counts,
        "terminal_table": plain(tables["operating_points"]) if findings.points else "",
        **_plain_findings(findings),
        "sections": {section.name: _plain(section.values) for section in sections},
    }
    return Built(page, files, summary)


def _paper_files(figures: Sequence[Figure], sections: Sequence[Section]) -> dict[str, bytes]:
    """Return path -> content of every figure on paper."""
    # Only here: matplotlib takes a second to import.
    from analysis.render.paper import figure_files

    drawn: list[Figure | Pictures] = [*figures]
    for section in sections:
        drawn += [*section.figures, *section.pictures]
    return {
        f"figures/{name}": content
        for shown in drawn
        for name, content in figure_files(shown).items()
    }


def state_matrix(findings: Findings) -> dict[str, Any]:
    """Return rows (method, priorities) of states by seed, None where there is no such run.

    Priorities that a method lacks and others have are rows of None, unless a search chose them.
    """
    known = [state for state in findings.states if state.arm is not None]
    seeds = sorted({state.seed for state in known if state.seed is not None})
    cells: dict[tuple[str, str], dict[int | None, Any]] = {}
    for state in known:
        key = (str(state.arm), findings.shown_priorities(state.priorities))
        cells.setdefault(key, {})[state.seed] = state
    lacking = [] if findings.searched else _lacking(known)
    # Methods with grids of their own lack each other's: the verdict says so, the table cannot.
    if len(lacking) <= MOST_ROWS:
        order = {arm: number for number, arm in enumerate(findings.arms)}
        for arm, setting in lacking:
            cells[arm, findings.shown_priorities(setting)] = {}
        cells = dict(sorted(cells.items(), key=lambda item: order[item[0][0]]))
    rows = [
        {"arm": arm, "priorities": priorities, "cells": [held.get(seed) for seed in seeds]}
        for (arm, priorities), held in cells.items()
    ]
    return {"seeds": seeds, "rows": rows}


def _lacking(states: Sequence[RunState]) -> list[tuple[str, Priorities]]:
    """Return (arm, priorities) that no state has though others of the arm and of it are there."""
    held: dict[str, dict[Priorities, None]] = {}
    for state in states:
        if state.priorities is not None:
            held.setdefault(str(state.arm), {})[state.priorities] = None
    grid = dict.fromkeys(setting for settings in held.values() for setting in settings)
    return [(arm, s) for arm, settings in held.items() for s in sorted(grid) if s not in settings]


def _legend(findings: Findings) -> list[dict[str, str]]:
    shown = [point.arm for point in findings.points]
    stepped = {arm for arm in shown if shown.count(arm) > 1}
    return [
        {
            "arm": arm,
            "number": str(mark_of(number).colour_number),
            "symbol": mark_of(number).symbol,
            "dash": DASHES[mark_of(number).dash] if arm in stepped else "",
        }
        for number, arm in enumerate(findings.arms)
        if arm in shown
    ]


def _figure_json(figure: Figure) -> str:
    (panel,) = figure.panels
    return embedded(plotly_values(panel))


def _plain_findings(findings: Findings) -> dict[str, Any]:
    """Return the findings as JSON holds them; NaN becomes null."""
    values = {
        field.name: getattr(findings, field.name)
        for field in dataclasses.fields(findings)
        if field.name != "runs"
    }
    values["runs"] = findings.runs.to_dict("records")
    plain_values = _plain(values)
    for axis, shown in zip(findings.axes, plain_values["axes"], strict=True):
        shown["column"] = axis.column
    for point, shown in zip(findings.points, plain_values["points"], strict=True):
        shown["n"] = point.n
    return plain_values


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def environment() -> jinja2.Environment:
    """Return what renders the templates of all pages."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
