"""A search whose runs are computed, not trained: a trade-off with a best learning rate."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtl.records import PAUSED_AFTER, EpochRecord, Result
from mtl.spec import RunSpec
from mtl.spec.sections import DataSpec, OptimizerSpec
from mtl.store import Store
from sweeps.search.options import INCREASE_RATE, LEARNING_RATE, SearchOptions

BEST_RATE = 2e-3
DIVERGES_ABOVE = 8e-3


class Killed(BaseException):
    """Ends a search as kill -9 would: nothing is tidied."""


def metrics(spec: RunSpec, epoch: int) -> dict[str, dict[str, float]]:
    """Return what the run reaches: more of a task with its priority, less away from BEST_RATE."""
    assert spec.priorities is not None
    off = abs(math.log(spec.optimizer.learning_rate / BEST_RATE))
    learnt = (1 - 0.5 ** (8 * epoch / spec.epochs)) / (1 + 0.3 * off) - 0.002 * spec.seed
    depth, segmentation = (learnt * math.sqrt(p) for p in spec.priorities)
    return {"depth": {"delta1": depth}, "segmentation": {"miou": segmentation}}


class Played:
    """Trains by writing records and results, counts every epoch, and can crash."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trained: list[tuple[str, int]] = []
        self.batches: list[tuple[str, int, int | None]] = []
        self.fails: Callable[[RunSpec], bool] = lambda spec: (
            spec.optimizer.learning_rate > DIVERGES_ABOVE
        )
        self.left: int | None = None
        """Events until it crashes."""
        self.before_pause: Callable[[], None] = lambda: None
        """Called between the last epoch before a pause and its entry in the manifest."""

    def event(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def __call__(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        self.batches.append((what, len(specs), pause_after))
        for spec in specs:
            self._train(spec, pause_after or spec.epochs)

    def _train(self, spec: RunSpec, last: int) -> None:
        run_id = self.store.write_spec(spec)
        records = self.store.epochs(run_id)
        if self.store.is_done(run_id) or self.store.error(run_id) is not None:
            return
        if self.store.manifest(run_id) is not None:
            self.store.write_manifest(run_id, {})  # it goes on, and is not paused any more
        for epoch in range(len(records) + 1, last + 1):
            self.event()
            if self.fails(spec):
                self.store.write_error(run_id, "mtl.errors.RunFailedError: Epoch 1: diverged")
                return
            found = {"validation": metrics(spec, epoch)}
            records.append(EpochRecord(epoch, [0.1, 0.1], None, None, None, 1e-3, found, 0.1))
            self.store.write_epochs(run_id, records)
            self.trained.append((run_id, epoch))
        if len(records) < spec.epochs:
            self.before_pause()
            self.store.write_manifest(run_id, {PAUSED_AFTER: len(records)})
        elif not self.store.is_done(run_id):
            self.event()
            found = {"validation": metrics(spec, last), "test": metrics(spec, last)}
            self.store.write_result(
                Result(run_id, "done", spec.epochs, "last", spec.epochs, found, found)
            )


def make_bases(epochs: int = 16, methods: Sequence[str] = ("lsb", "fixed")) -> dict[str, RunSpec]:
    return {
        method: RunSpec(
            method=method,
            priorities=(0.5, 0.5),
            epochs=epochs,
            data=DataSpec(),
            optimizer=OptimizerSpec(learning_rate=8e-4),
        )
        for method in methods
    }


def make_options(**changes: Any) -> SearchOptions:
    values: dict[str, Any] = {
        "sampler": "tpe",
        "epochs": 16,
        "num_tasks": 2,
        "candidates": 4,
        "trials": 6,
        "points": 3,
        "population": 3,
        "seeds": 2,
        "search_seed": 0,
        "ranges": {LEARNING_RATE: (2e-4, 2e-2), INCREASE_RATE: (2e-3, 0.5)},
    }
    return SearchOptions(**values | changes)


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the functions above and a way to make stores."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # hundreds of small files

    def new_store(name: str) -> tuple[Store, Path]:
        store = Store(tmp_path / name)
        folder = store.sweep_folder("mine")
        folder.mkdir(parents=True, exist_ok=True)
        return store, folder

    return SimpleNamespace(
        bases=make_bases,
        options=make_options,
        training=Played,
        killed=Killed,
        new_store=new_store,
        best_rate=BEST_RATE,
        diverges_above=DIVERGES_ABOVE,
    )
