"""Metrics: hand arithmetic, pooling over batches, masks, independent references."""

import math

import pytest
import torch
from torch import Tensor

from mtl.tasks import TASKS
from mtl.training.manifest import baseline_metrics
from tests.tasks.samples import EVERY_TASK, INFO, sample, spoilt


def measure(name: str, *batches: tuple[Tensor, Tensor, Tensor]) -> dict[str, float | None]:
    accumulator = TASKS[name].metrics(INFO)
    for batch in batches:
        accumulator.update(*batch)
    return accumulator.compute()


def test_depth_by_hand():
    # target 2: predictions 2.4 (ratio 1.2, within), 1.5 (ratio 1.333, not), -1 (within no ratio).
    # errors 0.4, 0.5, 3: abs 3.9 / 3 = 1.3; rmse sqrt((0.16 + 0.25 + 9) / 3) = sqrt(3.13667)
    # logs: log 1.2, log 4/3, and of -1 the floor 0.01 x 0.5 m: log 400; one image.
    prediction = torch.tensor([2.4, 1.5, -1.0]).reshape(1, 1, 1, 3)
    target = torch.full((1, 1, 1, 3), 2.0)
    got = measure("depth", (prediction, target, torch.ones(1, 1, 3, dtype=torch.bool)))
    assert got == pytest.approx(
        {
            "delta1": 1 / 3,
            "rmse": math.sqrt(9.41 / 3),
            "abs": 1.3,
            "rel": 0.65,
            "abs_log": (math.log(1.2) + math.log(4 / 3) + math.log(400)) / 3,
            "rmse_per_image": math.sqrt(9.41 / 3),
        },
        rel=1e-6,
    )


def test_rmse_per_image_by_hand():
    # Image 1: errors 3 and 4, rmse sqrt(12.5). Image 2: one valid pixel, error 1. Image 3: none.
    # Mean of images (3.5355 + 1) / 2; over all pixels sqrt(26 / 3).
    target = torch.full((3, 1, 1, 2), 5.0)
    prediction = target + torch.tensor([[3.0, -4], [1, 90], [90, 90]]).reshape(3, 1, 1, 2)
    valid = torch.tensor([[[1, 1]], [[1, 0]], [[0, 0]]]).bool()
    got = measure("depth", (prediction, target, valid))
    assert got["rmse_per_image"] == pytest.approx((math.sqrt(12.5) + 1) / 2)
    assert got["rmse"] == pytest.approx(math.sqrt(26 / 3))


def test_normal_by_hand():
    # Angles 0, 10, 20, 40 degrees from (0, 0, -1); lengths do not matter.
    # mean 17.5; median (lower of the middle two) 10; within 11.25: 2/4, 22.5: 3/4, 30: 3/4
    # inner_error with their length 3: mean of 1 - 3 cos.
    angles = torch.deg2rad(torch.tensor([0.0, 10, 20, 40]))
    prediction = torch.stack([angles.sin(), 0 * angles, -angles.cos()]).reshape(1, 3, 1, 4) * 3
    target = torch.tensor([0.0, 0, -1]).reshape(1, 3, 1, 1).expand(1, 3, 1, 4)
    got = measure("normal", (prediction, target, torch.ones(1, 1, 4, dtype=torch.bool)))
    assert got["mean_angle"] == pytest.approx(17.5, abs=1e-4)
    assert got["median_angle"] == pytest.approx(10, abs=0.011)
    assert (got["within_11_25"], got["within_22_5"], got["within_30"]) == (0.5, 0.75, 0.75)
    assert got["inner_error"] == pytest.approx(1 - 3 * float(angles.cos().mean()))


def test_zero_normal_counts_as_a_right_angle():
    target = torch.tensor([0.0, 0, -1]).reshape(1, 3, 1, 1)
    got = measure("normal", (torch.zeros(1, 3, 1, 1), target, torch.ones(1, 1, 1).bool()))
    assert got["mean_angle"] == pytest.approx(90)


def test_segmentation_by_hand():
    # targets  a a a b b c; predicted  a a b b c c; d and e neither occur nor are predicted.
    # IoU a 2/3, b 1/3, c 1/2 -> miou 0.5; accuracy 4/6. Scores 1 and four times 0:
    # -log softmax is log(e + 4) - 1 for a hit, log(e + 4) for a miss.
    target = torch.tensor([0, 0, 0, 1, 1, 2]).reshape(1, 1, 6)
    predicted = torch.tensor([0, 0, 1, 1, 2, 2]).reshape(1, 1, 6)
    scores = torch.nn.functional.one_hot(predicted, 5).movedim(-1, 1).float()
    got = measure("segmentation", (scores, target, torch.ones(1, 1, 6, dtype=torch.bool)))
    assert got == pytest.approx(
        {
            "miou": 0.5,
            "pixel_accuracy": 4 / 6,
            "cross_entropy": math.log(math.e + 4) - 4 / 6,
            "miou_per_image": 0.5,
        }
    )


def test_miou_per_image_by_hand():
    # Image 1: target a a b, predicted a b b: IoU a 1/2, b 1/2 -> 1/2.
    # Image 2: target c c c, predicted c c a: c 2/3, a 0/1 (predicted only) -> 1/3.
    # Image 3: no valid pixel. Mean of images 5/12; over the split a 1/3, b 1/2, c 2/3 -> 1/2.
    target = torch.tensor([[0, 0, 1], [2, 2, 2], [3, 3, 3]]).reshape(3, 1, 3)
    predicted = torch.tensor([[0, 1, 1], [2, 2, 0], [0, 0, 0]]).reshape(3, 1, 3)
    scores = torch.nn.functional.one_hot(predicted, 5).movedim(-1, 1).float()
    valid = torch.tensor([True, True, False]).reshape(3, 1, 1).expand(3, 1, 3)
    got = measure("segmentation", (scores, target, valid))
    assert got["miou_per_image"] == pytest.approx(5 / 12)
    assert got["miou"] == pytest.approx(0.5)


def test_normals_equal_a_reference_that_keeps_every_angle():
    prediction, target, valid = sample("normal", batch=40)
    unit = prediction / prediction.norm(dim=1, keepdim=True)
    angle = torch.rad2deg(torch.acos((unit * target).sum(1).clamp(-1, 1)))[valid]
    got = measure("normal", (prediction, target, valid))
    assert got["mean_angle"] == pytest.approx(angle.mean().item(), rel=1e-5)
    assert got["median_angle"] == pytest.approx(angle.median().item(), abs=0.011)


@EVERY_TASK
def test_batches_pool_to_one_big_batch_in_any_order(name):
    whole = sample(name, batch=6)
    parts = [tuple(part[i : i + 2] for part in whole) for i in (4, 0, 2)]
    assert measure(name, *parts) == pytest.approx(measure(name, whole))


@EVERY_TASK
def test_invalid_pixels_do_not_count(name):
    prediction, target, valid = sample(name)
    clean = measure(name, (prediction, target, valid))
    assert measure(name, (spoilt(prediction, valid), spoilt(target, valid), valid)) == clean


@EVERY_TASK
def test_nothing_valid_is_none(name):
    prediction, target, valid = sample(name)
    got = measure(name, (prediction, target, torch.zeros_like(valid)))
    assert set(got.values()) == {None}


@EVERY_TASK
def test_prior_is_the_best_prediction_that_ignores_the_image(name):
    _, target, valid = sample(name, batch=9)
    prior = TASKS[name].prior(target, valid, INFO)
    assert prior.isfinite().all()
    y, x = 2, 3
    here = valid[:, y, x]
    if name == "depth":
        expected = target[here, 0, y, x].median()
        assert prior[0, 0, y, x] == expected
    elif name == "segmentation":
        assert (
            prior[0, :, y, x].argmax() == torch.bincount(target[here, y, x], minlength=5).argmax()
        )
    elif name == "normal":
        mean = target[here, :, y, x].sum(0)
        torch.testing.assert_close(prior[0, :, y, x], mean / mean.norm())
    else:
        assert torch.equal(prior[0, :, y, x], target[here, :, y, x].median(dim=0).values)
    measured = baseline_metrics(TASKS[name], (target, valid), (target, valid), INFO)
    assert measured == measure(name, (prior.expand(9, -1, -1, -1), target, valid))


def test_depth_prior_where_nothing_was_valid_is_the_middle_of_the_range():
    target, valid = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, dtype=torch.bool)
    assert TASKS["depth"].prior(target, valid, INFO).item() == pytest.approx(5.25)
