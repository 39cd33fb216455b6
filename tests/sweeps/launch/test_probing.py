"""The memory that `--plan --probe` tells of, and what a run's manifest says afterwards."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch

from mtl.data.prepared import info_of
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import probe as probe_module
from mtl.training.probe import ProbeResult, probe_packs
from sweeps.launch.probing import _text, probe_alone
from tests.training.runs import tiny


def train_like_a_worker(spec: RunSpec, store: str) -> None:
    import sweeps.launch.worker  # noqa: F401 - what a run's process holds
    from mtl.training import fit

    fit(spec, Store(store), Runtime(device="cpu", num_threads=1))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, 64])
def test_probe_predicts_the_peak_memory_of_a_run(batch_size, tmp_path):
    spec = tiny(epochs=1)
    sides = {"height": 96, "width": 128, "num_train": 64, "num_validation": 32}
    spec = replace(spec, data=replace(spec.data, **sides), batch_size=batch_size)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(train_like_a_worker, spec, str(tmp_path)).result()
    manifest = Store(tmp_path).manifest(spec.run_id())
    predicted = probe_alone(spec, info_of(spec.data)).peak_memory_bytes
    print(predicted / manifest["peak_memory_bytes"])
    assert predicted == pytest.approx(manifest["peak_memory_bytes"], rel=0.2)


def test_packs_of_each_number_are_measured():
    spec = tiny()
    rates = probe_packs(spec, info_of(spec.data), numbers=(1, 2), min_seconds=0.0)
    assert list(rates) == [1, 2]
    assert all(rate > 0 for rate in rates.values())


def test_packs_that_the_memory_does_not_hold_are_left_out(monkeypatch):
    spec, numbers = tiny(), []

    def steps_per_second(batch, lanes, steps, min_seconds):
        numbers.append(len(lanes))
        if len(lanes) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1.0

    monkeypatch.setattr(probe_module, "_steps_per_second", steps_per_second)
    assert probe_packs(spec, info_of(spec.data)) == {1: 4.0, 2: 8.0}
    assert numbers == [1, 2, 4]


def test_memory_of_runs_side_by_side_is_their_sum():
    result = ProbeResult("cpu", 1, 1, 1, 1, 0.1, 500_000_000, None)
    assert "  500 MB of memory at a run's peak\n" in _text(tiny(), result, 1)
    assert "  500 MB of memory at a run's peak, 1.5 GB with 3 at a time\n" in _text(
        tiny(), result, 3
    )
