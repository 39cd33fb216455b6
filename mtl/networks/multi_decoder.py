"""Multi-decoder: one encoder for all tasks, one decoder for each (supplement, section 1)."""

from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, cut_to_images
from mtl.networks.decoder import task_decoders
from mtl.networks.encoder_weights import EncoderWeights
from mtl.networks.encoders import Encoder
from mtl.spec.sections import NetworkSpec


class MultiDecoder(MultiTaskNetwork):
    """The encoder is shared; its feature map goes to a decoder for each task.

    Args:
        spec: encoder, stride and decoder widths.
        out_channels: task -> channels of its prediction, in the order of the tasks.
        seed: of the initial parameters.
        encoder_weights: where the encoder starts, in place of random parameters.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        out_channels: dict[str, int],
        seed: int,
        encoder_weights: EncoderWeights | None,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(spec.encoder, spec.encoder_stride, seed, weights=encoder_weights)
        channels = dict.fromkeys(out_channels, self.encoder.num_channels)
        self.decoders = task_decoders(spec, channels, out_channels, seed)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch _ height width"]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""
        features = self.encoder(images)
        predictions: dict[str, Tensor] = {}
        for decoder in self.decoders.values():
            predictions |= decoder(features)
        return cut_to_images(predictions, images)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the encoder's parameters."""
        return list(self.encoder.parameters())

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each task's decoder."""
        return [list(decoder.parameters()) for decoder in self.decoders.values()]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weight of the encoder's last convolution."""
        return [self.encoder.last_convolution_weight()]
