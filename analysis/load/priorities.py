"""Priorities as values: how they stand in a run table, and how near they are to equal ones."""

from collections.abc import Mapping, Sequence

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


def setting_of(row: Mapping[str, object], tasks: Sequence[str]) -> Priorities | None:
    """Return the priorities in a row of the run table, or None where it has none."""
    values = [row.get(priority_column(task)) for task in tasks]
    # A column without any number holds None, one with some holds NaN.
    if any(pd.isna(value) for value in values):  # type: ignore[call-overload]
        return None
    return tuple(canonical_float(float(value)) for value in values)  # type: ignore[arg-type]


def settings_of(runs: pd.DataFrame, tasks: Sequence[str]) -> list[Priorities | None]:
    """Return the priorities of every row of a run table."""
    columns = [name for task in tasks if (name := priority_column(task)) in runs]
    rows = runs[columns].to_dict("records") if columns else [{}] * len(runs)
    return [setting_of({str(k): v for k, v in row.items()}, tasks) for row in rows]


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
