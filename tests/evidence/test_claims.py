"""docs/findings.md says what the kept summaries say, in its order, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evidence import __main__ as evidence


def test_findings_say_what_the_summaries_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence.main([]) == 0, capsys.readouterr().out


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("| 1 |", "| 4 |"))]


def swapped(text: str, first: str, second: str) -> str:
    return text.replace(first, "\0").replace(second, first).replace("\0", second)


CHANGES: dict[str, Callable[[str], str]] = {
    "a figure of a table": lambda text: text.replace("| none |", "| lsb |", 1),
    "two rows change places": lambda text: swapped(text, *rows(text)[:2]),
    "a row stands twice": lambda text: text.replace(rows(text)[0], 2 * f"{rows(text)[0]}\n"),
    "the head of a table": lambda text: text.replace("| lsb and fixed |", "| fixed and lsb |"),
    "another bullet": lambda text: text + "\n* LSB wins everywhere.\n",
    "an indented bullet": lambda text: text + "\n  - LSB wins everywhere.\n",
    "a numbered line": lambda text: text + "\n1. LSB wins everywhere.\n",
    "another table": lambda text: text + "\n|LSB wins|\n|---|\n|everywhere|\n",
    "a bullet goes on": lambda text: text.replace(
        "\n- Row 4:", "\n  All of it is significant.\n- Row 4:"
    ),
    "a table of HTML": lambda text: text + "\n<table><tr><td>LSB wins</td></tr></table>\n",
    "the headline": lambda text: text.replace("are for LSB", "are for fixed weights"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_page_is_found(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, before = tmp_path / "findings.md", evidence.FINDINGS.read_text()
    page.write_text(CHANGES[change](before))
    assert page.read_text() != before
    monkeypatch.setattr(evidence, "FINDINGS", page)
    assert evidence.main([]) == 1


def test_a_change_of_readme_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text(evidence.README_PAGE.read_text().replace("favour it", "favour them", 1))
    monkeypatch.setattr(evidence, "README_PAGE", page)
    assert evidence.main([]) == 1


def test_a_change_of_a_summary_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = evidence.read_summaries()
    (first,) = (c for c in held["one_point"]["comparisons"] if c["is_primary"])
    first["test"]["p"] = 0.5
    monkeypatch.setattr(evidence, "read_summaries", lambda: held)
    assert evidence.main([]) == 1
    assert "NOT SAID  one_point (s/s6_depth_segmentation)" in capsys.readouterr().out
