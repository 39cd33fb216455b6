"""Multi-column: encoder and decoder for each task, mixed in between (supplement, section 1)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, cut_to_images
from mtl.networks.decoder import task_decoders
from mtl.networks.encoder_weights import EncoderWeights
from mtl.networks.encoders import task_encoders
from mtl.spec.sections import NetworkSpec


class CrossStitch(nn.Module):
    """x_i = sum_j alpha_ij x_j: task i's decoder sees a mixture of all tasks' feature maps.

    Equation (1) has one learnable n x n matrix for all channels. (Misra et al. 2016, whose name
    the unit bears, have one matrix a channel, and units at several depths.)

    Args:
        num_tasks: n.
        own_share: alpha_ii at the start; the others of a row share the rest alike. The supplement
            has 0.9, so 0.05 beside it, for three tasks of NYUv2, and 1/n on Taskonomy, as None
            stands for. A single task has alpha = 1.
    """

    def __init__(self, num_tasks: int, own_share: float | None) -> None:
        super().__init__()
        matrix = torch.ones(1, 1)
        if own_share is None:
            own_share = 1 / num_tasks
        if num_tasks > 1:
            matrix = torch.full((num_tasks, num_tasks), (1 - own_share) / (num_tasks - 1))
            matrix.fill_diagonal_(own_share)
        self.matrix = nn.Parameter(matrix)

    def forward(
        self, features: Sequence[Float[Tensor, "batch channels map_height map_width"]]
    ) -> tuple[Float[Tensor, "batch channels map_height map_width"], ...]:
        """Return the decoders' inputs x^i for the encoders' outputs x^o, in the tasks' order."""
        outputs = torch.stack(list(features))
        return (self.matrix @ outputs.flatten(1)).view_as(outputs).unbind()


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
