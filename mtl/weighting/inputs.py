"""What a loop hands over each step: the task losses, and which tasks have labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtl.errors import UsageError

Losses = Float[Tensor, " _"] | Mapping[str, Tensor | None] | Sequence[Tensor | None]
"""One scalar a task, with gradients: a tensor or a list in the order of the tasks, or a dict by
name. None in a list or dict stands for a task without labels in this batch."""

Present = Bool[Tensor, " _"] | Mapping[str, bool | Tensor] | Sequence[bool | Tensor]
"""False for a task without labels in this batch: a tensor or a list in the order of the tasks, or
a dict by name."""


def by_task(
    tasks: Sequence[str], losses: Any, present: Any
) -> tuple[Float[Tensor, " tasks"], Bool[Tensor, " tasks"]]:
    """Return losses and presence as tensors in the order of the tasks; nothing waits for a device.

    Args:
        tasks: distinct names.
        losses: `Losses`.
        present: `Present`, or None where all tasks are.

    Raises:
        ValueError: for anything else, or not one for each task.
    """
    has_loss = None
    if isinstance(losses, Mapping | list | tuple):
        losses, has_loss = _stacked(tasks, in_order(tasks, losses, "loss"))
    elif not isinstance(losses, Tensor):
        raise UsageError(
            f"Expected the losses of {list(tasks)} as a tensor, a list or a dict by task, got "
            f"{type(losses).__name__}."
        )
    if losses.shape != (len(tasks),):
        raise UsageError(
            f"Expected {len(tasks)} losses, one for each of {list(tasks)}, "
            f"got a tensor of shape {tuple(losses.shape)}."
        )
    if present is None:
        present = torch.ones(len(tasks), dtype=torch.bool, device=losses.device)
    elif isinstance(present, Mapping | list | tuple):
        present = _flags(in_order(tasks, present, "presence"), losses.device)
    if not (isinstance(present, Tensor) and present.dtype == torch.bool):
        got = present.dtype if isinstance(present, Tensor) else present
        raise UsageError(
            f"Expected True or False for each of {list(tasks)} as present, in a tensor, a list or "
            f"a dict by task, got {got!r:.100}."
        )
    if present.shape != losses.shape:
        raise UsageError(
            f"Expected present of shape {tuple(losses.shape)}, got {tuple(present.shape)}."
        )
    return losses, present if has_loss is None else has_loss & present


def in_order(tasks: Sequence[str], given: Mapping[str, Any] | Sequence[Any], what: str) -> list:
    """Return the values of a dict by task, or of a list, in the order of the tasks.

    Args:
        tasks: distinct names.
        given: one value a task.
        what: such as `loss`, for the message.

    Raises:
        ValueError: unless there is one for each task.
    """
    if isinstance(given, Mapping):
        if set(given) == set(tasks):
            return [given[task] for task in tasks]
        got = f"{list(given)}"
    else:
        if len(given) == len(tasks):
            return list(given)
        got = f"{len(given)}"
    hint = " Give None for a task without labels in this batch." if what == "loss" else ""
    raise UsageError(f"Expected a {what} of each of {list(tasks)}, got {got}.{hint}")


def _stacked(
    tasks: Sequence[str], losses: Sequence[Any]
) -> tuple[Float[Tensor, " tasks"], Bool[Tensor, " tasks"]]:
    """Return the losses as one tensor, 0 for None, and which are not None."""
    for task, loss in zip(tasks, losses, strict=True):
        if not (loss is None or isinstance(loss, Tensor)):
            raise UsageError(
                f"Expected the loss of task {task!r} as a tensor with gradients, got {loss!r:.100}."
            )
    given = [loss for loss in losses if loss is not None]
    if not given:
        raise UsageError(
            "Expected a loss of some task, got None for all. Skip this batch; where several "
            "processes train together the others would wait: give the losses all the same, with "
            f"present={[False] * len(tasks)}."
        )
    if any(loss.dim() for loss in given):
        shapes = {
            task: tuple(loss.shape)
            for task, loss in zip(tasks, losses, strict=True)
            if loss is not None
        }
        raise UsageError(f"Expected one number a task, got losses of shapes {shapes}.")
    dtype = torch.float32
    for loss in given:
        dtype = torch.promote_types(dtype, loss.dtype)
    zero = given[0].new_zeros((), dtype=dtype)
    stacked = torch.stack([zero if loss is None else loss.to(dtype) for loss in losses])
    return stacked, _flags([loss is not None for loss in losses], stacked.device)


def _flags(values: Sequence[Any], device: torch.device) -> Any:
    """Return a tensor of True and False; the values as they are where one is something else."""
    if not all(
        isinstance(value, bool | np.bool_)
        or (isinstance(value, Tensor) and value.dtype == torch.bool and not value.dim())
        for value in values
    ):
        return values
    # Filled on the device: a copy from the host would wait for it.
    return torch.stack(
        [
            value
            if isinstance(value, Tensor)
            else torch.full((), bool(value), dtype=torch.bool, device=device)
            for value in values
        ]
    )
