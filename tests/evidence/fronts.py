"""Fronts that were reached in several ways, set side by side: `python -m tests.evidence.fronts`.

    python -m tests.evidence.fronts FULL OTHER...     stores of the same grid, the first in full

For each method and other way: its hypervolume over that of the first (of the means over seeds, and
of each seed alone: geometric mean and range), the epochs it took over the first one's, and how far
its points lie from those of the first at the same priorities, in standard deviations over seeds.
The reference point is that of all runs of all ways together.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.compute.fronts import Reference, hypervolume, reference_point
from analysis.load.axes import Axis, choose_axes
from analysis.load.matched import by_arm, matched_runs
from analysis.load.runs import load_stores
from mtl.spec import RunSpec
from mtl.store import Store


@dataclass(frozen=True)
class SideBySide:
    """What another way to a method's front gives beside the first."""

    way: str
    method: str
    num_priorities: int
    num_seeds: int
    ratio: float
    """Of the hypervolumes of the means over seeds."""
    seed_ratio: float
    """Geometric mean of the same for each seed alone."""
    seed_range: tuple[float, float]
    cost: float
    """Epochs trained, trunks included, over those of the first way."""
    largest_shift: tuple[float, ...]
    """Per axis: the largest difference of the means at a priority over the pooled sd of seeds."""
    shifts: tuple[tuple[float, ...], ...]
    """(priorities, axes) differences of means, in metric units."""


def epochs_of(store: Store, method: str) -> int:
    """Return the epochs that the finished runs of a method took, their trunks included."""
    total = 0
    trunks: dict[str, int] = {}
    for run_id in store.run_ids():
        spec = store.spec(run_id)
        if isinstance(spec, RunSpec) and spec.method == method and store.result(run_id):
            total += spec.own_epochs
            if spec.trunk is not None and spec.forked_after is not None:
                trunks[spec.trunk] = spec.forked_after
            elif spec.optimizer.schedule_epochs is not None:  # a trunk, counted by its forks
                total -= spec.own_epochs
    return total + sum(trunks.values())


def side_by_side(folders: list[Path]) -> tuple[Reference, tuple[Axis, ...], list[SideBySide]]:
    """Return the comparisons of every method and way with the first."""
    stores = {folder.name: Store(folder, create=False) for folder in folders}
    tables = []
    tasks: tuple[str, ...] = ()
    for way, store in stores.items():
        ids = [
            run_id
            for run_id in store.run_ids()
            if (spec := store.spec(run_id)) and not _is_trunk(spec)
        ]
        loaded = load_stores([store], ids)
        tasks = loaded.tasks
        tables.append(loaded.runs.assign(way=way, arm=loaded.runs["method"] + "|" + way))
    runs = pd.concat(tables, ignore_index=True)
    axes = choose_axes(tasks, {})
    reference = reference_point(runs, axes)
    assert reference is not None
    first = next(iter(stores))
    arms, found = by_arm(runs, axes), []
    for method in runs["method"].unique():
        for way in list(stores)[1:]:
            pair = (f"{method}|{way}", f"{method}|{first}")
            if not set(pair) <= set(arms):
                continue
            matched = matched_runs(arms, pair, same_seeds=True)
            if isinstance(matched, str):
                print(matched)
                continue
            a, b = matched.a.metrics, matched.b.metrics
            seeds = [
                hypervolume(a[:, k], reference, axes) / hypervolume(b[:, k], reference, axes)
                for k in range(a.shape[1])
            ]
            shifts = a.mean(axis=1) - b.mean(axis=1)
            sd = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)).mean(axis=0) / 2)
            found.append(
                SideBySide(
                    way,
                    method,
                    *a.shape[:2],
                    hypervolume(a.mean(axis=1), reference, axes)
                    / hypervolume(b.mean(axis=1), reference, axes),
                    float(np.exp(np.log(seeds).mean())),
                    (min(seeds), max(seeds)),
                    epochs_of(stores[way], method) / epochs_of(stores[first], method),
                    tuple((np.abs(shifts) / sd).max(axis=0).tolist()),
                    tuple(map(tuple, shifts.tolist())),
                )
            )
    return reference, axes, found


def _is_trunk(spec: object) -> bool:
    return (
        isinstance(spec, RunSpec) and spec.optimizer.schedule_epochs is not None and not spec.trunk
    )


def main() -> None:
    """Print the comparisons of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    reference, axes, found = side_by_side(given.stores)
    if given.json:
        print(json.dumps([asdict(held) for held in found]))
        return
    print(reference.rule, dict(zip([axis.column for axis in axes], reference.point, strict=True)))
    for held in found:
        low, high = held.seed_range
        largest = ", ".join(f"{shift:.1f} sd" for shift in held.largest_shift)
        by_seed = f"{held.seed_ratio:.3f} ({low:.2f} to {high:.2f})"
        print(
            f"{held.method:<13} {held.way:<8} {held.num_priorities} x {held.num_seeds}: "
            f"hypervolume {held.ratio:.3f}, by seed {by_seed}, epochs {held.cost:.2f}; "
            f"largest shift {largest}"
        )
        for shift in held.shifts:
            print("    " + "  ".join(f"{value:+.3f}" for value in shift))


if __name__ == "__main__":
    main()
