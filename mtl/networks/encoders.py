"""timm encoders: an image in, one feature map out."""

from collections.abc import Iterable
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mtl.errors import UsageError
from mtl.networks.encoder_weights import EncoderWeights
from mtl.spec.encoders import check_encoder_name
from mtl.spec.sections import NetworkSpec
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
        seed: initial parameters are a function of (name, stride, seed, stream).
        stream: name of this encoder's random stream.
        weights: where it starts, in place of random parameters.

    Attributes:
        num_channels: channels of the feature map.

    Raises:
        ValueError: if timm has no such encoder, the encoder no feature map of that stride, or the
            weights are not the encoder's.
    """

    def __init__(
        self,
        name: str,
        stride: int,
        seed: int,
        *,
        stream: str = "encoder",
        weights: EncoderWeights | None = None,
    ) -> None:
        super().__init__()
        check_encoder_name(name)
        self.name, self.stride = name, stride
        with global_stream(seed, stream):
            self.body, self.num_channels = _build_body(name, stride)
        if weights is not None:
            weights.load_into(self.body.timm_model)
        self.prepare = PreparedImages(self.body.pretrained_cfg, stride)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels map_height map_width"]:
        """Return the feature map of `images` (values in [0, 1]).

        Sizes that are not multiples of the stride are padded on the right and below by repeating
        the last column and row; the map then has ceil(size / stride) pixels.

        Raises:
            ValueError: if the encoder's map has another size, as where it pads no convolution.
        """
        try:
            features = self.body(self.prepare(images))
        except AssertionError as error:  # how timm refuses sizes that a model is not made for
            raise UsageError(
                f"Expected an encoder for images of {images.shape[-2]} x {images.shape[-1]}, got "
                f"{self.name!r} ({error}). Use images of its size or another encoder."
            ) from error
        check_map_size(features, images, self.name, self.stride)
        return features

    def last_convolution_weight(self) -> nn.Parameter:
        """Return the weight of the convolution that is computed last."""
        return last_convolution_weight(self.body, self.body.pretrained_cfg)


def task_encoders(
    spec: NetworkSpec, tasks: Iterable[str], seed: int, weights: EncoderWeights | None
) -> dict[str, Encoder]:
    """Return an encoder for each task, initialised by `weights` or a stream of the task's own."""
    return {
        task: Encoder(
            spec.encoder, spec.encoder_stride, seed, stream=f"encoder/{task}", weights=weights
        )
        for task in tasks
    }


class PreparedImages(nn.Module):
    """Images normalised as an encoder expects them and padded to a multiple of its stride.

    Args:
        config: timm's `pretrained_cfg`; without mean and std in it, [-1, 1] is expected.
        stride: of the encoder.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any], stride: int) -> None:
        super().__init__()
        self.stride = stride
        for statistic in ("mean", "std"):
            values = torch.tensor(config.get(statistic, (0.5, 0.5, 0.5))).reshape(1, 3, 1, 1)
            self.register_buffer(statistic, values, persistent=False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 padded_height padded_width"]:
        """Return `images` (values in [0, 1]) normalised, then padded on the right and below."""
        normalised = (images - self.mean) / self.std
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        if any(padding):
            normalised = functional.pad(normalised, padding, mode="replicate")
        return normalised


def check_map_size(features: Tensor, images: Tensor, name: str, stride: int) -> None:
    """Raise a `ValueError` unless `features` have ceil(size / stride) pixels a side of `images`."""
    expected = tuple(-(-side // stride) for side in images.shape[-2:])
    if tuple(features.shape[-2:]) != expected:
        raise UsageError(
            f"Expected a feature map of {expected[0]}x{expected[1]} pixels from encoder {name!r} "
            f"at encoder_stride {stride}, got {features.shape[-2]}x{features.shape[-1]}. "
            "Choose another stride or encoder."
        )


def last_convolution_weight(body: nn.Module, config: dict[str, Any]) -> nn.Parameter:
    """Return the weight of the convolution of `body` that is computed last.

    A linear layer that acts on every pixel counts as the 1x1 convolution that it is; what gives
    fewer values than the map has pixels, such as a squeeze-and-excitation gate, does not count.
    The order is that of a forward pass: in which order a model holds its layers says little.

    Args:
        body: images -> a feature map, or a list of them with the deepest last.
        config: timm's `pretrained_cfg`. An image of the size that stands in it suits every model.
    """
    computed: list[tuple[nn.Module, int]] = []

    def note(layer: nn.Module, _: Any, output: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        computed.append((layer, output.numel() // weight.shape[0]))

    layers = [layer for layer in body.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    device = next(body.parameters()).device
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():
            maps = body(torch.zeros(1, *config["input_size"], device=device))
    finally:
        body.train(was_training)
        for hook in hooks:
            hook.remove()
    deepest = maps if isinstance(maps, Tensor) else maps[-1]
    num_pixels = deepest.shape[-2] * deepest.shape[-1]
    last = [layer for layer, num_positions in computed if num_positions >= num_pixels][-1]
    return last.weight  # type: ignore[return-value]


def feature_maps(name: str, **options: Any) -> Any:
    """Return a timm model that gives feature maps, without the layers behind the last of them."""
    return timm.create_model(name, features_only=True, feature_cls="getter", **options)


def feature_reductions(name: str, stride: int) -> list[int]:
    """Return the strides of an encoder's feature maps in order.

    Raises:
        ValueError: if the encoder gives no feature maps, or none of `stride`.
    """
    try:
        reductions = feature_maps(name).feature_info.reduction()
    except (RuntimeError, AttributeError) as error:
        raise UsageError(
            f"Expected an encoder that gives feature maps, got {name!r} ({error}). "
            "Choose a convolutional one."
        ) from error
    if stride not in reductions:
        raise UsageError(
            f"Expected encoder_stride of {name!r} to be one of "
            f"{sorted(set(reductions))}, got {stride}."
        )
    return reductions


class _FeatureMap(nn.Module):
    """A timm model as a function to one feature map."""

    def __init__(self, model: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.model = model
        self.whole = whole

    @property
    def timm_model(self) -> nn.Module:
        """The model whose parameters bear timm's names."""
        return self.model if self.whole else self.model.model  # type: ignore[return-value]

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm says of the model's inputs."""
        return self.timm_model.pretrained_cfg  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Tensor:
        if self.whole:
            return self.model.forward_features(images)  # type: ignore[operator]
        return self.model(images)[-1]


def _build_body(name: str, stride: int) -> tuple[_FeatureMap, int]:
    if stride == 32:
        whole = timm.create_model(name, num_classes=0, global_pool="")
        features = _whole_map(whole, stride)
        if features is not None:
            return _FeatureMap(_without_head(whole, features), whole=True), features.shape[1]
    reductions = feature_reductions(name, stride)
    deepest = max(i for i, reduction in enumerate(reductions) if reduction == stride)
    model = feature_maps(name, out_indices=(deepest,))
    return _FeatureMap(model, whole=False), model.feature_info.channels()[-1]


def _whole_map(model: nn.Module, stride: int) -> Tensor | None:
    """Return the model's last map of a small image if it is one of `stride`, else None."""
    side = PROBE_STRIDES * stride
    was_training = model.training
    model.eval()
    try:
        features: Tensor = model.forward_features(torch.zeros(1, 3, side, side))  # type: ignore[operator]
    except (RuntimeError, AssertionError):
        return None  # a model of one fixed image size, such as a vision transformer
    finally:
        model.train(was_training)
    is_map = features.ndim == 4 and tuple(features.shape[2:]) == (PROBE_STRIDES, PROBE_STRIDES)
    return features if is_map else None


def _without_head(model: nn.Module, features: Tensor) -> nn.Module:
    """Remove the layers on which `features` do not depend: they would never get a gradient."""
    used = _parameters_behind(features)
    for name, layer in list(model.named_children()):
        parameters = {id(parameter) for parameter in layer.parameters()}
        if parameters and not parameters & used:
            setattr(model, name, nn.Identity())
    return model


def _parameters_behind(output: Tensor) -> set[int]:
    """Return the ids of the parameters from which `output` was computed."""
    nodes, seen, found = [output.grad_fn], set(), set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # a leaf, where a gradient would gather
            found.add(id(node.variable))
        nodes += [before for before, _ in node.next_functions]
    return found


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
