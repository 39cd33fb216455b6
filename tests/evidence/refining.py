"""Which rule of --refine finds the front? `python -m tests.evidence.refining STORE/sweeps/NAME`.

From a finished grid of an even number of divisions every other priority is taken as if it alone had
been trained. Each rule adds N priorities by their validation metrics, from among the rest of the
grid; printed is the hypervolume of what it then has over that of the whole grid, on test: median
and range over draws of some of the seeds, for each method.
"""

import argparse
import json
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.compute.fronts import hypervolume, reference_point
from analysis.load.axes import choose_axes, signs
from analysis.load.matched import Settings, by_arm, shared_seeds
from analysis.load.plans import stores_among
from analysis.load.priorities import Priorities
from analysis.load.runs import VALIDATION, load_stores
from sweeps.plan.refine import RULES, Counts, least_sure_places, widest

Metrics = Mapping[str, Mapping[Counts, np.ndarray]]
"""Arm -> priorities as counts -> (seeds, axes)."""


def chosen(rule: str, coarse: Metrics, turn: np.ndarray, num_points: int) -> list[Counts]:
    """Return what a rule adds to metrics of the coarse lattice, in counts of the fine one."""
    halved = [{tuple(c // 2 for c in p): v for p, v in arm.items()} for arm in coarse.values()]
    if rule == "unsure":
        arms = [{p: v.tolist() for p, v in arm.items()} for arm in halved]
        return [middle.counts for middle in least_sure_places(arms, num_points)]
    fronts = [{p: (v.mean(axis=0) * turn).tolist() for p, v in arm.items()} for arm in halved]
    return [middle.counts for middle in widest(fronts, num_points)[0]]


def shares(
    place: str, num_points: int, num_seeds: int, num_draws: int
) -> dict[tuple[str, str], list[float]]:
    """Return (method, rule) -> hypervolume over the whole grid's, of each draw of seeds."""
    stores, asked = stores_among([place])
    loaded = load_stores(stores, None if asked is None else list(asked.run_ids))
    axes = choose_axes(loaded.tasks, declared=loaded.declared)
    reference = reference_point(loaded.runs, axes)
    assert reference is not None
    on_test = by_arm(loaded.runs, axes)
    named = {axis.column: loaded.runs[f"{VALIDATION}_{axis.column}"] for axis in axes}
    on_validation = by_arm(loaded.runs.assign(**named), axes)
    arms = [*on_test]
    points = [*on_test[arms[0]]]
    divisions = round(1 / min(min(p) for p in points))
    counts = {p: tuple(round(c * divisions) for c in p) for p in points}
    seeds = shared_seeds([held for arm in on_test.values() for held in arm.values()])
    turn = signs(axes)
    rng = np.random.default_rng(0)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(num_draws):
        drawn = sorted(rng.choice(seeds, num_seeds, replace=False))
        whole, validated = (_of(table, counts, drawn) for table in (on_test, on_validation))
        coarse = {
            arm: {p: v for p, v in held.items() if not any(c % 2 for c in p)}
            for arm, held in validated.items()
        }
        start = [*coarse[arms[0]]]
        for rule in ("nothing", *RULES):
            added = [] if rule == "nothing" else chosen(rule, coarse, turn, num_points)
            for arm in arms:
                means = {p: values.mean(axis=0) for p, values in whole[arm].items()}
                kept = np.array([means[p] for p in (*start, *added)])
                every = np.array([*means.values()])
                share = hypervolume(kept, reference, axes) / hypervolume(every, reference, axes)
                found.setdefault((arm, rule), []).append(share)
    return found


def _of(
    table: Mapping[str, Settings], counts: Mapping[Priorities, Counts], drawn: Sequence[int]
) -> Metrics:
    return {
        arm: {counts[p]: np.array([held[s] for s in drawn]) for p, held in settings.items()}
        for arm, settings in table.items()
    }


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place")
    parser.add_argument("--add", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = shares(given.place, given.add, given.seeds, given.draws)
    rows = [
        {
            "method": arm,
            "rule": rule,
            "median": float(np.median(held)),
            "range": (min(held), max(held)),
        }
        for (arm, rule), held in found.items()
    ]
    if given.json:
        sweep = given.place.replace("/sweeps/", "/")
        counts = {"added": given.add, "seeds": given.seeds, "draws": given.draws}
        print(json.dumps({"sweep": sweep, **counts, "shares": rows}, indent=1))
        return
    for row in rows:
        low, high = row["range"]
        print(f"{row['method']:<13} {row['rule']:<8} {row['median']:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
