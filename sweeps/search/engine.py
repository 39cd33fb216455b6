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

from analysis.axes import choose_axes
from analysis.fronts import minimised
from mtl.records import TaskMetrics
from mtl.spec import RunSpec
from mtl.store import Store
from mtl.strict import flat
from sweeps.search.budget import num_promoted, rung_epochs
from sweeps.search.decisions import DecisionLog
from sweeps.search.halving import best_subset, ranked
from sweeps.search.options import TUNED, SearchOptions, parameters_of, with_parameters
from sweeps.search.simplex import Point, priorities_of, tuning_points, units_of
from sweeps.search.study import Asked, Study, open_storage, real_range
from sweeps.words import counted, failure_sentence

TrainBatch = Callable[[str, Sequence[RunSpec], int | None], None]
"""Train runs to their end, or to the epoch given last, as far as they do not fail; the first
argument says in words what for."""

UNIT = (0.0, 1.0)


class SearchError(Exception):
    """The search cannot go on, in one sentence for its user."""


@dataclass(frozen=True)
class Outcome:
    """What a search found."""

    points: dict[str, list[RunSpec]]
    """Method -> its chosen points with seed 0, the most important first."""
    specs: tuple[RunSpec, ...]
    """The chosen points with every seed, method by method."""
    num_epochs: int
    """Trained in all, tuning included."""
    num_paused: int
    """Runs that were left in the tuning; they are no results."""
    num_explored: int
    """Points tried."""

    def in_words(self) -> str:
        """Return what was done, and with which settings, for people."""
        tuned = [
            f"{method} with " + ", ".join(f"{n} {v:.3g}" for n, v in parameters_of(s[0]).items())
            for method, s in self.points.items()
        ]
        return (
            f"Searched with {counted(self.num_epochs, 'epoch')} in all: "
            f"{counted(self.num_explored, 'point')} tried, {counted(self.num_paused, 'run')} of "
            f"the tuning left before its end and no result. {'; '.join(tuned)}."
        )


class Search:
    """A search under way.

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
        self._bases, self._options, self._store, self._train = dict(bases), options, store, train
        self._log = DecisionLog(folder / "decisions.jsonl")
        for method, base in self._bases.items():
            self._check_begun(method, base)
        first = next(iter(self._bases.values()))
        self._axes = choose_axes(first.tasks)
        self._rungs = rung_epochs(first.epochs)
        self._tuning_points = tuning_points(len(first.tasks))
        self._runs: dict[str, RunSpec] = {}
        storage = open_storage(folder / "study.log")
        self._nuisance = {
            method: self._study(storage, f"nuisance {method}", self._ranges(base))
            for method, base in self._bases.items()
        }
        units = {f"unit_{i}": UNIT for i in range(len(first.tasks) - 1)}
        self._priorities = {
            method: self._study(storage, f"priorities {method}", units) for method in self._bases
        }

    def run(self) -> Outcome:
        """Go through all steps; return what was found.

        Raises:
            SearchError: if nothing could be trained.
            Exception: whatever `train` raises, such as a stop; started again, the search goes on.
        """
        tuned = self._tune()
        trials = self._explore(tuned)
        chosen = {
            method: [trials[method][i] for i in self._choose(method, trials[method])]
            for method in self._bases
        }
        specs = [
            replace(spec, seed=seed)
            for method in chosen
            for spec in chosen[method]
            for seed in range(self._options.seeds)
        ]
        self._train_runs("Training the chosen points with every seed", specs, None)
        done = [self._epochs_of(run_id) for run_id in self._runs]
        paused = [r for r in self._runs if not self._store.is_done(r) and not self._failed(r)]
        explored = sum(map(len, trials.values()))
        return Outcome(chosen, tuple(specs), sum(done), len(paused), explored)

    def _check_begun(self, method: str, base: RunSpec) -> None:
        options = self._options
        settings = {
            "spec": base.to_dict(),
            "sampler": options.sampler,
            "candidates": options.candidates,
            "population": options.population,
            "search_seed": options.search_seed,
            "ranges": {name: list(interval) for name, interval in self._ranges(base).items()},
        }
        held = self._log.decide("begun", method, make=lambda: settings)
        then, now = flat(held), flat(settings)
        for name, value in now.items():
            if then.get(name) != value:
                raise ValueError(
                    f"Expected {name.removeprefix('spec.')} {then.get(name)}, with which this "
                    f"search was begun for {method}, got {value}. Give another --name; finished "
                    "runs are used again."
                )

    def _ranges(self, base: RunSpec) -> dict[str, tuple[float, float]]:
        return {name: self._options.ranges[name] for name in parameters_of(base)}

    def _study(
        self, storage: Any, name: str, intervals: Mapping[str, tuple[float, float]]
    ) -> Study:
        options = self._options
        return Study(
            storage,
            name,
            {k: real_range(*v, log=k in TUNED) for k, v in intervals.items()},
            len(self._axes),
            options.sampler,
            options.population,
            options.search_seed,
        )

    # What the store says of runs.

    def _train_runs(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        self._runs |= {spec.run_id(): spec for spec in specs}
        self._train(what, specs, pause_after)
        if any(self._epochs_of(run_id) for run_id in self._runs):
            return
        reasons = (failure_sentence(self._store.error(spec.run_id())) for spec in specs)
        raise SearchError(
            f"All of the first {counted(len(specs), 'run')} failed, one with: {next(reasons)} "
            "Once that is mended, --retry-failed tries them again."
        )

    def _epochs_of(self, run_id: str) -> int:
        return len(self._store.epochs(run_id))

    def _failed(self, run_id: str) -> bool:
        return self._store.error(run_id) is not None

    def _objectives(self, spec: RunSpec, epoch: int | None) -> np.ndarray | None:
        """Return a run's validation metrics, minimised, or None if it has none.

        Args:
            spec: of the run.
            epoch: after which; None means the epoch that the run itself selected.
        """
        run_id = spec.run_id()
        metrics: TaskMetrics | None = None
        if epoch is None:
            result = self._store.result(run_id) if self._store.is_done(run_id) else None
            metrics = None if result is None else result.selected_metrics["validation"]
        else:
            records = self._store.epochs(run_id)
            metrics = records[epoch - 1].metrics["validation"] if len(records) >= epoch else None
        if metrics is None:
            return None
        values = [metrics[axis.task][axis.metric.name] for axis in self._axes]
        if any(value is None for value in values):
            return None
        return minimised(np.array(values, dtype=np.float64), self._axes)

    # Asking and telling.

    def _ask(
        self,
        study: Study,
        kind: str,
        about: tuple[str, int],
        fixed: Mapping[str, float] | None,
        extra: Callable[[Mapping[str, float]], Mapping[str, Any]] = lambda params: {},
    ) -> dict[str, Any]:
        """Return a trial's decision: the recorded one, which the study takes over, or a new one."""
        held = self._log.get(kind, *about)
        if held is not None:
            study.add(Asked(held["params"], held["sampler_state"]))
            return held
        asked = study.ask(fixed)
        decision = {**extra(asked.params), "params": asked.params}
        decision["sampler_state"] = asked.sampler_state
        return self._log.decide(kind, *about, make=lambda: decision)

    def _tell(
        self, study: Study, kind: str, about: tuple[str, int], values: np.ndarray | None
    ) -> list[float] | None:
        plain = None if values is None else [float(v) for v in values]
        held = self._log.decide(kind, *about, make=lambda: {"values": plain})["values"]
        study.tell(about[1], held)
        return held

    def _generations(self, number: int) -> list[range]:
        step = self._options.population
        return [range(i, min(i + step, number)) for i in range(0, number, step)]

    # The steps.

    def _tune(self) -> dict[str, RunSpec]:
        """Return method -> its run with the best settings of the nuisance parameters."""
        if self._options.candidates == 1:
            return dict(self._bases)
        candidates: dict[str, dict[int, RunSpec]] = {method: {} for method in self._bases}
        for generation in self._generations(self._options.candidates):
            for method, base in self._bases.items():
                for i in generation:
                    given = self._within(base) if i == 0 else None
                    study = self._nuisance[method]
                    asked = self._ask(study, "candidate", (method, i), given)
                    candidates[method][i] = with_parameters(base, asked["params"])
            untold = {
                method: [c for i, c in found.items() if self._untold("candidate_told", method, i)]
                for method, found in candidates.items()
            }
            self._train_candidates(0, untold)
            for method in self._bases:
                for i in generation:
                    points = self._candidate_points(candidates[method][i], self._rungs[0])
                    mean = None if points is None else points.mean(axis=0)
                    self._tell(self._nuisance[method], "candidate_told", (method, i), mean)
        alive = {
            method: [i for i in found if self._told_values("candidate_told", method, i) is not None]
            for method, found in candidates.items()
        }
        best: dict[str, int] = {}
        for rung in range(len(self._rungs)):
            undecided = {
                method: [candidates[method][i] for i in alive[method]]
                for method in self._bases
                if self._log.get("rung", method, rung) is None
            }
            self._train_candidates(rung, undecided)
            for method in self._bases:
                decision = self._log.decide(
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
                self._log.decide(
                    "tuned",
                    method,
                    make=partial(_tuned, best[method], candidates[method]),
                )["params"],
            )
            for method, base in self._bases.items()
        }

    def _within(self, base: RunSpec) -> dict[str, float] | None:
        """Return the settings that were given, unless they lie outside the ranges."""
        given = parameters_of(base)
        inside = all(low <= given[name] <= high for name, (low, high) in self._ranges(base).items())
        return given if inside else None

    def _told_values(self, kind: str, method: str, number: int) -> list[float] | None:
        told = self._log.get(kind, method, number)
        return None if told is None else told["values"]

    def _untold(self, kind: str, method: str, number: int) -> bool:
        return self._log.get(kind, method, number) is None

    def _tuning_specs(self, candidate: RunSpec) -> list[RunSpec]:
        return [replace(candidate, priorities=point) for point in self._tuning_points]

    def _train_candidates(self, rung: int, candidates: Mapping[str, Sequence[RunSpec]]) -> None:
        specs = [
            spec for found in candidates.values() for c in found for spec in self._tuning_specs(c)
        ]
        if specs:
            epoch = self._rungs[rung]
            what = f"Tuning, rung {rung + 1} of {len(self._rungs)}: to epoch {epoch}"
            self._train_runs(what, specs, epoch)

    def _candidate_points(self, candidate: RunSpec, epoch: int) -> np.ndarray | None:
        specs = self._tuning_specs(candidate)
        self._runs |= {spec.run_id(): spec for spec in specs}
        points = [self._objectives(spec, epoch) for spec in specs]
        found = [point for point in points if point is not None]
        return np.array(found) if len(found) == len(points) else None

    def _rung(
        self, candidates: Mapping[int, RunSpec], alive: Sequence[int], rung: int
    ) -> dict[str, Any]:
        """Return which candidates of a rung go on; none from the last, where the best wins."""
        epoch = self._rungs[rung]
        points = {i: self._candidate_points(candidates[i], epoch) for i in alive}
        order = ranked({i: p for i, p in points.items() if p is not None})
        is_last = rung == len(self._rungs) - 1
        num = 0 if is_last else num_promoted(len(alive))
        return {
            "epoch": epoch,
            "ranked": order,
            "promoted": order[:num],
            "failed": [i for i, p in points.items() if p is None],
        }

    def _explore(self, tuned: Mapping[str, RunSpec]) -> dict[str, dict[int, RunSpec]]:
        """Return method -> trial -> its run with seed 0."""
        trials: dict[str, dict[int, RunSpec]] = {method: {} for method in self._bases}
        for generation in self._generations(self._options.trials):
            for method, base in tuned.items():
                for i in generation:
                    asked = self._ask(
                        self._priorities[method],
                        "asked",
                        (method, i),
                        self._first_units(i),
                        partial(self._asked_point, i),
                    )
                    trials[method][i] = replace(base, priorities=tuple(asked["priorities"]))
            specs = [
                trials[method][i]
                for i in generation
                for method in self._bases
                if self._untold("told", method, i)
            ]
            if specs:
                self._train_runs("Exploring priorities", specs, None)
            for method in self._bases:
                for i in generation:
                    spec = trials[method][i]
                    self._runs[spec.run_id()] = spec
                    values = self._objectives(spec, None)
                    self._tell(self._priorities[method], "told", (method, i), values)
        return trials

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

    def _choose(self, method: str, trials: Mapping[int, RunSpec]) -> list[int]:
        options = self._options

        def make() -> dict[str, Any]:
            told = {i: self._told_values("told", method, i) for i in range(options.trials)}
            # A sampler may ask the same twice; the second adds nothing.
            first = {trials[i].run_id(): i for i in reversed(range(options.trials))}
            points = {i: v for i, v in told.items() if v is not None and i in first.values()}
            return {"chosen": best_subset(points, options.points)}

        chosen = self._log.decide("chosen", method, options.trials, options.points, make=make)
        if not chosen["chosen"]:
            raise SearchError(
                f"Every trial of {method} failed. Give other settings and another --name."
            )
        return list(chosen["chosen"])


def _tuned(best: int, candidates: Mapping[int, RunSpec]) -> dict[str, Any]:
    return {"candidate": best, "params": parameters_of(candidates[best])}
