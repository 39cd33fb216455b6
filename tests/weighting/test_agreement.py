"""Independent implementations, TorchJD 0.18 and LibMTL 1.1.5, where their definitions are ours.

To 1e-6. Where they differ the comment says how, and where LibMTL is wrong a test shows it.
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
from tests.weighting.problems import F64, Pinned

TASKS = ("a", "b", "c")
PRIORITIES = (0.2, 0.3, 0.5)
LOSSES = torch.tensor([0.31, 1.07, 0.58], dtype=F64)


def assert_agree(ours: Any, theirs: Any, losses: Tensor = LOSSES, factor: float = 1.0) -> None:
    """Compare value and gradient; ours times `factor`."""
    found = []
    for function in (ours, theirs):
        inputs = losses.clone().requires_grad_()
        overall = function(inputs)
        found.append((overall.detach(), torch.autograd.grad(overall, inputs)[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one * factor, other, rtol=1e-6, atol=1e-9)


def set_numbers(parameter: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)


# The same terms, for regressions; theirs start at weights 1/2 and 1, ours at 1/n.
@pytest.mark.parametrize(
    ("method", "theirs", "numbers"),
    [
        ("uncertainty", scalarization.UW(3), "log_var"),
        ("imtl_l", scalarization.IMTLL(3), "log_scale"),
    ],
)
def test_learned_methods_are_torchjds(method: str, theirs: nn.Module, numbers: str) -> None:
    kinds = dict.fromkeys(TASKS, "regression")
    ours, theirs = build_weighting(method, TASKS, loss_kinds=kinds), theirs.double()
    start = torch.tensor([0.3, -1.0, 2.0], dtype=F64)
    set_numbers(ours.logs, start)
    set_numbers(getattr(theirs, numbers), start)
    assert_agree(ours, theirs)
    ours.gradient_sums.zero_()
    ours(LOSSES)
    theirs(LOSSES).backward()
    torch.testing.assert_close(ours.gradient_sums, getattr(theirs, numbers).grad)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_dwa_is_torchjds(temperature: float) -> None:
    # Its weights sum to n.
    ours = build_weighting("dwa", TASKS, temperature=temperature)
    theirs = scalarization.DWA(temperature)
    generator = torch.Generator().manual_seed(7)
    for period in torch.rand(5, 4, 3, generator=generator, dtype=F64) + 0.1:
        for losses in period:
            assert_agree(ours, theirs, losses, factor=3)
        ours.end_period()
        theirs.step()


@pytest.mark.parametrize(
    ("ours", "theirs", "factor"),
    [
        (build_weighting("gls", TASKS), scalarization.GeometricMean(), 1.0),
        (build_weighting("equal", TASKS), scalarization.Mean(), 1.0),
        (
            build_weighting("fixed", TASKS, PRIORITIES),
            scalarization.Constant(torch.tensor(PRIORITIES, dtype=F64)),
            1.0,
        ),
        *(
            (
                build_weighting("stch", TASKS, PRIORITIES, mu=mu),
                scalarization.STCH(mu, weights=torch.tensor(PRIORITIES, dtype=F64)),
                1 / 3,  # it lacks our factor n
            )
            for mu in (0.01, 1.0)
        ),
    ],
)
def test_functions_of_the_losses_are_torchjds(ours: Any, theirs: Any, factor: float) -> None:
    assert_agree(ours, theirs, factor=factor)


@pytest.fixture
def libmtl(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return LibMTL.weighting alone: the package around it fails with today's torchvision."""
    bare = ModuleType("LibMTL")
    bare.__path__ = [str(importlib.metadata.distribution("libmtl").locate_file("LibMTL"))]
    monkeypatch.setitem(sys.modules, "LibMTL", bare)
    return importlib.import_module("LibMTL.weighting")


def libmtl_method(libmtl: ModuleType, name: str, problem: Pinned, **more: Any) -> Any:
    """Return a LibMTL weighting with what its trainer would mix in."""
    method = getattr(libmtl, name)()
    mixed_in = SimpleNamespace(
        task_num=len(problem.own),
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


def test_gls_is_libmtls_but_for_its_underflow(libmtl: ModuleType) -> None:
    # For losses near 1 the gradient is ours; the weights that it logs, l / (n prod l), are not
    # the gradient G / (n l). For eight losses of 1e-6 its product is 0 and its gradient NaN.
    problem, ours = Pinned(3), build_weighting("gls", TASKS)
    problem.take(ours, LOSSES)
    expected = problem.shared.grad
    problem = Pinned(3)
    logged = libmtl_method(libmtl, "GLS", problem).backward(problem.losses(LOSSES))
    torch.testing.assert_close(problem.shared.grad, expected, rtol=1e-6, atol=1e-9)
    assert not np.allclose(logged, ours.weights.numpy(), rtol=0.1)
    eight = Pinned(8, dtype=torch.float32)
    libmtl_method(libmtl, "GLS", eight).backward(eight.losses(torch.full((8,), 1e-6)))
    assert eight.shared.grad.isnan().any()


def test_gradnorm_is_libmtls_but_for_its_decoders(libmtl: ModuleType) -> None:
    # Its weights are n softmax(s), ours are descended on themselves and renormalised: dL/ds is
    # our dL/dw through the softmax, n (diag(p) - p p^T) dL/dw. l(0) is the mean of its first
    # epoch, in which all weights are 1. What belongs to one task it leaves unweighted.
    # It computes in float32.
    problem, losses = Pinned(3, dtype=torch.float32), LOSSES.float()
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


def test_imtl_g_is_libmtls(libmtl: ModuleType) -> None:
    # With its scales at 0 its IMTL is IMTL-G, the same equations solved in another way; float32.
    ours, theirs = (Pinned(3, dtype=torch.float32) for _ in range(2))
    weighting = build_weighting("torchjd:IMTLG", TASKS)
    ours.take(weighting, LOSSES)
    weights = libmtl_method(libmtl, "IMTL", theirs).backward(theirs.losses(LOSSES))
    torch.testing.assert_close(
        torch.from_numpy(weights).double(), weighting.weights, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(theirs.shared.grad, ours.shared.grad, rtol=1e-4, atol=1e-5)
