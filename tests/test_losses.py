"""Task losses against hand arithmetic and closed forms; masks; no broadcasting."""

import math

import pytest
import torch
from torch import Tensor

from mtl import losses
from mtl.data.sources import DataInfo
from mtl.tasks import TASKS

INFO = DataInfo(classes=tuple("abcde"), depth_range_m=(0.5, 10.0))
NAMES = pytest.mark.parametrize("name", sorted(TASKS))


def sample(name: str, batch: int = 2, size: tuple[int, int] = (4, 5)) -> tuple[Tensor, ...]:
    """Return a random (prediction, target, valid) of the task from seed 3."""
    print("sample seed 3")
    generator = torch.Generator().manual_seed(3)
    channels = TASKS[name].num_channels(INFO)
    prediction = torch.randn(batch, channels, *size, generator=generator) + 2
    if name == "segmentation":
        target = torch.randint(0, channels, (batch, *size), generator=generator)
    elif name == "normal":
        target = torch.nn.functional.normalize(torch.randn(prediction.shape, generator=generator))
    else:
        target = torch.rand(prediction.shape, generator=generator) * 9 + 0.7
    valid = torch.rand(batch, *size, generator=generator) < 0.7
    return prediction.requires_grad_(), target, valid


def all_valid(prediction: Tensor) -> Tensor:
    return torch.ones(prediction.shape[0], *prediction.shape[-2:], dtype=torch.bool)


def test_depth_loss_by_hand() -> None:
    # Pixels: (prediction, target) = (2, 1), (4, 4), (0.25, 0.5), (12, 6); range [0.5, 10].
    # |log|: log 2, 0, log 2, log 2 -> mean 0.75 log 2.
    # r_min: |0.25 - 0.5| / 4 = 0.0625; r_max: |12 - 10| / 4 = 0.5.
    prediction = torch.tensor([2, 4, 0.25, 12]).reshape(1, 1, 2, 2)
    target = torch.tensor([1, 4, 0.5, 6]).reshape(1, 1, 2, 2)
    got = TASKS["depth"].loss(prediction, target, all_valid(prediction), INFO)
    assert got.item() == pytest.approx(0.75 * math.log(2) + 0.0625 + 0.5)


def test_negative_depths_are_pulled_up_with_finite_gradients() -> None:
    prediction = torch.tensor([-3.0, 0.0, 1e-9]).reshape(1, 1, 1, 3).requires_grad_()
    target = torch.ones(1, 1, 1, 3)
    loss = TASKS["depth"].loss(prediction, target, all_valid(prediction), INFO)
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad is not None
    assert (prediction.grad < 0).all()  # a step against the gradient raises the depth


def test_normal_loss_by_hand() -> None:
    # (0, 0, -2) for (0, 0, -1): 1 - 2 = -1 and length excess 1 -> 0.
    # (1, 0, 0) for (0, 0, -1): 1 - 0 = 1 and excess 0 -> 1. Mean 0.5.
    prediction = torch.tensor([[0.0, 0, -2], [1, 0, 0]]).T.reshape(1, 3, 1, 2)
    target = torch.tensor([[0.0, 0, -1], [0, 0, -1]]).T.reshape(1, 3, 1, 2)
    got = TASKS["normal"].loss(prediction, target, all_valid(prediction), INFO)
    assert got.item() == pytest.approx(0.5)


def test_zero_normal_prediction_has_a_finite_gradient() -> None:
    prediction = torch.zeros(1, 3, 1, 1, requires_grad=True)
    target = torch.tensor([0.0, 0, -1]).reshape(1, 3, 1, 1)
    TASKS["normal"].loss(prediction, target, all_valid(prediction), INFO).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_segmentation_loss_by_hand() -> None:
    # Uniform logits over 5 classes: cross-entropy log 5. One logit of 12 elsewhere:
    # -log(e^12 / (e^12 + 4)) and excess 12 - 10 = 2 at that pixel.
    prediction = torch.zeros(1, 5, 1, 2)
    prediction[0, 3, 0, 1] = 12
    target = torch.tensor([[[0, 3]]])
    got = TASKS["segmentation"].loss(prediction, target, all_valid(prediction), INFO)
    second = math.log(1 + 4 * math.exp(-12)) + 2
    assert got.item() == pytest.approx((math.log(5) + second) / 2)


def test_logits_below_the_bound_are_not_regularised() -> None:
    prediction = torch.full((1, 5, 1, 1), -10.0)
    assert losses.logit_excess(prediction).item() == 0
    assert losses.logit_excess(prediction - 1).item() == pytest.approx(5)  # five classes, 1 each


@NAMES
def test_a_perfect_prediction_costs_nothing(name: str) -> None:
    _, target, valid = sample(name)
    prediction = target.clone()
    if name == "segmentation":
        prediction = torch.nn.functional.one_hot(target, 5).movedim(-1, 1).float() * 20 - 10
    assert TASKS[name].loss(prediction, target, valid, INFO).item() == pytest.approx(0, abs=1e-6)


@NAMES
def test_invalid_pixels_reach_neither_value_nor_gradient(name: str) -> None:
    prediction, target, valid = sample(name)
    mask = valid if target.ndim == 3 else valid[:, None].expand_as(target)
    rubbish = float("nan") if target.is_floating_point() else 250
    spoilt = torch.where(mask, target, torch.full((), rubbish, dtype=target.dtype))
    clean = TASKS[name].loss(prediction, target, valid, INFO)
    dirty = TASKS[name].loss(prediction, spoilt, valid, INFO)
    assert torch.equal(clean, dirty)
    dirty.backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    assert (prediction.grad.movedim(1, -1)[~valid] == 0).all()
    assert (prediction.grad.movedim(1, -1)[valid] != 0).any()


@NAMES
def test_the_loss_is_the_mean_over_valid_pixels(name: str) -> None:
    prediction, target, valid = sample(name)
    values = torch.stack(
        [
            TASKS[name].loss(
                prediction[b : b + 1, :, y : y + 1, x : x + 1],
                target[b : b + 1, ..., y : y + 1, x : x + 1],
                torch.ones(1, 1, 1, dtype=torch.bool),
                INFO,
            )
            for b, y, x in valid.nonzero().tolist()
        ]
    )
    got = TASKS[name].loss(prediction, target, valid, INFO)
    torch.testing.assert_close(got, values.mean())


@NAMES
def test_a_duplicated_batch_leaves_the_loss_unchanged(name: str) -> None:
    prediction, target, valid = sample(name)
    once = TASKS[name].loss(prediction, target, valid, INFO)
    twice = TASKS[name].loss(
        torch.cat([prediction] * 2), torch.cat([target] * 2), torch.cat([valid] * 2), INFO
    )
    torch.testing.assert_close(once, twice)


@NAMES
def test_no_valid_pixel_is_zero_with_zero_gradients_never_nan(name: str) -> None:
    prediction, target, valid = sample(name)
    loss = TASKS[name].loss(prediction, target, torch.zeros_like(valid), INFO)
    assert loss.item() == 0
    loss.backward()
    assert prediction.grad is not None
    assert (prediction.grad == 0).all()
    one_empty = valid.clone()
    one_empty[0] = False
    kept = TASKS[name].loss(prediction[1:], target[1:], valid[1:], INFO)
    torch.testing.assert_close(TASKS[name].loss(prediction, target, one_empty, INFO), kept)


@NAMES
def test_nothing_broadcasts(name: str) -> None:
    prediction, target, valid = sample(name)
    task = TASKS[name]
    with pytest.raises(ValueError, match="same pixels"):
        task.loss(prediction[:1], target, valid, INFO)
    with pytest.raises(ValueError, match="same pixels"):
        task.loss(prediction, target, valid[:, :1], INFO)
    with pytest.raises(ValueError, match="same pixels"):
        task.loss(prediction[:, 0], target, valid, INFO)
    if target.ndim == 4:
        with pytest.raises(ValueError, match="target of the prediction's shape"):
            task.loss(prediction, torch.cat([target] * 2, dim=1), valid, INFO)
