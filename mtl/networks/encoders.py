"""timm encoders: an image in, one feature map out, or one of every stride on the way."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mtl.errors import UsageError
from mtl.networks.encoder_weights import EncoderWeights
from mtl.streams import global_stream

PROBE_STRIDES = 2
"""Side of the probe image in strides: enough for every stage to see more than one pixel."""


class TimmEncoder(nn.Module, ABC):
    """A timm model up to a stride, with its input normalisation and padding.

    Args:
        name: any timm encoder that gives feature maps.
        stride: image pixels per pixel of the last map; layers behind that map are removed.
        seed: initial parameters are a function of (name, stride, seed, stream).
        stream: name of this encoder's random stream.
        weights: where it starts, in place of random parameters.
        image_size: height and width of the images that it must take. Models that refuse them get
            them padded to their largest reduction, or are made for that size. None tries nothing.

    Raises:
        ValueError: if the encoder has no feature map of that stride or none for such images, or
            the weights are not the encoder's.
    """

    def __init__(
        self,
        name: str,
        stride: int,
        seed: int,
        *,
        stream: str = "encoder",
        weights: EncoderWeights | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.stride = name, stride
        with global_stream(seed, stream):
            self._build(image_size)
        if weights is not None:
            weights.load_into(self.timm_model)

    @property
    def timm_model(self) -> nn.Module:
        """The model whose parameters bear timm's names."""
        model: Any = self.get_submodule("body.model")
        return model.model if _gives_several_maps(model) else model

    @abstractmethod
    def _set_body(self, **options: Any) -> None:
        """Make the body and say what its maps are like; `options` go to timm."""

    @abstractmethod
    def _maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of prepared images, the deepest last."""

    def _build(self, image_size: tuple[int, int] | None) -> None:
        self._set_body()
        self._prepare_to(self.stride)
        self.made_for: tuple[int, int] | None = None
        refusal = None if image_size is None else self._refusal(image_size)
        if image_size is None or refusal is None:
            return
        largest = max(feature_reductions(self.name, self.stride))
        self._prepare_to(largest)
        if self._refusal(image_size) is None:
            return
        height, width = (-(-side // largest) * largest for side in image_size)
        self.made_for = (height, width)
        with contextlib.suppress(Exception):  # most models have no such option
            self._set_body(img_size=self.made_for)
            if self._refusal(image_size) is None:
                return
        raise UsageError(
            f"Expected an encoder for images of {image_size[0]} x {image_size[1]}, got "
            f"{self.name!r} ({refusal.rstrip('.')}). Use images of its size or another encoder."
        )

    def _prepare_to(self, multiple: int) -> None:
        self.prepare = PreparedImages(self.timm_model.pretrained_cfg, multiple)  # type: ignore[arg-type]

    def _refusal(self, image_size: tuple[int, int]) -> str | None:
        """Return why images of a size cannot be encoded, None if they can."""
        try:
            with _evaluating(self), torch.no_grad():
                self._checked_maps(torch.zeros(1, 3, *image_size))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # models refuse sizes with errors of any kind
            return _first_line(error)
        return None

    def _checked_maps(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Return the maps of images, the deepest last.

        Raises:
            ValueError: if the last map has not ceil(size / stride) pixels a side.
        """
        maps = self._maps(self.prepare(images))
        sides = [-(-side // self.stride) for side in images.shape[-2:]]
        if self.prepare.multiple != self.stride:
            maps = self._without_padding(maps, images)
        if list(maps[-1].shape[-2:]) != sides:
            raise UsageError(
                f"Expected a feature map of {sides[0]}x{sides[1]} pixels from encoder "
                f"{self.name!r} at encoder_stride {self.stride}, got "
                f"{maps[-1].shape[-2]}x{maps[-1].shape[-1]}. Choose another stride or encoder."
            )
        return maps

    def _without_padding(self, maps: list[Tensor], images: Tensor) -> list[Tensor]:
        """Return the maps as if images were padded to a multiple of the stride alone."""
        height, width = (-(-side // self.stride) * self.stride for side in images.shape[-2:])
        padded = self.prepare.multiple * -(-images.shape[-2] // self.prepare.multiple)
        strides = [padded // found.shape[-2] for found in maps]
        return [
            found[..., : height // stride, : width // stride]
            for found, stride in zip(maps, strides, strict=True)
        ]

    def last_convolution_weight(self) -> nn.Parameter:
        """Return the weight of the convolution that is computed last.

        A linear layer that acts on every pixel counts as the 1x1 convolution that it is; what gives
        fewer values than the map has pixels, such as a squeeze-and-excitation gate, does not count.
        The order is that of a forward pass: in which order a model holds its layers says little.
        """
        computed: list[tuple[nn.Parameter, int]] = []

        def record(layer: Any, _: Any, output: Tensor) -> None:
            computed.append((layer.weight, output.numel() // layer.weight.shape[0]))

        # An image of the size that stands in timm's configuration suits every model.
        config: dict[str, Any] = self.timm_model.pretrained_cfg  # type: ignore[assignment]
        size = self.made_for or config["input_size"][1:]
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_hook(record) for layer in layers]
        device = next(self.parameters()).device
        try:
            with _evaluating(self), torch.no_grad():
                deepest = self._maps(torch.zeros(1, 3, *size, device=device))[-1]
        finally:
            for hook in hooks:
                hook.remove()
        num_pixels = deepest.shape[-2] * deepest.shape[-1]
        return [weight for weight, num_positions in computed if num_positions >= num_pixels][-1]


class Encoder(TimmEncoder):
    """One feature map. At stride 32 it is the model's last, as in the supplement.

    For MobileNetV2 that is after its last convolution (1280 channels); below stride 32 it is the
    deepest map of that stride. `num_channels` are its channels.
    """

    num_channels: int

    def _set_body(self, **options: Any) -> None:
        self.body, self.num_channels = _build_body(self.name, self.stride, options)

    def _maps(self, images: Tensor) -> list[Tensor]:
        return [self.body(images)]

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels map_height map_width"]:
        """Return the feature map of `images` (values in [0, 1]).

        Sizes that are not multiples of the stride are padded on the right and below by repeating
        the last column and row; the map then has ceil(size / stride) pixels.
        """
        return self._checked_maps(images)[-1]


class StageEncoder(TimmEncoder):
    """The deepest feature map of every stride up to the encoder's.

    At 32, MobileNetV2's last map is the one before its last convolution (320 channels, where
    `Encoder` has 1280). `strides` are image pixels per pixel of each map, rising; `num_channels`
    the channels of each.
    """

    strides: list[int]
    num_channels: list[int]

    def _set_body(self, **options: Any) -> None:
        reductions = feature_reductions(self.name, self.stride)
        # Of several maps of one stride the last, which is the deepest, stays.
        stages = {r: i for i, r in enumerate(reductions) if r <= self.stride}
        self.body = feature_maps(self.name, out_indices=tuple(sorted(stages.values())), **options)
        self.strides = self.body.feature_info.reduction()
        self.num_channels = self.body.feature_info.channels()

    def _maps(self, images: Tensor) -> list[Tensor]:
        return self.body(images)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Return the map of each stage, (batch, channels, map_height, map_width), shallow first."""
        return self._checked_maps(images)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Let `model` be in evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class PreparedImages(nn.Module):
    """Images normalised as an encoder expects them and padded to multiples of a number of pixels.

    Args:
        config: timm's `pretrained_cfg`; without mean and std in it, [-1, 1] is expected.
        multiple: what height and width are padded to a multiple of.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any], multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        for statistic in ("mean", "std"):
            values = torch.tensor(config.get(statistic, (0.5, 0.5, 0.5))).reshape(1, 3, 1, 1)
            self.register_buffer(statistic, values, persistent=False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 padded_height padded_width"]:
        """Return `images` (values in [0, 1]) normalised, then padded on the right and below."""
        normalised = (images - self.mean) / self.std
        height, width = images.shape[-2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(padding):
            normalised = functional.pad(normalised, padding, mode="replicate")
        return normalised


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
    except Exception as error:  # models without feature maps say so in many ways
        raise UsageError(
            f"Expected an encoder that gives feature maps, got {name!r} ({_first_line(error)}). "
            "Choose a convolutional one."
        ) from error
    if stride not in reductions:
        raise UsageError(
            f"Expected encoder_stride of {name!r} to be one of "
            f"{sorted(set(reductions))}, got {stride}."
        )
    return reductions


def _gives_several_maps(model: nn.Module) -> bool:
    """Return whether a model comes from `feature_maps`: timm's getter is a dict of modules."""
    return isinstance(model, nn.ModuleDict)


class _FeatureMap(nn.Module):
    """A timm model as a function to one feature map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Tensor:
        if _gives_several_maps(self.model):
            return self.model(images)[-1]
        return self.model.forward_features(images)


def _build_body(name: str, stride: int, options: dict[str, Any]) -> tuple[_FeatureMap, int]:
    whole = _whole_model(name, stride) if stride == 32 and not options else None
    if whole is not None:
        model, num_channels = whole
        return _FeatureMap(model), num_channels
    reductions = feature_reductions(name, stride)
    deepest = max(i for i, reduction in enumerate(reductions) if reduction == stride)
    model = feature_maps(name, out_indices=(deepest,), **options)
    return _FeatureMap(model), model.feature_info.channels()[-1]


def _whole_model(name: str, stride: int) -> tuple[nn.Module, int] | None:
    """Return a model up to its last map, of `stride`, and the map's channels.

    None where timm cannot leave out classifier and pooling, or the model gives no such map.
    """
    side = PROBE_STRIDES * stride
    try:
        model: Any = timm.create_model(name, num_classes=0, global_pool="")
        with _evaluating(model):
            features: Any = model.forward_features(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError, TypeError, ValueError):
        return None  # such as a vision transformer, of one fixed image size
    is_map = isinstance(features, Tensor) and features.ndim == 4
    if not is_map or tuple(features.shape[2:]) != (PROBE_STRIDES, PROBE_STRIDES):
        return None
    # Layers on which the map does not depend would never get a gradient.
    used = _parameters_behind(features)
    for layer_name, layer in list(model.named_children()):
        parameters = {id(parameter) for parameter in layer.parameters()}
        if parameters and not parameters & used:
            setattr(model, layer_name, nn.Identity())
    return model, features.shape[1]


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
