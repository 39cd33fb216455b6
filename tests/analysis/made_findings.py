"""Findings made of numbers given outright, for tests of sections."""

from collections.abc import Sequence

import pandas as pd

from analysis.compute.findings import Findings, find
from analysis.load.axes import choose_axes
from analysis.load.runs import Loaded, RunState
from mtl.spec.strict import canonical_float

TWO_TASKS = ("depth", "segmentation")


def made_findings(
    rows: Sequence[tuple[str, tuple[float, ...] | None, int, tuple[float, ...]]],
    tasks: tuple[str, ...] = TWO_TASKS,
    prior: dict[str, float] | None = None,
    **metrics: str,
) -> Findings:
    """Return findings on runs (arm, priorities, seed, metrics in task order)."""
    axes = choose_axes(tasks, metrics)
    table: list[dict[str, object]] = []
    states = []
    for number, (arm, given, seed, values) in enumerate(rows):
        priorities = None if given is None else tuple(map(canonical_float, given))
        run_id = f"{number:016x}"
        row: dict[str, object] = {"run_id": run_id, "method": arm, "arm": arm, "seed": seed}
        row |= {
            f"priority_{task}": None if priorities is None else priorities[k]
            for k, task in enumerate(tasks)
        }
        row |= {axis.column: value for axis, value in zip(axes, values, strict=True)}
        table.append(row)
        states.append(RunState(run_id, "done", "", arm, priorities, seed))
    runs = pd.DataFrame(table)
    return find(Loaded(tasks, runs, tuple(states), {}, {}, prior or {}), axes)
