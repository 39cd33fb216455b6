"""The learning rate of each step."""

import math

from mtl.spec import OptimizerSpec


def learning_rate_at(optimizer: OptimizerSpec, step: int, num_steps: int) -> float:
    """Return the learning rate of a step, counted from 0, of `num_steps`.

    A linear rise from 0 over `warmup_share` of the steps, then the schedule: `constant` (the
    supplement names none), or `linear` or `cosine` down to 0 after the last step.
    """
    warmup_steps = optimizer.warmup_share * num_steps
    if step < warmup_steps:
        return optimizer.learning_rate * (step + 1) / (warmup_steps + 1)
    if optimizer.schedule == "constant":
        return optimizer.learning_rate
    if optimizer.schedule == "linear":
        return optimizer.learning_rate * (num_steps - step) / (num_steps - warmup_steps)
    progress = (step - warmup_steps) / (num_steps - warmup_steps)
    return optimizer.learning_rate * (1 + math.cos(math.pi * progress)) / 2
