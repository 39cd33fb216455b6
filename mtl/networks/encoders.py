"""timm encoders: an image in, one feature map out."""

from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mtl.encoder_names import check_encoder_name
from mtl.streams import global_stream

PROBE_STRIDES = 2
"""Side of the probe image in strides: enough for every stage to see more than one pixel."""


class Encoder(nn.Module):
    """A timm model without its last layer, with its input normalisation and padding.

    Args:
        name: any timm encoder.
        stride: image pixels per feature-map pixel. At 32 the last feature map, as in the
            supplement (for MobileNetV2 after its last convolution, 1280 channels); below it the
            deepest map of that stride, with the layers behind it removed.
        seed: initial parameters are a function of (name, stride, seed).

    Attributes:
        num_channels: channels of the feature map.

    Raises:
        ValueError: if timm has no such encoder, or the encoder no feature map of that stride.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, stride: int, seed: int) -> None:
        super().__init__()
        check_encoder_name(name)
        self.stride = stride
        with global_stream(seed, "encoder"):
            self.body, self.num_channels = _build_body(name, stride)
        config = self.body.pretrained_cfg if hasattr(self.body, "pretrained_cfg") else {}
        for statistic, default in (("mean", (0.5, 0.5, 0.5)), ("std", (0.5, 0.5, 0.5))):
            values = torch.tensor(config.get(statistic, default)).reshape(1, 3, 1, 1)
            self.register_buffer(statistic, values, persistent=False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels map_height map_width"]:
        """Return the feature map of `images` (values in [0, 1]).

        Sizes that are not multiples of the stride are padded on the right and below by repeating
        the last column and row; the map then has ceil(size / stride) pixels.
        """
        normalised = (images - self.mean) / self.std
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        if any(padding):
            normalised = functional.pad(normalised, padding, mode="replicate")
        return self.body(normalised)


class _FeatureMap(nn.Module):
    """A timm model as a function to one feature map."""

    def __init__(self, model: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.model = model
        self.whole = whole
        self.pretrained_cfg = getattr(model, "pretrained_cfg", {})

    def forward(self, images: Tensor) -> Tensor:
        if self.whole:
            return self.model.forward_features(images)  # type: ignore[operator]
        return self.model(images)[-1]


def _build_body(name: str, stride: int) -> tuple[_FeatureMap, int]:
    if stride == 32:
        whole = timm.create_model(name, num_classes=0, global_pool="")
        channels = _whole_map_channels(whole, stride)
        if channels is not None:
            return _FeatureMap(_without_head(whole), whole=True), channels
    try:
        reductions = _feature_maps(name).feature_info.reduction()
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"Expected an encoder that gives feature maps, got {name!r} ({error}). "
            "Choose a convolutional one."
        ) from error
    if stride not in reductions:
        raise ValueError(
            f"Expected encoder_stride of {name!r} to be one of "
            f"{sorted(set(reductions))}, got {stride}."
        )
    deepest = max(i for i, reduction in enumerate(reductions) if reduction == stride)
    model = _feature_maps(name, out_indices=(deepest,))
    # The getter copies no pretrained_cfg of its own.
    model.pretrained_cfg = model.model.pretrained_cfg
    return _FeatureMap(model, whole=False), model.feature_info.channels()[-1]


def _feature_maps(name: str, **options: Any) -> Any:
    """Return a timm model that gives feature maps, without the layers behind the last of them."""
    return timm.create_model(name, features_only=True, feature_cls="getter", **options)


def _whole_map_channels(model: nn.Module, stride: int) -> int | None:
    """Return the channels of the model's last map if it is one of `stride`, else None."""
    side = PROBE_STRIDES * stride
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            features = model.forward_features(torch.zeros(1, 3, side, side))  # type: ignore[operator]
    except (RuntimeError, AssertionError):
        return None  # a model of one fixed image size, such as a vision transformer
    finally:
        model.train(was_training)
    is_map = features.ndim == 4 and tuple(features.shape[2:]) == (PROBE_STRIDES, PROBE_STRIDES)
    return int(features.shape[1]) if is_map else None


def _without_head(model: nn.Module) -> nn.Module:
    """Remove parameters behind the last feature map, which would never get a gradient."""
    for name in ("fc_norm", "head", "classifier", "fc"):
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, nn.Identity())
    return model
