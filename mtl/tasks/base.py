"""What every task has in common: a loss over valid pixels, metrics pooled over a split.

A task loss is the mean of its error map over the valid pixels of the batch plus its regularisers
(the supplement, section 2). Predictions, targets and masks must have equal shapes; nothing
broadcasts. Where no pixel is valid the loss is 0 and has zero gradients (training passes such a
task on as absent).

Shapes of maps: predictions and continuous targets (batch, channels, height, width); class targets
(batch, height, width); `valid` and error maps (batch, height, width). A task whose target belongs
to the image as a whole is without height and width throughout.
"""

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mtl.data.sample import DataInfo
from mtl.errors import RunFailedError, UsageError
from mtl.spec.tasks import DeclaredTask, declared_task

ErrorMap = Float[Tensor, "batch *place"]
Valid = Bool[Tensor, "batch *place"]


class Task(ABC):
    """One problem; `info` describes the data set.

    Args:
        name: in `mtl.spec.tasks.DECLARED_TASKS`, or `module:Name` of a class with `declared`.
    """

    declared: DeclaredTask
    is_map: ClassVar[bool] = True
    """False where the target belongs to the image as a whole: a vector, or a class."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Tasks from whose stored targets `derive` makes this one's; none: the data hold them."""

    mirror_signs: ClassVar[tuple[float, ...] | None] = None
    """Factor of each target channel under a horizontal flip; None means that none changes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.declared = declared_task(name)

    def num_channels(self, info: DataInfo) -> int:
        """Return the channels of the prediction (c_0 of the supplement's Figure S-1)."""
        number = self.declared.num_channels
        return len(info.classes) if number is None else number

    @abstractmethod
    def error_map(self, prediction: Tensor, target: Tensor, info: DataInfo) -> ErrorMap:
        """Return the loss of each pixel, before the mean."""

    def derive(
        self, targets: Mapping[str, Tensor], valid: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return targets and where they are valid, from those of `sources`.

        Args:
            targets: task -> (batch, channels, height, width) float32, or (batch, height, width)
                int64 for classes.
            valid: task -> bool (batch, height, width).
        """
        raise UsageError(
            f"Expected a method derive() of task {self.name!r}, whose targets come from those of "
            f"{', '.join(self.sources)}, got none. Define it on the class."
        )

    def regularizer(
        self, prediction: Tensor, target: Tensor, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return what is added to the mean of the error map; by default nothing."""
        return prediction.new_zeros(())

    @abstractmethod
    def sums(
        self, prediction: Tensor, target: Tensor, valid: Valid, info: DataInfo
    ) -> list[Tensor]:
        """Return what the metrics add up over batches; sums of errors in float64."""

    @abstractmethod
    def ratios(self, *totals: Tensor) -> dict[str, float | None] | None:
        """Return metric -> value from the totals of `sums`, on the CPU; None if none was valid."""

    def metrics(self, info: DataInfo) -> "PooledMetrics":
        """Return the task's metrics, nothing added yet."""
        return PooledMetrics(self, info)

    def prior(
        self, targets: Tensor, valid: Valid, info: DataInfo
    ) -> Float[Tensor, "1 channels *place"]:
        """Return the best prediction at each pixel that does not look at the image.

        By default the mean of the valid targets, of classes how often each is valid.

        Args:
            targets: of a training split.
            valid: likewise.
            info: the data set.
        """
        if targets.ndim == valid.ndim:  # classes
            classes = range(self.num_channels(info))
            return torch.stack([((targets == c) & valid).sum(0) for c in classes])[None].float()
        mask = valid[:, None]
        total = torch.where(mask, targets, torch.zeros_like(targets)).sum(0, keepdim=True)
        return total / mask.sum(0, keepdim=True).clamp(min=1)

    def readable(self, prediction: Float[Tensor, "channels height width"]) -> Tensor:
        """Return a prediction as its users read it."""
        return prediction

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
            prediction: (batch, channels, height, width), or (batch, channels) of an image.
            target: of the prediction's shape, or without channels for classes.
            valid: without channels, True = counted.
            info: the data set.
            regularizers: False leaves the mean of the error map alone, by which the supplement
                evaluates Taskonomy.

        Raises:
            ValueError: if the shapes do not fit; nothing broadcasts.
        """
        check_same_shape(prediction, target, valid)
        target = _where_valid(target, valid)
        if regularizers:
            return self._loss_with_regularizer(prediction, target, valid, info)
        return masked_mean(self._error_map(prediction, target, valid, info), valid)

    def terms(
        self,
        prediction: Tensor,
        target: Tensor,
        valid: Tensor,
        info: DataInfo,
        regularizers: bool = True,
    ) -> list[tuple[Float[Tensor, ""], Tensor]]:
        """Return the terms of `loss`, each with the number of what it is a mean over.

        Several processes that share a batch weigh their terms by these numbers, pixels unless a
        task says otherwise. The first is the number of valid pixels. Arguments and errors are those
        of `loss`.
        """
        return [(self.loss(prediction, target, valid, info, regularizers), valid.sum())]

    def _loss_with_regularizer(
        self, prediction: Tensor, target: Tensor, valid: Tensor, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return the mean of the error map plus the regulariser; for a faster way to the same."""
        mean = masked_mean(self._error_map(prediction, target, valid, info), valid)
        return mean + self.regularizer(prediction, target, valid, info)

    def errors(
        self, prediction: Tensor, target: Tensor, valid: Tensor, info: DataInfo
    ) -> Float[Tensor, "batch ..."]:
        """Return the loss of each pixel, regularisers left out; 0 where it is not valid.

        0 adds nothing to a sum of error maps over tasks; the mask tells it from a perfect pixel.
        Arguments and errors are those of `loss`.
        """
        check_same_shape(prediction, target, valid)
        errors = self._error_map(prediction, _where_valid(target, valid), valid, info)
        return torch.where(valid, errors, torch.zeros_like(errors))

    def _error_map(
        self, prediction: Tensor, target: Tensor, valid: Tensor, info: DataInfo
    ) -> Tensor:
        errors = self.error_map(prediction, target, info)
        if errors.shape != valid.shape:  # it would broadcast
            raise UsageError(
                f"Expected error_map to return one number for each of {tuple(valid.shape)} pixels "
                f"or images, got {tuple(errors.shape)}. Take the mean over the channels."
            )
        return errors


class PooledMetrics:
    """A task's metrics over a whole split: sums are added up, the ratios are taken at the end.

    Args:
        task: whose metrics; units and directions are in `mtl.spec.tasks`.
        info: the data set.
    """

    def __init__(self, task: "Task", info: DataInfo) -> None:
        self._task, self._info = task, info
        self._totals: list[Tensor] = []

    def update(self, prediction: Tensor, target: Tensor, valid: Valid) -> None:
        """Add a batch."""
        sums = self._task.sums(prediction, target, valid, self._info)
        if not (isinstance(sums, list | tuple) and all(isinstance(part, Tensor) for part in sums)):
            raise RunFailedError(
                f"Expected a list of tensors from sums of task {self._task.name}, got "
                f"{sums!r:.100}."
            )
        self.add(sums)

    @property
    def totals(self) -> list[Tensor]:
        """What was added so far, as `sums` returns it; nothing yet if it is empty."""
        return self._totals

    def add(self, totals: Sequence[Tensor]) -> None:
        """Add the sums of a batch, or the totals of other images."""
        earlier = self._totals or [torch.zeros_like(part) for part in totals]
        self._totals = [before + part for before, part in zip(earlier, totals, strict=True)]

    def compute(self) -> dict[str, float | None]:
        """Return metric -> value over all that was added, None if no pixel was valid.

        Raises:
            RunFailedError: for other metrics than the declared ones, or no finite number.
        """
        values = self.values()
        for metric, value in values.items():
            if value is not None and not math.isfinite(value):
                raise RunFailedError(
                    f"Expected a finite {metric} of task {self._task.name!r}, got {value}. Lower "
                    "the learning rate or look at its targets; what cannot be measured is None."
                )
        return values

    def values(self) -> dict[str, float | None]:
        """Return the same, also what is not finite, as may be over a few images."""
        name, declared = self._task.name, self._task.declared.metric_names
        totals = [part.cpu() for part in self._totals]
        found: Any = self._task.ratios(*totals) if totals else None
        if found is None:
            return dict.fromkeys(declared)
        if not isinstance(found, Mapping) or sorted(map(str, found)) != sorted(declared):
            got = ", ".join(map(str, found)) if isinstance(found, Mapping) else repr(found)
            raise RunFailedError(
                f"Expected {', '.join(declared)} from ratios of task {name}, the metrics that it "
                f"declares, got {got or 'none':.100}."
            )
        for metric, value in found.items():
            is_tensor = isinstance(value, Tensor) and value.numel() == 1
            if not (value is None or is_tensor or isinstance(value, numbers.Real)):
                raise RunFailedError(
                    f"Expected a number or None as {metric} from ratios of task {name}, got "
                    f"{value!r:.100}."
                )
        return {metric: None if value is None else float(value) for metric, value in found.items()}


def masked_mean(values: ErrorMap, valid: Valid) -> Float[Tensor, ""]:
    """Return the mean of `values` over valid pixels, 0 where there are none.

    What stands in invalid pixels, NaN included, reaches neither the value nor the gradient.
    """
    kept = torch.where(valid, values, torch.zeros_like(values))
    return kept.sum() / valid.sum().clamp(min=1)


def total(values: ErrorMap) -> Float[Tensor, ""]:
    """Return the sum of `values` in float64, of their rows' sums in their own precision."""
    return values.sum(dim=-1).double().sum()


def masked_total(values: ErrorMap, valid: Valid) -> Float[Tensor, ""]:
    """Return the sum of `values` over valid pixels in float64.

    Without picking them out, of which a GPU would first have to tell the host how many there are.
    """
    return total(torch.where(valid, values, torch.zeros_like(values)))


def counts(
    cells: Int[Tensor, "batch *place"], valid: Valid, num_cells: int
) -> Int[Tensor, " cells"]:
    """Return how many valid pixels are in each cell, 0 to `num_cells` - 1; cf. `torch.bincount`."""
    zeros = torch.zeros(num_cells, dtype=torch.int64, device=cells.device)
    return zeros.scatter_add_(0, cells.flatten(), valid.flatten().long())


def check_same_shape(prediction: Tensor, target: Tensor, valid: Tensor) -> None:
    """Raise a `ValueError` unless prediction, target and mask are of the same pixels."""
    place = (prediction.shape[0], *prediction.shape[2:])
    has_channels = target.ndim == prediction.ndim
    of_target = (target.shape[0], *target.shape[1 + has_channels :])
    if prediction.ndim not in (2, 4) or of_target != place or tuple(valid.shape) != place:
        raise UsageError(
            "Expected prediction (batch, channels, height, width), target and valid of the same "
            f"pixels, got {tuple(prediction.shape)}, {tuple(target.shape)}, {tuple(valid.shape)}."
        )
    if has_channels and target.shape != prediction.shape:
        raise UsageError(
            f"Expected a target of the prediction's shape {tuple(prediction.shape)}, "
            f"got {tuple(target.shape)}."
        )


def _where_valid(target: Tensor, valid: Tensor) -> Tensor:
    """Return the target with 0 at invalid pixels.

    What stands there, NaN included, must not reach a gradient (0 x NaN is NaN).
    """
    mask = valid if target.ndim == valid.ndim else valid[:, None]
    return torch.where(mask, target, torch.zeros_like(target))
