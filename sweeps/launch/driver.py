"""The launch: plan minus done, round after round, until nothing is left that can be trained.

A round is one `Tuner.fit()` over at most a thousand runs, or twenty a slot: Tune keeps what it
knows of every trial for as long as a round lasts. A round that dies (Ray's memory monitor takes
`fit()` down in Ray 2.60) costs no result: what was running is planned again, one run at a time, so
that the culprit shows and has the memory to itself.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from mtl.errors import StoreError, StoreUnreachableError
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store
from sweeps.launch import tune
from sweeps.launch.cluster import check_cluster, check_some_fit, worker_nodes
from sweeps.launch.execution import Execution
from sweeps.launch.preflight import Checked, PreflightError
from sweeps.launch.session import Session
from sweeps.launch.signals import StopSignals
from sweeps.launch.tracker import Tracker
from sweeps.launch.tune import ClusterError, Resources
from sweeps.launch.worker import Train, make_trainable, named_trainable
from sweeps.plan import Plan
from sweeps.plan.cost import Budget, num_cpus, num_gpus, observed_memory
from sweeps.status.display import Display
from sweeps.status.journal import Journal
from sweeps.status.progress import SweepProgress
from sweeps.text import counted, size

MAX_DEATHS_OF_A_RUN = 3
"""Rounds that may die while one run is under way before that run is given up."""
MAX_DEATHS_IN_A_ROW = 5
"""Rounds that may die without a single run ending between them."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At runs that another process trains."""
MOST_RUNS_IN_A_ROUND = 1000
"""Unless that is less than `LEAST_RUNS_OF_A_SLOT` for each slot."""
LEAST_RUNS_OF_A_SLOT = 20
"""In a round that is not the last; at its end a slot waits for the others, half a run or so."""

_DISK_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO}

RunRound = Callable[..., None]
"""`executor.tune_round`, or what a test puts in its place."""


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
    budget: Budget | None = None,
    checked: Checked | None = None,
    session: Session | None = None,
    train: Train | None = None,
    run_round: RunRound = tune.tune_round,
) -> None:
    """Train what `progress` counts as neither done, failed nor paused; it counts on.

    Returns when every run has ended, when there is no time for any other or, with
    `signals.received` set, when a signal came.

    Args:
        plan: the runs; their specs are written to the store here, before the round they are in.
        store: where results go.
        execution: resources and where Ray is.
        runtime: how one run is executed; device and threads are set here.
        progress: what is done and failed already.
        journal: takes events and status.
        display: shows them.
        signals: entered by the caller.
        budget: the time there is; None means no limit.
        checked: what `look_at_cluster` found; None looks at a cluster here.
        session: the Ray of several launches, entered by the caller; None means one for this alone.
        train: what a worker calls instead of `mtl.training.fit.fit`.
        run_round: what trains a list of runs instead of Ray Tune.

    Raises:
        ClusterError: if Ray cannot be started, cannot run what is asked, or keeps dying.
        PreflightError: if a node of a cluster lacks what the runs need.
        OSError: if the store or the disk fails.
        StoreError: if another driver has taken the sweep.
        StoreUnreachableError: if object storage refuses or does not answer.
        StopRequested: for a second signal, or one before the training.
    """
    tracker = Tracker(
        store, progress, journal, display, budget or Budget(),
        nodes_go=execution.address is not None,
    )  # fmt: skip
    own = Session(execution, plan.name, signals, checked=checked)
    with nullcontext(session) if session else own as held:
        _launch(plan, tracker, execution, runtime, signals, held, train, run_round)
    for run_id in list(progress.running):
        progress.interrupt(run_id)
    if signals.received is not None:
        journal.event("stopped", signal=signals.received)


def _launch(
    plan: Plan,
    tracker: Tracker,
    execution: Execution,
    runtime: Runtime,
    signals: StopSignals,
    session: Session,
    train: Train | None,
    run_round: RunRound,
) -> None:
    """Go from round to round, and from one Ray to the next where it dies."""
    store, progress = tracker.store, tracker.progress
    deaths: Counter[str] = Counter()
    deaths_in_a_row = 0
    while _startable(plan, tracker) and signals.received is None:
        ended_before = tracker.num_ended
        try:
            scratch = session.begin()
            open_specs = [progress.runs[run_id] for run_id in _open_runs(plan, progress)]
            resources = _resources(execution, observed_memory(store, open_specs))
            progress.slots = resources.slots
            session.look(open_specs, store, runtime, resources, tracker.display)
            trainable = _trainable(
                execution, store, worker_runtime(runtime, resources), train, session.checked
            )
            while (runs := _startable(plan, tracker)) and signals.received is None:
                if tracker.note_done_elsewhere():
                    continue
                if tracker.unfit:
                    nodes = worker_nodes(resources.cpus, resources.gpus)
                    check_some_fit(nodes, tracker.unfit)
                    resources = replace(resources, not_on=frozenset(tracker.unfit))
                batch, slots = _next_batch(runs, deaths, tracker.busy, resources.slots)
                tracker.busy.difference_update(batch)
                for run_id in batch:
                    store.write_spec(progress.runs[run_id])
                ended_before, put_back = tracker.num_ended, tracker.put_back.total()
                run_round(
                    batch,
                    trainable,
                    replace(resources, slots=slots, grows=resources.grows and not deaths),
                    tracker,
                    signals,
                    scratch,
                )
                if tracker.num_ended > ended_before or tracker.put_back.total() > put_back:
                    deaths_in_a_row = 0
                elif tracker.busy and tracker.busy.issuperset(_startable(plan, tracker)):
                    _wait_for_others(store, tracker, signals)
                elif (
                    signals.received is None
                    and not tracker.limits_time()
                    and tracker.busy.isdisjoint(batch)
                ):
                    raise RuntimeError("a round of Ray Tune ended without ending any run")
        except (ClusterError, PreflightError, StoreError, StoreUnreachableError):
            raise
        except Exception as error:
            if _is_of_the_disk(error):
                raise
            session.end()
            deaths_in_a_row = 1 if tracker.num_ended > ended_before else deaths_in_a_row + 1
            _after_death(tracker, deaths, error)
            if deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
                raise ClusterError(
                    f"Ray Tune ended {deaths_in_a_row} times without finishing a run, the last "
                    f"time with: {_one_line(error)}."
                ) from error


def look_at_cluster(
    specs: Sequence[RunSpec], store: str, execution: Execution, runtime: Runtime
) -> Checked:
    """Join the cluster, look at its nodes and leave it; the store is made once Ray answers.

    Args:
        specs: the runs to train.
        store: folder or address of the store; made if it is not there.
        execution: resources and where Ray is.
        runtime: how one run is executed.

    Raises:
        ClusterError: if Ray cannot be joined, or cannot run what is asked.
        PreflightError: if a node lacks what the runs need.
        StopRequested: for a signal.
    """
    with (
        StopSignals() as signals,
        tune.started_ray(
            execution.address, num_cpus=num_cpus(), num_gpus=num_gpus(), signals=signals
        ),
    ):
        resources = _resources(execution, memory_bytes=0)
        return check_cluster(
            specs, Store(store).address, runtime, execution.local_data,
            cpus=resources.cpus, gpus=resources.gpus,
        )  # fmt: skip


def _open_runs(plan: Plan, progress: SweepProgress) -> list[str]:
    return [run_id for run_id in plan.run_ids if not progress.is_settled(run_id)]


def _startable(plan: Plan, tracker: Tracker) -> list[str]:
    return [run_id for run_id in _open_runs(plan, tracker.progress) if tracker.may_start(run_id)]


def _next_batch(
    runs: Sequence[str], deaths: Mapping[str, int], busy: Collection[str], slots: int
) -> tuple[list[str], int]:
    """Return the runs of the next round and its slots.

    First come the runs above suspicion, those that another process trains behind the others; then,
    singly, those that were under way when a round died.
    """
    innocent = [run_id for run_id in runs if deaths.get(run_id, 0) == 0]
    batch = [run_id for run_id in innocent if run_id not in busy] or innocent
    if not batch:
        return [runs[0]], 1
    return batch[: max(MOST_RUNS_IN_A_ROUND, LEAST_RUNS_OF_A_SLOT * slots)], slots


def _trainable(
    execution: Execution,
    store: Store,
    runtime: Runtime,
    train: Train | None,
    checked: Checked | None,
) -> Any:
    """Return what Tune runs: a function, or a class of named actors where somebody can look."""
    watched = execution.dashboard or execution.address is not None
    train_run = make_trainable(
        store.address,
        runtime,
        train,
        lease=store.lease,
        local_data=execution.local_data,
        publishes=watched,
        checked=checked,
    )
    return named_trainable(store.address, train_run) if watched else train_run


def _resources(execution: Execution, memory_bytes: int) -> Resources:
    """Return what a run gets, after a look at the cluster that Ray has just joined.

    Args:
        execution: what the user asks for.
        memory_bytes: that a run is known to need; 0 where nothing is known.

    Raises:
        ClusterError: if no node can run even one.
    """
    largest = tune.largest_node()
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
    if memory_bytes > largest["memory"]:
        raise ClusterError(
            f"Expected a node with {size(memory_bytes)} of memory, which earlier runs of this "
            f"kind took, got at most {size(largest['memory'])}. Add a larger node."
        )
    slots = int(tune.cluster_total("CPU") / execution.cpus_per_run)
    if gpus > 0:
        slots = min(slots, int(tune.cluster_total("GPU") / gpus))
    if memory_bytes > 0:
        slots = min(slots, int(tune.cluster_total("memory") / memory_bytes))
    if execution.concurrency is not None:
        slots = min(slots, execution.concurrency)
    grows = execution.address is not None and execution.concurrency is None
    return Resources(execution.cpus_per_run, gpus, max(1, slots), memory_bytes, grows)


def worker_runtime(runtime: Runtime, resources: Resources) -> Runtime:
    """Return `runtime` with the device and the threads that the resources allow.

    On the CPU a run has one thread whatever it reserves: more would change its last digits, and a
    run must be the same run under every flag.
    """
    if resources.gpus > 0:
        return replace(runtime, device="cuda", num_threads=max(1, int(resources.cpus)))
    return replace(runtime, device="cpu", num_threads=1)


def _after_death(tracker: Tracker, deaths: Counter[str], error: Exception) -> None:
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


def _wait_for_others(store: Store, tracker: Tracker, signals: StopSignals) -> None:
    """Wait until a run that another process trains is done, or free to be trained here.

    That process may be a worker which outlived its driver. It is never taken for dead while it
    holds the run: it could go on, and two would write the same files.
    """
    signals.deferring = True  # the loop looks; a signal must not raise between two looks
    said = False
    try:
        while signals.received is None and tracker.budget.seconds_left > 0:
            tracker.tick()
            busy: list[RunBusyError] = []
            if tracker.note_done_elsewhere():
                return
            for run_id in tracker.busy:
                store.check_lease()
                try:
                    with store.run_lock(run_id):
                        return
                except RunBusyError as error:
                    busy.append(error)
            if not said:
                said = True
                tracker.display.say(
                    f"Waiting for {counted(len(busy), 'run')} that another process is training. "
                    f"{busy[0]}"
                )
            else:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        signals.deferring = False
