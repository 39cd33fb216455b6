"""Who hears what happens in a round of Ray Tune, and is asked what may go on."""

from collections.abc import Sequence
from typing import Protocol


class Listener(Protocol):
    """Hears how the runs of a round go."""

    def run_started(self, run_id: str) -> None:
        """A run has been given to a worker."""

    def run_epoch(self, run_id: str, epoch: int, losses: Sequence[float | None]) -> None:
        """A run has finished an epoch."""

    def run_ended(self, run_id: str, state: str) -> None:
        """A run is `done`, `paused` as asked, `failed` for good, or `busy` elsewhere."""

    def run_retried(self, run_id: str, detail: str) -> None:
        """A run's process failed, of which Ray says `detail`; it is tried again."""

    def run_given_up(self, run_id: str, detail: str) -> None:
        """A run's process failed once too often, of which Ray says `detail`."""

    def run_stopped(self, run_id: str) -> None:
        """A run's process was ended before the run was; its checkpoint stays."""

    def run_put_back(self, run_id: str, node_id: str, reason: str) -> None:
        """A run came to a node that lacks what it needs; its process keeps that place."""

    def runs_go_on(self) -> bool:
        """Whether any run is under way."""

    def limits_time(self) -> bool:
        """Whether runs must be asked for before they start and go on."""

    def may_start(self, run_id: str) -> bool:
        """Whether there is time for the run."""

    def may_go_on(self, run_id: str, epoch: int) -> bool:
        """Whether there is time for another epoch of the run, which has finished `epoch`."""

    def tick(self) -> None:
        """Some time has passed."""
