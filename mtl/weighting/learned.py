"""What the methods have in common that learn one number s a task by gradient descent."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mtl.weighting.base import Weighting
from mtl.weighting.inputs import Losses


class TaskAdam(nn.Module):
    """Adam without weight decay (Kingma and Ba 2015, algorithm 1) over one number a task.

    A task that is not `counted` in a step is left as it was: its moments do not decay, its own
    count of steps stands still, and no momentum moves it. `torch.optim.Adam` on a vector would
    move it on. With every task counted the two are the same. The state is buffers: it follows the
    weighting to its device and into its checkpoint.

    Args:
        num_tasks: how many numbers.
        learning_rate: positive.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    first_moments: Float[Tensor, " tasks"]
    second_moments: Float[Tensor, " tasks"]
    steps: Int[Tensor, " tasks"]
    calls: Int[Tensor, " tasks"]
    """In how many micro-batches since the last step each task was present."""

    def __init__(self, num_tasks: int, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.register_buffer("first_moments", torch.zeros(num_tasks, dtype=torch.float64))
        self.register_buffer("second_moments", torch.zeros(num_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(num_tasks, dtype=torch.int64))
        self.register_buffer("calls", torch.zeros(num_tasks, dtype=torch.int64))

    @torch.no_grad()
    def change(
        self, gradients: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        """Take a step and return what to add to the numbers; 0 for tasks not counted."""
        first = torch.lerp(gradients, self.first_moments, self.BETA1)
        second = torch.lerp(gradients**2, self.second_moments, self.BETA2)
        self.first_moments.copy_(torch.where(counted, first, self.first_moments))
        self.second_moments.copy_(torch.where(counted, second, self.second_moments))
        self.steps += counted
        steps = self.steps.double()  # a power of whole numbers would be float32
        unbiased_first = first / (1 - self.BETA1**steps)
        unbiased_second = second / (1 - self.BETA2**steps)
        change = -self.learning_rate * unbiased_first / (unbiased_second.sqrt() + self.EPSILON)
        # A where, not a product: a task that never took a step has 0/0 here.
        return torch.where(counted, change, 0.0)


class Learned(Weighting):
    """The overall loss is a sum of terms of (s_i, l_i), minimised over s by an own Adam.

    Over the micro-batches of a step the gradient of s_i is the mean over those in which the task
    was present. A task absent from all of them keeps s_i and the state of its Adam as they were.

    Args:
        start: s at the start, float64, shape (num_tasks,).
        weight_lr: learning rate of s, positive.
    """

    waits_for = "step"

    logs: Tensor
    """s, no parameter: neither the network's optimizer nor a gradient scaler shall touch it."""
    gradient_sums: Tensor

    def __init__(self, tasks: Sequence[str], start: Tensor, weight_lr: float) -> None:
        super().__init__(tasks)
        self.register_buffer("logs", start)
        self.register_buffer("gradient_sums", torch.zeros_like(start), persistent=False)
        self.adam = TaskAdam(len(self.tasks), weight_lr)

    @abstractmethod
    def _terms(
        self, losses: Float[Tensor, " tasks"], logs: Float[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        """Return the term of each task, with gradients to `losses`; `logs` are s; float64."""

    @abstractmethod
    def _log_gradients(
        self, losses: Float[Tensor, " tasks"], logs: Float[Tensor, " tasks"]
    ) -> Float[Tensor, " tasks"]:
        """Return the derivative of each task's term with respect to its s; float64."""

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        found = self._log_gradients(losses.double(), self.logs)
        self.gradient_sums += torch.where(counted, found, 0.0)
        self.adam.calls += counted

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        terms = self._terms(losses.double(), self.logs)
        return torch.where(present, terms, 0.0).sum().to(losses.dtype)

    def _learn(self, losses_again: Callable[[], Losses] | None) -> None:
        del losses_again
        calls = self.adam.calls
        self.logs += self.adam.change(self.gradient_sums / calls.clamp(min=1), calls > 0)
        self.gradient_sums.zero_()
        calls.zero_()
