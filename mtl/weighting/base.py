"""What every weighting has in common: the period means and the call that training makes."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.amp import GradScaler

from mtl.errors import UsageError
from mtl.spec import check_priorities
from mtl.weighting.inputs import Losses, Present, by_task
from mtl.weighting.ranks import Group, check_ranks_agree, num_ranks, sum_over_ranks

NOT_FINITE = ("a finite loss", "Lower the learning rate or look at its targets.")
"""What `refuse_losses` expects, and the remedy."""

MAX_CALLS_WITHOUT = {"step": 1_000, "end_period": 10_000}
"""After so many calls without the one its method waits for, a weighting warns, once."""


def keeping_dtypes(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `function` of `nn.Module._apply` without its casts: it moves and keeps each dtype.

    A network's `.half()` or `.bfloat16()` must not round the sums and weights of its weighting.
    """

    def moved(tensor: Tensor) -> Tensor:
        result = function(tensor)
        return result if result.dtype == tensor.dtype else tensor.to(result.device)

    return moved


class Weighting(nn.Module, ABC):
    """Turns the task losses into the overall loss that is back-propagated.

    A method is a subclass with a `weights` property and what it needs of: `_update_weights`, if
    its weights are set again after each period; `_overall`, if the overall loss is another
    function of the losses; `_observe`, if it learns from each call; `step`, if it learns after
    each optimizer step; `backward`, if it looks at the gradients of each task. Everything that a
    resumed run needs is in `state_dict()`.

    In each optimizer step training calls `backward` once a micro-batch, then the optimizer, then
    `step`; and `end_period` whenever a period is over. A call in evaluation mode or without
    gradients gives the overall loss and changes nothing.

    Where `torch.distributed` is in use, each call reduces the losses over the ranks, 2n numbers:
    weights and overall loss are those of one process that sees the whole batch, and so is the mean
    over the ranks of the gradients, which `DistributedDataParallel` forms. A task's loss over the
    whole batch is the mean over the ranks that have labels of it.

    Args:
        tasks: distinct names; their order is the order of losses and weights.

    Raises:
        ValueError: for no task or one that is named twice.
    """

    uses_last_shared_layer: ClassVar[bool] = False
    """True where `backward` wants the last shared layer alone as `shared_parameters`."""
    divides_by_means: ClassVar[str] = ""
    """What messages call a method that divides by the mean of each loss; empty for the others."""
    waits_for: ClassVar[str | None] = None
    """The call without which the weights stand still: `step`, `end_period`, or None."""
    steps_per_period: int | None = None
    """After so many calls of `step` a period ends by itself, counted as one epoch; None: never."""
    built_options: Mapping[str, Any] | None = None
    """All that `build_weighting` gave beside tasks and priorities; None where the class was called
    by its name."""
    skip_nonfinite: bool = False
    """False refuses a loss that is not finite. True leaves its step out of all that the weighting
    learns and waits for no device: for a `GradScaler`, which skips the optimizer's step too. What
    else a method refuses, such as a loss of 0, is an error of `end_period` then."""

    process_group: Group = None
    """The ranks that share the batch, of `torch.distributed`; None is all of them."""

    period_sums: Tensor
    period_counts: Tensor
    period_skipped: Tensor

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise UsageError(f"Expected distinct task names, got {list(tasks)}.")
        # float64: a period may have thousands of steps and losses of 1e-8.
        self.register_buffer("period_sums", torch.zeros(len(self.tasks), dtype=torch.float64))
        self.register_buffer("period_counts", torch.zeros(len(self.tasks), dtype=torch.int64))
        skipped = torch.zeros_like(self.period_counts)
        self.register_buffer("period_skipped", skipped, persistent=False)
        self._calls_without = dict.fromkeys(MAX_CALLS_WITHOUT, 0)
        self._steps_in_period = 0
        self._ranks_agree = False
        self._refused: dict[tuple[str, str], Tensor] = {}
        """What was expected, and the remedy -> in how many calls of the period each task's loss was
        another; counted where no step waits for the device."""
        self._rank_factors = torch.ones(len(self.tasks))
        """By how much this rank's gradients count: the mean over ranks is the whole batch's."""

    def forward(self, losses: Losses, present: Present | None = None) -> Float[Tensor, ""]:
        """Return the overall loss and add the losses to the sums behind the period means.

        Args:
            losses: one scalar a task, with gradients: a tensor or a list in the order of the tasks,
                or a dict by name. Half precision is raised to float32.
            present: False for a task without labels in this batch, which then enters neither the
                overall loss nor its period mean; a tensor, a list or a dict likewise. None means
                that all are present.

        Raises:
            ValueError: if there is not one loss a task, or one is not finite while the weighting
                learns (`skip_nonfinite` says otherwise).
        """
        losses, present, _ = self._received(*by_task(self.tasks, losses, present))
        return self._overall(losses, present)

    @property
    def _is_learning(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _received(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> tuple[Float[Tensor, " tasks"], Bool[Tensor, " tasks"], Bool[Tensor, " tasks"]]:
        """Return the losses of the whole batch, 0 where absent, who is present and who counts.

        Over several ranks the values are those of the whole batch; the gradients lead to this
        rank's losses, so that their mean over the ranks is the whole batch's. Whoever counts is
        learnt from: all who are present, or nobody in evaluation and in a step that is skipped.
        """
        losses = losses.to(torch.promote_types(losses.dtype, torch.float32))
        # A where, not a product: the value of an absent task's loss must not matter, NaN included.
        # Its graph gets a gradient of 0 all the same, so its derivatives must be finite.
        losses = torch.where(present, losses, torch.zeros_like(losses))
        if not self._is_learning:
            return losses, present, torch.zeros_like(present)
        losses, present = self._over_ranks(losses, present)
        finite = losses.detach().isfinite()
        if self.skip_nonfinite:
            counted = present & finite.all()
            self.period_skipped += present & ~counted
        else:
            refuse_losses(self.tasks, losses.detach(), ~finite, *NOT_FINITE)
            counted = present
        known = torch.where(counted, losses.detach(), torch.zeros_like(losses))
        self.period_sums += known
        self.period_counts += counted
        self._warn_if_forgotten()
        self._observe(known, counted)
        return losses, present, counted

    def _over_ranks(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> tuple[Float[Tensor, " tasks"], Bool[Tensor, " tasks"]]:
        ranks = num_ranks(self.process_group)
        self._rank_factors = torch.ones_like(losses)
        if ranks == 1:
            return losses, present
        if not self._ranks_agree:
            settings = self._settings()
            # A rank that took up no state, or another one, stands elsewhere.
            counts = {k: v for k, v in self.get_extra_state().items() if isinstance(v, int)}
            check_ranks_agree(f"{settings | counts}", losses.device, self.process_group)
            self._ranks_agree = True
        both = torch.stack([losses.detach().double(), present.double()])
        sums, counts = sum_over_ranks(both, self.process_group)
        self._rank_factors = torch.where(present, ranks / counts.clamp(min=1), 0.0).to(losses)
        means = (sums / counts.clamp(min=1)).to(losses)
        return means + self._rank_factors * (losses - losses.detach()), counts > 0

    def _refuse(
        self,
        losses: Float[Tensor, " tasks"],
        bad: Bool[Tensor, " tasks"],
        expected: str,
        remedy: str,
    ) -> None:
        """Refuse the losses that are `bad`: now, or at the end of the period if no step may wait.

        Raises:
            ValueError: naming the first such task, unless `skip_nonfinite`.
        """
        if not self.skip_nonfinite:
            refuse_losses(self.tasks, losses, bad, expected, remedy)
            return
        counts = self._refused.get((expected, remedy))
        if counts is None:
            counts = self._refused[expected, remedy] = torch.zeros_like(self.period_counts)
        counts += bad

    def _settings(self) -> dict[str, Any]:
        """Return what all ranks must have in common and a state must match; plain values."""
        settings: dict[str, Any] = {
            "method": type(self).__name__,
            "tasks": list(self.tasks),
            "priorities": None,
            "steps_per_period": self.steps_per_period,
        }
        if self.built_options is not None:
            settings["options"] = dict(self.built_options)
        return settings

    def _warn_if_forgotten(self) -> None:
        for call in self._calls_without:
            self._calls_without[call] += 1
        waits_for = self.waits_for
        if waits_for == "end_period" and self.steps_per_period is not None:
            waits_for = "step"
        if waits_for is not None:
            calls = MAX_CALLS_WITHOUT[waits_for]
            if self._calls_without[waits_for] == calls:
                warnings.warn(
                    f"Expected calls of {waits_for}() of the weighting, got none in {calls} calls: "
                    f"its weights stand still. Call {waits_for}() after each "
                    f"{'optimizer step' if waits_for == 'step' else 'epoch'}.",
                    stacklevel=4,
                )

    def _observe(self, losses: Float[Tensor, " tasks"], counted: Bool[Tensor, " tasks"]) -> None:
        """Learn from the losses of a call, before its overall loss is formed.

        Args:
            losses: finite and without gradients; 0 for tasks that are not counted.
            counted: False for a task without labels, and for all in a step that is skipped.
        """

    def _overall(
        self, losses: Float[Tensor, " tasks"], present: Bool[Tensor, " tasks"]
    ) -> Float[Tensor, ""]:
        """Return the overall loss and change nothing; `losses` of absent tasks are zero."""
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
        losses: Losses,
        present: Present | None = None,
        shared_parameters: Iterable[nn.Parameter] = (),
        task_parameters: Iterable[Iterable[nn.Parameter]] = (),
        scaler: GradScaler | None = None,
    ) -> None:
        """Accumulate the gradients of the overall loss; what training calls each step.

        Args:
            losses: as in `forward`.
            present: as in `forward`.
            shared_parameters: parameters through which every task passes; for methods that look
                at gradients.
            task_parameters: the parameters of each task alone; likewise.
            scaler: multiplies the gradients, for `scaler.step(optimizer)` afterwards.
        """
        del shared_parameters, task_parameters
        overall = self(losses, present)
        (overall if scaler is None else scaler.scale(overall)).backward()

    def step(self, losses_again: Callable[[], Losses] | None = None) -> None:
        """Update what is learnt about the weights; called after each step of the optimizer.

        Args:
            losses_again: gives the losses of the same batch, computed again with the network as
                it is after the step, without gradients; for the method that compares the two.
        """
        self._calls_without["step"] = 0
        self._learn(losses_again)
        self._steps_in_period += 1
        if self.steps_per_period is not None and self._steps_in_period >= self.steps_per_period:
            self.end_period()

    def _learn(self, losses_again: Callable[[], Losses] | None) -> None:
        """Update what is learnt, after an optimizer step."""

    def end_period(self, epochs: float = 1.0) -> None:
        """Close the period: form the mean of each loss over it and set the weights of the next.

        Args:
            epochs: how long the period was; 0.5 for half of one epoch's steps.

        Raises:
            ValueError: naming the task, if no loss of the period was finite, the mean is not
                positive for a method that divides by it, or a loss was refused while no step
                waited. The next period begins all the same.
        """
        if not epochs > 0:
            raise UsageError(f"Expected a period longer than 0 epochs, got {epochs}.")
        self._calls_without["end_period"] = self._steps_in_period = 0
        means, counts = self.period_means(), self.period_counts.clone()
        sums, skipped = self.period_sums.clone(), self.period_skipped.tolist()
        refused = {why: counts.tolist() for why, counts in self._refused.items()}
        for sums_of in (self.period_sums, self.period_counts, self.period_skipped):
            sums_of.zero_()
        for counts_of in self._refused.values():
            counts_of.zero_()
        for (expected, remedy), numbers in refused.items():
            for task, number in zip(self.tasks, numbers, strict=True):
                if number:
                    raise UsageError(
                        f"Expected {expected} of task {task!r}, got {number} calls of the period "
                        f"with another. {remedy}"
                    )
        for task, mean, num_skipped in zip(self.tasks, means, skipped, strict=True):
            self._check_mean(task, mean, num_skipped)
        self._update_weights(sums / counts.clamp(min=1), counts > 0, epochs)

    def _check_mean(self, task: str, mean: float | None, num_skipped: int) -> None:
        if mean is None:
            if num_skipped:
                steps = "1 step" if num_skipped == 1 else f"{num_skipped} steps"
                raise UsageError(
                    f"Expected a finite loss of task {task!r} in the period, got {steps} without. "
                    f"{NOT_FINITE[1]}"
                )
            return
        if self.divides_by_means and mean <= 0:
            raise UsageError(
                f"Expected a positive loss of task {task!r}, which {self.divides_by_means} divides "
                f"by, got a mean of {mean} over the period. Leave the task out or give it a loss "
                "that stays above 0."
            )

    def get_extra_state(self) -> dict[str, Any]:
        """Return whose state it is, and what a draw or a count must not wait for the device for."""
        return {**self._settings(), "steps_in_period": self._steps_in_period}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` returned."""
        self._steps_in_period = state.get("steps_in_period", 0)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Refuse the state of another weighting before anything is taken up.

        Raises:
            ValueError: naming what differs.
        """
        # Older releases wrote fewer of the settings, and for most methods none.
        state = state_dict.setdefault(prefix + "_extra_state", {})
        for key, own in self._settings().items():
            if state.get(key, own) != own:
                raise UsageError(
                    f"Expected the state of a weighting with {key} {own}, got one with "
                    f"{state[key]}. Build the weighting as it was when the state was saved."
                )
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Weighting":
        """Move to another device; every number keeps its precision."""
        super()._apply(keeping_dtypes(fn), recurse)
        return self

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

    def set_priorities(self, priorities: Sequence[float]) -> None:
        """Change the priorities between two steps; the next call weights by the new ones.

        All that was learnt of the losses stays. A later `state_dict()` is that of a weighting with
        the new priorities.

        Args:
            priorities: one positive number a task, in the order of the tasks, summing to 1.

        Raises:
            ValueError: for priorities outside these ranges.
        """
        given = torch.tensor(check_priorities(priorities, self.tasks), dtype=torch.float64)
        before = self.priorities.clone()
        self.priorities.copy_(given)
        self._ranks_agree = False  # they may have been given different ones
        self._after_priorities(before)

    def _after_priorities(self, before: Float[Tensor, " tasks"]) -> None:
        """Turn the weights in force, set under the priorities `before`, to the present ones."""

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"priorities": self.priorities.tolist()}


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
    if not bad.any():
        return
    for task, loss, is_bad in zip(tasks, losses.tolist(), bad.tolist(), strict=True):
        if is_bad:
            raise UsageError(f"Expected {expected} of task {task!r}, got {loss}. {remedy}")
