"""GradNorm: its gradient, its parts of a step, what is kept where tasks are absent."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl.weighting import build_weighting
from mtl.weighting.gradnorm import MIN_SHARE, GradNorm, weight_gradients
from tests.weighting.problems import F64, Descent, Pinned

ALL = torch.ones(3, dtype=torch.bool)


def gradnorm(num_tasks: int = 3, **options: float) -> GradNorm:
    weighting = build_weighting("gradnorm", tuple("abcdefghi"[:num_tasks]), **options)
    assert isinstance(weighting, GradNorm)
    return weighting


def take(weighting: GradNorm, problem: Pinned, *values: float, **more: Any) -> None:
    problem.take(weighting, torch.tensor(values, dtype=F64), **more)
    weighting.step()


def test_closed_form_is_the_gradient_by_double_backward() -> None:
    # sum_i | ||grad_W(w_i l_i)|| - stopgrad(mean(G) r_i^alpha) |, differentiated through the
    # gradients of a small network; alpha 1.5. W is shared, u_i each task's own.
    generator = torch.Generator().manual_seed(21)
    print("seed 21")
    matrix = nn.Parameter(torch.randn(4, 4, generator=generator, dtype=F64))
    own = torch.randn(3, 4, generator=generator, dtype=F64)
    inputs = torch.randn(5, 4, generator=generator, dtype=F64)
    losses = torch.tanh(inputs @ matrix).matmul(own.T).square().mean(0)
    first = torch.tensor([0.9, 0.4, 2.0], dtype=F64)
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=F64, requires_grad=True)

    def grad(loss: Tensor, create: bool) -> Tensor:
        return torch.autograd.grad(loss, matrix, create_graph=create, retain_graph=True)[0]

    scaled = torch.stack([grad(weights[i] * losses[i], True).norm() for i in range(3)])
    ratios = (losses / first).detach()
    targets = (scaled.mean() * (ratios / ratios.mean()) ** 1.5).detach()
    (expected,) = torch.autograd.grad((scaled - targets).abs().sum(), weights)

    norms = torch.stack([grad(losses[i], False).norm() for i in range(3)])
    got = weight_gradients(weights.detach(), norms, ratios, ALL, 1.5)
    torch.testing.assert_close(got, expected)


def test_norms_are_of_the_last_shared_layer() -> None:
    problem = Pinned(3)
    weighting = gradnorm()
    problem.take(weighting, torch.tensor([2.0, 0.5, 1.0], dtype=F64))
    expected = problem.rows.norm(dim=1) * torch.tensor([2.0, 0.5, 1.0], dtype=F64)
    torch.testing.assert_close(weighting.norm_sums, expected)
    assert GradNorm.uses_last_shared_layer


def test_gradients_of_a_step_use_the_weights_before_it() -> None:
    problem, weighting = Descent(3), gradnorm(weight_lr=0.2)
    problem.take(weighting, [0])
    weights = weighting.weights
    assert not torch.allclose(weights, torch.full((3,), 1 / 3, dtype=F64))
    for parameter in problem.parameters:
        parameter.grad = None
    (weights @ problem.losses(1)).backward()
    expected = [parameter.grad.clone() for parameter in problem.parameters]
    for parameter in problem.parameters:
        parameter.grad = None
    weighting.backward(problem.losses(1), None, [problem.shared])
    for parameter, gradient in zip(problem.parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)  # those of the tasks alone included


def test_one_partial_backward_pass_a_task_and_one_whole() -> None:
    passes = {"own": 0}
    problem, weighting = Pinned(3), gradnorm()
    for own in problem.own:
        own.register_hook(lambda grad: passes.update(own=passes["own"] + 1))
    problem.take(weighting, torch.ones(3, dtype=F64))
    assert passes["own"] == 3  # the whole pass alone reached each task's own parameter


def test_two_micro_batches_are_averaged() -> None:
    one, two, problem = gradnorm(), gradnorm(), Pinned(3)
    parts = torch.tensor([[1.0, 3.0, 2.0], [0.5, 1.0, 4.0]], dtype=F64)
    for weighting in (one, two):
        take(weighting, problem, 1.0, 2.0, 3.0)
    problem.take(one, parts.mean(0))  # norms are linear in the losses here
    for part in parts:
        problem.take(two, part)
    one.step()
    two.step()
    torch.testing.assert_close(one.weights, two.weights, rtol=1e-12, atol=0)


def test_slower_task_gains_weight() -> None:
    # Equal norms, the first task's loss falls more slowly: its target is above its norm.
    weighting, problem = gradnorm(2), Pinned(2, torch.eye(2, dtype=F64))
    take(weighting, problem, 1.0, 1.0)  # G = targets: nothing moves
    assert weighting.weights.tolist() == [0.5, 0.5]
    take(weighting, problem, 0.9, 0.9)
    weighting.norm_sums += 1.0
    weighting.loss_sums += torch.tensor([0.9, 0.3], dtype=F64)
    weighting.adam.calls += 1
    weighting.step()
    assert weighting.weights[0] > 0.5 > weighting.weights[1]


def test_absent_task_keeps_its_weight_and_the_others_their_sum() -> None:
    weighting, problem = gradnorm(), Pinned(3)
    take(weighting, problem, 1.0, 2.0, 3.0)
    take(weighting, problem, 0.9, 1.0, 2.0)
    before = weighting.weights
    present = torch.tensor([True, False, True])
    take(weighting, problem, 0.5, 7.0, 2.0, present=present)
    after = weighting.weights
    assert after[1] == before[1]
    assert after[0] != before[0]
    assert after.sum().item() == pytest.approx(1)
    # The means are over the two present ones: as if the third had never been there.
    pair = weight_gradients(
        before[present], torch.ones(2), torch.tensor([0.5, 1.5]), torch.ones(2) > 0, 1.5
    )
    three = weight_gradients(before, torch.ones(3), torch.tensor([0.5, 99.0, 1.5]), present, 1.5)
    assert three.tolist() == [pair[0].item(), 0, pair[1].item()]


def test_weights_stay_above_the_minimum_share() -> None:
    weighting, problem = gradnorm(2, weight_lr=10.0), Pinned(2, torch.eye(2, dtype=F64))
    for _ in range(3):
        take(weighting, problem, 1.0, 100.0)
    # w_2 would be 1/2 - 10; raised to 0.01 / 2 and renormalised beside w_1 of 10.5.
    assert 0 < weighting.weights[1] <= MIN_SHARE / 2
    assert weighting.weights.sum().item() == pytest.approx(1)


def test_losses_that_all_reach_zero_train_at_one_rate() -> None:
    weighting, problem = gradnorm(), Pinned(3)
    take(weighting, problem, 1.0, 2.0, 3.0)
    take(weighting, problem, 0.0, 0.0, 0.0)
    assert weighting.weights.isfinite().all()


def test_negative_later_loss_is_named_in_the_step() -> None:
    weighting, problem = gradnorm(), Pinned(3)
    take(weighting, problem, 1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="finite loss of at least 0, .* of task 'b'"):
        take(weighting, problem, 1.0, -0.5, 3.0)


def test_calls_of_the_weighting_alone_are_refused_in_the_step() -> None:
    weighting = gradnorm()
    weighting(torch.ones(3))
    with pytest.raises(ValueError, match="backward.losses, shared_parameters=....*'gradnorm'"):
        weighting.step()
