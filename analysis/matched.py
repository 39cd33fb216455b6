"""Single runs of methods side by side: which pairs, at which priorities, with which seeds.

Only like is compared with like: the same priorities, and seeds that both methods have there. What
was left out for that is said in words.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.axes import Axis
from analysis.fronts import setting_of

FIRST_PAIR = ("lsb", "fixed")
"""The comparison that the paper makes; it leads wherever pairs of methods are listed."""

ArmRuns = Mapping[tuple[float, ...], Mapping[int, np.ndarray]]
"""Priorities -> seed -> metrics (axes,), in metric units."""


@dataclass(frozen=True)
class MatchedRuns:
    """Runs of two methods at the same priorities, with seeds that are complete there."""

    arm_a: str
    arm_b: str
    priorities: tuple[tuple[float, ...], ...]
    seeds_a: tuple[int, ...]
    """Seeds with a run of the first method at every one of the priorities."""
    seeds_b: tuple[int, ...]
    runs_a: np.ndarray
    """(priorities, seeds of a, axes), metric units."""
    runs_b: np.ndarray
    left_out: tuple[str, ...]
    """What the two methods do not share, one sentence each; empty where nothing was left out."""


def runs_by_arm(runs: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, ArmRuns]:
    """Return the single runs of every method that takes priorities, priorities rising.

    Args:
        runs: usable runs, as `Findings.runs`.
        axes: metrics of the last dimension.

    Raises:
        ValueError: for two runs of one method, priority and seed.
    """
    if runs.empty:
        return {}
    tasks = [axis.task for axis in axes]
    values = runs[[axis.column for axis in axes]].to_numpy(dtype=np.float64)
    rows = runs[["arm", "seed", *(c for t in tasks if (c := f"priority_{t}") in runs)]]
    held: dict[str, dict[tuple[float, ...], dict[int, np.ndarray]]] = {}
    for position, row in enumerate(rows.to_dict("records")):
        setting = setting_of({str(k): v for k, v in row.items()}, tasks)
        if setting is None:
            continue
        seeds = held.setdefault(str(row["arm"]), {}).setdefault(setting, {})
        if int(row["seed"]) in seeds:
            raise ValueError(
                "Expected one run for a method, priority and seed, got two of "
                f"{row['arm']} with seed {row['seed']}. Remove one."
            )
        seeds[int(row["seed"])] = values[position]
    return {arm: dict(sorted(settings.items())) for arm, settings in held.items()}


def method_pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return all pairs of methods: first the paper's, where both are there, then in their order."""
    pairs = list(itertools.combinations(arms, 2))
    if all(arm in arms for arm in FIRST_PAIR):
        return [FIRST_PAIR, *(pair for pair in pairs if set(pair) != set(FIRST_PAIR))]
    return pairs


def matched_runs(
    by_arm: Mapping[str, ArmRuns], pair: tuple[str, str], *, same_seeds: bool
) -> MatchedRuns | None:
    """Return the runs in which two methods may be compared; None where there are none.

    Args:
        by_arm: see `runs_by_arm`.
        pair: the two methods.
        same_seeds: leave out seeds that only one of the methods has in full.
    """
    a, b = (by_arm[arm] for arm in pair)
    shared = tuple(setting for setting in a if setting in b)
    if not shared:
        return None
    seeds = [_complete(runs, shared) for runs in (a, b)]
    if same_seeds:
        seeds = [sorted(set(seeds[0]) & set(seeds[1]))] * 2
    if not all(seeds):
        return None
    return MatchedRuns(
        *pair,
        shared,
        tuple(seeds[0]),
        tuple(seeds[1]),
        _stacked(a, shared, seeds[0]),
        _stacked(b, shared, seeds[1]),
        tuple(
            sentence
            for arm, runs, kept in zip(pair, (a, b), seeds, strict=True)
            for sentence in _left_out(arm, runs, shared, kept)
        ),
    )


def why_not_matched(by_arm: Mapping[str, ArmRuns], pair: tuple[str, str]) -> str:
    """Say why `matched_runs` returned None."""
    a, b = pair
    if not set(by_arm[a]) & set(by_arm[b]):
        return f"{a} and {b} share no priority."
    return f"{a} and {b} have no seed with a run at every priority that they share."


def _complete(runs: ArmRuns, settings: Sequence[tuple[float, ...]]) -> list[int]:
    return sorted(set.intersection(*(set(runs[setting]) for setting in settings)))


def _stacked(
    runs: ArmRuns, settings: Sequence[tuple[float, ...]], seeds: Sequence[int]
) -> np.ndarray:
    return np.array([[runs[setting][seed] for seed in seeds] for setting in settings])


def _left_out(
    arm: str, runs: ArmRuns, shared: Sequence[tuple[float, ...]], kept: Sequence[int]
) -> list[str]:
    sentences = []
    missing = len(runs) - len(shared)
    if missing:
        noun = "priority" if missing == 1 else "priorities"
        sentences.append(f"{missing} {noun} of {arm} left out, the other method has none there.")
    others = sorted({seed for setting in shared for seed in runs[setting]} - set(kept))
    if others:
        noun, verb = ("seed", "is") if len(others) == 1 else ("seeds", "are")
        listed = ", ".join(map(str, others))
        sentences.append(
            f"Of {arm} {noun} {listed} {verb} left out: not at every shared priority of what is "
            "compared."
        )
    return sentences
