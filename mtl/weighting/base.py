"""What every weighting has in common: the period means and the call that training makes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtl.errors import UsageError
from mtl.spec import check_priorities


class Weighting(nn.Module, ABC):
    """Turns the task losses into the overall loss that is back-propagated.

    A method is a subclass with a `weights` property and one of: `_update_weights`, if its weights
    are set again after each period; `_overall`, if the overall loss is another function of the
    losses; `step`, if it learns its weights; `backward`, if it looks at the gradients of each
    task. Everything that a resumed run needs is in `state_dict()`.

    In each optimizer step training calls `backward` once a micro-batch, then the optimizer, then
    `step`; and `end_period` whenever a period is over.

    Args:
        tasks: distinct names; their order is the order of losses and weights.

    Raises:
        ValueError: for no task or one that is named twice.
    """

    uses_last_shared_layer: ClassVar[bool] = False
    """True where `backward` wants the last shared layer alone as `shared_parameters`."""
    divides_by_means: ClassVar[str] = ""
    """What messages call a method that divides by the mean of each loss; empty for the others."""

    period_sums: Tensor
    period_counts: Tensor

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise UsageError(f"Expected distinct task names, got {list(tasks)}.")
        # float64: a period may have thousands of steps and losses of 1e-8.
        self.register_buffer("period_sums", torch.zeros(len(self.tasks), dtype=torch.float64))
        self.register_buffer("period_counts", torch.zeros(len(self.tasks), dtype=torch.int64))

    def forward(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " _"] | None = None
    ) -> Float[Tensor, ""]:
        """Return the overall loss and add the losses to the sums behind the period means.

        Args:
            losses: one scalar a task, with gradients.
            present: False for a task without labels in this batch, which then enters neither the
                overall loss nor its period mean; None means that all are present.

        Raises:
            ValueError: if there is not one loss a task.
        """
        return self._overall(*self._recorded(losses, present))

    def _recorded(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " _"] | None
    ) -> tuple[Float[Tensor, " tasks"], Bool[Tensor, " tasks"]]:
        """Add to the sums of the period; return the losses, 0 where absent, and present."""
        if losses.shape != (len(self.tasks),):
            raise UsageError(
                f"Expected {len(self.tasks)} losses, one for each of {list(self.tasks)}, "
                f"got a tensor of shape {tuple(losses.shape)}."
            )
        if present is None:
            present = torch.ones(len(self.tasks), dtype=torch.bool, device=losses.device)
        elif present.shape != losses.shape:
            raise UsageError(
                f"Expected present of shape {tuple(losses.shape)}, got {tuple(present.shape)}."
            )
        # A where, not a product: the value of an absent task's loss must not matter, NaN included.
        # Its graph gets a gradient of 0 all the same, so its derivatives must be finite.
        losses = torch.where(present, losses, torch.zeros_like(losses))
        self.period_sums += losses.detach()
        self.period_counts += present
        return losses, present

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        """Return the overall loss; `losses` of absent tasks are zero."""
        del present
        weights = self.weights
        assert weights is not None, "a method without weights has its own _overall or backward"
        return weights.to(losses) @ losses

    @property
    @abstractmethod
    def weights(self) -> Float[Tensor, " tasks"] | None:
        """Effective weights d(overall)/d(losses) now in force, float64, shape (num_tasks,).

        Where they depend on the losses of a call they are those of the last one, 0 for a task that
        was absent from it. None where a method has no such weights, as with some aggregators of
        gradients.
        """

    def period_means(self) -> list[float | None]:
        """Return the mean of each loss over the period so far; None for a task not seen in it."""
        sums, counts = self.period_sums.tolist(), self.period_counts.tolist()
        return [total / count if count else None for total, count in zip(sums, counts, strict=True)]

    @property
    def difficulties(self) -> Float[Tensor, " tasks"] | None:
        """Difficulties behind the weights now in force, or None where the method has none."""
        return None

    def backward(
        self,
        losses: Float[Tensor, " tasks"],
        present: Bool[Tensor, " _"] | None = None,
        shared_parameters: Iterable[nn.Parameter] = (),
        task_parameters: Iterable[Iterable[nn.Parameter]] = (),
    ) -> None:
        """Accumulate the gradients of the overall loss; what training calls each step.

        Args:
            losses: as in `forward`.
            present: as in `forward`.
            shared_parameters: parameters through which every task passes; for methods that look
                at gradients.
            task_parameters: the parameters of each task alone; likewise.
        """
        del shared_parameters, task_parameters
        self(losses, present).backward()

    def step(self, losses_again: Callable[[], Float[Tensor, " tasks"]] | None = None) -> None:
        """Update what is learnt about the weights; called after each step of the optimizer.

        Args:
            losses_again: gives the losses of the same batch, computed again with the network as
                it is after the step, without gradients; for the method that compares the two.
        """
        del losses_again

    def end_period(self, epochs: float = 1.0) -> None:
        """Close the period: form the mean of each loss over it and set the weights of the next.

        Args:
            epochs: how long the period was; 0.5 for half of one epoch's steps.

        Raises:
            ValueError: naming the task, if the mean of a loss is not finite (or not positive, for
                methods that divide by it).
        """
        if not epochs > 0:
            raise UsageError(f"Expected a period longer than 0 epochs, got {epochs}.")
        for task, mean in zip(self.tasks, self.period_means(), strict=True):
            if mean is not None:
                self._check_mean(task, mean)
        self._update_weights(
            self.period_sums / self.period_counts.clamp(min=1), self.period_counts > 0, epochs
        )
        self.period_sums.zero_()
        self.period_counts.zero_()

    def _check_mean(self, task: str, mean: float) -> None:
        if not float("-inf") < mean < float("inf"):
            raise UsageError(
                f"Expected a finite loss of task {task!r}, got a mean of {mean} over the period. "
                "Lower the learning rate or look at its targets."
            )
        if self.divides_by_means and mean <= 0:
            raise UsageError(
                f"Expected a positive loss of task {task!r}, which {self.divides_by_means} divides "
                f"by, got a mean of {mean} over the period. Leave the task out or give it a loss "
                "that stays above 0."
            )

    def _update_weights(
        self, means: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"], epochs: float
    ) -> None:
        """Set the weights of the next period.

        Args:
            means: mean loss of each task over the period, float64.
            counted: False for a task that was absent the whole period; its mean is meaningless.
            epochs: how long the period was.
        """


class Prioritised(Weighting):
    """A method that the user's priorities steer.

    Args:
        tasks: distinct names.
        priorities: one positive number a task, summing to 1; None means equal ones.

    Raises:
        ValueError: for priorities outside these ranges.
    """

    priorities: Tensor
    """float64, shape (num_tasks,)."""

    def __init__(self, tasks: Sequence[str], *, priorities: Sequence[float] | None = None) -> None:
        super().__init__(tasks)
        given = torch.tensor(check_priorities(priorities, self.tasks), dtype=torch.float64)
        self.register_buffer("priorities", given, persistent=False)


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
            raise UsageError(f"Expected {expected} of task {task!r}, got {loss}. {remedy}")
