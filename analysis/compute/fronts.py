"""Operating points, fronts, hypervolume and spread: values in, values out.

Metrics keep their own direction in everything that leaves this module; inside, `minimised` turns
them to minimisation once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd

from analysis.load.axes import Axis, signs
from analysis.load.matched import by_point
from analysis.load.priorities import Priorities
from mtl.errors import UsageError

REFERENCE_MARGIN = 0.1
"""Share of a metric's range over all runs that lies between the worst run and the reference."""
NOISE = 1e-12
"""Differences below this share of the values themselves are what floats leave of equal numbers."""


@dataclass(frozen=True)
class OperatingPoint:
    """What a method gives at one priority: means over seeds, one entry an axis."""

    arm: str
    priorities: Priorities | None
    seeds: tuple[int, ...]
    means: tuple[float, ...]
    sds: tuple[float | None, ...]
    """Standard deviations over seeds (n - 1 in the denominator); None for a single seed."""
    nondominated: bool
    """No point of any method is at least as good on every axis and better on one."""
    nondominated_in_arm: bool
    """The same among the points of its own method."""

    @property
    def n(self) -> int:
        """Return the number of runs behind the means."""
        return len(self.seeds)


@dataclass(frozen=True)
class Reference:
    """The point from which hypervolume is measured, one value an axis, in metric units."""

    point: tuple[float, ...]
    rule: str
    """How it was chosen, as a sentence."""


@dataclass(frozen=True)
class Spread:
    """Does the priority move a metric by more than the seed does?"""

    arm: str
    column: str
    range_of_means: float | None
    """Largest minus smallest mean over the priorities; None with a single setting."""
    pooled_sd: float | None
    """Standard deviation over seeds, pooled over the priorities; None with one seed everywhere."""
    ratio: float | None
    """range / pooled standard deviation; None where that is None or 0."""
    min_margin_over_prior: float | None
    """Smallest improvement of a mean on the image-independent baseline; below 0 for a worse one."""


def minimised(values: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Return `values` (..., axes) with the axes where higher is better negated.

    A `UsageError` refuses NaN and infinities, which moocore would take as numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UsageError("Expected finite metric values, got NaN or infinity. Exclude such runs.")
    return array * signs(axes)


def unusable(runs: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, str]:
    """Return run id -> why the run has no usable value on every axis."""
    reasons: dict[str, list[str]] = {}
    for axis in axes:
        values = runs.get(axis.column, pd.Series(np.nan, index=runs.index)).astype(float)
        for run_id, value in zip(runs["run_id"], values, strict=True):
            what = axis.metric.problem(value)
            if what:
                reasons.setdefault(str(run_id), []).append(f"{what} for {axis.column}")
    return {run_id: "test split holds " + " and ".join(r) for run_id, r in reasons.items()}


def operating_points(runs: pd.DataFrame, axes: Sequence[Axis]) -> tuple[OperatingPoint, ...]:
    """Return the mean over seeds of usable runs for each (arm, priorities), arms as they appear."""
    points = by_point(runs, [axis.task for axis in axes], [axis.column for axis in axes])
    order = {arm: number for number, arm in enumerate(dict.fromkeys(arm for arm, _ in points))}
    keys = sorted(points, key=lambda key: (order[key[0]], key[1] or ()))
    if not keys:
        return ()
    values = [np.array([*points[key].values()]) for key in keys]
    means = np.array([of.mean(axis=0) for of in values])
    low = minimised(means, axes)
    overall, in_arm = nondominated(low), np.zeros(len(keys), dtype=bool)
    for arm in order:
        mine = np.array([key[0] == arm for key in keys])
        in_arm[mine] = nondominated(low[mine])
    return tuple(
        OperatingPoint(
            arm=arm,
            priorities=setting,
            seeds=tuple(points[arm, setting]),
            means=tuple(means[k].tolist()),
            sds=tuple(of.std(axis=0, ddof=1).tolist() if len(of) > 1 else [None] * len(axes)),
            nondominated=bool(overall[k]),
            nondominated_in_arm=bool(in_arm[k]),
        )
        for k, ((arm, setting), of) in enumerate(zip(keys, values, strict=True))
    )


def dominates(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return whether `a` dominates `b`, over the last axis (..., axes), both minimised."""
    return np.asarray((a <= b).all(axis=-1) & (a < b).any(axis=-1))


def covered_by(means_a: np.ndarray, means_b: np.ndarray) -> np.ndarray:
    """Return which points of b (num_points, axes; minimised) some point of a dominates.

    The mean is the coverage C(a, b).
    """
    return np.asarray(dominates(means_a[:, None], means_b[None]).any(axis=0))


def nondominated(points: np.ndarray) -> np.ndarray:
    """Return which rows of `points` (num_points, axes; to be minimised) no other dominates.

    Equal points are all kept: two priorities that give the same result are both worth showing.
    """
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    if not np.isfinite(points).all():
        raise UsageError("Expected finite points, got NaN or infinity. Exclude such runs.")
    return np.asarray(moocore.is_nondominated(np.array(points), keep_weakly=True), dtype=bool)


def reference_point(runs: pd.DataFrame, axes: Sequence[Axis]) -> Reference | None:
    """Return one reference point for all methods, in metric units; None without any run.

    The worst value over all single runs of all methods, moved `REFERENCE_MARGIN` of the range over
    the runs towards worse, so that every point adds to its front. A fixed point, such as the
    image-independent baseline, cuts off what is worse than it on any axis; `other_references` says
    what such points would change.
    """
    if runs.empty:
        return None
    point, constant = _worst(runs, axes, REFERENCE_MARGIN)
    rule = (
        "The reference point is the worst value over all runs of all methods, moved a tenth of "
        "the range over the runs towards worse, so that no point is cut off; it moves when runs "
        "are added."
    )
    for axis, value in constant.items():
        by = "a tenth of that value" if value != 0 else "by 0.1"
        rule += f" {axis.name} is the same in all runs and is moved {by} instead."
    return Reference(point, rule)


def _worst(
    runs: pd.DataFrame, axes: Sequence[Axis], margin: float
) -> tuple[tuple[float, ...], dict[Axis, float]]:
    """Return the worst values moved by a share of their range, and axis -> value where it has none.

    A metric that is constant over all runs still needs a box of some width.
    """
    values = minimised(runs[[axis.column for axis in axes]].to_numpy(), axes)
    worst, width = values.max(axis=0), np.ptp(values, axis=0)
    constant = width <= NOISE * np.abs(worst)
    width = np.where(constant, np.where(worst != 0, np.abs(worst), 1.0), width)
    point = (worst + margin * width) * signs(axes)
    alike = {axis: float(w) for axis, c, w in zip(axes, constant, worst, strict=True) if c}
    return tuple(map(float, point)), alike


def other_references(
    runs: pd.DataFrame,
    points: Sequence[OperatingPoint],
    axes: Sequence[Axis],
    prior: Mapping[str, float],
) -> tuple[Reference, ...]:
    """Return further reference points under which a verdict should be the same; `rule` names each.

    The image-independent baseline, where it is known on every axis; the margin of
    `reference_point` doubled; and the nadir, the worst mean of all points with priorities, so that
    the ends of the worst front add nothing. `points` holds some with priorities.
    """
    baseline = baseline_point(axes, prior)
    means = np.array([point.means for point in points if point.priorities is not None])
    nadir = minimised(means, axes).max(axis=0) * signs(axes)
    return (
        *([] if baseline is None else [Reference(baseline, "the image-independent baseline")]),
        Reference(_worst(runs, axes, 2 * REFERENCE_MARGIN)[0], "twice the margin"),
        Reference(tuple(map(float, nadir)), "the nadir of the means"),
    )


def baseline_point(axes: Sequence[Axis], prior: Mapping[str, float]) -> tuple[float, ...] | None:
    """Return the image-independent baseline as a point; None unless it is known on every axis."""
    if not axes or not all(axis.column in prior for axis in axes):
        return None
    return tuple(prior[axis.column] for axis in axes)


def hypervolume(values: np.ndarray, reference: Reference, axes: Sequence[Axis]) -> float:
    """Return the volume between `values` (num_points, axes; metric units) and the reference.

    In the product of the metrics' units. Computed by moocore.
    """
    if len(values) == 0:
        return 0.0
    return minimised_hypervolume(
        minimised(values, axes), minimised(np.array(reference.point), axes)
    )


def minimised_hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Return the hypervolume of `points` (num_points, axes), all of them minimised and finite."""
    return float(moocore.hypervolume(points, ref=reference))


def means_of(points: Sequence[OperatingPoint], arm: str) -> np.ndarray:
    """Return the means of an arm's operating points, (num_points, axes)."""
    return np.array([point.means for point in points if point.arm == arm])


def staircase(
    points: np.ndarray, reference: np.ndarray, axes: Sequence[Axis]
) -> list[tuple[float, float]]:
    """Return the corners of the region that `points` dominate, from one wall to the other.

    `points` (num_points, 2) and `reference` (2,) are in metric units, as the corners are. The walls
    are those of the box that opens at the reference, so that the area under the staircase is the
    hypervolume of these two axes; no corners if no point is better than the reference on both.
    """
    if len(points) == 0:
        return []
    low, corner = minimised(points, axes), minimised(reference, axes)
    inside = low[(low < corner).all(axis=1)]
    front = sorted({tuple(p) for p in inside[nondominated(inside)]})
    if not front:
        return []
    corners = [(front[0][0], corner[1])]
    for point, following in zip(front, [*front[1:], None], strict=True):
        corners.append(point)
        corners.append((corner[0] if following is None else following[0], point[1]))
    turn = signs(axes)
    return [(float(x * turn[0]), float(y * turn[1])) for x, y in corners]


def spreads(
    points: Sequence[OperatingPoint], axes: Sequence[Axis], prior: Mapping[str, float]
) -> tuple[Spread, ...]:
    """Return range over spread for each arm and each axis."""
    result = []
    for arm in dict.fromkeys(point.arm for point in points):
        mine = [point for point in points if point.arm == arm]
        for index, axis in enumerate(axes):
            means = np.array([point.means[index] for point in mine])
            pooled = _pooled_sd([(point.n, point.sds[index]) for point in mine])
            width = float(np.ptp(means)) if len(mine) > 1 else None
            noise = NOISE * float(np.abs(means).max())
            pooled = 0.0 if pooled is not None and pooled <= noise else pooled
            width = 0.0 if width is not None and width <= noise else width
            margin = None
            if axis.column in prior:
                margin = float(np.min((prior[axis.column] - means) * signs([axis])[0]))
            result.append(
                Spread(
                    arm=arm,
                    column=axis.column,
                    range_of_means=width,
                    pooled_sd=pooled,
                    ratio=width / pooled if pooled and width is not None else None,
                    min_margin_over_prior=margin,
                )
            )
    return tuple(result)


def _pooled_sd(groups: Sequence[tuple[int, float | None]]) -> float | None:
    """Return sqrt(sum (n - 1) sd^2 / sum (n - 1)) over the groups with more than one run."""
    squares = [(n - 1, sd * sd) for n, sd in groups if sd is not None]
    degrees = sum(n for n, _ in squares)
    return math.sqrt(sum(n * s for n, s in squares) / degrees) if degrees else None
