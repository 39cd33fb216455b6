"""The section on priorities in between shows what `analysis.compute.fitted` computes."""

import numpy as np
import pytest

from analysis.load.run_files import NO_FILES
from analysis.sections.fitted import NUM_DRAWN, fitted_section
from tests.analysis.made_findings import front_rows, made_findings


def test_table_has_the_errors_and_the_figure_the_curve():
    section = fitted_section(made_findings(front_rows((4, 4))), NO_FILES)
    fronts = section.values["fronts"]
    assert [held.arm for held in fronts] == ["lsb", "fixed"]
    (table,) = section.tables
    errors = [error for held in fronts for error in held.held_out_errors]
    assert table.raw["held_out_error"].tolist() == pytest.approx(errors)
    seen = [error for held in fronts for error in held.standard_errors]
    assert table.raw["standard_error"].tolist() == pytest.approx(seen)
    curve = section.figures[0].panels[0].marks[0]
    assert len(curve.x) == NUM_DRAWN
    middle = np.array(fronts[0].curve[50])
    factors = [axis.metric.display_factor for axis in made_findings(front_rows((4, 4))).axes]
    assert (curve.x[50], curve.y[50]) == pytest.approx(tuple(middle * factors))
    assert section.lead.startswith("Each metric of lsb as a polynomial of the priorities (degree 1")
    assert "It is least sure of (" in section.lead


def test_two_seeds_have_no_interval_and_two_priorities_no_curve():
    section = fitted_section(made_findings(front_rows((2, 2))), NO_FILES)
    assert "say nothing of how sure it is" in section.lead
    assert section.tables[0].raw["half_width"].isna().all()
    rows = [row for row in front_rows((4, 4)) if row[1] != (0.5, 0.5)]
    assert fitted_section(made_findings(rows), NO_FILES) is None


def test_three_tasks_have_a_table_and_no_figure():
    corners = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]])
    generator = np.random.default_rng(4)
    rows = [
        ("lsb", tuple(p), seed, tuple(p + generator.normal(0, 0.01, 3)))
        for p in corners
        for seed in range(3)
    ]
    section = fitted_section(made_findings(rows, ("depth", "segmentation", "normal")), NO_FILES)
    assert section.figures == ()
    assert len(section.tables[0].raw) == 3
