"""Single runs behind operating points: by method and priorities, then by seed."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.fronts import setting_of

Key = tuple[str, tuple[float, ...] | None]
"""Method and priorities of an operating point."""


def by_point(
    runs: pd.DataFrame, tasks: Sequence[str], columns: Sequence[str]
) -> dict[Key, dict[int, np.ndarray]]:
    """Return (method, priorities) -> seed -> values of `columns`, seeds rising.

    Args:
        runs: usable runs, see `analysis.findings.Findings.runs`.
        tasks: that the priorities are of, in their order.
        columns: of `runs`, numbers.

    Raises:
        ValueError: for values that are not finite.
    """
    if runs.empty:
        return {}
    values = runs[list(columns)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("Expected finite metric values, got NaN or infinity. Exclude such runs.")
    found: dict[Key, dict[int, np.ndarray]] = {}
    for position, (key, seed) in enumerate(_keys(runs, tasks)):
        found.setdefault(key, {})[seed] = values[position]
    return {key: dict(sorted(held.items())) for key, held in found.items()}


def ids_by_point(runs: pd.DataFrame, tasks: Sequence[str]) -> dict[Key, dict[int, str]]:
    """Return (method, priorities) -> seed -> run id, seeds rising."""
    if runs.empty:
        return {}
    found: dict[Key, dict[int, str]] = {}
    for run_id, (key, seed) in zip(runs["run_id"], _keys(runs, tasks), strict=True):
        found.setdefault(key, {})[seed] = str(run_id)
    return {key: dict(sorted(held.items())) for key, held in found.items()}


def shared_seeds(held: Sequence[Mapping[int, object]]) -> list[int]:
    """Return the seeds that all of several points have, rising."""
    if not held:
        return []
    return sorted(set(held[0]).intersection(*held[1:]))


def _keys(runs: pd.DataFrame, tasks: Sequence[str]) -> list[tuple[Key, int]]:
    names = [f"priority_{task}" for task in tasks]
    columns = ["arm", "seed", *(name for name in names if name in runs)]
    rows = runs[columns].to_dict("records")
    return [
        (
            (str(row["arm"]), setting_of({str(k): v for k, v in row.items()}, tasks)),
            int(row["seed"]),
        )
        for row in rows
    ]
