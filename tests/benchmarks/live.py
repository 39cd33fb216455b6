"""What the live page costs its server with 1,000 runs: seconds of a look, and memory.

Half of the runs are done when the first viewer comes; then they end one by one, a look after each.
Memory is what the process holds beyond an empty page, whose imports are all there.
"""

import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from mtl.store import Store
from sweeps.serve import LivePage
from tests.benchmarks.reports import Case, fill

CASE = Case("live", ("depth", "segmentation"), ("lsb", "fixed"), 51, 10)
NUM_LOOKS = 21


def measure(report: Callable[[str, str, list[float]], None]) -> None:
    """Print the seconds of looks and the MiB of the server."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small"), Path(folder, "store")
        fill(small, Case("warm", CASE.tasks, CASE.methods, 3, 2))
        _look(_page(small))  # imports, templates
        before = _mebibytes()
        fill(large, CASE)
        ids = sorted(path.name for path in (large / "runs").iterdir())
        aside = Path(folder, "aside")
        aside.mkdir()
        waiting = ids[len(ids) // 2 :]
        for run_id in waiting:
            shutil.move(large / "runs" / run_id / "result.json", aside / run_id)
        page = _page(large)
        report(f"first look, {len(ids) - len(waiting)} of {len(ids)} runs done", "s", [_look(page)])
        seconds = []
        for run_id in waiting[:-NUM_LOOKS]:
            shutil.move(aside / run_id, large / "runs" / run_id / "result.json")
        _look(page)
        for run_id in waiting[-NUM_LOOKS:]:
            shutil.move(aside / run_id, large / "runs" / run_id / "result.json")
            seconds.append(_look(page))
        report(f"look after a run has ended, {len(ids)} runs", "s", seconds)
        report("look at which nothing is new", "s", [_look(page) for _ in range(NUM_LOOKS)])
        report("server beyond an empty page", "MiB", [_mebibytes() - before])


def _page(root: Path) -> LivePage:
    ids = sorted(path.name for path in (root / "runs").iterdir())
    store = Store(root)
    revision = {"started": "x", "run_ids": ids, "varies": {}}
    plan = {"schema": 1, "kind": "priority_grid", "revisions": [revision]}
    store.write_json(store.sweep_key("made", "plan.json"), plan)
    page = LivePage(Store(root, create=False), "made")
    page.viewers[("", "")] = 1
    return page


def _look(page: LivePage) -> float:
    began = time.perf_counter()
    json.dumps(page.look()[("", "")])
    return time.perf_counter() - began


def _mebibytes() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20
