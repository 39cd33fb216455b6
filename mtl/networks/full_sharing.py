"""Full sharing: one encoder and one decoder for all tasks (supplement, section 1)."""

from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, cut_to_images
from mtl.networks.decoder import Decoder
from mtl.networks.encoder_weights import EncoderWeights
from mtl.networks.encoders import Encoder
from mtl.spec.sections import NetworkSpec


class FullSharing(MultiTaskNetwork):
    """All layers are shared; the last convolution gives the channels of all tasks at once.

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
        self.decoder = Decoder(
            self.encoder.num_channels, spec.encoder_stride, spec.decoder_widths, out_channels, seed
        )

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch _ height width"]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""
        return cut_to_images(self.decoder(self.encoder(images)), images)

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
