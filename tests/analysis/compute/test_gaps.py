"""Gaps of a front, by hand: what is a gap, how wide, and what fills the widest."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.compute.gaps import gaps, ranges, why_no_gaps, widest

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
ALONG = {(c, 6 - c): (float(c), -float(c)) for c in range(1, 6)}  # evenly spaced


def counts_of(middles):
    return [middle.counts for middle in middles]


def test_gaps_of_two_tasks():
    found = gaps(FRONT, ranges([FRONT]))
    assert [gap.ends for gap in found] == [
        ((1, 5), (2, 4)),
        ((2, 4), (3, 3)),
        ((3, 3), (4, 2)),
        ((4, 2), (5, 1)),
    ]
    assert [gap.width for gap in found] == pytest.approx([0.1414, 0.7211, 0.4472, 0.1414], abs=1e-4)


def test_the_widest_gaps_are_filled_in_the_middle_widest_first():
    # Middles are in twelfths: half-way between 2/6 and 3/6 is 5/12. The two narrow gaps are equally
    # wide and equally far from the centre, so the smaller counts come first.
    assert counts_of(widest([FRONT], 4)) == [(5, 7), (7, 5), (3, 9), (9, 3)]
    assert widest([FRONT], 1)[0].width == pytest.approx(math.hypot(0.6, 0.4))
    assert counts_of(widest([FRONT], 9)) == counts_of(widest([FRONT], 4))  # there are no more


def test_units_do_not_matter():
    in_percent = {counts: (100 * a, b / 1000) for counts, (a, b) in FRONT.items()}
    assert counts_of(widest([in_percent], 4)) == counts_of(widest([FRONT], 4))


def test_evenly_spaced_points_are_refined_from_the_centre():
    assert counts_of(widest([ALONG], 4)) == [(5, 7), (7, 5), (3, 9), (9, 3)]


def test_a_dominated_point_is_no_end_of_a_gap_and_a_long_gap_is_cut_by_what_fills_it():
    # (3,3) is worse than (2,4) in both, so the front goes from (2,4) to (4,2): sqrt(.64 + .64) =
    # 1.131 long in 4 half sixths. 5/12 and 7/12 lie in it. The first takes place 1 of 4; the piece
    # that the second finds is 3 of 4: .849, still wider than the others' .141.
    front = {**FRONT, (3, 3): (0.95, 0.5)}
    chosen = widest([front], 3)
    assert counts_of(chosen) == [(5, 7), (7, 5), (3, 9)]
    assert [m.width for m in chosen] == pytest.approx([1.1314, 0.8485, 0.1414], abs=1e-4)


def test_methods_choose_together():
    # The second method is wide where the first is narrow, at 9/12, and the mean decides.
    other = {
        (1, 5): (1.0, 0.0),
        (2, 4): (0.99, 0.01),
        (3, 3): (0.98, 0.02),
        (4, 2): (0.97, 0.03),
        (5, 1): (0.0, 1.0),
    }
    first, second = widest([FRONT, other], 2)
    # 9/12: (.1414 + hypot(.97, .97)) / 2 = .7566; 5/12: (.7211 + .0141) / 2 = .3676
    assert (first.counts, second.counts) == ((9, 3), (5, 7))
    assert (first.width, second.width) == pytest.approx((0.7566, 0.3676), abs=1e-4)
    assert widest([other, FRONT], 2) == (first, second)


def test_three_tasks_have_gaps_between_lattice_neighbours():
    # Three priorities in quarters, each a division apart from the others, all nondominated.
    points = {
        (2, 1, 1): (0.0, 1.0, 0.5),
        (1, 2, 1): (1.0, 0.0, 0.5),
        (1, 1, 2): (1.0, 0.9, 0.0),
    }
    # The ranges are 1, 1 and .5: 211-121 hypot(1, 1) = 1.414; 211-112 hypot(1, .1, 1) = 1.418;
    # 121-112 hypot(0, .9, 1) = 1.345
    assert counts_of(widest([points], 3)) == [(3, 2, 3), (3, 3, 2), (2, 3, 3)]


def test_far_apart_points_of_three_tasks_are_no_neighbours():
    points = {(4, 1, 1): (0.0, 1.0, 1.0), (1, 4, 1): (1.0, 0.0, 1.0), (1, 1, 4): (1.0, 1.0, 0.0)}
    assert widest([points], 3) == ()


def test_nothing_to_fill():
    assert widest([{(1, 1): (0.5, 0.5)}], 2) == ()
    one_dominates = {(1, 2): (0.0, 0.0), (2, 1): (1.0, 1.0)}
    assert widest([one_dominates], 2) == ()


def test_a_metric_that_never_changes_says_nothing():
    flat = {counts: (a, 7.0) for counts, (a, _) in FRONT.items()}
    # One metric alone has one best point, so the front is that point.
    assert widest([flat], 2) == ()
    with_third = {counts: (a, b, 7.0) for counts, (a, b) in FRONT.items()}
    assert counts_of(widest([with_third], 4)) == counts_of(widest([FRONT], 4))


def test_why_there_is_no_gap():
    assert why_no_gaps([FRONT]) == ""
    best = {**dict.fromkeys(FRONT, (1.0, 1.0)), (3, 3): (0.0, 0.0)}
    assert "one priority's point dominates all others" in why_no_gaps([best, best])
    assert why_no_gaps([best, FRONT]) == ""  # one method's gap is enough
    # Of three tasks the corners alone are on the front, and no division apart from each other.
    corners = {(3, 1, 1): (0.0, 1.0, 1.0), (1, 3, 1): (1.0, 0.0, 1.0), (1, 1, 3): (1.0, 1.0, 0.0)}
    between = dict.fromkeys([(2, 2, 1), (2, 1, 2), (1, 2, 2)], (2.0, 2.0, 2.0))
    assert "No two neighbouring priorities are both on a front" in why_no_gaps(
        [{**corners, **between}]
    )
    assert widest([{**corners, **between}], 1) == ()


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


@given(fronts())
def test_new_priorities_are_new_positive_and_a_longer_choice_begins_with_a_shorter_one(methods):
    old = next(iter(methods[0]))
    total = sum(old)
    four = widest(methods, 4)
    assert bool(four) != bool(why_no_gaps(methods))
    for middle in four:
        assert sum(middle.counts) == 2 * total
        assert min(middle.counts) >= 1
        assert any(count % 2 for count in middle.counts)  # so on the finer lattice alone
    assert len(set(counts_of(four))) == len(four)
    assert widest(methods, 2) == four[:2]
    shuffled = [dict(reversed(points.items())) for points in reversed(methods)]
    assert counts_of(widest(shuffled, 4)) == counts_of(four)
