"""Sections of the report beyond points, hypervolume and provenance, in the order of the page."""

from collections.abc import Callable

from analysis.compute.findings import Findings
from analysis.load.run_files import RunFiles
from analysis.render.section import Section
from analysis.sections.attainment import attainment
from analysis.sections.budget import compute_budget
from analysis.sections.controllability import controllability
from analysis.sections.dominance import dominance
from analysis.sections.error_maps import error_map_section
from analysis.sections.indicators import front_indicators
from analysis.sections.many_tasks import many_tasks
from analysis.sections.method_ranks import method_ranks
from analysis.sections.picker import picker
from analysis.sections.trends import trend_section

MakeSection = Callable[[Findings, RunFiles], Section | None]
"""Computes a section; None where the results hold nothing of its kind."""

SECTIONS: dict[str, MakeSection] = {
    "picker": picker,
    "attainment": attainment,
    "indicators": front_indicators,
    "dominance": dominance,
    "compute_budget": compute_budget,
    "controllability": controllability,
    "many_tasks": many_tasks,
    "method_ranks": method_ranks,
    "trends": trend_section,
    "error_maps": error_map_section,
}


def all_sections(findings: Findings, files: RunFiles) -> tuple[Section, ...]:
    """Return every section that has something to say, in order."""
    made = (make(findings, files) for make in SECTIONS.values())
    return tuple(section for section in made if section is not None)
