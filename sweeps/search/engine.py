"""The search: tune, explore, choose, confirm.

1. Tune, for each method: candidates of learning rate and increase rate are trained to the first
   rung at a few priorities; the better half goes on to the next rung, from its checkpoints
   (successive halving).
2. Explore: priorities on the continuous simplex, with the best candidate's settings and seed 0.
   The first are those of the tuning, whose runs go on where they were left.
3. Choose on validation the points that together cover the most hypervolume.
4. Confirm: the chosen points are trained with every other seed as well, and reported.

All methods take the same steps side by side, so that none gets more epochs than another. What
comes next depends on the store's records and the decisions alone: started again, the search goes
on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from analysis.compute.fronts import minimised_hypervolume
from mtl.spec import RunSpec
from sweeps.plan.tuned import ranked, reference_of
from sweeps.search.decisions import ranges_of
from sweeps.search.options import (
    Point,
    num_promoted,
    parameters_of,
    priorities_of,
    units_of,
    with_parameters,
)
from sweeps.search.study import SearchError, Trials
from sweeps.text import counted


def best_subset(points: Mapping[int, Sequence[float]], size: int) -> list[int]:
    """Return `size` keys (or all) whose points together cover the most hypervolume, greedily.

    The first covers the most by itself, each further one adds the most to those before it; of
    equals the earlier first. Greedy choice covers at least 63 % of the best subset's hypervolume.

    Args:
        points: key -> a value a task, minimised and finite.
        size: how many.
    """
    chosen: list[int] = []
    if not points:
        return chosen
    reference = reference_of(np.array(list(points.values())))
    while len(chosen) < min(size, len(points)):
        volumes = {
            key: minimised_hypervolume(np.array([points[k] for k in (*chosen, key)]), reference)
            for key in sorted(points)
            if key not in chosen
        }
        chosen.append(max(volumes, key=lambda key: (volumes[key], -key)))
    return chosen


def _tune(trials: Trials) -> dict[str, RunSpec]:
    """Return method -> its run with the best settings of the nuisance parameters."""
    bases, log = trials.bases, trials.log
    if trials.options.candidates == 1:
        return dict(bases)
    candidates = _first_rung(trials)
    alive = {
        method: [i for i in found if trials.reported("candidate_told", method, i) is not None]
        for method, found in candidates.items()
    }
    best: dict[str, int] = {}
    for rung in range(len(trials.rungs)):
        undecided = [method for method in bases if log.get("rung", method, rung) is None]
        _train(trials, rung, [candidates[m][i] for m in undecided for i in alive[m]])
        for method in bases:
            make = partial(_ranked_rung, trials, candidates[method], alive[method], rung)
            decision = log.decide("rung", method, rung, make=make)
            if not decision["ranked"]:
                raise SearchError(
                    f"No candidate of {method} came to the end of epoch {decision['epoch']}. "
                    "Give other settings, or other --learning-rates, and another --name."
                )
            alive[method], best[method] = decision["promoted"], decision["ranked"][0]
    tuned = {}
    for method, base in bases.items():
        params = parameters_of(candidates[method][best[method]])
        decision = {"candidate": best[method], "params": params}
        held = log.decide("tuned", method, make=partial(dict, decision))
        tuned[method] = with_parameters(base, held["params"])
    return tuned


def _first_rung(trials: Trials) -> dict[str, dict[int, RunSpec]]:
    """Return method -> candidate -> its run, all trained to the first rung."""
    bases = trials.bases
    ranges = {method: ranges_of(base, trials.options) for method, base in bases.items()}
    studies = {method: trials.study(f"nuisance {method}", ranges[method]) for method in bases}
    candidates: dict[str, dict[int, RunSpec]] = {method: {} for method in bases}
    for generation in trials.generations(trials.options.candidates):
        for method, base in bases.items():
            given = parameters_of(base)
            is_inside = all(low <= given[k] <= high for k, (low, high) in ranges[method].items())
            for i in generation:
                first = given if i == 0 and is_inside else None
                asked = trials.ask(studies[method], "candidate", (method, i), first)
                candidates[method][i] = with_parameters(base, asked["params"])
        pending = [
            candidate
            for method, found in candidates.items()
            for i, candidate in found.items()
            if trials.is_pending("candidate_told", method, i)
        ]
        _train(trials, 0, pending)
        for method in bases:
            for i in generation:
                points = _task_values(trials, candidates[method][i], trials.rungs[0])
                mean = None if points is None else points.mean(axis=0)
                trials.tell(studies[method], "candidate_told", (method, i), mean)
    return candidates


def _specs(trials: Trials, candidate: RunSpec) -> list[RunSpec]:
    return [replace(candidate, priorities=point) for point in trials.tuning_points]


def _train(trials: Trials, rung: int, candidates: Sequence[RunSpec]) -> None:
    specs = [spec for candidate in candidates for spec in _specs(trials, candidate)]
    if specs:
        epoch = trials.rungs[rung]
        what = f"Tuning, rung {rung + 1} of {len(trials.rungs)}: to epoch {epoch}"
        trials.train(what, specs, epoch)


def _task_values(trials: Trials, candidate: RunSpec, epoch: int) -> np.ndarray | None:
    """Return a candidate's (priorities, tasks) after an epoch, None unless it has all."""
    points = [trials.task_values(spec, epoch) for spec in _specs(trials, candidate)]
    found = [point for point in points if point is not None]
    return np.array(found) if len(found) == len(points) else None


def _ranked_rung(
    trials: Trials, candidates: Mapping[int, RunSpec], alive: Sequence[int], rung: int
) -> dict[str, Any]:
    """Return which candidates of a rung go on; none from the last, where the best wins."""
    epoch = trials.rungs[rung]
    points = {i: _task_values(trials, candidates[i], epoch) for i in alive}
    order = ranked({i: p for i, p in points.items() if p is not None})
    is_last = rung == len(trials.rungs) - 1
    return {
        "epoch": epoch,
        "ranked": order,
        "promoted": [] if is_last else order[: num_promoted(len(alive))],
        "failed": [i for i, p in points.items() if p is None],
    }


@dataclass(frozen=True)
class Outcome:
    """What a search found."""

    points: dict[str, list[RunSpec]]
    """Method -> its chosen points with seed 0, the most important first."""
    specs: tuple[RunSpec, ...]
    """The chosen points with every seed, method by method."""
    num_epochs: int
    """Trained in all, tuning included, as far as the store still holds the runs."""
    num_paused: int
    """Runs that were left in the tuning."""
    num_explored: int
    """Points tried."""
    num_failed: int
    """Runs of the tuning and the exploring that failed; what was decided rests on that."""

    def to_text(self) -> str:
        """Return what was done, and with which settings, for people."""
        tuned = [
            f"{method} with " + ", ".join(f"{n} {v:.3g}" for n, v in parameters_of(s[0]).items())
            for method, s in self.points.items()
        ]
        text = (
            f"Searched with {counted(self.num_epochs, 'epoch')} in all: "
            f"{counted(self.num_explored, 'point')} tried, {counted(self.num_paused, 'run')} of "
            f"the tuning left before its end, no result. Settings: {'; '.join(tuned)}."
        )
        if self.num_failed:
            text += (
                f" {counted(self.num_failed, 'run')} of the tuning or the exploring failed, and "
                "what was decided rests on that: --retry-failed leaves them; another --name tries "
                "them again and uses finished runs."
            )
        return text


def search(trials: Trials) -> Outcome:
    """Go through all steps; return what was found.

    Raises:
        SearchError: if nothing could be trained.
        Exception: whatever `trials.train` raises, such as a stop; started again, the search goes
            on.
    """
    explored = _explore(trials, _tune(trials))
    chosen = {
        method: [found[i] for i in _chosen(trials, method, found)]
        for method, found in explored.items()
    }
    specs = [
        replace(spec, seed=seed)
        for points in chosen.values()
        for spec in points
        for seed in range(trials.options.seeds)
    ]
    trials.train("Training the chosen points with every seed", specs, None)
    epochs = {run_id: trials.epochs_of(run_id) for run_id in trials.runs}
    left = {run_id for run_id in trials.runs if not trials.store.is_done(run_id)}
    failed = {run_id for run_id in left if trials.store.error(run_id) is not None}
    return Outcome(
        chosen,
        tuple(specs),
        num_epochs=sum(epochs.values()),
        num_paused=sum(epochs[run_id] > 0 for run_id in left - failed),
        num_explored=sum(map(len, explored.values())),
        num_failed=len(failed - {spec.run_id() for spec in specs}),
    )


def _explore(trials: Trials, tuned: Mapping[str, RunSpec]) -> dict[str, dict[int, RunSpec]]:
    """Return method -> trial -> its run with seed 0."""
    units = {f"unit_{i}": (0.0, 1.0) for i in range(trials.options.num_tasks - 1)}
    studies = {method: trials.study(f"priorities {method}", units) for method in tuned}
    explored: dict[str, dict[int, RunSpec]] = {method: {} for method in tuned}
    for generation in trials.generations(trials.options.trials):
        for method, base in tuned.items():
            for i in generation:
                # The first trials are the very runs of the tuning, and go on where those were left.
                point = next(iter(trials.tuning_points[i:]), None)
                given = None if point is None else dict(zip(units, units_of(point), strict=True))
                extra = partial(_priorities, point)
                asked = trials.ask(studies[method], "asked", (method, i), given, extra)
                explored[method][i] = replace(base, priorities=tuple(asked["priorities"]))
        specs = [
            explored[method][i]
            for i in generation
            for method in tuned
            if trials.is_pending("told", method, i)
        ]
        if specs:
            trials.train("Exploring priorities", specs, None)
        for method in tuned:
            for i in generation:
                values = trials.task_values(explored[method][i], None)
                trials.tell(studies[method], "told", (method, i), values)
    return explored


def _priorities(given: Point | None, params: Mapping[str, float]) -> dict[str, Point]:
    """Return those of a trial; given ones not by way of units, to the last digit."""
    units = [params[f"unit_{i}"] for i in range(len(params))]
    return {"priorities": given or priorities_of(units)}


def _chosen(trials: Trials, method: str, explored: Mapping[int, RunSpec]) -> list[int]:
    options = trials.options

    def make() -> dict[str, Any]:
        found = {i: trials.reported("told", method, i) for i in range(options.trials)}
        # A sampler may ask for the same point twice; the second adds nothing.
        first = {explored[i].run_id(): i for i in reversed(range(options.trials))}
        points = {i: v for i, v in found.items() if v is not None and i in first.values()}
        return {"chosen": best_subset(points, options.points)}

    chosen = trials.log.decide("chosen", method, options.trials, options.points, make=make)
    if not chosen["chosen"]:
        raise SearchError(
            f"Every trial of {method} failed. Give other settings and another --name."
        )
    return list(chosen["chosen"])
