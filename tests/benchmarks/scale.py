"""What a run costs that does nothing: `python -m tests.benchmarks.scale NUM_RUNS [--epochs N]`.

A whole launch with Ray Tune, of runs whose training only writes its result. Printed are the seconds
a run, by quarter of the sweep (does it grow?), and the driver's memory. With `--played` the runs
are ended by a loop in the driver instead of by Ray: what the driver itself adds, at any size.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from sweeps.launch import tune
from sweeps.launch.signals import StopSignals
from sweeps.plan.defaults import DEFAULT_FIELDS
from sweeps.plan.fields import nested
from tests.sweeps.launch.stage import launch_specs


def no_op_training(num_epochs: int) -> Callable[..., Result]:
    """Return a training that reports epochs and writes its result."""

    def train(
        spec: RunSpec, store: Store, runtime: Runtime, on_epoch: Callable[[EpochRecord], None]
    ) -> Result:
        run_id = spec.run_id()
        with store.run_lock(run_id):
            for epoch in range(1, num_epochs + 1):
                on_epoch(EpochRecord(epoch, [0.5, None], [1.0, 1.0], None, None, 0.1, {}, 0.0))
            result = Result(run_id, "done", 1, "last", 1, {"test": {}}, {"test": {}})
            store.write_result(result)
        return result

    return train


class Watch:
    """Passes on to a tracker; keeps when runs end, and how large the driver is then."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self.process = psutil.Process()
        self.ended: list[float] = []
        self.megabytes: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def run_ended(self, run_id: str, state: str) -> None:
        """Keep the time and the memory at the end of a run."""
        if run_id in self._tracker.progress.running:  # Tune repeats the last report
            self.ended.append(time.monotonic())
            self.megabytes.append(self.process.memory_info().rss / 1e6)
        self._tracker.run_ended(run_id, state)


def played_round(
    run_ids: list[str], trainable: Any, resources: Any, tracker: Any, *_: object
) -> None:
    """Start and end every run as Ray Tune would, without Ray."""
    for run_id in run_ids:
        tracker.run_started(run_id)
        tracker.tick()
        tracker.run_epoch(run_id, 1, [0.5, None])
        tracker.tick()
        tracker.run_ended(run_id, "done")
        tracker.tick()


def measure(num_runs: int, num_epochs: int, *, played: bool) -> None:
    """Launch `num_runs` runs that do nothing; print what they cost."""
    first = RunSpec.from_dict(nested(DEFAULT_FIELDS))
    specs = [replace(first, seed=i) for i in range(num_runs)]
    watches: list[Watch] = []

    def run_round(run_ids: Any, trainable: Any, resources: Any, tracker: Any, *rest: Any) -> None:
        if not watches:
            watches.append(Watch(tracker))
        inner = played_round if played else tune.tune_round
        inner(run_ids, trainable, resources, watches[0], *rest)

    with tempfile.TemporaryDirectory() as folder, StopSignals() as signals:
        store, began = Store(Path(folder) / "store"), time.monotonic()
        progress = launch_specs(
            store, specs, signals, train=no_op_training(num_epochs), run_round=run_round
        )
        seconds = time.monotonic() - began
    if len(progress.done) != num_runs:
        raise RuntimeError(f"Expected {num_runs} runs done, got {len(progress.done)}.")
    (watch,) = watches
    quarter = max(1, num_runs // 4)
    print(f"{num_runs} runs{' played' if played else ''}: {seconds:.1f} s in all")
    for index in range(4):
        ends = watch.ended[index * quarter : (index + 1) * quarter]
        print(
            f"  quarter {index + 1}: {(ends[-1] - ends[0]) / max(1, len(ends) - 1):.4f} s a run, "
            f"driver {watch.megabytes[(index + 1) * quarter - 1]:.0f} MB"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    times = psutil.Process().cpu_times()
    print(f"  driver's own processor time {times.user + times.system:.1f} s")
    print(f"  driver at the first run's end {watch.megabytes[0]:.0f} MB, at its peak {peak:.0f} MB")


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("num_runs", type=int)
    parser.add_argument("--epochs", type=int, default=1, help="that a run reports (default: 1)")
    parser.add_argument("--played", action="store_true", help="without Ray")
    arguments = parser.parse_args()
    measure(arguments.num_runs, arguments.epochs, played=arguments.played)


if __name__ == "__main__":
    main()
