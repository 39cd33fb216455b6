"""By which metric each task is judged, and how metrics and priorities are written for people."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from analysis.load.metrics import Declared, metric_column, metric_of, paper_factor
from mtl.spec.strict import checked_name
from mtl.spec.tasks import DECLARED_TASKS, Metric

NONE = "\N{EN DASH}"
"""Shown where there is no value."""
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
MAX_DENOMINATOR = 64
"""Priorities are written as fractions up to this denominator, beyond it as decimals."""
MIN_JOINED = 4
"""So many equal priorities in a row are written as their number and one of them."""


@dataclass(frozen=True)
class Axis:
    """A task with the one metric by which it is judged."""

    task: str
    metric: Metric

    @property
    def column(self) -> str:
        """Return the run table's column that holds it."""
        return metric_column(self.task, self.metric.name)

    @property
    def name(self) -> str:
        """Return task and metric, as a sentence names them."""
        return f"{self.task} {self.metric.name}"

    @property
    def unit(self) -> str:
        """Return the unit in which people read it."""
        shown = self.metric.display_unit
        return self.metric.unit if shown is None else shown

    @property
    def difference_unit(self) -> str:
        """Return the unit of a difference: of two shares in percent it is points."""
        return "points" if self.unit == "%" else self.unit

    @property
    def title(self) -> str:
        """Return task, metric and unit, as an axis or a table's head names it."""
        return f"{self.name} ({self.unit})"

    @property
    def better(self) -> str:
        """Return which way is better, in words."""
        return "higher is better" if self.metric.direction == "max" else "lower is better"

    def shown(self, value: float | None, *, more_decimals: int = 0, signed: bool = False) -> str:
        """Return `value` in display units, without the unit; a dash where there is none."""
        sign = "+" if signed else ""
        decimals = self.metric.decimals + more_decimals
        factor = self.metric.display_factor
        return shown_number(None if value is None else value * factor, f"{sign}.{decimals}f")


def shown_number(value: float | None, form: str) -> str:
    """Return `value` formatted by `form`, with a true minus sign and no negative zero.

    A dash where there is no value.
    """
    if value is None:
        return NONE
    text = f"{value:{form}}"
    is_zero = not text.strip("+-0.%")
    return text.replace("-", "") if is_zero else text.replace("-", MINUS)


def place_words(axes: Sequence[Axis], values: Sequence[float]) -> str:
    """Return one value an axis (metric units) with names and units, as of a reference point."""
    named = zip(axes, values, strict=True)
    return ", ".join(f"{a.name} {a.shown(v, more_decimals=1)} {a.unit}" for a, v in named)


def volume_unit(axes: Sequence[Axis]) -> str:
    """Return the unit of a hypervolume over these axes."""
    return f" {TIMES} ".join(axis.metric.unit for axis in axes)


def choose_axes(
    tasks: Sequence[str],
    metrics: Mapping[str, str] | None = None,
    *,
    declared: Declared = DECLARED_TASKS,
    paper_scaling: bool = False,
) -> tuple[Axis, ...]:
    """Return one axis a task, in task order.

    `metrics` is task -> metric name or alias; tasks left out take the usual one. `declared` says
    what the metrics are, by default those of this project's tasks. `paper_scaling` shows the errors
    multiplied as the supplement prints them. A `UsageError` names a task that the
    runs do not have, or a metric that the task does not have.
    """
    metrics = metrics or {}
    check_tasks(metrics, tasks)
    axes = [Axis(task, metric_of(declared, task, metrics.get(task))) for task in tasks]
    return tuple(_as_in_the_paper(axis, declared) if paper_scaling else axis for axis in axes)


def _as_in_the_paper(axis: Axis, declared: Declared) -> Axis:
    """Return the axis with the factor of the supplement's tables; only what is shown changes."""
    metric, factor = axis.metric, paper_factor(declared, axis.task, axis.metric.name)
    if factor == 1:
        return axis
    shown = replace(
        metric,
        display_factor=metric.display_factor * factor,
        display_unit=f"{axis.unit} {TIMES} {factor}",
        decimals=max(metric.decimals - round(math.log10(factor)), 0),
        meaning=f"{metric.meaning}, shown multiplied by {factor} as in the supplement's tables",
    )
    return replace(axis, metric=shown)


def check_tasks(asked: Iterable[str], tasks: Iterable[str]) -> None:
    """Raise a `UsageError` unless `tasks` hold every one of those asked for."""
    for task in asked:
        checked_name(task, tasks, "task", of="these results")


def signs(axes: Sequence[Axis]) -> np.ndarray:
    """Return the factors that turn each axis to minimisation: -1 where higher is better."""
    return np.array([-1.0 if axis.metric.direction == "max" else 1.0 for axis in axes])


def priority_texts(
    grid: Iterable[tuple[float, ...]],
) -> dict[tuple[float, ...], str]:
    """Return every setting of a grid as people write it, all in one way, no two alike.

    (0.1, 0.9) where two decimals say it exactly for the whole grid, else (1/6, 5/6) where fractions
    do, else with three digits or more. Four or more equal ones in a row: (4 of 0.1, 0.6).
    """
    settings = list(dict.fromkeys(grid))
    values = {value for setting in settings for value in setting}
    writers: list[Callable[[float], str | None]] = [_as_short_decimal, _as_fraction]
    writers += [f"{{:.{digits}g}}".format for digits in range(3, 18)]
    shown: dict[tuple[float, ...], str] = {}
    for write in writers:
        texts = {value: write(value) for value in values}
        shown = {s: f"({_joined([str(texts[value]) for value in s])})" for s in settings}
        if all(texts.values()) and len(set(shown.values())) == len(settings):
            break
    return shown


def _joined(texts: Sequence[str]) -> str:
    parts: list[str] = []
    for text, group in itertools.groupby(texts):
        count = len(list(group))
        parts += [f"{count} of {text}"] if count >= MIN_JOINED else [text] * count
    return ", ".join(parts)


def _as_short_decimal(value: float) -> str | None:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return text if abs(float(text) - value) < 1e-9 else None


def _as_fraction(value: float) -> str | None:
    fraction = Fraction(value).limit_denominator(MAX_DENOMINATOR)
    # CSV files from elsewhere often hold 1/6 as 0.166667.
    return str(fraction) if fraction and abs(float(fraction) - value) < 1e-6 else None
