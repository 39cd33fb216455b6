"""Few of many, evenly picked."""

from analysis.load.text import evenly


def test_thinning_keeps_the_ends_and_at_most_so_many() -> None:
    assert evenly((1, 2, 3), 3) == [1, 2, 3]
    assert evenly(range(1, 1001), 4) == [1, 334, 667, 1000]
    assert len(set(evenly(range(1, 252), 100))) == 100
    assert evenly([], 2) == []
