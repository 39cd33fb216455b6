"""Independent implementations, TorchJD 0.18 and LibMTL 1.1.5, where their definitions are ours.

To 1e-6. Where they differ the comment says how, and where LibMTL is wrong a test shows it.

Not compared: RLW (any draw is right), STCH with LibMTL (1.1.5 has none).
"""

import importlib
import importlib.metadata
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchjd import scalarization

from mtl.weighting import build_weighting
from mtl.weighting.gradnorm import weight_gradients
from tests.weighting.problems import F64, Descent, Pinned

TASKS = ("a", "b", "c")
REGRESSIONS = dict.fromkeys(TASKS, "regression")


def losses_of(seed: int, num: int = 1) -> Tensor:
    print(f"losses seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 3, generator=generator, dtype=F64) + 0.1


def value_and_gradient(function: Any, losses: Tensor) -> tuple[Tensor, Tensor]:
    losses = losses.clone().requires_grad_()
    overall = function(losses)
    (gradient,) = torch.autograd.grad(overall, losses)
    return overall.detach(), gradient


def assert_agree(ours: Any, theirs: Any, losses: Tensor, factor: float = 1.0) -> None:
    """Both value and gradient; ours times `factor`."""
    for one, other in zip(
        value_and_gradient(ours, losses), value_and_gradient(theirs, losses), strict=True
    ):
        torch.testing.assert_close(one * factor, other, rtol=1e-6, atol=1e-9)


def set_numbers(parameter: nn.Parameter, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)


# TorchJD


def test_torchjd_uw() -> None:
    # The same terms for regressions; it starts at weight 1/2 and knows no classification.
    ours = build_weighting("uncertainty", TASKS, loss_kinds=REGRESSIONS)
    theirs = scalarization.UW(3).double()
    numbers = torch.tensor([0.3, -1.0, 2.0], dtype=F64)
    set_numbers(ours.logs, numbers)
    set_numbers(theirs.log_var, numbers)
    assert_agree(ours, theirs, losses_of(1)[0])
    ours(losses_of(1)[0]).backward()
    theirs(losses_of(1)[0]).backward()
    torch.testing.assert_close(ours.logs.grad, theirs.log_var.grad)


def test_torchjd_imtll() -> None:
    # The same terms; it starts at weight 1.
    ours, theirs = build_weighting("imtl_l", TASKS), scalarization.IMTLL(3).double()
    numbers = torch.tensor([0.3, -1.0, 2.0], dtype=F64)
    set_numbers(ours.logs, numbers)
    set_numbers(theirs.log_scale, numbers)
    assert_agree(ours, theirs, losses_of(2)[0])
    ours(losses_of(2)[0]).backward()
    theirs(losses_of(2)[0]).backward()
    torch.testing.assert_close(ours.logs.grad, theirs.log_scale.grad)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_torchjd_dwa(temperature: float) -> None:
    # Its weights sum to n.
    ours = build_weighting("dwa", TASKS, temperature=temperature)
    theirs = scalarization.DWA(temperature)
    for period in range(5):
        for losses in losses_of(period, 4):
            assert_agree(ours, theirs, losses, factor=3)
        ours.end_period()
        theirs.step()


def test_torchjd_geometric_mean() -> None:
    assert_agree(build_weighting("gls", TASKS), scalarization.GeometricMean(), losses_of(3)[0])


@pytest.mark.parametrize("mu", [0.01, 1.0])
def test_torchjd_stch(mu: float) -> None:
    # It lacks our factor n.
    priorities = (0.2, 0.3, 0.5)
    ours = build_weighting("stch", TASKS, priorities, mu=mu)
    theirs = scalarization.STCH(mu, weights=torch.tensor(priorities, dtype=F64))
    assert_agree(ours, theirs, losses_of(4)[0], factor=1 / 3)


def test_torchjd_constant() -> None:
    priorities = (0.2, 0.3, 0.5)
    theirs = scalarization.Constant(torch.tensor(priorities, dtype=F64))
    assert_agree(build_weighting("fixed", TASKS, priorities), theirs, losses_of(5)[0])
    assert_agree(build_weighting("equal", TASKS), scalarization.Mean(), losses_of(5)[0])


# LibMTL


@pytest.fixture
def libmtl(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return LibMTL.weighting alone: the package around it fails with today's torchvision."""
    bare = ModuleType("LibMTL")
    bare.__path__ = [str(importlib.metadata.distribution("libmtl").locate_file("LibMTL"))]
    monkeypatch.setitem(sys.modules, "LibMTL", bare)
    return importlib.import_module("LibMTL.weighting")


def libmtl_method(libmtl: ModuleType, name: str, problem: Descent | Pinned, **more: Any) -> Any:
    """Return a LibMTL weighting with what its trainer would mix in."""
    method = getattr(libmtl, name)()
    mixed_in = SimpleNamespace(
        task_num=3,
        task_name=list(TASKS),
        device="cpu",
        rep_grad=False,
        epoch=0,
        get_share_params=lambda: [problem.shared],
        zero_grad_share_params=lambda: setattr(
            problem.shared, "grad", torch.zeros_like(problem.shared)
        ),
        **more,
    )
    for key, value in vars(mixed_in).items():
        setattr(method, key, value)
    method.init_param()
    return method.to(problem.shared.dtype)


def test_libmtl_uw(libmtl: ModuleType) -> None:
    # The same terms for regressions; it starts at s = -1/2 and knows no classification.
    problem = Pinned(3)
    theirs = libmtl_method(libmtl, "UW", problem)
    ours = build_weighting("uncertainty", TASKS, loss_kinds=REGRESSIONS)
    set_numbers(ours.logs, theirs.loss_scale.detach())
    losses = losses_of(6)[0]
    problem.take(ours, losses)
    ours_gradients = problem.shared.grad, problem.own_gradients()
    problem = Pinned(3)
    weights = theirs.backward(problem.losses(losses))
    torch.testing.assert_close(torch.from_numpy(weights), ours.weights, rtol=1e-6, atol=0)
    torch.testing.assert_close(problem.shared.grad, ours_gradients[0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(problem.own_gradients(), ours_gradients[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(theirs.loss_scale.grad, ours.logs.grad, rtol=1e-6, atol=1e-9)


def test_libmtl_dwa(libmtl: ModuleType) -> None:
    # Its weights sum to n and are float32.
    problem = Pinned(3)
    means = losses_of(7, 5)
    theirs = libmtl_method(libmtl, "DWA", problem, train_loss_buffer=means.T.numpy())
    ours = build_weighting("dwa", TASKS, temperature=0.5)
    for epoch, mean in enumerate(means):
        theirs.epoch = epoch
        weights = theirs.backward(Pinned(3, dtype=torch.float32).losses(mean), T=0.5)
        torch.testing.assert_close(
            torch.from_numpy(weights).double(), 3 * ours.weights, rtol=1e-6, atol=0
        )
        ours(mean)
        ours.end_period()


def test_libmtl_gls_and_its_underflow(libmtl: ModuleType) -> None:
    # For losses near 1 the gradient is ours; the weights that it logs, l / (n prod l), are not
    # the gradient G / (n l). For eight losses of 1e-6 its product is 0 and its gradient NaN.
    problem, ours = Pinned(3), build_weighting("gls", TASKS)
    losses = losses_of(8)[0]
    problem.take(ours, losses)
    expected = problem.shared.grad
    problem = Pinned(3)
    logged = libmtl_method(libmtl, "GLS", problem).backward(problem.losses(losses))
    torch.testing.assert_close(problem.shared.grad, expected, rtol=1e-6, atol=1e-9)
    assert not np.allclose(logged, ours.weights.numpy(), rtol=0.1)

    eight = Pinned(8, dtype=torch.float32)
    theirs = libmtl_method(libmtl, "GLS", eight)
    theirs.task_num = 8
    theirs.backward(eight.losses(torch.full((8,), 1e-6)))
    assert eight.shared.grad.isnan().any()


def test_libmtl_gradnorm_and_its_decoders(libmtl: ModuleType) -> None:
    # Its weights are n softmax(s), ours are descended on themselves and renormalised: dL/ds is
    # our dL/dw through the softmax, n (diag(p) - p p^T) dL/dw. l(0) is the mean of its first
    # epoch, in which all weights are 1. What belongs to one task it leaves unweighted.
    # It computes in float32.
    problem, losses = Pinned(3, dtype=torch.float32), losses_of(9)[0].float()
    first = torch.tensor([1.0, 0.5, 2.0])
    theirs = libmtl_method(libmtl, "GradNorm", problem, train_loss_buffer=first.numpy()[:, None])
    theirs.epoch = 1
    scales = torch.tensor([0.2, -0.3, 0.5])
    set_numbers(theirs.loss_scale, scales)
    weights = torch.from_numpy(theirs.backward(problem.losses(losses), alpha=1.5))
    shares = torch.softmax(scales, 0)
    torch.testing.assert_close(weights, 3 * shares)
    norms = problem.rows.norm(dim=1) * losses
    found = weight_gradients(weights, norms, losses / first, torch.ones(3) > 0, 1.5)
    expected = 3 * (torch.diag(shares) - torch.outer(shares, shares)) @ found
    torch.testing.assert_close(theirs.loss_scale.grad, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        problem.shared.grad, (weights * losses) @ problem.rows, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(problem.own_gradients(), losses)  # and not weights * losses


def test_libmtl_imtl_g(libmtl: ModuleType) -> None:
    # With its scales at 0 its IMTL is IMTL-G, the same equations solved in another way; float32.
    ours, theirs = (Pinned(3, dtype=torch.float32) for _ in range(2))
    losses = losses_of(10)[0].float()
    weighting = build_weighting("torchjd:IMTLG", TASKS)
    ours.take(weighting, losses)
    weights = libmtl_method(libmtl, "IMTL", theirs).backward(theirs.losses(losses))
    torch.testing.assert_close(
        torch.from_numpy(weights).double(), weighting.weights, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(theirs.shared.grad, ours.shared.grad, rtol=1e-4, atol=1e-5)
