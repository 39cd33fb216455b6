"""The search: tune, explore, choose, confirm; every step decided once and read again afterwards.

1. Tune, for each method: candidates of learning rate and increase rate are trained to the first
   rung at a few priorities; the better half goes on to the next rung, from its checkpoints.
2. Explore: priorities on the continuous simplex, with the best candidate's settings and seed 0.
   The first are those of the tuning, whose runs go on where they were left.
3. Choose on validation the points that together cover the most hypervolume.
4. Confirm: the chosen points are trained with every other seed as well, and reported.

All methods go through the same steps side by side with the same numbers, so that none gets more
epochs than another. Everything depends on the store's records and the decisions alone: started
again, the search finds its runs trained and goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.compute.fronts import REFERENCE_MARGIN, minimised, minimised_hypervolume, nondominated
from analysis.load.axes import choose_axes
from mtl.errors import UserError
from mtl.records import TaskMetrics
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.search.decisions import DecisionLog, begin, decided_specs, ranges_of
from sweeps.search.options import (
    TUNED,
    Interval,
    Point,
    SearchOptions,
    num_promoted,
    parameters_of,
    priorities_of,
    rung_epochs,
    tuning_points,
    units_of,
    with_parameters,
)
from sweeps.search.study import Asked, Study, open_storage, real_range
from sweeps.text import counted, failure_sentence


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


TrainBatch = Callable[[str, Sequence[RunSpec], int | None], None]
"""Train runs to their end, or to the epoch given last, as far as they do not fail; the first
argument says in words what for."""


class SearchError(UserError):
    """The search cannot go on, in one sentence for its user."""


class Trials:
    """A search's settings, decisions, studies and runs.

    Args:
        bases: method -> its run with the given settings; see `options.search_bases`.
        options: of the search.
        store: where the runs are.
        folder: of the sweep in the store, for decisions.jsonl and study.log.
        train: trains a batch.

    Raises:
        ValueError: if the decisions in `folder` were made with other settings.
        StoreError: if they cannot be read.
    """

    def __init__(
        self,
        bases: Mapping[str, RunSpec],
        options: SearchOptions,
        store: Store,
        folder: Path,
        train: TrainBatch,
    ) -> None:
        self.bases, self.options, self.store, self._train = dict(bases), options, store, train
        self.log = DecisionLog(folder / "decisions.jsonl")
        begin(self.log, self.bases, options)
        self.axes = choose_axes(next(iter(self.bases.values())).tasks)
        self.runs = {spec.run_id(): spec for spec in decided_specs(bases, options, self.log)}
        """Run id -> spec of every run that was ever asked for."""
        self._storage = open_storage(folder / "study.log")

    def study(self, name: str, intervals: Mapping[str, Interval]) -> Study:
        """Return a new study of these parameters, those of `TUNED` on a logarithmic scale."""
        options = self.options
        return Study(
            self._storage,
            name,
            {k: real_range(*v, log=k in TUNED) for k, v in intervals.items()},
            len(self.axes),
            options.sampler,
            options.population,
            options.search_seed,
        )

    def generations(self, number: int) -> list[range]:
        """Return the trials 0 to `number` - 1, those together that are asked for together."""
        step = self.options.population
        return [range(i, min(i + step, number)) for i in range(0, number, step)]

    # Training, and what the store says of runs.

    def train(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        """Train a batch.

        Raises:
            SearchError: if nothing of the search could be trained yet. Nothing is told of it
                then, so that all of it may be tried again.
        """
        self.runs |= {spec.run_id(): spec for spec in specs}
        self._train(what, specs, pause_after)
        if any(self.epochs_of(run_id) for run_id in self.runs):
            return
        reasons = (failure_sentence(self.store.error(spec.run_id())) for spec in specs)
        raise SearchError(
            f"All of the first {counted(len(specs), 'run')} failed, one with: {next(reasons)} "
            "Under this name the settings stand: to change one, give another --name as well. "
            "Where the cause is none of them, mend it, and --retry-failed tries them again."
        )

    def epochs_of(self, run_id: str) -> int:
        """Return how many epochs a run has been trained."""
        return len(self.store.epochs(run_id))

    def failed(self, run_id: str) -> bool:
        """Return whether a run's last word was a failure."""
        return self.store.error(run_id) is not None

    def objectives(self, spec: RunSpec, epoch: int | None) -> np.ndarray | None:
        """Return a run's validation metrics, minimised, or None if it has none.

        Args:
            spec: of the run.
            epoch: after which; None means the epoch that the run itself selected.
        """
        run_id = spec.run_id()
        metrics: TaskMetrics | None = None
        if epoch is None:
            result = self.store.result(run_id) if self.store.is_done(run_id) else None
            metrics = None if result is None else result.selected_metrics["validation"]
        else:
            records = self.store.epochs(run_id)
            metrics = records[epoch - 1].metrics["validation"] if len(records) >= epoch else None
        if metrics is None:
            return None
        values = [metrics[axis.task][axis.metric.name] for axis in self.axes]
        if any(value is None for value in values):
            return None
        return minimised(np.array(values, dtype=np.float64), self.axes)

    # Asking and telling.

    def ask(
        self,
        study: Study,
        kind: str,
        about: tuple[str, int],
        fixed: Mapping[str, float] | None,
        extra: Callable[[Mapping[str, float]], Mapping[str, Any]] = lambda params: {},
    ) -> dict[str, Any]:
        """Return a trial's decision: the recorded one, which the study takes over, or a new one."""
        held = self.log.get(kind, *about)
        if held is not None:
            study.add(Asked(held["params"], held["sampler_state"]))
            return held
        asked = study.ask(fixed)
        decision = {**extra(asked.params), "params": asked.params}
        decision["sampler_state"] = asked.sampler_state
        return self.log.decide(kind, *about, make=lambda: decision)

    def tell(
        self, study: Study, kind: str, about: tuple[str, int], values: np.ndarray | None
    ) -> None:
        """Tell a trial's values, or None if it failed; what was told once stands."""
        plain = None if values is None else [float(v) for v in values]
        held = self.log.decide(kind, *about, make=lambda: {"values": plain})["values"]
        study.tell(about[1], held)

    def told(self, kind: str, method: str, number: int) -> list[float] | None:
        """Return the values that a trial was told with; None if it failed or was not told yet."""
        told = self.log.get(kind, method, number)
        return None if told is None else told["values"]

    def is_untold(self, kind: str, method: str, number: int) -> bool:
        """Return whether a trial is still to be told."""
        return self.log.get(kind, method, number) is None


Candidates = Mapping[int, RunSpec]


class Tuning:
    """Candidates of all methods, trained side by side from rung to rung.

    Args:
        trials: of the search; a study is added for each method.
    """

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
            method: [i for i in found if trials.told("candidate_told", method, i) is not None]
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

    def epochs_told(self) -> dict[str, int]:
        """Return run id -> the epochs after which the decisions compared it.

        They stand whatever the store still holds of the runs; of a candidate that failed the
        decisions name none.
        """
        trials, log = self._trials, self._trials.log
        found: dict[str, int] = {}
        for method, base in trials.bases.items():
            after: dict[int, int] = {}
            for i in range(trials.options.candidates):
                if trials.told("candidate_told", method, i) is not None:
                    after[i] = self._rungs[0]
            for rung, epoch in enumerate(self._rungs):
                decision = log.get("rung", method, rung)
                after |= dict.fromkeys(decision["ranked"] if decision is not None else (), epoch)
            for i, epoch in after.items():
                candidate = log.get("candidate", method, i)
                if candidate is not None:
                    specs = self._specs(with_parameters(base, candidate["params"]))
                    found |= {spec.run_id(): epoch for spec in specs}
        return found

    def _first_rung(self) -> dict[str, Candidates]:
        """Return method -> candidate -> its run, all told how they did at the first rung."""
        trials = self._trials
        candidates: dict[str, dict[int, RunSpec]] = {method: {} for method in trials.bases}
        for generation in trials.generations(trials.options.candidates):
            for method, base in trials.bases.items():
                for i in generation:
                    given = self._within(base) if i == 0 else None
                    study = self._studies[method]
                    asked = trials.ask(study, "candidate", (method, i), given)
                    candidates[method][i] = with_parameters(base, asked["params"])
            untold = {
                method: [
                    c for i, c in found.items() if trials.is_untold("candidate_told", method, i)
                ]
                for method, found in candidates.items()
            }
            self._train(0, untold)
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


__all__ = ["Outcome", "Search", "SearchError"]

UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Outcome:
    """What a search found."""

    points: dict[str, list[RunSpec]]
    """Method -> its chosen points with seed 0, the most important first."""
    specs: tuple[RunSpec, ...]
    """The chosen points with every seed, method by method."""
    num_epochs: int
    """Trained in all, tuning included; of failed runs those that the store still holds."""
    num_paused: int
    """Runs that were left in the tuning; they are no results."""
    num_explored: int
    """Points tried."""
    num_failed: int
    """Runs of the tuning and the exploring that failed; what followed rests on it."""

    def in_words(self) -> str:
        """Return what was done, and with which settings, for people."""
        tuned = [
            f"{method} with " + ", ".join(f"{n} {v:.3g}" for n, v in parameters_of(s[0]).items())
            for method, s in self.points.items()
        ]
        words = (
            f"Searched with {counted(self.num_epochs, 'epoch')} in all: "
            f"{counted(self.num_explored, 'point')} tried, {counted(self.num_paused, 'run')} of "
            f"the tuning left before its end and no result. {'; '.join(tuned)}."
        )
        if self.num_failed:
            words += (
                f" {counted(self.num_failed, 'run')} of the tuning or the exploring failed, and "
                "what was decided rests on that: --retry-failed leaves them, another --name tries "
                "them again and uses finished runs again."
            )
        return words


class Search:
    """A search under way; see `Trials` for its arguments and what it raises."""

    def __init__(
        self,
        bases: Mapping[str, RunSpec],
        options: SearchOptions,
        store: Store,
        folder: Path,
        train: TrainBatch,
    ) -> None:
        self._trials = Trials(bases, options, store, folder, train)
        self._bases, self._options = self._trials.bases, options
        num_tasks = len(next(iter(self._bases.values())).tasks)
        self._tuning_points = tuning_points(num_tasks)
        self._tuning = Tuning(self._trials)
        units = {f"unit_{i}": UNIT for i in range(num_tasks - 1)}
        self._studies = {m: self._trials.study(f"priorities {m}", units) for m in self._bases}

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
        """Return what was found; what was decided once counts, even if its runs were removed."""
        trials = self._trials
        tried = {(m, i): spec for m, found in explored.items() for i, spec in found.items()}
        in_vain = {
            spec.run_id() for (m, i), spec in tried.items() if trials.told("told", m, i) is None
        }
        told = self._tuning.epochs_told()
        told |= {s.run_id(): s.epochs for s in tried.values() if s.run_id() not in in_vain}
        epochs = {
            run_id: max(trials.epochs_of(run_id), told.get(run_id, 0)) for run_id in trials.runs
        }
        left = {
            run_id
            for run_id, spec in trials.runs.items()
            if not trials.store.is_done(run_id) and told.get(run_id, 0) < spec.epochs
        }
        failed = {run_id for run_id in left if run_id in in_vain or trials.failed(run_id)}
        return Outcome(
            chosen,
            tuple(specs),
            sum(epochs.values()),
            sum(epochs[run_id] > 0 for run_id in left - failed),
            len(tried),
            len(failed - {spec.run_id() for spec in specs}),
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
                if trials.is_untold("told", method, i)
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
            told = {i: self._trials.told("told", method, i) for i in range(options.trials)}
            # A sampler may ask the same twice; the second adds nothing.
            first = {explored[i].run_id(): i for i in reversed(range(options.trials))}
            points = {i: v for i, v in told.items() if v is not None and i in first.values()}
            return {"chosen": best_subset(points, options.points)}

        chosen = self._trials.log.decide(
            "chosen", method, options.trials, options.points, make=make
        )
        if not chosen["chosen"]:
            raise SearchError(
                f"Every trial of {method} failed. Give other settings and another --name."
            )
        return list(chosen["chosen"])
