"""The geometric mean of losses."""

import pytest
import torch

from mtl.weighting import build_weighting

F64 = torch.float64
EIGHT = tuple("abcdefgh")


def test_value_and_effective_weights() -> None:
    # G = (2 * 4 * 8)^(1/3) = 4; w_i = 4 / (3 l_i)
    weighting = build_weighting("gls", ("a", "b", "c"))
    overall = weighting(torch.tensor([2.0, 4.0, 8.0], dtype=F64))
    assert overall.item() == pytest.approx(4)
    assert weighting.weights.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 6])


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e30])
def test_eight_losses_whose_product_float32_cannot_hold(size: float) -> None:
    weighting = build_weighting("gls", EIGHT)
    losses = torch.full((8,), size, requires_grad=True)
    overall = weighting(losses)
    assert overall.dtype == torch.float32
    assert overall.item() == pytest.approx(size)
    overall.backward()
    assert losses.grad.tolist() == pytest.approx([1 / 8] * 8)


def test_it_is_the_mean_of_the_present_ones() -> None:
    # sqrt(2 * 8) = 4, not the cube root; weights 4 / (2 l_i), 0 for the absent.
    weighting = build_weighting("gls", ("a", "b", "c"))
    losses = torch.tensor([2.0, torch.nan, 8.0], dtype=F64, requires_grad=True)
    overall = weighting(losses, torch.tensor([True, False, True]))
    assert overall.item() == pytest.approx(4)
    assert weighting.weights.tolist() == pytest.approx([1, 0, 0.25])
    overall.backward()
    assert losses.grad.tolist() == pytest.approx([1, 0, 0.25])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_loss_is_named_in_the_call_with_a_remedy(bad: float) -> None:
    weighting = build_weighting("gls", ("a", "b"))
    with pytest.raises(
        ValueError, match=r"positive, finite loss of task 'b', got .*leave the task"
    ):
        weighting(torch.tensor([1.0, bad]))
