"""How many requests a run on object storage is: bounded, whatever the length of its epochs."""

from collections import Counter
from dataclasses import replace

import pytest

from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.store.clients import Listing, S3Client
from mtl.store.objects import ObjectStorage
from mtl.store.states import read_runs
from mtl.training import fit
from sweeps.status.journal import sweep_lock
from tests.conftest import tiny_fields
from tests.s3_server import counted

FIXED = 33
"""Requests of a run from plan to report beside those of its checkpoints, samples and beats."""
OF_A_CHECKPOINT = 4
"""Lines, object, pointer, and the object before it."""


def requests_of_a_run(address: str, epochs: int, runtime: Runtime) -> Counter[str]:
    """Return the requests of a run: planned, trained by a worker of a sweep, read for a report."""
    spec = RunSpec.from_dict(tiny_fields(epochs=epochs))
    run_id = spec.run_id()
    with sweep_lock(Store(address), "mine") as driver, counted(driver) as counts:
        assert read_runs(driver, [run_id], {run_id: spec})[run_id].state == "missing"
        driver.write_spec(spec)
        worker = Store(address, create=False, lease=driver.lease)
        worker.clear_error(run_id)
        fit(worker.spec(run_id), worker, runtime)
        (run,) = read_runs(driver, [run_id], manifests=True).values()
        assert (run.state, len(driver.epochs(run_id))) == ("done", epochs)
    return counts


def test_requests_of_a_run_are_bounded_by_its_checkpoints(s3_address, data_root):
    runtime = Runtime(device="cpu", data_root=data_root, sample_epochs=(), checkpoint_seconds=0)
    for number, epochs in enumerate((1, 4)):
        counts = requests_of_a_run(f"{s3_address}".replace("?", f"/{number}?"), epochs, runtime)
        print(epochs, sum(counts.values()), dict(counts))
        assert sum(counts.values()) <= FIXED + OF_A_CHECKPOINT * epochs


def test_short_epochs_are_no_requests(s3_address, data_root):
    runtime = Runtime(device="cpu", data_root=data_root, sample_epochs=())
    few, many = (
        requests_of_a_run(s3_address.replace("?", f"/{epochs}?"), epochs, runtime)
        for epochs in (2, 6)
    )
    assert abs(sum(few.values()) - sum(many.values())) <= OF_A_CHECKPOINT


def test_planning_lists_all_runs_at_once_and_reads_results_alone(s3_address):
    store = Store(s3_address)
    specs = {spec.run_id(): spec for spec in (RunSpec(seed=seed) for seed in range(20))}
    for spec in specs.values():
        store.write_spec(spec)
    with counted(store) as counts:
        runs = read_runs(store, specs, specs)
    assert {run.state for run in runs.values()} == {"missing"}
    assert counts == {"ListObjectsV2": 1}


@pytest.mark.parametrize(("num_asked", "num_requests"), [(2, 3), (40, 17)])
def test_few_runs_of_many_are_asked_for_singly(num_asked, num_requests, s3_address, monkeypatch):
    """A page holds ten names here; forty runs of one file are about four pages."""
    page = S3Client.page

    def short(self: S3Client, path: str, starting: str, **options: object) -> Listing:
        asked.append(f"{path[-20:]}/{starting}")
        held = page(self, path, starting, **options)
        if path.endswith("/runs") and not starting:
            return replace(held, files=held.files[:10], goes_on="more")
        return held

    asked: list[str] = []
    store = Store(s3_address)
    ids = [f"{number * 16**16 // 40:016x}" for number in range(40)]
    for run_id in ids:
        store.write(f"runs/{run_id}/spec.json", b"{}")
    monkeypatch.setattr(S3Client, "page", short)
    files = store.run_files(ids[-num_asked:])
    assert list(files) == ids[-num_asked:]
    assert all([file.name for file in held] == ["spec.json"] for held in files.values())
    assert len(asked) == num_requests


def test_lines_wait_for_the_next_write(s3_address):
    store, reader = Store(s3_address), Store(s3_address)
    key = "sweeps/mine/events.jsonl"
    for number in range(3):
        store.append_line(key, number)
    assert reader.read_log(key) == b"0\n"  # the first is written at once
    assert store.read_log(key) == b"0\n1\n2\n"
    store.write("sweeps/another/status.json", b"x")
    assert reader.read_log(key) == b"0\n"
    store.write("sweeps/mine/status.json", b"x")
    assert reader.read_log(key) == b"0\n1\n2\n"
    assert isinstance(store.storage, ObjectStorage)
