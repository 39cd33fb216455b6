"""Runs that train together: each is what it is alone, whatever becomes of the others."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl.errors import RunFailedError, RunPausedError, UsageError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store
from mtl.training import fit, pack
from mtl.training.pack import Lane, fit_packed, shared_batches
from mtl.training.step import Stepper
from tests.training.runs import assert_same_outcome, interrupt, tiny

MODULE = sys.modules["mtl.training.fit"]
FIRST, SECOND = tiny(epochs=2), tiny(epochs=2, method="fixed")
MIXED = (
    FIRST,
    tiny(epochs=1, method="torchjd:GradDrop"),  # it draws, and ends before the others
    tiny(epochs=2, method="rlw", seed=1),  # it has no batch in common with the others
)


@pytest.fixture
def dropout(monkeypatch) -> None:
    """Let networks draw from torch's global generator in each step."""
    original = MODULE.new_network

    def new_network(*arguments: object, **options: object) -> nn.Module:
        network = original(*arguments, **options)
        network.register_forward_pre_hook(
            lambda held, images: (nn.functional.dropout(images[0], 0.2, held.training),)
        )
        return network

    monkeypatch.setattr(MODULE, "new_network", new_network)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Store:
    """Return a store with the two short runs, each trained alone."""
    return alone((FIRST, SECOND), tmp_path_factory.mktemp("apart") / "store", runtime)


def alone(specs: Sequence[RunSpec], folder: Path, runtime: Runtime) -> Store:
    store = Store(folder)
    for spec in specs:
        fit(spec, store, runtime)
    return store


class Told(list[tuple[str, object, float]]):
    """What a pack tells of its runs."""

    def __call__(self, run_id: str, what: object, seconds: float) -> None:
        self.append((run_id, what, seconds))

    def epochs(self, spec: RunSpec) -> list[int]:
        return [
            what.epoch
            for run_id, what, _ in self
            if run_id == spec.run_id() and isinstance(what, EpochRecord)
        ]


@pytest.mark.usefixtures("dropout")
def test_packed_runs_are_those_trained_alone(runtime, tmp_path):
    apart, together = alone(MIXED, tmp_path / "a", runtime), Store(tmp_path / "b")
    interrupt(MIXED[0], together, runtime)
    numbers, told = torch.default_generator.get_state(), Told()
    outcomes = fit_packed(MIXED, together, runtime, tell=told)
    assert [told.epochs(spec) for spec in MIXED] == [[2], [1], [1, 2]]
    assert torch.equal(torch.default_generator.get_state(), numbers)
    (earlier,) = together.manifest(MIXED[0].run_id())["earlier_executions"]
    assert "packed" not in earlier  # it was begun alone
    assert "earlier_executions" not in together.manifest(MIXED[1].run_id())
    for run_id in map(RunSpec.run_id, MIXED):
        assert_same_outcome(apart, together, run_id)
        assert outcomes[run_id] == together.result(run_id)
        assert together.manifest(run_id)["execution"]["packed"] == 3


def test_batches_are_read_once_for_all_and_seconds_are_shares(runtime, tmp_path, monkeypatch):
    read = []
    original = MODULE.training_batches

    def training_batches(*arguments: object, **options: object) -> Iterator[object]:
        read.append(options["seed"])
        return original(*arguments, **options)

    monkeypatch.setattr(MODULE, "training_batches", training_batches)
    specs = (FIRST, SECOND, replace(FIRST, seed=1))
    told, start = Told(), time.monotonic()
    fit_packed(specs, Store(tmp_path), replace(runtime, pause_after=1), tell=told)
    assert read == [0, 1]
    seconds = {run_id: seconds for run_id, _, seconds in told}  # shares, which add up
    assert 0 < sum(seconds.values()) <= time.monotonic() - start


def test_an_evaluation_counts_in_no_members_device_seconds(runtime, tmp_path, monkeypatch):
    seconds = 0.0  # shown by a clock that steps and evaluations alone move on
    take_step, evaluate = Stepper.take_step, MODULE.evaluate

    def slow_step(*arguments: object, **options: object) -> None:
        nonlocal seconds
        seconds += 1.0
        take_step(*arguments, **options)

    def slow_evaluate(*arguments: object) -> object:
        nonlocal seconds
        seconds += 1000.0
        return evaluate(*arguments)

    monkeypatch.setattr(Stepper, "take_step", slow_step)
    monkeypatch.setattr(MODULE, "evaluate", slow_evaluate)
    monkeypatch.setattr(pack, "time", SimpleNamespace(monotonic=lambda: seconds))
    store, specs = Store(tmp_path), (FIRST, SECOND)
    fit_packed(specs, store, runtime)
    num_steps = FIRST.epochs * FIRST.steps_per_epoch
    for spec in specs:  # of the steps of both a half each
        assert store.manifest(spec.run_id())["device_seconds"] == num_steps


def test_lanes_are_waited_for_where_reading_batches_fails(monkeypatch):
    waited: list[object] = []
    here = SimpleNamespace(
        record_event=lambda: None, wait_event=lambda _: None, wait_stream=waited.append
    )
    lane = SimpleNamespace(wait_event=lambda _: None, record_event=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: here)

    def batches() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        list(shared_batches(batches(), [SimpleNamespace(stream=lane)]))
    assert waited == [lane]


def test_stopped_pack_goes_on_alone_or_packed(apart, runtime, tmp_path):
    store = Store(tmp_path / "together")

    def stop(run_id: str, what: object, seconds: float) -> None:
        if run_id == SECOND.run_id():  # when the first has ended the epoch, and holds its lock
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_packed((FIRST, SECOND), store, runtime, tell=stop)
    assert len(store.epochs(FIRST.run_id())) == len(store.epochs(SECOND.run_id())) == 1
    fit(FIRST, store, runtime)
    told = Told()
    outcomes = fit_packed((FIRST, SECOND), store, runtime, tell=told)
    assert (told.epochs(FIRST), told.epochs(SECOND)) == ([], [2])
    for run_id, outcome in outcomes.items():
        assert isinstance(outcome, Result)
        assert_same_outcome(apart, store, run_id)
        assert store.manifest(run_id)["wall_seconds"] > 0


def test_run_that_fails_is_busy_or_pauses_leaves_the_others_alone(apart, runtime, tmp_path):
    store = Store(tmp_path / "together")
    failing = replace(FIRST, optimizer=replace(FIRST.optimizer, learning_rate=1e30))
    busy = replace(FIRST, seed=1)
    with store.run_lock(busy.run_id()):
        outcomes = fit_packed((failing, FIRST, busy, SECOND), store, runtime)
    kinds = [type(outcomes[spec.run_id()]) for spec in (failing, FIRST, busy, SECOND)]
    assert kinds == [RunFailedError, Result, RunBusyError, Result]
    assert "RunFailedError: Epoch 1: Expected a finite loss" in store.error(failing.run_id())
    assert store.error(busy.run_id()) is None
    for spec in (FIRST, SECOND):
        assert_same_outcome(apart, store, spec.run_id())
    paused = fit_packed((busy,), store, replace(runtime, pause_after=1))
    assert isinstance(paused[busy.run_id()], RunPausedError)


def test_damaged_data_fail_all_that_read_them(runtime, tmp_path, monkeypatch):
    def training_batches(*_: object, **__: object) -> Iterator[object]:
        raise ValueError("Expected whole data, got half.")
        yield

    monkeypatch.setattr(MODULE, "training_batches", training_batches)
    store = Store(tmp_path)
    outcomes = fit_packed((FIRST, SECOND), store, runtime)
    for run_id, outcome in outcomes.items():
        assert str(outcome) == "Epoch 1: Expected whole data, got half."
        assert "RunFailedError" in store.error(run_id)


def test_without_memory_for_all_they_go_on_one_by_one(apart, runtime, tmp_path, monkeypatch):
    store, steps = Store(tmp_path / "together"), 0
    original = Stepper.take_step

    def take_step(*arguments: object, **options: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:  # of the second run, in its second epoch
            raise torch.OutOfMemoryError("CUDA out of memory.")
        original(*arguments, **options)

    monkeypatch.setattr(Stepper, "take_step", take_step)
    told = Told()
    fit_packed((FIRST, SECOND), store, runtime, tell=told)
    assert (told.epochs(FIRST), told.epochs(SECOND)) == ([1, 2], [1, 2])
    for spec in (FIRST, SECOND):
        assert_same_outcome(apart, store, spec.run_id())
        manifest = store.manifest(spec.run_id())
        assert manifest["execution"]["packed"] == 1
        assert "did not hold 2 runs" in manifest["execution"]["not_packed"]
        assert manifest["started_epochs"] == [1, 2]
        assert store.error(spec.run_id()) is None


def test_run_alone_that_runs_out_of_memory_fails(runtime, tmp_path, monkeypatch):
    def take_step(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Stepper, "take_step", take_step)
    outcomes = fit_packed((FIRST,), Store(tmp_path), runtime)
    assert isinstance(outcomes[FIRST.run_id()], torch.OutOfMemoryError)


def test_runs_of_several_precisions_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one precision"):
        fit_packed((FIRST, replace(FIRST, precision="bf16")), Store(tmp_path))


KILLED = """
import json, sys
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training.pack import fit_packed
store, runtime, *specs = map(json.loads, sys.argv[1:])
fit_packed([RunSpec.from_dict(spec) for spec in specs], Store(store), Runtime(**runtime))
"""


@pytest.mark.slow
def test_killed_pack_resumes(runtime, tmp_path):
    specs = (tiny(epochs=20), tiny(epochs=20, method="fixed"))
    undisturbed, killed = alone(specs, tmp_path / "a", runtime), Store(tmp_path / "b")
    settings = {"device": "cpu", "data_root": runtime.data_root, "checkpoint_seconds": 0.1}
    arguments = [str(killed.root), {**settings, "num_samples": 0}, *map(RunSpec.to_dict, specs)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(json.dumps, arguments)])
    while len(killed.epochs(specs[1].run_id())) < 3 and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    fit(specs[0], killed, runtime)
    fit_packed(specs, killed, runtime)
    for spec in specs:
        assert_same_outcome(undisturbed, killed, spec.run_id())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.usefixtures("dropout")
def test_packed_runs_are_those_trained_alone_on_a_gpu(cuda_graphs, runtime, tmp_path):
    on_gpu = replace(runtime, device="cuda", cuda_graphs=cuda_graphs)
    specs = tuple(replace(spec, epochs=6) for spec in MIXED)
    apart, together = alone(specs, tmp_path / "a", on_gpu), Store(tmp_path / "b")
    fit_packed(specs, together, on_gpu)
    for spec in specs:
        for one, other in zip(
            apart.epochs(spec.run_id()), together.epochs(spec.run_id()), strict=True
        ):
            assert other.losses == pytest.approx(one.losses, rel=2e-2)
        steps = together.manifest(spec.run_id())["execution"]["steps"]
        assert (steps == "CUDA graphs") == (cuda_graphs and spec.method == "lsb")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_lanes_have_their_own_streams_and_numbers():
    lanes = [Lane(torch.device("cuda")) for _ in range(2)]
    drawn = []
    for lane in (*lanes, *lanes):
        with lane.turn():
            assert torch.cuda.current_stream() == lane.stream
            if len(drawn) < 2:
                torch.cuda.manual_seed(len(drawn))
            drawn.append(torch.rand(3, device="cuda"))
    expected = []
    for seed in (0, 1):
        torch.cuda.manual_seed(seed)
        expected.append([torch.rand(3, device="cuda") for _ in range(2)])
    assert all(
        torch.equal(drawn[2 * turn + i], expected[i][turn]) for turn in (0, 1) for i in (0, 1)
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_no_batch_is_overwritten_while_a_lane_reads_it():
    lanes = [Lane(torch.device("cuda")) for _ in range(2)]

    def batches() -> Iterator[torch.Tensor]:
        for value in range(20):
            yield torch.full((1 << 22,), float(value), device="cuda")

    sums = [torch.zeros(20, device="cuda") for _ in lanes]
    for value, batch in enumerate(shared_batches(batches(), lanes)):
        for lane, held in zip(lanes, sums, strict=True):
            with lane.turn():
                torch.cuda._sleep(10_000_000)  # the host, and the other lane, run ahead
                held[value] = batch.mean()
    torch.cuda.synchronize()
    for held in sums:
        assert held.tolist() == list(range(20))
