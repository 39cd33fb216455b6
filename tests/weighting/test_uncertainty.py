"""Uncertainty weighting: its terms, where it settles, and what absence means."""

import math

import pytest
import torch

from mtl.weighting import build_weighting

F64 = torch.float64
TASKS = ("depth", "normal", "segmentation")


def test_terms_by_kind_of_loss() -> None:
    # n = 3: s0 = log 1.5 for regressions, log 3 for the classification; weights 1/3 each.
    # (2 + 4 + 6) / 3 + (log 1.5 + log 1.5 + log 3) / 2
    weighting = build_weighting("uncertainty", TASKS)
    losses = torch.tensor([2.0, 4.0, 6.0], dtype=F64, requires_grad=True)
    overall = weighting(losses)
    assert overall.item() == pytest.approx(4 + math.log(1.5) + math.log(3) / 2)
    assert weighting.weights.tolist() == pytest.approx([1 / 3] * 3)
    overall.backward()
    # d/ds_i = 1/2 - w_i l_i
    assert weighting.logs.grad.tolist() == pytest.approx([0.5 - 2 / 3, 0.5 - 4 / 3, 0.5 - 2])


def test_kinds_can_be_given() -> None:
    # n = 2: s0 = log 2 for a classification, log 1 for a regression.
    weighting = build_weighting("uncertainty", ("a", "b"), loss_kinds={"a": "classification"})
    assert weighting.logs.tolist() == pytest.approx([math.log(2), 0.0])
    with pytest.raises(ValueError, match="Unknown task of loss_kinds 'c'"):
        build_weighting("uncertainty", ("a", "b"), loss_kinds={"c": "regression"})


def test_it_settles_where_every_loss_scale_is_a_half_and_the_overall_loss_is_negative() -> None:
    weighting = build_weighting("uncertainty", TASKS, weight_lr=0.1)
    losses = torch.tensor([0.01, 0.3, 0.002], dtype=F64)
    for _ in range(500):
        weighting.backward(losses.clone().requires_grad_())
        weighting.step()
    assert (weighting.weights * losses).tolist() == pytest.approx([0.5] * 3, rel=1e-3)
    assert weighting(losses).item() < 0


def test_absent_task_keeps_its_scale_against_its_momentum() -> None:
    weighting = build_weighting("uncertainty", TASKS, weight_lr=0.1)
    losses = torch.tensor([2.0, 4.0, 6.0], dtype=F64)
    for _ in range(3):
        weighting.backward(losses.clone().requires_grad_())
        weighting.step()
    before = weighting.weights
    weighting.backward(losses.clone().requires_grad_(), torch.tensor([True, False, True]))
    weighting.step()
    after = weighting.weights
    assert after[1] == before[1]
    assert (after[[0, 2]] < before[[0, 2]]).all()


def test_two_micro_batches_are_a_step_on_their_mean() -> None:
    # The gradient is linear in the losses: 1/2 - w l.
    one, two = (build_weighting("uncertainty", TASKS, weight_lr=0.1) for _ in range(2))
    parts = torch.tensor([[2.0, 4.0, 6.0], [3.0, 0.2, 0.4]], dtype=F64)
    for _ in range(3):
        one.backward(parts.mean(0).requires_grad_())
        for part in parts:
            two.backward(part.clone().requires_grad_())
        one.step()
        two.step()
    torch.testing.assert_close(one.weights, two.weights, rtol=1e-12, atol=0)
