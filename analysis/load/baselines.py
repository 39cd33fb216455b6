"""Single-task runs as baselines: each trains one task alone, otherwise like the joint runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.load.plans import COMPARED
from analysis.load.runs import Baselines, Loaded, load_stores
from mtl.spec import OwnSpec, RunSpec
from mtl.store import Store
from mtl.store.states import read_specs

SINGLE_TASK = "single_task"
"""The architecture of a network with one task."""
_OF_JOINT_TRAINING = (*COMPARED, "tasks", "loss_units")
_OF_SEVERAL_NETWORKS = ("network.architecture", "network.cross_stitch_own_share")


def _shared_settings(spec: RunSpec, tuned: Sequence[str]) -> dict[str, Any]:
    """Return the fields in which a single-task run equals those that it is the baseline of."""
    left_out = (*_OF_SEVERAL_NETWORKS, *tuned)
    return {
        name: value
        for name, value in spec.fields().items()
        if name.split(".")[0] not in _OF_JOINT_TRAINING and name not in left_out
    }


def single_task_runs(
    loaded: Loaded, stores: Sequence[Store], run_ids: Iterable[str], tuned: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """Return task -> the done ones of those runs that are baselines of the loaded ones.

    Args:
        loaded: runs of several tasks.
        stores: that hold all of them.
        run_ids: of runs that may be baselines; with `tuned`, of the same sweep.
        tuned: dotted fields in which each method has a value of its own, as single tasks do.
    """
    ids = list(run_ids)
    if loaded.runs.empty or not ids:
        return {}
    done = str(loaded.runs["run_id"].iloc[0])
    first = read_specs(stores, [done])[done]
    if isinstance(first, OwnSpec):
        return {}
    settings = _shared_settings(first, tuned)
    specs = {
        run_id: spec
        for run_id, spec in read_specs(stores, ids).items()
        if isinstance(spec, RunSpec)
        and spec.network.architecture == SINGLE_TASK
        and _shared_settings(spec, tuned) == settings
    }
    found = {}
    for task in loaded.tasks:
        own = [run_id for run_id, spec in specs.items() if spec.tasks == (task,)]
        runs = load_stores(stores, own, specs).runs
        if not runs.empty:
            found[task] = runs
    return found


def baseline_values(runs_of_tasks: Mapping[str, pd.DataFrame]) -> Baselines:
    """Return the finite test metrics of single-task runs by column and seed."""
    found: dict[str, Mapping[int, float]] = {}
    for task, runs in runs_of_tasks.items():
        for column in (str(name) for name in runs if str(name).startswith(f"{task}_")):
            means = runs[column].astype(float).groupby(runs["seed"]).mean()
            finite = means[np.isfinite(means)]
            if len(finite):
                found[column] = {int(str(s)): float(v) for s, v in finite.to_dict().items()}
    return found


def baselines(
    loaded: Loaded, stores: Sequence[Store], run_ids: Iterable[str], tuned: Sequence[str] = ()
) -> tuple[Baselines, list[str]]:
    """Return the metrics of `single_task_runs`, and a sentence on each tuned field of theirs."""
    found = single_task_runs(loaded, stores, run_ids, tuned)
    if not (tuned and found):
        return baseline_values(found), []
    first = {task: str(runs["run_id"].iloc[0]) for task, runs in found.items()}
    specs = read_specs(stores, first.values())
    notes = []
    for name in tuned:
        each = [f"{task} {specs[run_id].fields()[name]}" for task, run_id in first.items()]
        notes.append(f"{name} of the single-task runs: {'; '.join(each)}.")
    return baseline_values(found), notes
