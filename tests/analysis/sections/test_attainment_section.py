"""The section on attainment shows what `analysis.compute.attainment` computes."""

import numpy as np
import pytest

from analysis.load.run_files import NO_FILES
from analysis.render.panels import Heatmap, Line
from analysis.sections.attainment import attainment
from tests.analysis.made_findings import PRIORITIES, front_rows, made_findings


def drawn_rows(seeds=(3, 2), **options):
    return front_rows(seeds, **{"shift": 0.02, **options})


def share(rows, arm, place, num_seeds, signs=(1, 1)):
    """Count by the definition: seeds with a run at least as good on both axes."""
    reached = {
        s
        for a, _, s, values in rows
        if a == arm and all(k * v >= k * p for k, v, p in zip(signs, values, place, strict=True))
    }
    return len(reached) / num_seeds


@pytest.mark.parametrize("metrics", [{}, {"depth": "rmse"}])
def test_drawn_cells_are_those_of_the_definition(metrics):
    rows = drawn_rows()
    signs = (-1, 1) if metrics else (1, 1)
    findings = made_findings(rows, **metrics)
    section = attainment(findings, NO_FILES)
    (panel,) = section.figures[0].panels
    (cells,) = (m for m in panel.marks if isinstance(m, Heatmap))
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
    assert (cells.bar.colours, cells.bar.limits) == ("diverging", (-1.0, 1.0))


def test_caption_counts_seeds_and_medians_are_drawn():
    section = attainment(made_findings(drawn_rows()), NO_FILES)
    (figure,) = section.figures
    assert "3 seeds of lsb and 2 of fixed" in figure.caption
    lines = [m for m in figure.panels[0].marks if isinstance(m, Line)]
    assert len({(line.colour, line.dash) for line in lines}) == 2
    (comparison,) = section.values["comparisons"]
    medians = comparison["medians"]
    for line, median in zip(lines, medians, strict=True):
        np.testing.assert_allclose(np.array(median) * 100, np.transpose([line.x, line.y]))


def test_largest_difference_is_where_the_words_say():
    rows = drawn_rows()
    section = attainment(made_findings(rows), NO_FILES)
    (comparison,) = section.values["comparisons"]
    largest = comparison["largest_difference"]
    place = np.array(largest["levels"]) - 1e-9
    shares = [share(rows, "lsb", place, 3), share(rows, "fixed", place, 2)]
    assert [largest["share_of_seeds_a"], largest["share_of_seeds_b"]] == pytest.approx(shares)
    x, y = (f"{100 * level:.2f} %" for level in largest["levels"])
    assert (
        f"a run with depth delta1 at least {x} and segmentation miou at least {y}." in section.lead
    )
    counts = f"{round(3 * shares[0])} of 3 seeds of lsb and {round(2 * shares[1])} of 2 of fixed"
    assert counts in section.lead


def test_seed_that_misses_a_priority_is_left_out_with_a_note():
    rows = [r for r in drawn_rows((3, 3)) if r[:3] != ("fixed", PRIORITIES[1], 2)]
    section = attainment(made_findings(rows), NO_FILES)
    assert "3 seeds of lsb and 2 of fixed" in section.figures[0].caption
    assert any("Of fixed seed 2 is left out" in p for p in section.parts if isinstance(p, str))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            drawn_rows((1, 3)),
            "needs at least two complete seeds of each method (lsb has 1, fixed 3).",
        ),
        (
            [r for r in drawn_rows() if (r[0] == "lsb") == (r[1] == PRIORITIES[0])],
            "share no priority",
        ),
    ],
)
def test_undrawn_comparison_is_explained(rows, words):
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
    (cells,) = (m for m in section.figures[0].panels[0].marks if isinstance(m, Heatmap))
    assert np.isfinite(cells.values).all()


def test_first_pair_of_methods_with_enough_runs_is_shown():
    arms = ("m<script>$_", "fixed", "lsb")
    section = attainment(made_findings(drawn_rows((2, 2, 2), arms=arms)), NO_FILES)
    (figure,) = section.figures
    assert (section.values["method_a"], section.values["method_b"]) == ("lsb", "fixed")
    assert figure.name.replace("_", "").isalnum()
    few = attainment(made_findings(drawn_rows((2, 1, 2), arms=arms)), NO_FILES)
    assert (few.values["method_a"], few.values["method_b"]) == ("m<script>$_", "lsb")
    assert any(
        "seeds of each method (m<script>$_ has 2, fixed 1)" in p
        for p in few.parts
        if isinstance(p, str)
    )


def test_three_tasks_have_a_panel_and_a_sentence_each():
    rows = [(a, (*np.array(p) / 2, 0.5), s, (*v, sum(v) / 2)) for a, p, s, v in drawn_rows()]
    section = attainment(made_findings(rows, ("depth", "segmentation", "edge2d")), NO_FILES)
    assert len(section.figures[0].panels) == 3
    words = [section.lead, *(p for p in section.parts if isinstance(p, str))]
    assert sum(text.startswith("On ") for text in words) == 3


def test_equal_methods_differ_nowhere():
    rows = [r for r in drawn_rows((2, 2)) if r[0] == "lsb"]
    section = attainment(made_findings([*rows, *(("fixed", *r[1:]) for r in rows)]), NO_FILES)
    assert "differ nowhere" in section.lead
    assert "0%" not in section.lead
    better = [("fixed", p, s, tuple(v - 0.1 for v in values)) for _, p, s, values in rows]
    assert "and fewer reach no place" in attainment(made_findings([*rows, *better]), NO_FILES).lead
