"""Task losses against hand arithmetic; properties of all tasks are in `test_tasks.py`."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl.tasks import TASKS
from tests.tasks.samples import INFO

MAPS = ("curvature", "reshading", "edge2d", "edge3d", "keypoint2d", "keypoint3d")


def all_valid(prediction: Tensor) -> Tensor:
    return torch.ones(prediction.shape[0], *prediction.shape[-2:], dtype=torch.bool)


def regularizer(
    name: str, prediction: Tensor, target: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Return the regulariser, of all pixels and with a target of zeros unless given."""
    if target is None:
        zeros = torch.zeros_like(prediction)
        target = zeros[:, 0].long() if name == "segmentation" else zeros
    valid = all_valid(prediction) if valid is None else valid
    return TASKS[name].regularizer(prediction, target, valid, INFO)


def test_depth_loss_by_hand():
    # Pixels: (prediction, target) = (2, 1), (4, 4), (0.25, 0.5), (12, 6); range [0.5, 10].
    # |log|: log 2, 0, log 2, log 2 -> mean 0.75 log 2.
    # r_min: |0.25 - 0.5| / 4 = 0.0625; r_max: |12 - 10| / 4 = 0.5.
    prediction = torch.tensor([2, 4, 0.25, 12]).reshape(1, 1, 2, 2)
    target = torch.tensor([1, 4, 0.5, 6]).reshape(1, 1, 2, 2)
    got = TASKS["depth"].loss(prediction, target, all_valid(prediction), INFO)
    assert got.item() == pytest.approx(0.75 * math.log(2) + 0.0625 + 0.5)


def test_negative_depths_are_pulled_up_with_finite_gradients():
    prediction = torch.tensor([-3.0, 0.0, 1e-9]).reshape(1, 1, 1, 3).requires_grad_()
    target = torch.ones(1, 1, 1, 3)
    loss = TASKS["depth"].loss(prediction, target, all_valid(prediction), INFO)
    loss.backward()
    assert loss.isfinite()
    assert (prediction.grad < 0).all()  # a step against the gradient raises the depth


def test_normal_loss_by_hand():
    # (0, 0, -2) for (0, 0, -1): 1 - 2 = -1 and length excess 1 -> 0.
    # (1, 0, 0) for (0, 0, -1): 1 - 0 = 1 and excess 0 -> 1. Mean 0.5.
    prediction = torch.tensor([[0.0, 0, -2], [1, 0, 0]]).T.reshape(1, 3, 1, 2)
    target = torch.tensor([[0.0, 0, -1], [0, 0, -1]]).T.reshape(1, 3, 1, 2)
    got = TASKS["normal"].loss(prediction, target, all_valid(prediction), INFO)
    assert got.item() == pytest.approx(0.5)


def test_zero_normal_prediction_has_a_finite_gradient():
    prediction = torch.zeros(1, 3, 1, 1, requires_grad=True)
    target = torch.tensor([0.0, 0, -1]).reshape(1, 3, 1, 1)
    TASKS["normal"].loss(prediction, target, all_valid(prediction), INFO).backward()
    assert prediction.grad.isfinite().all()


def test_segmentation_loss_by_hand():
    # Uniform logits over 5 classes: cross-entropy log 5. One logit of 12 elsewhere:
    # -log(e^12 / (e^12 + 4)) and excess 12 - 10 = 2 at that pixel.
    prediction = torch.zeros(1, 5, 1, 2)
    prediction[0, 3, 0, 1] = 12
    target = torch.tensor([[[0, 3]]])
    got = TASKS["segmentation"].loss(prediction, target, all_valid(prediction), INFO)
    second = math.log(1 + 4 * math.exp(-12)) + 2
    assert got.item() == pytest.approx((math.log(5) + second) / 2)


def test_logits_below_the_bound_are_not_regularised():
    prediction = torch.full((1, 5, 1, 1), -10.0)
    assert regularizer("segmentation", prediction) == 0
    assert regularizer("segmentation", prediction - 1) == pytest.approx(5)  # five classes, 1 each


@pytest.mark.parametrize("name", MAPS[1:])
def test_map_loss_by_hand(name):
    # x = (0, 4), x^ = (1, 1): (9) is (1 + 3) / 2 = 2; sigma(x) = 2 about its mean 2, sigma(x^) = 0:
    # (10) is |0 - 2| = 2. In all 4.
    prediction = torch.tensor([1.0, 1]).reshape(1, 1, 1, 2)
    target = torch.tensor([0.0, 4]).reshape(1, 1, 1, 2)
    got = TASKS[name].loss(prediction, target, all_valid(prediction), INFO)
    assert got.item() == pytest.approx(4)


def test_curvature_loss_by_hand():
    # Two pixels with (k1, k2): x = (1, -1), (1, -1) and x^ = (0, 0), (4, 0).
    # (9): means over the channels (1 + 1) / 2 and (3 + 1) / 2: over the pixels 1.5.
    # (10): sigma(x) = 1 of (1, -1, 1, -1); x^ = (0, 0, 4, 0) has mean 1, variance
    # (1 + 1 + 9 + 1) / 4 = 3: |sqrt 3 - 1|.
    prediction = torch.tensor([[0.0, 0], [4, 0]]).T.reshape(1, 2, 1, 2)
    target = torch.tensor([[1.0, -1], [1, -1]]).T.reshape(1, 2, 1, 2)
    valid = all_valid(prediction)
    task = TASKS["curvature"]
    assert task.loss(prediction, target, valid, INFO, regularizers=False).item() == 1.5
    got = task.loss(prediction, target, valid, INFO)
    assert got.item() == pytest.approx(1.5 + math.sqrt(3) - 1)


def test_spreads_are_of_images_and_of_valid_pixels():
    # Image 1: sigma^ = 1 of (0, 2), the 50 being invalid; sigma = 3 of (0, 6): 2.
    # Image 2: sigma^ = 5, sigma = 1: 4. Image 3 has no valid pixel and no say. Mean 3.
    # Over the pixels of all images at once it would be another number.
    prediction = torch.tensor([[0.0, 2, 50], [0, 10, 5], [7, 8, 9]]).reshape(3, 1, 1, 3)
    target = torch.tensor([[0.0, 6, 0], [4, 6, 0], [1, 2, 3]]).reshape(3, 1, 1, 3)
    valid = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 0]]).bool().reshape(3, 1, 3)
    assert regularizer("edge2d", prediction, target, valid).item() == pytest.approx(3)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_map_has_a_finite_gradient(value):
    # The standard deviation has a kink at 0.
    prediction = torch.full((2, 1, 3, 3), value, requires_grad=True)
    target = torch.rand(2, 1, 3, 3)
    regularizer("edge2d", prediction, target, all_valid(prediction)).backward()
    assert prediction.grad.isfinite().all()


def test_spread_pulls_a_map_apart_that_is_too_flat():
    target = torch.tensor([0.0, 4]).reshape(1, 1, 1, 2)
    prediction = torch.tensor([1.9, 2.1]).reshape(1, 1, 1, 2).requires_grad_()
    regularizer("edge2d", prediction, target, all_valid(prediction)).backward()
    # sigma^ = (b - a) / 2, so d|sigma^ - sigma| = (1/2, -1/2) for (a, b).
    torch.testing.assert_close(prediction.grad.flatten(), torch.tensor([0.5, -0.5]))


def test_spread_equals_numpys_standard_deviation():
    print("seed 11")
    generator = torch.Generator().manual_seed(11)
    prediction, target = torch.rand(2, 4, 2, 6, 5, generator=generator) * 1e-3 + 5
    valid = torch.rand(4, 6, 5, generator=generator) < 0.6
    expected = [
        abs(np.std(p.numpy().astype(np.float64)[:, v]) - np.std(t.numpy().astype(np.float64)[:, v]))
        for p, t, v in zip(prediction, target, valid.numpy(), strict=True)
    ]
    got = regularizer("edge2d", prediction, target, valid)
    # A spread of 3e-4 about 5: a difference of squares would lose it in float32.
    assert got.item() == pytest.approx(np.mean(expected), rel=5e-3)
