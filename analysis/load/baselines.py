"""Single-task runs as baselines: each trains one task alone, otherwise like the joint runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.load.groups import COMPARED
from analysis.load.runs import Loaded, load_stores
from mtl.spec import RunSpec
from mtl.spec.strict import flat
from mtl.store import Store
from mtl.store.states import read_specs

Baselines = Mapping[str, Mapping[int, float]]
"""Metric column -> seed -> value on the test split."""
SINGLE_TASK = "single_task"
"""The architecture of a network with one task."""
_OF_JOINT_TRAINING = (*COMPARED, "tasks", "loss_units")
_OF_SEVERAL_NETWORKS = ("network.architecture", "network.cross_stitch_own_share")
"""Fields in which a single-task run differs from the joint ones that it is the baseline of."""


def is_baseline(spec: RunSpec, joint: RunSpec, task: str) -> bool:
    """Return whether `spec` trains `task` alone as `joint` trains it among others."""
    if spec.tasks != (task,) or spec.network.architecture != SINGLE_TASK:
        return False
    alone, among = (
        {
            name: value
            for name, value in flat(held.to_dict()).items()
            if name.split(".")[0] not in _OF_JOINT_TRAINING and name not in _OF_SEVERAL_NETWORKS
        }
        for held in (spec, joint)
    )
    return alone == among


def baselines(stores: Sequence[Store], specs: Mapping[str, RunSpec], joint: RunSpec) -> Baselines:
    """Return the finite metrics of those runs that are baselines of `joint`.

    Args:
        stores: that hold the runs.
        specs: run id -> spec of runs that may be such.
        joint: a run of several tasks.
    """
    found: dict[str, dict[int, float]] = {}
    for task in joint.tasks:
        ids = [run_id for run_id, spec in specs.items() if is_baseline(spec, joint, task)]
        if ids:
            found |= _by_seed(load_stores(stores, ids).runs, task)
    return found


def _by_seed(runs: pd.DataFrame, task: str) -> dict[str, dict[int, float]]:
    if runs.empty:
        return {}
    columns = [str(name) for name in runs.columns if str(name).startswith(f"{task}_")]
    found: dict[str, dict[int, float]] = {}
    for seed, mine in runs.groupby("seed"):
        for column in columns:
            value = mine[column].astype(float).mean()
            if np.isfinite(value):
                found.setdefault(column, {})[int(str(seed))] = float(value)
    return found


def with_baselines(loaded: Loaded, stores: Sequence[Store], run_ids: Sequence[str]) -> Loaded:
    """Return `loaded` with the baselines of its runs among `run_ids`."""
    if loaded.runs.empty or not run_ids:
        return loaded
    done = str(loaded.runs["run_id"].iloc[0])
    joint = read_specs(stores, [done])[done]
    return replace(loaded, baselines=baselines(stores, read_specs(stores, run_ids), joint))
