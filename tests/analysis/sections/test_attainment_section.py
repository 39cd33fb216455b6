"""The section on attainment draws, tabulates and says what `analysis.attainment` computes."""

import importlib

import numpy as np
import pandas as pd
import pytest

from analysis.load.run_files import NO_FILES
from analysis.render.panels import Cells, Line
from analysis.sections.attainment import attainment
from tests.analysis.made_findings import made_findings

PRIORITIES = ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))


def drawn_rows(seeds=(3, 2), shift=0.02, arms=("lsb", "fixed"), tasks=2, seed=0):
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    front = {0.25: (0.5, 0.8), 0.5: (0.7, 0.7), 0.75: (0.8, 0.5)}
    rows = []
    for arm, number in zip(arms, seeds, strict=True):
        for priorities in PRIORITIES:
            for s in range(number):
                values = np.array(front[priorities[0]]) + generator.normal(0, 0.02, 2)
                rows.append((arm, priorities, s, tuple(values + shift * (arm == "lsb"))))
    return rows


def share(rows, arm, place, num_seeds, signs=(1, 1)):
    """Count by the definition: seeds with a run at least as good on both axes."""
    reached = {
        s
        for a, _, s, values in rows
        if a == arm and all(k * v >= k * p for k, v, p in zip(signs, values, place, strict=True))
    }
    return len(reached) / num_seeds


@pytest.mark.parametrize("metrics", [{}, {"depth": "rmse"}])
def test_every_cell_drawn_is_that_of_the_definition(metrics):
    rows = drawn_rows()
    signs = (-1, 1) if metrics else (1, 1)
    findings = made_findings(rows, **metrics)
    section = attainment(findings, NO_FILES)
    (panel,) = section.figures[0].panels
    (cells,) = (m for m in panel.marks if isinstance(m, Cells))
    factors = [axis.metric.display_factor for axis in findings.axes]
    assert cells.values.shape == (len(cells.x_edges) - 1, len(cells.y_edges) - 1)
    assert (np.diff(cells.x_edges) > 0).all()
    assert (np.diff(cells.y_edges) > 0).all()
    assert set(np.unique(cells.values)) > {0.0}
    generator = np.random.default_rng(1)
    for _ in range(400):
        i, j = (int(generator.integers(n)) for n in cells.values.shape)
        at = [
            generator.uniform(e[k], e[k + 1]) for e, k in ((cells.x_edges, i), (cells.y_edges, j))
        ]
        place = [value / factor for value, factor in zip(at, factors, strict=True)]
        wanted = share(rows, "lsb", place, 3, signs) - share(rows, "fixed", place, 2, signs)
        assert cells.values[i, j] == pytest.approx(wanted)
    # Worse to better, and the cells reach to the panel's limits.
    for scale, edges, sign in ((panel.x, cells.x_edges, signs[0]), (panel.y, cells.y_edges, 1)):
        assert scale.limits == ((edges[0], edges[-1]) if sign > 0 else (edges[-1], edges[0]))
    assert (cells.colours, cells.limits) == ("diverging", (-1.0, 1.0))


def test_numbers_of_seeds_are_said_and_medians_drawn():
    section = attainment(made_findings(drawn_rows()), NO_FILES)
    (figure,) = section.figures
    assert "3 seeds of lsb and 2 of fixed" in figure.caption
    lines = [m for m in figure.panels[0].marks if isinstance(m, Line)]
    assert len({(line.colour, line.dash) for line in lines}) == 2
    medians = section.values["comparisons"][0]["medians"]
    for line, median in zip(lines, medians, strict=True):
        np.testing.assert_allclose(np.array(median) * 100, np.transpose([line.x, line.y]))


def test_largest_differences_are_where_the_table_says():
    rows = drawn_rows()
    section = attainment(made_findings(rows), NO_FILES)
    table = next(t for t in section.tables if t.name == "attainment_difference")
    numbers = {"lsb": 3, "fixed": 2}
    for row in table.raw.to_dict("records"):
        place = (row["level_x"], row["level_y"])
        for side in ("ahead", "behind"):
            arm = row[f"method_{side}"]
            wanted = share(rows, arm, np.array(place) - 1e-9, numbers[arm])
            assert row[f"share_of_seeds_{side}"] == pytest.approx(wanted)
            assert row[f"num_seeds_{side}"] == numbers[arm]
    cells = next(t for t in section.tables if t.name.startswith("attainment_cells"))
    assert (cells.raw["difference"] != 0).all()
    areas = cells.raw["share_of_x"] * cells.raw["share_of_y"]
    for sign, row in zip((1, -1), table.raw.to_dict("records"), strict=True):
        led = areas[np.sign(cells.raw["difference"]) == sign].sum()
        assert row["share_of_plane"] == pytest.approx(led)
    assert f"the CSV holds all {len(cells.raw)} cells" in cells.caption
    assert "differ most where depth delta1 at least" in section.lead


def test_rows_and_columns_in_any_order_give_the_same():
    rows = drawn_rows()
    findings = made_findings(rows)
    shuffled = made_findings([rows[i] for i in np.random.default_rng(2).permutation(len(rows))])
    tables = [attainment(f, NO_FILES).tables[0].raw for f in (findings, shuffled)]
    pd.testing.assert_frame_equal(
        tables[0].sort_values("method_ahead", ignore_index=True),
        tables[1].sort_values("method_ahead", ignore_index=True),
    )


def test_a_seed_that_misses_a_priority_is_left_out_aloud():
    rows = [r for r in drawn_rows((3, 3)) if r[:3] != ("fixed", PRIORITIES[1], 2)]
    section = attainment(made_findings(rows), NO_FILES)
    assert "3 seeds of lsb and 2 of fixed" in section.figures[0].caption
    assert any("Of fixed seed 2 is left out" in p for p in section.parts if isinstance(p, str))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (drawn_rows((1, 3)), "1 and 3 seeds are complete"),
        (
            [r for r in drawn_rows() if (r[0] == "lsb") == (r[1] == PRIORITIES[0])],
            "share no priority",
        ),
    ],
)
def test_what_is_not_drawn_is_said(rows, words):
    section = attainment(made_findings(rows), NO_FILES)
    assert words in section.lead
    assert not section.figures


def test_one_method_has_no_section_and_one_task_a_sentence():
    assert attainment(made_findings([r for r in drawn_rows() if r[0] == "lsb"]), NO_FILES) is None
    rows = [(arm, (p[0],), s, v[:1]) for arm, p, s, v in drawn_rows()]
    section = attainment(made_findings(rows, ("depth",)), NO_FILES)
    assert "one task" in section.lead


def test_a_constant_metric_is_drawn_without_error():
    rows = [(arm, p, s, (v[0], 0.5)) for arm, p, s, v in drawn_rows()]
    section = attainment(made_findings(rows), NO_FILES)
    (cells,) = (m for m in section.figures[0].panels[0].marks if isinstance(m, Cells))
    assert np.isfinite(cells.values).all()


def test_many_runs_are_shown_at_a_bounded_number_of_places(monkeypatch):
    # The package holds the function under the module's name.
    module = importlib.import_module("analysis.sections.attainment")
    monkeypatch.setattr(module, "MOST_CELLS", 7)
    rows = drawn_rows((6, 6))
    section = attainment(made_findings(rows), NO_FILES)
    (cells,) = (m for m in section.figures[0].panels[0].marks if isinstance(m, Cells))
    assert cells.values.shape == (7, 7)
    assert "7 by 7 places" in section.figures[0].caption
    for i in range(7):
        for j in range(7):
            place = (sum(cells.x_edges[i : i + 2]) / 200, sum(cells.y_edges[j : j + 2]) / 200)
            wanted = share(rows, "lsb", place, 6) - share(rows, "fixed", place, 6)
            assert cells.values[i, j] == pytest.approx(wanted)


def test_many_methods_are_bounded_and_the_papers_pair_leads():
    arms = (*(f"m<script>{k}$_" for k in range(5)), "fixed", "lsb")
    section = attainment(made_findings(drawn_rows((2,) * 7, arms=arms)), NO_FILES)
    assert len(section.figures) == 3
    assert section.values["comparisons"][0]["method_a"] == "lsb"
    # 7 methods make 21 pairs.
    assert any("18 of 21 combinations" in p for p in section.parts if isinstance(p, str))
    names = [t.name for t in section.tables] + [f.name for f in section.figures]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in names)


def test_methods_that_never_differ_are_said_to_differ_nowhere():
    rows = [r for r in drawn_rows((2, 2)) if r[0] == "lsb"]
    section = attainment(made_findings([*rows, *(("fixed", *r[1:]) for r in rows)]), NO_FILES)
    assert "differ nowhere" in section.lead
    assert "0%" not in section.lead
    better = [("fixed", p, s, tuple(v - 0.1 for v in values)) for _, p, s, values in rows]
    assert "and fewer nowhere" in attainment(made_findings([*rows, *better]), NO_FILES).lead
