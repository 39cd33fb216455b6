"""Single task: a network of its own for each task, the baseline of every comparison."""

from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, Parts


class SingleTask(MultiTaskNetwork):
    """An encoder and a decoder for each task, nothing shared.

    The networks of several tasks are trained side by side and start as each would alone.
    """

    task_modules = ("encoders", "decoders")

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.encoders = parts.task_encoders()
        self.decoders = parts.task_decoders(next(iter(self.encoders.values())).num_channels)  # type: ignore[arg-type]

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        return self._decoded(encoder(images) for encoder in self.encoders.values())

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return an empty list: nothing is shared."""
        return []

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return an empty list: nothing is shared."""
        return []
