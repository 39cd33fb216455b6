"""Every task of the registry: loss, error map, regularisers, masks, shapes, priors."""

import pytest
import torch
from torch import Tensor

from mtl.errors import UsageError
from mtl.tasks import TASKS
from tests.metrics import LOSS_METRIC
from tests.tasks.samples import EVERY_TASK, INFO, sample, spoilt

PER_PIXEL = ("depth", "normal", "segmentation")
"""Tasks whose regularisers are means over pixels too."""
MAPS = tuple(name for name in TASKS if name not in PER_PIXEL)


def perfect(name: str, target: Tensor) -> Tensor:
    """Return the prediction that the target asks for."""
    if name == "segmentation":
        return torch.nn.functional.one_hot(target, 5).movedim(-1, 1).float() * 20 - 10
    return target.clone()


@EVERY_TASK
def test_perfect_prediction_costs_nothing(name):
    _, target, valid = sample(name)
    prediction = perfect(name, target)
    loss = TASKS[name].loss(prediction, target, valid, INFO)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    errors = TASKS[name].errors(prediction, target, valid, INFO)
    torch.testing.assert_close(errors, torch.zeros(valid.shape), atol=1e-6, rtol=0)


@EVERY_TASK
def test_loss_is_the_mean_error_plus_the_regularizer(name):
    task = TASKS[name]
    prediction, target, valid = sample(name)
    prediction = prediction * 6  # logits beyond 10 too
    error = task.error_map(prediction, target, INFO)
    mean = (error * valid).sum() / valid.sum()
    regularizer = task.regularizer(prediction, target, valid, INFO)
    assert regularizer.item() > 0, "or this test shows nothing"
    torch.testing.assert_close(task.loss(prediction, target, valid, INFO), mean + regularizer)
    torch.testing.assert_close(task.loss(prediction, target, valid, INFO, regularizers=False), mean)


@EVERY_TASK
def test_errors_are_the_loss_pixel_by_pixel(name):
    task = TASKS[name]
    prediction, target, valid = sample(name)
    errors = task.errors(prediction, target, valid, INFO)
    assert errors.shape == valid.shape
    assert (errors[~valid] == 0).all()
    plain = task.loss(prediction, target, valid, INFO, regularizers=False)
    torch.testing.assert_close(errors[valid].mean(), plain)
    torch.testing.assert_close(errors, task.errors(prediction, spoilt(target, valid), valid, INFO))


@EVERY_TASK
def test_loss_metric_is_the_loss_without_regularizers(name):
    prediction, target, valid = sample(name, batch=5)
    valid[1] = False
    accumulator = TASKS[name].metrics(INFO)
    for part in (slice(0, 2), slice(2, 5)):
        accumulator.update(prediction[part], target[part], valid[part])
    plain = TASKS[name].loss(prediction, target, valid, INFO, regularizers=False)
    assert accumulator.compute()[LOSS_METRIC[name]] == pytest.approx(plain.item(), rel=1e-6)


@EVERY_TASK
def test_invalid_pixels_reach_neither_value_nor_gradient(name):
    prediction, target, valid = sample(name)
    prediction.requires_grad_()
    clean = TASKS[name].loss(prediction, target, valid, INFO)
    dirty = TASKS[name].loss(prediction, spoilt(target, valid), valid, INFO)
    assert torch.equal(clean, dirty)
    dirty.backward()
    assert prediction.grad.isfinite().all()
    assert (prediction.grad.movedim(1, -1)[~valid] == 0).all()
    assert (prediction.grad.movedim(1, -1)[valid] != 0).any()
    both = TASKS[name].loss(spoilt(prediction, valid), spoilt(target, valid), valid, INFO)
    assert torch.equal(clean, both)


@pytest.mark.parametrize(
    ("name", "regularizers"),
    [*((name, False) for name in sorted(TASKS)), *((name, True) for name in PER_PIXEL)],
)
def test_loss_is_the_mean_over_valid_pixels(name, regularizers):
    prediction, target, valid = sample(name)
    values = torch.stack(
        [
            TASKS[name].loss(
                prediction[b : b + 1, :, y : y + 1, x : x + 1],
                target[b : b + 1, ..., y : y + 1, x : x + 1],
                torch.ones(1, 1, 1, dtype=torch.bool),
                INFO,
                regularizers,
            )
            for b, y, x in valid.nonzero().tolist()
        ]
    )
    got = TASKS[name].loss(prediction, target, valid, INFO, regularizers)
    torch.testing.assert_close(got, values.mean())


@EVERY_TASK
def test_without_valid_pixels_loss_and_gradients_are_zero(name):
    prediction, target, valid = sample(name)
    prediction.requires_grad_()
    valid = torch.zeros_like(valid)
    loss = TASKS[name].loss(prediction, spoilt(target, valid), valid, INFO)
    assert loss.item() == 0
    loss.backward()
    assert (prediction.grad == 0).all()


@EVERY_TASK
def test_image_without_labels_does_not_count(name):
    prediction, target, valid = sample(name)
    prediction.requires_grad_()
    valid[0] = False
    kept = TASKS[name].loss(prediction[1:], target[1:], valid[1:], INFO)
    loss = TASKS[name].loss(prediction, spoilt(target, valid), valid, INFO)
    torch.testing.assert_close(loss, kept)
    loss.backward()
    assert (prediction.grad[0] == 0).all()
    assert (prediction.grad[1] != 0).any()


@EVERY_TASK
def test_shapes_that_would_broadcast_are_refused(name):
    prediction, target, valid = sample(name)
    task = TASKS[name]
    for function in (task.loss, task.errors):
        with pytest.raises(ValueError, match="same pixels"):
            function(prediction[:1], target, valid, INFO)
        with pytest.raises(ValueError, match="same pixels"):
            function(prediction, target, valid[:, :1], INFO)
        with pytest.raises(ValueError, match="same pixels"):
            function(prediction[:, 0], target, valid, INFO)
        if target.ndim == 4:
            with pytest.raises(ValueError, match="target of the prediction's shape"):
                function(prediction, torch.cat([target] * 2, dim=1), valid, INFO)


@pytest.mark.parametrize("name", MAPS)
def test_prior_without_labels_is_the_median_of_the_others(name):
    channels = TASKS[name].num_channels(INFO)
    target = torch.tensor([[1.0, 2, 6], [3, 4, 8]]).reshape(2, 1, 1, 3).repeat(1, channels, 1, 1)
    valid = torch.tensor([[1, 1, 0], [1, 1, 0]]).bool().reshape(2, 1, 3)
    # Medians of pairs are the lower value; all that is valid: 1 2 3 4.
    prior = TASKS[name].prior(target, valid, INFO)
    assert prior.tolist() == [[[[1.0, 2.0, 2.0]]] * channels]
    nothing = TASKS[name].prior(target, torch.zeros_like(valid), INFO)
    assert (nothing == 0).all()


def test_task_that_names_sources_defines_derive(monkeypatch):
    task = TASKS["edge2d"]
    monkeypatch.setattr(type(task), "sources", ("depth",))
    with pytest.raises(UsageError, match="derive.. of task 'edge2d'.*those of depth"):
        task.derive({}, {})
