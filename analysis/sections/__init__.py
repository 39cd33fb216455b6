"""Sections of the report in the order of the page: first what everybody needs, then the rest."""

from collections.abc import Callable

from analysis.compute.findings import Findings
from analysis.load.run_files import RunFiles
from analysis.render.section import Section
from analysis.sections.attainment import attainment
from analysis.sections.budget import compute_budget
from analysis.sections.controllability import controllability
from analysis.sections.dial import dial_section
from analysis.sections.dominance import dominance
from analysis.sections.error_maps import error_map_section
from analysis.sections.fitted import fitted_section
from analysis.sections.indicators import front_indicators
from analysis.sections.many_tasks import many_tasks
from analysis.sections.method_ranks import method_ranks
from analysis.sections.operating_points import point_section
from analysis.sections.overview_tables import (
    hypervolume_section,
    provenance_section,
    run_section,
    spread_section,
)
from analysis.sections.picker import picker
from analysis.sections.seeds import seeds_section
from analysis.sections.trends import trend_section

MakeSection = Callable[[Findings, RunFiles], Section | None]
"""Computes a section; None where the results hold nothing of its kind."""

SECTIONS: tuple[MakeSection, ...] = (
    point_section,
    picker,
    hypervolume_section,
    spread_section,
    attainment,
    front_indicators,
    seeds_section,
    dominance,
    compute_budget,
    controllability,
    fitted_section,
    dial_section,
    many_tasks,
    method_ranks,
    trend_section,
    error_map_section,
    run_section,
    provenance_section,
)
OPEN = ("points", "picker")
"""Names of the sections that the page shows before the reader opens them."""


def all_sections(findings: Findings, files: RunFiles) -> tuple[Section, ...]:
    """Return every section that has something to say, in order."""
    made = (make(findings, files) for make in SECTIONS)
    return tuple(section for section in made if section is not None)
