"""The tasks: loss, regulariser, metrics and prior of each.

A new task is an entry of `mtl.spec.tasks.DECLARED_TASKS`, which says what can be said without
torch, and a `Task` here.
"""

from mtl.spec.tasks import DECLARED_TASKS
from mtl.tasks.base import Task
from mtl.tasks.depth import Depth
from mtl.tasks.maps import Map
from mtl.tasks.normal import Normal
from mtl.tasks.segmentation import Segmentation

KINDS: dict[str, type[Task]] = {"depth": Depth, "normal": Normal, "segmentation": Segmentation}
"""Those left out are maps of plain numbers."""
TASKS: dict[str, Task] = {name: KINDS.get(name, Map)(name) for name in DECLARED_TASKS}

__all__ = ["TASKS", "Task"]
