"""Multi-column: encoder and decoder for each task, mixed in between (supplement, section 1)."""

from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, cut_to_images
from mtl.networks.cross_stitch import CrossStitch
from mtl.networks.decoder import task_decoders
from mtl.networks.encoder_weights import EncoderWeights
from mtl.networks.encoders import task_encoders
from mtl.spec import NetworkSpec


class MultiColumn(MultiTaskNetwork):
    """Each task has its column; a cross-stitch unit mixes the encoders' outputs, equation (1).

    Args:
        spec: encoder, stride, decoder widths and `cross_stitch_own_share`.
        out_channels: task -> channels of its prediction, in the order of the tasks.
        seed: of the initial parameters.
        encoder_weights: where every encoder starts, in place of random parameters.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        out_channels: dict[str, int],
        seed: int,
        encoder_weights: EncoderWeights | None,
    ) -> None:
        super().__init__()
        encoders = task_encoders(spec, out_channels, seed, encoder_weights)
        self.encoders = nn.ModuleDict(encoders)
        self.cross_stitch = CrossStitch(len(out_channels), spec.cross_stitch_own_share)
        channels = {task: encoder.num_channels for task, encoder in encoders.items()}
        self.decoders = task_decoders(spec, channels, out_channels, seed)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch _ height width"]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""
        mixed = self.cross_stitch([encoder(images) for encoder in self.encoders.values()])
        predictions: dict[str, Tensor] = {}
        for decoder, features in zip(self.decoders.values(), mixed, strict=True):
            predictions |= decoder(features)
        return cut_to_images(predictions, images)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all encoders and the matrix: every task sees every encoder."""
        return [*self.encoders.parameters(), *self.cross_stitch.parameters()]

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each task's decoder."""
        return [list(decoder.parameters()) for decoder in self.decoders.values()]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weight of the last convolution of every encoder (our choice)."""
        return [encoder.last_convolution_weight() for encoder in self.encoders.values()]  # type: ignore[operator]

    def cross_stitch_matrix(self) -> Float[Tensor, "tasks tasks"]:
        """Return alpha of equation (1) as it stands, row i for the decoder of task i."""
        return self.cross_stitch.matrix.detach().clone()
