"""The ledger's section: matrices, lists and words are those of brute force."""

import importlib

import numpy as np
import pytest

from analysis.load.run_files import NO_FILES
from analysis.render.panels import Cells, Points
from analysis.sections.dominance import dominance
from tests.analysis.made_findings import made_findings

PRIORITIES = ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
FRONT = {0.25: (0.5, 0.8), 0.5: (0.7, 0.7), 0.75: (0.8, 0.5)}


def drawn_rows(seeds=(3, 2), arms=("lsb", "fixed"), seed=0, spread=0.06):
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    return [
        (arm, p, s, tuple(np.array(FRONT[p[0]]) + generator.normal(0, spread, 2)))
        for arm, number in zip(arms, seeds, strict=True)
        for p in PRIORITIES
        for s in range(number)
    ]


def runs_of(rows, arm, priorities):
    return np.array([values for a, p, _, values in rows if (a, p) == (arm, priorities)])


def better(a, b):
    return bool((a >= b).all() and (a > b).any())


def brute(rows, winner, mine, loser, theirs):
    """Return share of pairs and whether the means dominate; higher is better."""
    a, b = runs_of(rows, winner, mine), runs_of(rows, loser, theirs)
    pairs = [better(x, y) for x in a for y in b]
    return np.mean(pairs), better(a.mean(axis=0), b.mean(axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_matrices_hold_the_share_of_pairs_and_marks_of_the_means(seed):
    rows = drawn_rows(seed=seed)
    (figure,) = dominance(made_findings(rows), NO_FILES).figures
    for panel, winner, loser in zip(figure.panels, ("lsb", "fixed"), ("fixed", "lsb"), strict=True):
        (cells,) = (m for m in panel.marks if isinstance(m, Cells))
        marked = {
            (x, y)
            for m in panel.marks
            if isinstance(m, Points)
            for x, y in zip(m.x, m.y, strict=True)
        }
        assert cells.values.shape == (3, 3)
        for i, of_lsb in enumerate(PRIORITIES):
            for j, of_fixed in enumerate(PRIORITIES):
                mine, theirs = (of_lsb, of_fixed) if winner == "lsb" else (of_fixed, of_lsb)
                wanted, on_means = brute(rows, winner, mine, loser, theirs)
                shown = cells.values[i, j]
                # Cells where it never happens are left empty.
                assert (0 if np.isnan(shown) else shown) == pytest.approx(wanted)
                assert ((i, j) in marked) == on_means


@pytest.mark.parametrize("seed", range(3))
def test_coverage_and_undominated_points_are_those_of_brute_force(seed):
    rows = drawn_rows(seed=seed)
    section = dominance(made_findings(rows), NO_FILES)
    covered = {
        (loser, p)
        for winner, loser in (("lsb", "fixed"), ("fixed", "lsb"))
        for p in PRIORITIES
        if any(brute(rows, winner, other, loser, p)[1] for other in PRIORITIES)
    }
    values = section.values["pairs"][0]
    assert values["coverage_a_over_b"] == pytest.approx(sum(a == "fixed" for a, _ in covered) / 3)
    assert values["coverage_b_over_a"] == pytest.approx(sum(a == "lsb" for a, _ in covered) / 3)
    for arm in ("lsb", "fixed"):
        free = [list(p) for p in PRIORITIES if (arm, p) not in covered]
        assert values["undominated"][arm] == free
    points = next(t for t in section.tables if t.name == "dominance_points_1")
    assert sum(points.marked) == 6 - len(covered)
    assert [row[2] == "no point" for row in points.rows] == list(points.marked)
    assert (
        f"dominate {sum(a == 'fixed' for a, _ in covered)} of the 3 points of fixed" in section.lead
    )


def test_a_strict_and_a_weak_dominance_have_marks_of_their_own():
    rows = [
        ("lsb", PRIORITIES[0], 0, (0.6, 0.9)),
        ("lsb", PRIORITIES[1], 0, (0.8, 0.7)),
        ("fixed", PRIORITIES[0], 0, (0.5, 0.8)),
        ("fixed", PRIORITIES[1], 0, (0.8, 0.6)),
    ]
    section = dominance(made_findings(rows), NO_FILES)
    (figure,) = section.figures
    points = [m for m in figure.panels[0].marks if isinstance(m, Points)]
    # (.6, .9) over (.5, .8) is strict, (.8, .7) over (.8, .6) weak; nothing the other way round.
    assert {(m.mark.symbol, m.x, m.y) for m in points} == {
        ("circle", (0.0,), (0.0,)),
        ("diamond", (1.0,), (1.0,)),
    }
    assert [key.text for key in figure.legend] == [
        "lsb dominates strictly on the means",
        "lsb dominates weakly on the means",
    ]
    assert not any(isinstance(m, Points) for m in figure.panels[1].marks)
    assert "There is 1 seed a point" in section.lead


def test_matched_seeds_are_given_only_where_all_points_have_the_same():
    def shares(rows):
        section = dominance(made_findings(rows), NO_FILES)
        table = next(t for t in section.tables if t.name == "dominance_pairs_1")
        return table.raw["share_of_matched_seeds"]

    assert shares(drawn_rows((3, 2))).isna().all()
    rows = drawn_rows((2, 2))
    section = dominance(made_findings(rows), NO_FILES)
    table = next(t for t in section.tables if t.name == "dominance_pairs_1")
    for row, (mine, theirs) in zip(
        table.raw.to_dict("records"), [(p, q) for p in PRIORITIES for q in PRIORITIES], strict=False
    ):
        a, b = runs_of(rows, "lsb", mine), runs_of(rows, "fixed", theirs)
        wanted = np.mean([better(x, y) for x, y in zip(a, b, strict=True)])
        assert row["share_of_matched_seeds"] == pytest.approx(wanted)


def test_large_grids_are_thinned_aloud_and_coverage_is_of_all_points(monkeypatch):
    monkeypatch.setattr(importlib.import_module("analysis.sections.dominance"), "MOST_POINTS", 4)
    generator = np.random.default_rng(0)
    priorities = [(k / 31, 1 - k / 31) for k in range(1, 31)]
    rows = [
        (arm, p, 0, tuple(generator.uniform(0.3, 0.9, 2)))
        for arm in ("lsb", "fixed")
        for p in priorities
    ]
    section = dominance(made_findings(rows), NO_FILES)
    (cells,) = (m for m in section.figures[0].panels[0].marks if isinstance(m, Cells))
    assert cells.values.shape == (4, 4)
    assert any("holds 4 of the 30 points of lsb" in p for p in section.parts if isinstance(p, str))
    free = [
        p for p in priorities if not any(brute(rows, "lsb", q, "fixed", p)[1] for q in priorities)
    ]
    assert section.values["pairs"][0]["undominated"]["fixed"] == [
        pytest.approx(list(p)) for p in free
    ]
    table = next(t for t in section.tables if t.name == "dominance_points_1")
    assert (len(table.rows), len(table.raw)) == (48, 60)


def test_unequal_grids_are_said_and_one_method_has_no_section():
    rows = [r for r in drawn_rows() if r[:2] != ("fixed", PRIORITIES[0])]
    section = dominance(made_findings(rows), NO_FILES)
    assert any("different priorities (3 and 2)" in p for p in section.parts if isinstance(p, str))
    assert dominance(made_findings([r for r in rows if r[0] == "lsb"]), NO_FILES) is None


def test_equal_methods_dominate_nothing():
    rows = [r for r in drawn_rows((2, 2), spread=0.0) if r[0] == "lsb"]
    section = dominance(made_findings([*rows, *(("fixed", *r[1:]) for r in rows)]), NO_FILES)
    assert section.values["pairs"][0]["coverage_a_over_b"] == 0
    assert "In no pair of runs" in section.lead
    assert section.figures[0].legend == ()


def test_long_priorities_are_numbered_on_the_axes_and_in_the_table():
    tasks = ("depth", "normal", "segmentation", "curvature", "reshading", "edge2d")
    generator = np.random.default_rng(3)
    settings = [tuple(generator.dirichlet(np.ones(6))) for _ in range(3)]
    rows = [
        (arm, p, 0, tuple(generator.uniform(0.3, 0.9, 6)))
        for arm in ("lsb", "fixed")
        for p in settings
    ]
    section = dominance(made_findings(rows, tasks), NO_FILES)
    for panel in section.figures[0].panels:
        for scale in (panel.x, panel.y):
            assert [text for _, text in scale.ticks] == ["1", "2", "3"]
            assert "see the table" in scale.title
    table = next(t for t in section.tables if t.name == "dominance_points_1")
    assert {row[1].split(":")[0] for row in table.rows} == {"1", "2", "3"}


def test_equally_sure_cases_are_named_of_both_methods():
    rows = [
        ("lsb", PRIORITIES[0], 0, (0.9, 0.5)),
        ("lsb", PRIORITIES[1], 0, (0.4, 0.7)),
        ("fixed", PRIORITIES[0], 0, (0.8, 0.4)),
        ("fixed", PRIORITIES[1], 0, (0.5, 0.8)),
    ]
    lead = dominance(made_findings(rows), NO_FILES).lead
    # One pair of runs each: lsb's first over fixed's first, fixed's second over lsb's second.
    assert "Surest: lsb at (0.25, 0.75) dominates fixed at (0.25, 0.75) and " in lead
    assert "and fixed at (0.5, 0.5) dominates lsb at (0.5, 0.5), in 100% of the pairs" in lead
    only = dominance(made_findings([*rows[:3], ("fixed", PRIORITIES[1], 0, (0.3, 0.8))]), NO_FILES)
    assert "The surest case: lsb at (0.25, 0.75) dominates fixed" in only.lead
