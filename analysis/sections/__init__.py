"""Sections of the report beyond points, hypervolume and provenance, in the order of the page."""

from collections.abc import Callable

from analysis.findings import Findings
from analysis.run_files import RunFiles
from analysis.section import Section
from analysis.sections.compute_budget import compute_budget
from analysis.sections.controllability import controllability
from analysis.sections.method_ranks import method_ranks

MakeSection = Callable[[Findings, RunFiles], Section | None]
"""Computes a section; None where the results hold nothing of its kind."""

SECTIONS: dict[str, MakeSection] = {
    "compute_budget": compute_budget,
    "controllability": controllability,
    "method_ranks": method_ranks,
}


def all_sections(findings: Findings, files: RunFiles) -> tuple[Section, ...]:
    """Return every section that has something to say, in order."""
    made = (make(findings, files) for make in SECTIONS.values())
    return tuple(section for section in made if section is not None)
