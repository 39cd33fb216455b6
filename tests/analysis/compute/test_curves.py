"""Curves over epochs and seeds, and how far the loss scales end apart."""

from typing import Any

import pytest

from analysis.compute.curves import check_records, curves, end_ratios, equal_from
from mtl.records import EpochRecord

TASKS = ("depth", "segmentation")


def record(
    epoch: Any,
    scales: list[float | None] | None = None,
    losses: Any = None,
    weights: Any = None,
    difficulties: Any = None,
) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        losses=[1.0, 2.0] if losses is None else losses,
        weights=weights,
        loss_scales=scales,
        difficulties=difficulties,
        learning_rate=0.1,
        metrics={},
        seconds=1.0,
    )


def rows_of(records: dict[int, list[EpochRecord]], quantity: str) -> list[tuple[Any, ...]]:
    """Return (task, epoch, mean, lowest, highest, number of seeds) of a quantity."""
    found = curves(records, TASKS)
    held = found[found["quantity"] == quantity].drop(columns="quantity")
    return list(held.itertuples(index=False, name=None))


def test_curves_are_means_and_ranges_over_seeds() -> None:
    records = {0: [record(1, [1.0, 4.0]), record(2, [2.0, None])], 3: [record(1, [3.0, 6.0])]}
    assert rows_of(records, "loss_scales") == [
        ("depth", 1, 2.0, 1.0, 3.0, 2),
        ("depth", 2, 2.0, 2.0, 2.0, 1),  # seed 0 alone
        # No seed has a segmentation scale at epoch 2: it is left out, not 0.
        ("segmentation", 1, 5.0, 4.0, 6.0, 2),
    ]


def test_a_method_lacks_what_its_records_do_not_hold() -> None:
    assert set(curves({0: [record(1), record(2)]}, TASKS)["quantity"]) == {"losses"}
    # LSB has difficulties from its third period on.
    lsb = rows_of({0: [record(1), record(2, difficulties=[0.9, 1.1])]}, "difficulties")
    assert [row[:2] for row in lsb] == [("depth", 2), ("segmentation", 2)]
    assert [row[0] for row in rows_of({0: [record(1, losses=[1.0, None])]}, "losses")] == ["depth"]


@pytest.mark.parametrize(
    ("scales", "epoch"),
    [
        ([[1, 9], [1, 2], [1.5, 1]], 2),
        ([[1, 1], [1, 1]], 1),
        ([[1, 1], [1, 2.1], [1, 1]], 3),  # what was lost counts anew
        ([[1, 1], [1, 3]], None),
        ([[1, 1], [1, None]], None),
    ],
)
def test_scales_are_equal_from_the_epoch_after_which_they_never_part(scales, epoch) -> None:
    assert equal_from([record(k + 1, held) for k, held in enumerate(scales)]) == epoch


def test_ratios_are_of_the_last_epoch_of_each_seed() -> None:
    records = {0: [record(1, [1.0, 4.0]), record(2, [1.2, 1.0])], 1: [record(5, [1.0, 3.0])]}
    assert end_ratios(records) == (1.2, 3.0)


@pytest.mark.parametrize("scales", [[1.0, None], [1.0, 0.0], [-1.0, 2.0], [1.0], None])
def test_ratio_needs_positive_last_scales_of_every_task(scales: Any) -> None:
    assert end_ratios({0: [record(1, [1.0, 1.0]), record(2, scales)]}) == ()


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([record(1), record(1)], "of epoch 1 comes after epoch 1"),
        ([record(0)], "of epoch 0"),
        ([record(1, [1.0])], "epoch 1 does not hold 2 loss_scales"),
        ([record(1), record(2, [1.0, -1e101])], "epoch 2 holds loss_scales above 1e\\+100"),
    ],
)
def test_untrusted_records_are_refused_in_a_sentence(records: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_records(records, 2)


def test_none_is_a_good_value() -> None:
    check_records([record(1, [None, 1.0], losses=[None, None]), record(7)], 2)
