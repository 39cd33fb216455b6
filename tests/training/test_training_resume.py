"""Stopped anywhere and started again, a training ends as the undisturbed one, bit for bit."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mtl.data.batches import MappedSplit
from mtl.errors import RunFailedError, RunPausedError, StoreError
from mtl.spec.methods import METHODS
from mtl.store import Store
from mtl.store.states import read_run
from mtl.training import fit, step
from tests.training.runs import assert_resumes, assert_same_outcome, interrupt, tiny


def test_stopped_after_any_epoch_it_resumes(runtime, undisturbed, tmp_path):
    spec, stopped = tiny(), Store(tmp_path / "store")
    for _ in range(3):
        interrupt(spec, stopped, runtime)
        assert stopped.error(spec.run_id()) is None  # stopping is no failure
    fit(spec, stopped, runtime)
    assert_same_outcome(undisturbed, stopped, spec.run_id())
    assert (stopped.manifest(spec.run_id()) or {})["started_epochs"] == [1, 2, 3, 4]


def test_paused_run_resumes(runtime, tmp_path):
    spec = tiny(epochs=4, optimizer={"schedule": "linear", "warmup_share": 0.1})
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
        assert (paused.manifest(run_id) or {})["paused_after"] == pause_after
    assert trained == [1, 2, 3]
    # An epoch that is not before the last one pauses nothing.
    fit(spec, paused, replace(runtime, pause_after=4))
    assert_same_outcome(undisturbed, paused, run_id)
    assert "paused_after" not in (paused.manifest(run_id) or {})


def test_run_interrupted_as_it_pauses_is_paused_next_time(runtime, tmp_path):
    spec, store = tiny(), Store(tmp_path / "a")
    to_first = replace(runtime, pause_after=1)
    interrupt(spec, store, to_first)
    assert read_run(store, spec.run_id()).state == "partial"
    with pytest.raises(RunPausedError, match="after epoch 1 of 3"):
        fit(spec, store, to_first, on_epoch=lambda _: pytest.fail("trained"))
    assert read_run(store, spec.run_id()).state == "paused"


def test_stopped_in_mid_epoch_it_resumes(runtime, undisturbed, tmp_path, monkeypatch):
    spec, stopped = tiny(), Store(tmp_path / "store")
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
        fit(spec, stopped, runtime)
    assert len(stopped.epochs(spec.run_id())) == 1
    fit(spec, stopped, runtime)
    assert_same_outcome(undisturbed, stopped, spec.run_id())


@pytest.mark.slow  # a killed sweep resumes in tests/faults; here stopped_in_mid_epoch
def test_killed_process_resumes(runtime, tmp_path, data_root):
    spec = tiny(epochs=20)  # many: a busy machine looks late
    undisturbed, killed = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(spec, undisturbed, runtime)
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_dict()))
    command = [sys.executable, "-m", "mtl.training", str(tmp_path / "spec.json")]
    command += ["--store", str(killed.root), "--device", "cpu", "--data-root", data_root]
    command += ["--checkpoint-seconds", "0.1"]  # so that records are ahead of it, most times
    process = subprocess.Popen([*command, "--num-samples", "0"], stdout=subprocess.DEVNULL)
    while len(killed.epochs(spec.run_id())) < 3 and process.poll() is None:
        time.sleep(0.02)
    time.sleep(float(torch.rand(())) * 0.05)  # anywhere in an epoch
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    fit(spec, killed, runtime)
    assert_same_outcome(undisturbed, killed, spec.run_id())


@pytest.mark.parametrize("keep", ["none", "final", "all"])
def test_stopped_while_the_result_is_written_nothing_is_trained_again(
    keep, runtime, tmp_path, monkeypatch
):
    runtime = replace(runtime, keep=keep)
    spec, store = tiny(epochs=1), Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(spec, store, runtime)
    assert not store.is_done(spec.run_id())
    fit(spec, store, runtime, on_epoch=lambda _: pytest.fail("trained again"))
    assert store.is_done(spec.run_id())


@pytest.mark.parametrize("ahead", ["a whole record", "a torn record"])
def test_record_ahead_of_the_checkpoint_is_replaced(ahead, runtime, undisturbed, tmp_path):
    spec, store = tiny(), Store(tmp_path / "store")
    interrupt(spec, store, runtime)
    (held,) = store.epochs(spec.run_id())
    if ahead == "a whole record":
        store.append_epoch(spec.run_id(), replace(held, epoch=2))
    else:
        with open(store.run_folder(spec.run_id()) / "epochs.jsonl", "a") as file:
            file.write('{"epoch": 2, "los')
        assert store.epochs(spec.run_id()) == [held]
    fit(spec, store, runtime)
    assert_same_outcome(undisturbed, store, spec.run_id())


def test_damaged_checkpoint_is_one_sentence(runtime, tmp_path):
    spec, other, store = tiny(epochs=2), tiny(epochs=2, seed=1), Store(tmp_path / "store")
    for one in (spec, other):
        interrupt(one, store, runtime)
    path, of_other = (
        store.run_folder(one.run_id()) / "checkpoint" / "latest.pt" for one in (spec, other)
    )
    whole = path.read_bytes()
    for content in (b"", b"PK torn", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="got a damaged file.*Remove the file"):
            fit(spec, store, runtime)
    path.write_bytes(of_other.read_bytes())
    with pytest.raises(StoreError, match="Expected the checkpoint of run"):
        fit(spec, store, runtime)
    path.unlink()
    assert fit(spec, store, runtime).status == "done"


OPTIONS = {
    "periods of steps and all else": {
        "selection": "validation",
        "precision": "bf16",
        "batch_size": 8,
        "micro_batches": 3,
        "period_steps": 2,
        "optimizer": {"learning_rate": 1e-3, "max_gradient_norm": 0.5, "schedule": "cosine"},
    },
    "periods of epochs": {"period_epochs": 2},
}


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_run_resumes_under_every_option(changes, runtime, tmp_path):
    assert_resumes(tiny(**changes), runtime, tmp_path)


@pytest.mark.parametrize("architecture", ["single_task", "multi_decoder", "multi_column", "mtan"])
def test_every_architecture_trains_and_resumes(architecture, runtime, tmp_path):
    spec = tiny(epochs=2, network={"architecture": architecture})
    for record in assert_resumes(spec, runtime, tmp_path):
        if architecture == "multi_column":
            learnt = np.array(record.cross_stitch) - np.array([[0.9, 0.1], [0.1, 0.9]])
            assert np.abs(learnt).max() > 1e-4
        else:
            assert record.cross_stitch is None


NO_WEIGHTS = {"torchjd:ConFIG", "torchjd:GradDrop", "torchjd:TrimmedMean"}
"""They form no weighted sum of the gradients."""
KINDS_OF_STATE = {
    "lsb", "uncertainty", "gradnorm", "rlw", "torchjd:ExcessMTL", "torchjd:FAMO",
    "torchjd:GradDrop", "torchjd:Krum", "torchjd:NashMTL",
}  # fmt: skip
"""One method for each way to keep a state; `tests/contracts` resumes every method by itself."""


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(m, marks=() if m in KINDS_OF_STATE else pytest.mark.slow)
        for m in sorted(METHODS)
    ],
)
def test_method_trains_on_missing_labels_and_resumes(method, runtime, tmp_path, monkeypatch):
    # Batches of two: of eight images five lack depth, so some batches have none at all. Three
    # tasks, because some aggregators need as many.
    original = MappedSplit._rows

    def rows(self: MappedSplit, name: str, indices: np.ndarray) -> torch.Tensor:
        whole = original(self, name, indices)
        if name in ("depth", "depth_valid"):
            whole[torch.from_numpy(indices < 5)] = float("nan") if name == "depth" else False
        return whole

    monkeypatch.setattr(MappedSplit, "_rows", rows)
    tasks = ["depth", "normal", "segmentation"]
    spec = tiny(method=method, tasks=tasks, epochs=2, batch_size=2)
    if method == "torchjd:Krum":
        with pytest.raises(RunFailedError, match="Krum.*at least 3 rows"):
            fit(spec, Store(tmp_path), runtime)
        return
    for record in assert_resumes(spec, runtime, tmp_path):
        assert all(loss is not None and np.isfinite(loss) for loss in record.losses)
        assert (record.weights is None) == (record.loss_scales is None) == (method in NO_WEIGHTS)
        assert all(w is not None and np.isfinite(w) for w in record.weights or ())
