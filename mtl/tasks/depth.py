"""Depth in metres: equations (2) to (4) of the supplement."""

import torch
from jaxtyping import Float
from torch import Tensor

from mtl.data.sample import DataInfo
from mtl.tasks.base import ErrorMap, Task, Valid, masked_mean, masked_total, total

SMALLEST_DEPTH_SHARE = 0.01
"""The logarithm of a predicted depth is taken of at least this share of the shortest depth."""

Depths = Float[Tensor, "batch 1 height width"]


class Depth(Task):
    """The logarithms' difference, and a regulariser that keeps predictions in range."""

    def error_map(self, prediction: Depths, target: Depths, info: DataInfo) -> ErrorMap:
        """Return |log D^ - log D| per pixel, equation (2).

        Deviation: D^ is a linear output and may be negative, so the logarithm is taken of
        max(D^, 0.01 d_min); below that the regulariser (3) alone pulls the prediction up.
        """
        smallest = SMALLEST_DEPTH_SHARE * info.depth_range_m[0]
        difference = prediction.clamp(min=smallest).log() - target.clamp(min=smallest).log()
        return difference.abs().squeeze(1)

    def regularizer(
        self, prediction: Depths, target: Depths, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return how far predictions lie outside the range, metres, equations (3), (4).

        The supplement prints D without a hat in (4), which would make it a constant; read as D^.
        """
        del target
        return masked_mean(_outside(prediction, info), valid)

    def _loss_with_regularizer(
        self, prediction: Depths, target: Depths, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return the mean of both maps' sum."""
        return masked_mean(
            self.error_map(prediction, target, info) + _outside(prediction, info), valid
        )

    def prior(self, targets: Tensor, valid: Valid, info: DataInfo) -> Tensor:
        """Return the median over images of the valid depths; the middle of the range elsewhere."""
        depths = torch.where(valid, targets.squeeze(1), torch.full((), float("nan")))
        medians = depths.nanmedian(dim=0).values
        middle = torch.full_like(medians, sum(info.depth_range_m) / 2)
        return torch.where(medians.isnan(), middle, medians)[None, None]

    def sums(
        self, prediction: Depths, target: Depths, valid: Valid, info: DataInfo
    ) -> list[Tensor]:
        """Return one vector; a prediction of 0 or less is within no ratio."""
        predicted, true = prediction.squeeze(1), target.squeeze(1)
        difference = torch.where(valid, predicted - true, 0.0)
        error, square = difference.abs(), difference.square()
        # max(p/t, t/p) < 1.25 without dividing by a prediction that may be 0 or negative.
        close = valid & (predicted < 1.25 * true) & (true < 1.25 * predicted)
        per_image = valid.sum(dim=(1, 2))
        square_per_image = square.sum(dim=2).double().sum(dim=1)
        # The root of the mean over each image; one without a valid pixel adds 0.
        rmse = (square_per_image / per_image.clamp(min=1)).sqrt()
        sums = [
            per_image.sum().double(),
            close.sum().double(),
            square_per_image.sum(),
            total(error),
            masked_total(error / true, valid),
            masked_total(self.error_map(prediction, target, info), valid),
            rmse.sum(),
            (per_image > 0).sum().double(),
        ]
        return [torch.stack(sums)]

    def ratios(self, *totals: Tensor) -> dict[str, float | None] | None:
        """Return the errors over all valid pixels, and rmse image by image."""
        count, close, square, absolute, relative, logs, rmse, num_images = totals[0].tolist()
        if not count:
            return None
        return {
            "delta1": close / count,
            "rmse": (square / count) ** 0.5,
            "abs": absolute / count,
            "rel": relative / count,
            "abs_log": logs / count,
            "rmse_per_image": rmse / num_images,
        }


def _outside(prediction: Depths, info: DataInfo) -> ErrorMap:
    """Return how far each predicted depth lies outside the range, metres."""
    shortest, longest = info.depth_range_m
    return ((shortest - prediction).relu() + (prediction - longest).relu()).squeeze(1)
