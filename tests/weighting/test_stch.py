"""Smooth Chebyshev scalarisation between its two limits; its formula: `test_agreement.py`."""

import math

import pytest
import torch

from mtl.weighting import build_weighting
from tests.weighting.problems import F64


def test_equal_losses_and_priorities_give_weights_that_sum_to_one() -> None:
    weighting = build_weighting("stch", tuple("abcde"))
    weighting(torch.full((5,), 0.3))
    assert weighting.weights.tolist() == pytest.approx([0.2] * 5)


def test_small_mu_is_the_maximum() -> None:
    # n max(p_i l_i) = 2 * max(0.5, 0.75); exponents of 750 do not overflow.
    weighting = build_weighting("stch", ("a", "b"), (0.25, 0.75), mu=1e-3)
    losses = torch.tensor([2.0, 1.0], requires_grad=True)
    overall = weighting(losses)
    assert overall.item() == pytest.approx(1.5)
    overall.backward()
    assert losses.grad.tolist() == pytest.approx([0, 1.5])


def test_large_mu_is_the_weighted_sum_but_for_a_constant() -> None:
    # n mu log sum exp(x_i / mu) = n mu log n + n mean(x_i) + O(1 / mu)
    weighting = build_weighting("stch", ("a", "b"), (0.25, 0.75), mu=1e6)
    overall = weighting(torch.tensor([2.0, 1.0], dtype=F64))
    assert overall.item() - 2e6 * math.log(2) == pytest.approx(1.25, abs=1e-5)
    assert weighting.weights.tolist() == pytest.approx([0.25, 0.75], rel=1e-5)


def test_concave_fronts_are_reached_that_linear_weights_miss() -> None:
    # Front l = (x, (1 - x^2)^0.5), x in [0, 1]: every weighted sum has its minimum at an end.
    x = torch.linspace(0, 1, 1001, dtype=F64)
    front = torch.stack([x, (1 - x**2).sqrt()], dim=1)
    best = {}
    for method, options in (("fixed", {}), ("stch", {"mu": 1e-3})):
        weighting = build_weighting(method, ("a", "b"), (0.5, 0.5), **options)
        best[method] = x[torch.stack([weighting(point) for point in front]).argmin()].item()
    assert best["fixed"] in (0.0, 1.0)
    assert best["stch"] == pytest.approx(math.sqrt(0.5), abs=2e-3)
