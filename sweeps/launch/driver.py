"""The launch: plan minus done, round after round, until nothing is left that can be trained.

A round is one `Tuner.fit()`. Ordinarily there is one. A round that dies (Ray's memory monitor
takes `fit()` down in Ray 2.60) costs no result: what was running is planned again, one run at a
time, so that the culprit shows and has the memory to itself.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from mtl.spec import Runtime
from mtl.store import RunBusyError, Store
from sweeps.cli import Execution
from sweeps.display import Display
from sweeps.journal import Journal
from sweeps.launch import executor
from sweeps.launch.executor import ClusterError, Resources
from sweeps.launch.stopping import StopSignals
from sweeps.launch.worker import Train, make_trainable
from sweeps.machine import num_cpus, num_gpus
from sweeps.plan import Plan
from sweeps.progress import SweepProgress
from sweeps.words import counted, failure_sentence, run_text

MAX_DEATHS_OF_A_RUN = 3
"""Rounds that may die while one run is under way before that run is given up."""
MAX_DEATHS_IN_A_ROW = 5
"""Rounds that may die without a single run ending between them."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At runs that another process trains."""

_DISK_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO}

RunRound = Callable[..., None]
"""`executor.tune_round`, or what a test puts in its place."""


class _Tracker:
    """Hears what happens to runs and tells progress, journal and display."""

    def __init__(
        self, store: Store, progress: SweepProgress, journal: Journal, display: Display
    ) -> None:
        self.store, self.progress = store, progress
        self.journal, self.display = journal, display
        self.busy: set[str] = set()
        self.num_ended = 0

    def _changed(self) -> None:
        snapshot = self.progress.snapshot()
        self.journal.status(snapshot, "running")
        self.display.show(snapshot)

    def tick(self) -> None:
        self._changed()

    def run_started(self, run_id: str) -> None:
        self.progress.start(run_id)
        self.journal.event("run_started", run_id=run_id)

    def run_epoch(self, run_id: str, epoch: int, losses: Sequence[float | None]) -> None:
        self.progress.epoch(run_id, epoch, losses)

    def run_ended(self, run_id: str, state: str) -> None:
        if run_id not in self.progress.running:
            return  # Tune repeats a trial's last report when its function returns
        if state == "busy":
            self.busy.add(run_id)
            self.progress.interrupt(run_id)
        else:
            self.num_ended += 1
            if state == "paused":
                self.progress.pause(run_id)
            else:
                self.progress.finish(run_id, succeeded=state == "done")
        self.journal.event(f"run_{state}", run_id=run_id)
        if state == "failed":
            self._say_failed(run_id)
        self._changed()

    def run_retried(self, run_id: str, detail: str) -> None:
        self.progress.interrupt(run_id)
        self.journal.event("run_retried", run_id=run_id, detail=detail)
        self.display.say(f"Trying again: {self._name(run_id)}: {self._reason(run_id)}")

    def run_given_up(self, run_id: str, detail: str) -> None:
        if self.store.error(run_id) is None:
            self.store.write_error(
                run_id,
                f"{detail}\n\nThe process of this run died again and again before the run was "
                "done. Mostly that is lack of memory: run fewer side by side with --concurrency.",
            )
        self.num_ended += 1
        self.progress.finish(run_id, succeeded=False)
        self.journal.event("run_failed", run_id=run_id, detail=detail)
        self._say_failed(run_id)

    def _reason(self, run_id: str) -> str:
        """Return the run's recorded failure in a sentence; a killed process records none."""
        return failure_sentence(self.store.error(run_id)) or "its process died."

    def _say_failed(self, run_id: str) -> None:
        self.display.say(f"Failed: {self._name(run_id)}: {self._reason(run_id)}")

    def _name(self, run_id: str) -> str:
        return f"run {run_id} ({run_text(self.progress.runs[run_id])})"


def launch(
    plan: Plan,
    store: Store,
    execution: Execution,
    runtime: Runtime,
    progress: SweepProgress,
    journal: Journal,
    display: Display,
    signals: StopSignals,
    *,
    train: Train | None = None,
    run_round: RunRound = executor.tune_round,
) -> None:
    """Train what `progress` counts as neither done, failed nor paused; it counts on.

    Returns when every run has ended or, with `signals.received` set, when a signal came.

    Args:
        plan: the runs; their specs are written to the store here.
        store: where results go.
        execution: resources and where Ray is.
        runtime: how one run is executed; device and threads are set here.
        progress: what is done and failed already.
        journal: takes events and status.
        display: shows them.
        signals: entered by the caller.
        train: what a worker calls instead of `mtl.training.fit`.
        run_round: what trains a list of runs instead of Ray Tune.

    Raises:
        ClusterError: if Ray cannot be started, cannot run what is asked, or keeps dying.
        OSError: if the store or the disk fails.
        StopRequested: for a second signal, or one before the training.
    """
    for spec in plan.specs:
        store.write_spec(spec)
    tracker = _Tracker(store, progress, journal, display)
    deaths: Counter[str] = Counter()
    deaths_in_a_row = 0
    while _open_runs(plan, progress) and signals.received is None:
        ended_before = tracker.num_ended
        try:
            with ExitStack() as stack:
                scratch = stack.enter_context(
                    executor.started_ray(
                        execution.address,
                        num_cpus=num_cpus(),
                        num_gpus=num_gpus(),
                        signals=signals,
                    )
                )
                resources = _resources(execution)
                progress.slots = resources.slots
                trainable = make_trainable(
                    str(store.root), worker_runtime(runtime, resources), train
                )
                while (runs := _open_runs(plan, progress)) and signals.received is None:
                    batch, slots = _next_batch(runs, deaths, resources.slots)
                    tracker.busy.clear()
                    ended_before = tracker.num_ended
                    run_round(
                        batch,
                        trainable,
                        replace(resources, slots=slots),
                        tracker,
                        signals,
                        scratch,
                    )
                    if tracker.num_ended > ended_before:
                        deaths_in_a_row = 0
                    elif tracker.busy:
                        _wait_for_others(store, tracker, signals)
                    elif signals.received is None:
                        raise RuntimeError("a round of Ray Tune ended without ending any run")
        except ClusterError:
            raise
        except Exception as error:
            if _is_of_the_disk(error):
                raise
            deaths_in_a_row = 1 if tracker.num_ended > ended_before else deaths_in_a_row + 1
            _after_death(tracker, deaths, error)
            if deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
                raise ClusterError(
                    f"Ray Tune ended {deaths_in_a_row} times without finishing a run, the last "
                    f"time with: {_one_line(error)}."
                ) from error
    for run_id in list(progress.running):
        progress.interrupt(run_id)
    if signals.received is not None:
        journal.event("stopped", signal=signals.received)


def _open_runs(plan: Plan, progress: SweepProgress) -> list[str]:
    return [run_id for run_id in plan.run_ids if not progress.is_settled(run_id)]


def _next_batch(
    runs: Sequence[str], deaths: Mapping[str, int], slots: int
) -> tuple[list[str], int]:
    """Return the runs of the next round: first those above suspicion, then the others singly."""
    innocent = [run_id for run_id in runs if deaths.get(run_id, 0) == 0]
    return (innocent, slots) if innocent else ([runs[0]], 1)


def _resources(execution: Execution) -> Resources:
    """Return what a run gets, after a look at the cluster that Ray has just joined.

    Raises:
        ClusterError: if no node can run even one.
    """
    largest = executor.largest_node()
    gpus = execution.gpus_per_run
    if gpus is None:
        gpus = 1.0 if largest["GPU"] >= 1 else 0.0
    for name, wanted, flag in (
        ("CPU", execution.cpus_per_run, "--cpus-per-run"),
        ("GPU", gpus, "--gpus-per-run"),
    ):
        if wanted > largest[name]:
            raise ClusterError(
                f"Expected {flag} of at most {largest[name]:g}, the most {name}s that one node "
                f"has, got {wanted:g}."
            )
    slots = int(executor.cluster_total("CPU") / execution.cpus_per_run)
    if gpus > 0:
        slots = min(slots, int(executor.cluster_total("GPU") / gpus))
    if execution.concurrency is not None:
        slots = min(slots, execution.concurrency)
    return Resources(execution.cpus_per_run, gpus, max(1, slots))


def worker_runtime(runtime: Runtime, resources: Resources) -> Runtime:
    """Return `runtime` with the device and the threads that the resources allow.

    On the CPU a run has one thread whatever it reserves: more would change its last digits, and a
    run must be the same run under every flag.
    """
    if resources.gpus > 0:
        return replace(runtime, device="cuda", num_threads=max(1, int(resources.cpus)))
    return replace(runtime, device="cpu", num_threads=1)


def _after_death(tracker: _Tracker, deaths: Counter[str], error: Exception) -> None:
    """Note who was running when a round died, and give up those that were so too often."""
    running = list(tracker.progress.running)
    reason = _one_line(error)
    tracker.journal.event("fit_died", reason=reason, running=running)
    tracker.display.say(
        f"Ray Tune ended early ({reason}). Finished runs are kept; going on with the others."
    )
    for run_id in running:
        deaths[run_id] += 1
        tracker.progress.interrupt(run_id)
        if tracker.store.is_done(run_id):
            tracker.progress.finish(run_id, succeeded=True)
        elif deaths[run_id] >= MAX_DEATHS_OF_A_RUN:
            tracker.run_given_up(run_id, reason)


def _is_of_the_disk(error: Exception) -> bool:
    """Return whether trying again is in vain until the user mends a disk or a folder.

    Ray's timeouts and lost connections are OSErrors too; those are not.
    """
    if not isinstance(error, OSError) or isinstance(error, TimeoutError | ConnectionError):
        return False
    return error.errno in _DISK_ERRNOS or error.filename is not None


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


def _wait_for_others(store: Store, tracker: _Tracker, signals: StopSignals) -> None:
    """Wait until a run that another process trains is done, or free to be trained here."""
    signals.deferring = True  # the loop looks; a signal must not raise between two looks
    try:
        tracker.display.say(
            f"Waiting for {counted(len(tracker.busy), 'run')} that another process is training."
        )
        while signals.received is None:
            for run_id in tracker.busy:
                if store.is_done(run_id):
                    tracker.progress.finish(run_id, succeeded=True)
                    return
                try:
                    with store.run_lock(run_id):
                        return
                except RunBusyError:
                    continue
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        signals.deferring = False
