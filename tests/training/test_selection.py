"""Which epoch counts: unit-free, on validation, the earlier of two equals."""

import pytest

from mtl.training.checkpoint import validation_error
from tests.training.selecting import selected_epoch

Metrics = dict[str, dict[str, float | None]]


def metrics(delta1: float | None, l1: float | None) -> Metrics:
    return {"depth": {"delta1": delta1}, "edge2d": {"l1": l1}}


def test_error_is_the_geometric_mean_by_hand() -> None:
    # depth: 1 - 0.75 = 0.25; edge2d: 0.01; sqrt(0.25 x 0.01) = 0.05
    assert validation_error(metrics(0.75, 0.01)) == pytest.approx(0.05)
    assert validation_error(metrics(0.75, None)) == pytest.approx(0.25)
    assert validation_error(metrics(None, None)) is None


def test_unit_of_an_error_does_not_matter() -> None:
    epochs = [(0.5, 3.0), (0.7, 2.0), (0.6, 2.2)]
    for unit in (1.0, 1e-6, 1e6):
        assert selected_epoch([metrics(d, unit * e) for d, e in epochs]) == 2


def test_ties_and_what_cannot_be_measured() -> None:
    assert selected_epoch([metrics(0.5, 1.0)] * 3) == 1
    assert selected_epoch([metrics(None, None)] * 3) == 3
    assert selected_epoch([metrics(1.0, 0.0), metrics(0.9, 0.1)]) == 1
