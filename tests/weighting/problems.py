"""Small problems on which every weighting can be driven, whether it looks at gradients or not."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl.spec.methods import METHODS, TORCHJD_METHODS
from mtl.spec.tasks import DECLARED_TASKS
from mtl.weighting import WEIGHTINGS, build_weighting
from mtl.weighting.base import Weighting

F64 = torch.float64
EVERY_METHOD = pytest.mark.parametrize("method", sorted(WEIGHTINGS))
GRADIENTS = {f"torchjd:{name}" for name in TORCHJD_METHODS if name != "FAMO"}
"""Methods that combine gradients, without an overall loss."""
SOLVERS = {"torchjd:CAGrad": 1e-3, "torchjd:FairGrad": 1e-4, "torchjd:NashMTL": 1e-2}
"""Relative accuracy to which an iterative solver stops; the others are exact."""
VALUES = torch.tensor([0.3, 0.02, 5.0], dtype=F64)
"""Losses of three tasks, decades apart."""
NAMES = ("depth", "normal", "segmentation", "a", "b", "c", "d", "e", "f")


class Pinned:
    """Losses of prescribed values that depend on a shared vector x and one number o_i a task.

    l_i = c_i (a_i . x) o_i with a_i . x = o_i = 1: the value is c_i, the gradient is c_i a_i at x
    and c_i at o_i. The rows a_i are random with conflicts (seed 5) unless given.
    """

    def __init__(
        self, num_tasks: int, rows: Tensor | None = None, dtype: torch.dtype = F64
    ) -> None:
        if rows is None:
            generator = torch.Generator().manual_seed(5)
            rows = torch.randn(num_tasks, 12, generator=generator, dtype=F64)
            rows = rows - rows.mean(1, keepdim=True) + 1 / 12  # a_i . (1, ..., 1) = 1
        self.rows = rows.to(dtype)
        self.shared = nn.Parameter(torch.ones(rows.shape[1], dtype=dtype))
        self.own = [nn.Parameter(torch.ones((), dtype=dtype)) for _ in range(num_tasks)]

    def terms(self, values: Tensor) -> list[Tensor]:
        """Return the losses one by one."""
        values = values.to(self.rows)
        return [values[i] * (self.rows[i] @ self.shared) * own for i, own in enumerate(self.own)]

    def losses(self, values: Tensor) -> Tensor:
        return torch.stack(self.terms(values))

    @property
    def parameters(self) -> tuple[list[nn.Parameter], list[list[nn.Parameter]]]:
        """What `backward` takes: the shared parameters, and a list of each task's own."""
        return [self.shared], [[own] for own in self.own]

    def take(self, weighting: Weighting, values: Tensor, present: Tensor | None = None) -> None:
        """Leave the gradients of one call; the parameters stay where they are."""
        self.shared.grad = None
        for own in self.own:
            own.grad = None
        weighting.backward(self.losses(values), present, *self.parameters)

    def again(self, values: Tensor) -> Tensor:
        """Return the losses after a step, for FAMO: each task's fell by a factor of its own."""
        return values * (0.5 + 0.4 * torch.sigmoid(self.rows[:, 0])).to(values)

    def own_gradients(self) -> Tensor:
        return torch.stack([torch.zeros(()).to(o) if o.grad is None else o.grad for o in self.own])


def run(weighting: Weighting, losses: Tensor, rows: Tensor | None = None) -> list[Tensor | None]:
    """Feed losses (periods, steps, tasks) with a step after each; return weights by period."""
    problem = Pinned(losses.shape[-1], rows)
    weights = []
    for period in losses:
        for values in period:
            problem.take(weighting, values)
            weighting.step(lambda values=values: problem.again(values))
        weighting.end_period()
        weights.append(weighting.weights)
    return weights


class Descent:
    """Gradient descent on n least-squares tasks with a shared vector; the parameters move."""

    def __init__(self, num_tasks: int, seed: int = 3, dtype: torch.dtype = F64) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=F64).to(dtype)

        self.matrices, self.targets = draw(num_tasks, 3, 6), draw(num_tasks, 3)
        self.shared = nn.Parameter(draw(6))
        self.own = [nn.Parameter(draw(3)) for _ in range(num_tasks)]

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [self.shared, *self.own]

    def losses(self, step: int) -> Tensor:
        """Return the losses of the batch of `step`, above 0.1."""
        inputs = self.matrices * (1 + 0.1 * (step % 5))
        return torch.stack(
            [
                (matrix @ self.shared + own - target).square().mean() + 0.1
                for matrix, own, target in zip(inputs, self.own, self.targets, strict=True)
            ]
        )

    def take(
        self, weighting: Weighting, steps: Sequence[int], present: Tensor | None = None
    ) -> None:
        """Take optimizer steps, as training does."""
        for step in steps:
            for parameter in self.parameters:
                parameter.grad = None
            weighting.backward(
                self.losses(step), present, [self.shared], [[own] for own in self.own]
            )
            with torch.no_grad():
                for parameter in self.parameters:
                    if parameter.grad is not None:
                        parameter -= 0.02 * parameter.grad
                weighting.step(lambda step=step: self.losses(step))

    def copy(self) -> "Descent":
        return copy.deepcopy(self)


def build(
    method: str, num_tasks: int = 3, order: tuple[int, ...] | None = None, **options: float
) -> Weighting:
    """Return a weighting with unequal priorities where it takes them, tasks in `order`."""
    order = tuple(range(num_tasks)) if order is None else order
    raw = [i + 1 for i in range(num_tasks)]
    priorities = (
        tuple(raw[i] / sum(raw) for i in order) if METHODS[method].takes_priorities else None
    )
    tasks = tuple(NAMES[i] for i in order)
    kinds = dict.fromkeys(set(tasks) - set(DECLARED_TASKS), "regression")
    return build_weighting(method, tasks, priorities, loss_kinds=kinds, **options)


def series(num_periods: int, steps: int, num_tasks: int, scale: float = 1.0) -> Tensor:
    """Return positive losses (num_periods, steps, num_tasks), decades apart, from seed 7."""
    generator = torch.Generator().manual_seed(7)
    print("series seed 7")
    noise = torch.rand(num_periods, steps, num_tasks, generator=generator, dtype=F64)
    decades = torch.logspace(0, -3, num_tasks, dtype=F64)
    decay = torch.linspace(1, 0.3, num_periods, dtype=F64)[:, None, None]
    return scale * decades * decay * (0.5 + noise)


def equal_states(one: Any, other: Any) -> bool:
    """Compare nested dicts, lists and tuples of tensors and plain values, exactly."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal_states(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal_states, one, other))
    return one == other
