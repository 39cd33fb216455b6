"""Multi-column: encoder and decoder for each task, mixed in between (supplement, section 1)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, Parts


class CrossStitch(nn.Module):
    """x_i = sum_j alpha_ij x_j: task i's decoder sees a mixture of all tasks' feature maps.

    Equation (1) has one learnable n x n matrix for all channels. (Misra et al. 2016, whose name
    the unit bears, have one matrix a channel, and units at several depths.)

    Args:
        num_tasks: n.
        self_weight: alpha_ii at the start; the others of a row share the rest alike. The
            supplement has 0.9, so 0.05 beside it, for three tasks of NYUv2, and 1/n on Taskonomy,
            for which None stands. A single task has alpha = 1.
    """

    def __init__(self, num_tasks: int, self_weight: float | None) -> None:
        super().__init__()
        if self_weight is None or num_tasks == 1:
            self_weight = 1 / num_tasks
        other_weight = (1 - self_weight) / max(num_tasks - 1, 1)
        matrix = torch.full((num_tasks, num_tasks), other_weight)
        matrix.fill_diagonal_(self_weight)
        self.matrix = nn.Parameter(matrix)

    def forward(
        self, features: Sequence[Float[Tensor, "batch channels map_height map_width"]]
    ) -> tuple[Float[Tensor, "batch channels map_height map_width"], ...]:
        """Return the decoders' inputs x^i for the encoders' outputs x^o, in the tasks' order."""
        outputs = torch.stack(list(features))
        return (self.matrix @ outputs.flatten(1)).view_as(outputs).unbind()


class MultiColumn(MultiTaskNetwork):
    """Each task has its column; a cross-stitch unit mixes the encoders' outputs, equation (1)."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.encoders = parts.task_encoders()
        self_weight = parts.spec.cross_stitch_own_share
        self.cross_stitch = CrossStitch(len(parts.out_channels), self_weight)
        self.decoders = parts.task_decoders(next(iter(self.encoders.values())).num_channels)  # type: ignore[arg-type]

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        return self._decoded(
            self.cross_stitch([encoder(images) for encoder in self.encoders.values()])
        )

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all encoders and the matrix: every task sees every encoder."""
        return [*self.encoders.parameters(), *self.cross_stitch.parameters()]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weight of the last convolution of every encoder (our choice)."""
        return [encoder.last_convolution_weight() for encoder in self.encoders.values()]  # type: ignore[operator]

    def cross_stitch_matrix(self) -> Float[Tensor, "tasks tasks"]:
        """Return alpha of equation (1) as it stands, row i for the decoder of task i."""
        return self.cross_stitch.matrix.detach().clone()
