"""Real learning on the default job: it beats what ignores the image; units hardly matter to LSB."""

import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from mtl.data.prepared import prepare
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from sweeps.plan.defaults import DEFAULT_FIELDS, DEFAULT_TASKS
from sweeps.plan.fields import nested
from tests.metrics import PLOTTED_METRIC

Point = tuple[float, ...]


def default_run(**changes: object) -> RunSpec:
    """Return a run of the default job with changed top-level fields."""
    return RunSpec.from_dict({"tasks": DEFAULT_TASKS, **nested(DEFAULT_FIELDS), **changes})


def operating_point(metrics: dict) -> Point:
    return tuple(metrics[task][PLOTTED_METRIC[task]] for task in DEFAULT_TASKS)


@pytest.mark.slow
def test_both_tasks_beat_predictions_that_ignore_the_image(data_root, tmp_path):
    # One run of the default job, of a quarter of its epochs; validation has no say in it.
    data = {**nested(DEFAULT_FIELDS)["data"], "num_validation": 8}
    spec = default_run(priorities=[0.5, 0.5], epochs=4, data=data)
    store = Store(tmp_path / "store")
    prepare(spec.data, data_root, num_workers=1)
    result = fit(spec, store, Runtime(device="cpu", num_threads=1, data_root=data_root))
    manifest = store.manifest(spec.run_id())
    learnt = operating_point(result.final_metrics["test"])
    prior = operating_point(manifest["per_pixel_prior"]["test"])
    print(f"learnt {learnt}, without the image {prior}")
    assert all(a > b + 0.05 for a, b in zip(learnt, prior, strict=True))


def _train(arguments: tuple[dict, str, str]) -> Point:
    fields, root, data_root = arguments
    runtime = Runtime(device="cpu", num_threads=1, data_root=data_root)
    result = fit(RunSpec.from_dict(fields), Store(root), runtime)
    return operating_point(result.final_metrics["test"])


@pytest.mark.slow
def test_unit_of_a_loss_moves_fixed_weighting_ten_times_as_far_as_lsb(data_root, tmp_path):
    # The same training with the depth loss measured in another unit: 3 seeds a cell, equal
    # priorities. From the second period on LSB sees no units; the first weighs raw losses, which
    # moves depth by about a point of delta1 in every seed (docs/EXPERIMENTS.md). At stride 8: at
    # the default job's 4, that period has a say in which of two basins of segmentation the short
    # training falls into.
    seeds = (0, 1, 2)
    network = {**nested(DEFAULT_FIELDS)["network"], "encoder_stride": 8}
    cells = [(method, unit) for method in ("lsb", "fixed") for unit in (1.0, 0.1)]
    specs = [
        default_run(
            method=method,
            priorities=[0.5, 0.5],
            network=network,
            loss_units={"depth": unit},
            seed=seed,
            method_options={"increase_rate": 0.02} if method == "lsb" else {},
        )
        for method, unit in cells
        for seed in seeds
    ]
    prepare(specs[0].data, data_root, num_workers=2)
    jobs = [(spec.to_dict(), str(tmp_path / "store"), data_root) for spec in specs]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        points = list(pool.map(_train, jobs))
    by_cell = {cell: points[3 * i : 3 * i + 3] for i, cell in enumerate(cells)}
    for cell, cell_points in by_cell.items():
        print(cell, cell_points)

    def shift(method: str, axis: int) -> float:
        """Return the difference that the unit makes to a task's metric, mean over seeds."""
        one, other = ([p[axis] for p in by_cell[method, unit]] for unit in (1.0, 0.1))
        spread = ((statistics.variance(one) + statistics.variance(other)) / 2) ** 0.5
        difference = statistics.mean(other) - statistics.mean(one)
        print(f"{method} {DEFAULT_TASKS[axis]}: {difference:+.3f}, seed spread {spread:.3f}")
        return difference

    depth = DEFAULT_TASKS.index("depth")
    assert shift("fixed", depth) < -0.1, "a loss of a tenth is trained less"
    assert 10 * abs(shift("lsb", depth)) < abs(shift("fixed", depth))
