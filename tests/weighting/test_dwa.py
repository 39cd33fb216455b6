"""Dynamic weight average against its equation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.weighting import build_weighting
from tests.weighting.problems import F64

loss = st.floats(1e-4, 1e2)
histories = st.lists(st.tuples(loss, loss, loss), min_size=3, max_size=6)


def feed(weighting, means) -> None:
    for mean in means:
        weighting(torch.tensor(mean, dtype=F64))
        weighting.end_period()


@settings(max_examples=40)
@given(histories, st.floats(0.1, 10))
def test_weights_are_a_softmax_of_the_ratios_of_means(
    means: list[tuple[float, float, float]], temperature: float
) -> None:
    weighting = build_weighting("dwa", ("a", "b", "c"), temperature=temperature)
    feed(weighting, means)
    ratios = [new / old for new, old in zip(means[-1], means[-2], strict=True)]
    largest = max(ratios)
    powers = [math.exp((ratio - largest) / temperature) for ratio in ratios]
    expected = [power / sum(powers) for power in powers]
    assert weighting.weights.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_weights_are_equal_in_the_first_two_periods() -> None:
    weighting = build_weighting("dwa", ("a", "b"))
    feed(weighting, [(1.0, 4.0)])
    assert weighting.weights.tolist() == [0.5, 0.5]
    feed(weighting, [(0.5, 4.0)])
    assert weighting.weights[1] > 0.5


def test_mean_of_the_period_counts() -> None:
    # Means 2 and 4, then 1 and 4: ratios 0.5 and 1.
    weighting = build_weighting("dwa", ("a", "b"), temperature=1.0)
    for period in ([(1.0, 4.0), (3.0, 4.0)], [(0.2, 3.0), (1.8, 5.0)]):
        for step in period:
            weighting(torch.tensor(step, dtype=F64))
        weighting.end_period()
    assert weighting.weights[0].item() == pytest.approx(1 / (1 + math.exp(0.5)))


def test_task_first_seen_late_has_ratio_one() -> None:
    weighting = build_weighting("dwa", ("a", "b"), temperature=1.0)
    alone = torch.tensor([True, False])
    for _ in range(3):
        weighting(torch.tensor([1.0, 9.0]), alone)
        weighting.end_period()
        assert weighting.weights.tolist() == pytest.approx([0.5, 0.5])
    feed(weighting, [(1.0, 9.0)])  # the first mean of b
    assert weighting.weights.tolist() == pytest.approx([0.5, 0.5])
    feed(weighting, [(1.0, 18.0)])  # ratios 1 and 2
    assert weighting.weights[1].item() == pytest.approx(1 / (1 + math.exp(-1)))
