"""What a search reaches with half of a full grid's epochs: `python -m tests.benchmarks search`.

A repetition has scenes of its own. The grid is every twelfth of the simplex with the default job's
settings; the search has half of the grid's training epochs, its tuning counted. Of both, the best
`POINTS` points are chosen on validation, and compared by the hypervolume on test of their means
over the seeds, from one reference: the worst value of any point of both on each axis, moved by a
tenth of the range towards worse.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from analysis.compute.fronts import minimised, minimised_hypervolume
from analysis.load.axes import Axis, choose_axes
from mtl.data.prepared import prepare
from mtl.errors import RunFailedError, RunPausedError
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from sweeps.plan import defaults
from sweeps.plan.fields import nested
from sweeps.plan.lattice import simplex_lattice
from sweeps.plan.tuned import reference_of
from sweeps.search.decisions import DecisionLog
from sweeps.search.engine import best_subset, search
from sweeps.search.options import (
    DEFAULT_INCREASE_RATES,
    INCREASE_RATE,
    LEARNING_RATE,
    LEARNING_RATE_FACTOR,
    SearchOptions,
)
from sweeps.search.study import Trials

REPETITIONS = 5
DIVISIONS = 12
SEEDS = 2
POINTS = 4
SEARCHES = {"search": (4, 6), "search without tuning": (1, 7)}
"""Name -> candidates and trials, both within half of the grid's epochs."""
METHOD = "lsb"
SMALL = {
    "data.height": 32,
    "data.width": 32,
    "data.num_train": 128,
    "data.num_validation": 64,
    "data.num_test": 64,
    "epochs": 8,
}
"""What is smaller than the default job's."""
WORKERS = 2


def _fit(spec: RunSpec, root: str, runtime: Runtime) -> None:
    from mtl.training import fit

    try:
        fit(spec, Store(root), runtime)
    except (RunPausedError, RunFailedError):
        return  # the store knows


class _Trainer:
    """Trains batches in processes, without Ray."""

    def __init__(self, store: Store, data_root: str, pool: ProcessPoolExecutor) -> None:
        self._root, self._pool = str(store.root), pool
        self._runtime = Runtime(
            device="cpu", data_root=data_root, num_samples=0, keep="none", num_threads=1
        )

    def __call__(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:  # noqa: ARG002
        """Train each run to its end or to `pause_after`."""
        runtime = replace(self._runtime, pause_after=pause_after)
        distinct = {spec.run_id(): spec for spec in specs}.values()
        for future in [self._pool.submit(_fit, spec, self._root, runtime) for spec in distinct]:
            future.result()


def mean_metrics(store: Store, spec: RunSpec, split: str, axes: Sequence[Axis]) -> np.ndarray:
    """Return a point's metrics, minimised, mean over its seeds."""
    values = []
    for seed in range(SEEDS):
        result = store.result(replace(spec, seed=seed).run_id())
        if result is None:
            raise RuntimeError(f"Expected a finished run, got {spec} of seed {seed}, which failed.")
        found = result.selected_metrics[split]
        values.append([found[axis.task][axis.metric.name] for axis in axes])
    return minimised(np.array(values, dtype=np.float64), axes).mean(axis=0)


def base_spec(repetition: int) -> RunSpec:
    """Return the run of a repetition at equal priorities, with seed 0."""
    fields = {**defaults.DEFAULT_FIELDS, **SMALL, "data.seed": repetition, "method": METHOD}
    return RunSpec.from_dict(nested(fields))


def search_options(base: RunSpec, repetition: int, candidates: int, trials: int) -> SearchOptions:
    """Return the command's defaults but for the numbers of this measurement."""
    rate = base.optimizer.learning_rate
    factor = LEARNING_RATE_FACTOR
    return SearchOptions(
        sampler="tpe",
        epochs=base.epochs,
        num_tasks=len(base.tasks),
        candidates=candidates,
        trials=trials,
        points=POINTS,
        population=4,
        seeds=SEEDS,
        search_seed=repetition,
        ranges={
            LEARNING_RATE: (rate / factor, rate * factor),
            INCREASE_RATE: DEFAULT_INCREASE_RATES,
        },
    )


def repetition(number: int, folder: Path, pool: ProcessPoolExecutor) -> dict[str, float]:
    """Return the hypervolumes and epochs of one repetition."""
    base = base_spec(number)
    data_root = str(folder / "data")
    prepare(base.data, data_root)
    axes = choose_axes(base.tasks)
    store = Store(folder / f"grid{number}")
    points = simplex_lattice(len(base.tasks), DIVISIONS)
    grid = [replace(base, priorities=point) for point in points]
    runs = [replace(spec, seed=seed) for spec in grid for seed in range(SEEDS)]
    _Trainer(store, data_root, pool)("grid", runs, None)
    on_validation = {
        i: list(mean_metrics(store, spec, "validation", axes)) for i, spec in enumerate(grid)
    }
    best = [grid[i] for i in best_subset(on_validation, POINTS)]
    on_test = {
        "grid": np.array([mean_metrics(store, spec, "test", axes) for spec in best]),
        "whole grid": np.array([mean_metrics(store, spec, "test", axes) for spec in grid]),
    }
    epochs = {"grid": float(sum(len(store.epochs(run_id)) for run_id in store.run_ids()))}
    for name, (candidates, trials) in SEARCHES.items():
        # A store of its own: whatever the grid has trained is trained, and counted, again.
        store = Store(folder / f"{name}{number}")
        sweep = store.sweep_folder("search")
        sweep.mkdir()
        options = search_options(base, number, candidates, trials)
        trainer = _Trainer(store, data_root, pool)
        outcome = search(Trials({METHOD: base}, options, store, sweep, trainer))
        found = outcome.points[METHOD]
        on_test[name] = np.array([mean_metrics(store, spec, "test", axes) for spec in found])
        epochs[name] = float(outcome.num_epochs)
        if epochs[name] > epochs["grid"] / 2:
            raise RuntimeError(f"Expected at most half of the grid's epochs, got {epochs}.")
    reference = reference_of(np.concatenate(list(on_test.values())))
    volumes = {name: minimised_hypervolume(found, reference) for name, found in on_test.items()}
    settings = outcome_settings(folder / f"search{number}")
    print(
        f"repetition {number}: epochs {epochs}; hypervolumes "
        + ", ".join(f"{name} {volume:.4f}" for name, volume in volumes.items())
        + f"; {settings}",
        flush=True,
    )
    return {name: volume / volumes["grid"] for name, volume in volumes.items()}


def outcome_settings(root: Path) -> str:
    """Return the tuned settings of a search in words."""
    log = DecisionLog(root / "sweeps" / "search" / "decisions.jsonl")
    tuned = log.get("tuned", METHOD)
    if tuned is None:
        raise RuntimeError("Expected a search that has tuned, got one that has not.")
    return ", ".join(f"{name} {value:.3g}" for name, value in tuned["params"].items())


def measure() -> None:
    """Print the search's hypervolume over the grid's, with an interval over repetitions."""
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool,
    ):
        ratios = [repetition(number, Path(folder), pool) for number in range(REPETITIONS)]
    for name in ratios[0]:
        values = [ratio[name] for ratio in ratios]
        # Least and most of five hold the median with probability 1 - 2 / 2^5.
        print(
            f"{name}: hypervolume over that of the grid's best {POINTS}, median "
            f"{statistics.median(values):.3f} ({min(values):.3f} .. {max(values):.3f}, "
            f"a {1 - 2 / 2 ** len(values):.0%} interval of the median, n = {len(values)})"
        )
    print(f"{time.perf_counter() - start:.0f} s")
