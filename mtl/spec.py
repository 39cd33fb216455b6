"""What a training is (`RunSpec`) and how it is executed (`Runtime`), without torch.

A run is its content: `run_id` is a hash of the full resolved spec, so the same spec asked for
twice is one run, and whatever cannot change the result (device, threads, folders) is not in it.

How identities survive new fields: a field added later is entered in `NEUTRAL_VALUES` with the
value at which the training is what it was before the field existed. At that value the field
leaves the canonical form, so earlier run ids stand.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mtl.encoder_names import check_encoder_name
from mtl.names import checked_name
from mtl.strict import build_dataclass, canonical_float, round_floats

IDENTITY_VERSION = 1
"""Raised when the canonical form itself changes; enters every hash."""

NUMERICS_VERSION = 1
"""Raised when code changes what a spec computes; runs of different versions never mix."""

NEUTRAL_VALUES: dict[str, Any] = {}
"""Dotted field name -> value at which the field leaves the canonical form (see above)."""


@dataclass(frozen=True)
class MethodNeeds:
    """What a weighting method asks of its user."""

    takes_priorities: bool
    """True where `RunSpec.priorities` steers the method; False where it must be None."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Option name -> default."""


METHODS: dict[str, MethodNeeds] = {
    "equal": MethodNeeds(takes_priorities=False),
    "fixed": MethodNeeds(takes_priorities=True),
    "lsb": MethodNeeds(takes_priorities=True, options={"increase_rate": 0.02}),
}
ARCHITECTURES: tuple[str, ...] = ("full_sharing",)
TASKS: tuple[str, ...] = ("depth", "normal", "segmentation")
DATASETS: tuple[str, ...] = ("scenes",)
SCENE_VARIANTS: tuple[str, ...] = ("simple", "rooms")
SCENES_VERSION = 1
"""Version of the scene renderer; a contract test holds it equal to the renderer's own."""
SPLITS: tuple[str, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which images. Scenes enter a run's identity by version, seed, counts and size."""

    name: str = "scenes"
    variant: str = "simple"
    """`simple`: few large classes, learnt in minutes. `rooms`: the 13 classes of NYUv2."""
    version: int = SCENES_VERSION
    seed: int = 0
    height: int = 48
    """Pixels."""
    width: int = 64
    """Pixels."""
    num_train: int = 400
    num_validation: int = 100
    num_test: int = 100

    def __post_init__(self) -> None:
        """Refuse what cannot be rendered."""
        checked_name(self.name, DATASETS, "data set")
        checked_name(self.variant, SCENE_VARIANTS, "scenes variant")
        if self.version != SCENES_VERSION:
            raise ValueError(
                f"Expected data.version {SCENES_VERSION}, got {self.version}. "
                f"This code renders version {SCENES_VERSION} only; use the release that made it."
            )
        for name in ("height", "width", "num_train", "num_validation", "num_test"):
            _check_at_least(f"data.{name}", getattr(self, name), 1)
        _check_at_least("data.seed", self.seed, 0)

    def count(self, split: str) -> int:
        """Return the number of images in `split` (train, validation or test)."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}[
            split
        ]


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Encoder, decoder and how they share. Defaults are the supplement's, section 1."""

    architecture: str = "full_sharing"
    encoder: str = "mobilenetv2_100"
    """Any timm encoder."""
    encoder_stride: int = 32
    """Image pixels per feature-map pixel: 2, 4, 8, 16 or 32."""
    decoder_widths: tuple[int, ...] = (512, 256, 128, 64, 32, 16)
    """Channels of the first convolution and of each of the five two-convolution stages."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        checked_name(self.architecture, ARCHITECTURES, "architecture")
        check_encoder_name(self.encoder)
        if self.encoder_stride not in (2, 4, 8, 16, 32):
            raise ValueError(
                "Expected network.encoder_stride to be one of 2, 4, 8, 16, 32, "
                f"got {self.encoder_stride}."
            )
        if len(self.decoder_widths) != 6 or min(self.decoder_widths) < 1:
            raise ValueError(
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
    schedule: Literal["constant", "linear"] = "constant"
    """`linear`: after the warm-up the learning rate falls linearly to 0 at the last step."""
    warmup_share: float = 0.0
    """Share of all steps over which the learning rate rises linearly from 0."""

    def __post_init__(self) -> None:
        """Round floats and refuse rates outside their ranges."""
        round_floats(self)
        checked_name(self.schedule, ("constant", "linear"), "optimizer.schedule")
        _check_positive("optimizer.learning_rate", self.learning_rate)
        _check_positive("optimizer.epsilon", self.epsilon)
        for name in ("weight_decay", "beta1", "beta2", "warmup_share"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"Expected optimizer.{name} in [0, 1), got {value}.")


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training, complete: two equal specs compute the same numbers.

    Floats are rounded to 12 significant digits on the way in, so that the identity and the
    arithmetic see the same values (0.1 + 0.2 is 0.3).
    """

    tasks: tuple[str, ...] = ("depth", "segmentation")
    """Ordered; fixes the axis order of priorities, losses and weights."""
    method: str = "lsb"
    priorities: tuple[float, ...] | None = None
    """Priority factors (`lsb`) or weights (`fixed`), positive, summing to 1; None resolves to
    equal ones where the method takes priorities."""
    method_options: dict[str, float] = field(default_factory=dict)
    """Options of the method; those left out resolve to the defaults in `METHODS`."""
    loss_units: dict[str, float] = field(default_factory=dict)
    """Task -> factor on its loss, as if the loss were measured in another unit; 1 if left out."""
    seed: int = 0
    epochs: int = 1000
    batch_size: int = 8
    """Images a step. The supplement does not give its own."""
    horizontal_flips: bool = True
    data: DataSpec = field(default_factory=DataSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    numerics_version: int = NUMERICS_VERSION

    def __post_init__(self) -> None:
        """Resolve what was left out, round floats, and refuse what cannot be trained."""
        if not self.tasks:
            raise ValueError("Expected at least one task, got none.")
        for task in self.tasks:
            checked_name(task, TASKS, "task")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"Expected distinct tasks, got {list(self.tasks)}.")
        checked_name(self.method, METHODS, "method")
        _check_at_least("seed", self.seed, 0)
        _check_at_least("epochs", self.epochs, 1)
        _check_at_least("batch_size", self.batch_size, 1)
        if self.batch_size > self.data.num_train:
            raise ValueError(
                f"Expected batch_size at most data.num_train = {self.data.num_train}, "
                f"got {self.batch_size}."
            )
        object.__setattr__(self, "priorities", self._resolved_priorities())
        object.__setattr__(self, "method_options", self._resolved_options())
        object.__setattr__(self, "loss_units", self._resolved_units())

    def _resolved_priorities(self) -> tuple[float, ...] | None:
        if not METHODS[self.method].takes_priorities:
            if self.priorities is not None:
                raise ValueError(
                    f"Expected no priorities for method {self.method!r}, which takes none, "
                    f"got {list(self.priorities)}."
                )
            return None
        if self.priorities is None:
            return equal_priorities(self.tasks)
        return check_priorities(self.priorities, self.tasks)

    def _resolved_options(self) -> dict[str, float]:
        defaults = METHODS[self.method].options
        for name in self.method_options:
            checked_name(name, defaults, f"option of method {self.method!r}")
        options = {**defaults, **self.method_options}
        for name, value in options.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"Expected method_options.{name} to be finite and at least 0, got {value}."
                )
        return {name: canonical_float(options[name]) for name in sorted(options)}

    def _resolved_units(self) -> dict[str, float]:
        for task in self.loss_units:
            checked_name(task, self.tasks, "task of loss_units")
        units = {task: canonical_float(self.loss_units.get(task, 1.0)) for task in self.tasks}
        for task, unit in units.items():
            _check_positive(f"loss_units.{task}", unit)
        return units

    @classmethod
    def from_dict(cls, values: Any) -> "RunSpec":
        """Build a spec from a mapping of nested plain values, as JSON or YAML hold them.

        Raises:
            ValueError: for an unknown field (the known ones are listed) or a value of a wrong
                type or range.
        """
        return build_dataclass(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain values; `RunSpec.from_dict` takes it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def run_id(self) -> str:
        """Return the run's identity: 16 hexadecimal digits of a hash of its canonical form."""
        canonical = {"identity_version": IDENTITY_VERSION, **self.to_dict()}
        for dotted, neutral in NEUTRAL_VALUES.items():
            _drop_if_neutral(canonical, dotted.split("."), neutral)
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a run is executed.

    On the CPU nothing here changes a result but `num_threads`, whose sums round differently; it
    is 1 unless asked otherwise, and the manifest records it.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU where there is one."""
    num_threads: int = 1
    """Threads for torch on the CPU. Runs side by side use the cores better than threads do."""
    data_root: str | None = None
    """Folder of prepared data; None means the user's cache folder."""
    keep: Literal["none", "final", "all"] = "final"
    """What stays of a finished run's checkpoint: nothing, the weights, or every epoch's."""

    def __post_init__(self) -> None:
        """Refuse unknown choices."""
        checked_name(self.device, ("auto", "cpu", "cuda"), "device")
        checked_name(self.keep, ("none", "final", "all"), "keep")
        _check_at_least("num_threads", self.num_threads, 1)


def equal_priorities(tasks: Sequence[str]) -> tuple[float, ...]:
    """Return 1/n for each of n tasks."""
    return tuple(canonical_float(1 / len(tasks)) for _ in tasks)


def check_priorities(priorities: Sequence[float], tasks: Sequence[str]) -> tuple[float, ...]:
    """Return `priorities` rounded to 12 digits.

    Raises:
        ValueError: unless there is one positive number per task and they sum to 1 within 1e-6.
    """
    if len(priorities) != len(tasks):
        raise ValueError(
            f"Expected {len(tasks)} priorities, one for each of {list(tasks)}, "
            f"got {list(priorities)}."
        )
    priorities = [float(p) for p in priorities]
    if not all(math.isfinite(p) and p > 0 for p in priorities):
        raise ValueError(f"Expected positive priorities, got {list(priorities)}.")
    if abs(sum(priorities) - 1) > 1e-6:
        raise ValueError(
            f"Expected priorities that sum to 1, got {list(priorities)} with sum "
            f"{sum(priorities):.9g}. Divide each by the sum."
        )
    return tuple(canonical_float(p) for p in priorities)


def _drop_if_neutral(canonical: dict[str, Any], path: list[str], neutral: Any) -> None:
    for part in path[:-1]:
        if part not in canonical:
            return
        canonical = canonical[part]
    if path[-1] in canonical and canonical[path[-1]] == neutral:
        del canonical[path[-1]]


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"Expected {name} to be at least {least}, got {value}.")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"Expected {name} to be positive and finite, got {value}.")
