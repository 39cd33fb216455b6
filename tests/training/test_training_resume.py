"""Stopped anywhere and started again, a training goes on as if nothing had been."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtl.errors import RunPausedError, StoreError
from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.store.states import read_run
from mtl.training import fit, load_network, step

Fields = Callable[..., dict]


@pytest.fixture
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", num_threads=1, data_root=data_root)


def outcome(store: Store, run_id: str) -> tuple[bytes, list[dict], dict[str, torch.Tensor]]:
    """Return all that must not depend on when a run was stopped: result, records, weights."""
    records = [
        {name: value for name, value in record.to_dict().items() if name != "seconds"}
        for record in store.epochs(run_id)
    ]
    result = (store.run_folder(run_id) / "result.json").read_bytes()
    return result, records, load_network(store, run_id).state_dict()


def assert_same_outcome(one: Store, other: Store, run_id: str) -> None:
    first, second = outcome(one, run_id), outcome(other, run_id)
    assert first[0] == second[0]
    assert first[1] == second[1]
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])


def test_stopped_after_any_epoch_it_goes_on_bit_for_bit(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec = RunSpec.from_dict(make_tiny(epochs=4))
    undisturbed, stopped = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(spec, undisturbed, runtime)

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            fit(spec, stopped, runtime, on_epoch=stop)
        assert stopped.error(spec.run_id()) is None  # stopping is no failure
    fit(spec, stopped, runtime)
    assert_same_outcome(undisturbed, stopped, spec.run_id())
    manifest = stopped.manifest(spec.run_id())
    assert manifest is not None
    assert manifest["started_epochs"] == [1, 2, 3, 4, 5]


def test_paused_where_it_was_told_it_goes_on_bit_for_bit(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec = RunSpec.from_dict(
        make_tiny(epochs=4, optimizer={"schedule": "linear", "warmup_share": 0.1})
    )
    run_id = spec.run_id()
    undisturbed, paused = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(spec, undisturbed, runtime)
    trained: list[int] = []
    for pause_after in (1, 1, 3):  # a rung, the same after a restart, the next rung
        with pytest.raises(RunPausedError, match=f"after epoch {pause_after} of 4"):
            fit(
                spec,
                paused,
                replace(runtime, pause_after=pause_after),
                on_epoch=lambda record: trained.append(record.epoch),
            )
        assert (paused.error(run_id), paused.is_done(run_id)) == (None, False)
        manifest = paused.manifest(run_id)
        assert manifest is not None
        assert manifest["paused_after"] == pause_after
    assert trained == [1, 2, 3]
    # An epoch that is not before the last one pauses nothing.
    fit(spec, paused, replace(runtime, pause_after=4))
    assert_same_outcome(undisturbed, paused, run_id)
    manifest = paused.manifest(run_id)
    assert manifest is not None
    assert "paused_after" not in manifest


def test_interrupted_before_its_mark_a_paused_run_marks_itself_and_trains_nothing(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec, store = RunSpec.from_dict(make_tiny(epochs=4)), Store(tmp_path / "a")
    run_id, to_second = spec.run_id(), replace(runtime, pause_after=2)
    trained: list[int] = []

    def interrupt(record: EpochRecord) -> None:
        trained.append(record.epoch)
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(spec, store, to_second, on_epoch=interrupt)
    assert read_run(store, run_id).state == "partial"
    with pytest.raises(RunPausedError, match="after epoch 2 of 4"):
        fit(spec, store, to_second, on_epoch=interrupt)
    assert trained == [1, 2]
    assert read_run(store, run_id).state == "paused"


def test_stopped_in_mid_epoch_it_goes_on_bit_for_bit(
    tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, stopped = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(tiny_spec, undisturbed, runtime)
    steps = 0
    original = step.task_losses

    def losses_that_stop(*arguments: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 4:  # the second of two steps of epoch 2
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "task_losses", losses_that_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_spec, stopped, runtime)
    assert len(stopped.epochs(tiny_spec.run_id())) == 1
    fit(tiny_spec, stopped, runtime)
    assert_same_outcome(undisturbed, stopped, tiny_spec.run_id())


def test_killed_at_random_moments_it_goes_on_bit_for_bit(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path, data_root: str
) -> None:
    runtime = replace(runtime, num_samples=0)
    spec = RunSpec.from_dict(make_tiny(epochs=30))  # many: a busy machine looks late
    undisturbed, killed = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(spec, undisturbed, runtime)
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_dict()))
    command = [
        sys.executable,
        "-m",
        "mtl.training",
        str(tmp_path / "spec.json"),
        "--store",
        str(killed.root),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--data-root",
        data_root,
        "--num-samples",
        "0",
    ]
    generator = torch.Generator().manual_seed(11)
    print("kill seed 11")
    kills = 0
    for attempt in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        reached = 8 * attempt + 3
        while len(killed.epochs(spec.run_id())) < reached and process.poll() is None:
            time.sleep(0.02)
        time.sleep(float(torch.rand((), generator=generator)) * 0.05)
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills == 2
    fit(spec, killed, runtime)
    assert_same_outcome(undisturbed, killed, spec.run_id())


@pytest.mark.parametrize("keep", ["none", "final", "all"])
def test_stopped_while_the_result_is_written_nothing_is_trained_again(
    keep: str,
    tiny_spec: RunSpec,
    data_root: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = Runtime(device="cpu", data_root=data_root, keep=keep)
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_spec, store, runtime)
    assert not store.is_done(tiny_spec.run_id())
    fit(tiny_spec, store, runtime, on_epoch=lambda _: pytest.fail("trained again"))
    assert store.is_done(tiny_spec.run_id())


@pytest.mark.parametrize("ahead", ["a whole record", "a torn record"])
def test_record_ahead_of_the_checkpoint_is_replaced(
    ahead: str, tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path
) -> None:
    undisturbed, store = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(tiny_spec, undisturbed, runtime)

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_spec, store, runtime, on_epoch=stop)
    (held,) = store.epochs(tiny_spec.run_id())
    if ahead == "a whole record":
        store.append_epoch(tiny_spec.run_id(), replace(held, epoch=2))
    else:
        with open(store.run_folder(tiny_spec.run_id()) / "epochs.jsonl", "a") as file:
            file.write('{"epoch": 2, "los')
        assert store.epochs(tiny_spec.run_id()) == [held]
    fit(tiny_spec, store, runtime)
    assert_same_outcome(undisturbed, store, tiny_spec.run_id())


@pytest.mark.parametrize("content", [b"", b"PK torn", "half"])
def test_damaged_checkpoint_is_one_sentence(
    content: bytes | str, tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny_spec, store, runtime, on_epoch=stop)
    path = store.run_folder(tiny_spec.run_id()) / "checkpoint" / "latest.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(StoreError, match="got a damaged file.*Remove the file"):
        fit(tiny_spec, store, runtime)
    path.unlink()
    assert fit(tiny_spec, store, runtime).status == "done"


def test_checkpoint_of_another_run_is_refused(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    specs = [RunSpec.from_dict(make_tiny(seed=seed)) for seed in (0, 1)]
    for spec in specs:
        with pytest.raises(KeyboardInterrupt):
            fit(spec, store, runtime, on_epoch=stop)
    paths = [store.run_folder(spec.run_id()) / "checkpoint" / "latest.pt" for spec in specs]
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(StoreError, match="Expected the checkpoint of run"):
        fit(specs[0], store, runtime)
