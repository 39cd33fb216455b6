"""A store on object storage: whole or not at all, whatever the connection does."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mtl.errors import StoreError, StoreUnreachableError
from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store, existing_store, objects
from mtl.store.address import shown_address
from mtl.store.objects import ObjectStorage
from mtl.store.states import read_specs
from mtl.training import fit, load_network
from tests.s3_server import Proxy, S3Server, running_s3_server


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_PAUSES", (0.0,))


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    held = Proxy(s3_server.port)
    yield held
    held.close()


def through(address: str, server: S3Server, proxy: Proxy) -> str:
    return address.replace(str(server.port), str(proxy.port))


def record(epoch: int, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, losses=[loss], weights=None, loss_scales=None, difficulties=None,
        learning_rate=1e-3, metrics={"validation": {}}, seconds=1.5,
    )  # fmt: skip


def without_seconds(records: list[EpochRecord]) -> list[EpochRecord]:
    return [replace(record, seconds=0.0) for record in records]


def test_run_is_the_same_bit_for_bit_as_in_a_folder(
    tmp_path: Path, s3_address: str, tiny_spec: RunSpec, data_root: str
) -> None:
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
        assert remote.names(key) == files
    weights = [load_network(store, run_id).state_dict() for store in (local, remote)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert fit(tiny_spec, Store(s3_address), runtime) == local.result(run_id)


def test_absent_and_removed_objects_are_absent(s3_address: str) -> None:
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
    store.remove(f"runs/{run_id}/checkpoint")
    assert not store.has_checkpoint(run_id)


def test_prefix_with_other_things_is_refused(s3_address: str, s3_server: S3Server) -> None:
    ObjectStorage(s3_address).write("holiday.jpg", b"x")
    with pytest.raises(StoreError, match="holds other things"):
        Store(s3_address)
    nowhere = s3_server.address("x", bucket="nowhere")
    with pytest.raises(StoreUnreachableError, match="Expected a bucket at s3://nowhere/x, found"):
        Store(nowhere)


def test_full_segments_of_a_log_are_written_once(
    s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SEGMENT_LINES", 3)
    store = Store(s3_address)
    written: list[str] = []
    write = ObjectStorage.write
    monkeypatch.setattr(
        ObjectStorage,
        "write",
        lambda self, key, data: (written.append(key[-11:]), write(self, key, data)),
    )
    run_id = "0" * 16
    records = [record(epoch) for epoch in range(1, 8)]
    for number in range(1, 8):
        store.write_epochs(run_id, records[:number])
        assert Store(s3_address).epochs(run_id) == records[:number]
    # Segments of 3 lines: epochs 1 to 3 write the first, 4 to 6 the second, 7 the third.
    assert written == ["000001.jsonl"[1:]] * 3 + ["000002.jsonl"[1:]] * 3 + ["000003.jsonl"[1:]]
    # A run that begins again in another process: nothing of the earlier one comes back.
    again = Store(s3_address)
    for number in range(1, 5):
        begun = [record(epoch, loss=2.0) for epoch in range(1, number + 1)]
        again.write_epochs(run_id, begun)
        assert Store(s3_address).epochs(run_id) == begun


def test_events_of_several_processes_follow_each_other(
    s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SEGMENT_LINES", 3)
    for process in range(4):
        store = Store(s3_address)
        for event in range(2):
            store.append_line("sweeps/mine/events.jsonl", [process, event])
    lines = Store(s3_address).read_log("sweeps/mine/events.jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [[p, e] for p in range(4) for e in range(2)]


def test_checkpoint_is_an_object_and_then_a_pointer(
    s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(s3_address)
    key = store.run_key("0" * 16, "checkpoint", "latest.pt")
    with pytest.raises(FileNotFoundError):
        store.read_large(key)
    store.write_large(key, b"first")

    def stop(self: Store) -> None:
        raise KeyboardInterrupt

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


def test_object_other_than_its_pointer_says_is_refused(s3_address: str) -> None:
    store = Store(s3_address)
    folder = store.run_key("0" * 16, "checkpoint")
    store.write_large(f"{folder}/latest.pt", b"state")
    (name,) = [name for name in store.names(folder) if not name.endswith(".json")]
    for data in (b"stat", b"", b"xxxxx"):
        store.write(f"{folder}/{name}", data)
        with pytest.raises(StoreError, match=r"Expected 5 bytes in .*Remove .*latest.pt.json"):
            store.read_large(f"{folder}/latest.pt")
    store.remove(f"{folder}/{name}")
    with pytest.raises(StoreError, match="Expected 5 bytes in"):
        store.read_large(f"{folder}/latest.pt")


def test_a_signal_does_not_cut_a_write(s3_address: str) -> None:
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


def test_slow_connection_is_waited_for(s3_address: str, s3_server: S3Server, proxy: Proxy) -> None:
    proxy.delay = 0.3
    store = Store(through(s3_address, s3_server, proxy))
    run_id = store.write_spec(RunSpec(seed=3))
    assert store.spec(run_id) == RunSpec(seed=3)


def test_lost_connection_is_one_sentence_after_several_tries(
    s3_address: str, s3_server: S3Server, proxy: Proxy
) -> None:
    store = Store(through(s3_address, s3_server, proxy))
    proxy.bytes_left = 0
    for attempt in (lambda: store.write("file", b"x"), lambda: store.read("store.json"),
                    lambda: store.names("runs"), lambda: store.remove("store.json"),
                    lambda: Store(store.address)):  # fmt: skip
        with pytest.raises(StoreUnreachableError, match="got none in 2 tries to") as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1
        assert "the same command continues" in str(caught.value)
    proxy.bytes_left = None
    store.write("file", b"x")
    assert store.read("file") == b"x"


@pytest.mark.parametrize("size", [1_000_000, 25_000_000])
def test_half_an_object_is_never_seen(
    size: int, s3_address: str, s3_server: S3Server, proxy: Proxy
) -> None:
    """The connection is cut in the middle, of one PUT and of one in several parts."""
    store = Store(through(s3_address, s3_server, proxy))
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
    tmp_path: Path, s3_address: str, s3_server: S3Server, proxy: Proxy, tiny_spec: RunSpec,
    data_root: str,
) -> None:  # fmt: skip
    runtime = Runtime(device="cpu", data_root=data_root)
    undisturbed = Store(tmp_path / "store")
    fit(tiny_spec, undisturbed, runtime)
    run_id = tiny_spec.run_id()
    store = Store(through(s3_address, s3_server, proxy))

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


def test_one_machine_trains_a_run_once(s3_address: str) -> None:
    first, second = Store(s3_address), Store(s3_address)
    with first.run_lock("0" * 16):
        with pytest.raises(RunBusyError), second.run_lock("0" * 16):
            pass
        with second.run_lock("1" * 16):
            pass
    with second.run_lock("0" * 16):
        pass


def test_refused_credentials_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    pytest.importorskip("moto")
    with running_s3_server() as server:
        server.ask_for_credentials()
        address = server.address("x").replace("s3://", "s3://intruder:open%2Fsesame@")
        with pytest.raises(StoreUnreachableError, match="was refused") as caught:
            Store(address)
    text = str(caught.value)
    assert "docs/stores.md" in text
    assert not any(secret in text for secret in ("intruder", "sesame", "@"))


def test_credentials_of_an_address_are_used_and_not_shown(
    s3_address: str, s3_server: S3Server, proxy: Proxy
) -> None:
    address = through(s3_address, s3_server, proxy).replace("s3://", "s3://someone:open%2Fsesame@")
    store = Store(address)
    assert store.address == address  # workers open the store by it
    shown = [store.place(""), store.place("runs"), shown_address(address), repr(store)]
    texts = []
    proxy.bytes_left = 0
    for attempt in (lambda: store.write("file", b"x"), lambda: Store(address, create=False)):
        with pytest.raises(StoreUnreachableError) as caught:
            attempt()
        texts.append(str(caught.value))
    for bad in (f"{address}&session_token=squeamish", address.replace("s3:", "shelf:"),
                address.replace("&scheme=http", "&scheme")):  # fmt: skip
        with pytest.raises(StoreError) as refused:
            Store(bad)
        texts.append(str(refused.value))
    for text in [*shown, *texts]:
        assert not any(secret in text for secret in ("someone", "sesame", "squeamish")), text


def test_many_small_reads_are_made_at_a_time(
    s3_address: str, s3_server: S3Server, proxy: Proxy
) -> None:
    store = Store(s3_address)
    run_ids = [store.write_spec(RunSpec(seed=seed)) for seed in range(12)]
    reader = Store(through(s3_address, s3_server, proxy), create=False)
    proxy.delay = 0.2
    began = time.monotonic()
    assert list(read_specs([reader], run_ids)) == run_ids
    assert time.monotonic() - began < 12 * 0.2
