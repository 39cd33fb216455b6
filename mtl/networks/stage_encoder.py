"""timm encoders: an image in, the feature map of every stage out."""

from jaxtyping import Float
from torch import Tensor, nn

from mtl.encoder_names import check_encoder_name
from mtl.networks.encoder_weights import EncoderWeights
from mtl.networks.encoders import (
    PreparedImages,
    check_map_size,
    feature_maps,
    feature_reductions,
    last_convolution_weight,
)
from mtl.streams import global_stream


class StageEncoder(nn.Module):
    """A timm model up to a stride, with the deepest feature map of every stride on the way.

    Args:
        name: any timm encoder that gives feature maps.
        stride: image pixels per pixel of the last map; layers behind that map are removed. At 32,
            MobileNetV2's last map is the one before its last convolution (320 channels, where
            `Encoder` has 1280).
        seed: initial parameters are a function of (name, stride, seed).
        weights: where it starts, in place of random parameters.

    Attributes:
        strides: image pixels per pixel of each map, rising to `stride`.
        num_channels: channels of each map.

    Raises:
        ValueError: if timm has no such encoder, the encoder no feature map of that stride, or the
            weights are not the encoder's.
    """

    def __init__(self, name: str, stride: int, seed: int, weights: EncoderWeights | None) -> None:
        super().__init__()
        check_encoder_name(name)
        self.name, self.stride = name, stride
        with global_stream(seed, "encoder"):
            reductions = feature_reductions(name, stride)
            # Of several maps of one stride the last, which is the deepest, stays.
            stages = {reduction: i for i, reduction in enumerate(reductions) if reduction <= stride}
            self.body = feature_maps(name, out_indices=tuple(sorted(stages.values())))
        self.strides: list[int] = self.body.feature_info.reduction()
        self.num_channels: list[int] = self.body.feature_info.channels()
        if weights is not None:
            weights.load_into(self.body.model)
        self.prepare = PreparedImages(self.body.model.pretrained_cfg, stride)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Return the map of each stage, (batch, channels, map_height, map_width), shallow first.

        Images are values in [0, 1]; sizes that are no multiples of the stride are padded.

        Raises:
            ValueError: if the encoder's last map has not ceil(size / stride) pixels a side.
        """
        maps = self.body(self.prepare(images))
        check_map_size(maps[-1], images, self.name, self.stride)
        return maps

    def last_convolution_weight(self) -> nn.Parameter:
        """Return the weight of the convolution that is computed last."""
        return last_convolution_weight(self.body, self.body.model.pretrained_cfg)
