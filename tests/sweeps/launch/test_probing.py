"""The memory that `--plan --probe` tells of, and what a run's manifest says afterwards."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from mtl.data.prepared import info_of
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training.probe import ProbeResult
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


def test_memory_of_runs_side_by_side_is_their_sum():
    result = ProbeResult("cpu", 1, 1, 1, 1, 0.1, 500_000_000, None)
    assert "  500 MB of memory at a run's peak\n" in _text(tiny(), result, 1)
    assert "  500 MB of memory at a run's peak, 1.5 GB with 3 at a time\n" in _text(
        tiny(), result, 3
    )
