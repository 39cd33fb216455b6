"""Trends: curves over epochs and seeds, and how far the loss scales end apart."""

import math
from typing import Any

import pytest

from analysis.compute.curves import check_records, trends
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


def test_curves_are_means_and_ranges_over_the_seeds_that_have_a_value() -> None:
    found = trends(
        {
            0: [record(1, [1.0, 4.0]), record(2, [2.0, None])],
            3: [record(1, [3.0, 6.0])],
        },
        TASKS,
    )
    depth, segmentation = found.curves["loss_scales"]
    assert found.seeds == (0, 3)
    assert depth.epochs == (1, 2)
    assert depth.means == (2.0, 2.0)  # (1 + 3) / 2, then seed 0 alone
    assert (depth.lows, depth.highs, depth.counts) == ((1.0, 2.0), (3.0, 2.0), (2, 1))
    # No seed has a segmentation scale at epoch 2: it is left out, not 0.
    assert (segmentation.epochs, segmentation.means) == ((1,), (5.0,))


def test_a_method_lacks_what_its_records_do_not_hold() -> None:
    found = trends({0: [record(1), record(2)]}, TASKS)
    assert set(found.curves) == {"losses"}
    assert found.spread is None
    # LSB has difficulties from its third period on.
    lsb = trends({0: [record(1), record(2, difficulties=[0.9, 1.1])]}, TASKS)
    assert [curve.epochs for curve in lsb.curves["difficulties"]] == [(2,), (2,)]


def test_a_task_absent_throughout_has_an_empty_curve() -> None:
    depth, segmentation = trends({0: [record(1, losses=[1.0, None])]}, TASKS).curves["losses"]
    assert depth.means == (1.0,)
    assert (segmentation.epochs, segmentation.means, segmentation.counts) == ((), (), ())


def test_the_spread_is_of_each_seed_and_settles_where_it_stays_near() -> None:
    records = {
        # Ratios 4, 1.5, 2, 1.25, 1.2: near for good from epoch 4 on.
        0: [record(e, s) for e, s in enumerate(
            ([1.0, 4.0], [1.0, 1.5], [2.0, 1.0], [1.0, 1.25], [1.2, 1.0]), start=1)],
        1: [record(1, [1.0, 1.0]), record(5, [1.0, 3.0])],
    }  # fmt: skip
    spread = trends(records, TASKS).spread
    assert spread is not None
    assert spread.epochs == (5, 5)
    assert spread.ratios == (1.2, 3.0)
    assert spread.median == pytest.approx(2.1)
    assert spread.settled == (4, None)
    always = trends({0: [record(2, [1.0, 1.5])]}, TASKS).spread
    assert always is not None
    assert always.settled == (2,)  # at 1.5 counts as within


@pytest.mark.parametrize("scales", [[1.0, None], [1.0, 0.0], [-1.0, 2.0], None])
def test_no_spread_without_positive_scales_at_the_end(scales: Any) -> None:
    assert trends({0: [record(1, [1.0, 1.0]), record(2, scales)]}, TASKS).spread is None


def test_a_single_task_has_no_spread() -> None:
    single = [record(1, [1.0], losses=[1.0])]
    assert trends({0: single}, ("depth",)).spread is None


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([record(1), record(1)], "record 2 is of epoch 1, after epoch 1"),
        ([record("1")], "record 1 is of epoch '1'"),
        ([record(True)], "epoch True"),
        ([record(0)], "epoch 0"),
        ([record(1, [1.0])], "record 1 does not hold 2 loss_scales"),
        ([record(1, losses=5)], "does not hold 2 losses"),
        ([record(1), record(2, [1.0, math.nan])], "record 2 holds loss_scales that are no numbers"),
        ([record(1, [math.inf, 1.0])], "no numbers"),
        ([record(1, [10**400, 1.0])], "no numbers"),
        ([record(1, weights=["0.5", 0.5])], "record 1 holds weights that are no numbers"),
        ([record(1, difficulties=[True, 1.0])], "no numbers"),
    ],
)
def test_records_of_unknown_origin_are_refused_in_words(records: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_records(records, 2)


def test_good_records_pass_with_none_in_them() -> None:
    check_records([record(1, [None, 1.0], losses=[None, None]), record(7)], 2)
