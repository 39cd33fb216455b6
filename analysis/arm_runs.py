"""Runs of an arm as one array over priorities and seeds, and which arms are set side by side."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.findings import Findings
from analysis.fronts import setting_of

DEFAULT_PAIR = ("lsb", "fixed")
"""Methods whose arms are set side by side where both are there."""


@dataclass(frozen=True)
class ArmRuns:
    """The runs of an arm with priorities whose seeds occur at every one of its priorities."""

    arm: str
    priorities: tuple[tuple[float, ...], ...]
    """Rising."""
    seeds: tuple[int, ...]
    """Rising; those that every priority has, maybe none."""
    metrics: np.ndarray
    """(priorities, seeds, axes), metric units."""
    run_ids: tuple[tuple[str, ...], ...]
    """run_ids[priority][seed]."""
    num_left_out: int
    """Runs of seeds that some priority lacks."""


def arm_runs(findings: Findings, arm: str) -> ArmRuns:
    """Return the runs of `arm` that have priorities."""
    axes, runs = findings.axes, findings.runs
    tasks = [axis.task for axis in axes]
    found: dict[tuple[float, ...], dict[int, tuple[str, list[float]]]] = {}
    for row in runs[runs["arm"] == arm].to_dict("records"):
        named = {str(name): value for name, value in row.items()}
        setting = setting_of(named, tasks)
        if setting is not None:
            values = [float(named[axis.column]) for axis in axes]
            found.setdefault(setting, {})[int(named["seed"])] = (str(named["run_id"]), values)
    priorities = tuple(sorted(found))
    common = set.intersection(*(set(held) for held in found.values())) if found else set()
    seeds = tuple(sorted(common))
    kept = [[found[setting][seed] for seed in seeds] for setting in priorities]
    return ArmRuns(
        arm=arm,
        priorities=priorities,
        seeds=seeds,
        metrics=np.array([[values for _, values in row] for row in kept], dtype=float).reshape(
            len(priorities), len(seeds), len(axes)
        ),
        run_ids=tuple(tuple(run_id for run_id, _ in row) for row in kept),
        num_left_out=sum(map(len, found.values())) - len(priorities) * len(seeds),
    )


def steered_arms(findings: Findings) -> tuple[str, ...]:
    """Return the arms with two priorities or more: those of `DEFAULT_PAIR` first, then by plan."""
    counts = dict.fromkeys(findings.arms, 0)
    for point in findings.points:
        counts[point.arm] += point.priorities is not None
    steered = [arm for arm, count in counts.items() if count > 1]
    methods = method_of(findings)
    first = [arm for method in DEFAULT_PAIR for arm in steered if methods[arm] == method]
    return tuple(dict.fromkeys([*first, *steered]))


def method_of(findings: Findings) -> dict[str, str]:
    """Return arm -> method, of all arms with usable runs."""
    if findings.runs.empty:
        return {}
    return dict(zip(findings.runs["arm"], findings.runs["method"], strict=True))


def arm_pairs(findings: Findings, arms: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return which of `arms` are set side by side: those of `DEFAULT_PAIR`, else every pair."""
    methods = method_of(findings)
    first, second = ([arm for arm in arms if methods[arm] == name] for name in DEFAULT_PAIR)
    return tuple(itertools.product(first, second)) or tuple(itertools.combinations(arms, 2))


def is_equal(priorities: Sequence[float] | None) -> bool:
    """Return whether every task counts alike; tables often hold 1/3 with few digits."""
    if not priorities:
        return False
    return max(abs(value - 1 / len(priorities)) for value in priorities) < 1e-3
