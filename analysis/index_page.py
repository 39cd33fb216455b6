"""The page that links the reports of several groups of runs; built only when they changed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.store import write_atomically

if TYPE_CHECKING:
    from analysis.report import ReportSummary


def write_index(out: Path, reports: Mapping[str, "ReportSummary"], code: bytes) -> None:
    """Write `out/report.html`, which links the report of each group, unless it is up to date.

    Args:
        out: folder that holds the groups' folders.
        reports: label -> report.
        code: hash of the code that makes pages.
    """
    rows = [
        {
            "label": label,
            "link": report.path.relative_to(out).as_posix(),
            "verdict": report.verdict,
            "num_done": report.num_done,
            "num_runs": report.num_runs,
        }
        for label, report in reports.items()
    ]
    fingerprint = hashlib.sha256(json.dumps(rows).encode() + code).hexdigest()
    path = out / "report.html"
    if path.is_file() and fingerprint in path.read_text("utf-8", errors="replace"):
        return

    from analysis.page import environment

    page = environment().get_template("index.html.j2").render(rows=rows, fingerprint=fingerprint)
    write_atomically(path, page.encode())
