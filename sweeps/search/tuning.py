"""The first step of a search: learning rate and increase rate, by successive halving."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mtl.spec import RunSpec
from sweeps.search.budget import num_promoted, rung_epochs
from sweeps.search.decided import ranges_of
from sweeps.search.halving import ranked
from sweeps.search.options import parameters_of, with_parameters
from sweeps.search.simplex import tuning_points
from sweeps.search.trials import SearchError, Trials

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
