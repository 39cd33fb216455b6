"""What reading many runs on object storage costs: requests and seconds at 30 ms a request.

Against moto's server on the loopback, which answers each request 30 ms late. It needs more than
that itself, for a list most of all: the requests are what counts, the seconds are mostly moto's.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from analysis.load.runs import load_stores
from analysis.reports import _store_inputs
from mtl.spec import RunSpec
from mtl.store import Store
from mtl.store.states import read_runs
from sweeps.command import epochs_before
from tests.benchmarks.reports import PAIR, Case, fill
from tests.s3_server import counted, running_s3_server

LATENCY = 0.03
"""Seconds."""
# 25 points of two methods with ten seeds.
RUNS = Case("500 runs", PAIR, ("lsb", "fixed"), 26, 10)


def measure(report: Callable[[str, str, list[float]], None]) -> None:
    """Print seconds and requests of planning, of a report's reading, and of `list`'s."""
    with running_s3_server(LATENCY) as server, patch.dict(os.environ, server.environment):
        store = Store(server.address("benchmark"))
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), RUNS)
            upload(Path(folder), store)
        run_ids = store.run_ids()
        absent = {spec.run_id(): spec for spec in (RunSpec(seed=1000 + n) for n in range(500))}
        actions: dict[str, Callable[[], object]] = {
            "plan, none of 500 there": lambda: read_runs(store, absent, absent),
            "plan, 500 done": lambda: read_runs(store, run_ids),
            "epochs before, none of 500 there": lambda: epochs_before(store, absent),
            "whether a report is up to date, 500 runs": lambda: _store_inputs([store], run_ids),
            "load a store of 500 runs": lambda: load_stores([store]),
        }
        for name, action in actions.items():
            with counted(store) as counts:
                began, began_cpu = time.monotonic(), time.process_time()
                action()
                report(name, "s", [time.monotonic() - began])
                report(name, "s CPU", [time.process_time() - began_cpu])
            report(name, "requests", [sum(counts.values())])


def upload(folder: Path, store: Store) -> None:
    """Copy the runs of a folder to object storage."""

    def put(path: Path) -> None:
        key = path.relative_to(folder).as_posix()
        log = "/000001.jsonl" if key.endswith(".jsonl") else ""
        store.write(key + log, path.read_bytes())

    store.for_each(lambda name: put(Path(name)), [str(p) for p in folder.glob("runs/*/*.json*")])
