"""Methods that learn one number a task (`uncertainty`, `imtl_l`), and their Adam."""

import math

import pytest
import torch
from torch import nn

from mtl.weighting import build_weighting
from mtl.weighting.base import Weighting
from mtl.weighting.learned import TaskAdam
from tests.weighting.problems import F64

TASKS = ("depth", "normal", "segmentation")


def descend(weighting: Weighting, losses: torch.Tensor, num_steps: int, present=None) -> None:
    for _ in range(num_steps):
        weighting.backward(losses.clone().requires_grad_(), present)
        weighting.step()


def test_adam_is_torchs_but_leaves_tasks_that_do_not_count() -> None:
    # Each task against an Adam of its own that takes only the steps in which it was counted.
    generator = torch.Generator().manual_seed(12)
    print("seed 12")
    theirs = [nn.Parameter(torch.zeros((), dtype=F64)) for _ in range(3)]
    references = [torch.optim.Adam([p], lr=0.1) for p in theirs]
    ours, adam = torch.zeros(3, dtype=F64), TaskAdam(3, 0.1)
    for _ in range(40):
        gradient = torch.randn(3, generator=generator, dtype=F64) * torch.logspace(-6, 3, 3)
        counted = torch.tensor([True, bool(torch.rand((), generator=generator) < 0.6), False])
        change = adam.change(gradient, counted)
        assert (change[~counted] == 0).all()
        ours += change
        for i in range(3):
            if counted[i]:
                theirs[i].grad = gradient[i].clone()
                references[i].step()
    torch.testing.assert_close(ours, torch.stack([p.detach() for p in theirs]), rtol=1e-12, atol=0)
    assert ours[2] == 0


def test_step_descends_the_mean_gradient_over_the_calls_of_each_task() -> None:
    # Gradients at the start, w l - 1: task a (3, 3, 3) in three calls, task b 1 in one. Adam's
    # first step is -rate sign(g), its second moment 0.001 g^2.
    weighting = build_weighting("imtl_l", ("a", "b"), weight_lr=0.1)
    start = weighting.logs.clone()
    both, alone = torch.tensor([True, True]), torch.tensor([True, False])
    for present in (both, alone, alone):
        weighting(torch.tensor([8.0, 4.0], dtype=F64), present)
    weighting.step()
    assert (weighting.logs - start).tolist() == pytest.approx([-0.1, -0.1])
    assert weighting.adam.second_moments.tolist() == pytest.approx([0.009, 0.001])
    weighting.step()  # without a call nothing moves
    assert (weighting.logs - start).tolist() == pytest.approx([-0.1, -0.1])


def test_uncertainty_has_terms_by_kind_of_loss() -> None:
    # n = 3: s0 = log 1.5 for regressions, log 3 for the classification; weights 1/3 each.
    # (2 + 4 + 6) / 3 + (log 1.5 + log 1.5 + log 3) / 2
    weighting = build_weighting("uncertainty", TASKS)
    overall = weighting(torch.tensor([2.0, 4.0, 6.0], dtype=F64, requires_grad=True))
    assert overall.item() == pytest.approx(4 + math.log(1.5) + math.log(3) / 2)
    assert weighting.weights.tolist() == pytest.approx([1 / 3] * 3)
    # d/ds_i = 1/2 - w_i l_i
    assert weighting.gradient_sums.tolist() == pytest.approx([0.5 - 2 / 3, 0.5 - 4 / 3, 0.5 - 2])


def test_kinds_of_loss_can_be_given() -> None:
    # n = 2: s0 = log 2 for a classification, log 1 for a regression.
    kinds = {"a": "classification", "b": "regression"}
    weighting = build_weighting("uncertainty", ("a", "b"), loss_kinds=kinds)
    assert weighting.logs.tolist() == pytest.approx([math.log(2), 0.0])
    with pytest.raises(ValueError, match="loss_kinds of the tasks .'b'. for method 'uncertainty'"):
        build_weighting("uncertainty", ("a", "b"), loss_kinds={"a": "classification"})
    with pytest.raises(ValueError, match="Unknown task 'c' of loss_kinds"):
        build_weighting("uncertainty", ("a", "b"), loss_kinds={"c": "regression"})


@pytest.mark.parametrize(("method", "loss_scale"), [("uncertainty", 0.5), ("imtl_l", 1.0)])
def test_loss_scales_settle_at_one_value(method: str, loss_scale: float) -> None:
    weighting = build_weighting(method, TASKS, weight_lr=0.1)
    losses = torch.tensor([0.01, 3.0, 0.002], dtype=F64)
    descend(weighting, losses, 500)
    assert (weighting.weights * losses).tolist() == pytest.approx([loss_scale] * 3, rel=1e-3)


def test_absent_task_keeps_its_weight_against_its_momentum() -> None:
    weighting = build_weighting("uncertainty", TASKS, weight_lr=0.1)
    losses = torch.tensor([2.0, 4.0, 6.0], dtype=F64)
    descend(weighting, losses, 3)
    before = weighting.weights
    descend(weighting, losses, 1, torch.tensor([True, False, True]))
    after = weighting.weights
    assert after[1] == before[1]
    assert (after[[0, 2]] < before[[0, 2]]).all()


def test_two_micro_batches_are_a_step_on_their_mean() -> None:
    # The gradient is linear in the losses: 1/2 - w l.
    one, two = (build_weighting("uncertainty", TASKS, weight_lr=0.1) for _ in range(2))
    parts = torch.tensor([[2.0, 4.0, 6.0], [3.0, 0.2, 0.4]], dtype=F64)
    for _ in range(3):
        descend(one, parts.mean(0), 1)
        for part in parts:
            two.backward(part.clone().requires_grad_())
        two.step()
    torch.testing.assert_close(one.weights, two.weights, rtol=1e-12, atol=0)
