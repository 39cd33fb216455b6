"""Multi-decoder: one encoder for all tasks, one decoder for each (supplement, section 1)."""

from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, Parts


class MultiDecoder(MultiTaskNetwork):
    """The encoder is shared; its feature map goes to a decoder for each task."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.encoder()
        self.decoders = parts.task_decoders(self.encoder.num_channels)

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        features = self.encoder(images)
        predictions: dict[str, Tensor] = {}
        for decoder in self.decoders.values():
            predictions |= decoder(features)
        return predictions

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the encoder's parameters."""
        return list(self.encoder.parameters())

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weight of the encoder's last convolution."""
        return [self.encoder.last_convolution_weight()]
