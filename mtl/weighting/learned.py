"""What the methods have in common that learn one number s a task by gradient descent."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtl.weighting.adam import TaskAdam
from mtl.weighting.base import Weighting


class Learned(Weighting):
    """The overall loss is a sum of terms of (s_i, l_i), minimised over s by an own Adam.

    Over the micro-batches of a step the gradient of s_i is the mean over those in which the task
    was present. A task absent from all of them keeps s_i and the state of its Adam as they were.

    Args:
        tasks: distinct names.
        start: s at the start, float64, shape (num_tasks,).
        weight_lr: learning rate of s, positive.

    Raises:
        ValueError: for a rate that is not positive.
    """

    def __init__(self, tasks: Sequence[str], start: Tensor, weight_lr: float) -> None:
        super().__init__(tasks)
        self.logs = nn.Parameter(start)
        self.adam = TaskAdam(len(self.tasks), weight_lr)

    @abstractmethod
    def _terms(self, losses: Float[Tensor, " tasks"]) -> Float[Tensor, " tasks"]:
        """Return the term of each task, with gradients to `losses` and `logs`; float64."""

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        self.adam.calls += present
        return torch.where(present, self._terms(losses.double()), 0.0).sum().to(losses.dtype)

    def step(self, losses_again: Callable[[], Float[Tensor, " tasks"]] | None = None) -> None:
        """Move s by Adam, after the gradients that `backward` has left."""
        del losses_again
        self.adam.descend(self.logs)
