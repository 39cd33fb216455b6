"""Runs that several processes train together, in trials of a real Ray: here on CPUs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from sweeps.launch import Execution, driver
from sweeps.launch.cluster import Resources, resources_of
from sweeps.launch.session import Session, Workers
from sweeps.launch.signals import StopSignals
from tests.conftest import tiny_fields
from tests.sweeps.launch.stage import Said, launch_specs

RANKS = 2


@pytest.fixture(scope="module")
def ray() -> Iterator[Session]:
    with Session(Execution(), "mine", Workers(3, train_networks=True)) as held:
        yield held


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs have two processes though they have no GPUs."""

    def of_two(*arguments: object, **options: object) -> Resources:
        return replace(resources_of(*arguments, **options), ranks=RANKS)

    monkeypatch.setattr(driver, "resources_of", of_two)


def play(root, specs, ray, data_root):
    """Launch `specs`; return store, progress and what was said."""
    store, display = Store(root), Said()
    with StopSignals() as signals:
        progress = launch_specs(
            store, specs, signals, execution=Execution(cpus_per_run=2), display=display,
            runtime=Runtime(data_root=data_root, num_samples=0), session=ray,
        )  # fmt: skip
    return store, progress, display.texts


def a_spec(**changes: object) -> RunSpec:
    return RunSpec.from_dict(tiny_fields(**changes))


def rank_processes() -> list[psutil.Process]:
    """Return the processes of all ranks that train."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "ray::Rank." in " ".join(process.cmdline())
    ]


def after_epochs(
    epochs: int, store: Path, run_id: str, act: Callable[[], None]
) -> threading.Thread:
    """Act once a run has so many epochs on record."""

    def watch() -> None:
        records = store / "runs" / run_id / "epochs.jsonl"
        while not (records.exists() and len(records.read_text().splitlines()) >= epochs):
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_trials_train_on_two_processes_as_on_one(tmp_path, ray, two_ranks, data_root):
    good, bad = a_spec(), a_spec(optimizer={"learning_rate": 1e30})
    store, progress, said = play(tmp_path / "two", [good, bad], ray, data_root)
    assert (progress.done, progress.failed) == ({good.run_id()}, {bad.run_id()})
    assert any("Expected a finite loss" in text for text in said)
    assert "Expected a finite loss" in (store.error(bad.run_id()) or "")
    alone = Store(tmp_path / "one")
    fit(good, alone, Runtime(device="cpu", data_root=data_root, num_samples=0))
    for got, expected in zip(store.epochs(good.run_id()), alone.epochs(good.run_id()), strict=True):
        np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-4)
    execution = (store.manifest(good.run_id()) or {})["execution"]
    assert (execution["processes"], execution["backend"]) == (2, "gloo")
    assert rank_processes() == []


@pytest.mark.slow
def test_run_is_tried_again_after_a_process_of_it_died(tmp_path, ray, two_ranks, data_root):
    spec = a_spec(epochs=200)
    thread = after_epochs(
        20, tmp_path / "store", spec.run_id(), lambda: rank_processes()[-1].kill()
    )
    store, progress, said = play(tmp_path / "store", [spec], ray, data_root)
    thread.join()
    assert progress.done == {spec.run_id()}
    assert any("again" in text for text in said), said
    assert len((store.manifest(spec.run_id()) or {})["started_epochs"]) == 2


@pytest.mark.slow
def test_run_that_is_stopped_goes_on(tmp_path, ray, two_ranks, data_root):
    spec = a_spec(epochs=200)
    after_epochs(
        20, tmp_path / "store", spec.run_id(), lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    store, progress, _ = play(tmp_path / "store", [spec], ray, data_root)
    assert progress.done == set()
    trained = len(store.epochs(spec.run_id()))
    assert 20 <= trained < 200
    _, progress, _ = play(tmp_path / "store", [spec], ray, data_root)
    assert progress.done == {spec.run_id()}
    # The first process wrote its checkpoint as it was stopped.
    assert (store.manifest(spec.run_id()) or {})["started_epochs"] == [1, trained + 1]
