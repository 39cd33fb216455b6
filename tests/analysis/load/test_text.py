"""Numbers and lists in sentences."""

from analysis.load.axes import shown_number
from analysis.load.text import counted, evenly, listed


def test_lists_and_counts_read_as_a_sentence() -> None:
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert counted(1, "priority", "priorities") == "1 priority"
    assert counted(0, "priority", "priorities") == "0 priorities"


def test_numbers_have_a_true_minus_and_zero_has_none() -> None:
    assert shown_number(-0.25, ".2f") == "\N{MINUS SIGN}0.25"
    assert shown_number(-0.001, ".2f") == "0.00"
    assert shown_number(-0.001, ".0%") == "0%"
    assert shown_number(0.0, "+.1f") == "+0.0"
    assert shown_number(1e-9, ".3g") == "1e\N{MINUS SIGN}09"
    assert shown_number(None, ".2f") == "\N{EN DASH}"


def test_subsample_keeps_the_ends_and_at_most_so_many() -> None:
    assert evenly((1, 2, 3), 3) == [1, 2, 3]
    assert evenly(range(1, 1001), 4) == [1, 334, 667, 1000]
    assert len(set(evenly(range(1, 252), 100))) == 100
    assert evenly([], 2) == []
