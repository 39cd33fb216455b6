"""On object storage a sweep has one driver and a run one process, also across machines."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from mtl.errors import StoreError
from mtl.records import Result
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store, lease
from mtl.store.clients import ConditionRefusedError, S3Client
from mtl.store.lease import HeldLease, StaleLeaseError, Watch
from mtl.training import fit
from sweeps.status.journal import sweep_lock
from tests.conftest import tiny_fields
from tests.store.conftest import epoch_record

ROOT = Path(__file__).parents[2]
RUN = "0" * 16
TRIES = 20
Machine = Callable[[str], Store]


@pytest.fixture
def machine(s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return what opens the store as on the machine of a name: with locks of its own."""
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.05)
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(lease, "WATCH_SECONDS", 0.4)

    def store(name: str) -> Store:
        opened = Store(s3_address)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        opened._lock_path = lambda key: folder / key.replace("/", "-")  # type: ignore[method-assign]
        return opened

    return store


@pytest.fixture
def unconditional(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a server that knows no conditional writes."""

    def refuse(*_: object) -> None:
        raise ConditionRefusedError("(NotImplemented)")

    monkeypatch.setattr(S3Client, "put_if", refuse)
    return


def killed(held: HeldLease) -> None:
    """Leave a lease as a kill does: its beats end, and it is not given back."""
    held._ended.set()
    held._thread.join()


def raced(locks: Sequence[AbstractContextManager[object]]) -> list[str]:
    """Enter all locks at once, each in a thread; return what those that were refused say."""
    refused: list[str] = []
    together = threading.Barrier(len(locks))

    def enter(lock: AbstractContextManager[object]) -> None:
        together.wait(60)
        try:
            with lock:
                together.wait(60)  # it is held until all have tried
        except StoreError as error:
            refused.append(str(error))
            together.wait(60)

    threads = [threading.Thread(target=enter, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def test_one_of_two_machines_takes_a_run_every_time(machine):
    stores = [machine("here"), machine("there")]
    watches = Watch(), Watch()
    for number in range(TRIES):
        locks = [stores[i].run_lock(f"{number:016x}", watches[i]) for i in range(2)]
        (text,) = raced(locks)
        assert "is being trained by another process (process " in text


def test_one_of_two_machines_takes_a_free_sweep_every_time(machine):
    stores = [machine("here"), machine("there")]
    for number in range(1, TRIES + 1):
        leases = [HeldLease(s.storage, "sweeps/mine/lease.json", locked=False) for s in stores]
        (text,) = raced(leases)
        assert "is being run by another process (process " in text
        assert stores[0].read_json("sweeps/mine/lease.json")["number"] == number


def test_run_of_a_living_process_is_not_taken(machine, capsys):
    with machine("here").run_lock(RUN):
        with pytest.raises(RunBusyError, match="another process .process [0-9]+ on "):
            machine("there").run_lock(RUN).__enter__()
        assert "Watching for 0.4 s" in capsys.readouterr().err
    with machine("there").run_lock(RUN):
        pass
    assert capsys.readouterr().err == ""


def test_run_of_a_dead_process_is_taken_after_a_watch(machine, capsys):
    with ExitStack() as never:
        first = never.enter_context(machine("here").run_lock(RUN))
        killed(first._held)
        watch = Watch()  # of somebody who comes again in place of waiting
        with pytest.raises(RunBusyError):
            machine("there").run_lock(RUN, watch).__enter__()
        with machine("there").run_lock(RUN) as second:
            assert second._held.lease.number == 2
            assert "was not given back by process" in capsys.readouterr().err


def test_nobody_waits_for_a_dead_process_of_the_same_machine(machine, capsys):
    with ExitStack() as never:
        killed(never.enter_context(machine("here").run_lock(RUN))._held)
    # Its lock is gone, which shows that it is.
    machine("here").write_json(f"runs/{RUN}/.lock", held_by("here", machine) | {"released": False})
    with machine("here").run_lock(RUN, Watch()):
        pass
    assert capsys.readouterr().err == ""


def held_by(name: str, machine: Machine) -> dict:
    content = machine(name).read_json(f"runs/{RUN}/.lock")
    assert content["lock"]
    return content


def test_nothing_is_written_under_a_lost_lock(machine, tiny_spec, data_root):
    """Not even lines that wait; the run is the other's, which completes it."""
    runtime = Runtime(device="cpu", data_root=data_root)
    here, there = machine("here"), machine("there")
    run_id = tiny_spec.run_id()
    with ExitStack() as others:

        def lose(record: object) -> None:
            if not others_have:
                others_have.append(True)
                content = there.read_json(f"runs/{run_id}/.lock")
                there.write_json(f"runs/{run_id}/.lock", content | {"token": "theirs"})

        others_have: list[bool] = []
        lease.TRUSTED_SECONDS, trusted = 0.0, lease.TRUSTED_SECONDS
        others.callback(setattr, lease, "TRUSTED_SECONDS", trusted)
        with pytest.raises(StaleLeaseError, match=f"of run {run_id} in .*, found number 1 of"):
            fit(tiny_spec, here, runtime, on_epoch=lose)
    assert there.result(run_id) is None
    assert there.error(run_id) is None
    assert [record.epoch for record in there.epochs(run_id)] == [1]
    assert fit(tiny_spec, there, runtime).epochs == 3


def test_worker_stops_once_its_sweep_is_anothers(machine):
    with sweep_lock(machine("here"), "mine") as driver:
        worker = Store(driver.address, lease=driver.lease)
        content = worker.read_json("sweeps/mine/lease.json")
        with worker.run_lock(RUN) as store:
            store.append_epoch(RUN, epoch_record(1))
            theirs = content | {"number": 2, "token": "theirs"}
            worker.storage.write("sweeps/mine/lease.json", lease.json_bytes(theirs))
            assert store._held is not None
            store._held._thread.join(30)  # its next beat finds out
            with pytest.raises(StaleLeaseError, match="sweep 'mine'"):
                store.write_result(Result(RUN, "done", 1, "last", 1, {}, {}))
    # The run is free at once for whom the sweep was given to.
    with machine("there").run_lock(RUN, Watch()):
        pass


def test_lost_answer_is_no_lost_lease(machine, monkeypatch):
    put_if = S3Client.put_if

    def lose_the_answer(self: S3Client, path: str, data: bytes, tag: str | None) -> None:
        put_if(self, path, data, tag)  # takes effect; the second try finds it there

    store = machine("here")
    assert store.storage.guard is not None
    with store.run_lock(RUN) as held:
        with monkeypatch.context() as patch:
            patch.setattr(S3Client, "put_if", lose_the_answer)
            held._held._renew()
        held._held._renew()
        held.write("file", b"x")
    with monkeypatch.context() as patch:
        patch.setattr(S3Client, "put_if", lose_the_answer)
        with machine("there").run_lock("1" * 16, Watch()):
            pass


def test_without_conditional_writes_a_sentence_says_what_is_lost(
    unconditional, machine, monkeypatch, capsys
):
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.1)
    here, there = machine("here"), machine("there")
    forget_what_was_tried(here, monkeypatch)
    with sweep_lock(here, "mine") as driver:
        assert "does not write on conditions: sweeps that share runs" in capsys.readouterr().err
        with pytest.raises(StoreError, match="is being run by another process"):
            sweep_lock(there, "mine").__enter__()
        driver.write("file", b"x")
        with driver.run_lock(RUN), there.run_lock(RUN):  # nothing tells
            pass


def test_server_that_ignores_conditions_is_recognised(machine, monkeypatch):
    def overwrite(self: S3Client, path: str, data: bytes, tag: str | None) -> str:
        self.put(path, data)
        return "tag"

    monkeypatch.setattr(S3Client, "put_if", overwrite)
    store = machine("here")
    before = store.read("store.json")
    forget_what_was_tried(store, monkeypatch)
    assert store.storage.guard is None
    assert store.read("store.json") == before


@pytest.mark.slow
def test_two_machines_train_a_run_once(tmp_path, s3_address, data_root):
    """Two processes with locks of their own are told to train the same run at the same time."""
    spec = RunSpec.from_dict(tiny_fields(epochs=200))
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_dict()))
    command = [sys.executable, "-m", "mtl.training", str(tmp_path / "spec.json"), "--data-root"]
    processes = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        processes.append(
            subprocess.Popen(
                [*command, data_root, "--store", s3_address, "--device", "cpu"],
                env=os.environ | {"TMPDIR": str(tmp_path / name)}, cwd=ROOT, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    ends = [(process.communicate(timeout=600)[1], process.returncode) for process in processes]
    refused = [text for text, status in ends if status == 1]
    assert all("is being trained by another process (process " in text for text in refused)
    assert {status for _, status in ends} <= {0, 1}
    assert len(refused) < 2
    store = Store(s3_address)
    assert store.manifest(spec.run_id())["started_epochs"] == [1]
    assert [r.epoch for r in store.epochs(spec.run_id())] == list(range(1, 201))


def forget_what_was_tried(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Client, "_honoured", {})
