"""What a sweep varies, compared: settings x methods, all measured on the same images.

A setting is a value of each spec field that varies (architecture, learning rate, ...). A row is a
method under one setting, at the priorities nearest to equal ones that it has.
"""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.compute.choice import candidates, scores
from analysis.compute.fronts import (
    OperatingPoint,
    Reference,
    hypervolume,
    means_of,
    operating_points,
    reference_point,
    unusable,
)
from analysis.compute.inference import seed_difference_test, seed_level_test
from analysis.compute.ranks import delta_m, displayed, fractional_ranks
from analysis.compute.significance import holm
from analysis.load.axes import Axis
from analysis.load.baselines import baseline_values
from analysis.load.groups import Family
from analysis.load.matched import by_point, shared_seeds, validation_columns
from analysis.load.metrics import known_columns, ranked_columns
from analysis.load.priorities import Priorities, nearest_to_equal, settings_of
from analysis.load.run_files import RunFiles
from analysis.load.runs import Loaded, trained_arm
from analysis.load.trials import RankedMetric

COST_COLUMNS = ("num_parameters", "forward_flops", "peak_memory_bytes", "peak_device_bytes")
EPOCH_SECONDS = "seconds_per_epoch"
METHOD, HYPERVOLUME = "method", "hypervolume"
"""What two rows may differ in beside a spec field; what is compared beside metrics."""
Held = Mapping[Priorities | None, Mapping[int, np.ndarray]]
"""Priorities -> seed -> values on the axes."""


@dataclass(frozen=True)
class Row:
    """A method under one setting, or single-task networks."""

    settings: tuple[int, ...]
    """Number of its setting; of single-task networks, of all whose baseline they are."""
    arm: str
    """Empty for single-task networks."""
    priorities: Priorities | None
    seeds: tuple[int, ...]
    means: Mapping[str, float | None]
    """Metric column -> mean over seeds on the test split; None where a run lacks it."""
    sds: Mapping[str, float | None]
    """The same of standard deviations; None with one seed."""
    costs: Mapping[str, float | None]
    """`COST_COLUMNS` and `EPOCH_SECONDS`; None where the runs do not say."""
    average_rank: float | None = None
    """Mean over the metrics of the rank of its mean among all methods and settings, 1 is best."""
    delta_m: tuple[float, float] | None = None
    """See `analysis.compute.ranks.delta_m`; None without single-task runs of its own setting."""
    hypervolume: float | None = None
    """Of all of its operating points; None where methods do not have the same priorities."""


@dataclass(frozen=True)
class Best:
    """The setting of a method that validation chooses."""

    row: int
    num_tried: int
    """Settings to choose from, those that every method has."""


@dataclass(frozen=True)
class Difference:
    """Two rows that differ in one thing, on the priorities and seeds that both have."""

    row_a: int
    row_b: int
    varied: str
    """That thing: `METHOD` or a spec field."""
    column: str
    """Metric column or `HYPERVOLUME`."""
    difference: float
    """Mean of the first minus that of the second, in metric units."""
    num_priorities: int
    seeds: tuple[int, ...]
    p: float
    minimum_p: float
    p_adjusted: float = 1.0
    """After Holm, over all differences of the page."""


@dataclass(frozen=True)
class SettingsComparison:
    """Everything that the page of a sweep says of one family."""

    family: Family
    axes: tuple[Axis, ...]
    metrics: tuple[Axis, ...]
    """Of the table: those of the axes and all that are ranked, task by task."""
    arms: tuple[str, ...]
    """Every method asked for, in plan order."""
    runs: pd.DataFrame
    """Usable runs, with the number of their `setting`."""
    points: tuple[tuple[OperatingPoint, ...], ...]
    """Of each setting."""
    reference: Reference | None
    rows: tuple[Row, ...]
    best: tuple[Best, ...]
    differences: tuple[Difference, ...]
    num_done: int
    num_asked: int
    notes: tuple[str, ...]

    def value_of(self, row: Row, number: int) -> Any:
        """Return the row's value of varying field `number`; None where it has several."""
        held = {self.family.settings[setting][number] for setting in row.settings}
        return held.pop() if len(held) == 1 else None

    def runs_at(self, setting: int, arm: str, priorities: Priorities | None) -> pd.DataFrame:
        """Return the usable runs of a method under a setting at these priorities."""
        runs = self.runs[(self.runs["setting"] == setting) & (self.runs["arm"] == arm)]
        held = settings_of(runs, [axis.task for axis in self.axes])
        return runs[[at == priorities for at in held]]


def compare_settings(
    loaded: Loaded,
    family: Family,
    axes: tuple[Axis, ...],
    singles: Sequence[Mapping[str, pd.DataFrame]],
    files: RunFiles,
) -> SettingsComparison:
    """Return the comparison of a family's settings.

    Args:
        loaded: the runs of all of its groups.
        family: see `analysis.load.groups`.
        axes: by which tasks are judged.
        singles: of each setting, its `analysis.load.baselines.single_task_runs`.
        files: where epoch records are read.
    """
    setting_of = {i: k for k, group in enumerate(family.groups) for i in group.run_ids}
    arms = tuple(dict.fromkeys(trained_arm(s.arm) for s in loaded.states if s.arm is not None))
    notes = list(loaded.notes)
    runs = loaded.runs
    if not runs.empty:
        excluded = unusable(runs, axes)
        runs = runs[~runs["run_id"].isin(list(excluded))].reset_index(drop=True)
        runs = runs.assign(setting=[setting_of[run_id] for run_id in runs["run_id"]])
        if excluded:
            notes.append(f"{len(excluded)} runs without a usable value are left out.")
    made = SettingsComparison(
        family=family,
        axes=axes,
        metrics=_metrics(loaded, axes),
        arms=arms,
        runs=runs,
        points=tuple(
            () if runs.empty else operating_points(runs[runs["setting"] == k], axes)
            for k in range(len(family.groups))
        ),
        reference=reference_point(runs, axes) if axes else None,
        rows=(),
        best=(),
        differences=(),
        num_done=len(runs),
        num_asked=len(loaded.states),
        notes=(),
    )
    rows = _ranked(made, _rows(made, files))
    rows, has_volumes = _with_hypervolumes(made, rows)
    fronts = any(len([p for p in held if p.arm == a]) > 1 for held in made.points for a in arms)
    if fronts and not has_volumes:
        notes.append("No hypervolume: not every front has the same priorities under every setting.")
    rows = _with_deltas(made, rows, singles)
    made = replace(made, rows=(*rows, *_baseline_rows(made, singles, files)))
    best, why_none = _best(made)
    notes += [why_none] if why_none else []
    return replace(made, best=best, differences=_differences(made), notes=tuple(notes))


def _metrics(loaded: Loaded, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Return the axes' metrics and those that are ranked and that some run has, task by task."""
    found, ranked = [], set(ranked_columns(loaded.declared))
    for axis in axes:
        known = known_columns({axis.task: loaded.declared[axis.task]})
        others = [Axis(axis.task, metric) for column, metric in known.items() if column in ranked]
        has = [o for o in others if o.column in loaded.runs and loaded.runs[o.column].notna().any()]
        found += [axis, *(other for other in has if other.column != axis.column)]
    return tuple(found)


def _rows(made: SettingsComparison, files: RunFiles) -> list[Row]:
    """Return a row for each setting and method with usable runs, without what compares them."""
    nearest = nearest_to_equal([p.priorities for of in made.points for p in of if p.priorities])
    rows = []
    for number, points in enumerate(made.points):
        for arm in made.arms:
            own = [point.priorities for point in points if point.arm == arm]
            if not own:
                continue
            shown = nearest if nearest in own else nearest_to_equal([p for p in own if p])
            mine = made.runs_at(number, arm, shown)
            rows.append(
                Row(
                    (number,),
                    arm,
                    shown,
                    tuple(sorted(map(int, mine["seed"]))),
                    *_means(mine, made.metrics),
                    costs=_costs(mine, files),
                )
            )
    return rows


def _means(
    runs: pd.DataFrame, metrics: Sequence[Axis]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return the mean and standard deviation of each metric over the runs."""
    means: dict[str, float | None] = {}
    sds: dict[str, float | None] = {}
    for metric in metrics:
        values = runs.get(metric.column, pd.Series(np.nan, index=runs.index)).astype(float)
        has_all = bool(np.isfinite(values).all()) and len(values) > 0
        means[metric.column] = float(values.mean()) if has_all else None
        sds[metric.column] = float(values.std(ddof=1)) if has_all and len(values) > 1 else None
    return means, sds


def _costs(runs: pd.DataFrame, files: RunFiles) -> dict[str, float | None]:
    """Return the means over the runs that say; of seconds an epoch the median of all epochs."""
    held = runs.reindex(columns=list(COST_COLUMNS)).astype(float)
    costs: dict[str, float | None] = {
        name: None if held[name].isna().all() else float(held[name].mean()) for name in COST_COLUMNS
    }
    records = files.epochs_of([str(run_id) for run_id in runs["run_id"]])
    seconds = [record.seconds for held in records.values() for record in held]
    return {**costs, EPOCH_SECONDS: statistics.median(seconds) if seconds else None}


def _ranked_metrics(metrics: Iterable[Axis]) -> list[RankedMetric]:
    return [RankedMetric(m.column, m.metric, m.metric.display_factor, 0.0, m.task) for m in metrics]


def _ranked(made: SettingsComparison, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their average ranks, over the metrics that all of them have."""
    ranks = [
        fractional_ranks(
            displayed([float(row.means[m.column] or 0.0) for row in rows], m), m.metric.direction
        )
        for m in _ranked_metrics(made.metrics)
        if all(row.means[m.column] is not None for row in rows)
    ]
    if not ranks or len(rows) < 2:
        return list(rows)
    averages = np.mean(ranks, axis=0).tolist()
    return [replace(row, average_rank=rank) for row, rank in zip(rows, averages, strict=True)]


def _with_hypervolumes(made: SettingsComparison, rows: Sequence[Row]) -> tuple[list[Row], bool]:
    """Return the rows with hypervolumes, where all fronts have the same priorities, and whether."""
    fronts: dict[tuple[int, str], list[OperatingPoint]] = {}
    for number, points in enumerate(made.points):
        for point in points:
            if point.priorities is not None:
                fronts.setdefault((number, point.arm), []).append(point)
    kinds = {tuple(point.priorities for point in held) for held in fronts.values()}
    if made.reference is None or len(kinds) != 1 or len(next(iter(kinds))) < 2:
        return list(rows), False
    volumes = {
        key: hypervolume(means_of(held, key[1]), made.reference, made.axes)
        for key, held in fronts.items()
    }
    return [replace(r, hypervolume=volumes.get((r.settings[0], r.arm))) for r in rows], True


def _with_deltas(
    made: SettingsComparison, rows: Sequence[Row], singles: Sequence[Mapping[str, pd.DataFrame]]
) -> list[Row]:
    """Return the rows with Delta_m where their setting's baseline has all metrics, none 0."""
    metrics = _ranked_metrics(made.metrics)
    columns = [metric.column for metric in metrics]
    found = []
    for row in rows:
        held = baseline_values(singles[row.settings[0]])
        means = {c: float(np.mean([*held[c].values()])) for c in columns if held.get(c)}
        own = {c: value for c in columns if (value := row.means[c]) is not None}
        if columns and len(own) == len(columns) == len(means) and all(means.values()):
            row = replace(row, delta_m=delta_m(own, means, metrics))
        found.append(row)
    return found


def _baseline_rows(
    made: SettingsComparison, singles: Sequence[Mapping[str, pd.DataFrame]], files: RunFiles
) -> list[Row]:
    """Return one row for each kind of single-task networks; parameters and times of all tasks add.

    Only where every task has its network.
    """
    kinds: dict[tuple[str, ...], list[int]] = {}
    for number, held in enumerate(singles):
        if made.axes and all(axis.task in held for axis in made.axes):
            ids = tuple(str(run_id) for runs in held.values() for run_id in runs["run_id"])
            kinds.setdefault(ids, []).append(number)
    rows = []
    for numbers in kinds.values():
        held = singles[numbers[0]]
        means: dict[str, float | None] = {}
        sds: dict[str, float | None] = {}
        for task, runs in held.items():
            of_task = _means(runs, [metric for metric in made.metrics if metric.task == task])
            means |= of_task[0]
            sds |= of_task[1]
        costs = [_costs(runs, files) for runs in held.values()]
        total = {name: _joined(name, [cost[name] for cost in costs]) for name in costs[0]}
        seeds = shared_seeds([dict.fromkeys(map(int, runs["seed"])) for runs in held.values()])
        rows.append(Row(tuple(numbers), "", None, tuple(seeds), means, sds, total))
    return rows


def _joined(name: str, values: Sequence[float | None]) -> float | None:
    """Return a cost of several networks that are trained one after another."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return max(known) if name.startswith("peak") else sum(known)


def _held(made: SettingsComparison, split_columns: Sequence[str]) -> dict[int, Held]:
    """Return row number -> the values of all of its method's runs under its setting."""
    tasks = [axis.task for axis in made.axes]
    found: dict[int, Held] = {}
    for setting in range(len(made.family.groups)):
        points = by_point(made.runs[made.runs["setting"] == setting], tasks, split_columns)
        for number, row in enumerate(made.rows):
            if row.arm and row.settings == (setting,):
                found[number] = {key[1]: held for key, held in points.items() if key[0] == row.arm}
    return found


def _best(made: SettingsComparison) -> tuple[tuple[Best, ...], str]:
    """Return each method's best setting by validation, or why none is chosen.

    The least score at equal weights, all rows on one scale (`analysis.compute.choice`).
    """
    if len(made.family.groups) < 2 or not made.rows:
        return (), ""
    columns = validation_columns(made.runs, made.axes)
    if not columns:
        return (), "No best setting is chosen: not every run has its metrics on validation."
    arms = dict.fromkeys(row.arm for row in made.rows if row.arm)
    of_arm = {arm: {r.settings[0] for r in made.rows if r.arm == arm} for arm in arms}
    shared = set.intersection(*of_arm.values())
    if len(shared) < 2:
        return (), (
            "No best setting is chosen: fewer than two settings have runs of every method, and "
            "methods with more settings to choose from would have an advantage."
        )
    held = _held(made, columns)
    numbers = [k for k in held if made.rows[k].settings[0] in shared]
    on_scale = candidates(
        {(f"{k:09d}", None): held[k][made.rows[k].priorities] for k in numbers}, made.axes
    )
    score = dict(zip((int(arm) for arm, _ in on_scale.keys), scores(on_scale.losses), strict=True))
    best = (min((k for k in numbers if made.rows[k].arm == arm), key=score.get) for arm in arms)  # type: ignore[arg-type]
    return tuple(Best(row, len(shared)) for row in best), ""


def _differences(made: SettingsComparison) -> tuple[Difference, ...]:
    """Return the tested differences of all pairs that differ in the method or in one field.

    Not where the training data differ, nor with fewer than two seeds in common.
    """
    if made.runs.empty:
        return ()
    held = _held(made, [axis.column for axis in made.axes])
    found: list[Difference] = []
    for a, b in itertools.combinations(held, 2):
        varied = _varied(made, made.rows[a], made.rows[b])
        if varied is not None:
            found += _tested(made, (a, b), (held[a], held[b]), varied)
    adjusted = holm([one.p for one in found])
    return tuple(replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True))


def _varied(made: SettingsComparison, a: Row, b: Row) -> str | None:
    """Return the one thing in which two rows differ; None for several, or for the data."""
    of_a, of_b = (made.family.settings[row.settings[0]] for row in (a, b))
    names = [f for f, x, y in zip(made.family.fields, of_a, of_b, strict=True) if x != y]
    names += [METHOD] if a.arm != b.arm else []
    return names[0] if len(names) == 1 and not names[0].startswith("data.") else None


def _tested(
    made: SettingsComparison, rows: tuple[int, int], held: tuple[Held, Held], varied: str
) -> list[Difference]:
    shared = [priorities for priorities in held[0] if priorities in held[1]]
    # A method that takes no priorities is compared with the point that is shown of the other.
    chosen = [shared or [made.rows[row].priorities] for row in rows]
    points = [[of[p] for p in own] for of, own in zip(held, chosen, strict=True)]
    seeds = tuple(shared_seeds([*points[0], *points[1]]))
    if len(seeds) < 2:
        return []
    a, b = (np.array([[of[seed] for seed in seeds] for of in own]) for own in points)

    def difference(column: str, size: float, p: float, minimum_p: float) -> Difference:
        num_priorities = len(points[0])
        return Difference(*rows, varied, column, size, num_priorities, seeds, p, minimum_p)

    found = []
    for k, axis in enumerate(made.axes):
        by_seed = (a - b)[:, :, k].mean(axis=0)
        tested = seed_difference_test(by_seed)
        found.append(difference(axis.column, float(by_seed.mean()), *tested))
    if len(shared) > 1 and made.reference is not None:
        test = seed_level_test(a, b, made.reference, made.axes)
        found.append(difference(HYPERVOLUME, test.difference, test.p, test.minimum_p))
    return found


def numeric_fields(made: SettingsComparison) -> list[int]:
    """Return the places of the varying fields whose values are all numbers."""
    return [
        k
        for k in range(len(made.family.fields))
        if all(type(setting[k]) in (int, float) for setting in made.family.settings)
    ]
