"""Who runs a sweep, and on object storage who trains a run: a number, and a heartbeat.

    sweeps/<name>/lease.json    number, token and name of the driver; beat, which it counts up
    runs/<run_id>/.lock         the same of the process that trains it, on object storage alone

A driver's workers carry its lease, and the store refuses what they write once another driver has
taken the next number. Who may take it is decided

    in a folder by a lock of the operating system;
    on object storage by a conditional PUT, which one of several wins: over nothing, over a lease
        that was given back, or over one whose beat has not moved for a while by this machine's
        monotonic clock (wall clocks are never compared);
    where the provider has none, by the last writer: a lease counts once it is read back, and runs
        have none.

What is kept by conditional PUTs cannot be another's while its last beat is recent, so that a write
under it asks for nothing.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mtl.errors import StoreError, StoreUnreachableError
from mtl.store.local import Storage, json_bytes, parse_json, with_schema

LEASE_SCHEMA = 1
MAX_LEASE_BYTES = 100_000
SECONDS_BETWEEN_BEATS = 10.0
WATCH_SECONDS = 60.0
"""For which a beat must stand still until its process counts as gone."""
TRUSTED_SECONDS = 30.0
"""For which a beat shows that nobody else has taken the lease: well below `WATCH_SECONDS`."""
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_TO_END = 5.0
"""For which a beat that is being written is waited for in the end."""
SETTLE_SECONDS = 2.0
"""Between writing a lease without conditions and reading it back."""


class StaleLeaseError(StoreError):
    """Another process has taken the sweep or the run: stop, and leave everything as it is."""


class RunBusyError(StoreError):
    """Another process is training this run right now."""


@dataclass(frozen=True)
class Lease:
    """What a driver and its workers carry."""

    key: str
    """Of the file."""
    number: int
    token: str
    """Tells processes apart that took the same number at the same time."""


def check_lease(files: Storage, lease: Lease) -> None:
    """Raise a `StaleLeaseError` unless `lease` is the one in force."""
    held, _ = _read(files, lease.key, or_none=True)
    if held is None or not _is(lease, held):
        raise _stale(files, lease, held)


def _is(lease: Lease, held: dict[str, Any]) -> bool:
    return (lease.number, lease.token) == (held["number"], held["token"])


def _stale(files: Storage, lease: Lease, held: dict[str, Any] | None) -> StaleLeaseError:
    now = "none" if held is None else f"number {held['number']} of {held['holder']}"
    return StaleLeaseError(
        f"Expected lease number {lease.number} of {_what(lease.key)} in {files.place('')}, found "
        f"{now}: it was given to another process. This one stops and leaves everything to it."
    )


def _what(key: str) -> str:
    """Return what a lease is of, in words."""
    kind, name, _ = key.split("/")
    return f"run {name}" if kind == "runs" else f"sweep {name!r}"


def _read(
    files: Storage, key: str, *, or_none: bool = False
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the lease that is there and its tag, None for none.

    With `or_none` a damaged one is none too. Without conditional writes the tag is None.
    """
    try:
        if files.guard is None:
            data, tag = files.read(key, MAX_LEASE_BYTES), None
        else:
            data, tag = files.guard.read_tagged(key, MAX_LEASE_BYTES)
    except FileNotFoundError:
        return None, None
    held = parse_lease(data, files.place(key))
    if held is None and not or_none:
        raise StoreError(
            f"Expected a whole lease in {files.place(key)}, got a damaged file. Remove it once "
            f"no other process has {_what(key)}."
        )
    return held, tag


def parse_lease(data: bytes, place: str) -> dict[str, Any] | None:
    """Return the content of a lease.json that was read from `place`, None if it is damaged.

    Raises:
        StoreError: if it is of another schema.
    """
    try:
        held = parse_json(data, place)
    except StoreError:
        return None
    if not isinstance(held, dict):
        return None
    if type(held.get("schema")) is int:
        with_schema(held, LEASE_SCHEMA, "a lease", place)
    is_whole = all(type(held.get(name)) is kind for name, kind in _LEASE_FIELDS.items())
    return held if is_whole else None


_LEASE_FIELDS = {
    "schema": int, "number": int, "token": str, "holder": str, "beat": int, "released": bool,
}  # fmt: skip


class Watch:
    """How long what a lease says has stood still, by this machine's monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, Any] | None = None
        self._since = 0.0

    def is_over(self, held: dict[str, Any]) -> bool:
        """Return whether `held`, which is there now, was there `WATCH_SECONDS` ago already."""
        if held != self._held:
            self._held, self._since = held, self._clock()
        return self._clock() - self._since >= WATCH_SECONDS


def _elapsed() -> float:
    """Return seconds that go on while the machine sleeps: others' clocks go on too."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def to_stderr(text: str) -> None:
    """Print a sentence."""
    print(text, file=sys.stderr, flush=True)


def lock_id(path: Path) -> str:
    """Return what tells a lock of the operating system from all others, "" where nothing does.

    Who holds the lock knows that an earlier holder is gone.
    """
    try:
        held, boot = path.stat(), Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{boot}/{held.st_dev}/{held.st_ino}"


class HeldLease:
    """The lease of a sweep or a run, kept by a thread while this is entered and given back after.

    Args:
        files: of the store.
        key: of the lease's file.
        locked: whether a lock of the operating system, held by the caller, decides who may take
            it; otherwise the beat is watched.
        lock: the `lock_id` of a lock that the caller holds and that decides on this machine alone.
        under: the lease of the sweep that this one's process works for; without it this one is
            stale too.
        say: called with a sentence when a watch begins.
        watch: of a caller who comes again: a lease that has not yet stood still for long enough is
            refused at once. Without it this waits.
        clock: seconds, monotonic.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        files: Storage,
        key: str,
        *,
        locked: bool,
        lock: str = "",
        under: Lease | None = None,
        say: Callable[[str], None] = to_stderr,
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._files, self._key, self._locked, self._lock = files, key, locked, lock
        self._under, self._say, self._watched = under, say, watch
        self._clock, self._sleep = clock, sleep
        self._guard = files.guard
        self.lease = Lease(key, 1, os.urandom(8).hex())
        self._tag: str | None = None
        self._beat, self._beaten = 0, 0.0
        """Beats written, and the reading of `_elapsed` just before the last one was."""
        self._stale: StaleLeaseError | None = None
        self._writing = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            StoreError: if another process is alive, a `RunBusyError` for a run; if the lease that
                is there is of another release, or damaged where no lock decides.
        """
        # Most leases of runs are new, and then nothing needs to be read.
        is_new = self._guard is not None and self._write(released=False)
        if not is_new:
            self._take_over()
        self._thread.start()
        return self

    def _take_over(self) -> None:
        # Where a lock decides, a damaged lease is none: its driver is gone, or the lock would not
        # be held here. Numbers then begin again at 1, and a worker that outlived that driver is
        # recognised by its token.
        held, tag = _read(self._files, self._key, or_none=self._locked)
        if held is not None and not held["released"] and not self._is_gone(held):
            held, tag = self._waited(held, tag)
        number = 1 if held is None else held["number"] + 1
        self.lease, self._tag = Lease(self._key, number, self.lease.token), tag
        if not self._write(released=False):
            raise self._busy(_read(self._files, self._key, or_none=True)[0])
        if self._guard is None and not self._locked:
            self._sleep(SETTLE_SECONDS)
            held, _ = _read(self._files, self._key)
            if held is None or not _is(self.lease, held):
                raise self._busy(held)

    def _is_gone(self, held: dict[str, Any]) -> bool:
        """Return whether a lock shows that the process of a lease has ended."""
        return self._locked or bool(self._lock and held.get("lock") == self._lock)

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Give the lease back, so that the next process need not watch it."""
        self._ended.set()
        self._thread.join(SECONDS_TO_END)
        if self._thread.is_alive() or isinstance(error, StoreUnreachableError):
            return  # the storage does not answer: the next process watches
        try:
            if self._stale is None:
                self.check()
                self._files.flush(self._key)
                self._renew(released=True)
            elif self._under is not None and self._guard is not None:
                self._write(released=True)  # the sweep is another's; the run may still be ours
        except (StoreError, StoreUnreachableError, OSError):
            return  # another's by now, or out of reach: the next process watches it

    def check(self) -> None:
        """Raise a `StaleLeaseError` if another process has taken the lease, or may have.

        Without conditional writes the lease is read; with them only where beats did not get
        through, and then the next one is written here.
        """
        if self._guard is None:
            check_lease(self._files, self.lease)
            return
        if self._stale is not None:
            raise self._stale
        if _elapsed() - self._beaten > TRUSTED_SECONDS:
            self._renew()

    def _renew(self, *, released: bool = False) -> None:
        """Count the beat up.

        Raises:
            StaleLeaseError: if another process has taken the lease.
        """
        with self._writing:
            try:
                if self._under is not None:
                    check_lease(self._files, self._under)
                if self._guard is None:
                    check_lease(self._files, self.lease)
                self._beat += 1
                if not self._write(released=released):
                    held, _ = _read(self._files, self._key, or_none=True)
                    raise _stale(self._files, self.lease, held)
            except StaleLeaseError as error:
                self._stale = error
                self._files.forget(self._key)
                raise

    def _write(self, *, released: bool) -> bool:
        """Write the lease; return whether it is there, which another may have prevented."""
        content = {
            "schema": LEASE_SCHEMA,
            "number": self.lease.number,
            "token": self.lease.token,
            "holder": f"process {os.getpid()} on {os.uname().nodename}",
            "beat": self._beat,
            "heartbeat": datetime.now(UTC).isoformat(timespec="seconds"),
            "released": released,
            **({"lock": self._lock} if self._lock else {}),
        }
        data = json_bytes(content)
        began = _elapsed()
        if self._guard is None:
            self._files.write(self._key, data)
        else:
            tag = self._guard.write_if(self._key, data, self._tag)
            while tag is None:
                # Another's, or of one of our own writes the answer was lost.
                held, found = _read(self._files, self._key, or_none=True)
                if held is None or not _is(self.lease, held):
                    return False
                if held["beat"] == self._beat and held["released"] == released:
                    tag = found
                else:
                    tag = self._guard.write_if(self._key, data, found)
            self._tag = tag
        self._beaten = began
        return True

    def _beats(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            try:
                self._renew()
                self._files.flush(self._key)
            except StaleLeaseError:
                return  # every write under this lease says so
            except (StoreError, StoreUnreachableError, OSError):
                continue  # a lost connection or a full disk may pass

    def _waited(
        self, held: dict[str, Any], tag: str | None
    ) -> tuple[dict[str, Any] | None, str | None]:
        """Return the lease and its tag once it has stood still for long enough, or is given back.

        Raises:
            StoreError: if its beat moves, or if it has not yet and the caller does not wait.
        """
        watch = self._watched or Watch(self._clock)
        if not watch.is_over(held):
            if self._watched is not None:
                raise self._busy(held)
            self._say(
                f"The lease of {_what(self._key)} in {self._files.place('')} was not given back by "
                f"{held['holder']}. Watching for {WATCH_SECONDS:g} s whether that still runs."
            )
        while not watch.is_over(held):
            self._sleep(SECONDS_BETWEEN_LOOKS)
            now, tag = _read(self._files, self._key)
            if now is None or now["released"]:
                return now, tag
            if now != held:
                raise self._busy(now)
        return held, tag

    def _busy(self, held: dict[str, Any] | None) -> StoreError:
        holder = "" if held is None else held["holder"]
        kind, name, _ = self._key.split("/")
        place = self._files.place("")
        return run_busy(name, holder) if kind == "runs" else busy(name, place, holder)


def busy(sweep: str, place: str, holder: str) -> StoreError:
    """Return the error for a sweep that `holder`, "" if unknown, runs in the store at `place`."""
    return StoreError(
        f"Sweep {sweep!r} in {place} is being run by another process"
        f"{f' ({holder})' if holder else ''}. Wait for it, or give another --name."
    )


def run_busy(run_id: str, holder: str) -> RunBusyError:
    """Return the error for a run that `holder`, "" if unknown, trains."""
    return RunBusyError(
        f"Run {run_id} is being trained by another process"
        f"{f' ({holder})' if holder else ''}. Wait for it or stop it."
    )
