"""The tasks: loss, regulariser, metrics and prior of each.

A task of one's own is named `module:Name`, a `Task` with an attribute `declared`
(docs/extending.md). One of this project is an entry of `mtl.spec.tasks.DECLARED_TASKS`, which says
what can be said without torch, and a `Task` here.
"""

import functools
from collections.abc import Iterable

from mtl.data.batches import Derivation
from mtl.errors import UsageError
from mtl.spec.code import is_reference, load_object
from mtl.spec.tasks import DECLARED_TASKS, declared_task
from mtl.tasks.base import Task
from mtl.tasks.depth import Depth
from mtl.tasks.maps import Map
from mtl.tasks.normal import Normal
from mtl.tasks.segmentation import Segmentation

KINDS: dict[str, type[Task]] = {"depth": Depth, "normal": Normal, "segmentation": Segmentation}
"""Those left out are maps of plain numbers."""
TASKS: dict[str, Task] = {name: KINDS.get(name, Map)(name) for name in DECLARED_TASKS}

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
    return kind(name)


def derivations(tasks: Iterable[str]) -> dict[str, Derivation]:
    """Return how the targets of those `tasks` are made that follow from others' targets."""
    found = {task: task_of(task) for task in tasks}
    return {
        name: Derivation(task.sources, task.derive) for name, task in found.items() if task.sources
    }
