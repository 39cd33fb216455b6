"""Priorities as values: how they stand in a run table, and how near they are to equal ones."""

import math
from collections.abc import Sequence

import pandas as pd

from mtl.spec.strict import canonical_float

Priorities = tuple[float, ...]
"""One a task, in the order of the tasks."""
PRIORITY_PREFIX = "priority_"
"""Of the columns that hold a task's priority."""
NEARLY_EQUAL = 1e-3
"""Priorities this near to 1 / K count as equal: people write 1/3 with few digits."""


def priority_column(task: str) -> str:
    """Return the name of the run table's column of a task's priority."""
    return f"{PRIORITY_PREFIX}{task}"


def settings_of(runs: pd.DataFrame, tasks: Sequence[str]) -> list[Priorities | None]:
    """Return the priorities of every row of a run table, None where it has none."""
    columns = [priority_column(task) for task in tasks]
    rows = runs.reindex(columns=columns).astype(float).to_numpy().tolist()
    return [None if any(map(math.isnan, row)) else tuple(map(canonical_float, row)) for row in rows]


def priority_values(
    priorities: Priorities | None, tasks: Sequence[str], prefix: str = ""
) -> dict[str, float | None]:
    """Return column -> priority for a row of a table, None where there are no priorities."""
    values = (None,) * len(tasks) if priorities is None else priorities
    named = zip(tasks, values, strict=True)
    return {f"{prefix}{priority_column(task)}": value for task, value in named}


def distance_from_equal(priorities: Priorities) -> float:
    """Return the largest difference of a priority from 1 / K."""
    return max(abs(value - 1 / len(priorities)) for value in priorities)


def is_equal(priorities: Priorities) -> bool:
    """Return whether every task counts alike."""
    return distance_from_equal(priorities) <= NEARLY_EQUAL


def nearest_to_equal(settings: Sequence[Priorities]) -> Priorities | None:
    """Return the setting nearest to equal priorities, of those as near the first in rising order.

    None without any.
    """
    # Rounded: 1/6 and 5/6 lie as far from 1/2 for people, not for floats.
    return min(settings, key=lambda s: (round(distance_from_equal(s), 9), s), default=None)
