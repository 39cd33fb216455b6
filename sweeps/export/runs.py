"""What an exporter is given of a run, the same for every tool."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from analysis.load.plans import Asked, planned_or_present
from analysis.load.run_files import RunFiles
from analysis.render.pictures import (
    error_maps,
    estimate_picture,
    estimates,
    image_numbers,
    input_image,
    scale_picture,
    shared_limits,
    target_limits,
)
from mtl.errors import UsageError
from mtl.records import EpochRecord
from mtl.spec import Spec
from mtl.store import Store, write_json
from mtl.store.states import StoredRun, read_runs
from sweeps.text import priorities_text

PER_TASK = ("losses", "weights", "loss_scales", "difficulties")
"""Fields of an epoch record with a value a task."""
EXPORTED_STATES = ("done", "failed", "running", "partial", "paused")


@dataclass(frozen=True)
class Written:
    """What a tool holds of a run already."""

    epochs: int = 0
    state: str = ""

    @classmethod
    def noted(cls, path: Path) -> Self:
        """Return what an earlier export noted in a file; nothing where there is none to be read."""
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return cls()


@dataclass(frozen=True)
class ExportedRun:
    """A run that has begun."""

    run: StoredRun
    spec: Spec
    store: Store

    @functools.cached_property
    def records(self) -> list[EpochRecord]:
        """Return its epoch records, read when they are first asked for."""
        return RunFiles([self.store]).epochs(self.run_id)

    def note(self, path: Path) -> None:
        """Note in a file that a tool now holds the run as it is; see `Written.noted`."""
        write_json(path, {"epochs": len(self.records), "state": self.run.state})

    @property
    def run_id(self) -> str:
        """Return its id in the store."""
        return self.run.run_id

    @property
    def name(self) -> str:
        """Return a name that says method, priorities and seed, and can be a folder's."""
        priorities = priorities_text(self.spec).replace(" / ", "-")
        parts = [self.spec.method.replace(":", "_"), priorities, f"seed{self.spec.seed}"]
        return "_".join([*(p for p in parts if p != "-"), self.run_id[:8]])

    @property
    def tags(self) -> dict[str, str]:
        """Return by what runs are found: method, priorities, seed, tasks and state."""
        priorities = self.spec.priorities or ()
        each = zip(self.spec.tasks, priorities, strict=False)
        return {
            "run_id": self.run_id,
            "method": self.spec.method,
            **{f"priority_{task}": f"{priority:.6g}" for task, priority in each},
            "seed": str(self.spec.seed),
            "tasks": " ".join(self.spec.tasks),
            "state": self.run.state,
        }

    @property
    def params(self) -> dict[str, Any]:
        """Return dotted spec field -> value: the hyper-parameters."""
        return self.spec.fields()

    @property
    def final(self) -> dict[str, float]:
        """Return `test/<task>/<metric>` of the selected epoch; empty unless the run is done."""
        result = self.run.result
        return {} if result is None else _metrics(dict(result.selected_metrics), ("test",))

    @property
    def final_epoch(self) -> int:
        """Return the epoch of `final`, 0 where there is none."""
        return 0 if self.run.result is None else self.run.result.selected_epoch

    def scalars(self, record: EpochRecord) -> dict[str, float]:
        """Return name -> value of everything an epoch's record says, such as `losses/depth`."""
        found = {
            f"{name}/{task}": float(value)
            for name in PER_TASK
            for task, value in zip(self.spec.tasks, getattr(record, name) or (), strict=False)
            if value is not None
        }
        found |= _metrics(dict(record.metrics), ("validation",))
        if record.learning_rate is not None:
            found["learning_rate"] = record.learning_rate
        return found | {"seconds": record.seconds}

    def pictures(self) -> tuple[int, dict[str, np.ndarray]]:
        """Return the last epoch with samples, and name -> picture, uint8 (height, width, 3).

        Input, and each task's target, prediction and errors, of the first sample; nothing where
        there are none that can be read.
        """
        files = RunFiles([self.store])
        epochs = files.sample_epochs(self.run_id)
        arrays = files.samples(self.run_id, epochs[-1]) if epochs else None
        if arrays is None:
            return 0, {}
        try:
            number = image_numbers(arrays)[0]
            found = {"input": input_image(arrays, number)}
            for task in (task for task in self.spec.tasks if f"{task}_error" in arrays):
                held = estimates(arrays, task, number)
                limits = target_limits(held)
                for kind in ("target", "prediction"):
                    values = getattr(held, kind)
                    picture = estimate_picture(values, held.valid, limits, 1, task=task)
                    found[f"{task}/{kind}"] = picture
                errors = error_maps(arrays, [task], number)[task]
                found[f"{task}/error"] = scale_picture(errors, shared_limits([errors]), 1)
        except UsageError:
            return 0, {}
        return epochs[-1], found


class Exporter(Protocol):
    """A tool that takes runs; asked again, it takes what is new."""

    def held(self, run: ExportedRun) -> Written:
        """Return what the tool has of a run."""

    def write(self, run: ExportedRun, held: Written) -> None:
        """Give the tool what it lacks of a run."""


def exported_runs(store: Store, asked: Asked | None) -> list[ExportedRun]:
    """Return the runs asked for that have begun."""
    ids = planned_or_present([store]) if asked is None else asked.run_ids
    runs = read_runs(store, ids).values()
    return [
        ExportedRun(run, run.spec, store)
        for run in runs
        if run.state in EXPORTED_STATES and run.spec is not None
    ]


def _metrics(metrics: dict[str, Any], splits: tuple[str, ...]) -> dict[str, float]:
    return {
        f"{split}/{task}/{name}": float(value)
        for split in splits
        for task, values in (metrics.get(split) or {}).items()
        for name, value in values.items()
        if value is not None
    }
