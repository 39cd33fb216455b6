"""The sections of a `RunSpec`: data, network, optimizer, and the names they may hold; no torch."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from mtl.errors import UsageError
from mtl.spec.code import OWN, SMP, is_reference
from mtl.spec.encoders import check_encoder_name, check_encoder_weights
from mtl.spec.strict import checked_name, settle
from mtl.spec.tasks import DECLARED_TASKS

_HASH = re.compile("[0-9a-f]{16}")

ARCHITECTURES: dict[str, str] = {
    "single_task": "mtl.networks.single_task:SingleTask",
    "full_sharing": "mtl.networks.full_sharing:FullSharing",
    "multi_decoder": "mtl.networks.multi_decoder:MultiDecoder",
    "multi_column": "mtl.networks.multi_column:MultiColumn",
    "mtan": "mtl.networks.mtan:Mtan",
}
"""Name -> module and class, which `mtl.networks` imports: a plan needs no torch."""
SMP_DECODERS = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN"),
    *("DeepLabV3", "DeepLabV3Plus", "UPerNet", "Segformer"),
)
"""Decoders of segmentation_models_pytorch; `smp:Unet` has one for each task."""
SHARING_NOTHING: tuple[str, ...] = ("single_task",)
"""Architectures in which no parameter serves two tasks."""
TASKS: tuple[str, ...] = tuple(DECLARED_TASKS)
DATASETS: tuple[str, ...] = ("scenes", "nyuv2", "nyuv2_mtan", "taskonomy", "folder", "huggingface")
SCENE_VARIANTS: tuple[str, ...] = ("simple", "rooms")
SCENES_VERSION = 1
"""Version of the scene renderer; a contract test holds it equal to the renderer's own."""
SPLITS: tuple[str, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which images.

    Scenes enter a run's identity by variant, version, seed, counts and size; data from files by the
    hash of what was prepared of them, whoever's code read them.
    """

    name: str = "scenes"
    """One of `DATASETS`, or `module:name` of a function that opens one's own."""
    prepared: str | None = None
    """For data from files: 16 digits of the hash of the prepared arrays; `--dataset` finds it."""
    variant: str = "simple"
    """Of scenes. `simple`: few large classes, learnt in minutes. `rooms`: the 13 of NYUv2."""
    version: int = SCENES_VERSION
    """Of scenes."""
    seed: int = 0
    """Of scenes."""
    height: int = 48
    """Pixels."""
    width: int = 64
    """Pixels."""
    num_train: int = 400
    num_validation: int = 100
    num_test: int = 100

    def __post_init__(self) -> None:
        """Refuse what cannot be rendered or found."""
        if not is_reference(self.name):
            checked_name(self.name, [*DATASETS, OWN], "data set")
        if self.name == "scenes" and self.prepared is not None:
            raise UsageError(f"Expected no data.prepared for scenes, got {self.prepared!r}.")
        if self.name != "scenes" and not _HASH.fullmatch(self.prepared or ""):
            raise UsageError(
                f"Expected data.prepared, 16 digits of a hash, for {self.name}, got "
                f"{self.prepared!r}. `--dataset {self.name}` finds it."
            )
        checked_name(self.variant, SCENE_VARIANTS, "scenes variant")
        if self.version != SCENES_VERSION:
            raise UsageError(
                f"Expected data.version {SCENES_VERSION}, got {self.version}. "
                f"This code renders version {SCENES_VERSION} only; use the release that made it."
            )
        for name in ("height", "width", "num_train", "num_validation", "num_test"):
            check_at_least(f"data.{name}", getattr(self, name), 1)
        check_at_least("data.seed", self.seed, 0)

    def count(self, split: str) -> int:
        """Return the number of images in `split` (train, validation or test)."""
        return int(getattr(self, f"num_{split}"))


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Encoder, decoder and how they share. Defaults are the supplement's, section 1."""

    architecture: str = "full_sharing"
    """One of `ARCHITECTURES`, or `module:Name`: a `MultiTaskNetwork`, or what builds any module."""
    encoder: str = "mobilenetv2_100"
    """Any timm encoder, or `module:name` of one that the module registers with timm."""
    encoder_stride: int = 32
    """Image pixels per feature-map pixel: 2, 4, 8, 16 or 32."""
    decoder_widths: tuple[int, ...] = (512, 256, 128, 64, 32, 16)
    """Channels of the first convolution and of each of the five two-convolution stages."""
    encoder_weights: str = "random"
    """Where the encoder starts: `random`; `imagenet`, which timm downloads; or `sha256:` and 16
    digits of the hash of a file with weights (the file itself is named in `Runtime`)."""
    cross_stitch_own_share: float | None = 0.9
    """For `multi_column`: alpha_ii of equation (1) at the start; the others of a row share the
    rest. The supplement has 0.9 (0.05 beside it) on NYUv2 and 1/n on Taskonomy; a run resolves
    None to 1/n."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if not is_reference(self.architecture):
            known = [*ARCHITECTURES, OWN, *(f"{SMP}{name}" for name in SMP_DECODERS)]
            checked_name(self.architecture, known, "architecture")
        check_encoder_name(self.encoder)
        check_encoder_weights(self.encoder_weights)
        settle(self)
        share = self.cross_stitch_own_share
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"Expected network.cross_stitch_own_share from 0 to 1, got {share}.")
        if self.encoder_stride not in (2, 4, 8, 16, 32):
            raise UsageError(
                "Expected network.encoder_stride to be one of 2, 4, 8, 16, 32, "
                f"got {self.encoder_stride}."
            )
        if len(self.decoder_widths) != 6 or min(self.decoder_widths) < 1:
            raise UsageError(
                "Expected network.decoder_widths to hold six positive channel counts (the twelve "
                "convolutions are 1 + 5 x 2 with these widths, and the output convolution), "
                f"got {list(self.decoder_widths)}."
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """AdamW; the defaults are the supplement's, section 3."""

    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: `linear` and `cosine` fall to 0 at the end of the last step."""
    warmup_share: float = 0.0
    """Share of all steps over which the learning rate rises linearly from 0."""
    schedule_epochs: int | None = None
    """Epochs that schedule and warm-up count as all; None: those of the run. More than those for a
    run that is the beginning of a longer one."""
    max_gradient_norm: float | None = None
    """The gradient of the overall loss is shortened to this norm; None leaves it alone."""

    def __post_init__(self) -> None:
        """Round floats and refuse rates outside their ranges."""
        settle(self, "optimizer")
        check_positive("optimizer.learning_rate", self.learning_rate)
        if self.max_gradient_norm is not None:
            check_positive("optimizer.max_gradient_norm", self.max_gradient_norm)
        if self.schedule_epochs is not None:
            check_at_least("optimizer.schedule_epochs", self.schedule_epochs, 1)
        check_positive("optimizer.epsilon", self.epsilon)
        for name in ("weight_decay", "beta1", "beta2", "warmup_share"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(f"Expected optimizer.{name} in [0, 1), got {value}.")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise a `ValueError` if `value` is below `least`."""
    if value < least:
        raise UsageError(f"Expected {name} to be at least {least}, got {value}.")


def check_positive(name: str, value: float) -> None:
    """Raise a `ValueError` unless `value` is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"Expected {name} to be positive and finite, got {value}.")
