"""One optimizer step: losses of a batch, their weighting, the gradient, the update."""

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
    spec: RunSpec, predictions: dict[str, Tensor], batch: Batch, info: DataInfo
) -> Tensor:
    """Return the task losses of a batch in their units, shape (num_tasks,)."""
    return torch.stack(
        [
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
    )


class Stepper:
    """Takes the steps of a run.

    A batch is trained in `spec.micro_batches` parts. The gradient is the mean of the parts'
    gradients; a weighting that looks at gradients, or at losses step by step, sees each part.
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
        for part in parts:
            self._accumulate(part, log)
        if len(parts) > 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= len(parts)
        if self.spec.optimizer.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.optimizer.max_gradient_norm)
        self.optimizer.step()
        self.weighting.step(lambda: self._losses_again(parts[-1]))

    def _accumulate(self, part: Batch, log: EpochLog) -> None:
        """Add the gradients of a part to those of the parts before it."""
        losses = self._losses(part)
        present = torch.stack([part.valid[task].any() for task in self.spec.tasks])
        self.weighting.backward(
            losses,
            present,
            shared_parameters=self.shared_parameters,
            task_parameters=self.task_parameters,
        )
        log.add(losses, present, self.weighting.weights)

    def _losses(self, batch: Batch) -> Tensor:
        predictions = predict(self.network, self.spec, batch.images)
        return task_losses(self.spec, predictions, batch, self.info)

    def _losses_again(self, batch: Batch) -> Tensor:
        """Return the losses of a batch as they are now; nothing else changes."""
        with torch.no_grad(), kept_statistics(self.network):
            return self._losses(batch)
