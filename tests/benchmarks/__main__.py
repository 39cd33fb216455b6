"""Measure and print: `python -m tests.benchmarks [NAME ...]`; by default those of `DEFAULT`.

Every figure is the median of repeated measurements on one thread, with the least and the most
beside it: on a shared machine look at the medians of one run and at their ratios. `derived` alone
measures errors, which do not vary.
"""

import os
import sys

if __name__ == "__main__" and sys.argv[1:2] == ["gpu"]:
    # Before all else: a bare GPU machine has not what the others import.
    from tests.benchmarks.gpu import main as gpu

    sys.exit(gpu(sys.argv[2:]))

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.ndimage import zoom

from mtl.data.batches import MappedSplit, training_batches
from mtl.data.prepared import prepare
from mtl.data.sample import RawSample
from mtl.data.scenes.render import render_scene
from mtl.data.targets.colorization import fill
from mtl.data.targets.derived_tasks import derivable, derived
from mtl.records import Result
from mtl.spec import RunSpec, Runtime
from mtl.spec.sections import DataSpec
from mtl.store import Store
from mtl.training import fit
from mtl.training.checkpoint import CheckpointWriter
from mtl.training.fit import Run
from sweeps.launch.probing import probe_networks
from sweeps.options import parse_command
from sweeps.plan import grid_specs
from sweeps.plan.cost import estimate, num_cpus
from sweeps.plan.defaults import DEFAULT_FIELDS
from sweeps.plan.fields import nested
from sweeps.priority_grid import GRID
from tests.metrics import TASK_METRICS


def report(name: str, unit: str, values: list[float]) -> None:
    """Print one figure: median (least, most) of its repetitions."""
    least, middle, most = min(values), statistics.median(values), max(values)
    print(f"{name:<44} {middle:9.3g} {unit}  ({least:.3g} .. {most:.3g}, n = {len(values)})")


def repeat(action: Callable[[], float], times: int) -> list[float]:
    """Return what `action` measures, after one repetition that does not count."""
    action()
    return [action() for _ in range(times)]


def scenes() -> None:
    """Images per second and core with all nine targets."""
    for variant, height, width in (("rooms", 64, 64), ("rooms", 48, 64), ("simple", 48, 64)):
        rates = repeat(partial(images_per_second, variant, height, width), 5)
        report(f"render {variant} {height}x{width}", "images/s", rates)


def images_per_second(variant: str, height: int, width: int) -> float:
    """Render the same twenty scenes; return how many went by in a second."""
    start = time.perf_counter()
    for index in range(20):
        render_scene(variant, seed=0, split="train", index=index, height=height, width=width)
    return 20 / (time.perf_counter() - start)


def default_spec() -> RunSpec:
    """Return one run of the default job."""
    return RunSpec.from_dict(nested(DEFAULT_FIELDS))


def training() -> None:
    """Milliseconds of a training step of the default job and its parts."""
    with tempfile.TemporaryDirectory() as folder:
        spec = default_spec()
        run = Run(spec, Store(f"{folder}/store"), Runtime(device="cpu", num_threads=1))
        steps = -(-spec.data.num_train // spec.batch_size)

        def step_ms() -> float:
            start = time.perf_counter()
            run.train_steps(1)
            return 1e3 * (time.perf_counter() - start) / steps

        report("training step, default job", "ms", repeat(step_ms, 5))

        def weighting_us() -> float:
            losses = torch.rand(2, requires_grad=True)
            present = torch.ones(2, dtype=torch.bool)
            start = time.perf_counter()
            for _ in range(200):
                run.weighting.backward(losses, present)
            return 1e6 * (time.perf_counter() - start) / 200

        report("lsb weighting and its backward, a step", "us", repeat(weighting_us, 5))


def checkpoints() -> None:
    """What checkpoints after each epoch, and by default, cost an epoch and write."""
    large = {
        "tasks": ["depth", "normal", "segmentation"],
        "epochs": 8,
        "batch_size": 2,
        "data": {"height": 32, "width": 32, "num_train": 2, "num_validation": 1, "num_test": 1},
        "network": {"architecture": "multi_column", "encoder": "mobilenetv2_100"},
    }
    for name, spec in (
        ("default job", replace(default_spec(), epochs=5)),
        ("large network, short epochs", RunSpec.from_dict(large)),
    ):
        pairs = [(checkpoint_cost(spec, 0.0), checkpoint_cost(spec)) for _ in range(3)]
        for index, how in enumerate(("each epoch", "default")):
            epochs, waits, written = zip(*(pair[index] for pair in pairs), strict=True)
            report(f"{name}, {how}: epoch", "s", list(epochs))
            report(f"{name}, {how}: of it waiting", "ms", list(waits))
            report(f"{name}, {how}: written", "MB", list(written))
        ratios = [default[0] / each[0] for each, default in pairs]
        report(f"{name}: epoch, default / each epoch", "", ratios)


def checkpoint_cost(
    spec: RunSpec, seconds: float = Runtime.checkpoint_seconds
) -> tuple[float, float, float]:
    """Train a run with checkpoints so far apart.

    Returns:
        Median seconds of an epoch, median milliseconds of it in which the run waits for a
        checkpoint to be taken, and megabytes written in all.
    """
    ends: list[float] = []
    waits: list[float] = []
    written = 0
    take, write_large = CheckpointWriter.take, Store.write_large

    def timed(*arguments: Any) -> None:
        start = time.perf_counter()
        take(*arguments)
        waits.append(time.perf_counter() - start)

    def counted(store: Store, key: str, data: bytes) -> None:
        nonlocal written
        written += len(data)
        write_large(store, key, data)

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(Store, "write_large", counted),
        patch.object(CheckpointWriter, "take", timed),
    ):
        fit(
            spec,
            Store(f"{folder}/store"),
            Runtime(device="cpu", num_samples=0, checkpoint_seconds=seconds),
            on_epoch=lambda _: ends.append(time.perf_counter()),
        )
    epochs = [end - start for start, end in itertools.pairwise(ends)]
    return statistics.median(epochs), 1e3 * statistics.median(waits), written / 1e6


def reading() -> None:
    """Samples per second read from prepared arrays at 64x64, flips included."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataSpec(height=64, width=64, num_train=256, num_validation=1, num_test=1)
        split = MappedSplit(prepare(data, folder), "train", ("depth", "normal", "segmentation"))

        def samples_per_second() -> float:
            start = time.perf_counter()
            for _ in training_batches(
                split,
                seed=0,
                epoch=1,
                batch_size=8,
                horizontal_flips=True,
                mirror_signs={"normal": (-1.0, 1.0, 1.0)},
                device=torch.device("cpu"),
            ):
                pass
            return len(split) / (time.perf_counter() - start)

        rates = repeat(samples_per_second, 5)
        report("read prepared samples, three tasks, 64x64", "samples/s", rates)


def filling() -> None:
    """Seconds to fill a 480x640 depth frame with 10 % holes by colorization, one core."""
    scene = render_scene("rooms", seed=0, split="train", index=0, height=480, width=640)
    generator = np.random.default_rng(0)
    holes = zoom(generator.random((48, 64)), 10, order=1) < 0.29
    print(f"holes: {holes.mean():.1%} in blobs")
    depth = scene.targets["depth"]

    def seconds(exact: bool) -> float:
        start = time.perf_counter()
        fill(depth, ~holes, scene.image, exact=exact)
        return time.perf_counter() - start

    report("fill 480x640, holes only", "s", repeat(lambda: seconds(False), 5))
    report("fill 480x640, full system", "s", repeat(lambda: seconds(True), 3))


def derived_tasks() -> None:
    """Errors of tasks derived from image, depth and camera against the exact ones of scenes."""
    print(
        "median and mean absolute error of 5 scenes at 96x128; the last column is the mean of |x|"
    )
    for variant in ("simple", "rooms"):
        for task, (median, mean, size) in derived_errors(variant, 5).items():
            print(f"{variant:<7} {task:<11} {median:9.1e} {mean:9.1e} {size:9.1e}")


def derived_errors(variant: str, num_scenes: int) -> dict[str, tuple[float, float, float]]:
    """Return task -> median and mean absolute error, and mean absolute value of what is exact."""
    errors: dict[str, list[np.ndarray]] = {}
    exact: dict[str, list[np.ndarray]] = {}
    for index in range(num_scenes):
        scene = render_scene(variant, seed=0, split="train", index=index, height=96, width=128)
        seen = RawSample(
            scene.image,
            {"depth": scene.targets["depth"]},
            {"depth": scene.valid["depth"]},
            camera=scene.camera,
        )
        for task in derivable(seen):
            target, valid = derived(task, seen)
            both = valid & scene.valid[task]
            errors.setdefault(task, []).append(np.abs(target - scene.targets[task])[both].ravel())
            exact.setdefault(task, []).append(np.abs(scene.targets[task])[both].ravel())
    pooled = {task: np.concatenate(values) for task, values in errors.items()}
    return {
        task: (float(np.median(x)), float(x.mean()), float(np.concatenate(exact[task]).mean()))
        for task, x in pooled.items()
    }


def plan() -> None:
    """Seconds and memory of `--plan` as a whole process: the default sweep, and 10,000 runs."""
    report("priority_grid.py --plan", "s", repeat(lambda: planning()[0], 5))
    with tempfile.TemporaryDirectory() as folder:
        finished_store(Path(folder, "store"), grid_specs(replace(GRID, divisions=501, seeds=10)))
        # 17 epochs: none of the planned runs is done, and the finished ones tell their cost.
        for more in ((), ("--json",), ("--epochs", "17"), ("--refine", "3")):
            size = ("--divisions", "501", "--seeds", "10", "--store", f"{folder}/store")
            measured = [planning(*size, *more) for _ in range(3)]
            name = " ".join(["10,000 runs, store of 10,000", *more])
            for index, unit in enumerate(("s", "s CPU", "MiB")):
                report(name, unit, [figures[index] for figures in measured])


MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
print(json.dumps([wall, cpu, used.ru_maxrss / 1024]))
"""
"""A process's peak counts what its parent held when it began, so a small one stands between."""


def planning(*options: str) -> list[float]:
    """Plan in a process of its own; return its wall seconds, CPU seconds and MiB at the peak."""
    command = [sys.executable, "-c", MEASURED, "sweeps/priority_grid.py", "--plan", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def finished_store(root: Path, specs: Sequence[RunSpec]) -> None:
    """Write a store in which all of `specs` are done."""
    store = Store(root)
    for spec in specs:
        run_id = spec.run_id()
        folder = store.run_folder(run_id)
        folder.mkdir()
        values = dict(zip(spec.tasks, spec.priorities or (), strict=True))
        metrics = {
            split: {task: dict.fromkeys(TASK_METRICS[task], values[task]) for task in spec.tasks}
            for split in ("validation", "test")
        }
        result = Result(run_id, "done", spec.epochs, "last", spec.epochs, metrics, metrics)
        # Not through the store, which flushes every file to disk.
        for name, held in (
            ("spec.json", spec.to_dict()),
            ("manifest.json", {"wall_seconds": 10.0}),
            ("result.json", result.to_dict()),
        ):
            (folder / name).write_text(json.dumps(held, indent=1), "utf-8")


def estimate_of(*grid: str) -> None:
    """Print what `--plan --probe` predicts for a sweep before and after it, and what it took.

    The shipped model's prediction stands beside it. On a machine that is busy with other things
    the two probes differ; then this says nothing.
    """
    specs = grid_specs(parse_command("priority_grid", "", grid, GRID).grid)
    runs = {spec.run_id(): spec for spec in specs}

    def predicted(data_root: str, *, probed: bool) -> float:
        steps = probe_networks(specs, data_root)[0] if probed else None
        found = estimate(
            runs,
            store=None,
            runtime=Runtime(data_root=data_root),
            concurrency=num_cpus(),
            num_cpus=num_cpus(),
            measured_steps=steps,
        )
        return sum(found.seconds) / 2

    with tempfile.TemporaryDirectory() as folder:
        modelled = predicted(folder, probed=False)
        before = predicted(folder, probed=True)
        where = ("--store", f"{folder}/store", "--data-root", folder)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "sweeps/priority_grid.py", *grid, *where],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        actual = time.perf_counter() - start
        after = predicted(f"{folder}/none", probed=True)
    print(f"{len(runs)} runs of the default job, {num_cpus()} side by side: {actual:.0f} s")
    for name, seconds in (
        ("timed steps before it", before), ("timed steps after it", after),
        ("the shipped model", modelled),
    ):  # fmt: skip
        error = seconds / actual - 1
        print(f"  predicted from {name}: {seconds:.0f} s ({error:+.0%} of what it took)")


def scale() -> None:
    """Seconds a run that does nothing, and the driver's memory, as a sweep grows."""
    for arguments in (["200"], ["1000"], ["10000", "--simulate"]):
        # A process each: what one leaves in memory is not the next one's.
        subprocess.run([sys.executable, "-m", "tests.benchmarks.scale", *arguments], check=True)


def search() -> None:
    """Hypervolume that a search reaches with half of a grid's epochs; minutes."""
    # Only here: its processes import this module anew, and Optuna takes a second.
    from tests.benchmarks.search import measure

    measure()


def reports() -> None:
    """Seconds, memory and page of a report on 100 and on 10,000 runs, as whole processes."""
    # Only here: it needs nothing of what the others import.
    from tests.benchmarks.reports import measure

    measure(report, MEASURED)


def sweep() -> None:
    """What a sweep takes beside its training, and its rivals: a shell loop, plain Ray Tune."""
    # Only here: the commands that it measures are processes of their own.
    from tests.benchmarks.sweep import measure

    measure(report)


def step() -> None:
    """Ratios of steps: LSB and fixed, evaluation and epoch, ours and LibMTL's."""
    # Only here: it needs nothing of what the others import.
    from tests.benchmarks.step import measure

    measure()


def objects() -> None:
    """Requests and seconds of reading many runs on object storage."""
    from tests.benchmarks.objects import measure  # moto, which nothing else here needs

    measure(report)


def live() -> None:
    """Seconds of the live page's looks and its server's memory, with 1,000 runs."""
    from tests.benchmarks.live import measure  # aiohttp, which nothing else here needs

    measure(report)


BENCHMARKS: dict[str, Callable[[], None]] = {
    "scenes": scenes,
    "training": training,
    "step": step,
    "checkpoints": checkpoints,
    "reading": reading,
    "filling": filling,
    "plan": plan,
    "derived": derived_tasks,
    "estimate": partial(estimate_of, "--divisions", "3", "--seeds", "1"),
    "estimate_default": estimate_of,
    "scale": scale,
    "sweep": sweep,
    "search": search,
    "reports": reports,
    "objects": objects,
    "live": live,
}
DEFAULT = (
    "scenes", "training", "step", "checkpoints", "reading", "filling", "derived", "sweep",
)  # fmt: skip
"""About a quarter of an hour together; the others, minutes each, run where they are named."""


def main() -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}, gpu")
    chosen = parser.parse_args().names or DEFAULT
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, one thread")
    for name in chosen:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
