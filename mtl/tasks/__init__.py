"""The tasks: loss, regulariser, metrics and prior of each.

A task of one's own is named `module:Name`, a `Task` with an attribute `declared`
(docs/extending.md). One of this project is an entry of `mtl.spec.tasks.DECLARED_TASKS`, which says
what can be said without torch, and a `Task` here.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from mtl.data.batches import Derivation
from mtl.errors import RunFailedError, UsageError, UserError, raised
from mtl.spec.code import code_path, is_reference, load_object, top_module
from mtl.spec.tasks import DECLARED_TASKS, declared_task
from mtl.tasks.base import Task
from mtl.tasks.depth import Depth
from mtl.tasks.maps import Map
from mtl.tasks.normal import Normal
from mtl.tasks.segmentation import Segmentation

KINDS: dict[str, type[Task]] = {"depth": Depth, "normal": Normal, "segmentation": Segmentation}
"""Those left out are maps of plain numbers."""
TASKS: dict[str, Task] = {name: KINDS.get(name, Map)(name) for name in DECLARED_TASKS}

METHODS = tuple(name for name in vars(Task) if name[0] != "_" and callable(getattr(Task, name)))
"""Of a task, all of which one from outside may define."""
NO_FAULT = (OSError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
"""What code raises through no fault of its own: it may pass on a second try."""

__all__ = ["TASKS", "Task", "derivations", "task_of"]


def task_of(name: str) -> Task:
    """Return a task by its name; the module of `module:Name` is imported.

    Raises:
        ValueError: for an unknown task, or what is none.
    """
    return _from_outside(name) if is_reference(name) else TASKS[name]


@functools.cache  # asked for in each step; `fit` refuses code that was edited since
def _from_outside(name: str) -> Task:
    kind = load_object(name, "task")
    declared_task(name)
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise UsageError(f"Expected a subclass of mtl.tasks.Task at {name!r}, got {kind!r:.100}.")
    task: Task = _told(name, "__init__", kind)(name)
    for method in METHODS:
        setattr(task, method, _told(name, method, getattr(task, method)))
    return task


def _told(name: str, method: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a task from outside whose faults end a run with a sentence."""

    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (RunFailedError, *NO_FAULT):
            raise
        except UserError as error:
            raise RunFailedError(f"Task {name}, {method}: {error}") from error
        except Exception as error:
            what = raised(error, [code_path(top_module(name))])
            raise RunFailedError(
                f"Expected {method} of task {name} to compute, got {what}."
            ) from error

    return called


def derivations(tasks: Iterable[str]) -> dict[str, Derivation]:
    """Return how the targets of those `tasks` are made that follow from others' targets."""
    found = {task: task_of(task) for task in tasks}
    return {
        name: Derivation(task.sources, task.derive) for name, task in found.items() if task.sources
    }
