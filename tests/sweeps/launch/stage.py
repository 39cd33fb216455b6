"""A launch whose rounds a test plays: nothing is trained and no Ray is started."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl.records import Result
from mtl.spec import Runtime
from mtl.store import Store
from sweeps.launch import driver, tune
from sweeps.launch.driver import launch
from sweeps.launch.execution import Execution
from sweeps.launch.preflight import Checked, Needs, NodeReport
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs, make_plan
from sweeps.priority_grid import GRID
from sweeps.status.display import PlainDisplay
from sweeps.status.journal import Journal, sweep_lock
from sweeps.status.progress import SweepProgress

REPORT = NodeReport(node="node a", versions={}, free_bytes={})
CHECKED = Checked(
    needs=Needs(token="t", store="/s", store_bytes=0),
    driver=REPORT,
    example=REPORT,
    node_ids=frozenset("a"),
)
"""What a look at a cluster of one node found."""


class Stage:
    """A plan of six runs, and a launch whose rounds a test plays."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(root)
        self.plan = make_plan("mine", "priority_grid", grid_specs(GRID)[:6])
        self.ids = self.plan.run_ids
        self.rounds: list[tuple[list[str], int]] = []
        self.not_on: list[frozenset[str]] = []
        self.said: list[str] = []
        self.when_said: dict[str, Callable[[], None]] = {}
        self.num_starts = 0
        self.nodes = {"CPU": 2.0, "GPU": 0.0, "memory": 8e9}

        @contextlib.contextmanager
        def started_ray(address, **_):
            self.num_starts += 1
            yield root

        monkeypatch.setattr(tune, "started_ray", started_ray)
        monkeypatch.setattr(tune, "largest_node", lambda: self.nodes)
        monkeypatch.setattr(tune, "cluster_total", lambda name: self.nodes[name])
        monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.01)
        self.progress = SweepProgress(
            dict(zip(self.ids, self.plan.specs, strict=True)), expected={}, slots=2
        )

    def finish(self, listener, run_id, state="done"):
        if state == "done":
            metrics = {"validation": {}, "test": {}}
            self.store.write_result(Result(run_id, "done", 1, "last", 1, metrics, metrics))
        elif state == "failed":
            self.store.write_error(
                run_id, "Traceback\nmtl.records.RunFailedError: loss is not finite"
            )
        listener.run_ended(run_id, state)

    def launch(self, play, execution=None):
        """Launch; `play(run_ids, listener, signals)` is called for every round."""

        def run_round(run_ids, trainable, resources, listener, signals, scratch):
            self.rounds.append((list(run_ids), resources.slots))
            self.not_on.append(resources.not_on)
            signals.deferring = True
            try:
                play(run_ids, listener, signals)
            finally:
                signals.deferring = False

        class Display(PlainDisplay):
            def say(display, text):  # noqa: N805
                self.said.append(text)
                for beginning, act in self.when_said.items():
                    if text.startswith(beginning):
                        act()

        with sweep_lock(self.store, "mine"), StopSignals() as signals:
            launch(
                self.plan,
                self.store,
                execution or Execution(),
                Runtime(),
                self.progress,
                Journal(self.store, self.plan),
                Display(None),
                signals,
                run_round=run_round,
            )
            return signals.received

    def events(self):
        return (self.store.sweep_folder("mine") / "events.jsonl").read_text()
