"""Adam for one number a task against torch's, and what absence means to it."""

import pytest
import torch
from torch import nn

from mtl.weighting.learned import TaskAdam

F64 = torch.float64


def test_with_every_task_counted_it_is_torchs_adam() -> None:
    generator = torch.Generator().manual_seed(11)
    print("seed 11")
    theirs = nn.Parameter(torch.zeros(4, dtype=F64))
    reference = torch.optim.Adam([theirs], lr=0.03)
    ours, adam = torch.zeros(4, dtype=F64), TaskAdam(4, 0.03)
    for _ in range(50):
        gradient = torch.randn(4, generator=generator, dtype=F64) * torch.logspace(-6, 3, 4)
        theirs.grad = gradient.clone()
        reference.step()
        ours += adam.change(gradient, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=0)


def test_task_not_counted_is_as_if_the_step_had_not_been() -> None:
    # Each task against an Adam of its own that takes only the steps in which it was counted.
    generator = torch.Generator().manual_seed(12)
    print("seed 12")
    theirs = [nn.Parameter(torch.zeros((), dtype=F64)) for _ in range(3)]
    references = [torch.optim.Adam([p], lr=0.1) for p in theirs]
    ours, adam = torch.zeros(3, dtype=F64), TaskAdam(3, 0.1)
    for _ in range(40):
        gradient = torch.randn(3, generator=generator, dtype=F64)
        counted = torch.rand(3, generator=generator) < 0.6
        counted[2] = False  # never
        change = adam.change(gradient, counted)
        assert (change[~counted] == 0).all()
        ours += change
        for i in range(3):
            if counted[i]:
                theirs[i].grad = gradient[i].clone()
                references[i].step()
    torch.testing.assert_close(ours, torch.stack([p.detach() for p in theirs]))
    assert ours[2] == 0


def test_descend_takes_the_mean_over_the_calls_of_each_task() -> None:
    # Summed gradients (6, 4) over (3, 1) calls are means (2, 4); the rate is 1 and Adam's first
    # step -sign(g), the second moment 0.001 g^2.
    adam = TaskAdam(2, 1.0)
    parameter = nn.Parameter(torch.zeros(2, dtype=F64))
    parameter.grad = torch.tensor([6.0, 4.0], dtype=F64)
    adam.calls += torch.tensor([3, 1])
    adam.descend(parameter)
    assert parameter.tolist() == pytest.approx([-1, -1])
    assert adam.second_moments.tolist() == pytest.approx([0.004, 0.016])
    assert parameter.grad is None
    assert adam.calls.tolist() == [0, 0]
    adam.descend(parameter)  # without a gradient nothing moves
    assert parameter.tolist() == pytest.approx([-1, -1])
