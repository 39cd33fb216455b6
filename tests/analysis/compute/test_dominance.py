"""The dominance ledger: by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.compute.dominance import covered_by, dominates, ledger

runs = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.just(2)), elements=st.integers(0, 3).map(float)
)
methods = st.lists(runs, min_size=1, max_size=3)


def test_dominance_is_weak_everywhere_and_strict_somewhere():
    assert dominates(np.array([1, 1]), np.array([1, 2]))
    assert not dominates(np.array([1, 1]), np.array([1, 1]))
    assert not dominates(np.array([0, 2]), np.array([1, 1]))


def test_a_ledger_by_hand():
    a = [np.array([[1.0, 1.0], [3.0, 1.0]])]  # mean (2, 1)
    b = [np.array([[2.0, 2.0], [4.0, 4.0]]), np.array([[0.0, 0.0], [1.0, 1.0]])]  # (3, 3), (.5, .5)
    book = ledger(a, b, matched=False)
    first, second = book.cells[0]
    assert (first.mean_dominates, first.mean_strictly) == (True, True)
    # (1, 1) dominates (2, 2) and (4, 4); (3, 1) dominates (4, 4) alone: 3 of 4 pairs.
    assert first.share_of_pairs == 0.75
    # (1, 1) does not dominate its equal, (3, 1) dominates neither.
    assert (second.mean_dominates, second.share_of_pairs) == (False, 0.0)
    means = [np.array([runs.mean(axis=0) for runs in side]) for side in (a, b)]
    assert covered_by(*means).tolist() == [True, False]
    # Matched by seed: (1, 1) over (2, 2), and (3, 1) over (4, 4).
    assert ledger(a, b, matched=True).cells[0][0].share_of_pairs == 1.0


@given(methods, methods)
def test_shares_are_those_of_all_pairs_and_no_two_means_dominate_each_other(a, b):
    book, back = ledger(a, b, matched=False), ledger(b, a, matched=False)
    for i, mine in enumerate(a):
        for j, theirs in enumerate(b):
            pairs = [(x <= y).all() and (x < y).any() for x in mine for y in theirs]
            assert book.cells[i][j].share_of_pairs == pytest.approx(np.mean(pairs))
            assert not (book.cells[i][j].mean_dominates and back.cells[j][i].mean_dominates)
            assert book.cells[i][j].share_of_pairs + back.cells[j][i].share_of_pairs <= 1 + 1e-9


@given(methods, methods)
def test_coverage_of_means_is_that_of_the_ledger(a, b):
    means = [np.array([runs.mean(axis=0) for runs in side]) for side in (a, b)]
    means[0].flags.writeable = False
    cells = ledger(a, b, matched=False).cells
    wanted = [any(row[j].mean_dominates for row in cells) for j in range(len(b))]
    assert covered_by(*means).tolist() == wanted


def test_means_that_are_not_finite_have_no_coverage():
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            covered_by(np.zeros((1, 2)), np.array([[0.0, bad]]))
        with pytest.raises(ValueError, match="finite"):
            covered_by(np.array([[0.0, bad]]), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("a", "b", "matched", "message"),
    [
        ([], [np.zeros((1, 2))], False, "got none"),
        ([np.zeros((0, 2))], [np.zeros((1, 2))], False, "got none"),
        ([np.array([[np.nan, 0]])], [np.zeros((1, 2))], False, "finite"),
        ([np.zeros((2, 2))], [np.zeros((1, 2))], True, "unequal"),
    ],
)
def test_what_has_no_ledger_is_refused(a, b, matched, message):
    with pytest.raises(ValueError, match=message):
        ledger(a, b, matched=matched)
