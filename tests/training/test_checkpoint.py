"""Checkpoints are written beside the training: whole, some time apart, never without the lock."""

import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mtl.records import CHECKPOINT_SCHEMA
from mtl.store import Store
from mtl.store.lease import StaleLeaseError
from mtl.training import checkpoint, fit
from mtl.training.checkpoint import CheckpointWriter, Progress, load_checkpoint
from tests.training.runs import assert_same_outcome, interrupt, tiny

CPU = torch.device("cpu")
RARE = 1e6
"""Seconds that no test takes."""


class Counter:
    """A part of a run, of which one number changes from epoch to epoch."""

    def __init__(self) -> None:
        self.value = torch.zeros(3)

    def state_dict(self) -> dict[str, object]:
        return {"nested": [{"value": self.value}], "name": "counter"}

    def load_state_dict(self, state: dict) -> None:
        self.value = state["nested"][0]["value"]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


RUN_ID = "0" * 16


def writer(store: Store, seconds: float) -> CheckpointWriter:
    return CheckpointWriter(store, RUN_ID, "final", seconds, CPU)


def epoch_in(store: Store) -> int:
    """Return the epoch of the checkpoint that is in the store; its counter must be of the same."""
    part = Counter()
    progress = load_checkpoint(store, RUN_ID, {"part": part}, CPU)
    assert part.value.tolist() == [progress.epoch] * 3
    return progress.epoch


def test_checkpoints_are_so_many_seconds_apart_and_the_last_is_written(store, monkeypatch):
    now = 0.0
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now))
    part, written = Counter(), []
    with writer(store, 10.0) as checkpoints:
        for epoch in range(1, 9):
            now += 4.0
            part.value.fill_(epoch)
            checkpoints.take(Progress(epoch), {"part": part})
            checkpoints._wait()
            written.append(epoch_in(store))
    assert written == [0, 0, 3, 3, 3, 6, 6, 6]
    assert epoch_in(store) == 8


def test_writing_takes_a_small_share_of_the_time(store, monkeypatch):
    now, part, written = 0.0, Counter(), []
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now))

    def slow(_store: Store, key: str, data: bytes) -> None:
        nonlocal now
        now += 1.0
        written.append(now)

    monkeypatch.setattr(Store, "write_large", slow)
    with writer(store, 0.5) as checkpoints:
        for epoch in range(1, 60):
            now += 1.0
            checkpoints.take(Progress(epoch), {"part": part})
            checkpoints._wait()
    # Each takes a second, and begins 20 after the one before; the last does not wait.
    assert written == [2.0, 22.0, 42.0, 62.0, 64.0]


def test_state_is_that_of_its_epoch_however_late_it_is_written(store, monkeypatch):
    trained_on, original = threading.Event(), checkpoint._to_bytes

    def late(content: dict) -> bytes:
        assert trained_on.wait(10)
        return original(content)

    monkeypatch.setattr(checkpoint, "_to_bytes", late)
    part = Counter()
    with writer(store, 1e-9) as checkpoints:
        for epoch in (1, 2, 3):
            part.value.fill_(epoch)
            checkpoints.take(Progress(epoch), {"part": part})
        trained_on.set()
        checkpoints._wait()
        assert epoch_in(store) == 1  # the thread was busy with it when the others came
    assert epoch_in(store) == 3


def test_modules_keep_the_versions_of_their_state(store):
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    with writer(store, 0.0) as checkpoints:
        checkpoints.take(Progress(1), {"network": network})
    held = torch.load(
        store.run_folder(RUN_ID) / "checkpoint" / "latest.pt", weights_only=True, map_location="cpu"
    )
    assert held["schema"] == CHECKPOINT_SCHEMA
    assert held["network"]._metadata == network.state_dict()._metadata


def test_optimizer_keeps_the_options_that_it_has_on_this_device(store):
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    saved = torch.optim.AdamW([parameter], lr=0.1)
    saved.step()
    with writer(store, 0.0) as checkpoints:
        checkpoints.take(Progress(1), {"optimizer": saved})
    loaded = torch.optim.AdamW([parameter], lr=torch.tensor(0.2))
    load_checkpoint(store, RUN_ID, {"optimizer": loaded}, CPU)
    assert isinstance(loaded.param_groups[0]["lr"], torch.Tensor)
    for name, value in saved.state[parameter].items():
        assert torch.equal(loaded.state[parameter][name], value)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(OSError(28, "No space left on device"), 1e-9), (StaleLeaseError("Another driver."), RARE)],
)
def test_error_of_the_thread_is_the_run_s_error(
    error, seconds, store, runtime, tmp_path, monkeypatch
):
    def failing(_store: Store, key: str, data: bytes) -> None:
        raise error

    monkeypatch.setattr(Store, "write_large", failing)
    with pytest.raises(type(error)) as caught:
        fit(tiny(), store, replace(runtime, checkpoint_seconds=seconds))
    assert caught.value is error
    assert not store.is_done(tiny().run_id())


def test_lock_is_held_until_the_thread_has_written_even_when_interrupted(
    store, runtime, monkeypatch
):
    spec, original = tiny(), Store.write_large
    locked, told = [], []
    main = threading.get_ident()

    def slow(held: Store, key: str, data: bytes) -> None:
        signal.pthread_kill(main, signal.SIGINT)  # somebody insists
        time.sleep(0.1)
        locked.append(held.is_locked(held.run_key(spec.run_id())))
        original(held, key, data)

    monkeypatch.setattr(Store, "write_large", slow)
    # A shell starts what is to run in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(spec, store, replace(runtime, checkpoint_seconds=RARE), on_epoch=told.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert locked == [True]
    assert not store.is_locked(store.run_key(spec.run_id()))
    assert len(told) == len(store.epochs(spec.run_id())) == spec.epochs
    assert (store.run_folder(spec.run_id()) / "checkpoint" / "latest.pt").exists()


def test_epochs_recorded_after_the_checkpoint_are_trained_again_and_recorded_once(
    store, runtime, undisturbed, monkeypatch
):
    spec, rare = tiny(), replace(runtime, checkpoint_seconds=RARE)
    interrupt(spec, store, rare)  # which writes the checkpoint of epoch 1

    def die(record) -> None:
        if record.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # as if killed: nothing is written on the way out
        patch.setattr(CheckpointWriter, "flush", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            fit(spec, store, rare, on_epoch=die)
    assert [record.epoch for record in store.epochs(spec.run_id())] == [1, 2, 3]
    trained: list[int] = []
    fit(spec, store, rare, on_epoch=lambda record: trained.append(record.epoch))
    assert trained == [2, 3]
    assert_same_outcome(undisturbed, store, spec.run_id())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_state_on_a_gpu_is_that_of_its_epoch(store):
    device, part = torch.device("cuda"), Counter()
    part.value = torch.zeros(100_000_000, device=device)
    with CheckpointWriter(store, RUN_ID, "final", 1e-9, device) as checkpoints:
        for epoch in range(1, 20):
            part.value.fill_(epoch)
            checkpoints.take(Progress(epoch), {"part": part})
    load_checkpoint(store, RUN_ID, {"part": part}, CPU)
    assert part.value.unique().tolist() == [19.0]
