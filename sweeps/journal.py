"""A sweep's own files in the store: who runs it, what it planned, what happened, where it stands.

sweeps/<name>/.lock          held by the process that runs the sweep
plan.json      the planned run ids of every start, the newest last
events.jsonl   one line an event
status.json    where the sweep stands, for whoever watches from outside
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mtl.store import Store, StoreError, read_json, write_json
from sweeps.plan import Plan
from sweeps.progress import Snapshot

SWEEP_SCHEMA = 1
"""Version of plan.json, events.jsonl and status.json."""
SECONDS_BETWEEN_STATUS = 2.0


class SweepBusyError(StoreError):
    """Another process runs this sweep."""


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def sweep_lock(store: Store, name: str) -> Iterator[None]:
    """Hold the sweep for this process; the lock goes with the process, however that one ends.

    Raises:
        SweepBusyError: if another process holds it.
    """
    folder = store.sweep_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip()
            raise SweepBusyError(
                f"Sweep {name!r} in {store.root} is being run by another process"
                f"{f' ({holder})' if holder else ''}. Wait for it, or give another --name."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


def revisions(store: Store, name: str, kind: str) -> list[dict[str, Any]]:
    """Return what earlier starts of the sweep planned, the newest last; empty for a new one.

    Raises:
        ValueError: if the name belongs to another kind of sweep.
        StoreError: if the file is damaged or of another schema.
    """
    path = store.sweep_folder(name) / "plan.json"
    if not path.exists():
        return []
    held = read_json(path)
    if not isinstance(held, dict) or held.get("schema") != SWEEP_SCHEMA:
        schema = held.get("schema") if isinstance(held, dict) else None
        raise StoreError(
            f"Expected {path} of schema {SWEEP_SCHEMA}, got {schema!r}. Use the release that "
            "wrote it, or another --name."
        )
    if held.get("kind") != kind:
        raise ValueError(
            f"Expected a sweep of kind {kind!r} under the name {name!r}, got one of kind "
            f"{held.get('kind')!r} in {store.root}. Give another --name."
        )
    return list(held["revisions"])


class Journal:
    """Writes a sweep's files; made while `sweep_lock` is held.

    Args:
        store: the run store.
        plan: what is launched; a revision is added to plan.json.
        clock: seconds, monotonic.
    """

    def __init__(
        self, store: Store, plan: Plan, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = store.sweep_folder(plan.name)
        self._clock = clock
        self._status_written: float | None = None
        self._add_revision(store, plan)

    def _add_revision(self, store: Store, plan: Plan) -> None:
        held = revisions(store, plan.name, plan.kind)
        held.append({"started": utc_now(), "run_ids": list(plan.run_ids), "varies": plan.varies})
        write_json(
            self._folder / "plan.json",
            {"schema": SWEEP_SCHEMA, "kind": plan.kind, "revisions": held},
        )

    def event(self, what: str, **details: Any) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": utc_now(), "event": what, **details}, allow_nan=False) + "\n"
        path = self._folder / "events.jsonl"
        with open(path, "ab") as file:
            # A driver that was killed in the middle of a line must not swallow this one.
            if file.tell() > 0 and not _ends_with_newline(path):
                file.write(b"\n")
            file.write(line.encode())

    def status(self, snapshot: Snapshot, state: str, *, now: bool = False) -> None:
        """Write status.json, at most every two seconds unless `now`.

        Args:
            snapshot: where the sweep stands.
            state: `running`, `stopped` or `finished`.
            now: write however little time has passed.
        """
        written = self._status_written
        if not now and written is not None and self._clock() - written < SECONDS_BETWEEN_STATUS:
            return
        self._status_written = self._clock()
        write_json(
            self._folder / "status.json",
            {
                "schema": SWEEP_SCHEMA,
                "updated": utc_now(),
                "state": state,
                "total": snapshot.total,
                "done": snapshot.done,
                "failed": snapshot.failed,
                "paused": snapshot.paused,
                "waiting": snapshot.waiting,
                "running": [
                    {"run_id": run.run_id, "epoch": run.epoch, "losses": run.losses}
                    for run in snapshot.running
                ],
                "expected_seconds_left": [round(s, 1) for s in snapshot.seconds_left],
            },
        )


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
