"""A store on object storage: whole or not at all, whatever the connection does."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import botocore.client
import botocore.exceptions
import pytest
import torch

from mtl.errors import StoreError, StoreUnreachableError
from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store, clients, existing_store, lease, objects
from mtl.store.address import shown_address
from mtl.store.clients import S3Client
from mtl.store.objects import ObjectStorage
from mtl.store.states import read_specs
from mtl.training import fit, load_network
from mtl.training.checkpoint import load_checkpoint
from tests.s3_server import Proxy, S3Server
from tests.store.conftest import epoch_record


@pytest.fixture(autouse=True)
def _two_quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_PAUSES", (0.0,))


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    held = Proxy(s3_server.port)
    yield held
    held.close()


@pytest.fixture
def proxied(s3_address: str, s3_server: S3Server, proxy: Proxy) -> str:
    """Return `s3_address` by way of `proxy`."""
    return s3_address.replace(str(s3_server.port), str(proxy.port))


def without_seconds(records: list[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds=0.0) for record in records]


def test_run_is_the_same_bit_for_bit_as_in_a_folder(tmp_path, s3_address, tiny_spec, data_root):
    runtime = Runtime(device="cpu", data_root=data_root)
    local, remote = Store(tmp_path / "store"), Store(s3_address)
    for store in (local, remote):
        fit(tiny_spec, store, runtime)
    run_id = tiny_spec.run_id()
    for name in ("spec.json", "result.json", "checkpoint/weights.pt", "samples/epoch_00003.npz"):
        key = local.run_key(run_id, *name.split("/"))
        assert local.read(key) == remote.read(key), name
    assert without_seconds(local.epochs(run_id)) == without_seconds(remote.epochs(run_id))
    for key in ("", "runs", f"runs/{run_id}", f"runs/{run_id}/checkpoint"):
        files = [name for name in local.names(key) if name not in (".lock", "sweeps")]
        assert [name for name in remote.names(key) if name != ".lock"] == files
    weights = [load_network(store, run_id).state_dict() for store in (local, remote)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert fit(tiny_spec, Store(s3_address), runtime) == local.result(run_id)


def test_absent_and_removed_objects_are_absent(s3_address):
    assert existing_store(s3_address) is None
    with pytest.raises(StoreError, match="holds no store.json"):
        Store(s3_address, create=False)
    store = Store(s3_address)
    assert existing_store(s3_address) is not None
    run_id = "0" * 16
    assert (store.run_ids(), store.sweep_names()) == ([], [])
    assert store.result(run_id) is store.manifest(run_id) is store.error(run_id) is None
    assert store.epochs(run_id) == []
    store.clear_error(run_id)
    store.write_error(run_id, "it broke")
    assert (store.run_ids(), store.error(run_id)) == ([run_id], "it broke\n")
    store.write_large(f"runs/{run_id}/checkpoint/latest.pt", b"state")
    assert store.has_checkpoint(run_id)
    store.remove_folder(f"runs/{run_id}/checkpoint")
    assert not store.has_checkpoint(run_id)


def test_prefix_with_other_things_is_refused(s3_address, s3_server):
    ObjectStorage(s3_address).write("holiday.jpg", b"x")
    with pytest.raises(StoreError, match="holds other things"):
        Store(s3_address)
    nowhere = s3_server.address("x", bucket="nowhere")
    with pytest.raises(StoreUnreachableError, match="Expected a bucket at s3://nowhere/x, found"):
        Store(nowhere)


def test_full_segments_of_a_log_are_written_once(s3_address, monkeypatch):
    monkeypatch.setattr(objects, "SEGMENT_LINES", 3)
    monkeypatch.setattr(objects, "SECONDS_BETWEEN_LINES", 0.0)
    store, reader = Store(s3_address), Store(s3_address)
    run_id = "0" * 16
    written: list[str] = []
    put = S3Client.put
    monkeypatch.setattr(
        S3Client,
        "put",
        lambda self, path, data: (written.append(path[-8:-6]), put(self, path, data)),
    )
    records = [epoch_record(epoch) for epoch in range(1, 8)]
    for number in range(1, 8):
        store.append_epoch(run_id, records[number - 1])
        assert reader.epochs(run_id) == records[:number]
    # Segments of 3 lines: epochs 1 to 3 write the first, 4 to 6 the second, 7 the third.
    assert written == ["01"] * 3 + ["02"] * 3 + ["03"]
    # Another process begins the run again: nothing of the earlier one comes back.
    again = Store(s3_address)
    begun = [epoch_record(epoch, loss=2.0) for epoch in range(1, 5)]
    again.write_epochs(run_id, begun[:1])
    assert reader.epochs(run_id) == begun[:1]
    for number in range(2, 5):
        again.append_epoch(run_id, begun[number - 1])
        assert reader.epochs(run_id) == begun[:number]
    # Nor does what a missing segment has cut off.
    again.remove(f"runs/{run_id}/epochs.jsonl/000001.jsonl")
    third = Store(s3_address)
    for number in range(1, 5):
        third.append_epoch(run_id, records[number - 1])
        assert reader.epochs(run_id) == records[:number]
    again.write_epochs(run_id, [])
    assert reader.epochs(run_id) == []


def test_events_of_several_processes_follow_each_other(s3_address, monkeypatch):
    monkeypatch.setattr(objects, "SEGMENT_LINES", 3)
    key = "sweeps/mine/events.jsonl"
    for process in range(4):
        store = Store(s3_address)
        for event in range(2):
            store.append_line(key, [process, event])
        store.storage.flush(key)
    written = [[process, event] for process in range(4) for event in range(2)]
    assert [json.loads(line) for line in store.read_log(key).splitlines()] == written
    store.remove(f"{key}/000002.jsonl")  # a missing segment ends the log
    assert [json.loads(line) for line in store.read_log(key).splitlines()] == written[:3]


def test_checkpoint_is_an_object_and_then_a_pointer(s3_address, monkeypatch):
    store = Store(s3_address)
    key = store.run_key("0" * 16, "checkpoint", "latest.pt")
    with pytest.raises(FileNotFoundError):
        store.read_large(key)
    store.write_large(key, b"first")

    with monkeypatch.context() as patch:
        calls: list[int] = []

        def check(self: Store) -> None:
            calls.append(1)
            if len(calls) == 2:  # the object lies there, the pointer does not yet
                raise KeyboardInterrupt

        patch.setattr(Store, "check_lease", check)
        with pytest.raises(KeyboardInterrupt):
            store.write_large(key, b"second")
    assert store.read_large(key) == b"first"
    assert len(store.names(key.rpartition("/")[0])) == 3  # two objects and the pointer
    store.write_large(key, b"third")
    assert store.read_large(key) == b"third"
    assert len(store.names(key.rpartition("/")[0])) == 2  # what was left over is gone
    store.remove_large(key)
    assert store.names(key.rpartition("/")[0]) == []


def test_damaged_checkpoint_or_pointer_is_one_sentence(s3_address):
    store = Store(s3_address)
    folder = store.run_key("0" * 16, "checkpoint")
    key = f"{folder}/latest.pt"
    store.write_large(key, b"state")
    (name,) = [name for name in store.names(folder) if not name.endswith(".json")]
    for data in (b"stat", b"xxxxx", None):
        if data is None:
            store.remove(f"{folder}/{name}")
        else:
            store.write(f"{folder}/{name}", data)
        with pytest.raises(StoreError, match=r"Expected 5 bytes in .*Remove .*latest.pt.json"):
            store.read_large(key)
    for content in (b"", b'{"schema": 1, "obj', b"[]", b'{"schema": 99}', b'{"schema": 1}'):
        store.write(f"{key}.json", content)
        with pytest.raises(StoreError, match=r"^Expected .*latest.pt.json, got.*\.$"):
            load_checkpoint(store, "0" * 16, {}, torch.device("cpu"))


def test_signal_does_not_cut_a_write(s3_address):
    """The main thread leaves, as a signal's exception makes it; the write goes on to its end."""
    storage = ObjectStorage(s3_address)
    going_on = threading.Event()
    threads: list[threading.Thread] = []

    def action() -> None:
        threads.append(threading.current_thread())
        going_on.wait(30)

    with pytest.raises(TimeoutError):
        storage._writer.submit(action).result(timeout=0.01)
    going_on.set()
    storage.write("after", b"x")  # waits for its turn behind the one that was left
    assert threads[0] is not threading.main_thread()
    assert storage.read("after") == b"x"


def test_slow_connection_is_waited_for(proxied, proxy):
    proxy.delay = 0.1
    store = Store(proxied)
    run_id = store.write_spec(RunSpec(seed=3))
    assert store.spec(run_id) == RunSpec(seed=3)


def test_lost_connection_is_one_sentence_after_several_tries(proxied, proxy):
    store = Store(proxied)
    proxy.bytes_left = 0
    for attempt in (lambda: store.write("file", b"x"), lambda: Store(store.address)):
        with pytest.raises(StoreUnreachableError, match="did not answer in 2 tries") as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1
        assert "the same command continues" in str(caught.value)
    proxy.bytes_left = None
    store.write("file", b"x")
    assert store.read("file") == b"x"


def test_words_of_a_server_that_refuses_are_passed_on(s3_address, monkeypatch):
    store = Store(s3_address)

    def refused(_self: object, operation: str, _arguments: object) -> None:
        error = {"Code": "InvalidRequest", "Message": "Please use AWS4-HMAC-SHA256."}
        raise botocore.exceptions.ClientError({"Error": error}, operation)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refused)
    for attempt in (lambda: store.read("file"), lambda: Store(s3_address)):
        with pytest.raises(StoreUnreachableError, match="Please use AWS4-HMAC-SHA256"):
            attempt()


@pytest.mark.parametrize("size", [1_000_000, 12_000_000])
def test_half_an_object_is_never_seen(size, proxied, proxy, monkeypatch):
    """The connection is cut in the middle, of one PUT and of one in several parts."""
    monkeypatch.setattr(clients, "PART_BYTES", 5 * 2**20)
    store = Store(proxied)
    store.write("file", b"old")
    proxy.bytes_left = size * 6 // 10
    with pytest.raises(StoreUnreachableError):
        store.write("file", bytes(size))
    proxy.bytes_left = None
    assert store.read("file") == b"old"
    assert store.names("") == ["file", "store.json"]
    store.write("file", bytes(size))
    assert store.read("file") == bytes(size)


def test_cut_off_run_resumes_from_its_last_whole_checkpoint(
    tmp_path, s3_address, proxied, proxy, tiny_spec, data_root, monkeypatch
):
    monkeypatch.setattr(lease, "WATCH_SECONDS", 0.0)  # the run could not be given back
    runtime = Runtime(device="cpu", data_root=data_root, checkpoint_seconds=0)
    undisturbed = Store(tmp_path / "store")
    fit(tiny_spec, undisturbed, runtime)
    run_id = tiny_spec.run_id()
    store = Store(proxied)

    def cut(record: EpochRecord) -> None:
        if record.epoch == 1:
            proxy.bytes_left = 100_000  # epoch 2's records and samples pass, its checkpoint breaks

    with pytest.raises(StoreUnreachableError, match="checkpoint/latest.pt"):
        fit(tiny_spec, store, runtime, on_epoch=cut)
    proxy.bytes_left = None
    direct = Store(s3_address)
    assert [record.epoch for record in direct.epochs(run_id)] == [1, 2]
    assert direct.error(run_id) is None  # it is no failure of the run
    seen: list[int] = []
    fit(tiny_spec, direct, runtime, on_epoch=lambda record: seen.append(record.epoch))
    assert seen == [2, 3]
    key = direct.run_key(run_id, "result.json")
    assert direct.read(key) == undisturbed.read(key)
    assert without_seconds(direct.epochs(run_id)) == without_seconds(undisturbed.epochs(run_id))
    assert direct.names(direct.run_key(run_id, "checkpoint")) == ["weights.pt"]


def test_one_machine_trains_a_run_once(s3_address):
    first, second = Store(s3_address), Store(s3_address)
    with first.run_lock("0" * 16):
        with pytest.raises(RunBusyError), second.run_lock("0" * 16):
            pass
        with second.run_lock("1" * 16):
            pass
    with second.run_lock("0" * 16):
        pass


def test_refused_credentials_are_one_sentence(s3_server):
    address = s3_server.address("x").replace("s3://", "s3://intruder:open%2Fsesame@")
    with s3_server.refusing_all(), pytest.raises(StoreUnreachableError) as caught:
        Store(address)
    text = str(caught.value)
    assert "was refused" in text
    assert "docs/stores.md" in text
    assert not any(secret in text for secret in ("intruder", "sesame", "@"))


def test_credentials_of_an_address_are_used_and_not_shown(proxied, proxy):
    address = proxied.replace("s3://", "s3://someone:open%2Fsesame@")
    store = Store(address)
    assert store.address == address  # workers open the store by it
    texts = [store.place(""), store.place("runs"), shown_address(address), repr(store)]
    proxy.bytes_left = 0
    with pytest.raises(StoreUnreachableError) as unreachable:
        store.write("file", b"x")
    texts.append(str(unreachable.value))
    for bad in (f"{address}&session_token=squeamish", address.replace("s3:", "shelf:"),
                address.replace("&scheme=http", "&scheme")):  # fmt: skip
        with pytest.raises(StoreError) as refused:
            Store(bad)
        texts.append(str(refused.value))
    for text in texts:
        assert not any(secret in text for secret in ("someone", "sesame", "squeamish")), text


def test_many_small_reads_are_made_at_a_time(s3_address, proxied, proxy):
    store = Store(s3_address)
    run_ids = [store.write_spec(RunSpec(seed=seed)) for seed in range(12)]
    reader = Store(proxied, create=False)
    proxy.delay = 0.2
    began = time.monotonic()
    assert list(read_specs([reader], run_ids)) == run_ids
    assert time.monotonic() - began < 12 * 0.2
