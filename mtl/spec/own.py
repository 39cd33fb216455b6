"""What a training of one's own is: `OwnSpec`, beside `RunSpec`; no torch.

A function on Ray Tune that somebody else wrote is trained over a grid like the project's own
network. Its runs lie in the same stores under ids of the same form; `read_spec` reads either kind.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mtl.errors import UsageError
from mtl.spec.code import check_code_field, is_reference
from mtl.spec.methods import METHODS, OptionValue, check_method
from mtl.spec.run import (
    NEUTRAL_VALUES,
    NUMERICS_VERSION,
    RunSpec,
    content_id,
    resolved_method,
)
from mtl.spec.sections import check_at_least
from mtl.spec.strict import build_dataclass, canonical_float, flat, plain
from mtl.spec.tasks import MAX_TEXT, DeclaredTask, LossKind

SETTINGS = ("method", "priorities", "seed", "weighting")
"""Names of a training function's config that the sweep sets."""

_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class OwnSpec:
    """One run of somebody's own training function, complete."""

    train: str
    """The function, as `module:name`."""
    code: dict[str, str]
    """Module -> hash of its source, see `mtl.spec.code`; that of `train` and what else counts."""
    tasks: tuple[str, ...]
    """Ordered; fixes the axis order of priorities, losses and weights."""
    metrics: dict[str, DeclaredTask]
    """Task -> what the function reports of it."""
    method: str = "lsb"
    priorities: tuple[float, ...] | None = None
    """As in `RunSpec`."""
    method_options: dict[str, OptionValue] = field(default_factory=dict)
    """Options of the method; those left out resolve to its defaults."""
    seed: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    """The function's own settings: numbers, texts, lists and mappings of them."""
    numerics_version: int = NUMERICS_VERSION

    def __post_init__(self) -> None:
        """Resolve what was left out, round floats, and refuse what cannot be trained."""
        if not is_reference(self.train):
            raise UsageError(f"Expected the training function as module:name, got {self.train!r}.")
        check_code_field(self.code)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise UsageError(f"Expected distinct tasks, at least one, got {list(self.tasks)}.")
        for task in self.tasks:
            if not (_TASK.fullmatch(task) and len(task) <= MAX_TEXT):
                raise UsageError(
                    "Expected names of tasks of letters, digits, '_' and '-', got "
                    f"{task!r:.100}. Rename the task."
                )
        if set(self.metrics) != set(self.tasks):
            raise UsageError(
                f"Expected metrics of {', '.join(self.tasks)}, got those of "
                f"{', '.join(self.metrics) or 'none'}."
            )
        check_at_least("seed", self.seed, 0)
        check_method(self.method)
        # Of a method from outside the sweep asked the options; a reader does not execute it.
        needs = None if is_reference(self.method) else METHODS[self.method]
        resolved = resolved_method(
            self.method, needs, self.tasks, self.priorities, self.method_options
        )
        resolved["params"] = {name: _param(name, value) for name, value in self.params.items()}
        for name, value in resolved.items():
            object.__setattr__(self, name, value)

    @property
    def epochs(self) -> int | None:
        """Reports expected: the param `epochs`, where there is one; None: nobody knows."""
        epochs = self.params.get("epochs")
        return epochs if type(epochs) is int and epochs >= 1 else None

    @property
    def method_settings(self) -> dict[str, OptionValue]:
        """Options of the method."""
        return dict(self.method_options)

    @property
    def loss_kinds(self) -> dict[str, LossKind]:
        """Task -> kind of its loss; empty for a method that does not look at it.

        Of one from outside nobody knows without executing it, and so it may.
        """
        needs = METHODS.get(self.method)
        if needs is not None and not needs.uses_loss_kinds:
            return {}
        return {task: self.metrics[task].loss_kind for task in self.tasks}

    @property
    def config(self) -> dict[str, Any]:
        """What the training function is given.

        Its own params; `method`, `seed` and `priorities`, a mapping by task, or None for a method
        that takes none; `weighting`, the arguments of `mtl.weighting.build_weighting`.
        """
        values = None if self.priorities is None else list(self.priorities)
        return {
            **plain(self.params),
            "method": self.method,
            "seed": self.seed,
            "priorities": None if values is None else dict(zip(self.tasks, values, strict=True)),
            "weighting": {
                "method": self.method,
                "tasks": list(self.tasks),
                "priorities": values,
                "seed": self.seed,
                **({"loss_kinds": self.loss_kinds} if self.loss_kinds else {}),
                **self.method_options,
            },
        }

    @classmethod
    def from_dict(cls, values: Any) -> "OwnSpec":
        """Build a spec from plain values; a `ValueError` names a field that is wrong."""
        return build_dataclass(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain values; `from_dict` takes it back."""
        return plain(self)

    def _content(self) -> dict[str, Any]:
        """Return what tells runs apart: of the metrics what they mean, not how they are shown."""
        meant = {
            task: [f"{m.name}:{m.direction}:{m.unit}" for m in self.metrics[task].metrics]
            for task in self.tasks
        }
        kinds = {task: kind for task, kind in self.loss_kinds.items() if kind != "regression"}
        return {
            **self.to_dict(),
            "metrics": meant,
            **({"loss_kinds": kinds} if kinds else {}),  # neutral: ids are older than kinds
        }

    def fields(self) -> dict[str, Any]:
        """Return dotted name -> value of what tells runs apart."""
        return flat(self._content())

    def run_id(self) -> str:
        """Return the run's identity: 16 hexadecimal digits of a hash of its content."""
        content = self._content()
        content["method_options"] = {
            name: value
            for name, value in self.method_options.items()
            if NEUTRAL_VALUES.get(f"method_options.{name}", math.nan) != value
        }
        return content_id(content)


Spec: TypeAlias = RunSpec | OwnSpec
"""What a store holds."""


MIXED = ", mixed"
"""After the name of what is mixed of forks and not trained."""


def method_text(spec: Spec) -> str:
    """Return the method, and whether the run is mixed and not trained: `lsb, mixed`."""
    is_mixed = isinstance(spec, RunSpec) and spec.is_mixed
    return f"{spec.method}{MIXED}" if is_mixed else spec.method


def read_spec(values: Any) -> Spec:
    """Return the spec that plain values hold, of either kind; a `ValueError` says what is wrong."""
    is_own = isinstance(values, Mapping) and "train" in values
    return OwnSpec.from_dict(values) if is_own else RunSpec.from_dict(values)


def _param(name: Any, value: Any) -> Any:
    """Return a param as plain values with canonical floats."""
    if not (isinstance(name, str) and _PARAM.fullmatch(name)) or name in SETTINGS:
        raise UsageError(
            f"Expected names of params other than {', '.join(SETTINGS)}, of letters, digits and "
            f"'_', got {name!r:.100}."
        )
    return _plain_param(name, value)


def _plain_param(path: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain_param(f"{path}.{k}", v) for k, v in value.items()}
    if isinstance(value, list | tuple) and not any(
        isinstance(v, list | tuple | Mapping) for v in value
    ):
        return tuple(_plain_param(path, v) for v in value)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return canonical_float(value)
    raise UsageError(
        f"Expected finite numbers, texts, lists and mappings of them for the param {path}, got "
        f"{value!r:.100}. Give the function a name, and let it make the object."
    )
