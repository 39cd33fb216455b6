"""Measure and print: `python -m tests.benchmarks [NAME ...]`, all by default.

Every figure is the median of repeated measurements on one thread, with the least and the most
beside it: on a shared machine look at the medians of one run and at their ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.ndimage import zoom

from mtl.data.batches import MappedSplit, training_batches
from mtl.data.colorization import fill
from mtl.data.prepared import prepare
from mtl.data.scenes import render_scene
from mtl.spec import DataSpec, RunSpec, Runtime
from mtl.store import Store
from mtl.training import _Run
from sweeps.defaults import DEFAULT_FIELDS
from sweeps.fields import nested


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
        run = _Run(spec, Store(f"{folder}/store"), Runtime(device="cpu", num_threads=1))
        steps = -(-spec.data.num_train // spec.batch_size)

        def step_ms() -> float:
            start = time.perf_counter()
            run._train_steps(1)
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


def plan() -> None:
    """Seconds that `--plan` of the default sweep takes as a whole process."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "sweeps/priority_grid.py", "--plan"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start

    report("priority_grid.py --plan", "s", repeat(seconds, 5))


def search() -> None:
    """Hypervolume that a search reaches with half of a grid's epochs; minutes."""
    # Only here: its processes import this module anew, and Optuna takes a second.
    from tests.benchmarks.search import measure

    measure()


BENCHMARKS: dict[str, Callable[[], None]] = {
    "scenes": scenes,
    "training": training,
    "reading": reading,
    "filling": filling,
    "plan": plan,
    "search": search,
}


def main() -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}")
    chosen = parser.parse_args().names or list(BENCHMARKS)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, one thread")
    for name in chosen:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
