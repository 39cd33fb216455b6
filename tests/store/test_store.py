"""The store is the truth: atomic, strict about schemas, one trainer a run."""

import json
import multiprocessing
import os
import stat
import subprocess
from pathlib import Path

import pytest

from mtl.errors import StoreError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec
from mtl.store import RunBusyError, Store, write_json
from mtl.store.local import write_atomically


def _record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        losses=[1.0, None],
        weights=[0.5, 0.5],
        loss_scales=[0.5, None],
        difficulties=None,
        learning_rate=1e-3,
        metrics={"validation": {"depth": {"delta1": None}}},
        seconds=1.5,
    )


def _result(run_id: str) -> Result:
    metrics = {"test": {"depth": {"delta1": 0.5, "rmse": None}}}
    return Result(
        run_id=run_id,
        status="done",
        epochs=3,
        selection="last",
        selected_epoch=3,
        selected_metrics=metrics,
        final_metrics=metrics,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "store")
    spec = RunSpec(seed=3)
    run_id = store.write_spec(spec)
    assert store.run_ids() == [run_id]
    assert store.spec(run_id) == spec
    assert store.epochs(run_id) == []
    store.write_epochs(run_id, [_record(1), _record(2)])
    assert store.epochs(run_id) == [_record(1), _record(2)]
    assert store.result(run_id) is None
    assert store.manifest(run_id) is None
    store.write_error(run_id, "it broke")
    assert store.error(run_id) == "it broke\n"
    assert not store.is_done(run_id)
    store.write_result(_result(run_id))
    assert store.result(run_id) == _result(run_id)
    assert store.done([run_id, "0" * 16]) == {run_id}
    assert store.error(run_id) is None  # a result outlives an earlier failure
    reader = Store(store.root, create=False)
    assert reader.result(run_id) == _result(run_id)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": 1}'])
def test_torn_spec_is_written_again(content: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run_id = store.write_spec(RunSpec(seed=3))
    path = store.run_folder(run_id) / "spec.json"
    path.write_text(content)
    store.write_spec(RunSpec(seed=3))
    assert store.spec(run_id) == RunSpec(seed=3)
    before = path.stat().st_mtime_ns
    store.write_spec(RunSpec(seed=3))
    assert path.stat().st_mtime_ns == before


def test_no_nan_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"x")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_unusable_places_are_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    other = tmp_path / "other"
    other.mkdir()
    (other / "holiday.jpg").write_text("x")
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "store.json").write_text('{"schema": 99}')
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "store.json").write_text('{"sch')
    cases = [
        (file, "got the file"),
        (file / "below", "Expected a folder that can be written"),
        (other, "holds other things"),
        (newer, "schema 1, got schema 99"),
        (torn, "damaged file"),
        ("shelf://bucket/store", "like s3://bucket/prefix"),
        ("s3://bucket/store?colour=red&region=x", "got colour"),
        ("s3:///store?region=x", "expected a bucket"),
        ("/proc/nowhere", "can be written"),
    ]
    for place, message in cases:
        with pytest.raises(StoreError, match=message) as caught:
            Store(place)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="holds no store.json"):
        Store(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="can be written"):
        Store(tmp_path / "store")


def test_names_cannot_leave_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for bad in ("../x", "a/b", "", ".hidden", "x" * 200):
        with pytest.raises(ValueError, match="sweep name"):
            store.sweep_folder(bad)
        with pytest.raises(StoreError, match="run id"):
            store.run_folder(bad)


def test_damaged_results_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run_id = store.write_spec(RunSpec())
    path = store.run_folder(run_id) / "result.json"
    for content, message in [
        ("", "damaged file"),
        ('{"schema": 1', "damaged file"),
        ("[]", "result.json"),
        ('{"schema": 2}', "schema 1, got 2"),
        ('{"schema": 1}', "without epochs"),
    ]:
        path.write_text(content)
        with pytest.raises(StoreError, match=message):
            store.result(run_id)
        assert store.done([run_id]) == set()  # what cannot be read is not done
    (store.run_folder(run_id) / "epochs.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(StoreError, match="Expected epoch records"):
        store.epochs(run_id)


def _hold(root: str, run_id: str, held: object, release: object) -> None:
    with Store(root).run_lock(run_id):
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_run_has_one_trainer_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run_id = store.write_spec(RunSpec())
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(store.root), run_id, held, release))
    holder.start()
    assert held.wait(30)
    with pytest.raises(RunBusyError, match=run_id), store.run_lock(run_id):
        pass
    holder.kill()
    holder.join()
    with store.run_lock(run_id):
        pass


def test_result_json_is_plain_and_holds_no_times(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run_id = store.write_spec(RunSpec())
    store.write_result(_result(run_id))
    held = json.loads((store.run_folder(run_id) / "result.json").read_text())
    assert set(held) == {
        "schema",
        "run_id",
        "status",
        "epochs",
        "selection",
        "selected_epoch",
        "selected_metrics",
        "final_metrics",
    }
    listed = subprocess.run(["ls", store.root], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["runs", "store.json", "sweeps"]
