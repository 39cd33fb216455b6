"""The launch: plan minus done, round after round, until nothing is left that can be trained.

A round is one `Tuner.fit()` over at most a thousand runs, or twenty a slot: Tune keeps what it
knows of every trial for as long as a round lasts. A round that crashes (Ray's memory monitor takes
`fit()` down in Ray 2.60) costs no result: what was running is planned again, fewer side by side and
in the end one run at a time, so that the suspect shows and has the memory to itself.
"""

import errno
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.spec import RunSpec, Runtime
from mtl.store import RunBusyError, Store
from mtl.store.lease import Watch
from sweeps.launch import Execution, tune
from sweeps.launch.cluster import (
    Resources,
    check_some_compatible,
    pack_sizes,
    resources_of,
    worker_nodes,
)
from sweeps.launch.preflight import Needs
from sweeps.launch.ranks import fit_on_ranks
from sweeps.launch.ray_private import environment_inherited
from sweeps.launch.session import Session, workers_for
from sweeps.launch.signals import StopSignals
from sweeps.launch.tracker import Tracker
from sweeps.launch.worker import Train, make_trainable, named_trainable
from sweeps.plan import Plan
from sweeps.plan.cost import observed_memory
from sweeps.status.display import Display
from sweeps.status.journal import Journal
from sweeps.status.progress import SweepProgress
from sweeps.text import counted, utc_now

MAX_CRASHES_OF_A_RUN = 3
"""Rounds that may crash while one run is running before that run is given up."""
MAX_CRASHES_IN_A_ROW = 5
"""Rounds that may crash without a single run ending between them."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At runs that another process trains."""
MAX_LOOKS = 100
"""In a second, at runs that another process trains."""
REMOTE_SECONDS = 5.0
"""The same on object storage, where each look is a request."""
MAX_RUNS_IN_A_ROUND = 1000
"""Unless that is less than `MIN_RUNS_OF_A_SLOT` for each slot."""
MIN_RUNS_OF_A_SLOT = 20
"""In a round that is not the last; at its end a slot waits for the others, half a run or so."""
MAX_AUTO_PACK = 8
"""Runs in a pack that `--pack auto` may choose."""
SUSPECTS_PARTS = 8
"""The runs that were running when a round crashed go on in so many parts, one after the other."""

_DISK_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO}

RunRound = Callable[..., None]
"""`tune.tune_round`, or what a test puts in its place."""


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
    session: Session | None = None,
    train: Train | None = None,
    run_round: RunRound = tune.tune_round,
) -> None:
    """Train what `progress` counts as neither done, failed nor paused; it counts on.

    Returns when every run has ended, when the time is over or, with `signals.received` set, when a
    signal came.

    Args:
        plan: the runs; their specs are written to the store here, before the round they are in.
        store: where results go.
        execution: resources and where Ray is.
        runtime: how one run is executed; device and threads are set here.
        progress: what is done and failed already.
        journal: takes events and status.
        display: shows them.
        signals: entered by the caller.
        session: the Ray of several launches, entered by the caller; None means one for this alone.
        train: what a worker calls instead of `mtl.training.fit`.
        run_round: what trains a list of runs instead of Ray Tune.

    Raises:
        PreflightError: if Ray cannot be started, or a node lacks what is asked of it.
        UserError: if Ray crashes again and again, or the store fails.
        OSError: if the disk fails.
        StopRequested: for a second signal, or one before the training.
    """
    tracker = Tracker(
        store, progress, journal, display,
        varies=plan.varies, is_cluster=execution.address is not None,
        budget_hours=execution.budget_hours,
    )  # fmt: skip
    own = Session(
        execution, plan.name, workers_for(progress, execution.num_ranks), modules=plan.modules
    )
    with nullcontext(session) if session else own as held:
        _launch(plan, tracker, execution, runtime, signals, held, train, run_round)
    for run_id in list(progress.running):
        tracker.run_left(run_id)
    if signals.stop_asked and not progress.snapshot().is_over:
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
    """Go from round to round, and from one Ray to the next where it crashes."""
    store, progress = tracker.store, tracker.progress
    crashes: Counter[str] = Counter()
    suspects: dict[str, int] = {}
    """Run id -> how many suspects may go side by side in its round."""
    written: set[str] = set()
    """Runs whose specs are known to be in the store."""
    crashes_in_a_row = 0
    while _open_runs(plan, progress) and not signals.stop_asked:
        ended_before = tracker.num_ended
        try:
            scratch = session.begin()
            signals.install()  # Ray has just taken SIGTERM
            open_specs = [progress.runs[run_id] for run_id in _open_runs(plan, progress)]
            train_networks = all(isinstance(spec, RunSpec) for spec in open_specs)
            most = max(session.packs.values(), default=MAX_AUTO_PACK)
            pack = most if execution.pack == "auto" else execution.pack
            memory = observed_memory(store, open_specs, pack, execution.num_ranks)
            resources = resources_of(execution, memory, train_networks=train_networks)
            progress.slots = resources.slots
            session.preflight(open_specs, store, runtime, resources, tracker.display)
            here = worker_runtime(runtime, resources)
            sizes = pack_sizes(
                execution.pack, open_specs, here, resources, session.packs, tracker.display
            )
            resources = replace(resources, packs=sizes)
            trains = train or (fit_on_ranks if resources.ranks > 1 else None)
            trainable = _trainable(execution, store, here, trains, session.needs)
            while (runs := _open_runs(plan, progress)) and not signals.stop_asked:
                if tracker.note_done_elsewhere():
                    continue
                if tracker.busy.issuperset(runs):
                    _wait_for_others(store, tracker, signals)
                    continue
                if tracker.incompatible:
                    nodes = worker_nodes(resources.cpus, resources.gpus)
                    check_some_compatible(nodes, tracker.incompatible)
                    resources = replace(resources, not_on=frozenset(tracker.incompatible))
                batch, slots = _next_batch(runs, suspects, tracker.busy, resources.slots)
                new = [run_id for run_id in batch if run_id not in written]
                written.update(store.for_each(lambda i: store.write_spec(progress.runs[i]), new))
                ended_before, requeued = tracker.num_ended, tracker.requeued.total()
                with nullcontext() if execution.address else environment_inherited():
                    run_round(
                        batch,
                        trainable,
                        replace(
                            resources,
                            slots=slots,
                            is_bounded=resources.is_bounded or batch[0] in suspects,
                            packs={} if batch[0] in suspects else resources.packs,
                        ),
                        tracker,
                        signals,
                        scratch,
                        **_kept(execution, plan.name),
                    )
                if tracker.num_ended > ended_before or tracker.requeued.total() > requeued:
                    crashes_in_a_row = 0
                elif not signals.stop_asked and tracker.busy.isdisjoint(batch):
                    raise RuntimeError("a round of Ray Tune ended without ending any run")
        except UserError:
            raise
        except Exception as error:
            if _is_of_the_disk(error):
                raise
            session.end()
            crashes_in_a_row = 1 if tracker.num_ended > ended_before else crashes_in_a_row + 1
            _after_crash(tracker, crashes, suspects, error)
            if crashes_in_a_row >= MAX_CRASHES_IN_A_ROW:
                raise UserError(
                    f"Ray Tune ended {crashes_in_a_row} times without finishing a run, the last "
                    f"time with: {_one_line(error)}. What is done is kept; the same command "
                    "continues."
                ) from error


def _kept(execution: Execution, name: str) -> dict[str, Path]:
    """Return where the round's experiment stays, if somewhere: a folder of its own."""
    if execution.tune_dir is None:
        return {}
    started = utc_now().replace(":", "").partition("+")[0]
    place = Path(execution.tune_dir).expanduser().absolute() / f"{name}-{started}"
    number = 2
    kept = place
    while kept.exists():  # a round that crashed at once
        kept, number = place.with_name(f"{place.name}-{number}"), number + 1
    return {"kept": kept}


def _open_runs(plan: Plan, progress: SweepProgress) -> list[str]:
    return [run_id for run_id in plan.run_ids if not progress.is_settled(run_id)]


def _next_batch(
    runs: Sequence[str], suspects: Mapping[str, int], busy: Collection[str], slots: int
) -> tuple[list[str], int]:
    """Return the runs of the next round, none of which another process trains, and its slots.

    First come the unsuspected runs; then, fewer and fewer side by side and in the end singly, those
    that were running when a round crashed.
    """
    free = [run_id for run_id in runs if run_id not in busy]
    batch = [run_id for run_id in free if run_id not in suspects]
    if not batch:
        slots = min(slots, max(suspects[run_id] for run_id in free))
        batch = [run_id for run_id in free if suspects[run_id] >= slots]
        if slots == 1:
            return batch[:1], 1
    return batch[: max(MAX_RUNS_IN_A_ROUND, MIN_RUNS_OF_A_SLOT * slots)], slots


def _trainable(
    execution: Execution,
    store: Store,
    runtime: Runtime,
    train: Train | None,
    needs: Needs | None,
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
        needs=needs,
    )
    return named_trainable(store.address, train_run) if watched else train_run


def worker_runtime(runtime: Runtime, resources: Resources) -> Runtime:
    """Return `runtime` with the device and the threads that the resources allow.

    On the CPU a run has one thread whatever it reserves: more would change its last digits, and a
    run must be the same run under every flag.
    """
    if resources.gpus > 0:
        num_threads = max(1, int(resources.cpus / resources.ranks))
        return replace(runtime, device="cuda", num_threads=num_threads)
    return replace(runtime, device="cpu", num_threads=1)


def _after_crash(
    tracker: Tracker, crashes: Counter[str], suspects: dict[str, int], error: Exception
) -> None:
    """Note what was running when a round crashed, and give up what was so alone and too often."""
    running = list(tracker.progress.running)
    reason = _one_line(error)
    tracker.journal.event("round_crashed", reason=reason, running=running)
    tracker.display.say(
        f"Ray Tune ended early ({reason}). Finished runs are kept; going on with the others."
    )
    for run_id in running:
        crashes[run_id] += 1
        suspects[run_id] = max(1, len(running) // SUSPECTS_PARTS)
        tracker.progress.interrupt(run_id)
        if tracker.store.is_done(run_id):
            tracker.progress.finish(run_id, succeeded=True)
        elif crashes[run_id] >= MAX_CRASHES_OF_A_RUN and len(running) == 1:
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
    """Wait until runs that another process trains are done, or free to be trained here.

    Those that are free are no longer busy.

    That process may be a worker which outlived its driver. It is never taken for dead while it
    holds the run: it could go on, and two would write the same files. On object storage it holds a
    run for as long as its beats move.
    """
    signals.deferring = True  # the loop looks; a signal must not raise between two looks
    said = False
    watches: defaultdict[str, Watch] = defaultdict(Watch)
    try:
        while not signals.stop_asked:
            tracker.tick()
            busy: list[RunBusyError] = []
            num_busy = len(tracker.busy)
            if tracker.note_done_elsewhere():
                return
            store.check_lease()
            for run_id in list(tracker.busy):
                try:
                    with store.run_lock(run_id, watches[run_id]):
                        tracker.busy.remove(run_id)
                except RunBusyError as error:
                    busy.append(error)
            if len(busy) < num_busy:
                return
            if not said:
                said = True
                tracker.display.say(
                    f"Waiting for {counted(len(busy), 'run')} that another process is training. "
                    f"{busy[0]}"
                )
            else:
                seconds = SECONDS_BETWEEN_LOOKS if store.is_local else REMOTE_SECONDS
                time.sleep(seconds * max(1.0, num_busy / MAX_LOOKS))
    finally:
        signals.deferring = False
