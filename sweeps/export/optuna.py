"""Optuna: a sweep as a study, failed runs included, that `optuna-dashboard` opens."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from analysis.load.axes import Axis
from analysis.load.runs import VALIDATION
from mtl.errors import UserError
from sweeps.export.runs import ExportedRun

ENDED = ("done", "failed")
"""States of runs that become trials; others wait until they have come to one of these."""
MADE_BY = "exported_from"
"""Attribute of a study that may be written anew."""
_NAMED = ("method", "seed", "priorities", "tasks")


def export_study(path: Path, name: str, runs: Sequence[ExportedRun], axes: Sequence[Axis]) -> int:
    """Write a study anew, one trial a run that has ended, in place of what the file held.

    Parameters are the method, the seed, each task's priority and whatever else differs between the
    runs; values are those on validation, since whoever opens a study looks for the best.

    Args:
        path: of the journal.
        name: of the study.
        runs: of the same tasks.
        axes: by which each task is judged.

    Returns:
        The number of trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if path.exists() and not (path.is_file() and _is_own(path, name)):
        raise UserError(
            f"Expected no file at {path}, or study {name!r} as it was exported before, got another."
            " Give another --out."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    ways: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(new))),
        study_name=name,
        directions=[ways[axis.metric.direction] for axis in axes],
    )
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        study.set_metric_names([f"{axis.task} {axis.metric.name}" for axis in axes])
    study.set_user_attr(MADE_BY, name)
    ended = [run for run in runs if run.run.state in ENDED]
    params = _params(ended)
    kinds = _kinds(params)
    for run, own in zip(ended, params, strict=True):
        values = [_value(run, axis) for axis in axes]
        usable = [value for value in values if value is not None]
        is_complete = len(usable) == len(axes)
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if is_complete else TrialState.FAIL,
                values=usable if is_complete else None,
                params=own,
                distributions={param: kinds[param] for param in own},
                user_attrs={**run.tags, **run.final, "reason": run.run.reason},
            )
        )
    new.replace(path)
    return len(ended)


def _is_own(path: Path, name: str) -> bool:
    mark = json.dumps({MADE_BY: name}, separators=(",", ":"))[1:-1]
    return mark.encode() in path.read_bytes()


def _params(runs: Sequence[ExportedRun]) -> list[dict[str, object]]:
    """Return each run's parameters: numbers for priorities, texts for all else."""
    fields = [run.params for run in runs]
    seen: dict[str, set[str]] = {}
    for held in fields:
        for name, value in held.items():
            seen.setdefault(name, set()).add(str(value))
    varies = [n for n, v in seen.items() if len(v) > 1 and n.split(".")[0] not in _NAMED]
    found = []
    for run, held in zip(runs, fields, strict=True):
        own: dict[str, object] = {"method": run.spec.method, "seed": str(run.spec.seed)}
        own |= {
            f"priority_{t}": p
            for t, p in zip(run.spec.tasks, run.spec.priorities or (), strict=False)
        }
        found.append(own | {name: str(held[name]) for name in varies if name in held})
    return found


def _kinds(params: Sequence[dict[str, object]]) -> dict[str, BaseDistribution]:
    values: dict[str, dict[object, None]] = {}
    for own in params:
        for name, value in own.items():
            values.setdefault(name, {})[value] = None
    return {
        name: FloatDistribution(0.0, 1.0)
        if name.startswith("priority_")
        else CategoricalDistribution([str(value) for value in held])
        for name, held in values.items()
    }


def _value(run: ExportedRun, axis: Axis) -> float | None:
    if run.run.result is None:
        return None
    of_task = (run.run.result.selected_metrics.get(VALIDATION) or {}).get(axis.task) or {}
    return of_task.get(axis.metric.name)
