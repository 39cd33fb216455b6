"""Maps of plain numbers (curvature, reshading, edges, keypoints): equations (9) and (10)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mtl.data.sample import DataInfo
from mtl.tasks.base import ErrorMap, Task, Valid, masked_total

Maps = Float[Tensor, "batch channels height width"]


class Map(Task):
    """The absolute difference, and a regulariser that brings the spread to the target's.

    Under a horizontal flip pixels change place and no sign: principal curvatures are signed by the
    side that a surface bulges to, the others are at least 0. (SURF aligns its boxes to one side, so
    2D keypoints found in a mirrored image lie a pixel or two beside the mirrored ones.)
    """

    def error_map(self, prediction: Maps, target: Maps, info: DataInfo) -> ErrorMap:
        """Return |x^ - x| per pixel, averaged over the channels, equation (9).

        The supplement leaves the norm open; read as L1, like the depth loss.
        """
        return (prediction - target).abs().mean(dim=1)

    def regularizer(
        self, prediction: Maps, target: Maps, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return |sigma(x^) - sigma(x)|, equation (10), averaged over images with valid pixels.

        sigma is the population standard deviation of a map over its valid pixels and all channels.
        Images without a valid pixel do not count; 0 with zero gradients where there is no other.
        """
        differences = (_spread(prediction, valid) - _spread(target, valid)).abs()
        return differences.sum() / valid.flatten(1).any(dim=1).sum().clamp(min=1)

    def terms(
        self,
        prediction: Tensor,
        target: Tensor,
        valid: Tensor,
        info: DataInfo,
        regularizers: bool = True,
    ) -> list[tuple[Float[Tensor, ""], Tensor]]:
        """Return the mean over pixels, and the regulariser, which is one over images."""
        terms = super().terms(prediction, target, valid, info, regularizers=False)
        if regularizers:
            regularizer = self.regularizer(prediction, target, valid, info)
            terms.append((regularizer, valid.flatten(1).any(dim=1).sum()))
        return terms

    def prior(self, targets: Tensor, valid: Valid, info: DataInfo) -> Tensor:
        """Return the median over images of the valid values of each channel: the least L1 error.

        Where no image is valid, the median over all valid pixels of the channel; 0 without any.
        """
        values = torch.where(valid[:, None], targets, torch.full((), float("nan")))
        medians = values.nanmedian(dim=0).values
        if medians.isnan().any():
            overall = values.movedim(1, 0).flatten(1).nanmedian(dim=1).values.nan_to_num(nan=0.0)
            medians = torch.where(medians.isnan(), overall[:, None, None], medians)
        return medians[None]

    def sums(self, prediction: Maps, target: Maps, valid: Valid, info: DataInfo) -> list[Tensor]:
        """Return the sum of the errors and the number of valid pixels."""
        error = masked_total(self.error_map(prediction, target, info), valid)
        return [torch.stack([error, valid.sum().double()])]

    def ratios(self, *totals: Tensor) -> dict[str, float | None] | None:
        """Return the mean error over all valid pixels."""
        error, count = totals[0].tolist()
        return {"l1": error / count} if count else None


def _spread(values: Maps, valid: Valid) -> Float[Tensor, " batch"]:
    """Return the standard deviation of each image, 0 where it has no valid pixel."""
    mask = valid[:, None]
    nothing = torch.zeros_like(values)
    count = (valid.sum(dim=(1, 2)) * values.shape[1]).clamp(min=1)
    mean = torch.where(mask, values, nothing).sum(dim=(1, 2, 3)) / count
    centred = torch.where(mask, values - mean[:, None, None, None], nothing)
    # vector_norm has a zero, not a NaN, as gradient at the zero vector: a constant map.
    return torch.linalg.vector_norm(centred.flatten(1), dim=1) / count.sqrt()
