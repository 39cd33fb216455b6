"""Single runs behind operating points: by arm, priorities and seed, of one method or of two.

Only like is compared with like: the same priorities, and seeds that are there at each of them. What
is left out for that is counted or named.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from analysis.load.axes import Axis
from analysis.load.priorities import Priorities, settings_of
from analysis.load.runs import VALIDATION
from mtl.errors import UsageError

Key = tuple[str, Priorities | None]
"""Arm and priorities of an operating point."""
Seeds = Mapping[int, np.ndarray]
"""Seed -> values of a run, (columns,) in metric units; seeds rising."""
Runs = Mapping[Key, Seeds]
"""All runs, by point and seed."""
Settings = Mapping[Priorities, Seeds]
"""The runs of one arm, by priorities and seed; priorities rising."""
Held = TypeVar("Held")


@dataclass(frozen=True)
class ArmRuns:
    """Runs of an arm at some of its priorities, with seeds that are there at each of these."""

    arm: str
    priorities: tuple[Priorities, ...]
    """Rising."""
    seeds: tuple[int, ...]
    """Rising, maybe none."""
    metrics: np.ndarray
    """(priorities, seeds, axes), metric units."""
    left_out: tuple[str, ...]
    """What of the arm is not among them, in sentences; empty where nothing was left out."""


@dataclass(frozen=True)
class Matched:
    """Runs of two methods at the same priorities."""

    a: ArmRuns
    b: ArmRuns

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return what the two methods do not share, in sentences."""
        return self.a.left_out + self.b.left_out


def by_point(
    runs: pd.DataFrame, tasks: Sequence[str], columns: Sequence[str]
) -> dict[Key, dict[int, np.ndarray]]:
    """Return (arm, priorities) -> seed -> values of `columns`, seeds rising.

    `runs` are usable ones, see `analysis.compute.findings.Findings`; `tasks` give the order of the
    priorities. A `UsageError` refuses values that are not finite and two runs of a point and seed.
    """
    if runs.empty:
        return {}
    values = runs[list(columns)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise UsageError("Expected finite metric values, got NaN or infinity. Exclude such runs.")
    return _grouped(runs, tasks, values)


def ids_by_point(runs: pd.DataFrame, tasks: Sequence[str]) -> dict[Key, dict[int, str]]:
    """Return (arm, priorities) -> seed -> run id, seeds rising."""
    return {} if runs.empty else _grouped(runs, tasks, map(str, runs["run_id"]))


def _grouped(
    runs: pd.DataFrame, tasks: Sequence[str], values: Iterable[Held]
) -> dict[Key, dict[int, Held]]:
    found: dict[Key, dict[int, Held]] = {}
    rows = zip(runs["arm"], settings_of(runs, tasks), runs["seed"], values, strict=True)
    for arm, setting, seed, value in rows:
        seeds = found.setdefault((str(arm), setting), {})
        if seed in seeds:
            raise UsageError(
                "Expected one run for a method, priority and seed, got two of "
                f"{arm} with seed {seed}. Remove one."
            )
        seeds[int(seed)] = value
    return {key: dict(sorted(held.items())) for key, held in found.items()}


def by_arm(runs: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, Settings]:
    """Return arm -> priorities -> seed -> metrics, of every arm that takes priorities."""
    found: dict[str, dict[Priorities, Seeds]] = {}
    points = by_point(runs, [axis.task for axis in axes], [axis.column for axis in axes])
    for (arm, priorities), seeds in points.items():
        if priorities is not None:
            found.setdefault(arm, {})[priorities] = seeds
    return {arm: dict(sorted(settings.items())) for arm, settings in found.items()}


def validation_columns(runs: pd.DataFrame, axes: Sequence[Axis]) -> list[str]:
    """Return the columns of the axes on the validation split; none where a run lacks a value."""
    columns = [f"{VALIDATION}_{axis.column}" for axis in axes]
    complete = (c in runs and np.isfinite(runs[c].astype(float)).all() for c in columns)
    return columns if all(complete) else []


def shared_seeds(held: Sequence[Mapping[int, object]]) -> list[int]:
    """Return the seeds that all of several points have, rising."""
    return sorted(set(held[0]).intersection(*held[1:])) if held else []


def arm_runs(runs: pd.DataFrame, axes: Sequence[Axis], arm: str) -> ArmRuns:
    """Return the runs of `arm` at all of its priorities; see `by_arm`."""
    settings = by_arm(runs[runs["arm"] == arm], axes).get(arm, {})
    seeds = shared_seeds([*settings.values()])
    num_left_out = sum(map(len, settings.values())) - len(settings) * len(seeds)
    note = ""
    if not seeds:
        note = f"{arm} is left out: no seed is done at all {len(settings)} of its priorities."
    elif num_left_out:
        seeds_of = "their seeds are not done at every priority"
        note = f"{num_left_out} runs of {arm} are left out: {seeds_of}."
    metrics = _stacked(settings.values(), seeds).reshape(len(settings), len(seeds), len(axes))
    return ArmRuns(arm, tuple(settings), tuple(seeds), metrics, (note,) if note else ())


def matched_runs(
    runs: Mapping[str, Settings], pair: tuple[str, str], *, same_seeds: bool
) -> Matched | str:
    """Return the runs in which two methods may be compared, or why there are none.

    `runs` are those of `by_arm`. With `same_seeds` seeds are left out that only one of them has in
    full.
    """
    a, b = (runs[arm] for arm in pair)
    shared = tuple(setting for setting in a if setting in b)
    if not shared:
        return f"{pair[0]} and {pair[1]} share no priority"
    at_shared = [[held[setting] for setting in shared] for held in (a, b)]
    seeds = [shared_seeds(held) for held in at_shared]
    if same_seeds:
        seeds = [shared_seeds([*at_shared[0], *at_shared[1]])] * 2
    if not all(seeds):
        return f"{pair[0]} and {pair[1]} have no seed with a run at every priority that they share"
    sides = zip(pair, (a, b), at_shared, seeds, strict=True)
    return Matched(
        *(
            ArmRuns(
                arm, shared, tuple(s), _stacked(held, s), _left_out(arm, len(settings), held, s)
            )
            for arm, settings, held, s in sides
        )
    )


def _stacked(held: Iterable[Seeds], seeds: Sequence[int]) -> np.ndarray:
    return np.array([[of[seed] for seed in seeds] for of in held])


def _left_out(
    arm: str, num_priorities: int, shared: Sequence[Seeds], kept: Sequence[int]
) -> tuple[str, ...]:
    sentences = []
    missing = num_priorities - len(shared)
    if missing:
        noun = "priority" if missing == 1 else "priorities"
        sentences.append(f"{missing} {noun} of {arm} left out, the other method has none there.")
    others = sorted(set().union(*shared) - set(kept))
    if others:
        noun, verb = ("seed", "is") if len(others) == 1 else ("seeds", "are")
        sentences.append(
            f"Of {arm} {noun} {', '.join(map(str, others))} {verb} left out: not at every shared "
            "priority of what is compared."
        )
    return tuple(sentences)
