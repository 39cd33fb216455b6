"""One optimizer step: losses of a batch, their weighting, the gradient, the update."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.data.batches import Batch
from mtl.data.sources import DataInfo
from mtl.epoch_log import EpochLog
from mtl.evaluation import predict
from mtl.networks import MultiTaskNetwork
from mtl.networks.statistics import kept_statistics
from mtl.spec import RunSpec
from mtl.tasks import TASKS
from mtl.weighting import Weighting


def task_losses(
    spec: RunSpec,
    predictions: dict[str, Tensor],
    batch: Batch,
    info: DataInfo,
    gradient_factors: Tensor | None = None,
) -> Tensor:
    """Return the task losses of a batch in their units, shape (num_tasks,).

    Args:
        spec: the run.
        predictions: task -> prediction.
        batch: targets and masks.
        info: the data set.
        gradient_factors: (num_tasks,), multiplies the gradient of each loss and not its value;
            None means 1.
    """
    losses = [
        spec.loss_units[task]
        * TASKS[task].loss(
            predictions[task],
            batch.targets[task],
            batch.valid[task],
            info,
            regularizers=spec.regularizers,
        )
        for task in spec.tasks
    ]
    if gradient_factors is not None:
        losses = [
            loss.detach() + factor * (loss - loss.detach())
            for loss, factor in zip(losses, gradient_factors, strict=True)
        ]
    # The stack comes last, so that a weighting finds each loss's own graph behind it.
    return torch.stack(losses)


def part_factors(parts: Sequence[Batch], tasks: Sequence[str]) -> Tensor:
    """Return by how much the gradient of each task counts in each part, (num_parts, num_tasks).

    A task's loss is a mean over valid pixels, of which parts may hold different numbers. The mean
    over the parts of factor x gradient is the gradient of the mean over the whole batch, if
    factor = number of parts x valid pixels of the part / valid pixels of the batch.
    """
    valid = torch.stack(
        [torch.stack([part.valid[task].sum() for task in tasks]) for part in parts]
    ).float()
    return len(parts) * valid / valid.sum(dim=0).clamp(min=1)


class Stepper:
    """Takes the steps of a run.

    A batch is trained in `spec.micro_batches` parts. The gradient of each task's loss is that of
    the whole batch, however its labels are spread over the parts (up to batch norm, which sees a
    part at a time); a weighting that looks at gradients, or at losses step by step, sees each part.
    """

    def __init__(
        self,
        spec: RunSpec,
        network: MultiTaskNetwork,
        weighting: Weighting,
        optimizer: torch.optim.Optimizer,
        info: DataInfo,
    ) -> None:
        self.spec, self.info = spec, info
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
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        parts = batch.parts(self.spec.micro_batches)
        if len(parts) == 1:
            self._accumulate(batch, log)
        else:
            for part, factors in zip(parts, part_factors(parts, self.spec.tasks), strict=True):
                self._accumulate(part, log, factors)
        if len(parts) > 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= len(parts)
        if self.spec.optimizer.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.optimizer.max_gradient_norm)
        self.optimizer.step()
        self.weighting.step(lambda: self._losses_again(parts[-1]))

    def _accumulate(self, part: Batch, log: EpochLog, factors: Tensor | None = None) -> None:
        """Add the gradients of a part to those of the parts before it."""
        losses = self._losses(part, factors)
        present = torch.stack([part.valid[task].any() for task in self.spec.tasks])
        self.weighting.backward(
            losses,
            present,
            shared_parameters=self.shared_parameters,
            task_parameters=self.task_parameters,
        )
        log.add(losses, present, self.weighting.weights)

    def _losses(self, batch: Batch, factors: Tensor | None = None) -> Tensor:
        predictions = predict(self.network, self.spec, batch.images)
        return task_losses(self.spec, predictions, batch, self.info, factors)

    def _losses_again(self, batch: Batch) -> Tensor:
        """Return the losses of a batch as they are now; nothing else changes."""
        with torch.no_grad(), kept_statistics(self.network):
            return self._losses(batch)
