"""A step never waits for the device: its host runs ahead of a GPU's queue."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtl.data.batches import Batch, DeviceSplit, Mirror
from mtl.data.sample import DataInfo
from mtl.spec import RunSpec
from mtl.spec.methods import OWN_METHODS
from mtl.tasks import TASKS, task_of
from mtl.training.evaluation import evaluate, new_network
from mtl.training.ranks import ALONE, Ranks
from mtl.training.step import EpochLog, Stepper
from mtl.weighting import build_weighting
from tests.conftest import tiny_fields
from tests.waiting import no_waiting

INFO = DataInfo(classes=("a", "b", "c"), depth_range_m=(1.0, 10.0))
CPU = torch.device("cpu")


def a_split(tasks: tuple[str, ...], num_images: int = 4, device: torch.device = CPU) -> DeviceSplit:
    rng = torch.Generator().manual_seed(3)
    print("split seed 3")
    shape = (num_images, 32, 32)
    arrays = {"image": torch.randint(0, 256, (*shape, 3), generator=rng, dtype=torch.uint8)}
    for name in tasks:
        if name == "segmentation":
            arrays[name] = torch.randint(0, 3, shape, generator=rng, dtype=torch.uint8)
        else:
            channels = task_of(name).num_channels(INFO)
            arrays[name] = (1 + torch.rand(*shape, channels, generator=rng)).half()
        arrays[f"{name}_valid"] = torch.rand(shape, generator=rng) < 0.8
    return DeviceSplit({name: array.to(device) for name, array in arrays.items()}, tasks)


def batches_of(split: DeviceSplit, device: torch.device) -> list[Batch]:
    chosen = torch.tensor([True, False]).to(device)
    signs = {"normal": torch.tensor([-1.0, 1, 1]).to(device)}
    stored = split.stored(list(np.arange(len(split)).reshape(-1, 2)), device)
    return [split.assembled(rows, Mirror(chosen, signs)) for rows in stored]


def stepper_of(spec: RunSpec, device: torch.device, ranks: Ranks = ALONE) -> Stepper:
    network = new_network(spec, INFO).to(device)
    weighting = build_weighting(
        spec.method, spec.tasks, spec.priorities, skip_nonfinite=True, **spec.method_options
    ).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    return Stepper(spec, network, weighting, optimizer, INFO, ranks)


def a_spec(method: str, tasks: tuple[str, ...], **changes: object) -> RunSpec:
    return RunSpec.from_dict(tiny_fields(method=method, tasks=list(tasks), **changes))


CASES = [
    *((method, ("depth", "normal", "segmentation"), {}) for method in sorted(OWN_METHODS)),
    ("lsb", tuple(TASKS), {"micro_batches": 2, "optimizer": {"max_gradient_norm": 1.0}}),
]


@pytest.mark.parametrize(("method", "tasks", "changes"), CASES)
def test_step_does_not_wait_for_the_device(method, tasks, changes):
    spec = a_spec(method, tasks, **changes)
    stepper, log = stepper_of(spec, CPU), EpochLog(len(tasks), CPU)
    first, second = batches_of(a_split(tasks), CPU)
    stepper.take_step(first, 1e-3, log)
    with no_waiting():
        stepper.take_step(second, 1e-3, log)
    assert all(loss is not None for loss in log.losses())


def test_step_of_one_of_several_processes_does_not_wait_for_the_device(monkeypatch):
    spec = a_spec("lsb", tuple(TASKS), micro_batches=2)
    stepper, log = stepper_of(spec, CPU, Ranks(0, 2)), EpochLog(len(TASKS), CPU)
    shares = [replace(batch, of=4) for batch in batches_of(a_split(tuple(TASKS)), CPU)]
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: None)
    stepper.take_step(shares[0], 1e-3, log)
    with no_waiting():
        stepper.take_step(shares[1], 1e-3, log)
    assert all(loss is not None for loss in log.losses())


def test_batches_are_assembled_and_measured_without_waiting():
    split = a_split(tuple(TASKS))
    stored = list(split.stored(list(np.arange(4).reshape(-1, 2)), CPU))
    mirror = Mirror(torch.tensor([True, False]), {"normal": torch.tensor([-1.0, 1, 1])})
    with no_waiting():
        for rows in stored:
            batch = split.assembled(rows, mirror)
            for name, task in TASKS.items():
                prediction = torch.ones(2, task.num_channels(INFO), 32, 32)
                task.sums(prediction, batch.targets[name], batch.valid[name], INFO)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(), lambda x: x.tolist(), lambda x: bool(x.any()), lambda x: x[x > 0],
        lambda x: torch.tensor([1.0]), lambda x: x.cpu(), lambda x: float(x.sum()),
    ],
)  # fmt: skip
def test_guard_finds_what_waits(wait):
    with pytest.raises(AssertionError, match="waits"), no_waiting():
        wait(torch.ones(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("method", "tasks", "changes"), CASES)
def test_step_does_not_wait_for_the_gpu(method, tasks, changes):
    device = torch.device("cuda")
    spec = a_spec(method, tasks, **changes)
    stepper, log = stepper_of(spec, device), EpochLog(len(tasks), device)
    split = a_split(tasks, device=device)
    first, second = batches_of(split, device)
    stepper.take_step(first, 1e-3, log)  # what is built at first may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.take_step(second, 1e-3, log)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    evaluate(stepper.network, spec, split, INFO, device)
