"""Single task: a network of its own for each task, the baseline of every comparison."""

from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.base import MultiTaskNetwork, cut_to_images
from mtl.networks.decoder import task_decoders
from mtl.networks.encoder_weights import EncoderWeights
from mtl.networks.encoders import task_encoders
from mtl.spec.sections import NetworkSpec


class SingleTask(MultiTaskNetwork):
    """An encoder and a decoder for each task, nothing shared.

    The networks of several tasks are trained side by side and start as each would alone.

    Args:
        spec: encoder, stride and decoder widths.
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
        channels = {task: encoder.num_channels for task, encoder in encoders.items()}
        self.decoders = task_decoders(spec, channels, out_channels, seed)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch _ height width"]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""
        predictions: dict[str, Tensor] = {}
        for task, encoder in self.encoders.items():
            predictions |= self.decoders[task](encoder(images))
        return cut_to_images(predictions, images)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return an empty list: nothing is shared."""
        return []

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return the encoder and decoder of each task."""
        return [
            [*encoder.parameters(), *self.decoders[task].parameters()]
            for task, encoder in self.encoders.items()
        ]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return an empty list: nothing is shared."""
        return []
