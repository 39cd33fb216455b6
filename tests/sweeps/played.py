"""Finished runs, and a launch that finishes runs without training them."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mtl.records import Result
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps import command
from sweeps.launch import driver, session
from sweeps.launch.signals import StopRequested

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
EMPTY: Metrics = {"validation": {}, "test": {}}


def finish(store: Store, spec: RunSpec, metrics: Metrics = EMPTY, seconds: float = 10.0) -> str:
    """Write a run that is done, with these metrics by split; return its id."""
    run_id = store.write_spec(spec)
    store.write_manifest(run_id, {"wall_seconds": seconds})
    store.write_result(Result(run_id, "done", spec.epochs, "last", spec.epochs, metrics, metrics))
    return run_id


def start_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a session have nothing to start."""

    @contextlib.contextmanager
    def started_ray(*_: object) -> Iterator[tuple[Path, None]]:
        yield Path(), None

    monkeypatch.setattr(session, "started_ray", started_ray)


class PlayedLaunch:
    """In place of `driver.launch`: finishes runs in order, and stops or fails on request.

    Preparing data and writing reports, which take most of a sweep's time, are left out too.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        metrics_of: Callable[[RunSpec], Metrics] = lambda spec: EMPTY,
    ) -> None:
        self.metrics_of = metrics_of
        self.trained: list[str] = []
        self.reported: list[int] = []
        """How many runs each report was on."""
        self.stop_after: int | None = None
        """Runs until it stops."""
        self.stops_by: BaseException | None = StopRequested("SIGTERM")
        """What it raises then; None: it returns."""
        self.failing: set[str] = set()
        self.leases: list[tuple[int, str]] = []
        self.states_before: list[str] = []
        self.deadline = 0.0
        monkeypatch.setattr(driver, "launch", self)
        start_no_ray(monkeypatch)
        monkeypatch.setattr("mtl.data.prepared.prepare", lambda *_, **__: None)
        monkeypatch.setattr(command, "write_reports", self._report)

    def _report(self, _store, plan, *_) -> bool:
        self.reported.append(len(plan.run_ids))
        return True

    def __call__(
        self, plan, store, _execution, _runtime, progress, journal, _, signals, **_session
    ) -> None:
        self.deadline = signals.deadline
        self.leases.append((store.lease.number, store.lease.token))
        status = store.sweep_folder(plan.name) / "status.json"
        self.states_before.append(json.loads(status.read_text())["state"])
        for run_id, spec in plan.without(progress.done | progress.failed).items():
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                if self.stops_by is None:
                    return
                if not isinstance(self.stops_by, StopRequested):  # it comes while a run trains
                    progress.start(run_id)
                    journal.status(progress.snapshot(), "running", now=True)
                raise self.stops_by
            progress.start(run_id)
            if run_id in self.failing:
                store.write_spec(spec)
                store.write_error(run_id, "no")
            else:
                finish(store, spec, self.metrics_of(spec))
                self.trained.append(run_id)
            progress.finish(run_id, succeeded=run_id not in self.failing)
