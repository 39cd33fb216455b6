"""Three tasks and more: triangles of priorities, pairs of metrics, and parallel coordinates."""

from typing import Any

from analysis.findings import Findings
from analysis.run_files import RunFiles
from analysis.section import Folded, Part, Section
from analysis.sections.side_by_side import metric_pairs, parallel_coordinates, range_words
from analysis.sections.triangles import triangles


def many_tasks(findings: Findings, files: RunFiles) -> Section | None:  # noqa: ARG001
    """Return the section for three tasks and more; None for fewer, or without results."""
    axes = findings.axes
    if len(axes) < 3 or not findings.points:
        return None
    lead = range_words(findings)
    parts: list[Part | Folded] = []
    values: dict[str, Any] = {}
    if len(axes) == 3:
        compared = triangles(findings, parts, values)
        lead = compared or lead
    else:
        parts.append(
            f"Triangles of priorities need exactly three tasks; these runs have {len(axes)}."
        )
    matrix, drawn = metric_pairs(findings)
    parts += [matrix, drawn]
    lines, note, ranges = parallel_coordinates(findings)
    parts += [lines, note]
    values["ranges"] = ranges
    return Section(
        "many_tasks",
        f"{len(axes)} tasks at once",
        lead,
        tuple(part for part in parts if part),
        values,
    )
