"""The section on dominance: coverage and words are those of brute force."""

import numpy as np
import pytest

from analysis.load.run_files import NO_FILES
from analysis.sections.dominance import dominance
from tests.analysis.made_findings import PRIORITIES, front_rows, made_findings


def drawn_rows(seeds=(3, 2), **options):
    return front_rows(seeds, **{"spread": 0.06, **options})


def is_dominated(rows, loser, priorities, winner):
    """Return whether a mean of `winner` dominates one of `loser`; higher is better."""

    def mean(arm, at):
        return np.mean([values for a, p, _, values in rows if (a, p) == (arm, at)], axis=0)

    mine = mean(loser, priorities)
    others = [mean(winner, p) for p in PRIORITIES]
    return any((other >= mine).all() and (other > mine).any() for other in others)


@pytest.mark.parametrize("seed", range(3))
def test_coverage_equals_brute_force(seed):
    rows = drawn_rows(seed=seed)
    section = dominance(made_findings(rows), NO_FILES)
    (values,) = section.values["pairs"]
    table = section.tables[0].raw.set_index("method")
    for own, other, key in (("lsb", "fixed", "b_over_a"), ("fixed", "lsb", "a_over_b")):
        lost = [is_dominated(rows, own, p, other) for p in PRIORITIES]
        assert values[f"coverage_{key}"] == pytest.approx(np.mean(lost))
        assert table.loc[other, "coverage"] == pytest.approx(np.mean(lost))
        assert table.loc[own, "num_undominated_own"] == 3 - sum(lost)
        free = [list(p) for p, is_lost in zip(PRIORITIES, lost, strict=True) if not is_lost]
        assert values["undominated"][own] == free
        assert f"Points of {other} dominate {sum(lost)} of the 3".lower() in section.lead.lower()
    assert "means over 2 to 3 seeds" in section.lead


def test_unequal_grids_have_a_caveat():
    rows = [r for r in drawn_rows() if r[:2] != ("fixed", PRIORITIES[0])]
    section = dominance(made_findings(rows), NO_FILES)
    assert any("different priorities (3 and 2)" in p for p in section.parts if isinstance(p, str))
    assert dominance(made_findings([r for r in rows if r[0] == "lsb"]), NO_FILES) is None


def test_equal_methods_dominate_nothing():
    rows = [r for r in drawn_rows((1, 1), spread=0.0) if r[0] == "lsb"]
    section = dominance(made_findings([*rows, *(("fixed", *r[1:]) for r in rows)]), NO_FILES)
    assert section.values["pairs"][0]["coverage_a_over_b"] == 0
    assert "means over 1 seed." in section.lead


def test_many_pairs_are_bounded():
    arms = tuple(f"m{k}" for k in range(6))
    section = dominance(made_findings(drawn_rows((1,) * 6, arms=arms)), NO_FILES)
    assert len(section.tables[0].rows) == 20
    assert "The first 10 of 15 pairs of methods are shown." in section.tables[0].caption
