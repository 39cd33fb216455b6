"""docs/findings.md says what the kept summaries say, and nothing else."""

from pathlib import Path

import pytest

from tests.evidence import __main__ as evidence


def test_findings_say_what_the_summaries_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert evidence.main([]) == 0, capsys.readouterr().out


def test_a_changed_figure_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "findings.md"
    page.write_text(evidence.FINDINGS.read_text().replace("| no winner |", "| lsb |"))
    monkeypatch.setattr(evidence, "FINDINGS", page)
    assert evidence.main([]) == 1
    out = capsys.readouterr().out
    assert "NOT SAID  three_points" in out
    assert "NO SUMMARY SAYS" in out
