"""A Lightning callback that drives a weighting; needs `lightning`, which nothing else here does."""

from collections.abc import Mapping
from typing import Any

import lightning

from mtl.weighting.base import Weighting


class WeightingCallback(lightning.Callback):
    """Tells a weighting of each optimizer step and epoch, and keeps its state in checkpoints.

    `training_step` returns what the weighting gives for its losses. Each epoch's effective weights
    are logged as `weight/<task>`. Methods that need `backward` take manual optimization.

    Args:
        weighting: of `mtl.weighting.build_weighting`; it may be a submodule of the LightningModule.
    """

    def __init__(self, weighting: Weighting) -> None:
        self.weighting = weighting
        self._steps = 0

    def on_fit_start(self, _: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Move the weighting to where the losses will be."""
        self.weighting.to(pl_module.device)

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Count from here: only now a checkpoint's steps are restored."""
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Say that an optimizer step was made; a micro-batch of several is none."""
        if trainer.global_step > self._steps:
            self._steps = trainer.global_step
            self.weighting.step()

    def on_train_epoch_end(
        self, _: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """End the period, and log the weights of the one that is over."""
        weights = self.weighting.weights
        if weights is not None:
            named = zip(self.weighting.tasks, weights.tolist(), strict=True)
            pl_module.log_dict({f"weight/{task}": weight for task, weight in named})
        self.weighting.end_period()

    def state_dict(self) -> dict[str, Any]:
        """Return the weighting's state for a checkpoint."""
        return {"weighting": self.weighting.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the weighting's state from a checkpoint."""
        self.weighting.load_state_dict(state_dict["weighting"])
