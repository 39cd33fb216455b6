"""IMTL-L: its terms and where it settles."""

import math

import pytest
import torch

from mtl.weighting import build_weighting

F64 = torch.float64


def test_terms() -> None:
    # n = 2: s0 = -log 2; (3 + 5) / 2 + 2 log 2; d/ds_i = w_i l_i - 1
    weighting = build_weighting("imtl_l", ("a", "b"))
    overall = weighting(torch.tensor([3.0, 5.0], dtype=F64, requires_grad=True))
    assert overall.item() == pytest.approx(4 + 2 * math.log(2))
    overall.backward()
    assert weighting.logs.grad.tolist() == pytest.approx([0.5, 1.5])


def test_it_settles_where_every_loss_scale_is_one() -> None:
    weighting = build_weighting("imtl_l", ("a", "b"), weight_lr=0.1)
    losses = torch.tensor([0.01, 30.0], dtype=F64)
    for _ in range(500):
        weighting.backward(losses.clone().requires_grad_())
        weighting.step()
    assert (weighting.weights * losses).tolist() == pytest.approx([1, 1], rel=1e-3)


def test_in_log_weights_it_is_uncertainty_weighting_with_another_pull() -> None:
    # e^u l - u against e^u l - u/2 (+ a constant), u = log w: a settled weight twice as large.
    settled = {}
    for method in ("imtl_l", "uncertainty"):
        weighting = build_weighting(method, ("a", "b"), weight_lr=0.1)
        for _ in range(500):
            weighting.backward(torch.tensor([0.5, 3.0], dtype=F64, requires_grad=True))
            weighting.step()
        settled[method] = weighting.weights
    torch.testing.assert_close(settled["imtl_l"], 2 * settled["uncertainty"], rtol=1e-3, atol=0)
