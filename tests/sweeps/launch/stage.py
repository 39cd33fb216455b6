"""Launches whose rounds or trainings a test plays."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mtl.records import Result
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from sweeps.launch import Execution, cluster, driver, session
from sweeps.launch.driver import launch
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs, make_plan
from sweeps.priority_grid import GRID
from sweeps.status.display import Display
from sweeps.status.journal import Journal, sweep_lock
from sweeps.status.progress import SweepProgress
from tests.sweeps.played import EMPTY, start_no_ray


class Said(Display):
    """Keeps what is said, and acts on it as `when_said` tells."""

    def __init__(self) -> None:
        super().__init__(None)
        self.texts: list[str] = []
        self.when_said: dict[str, Callable[[], None]] = {}
        """Beginning of a text -> what is called then."""

    def say(self, text: str) -> None:
        self.texts.append(text)
        for beginning, act in self.when_said.items():
            if text.startswith(beginning):
                act()


def launch_specs(
    store: Store,
    specs: Sequence[RunSpec],
    signals: StopSignals,
    *,
    execution: Execution | None = None,
    runtime: Runtime | None = None,
    progress: SweepProgress | None = None,
    display: Display | None = None,
    **options: Any,
) -> SweepProgress:
    """Launch `specs` as the sweep `mine`; `options` are those of `driver.launch`."""
    plan = make_plan("mine", "priority_grid", specs)
    progress = progress or SweepProgress(
        plan.runs, done=store.done(plan.run_ids), expected={}, slots=2
    )
    with sweep_lock(store, "mine"):
        launch(
            plan, store, execution or Execution(), runtime or Runtime(), progress,
            Journal(store, plan), display or Said(), signals, **options,
        )  # fmt: skip
    return progress


def node(name: str = "a", **resources: float) -> dict[str, Any]:
    """Return a node as `ray.nodes()` does."""
    return {
        "NodeID": name,
        "NodeManagerHostname": name,
        "NodeManagerAddress": "127.0.0.1",
        "Resources": {"memory": 8e9, **resources},
    }


def play_ray(monkeypatch: pytest.MonkeyPatch, nodes: Callable[[], list[dict[str, Any]]]) -> None:
    """Let no Ray start, and its nodes be `nodes`, all of which have what runs need."""
    start_no_ray(monkeypatch)
    monkeypatch.setattr(cluster, "alive_nodes", nodes)
    monkeypatch.setattr(session, "preflight_nodes", lambda needs, nodes: {})


class Stage:
    """A plan of six runs, and a launch whose rounds a test plays."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(root)
        self.plan_runs(grid_specs(GRID)[:6])
        self.rounds: list[tuple[list[str], int]] = []
        self.not_on: list[frozenset[str]] = []
        self.display = Said()
        self.said = self.display.texts
        self.num_starts = 0
        self.nodes = [node(CPU=2.0)]
        play_ray(monkeypatch, lambda: self.nodes)
        started = session.started_ray

        def counted(*arguments):
            self.num_starts += 1
            return started(*arguments)

        monkeypatch.setattr(session, "started_ray", counted)
        monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.01)

    def plan_runs(self, specs: Iterable[RunSpec]) -> None:
        self.specs = list(specs)
        runs = {spec.run_id(): spec for spec in self.specs}
        self.ids = tuple(runs)
        self.progress = SweepProgress(runs, expected={}, slots=2)

    def write_result(self, run_id):
        self.store.write_result(Result(run_id, "done", 1, "last", 1, EMPTY, EMPTY))

    def train(self, tracker, run_ids, **states):
        """Start each run and end it as `states` says, otherwise well; an error is raised."""
        for run_id in run_ids:
            tracker.run_started(run_id)
            state = states.get(run_id, "done")
            if isinstance(state, Exception):
                raise state
            if state == "done":
                self.write_result(run_id)
            elif state == "failed":
                self.store.write_error(
                    run_id, "Traceback\nmtl.errors.RunFailedError: loss is not finite"
                )
            tracker.run_ended(run_id, state)

    def launch(self, play, execution=None, **signals_of):
        """Launch; `play(run_ids, tracker, signals)` is called for every round."""

        def run_round(run_ids, trainable, resources, tracker, signals, scratch):
            self.rounds.append((list(run_ids), resources.slots))
            self.not_on.append(resources.not_on)
            signals.deferring = True
            try:
                play(run_ids, tracker, signals)
            finally:
                signals.deferring = False

        with StopSignals(**signals_of) as signals:
            launch_specs(
                self.store, self.specs, signals, execution=execution, progress=self.progress,
                display=self.display, run_round=run_round,
            )  # fmt: skip
            return signals.received

    def events(self):
        return (self.store.sweep_folder("mine") / "events.jsonl").read_text()
