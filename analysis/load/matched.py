"""Single runs behind operating points: by arm, priorities and seed, of one method or of two.

Only like is compared with like: the same priorities, and seeds that are there at each of them. What
is left out for that is counted or named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.load.axes import Axis
from analysis.load.priorities import Priorities, settings_of
from mtl.errors import UsageError

Key = tuple[str, Priorities | None]
"""Arm and priorities of an operating point."""
Seeds = Mapping[int, np.ndarray]
"""Seed -> values of a run, (columns,) in metric units; seeds rising."""
Runs = Mapping[Key, Seeds]
"""All runs, by point and seed."""
Settings = Mapping[Priorities, Seeds]
"""The runs of one arm, by priorities and seed; priorities rising."""


@dataclass(frozen=True)
class ArmRuns:
    """The runs of an arm with priorities whose seeds occur at every one of its priorities."""

    arm: str
    priorities: tuple[Priorities, ...]
    """Rising."""
    seeds: tuple[int, ...]
    """Rising; those that every priority has, maybe none."""
    metrics: np.ndarray
    """(priorities, seeds, axes), metric units."""
    run_ids: tuple[tuple[str, ...], ...]
    """run_ids[priority][seed]."""
    num_left_out: int
    """Runs of seeds that some priority lacks."""

    @property
    def note(self) -> str:
        """Return what is left out as a sentence; "" where every seed is complete."""
        if not self.seeds:
            return (
                f"{self.arm} is left out: no seed is done at all {len(self.priorities)} of its "
                "priorities."
            )
        if self.num_left_out:
            return (
                f"{self.num_left_out} runs of {self.arm} are left out: their seeds are not done "
                "at every priority."
            )
        return ""


@dataclass(frozen=True)
class MatchedRuns:
    """Runs of two methods at the same priorities, with seeds that are complete there."""

    arm_a: str
    arm_b: str
    priorities: tuple[Priorities, ...]
    seeds_a: tuple[int, ...]
    """Seeds with a run of the first method at every one of the priorities."""
    seeds_b: tuple[int, ...]
    runs_a: np.ndarray
    """(priorities, seeds of a, axes), metric units."""
    runs_b: np.ndarray
    left_out: tuple[str, ...]
    """What the two methods do not share, one sentence each; empty where nothing was left out."""


def by_point(
    runs: pd.DataFrame, tasks: Sequence[str], columns: Sequence[str]
) -> dict[Key, dict[int, np.ndarray]]:
    """Return (arm, priorities) -> seed -> values of `columns`, seeds rising.

    Args:
        runs: usable runs, see `analysis.compute.findings.Findings.runs`.
        tasks: that the priorities are of, in their order.
        columns: of `runs`, numbers.

    Raises:
        ValueError: for values that are not finite, or two runs of one point and seed.
    """
    if runs.empty:
        return {}
    values = runs[list(columns)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise UsageError("Expected finite metric values, got NaN or infinity. Exclude such runs.")
    found: dict[Key, dict[int, np.ndarray]] = {}
    for position, (key, seed) in enumerate(_keys(runs, tasks)):
        seeds = found.setdefault(key, {})
        if seed in seeds:
            raise UsageError(
                "Expected one run for a method, priority and seed, got two of "
                f"{key[0]} with seed {seed}. Remove one."
            )
        seeds[seed] = values[position]
    return {key: dict(sorted(held.items())) for key, held in found.items()}


def ids_by_point(runs: pd.DataFrame, tasks: Sequence[str]) -> dict[Key, dict[int, str]]:
    """Return (arm, priorities) -> seed -> run id, seeds rising."""
    if runs.empty:
        return {}
    found: dict[Key, dict[int, str]] = {}
    for run_id, (key, seed) in zip(runs["run_id"], _keys(runs, tasks), strict=True):
        found.setdefault(key, {})[seed] = str(run_id)
    return {key: dict(sorted(held.items())) for key, held in found.items()}


def by_arm(runs: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, Settings]:
    """Return arm -> priorities -> seed -> metrics, of every arm that takes priorities.

    Args:
        runs: see `by_point`.
        axes: the metrics, in this order.

    Raises:
        ValueError: see `by_point`.
    """
    found: dict[str, dict[Priorities, Seeds]] = {}
    points = by_point(runs, [axis.task for axis in axes], [axis.column for axis in axes])
    for (arm, priorities), seeds in points.items():
        if priorities is not None:
            found.setdefault(arm, {})[priorities] = seeds
    return {arm: dict(sorted(settings.items())) for arm, settings in found.items()}


def shared_seeds(held: Sequence[Mapping[int, object]]) -> list[int]:
    """Return the seeds that all of several points have, rising."""
    if not held:
        return []
    return sorted(set(held[0]).intersection(*held[1:]))


def stacked(held: Sequence[Seeds], seeds: Sequence[int]) -> np.ndarray:
    """Return the runs of several points with these seeds, (points, seeds, columns)."""
    return np.array([[of[seed] for seed in seeds] for of in held])


def arm_runs(runs: pd.DataFrame, axes: Sequence[Axis], arm: str) -> ArmRuns:
    """Return the runs of `arm` that have priorities; see `by_arm`."""
    mine = runs[runs["arm"] == arm]
    settings = by_arm(mine, axes).get(arm, {})
    ids = ids_by_point(mine, [axis.task for axis in axes])
    seeds = shared_seeds(list(settings.values()))
    shape = len(settings), len(seeds), len(axes)
    return ArmRuns(
        arm=arm,
        priorities=tuple(settings),
        seeds=tuple(seeds),
        metrics=stacked(list(settings.values()), seeds).reshape(shape),
        run_ids=tuple(tuple(ids[arm, setting][seed] for seed in seeds) for setting in settings),
        num_left_out=sum(map(len, settings.values())) - len(settings) * len(seeds),
    )


def matched_runs(
    runs: Mapping[str, Settings], pair: tuple[str, str], *, same_seeds: bool
) -> MatchedRuns | str:
    """Return the runs in which two methods may be compared, or why there are none.

    Args:
        runs: see `by_arm`.
        pair: the two methods.
        same_seeds: leave out seeds that only one of the methods has in full.
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
    runs_a, runs_b = (stacked(*held) for held in zip(at_shared, seeds, strict=True))
    return MatchedRuns(
        *pair,
        shared,
        tuple(seeds[0]),
        tuple(seeds[1]),
        runs_a,
        runs_b,
        tuple(
            sentence
            for arm, held, kept in zip(pair, (a, b), seeds, strict=True)
            for sentence in _left_out(arm, held, shared, kept)
        ),
    )


def _left_out(
    arm: str, runs: Settings, shared: Sequence[Priorities], kept: Sequence[int]
) -> list[str]:
    sentences = []
    missing = len(runs) - len(shared)
    if missing:
        noun = "priority" if missing == 1 else "priorities"
        sentences.append(f"{missing} {noun} of {arm} left out, the other method has none there.")
    others = sorted({seed for setting in shared for seed in runs[setting]} - set(kept))
    if others:
        noun, verb = ("seed", "is") if len(others) == 1 else ("seeds", "are")
        sentences.append(
            f"Of {arm} {noun} {', '.join(map(str, others))} {verb} left out: not at every shared "
            "priority of what is compared."
        )
    return sentences


def _keys(runs: pd.DataFrame, tasks: Sequence[str]) -> list[tuple[Key, int]]:
    named = zip(runs["arm"], settings_of(runs, tasks), runs["seed"], strict=True)
    return [((str(arm), setting), int(seed)) for arm, setting, seed in named]
