"""What a sweep costs beside its training: `python -m tests.benchmarks sweep`.

Four runs of the default job with `EPOCHS` epochs, three ways in turn: the sweep, a shell loop of
`python -m mtl.training` with as many threads as there are cores, and a plain script of Ray Tune.
Printed are ratios of whole commands, and what the first two come to for twenty runs of the whole
default job: start and end cost the same there, and an epoch too.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mtl.data.prepared import prepare
from mtl.spec import RunSpec
from sweeps.options import parse_command
from sweeps.plan import grid_specs
from sweeps.plan.cost import num_cpus
from sweeps.priority_grid import GRID

GRID_OPTIONS = ("--divisions", "3", "--seeds", "1")
EPOCHS = 4
REPETITIONS = 3
MANY_RUNS = 20
"""For which the figures are computed."""
Report = Callable[[str, str, list[float]], None]


@dataclass(frozen=True)
class Measured:
    """One sweep and its rivals; seconds."""

    sweep: float
    before_training: float
    """From the command to the first step of the first run."""
    after_training: float
    """From the last run's result to the prompt."""
    trained: float
    """By all runs of the sweep together."""
    loop: float
    loop_trained: float
    tune: float

    @property
    def efficiency(self) -> float:
        """Return training seconds over cores x wall seconds."""
        return self.trained / (num_cpus() * self.sweep)


def measure(report: Report) -> None:
    """Measure and print."""
    epochs = ("--epochs", str(EPOCHS))
    specs = grid_specs(parse_command("priority_grid", "", (*GRID_OPTIONS, *epochs), GRID).grid)
    print(
        f"{len(specs)} runs of {EPOCHS} epochs, {num_cpus()} cores; load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as data_root:
        folder = prepare(specs[0].data, data_root)
        found = [_repetition(specs, data_root, folder) for _ in range(REPETITIONS)]
    whole = GRID.fields["epochs"]
    for name, unit, value in (
        ("command to first step", "s", lambda m: m.before_training),
        ("last run to prompt", "s", lambda m: m.after_training),
        ("efficiency", "", lambda m: m.efficiency),
        (f"efficiency, {len(specs)} whole runs", "", lambda m: _whole(m, specs, len(specs))[1]),
        (f"efficiency, {MANY_RUNS} whole runs", "", lambda m: _whole(m, specs, MANY_RUNS)[1]),
        ("shell loop / sweep", "", lambda m: m.loop / m.sweep),
        (f"shell loop / sweep, {MANY_RUNS} whole runs", "", lambda m: _loop(m, specs)),
        ("plain Ray Tune / sweep", "", lambda m: m.tune / m.sweep),
    ):
        report(name, unit, [value(measured) for measured in found])
    print(f"a whole run has {whole} epochs; what is said of them is computed from the parts")


def _whole(measured: Measured, specs: list[RunSpec], num_runs: int) -> tuple[float, float]:
    """Return the seconds and the efficiency of a sweep of whole runs."""
    longer = GRID.fields["epochs"] / EPOCHS
    beside = measured.sweep - measured.trained / num_cpus()
    training = measured.trained / len(specs) * longer * num_runs
    seconds = beside + training / num_cpus()
    return seconds, training / (num_cpus() * seconds)


def _loop(measured: Measured, specs: list[RunSpec]) -> float:
    """Return the ratio of a shell loop to a sweep, of `MANY_RUNS` whole runs."""
    longer = GRID.fields["epochs"] / EPOCHS
    beside = (measured.loop - measured.loop_trained) / len(specs)
    run = beside + measured.loop_trained / len(specs) * longer
    return MANY_RUNS * run / _whole(measured, specs, MANY_RUNS)[0]


def _repetition(specs: list[RunSpec], data_root: str, folder: Path) -> Measured:
    with tempfile.TemporaryDirectory() as place:
        paths = []
        for spec in specs:
            paths.append(Path(place, f"{spec.run_id()}.json"))
            paths[-1].write_text(json.dumps(spec.to_dict()))
        all_specs = Path(place, "specs.json")
        all_specs.write_text(json.dumps([spec.to_dict() for spec in specs]))
        store, rival = Path(place, "store"), Path(place, "rival")
        where = ("--data-root", data_root, "--store")
        short = (*GRID_OPTIONS, "--epochs", str(EPOCHS))
        with _first_step(store) as first:
            began = time.time()
            _command("sweeps/priority_grid.py", *short, *where, str(store))
            ended = time.time()
        start = time.perf_counter()
        for path in paths:
            _command(
                "-m", "mtl.training", str(path), "--threads", str(num_cpus()), *where, str(rival)
            )
        loop = time.perf_counter() - start
        start = time.perf_counter()
        _command(
            "-m", "tests.benchmarks.plain_tune", str(all_specs), str(folder), str(rival / "tune")
        )
        return Measured(
            sweep=ended - began,
            before_training=first[0] - began,
            after_training=ended
            - max(path.stat().st_mtime for path in store.glob("runs/*/result.json")),
            trained=_trained(store),
            loop=loop,
            loop_trained=_trained(rival),
            tune=time.perf_counter() - start,
        )


def _trained(store: Path) -> float:
    """Return the seconds that all runs of a store have been training."""
    manifests = store.glob("runs/*/manifest.json")
    return sum(json.loads(path.read_text())["wall_seconds"] for path in manifests)


def _command(*arguments: str) -> None:
    """Run Python as a user would, with the threads that libraries choose."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


@contextlib.contextmanager
def _first_step(store: Path) -> Iterator[list[float]]:
    """Yield what will hold the time of the first step: the first epoch's end less its length."""
    found: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not (found or over.wait(0.01)):
            for path in store.glob("runs/*/epochs.jsonl"):
                lines = path.read_text().splitlines()
                if lines:
                    found.append(path.stat().st_mtime - json.loads(lines[0])["seconds"])
                    return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
