"""What every architecture has in common: its parts, and who shares which parameters."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mtl.networks.decoder import Decoder
from mtl.networks.encoder_weights import EncoderWeights, timm_name
from mtl.networks.encoders import Encoder, StageEncoder, TimmEncoder
from mtl.spec.sections import NetworkSpec


@dataclass(frozen=True)
class Parts:
    """What a network is built of; every part starts from a random stream of its own."""

    spec: NetworkSpec
    out_channels: dict[str, int]
    """Task -> channels of its prediction, in the order of the tasks."""
    seed: int
    """Of the initial parameters."""
    encoder_weights: EncoderWeights | None = None
    """Where encoders start, in place of random parameters."""
    image_size: tuple[int, int] | None = None
    """Height and width that encoders must take."""

    def encoder(self, stream: str = "encoder") -> Encoder:
        """Return an encoder to one feature map."""
        return Encoder(**self._encoder_settings, stream=stream)

    def stage_encoder(self) -> StageEncoder:
        """Return an encoder to a feature map of every stride on the way."""
        return StageEncoder(**self._encoder_settings)

    @property
    def _encoder_settings(self) -> dict[str, Any]:
        return {
            "name": timm_name(self.spec.encoder),
            "stride": self.spec.encoder_stride,
            "seed": self.seed,
            "weights": self.encoder_weights,
            "image_size": self.image_size,
        }

    def task_encoders(self) -> nn.ModuleDict:
        """Return an encoder for each task."""
        return nn.ModuleDict({task: self.encoder(f"encoder/{task}") for task in self.out_channels})

    def decoder(
        self,
        in_channels: int,
        out_channels: dict[str, int] | None = None,
        stream: str = "decoder",
    ) -> Decoder:
        """Return one decoder for `out_channels`, those of all tasks unless given."""
        return Decoder(
            in_channels,
            self.spec.encoder_stride,
            self.spec.decoder_widths,
            self.out_channels if out_channels is None else out_channels,
            self.seed,
            stream,
        )

    def task_decoders(self, in_channels: int) -> nn.ModuleDict:
        """Return a decoder for each task."""
        decoders = {
            task: self.decoder(in_channels, {task: channels}, f"decoder/{task}")
            for task, channels in self.out_channels.items()
        }
        return nn.ModuleDict(decoders)


class MultiTaskNetwork(nn.Module, ABC):
    """Images in, one prediction a task out.

    An architecture is a subclass that takes `Parts`. Where each task has modules of its own they
    are in `decoders` and what `task_modules` names beside it; where the tasks share an `encoder`,
    and nothing else, the two methods about shared parameters need not be overridden.
    """

    encoder: TimmEncoder
    decoders: nn.ModuleDict
    task_modules: ClassVar[tuple[str, ...]] = ("decoders",)
    """Attributes that hold one module a task."""
    task_names: Mapping[str, str] = {}
    """Name of a task in the network -> its own, where torch takes no dot in a module's name."""

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Float[Tensor, "batch _ ..."]]:
        """Return each task's prediction at the size of `images` (values in [0, 1])."""
        height, width = images.shape[-2:]
        padded = self._padded_predictions(images)
        return {
            self.task_names.get(name, name): p[..., :height, :width] if p.ndim == 4 else p
            for name, p in padded.items()
        }

    @abstractmethod
    def _padded_predictions(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> dict[str, Tensor]:
        """Return the predictions with the rows and columns that stem from encoders' padding."""

    def _decoded(self, features: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return what each task's decoder makes of its features, in the tasks' order."""
        predictions: dict[str, Tensor] = {}
        for decoder, of_task in zip(self.decoders.values(), features, strict=True):
            predictions |= decoder(of_task)
        return predictions

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that several tasks pass through."""
        return list(self.encoder.parameters())

    def task_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters that each task passes through beside the shared ones.

        A tensor whose parts belong to several tasks is listed for each of them.
        """
        modules = [getattr(self, name) for name in self.task_modules]
        return [
            [parameter for by_task in modules for parameter in by_task[task].parameters()]
            for task in self.decoders
        ]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the last shared layer, at which GradNorm compares gradients.

        Of an encoder that is the convolution computed last.
        """
        return [self.encoder.last_convolution_weight()]

    def cross_stitch_matrix(self) -> Float[Tensor, "tasks tasks"] | None:
        """Return the matrix that mixes the encoders' outputs, or None where there is none."""
        return None


@contextlib.contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Let forward passes in training mode leave all buffers of `network` as they are.

    The layers work on copies meanwhile. The buffers themselves are never written to, not even
    with their old values, so a backward pass through an earlier forward pass remains possible
    after this, and one through a forward pass under this does too.
    """
    held = [
        (module, name, buffer)
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        for module, name, buffer in held:
            setattr(module, name, buffer.clone())
        yield
    finally:
        for module, name, buffer in held:
            setattr(module, name, buffer)
