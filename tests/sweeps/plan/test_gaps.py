"""Gaps of a front, by hand: how wide they are and what fills the widest."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.plan.refine import widest

# Two metrics, to be minimised, at five priorities in sixths. Both have range 1, so the gaps are
#   (1,5)-(2,4): sqrt(.01 + .01) = .141    (2,4)-(3,3): sqrt(.36 + .16) = .721
#   (3,3)-(4,2): sqrt(.04 + .16) = .447    (4,2)-(5,1): sqrt(.01 + .01) = .141
FRONT = {
    (1, 5): (1.0, 0.0),
    (2, 4): (0.9, 0.1),
    (3, 3): (0.3, 0.5),
    (4, 2): (0.1, 0.9),
    (5, 1): (0.0, 1.0),
}


def chosen(*fronts, number=4):
    return [middle.counts for middle in widest(fronts, number)[0]]


def widths(*fronts, number=4):
    return [middle.width for middle in widest(fronts, number)[0]]


def test_widest_gaps_are_halved_first():
    # Middles are in twelfths: half-way between 2/6 and 3/6 is 5/12. The two narrow gaps are equally
    # wide and equally far from the centre, so the smaller counts come first.
    assert chosen(FRONT) == [(5, 7), (7, 5), (3, 9), (9, 3)]
    assert widths(FRONT) == pytest.approx([0.7211, 0.4472, 0.1414, 0.1414], abs=1e-4)
    assert widest([FRONT], 9) == widest([FRONT], 4)  # there are no more


def test_units_do_not_matter():
    in_percent = {counts: (100 * a, b / 1000) for counts, (a, b) in FRONT.items()}
    assert chosen(in_percent) == chosen(FRONT)


def test_equally_wide_gaps_are_filled_from_the_centre():
    evenly_spaced = {(c, 6 - c): (float(c), -float(c)) for c in range(1, 6)}
    assert chosen(evenly_spaced) == [(5, 7), (7, 5), (3, 9), (9, 3)]


def test_dominated_point_ends_no_gap_and_a_long_gap_is_cut():
    # (3,3) is worse than (2,4) in both, so the front goes from (2,4) to (4,2): sqrt(.64 + .64) =
    # 1.131 long in 4 half sixths. 5/12 and 7/12 lie in it. The first takes place 1 of 4; the piece
    # that the second finds is 3 of 4: .849, still wider than the others' .141.
    front = {**FRONT, (3, 3): (0.95, 0.5)}
    assert chosen(front, number=3) == [(5, 7), (7, 5), (3, 9)]
    assert widths(front, number=3) == pytest.approx([1.1314, 0.8485, 0.1414], abs=1e-4)


def test_methods_choose_together():
    # The second method is wide where the first is narrow, at 9/12, and the mean decides.
    other = {
        (1, 5): (1.0, 0.0),
        (2, 4): (0.99, 0.01),
        (3, 3): (0.98, 0.02),
        (4, 2): (0.97, 0.03),
        (5, 1): (0.0, 1.0),
    }
    # 9/12: (.1414 + hypot(.97, .97)) / 2 = .7566; 5/12: (.7211 + .0141) / 2 = .3676
    assert chosen(FRONT, other, number=2) == [(9, 3), (5, 7)]
    assert widths(FRONT, other, number=2) == pytest.approx((0.7566, 0.3676), abs=1e-4)
    # A method without any point counts as 0.
    assert widths(FRONT, {}, number=1) == pytest.approx([0.7211 / 2], abs=1e-4)


def test_three_tasks_have_gaps_between_lattice_neighbours():
    # Three priorities in quarters, each a division apart from the others, all nondominated.
    points = {
        (2, 1, 1): (0.0, 1.0, 0.5),
        (1, 2, 1): (1.0, 0.0, 0.5),
        (1, 1, 2): (1.0, 0.9, 0.0),
    }
    # The ranges are 1, 1 and .5: 211-121 hypot(1, 1) = 1.414; 211-112 hypot(1, .1, 1) = 1.418;
    # 121-112 hypot(0, .9, 1) = 1.345
    assert chosen(points) == [(3, 2, 3), (3, 3, 2), (2, 3, 3)]


CORNERS = {(3, 1, 1): (0.0, 1.0, 1.0), (1, 3, 1): (1.0, 0.0, 1.0), (1, 1, 3): (1.0, 1.0, 0.0)}
BETWEEN = dict.fromkeys([(2, 2, 1), (2, 1, 2), (1, 2, 2)], (2.0, 2.0, 2.0))
BEST = {**dict.fromkeys(FRONT, (1.0, 1.0)), (3, 3): (0.0, 0.0)}


@pytest.mark.parametrize(
    ("fronts", "why"),
    [
        ([{(1, 1): (0.5, 0.5)}], "one priority's point dominates all others"),
        ([BEST, BEST], "one priority's point dominates all others"),
        # One metric that never changes: the other has one best point.
        ([{counts: (a, 7.0) for counts, (a, _) in FRONT.items()}], "dominates all others"),
        # The corners alone are on the front, and no division apart from each other.
        ([{**CORNERS, **BETWEEN}], "No two neighbouring priorities are both on a front"),
    ],
)
def test_why_there_is_no_gap(fronts, why):
    middles, found = widest(fronts, 2)
    assert middles == []
    assert why in found


def test_one_methods_gap_is_enough():
    assert widest([BEST, FRONT], 2)[1] == ""


def test_metric_that_never_changes_adds_no_width():
    with_third = {counts: (a, b, 7.0) for counts, (a, b) in FRONT.items()}
    assert widths(with_third) == widths(FRONT)


metric = st.integers(0, 20).map(float)


@st.composite
def fronts(draw):
    divisions = draw(st.integers(3, 8))
    tasks = draw(st.integers(2, 3))
    if tasks == 2:
        points = [(c, divisions - c) for c in range(1, divisions)]
    else:
        points = [
            (a, b, divisions - a - b) for a in range(1, divisions) for b in range(1, divisions - a)
        ]
    values = st.tuples(*[metric] * tasks)
    return [{p: draw(values) for p in points} for _ in range(draw(st.integers(1, 2)))]


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that does other work
@given(fronts())
def test_new_priorities_are_new_and_a_longer_choice_begins_alike(methods):
    total = sum(next(iter(methods[0])))
    four, why = widest(methods, 4)
    assert bool(four) != bool(why)
    for middle in four:
        assert sum(middle.counts) == 2 * total
        assert min(middle.counts) >= 1
        assert any(count % 2 for count in middle.counts)  # so on the finer lattice alone
    assert len({middle.counts for middle in four}) == len(four)
    assert widest(methods, 2)[0] == four[:2]
    shuffled = [dict(reversed(points.items())) for points in reversed(methods)]
    assert [m.counts for m in widest(shuffled, 4)[0]] == [m.counts for m in four]
