"""Which comparisons a plan asks for, and how many seeds they need."""

import pytest

from mtl.errors import UsageError
from sweeps.plan import Grid, grid_specs, make_plan, primary_of
from sweeps.plan.comparisons import comparisons_of
from sweeps.plan.defaults import DEFAULT_FIELDS

TWO, THREE = ("depth", "segmentation"), ("depth", "normal", "segmentation")


def compared(*methods, seeds=2, primary=None, **changes):
    grid = Grid(
        **{"task_sets": (TWO,), "divisions": 4, "fields": DEFAULT_FIELDS, **changes},
        methods=methods,
        seeds=seeds,
    )
    specs = grid_specs(grid)
    return comparisons_of(make_plan("x", "priority_grid", specs, primary_of(methods, primary)))


@pytest.mark.parametrize(
    ("methods", "asked", "primary"),
    [
        (("lsb", "fixed"), None, ("lsb", "fixed")),
        (("equal", "stch", "dwa", "lsb", "fixed"), None, ("stch", "lsb")),
        (("lsb", "fixed", "stch"), ("stch", "lsb"), ("stch", "lsb")),
        (("lsb", "equal"), None, ()),
    ],
)
def test_primary_is_the_first_two_methods_with_priorities_or_as_asked(methods, asked, primary):
    assert primary_of(methods, asked) == primary


@pytest.mark.parametrize("asked", [("lsb", "stch"), ("lsb", "lsb"), ("lsb", "equal"), ("lsb",), ()])
def test_primary_of_methods_that_are_not_compared_is_refused(asked):
    with pytest.raises(UsageError, match="Those of this sweep: lsb, fixed"):
        primary_of(("lsb", "fixed", "equal"), asked)


def test_nothing_is_said_where_nothing_is_compared():
    assert compared("lsb") is None
    assert compared("lsb", "equal", "dwa") is None


def test_pages_are_those_of_the_report():
    forked = compared("lsb", "fixed", "equal", "stch", fork_at=0.5)
    assert (forked.primary, forked.num_others) == (("lsb", "fixed"), 2)


def test_pairs_beside_the_primary_one_are_counted():
    found = compared("lsb", "fixed", "equal", "stch", "scaled_fixed", baselines=True)
    assert (found.primary, found.num_others, found.num_seeds) == (("lsb", "fixed"), 5, 2)
    assert compared("lsb", "fixed", task_sets=(TWO, THREE)).num_others == 0, "a page each"
    # Two learning rates have a page each, two rates of lsb are methods of their own on one page.
    by_rate = compared("lsb", "fixed", axes={"optimizer.learning_rate": (1e-3, 1e-2)})
    assert (by_rate.primary, by_rate.num_others) == (("lsb", "fixed"), 0)
    several = compared("lsb", "fixed", axes={"method_options.increase_rate": (0.0, 0.1)})
    assert (several.primary, several.num_others) == ((), 3)


@pytest.mark.parametrize(
    ("methods", "seeds", "warned"),
    [
        (("lsb", "fixed"), 5, "with 5 seeds, whatever the outcome: it takes at least 6."),
        (("lsb", "fixed"), 6, None),
        (("lsb", "fixed", "stch"), 1, "with 1 seed, whatever the outcome: it takes at least 6."),
        (("lsb", "fixed", "stch"), 6, None),
    ],
)
def test_warning_comes_where_no_outcome_could_be_significant(methods, seeds, warned):
    found = compared(*methods, seeds=seeds)
    first, *rest = found.to_text()
    assert first.startswith("Primary comparison: lsb against fixed, without correction;")
    assert [line.startswith("Warning: ") for line in rest] == [True] * (warned is not None)
    assert all(line.endswith(warned) for line in rest)
    assert found.to_json()["is_attainable"] is (warned is None)
    assert ("7 seeds on" in first) == (len(methods) == 3)
