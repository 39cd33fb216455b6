"""What a run reports: metrics with unit and direction, epoch records and results; no torch.

Metrics are nested as `{split: {task: {metric: number or None}}}`; None means that the split held
nothing to measure it on. No NaN is ever written.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from mtl.errors import UsageError
from mtl.spec.strict import checked_name

RESULT_SCHEMA = 1
"""Version of `result.json` and of the lines of `epochs.jsonl`."""
PAUSED_AFTER = "paused_after"
"""Entry of the manifest of a run that was left on purpose: the epochs it has finished."""


MAX_VALUE = 1e30
"""Products of nine metrics up to this size are still floats."""

TaskMetrics = dict[str, dict[str, float | None]]
"""task -> metric -> value."""
SplitMetrics = dict[str, TaskMetrics]
"""split -> task -> metric -> value."""


@dataclass(frozen=True)
class Metric:
    """One number that says how well a task is solved."""

    name: str
    unit: str
    direction: Literal["min", "max"]
    """`max` where higher is better."""
    decimals: int
    """Decimals shown, after `display_factor`."""
    meaning: str
    display_factor: float = 1.0
    display_unit: str | None = None
    """Unit after `display_factor`; None means `unit`."""
    low: float = -math.inf
    high: float = math.inf
    """Values outside are mistakes, such as -1 for a missing one."""

    @property
    def range_text(self) -> str:
        """Return the range as it follows `a value`."""
        if self.high == math.inf:
            return f"of {self.low:g} or more"
        return f"between {self.low:g} and {self.high:g}"

    def problem(self, value: float) -> str:
        """Return why a value cannot be used, as a noun; empty if it can."""
        if math.isnan(value):
            return "no value"
        if math.isinf(value):
            return "an infinite value"
        if abs(value) > MAX_VALUE:
            return "a value too large to compute with"
        if not self.low <= value <= self.high:
            return f"{value:g} where only a value {self.range_text} is possible"
        return ""

    def shown(self, value: float | None) -> str:
        """Return `value` as a person reads it, with its unit."""
        if value is None:
            return "none"
        unit = self.unit if self.display_unit is None else self.display_unit
        return f"{value * self.display_factor:.{self.decimals}f}{'' if unit == '%' else ' '}{unit}"


def _share(name: str, meaning: str) -> Metric:
    return Metric(name, "share", "max", 1, meaning, 100.0, "%", low=0.0, high=1.0)


def _error(name: str, unit: str, decimals: int, meaning: str, high: float = math.inf) -> Metric:
    return Metric(name, unit, "min", decimals, meaning, low=0.0, high=high)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _share("delta1", "share of pixels with max(prediction/target, target/prediction) < 1.25"),
        _error("rmse", "m", 3, "root mean square depth error over all pixels"),
        _error("abs", "m", 3, "mean absolute depth error over all pixels"),
        _error("rel", "ratio", 3, "mean of |prediction - target| / target"),
        _error("mean_angle", "degrees", 1, "mean angle to the target normal", 180.0),
        _error("median_angle", "degrees", 1, "median angle to the target normal", 180.0),
        _share("within_11_25", "share of normals within 11.25 degrees"),
        _share("within_22_5", "share of normals within 22.5 degrees"),
        _share("within_30", "share of normals within 30 degrees"),
        _share("miou", "mean intersection over union from one confusion matrix over the split"),
        _share("pixel_accuracy", "share of pixels with the right class"),
        _error(
            "abs_log",
            "natural log",
            3,
            "mean |log prediction - log target|, the depth loss without regularisers",
        ),
        _error(
            "rmse_per_image", "m", 3, "root mean square depth error of an image, mean of images"
        ),
        Metric(
            "inner_error",
            "1 - product",
            "min",
            3,
            "mean of 1 - inner product with the target normal, the prediction not renormalised: "
            "the normal loss without regulariser; below 0 where predictions are too long",
        ),
        _error("cross_entropy", "nats", 3, "the segmentation loss without regulariser"),
        _share(
            "miou_per_image",
            "mean intersection over union of an image over the classes in its target or "
            "prediction, mean of images: the older definition",
        ),
        _error("l1", "value", 5, "mean |prediction - target|, the loss without regulariser"),
    )
}

METRIC_ALIASES: dict[str, str] = {"acc": "pixel_accuracy", "delta30": "within_30"}
"""Names that papers print -> ours."""

TASK_METRICS: dict[str, tuple[str, ...]] = {
    "depth": ("delta1", "rmse", "abs", "rel", "abs_log", "rmse_per_image"),
    "normal": (
        "mean_angle",
        "median_angle",
        "within_11_25",
        "within_22_5",
        "within_30",
        "inner_error",
    ),
    "segmentation": ("miou", "pixel_accuracy", "cross_entropy", "miou_per_image"),
    "curvature": ("l1",),
    "reshading": ("l1",),
    "edge2d": ("l1",),
    "edge3d": ("l1",),
    "keypoint2d": ("l1",),
    "keypoint3d": ("l1",),
}
"""Metrics of each task, in the order of tables."""

PLOTTED_METRIC: dict[str, str] = {
    "depth": "delta1",
    "normal": "within_30",
    "segmentation": "miou",
    "curvature": "l1",
    "reshading": "l1",
    "edge2d": "l1",
    "edge3d": "l1",
    "keypoint2d": "l1",
    "keypoint3d": "l1",
}
"""Task -> metric on its axis by default: those of Figure S-6 where it has one."""

LOSS_METRIC: dict[str, str] = {
    **dict.fromkeys(TASK_METRICS, "l1"),
    "depth": "abs_log",
    "normal": "inner_error",
    "segmentation": "cross_entropy",
}
"""Task -> its loss without regularisers, by which the supplement evaluates Taskonomy."""

PAPER_FACTORS: dict[str, int] = {"edge2d": 10, "edge3d": 100, "keypoint2d": 100}
"""Task -> factor on its printed l1 in the supplement (section 2); stored values have none."""


def task_metric(task: str, name: str) -> Metric:
    """Return the metric `name` (or its alias) of `task`.

    Raises:
        ValueError: for an unknown task, or a metric that the task does not have.
    """
    checked_name(task, TASK_METRICS, "task")
    full = METRIC_ALIASES.get(name, name)
    checked_name(full, TASK_METRICS[task], f"metric of task {task!r}")
    return METRICS[full]


@dataclass(frozen=True)
class EpochRecord:
    """One line of `epochs.jsonl`: what happened in one epoch; lists follow the task order."""

    epoch: int
    """1 for the first."""
    losses: list[float | None]
    """Mean training loss of each task over the epoch, regularisers included; None if absent."""
    weights: list[float | None] | None
    """Mean over the epoch's steps of the effective loss weights, None for a task absent all
    epoch; None where the method has no weights."""
    loss_scales: list[float | None] | None
    """Mean over the epoch's steps of weight x loss, with None as for the weights."""
    difficulties: list[float] | None
    """LSB's difficulties at the start of the epoch; None elsewhere and in its first periods."""
    learning_rate: float
    """At the last step of the epoch."""
    metrics: SplitMetrics
    """Validation metrics after the epoch."""
    seconds: float
    """Wall time of the epoch, evaluation included."""
    cross_stitch: list[list[float]] | None = None
    """Matrix that mixes the encoders' outputs after the epoch, row i for decoder i (equation (1)
    of the supplement); None for architectures without one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Result:
    """`result.json`: its presence means that the run is done. It holds no times."""

    run_id: str
    status: Literal["done"]
    epochs: int
    selection: Literal["last", "validation"]
    """Rule by which the selected epoch was chosen; never by the test split."""
    selected_epoch: int
    selected_metrics: SplitMetrics
    final_metrics: SplitMetrics
    schema: int = RESULT_SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Any) -> "Result":
        """Build a result from what `result.json` holds.

        Raises:
            ValueError: for another schema or missing fields.
        """
        schema = values.get("schema") if isinstance(values, dict) else None
        if schema != RESULT_SCHEMA:
            raise UsageError(
                f"Expected a result of schema {RESULT_SCHEMA}, got {schema!r}. "
                "Read it with the release that wrote it."
            )
        missing = sorted(set(cls.__dataclass_fields__) - set(values))
        if missing:
            raise UsageError(f"Expected a complete result, got one without {', '.join(missing)}.")
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


CHECKPOINT_SCHEMA = 2
WEIGHTS_SCHEMA = 1
LATEST = "latest.pt"
WEIGHTS = "weights.pt"
