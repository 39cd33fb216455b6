"""What status.json says of the end of a sweep under way, however that comes."""

import contextlib
from types import TracebackType

from mtl.store import StoreError, StoreUnreachableError
from sweeps.journal import Journal
from sweeps.progress import Snapshot, SweepProgress


class UnderWay(contextlib.AbstractContextManager["UnderWay"]):
    """The latest runs that were launched; status.json says `stopped` if an error ends them."""

    def __init__(self) -> None:
        self._latest: tuple[SweepProgress, Journal] | None = None

    def launched(self, progress: SweepProgress, journal: Journal) -> None:
        """Take note of what is under way from now on."""
        self._latest = progress, journal

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the status after an error, and let that go on."""
        if error is not None and self._latest is not None:
            note_stopped(*self._latest)


def end_state(snapshot: Snapshot) -> str:
    """Return the state of a sweep that has ended for now."""
    return "finished" if snapshot.is_over else "stopped"


def note_stopped(progress: SweepProgress, journal: Journal) -> None:
    """Write that the sweep was stopped, its runs being left between two epochs."""
    for run_id in list(progress.running):
        progress.interrupt(run_id)
    # The disk, or the connection, may be what failed.
    with contextlib.suppress(OSError, StoreError, StoreUnreachableError):
        journal.status(progress.snapshot(), "stopped", now=True)
