"""Who runs a sweep: a number that rises with every driver, and a heartbeat.

    sweeps/<name>/lease.json    number, token and name of the driver; beat, which it counts up

A driver's workers carry its lease, and the store refuses what they write once another driver has
taken the next number. On a folder a lock of the operating system decides who may take it. Object
storage has none, and pyarrow offers no conditional PUT: there, a lease is taken when its beat has
not moved for a while by this machine's monotonic clock (wall clocks are never compared), and
counts once it is read back.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from mtl.errors import StoreError, StoreUnreachableError
from mtl.store.local import Storage, json_bytes, parse_json, with_schema

LEASE_SCHEMA = 1
MAX_LEASE_BYTES = 100_000
SECONDS_BETWEEN_BEATS = 10.0
WATCH_SECONDS = 60.0
"""For which a beat must stand still until its driver counts as gone."""
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_TO_END = 5.0
"""For which a beat that is being written is waited for in the end."""
SETTLE_SECONDS = 2.0
"""Between writing a lease on object storage and reading it back."""


class StaleLeaseError(StoreError):
    """Another driver has taken the sweep: stop, and leave everything as it is."""


@dataclass(frozen=True)
class Lease:
    """What a driver and its workers carry."""

    sweep: str
    number: int
    token: str
    """Tells drivers apart that took the same number at the same time."""


def check_lease(files: Storage, lease: Lease) -> None:
    """Raise a `StaleLeaseError` unless `lease` is the one in force."""
    held = _read(files, lease.sweep, or_none=True)
    if held is None or not _is(lease, held):
        now = "none" if held is None else f"number {held['number']} of {held['holder']}"
        raise StaleLeaseError(
            f"Expected lease number {lease.number} of sweep {lease.sweep!r} in {files.place('')}, "
            f"found {now}: the sweep was given to another driver. This one stops and leaves "
            "everything to it."
        )


def _is(lease: Lease, held: dict[str, Any]) -> bool:
    return (lease.number, lease.token) == (held["number"], held["token"])


def _key(sweep: str) -> str:
    return f"sweeps/{sweep}/lease.json"


def _read(files: Storage, sweep: str, *, or_none: bool = False) -> dict[str, Any] | None:
    """Return the lease that is there, None for none; with `or_none` a damaged one is none too."""
    key = _key(sweep)
    try:
        held = parse_lease(files.read(key, MAX_LEASE_BYTES), files.place(key))
    except FileNotFoundError:
        return None
    if held is None and not or_none:
        raise StoreError(
            f"Expected a whole lease in {files.place(key)}, got a damaged file. Remove it once no "
            "driver of the sweep runs."
        )
    return held


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


class HeldLease:
    """The lease of a sweep, kept by a thread while this is entered and given back after.

    Args:
        files: of the store.
        sweep: its name.
        locked: whether a lock, held by the caller, decides who may take it; otherwise the beat is
            watched.
        say: called with a sentence when a watch begins.
        clock: seconds, monotonic.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        files: Storage,
        sweep: str,
        *,
        locked: bool,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._files, self._sweep, self._locked, self._say = files, sweep, locked, say
        self._clock, self._sleep = clock, sleep
        self._ended = threading.Event()
        self._beat = 0
        self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            StoreError: if another driver is alive; if the lease that is there is of another
                release, or damaged where no lock decides.
        """
        # Where a lock decides, a damaged lease is none: its driver is gone, or the lock would not
        # be held here. Numbers then begin again at 1, and a worker that outlived that driver is
        # recognised by its token.
        held = _read(self._files, self._sweep, or_none=self._locked)
        if held is not None and not held["released"] and not self._locked:
            self._watch(held)
            held = _read(self._files, self._sweep)
        number = 1 if held is None else held["number"] + 1
        self.lease = Lease(self._sweep, number, os.urandom(8).hex())
        self._write(released=False)
        if not self._locked:
            self._sleep(SETTLE_SECONDS)
            held = _read(self._files, self._sweep)
            if held is None or not _is(self.lease, held):
                raise self._busy(held)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lease back, so that the next driver need not watch it."""
        self._ended.set()
        self._thread.join(SECONDS_TO_END)
        if self._thread.is_alive():
            return  # it waits for storage that does not answer: the next driver watches
        try:
            self.renew(released=True)
        except (StoreError, StoreUnreachableError, OSError):
            return  # another's by now, or out of reach: the next driver watches it

    def renew(self, *, released: bool = False) -> None:
        """Count the beat up.

        Raises:
            StaleLeaseError: if another driver has taken the sweep.
        """
        check_lease(self._files, self.lease)
        self._beat += 1
        self._write(released=released)

    def _write(self, *, released: bool) -> None:
        content = {
            "schema": LEASE_SCHEMA,
            "number": self.lease.number,
            "token": self.lease.token,
            "holder": f"process {os.getpid()} on {os.uname().nodename}",
            "beat": self._beat,
            "heartbeat": datetime.now(UTC).isoformat(timespec="seconds"),
            "released": released,
        }
        self._files.write(_key(self._sweep), json_bytes(content))

    def _beats(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            try:
                self.renew()
            except StaleLeaseError:
                return  # every write of this driver and of its workers says so
            except (StoreError, StoreUnreachableError, OSError):
                continue  # a lost connection or a full disk may pass

    def _watch(self, held: dict[str, Any]) -> None:
        """Return once the lease has stood still for long enough, or was given back.

        Raises:
            StoreError: if its beat moves.
        """
        self._say(
            f"Sweep {self._sweep!r} in {self._files.place('')} was not given back by "
            f"{held['holder']}. Watching for {WATCH_SECONDS:g} s whether that still runs."
        )
        end = self._clock() + WATCH_SECONDS
        while self._clock() < end:
            self._sleep(SECONDS_BETWEEN_LOOKS)
            now = _read(self._files, self._sweep)
            if now is None or now["released"]:
                return
            if now != held:
                raise self._busy(now)

    def _busy(self, held: dict[str, Any] | None) -> StoreError:
        return busy(self._sweep, self._files.place(""), "" if held is None else held["holder"])


def busy(sweep: str, place: str, holder: str) -> StoreError:
    """Return the error for a sweep that `holder`, "" if unknown, runs in the store at `place`."""
    return StoreError(
        f"Sweep {sweep!r} in {place} is being run by another process"
        f"{f' ({holder})' if holder else ''}. Wait for it, or give another --name."
    )
