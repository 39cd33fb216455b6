"""Task losses of the supplement, section 2: per-pixel error maps and regularisers.

A task loss is the mean of its error map over the valid pixels of the batch plus its regularisers.
Predictions, targets and masks must have equal shapes; nothing broadcasts. Where no pixel is valid
the loss is 0 and has zero gradients (training passes such a task on as absent).

Shapes: predictions and continuous targets (batch, channels, height, width); class targets
(batch, height, width); `valid` and error maps (batch, height, width).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mtl.errors import UsageError

SMALLEST_DEPTH_SHARE = 0.01
"""The logarithm of a predicted depth is taken of at least this share of the shortest depth."""

MAX_LOGIT = 10.0
"""f_max of the supplement's equation (8)."""

ErrorMap = Float[Tensor, "batch height width"]
Valid = Bool[Tensor, "batch height width"]


def masked_mean(values: ErrorMap, valid: Valid) -> Float[Tensor, ""]:
    """Return the mean of `values` over valid pixels, 0 where there are none.

    What stands in invalid pixels, NaN included, reaches neither the value nor the gradient.
    """
    kept = torch.where(valid, values, torch.zeros_like(values))
    return kept.sum() / valid.sum().clamp(min=1)


def check_same_shape(prediction: Tensor, target: Tensor, valid: Tensor) -> None:
    """Raise a `ValueError` unless prediction, target and mask are of the same pixels."""
    of_target = (target.shape[0], *target.shape[-2:])
    of_prediction = (prediction.shape[0], *prediction.shape[-2:])
    if prediction.ndim != 4 or of_prediction != of_target or of_target != tuple(valid.shape):
        raise UsageError(
            "Expected prediction (batch, channels, height, width), target and valid of the same "
            f"pixels, got {tuple(prediction.shape)}, {tuple(target.shape)}, {tuple(valid.shape)}."
        )
    if target.ndim == 4 and target.shape != prediction.shape:
        raise UsageError(
            f"Expected a target of the prediction's shape {tuple(prediction.shape)}, "
            f"got {tuple(target.shape)}."
        )


def log_depth_error(
    prediction: Float[Tensor, "batch 1 height width"],
    target: Float[Tensor, "batch 1 height width"],
    depth_range_m: tuple[float, float],
) -> ErrorMap:
    """Return |log D^ - log D| per pixel, equation (2).

    Deviation: D^ is a linear output and may be negative, so the logarithm is taken of
    max(D^, 0.01 d_min); below that the regulariser (3) alone pulls the prediction up.

    Args:
        prediction: depths in metres, any sign.
        target: depths in metres; positive where valid.
        depth_range_m: shortest and longest depth of the data set.
    """
    smallest = SMALLEST_DEPTH_SHARE * depth_range_m[0]
    difference = prediction.clamp(min=smallest).log() - target.clamp(min=smallest).log()
    return difference.abs().squeeze(1)


def depth_range_excess(
    prediction: Float[Tensor, "batch 1 height width"], depth_range_m: tuple[float, float]
) -> ErrorMap:
    """Return how far each predicted depth lies outside the range, metres, equations (3), (4).

    The supplement prints D without a hat in (4), which would make it a constant; read as D^.
    """
    shortest, longest = depth_range_m
    below = (prediction.clamp(max=shortest) - shortest).abs()
    above = (prediction.clamp(min=longest) - longest).abs()
    return (below + above).squeeze(1)


def normal_error(
    prediction: Float[Tensor, "batch 3 height width"],
    target: Float[Tensor, "batch 3 height width"],
) -> ErrorMap:
    """Return 1 - n . n^ per pixel, equation (5); the prediction is not renormalised."""
    return 1 - (prediction * target).sum(dim=1)


def normal_length_excess(prediction: Float[Tensor, "batch 3 height width"]) -> ErrorMap:
    """Return | |n^| - 1 | per pixel, equation (6)."""
    # vector_norm has a zero, not a NaN, as gradient at the zero vector.
    return (torch.linalg.vector_norm(prediction, dim=1) - 1).abs()


def cross_entropy_error(
    prediction: Float[Tensor, "batch classes height width"],
    target: Int[Tensor, "batch height width"],
) -> ErrorMap:
    """Return -log of the probability given to the target class, in nats, equation (7).

    Raises:
        ValueError: on the CPU, for a class that the prediction does not have; on a GPU the check
            would wait for the device in each step (prepared data are checked beforehand).
    """
    num_classes = prediction.shape[1]
    if target.device.type == "cpu" and target.numel():
        least, most = (int(x) for x in target.aminmax())
        if least < 0 or most >= num_classes:
            raise UsageError(
                f"Expected classes from 0 to {num_classes - 1}, got {most if least >= 0 else least}"
                ". Mark such pixels as not valid, or give the prediction more classes."
            )
    return functional.cross_entropy(prediction, target, reduction="none")


def logit_excess(prediction: Float[Tensor, "batch classes height width"]) -> ErrorMap:
    """Return the sum over classes of max(|f^|, 10) - 10 per pixel, equation (8)."""
    return (prediction.abs().clamp(min=MAX_LOGIT) - MAX_LOGIT).sum(dim=1)


def absolute_error(
    prediction: Float[Tensor, "batch channels height width"],
    target: Float[Tensor, "batch channels height width"],
) -> ErrorMap:
    """Return |x^ - x| per pixel, averaged over the channels, equation (9).

    The supplement leaves the norm open; read as L1, like the depth loss.
    """
    return (prediction - target).abs().mean(dim=1)


def spread_difference(
    prediction: Float[Tensor, "batch channels height width"],
    target: Float[Tensor, "batch channels height width"],
    valid: Valid,
) -> Float[Tensor, ""]:
    """Return |sigma(x^) - sigma(x)|, equation (10), averaged over the images with valid pixels.

    sigma is the population standard deviation of a map over its valid pixels and all channels.
    Images without a valid pixel do not count; 0 with zero gradients where there is no other.
    """
    differences = (_spread(prediction, valid) - _spread(target, valid)).abs()
    return differences.sum() / valid.flatten(1).any(dim=1).sum().clamp(min=1)


def _spread(
    values: Float[Tensor, "batch channels height width"], valid: Valid
) -> Float[Tensor, " batch"]:
    """Return the standard deviation of each image, 0 where it has no valid pixel."""
    mask = valid[:, None]
    nothing = torch.zeros_like(values)
    count = (valid.sum(dim=(1, 2)) * values.shape[1]).clamp(min=1)
    mean = torch.where(mask, values, nothing).sum(dim=(1, 2, 3)) / count
    centred = torch.where(mask, values - mean[:, None, None, None], nothing)
    # vector_norm has a zero, not a NaN, as gradient at the zero vector: a constant map.
    return torch.linalg.vector_norm(centred.flatten(1), dim=1) / count.sqrt()
