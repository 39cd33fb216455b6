"""How many runs and epochs a search takes at most, before anything is decided."""

import math
from dataclasses import dataclass

from sweeps.words import counted

REDUCTION = 2
"""Of the candidates of a rung, one in so many goes on."""


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """Return after how many epochs candidates are compared: an eighth and a quarter of a run."""
    return tuple(sorted({max(1, epochs // 8), max(1, epochs // 4)}))


def num_promoted(num_candidates: int) -> int:
    """Return how many of a rung's candidates go on."""
    return math.ceil(num_candidates / REDUCTION)


@dataclass(frozen=True)
class EpochBudget:
    """Of one method; every method of a search has the same."""

    epochs: int
    """Of a full run."""
    num_tasks: int
    """Also the number of priorities at which candidates are compared."""
    candidates: int
    trials: int
    points: int
    seeds: int

    @property
    def num_tuning_runs(self) -> int:
        """Return the runs that are begun to tune."""
        return self.candidates * self.num_tasks if self.candidates > 1 else 0

    @property
    def tuning_epochs(self) -> int:
        """Return the epochs trained to tune."""
        if self.candidates == 1:
            return 0
        total, before, left = 0, 0, self.candidates
        for epoch in rung_epochs(self.epochs):
            total += left * self.num_tasks * (epoch - before)
            before, left = epoch, num_promoted(left)
        return total

    @property
    def _num_continued(self) -> int:
        """Return the tuning runs that the first trials go on from: those of the best candidate."""
        return min(self.num_tasks, self.trials) if self.candidates > 1 else 0

    @property
    def num_full_runs(self) -> int:
        """Return the runs that are trained to their end."""
        return self.trials + self.points * (self.seeds - 1)

    @property
    def num_runs(self) -> int:
        """Return the runs that are begun."""
        return self.num_tuning_runs + self.num_full_runs - self._num_continued

    @property
    def num_epochs(self) -> int:
        """Return the epochs trained in all."""
        continued = self._num_continued * rung_epochs(self.epochs)[-1]
        return self.tuning_epochs + self.num_full_runs * self.epochs - continued

    def num_batches(self, population: int) -> int:
        """Return how often workers start, all on one Ray; `population` trials a generation."""
        tuning = 0
        if self.candidates > 1:
            tuning = math.ceil(self.candidates / population) + len(rung_epochs(self.epochs)) - 1
        return tuning + math.ceil(self.trials / population) + (self.seeds > 1)

    def in_words(self, num_methods: int) -> str:
        """Return what `num_methods` methods take at most, for people."""
        tuning = "no tuning"
        if self.candidates > 1:
            rungs = " and ".join(map(str, rung_epochs(self.epochs)))
            tuning = (
                f"{self.candidates} candidates tuned at {self.num_tasks} priorities to epochs "
                f"{rungs} ({counted(self.tuning_epochs, 'epoch')})"
            )
        return (
            f"At most {counted(num_methods * self.num_runs, 'run')} and "
            f"{counted(num_methods * self.num_epochs, 'epoch')}; each of "
            f"{counted(num_methods, 'method')}: {tuning}, {counted(self.trials, 'point')} tried, "
            f"{counted(self.points, 'point')} trained with {counted(self.seeds, 'seed')}."
        )


@dataclass(frozen=True)
class Most:
    """What the whole search takes at most."""

    num_runs: int
    num_epochs: int
    store_bytes: int
    """That the store will grow by from now on."""
