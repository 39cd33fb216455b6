"""Full sharing: one encoder and one decoder for all tasks (supplement, section 1)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.decoder import Decoder
from mtl.networks.encoders import Encoder


class FullSharing(nn.Module):
    """All layers are shared; the last convolution gives the channels of all tasks at once.

    Args:
        out_channels: task -> channels of its prediction, in the order of the tasks.
        encoder: any timm encoder.
        encoder_stride: image pixels per feature-map pixel.
        decoder_widths: see `Decoder`.
        seed: of the initial parameters.
    """

    def __init__(
        self,
        out_channels: dict[str, int],
        *,
        encoder: str,
        encoder_stride: int,
        decoder_widths: Sequence[int],
        seed: int,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, encoder_stride, seed)
        self.decoder = Decoder(
            self.encoder.num_channels, encoder_stride, decoder_widths, out_channels, seed
        )

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch channels height width"]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""
        height, width = images.shape[-2:]
        predictions = self.decoder(self.encoder(images))
        return {task: p[..., :height, :width] for task, p in predictions.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that every task passes through: all but the last convolution."""
        last = {id(parameter) for parameter in self.decoder.output.parameters()}
        return [p for p in self.parameters() if id(p) not in last]

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each task alone: none, the last convolution is one tensor."""
        return [[] for _ in self.decoder.out_channels]
