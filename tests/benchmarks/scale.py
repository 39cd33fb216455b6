"""What a sweep costs beside its trainings, and how that grows.

    python -m tests.benchmarks.scale NUM_RUNS [--epochs N]
    python -m tests.benchmarks.scale NUM_RUNS --simulate [--nodes N] [--runs-per-node N]

The first launches runs whose training only writes its result: seconds a run by quarter of the
sweep, and the driver's memory. The second is the same launch on a simulated cluster in virtual time
(`tests.sweeps.launch.simulated`), where 1 % of the runs crash once and .1 % for good, a twentieth
of the nodes joins late, some of those are incompatible, 5 % of the trials are lost with their node,
other drivers train some of the runs, and Ray's memory monitor takes a round down. It checks what
became of every run and prints the driver's own processor time and memory by quarter, what it asked
of the store, the sizes of the sweep's files and what the commands take on a store of this size.
"""

import argparse
import io
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import ray

from mtl.errors import UsageError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.store.plan_file import read_plan
from sweeps.launch import Execution, driver, tune
from sweeps.launch.signals import StopSignals
from sweeps.options import parse_command
from sweeps.plan import Plan, grid_specs, make_plan
from sweeps.plan.cost import estimate
from sweeps.plan.defaults import DEFAULT_FIELDS
from sweeps.plan.fields import nested
from sweeps.priority_grid import GRID
from sweeps.status.display import Display
from sweeps.status.journal import Journal, end_state, sweep_lock
from sweeps.status.progress import SweepProgress
from tests.benchmarks.reports import made_metrics
from tests.store.counted import CountedStorage, counted_store
from tests.sweeps.launch.simulated import Faults, SimulatedCluster, account, simulated
from tests.sweeps.launch.stage import launch_specs

NAME = "simulated"
RUNS_A_SEED = 1000
SWEEP = ("--tasks", "depth", "segmentation", "--methods", "lsb", "fixed",
         "--divisions", "501", "--name", NAME)  # fmt: skip
"""500 points on the simplex of two tasks, each with two methods."""
SECONDS_OF_AN_EPOCH = 60.0

MEASURED = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
told = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
if told.returncode:
    raise SystemExit(told.stdout[-2000:] + told.stderr[-2000:])
print(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3]))
"""
"""A program that prints wall seconds, processor seconds and megabytes of a command."""

START_AGAIN = """
import sys
from sweeps import command
from sweeps.priority_grid import main
command.write_reports = lambda *_: True
sys.exit(main(sys.argv[1:]) and 0)  # some runs have failed, as they should
"""
LOAD = """
import sys
from analysis.load.groups import groups_of_stores
from analysis.load.runs import load_stores
from mtl.store import Store
stores = [Store(sys.argv[1], create=False)]
for group in groups_of_stores(stores):
    load_stores(stores, group.run_ids, group.specs)
"""


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


def measure(num_runs: int, num_epochs: int) -> None:
    """Launch `num_runs` runs that do nothing; print what they cost."""
    first = RunSpec.from_dict(nested(DEFAULT_FIELDS))
    specs = [replace(first, seed=i) for i in range(num_runs)]
    watches: list[Watch] = []

    def run_round(run_ids: Any, trainable: Any, resources: Any, tracker: Any, *rest: Any) -> None:
        if not watches:
            watches.append(Watch(tracker))
        tune.tune_round(run_ids, trainable, resources, watches[0], *rest)  # type: ignore[arg-type]

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
    print(f"{num_runs} runs: {seconds:.1f} s in all")
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


class Simulation:
    """A sweep on a simulated cluster whose finished runs leave files as real ones do."""

    def __init__(self, store: Store, plan: Plan, arguments: argparse.Namespace) -> None:
        self.store, self.plan, self._specs = store, plan, plan.runs
        self._generator = np.random.default_rng(5)
        self._process = psutil.Process()
        self._marks: list[tuple[float, float]] = []
        """Processor seconds of the driver, and its megabytes, as runs end."""
        nodes = arguments.nodes
        faults = Faults(
            crash_once=0.01, crash_always=0.0005, fail=0.0005, lost=0.05,
            busy=len(plan.run_ids) // 500, late_nodes=nodes // 20,
            incompatible_nodes=nodes // 200, crashed_rounds=1,
        )  # fmt: skip
        self.cluster = SimulatedCluster(
            store, plan.run_ids, self._finish,
            num_nodes=nodes, runs_per_node=arguments.runs_per_node, epochs=arguments.epochs,
            epoch_seconds=SECONDS_OF_AN_EPOCH, faults=faults,
        )  # fmt: skip

    def _finish(self, run_id: str) -> None:
        spec, epochs = self._specs[run_id], self.cluster.epochs
        values = made_metrics(spec, self._generator)
        result = Result(run_id, "done", epochs, "last", epochs, values, values)
        manifest = {"wall_seconds": epochs * SECONDS_OF_AN_EPOCH, "device_seconds": 9.0}
        folder = self.store.run_folder(run_id)
        for name, held in (("manifest.json", manifest), ("result.json", result.to_dict())):
            (folder / name).write_text(json.dumps(held), "utf-8")
        self._marks.append((time.process_time(), self._process.memory_info().rss / 1e6))

    def launch(self) -> SweepProgress:
        """Go through the sweep; print what it took."""
        cluster, plan, num_runs = self.cluster, self.plan, len(self.plan.run_ids)
        expected = estimate(
            plan.runs, store=None, runtime=Runtime(), concurrency=1, num_cpus=1, gpus_per_run=0.0
        )
        progress = SweepProgress(
            plan.runs, expected=expected.run_seconds, slots=1, clock=cluster.clock
        )
        rounds: list[int] = []

        def run_round(run_ids: Sequence[str], *arguments: Any) -> None:
            rounds.append(len(run_ids))
            tune.tune_round(run_ids, *arguments)

        with StopSignals() as signals, simulated(cluster), sweep_lock(self.store, NAME) as store:
            began = time.process_time()
            journal = Journal(store, plan, cluster.clock)
            driver.launch(
                plan, store, Execution(address="simulated"), Runtime(), progress, journal,
                Display(io.StringIO(), cluster.clock), signals, run_round=run_round,
            )  # fmt: skip
            snapshot = progress.snapshot()
            journal.status(snapshot, end_state(snapshot), now=True)
            seconds = time.process_time() - began
        print(
            f"{num_runs} runs of {cluster.epochs} epochs on {len(cluster.nodes)} nodes: "
            f"{cluster.now / 3600:.1f} virtual hours, {cluster.num_events:,} events, "
            f"{len(rounds)} rounds (the largest {max(rounds):,}), at most "
            f"{cluster.max_training:,} runs side by side"
        )
        print(
            f"  driver's processor time {seconds:.1f} s, {1e3 * seconds / num_runs:.2f} ms a run, "
            "the simulation's own included"
        )
        quarter = len(self._marks) // 4
        for index in range(4):
            first, last = self._marks[index * quarter], self._marks[(index + 1) * quarter - 1]
            each = (last[0] - first[0]) / quarter
            print(f"  quarter {index + 1}: {1e3 * each:.2f} ms a run, driver {last[1]:.0f} MB")
        began = time.perf_counter()
        progress.snapshot()
        print(f"  a snapshot at the end {1e3 * (time.perf_counter() - began):.1f} ms")
        return progress

    def check(self, progress: SweepProgress) -> None:
        """Raise unless every run is accounted for exactly once; print what became of them."""
        done, failed, said = progress.done, progress.failed, account(self.store, NAME)
        status = self.store.read_json(self.store.sweep_key(NAME, "status.json"))
        claims = {
            "all runs are done or failed": done | failed == set(self.plan.run_ids),
            "no run is both": done.isdisjoint(failed),
            "each done run was trained to its end once": self.cluster.trained == Counter(done),
            "the journal ends each run once": all(
                said[i]["run_done"] + said[i]["run_done_elsewhere"] == (i in done)
                and said[i]["run_failed"] == (i in failed)
                for i in self.plan.run_ids
            ),
            "failed runs alone have a reason": {
                i for i in self.plan.run_ids if self.store.error(i) is not None
            } == failed,
            "status.json counts them": (status["done"], status["failed"], status["waiting"])
            == (len(done), len(failed), 0),
        }  # fmt: skip
        wrong = [claim for claim, holds in claims.items() if not holds]
        if wrong:
            raise RuntimeError(f"Expected that {wrong[0]}.")
        total = Counter[str]()
        for events in said.values():
            total += events
        print(f"  {len(done):,} done, {len(failed):,} failed; " + "; ".join(claims))
        print("  events: " + ", ".join(f"{name} {n:,}" for name, n in total.most_common()))


def print_requests(storage: CountedStorage, num_runs: int) -> None:
    """Print what was asked of the store, a run."""
    by_kind = Counter[str]()
    for (kind, _), number in storage.requests.items():
        by_kind[kind] += number
    listed = ", ".join(f"{kind} {n / num_runs:.2f}" for kind, n in by_kind.most_common())
    print(f"  driver's requests a run: {listed}")
    for (kind, what), number in storage.requests.most_common(12):
        print(f"    {kind:>10} {what:<14} {number:>9,}  {number / num_runs:.2f} a run")


def print_files(store: Store, num_runs: int) -> None:
    """Print how large the sweep's own files are, and what reading the plan takes."""
    folder = store.sweep_folder(NAME)
    for name in ("events.jsonl", "plan.json", "status.json"):
        size = (folder / name).stat().st_size
        print(f"  {name} {size / 1e6:.2f} MB, {size / num_runs:.0f} bytes a run")
    began = time.perf_counter()
    read_plan(store, NAME)
    print(f"  reading plan.json {time.perf_counter() - began:.2f} s")


def print_commands(root: Path, sweep: Sequence[str]) -> None:
    """Print what the commands take on the store, each as a process of its own."""
    commands: dict[str, tuple[str, ...]] = {
        "--plan": ("sweeps/priority_grid.py", *sweep, "--plan"),
        "--plan --json": ("sweeps/priority_grid.py", *sweep, "--plan", "--json"),
        "starting again, nothing left": ("-c", START_AGAIN, *sweep),
        "watch.py --once": ("sweeps/watch.py", str(root), "--once"),
        "reading all for a report": ("-c", LOAD, str(root)),
    }
    for what, command in commands.items():
        told = subprocess.run(
            [sys.executable, "-c", MEASURED, sys.executable, *command],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if told.returncode:
            raise RuntimeError(f"{what}: {told.stderr}")
        wall, cpu, megabytes = json.loads(told.stdout)
        print(f"  {what:<29} {wall:7.1f} s, {cpu:7.1f} s of processor, {megabytes:.0f} MB")


def print_waits(num_slots: int) -> None:
    """Print what Tune's loop takes to wait for one of so many actors, which is not simulated."""

    @ray.remote(num_cpus=0)
    class Actor:
        def wait(self) -> None:
            time.sleep(3600.0)

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        actor = Actor.remote()  # type: ignore[attr-defined]
        waited_for = {actor.wait.remote(): None for _ in range(num_slots)}
        times = 20
        ray.wait(list(waited_for), num_returns=1, timeout=0.0)
        began = time.process_time()
        for _ in range(times):  # as `RayActorManager.next` does
            futures = list(waited_for)
            random.shuffle(futures)
            ray.wait(futures, num_returns=1, timeout=0.0)
        each = (time.process_time() - began) / times
    finally:
        ray.shutdown()
    print(f"  waiting for one of {num_slots:,} actors, at every event: {1e3 * each:.2f} ms")


def simulate(arguments: argparse.Namespace) -> None:
    """Simulate a sweep; print what it costs."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    num_runs = arguments.num_runs
    if num_runs % RUNS_A_SEED:
        raise UsageError(f"Expected a multiple of {RUNS_A_SEED} runs, got {num_runs}.")
    with tempfile.TemporaryDirectory() as folder:
        sweep = (*SWEEP, "--seeds", str(num_runs // RUNS_A_SEED), "--store", folder)
        began = time.process_time()
        command = parse_command("priority_grid", "", sweep, GRID)
        plan = make_plan(NAME, "priority_grid", grid_specs(command.grid))
        print(f"planning: {time.process_time() - began:.1f} s, {process_megabytes():.0f} MB then")
        # What the disk takes to flush is not the driver's processor time.
        with mock.patch("os.fsync", bool):  # a mock of its own would keep every call
            store = counted_store(Path(folder))
            simulation = Simulation(store, plan, arguments)
            assert isinstance(store.storage, CountedStorage)
            store.storage.requests.clear()
            progress = simulation.launch()
        print_requests(store.storage, num_runs)
        print(f"  driver's memory at its peak {peak_megabytes():.0f} MB")
        print_files(store, num_runs)
        simulation.check(progress)
        print_commands(Path(folder), sweep)
    print_waits(arguments.nodes * arguments.runs_per_node)


def process_megabytes() -> float:
    """Return the memory of this process."""
    return psutil.Process().memory_info().rss / 1e6


def peak_megabytes() -> float:
    """Return the most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("num_runs", type=int)
    parser.add_argument("--epochs", type=int, default=1, help="that a run reports (default: 1)")
    parser.add_argument("--simulate", action="store_true", help="on a simulated cluster")
    parser.add_argument("--nodes", type=int, default=1000, help="simulated (default: 1000)")
    parser.add_argument("--runs-per-node", type=int, default=1, help="simulated (default: 1)")
    arguments = parser.parse_args()
    if arguments.simulate:
        simulate(arguments)
    else:
        measure(arguments.num_runs, arguments.epochs)


if __name__ == "__main__":
    main()
