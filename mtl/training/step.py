"""One optimizer step: losses of a batch, their weighting, the gradient, the update."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.data.batches import Batch
from mtl.data.sample import DataInfo
from mtl.networks.base import MultiTaskNetwork, kept_statistics
from mtl.spec import RunSpec
from mtl.spec.sections import OptimizerSpec
from mtl.tasks import task_of
from mtl.training.batch_norm import batch_norm_over_ranks
from mtl.training.evaluation import predict
from mtl.training.ranks import ALONE, Ranks
from mtl.weighting.base import Weighting


class EpochLog:
    """Sums of losses, effective weights and loss scales over the micro-batches of an epoch.

    A task counts only where it has labels. Sums are float64 on the device.

    Args:
        num_tasks: length of every vector.
        device: of the losses.
    """

    def __init__(self, num_tasks: int, device: torch.device) -> None:
        zeros = torch.zeros(num_tasks, dtype=torch.float64, device=device)
        self._counts = zeros.clone()
        self._losses, self._scales, self._weights = zeros.clone(), zeros.clone(), zeros.clone()
        self._all_have_weights = True

    def restart(self) -> None:
        """Forget what was added, in place: a CUDA graph adds to these very tensors."""
        for sums in (self._counts, self._losses, self._scales, self._weights):
            sums.zero_()
        self._all_have_weights = True

    def add(
        self,
        losses: Float[Tensor, " tasks"],
        present: Bool[Tensor, " tasks"],
        weights: Float[Tensor, " tasks"] | None,
    ) -> None:
        """Add a micro-batch: losses, which tasks have labels, effective weights if there are any.

        What stands for the loss of a task without labels does not matter.
        """
        known = torch.where(present, losses.detach(), torch.zeros_like(losses))
        self._counts += present
        self._losses += known
        if weights is None:
            self._all_have_weights = False
            return
        self._scales += weights * known
        # A running mean, not a sum: of a constant weight it is that weight to the last digit.
        step = (weights - self._weights) / self._counts.clamp(min=1)
        self._weights += torch.where(present, step, torch.zeros_like(step))

    def losses(self) -> list[float | None]:
        """Return the mean loss of each task; None for one that was absent throughout."""
        return self._means(self._losses)

    def loss_scales(self) -> list[float | None] | None:
        """Return the mean of weight x loss; None where the method has no weights."""
        return self._means(self._scales) if self._all_have_weights else None

    def weights(self) -> list[float | None] | None:
        """Return the mean effective weight; None where the method has no weights."""
        if not self._all_have_weights:
            return None
        counts, weights = self._counts.tolist(), self._weights.tolist()
        return [w if count else None for w, count in zip(weights, counts, strict=True)]

    def _means(self, sums: Tensor) -> list[float | None]:
        totals, counts = sums.tolist(), self._counts.tolist()
        return [total / n if n else None for total, n in zip(totals, counts, strict=True)]


def task_losses(
    spec: RunSpec,
    predictions: dict[str, Tensor],
    batch: Batch,
    info: DataInfo,
    gradient_factors: Tensor | None = None,
) -> Tensor:
    """Return the task losses of a batch in their units, shape (num_tasks,).

    `gradient_factors`, (num_tasks,), multiply the gradient of each loss and not its value.
    """
    losses = [
        spec.loss_units[task]
        * task_of(task).loss(
            predictions[task],
            batch.targets[task],
            batch.valid[task],
            info,
            regularizers=spec.regularizers,
        )
        for task in spec.tasks
    ]
    return _stacked(losses, gradient_factors)


def task_losses_over_ranks(
    spec: RunSpec,
    predictions: dict[str, Tensor],
    share: Batch,
    info: DataInfo,
    gradient_factors: Tensor | None,
    ranks: Ranks,
) -> tuple[Tensor, Tensor]:
    """Return the task losses of a batch that ranks share, and which tasks have labels in it.

    The values are those of the whole batch. The mean over the ranks of their gradients, each of
    which leads to this rank's share alone, is the gradient of the whole batch.

    A term of a loss is a mean, over numbers that differ between the ranks. That of the whole batch
    is the sum of number x term over the sum of the numbers; its gradient the mean over the ranks of
    factor x gradient, if factor = number of ranks x number / sum of the numbers.
    """
    terms = [
        task_of(task).terms(
            predictions[task], share.targets[task], share.valid[task], info, spec.regularizers
        )
        for task in spec.tasks
    ]
    values, numbers = zip(*itertools.chain.from_iterable(terms), strict=True)
    counts = torch.stack(numbers).double()
    # What a task makes of nothing does not matter.
    known = [torch.where(n > 0, value, 0.0) for value, n in zip(values, numbers, strict=True)]
    means = torch.stack(known).detach().double()
    totals, sums = ranks.sum(torch.stack([counts * means, counts]))
    means = (totals / sums.clamp(min=1)).to(values[0])
    factors = (ranks.number * counts / sums.clamp(min=1)).to(values[0])
    whole = map(_with_gradient, means, factors, known)
    losses = [
        spec.loss_units[task] * sum(itertools.islice(whole, len(held)), start=means.new_zeros(()))
        for task, held in zip(spec.tasks, terms, strict=True)
    ]
    first_terms = np.cumsum([0, *map(len, terms[:-1])]).tolist()
    return _stacked(losses, gradient_factors), torch.stack([sums[i] > 0 for i in first_terms])


def _with_gradient(value: Tensor, factor: Tensor, loss: Tensor) -> Tensor:
    """Return `value`, with `factor` times the gradient of `loss`."""
    return value + factor * (loss - loss.detach())


def _stacked(losses: Sequence[Tensor], gradient_factors: Tensor | None) -> Tensor:
    """Return the losses, each with its factor times its gradient if there are factors."""
    if gradient_factors is not None:
        losses = [
            _with_gradient(loss.detach(), factor, loss)
            for loss, factor in zip(losses, gradient_factors, strict=True)
        ]
    # The stack comes last, so that a weighting finds each loss's own graph behind it.
    return torch.stack(list(losses))


def part_factors(parts: Sequence[Batch], tasks: Sequence[str], ranks: Ranks = ALONE) -> Tensor:
    """Return by how much the gradient of each task counts in each part, (num_parts, num_tasks).

    A task's loss is a mean over valid pixels, of which parts may hold different numbers. The mean
    over the parts of factor x gradient is the gradient of the mean over the whole batch, if
    factor = number of parts x valid pixels of the part / valid pixels of the batch. A part's pixels
    are those of all ranks.
    """
    valid = torch.stack([torch.stack([part.valid[task].sum() for task in tasks]) for part in parts])
    valid = ranks.sum(valid).float()
    return len(parts) * valid / valid.sum(dim=0).clamp(min=1)


class Stepper:
    """Takes the steps of a run.

    A batch is trained in `spec.micro_batches` parts. The gradient of each task's loss is that of
    the whole batch, however its labels are spread over the parts (up to batch norm, which sees a
    part at a time); a weighting that looks at gradients, or at losses step by step, sees each part.
    Over several ranks each trains its share of each part, and batch norm sees all of the part.
    """

    def __init__(
        self,
        spec: RunSpec,
        network: MultiTaskNetwork,
        weighting: Weighting,
        optimizer: torch.optim.Optimizer,
        info: DataInfo,
        ranks: Ranks = ALONE,
    ) -> None:
        self.spec, self.info, self.ranks = spec, info, ranks
        self.network, self.weighting, self.optimizer = network, weighting, optimizer
        self.parameters = list(network.parameters())
        self.shared_parameters = (
            network.last_shared_parameters()
            if weighting.uses_last_shared_layer
            else network.shared_parameters()
        )
        self.task_parameters = network.task_parameters()

    def take_step(self, batch: Batch, learning_rate: float, log: EpochLog) -> None:
        """Take one step on `batch` and add its losses and weights to `log`.

        Raises:
            ValueError: naming the task, where a weighting cannot use a loss.
        """
        self.set_learning_rate(learning_rate)
        self.launch(batch, log)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of the next step, in place where it is a tensor."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate

    def launch(self, batch: Batch, log: EpochLog) -> None:
        """Take the step at the learning rate that is set; nothing of it waits for a GPU."""
        for parameter in self.parameters:  # what zero_grad() does, and its profiling hooks besides
            parameter.grad = None
        parts = self.ranks.parts(batch, self.spec.micro_batches)
        if len(parts) == 1:
            self._accumulate(parts[0], log)
        else:
            of_parts = part_factors(parts, self.spec.tasks, self.ranks)
            for part, factors in zip(parts, of_parts, strict=True):
                self._accumulate(part, log, factors)
        if len(parts) > 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= len(parts)
        self.ranks.average_gradients(self.parameters)
        if self.spec.optimizer.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.optimizer.max_gradient_norm)
        self.optimizer.step()
        self.weighting.step(lambda: self._losses_again(parts[-1]))

    def _accumulate(self, part: Batch, log: EpochLog, factors: Tensor | None = None) -> None:
        """Add the gradients of a part to those of the parts before it."""
        losses, present = self._losses(part, factors)
        self.weighting.backward(
            losses,
            present,
            shared_parameters=self.shared_parameters,
            task_parameters=self.task_parameters,
        )
        log.add(losses, present, self.weighting.weights)

    def _losses(self, part: Batch, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the losses of a part, over all ranks, and which tasks have labels in it."""
        with batch_norm_over_ranks(self.ranks, len(part.images), part.num_whole):
            predictions = predict(self.network, self.spec, part.images)
        arguments = (self.spec, predictions, part, self.info, factors)
        if self.ranks.are_several:
            return task_losses_over_ranks(*arguments, self.ranks)
        present = torch.stack([part.valid[task].any() for task in self.spec.tasks])
        return task_losses(*arguments), present

    def _losses_again(self, batch: Batch) -> Tensor:
        """Return the losses of a batch as they are now; nothing else changes."""
        with torch.no_grad(), kept_statistics(self.network):
            return self._losses(batch)[0]


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
