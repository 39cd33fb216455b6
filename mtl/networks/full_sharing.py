"""Full sharing: one encoder and one decoder for all tasks (supplement, section 1)."""

from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, Parts


class FullSharing(MultiTaskNetwork):
    """All layers are shared; the last convolution gives the channels of all tasks at once."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.encoder()
        self.decoder = parts.decoder(self.encoder.num_channels)

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        return self.decoder(self.encoder(images))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that every task passes through: all but the last convolution."""
        last = {id(parameter) for parameter in self.decoder.output.parameters()}
        return [p for p in self.parameters() if id(p) not in last]

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return, for every task, the last convolution: each task has rows of its own in it."""
        return [list(self.decoder.output.parameters()) for _ in self.decoder.out_channels]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weight of the convolution before the output convolution."""
        return [self.decoder.last_hidden.weight]  # type: ignore[list-item]
