"""One driver a sweep: by a number that rises, a beat that is watched, and no wall clock."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl.errors import StoreError
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.store.lease import (
    SECONDS_BETWEEN_LOOKS,
    WATCH_SECONDS,
    HeldLease,
    Lease,
    StaleLeaseError,
    check_lease,
)
from mtl.store.local import LocalStorage
from mtl.training import fit

KEY = "sweeps/mine/lease.json"


class Clock:
    """A clock that moves when somebody sleeps; then `meanwhile` happens."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meanwhile: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def lease(tmp_path: Path, clock: Clock, messages: list[str]) -> Callable[..., HeldLease]:
    def make(*, locked: bool = False) -> HeldLease:
        return HeldLease(
            LocalStorage(tmp_path), KEY, locked=locked, say=messages.append,
            clock=lambda: clock.now, sleep=clock.sleep,
        )  # fmt: skip

    return make


def held(root: Path) -> dict:
    return json.loads((root / "sweeps/mine/lease.json").read_text())


def change(root: Path, **values: object) -> None:
    (root / "sweeps/mine/lease.json").write_text(json.dumps(held(root) | values))


def test_each_driver_takes_the_next_number_and_gives_it_back(lease, tmp_path, clock, messages):
    for number in (1, 2, 3):
        with lease() as taken:
            assert taken.lease.number == held(tmp_path)["number"] == number
            assert not held(tmp_path)["released"]
        assert held(tmp_path)["released"]
    assert messages == []  # what was given back is not watched
    assert clock.now == 3 * 2.0  # each was read back after two seconds


def test_lease_of_a_living_driver_is_not_taken(lease, tmp_path, clock, messages):
    with lease() as first:
        clock.meanwhile = first._renew
        with pytest.raises(StoreError, match="run by another process .process [0-9]+ on"):
            lease().__enter__()
        assert held(tmp_path)["number"] == 1
    (text,) = messages
    assert "Watching for 60 s" in text


@pytest.mark.parametrize("heartbeat", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_dead_driver_is_replaced_after_a_watch(heartbeat, lease, tmp_path, clock):
    lease().__enter__()  # and never given back
    change(tmp_path, heartbeat=heartbeat)
    began = clock.now
    with lease() as second:
        assert second.lease.number == 2
    # Looks every 5 s for 60 s, then 2 s to read back.
    assert clock.now - began == WATCH_SECONDS + 2.0
    assert WATCH_SECONDS % SECONDS_BETWEEN_LOOKS == 0


def test_nothing_is_watched_where_a_lock_decides(lease, clock, messages):
    lease(locked=True).__enter__()
    with lease(locked=True) as second:
        assert second.lease.number == 2
    assert (clock.now, messages) == (0.0, [])


def test_last_writer_wins_of_two_drivers_at_once(lease, tmp_path, clock):
    def other_writes() -> None:
        change(tmp_path, number=1, token="other", holder="process 7 on elsewhere")

    clock.meanwhile = other_writes
    with pytest.raises(StoreError, match="process 7 on elsewhere"):
        lease().__enter__()
    assert held(tmp_path)["token"] == "other"


def test_driver_does_not_take_a_lost_lease_back(lease, tmp_path):
    with lease() as first:
        change(tmp_path, number=2, token="other", holder="process 7 on elsewhere")
        with pytest.raises(StaleLeaseError, match="lease number 1 .* number 2 of process 7"):
            first._renew()
    assert (held(tmp_path)["token"], held(tmp_path)["released"]) == ("other", False)


WHOLE = {
    "schema": 1, "number": 3, "token": "t", "holder": "process 7", "beat": 0, "released": True,
}  # fmt: skip
DAMAGED = [
    b"",
    b'{"schema": 1, "numb',
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"[]",
    b"null",
    b"{}",
    b'{"schema": "one"}',
    b'{"schema": 1, "number": 3}',
    json.dumps({**WHOLE, "number": "3"}).encode(),
    json.dumps({**WHOLE, "released": None}).encode(),
]


@pytest.fixture
def lease_file(tmp_path: Path) -> Path:
    path = tmp_path / "sweeps/mine/lease.json"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_lease_is_replaced_only_where_a_lock_decides(content, lease, tmp_path, lease_file):
    lease_file.write_bytes(content)
    with pytest.raises(StoreError, match="whole lease in .*, got a damaged file. Remove it once"):
        lease().__enter__()
    assert lease_file.read_bytes() == content
    with lease(locked=True) as taken:
        # What is lost is the number; the token tells a worker of the earlier driver apart.
        assert (taken.lease.number, held(tmp_path)["token"]) == (1, taken.lease.token)
        check_lease(LocalStorage(tmp_path), taken.lease)
        with pytest.raises(StaleLeaseError):
            check_lease(LocalStorage(tmp_path), Lease(KEY, 1, "of the earlier driver"))
    assert held(tmp_path)["released"]


@pytest.mark.parametrize("locked", [False, True])
def test_newer_lease_is_refused_and_left(locked, lease, lease_file):
    lease_file.write_text('{"schema": 2}')
    with pytest.raises(StoreError, match="schema 1 in .*, got schema 2. Use the release"):
        lease(locked=locked).__enter__()
    assert lease_file.read_text() == '{"schema": 2}'


def test_nothing_is_written_under_a_stale_lease(tmp_path, tiny_spec, data_root):
    """A worker that outlived its driver is stopped by its next write, and leaves all as it is."""
    root = Store(tmp_path / "store")
    with HeldLease(root.storage, KEY, locked=True) as first:
        store = root.under(first)
        before: dict[Path, bytes] = {}

        def taken_over(record: object) -> None:
            change(store.root, number=2, token="other")
            before.update({p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()})

        with pytest.raises(StaleLeaseError):
            fit(tiny_spec, store, Runtime(device="cpu", data_root=data_root), on_epoch=taken_over)
        assert {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()} == before
        run_id = tiny_spec.run_id()
        for write in (
            lambda: store.write_spec(RunSpec(seed=9)),
            lambda: store.write_epochs(run_id, []),
            lambda: store.write_error(run_id, "x"),
            lambda: store.clear_error(run_id),
            lambda: store.write_manifest(run_id, {}),
            lambda: store.write_large("runs/x", b""),
            lambda: store.append_line("sweeps/mine/events.jsonl", {}),
        ):
            with pytest.raises(StaleLeaseError):
                write()
        assert [record.epoch for record in root.epochs(run_id)] == [1]
    result = fit(tiny_spec, root, Runtime(device="cpu", data_root=data_root))
    assert result.epochs == 3


def test_removed_lease_is_stale(tmp_path):
    root = Store(tmp_path / "store")
    with HeldLease(root.storage, KEY, locked=True) as first:
        (root.sweep_folder("mine") / "lease.json").unlink()
        with pytest.raises(StaleLeaseError, match="found none"):
            root.under(first).write("file", b"")
