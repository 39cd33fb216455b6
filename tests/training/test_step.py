"""One optimizer step: micro-batches, clipping, learning rates, and the log of an epoch."""

import math

import pytest
import torch
from torch import Tensor, nn

from mtl.data.batches import Batch
from mtl.data.sample import DataInfo
from mtl.networks.base import MultiTaskNetwork
from mtl.spec import RunSpec
from mtl.spec.sections import OptimizerSpec
from mtl.training.step import EpochLog, Stepper, learning_rate_at
from mtl.weighting import build_weighting

INFO = DataInfo(classes=("a", "b", "c"), depth_range_m=(1.0, 10.0))
TASKS = ("depth", "segmentation")
CPU = torch.device("cpu")
ALL = torch.tensor([True, True])


class Plain(MultiTaskNetwork):
    """Two convolutions without batch norm, so that a batch is the sum of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        out = self.last(self.first(images).relu())
        return {"depth": out[:, :1] + 3, "segmentation": out[:, 1:]}

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.first.parameters())

    def task_parameters(self) -> list[list[nn.Parameter]]:
        return [list(self.last.parameters()) for _ in TASKS]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        return [self.first.weight]


def a_batch(num_images: int = 8, labelled: float = 1.0) -> Batch:
    """Return random images; each pixel has each task's label with probability `labelled`."""
    generator = torch.Generator().manual_seed(3)
    print("batch seed 3")
    shape = (num_images, 6, 7)
    return Batch(
        images=torch.rand(num_images, 3, 6, 7, generator=generator),
        targets={
            "depth": 1 + 9 * torch.rand(num_images, 1, 6, 7, generator=generator),
            "segmentation": torch.randint(0, 3, shape, generator=generator),
        },
        valid={task: torch.rand(shape, generator=generator) < labelled for task in TASKS},
    )


def stepper_of(spec: RunSpec) -> Stepper:
    """Return a stepper of plain gradient descent, always from the same parameters."""
    torch.manual_seed(1)
    network = Plain()
    weighting = build_weighting(spec.method, spec.tasks, spec.priorities, **spec.method_options)
    return Stepper(spec, network, weighting, torch.optim.SGD(network.parameters(), lr=1.0), INFO)


def step_of(
    spec: RunSpec, learning_rate: float = 0.1, batch: Batch | None = None
) -> tuple[Tensor, EpochLog]:
    """Take one step; return how the parameters moved and the log."""
    stepper, log = stepper_of(spec), EpochLog(2, CPU)
    before = nn.utils.parameters_to_vector(stepper.parameters).detach().clone()
    stepper.take_step(batch or a_batch(), learning_rate, log)
    return nn.utils.parameters_to_vector(stepper.parameters).detach() - before, log


@pytest.mark.parametrize("method", ["lsb", "equal", "uncertainty"])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_micro_batches_add_up_however_the_labels_are_spread(method, parts):
    # A third of the pixels labelled, and depth in one image alone, as a task few images have.
    batch = a_batch(labelled=0.3)
    batch.valid["depth"][1:] = False
    whole, of_whole = step_of(RunSpec(method=method), batch=batch)
    in_parts, of_parts = step_of(RunSpec(method=method, micro_batches=parts), batch=batch)
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-7)
    # What a loss counts in the log does not depend on its gradient's factor.
    assert of_parts.losses()[0] == pytest.approx(of_whole.losses()[0], rel=1e-5)


def test_batch_in_parts_is_the_batch():
    batch = a_batch(7)
    for count in (1, 2, 3, 7, 20):
        parts = batch.parts(count)
        assert len(parts) == min(count, 7)
        sizes = [len(part.images) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        for task in TASKS:
            assert torch.equal(torch.cat([p.targets[task] for p in parts]), batch.targets[task])
            assert torch.equal(torch.cat([p.valid[task] for p in parts]), batch.valid[task])


def test_long_gradients_are_shortened_to_the_norm():
    free, _ = step_of(RunSpec(), learning_rate=1.0)
    length = float(free.norm())
    for most in (0.1 * length, 10 * length):
        spec = RunSpec(optimizer=OptimizerSpec(max_gradient_norm=most))
        moved, _ = step_of(spec, learning_rate=1.0)
        assert float(moved.norm()) == pytest.approx(min(most, length), rel=1e-4)
        torch.testing.assert_close(moved / moved.norm(), free / free.norm(), rtol=1e-4, atol=1e-6)


def test_losses_again_are_without_gradients():
    stepper = stepper_of(RunSpec(method="equal"))
    again = stepper._losses_again(a_batch())
    assert torch.equal(again, stepper._losses(a_batch())[0])
    assert not again.requires_grad


@pytest.mark.parametrize(
    ("schedule", "after_warm_up"),
    [
        ("constant", lambda s: 0.1),
        ("linear", lambda s: 0.1 * (20 - s) / 16),
        ("cosine", lambda s: 0.05 * (1 + math.cos(math.pi * (s - 4) / 16))),
    ],
)
def test_learning_rates_by_hand(schedule, after_warm_up):
    # 4 of 20 steps of warm-up: 0.1 * (1, 2, 3, 4) / 5.
    optimizer = OptimizerSpec(learning_rate=0.1, schedule=schedule, warmup_share=0.2)
    got = [learning_rate_at(optimizer, s, 20) for s in range(20)]
    expected = [0.02, 0.04, 0.06, 0.08] + [after_warm_up(s) for s in range(4, 20)]
    assert got == pytest.approx(expected)


def test_log_gives_means_over_the_steps_with_labels():
    log = EpochLog(2, CPU)
    log.add(torch.tensor([1.0, 4.0]), ALL, torch.tensor([0.5, 0.5], dtype=torch.float64))
    log.add(
        torch.tensor([3.0, float("nan")]),
        torch.tensor([True, False]),
        torch.tensor([0.1, 0.9], dtype=torch.float64),
    )
    assert log.losses() == [2.0, 4.0]  # (1 + 3) / 2; 4 alone
    assert log.weights() == pytest.approx([0.3, 0.5])  # (0.5 + 0.1) / 2; 0.5 alone
    assert log.loss_scales() == pytest.approx([0.4, 2.0])  # (0.5 x 1 + 0.1 x 3) / 2; 0.5 x 4


def test_constant_weight_is_its_own_mean_to_the_last_digit():
    log = EpochLog(2, CPU)
    weights = torch.tensor([1 / 3, 0.1], dtype=torch.float64)
    for _ in range(1000):
        log.add(torch.rand(2), ALL, weights)
    assert log.weights() == weights.tolist()


def test_log_is_none_where_nothing_was_seen():
    log = EpochLog(2, CPU)
    log.add(torch.ones(2), torch.tensor([True, False]), torch.ones(2, dtype=torch.float64))
    assert log.losses() == log.weights() == log.loss_scales() == [1.0, None]
    log.add(torch.ones(2), ALL, None)
    assert log.weights() is None
    assert log.loss_scales() is None
    assert log.losses() == [1.0, 1.0]
