"""Fixed weights in units of the first losses."""

import pytest
import torch

from mtl.weighting import build_weighting
from tests.weighting.problems import F64


def test_first_step_already_has_shares_in_the_ratio_of_the_priorities() -> None:
    weighting = build_weighting("scaled_fixed", ("a", "b", "c"), (0.2, 0.3, 0.5))
    losses = torch.tensor([1e-3, 5.0, 40.0], dtype=F64)
    overall = weighting(losses)
    assert (weighting.weights * losses / overall).tolist() == pytest.approx([0.2, 0.3, 0.5])
    kept = weighting.weights
    assert kept.sum().item() == pytest.approx(1)
    assert weighting(torch.zeros(3, dtype=F64)).item() == 0  # a later loss may be 0
    assert torch.equal(weighting.weights, kept)


def test_tasks_seen_later_take_their_place_then() -> None:
    # p = (0.2, 0.3, 0.5). First call l = (2, -, 1): p / l = (0.1, 0.5), sum 0.6, S has 0.7 of p:
    #   (0.1, 0.5) * 0.7 / 0.6; b keeps 0.3. Then b = 3: p / l = (0.1, 0.1, 0.5) / 0.7.
    weighting = build_weighting("scaled_fixed", ("a", "b", "c"), (0.2, 0.3, 0.5))
    weighting(torch.tensor([2.0, torch.nan, 1.0]), torch.tensor([True, False, True]))
    assert weighting.weights.tolist() == pytest.approx([0.07 / 0.6, 0.3, 0.35 / 0.6])
    weighting(torch.tensor([9.0, 3.0, 9.0]))
    assert weighting.weights.tolist() == pytest.approx([1 / 7, 1 / 7, 5 / 7])


def test_negative_first_loss_is_named() -> None:
    weighting = build_weighting("scaled_fixed", ("a", "b"))
    with pytest.raises(ValueError, match="positive first loss of task 'b'.*divided by it"):
        weighting(torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("method", ["scaled_fixed", "gls"])
def test_refused_loss_is_an_error_of_the_period_where_no_step_waits(method: str) -> None:
    weighting = build_weighting(method, ("a", "b"), skip_nonfinite=True)
    weighting(torch.tensor([1.0, -1.0]))
    weighting(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="positive.* loss of task 'b', got 2 calls"):
        weighting.end_period()
    weighting(torch.tensor([1.0, 2.0]))
    weighting.end_period()  # the next period is a new one
