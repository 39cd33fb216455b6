"""Surface normals: equations (5) and (6) of the supplement."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mtl.data.sample import DataInfo
from mtl.tasks.base import ErrorMap, Task, Valid, counts, masked_mean, masked_total

ANGLE_BINS_PER_DEGREE = 100
"""Resolution of the median angle: half a bin, 0.005 degrees."""
BOUNDS_DEGREES = (11.25, 22.5, 30.0)
SHORTEST_NORMAL = 1e-6
"""A predicted normal shorter than this has no direction and stays as it is."""
SHORTEST_LENGTH = 1e-12
"""A predicted normal shorter than this counts as one of this length."""

Normals = Float[Tensor, "batch 3 height width"]


class Normal(Task):
    """One minus the inner product, and a regulariser that keeps the length at 1."""

    mirror_signs = (-1.0, 1.0, 1.0)

    def error_map(self, prediction: Normals, target: Normals, info: DataInfo) -> ErrorMap:
        """Return 1 - n . n^ per pixel, equation (5); the prediction is not renormalised."""
        return 1 - (prediction * target).sum(dim=1)

    def regularizer(
        self, prediction: Normals, target: Normals, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return the mean of | |n^| - 1 |, equation (6)."""
        del target, info
        return masked_mean(_wrong_length(prediction), valid)

    def _loss_with_regularizer(
        self, prediction: Normals, target: Normals, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return the mean of both maps' sum."""
        return masked_mean(
            self.error_map(prediction, target, info) + _wrong_length(prediction), valid
        )

    def prior(self, targets: Tensor, valid: Valid, info: DataInfo) -> Tensor:
        """Return the renormalised mean over images of the valid normals."""
        total = torch.where(valid[:, None], targets, torch.zeros(())).sum(dim=0, keepdim=True)
        return functional.normalize(total, dim=1)

    def readable(self, prediction: Float[Tensor, "3 height width"]) -> Tensor:
        """Return unit normals."""
        length = prediction.norm(dim=0, keepdim=True)
        return torch.where(length > SHORTEST_NORMAL, prediction / length, prediction)

    def sums(
        self, prediction: Normals, target: Normals, valid: Valid, info: DataInfo
    ) -> list[Tensor]:
        """Return sums, counts within the bounds, a histogram of angles.

        Angles are between renormalised predictions and targets, 90 degrees for a zero; inner_error
        takes the predictions as they are, like the loss.
        """
        unit = functional.normalize(prediction.double(), dim=1, eps=1e-12)
        cosine = (unit * target.double()).sum(dim=1).clamp(-1, 1)
        angle_deg = torch.rad2deg(torch.acos(torch.where(valid, cosine, 1.0)))
        inner = masked_total(self.error_map(prediction, target, info), valid)
        within = torch.stack(
            [(valid & (angle_deg <= bound_deg)).sum() for bound_deg in BOUNDS_DEGREES]
        )
        # A histogram keeps the median of a split of any size in constant memory.
        # A NaN, of a network that has diverged, stays in the mean, by which the run is ended.
        bins = (angle_deg.nan_to_num(0) * ANGLE_BINS_PER_DEGREE).long()
        histogram = counts(bins, valid, 180 * ANGLE_BINS_PER_DEGREE + 1)
        return [torch.stack([angle_deg.sum(), inner]), within, histogram]

    def ratios(self, *totals: Tensor) -> dict[str, float | None] | None:
        """Return mean, median and shares of the angles, and the mean inner error."""
        sums, within, histogram = totals
        count = int(histogram.sum())
        if count == 0:
            return None
        middle = int(torch.searchsorted(histogram.cumsum(0), (count + 1) // 2))
        shares = (within.double() / count).tolist()
        angle_sum, inner_sum = sums.tolist()
        return {
            "mean_angle": angle_sum / count,
            "median_angle": (middle + 0.5) / ANGLE_BINS_PER_DEGREE,
            "within_11_25": shares[0],
            "within_22_5": shares[1],
            "within_30": shares[2],
            "inner_error": inner_sum / count,
        }


def _wrong_length(prediction: Normals) -> ErrorMap:
    """Return | |n^| - 1 | per pixel, with a gradient of 0 and not of NaN at the zero vector."""
    length = prediction.square().sum(dim=1).clamp(min=SHORTEST_LENGTH**2).sqrt()
    return (length - 1).abs()
