"""What a training is (`RunSpec`) and how it is executed (`Runtime`), without torch.

A run is its content: `run_id` is a hash of the full resolved spec, so the same spec asked for
twice is one run, and whatever cannot change the result (device, threads, folders) is not in it.

How identities survive new fields: a field added later is entered in `NEUTRAL_VALUES` with the
value at which the training is what it was before the field existed. At that value the field
leaves the canonical form, so earlier run ids stand.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mtl.errors import UsageError
from mtl.spec.code import check_code_field, code_of, is_reference, top_module
from mtl.spec.methods import (
    METHODS,
    MethodNeeds,
    OptionValue,
    check_method,
    check_options,
    needs_of,
)
from mtl.spec.sections import (
    SHARING_NOTHING,
    DataSpec,
    NetworkSpec,
    OptimizerSpec,
    check_at_least,
    check_positive,
)
from mtl.spec.strict import build_dataclass, canonical_float, checked_name, flat, plain, settle
from mtl.spec.tasks import check_task

IDENTITY_VERSION = 1
"""Raised when the canonical form itself changes; enters every hash."""

NUMERICS_VERSION = 2
"""Raised when code changes what a spec computes; runs of different versions never mix."""

PERIOD_FIELDS: tuple[str, ...] = ("period_epochs", "period_steps")
"""Settings of the methods that have periods, and of no other."""

MIX_DIGITS, LINE_TOLERANCE = 9, 1e-9
"""Of a mix, which follows from rounded priorities; and how far these may lie from their line."""

NEUTRAL_VALUES: dict[str, Any] = {
    "data.prepared": None,
    "method_options.clamp": None,
    "network.cross_stitch_own_share": 0.9,
    "network.encoder_weights": "random",
    "optimizer.max_gradient_norm": None,
    "period_epochs": 1,
    "period_steps": None,
    "micro_batches": 1,
    "precision": "float32",
    "channels_last": True,
    "code": {},
    "regularizers": True,
    "selection": "last",
    "trunk": None,
    "forked_after": None,
    "mixed_between": None,
    "optimizer.schedule_epochs": None,
}
"""Dotted field name -> value at which the field leaves the canonical form (see above)."""


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
    """Priority factors (`lsb`) or weights (`fixed`, `scaled_fixed`, `stch`), positive, summing to
    1; None resolves to equal ones where the method takes priorities."""
    method_options: dict[str, OptionValue] = field(default_factory=dict)
    """Options of the method; those left out resolve to its defaults."""
    loss_units: dict[str, float] = field(default_factory=dict)
    """Task -> factor on its loss, as if the loss were measured in another unit; 1 if left out."""
    seed: int = 0
    epochs: int = 1000
    batch_size: int = 8
    """Images a step. The supplement does not give its own."""
    period_epochs: int = 1
    """Epochs between two updates of the weights, for methods with periods."""
    period_steps: int | None = None
    """Steps between two updates of the weights, in place of `period_epochs`."""
    micro_batches: int = 1
    """Parts that a batch is trained in, one after another, to save memory. Each loss keeps the
    gradient of the whole batch, up to batch norm, which sees one part at a time."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """`tf32`: on a GPU that has it, products within convolutions and matrix products have 10 bits
    of mantissa; elsewhere float32. `bf16`: the network computes in bfloat16 where torch's autocast
    deems it safe; the losses are float32."""
    channels_last: bool = True
    """Memory layout of images and convolutions; the fastest one, and other last digits."""
    regularizers: bool = True
    """Whether the task losses have the regularisers of equations (3), (4), (6), (8) and (10)."""
    horizontal_flips: bool = True
    selection: Literal["last", "validation"] = "last"
    """Which epoch counts: the last, or the one with the least validation error (geometric mean
    over the tasks, `mtl.training.checkpoint`); never by the test split."""
    trunk: str | None = None
    """Run id of the training that a forked run goes on from: `trunk_of` this run."""
    forked_after: int | None = None
    """Epochs that the trunk trained for it; its own are those after them."""
    mixed_between: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Priorities of two forks of the trunk, whose weights are mixed in place of a training; those
    of this run lie on the line between them."""
    data: DataSpec = field(default_factory=DataSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    code: dict[str, str] = field(default_factory=dict)
    """Module -> hash of its source, of what comes from outside (`mtl.spec.code`). The modules that
    the run names resolve to their present hash; further ones on which they depend may be given."""
    numerics_version: int = NUMERICS_VERSION

    def __post_init__(self) -> None:
        """Resolve what was left out, round floats, and refuse what cannot be trained."""
        self._check_tasks()
        check_method(self.method)
        check_code_field(self.code)
        settle(self)
        check_at_least("seed", self.seed, 0)
        for name in ("epochs", "batch_size", "micro_batches", "period_epochs"):
            check_at_least(name, getattr(self, name), 1)
        for name, bound, maximum in (
            ("batch_size", "data.num_train", self.data.num_train),
            ("micro_batches", "batch_size", self.batch_size),
        ):
            if (value := getattr(self, name)) > maximum:
                raise UsageError(f"Expected {name} at most {bound} = {maximum}, got {value}.")
        missing = [name for name in self.references if top_module(name) not in self.code]
        resolved: dict[str, Any] = {
            "code": {**self.code, **code_of(missing)},
            "loss_units": self._resolved_units(),
        }
        # Resolved when it was planned; whoever reads results executes no code from outside.
        is_resolved = is_reference(self.method) and self.method not in missing
        needs = None if is_resolved else needs_of(self.method)
        resolved |= resolved_method(
            self.method, needs, self.tasks, self.priorities, self.method_options
        )
        if needs is not None:
            self._check_needs(needs)
        if self.network.cross_stitch_own_share is None:
            resolved["network"] = replace(self.network, cross_stitch_own_share=1 / len(self.tasks))
        for name, value in resolved.items():
            object.__setattr__(self, name, value)
        self._check_fork()
        self._check_mixed()

    def _check_fork(self) -> None:
        if (self.trunk is None) != (self.forked_after is None):
            raise UsageError(
                "Expected trunk and forked_after together, got "
                f"trunk {self.trunk!r} and forked_after {self.forked_after}. `forked` sets both."
            )
        if self.forked_after is None:
            return
        if self.priorities is None:
            raise UsageError(
                f"Expected a method that takes priorities for a forked run, got {self.method!r}."
            )
        if not 1 <= self.forked_after < self.epochs:
            raise UsageError(
                f"Expected forked_after from 1 to {self.epochs - 1}, one less than epochs, got "
                f"{self.forked_after}."
            )

    def _check_mixed(self) -> None:
        if self.mixed_between is None:
            return
        if self.priorities is None or self.trunk is None:
            raise UsageError(
                "Expected mixed_between with trunk and forked_after alone, got no trunk. `mixed` "
                "makes such a run of two forks."
            )
        # One run, whichever fork is named first.
        ends = sorted(check_priorities(end, self.tasks) for end in self.mixed_between)
        object.__setattr__(self, "mixed_between", tuple(ends))
        mix = self.mix if len(set(ends)) == len(ends) == 2 else 0.0
        off_line = math.dist(between(ends[0], ends[-1], mix), self.priorities)
        if not 0 < mix < 1 or off_line > LINE_TOLERANCE:
            raise UsageError(
                "Expected priorities on the line between those of two forks, got "
                f"{list(self.priorities)} between {' and '.join(str([*end]) for end in ends)}. "
                "`mixed` sets both."
            )

    def _check_needs(self, needs: MethodNeeds) -> None:
        self._check_period(needs.has_periods)
        architecture = self.network.architecture
        if needs.needs_gradients and architecture in SHARING_NOTHING:
            raise UsageError(
                f"Expected an architecture that shares parameters for method {self.method!r}, "
                f"which compares the tasks' gradients there, got {architecture!r}."
            )

    def _check_tasks(self) -> None:
        if not self.tasks:
            raise UsageError("Expected at least one task, got none.")
        for task in self.tasks:
            check_task(task)
        if len(set(self.tasks)) != len(self.tasks):
            raise UsageError(f"Expected distinct tasks, got {list(self.tasks)}.")

    @property
    def references(self) -> tuple[str, ...]:
        """Return the names of what comes from outside, as `module:name`."""
        network = self.network
        parts = (self.method, *self.tasks, network.architecture, network.encoder)
        return tuple(name for name in parts if is_reference(name))

    @property
    def own_epochs(self) -> int:
        """Epochs that the run trains itself: those of its trunk and of forks are not among them."""
        return 0 if self.is_mixed else self.epochs - (self.forked_after or 0)

    @property
    def is_mixed(self) -> bool:
        """Return whether its weights are mixed of two forks' in place of trained."""
        return self.mixed_between is not None

    @property
    def mix(self) -> float:
        """Return the share of the second fork's weights in a mixed run.

        Raises:
            ValueError: of a run that is not mixed.
        """
        if self.mixed_between is None or self.priorities is None:
            raise UsageError("Expected a mixed run, got one that is trained.")
        sides = zip(*self.mixed_between, self.priorities, strict=True)
        first, second, held = max(sides, key=lambda side: abs(side[1] - side[0]))
        return round((held - first) / (second - first), MIX_DIGITS)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last may see fewer images."""
        return -(-self.data.num_train // self.batch_size)

    @property
    def method_settings(self) -> dict[str, OptionValue]:
        """Options of the method, and its period where it has one."""
        periods = {name: getattr(self, name) for name in PERIOD_FIELDS}
        if is_reference(self.method):  # nobody asks it: said where it is not the usual one
            has_periods = periods != {name: NEUTRAL_VALUES[name] for name in PERIOD_FIELDS}
        else:
            has_periods = METHODS[self.method].has_periods
        return {**self.method_options, **(periods if has_periods else {})}

    def _check_period(self, has_periods: bool) -> None:
        given = f"period_epochs {self.period_epochs} and period_steps {self.period_steps}"
        if self.period_steps is not None:
            check_at_least("period_steps", self.period_steps, 1)
        elif self.period_epochs == 1:
            return
        if not has_periods:
            raise UsageError(
                f"Expected no period for method {self.method!r}, which has none, got {given}."
            )
        if self.period_steps is not None and self.period_epochs != 1:
            raise UsageError(
                f"Expected either period_epochs or period_steps, got {given}. Leave one out."
            )
        num_steps = self.epochs * self.steps_per_epoch
        if self.period_epochs > self.epochs or (self.period_steps or 0) > num_steps:
            raise UsageError(
                f"Expected a period no longer than the training of {self.epochs} epochs "
                f"({num_steps} steps), got {given}. The weights would never change; shorten the "
                "period."
            )

    def _resolved_units(self) -> dict[str, float]:
        for task in self.loss_units:
            checked_name(task, self.tasks, "task", of="loss_units")
        units = {task: canonical_float(self.loss_units.get(task, 1.0)) for task in self.tasks}
        for task, unit in units.items():
            check_positive(f"loss_units.{task}", unit)
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
        return plain(self)

    def fields(self) -> dict[str, Any]:
        """Return dotted name -> value of every field."""
        return flat(self.to_dict())

    def run_id(self) -> str:
        """Return the run's identity: 16 hexadecimal digits of a hash of its canonical form."""
        canonical = self.to_dict()
        for dotted, neutral in NEUTRAL_VALUES.items():
            _drop_if_neutral(canonical, dotted.split("."), neutral)
        return content_id(canonical)


def trunk_of(spec: RunSpec, epochs: int) -> RunSpec:
    """Return the first `epochs` epochs of a run at equal priorities, a run of its own.

    Its learning rates are those of the whole schedule, so that it is the beginning of `spec`
    trained at equal priorities, bit for bit.
    """
    optimizer = spec.optimizer
    if optimizer.schedule != "constant" or optimizer.warmup_share > 0:
        optimizer = replace(optimizer, schedule_epochs=optimizer.schedule_epochs or spec.epochs)
    return replace(
        spec, epochs=epochs, priorities=None, selection="last", trunk=None, forked_after=None,
        mixed_between=None, optimizer=optimizer,
    )  # fmt: skip


def forked(spec: RunSpec, after: int) -> RunSpec:
    """Return the run that goes on from the trunk of `spec` after so many epochs.

    Raises:
        ValueError: if its method takes no priorities, or nothing is left to train.
    """
    return replace(spec, trunk=trunk_of(spec, after).run_id(), forked_after=after)


def mixed(first: RunSpec, second: RunSpec, mix: float) -> RunSpec:
    """Return the run of (1 - mix) of the weights of one fork and `mix` of those of another.

    Its priorities are mixed alike.

    Raises:
        ValueError: unless both are forks of one trunk that differ in priorities alone, and `mix`
            lies between 0 and 1.
    """
    a, b = first.priorities, second.priorities
    if a is None or b is None or replace(second, priorities=a) != first:
        raise UsageError("Expected two forks that differ in their priorities alone, got others.")
    return replace(first, priorities=between(a, b, mix), mixed_between=(a, b))


def forks_of(spec: RunSpec) -> tuple[RunSpec, RunSpec]:
    """Return the two forks of which a mixed run is made; its `mix` is the second one's share.

    Raises:
        ValueError: of a run that is not mixed.
    """
    if spec.mixed_between is None:
        raise UsageError("Expected a mixed run, got one that is trained.")
    first, second = (replace(spec, priorities=p, mixed_between=None) for p in spec.mixed_between)
    return first, second


def between(first: Sequence[float], second: Sequence[float], mix: float) -> tuple[float, ...]:
    """Return the priorities at a share of the way from the first to the second."""
    return tuple(
        canonical_float((1 - mix) * a + mix * b) for a, b in zip(first, second, strict=True)
    )


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
    keep: Literal["none", "final", "last", "all"] = "final"
    """What stays of a finished run's checkpoint: nothing, the weights, these and the whole last
    checkpoint, from which runs can be forked, or every epoch's."""
    checkpoint_seconds: float = 10.0
    """Between two checkpoints of a running run at least; the last one is always written. A run that
    is killed trains again what its newest checkpoint does not have; one that is stopped or fails
    writes it first. 0: after every epoch."""
    cuda_graphs: bool = False
    """Whether steps are CUDA graphs where nothing in them may wait. No GPU was at hand when they
    were written: off until `python -m tests.benchmarks gpu` has shown that they train alike."""
    encoder_weights_file: str | None = None
    """The file that `network.encoder_weights` names by its hash."""
    num_samples: int = 4
    """Validation images whose predictions and error maps go into the store; 0 for none."""
    sample_epochs: tuple[int, ...] = (2, 10)
    """After which epochs, beside the last."""
    pause_after: int | None = None
    """Epoch after which a longer run is left with its checkpoint; None trains to the end. Learning
    rates follow the full length, so a paused run is the beginning of the full one."""

    def __post_init__(self) -> None:
        """Refuse unknown choices."""
        settle(self)
        check_at_least("num_samples", self.num_samples, 0)
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise UsageError(
                f"Expected checkpoint_seconds of 0 or more, got {self.checkpoint_seconds}."
            )
        for epoch in self.sample_epochs:
            check_at_least("sample_epochs", epoch, 1)
        if self.pause_after is not None:
            check_at_least("pause_after", self.pause_after, 1)
        check_at_least("num_threads", self.num_threads, 1)


def check_num_processes(spec: RunSpec, number: int) -> None:
    """Raise a `UsageError` if so many processes cannot share the batches of a run."""
    most = spec.batch_size // spec.micro_batches
    if number > max(1, most):
        raise UsageError(
            f"Expected at most {max(1, most)} processes to train a run together, an image of "
            f"each part of a batch for each of them, got {number}. Take fewer GPUs for a run, a "
            "larger batch_size or fewer micro_batches."
        )


def resolved_method(
    method: str,
    needs: MethodNeeds | None,
    tasks: Sequence[str],
    priorities: Sequence[float] | None,
    options: Mapping[str, OptionValue],
) -> dict[str, Any]:
    """Return `method_options`, and `priorities` of a method that takes them, those left out filled.

    Args:
        method: its name, for messages.
        needs: what it asks of its user; None for a method from outside that was resolved when it
            was planned, so that its floats alone are rounded.
        tasks: in the order of the priorities.
        priorities: as given.
        options: as given.

    Raises:
        ValueError: for too few tasks, priorities that do not fit, or options that do not.
    """
    if needs is None:
        rounded = {
            name: canonical_float(value) if isinstance(value, float) else value
            for name, value in sorted(options.items())
        }
        given = {} if priorities is None else {"priorities": check_priorities(priorities, tasks)}
        return {"method_options": rounded, **given}
    if len(tasks) < needs.min_tasks:
        raise UsageError(
            f"Expected at least {needs.min_tasks} tasks for method {method!r}, got {len(tasks)}. "
            "Add tasks or choose another method."
        )
    if priorities is not None and not needs.takes_priorities:
        raise UsageError(
            f"Expected no priorities for method {method!r}, which takes none, got "
            f"{list(priorities)}."
        )
    resolved: dict[str, Any] = {"method_options": check_options(method, options)}
    if needs.takes_priorities:
        resolved["priorities"] = check_priorities(priorities, tasks)
    return resolved


def content_id(content: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of a hash of plain values: the form of every run id."""
    versioned = {"identity_version": IDENTITY_VERSION, **content}
    text = json.dumps(versioned, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def equal_priorities(tasks: Sequence[str]) -> tuple[float, ...]:
    """Return 1/n for each of n tasks."""
    return tuple(canonical_float(1 / len(tasks)) for _ in tasks)


def check_priorities(priorities: Sequence[float] | None, tasks: Sequence[str]) -> tuple[float, ...]:
    """Return `priorities` rounded to 12 digits, or equal ones for None.

    Raises:
        ValueError: unless there is one positive number per task and they sum to 1 within 1e-6.
    """
    if priorities is None:
        return equal_priorities(tasks)
    if len(priorities) != len(tasks):
        raise UsageError(
            f"Expected {len(tasks)} priorities, one for each of {list(tasks)}, "
            f"got {list(priorities)}."
        )
    priorities = [float(p) for p in priorities]
    if not all(math.isfinite(p) and p > 0 for p in priorities):
        raise UsageError(f"Expected positive priorities, got {list(priorities)}.")
    if abs(sum(priorities) - 1) > 1e-6:
        raise UsageError(
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
