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

from analysis.compute.fronts import REFERENCE_MARGIN, minimised_hypervolume, nondominated
from mtl.spec import RunSpec
from sweeps.search.decisions import ranges_of
from sweeps.search.options import (
    Point,
    num_promoted,
    parameters_of,
    priorities_of,
    rung_epochs,
    tuning_points,
    units_of,
    with_parameters,
)
from sweeps.search.study import SearchError, Trials
from sweeps.text import counted


def reference_of(points: np.ndarray) -> np.ndarray:
    """Return the worst of `points` (num_points, objectives) on each objective, and a bit more."""
    width = np.ptp(points, axis=0)
    return points.max(axis=0) + REFERENCE_MARGIN * np.where(width > 0, width, 1.0)


def ranked(points: Mapping[int, np.ndarray]) -> list[int]:
    """Return the candidates, the best first.

    By the nondomination rank of their mean over the priorities; within a rank, by the hypervolume
    that their points cover; of equals the earlier first.

    Args:
        points: candidate -> (num_priorities, objectives), minimised and finite.
    """
    if not points:
        return []
    reference = reference_of(np.concatenate(list(points.values())))
    volume = {i: minimised_hypervolume(p, reference) for i, p in points.items()}
    rank: dict[int, int] = {}
    left = sorted(points)
    while left:
        front = nondominated(np.array([points[i].mean(axis=0) for i in left]))
        level = max(rank.values(), default=-1) + 1
        rank |= {i: level for i, on_front in zip(left, front, strict=True) if on_front}
        left = [i for i in left if i not in rank]
    return sorted(points, key=lambda i: (rank[i], -volume[i], i))


def best_subset(points: Mapping[int, Sequence[float]], size: int) -> list[int]:
    """Return `size` keys (or all) whose points together cover the most hypervolume, greedily.

    The first covers the most by itself, each further one adds the most to those before it; of
    equals the earlier first. Greedy choice covers at least 63 % of the best subset's hypervolume.

    Args:
        points: key -> objectives, minimised and finite.
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


Candidates = Mapping[int, RunSpec]


class Tuning:
    """Candidates of all methods, trained side by side from rung to rung."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        first = next(iter(trials.bases.values()))
        self._rungs = rung_epochs(first.epochs)
        self._points = tuning_points(len(first.tasks))
        self._studies = {
            method: trials.study(f"nuisance {method}", ranges_of(base, trials.options))
            for method, base in trials.bases.items()
        }

    def tune(self) -> dict[str, RunSpec]:
        """Return method -> its run with the best settings of the nuisance parameters."""
        trials = self._trials
        if trials.options.candidates == 1:
            return dict(trials.bases)
        candidates = self._first_rung()
        alive = {
            method: [i for i in found if trials.reported("candidate_told", method, i) is not None]
            for method, found in candidates.items()
        }
        best: dict[str, int] = {}
        for rung in range(len(self._rungs)):
            undecided = {
                method: [candidates[method][i] for i in alive[method]]
                for method in trials.bases
                if trials.log.get("rung", method, rung) is None
            }
            self._train(rung, undecided)
            for method in trials.bases:
                decision = trials.log.decide(
                    "rung",
                    method,
                    rung,
                    make=partial(self._rung, candidates[method], alive[method], rung),
                )
                if not decision["ranked"]:
                    raise SearchError(
                        f"No candidate of {method} came to the end of epoch {decision['epoch']}. "
                        "Give other settings, or other --learning-rates, and another --name."
                    )
                alive[method], best[method] = decision["promoted"], decision["ranked"][0]
        return {
            method: with_parameters(
                base,
                trials.log.decide(
                    "tuned",
                    method,
                    make=partial(_tuned, best[method], candidates[method]),
                )["params"],
            )
            for method, base in trials.bases.items()
        }

    def _first_rung(self) -> dict[str, Candidates]:
        """Return method -> candidate -> its run, all trained to the first rung."""
        trials = self._trials
        candidates: dict[str, dict[int, RunSpec]] = {method: {} for method in trials.bases}
        for generation in trials.generations(trials.options.candidates):
            for method, base in trials.bases.items():
                for i in generation:
                    given = self._within(base) if i == 0 else None
                    study = self._studies[method]
                    asked = trials.ask(study, "candidate", (method, i), given)
                    candidates[method][i] = with_parameters(base, asked["params"])
            pending = {
                method: [
                    c for i, c in found.items() if trials.is_pending("candidate_told", method, i)
                ]
                for method, found in candidates.items()
            }
            self._train(0, pending)
            for method in trials.bases:
                for i in generation:
                    points = self._objectives(candidates[method][i], self._rungs[0])
                    mean = None if points is None else points.mean(axis=0)
                    trials.tell(self._studies[method], "candidate_told", (method, i), mean)
        return dict(candidates)

    def _within(self, base: RunSpec) -> dict[str, float] | None:
        """Return the settings that were given, unless they lie outside the ranges."""
        given = parameters_of(base)
        ranges = ranges_of(base, self._trials.options)
        inside = all(low <= given[name] <= high for name, (low, high) in ranges.items())
        return given if inside else None

    def _specs(self, candidate: RunSpec) -> list[RunSpec]:
        return [replace(candidate, priorities=point) for point in self._points]

    def _train(self, rung: int, candidates: Mapping[str, Sequence[RunSpec]]) -> None:
        specs = [spec for found in candidates.values() for c in found for spec in self._specs(c)]
        if specs:
            epoch = self._rungs[rung]
            what = f"Tuning, rung {rung + 1} of {len(self._rungs)}: to epoch {epoch}"
            self._trials.train(what, specs, epoch)

    def _objectives(self, candidate: RunSpec, epoch: int) -> np.ndarray | None:
        """Return a candidate's (priorities, objectives) after an epoch, None unless it has all."""
        points = [self._trials.objectives(spec, epoch) for spec in self._specs(candidate)]
        found = [point for point in points if point is not None]
        return np.array(found) if len(found) == len(points) else None

    def _rung(self, candidates: Candidates, alive: Sequence[int], rung: int) -> dict[str, Any]:
        """Return which candidates of a rung go on; none from the last, where the best wins."""
        epoch = self._rungs[rung]
        points = {i: self._objectives(candidates[i], epoch) for i in alive}
        order = ranked({i: p for i, p in points.items() if p is not None})
        is_last = rung == len(self._rungs) - 1
        num = 0 if is_last else num_promoted(len(alive))
        return {
            "epoch": epoch,
            "ranked": order,
            "promoted": order[:num],
            "failed": [i for i, p in points.items() if p is None],
        }


def _tuned(best: int, candidates: Candidates) -> dict[str, Any]:
    return {"candidate": best, "params": parameters_of(candidates[best])}


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


class Search:
    """A search over `trials`."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._bases, self._options = trials.bases, trials.options
        num_tasks = len(next(iter(self._bases.values())).tasks)
        self._tuning_points = tuning_points(num_tasks)
        self._tuning = Tuning(trials)
        units = {f"unit_{i}": (0.0, 1.0) for i in range(num_tasks - 1)}
        self._studies = {m: trials.study(f"priorities {m}", units) for m in self._bases}

    def run(self) -> Outcome:
        """Go through all steps; return what was found.

        Raises:
            SearchError: if nothing could be trained.
            Exception: whatever `train` raises, such as a stop; started again, the search goes on.
        """
        trials = self._trials
        explored = self._explore(self._tuning.tune())
        chosen = {
            method: [explored[method][i] for i in self._choose(method, explored[method])]
            for method in self._bases
        }
        specs = [
            replace(spec, seed=seed)
            for method in chosen
            for spec in chosen[method]
            for seed in range(self._options.seeds)
        ]
        trials.train("Training the chosen points with every seed", specs, None)
        return self._outcome(chosen, specs, explored)

    def _outcome(
        self,
        chosen: dict[str, list[RunSpec]],
        specs: list[RunSpec],
        explored: Mapping[str, Mapping[int, RunSpec]],
    ) -> Outcome:
        """Return what was found, and what the store tells of the runs on the way."""
        trials = self._trials
        epochs = {run_id: trials.epochs_of(run_id) for run_id in trials.runs}
        left = {run_id for run_id in trials.runs if not trials.store.is_done(run_id)}
        failed = {run_id for run_id in left if trials.failed(run_id)}
        return Outcome(
            chosen,
            tuple(specs),
            num_epochs=sum(epochs.values()),
            num_paused=sum(epochs[run_id] > 0 for run_id in left - failed),
            num_explored=sum(map(len, explored.values())),
            num_failed=len(failed - {spec.run_id() for spec in specs}),
        )

    def _explore(self, tuned: Mapping[str, RunSpec]) -> dict[str, dict[int, RunSpec]]:
        """Return method -> trial -> its run with seed 0."""
        trials = self._trials
        explored: dict[str, dict[int, RunSpec]] = {method: {} for method in self._bases}
        for generation in trials.generations(self._options.trials):
            for method, base in tuned.items():
                for i in generation:
                    asked = trials.ask(
                        self._studies[method],
                        "asked",
                        (method, i),
                        self._first_units(i),
                        partial(self._asked_point, i),
                    )
                    explored[method][i] = replace(base, priorities=tuple(asked["priorities"]))
            specs = [
                explored[method][i]
                for i in generation
                for method in self._bases
                if trials.is_pending("told", method, i)
            ]
            if specs:
                trials.train("Exploring priorities", specs, None)
            for method in self._bases:
                for i in generation:
                    values = trials.objectives(explored[method][i], None)
                    trials.tell(self._studies[method], "told", (method, i), values)
        return explored

    def _first_units(self, trial: int) -> dict[str, float] | None:
        """Return the units of the tuning's priorities for the first trials."""
        if trial >= len(self._tuning_points):
            return None
        return {f"unit_{i}": u for i, u in enumerate(units_of(self._tuning_points[trial]))}

    def _asked_point(self, trial: int, params: Mapping[str, float]) -> dict[str, Point]:
        """Return the priorities of a trial; the first ones not by way of units, to the last digit.

        So the first trials are the very runs of the tuning, and go on where those were left.
        """
        if trial < len(self._tuning_points):
            return {"priorities": self._tuning_points[trial]}
        return {"priorities": priorities_of([params[f"unit_{i}"] for i in range(len(params))])}

    def _choose(self, method: str, explored: Mapping[int, RunSpec]) -> list[int]:
        options = self._options

        def make() -> dict[str, Any]:
            found = {i: self._trials.reported("told", method, i) for i in range(options.trials)}
            # A sampler may ask for the same point twice; the second adds nothing.
            first = {explored[i].run_id(): i for i in reversed(range(options.trials))}
            points = {i: v for i, v in found.items() if v is not None and i in first.values()}
            return {"chosen": best_subset(points, options.points)}

        chosen = self._trials.log.decide(
            "chosen", method, options.trials, options.points, make=make
        )
        if not chosen["chosen"]:
            raise SearchError(
                f"Every trial of {method} failed. Give other settings and another --name."
            )
        return list(chosen["chosen"])
