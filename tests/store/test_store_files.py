"""Every kind of file of a store, torn, empty or of a newer release, in a folder and elsewhere."""

import io
import json
from pathlib import Path

import pytest
import torch

from mtl.errors import StoreError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import Store, objects
from mtl.store.lease import HeldLease
from mtl.training import fit, load_network
from mtl.training.checkpoint import Trainee, load_checkpoint
from sweeps.plan import make_plan
from sweeps.status.journal import Journal, revisions

RECORD = EpochRecord(1, [1.0], None, None, None, 1e-3, {"validation": {}}, 1.5)
NEWER = b'{"schema": 99, "of": "a newer release"}\n'


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("s3_address"))


@pytest.fixture
def run_id(store: Store) -> str:
    held = store.write_spec(RunSpec(seed=3))
    metrics = {"test": {"depth": {"delta1": 0.5}}}
    store.write_epochs(held, [RECORD])
    store.write_manifest(held, {"schema": 1, "wall_seconds": 1.0})
    store.write_result(Result(held, "done", 1, "last", 1, metrics, metrics))
    store.write_error(held, "it broke")
    return held


def real_key(store: Store, key: str) -> str:
    """Return where the first bytes of a log lie."""
    segmented = key.endswith(("epochs.jsonl", "events.jsonl"))
    return f"{key}/000001.jsonl" if segmented and not store.is_local else key


READERS = {
    "store.json": lambda store, run_id: Store(store.address),
    "spec.json": lambda store, run_id: store.spec(run_id),
    "epochs.jsonl": lambda store, run_id: store.epochs(run_id),
    "manifest.json": lambda store, run_id: store.manifest(run_id),
    "result.json": lambda store, run_id: store.result(run_id),
    "plan.json": lambda store, run_id: revisions(store, "mine", "priority_grid"),
    "lease.json": lambda store, run_id: take_lease(store),
}


def take_lease(store: Store) -> None:
    """Hold the lease for a moment, as a driver does under the sweep's lock."""
    with HeldLease(store.storage, "mine", locked=store.is_local, say=print):
        pass


def key_of(store: Store, run_id: str, name: str) -> str:
    if name == "store.json":
        return name
    if name in ("plan.json", "lease.json"):
        return store.sweep_key("mine", name)
    return store.run_key(run_id, name)


@pytest.mark.parametrize("damage", ["empty", "torn", "garbage", "newer"])
@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_file_is_one_sentence_or_counts_as_absent(
    name: str, damage: str, store: Store, run_id: str
) -> None:
    if name == "plan.json":
        Journal(store, make_plan("mine", "priority_grid", [RunSpec(seed=3)]))
    if name == "lease.json":
        take_lease(store)
    key = real_key(store, key_of(store, run_id, name))
    whole = store.read(key)
    content = {
        "empty": b"", "torn": whole[: len(whole) // 2], "garbage": b"\xff\x00\xfe", "newer": NEWER
    }[damage]  # fmt: skip
    store.write(key, content)
    # Another process, which has nothing in memory.
    store.storage.__dict__.get("_logs", {}).clear()
    if name == "epochs.jsonl" and damage in ("empty", "torn", "garbage"):
        assert store.epochs(run_id) == []  # no whole line
        return
    if name == "lease.json" and store.is_local and damage != "newer":
        # In a folder the lock is held and says that no driver lives: the lease is written anew.
        take_lease(store)
        assert json.loads(store.read(key))["number"] == 1
        return
    with pytest.raises(StoreError) as caught:
        READERS[name](store, run_id)
    assert len(str(caught.value).splitlines()) == 1
    if name == "result.json":
        assert store.done([run_id]) == set()  # what cannot be read is not done
    if name == "spec.json":
        assert store.write_spec(RunSpec(seed=3)) == run_id
        assert store.read(key) == whole


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_error_is_text_whatever_it_holds(content: bytes, store: Store, run_id: str) -> None:
    store.write(store.run_key(run_id, "error.txt"), content)
    assert isinstance(store.error(run_id), str)


@pytest.mark.parametrize("damage", ["empty", "torn", "newer"])
def test_damaged_checkpoint_or_weights_are_one_sentence(
    damage: str, store: Store, tiny_spec: RunSpec, data_root: str
) -> None:
    runtime = Runtime(device="cpu", data_root=data_root)
    run_id = tiny_spec.run_id()

    class StopError(Exception):
        pass

    def stop(record: EpochRecord) -> None:
        raise StopError

    with pytest.raises(StopError):
        fit(tiny_spec, store, runtime, on_epoch=stop)
    latest = store.run_key(run_id, "checkpoint", "latest.pt")
    whole = store.read_large(latest)

    def damaged(data: bytes) -> bytes:
        if damage != "newer":
            return b"" if damage == "empty" else data[: len(data) // 2]
        buffer = io.BytesIO()
        torch.save({"schema": 99}, buffer)
        return buffer.getvalue()

    store.write_large(latest, damaged(whole))
    with pytest.raises(StoreError, match=r"Expected a checkpoint.*emove the file") as caught:
        fit(tiny_spec, store, runtime)
    assert len(str(caught.value).splitlines()) == 1
    store.write_large(latest, whole)
    fit(tiny_spec, store, runtime)
    weights = store.run_key(run_id, "checkpoint", "weights.pt")
    store.write(weights, damaged(store.read(weights)))
    with pytest.raises(StoreError, match="Expected a checkpoint"):
        load_network(store, run_id)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "obj', b"[]", NEWER, b'{"schema": 1}'])
def test_damaged_pointer_is_one_sentence(content: bytes, s3_address: str) -> None:
    store = Store(s3_address)
    key = store.run_key("0" * 16, "checkpoint", "latest.pt")
    store.write_large(key, b"state")
    store.write(f"{key}.json", content)
    trainee = Trainee(*[None] * 3)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"latest.pt.json, got"):
        load_checkpoint(store, "0" * 16, trainee, torch.device("cpu"))


def test_records_before_a_checkpoint_must_be_there(
    store: Store, tiny_spec: RunSpec, data_root: str
) -> None:
    runtime = Runtime(device="cpu", data_root=data_root)

    class StopError(Exception):
        pass

    def stop(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        fit(tiny_spec, store, runtime, on_epoch=stop)
    store.write_epochs(tiny_spec.run_id(), store.epochs(tiny_spec.run_id())[:1])
    with pytest.raises(StoreError, match="Expected the records of 2 epochs, .* got 1"):
        fit(tiny_spec, store, runtime)


def test_missing_segment_ends_a_log(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "SEGMENT_LINES", 2)
    store = Store(s3_address)
    for number in range(6):
        store.append_line("sweeps/mine/events.jsonl", number)
    store.remove("sweeps/mine/events.jsonl/000002.jsonl")
    lines = store.read_log("sweeps/mine/events.jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [0, 1]
