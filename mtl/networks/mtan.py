"""MTAN: task-specific attention over shared features (Liu et al. 2019, arXiv 1803.10704)."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mtl.networks.base import MultiTaskNetwork, Parts
from mtl.streams import global_stream


class Mtan(MultiTaskNetwork):
    """A shared encoder; each task picks from every stage's features by soft masks of its own.

    As in the paper, the attended features of stage j are a_j * p_j with the
    mask a_j = h_j(g_j([u_j; f_j(attended features of stage j - 1)])), where g, h are 1x1
    convolutions with batch norm, ReLU after g and a sigmoid after h, and f is a 3x3 convolution
    with batch norm and ReLU, then a max-pooling to stage j's size.

    What differs from the paper, whose shared network is SegNet (or, in its authors' code, a
    dilated ResNet):
    - A stage is a timm stage of any encoder, of which the output alone is at hand: u_j, in the
      paper the first convolution's output in stage j, and p_j, the last one's, are one here.
    - Attention ends with the encoder. The paper's decoder is shared and attended to as well; here
      each task decodes its last attended features with the supplement's decoder, of its own.
    - f_j is each task's own, so that all attention is; its authors' code shares it.
    """

    task_modules = ("attentions", "decoders")

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.stage_encoder()
        self.attentions = nn.ModuleDict()
        for task in parts.out_channels:
            with global_stream(parts.seed, "attention", task):
                self.attentions[task] = TaskAttention(
                    self.encoder.num_channels, self.encoder.strides
                )
        self.decoders = parts.task_decoders(self.encoder.num_channels[-1])

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.encoder(images)
        return self._decoded(attention(maps) for attention in self.attentions.values())


class TaskAttention(nn.Module):
    """One task's masks over the feature maps of all stages.

    Args:
        num_channels: channels of each map.
        strides: image pixels per pixel of each map, rising.
    """

    def __init__(self, num_channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.poolings = [deep // shallow for shallow, deep in itertools.pairwise(strides)]
        # From the second stage on a mask sees the stage's map and what comes from the one before.
        self.masks = nn.ModuleList(
            _mask(channels if stage == 0 else 2 * channels, channels)
            for stage, channels in enumerate(num_channels)
        )
        self.passed_on = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(shallow, deep, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(deep),
                nn.ReLU(),
            )
            for shallow, deep in itertools.pairwise(num_channels)
        )

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _ _ _"]]
    ) -> Float[Tensor, "batch channels map_height map_width"]:
        """Return the attended features of the last stage, of the size of the last map."""
        attended = self.masks[0](maps[0]) * maps[0]
        stages = zip(maps[1:], self.masks[1:], self.passed_on, self.poolings, strict=True)
        for features, mask, pass_on, pooling in stages:
            # Maps of odd size, as PNASNet's first (143 pixels, then 72), are rounded up.
            passed = functional.max_pool2d(pass_on(attended), pooling, ceil_mode=True)
            attended = mask(torch.cat([features, passed], dim=1)) * features
        return attended


def _mask(in_channels: int, channels: int) -> nn.Sequential:
    """Return g, then h of `Mtan`: features -> a mask in [0, 1]."""
    # No biases: batch norm, which follows, has its own.
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    )
