"""A run that two processes train together is the run of one process, up to rounding.

The two meet over gloo, the first of them in the process of the tests. AdamW's epsilon of 1 makes
its steps gradients', so that their size shows and a rounding is not blown up to a step's length.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mtl.data.batches import MappedSplit
from mtl.data.sample import DataInfo
from mtl.errors import RankLostError, RunFailedError
from mtl.records import EpochRecord, SplitMetrics
from mtl.spec import RunSpec, Runtime, forked, trunk_of
from mtl.spec.methods import OWN_METHODS
from mtl.store import Store
from mtl.store.states import read_run
from mtl.tasks import task_of
from mtl.training import fit, load_network
from mtl.training.ranks import Ranks, joined
from mtl.training.step import Stepper
from tests.training.runs import assert_same_outcome, tiny

LIKE_GRADIENTS = {"learning_rate": 0.02, "epsilon": 1.0}
THREE = ["depth", "normal", "segmentation"]


def case(method: str = "lsb", **changes: object) -> RunSpec:
    """Return a run whose batches of five and three images two ranks share unequally."""
    fields: dict[str, Any] = {"tasks": THREE, "epochs": 2, "batch_size": 5, **changes}
    optimizer = {**LIKE_GRADIENTS, **fields.pop("optimizer", {})}
    return tiny(method=method, optimizer=optimizer, **fields)


CASES = {
    "parts, clipping and selection": case(
        batch_size=4,
        micro_batches=2,
        selection="validation",
        optimizer={"max_gradient_norm": 0.1},
    ),
    # Of its regularisers, means over images, and pixels alike; a last batch of one image.
    "maps and a last image": case(tasks=["depth", "curvature"], batch_size=7),
}
SLOW_CASES = {
    method: case(method)
    for method in [*sorted(OWN_METHODS), "torchjd:PCGrad", "torchjd:GradDrop", "torchjd:FAMO"]
} | {
    "bfloat16": case(precision="bf16"),
    "a column for each task": case(network={"architecture": "multi_column"}),
    "attention": case(network={"architecture": "mtan"}),
}
FORK = forked(case(priorities=[0.6, 0.2, 0.2]), 1)
TOLERANCE = 1e-5


@contextlib.contextmanager
def labels_missing() -> Iterator[None]:
    """Let half of the pixels of depth, and all of five of the eight images, have no label.

    So some shares of batches have none.
    """
    original = MappedSplit._rows

    def rows(self: MappedSplit, name: str, indices: np.ndarray) -> torch.Tensor:
        whole = original(self, name, indices)
        if name in ("depth_valid", "curvature_valid"):
            whole[torch.from_numpy(indices < 5)] = False
            whole[torch.from_numpy(indices == 6), :, 9:] = False
        return whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MappedSplit, "_rows", rows)
        yield


def stopping(record: EpochRecord) -> None:
    raise KeyboardInterrupt


class Scenes:
    """What one rank does, scene after scene; what it raises is kept."""

    def __init__(self, folder: Path, rank: int, runtime: Runtime) -> None:
        self.folder, self.rank, self.runtime = folder, rank, runtime
        self.raised: dict[str, BaseException] = {}

    def play(self, scene: str, act: Callable[[], object]) -> None:
        meeting = dist.FileStore(str(self.folder / f"meeting-{scene}"), 2)
        try:
            with joined(meeting, self.rank, 2, torch.device("cpu")):
                act()
        except BaseException as error:
            self.raised[scene] = error

    def fit(self, spec: RunSpec, store: str = "two", **options: Any) -> None:
        root = self.folder / store
        ranks = Ranks(self.rank, 2)
        ranks.from_first(lambda: Store(root).address)
        fit(spec, Store(root), self.runtime, **options)

    def forking(self) -> None:
        trunk, whole = trunk_of(FORK, 1), self.runtime
        self.runtime = replace(whole, keep="last")
        self.fit(trunk, "forks")
        self.runtime = whole
        self.fit(FORK, "forks")

    def failing_second(self) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RunFailedError("Expected a good disk, got a bad one.")

        with pytest.MonkeyPatch.context() as patch:
            if self.rank == 1:
                patch.setattr(Stepper, "take_step", fail)
            self.fit(tiny(), "failing")

    def dying_second(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if self.rank == 1:
                patch.setattr(Stepper, "take_step", lambda *_, **__: os._exit(1))
            self.fit(tiny(), "dying")


def act_as_rank(number: int, first: int, folder: str, runtime: Runtime, slow: bool) -> None:
    rank = first + number
    torch.set_num_threads(1)
    scenes = Scenes(Path(folder), rank, runtime)

    def train_all() -> None:
        for spec in (SLOW_CASES if slow else CASES).values():
            scenes.fit(spec)

    with labels_missing():
        scenes.play("equal", train_all)
    if slow:
        scenes.play("forking", scenes.forking)
        scenes.play("different", lambda: scenes.fit(tiny(seed=rank), "different"))
    else:
        scenes.play("whole", lambda: scenes.fit(tiny(), "whole"))
        scenes.play("stopped", lambda: scenes.fit(tiny(), "stopped", on_epoch=stopping))
        scenes.play("resumed", lambda: scenes.fit(tiny(), "stopped"))
        scenes.play("failing", scenes.failing_second)
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(scenes.raised))
    if not slow:
        scenes.play("dying", scenes.dying_second)
        Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(scenes.raised))


def acted(folder: Path, runtime: Runtime, *, slow: bool) -> list[dict[str, BaseException]]:
    """Return what each rank raised, by scene."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_ADDR", "127.0.0.1")
        arguments = (str(folder), runtime, slow)
        other = mp.spawn(act_as_rank, (1, *arguments), nprocs=1, join=False)
        try:
            act_as_rank(0, 0, *arguments)
        finally:
            for process in other.processes:
                process.join(30)
                process.kill()
    return [pickle.loads(Path(folder, f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Any:
    folder = tmp_path_factory.mktemp("ranks")
    return folder, acted(folder, runtime, slow=False)


@pytest.fixture(scope="module")
def slow_ranks(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Any:
    folder = tmp_path_factory.mktemp("ranks")
    return folder, acted(folder, runtime, slow=True)


def numbers(metrics: SplitMetrics) -> list[float]:
    return [
        value
        for of_tasks in metrics.values()
        for named in of_tasks.values()
        for value in named.values()
        if value is not None
    ]


def assert_equal(two: Store, one: Store, spec: RunSpec, tolerance: float) -> None:
    """Compare losses, weights, metrics and the network's parameters and buffers."""
    run_id = spec.run_id()
    for got, expected in zip(two.epochs(run_id), one.epochs(run_id), strict=True):
        for name in ("losses", "weights", "loss_scales", "difficulties"):
            # None becomes NaN.
            held = [np.array(getattr(record, name), float) for record in (got, expected)]
            np.testing.assert_allclose(*held, rtol=tolerance, err_msg=name)
        assert got.learning_rate == expected.learning_rate
    results = two.result(run_id), one.result(run_id)
    assert results[0].selected_epoch == results[1].selected_epoch
    got, expected = (numbers(result.selected_metrics) for result in results)
    assert got == pytest.approx(expected, rel=10 * tolerance, abs=1e-3)
    states = [load_network(store, run_id).state_dict() for store in (two, one)]
    torch.testing.assert_close(*states, rtol=10 * tolerance, atol=tolerance)


def assert_is_one_process(folder: Path, spec: RunSpec, runtime: Runtime, tolerance: float) -> None:
    two, one = Store(folder / "two"), Store(folder / "one")
    with labels_missing():
        fit(spec, one, runtime)
    assert_equal(two, one, spec, tolerance)
    manifests = [store.manifest(spec.run_id()) for store in (two, one)]
    assert manifests[0]["execution"]["processes"] == 2
    assert "processes" not in manifests[1]["execution"]
    assert manifests[0]["initial_weights"] == manifests[1]["initial_weights"]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_run_of_one(ranks, name, runtime):
    assert "equal" not in ranks[1][0] | ranks[1][1]
    assert_is_one_process(ranks[0], CASES[name], runtime, TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_CASES)
def test_two_processes_train_the_run_of_one_by_every_method(slow_ranks, name, runtime):
    assert "equal" not in slow_ranks[1][0] | slow_ranks[1][1]
    assert_is_one_process(
        slow_ranks[0], SLOW_CASES[name], runtime, 1e-2 if name == "bfloat16" else TOLERANCE
    )


def test_run_of_two_processes_resumes_bit_for_bit(ranks):
    folder, raised = ranks
    assert all(isinstance(held["stopped"], KeyboardInterrupt) for held in raised)
    assert all("resumed" not in held for held in raised)
    whole, stopped = Store(folder / "whole"), Store(folder / "stopped")
    assert_same_outcome(whole, stopped, tiny().run_id())
    assert (stopped.manifest(tiny().run_id()) or {})["started_epochs"] == [1, 2]


def test_error_of_one_process_ends_the_other_with_its_sentence(ranks):
    folder, raised = ranks
    for held in raised:
        assert isinstance(held["failing"], RunFailedError)
        assert "got a bad one" in str(held["failing"])
    text = Store(folder / "failing").error(tiny().run_id()) or ""
    assert text.strip().endswith("RunFailedError: Epoch 1: Expected a good disk, got a bad one.")


def test_run_whose_process_was_killed_can_be_resumed(ranks, runtime):
    folder, raised = ranks
    assert isinstance(raised[0]["dying"], RankLostError)
    store = Store(folder / "dying")
    assert read_run(store, tiny().run_id()).state == "missing"  # no epoch, and no error
    assert fit(tiny(), store, runtime).status == "done"


@pytest.mark.slow
@pytest.mark.parametrize("learning_rate", [1e-3, 1e30])
def test_torchrun_trains_one_run(learning_rate, tmp_path, data_root):
    spec = tiny(optimizer={"learning_rate": learning_rate})
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_dict()))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "mtl.training"]
    command += [str(tmp_path / "spec.json"), "--store", str(tmp_path / "store")]
    command += ["--device", "cpu", "--data-root", data_root, "--num-samples", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    store = Store(tmp_path / "store", create=False)
    if learning_rate == 1e-3:
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("epoch 3: losses") == ended.stdout.count('"status": "done"') == 1
        assert store.manifest(spec.run_id())["execution"]["processes"] == 2
    else:
        assert ended.returncode == 1
        sentence = "training: Epoch 1: Expected a finite loss"
        assert ended.stderr.count(sentence) == 1, ended.stderr
        assert sum(line.startswith("Traceback") for line in ended.stderr.splitlines()) <= 1
        assert "Expected a finite loss" in store.error(spec.run_id())


@pytest.mark.slow
def test_two_processes_fork_a_run_as_one_does(slow_ranks, runtime, tmp_path):
    assert "forking" not in slow_ranks[1][0] | slow_ranks[1][1]
    one = Store(tmp_path)
    fit(trunk_of(FORK, 1), one, replace(runtime, keep="last"))
    fit(FORK, one, runtime)
    assert_equal(Store(slow_ranks[0] / "forks"), one, FORK, TOLERANCE)


@pytest.mark.slow
def test_processes_with_different_runs_are_refused(slow_ranks):
    for held in slow_ranks[1]:
        assert "one run on all 2 processes" in str(held["different"])


def test_shares_of_all_ranks_are_the_batch():
    for num_images in range(1, 12):
        for num_parts in (1, 2, 3):
            of_ranks = [Ranks(rank, 3).shares(num_images, num_parts) for rank in range(3)]
            for shares in zip(*of_ranks, strict=True):
                whole = shares[0].whole
                if whole < 3:  # each trains all of it
                    assert len({*shares}) == 1
                    continue
                assert [share.stop for share in shares[:2]] == [share.start for share in shares[1:]]
                assert shares[2].stop - shares[0].start == whole
            assert sum(share.whole for share in of_ranks[0]) == num_images


@pytest.mark.parametrize("task", ["depth", "normal", "segmentation", "curvature", "edge2d"])
@pytest.mark.parametrize("regularizers", [True, False])
def test_terms_of_a_loss_add_up_to_it(task, regularizers):
    info = DataInfo(classes=("a", "b"), depth_range_m=(1.0, 10.0))
    held, generator = task_of(task), torch.Generator().manual_seed(0)
    prediction = torch.rand(3, held.num_channels(info), 4, 5, generator=generator) * 20
    target = torch.rand(prediction.shape, generator=generator)
    if task == "segmentation":
        target = torch.randint(0, 2, (3, 4, 5), generator=generator)
    valid = torch.rand(3, 4, 5, generator=generator) < 0.5
    valid[1] = False
    arguments = (prediction, target, valid, info, regularizers)
    terms = held.terms(*arguments)
    torch.testing.assert_close(sum(value for value, _ in terms), held.loss(*arguments))
    images = [int(valid.flatten(1).any(1).sum())] * (len(terms) - 1)
    assert [int(number) for _, number in terms] == [int(valid.sum()), *images]
