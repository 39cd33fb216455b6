"""Findings made of numbers given outright, for tests of sections."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.compute.findings import Findings, find
from analysis.load.axes import choose_axes
from analysis.load.runs import Loaded, RunState
from analysis.render.section import Section
from mtl.spec.strict import canonical_float
from mtl.spec.tasks import DECLARED_TASKS


def words(section: Section) -> str:
    """Return the lead and all paragraphs of a section."""
    return " ".join([section.lead, *(part for part in section.parts if isinstance(part, str))])


TWO_TASKS = ("depth", "segmentation")
Row = tuple[str, tuple[float, ...] | None, int, tuple[float, ...]]
"""A run: arm, priorities, seed, metrics in task order."""
PRIORITIES = ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
FRONT = {0.25: (0.5, 0.8), 0.5: (0.7, 0.7), 0.75: (0.8, 0.5)}
"""Depth priority -> depth and segmentation."""


def front_rows(
    seeds: tuple[int, ...] = (3, 3),
    arms: tuple[str, ...] = ("lsb", "fixed"),
    seed: int = 0,
    spread: float = 0.02,
    shift: float = 0.0,
) -> list[Row]:
    """Return runs around `FRONT`, with so many seeds for each arm; `shift` is added to lsb's."""
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for arm, number in zip(arms, seeds, strict=True):
        for priorities in PRIORITIES:
            for s in range(number):
                noise = generator.normal(0, spread, 2) + shift * (arm == "lsb")
                x, y = np.array(FRONT[priorities[0]]) + noise
                rows.append((arm, priorities, s, (float(x), float(y))))
    return rows


def made_findings(
    rows: Sequence[Row],
    tasks: tuple[str, ...] = TWO_TASKS,
    prior: dict[str, float] | None = None,
    primary: tuple[str, ...] = (),
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
    return find(
        Loaded(
            tasks,
            {task: DECLARED_TASKS[task] for task in tasks},
            runs,
            tuple(states),
            {},
            {},
            prior or {},
        ),
        axes,
        primary=primary,
    )
