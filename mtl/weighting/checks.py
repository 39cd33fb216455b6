"""Refusals that name the task and say what to do."""

import math
from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor


def check_positive_option(name: str, value: float) -> float:
    """Return `value`; raise a `ValueError` unless it is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"Expected {name} to be positive and finite, got {value}.")
    return value


def check_positive_mean(task: str, mean: float, method: str) -> None:
    """Raise a `ValueError` where the mean loss of a period cannot be divided by."""
    if mean <= 0:
        raise ValueError(
            f"Expected a positive loss of task {task!r}, which {method} divides by, got a mean of "
            f"{mean} over the period. Leave the task out or give it a loss that stays above 0."
        )


def refuse_losses(
    tasks: Sequence[str],
    losses: Float[Tensor, " tasks"],
    bad: Bool[Tensor, " tasks"],
    expected: str,
    remedy: str,
) -> None:
    """Raise a `ValueError` for the first task that is `bad`, if there is one.

    Waits for the device, since the answer decides what the host does next.

    Args:
        tasks: names, in the order of the losses.
        losses: shown in the message.
        bad: True where the loss is refused.
        expected: such as `a positive first loss`.
        remedy: what the user can do, a sentence.
    """
    for task, loss, is_bad in zip(tasks, losses.tolist(), bad.tolist(), strict=True):
        if is_bad:
            raise ValueError(f"Expected {expected} of task {task!r}, got {loss}. {remedy}")
