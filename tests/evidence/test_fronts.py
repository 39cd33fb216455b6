"""What `fronts` prints is what the stores hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.compute.fronts import hypervolume
from mtl.spec import Runtime, forked, trunk_of
from mtl.store import Store
from mtl.training import fit
from tests.evidence.fronts import side_by_side
from tests.training.runs import tiny

PRIORITIES, SEEDS = (0.2, 0.8), (0, 1)


@pytest.mark.slow
def test_forked_front_beside_the_full_one(tmp_path: Path, data_root: str) -> None:
    full, forks = (Store(tmp_path / name) for name in ("full", "forks"))
    runtime = Runtime(device="cpu", data_root=data_root)
    metrics = {}
    for seed in SEEDS:
        for p in PRIORITIES:
            spec = tiny(method="fixed", priorities=[p, 1 - p], seed=seed, epochs=4)
            metrics["full", p, seed] = fit(spec, full, runtime).selected_metrics["test"]
            fork = forked(spec, 3)
            fit(trunk_of(fork, 3), forks, replace(runtime, keep="last"))
            metrics["forks", p, seed] = fit(fork, forks, runtime).selected_metrics["test"]
    reference, axes, (held,) = side_by_side([tmp_path / "full", tmp_path / "forks"])

    def values(way: str) -> np.ndarray:
        """Return (priorities, seeds, axes)."""
        of = [[metrics[way, p, seed] for seed in SEEDS] for p in PRIORITIES]
        return np.array([[[m[a.task][a.metric.name] for a in axes] for m in row] for row in of])

    def volume(points: np.ndarray) -> float:
        return hypervolume(points, reference, axes)

    a, b = values("forks"), values("full")
    assert (held.way, held.method, held.num_priorities, held.num_seeds) == ("forks", "fixed", 2, 2)
    assert held.ratio == pytest.approx(volume(a.mean(axis=1)) / volume(b.mean(axis=1)))
    by_seed = [volume(a[:, k]) / volume(b[:, k]) for k in range(2)]
    assert held.seed_range == pytest.approx((min(by_seed), max(by_seed)))
    assert held.seed_ratio == pytest.approx(np.sqrt(np.prod(by_seed)))
    np.testing.assert_allclose(held.shifts, a.mean(axis=1) - b.mean(axis=1))
    # A trunk of three epochs and two forks of one for each seed, in place of two of four.
    assert held.cost == (3 + 2) / 8
