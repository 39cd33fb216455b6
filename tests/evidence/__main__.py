"""The lines of docs/findings.md against the summaries they come from.

    python -m tests.evidence                   print each line, its summaries, and whether
                                               findings.md says it; exit status 1 if not
    python -m tests.evidence --keep NAME FILE  keep what the lines need of a report's summary.json,
                                               STORE/sweeps/SWEEP/report/summary.json

Lists and tables of findings.md are checked whole and in order, and the sentences named in
claims.py; the rest of the text is not. A report's `summary.json` has all its numbers; how each
sweep was made stands in docs/EXPERIMENTS.md. What the lines need of it is kept, with the sweep's
name, in tests/evidence/summaries/NAME.json.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from analysis.compute.significance import SIGNIFICANCE
from tests.evidence.claims import BLOCKS, README, SENTENCES, Claim

ROOT = Path(__file__).parents[2]
FINDINGS = ROOT / "docs" / "findings.md"
README_PAGE = ROOT / "README.md"
SUMMARIES = Path(__file__).with_name("summaries")
KEPT = ("verdict", "axes", "points", "hypervolumes", "comparisons", "prior", "notes")
LIST_OR_TABLE = re.compile(r"\s+\S|[-*+] |\d+[.)] |\||<")
"""How the lines begin that must be claims or heads of tables; no other line may be indented."""
RULE = re.compile(r"[|:\- ]+")
"""Under the head of a table."""


def _without(held: Mapping[str, Any], name: str, drawn: str) -> dict[str, Any]:
    """Return a section in whose list `name` nothing holds what is only drawn."""
    kept = [{key: v for key, v in one.items() if key != drawn} for one in held.get(name, ())]
    return {**held, name: kept}


def _ranks(held: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a section on ranks with its significant tests alone; None without tests."""
    if not (tests := held["tests"]):
        return None
    return {
        "summary": held["summary"],
        "blocks": held["blocks"],
        "significant": [test for test in tests if test["p_adjusted"] < SIGNIFICANCE],
        "num_tests": len(tests),
        "min_attainable_p": min(test["min_attainable_p"] for test in tests),
    }


KEPT_SECTIONS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "seeds": dict,
    "controllability": dict,
    "trends": dict,
    "dial": dict,
    "attainment": partial(_without, name="comparisons", drawn="medians"),
    "fitted": partial(_without, name="fronts", drawn="curve"),
    "compute_budget": lambda held: {"untuned": held["untuned"]},
    "method_ranks": _ranks,
}
"""What is kept of each section."""


def excerpt(summary: Mapping[str, Any], sweep: str) -> dict[str, Any]:
    """Return what the lines need of a sweep's summary, and how many device hours its runs took."""
    kept = {name: summary[name] for name in KEPT if name in summary}
    sections = {
        name: kept_of(held)
        for name, kept_of in KEPT_SECTIONS.items()
        if (held := summary.get("sections", {}).get(name))
    }
    seconds = [run["device_seconds"] for run in summary["runs"] if run.get("device_seconds")]
    return {
        "sweep": sweep,
        **kept,
        "sections": {name: held for name, held in sections.items() if held},
        "common": summary["provenance"]["common"],
        "recorded": summary["provenance"]["recorded"],
        "device_hours": round(sum(seconds) / 3600, 2),
    }


def read_summaries() -> dict[str, dict[str, Any]]:
    """Return name -> excerpt of every summary that is kept."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(SUMMARIES.glob("*.json"))}


def line_of(claim: Claim, summaries: Mapping[str, Any]) -> str:
    """Return the line that a claim makes of its summaries."""
    return claim.line(*(summaries[name] for name in claim.summaries))


def made_lines(summaries: Mapping[str, Any]) -> dict[str, Claim | None]:
    """Return every line that findings.md must have, in order; None for the head of a table."""
    made: dict[str, Claim | None] = {}
    for block in BLOCKS:
        lines = {line_of(claim, summaries): claim for claim in block.claims}
        assert len(lines) == len(block.claims), "a line stands once"
        assert not made.keys() & lines.keys(), "a line stands once"
        made |= {block.head: None} if block.head else {}
        made |= lines
    return made


def said_lines(text: str) -> list[str]:
    """Return the lines of a page that must be claims: those of its lists and tables."""
    return [
        " ".join(line.split())
        for line in text.splitlines()
        if LIST_OR_TABLE.match(line) and not RULE.fullmatch(line.strip())
    ]


def checked(summaries: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return a report on findings.md and README.md, and whether both say what was found."""
    made, said = made_lines(summaries), said_lines(FINDINGS.read_text())
    report, is_good = [], list(made) == said
    for line, claim in made.items():
        if claim is not None:
            report += [f"{'said' if line in said else 'NOT SAID'}  {_sources(claim, summaries)}"]
            report += [f"    {line}"]
    # With what stands twice, in another place or without a summary.
    report += [line for line in difflib.ndiff(list(made), said) if line[0] in "+-"]
    for page, claims in ((FINDINGS, SENTENCES), (README_PAGE, README)):
        text = " ".join(page.read_text().split())
        for claim in claims:
            sentence = line_of(claim, summaries)
            is_said = sentence in text
            is_good = is_good and is_said
            report += [
                f"{'said' if is_said else 'NOT SAID'} by {page.name}  {_sources(claim, summaries)}",
                f"    {sentence}",
            ]
    return report, is_good


def _sources(claim: Claim, summaries: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} ({summaries[name]['sweep']})" for name in claim.summaries)


def main(argv: list[str] | None = None) -> int:
    """Check findings.md, or keep a summary; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "SUMMARY"))
    given = parser.parse_args(argv)
    if given.keep:
        name, source = given.keep
        store, _, within = Path(source).absolute().as_posix().rpartition("/sweeps/")
        sweep = f"{Path(store).name}/{within.partition('/')[0]}"
        made = excerpt(json.loads(Path(source).read_text()), sweep)
        SUMMARIES.mkdir(exist_ok=True)
        (SUMMARIES / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")
        return 0
    report, is_good = checked(read_summaries())
    print("\n".join(report))
    print("All is said." if is_good else "findings.md or README.md does not say what was found.")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
