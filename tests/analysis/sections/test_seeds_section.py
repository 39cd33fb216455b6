"""The section on the number of seeds shows what `analysis.compute.seeds` computes."""

import pytest

from analysis.compute.seeds import seeds_needed
from analysis.load.run_files import NO_FILES
from analysis.sections.seeds import seeds_section
from tests.analysis.made_findings import front_rows, made_findings, words

THREE = ("lsb", "fixed", "stch")


def test_primary_comparison_leads_and_csv_has_every_tested_one():
    rows = front_rows((7, 7, 7), THREE, spread=0.01, shift=0.05)
    findings = made_findings(rows, primary=("lsb", "stch"))
    section = seeds_section(findings, NO_FILES)
    first, *_ = found = section.values["comparisons"]
    assert (first.arm_a, first.arm_b, first.is_primary) == ("lsb", "stch", True)
    assert section.lead.startswith(
        "The verdict on lsb against stch was reached with the first 6 of 7 seeds and kept."
    )
    assert "The seeds differ by +" in section.lead
    assert "there are enough" in section.lead
    (table,) = section.tables
    assert [held.settled_with for held in found] == [6, 7, None]
    assert table.raw["settled_with"].fillna(0).tolist() == [6, 7, 0]
    assert table.raw["smallest_with_12"].tolist() == [held.smallest[2] for held in found]
    assert "Holm corrects 2 pairs" in words(section)
    # With all seeds it is the report's verdict.
    adjusted = {(c.arm_a, c.arm_b): c.p_adjusted for c in findings.comparisons}
    assert {(held.arm_a, held.arm_b): held.p[-1] for held in found} == pytest.approx(adjusted)


def test_lead_says_how_many_more_seeds_would_settle_it():
    findings = made_findings(front_rows((4, 4), spread=0.02, shift=0.02, seed=1))
    (held,) = seeds_section(findings, NO_FILES).values["comparisons"]
    section = seeds_section(findings, NO_FILES)
    assert section.lead.startswith("lsb against fixed is not settled with 4 seeds.")
    needed = seeds_needed(held.mean / held.sd)
    assert f"{needed - 4} more seeds ({needed} in all) would settle it in 80 %" in section.lead
    assert "The smallest mean difference that so many settle: 6 seeds " in section.lead


def test_nothing_is_promised_from_two_seeds_and_nothing_shown_without_a_test():
    lead = seeds_section(made_findings(front_rows((2, 2))), NO_FILES).lead
    assert lead.endswith("Fewer than 3 seeds say nothing of how many it takes.")
    one = [row for row in front_rows() if row[0] == "lsb"]
    assert seeds_section(made_findings(one), NO_FILES) is None
