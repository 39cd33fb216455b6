"""A sweep's own files in the store: who runs it, what it planned, what happened, where it stands.

sweeps/<name>/.lock  held by the process that runs the sweep; in a folder alone
lease.json     the number of that process, which its workers carry; see `mtl.store.lease`
plan.json      what each start planned, the newest last; see `mtl.store.plan_file`
decisions.jsonl  what the plan owes to results, see `sweeps.plan.refine`
events.jsonl   one line an event
status.json    where the sweep stands, for whoever watches from outside
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from analysis.load.plans import common_primary
from mtl.errors import StoreError, StoreUnreachableError, UsageError
from mtl.store import Store
from mtl.store.lease import HeldLease, busy, to_stderr
from mtl.store.plan_file import PLAN_SCHEMA, PlanFile, read_plan
from sweeps.plan import Plan
from sweeps.status.progress import Snapshot, SweepProgress
from sweeps.text import utc_now

SWEEP_SCHEMA = 1
"""Version of events.jsonl and status.json."""
SECONDS_BETWEEN_STATUS = 2.0
SECONDS_BETWEEN_REMOTE_STATUS = 10.0
"""On object storage, where each costs a request that the driver waits for."""


@contextmanager
def sweep_lock(store: Store, name: str) -> Iterator[Store]:
    """Hold the sweep for this process.

    The lock of the operating system goes with the process, however that one ends. On object
    storage it keeps off processes of this machine alone, and the lease the others.

    Yields:
        The store under the sweep's lease: once another process has taken the sweep, it refuses
        to be written.

    Raises:
        StoreError: if another process holds it.
    """
    key = store.sweep_key(name)
    with store.locked(key) as holder:
        if holder is not None:
            raise busy(name, store.place(""), holder)
        if store.lock_note is not None:
            to_stderr(store.lock_note)
        with HeldLease(
            store.storage, f"{key}/lease.json", locked=store.is_local, lock=store.lock_id(key)
        ) as held:
            yield store.under(held)


def revisions(store: Store, name: str, kind: str) -> list[dict[str, Any]]:
    """Return what earlier starts of the sweep planned, the newest last; empty for a new one.

    Raises:
        ValueError: if the name belongs to another kind of sweep.
        StoreError: if the file is damaged or of another schema.
    """
    held = _own_plan(store, name, kind)
    return [] if held is None else [dict(revision) for revision in held.revisions]


def _own_plan(store: Store, name: str, kind: str) -> PlanFile | None:
    """Return the sweep's plan, None for a new one; see `revisions`."""
    try:
        held = read_plan(store, name)
    except FileNotFoundError:
        return None
    if held.kind != kind:
        raise UsageError(
            f"Expected a sweep of kind {kind!r} under the name {name!r}, got one of kind "
            f"{held.kind!r} in {store.place('')}. Give another --name."
        )
    return held


def with_declared(store: Store | None, plan: Plan, asked: Sequence[str] | None) -> Plan:
    """Return `plan` with the primary comparison that stands.

    That is its own as long as nothing that the sweep plans has a result. Once there are results,
    what was declared before them stands: by this sweep, or for a new one by the sweeps that planned
    those runs, if all declared the same.

    Args:
        store: where the sweep is, or None.
        plan: of this start.
        asked: the two methods that the user named, if any.

    Raises:
        UsageError: if the user named others than those that stand, or the name belongs to another
            kind of sweep.
        StoreError: if plan.json is damaged or of another schema.
    """
    if store is None:
        return plan
    own = _own_plan(store, plan.name, plan.kind)
    done = store.done({*plan.run_ids, *(own.reported if own is not None else ())})
    if not done:
        return plan
    declared = _declared_for(store, done) if own is None else own.primary
    if asked is not None and {*asked} != {*(declared or ())}:
        stands = "none was declared before them"
        if declared:
            stands = f"{' and '.join(declared)} were declared before them"
        raise UsageError(
            f"Expected no other --primary than before once there are results, got "
            f"{' '.join(asked)}: {len(done)} runs are done, and {stands}. Leave it out; the report "
            "has this pair among the others."
        )
    return replace(plan, primary=declared)


def _declared_for(store: Store, run_ids: Collection[str]) -> tuple[str, ...] | None:
    """Return the primary comparison of the sweeps that plan these runs; None unless all agree."""
    declared, left = [], set(run_ids)
    for name in store.sweep_names():
        with contextlib.suppress(StoreError, FileNotFoundError):
            held = read_plan(store, name)
            if not {*run_ids}.isdisjoint(held.run_ids):
                declared.append(held.primary)
                left -= {*held.run_ids}
    return None if left else common_primary(declared)


class Journal:
    """Writes a sweep's files; made while `sweep_lock` is held.

    Args:
        store: the run store.
        plan: what is launched; a revision is added to plan.json, or takes the place of the newest
            one where that planned the same: a sweep of many runs may be started many times.
        reported: whether the plan's runs are what the sweep's report will be on.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        clock: Callable[[], float] = time.monotonic,
        *,
        reported: bool = True,
    ) -> None:
        self._store, self._name = store, plan.name
        self._reported = reported
        self._clock = clock
        self._pause = SECONDS_BETWEEN_STATUS if store.is_local else SECONDS_BETWEEN_REMOTE_STATUS
        self._status_written: float | None = None
        self._started = utc_now()
        self._num_earlier = len(revisions(store, plan.name, plan.kind))
        self.replan(plan)

    def replan(self, plan: Plan) -> None:
        """Put `plan` in place of what this start has planned so far."""
        held = revisions(self._store, plan.name, plan.kind)[: self._num_earlier]
        mine: dict[str, Any] = {
            "started": self._started,
            "run_ids": list(plan.run_ids),
            "varies": plan.varies,
            **({} if self._reported else {"reported": False}),
        }
        is_as_before = bool(held) and held[-1] | {"started": self._started} == mine
        held[len(held) - is_as_before :] = [mine]
        tuned: dict[str, Any] = {"tuned": list(plan.tuned)} if plan.tuned else {}
        if plan.tuned_from is not None:
            tuned["tuned_from"] = plan.tuned_from
        primary = {} if plan.primary is None else {"primary": list(plan.primary)}
        self._store.write_json(
            self._store.sweep_key(self._name, "plan.json"),
            {"schema": PLAN_SCHEMA, "kind": plan.kind, **primary, **tuned, "revisions": held},
        )

    def event(self, what: str, **details: Any) -> None:
        """Append one line to events.jsonl."""
        line = {"time": utc_now(), "event": what, **details}
        self._store.append_line(self._store.sweep_key(self._name, "events.jsonl"), line)

    def status(
        self,
        snapshot: Snapshot,
        state: str,
        *,
        now: bool = False,
        efficiency: float | None = None,
    ) -> None:
        """Write status.json, at most every two (on object storage ten) seconds unless `now`.

        Args:
            snapshot: where the sweep stands.
            state: `preparing`, `running`, `stopped` or `finished`.
            now: write however little time has passed.
            efficiency: of a command that has ended, see `sweeps.status.progress.Efficiency`.
        """
        written = self._status_written
        if not now and written is not None and self._clock() - written < self._pause:
            return
        self._status_written = self._clock()
        self._store.write_json(
            self._store.sweep_key(self._name, "status.json"),
            {
                "schema": SWEEP_SCHEMA,
                "updated": utc_now(),
                "state": state,
                "total": snapshot.total,
                "done": snapshot.done,
                "failed": snapshot.failed,
                "paused": snapshot.paused,
                "waiting": snapshot.waiting,
                **({"undecided": snapshot.undecided} if snapshot.undecided else {}),
                **({} if efficiency is None else {"efficiency": round(efficiency, 4)}),
                "running": [
                    {"run_id": run.run_id, "epoch": run.epoch, "losses": run.losses}
                    for run in snapshot.running
                ],
                "expected_seconds_left": (
                    snapshot.seconds_left and [round(s, 1) for s in snapshot.seconds_left]
                ),
            },
        )


def end_state(snapshot: Snapshot) -> str:
    """Return `finished`, or `stopped` where the same command continues."""
    return "finished" if snapshot.is_over else "stopped"


def note_stopped(progress: SweepProgress, journal: Journal) -> None:
    """Write that the sweep was stopped, its runs being left between two epochs."""
    for run_id in list(progress.running):
        progress.interrupt(run_id)
    # The disk, or the connection, may be what failed.
    with contextlib.suppress(OSError, StoreError, StoreUnreachableError):
        journal.status(progress.snapshot(), "stopped", now=True)
