"""Weightings: how the task losses become the overall loss.

    from mtl.weighting import build_weighting
    weighting = build_weighting("lsb", tasks=("depth", "segmentation"), priorities=(0.3, 0.7))
    weighting.backward(losses)      # each step, before the optimizer's
    weighting.step()                # each step, after the optimizer's
    weighting.end_period()          # each epoch

A method of one's own is named `module:Name`, see docs/extending.md. One of this project is a file
with a `Weighting`, an entry in `WEIGHTINGS` and one in `mtl.spec.methods`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

from mtl.errors import UsageError
from mtl.spec.code import TORCHJD, is_reference, load_object
from mtl.spec.methods import (
    TORCHJD_METHODS,
    MethodNeeds,
    OptionValue,
    check_options,
    needs_of,
)
from mtl.spec.strict import checked_name
from mtl.spec.tasks import DECLARED_TASKS, LossKind
from mtl.weighting.base import Prioritised, Weighting
from mtl.weighting.dwa import DWA
from mtl.weighting.equal import Equal
from mtl.weighting.fixed import Fixed
from mtl.weighting.gls import GLS
from mtl.weighting.gradnorm import GradNorm
from mtl.weighting.imtl_l import IMTLL
from mtl.weighting.inputs import in_order
from mtl.weighting.lsb import LSB
from mtl.weighting.rlw import RLW
from mtl.weighting.scaled_fixed import ScaledFixed
from mtl.weighting.stch import STCH
from mtl.weighting.torchjd.aggregator import TorchJDAggregator
from mtl.weighting.torchjd.famo import FAMO
from mtl.weighting.uncertainty import Uncertainty

WEIGHTINGS: dict[str, Callable[..., Weighting]] = {
    "dwa": DWA,
    "equal": Equal,
    "fixed": Fixed,
    "gls": GLS,
    "gradnorm": GradNorm,
    "imtl_l": IMTLL,
    "lsb": LSB,
    "rlw": RLW,
    "scaled_fixed": ScaledFixed,
    "stch": STCH,
    "uncertainty": Uncertainty,
    "torchjd:FAMO": FAMO,
    **{
        TORCHJD + name: partial(TorchJDAggregator, name)
        for name, needs in TORCHJD_METHODS.items()
        if needs.needs_gradients
    },
}

__all__ = ["WEIGHTINGS", "MethodNeeds", "Prioritised", "Weighting", "build_weighting"]


def build_weighting(
    method: str,
    tasks: Sequence[str],
    priorities: Sequence[float] | Mapping[str, float] | None = None,
    *,
    loss_kinds: Mapping[str, LossKind] | None = None,
    seed: int = 0,
    steps_per_period: int | None = None,
    skip_nonfinite: bool = False,
    **options: OptionValue,
) -> Weighting:
    """Build the weighting `method`.

    Args:
        method: a name in `WEIGHTINGS`, or `module:Name` of one's own.
        tasks: distinct task names, in the order of the losses.
        priorities: one positive number a task, in the order of the tasks or by name, summing to 1
            within 1e-6, for methods that take them; None means equal ones.
        loss_kinds: task -> `regression` or `classification`, for `uncertainty`; known for the
            tasks of this project.
        seed: of the draws of methods that draw.
        steps_per_period: after so many calls of `step`, at least 1, the period ends by itself,
            counted as one epoch; None leaves `end_period` to the caller.
        skip_nonfinite: True leaves a step with a loss that is not finite out of what the weighting
            learns, for a loop whose `GradScaler` skips it too; False refuses such a loss.
        **options: the method's own, such as `increase_rate` of `lsb`.

    Raises:
        ValueError: for an unknown method or option, priorities that do not fit, or a method whose
            library is not installed.
    """
    needs = needs_of(method)
    if isinstance(tasks, str):
        raise UsageError(f"Expected a sequence of task names, got the text {tasks!r}.")
    arguments: dict[str, Any] = check_options(method, options)
    if isinstance(priorities, Mapping):
        priorities = in_order(tasks, priorities, "priority")
    if priorities is not None and not needs.takes_priorities:
        raise UsageError(
            f"Expected no priorities for method {method!r}, which takes none, "
            f"got {list(priorities)}."
        )
    if needs.draws:
        arguments["seed"] = _whole("seed", seed, 0)
    if needs.uses_loss_kinds:
        arguments["loss_kinds"] = _loss_kinds(method, tasks, loss_kinds or {})
    if steps_per_period is not None:
        steps_per_period = _whole("steps_per_period", steps_per_period, 1)
    steered = {"priorities": priorities} if needs.takes_priorities else {}
    weighting = _builder(method)(tasks, **steered, **arguments)
    if not isinstance(weighting, Weighting):
        raise UsageError(f"Expected a Weighting at {method!r}, got {type(weighting).__name__}.")
    weighting.steps_per_period, weighting.skip_nonfinite = steps_per_period, skip_nonfinite
    weighting.built_options = arguments
    return weighting


def _whole(name: str, value: Any, minimum: int) -> int:
    """Return a whole number, of numpy too, as a plain one that a state can hold."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise UsageError(
            f"Expected a whole number of at least {minimum} for {name}, got {value!r}."
        )
    return int(value)


def _builder(method: str) -> Callable[..., Weighting]:
    return load_object(method, "method") if is_reference(method) else WEIGHTINGS[method]


def _loss_kinds(
    method: str, tasks: Sequence[str], given: Mapping[str, LossKind]
) -> dict[str, LossKind]:
    """Return the kind of each task's loss."""
    for task, kind in given.items():
        checked_name(task, tasks, "task", of="loss_kinds")
        checked_name(kind, ("regression", "classification"), "loss kind", of=f"task {task!r}")
    known = {task: DECLARED_TASKS[task].loss_kind for task in tasks if task in DECLARED_TASKS}
    kinds = {task: (known | dict(given))[task] for task in tasks if task in known or task in given}
    unknown = [task for task in tasks if task not in kinds]
    if unknown:
        raise UsageError(
            f"Expected loss_kinds of the tasks {unknown} for method {method!r}, got none. Say "
            f"loss_kinds={{{unknown[0]!r}: 'regression'}} or 'classification'."
        )
    return kinds
