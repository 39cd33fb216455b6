"""The tasks and their metrics, declared once; no torch.

A new task is an entry here and a `Task` of `mtl.tasks`, which holds its loss, regulariser, sums of
the metrics and prior. All else (tables, axes, prices, checks) follows from the two. Every result
holds the declarations of its tasks, so that whoever reads it needs no list.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from mtl.errors import UsageError
from mtl.spec.code import OWN, is_reference, load_object
from mtl.spec.strict import build_dataclass, checked_name, plain, settle

LossKind = Literal["regression", "classification"]

MAX_VALUE = 1e30
"""Products of nine metrics up to this size are still floats."""
MAX_TEXT = 200
"""Characters of a unit or a meaning: a declaration may come from an untrusted store."""


@dataclass(frozen=True)
class Metric:
    """One number that says how well a task is solved."""

    name: str
    unit: str
    direction: Literal["min", "max"]
    """`max` where higher is better."""
    decimals: int = 3
    """Decimals shown, after `display_factor`."""
    meaning: str = ""
    display_factor: float = 1.0
    display_unit: str | None = None
    """Unit after `display_factor`; None means `unit`."""
    low: float | None = None
    high: float | None = None
    """Values outside are mistakes, such as -1 for a missing one; None is no bound, of a `share`
    0 and 1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be shown or computed with; a share lies between 0 and 1."""
        settle(self)
        if self.unit == "share":
            object.__setattr__(self, "low", 0.0 if self.low is None else self.low)
            object.__setattr__(self, "high", 1.0 if self.high is None else self.high)
        for text in (self.name, self.unit, self.meaning, self.display_unit or ""):
            if not (text.isprintable() and len(text) <= MAX_TEXT):
                raise UsageError(
                    f"Expected printable texts of at most {MAX_TEXT} characters for metric "
                    f"{self.name!r:.100}, got {text!r:.100}."
                )
        if not (self.name and self.unit):
            raise UsageError(f"Expected a name and a unit of a metric, got {self.name!r}.")
        if not (0 <= self.decimals <= 12 and 0 < self.display_factor <= MAX_VALUE):
            raise UsageError(
                f"Expected 0 to 12 decimals and a positive factor of metric {self.name!r}, got "
                f"{self.decimals} and {self.display_factor}."
            )

    @property
    def range_text(self) -> str:
        """Return the range as it follows `a value`."""
        if self.low is None:
            return "that is a number" if self.high is None else f"of {self.high:g} or less"
        if self.high is None:
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
        below = self.low is not None and value < self.low
        if below or (self.high is not None and value > self.high):
            return f"{value:g} where only a value {self.range_text} is possible"
        return ""

    def shown(self, value: float | None) -> str:
        """Return `value` as a person reads it, with its unit."""
        if value is None:
            return "none"
        unit = self.unit if self.display_unit is None else self.display_unit
        return f"{value * self.display_factor:.{self.decimals}f}{'' if unit == '%' else ' '}{unit}"


@dataclass(frozen=True, kw_only=True)
class DeclaredTask:
    """What everything but the training itself must know of a task."""

    loss_kind: LossKind = "regression"
    num_channels: int | None = 1
    """Of the prediction; None means one for each class of the data set."""
    metrics: tuple[Metric, ...]
    """In the order of tables; new ones come last."""
    plotted: str
    """Metric on the task's axis by default: that of Figure S-6 where it has one."""
    ranked: tuple[str, ...] = ()
    """Metrics that are ranked by default: those of Table S-3 where it has them; none named means
    the plotted one."""
    loss_metric: str | None = None
    """The loss without regularisers, by which the supplement evaluates Taskonomy; None: none is."""
    paper_factor: int = 1
    """On the printed `loss_metric` in the supplement (section 2); stored values have none."""

    def __post_init__(self) -> None:
        """Refuse a task without metrics, or one that names metrics which it does not have."""
        settle(self)
        names = self.metric_names
        if not names:
            raise UsageError("Expected at least one metric of a task, got none.")
        if len(set(names)) != len(names):
            raise UsageError(f"Expected distinct metrics of a task, got {', '.join(names)}.")
        object.__setattr__(self, "ranked", self.ranked or (self.plotted,))
        for name in (self.plotted, *self.ranked, *filter(None, [self.loss_metric])):
            checked_name(name, names, "metric")

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as plain values; `from_dict` takes it back."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: Any) -> "DeclaredTask":
        """Build a declaration from plain values.

        Raises:
            UsageError: for unknown fields, values of a wrong type, or a metric without direction.
        """
        return build_dataclass(cls, values)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Return the names of the metrics, in the order of tables."""
        return tuple(metric.name for metric in self.metrics)

    def metric(self, name: str) -> Metric:
        """Return the metric of a name that the task has."""
        return next(metric for metric in self.metrics if metric.name == name)


def _share(name: str, meaning: str) -> Metric:
    return Metric(name, "share", "max", 1, meaning, 100.0, "%")


def _error(name: str, unit: str, decimals: int, meaning: str, high: float | None = None) -> Metric:
    return Metric(name, unit, "min", decimals, meaning, low=0.0, high=high)


_L1 = _error("l1", "value", 5, "mean |prediction - target|, the loss without regulariser")


def _map(num_channels: int = 1, paper_factor: int = 1) -> DeclaredTask:
    """Return a map of plain numbers, with the loss of equations (9) and (10)."""
    return DeclaredTask(
        num_channels=num_channels,
        metrics=(_L1,),
        plotted="l1",
        ranked=("l1",),
        loss_metric="l1",
        paper_factor=paper_factor,
    )


DECLARED_TASKS: dict[str, DeclaredTask] = {
    "depth": DeclaredTask(
        metrics=(
            _share(
                "delta1", "share of pixels with max(prediction/target, target/prediction) < 1.25"
            ),
            _error("rmse", "m", 3, "root mean square depth error over all pixels"),
            _error("abs", "m", 3, "mean absolute depth error over all pixels"),
            _error("rel", "ratio", 3, "mean of |prediction - target| / target"),
            _error(
                "abs_log",
                "natural log",
                3,
                "mean |log prediction - log target|, the depth loss without regularisers",
            ),
            _error(
                "rmse_per_image", "m", 3, "root mean square depth error of an image, mean of images"
            ),
        ),
        plotted="delta1",
        ranked=("delta1", "rmse"),
        loss_metric="abs_log",
    ),
    "normal": DeclaredTask(
        num_channels=3,
        metrics=(
            _error("mean_angle", "degrees", 1, "mean angle to the target normal", 180.0),
            _error("median_angle", "degrees", 1, "median angle to the target normal", 180.0),
            _share("within_11_25", "share of normals within 11.25 degrees"),
            _share("within_22_5", "share of normals within 22.5 degrees"),
            _share("within_30", "share of normals within 30 degrees"),
            Metric(
                "inner_error",
                "1 - product",
                "min",
                3,
                "mean of 1 - inner product with the target normal, the prediction not "
                "renormalised: the normal loss without regulariser; below 0 where predictions are "
                "too long",
            ),
        ),
        plotted="within_30",
        ranked=("within_30", "mean_angle"),
        loss_metric="inner_error",
    ),
    "segmentation": DeclaredTask(
        loss_kind="classification",
        num_channels=None,
        metrics=(
            _share("miou", "mean intersection over union from one confusion matrix over the split"),
            _share("pixel_accuracy", "share of pixels with the right class"),
            _error("cross_entropy", "nats", 3, "the segmentation loss without regulariser"),
            _share(
                "miou_per_image",
                "mean intersection over union of an image over the classes in its target or "
                "prediction, mean of images: the older definition",
            ),
        ),
        plotted="miou",
        ranked=("miou", "pixel_accuracy"),
        loss_metric="cross_entropy",
    ),
    "curvature": _map(num_channels=2),
    "reshading": _map(),
    "edge2d": _map(paper_factor=10),
    "edge3d": _map(paper_factor=100),
    "keypoint2d": _map(paper_factor=100),
    "keypoint3d": _map(),
}
"""Task -> its declaration; the order is that of the tasks wherever no other is asked for."""


def check_task(name: str) -> str:
    """Return `name`; raise a `ValueError` that lists the known tasks unless it is one.

    Of `module:Name` the form alone is looked at.
    """
    return name if is_reference(name) else checked_name(name, [*DECLARED_TASKS, OWN], "task")


def declared_task(name: str) -> DeclaredTask:
    """Return the declaration of a task; the module of `module:Name` is imported for it.

    Raises:
        ValueError: for an unknown task, or one from outside that declares nothing.
    """
    if not is_reference(check_task(name)):
        return DECLARED_TASKS[name]
    declared = getattr(load_object(name, "task"), "declared", None)
    if not isinstance(declared, DeclaredTask):
        raise UsageError(
            f"Expected a Task with `declared = DeclaredTask(metrics=...)` at {name!r}, got "
            f"{'none' if declared is None else repr(declared):.100}. Add it to the class."
        )
    return declared
