"""Metrics pooled over a whole split: batches are added, the ratio is taken once at the end.

Each accumulator has `update(prediction, target, valid)` and `compute() -> {metric: value}`, where
a value is None if no pixel was valid. Sums are float64 on the device of the first batch.
Definitions, units and directions: `mtl.records.METRICS`. Each task has its loss without
regularisers among its metrics, by which the supplement evaluates Taskonomy (section 2).
"""

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mtl.tasks import losses

ANGLE_BINS_PER_DEGREE = 100
"""Resolution of the median angle: half a bin, 0.005 degrees."""


class MetricAccumulator(Protocol):
    """What evaluation needs of the metrics of a task."""

    def update(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a batch."""

    def compute(self) -> dict[str, float | None]:
        """Return the metrics of all that was added."""


class DepthMetrics:
    """Ratios and errors of depths over all valid pixels, and rmse image by image.

    Args:
        depth_range_m: of the data set; it sets the floor under the logarithm, as in the loss.
    """

    NAMES = ("delta1", "rmse", "abs", "rel", "abs_log", "rmse_per_image")

    def __init__(self, depth_range_m: tuple[float, float]) -> None:
        self.depth_range_m = depth_range_m
        self._sums: Tensor | None = None

    def update(
        self,
        prediction: Float[Tensor, "batch 1 height width"],
        target: Float[Tensor, "batch 1 height width"],
        valid: Bool[Tensor, "batch height width"],
    ) -> None:
        """Add a batch of depths in metres; a prediction of 0 or less is within no ratio."""
        predicted = prediction.squeeze(1)[valid].double()
        true = target.squeeze(1)[valid].double()
        error = (predicted - true).abs()
        # max(p/t, t/p) < 1.25 without dividing by a prediction that may be 0 or negative.
        close = (predicted < 1.25 * true) & (true < 1.25 * predicted)
        logs = losses.log_depth_error(prediction, target, self.depth_range_m)
        square = (prediction.double() - target.double()).squeeze(1).square()
        square = torch.where(valid, square, torch.zeros_like(square))
        per_image = valid.sum(dim=(1, 2))
        # The root of the mean over each image; one without a valid pixel adds 0.
        rmse = (square.sum(dim=(1, 2)) / per_image.clamp(min=1)).sqrt()
        sums = torch.stack(
            [
                torch.full_like(error.sum(), error.numel()),
                close.double().sum(),
                error.square().sum(),
                error.sum(),
                (error / true).sum(),
                logs[valid].double().sum(),
                rmse.sum(),
                (per_image > 0).double().sum(),
            ]
        )
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> dict[str, float | None]:
        """Return delta1 (share), rmse (m), abs (m), rel (ratio), abs_log, rmse_per_image (m)."""
        if self._sums is None or self._sums[0] == 0:
            return dict.fromkeys(self.NAMES)
        count, close, square, absolute, relative, logs, rmse, num_images = self._sums.tolist()
        return {
            "delta1": close / count,
            "rmse": (square / count) ** 0.5,
            "abs": absolute / count,
            "rel": relative / count,
            "abs_log": logs / count,
            "rmse_per_image": rmse / num_images,
        }


class NormalMetrics:
    """Angles between renormalised predictions and targets, over all valid pixels.

    inner_error alone takes the predictions as they are, like the loss.
    """

    NAMES = (
        "mean_angle",
        "median_angle",
        "within_11_25",
        "within_22_5",
        "within_30",
        "inner_error",
    )

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._within: Tensor | None = None
        self._histogram: Tensor | None = None

    def update(
        self,
        prediction: Float[Tensor, "batch 3 height width"],
        target: Float[Tensor, "batch 3 height width"],
        valid: Bool[Tensor, "batch height width"],
    ) -> None:
        """Add a batch of normals; a zero prediction counts as 90 degrees off."""
        unit = functional.normalize(prediction.double(), dim=1, eps=1e-12)
        cosine = (unit * target.double()).sum(dim=1)[valid].clamp(-1, 1)
        angle_deg = torch.rad2deg(torch.acos(cosine))
        inner = losses.normal_error(prediction, target)[valid]
        sums = torch.stack([angle_deg.sum(), inner.double().sum()])
        within = torch.stack([(angle_deg <= bound_deg).sum() for bound_deg in (11.25, 22.5, 30.0)])
        # A histogram keeps the median of a split of any size in constant memory.
        # A NaN, of a network that has diverged, stays in the mean, by which the run is ended.
        bins = (angle_deg.nan_to_num(0) * ANGLE_BINS_PER_DEGREE).long()
        histogram = torch.bincount(bins, minlength=180 * ANGLE_BINS_PER_DEGREE + 1)
        if self._sums is None or self._within is None or self._histogram is None:
            self._sums, self._within, self._histogram = sums, within, histogram
        else:
            self._sums = self._sums + sums
            self._within = self._within + within
            self._histogram = self._histogram + histogram

    def compute(self) -> dict[str, float | None]:
        """Return mean and median angle (degrees), the shares within three bounds, inner_error."""
        if self._sums is None or self._within is None or self._histogram is None:
            return dict.fromkeys(self.NAMES)
        count = int(self._histogram.sum())
        if count == 0:
            return dict.fromkeys(self.NAMES)
        cumulative = self._histogram.cumsum(0)
        middle = int(torch.searchsorted(cumulative, (count + 1) // 2))
        median_deg = (middle + 0.5) / ANGLE_BINS_PER_DEGREE
        shares = (self._within.double() / count).tolist()
        angle_sum, inner_sum = self._sums.tolist()
        values = (angle_sum / count, median_deg, *shares, inner_sum / count)
        return dict(zip(self.NAMES, values, strict=True))


class SegmentationMetrics:
    """miou and pixel accuracy from one confusion matrix over the split, and miou image by image.

    Args:
        num_classes: classes of the data set; one that neither occurs nor is predicted, in the
            split or in the image, is left out of the mean.
    """

    NAMES = ("miou", "pixel_accuracy", "cross_entropy", "miou_per_image")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._confusion: Tensor | None = None
        self._sums: Tensor | None = None

    def update(
        self,
        prediction: Float[Tensor, "batch classes height width"],
        target: Int[Tensor, "batch height width"],
        valid: Bool[Tensor, "batch height width"],
    ) -> None:
        """Add a batch of class scores; the highest wins."""
        batch, classes = len(valid), self.num_classes
        known = torch.where(valid, target, torch.zeros_like(target)).long()
        image = torch.arange(batch, device=valid.device)[:, None, None]
        cell = (image * classes + known) * classes + prediction.argmax(dim=1)
        cells = torch.bincount(cell[valid], minlength=batch * classes**2)
        per_image = cells.reshape(batch, classes, classes)
        has_pixels = valid.flatten(1).any(dim=1)
        entropy = losses.cross_entropy_error(prediction, known)[valid]
        sums = torch.stack(
            [
                entropy.double().sum(),
                _mean_ious(per_image.double()).sum(),
                has_pixels.double().sum(),
            ]
        )
        confusion = per_image.sum(dim=0)
        self._confusion = confusion if self._confusion is None else self._confusion + confusion
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> dict[str, float | None]:
        """Return miou and pixel_accuracy (shares), cross_entropy (nats), miou_per_image."""
        if self._confusion is None or self._sums is None or self._confusion.sum() == 0:
            return dict.fromkeys(self.NAMES)
        confusion = self._confusion.double()
        hits = confusion.diagonal()
        unions = confusion.sum(0) + confusion.sum(1) - hits
        occurring = unions > 0
        entropy, iou, num_images = self._sums.tolist()
        return {
            "miou": float((hits[occurring] / unions[occurring]).mean()),
            "pixel_accuracy": float(hits.sum() / confusion.sum()),
            "cross_entropy": entropy / float(confusion.sum()),
            "miou_per_image": iou / num_images,
        }


def _mean_ious(
    confusion: Float[Tensor, "batch classes classes"],
) -> Float[Tensor, " batch"]:
    """Return each image's mean IoU over the classes that occur in it, 0 where none does."""
    hits = confusion.diagonal(dim1=1, dim2=2)
    unions = confusion.sum(dim=1) + confusion.sum(dim=2) - hits
    return (hits / unions.clamp(min=1)).sum(dim=1) / (unions > 0).sum(dim=1).clamp(min=1)


class MapMetrics:
    """l1 over all valid pixels: the mean over channels of |prediction - target|."""

    NAMES = ("l1",)

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def update(
        self,
        prediction: Float[Tensor, "batch channels height width"],
        target: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"],
    ) -> None:
        """Add a batch of maps of any number of channels."""
        error = losses.absolute_error(prediction, target)[valid].double().sum()
        sums = torch.stack([error, valid.sum().double()])
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> dict[str, float | None]:
        """Return l1, in the units of the map."""
        if self._sums is None or self._sums[1] == 0:
            return dict.fromkeys(self.NAMES)
        error, count = self._sums.tolist()
        return {"l1": error / count}
