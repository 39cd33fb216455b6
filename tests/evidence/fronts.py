"""Fronts that were reached in several ways, set side by side: `python -m tests.evidence.fronts`.

    python -m tests.evidence.fronts FULL OTHER...   stores, or sweeps as STORE/sweeps/NAME, of the
                                                    same grid, the first in full

For each method and other way: its hypervolume over that of the first (of the means over seeds, and
of each seed alone: geometric mean and range), the epochs it took over the first one's, and how far
its points lie from those of the first at the same priorities, in standard deviations over seeds.
The reference point is that of all runs of all ways together.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.compute.fronts import Reference, hypervolume, reference_point
from analysis.load.axes import Axis, choose_axes
from analysis.load.matched import ArmRuns, by_arm, matched_runs
from analysis.load.plans import Asked, stores_among
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
    """Epochs trained for the runs compared, trunks included, over those of the first way."""
    largest_shift: tuple[float, ...]
    """Per axis: the largest difference of the means at a priority over the pooled sd of seeds; 0
    where the seeds do not differ."""
    shifts: tuple[tuple[float, ...], ...]
    """(priorities, axes) differences of means, in metric units."""


def done(store: Store, asked: Asked | None) -> dict[str, RunSpec]:
    """Return the finished runs of a store or sweep; trunks and mixed networks are left out."""
    ids = store.run_ids() if asked is None else asked.run_ids
    specs = {run_id: store.spec(run_id) for run_id in ids if store.result(run_id)}
    found = {run_id: spec for run_id, spec in specs.items() if isinstance(spec, RunSpec)}
    trunks = {spec.trunk for spec in found.values()}
    return {i: spec for i, spec in found.items() if i not in trunks and not spec.is_mixed}


def epochs_of(specs: Iterable[RunSpec]) -> int:
    """Return the epochs that runs took, those of their trunks once."""
    held = list(specs)
    trunks = {spec.trunk: spec.forked_after or 0 for spec in held}
    return sum(spec.own_epochs for spec in held) + sum(trunks.values())


def side_by_side(
    places: Sequence[str | Path],
) -> tuple[Reference, tuple[Axis, ...], list[SideBySide]]:
    """Return the comparisons of every method and way with the first."""
    stores, specs = {}, {}
    for place in map(str, places):
        way = place.rstrip("/").rpartition("/")[2]
        (stores[way],), asked = stores_among([place])
        specs[way] = done(stores[way], asked)
    tables = []
    tasks: tuple[str, ...] = ()
    for way, store in stores.items():
        loaded = load_stores([store], list(specs[way]))
        tasks = loaded.tasks
        tables.append(loaded.runs.assign(way=way, arm=loaded.runs["method"] + "|" + way))
    runs = pd.concat(tables, ignore_index=True)
    axes = choose_axes(tasks, {})
    reference = reference_point(runs, axes)
    assert reference is not None
    first = next(iter(stores))
    arms, found = by_arm(runs, axes), []

    def epochs(way: str, method: str, runs: ArmRuns) -> int:
        return epochs_of(
            spec
            for spec in specs[way].values()
            if (spec.method, spec.seed in runs.seeds) == (method, True)
            and spec.priorities in runs.priorities
        )

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
            largest = np.abs(shifts).max(axis=0)
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
                    epochs(way, method, matched.a) / epochs(first, method, matched.a),
                    tuple(np.divide(largest, sd, out=0 * sd, where=sd > 0).tolist()),
                    tuple(map(tuple, shifts.tolist())),
                )
            )
    return reference, axes, found


def main() -> None:
    """Print the comparisons of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    reference, axes, found = side_by_side(given.stores)
    if given.json:
        sweep = " and ".join(store.replace("/sweeps/", "/") for store in given.stores)
        print(json.dumps({"sweep": sweep, "ways": [asdict(held) for held in found]}, indent=1))
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
