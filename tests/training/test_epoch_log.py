"""Means over an epoch: constant weights stay exact, absent tasks do not count."""

import pytest
import torch

from mtl.training.step import EpochLog

CPU = torch.device("cpu")
ALL = torch.tensor([True, True])


def test_means_by_hand_with_an_absent_task() -> None:
    log = EpochLog(2, CPU)
    log.add(torch.tensor([1.0, 4.0]), ALL, torch.tensor([0.5, 0.5], dtype=torch.float64))
    log.add(
        torch.tensor([3.0, float("nan")]),
        torch.tensor([True, False]),
        torch.tensor([0.1, 0.9], dtype=torch.float64),
    )
    assert log.losses() == [2.0, 4.0]  # (1 + 3) / 2; 4 alone
    assert log.weights() == pytest.approx([0.3, 0.5])  # (0.5 + 0.1) / 2; 0.5 alone
    assert log.loss_scales() == pytest.approx([0.4, 2.0])  # (0.5 x 1 + 0.1 x 3) / 2; 0.5 x 4


def test_constant_weight_is_its_own_mean_to_the_last_digit() -> None:
    log = EpochLog(2, CPU)
    weights = torch.tensor([1 / 3, 0.1], dtype=torch.float64)
    for _ in range(1000):
        log.add(torch.rand(2), ALL, weights)
    assert log.weights() == weights.tolist()


def test_absent_throughout_and_without_weights_is_none() -> None:
    log = EpochLog(2, CPU)
    log.add(torch.ones(2), torch.tensor([True, False]), torch.ones(2, dtype=torch.float64))
    assert log.losses() == [1.0, None]
    assert log.weights() == [1.0, None]
    assert log.loss_scales() == [1.0, None]
    log.add(torch.ones(2), ALL, None)
    assert log.weights() is None
    assert log.loss_scales() is None
    assert log.losses() == [1.0, 1.0]
