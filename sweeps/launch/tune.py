"""One round of Ray Tune: so many runs, each a trial, and what happens to them."""

# ruff: noqa: ARG002 - Tune passes its callbacks more than they need
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator

from sweeps.launch.cluster import Resources, has_nodes
from sweeps.launch.ray_private import forget_failures
from sweeps.launch.signals import StopSignals
from sweeps.launch.tracker import Tracker
from sweeps.plan.packs import joined, members, packs_of

SECONDS_BETWEEN_LOOKS = 5.0
"""At whether Ray still has a node."""
MAX_RETRIES = 2
"""Of a run whose process failed in a way that may pass."""


class _StopWhenAsked(tune.Stopper):
    """Ends a round when a signal has come or the time is over."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._signals.stop_asked

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves a copy that nobody reads


class _InOrder(FIFOScheduler):
    """Starts trials in their order, as Tune does, and none on a node found to be incompatible.

    Tune's own looks at all trials of a round, ended ones too, at every event.
    """

    def __init__(self, tracker: Tracker, resources: Resources) -> None:
        super().__init__()
        self._tracker, self._resources = tracker, resources
        self._added: deque[Trial] = deque()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves a copy that nobody reads

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._added.append(trial)
        not_on = self._resources.not_on | self._tracker.incompatible.keys()
        if not_on > self._resources.not_on:
            # Such a node is free again at once, and would be given one trial after another.
            trial.update_resources(replace(self._resources, not_on=not_on).of_a_run())

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        while self._added and self._added[0].status != Trial.PENDING:
            self._added.popleft()  # one that goes back to wait is added again
        return self._added[0] if self._added else None


class _Callback(tune.Callback):
    """Passes Tune's events on to a tracker."""

    def __init__(self, tracker: Tracker, signals: StopSignals) -> None:
        self._tracker, self._signals = tracker, signals
        self._looked = time.monotonic()
        self._newest_epochs: Counter[str] = Counter()
        self._epochs_at_failure: dict[str, int] = {}
        """Trial's first run -> epochs of all of its runs, when it failed last."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves a copy that nobody reads

    def setup(
        self,
        stop: tune.Stopper | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **_: Any,
    ) -> None:
        self._signals.install()  # fit() has just taken SIGUSR1

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        for run_id in members(trial.config):
            self._tracker.run_started(run_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        run_id = result["run_id"]
        if "seconds" in result:
            self._tracker.progress.trained(run_id, result["seconds"])
        if "state" in result:
            self._tracker.run_ended(run_id, result["state"])
        elif "incompatible" in result:
            self._tracker.run_requeued(run_id, result["node_id"], result["incompatible"])
        elif "epoch" in result:
            self._newest_epochs[run_id] = max(result["epoch"], self._newest_epochs[run_id])
            self._tracker.run_epoch(run_id, result["epoch"], result["losses"])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        run_ids = members(trial.config)
        newest = sum(self._newest_epochs[run_id] for run_id in run_ids)
        if newest > self._epochs_at_failure.get(run_ids[0], newest):
            # It got further than last time, as on nodes that come and go: not a failure for good.
            forget_failures(trial)
        self._epochs_at_failure[run_ids[0]] = newest
        for run_id in self._open(trial):
            self._tracker.run_retried(run_id, _detail(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        if len(members(trial.config)) > 1:
            self._tracker.pack_given_up(self._open(trial), _detail(trial))
            return
        for run_id in self._open(trial):
            self._tracker.run_given_up(run_id, _detail(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        for run_id in members(trial.config):
            self._tracker.run_stopped(run_id)

    def _open(self, trial: Trial) -> list[str]:
        """Return the runs of a trial that have not ended."""
        return [run_id for run_id in members(trial.config) if self._tracker.is_open(run_id)]

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        if time.monotonic() - self._looked >= SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            if not has_nodes():
                # Tune would wait for ever for somewhere to put its trials.
                raise RuntimeError("Ray's node process is gone")
        self._tracker.tick()


def _detail(trial: Trial) -> str:
    """Return the end of what Ray says of the trial's last failure, at most 600 characters."""
    try:
        return Path(trial.error_file).read_text("utf-8").strip()[-600:]
    except (OSError, TypeError):  # no file, or no folder yet
        return ""


def tune_round(
    run_ids: Sequence[str],
    trainable: Callable[[dict[str, Any]], None] | type[tune.Trainable],
    resources: Resources,
    tracker: Tracker,
    signals: StopSignals,
    scratch: Path,
    kept: Path | None = None,
) -> None:
    """Train `run_ids` by Ray Tune, as many trials side by side as there are slots.

    A trial trains a run, or several together where `resources` says so. Whatever happens to runs
    is told to `tracker`; after a signal the round ends early. A trainable that is a class gets a
    process for each trial, a function one for many in turn. The experiment lies in `scratch` and
    is thrown away, or in `kept` with the logs of its trials.

    Raises:
        Exception: whatever takes Tune itself down, such as Ray's memory monitor killing a run.
    """
    packs = packs_of(
        run_ids, tracker.progress.runs, resources.packs, resources.slots, tracker.alone
    )
    trials = [joined([tracker.settings(run_id) for run_id in pack]) for pack in packs]
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as storage:
        placed = tune.with_resources(trainable, resources.of_a_run())
        if isinstance(trainable, type):  # Tune wrapped it, under a name of its own
            placed.__name__ = placed.__qualname__ = trainable.__name__
        tuner = tune.Tuner(
            placed,
            # Every trial brings its own values: lists of them would be copied for each trial.
            param_space=dict.fromkeys(trials[0]),
            tune_config=tune.TuneConfig(
                search_alg=BasicVariantGenerator(
                    points_to_evaluate=trials,
                    # Tune would not apply its own bound to a generator that it is given.
                    max_concurrent=resources.slots if resources.is_bounded else 0,
                ),
                scheduler=_InOrder(tracker, resources),
                num_samples=len(trials),
                reuse_actors=not isinstance(trainable, type),
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
            ),
            run_config=tune.RunConfig(
                name=kept.name if kept else "round",
                storage_path=str(kept.parent) if kept else storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                callbacks=[_Callback(tracker, signals), *(_loggers() if kept else ())],
                stop=_StopWhenAsked(signals),
            ),
        )
        signals.deferring = True
        try:
            tuner.fit()
        finally:
            signals.deferring = False


def _loggers() -> list[tune.Callback]:
    """Return Tune's loggers, which `TUNE_DISABLE_AUTO_CALLBACK_LOGGERS` leaves out."""
    return [JsonLoggerCallback(), CSVLoggerCallback(), TBXLoggerCallback()]


def space_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a space with one trial a run, for any Tuner.

    Args:
        rows: run id -> its settings; those that a run does not have are None in its config.
    """

    def lifted(name: str) -> Any:
        return tune.sample_from(lambda trial: rows[trial["config"]["run_id"]].get(name))

    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {"run_id": tune.grid_search(list(rows)), **{name: lifted(name) for name in names}}


def _name_of(trial: Trial) -> str:
    """Return the id of a trial's run; of a pack that of its first one, and how many follow."""
    first, *others = members(trial.config)
    return f"{first}+{len(others)}" if others else first
