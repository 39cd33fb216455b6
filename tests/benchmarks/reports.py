"""What a report costs: whole processes of `analysis/pareto.py` on stores that are made up here.

The stores hold what training would leave: specs, results on two splits, manifests, twenty epoch
records a run, samples of the runs with seed 0 at equal priority. Their metrics bend with the
priority and jitter with the seed.
"""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.plan import Grid, grid_specs
from tests.metrics import METRICS, TASK_METRICS

NUM_EPOCHS = 20
HEIGHT, WIDTH = 48, 64


@dataclass(frozen=True)
class Case:
    """One store and how its report is asked for."""

    name: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    divisions: int
    seeds: int
    options: tuple[str, ...] = ()


PAIR, THREE = ("depth", "segmentation"), ("depth", "normal", "segmentation")
CASES = (
    Case("100 runs", PAIR, ("lsb", "fixed"), 11, 5),
    Case("100 runs --static", PAIR, ("lsb", "fixed"), 11, 5, ("--static",)),
    Case("10,000 runs", PAIR, ("lsb", "fixed"), 501, 10),
    # The interior of a lattice of 3 tasks and 23 divisions has 22 x 21 / 2 = 231 points.
    Case("10,164 runs, three tasks", THREE, ("lsb", "fixed", "scaled_fixed", "stch"), 23, 11),
)  # fmt: skip


def measure(report: Callable[[str, str, list[float]], None], measured: str) -> None:
    """Print seconds, MiB and the page's size for each case.

    Args:
        report: prints one figure.
        measured: a program that prints wall seconds, CPU seconds and MiB of a command, as JSON.
    """
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            root, out = Path(folder, "store"), Path(folder, "report")
            fill(root, case)
            command = ["analysis/pareto.py", str(root), "--out", str(out), *case.options]
            told = subprocess.run(
                [sys.executable, "-c", measured, *command], check=True, capture_output=True
            )
            wall, cpu, mebibytes = json.loads(told.stdout)
            page = (out / "report.html").stat().st_size / 1e6
            for unit, value in (("s", wall), ("s CPU", cpu), ("MiB", mebibytes), ("MB", page)):
                what = "page" if unit == "MB" else "report"
                report(f"{what}, {case.name}", unit, [value])


def fill(root: Path, case: Case) -> None:
    """Write a store with a finished run for every cell of a case."""
    grid = Grid(
        task_sets=(case.tasks,),
        methods=case.methods,
        divisions=case.divisions,
        seeds=case.seeds,
    )
    store = Store(root)
    specs = [replace(spec, epochs=NUM_EPOCHS) for spec in grid_specs(grid)]
    generator = np.random.default_rng(5)
    equal = _nearest_to_equal(specs)
    for spec in specs:
        run_id = spec.run_id()
        folder = store.run_folder(run_id)
        folder.mkdir()
        values = made_metrics(spec, generator)
        result = Result(run_id, "done", NUM_EPOCHS, "last", NUM_EPOCHS, values, values)
        manifest = {
            "wall_seconds": 10.0 + float(generator.normal(0, 0.3)),
            "device_seconds": 9.0,
            "code_version": "0.1.0+abc1234",
        }
        # Not through the store, which flushes every file to disk.
        for name, held in (
            ("spec.json", spec.to_dict()),
            ("manifest.json", manifest),
            ("result.json", result.to_dict()),
        ):
            (folder / name).write_text(json.dumps(held, indent=1), "utf-8")
        lines = [json.dumps(record.to_dict()) + "\n" for record in _records(spec, values)]
        (folder / "epochs.jsonl").write_text("".join(lines), "utf-8")
        if spec.seed == 0 and spec.priorities == equal:
            _write_samples(folder / "samples", spec, generator)


def _nearest_to_equal(specs: Sequence[RunSpec]) -> tuple[float, ...]:
    held = {spec.priorities for spec in specs if spec.priorities is not None}
    return min(held, key=lambda p: sum((value - 1 / len(p)) ** 2 for value in p))


def made_metrics(spec: RunSpec, generator: np.random.Generator) -> dict[str, Any]:
    """Return metrics that rise with the square root of a task's priority."""
    gain = 0.02 if spec.method == "lsb" else 0.0
    tasks: dict[str, dict[str, float]] = {}
    for task, priority in zip(spec.tasks, spec.priorities or (), strict=True):
        level = 0.4 + gain + 0.4 * priority**0.5 + generator.normal(0, 0.004)
        tasks[task] = {
            name: float(level if METRICS[name].direction == "max" else 1.5 - level)
            for name in TASK_METRICS[task]
        }
    return {"validation": tasks, "test": tasks}


def _records(spec: RunSpec, values: dict[str, Any]) -> list[EpochRecord]:
    tasks = range(len(spec.tasks))
    records = []
    for epoch in range(1, NUM_EPOCHS + 1):
        losses = [2.0 / (epoch + task) for task in tasks]
        weights = [1.0 / loss if spec.method == "lsb" else 1.0 for loss in losses]
        records.append(
            EpochRecord(
                epoch=epoch,
                losses=list(losses),
                weights=list(weights),
                loss_scales=[w * x for w, x in zip(weights, losses, strict=True)],
                difficulties=[1.0] * len(spec.tasks) if spec.method == "lsb" else None,
                learning_rate=1e-3,
                metrics={"validation": values["validation"]},
                seconds=0.5,
            )
        )
    return records


def _write_samples(folder: Path, spec: RunSpec, generator: np.random.Generator) -> None:
    folder.mkdir()
    shape = (4, HEIGHT, WIDTH)
    for epoch in (2, 10, NUM_EPOCHS):
        arrays: dict[str, np.ndarray] = {
            "indices": np.arange(4),
            "image": generator.integers(0, 256, (*shape, 3)).astype(np.uint8),
        }
        for task in spec.tasks:
            channels = {"depth": 1, "normal": 3}.get(task)
            for kind in ("prediction", "target"):
                arrays[f"{task}_{kind}"] = (
                    generator.integers(0, 5, shape).astype(np.uint8)
                    if channels is None
                    else generator.uniform(0.1, 1, (*shape, channels)).astype(np.float16)
                )
            arrays[f"{task}_valid"] = np.ones(shape, dtype=bool)
            arrays[f"{task}_error"] = generator.uniform(0, 1, shape).astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        (folder / f"epoch_{epoch:05d}.npz").write_bytes(buffer.getvalue())
