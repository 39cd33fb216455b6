"""Of the care of a store, `list` reads object storage; what changes a store refuses it."""

import json
from pathlib import Path

import pytest

from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec
from mtl.store import Store
from mtl.store.__main__ import main

SPECS = [RunSpec(seed=seed, epochs=2) for seed in range(5)]


def fill(store: Store) -> Store:
    """Write a run of each state, and one that is damaged."""
    done, partial, failed, _, damaged = (store.write_spec(spec) for spec in SPECS)
    record = EpochRecord(1, [0.5, 0.5], None, None, None, 1e-3, {}, 1.0)
    store.write_epochs(done, [record] * 2)
    store.write_result(Result(done, "done", 2, "last", 2, {}, {}))
    store.write_epochs(partial, [record])
    store.write_error(failed, "Traceback\nValueError: \x1b[2Jno")
    store.write(store.run_key(damaged, "spec.json"), b'{"a": ' * 5000)
    return store


@pytest.fixture
def store(s3_address: str) -> Store:
    return fill(Store(s3_address))


def listed(capsys: pytest.CaptureFixture[str], place: str, *argv: str) -> list[dict[str, object]]:
    assert main(["list", place, "--json", *argv]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_listed_as_those_of_a_folder(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = fill(Store(tmp_path / "store"))
    there, here = listed(capsys, store.address), listed(capsys, str(local.root))
    assert there == here
    assert {run["state"] for run in there} == {"done", "partial", "failed", "waiting", "damaged"}
    (run,) = listed(capsys, store.address, "--state", "done")
    assert (run["run_id"], run["epochs_recorded"]) == (SPECS[0].run_id(), 2)
    assert main(["list", store.address]) == 0
    out = capsys.readouterr().out
    assert "5 runs: 1 done, 1 failed, 1 partial, 1 waiting, 1 damaged" in out
    assert "\x1b" not in out


def test_a_checkpoint_alone_is_a_run_begun(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write_large(store.run_key(SPECS[3].run_id(), "checkpoint", "latest.pt"), b"x")
    states = {run["run_id"]: run["state"] for run in listed(capsys, store.address)}
    assert states[SPECS[3].run_id()] == "partial"


def test_what_object_storage_does_not_tell_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = store.address.replace("s3://", "s3://someone:open%2Fsesame@")
    elsewhere = str(tmp_path / "elsewhere")
    for argv, status, says in (
        (["list", address, "--state", "running"], 2, "that object storage tells, got running"),
        (["list", address, "--run", "f" * 16], 2, "Expected runs of s3://bucket/"),
        (["verify", address], 1, "Expected a store in a folder"),
        (["merge", address, elsewhere], 1, "Expected a store in a folder"),
        (["merge", elsewhere, address], 1, "holds no store.json"),
        (["remove", address, "--all", "--yes"], 1, "Expected a store in a folder"),
        (["list", address.replace("bucket/", "bucket/none/")], 1, "holds no store.json"),
        (["list", address.replace("bucket/", "absent/")], 1, "Expected a bucket"),
    ):
        assert main(argv) == status, argv
        said = capsys.readouterr()
        assert says in said.err
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert "sesame" not in said.err
    assert len(store.run_ids()) == 5


def test_a_marker_that_is_too_large_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("store.json", b'{"schema": 1, "x": "' + b"x" * 200_000 + b'"}')
    assert main(["list", store.address]) == 1
    assert "got a damaged file" in capsys.readouterr().err
