"""The geometric mean of losses; its formula: `test_agreement.py`."""

import pytest
import torch

from mtl.weighting import build_weighting
from tests.weighting.problems import F64


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e30])
def test_eight_losses_whose_product_float32_cannot_hold(size: float) -> None:
    weighting = build_weighting("gls", tuple("abcdefgh"))
    losses = torch.full((8,), size, requires_grad=True)
    overall = weighting(losses)
    assert overall.dtype == torch.float32
    assert overall.item() == pytest.approx(size)
    overall.backward()
    assert losses.grad.tolist() == pytest.approx([1 / 8] * 8)


def test_absent_tasks_are_left_out_of_the_mean() -> None:
    # sqrt(2 * 8) = 4, not the cube root; weights 4 / (2 l_i), 0 for the absent.
    weighting = build_weighting("gls", ("a", "b", "c"))
    losses = torch.tensor([2.0, torch.nan, 8.0], dtype=F64, requires_grad=True)
    overall = weighting(losses, torch.tensor([True, False, True]))
    assert overall.item() == pytest.approx(4)
    assert weighting.weights.tolist() == pytest.approx([1, 0, 0.25])
    overall.backward()
    assert losses.grad.tolist() == pytest.approx([1, 0, 0.25])


def test_negative_loss_is_named_with_a_remedy() -> None:
    weighting = build_weighting("gls", ("a", "b"))
    with pytest.raises(ValueError, match=r"positive loss of task 'b', got .*leave the task"):
        weighting(torch.tensor([1.0, -1.0]))
