"""Multi-decoder: one encoder for all tasks, one decoder for each (supplement, section 1)."""

from torch import Tensor

from mtl.networks.base import MultiTaskNetwork, Parts


class MultiDecoder(MultiTaskNetwork):
    """The encoder is shared; its feature map goes to a decoder for each task."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.encoder()
        self.decoders = parts.task_decoders(self.encoder.num_channels)

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        return self._decoded([self.encoder(images)] * len(self.decoders))
