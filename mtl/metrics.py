"""Metrics pooled over a whole split: batches are added, the ratio is taken once at the end.

Each accumulator has `update(prediction, target, valid)` and `compute() -> {metric: value}`, where
a value is None if no pixel was valid. Sums are float64 on the device of the first batch.
Definitions, units and directions: `mtl.records.METRICS`.
"""

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

ANGLE_BINS_PER_DEGREE = 100
"""Resolution of the median angle: half a bin, 0.005 degrees."""


class MetricAccumulator(Protocol):
    """What evaluation needs of the metrics of a task."""

    def update(self, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a batch."""

    def compute(self) -> dict[str, float | None]:
        """Return the metrics of all that was added."""


class DepthMetrics:
    """delta1, rmse (m), abs (m) and rel over all valid pixels."""

    def __init__(self) -> None:
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
        sums = torch.stack(
            [
                torch.full_like(error.sum(), error.numel()),
                close.double().sum(),
                error.square().sum(),
                error.sum(),
                (error / true).sum(),
            ]
        )
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> dict[str, float | None]:
        """Return delta1 (share), rmse (m), abs (m), rel (ratio)."""
        if self._sums is None or self._sums[0] == 0:
            return dict.fromkeys(("delta1", "rmse", "abs", "rel"))
        count, close, square, absolute, relative = self._sums.tolist()
        return {
            "delta1": close / count,
            "rmse": (square / count) ** 0.5,
            "abs": absolute / count,
            "rel": relative / count,
        }


class NormalMetrics:
    """Angles between renormalised predictions and targets, over all valid pixels."""

    def __init__(self) -> None:
        self._angle_sum: Tensor | None = None
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
        within = torch.stack([(angle_deg <= bound_deg).sum() for bound_deg in (11.25, 22.5, 30.0)])
        # A histogram keeps the median of a split of any size in constant memory.
        bins = (angle_deg * ANGLE_BINS_PER_DEGREE).long()
        histogram = torch.bincount(bins, minlength=180 * ANGLE_BINS_PER_DEGREE + 1)
        if self._angle_sum is None or self._within is None or self._histogram is None:
            self._angle_sum, self._within, self._histogram = angle_deg.sum(), within, histogram
        else:
            self._angle_sum = self._angle_sum + angle_deg.sum()
            self._within = self._within + within
            self._histogram = self._histogram + histogram

    def compute(self) -> dict[str, float | None]:
        """Return mean and median angle (degrees) and the shares within three bounds."""
        names = ("mean_angle", "median_angle", "within_11_25", "within_22_5", "within_30")
        if self._angle_sum is None or self._within is None or self._histogram is None:
            return dict.fromkeys(names)
        count = int(self._histogram.sum())
        if count == 0:
            return dict.fromkeys(names)
        cumulative = self._histogram.cumsum(0)
        middle = int(torch.searchsorted(cumulative, (count + 1) // 2))
        median_deg = (middle + 0.5) / ANGLE_BINS_PER_DEGREE
        shares = (self._within.double() / count).tolist()
        values = (float(self._angle_sum) / count, median_deg, *shares)
        return dict(zip(names, values, strict=True))


class SegmentationMetrics:
    """miou and pixel accuracy from one confusion matrix over the split.

    Args:
        num_classes: classes of the data set; one that neither occurs nor is predicted is left
            out of the mean.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._confusion: Tensor | None = None

    def update(
        self,
        prediction: Float[Tensor, "batch classes height width"],
        target: Int[Tensor, "batch height width"],
        valid: Bool[Tensor, "batch height width"],
    ) -> None:
        """Add a batch of class scores; the highest wins."""
        predicted = prediction.argmax(dim=1)[valid]
        true = target[valid].long()
        cells = torch.bincount(
            true * self.num_classes + predicted, minlength=self.num_classes**2
        ).reshape(self.num_classes, self.num_classes)
        self._confusion = cells if self._confusion is None else self._confusion + cells

    def compute(self) -> dict[str, float | None]:
        """Return miou and pixel_accuracy, both shares."""
        if self._confusion is None or self._confusion.sum() == 0:
            return dict.fromkeys(("miou", "pixel_accuracy"))
        confusion = self._confusion.double()
        hits = confusion.diagonal()
        unions = confusion.sum(0) + confusion.sum(1) - hits
        occurring = unions > 0
        return {
            "miou": float((hits[occurring] / unions[occurring]).mean()),
            "pixel_accuracy": float(hits.sum() / confusion.sum()),
        }
