"""Random loss weighting: its draws."""

import pytest
import torch

from mtl.streams import torch_stream
from mtl.weighting import build_weighting
from tests.weighting.problems import F64


def draws(tasks: tuple[str, ...], num_calls: int, seed: int = 0) -> torch.Tensor:
    """Return the weights of calls 1, 2, ..., shape (num_calls, num_tasks)."""
    weighting = build_weighting("rlw", tasks, seed=seed)
    weights = []
    for _ in range(num_calls):
        weighting(torch.ones(len(tasks)))
        weights.append(weighting.weights)
    return torch.stack(weights)


def test_weights_are_a_softmax_of_each_tasks_own_stream() -> None:
    numbers = [
        torch.randn((), generator=torch_stream(4, "rlw", task, 1), dtype=F64) for task in "ab"
    ]
    expected = torch.softmax(torch.stack(numbers), 0)
    torch.testing.assert_close(draws(("a", "b"), 1, seed=4)[0], expected)


def test_another_task_moves_no_other_draw() -> None:
    # Ratios of weights are e^(difference of two draws), whoever else is there.
    two, three = draws(("a", "b"), 5), draws(("c", "b", "a"), 5)
    torch.testing.assert_close(two[:, 0] / two[:, 1], three[:, 2] / three[:, 1])


def test_draws_differ_by_call_and_seed_alone() -> None:
    state = torch.get_rng_state()
    one = draws(("a", "b"), 5)
    assert len(set(one[:, 0].tolist())) == 5
    assert not torch.equal(one, draws(("a", "b"), 5, seed=1))
    assert torch.equal(one, draws(("a", "b"), 5))
    assert torch.equal(state, torch.get_rng_state())


def test_logs_are_standard_normal_but_for_a_common_constant() -> None:
    # log w_a - log w_b is the difference of two standard normal numbers: mean 0, variance 2.
    # 2000 draws: standard errors sqrt(2 / 2000) = 0.032 and 2 sqrt(2 / 2000) = 0.063.
    logs = draws(("a", "b"), 2000).log()
    difference = logs[:, 0] - logs[:, 1]
    assert difference.mean().item() == pytest.approx(0, abs=0.13)
    assert difference.var().item() == pytest.approx(2, abs=0.26)


def test_present_tasks_share_the_weight() -> None:
    weighting = build_weighting("rlw", ("a", "b", "c"))
    weighting(torch.ones(3), torch.tensor([True, False, True]))
    assert weighting.weights[1] == 0
    assert weighting.weights.sum().item() == pytest.approx(1)
