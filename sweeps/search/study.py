"""Optuna studies that are the same however often the search was stopped.

What is asked depends on the trials told so far, the search's seed and the trial's number, and on
nothing else: each trial has a sampler of its own, seeded by those. A study is rebuilt from the
decisions at every start, so that no trial of a killed process stays open in it, and lies in
`STORE/sweeps/NAME/study.log` for whoever wants to look at it, as with
`optuna.load_study(study_name=..., storage=JournalStorage(JournalFileBackend("study.log")))`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

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


def real_range(low: float, high: float, *, log: bool) -> FloatDistribution:
    """Return the distribution of a number from `low` to `high`, on a logarithmic scale if `log`."""
    return FloatDistribution(low, high, log=log)


def open_storage(path: Path) -> BaseStorage:
    """Return a new storage in the file `path`, in place of whatever an earlier start left."""
    for old in (path, path.with_name(f"{path.name}.lock")):  # a killed process leaves the lock
        old.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


class Study:
    """A multi-objective study, minimised; asked and told in the order of the trials.

    Args:
        storage: see `open_storage`.
        name: of the study.
        distributions: parameter -> what it may be.
        num_objectives: values a trial is told with.
        sampler: of `SAMPLERS`.
        population: trials of a generation.
        seed: of the search.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        distributions: Mapping[str, FloatDistribution],
        num_objectives: int,
        sampler: str,
        population: int,
        seed: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._name, self._seed = name, seed
        self._sampler, self._population = sampler, population
        self._distributions: dict[str, BaseDistribution] = dict(distributions)
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["minimize"] * num_objectives,
            sampler=RandomSampler(seed=0),  # each trial brings its own
        )

    @property
    def num_trials(self) -> int:
        """Return how many trials were asked."""
        return len(self._study.get_trials(deepcopy=False))

    def ask(self, fixed: Mapping[str, float] | None = None) -> Asked:
        """Return the next trial's parameters, `fixed` ones as given."""
        number = self.num_trials
        digest = hashlib.sha256(f"{self._name} {self._seed} {number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        self._study.sampler = SAMPLERS[self._sampler](seed, self._population)
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
        """Tell a trial's values, or None if it failed."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(number, values, state=state)
