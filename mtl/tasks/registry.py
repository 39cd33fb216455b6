"""What a task is: its output channels, its loss, its metrics, its per-pixel prior.

`TASKS[name]` is a `Task`; a new task is an entry here and in `mtl.spec.run.TASKS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mtl.data.sample import DataInfo
from mtl.tasks import losses
from mtl.tasks.metrics import (
    DepthMetrics,
    MapMetrics,
    MetricAccumulator,
    NormalMetrics,
    SegmentationMetrics,
)


@dataclass(frozen=True)
class Task:
    """One pixelwise problem. Shapes as in `mtl.tasks.losses`; `info` describes the data set."""

    name: str
    loss_kind: Literal["regression", "classification"]
    num_channels: Callable[[DataInfo], int]
    """Channels of the prediction (c_0 of the supplement's Figure S-1)."""
    error_map: Callable[[Tensor, Tensor, DataInfo], Tensor]
    """(prediction, target, info) -> (batch, height, width), the loss before the mean."""
    regularizer: Callable[[Tensor, Tensor, Tensor, DataInfo], Tensor]
    """(prediction, target, valid, info) -> scalar, added to the mean of the error map."""
    metrics: Callable[[DataInfo], MetricAccumulator]
    prior: Callable[[Tensor, Tensor, DataInfo], Tensor]
    """(targets, valid, info) of a training split -> (1, channels, height, width): the best
    prediction at each pixel that does not look at the image."""
    mirror_signs: tuple[float, ...] | None = None
    """Factor of each target channel under a horizontal flip; None means that none changes."""

    def loss(
        self,
        prediction: Tensor,
        target: Tensor,
        valid: Tensor,
        info: DataInfo,
        regularizers: bool = True,
    ) -> Float[Tensor, ""]:
        """Return the task loss over the valid pixels of a batch.

        Args:
            prediction: (batch, channels, height, width).
            target: (batch, channels, height, width), or (batch, height, width) for classes.
            valid: (batch, height, width), True = counted.
            info: the data set.
            regularizers: False leaves the mean of the error map alone, by which the supplement
                evaluates Taskonomy.

        Raises:
            ValueError: if the shapes do not fit; nothing broadcasts.
        """
        losses.check_same_shape(prediction, target, valid)
        target = _where_valid(target, valid)
        mean = losses.masked_mean(self.error_map(prediction, target, info), valid)
        if not regularizers:
            return mean
        return mean + self.regularizer(prediction, target, valid, info)

    def errors(
        self, prediction: Tensor, target: Tensor, valid: Tensor, info: DataInfo
    ) -> Float[Tensor, "batch height width"]:
        """Return the loss of each pixel, regularisers left out; 0 where it is not valid.

        0 adds nothing to a sum of error maps over tasks; the mask tells it from a perfect pixel.

        Args:
            prediction: as for `loss`.
            target: as for `loss`.
            valid: as for `loss`.
            info: the data set.

        Raises:
            ValueError: if the shapes do not fit; nothing broadcasts.
        """
        losses.check_same_shape(prediction, target, valid)
        errors = self.error_map(prediction, _where_valid(target, valid), info)
        return torch.where(valid, errors, torch.zeros_like(errors))


def _where_valid(target: Tensor, valid: Tensor) -> Tensor:
    """Return the target with 0 at invalid pixels.

    What stands there, NaN included, must not reach a gradient (0 x NaN is NaN).
    """
    mask = valid if target.ndim == valid.ndim else valid[:, None]
    return torch.where(mask, target, torch.zeros_like(target))


def _median_depth(targets: Tensor, valid: Tensor, info: DataInfo) -> Tensor:
    """Return the median over images of the valid depths; the middle of the range elsewhere."""
    depths = torch.where(valid, targets.squeeze(1), torch.full((), float("nan")))
    medians = depths.nanmedian(dim=0).values
    middle = torch.full_like(medians, sum(info.depth_range_m) / 2)
    return torch.where(medians.isnan(), middle, medians)[None, None]


def _median_map(targets: Tensor, valid: Tensor, info: DataInfo) -> Tensor:
    """Return the median over images of the valid values of each channel: the least L1 error.

    Where no image is valid, the median over all valid pixels of the channel; 0 without any.
    """
    del info
    values = torch.where(valid[:, None], targets, torch.full((), float("nan")))
    medians = values.nanmedian(dim=0).values
    if medians.isnan().any():
        overall = values.movedim(1, 0).flatten(1).nanmedian(dim=1).values.nan_to_num(nan=0.0)
        medians = torch.where(medians.isnan(), overall[:, None, None], medians)
    return medians[None]


def _mean_normal(targets: Tensor, valid: Tensor, info: DataInfo) -> Tensor:
    """Return the renormalised mean over images of the valid normals."""
    del info
    total = torch.where(valid[:, None], targets, torch.zeros(())).sum(dim=0, keepdim=True)
    return functional.normalize(total, dim=1)


def _class_counts(targets: Tensor, valid: Tensor, info: DataInfo) -> Tensor:
    """Return how many images have each class at each pixel: scores whose maximum is the mode."""
    counts = [((targets == c) & valid).sum(dim=0) for c in range(len(info.classes))]
    return torch.stack(counts)[None].float()


def _map_task(name: str, num_channels: int = 1) -> Task:
    """Return a task of equations (9) and (10): a map of plain numbers.

    Under a horizontal flip their pixels change place and no sign: principal curvatures are signed
    by the side that a surface bulges to, the others are at least 0. (SURF aligns its boxes to one
    side, so 2D keypoints found anew in a mirrored image lie a pixel or two beside the mirrored.)
    """
    return Task(
        name=name,
        loss_kind="regression",
        num_channels=lambda info: num_channels,
        error_map=lambda p, t, info: losses.absolute_error(p, t),
        regularizer=lambda p, t, valid, info: losses.spread_difference(p, t, valid),
        metrics=lambda info: MapMetrics(),
        prior=_median_map,
    )


TASKS: dict[str, Task] = {
    "depth": Task(
        name="depth",
        loss_kind="regression",
        num_channels=lambda info: 1,
        error_map=lambda p, t, info: losses.log_depth_error(p, t, info.depth_range_m),
        regularizer=lambda p, t, valid, info: losses.masked_mean(
            losses.depth_range_excess(p, info.depth_range_m), valid
        ),
        metrics=lambda info: DepthMetrics(info.depth_range_m),
        prior=_median_depth,
    ),
    "normal": Task(
        name="normal",
        loss_kind="regression",
        num_channels=lambda info: 3,
        error_map=lambda p, t, info: losses.normal_error(p, t),
        regularizer=lambda p, t, valid, info: losses.masked_mean(
            losses.normal_length_excess(p), valid
        ),
        metrics=lambda info: NormalMetrics(),
        prior=_mean_normal,
        mirror_signs=(-1.0, 1.0, 1.0),
    ),
    "segmentation": Task(
        name="segmentation",
        loss_kind="classification",
        num_channels=lambda info: len(info.classes),
        error_map=lambda p, t, info: losses.cross_entropy_error(p, t),
        regularizer=lambda p, t, valid, info: losses.masked_mean(losses.logit_excess(p), valid),
        metrics=lambda info: SegmentationMetrics(len(info.classes)),
        prior=_class_counts,
    ),
    "curvature": _map_task("curvature", num_channels=2),
    "reshading": _map_task("reshading"),
    "edge2d": _map_task("edge2d"),
    "edge3d": _map_task("edge3d"),
    "keypoint2d": _map_task("keypoint2d"),
    "keypoint3d": _map_task("keypoint3d"),
}


def per_pixel_prior(
    task: Task,
    train: tuple[Tensor, Tensor],
    other: tuple[Tensor, Tensor],
    info: DataInfo,
) -> dict[str, float | None]:
    """Return the metrics, on another split, of the best prediction that ignores the image.

    Args:
        task: the task.
        train: (targets, valid) of the training split.
        other: (targets, valid) of the split to measure on.
        info: the data set.
    """
    prediction = task.prior(*train, info)
    accumulator = task.metrics(info)
    targets, valid = other
    for target, mask in zip(targets.split(64), valid.split(64), strict=True):
        accumulator.update(prediction.expand(len(mask), -1, -1, -1), target, mask)
    return accumulator.compute()
