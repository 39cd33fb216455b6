"""Decoders of segmentation_models_pytorch, one for each task, behind one encoder of timm."""

import importlib
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import UsageError, printable
from mtl.networks.base import MultiTaskNetwork, Parts
from mtl.streams import global_stream

MIN_STAGES = 3
"""Below which most of these decoders cannot be built: encoder_stride 8."""


def build_smp(name: str, parts: Parts) -> MultiTaskNetwork:
    """Return the network with decoders `name`, one of `mtl.spec.sections.SMP_DECODERS`.

    Raises:
        UsageError: if the library is not installed, the encoder has no map of every stride, or the
            decoder cannot be built on it.
    """
    try:
        library = importlib.import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise UsageError(
            f"Expected the package segmentation_models_pytorch for smp:{name}, got none. Install "
            "it: pip install -e '.[smp]'."
        ) from error
    return SmpDecoders(getattr(library, name), parts)


class SmpDecoders(MultiTaskNetwork):
    """The encoder is shared; all its feature maps go to a decoder and head for each task.

    Args:
        model: a class of segmentation_models_pytorch, whose decoder and head are taken.
        parts: of the network; `decoder_widths` of its spec do not count.
    """

    def __init__(self, model: type[nn.Module], parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.stage_encoder()
        strides = self.encoder.strides
        num_stages = len(strides)
        if strides != [2**k for k in range(1, num_stages + 1)] or num_stages < MIN_STAGES:
            raise UsageError(
                f"Expected an encoder with feature maps at strides 2, 4, ... up to 8 at least for "
                f"smp:{model.__name__}, got {parts.spec.encoder!r} with {strides}. Choose another "
                "encoder, or --set network.encoder_stride=32."
            )
        self.decoders = nn.ModuleDict()
        for task, channels in parts.out_channels.items():
            with global_stream(parts.seed, "decoder", task):
                self.decoders[task] = _Decoder(model, parts.spec.encoder, num_stages, channels)
        self._check(parts)

    def _check(self, parts: Parts) -> None:
        """Refuse decoders that do not give maps of the images' size."""
        multiple = self.encoder.prepare.multiple
        sides = parts.image_size or (4 * multiple, 4 * multiple)
        wanted = tuple(-(-side // multiple) * multiple for side in sides)
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                predictions = self._padded_predictions(torch.zeros(1, 3, *wanted))
            found = str(sorted({tuple(held.shape[-2:]) for held in predictions.values()}))
        except Exception as error:  # each decoder says in its own way what it cannot do
            found = printable(error).rstrip(".")
        finally:
            self.train(was_training)
        if found != str([wanted]):
            raise UsageError(
                f"Expected maps of {wanted} pixels from {parts.spec.architecture} behind "
                f"{parts.spec.encoder!r}, got {found}. Choose another network.encoder_stride, "
                "encoder or decoder."
            )

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        body: Any = self.encoder.body
        prepared = self.encoder.prepare(images)
        maps = [prepared, *body(prepared)]
        return {task: decoder(maps) for task, decoder in self.decoders.items()}


class _Decoder(nn.Module):
    """Decoder and head of a model of the library, for one task."""

    def __init__(self, model: Any, encoder: str, num_stages: int, channels: int) -> None:
        super().__init__()
        takes = inspect.signature(model.__init__).parameters
        options: dict[str, Any] = {}
        if isinstance(widths := getattr(takes.get("decoder_channels"), "default", None), tuple):
            options["decoder_channels"] = widths[-num_stages:]
        whole = model(
            encoder_name=f"tu-{encoder}",
            encoder_depth=num_stages,
            encoder_weights=None,
            classes=channels,
            **options,
        )
        self.decoder, self.head = whole.decoder, whole.segmentation_head

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the task's prediction at the size of the first map, the images."""
        return self.head(self.decoder(maps))
