"""How long a command may train: which runs may start and which go on, by the clock; no ray.

A run is started if it is expected to end in time. One that turns out slower is stopped after the
last epoch that ends in time: its checkpoint is written by then, so that nothing is lost and the
same command goes on from there.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MOST_HOURS = 24 * 366


@dataclass(frozen=True)
class Budget:
    """A time by which everything has to have ended."""

    deadline: float = math.inf
    """Clock reading, seconds; infinite where nobody set a limit."""
    clock: Callable[[], float] = time.monotonic

    @property
    def is_limited(self) -> bool:
        """Return whether there is a limit at all."""
        return math.isfinite(self.deadline)

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the deadline, 0 after it."""
        return max(0.0, self.deadline - self.clock())

    def allows(self, seconds: float) -> bool:
        """Return whether what takes `seconds` from now would end by the deadline."""
        return seconds <= self.seconds_left


def budget_of(hours: float | None, clock: Callable[[], float] = time.monotonic) -> Budget:
    """Return the budget of a command that starts now; None means no limit."""
    return Budget(clock=clock) if hours is None else Budget(clock() + 3600 * hours, clock)


def check_hours(hours: float) -> float:
    """Return `hours`; raise a `ValueError` unless a sweep can be given that long."""
    if not 0 < hours <= MOST_HOURS:  # not true of NaN either
        raise ValueError(
            f"Expected --budget above 0 and at most {MOST_HOURS} hours, got {hours:g}. Leave it "
            "out for no limit."
        )
    return hours


def runs_within(seconds: Iterable[float], slots: int, budget_seconds: float) -> int:
    """Return how many of the runs, begun in order on `slots` slots, end within a time.

    Args:
        seconds: of each run.
        slots: runs side by side.
        budget_seconds: from the start of the first.
    """
    free_at = [0.0] * slots
    count = 0
    for needed in seconds:
        slot = min(range(slots), key=free_at.__getitem__)
        if free_at[slot] + needed <= budget_seconds:
            free_at[slot] += needed
            count += 1
    return count
