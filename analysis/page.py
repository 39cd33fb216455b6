"""Findings -> the files of a report: one self-contained page, tables, and a summary."""

import base64
import dataclasses
import functools
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import plotly.offline
from markupsafe import Markup
from PIL import Image

from analysis.compute.findings import Findings, find
from analysis.compute.settings import SettingsComparison
from analysis.load.groups import SWEEP, field_name
from analysis.load.run_files import NO_FILES, RunFiles
from analysis.load.runs import SPLIT, Loaded
from analysis.load.text import first_listed, listed
from analysis.render.figure_parts import style_of
from analysis.render.panels import (
    DARK,
    DASHES,
    LIGHT,
    SCALE_COLOURS,
    SCALE_DARK,
    SCALE_LIGHT,
    Figure,
    Pictures,
)
from analysis.render.plotly_json import plotly_values
from analysis.render.section import Section
from analysis.render.table import MAX_ROWS, latex, plain
from analysis.sections import OPEN, all_sections
from analysis.sections.overview_tables import operating_point_table
from analysis.sections.settings import (
    best_text,
    differences_text,
    settings_section,
    terminal_table,
)
from analysis.sections.verdict import verdict

MAX_ARMS = 12
"""Methods that the head of the page names."""
MAX_LIVE_ROWS = 10_000
"""Rows of a table where no files hold the rest."""


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
    primary: Sequence[str] = (),
    searched: bool = False,
    run_files: RunFiles = NO_FILES,
    static: bool = False,
) -> Built:
    """Compute everything and render it.

    Args:
        loaded: the runs.
        metrics: see `analysis.load.runs.Loaded.axes`, as for `paper_scaling`.
        title: of the page; None means one made of the tasks.
        paper_scaling: see `analysis.load.axes.choose_axes`.
        tuned: see `analysis.load.groups.common_fields`.
        primary: see `analysis.load.groups.Group`.
        searched: see there.
        run_files: where epoch records and samples are read.
        static: whether figures are drawn for paper as well, in figures/.
    """
    axes, notes = loaded.axes(metrics, paper_scaling=paper_scaling)
    loaded = replace(loaded, notes=(*loaded.notes, *notes))
    findings = find(loaded, axes, tuned, primary, searched=searched)
    sections = all_sections(findings, run_files)
    words = verdict(findings)
    if not title:
        title = "Operating points"
        title += f": {listed([axis.task for axis in axes])}" if axes else ""
    shown = dict.fromkeys(point.arm for point in (*findings.points, *findings.mixed_points))
    styles = {arm: style_of(findings, arm) for arm in shown}
    page = _rendered(
        "report.html.j2",
        sections,
        title=title,
        shown_arms=first_listed(findings.arms, MAX_ARMS) if findings.arms else "no method",
        findings=findings,
        verdict=words,
        styles=styles,
        open_sections=OPEN,
    )
    summary = {
        "title": title,
        "split": SPLIT,
        "verdict": {**dataclasses.asdict(words), **_verdict_fields(findings, sections)},
        "counts": findings.counts,
        "terminal_table": plain(operating_point_table(findings)) if findings.points else "",
        **_plain_findings(findings),
        "sections": {s.name: _plain(s.values) for s in sections if s.values},
    }
    return Built(page, _files(sections, static=static), summary)


def _verdict_fields(findings: Findings, sections: Sequence[Section]) -> dict[str, Any]:
    """Return what the verdict says in words as values, for whoever does not read them.

    `winner` is None unless the difference is significant; `network` is what the reader is offered
    where all metrics matter alike.
    """
    compared = [
        {
            "methods": [c.arm_a, c.arm_b],
            "is_primary": c.is_primary,
            "hypervolumes": c.hypervolumes,
            "p": None if c.test is None else c.test.p,
            "p_adjusted": c.p_adjusted,
            "minimum_p_adjusted": c.minimum_p_adjusted,
            "is_significant": c.is_significant,
            "winner": c.winner,
            "why_not": c.why_not,
            "seeds": len(c.seeds),
            "priorities": c.num_priorities,
        }
        for c in findings.comparisons
    ]
    offered = [section.values["network"] for section in sections if "network" in section.values]
    primary = next((held for held in compared if held["is_primary"]), None)
    return _plain(
        {
            "primary": primary,
            "comparisons": compared,
            "network": offered[0] if offered else None,
        }
    )


@dataclass(frozen=True)
class Detail:
    """A link from the first page to the report on one set of runs."""

    title: str
    link: str
    verdict: str
    num_done: int
    num_runs: int


def build_settings(
    compared: Sequence[SettingsComparison],
    details: Sequence[Detail],
    counts: Mapping[str, int],
    *,
    static: bool = False,
) -> Built:
    """Render the first page of several sets of runs: what varies, compared.

    Args:
        compared: one comparison for each family of sets that may stand in one table.
        details: the report on each set.
        counts: state -> number of runs, of all sets.
        static: whether figures are drawn for paper as well, in figures/.
    """
    sections = [settings_section(made, number) for number, made in enumerate(compared)]
    fields = dict.fromkeys(field_name(name) for made in compared for name in made.family.fields)
    title = f"What varies: {listed([*fields])}" if fields else f"{len(details)} sets of runs"
    sentences = [
        " ".join([made.family.title and f"{made.family.title}:", best_text(made)]).strip()
        for made in compared
        if made.best
    ]
    sentences += [differences_text(made) for made in compared if len(compared) == 1 and made.rows]
    apart = ""
    if len(compared) > 1:
        titles = listed([made.family.title for made in compared])
        has_tuned = any(name == SWEEP for made in compared for name, _ in made.family.apart)
        tuned = ", or each method was tuned by itself" if has_tuned else ""
        apart = (
            f"{len(compared)} sets of settings stay apart: {titles}. "
            "Their tasks, what their metrics mean or the images on which they are measured (data "
            f"set, size or split) differ{tuned}, so that their values say nothing of each other."
        )
    num_asked = sum(counts.values())
    page = _rendered(
        "settings.html.j2",
        sections,
        title=title,
        verdict=sentences,
        apart=apart,
        details=details,
        num_done=counts.get("done", 0),
        num_asked=num_asked,
        styles={},
        open_sections=[section.name for section in sections],
    )
    tables = [
        "\n".join([*([made.family.title] if len(compared) > 1 else []), terminal_table(made)])
        for made in compared
    ]
    summary = {
        "title": title,
        "split": SPLIT,
        "verdict": {  # methods are compared within a set
            "headline": " ".join(filter(None, [*sentences, apart])),
            "statements": [],
            "caveats": [],
            "primary": None,
            "comparisons": [],
            "network": None,
        },
        "counts": dict(counts),
        "terminal_table": "\n\n".join(table for table in tables if table),
        "sections": {s.name: _plain(s.values) for s in sections if s.values},
    }
    return Built(page, _files(sections, static=static), summary)


def fragment(sections: Sequence[Section], findings: Findings | None = None) -> str:
    """Return sections as HTML for a page that has the scripts already; no files lie beside it.

    Arms are marked as in the figures of `findings`.
    """
    arms = () if findings is None else findings.arms
    return (
        environment()
        .get_template("sections.html.j2")
        .render(
            sections=sections,
            max_rows=MAX_LIVE_ROWS,
            split=SPLIT,
            styles={arm: style_of(findings, arm) for arm in arms if findings is not None},
            open_sections=[section.name for section in sections],
            has_files=False,
        )
    )


def live_page(title: str, place: str) -> str:
    """Return the page that shows what is pushed to it of a sweep.

    Args:
        title: its name.
        place: of its store, for commands that name it.
    """
    return _rendered("live.html.j2", [], has_figures=True, title=title, place=place)


def _rendered(
    template: str, sections: Sequence[Section], *, has_figures: bool = False, **values: Any
) -> str:
    """Return a page of sections, `has_figures` if figures come later."""
    has_figures = has_figures or any(section.figures for section in sections)
    return (
        environment()
        .get_template(template)
        .render(
            sections=sections,
            max_rows=MAX_ROWS,
            split=SPLIT,
            has_files=True,
            palette=dict(zip((*LIGHT, *SCALE_LIGHT), (*DARK, *SCALE_DARK), strict=True)),
            plotly_js=plotly.offline.get_plotlyjs() if has_figures else "",
            **values,
        )
    )


def _files(sections: Sequence[Section], *, static: bool) -> dict[str, str | bytes]:
    """Return path -> content of all tables, and of the figures on paper if `static`."""
    tables = [table for section in sections for table in section.tables]
    files: dict[str, str | bytes] = {
        f"tables/{table.name}.csv": table.raw.to_csv(index=False) for table in tables
    }
    files |= {f"tables/{table.name}.tex": latex(table) for table in tables if table.rows}
    return {**files, **_paper_files(sections)} if static else files


def _paper_files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Return path -> content of every figure on paper."""
    # Only here: matplotlib takes a second to import.
    from analysis.render.paper import figure_files

    shown: list[Figure | Pictures] = []
    for section in sections:
        shown += [*section.figures, *section.pictures]
    return {f"figures/{name}": data for s in shown for name, data in figure_files(s).items()}


def _plain_findings(findings: Findings) -> dict[str, Any]:
    """Return the findings as JSON holds them; NaN becomes null."""
    values = {
        field.name: getattr(findings, field.name)
        for field in dataclasses.fields(findings)
        if field.name not in ("runs", "mixed")
    }
    values["runs"] = findings.runs.to_dict("records")
    values["mixed"] = findings.mixed.to_dict("records")
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


@functools.cache
def environment() -> jinja2.Environment:
    """Return what renders the templates of all pages."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "embedded": embedded,
        "kind": lambda part: type(part).__name__,
        "plotly": lambda panel: embedded(plotly_values(panel)),
        "png": as_png,
    }
    made.globals |= {"DASHES": DASHES, "SCALE_COLOURS": SCALE_COLOURS}
    return made


def embedded(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c"))


def as_png(picture: np.ndarray) -> str:
    """Return a picture (height, width, 3) of uint8 as a data address."""
    buffer = io.BytesIO()
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours, places = np.unique(packed, return_inverse=True)
    if len(colours) <= 256:  # one byte a pixel: maps in the colours of a scale, and classes
        image = Image.fromarray(places.reshape(packed.shape).astype(np.uint8))
        image.putpalette(colours.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes())
    else:
        image = Image.fromarray(picture)
    image.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
