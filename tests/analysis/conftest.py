"""A store with plausible numbers, written through `mtl.store` as training writes it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.compute.findings import Findings, find
from analysis.load.axes import choose_axes
from analysis.load.runs import load_stores
from mtl.records import Result
from mtl.spec import RunSpec
from mtl.spec.sections import DataSpec
from mtl.store import Store, write_json

PRIORITIES = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
# Means of an early study of the default job: depth priority -> (delta1, miou).
MEANS = {
    "lsb": ((0.693, 0.820), (0.861, 0.595), (0.844, 0.519), (0.849, 0.442), (0.842, 0.414)),
    "fixed": ((0.652, 0.816), (0.737, 0.756), (0.836, 0.591), (0.841, 0.573), (0.837, 0.509)),
}
PRIOR = {"depth": {"delta1": 0.547, "rmse": 1.2}, "segmentation": {"miou": 0.279}}


def make_spec(method: str, depth_priority: float | None, seed: int, **changes: Any) -> RunSpec:
    priorities = None if depth_priority is None else (depth_priority, 1 - depth_priority)
    values = {"epochs": 12, "data": DataSpec(variant="simple"), **changes}
    return RunSpec(method=method, priorities=priorities, seed=seed, **values)


def finish(
    store: Store,
    spec: RunSpec,
    values: dict[str, dict[str, float | None]],
    manifest: dict[str, Any] | None = None,
) -> str:
    """Write a done run with these test metrics."""
    run_id = store.write_spec(spec)
    metrics = {"validation": values, "test": values}
    store.write_result(Result(run_id, "done", spec.epochs, "last", spec.epochs, metrics, metrics))
    store.write_manifest(
        run_id,
        {
            "code_version": "0.1.0+abc1234",
            "environment": {"python": "3.11.2", "torch": "2.15.0", "timm": "1.0.31"},
            "hardware": {"device": "cpu", "cpu": "x86", "num_threads": 1},
            "wall_seconds": 18.5 + spec.seed,
            "device_seconds": 17.25,
            "per_pixel_prior": {"test": PRIOR},
        }
        if manifest is None
        else manifest,
    )
    return run_id


def depth_and_segmentation(delta1: float | None, miou: float | None) -> dict[str, Any]:
    rmse = None if delta1 is None else 1.5 - delta1
    return {
        "depth": {"delta1": delta1, "rmse": rmse, "abs": 0.3, "rel": 0.1},
        "segmentation": {"miou": miou, "pixel_accuracy": 0.9},
    }


def fill(
    store: Store,
    methods: Sequence[str] = ("lsb", "fixed"),
    seeds: int = 2,
    shift: float = 0.0,
    skip: Callable[[RunSpec], bool] = lambda spec: False,
) -> list[str]:
    """Plan a grid, write every spec, finish all runs that `skip` does not take; return run ids.

    `shift` is added to both metrics of `lsb`.
    """
    generator = np.random.default_rng(7)
    run_ids = []
    for method in methods:
        for priority, (delta1, miou) in zip(PRIORITIES, MEANS[method], strict=True):
            for seed in range(seeds):
                spec = make_spec(method, priority, seed)
                noise = generator.normal(0, 0.008, 2) + (shift if method == "lsb" else 0.0)
                run_ids.append(store.write_spec(spec))
                if not skip(spec):
                    values = (float(delta1 + noise[0]), float(miou + noise[1]))
                    finish(store, spec, depth_and_segmentation(*values))
    return run_ids


def write_plan(store: Store, name: str, *revisions: Sequence[str]) -> Path:
    folder = store.sweep_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "plan.json",
        {
            "schema": 1,
            "kind": "priority_grid",
            "revisions": [
                {"started": "2026-01-01T00:00:00+00:00", "run_ids": list(ids), "varies": {}}
                for ids in revisions
            ],
        },
    )
    return folder


def findings_of(store: Store, **metrics: str) -> Findings:
    """Return the findings on all runs of a store; `metrics` is task -> metric."""
    loaded = load_stores([store])
    return find(loaded, choose_axes(loaded.tasks, metrics))


@pytest.fixture
def synthetic() -> SimpleNamespace:
    """Return the functions above."""
    return SimpleNamespace(
        make_spec=make_spec,
        finish=finish,
        depth_and_segmentation=depth_and_segmentation,
        fill=fill,
        write_plan=write_plan,
        prior=PRIOR,
        means=MEANS,
        priorities=PRIORITIES,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "results")


@pytest.fixture(scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("filled") / "results")
    write_plan(store, "priority_grid", fill(store))
    return store.root


@pytest.fixture
def full_store(_filled: Path, tmp_path: Path) -> Store:
    """Return a finished default grid: two methods, five priorities, two seeds."""
    return Store(shutil.copytree(_filled, tmp_path / "results"))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_flushed() -> Iterator[None]:
    """Spare the disk: no machine crashes between two lines of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield
