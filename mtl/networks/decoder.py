"""The decoder of the supplement's Figure S-1."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mtl.streams import global_stream, torch_stream

NUM_STAGES = 5


class Decoder(nn.Module):
    """Twelve 3x3 convolutions with ReLU and bilinear x2 upsamplings; the output is linear.

    One convolution, five stages of two convolutions, one output convolution. With stride 32 each
    stage begins with an upsampling; with a smaller stride there are log2(stride) upsamplings and
    the stages without one come first. The channel counts of Figure S-1 are lost with the figure,
    so they are an argument.

    Initialisation is Xavier's (uniform), with zero biases. The rows of the output convolution
    that belong to a task are drawn from the task's own stream, so that further tasks leave them
    as they are but for the common scale that Xavier's rule gives a wider layer.

    Args:
        in_channels: channels of the encoder's feature map.
        stride: image pixels per feature-map pixel, a power of two from 2 to 32.
        widths: channels of the first convolution and of each of the five stages.
        out_channels: task -> channels of its prediction, in the order of the tasks.
        seed: of the initial parameters.
        stream: name of this decoder's random stream.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        widths: Sequence[int],
        out_channels: dict[str, int],
        seed: int,
        stream: str = "decoder",
    ) -> None:
        super().__init__()
        self.num_upsamplings = stride.bit_length() - 1
        # torch's own initialisation, overwritten below, must not move the global stream.
        with global_stream(seed, stream):
            self.first = _conv(in_channels, widths[0])
            self.stages = nn.ModuleList(
                nn.ModuleList([_conv(before, after), _conv(after, after)])
                for before, after in zip(widths[:-1], widths[1:], strict=True)
            )
            self.output = _conv(widths[-1], sum(out_channels.values()))
        self.out_channels = dict(out_channels)
        self._initialise(seed, stream)

    @property
    def last_hidden(self) -> nn.Conv2d:
        """The convolution before the output convolution."""
        return self.stages[-1][-1]  # type: ignore[index]

    def _initialise(self, seed: int, stream: str) -> None:
        generator = torch_stream(seed, stream)
        for conv in (self.first, *(conv for stage in self.stages for conv in stage)):  # type: ignore[attr-defined]
            nn.init.xavier_uniform_(conv.weight, generator=generator)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        weight = self.output.weight
        # Xavier's bound, from the fans of the whole layer.
        bound = (6 / (9 * (weight.shape[0] + weight.shape[1]))) ** 0.5
        with torch.no_grad():
            rows = weight.split(list(self.out_channels.values()))
            for task, row in zip(self.out_channels, rows, strict=True):
                row.uniform_(-bound, bound, generator=torch_stream(seed, stream, task))

    def forward(
        self, features: Float[Tensor, "batch channels map_height map_width"]
    ) -> dict[str, Float[Tensor, "batch task_channels height width"]]:
        """Return each task's prediction, `stride` times as high and wide as `features`."""
        x = functional.relu(self.first(features), inplace=True)
        for index, stage in enumerate(self.stages):
            if index >= NUM_STAGES - self.num_upsamplings:
                x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            for conv in stage:  # type: ignore[attr-defined]
                x = functional.relu(conv(x), inplace=True)
        predictions = self.output(x).split(list(self.out_channels.values()), dim=1)
        return dict(zip(self.out_channels, predictions, strict=True))


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
