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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.search.halving import best_subset
from sweeps.search.options import SearchOptions, parameters_of
from sweeps.search.simplex import Point, priorities_of, tuning_points, units_of
from sweeps.search.trials import SearchError, TrainBatch, Trials
from sweeps.search.tuning import Tuning
from sweeps.words import counted

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
