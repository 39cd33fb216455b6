"""The trials of a search and their Optuna studies, the same however often it was stopped.

What is asked depends on the trials reported so far, the search's seed and the trial's number alone:
each trial has a sampler of its own, seeded by those. At every start a study is rebuilt from the
decisions, so that no trial of a killed process stays open in it. It lies in
`STORE/sweeps/NAME/study.log`; `optuna.load_study(study_name=...,
storage=JournalStorage(JournalFileBackend("study.log")))` opens it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from mtl.errors import UserError
from mtl.records import TaskMetrics
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.plan.tuned import axes_of, point_of
from sweeps.search.decisions import DecisionLog, begin, decided_specs
from sweeps.search.options import TUNED, Interval, SearchOptions, rung_epochs, tuning_points
from sweeps.text import counted, failure_sentence

SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, population: TPESampler(seed=seed, n_startup_trials=population),
    "nsga2": lambda seed, population: NSGAIISampler(seed=seed, population_size=population),
    "random": lambda seed, population: RandomSampler(seed=seed),
}
"""Name -> sampler, from a seed and the trials of a generation. TPE draws the first generation at
random; NSGA-II breeds the next from the best of all before."""


@dataclass(frozen=True)
class Asked:
    """A trial's parameters, and what its sampler must find again after a restart."""

    params: dict[str, float]
    sampler_state: dict[str, Any]


def open_storage(path: Path) -> BaseStorage:
    """Return a new storage in the file `path`, in place of whatever an earlier start left."""
    for old in (path, path.with_name(f"{path.name}.lock")):  # a killed process leaves the lock
        old.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


class Study:
    """A multi-objective study, minimised; its trials come in order."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        distributions: Mapping[str, FloatDistribution],
        num_tasks: int,
        options: SearchOptions,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._name, self._options = name, options
        self._distributions: dict[str, BaseDistribution] = dict(distributions)
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["minimize"] * num_tasks,
            sampler=RandomSampler(seed=0),  # each trial brings its own
        )

    def ask(self, fixed: Mapping[str, float] | None = None) -> Asked:
        """Return the next trial's parameters, `fixed` ones as given."""
        number = len(self._study.get_trials(deepcopy=False))
        digest = hashlib.sha256(
            f"{self._name} {self._options.search_seed} {number}".encode()
        ).digest()
        seed = int.from_bytes(digest[:4], "big")
        self._study.sampler = SAMPLERS[self._options.sampler](seed, self._options.population)
        if fixed:
            self._study.enqueue_trial(dict(fixed))
        params = dict(self._study.ask(self._distributions).params)
        return Asked(params, dict(self._study.get_trials(deepcopy=False)[number].system_attrs))

    def add(self, asked: Asked) -> None:
        """Add a trial that an earlier start has asked for."""
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=asked.params,
                distributions={name: self._distributions[name] for name in asked.params},
                system_attrs=asked.sampler_state,
            )
        )

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Report a trial's values, or None if it failed."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(number, values, state=state)


TrainBatch = Callable[[str, Sequence[RunSpec], int | None], None]
"""Train runs to their end, or to the epoch given last, as far as they do not fail; the first
argument says what for."""


class SearchError(UserError):
    """The search cannot go on."""


class Trials:
    """A search's settings, decisions, studies and runs.

    Args:
        bases: method -> its run with the given settings; see `options.search_bases`.
        options: of the search.
        store: where the runs are.
        folder: of the sweep in the store, for decisions.jsonl and study.log.
        train: trains a batch.

    Raises:
        UsageError: if the decisions in `folder` were made with other settings.
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
        self.axes = axes_of(next(iter(self.bases.values())).tasks)
        self.rungs = rung_epochs(options.epochs)
        self.tuning_points = tuning_points(options.num_tasks)
        self.runs = {spec.run_id(): spec for spec in decided_specs(bases, options, self.log)}
        """Run id -> spec of every run that was ever asked for."""
        self._storage = open_storage(folder / "study.log")

    def study(self, name: str, intervals: Mapping[str, Interval]) -> Study:
        """Return a new study of these parameters, those of `TUNED` on a logarithmic scale."""
        distributions = {k: FloatDistribution(*v, log=k in TUNED) for k, v in intervals.items()}
        return Study(self._storage, name, distributions, len(self.axes), self.options)

    def generations(self, number: int) -> list[range]:
        """Return the trials 0 to `number` - 1, those together that are asked for together."""
        step = self.options.population
        return [range(i, min(i + step, number)) for i in range(0, number, step)]

    def train(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        """Train a batch.

        Raises:
            SearchError: if nothing of the search could be trained yet; none of it is reported to
                the study, so that all may be tried again.
        """
        self.runs |= {spec.run_id(): spec for spec in specs}
        self._train(what, specs, pause_after)
        if any(self.epochs_of(run_id) for run_id in self.runs):
            return
        reasons = (failure_sentence(self.store.error(spec.run_id())) for spec in specs)
        raise SearchError(
            f"All of the first {counted(len(specs), 'run')} failed, one with: {next(reasons)} "
            "Remove the cause and try again with --retry-failed; to change a setting of the "
            "search, give another --name."
        )

    def epochs_of(self, run_id: str) -> int:
        """Return how many epochs a run has been trained."""
        return len(self.store.epochs(run_id))

    def task_values(self, spec: RunSpec, epoch: int | None) -> np.ndarray | None:
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
        return None if metrics is None else point_of(metrics, self.axes)

    def ask(
        self,
        study: Study,
        kind: str,
        about: tuple[str, int],
        fixed: Mapping[str, float] | None,
        extra: Callable[[Mapping[str, float]], Mapping[str, Any]] = lambda params: {},
    ) -> dict[str, Any]:
        """Return a trial's decision: the recorded one, which the study takes, or a new one."""
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
        """Report a trial's values, or None if it failed; what was reported first stands."""
        plain = None if values is None else [float(v) for v in values]
        held = self.log.decide(kind, *about, make=lambda: {"values": plain})["values"]
        study.tell(about[1], held)

    def reported(self, kind: str, method: str, number: int) -> list[float] | None:
        """Return the values of a trial; None if it failed or is still running."""
        held = self.log.get(kind, method, number)
        return None if held is None else held["values"]

    def is_pending(self, kind: str, method: str, number: int) -> bool:
        """Return whether a trial's values have still to be reported."""
        return self.log.get(kind, method, number) is None
