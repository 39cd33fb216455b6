"""The lines of docs/findings.md against the summaries they come from.

    python -m tests.evidence                   print each line, its summaries, and whether
                                               findings.md says it; exit status 1 if not
    python -m tests.evidence --keep NAME FILE  keep what the lines need of a report's summary.json

A report's `summary.json` has all its numbers; how each was made stands in docs/EXPERIMENTS.md. What
the lines need of it is kept in tests/evidence/summaries/NAME.json.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.compute.significance import SIGNIFICANCE
from tests.evidence.claims import CLAIMS, README, Claim

ROOT = Path(__file__).parents[2]
FINDINGS = ROOT / "docs" / "findings.md"
SUMMARIES = Path(__file__).with_name("summaries")
KEPT = ("verdict", "axes", "points", "hypervolumes", "comparisons", "prior", "notes")
KEPT_SECTIONS = ("seeds", "controllability", "trends", "dial")
MARKS = ("- ", "| ")
"""How the lines begin that must be claims; heads of tables do not count."""


def excerpt(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the lines need of a summary, and how many device hours its runs took."""
    kept = {name: summary[name] for name in KEPT if name in summary}
    sections = summary.get("sections", {})
    seconds = [run["device_seconds"] for run in summary["runs"] if run.get("device_seconds")]
    kept_sections = {name: sections[name] for name in KEPT_SECTIONS if name in sections}
    if (held := sections.get("method_ranks")) and held["tests"]:
        kept_sections["method_ranks"] = _ranks(held)
    return {
        **kept,
        "sections": kept_sections,
        "common": summary["provenance"]["common"],
        "recorded": summary["provenance"]["recorded"],
        "device_hours": round(sum(seconds) / 3600, 2),
    }


def _ranks(held: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section on ranks with its significant tests alone."""
    tests = held["tests"]
    return {
        "summary": held["summary"],
        "blocks": held["blocks"],
        "significant": [test for test in tests if test["p_adjusted"] < SIGNIFICANCE],
        "num_tests": len(tests),
        "min_attainable_p": min(test["min_attainable_p"] for test in tests),
    }


def read_summaries() -> dict[str, dict[str, Any]]:
    """Return name -> excerpt of every summary that is kept."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(SUMMARIES.glob("*.json"))}


def lines_of(claim: Claim, summaries: Mapping[str, Any]) -> str:
    """Return the line that a claim makes of its summaries."""
    return claim.line(*(summaries[name] for name in claim.summaries))


def said_lines(text: str) -> list[str]:
    """Return the lines of a page that must be claims: its bullets and rows of tables."""
    lines = [line.rstrip() for line in text.splitlines()]
    found = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        is_head = line.startswith("|") and following.startswith("|-")
        if line.startswith(MARKS) and not is_head:
            found.append(line)
    return found


def main(argv: list[str] | None = None) -> int:
    """Check findings.md, or keep a summary; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "SUMMARY"))
    given = parser.parse_args(argv)
    if given.keep:
        name, source = given.keep
        made = excerpt(json.loads(Path(source).read_text()))
        SUMMARIES.mkdir(exist_ok=True)
        (SUMMARIES / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")
        return 0
    summaries = read_summaries()
    said = said_lines(FINDINGS.read_text())
    made = {lines_of(claim, summaries): claim for claim in CLAIMS}
    for line, claim in made.items():
        print(f"{'said' if line in said else 'NOT SAID'}  {' '.join(claim.summaries)}\n    {line}")
    unfounded = [line for line in said if line not in made]
    for line in unfounded:
        print(f"NO SUMMARY SAYS  {line}")
    sentence = lines_of(README, summaries)
    in_readme = sentence in " ".join((ROOT / "README.md").read_text().split())
    where = " ".join(README.summaries)
    print(f"{'said' if in_readme else 'NOT SAID'} by README.md  {where}\n    {sentence}")
    is_good = in_readme and not unfounded and all(line in said for line in made)
    print(f"{len(made)} lines" + ("." if is_good else ": findings.md does not say what was found."))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
