"""The store is the truth: atomic, strict about schemas, one trainer a run."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mtl.errors import StoreError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store, write_json
from mtl.store.local import LocalStorage, write_atomically
from mtl.store.states import read_runs
from mtl.training import fit
from tests.store.conftest import epoch_record


def _result(run_id: str) -> Result:
    metrics = {"test": {"depth": {"delta1": 0.5, "rmse": None}}}
    return Result(
        run_id=run_id, status="done", epochs=3, selection="last", selected_epoch=3,
        selected_metrics=metrics, final_metrics=metrics,
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    store = Store(tmp_path / "deep" / "store")
    spec = RunSpec(seed=3)
    run_id = store.write_spec(spec)
    assert store.run_ids() == [run_id]
    assert store.spec(run_id) == spec
    assert store.epochs(run_id) == []
    records = [epoch_record(1), epoch_record(2)]
    store.write_epochs(run_id, records)
    assert store.epochs(run_id) == records
    assert store.result(run_id) is store.manifest(run_id) is None
    store.write_error(run_id, "it broke")
    assert store.error(run_id) == "it broke\n"
    assert not store.is_done(run_id)
    store.write_result(_result(run_id))
    assert store.done([run_id, "0" * 16]) == {run_id}
    assert store.error(run_id) is None  # a result outlives an earlier failure
    assert Store(store.root, create=False).result(run_id) == _result(run_id)
    held = store.read_json(store.run_key(run_id, "result.json"))
    assert held.keys() == {
        "schema", "run_id", "status", "epochs", "selection", "selected_epoch", "selected_metrics",
        "final_metrics", "declared",
    }  # fmt: skip
    assert store.names("") == ["runs", "store.json", "sweeps"]


def test_state_of_a_finished_run_needs_only_its_result(tmp_path, monkeypatch):
    store, spec = Store(tmp_path / "store"), RunSpec(seed=3)
    run_id = store.write_spec(spec)
    store.write_epochs(run_id, [epoch_record(1)])
    store.write_manifest(run_id, {"schema": 1, "wall_seconds": 1.0})
    store.write_result(_result(run_id))
    keys: list[str] = []
    read = LocalStorage.read
    monkeypatch.setattr(
        LocalStorage, "read", lambda self, key, *most: keys.append(key) or read(self, key, *most)
    )
    assert read_runs(store, [run_id], {run_id: spec})[run_id].state == "done"
    assert keys == [f"runs/{run_id}/result.json"]
    run = read_runs(store, [run_id], {run_id: spec}, manifests=True)[run_id]
    assert run.manifest == {"schema": 1, "wall_seconds": 1.0}
    assert keys[1:] == [f"runs/{run_id}/result.json", f"runs/{run_id}/manifest.json"]


def test_no_nan_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644  # others may read it

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "got the file"),
        ("file/below", "Expected a folder that can be written"),
        ("other", "holds other things"),
        ("newer", "schema 1 in .*, got schema 99"),
        ("torn", "damaged file"),
        ("shelf://bucket/store", "like s3://bucket/prefix"),
        ("s3://bucket/store?colour=red&region=x", "got colour"),
        ("s3:///store?region=x", "expected a bucket"),
        ("gs://", "expected a bucket"),
        ("/proc/nowhere", "can be written"),
    ],
)
def test_unusable_place_is_refused_in_one_sentence(place, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "file": "", "other/holiday.jpg": "", "newer/store.json": '{"schema": 99}',
        "torn/store.json": '{"sch',
    }  # fmt: skip
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    with pytest.raises(StoreError, match=message) as caught:
        Store(place)
    assert "\n" not in str(caught.value)


def test_absent_store_is_not_made_by_a_reader(tmp_path):
    with pytest.raises(StoreError, match="holds no store.json"):
        Store(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="can be written"):
        Store(tmp_path / "store")


def test_names_cannot_leave_the_store(tmp_path):
    store = Store(tmp_path / "store")
    for bad in ("../x", "a/b", "", ".hidden", "x" * 200):
        with pytest.raises(ValueError, match="sweep name"):
            store.sweep_folder(bad)
        with pytest.raises(StoreError, match="run id"):
            store.run_folder(bad)


DAMAGES = {
    "empty": lambda whole: b"",
    "torn": lambda whole: whole[: len(whole) // 2],
    "garbage": lambda whole: b"\xff\x00\xfe",
    "newer": lambda whole: b'{"schema": 99, "of": "a newer release"}\n',
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["spec", "manifest", "result"])
def test_damaged_file_is_one_sentence(name, damage, tmp_path):
    store = Store(tmp_path / "store")
    run_id = store.write_spec(RunSpec(seed=3))
    store.write_manifest(run_id, {"schema": 1, "wall_seconds": 1.0})
    store.write_result(_result(run_id))
    path = store.run_folder(run_id) / f"{name}.json"
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    with pytest.raises(StoreError, match=path.name) as caught:
        getattr(store, name)(run_id)
    assert len(str(caught.value).splitlines()) == 1
    assert store.done([run_id]) == (set() if name == "result" else {run_id})
    if name == "spec":
        store.write_spec(RunSpec(seed=3))
        assert path.read_bytes() == whole
        before = path.stat().st_mtime_ns
        store.write_spec(RunSpec(seed=3))  # what is whole is left
        assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["folder", "objects"])
def test_only_whole_lines_of_epochs_count(place, damage, request, tmp_path):
    key = f"runs/{'0' * 16}/epochs.jsonl"
    is_local = place == "folder"
    store = Store(tmp_path / "store" if is_local else request.getfixturevalue("s3_address"))
    store.write_epochs("0" * 16, [epoch_record(1)])
    file = key if is_local else f"{key}/000001.jsonl"
    store.write(file, DAMAGES[damage](store.read(file)))
    if damage != "newer":
        assert store.epochs("0" * 16) == []
        return
    with pytest.raises(StoreError, match="Expected epoch records") as caught:
        store.epochs("0" * 16)
    assert len(str(caught.value).splitlines()) == 1


def test_error_is_text_whatever_it_holds(tmp_path):
    store = Store(tmp_path / "store")
    for content in (b"", b"\xff\xfe"):
        store.write(store.run_key("0" * 16, "error.txt"), content)
        assert isinstance(store.error("0" * 16), str)


def test_records_before_a_checkpoint_must_be_there(tmp_path, tiny_spec, data_root):
    store, runtime = Store(tmp_path / "store"), Runtime(device="cpu", data_root=data_root)

    def stop(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_spec, store, runtime, on_epoch=stop)
    store.write_epochs(tiny_spec.run_id(), store.epochs(tiny_spec.run_id())[:1])
    with pytest.raises(StoreError, match="Expected the records of 2 epochs, .* got 1"):
        fit(tiny_spec, store, runtime)


HOLD = """
import sys
from mtl.store import Store
with Store(sys.argv[1]).run_lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_run_has_one_trainer_and_a_killed_one_frees_it(tmp_path):
    store = Store(tmp_path / "store")
    run_id = store.write_spec(RunSpec())
    argv = [sys.executable, "-c", HOLD, str(store.root), run_id]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError, match=run_id), store.run_lock(run_id):
            pass
        holder.kill()
    with store.run_lock(run_id):
        pass
