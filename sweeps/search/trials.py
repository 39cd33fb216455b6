"""Trials: asked for, trained and told; what tuning and exploring have in common."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.axes import choose_axes
from analysis.fronts import minimised
from mtl.records import TaskMetrics
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.search.decided import begin, decided_specs
from sweeps.search.decisions import DecisionLog
from sweeps.search.options import TUNED, Interval, SearchOptions
from sweeps.search.study import Asked, Study, open_storage, real_range
from sweeps.words import counted, failure_sentence

TrainBatch = Callable[[str, Sequence[RunSpec], int | None], None]
"""Train runs to their end, or to the epoch given last, as far as they do not fail; the first
argument says in words what for."""


class SearchError(Exception):
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
