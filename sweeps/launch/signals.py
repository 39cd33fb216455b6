"""What asks a sweep to stop: SIGINT, SIGTERM and SIGUSR1, or the end of its time."""

import math
import signal
import time
from types import FrameType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequested(KeyboardInterrupt):
    """A signal asked this process to stop."""


class StopSignals:
    """Catches the stop signals while it is entered: the first asks to stop, the second insists.

    While `deferring` is True the first signal only sets `received`, for a loop that looks there;
    otherwise, and at the second signal, `StopRequested` is raised.

    Args:
        deadline: reading of `time.monotonic` from which on `stop_asked` is True without a signal.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.received: str | None = None
        self.deferring = False
        self.deadline = deadline
        self._before: dict[signal.Signals, Any] = {}

    @property
    def stop_asked(self) -> bool:
        """Return whether a signal has come or the time is over."""
        return self.received is not None or time.monotonic() >= self.deadline

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.install()
        return self

    def install(self) -> None:
        """Take the signals over again, from Ray and Tune, which install handlers of their own."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        insists = self.received is not None
        self.received = signal.Signals(number).name
        if insists or not self.deferring:
            raise StopRequested(self.received)
