"""What happens to the runs of a launch: counted, written to the journal, shown and said."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from mtl.store import Store
from sweeps.plan.cost import Budget, cost_model
from sweeps.status.display import Display
from sweeps.status.journal import Journal
from sweeps.status.progress import SweepProgress
from sweeps.text import failure_sentence, run_text

MAX_PUT_BACK = 5
"""Rounds of a cluster into which a run goes again that went without a word, as with its node."""
SECONDS_BETWEEN_SNAPSHOTS = 0.25
"""At least; the live display draws no faster."""
SNAPSHOT_SHARE = 0.02
"""Of the driver's time, at most, that goes into telling where the sweep stands."""


class Tracker:
    """Hears what happens to runs and tells progress, journal and display."""

    def __init__(
        self,
        store: Store,
        progress: SweepProgress,
        journal: Journal,
        display: Display,
        budget: Budget,
        *,
        nodes_go: bool = False,
    ) -> None:
        self.store, self.progress = store, progress
        self.journal, self.display = journal, display
        self.budget = budget
        self.nodes_go = nodes_go
        self.out_of_time: set[str] = set()
        self.has_begun = False
        self.busy: set[str] = set()
        self.num_ended = 0
        self.put_back: Counter[str] = Counter()
        self.unfit: dict[str, str] = {}
        self._next_snapshot = -math.inf

    def _changed(self) -> None:
        began = time.monotonic()
        if began < self._next_snapshot:
            return
        snapshot = self.progress.snapshot()
        self.journal.status(snapshot, "running")
        self.display.show(snapshot)
        ended = time.monotonic()
        # A snapshot looks at every run of the plan, so in a large sweep it is taken less often.
        pause = (ended - began) / SNAPSHOT_SHARE
        self._next_snapshot = ended + max(SECONDS_BETWEEN_SNAPSHOTS, pause)

    def tick(self) -> None:
        """Tell where the sweep stands, if that is due."""
        self._changed()

    def run_started(self, run_id: str) -> None:
        """A run has been given to a worker."""
        self.progress.start(run_id)
        self.journal.event("run_started", run_id=run_id)

    def run_epoch(self, run_id: str, epoch: int, losses: Sequence[float | None]) -> None:
        """A run has finished an epoch."""
        self.has_begun = True
        self.progress.epoch(run_id, epoch, losses)

    def run_ended(self, run_id: str, state: str) -> None:
        """A run is `done`, `failed` for good, `paused`, or `busy` elsewhere."""
        if run_id not in self.progress.running:
            return  # Tune repeats a trial's last report when its function returns
        if state == "busy":
            self.busy.add(run_id)
            self.progress.interrupt(run_id)
        else:
            self.num_ended += 1
            if state == "paused":
                self.progress.pause(run_id)
            else:
                self.progress.finish(run_id, succeeded=state == "done")
        self.journal.event(f"run_{state}", run_id=run_id)
        if state == "failed":
            self._say_failed(run_id)
        self._changed()

    def limits_time(self) -> bool:
        """Return whether there is a budget of time."""
        return self.budget.is_limited

    def may_start(self, run_id: str) -> bool:
        """Return whether there is time for a run."""
        if run_id in self.out_of_time:
            return False
        # Before the first epoch, Ray and the workers' imports are still to come.
        start = 0.0 if self.has_begun else statistics.mean(cost_model()["start_seconds"])
        return self.budget.allows(start + self.progress.seconds_of(run_id))

    def may_go_on(self, run_id: str, epoch: int) -> bool:
        """Return whether there is time for a run's next epoch."""
        # After the last epoch only the result is to be written.
        is_last = epoch >= self.progress.runs[run_id].epochs
        if is_last or self.budget.allows(self.progress.seconds_of_an_epoch(run_id)):
            return True
        self.out_of_time.add(run_id)
        return False

    def run_stopped(self, run_id: str) -> None:
        """A run was stopped between two epochs."""
        run = self.progress.running.get(run_id)
        if run is None:
            return  # it had ended
        self.progress.interrupt(run_id)
        self.journal.event("run_stopped", run_id=run_id, epoch=run.epoch)
        if run_id in self.out_of_time:
            self.display.say(
                f"Out of time: {self._name(run_id)} stopped after epoch {run.epoch} of "
                f"{run.spec.epochs}, and will go on from there."
            )

    def run_put_back(self, run_id: str, node_id: str, reason: str) -> None:
        """A run came to a node that lacks what it needs: no failure of the run."""
        if run_id not in self.progress.running:
            return  # its process repeats it for as long as it keeps its place
        self.put_back[run_id] += 1
        self.progress.interrupt(run_id)
        self.journal.event("run_put_back", run_id=run_id, node_id=node_id, reason=reason)
        if node_id not in self.unfit:
            self.unfit[node_id] = reason
            self.display.say(f"{reason} Its runs go to other nodes.")

    def runs_go_on(self) -> bool:
        """Return whether any run is under way."""
        return bool(self.progress.running)

    def note_done_elsewhere(self) -> bool:
        """Count the runs that another process was training and has finished; return if any."""
        done = [run_id for run_id in self.busy if self.store.is_done(run_id)]
        for run_id in done:
            self.busy.remove(run_id)
            self.progress.finish(run_id, succeeded=True)
            self.journal.event("run_done_elsewhere", run_id=run_id)
        return bool(done)

    def run_retried(self, run_id: str, detail: str) -> None:
        """A run's process failed, of which Ray says `detail`; it is tried again."""
        self.progress.interrupt(run_id)
        self.journal.event("run_retried", run_id=run_id, detail=detail)
        self.display.say(f"Trying again: {self._name(run_id)}: {self._reason(run_id)}")

    def run_given_up(self, run_id: str, detail: str) -> None:
        """A run's process failed once too often, of which Ray says `detail`."""
        went = self.store.error(run_id) is None  # a process that failed itself says why
        if self.nodes_go and went and self.put_back[run_id] < MAX_PUT_BACK:
            # Tune does not try again what was lost while it began.
            self.put_back[run_id] += 1
            self.run_retried(run_id, detail)
            return
        if went:
            self.store.write_error(
                run_id,
                f"{detail}\n\nThe process of this run died again and again before the run was "
                "done. Mostly that is lack of memory: run fewer side by side with --concurrency.",
            )
        self.num_ended += 1
        self.progress.finish(run_id, succeeded=False)
        self.journal.event("run_failed", run_id=run_id, detail=detail)
        self._say_failed(run_id)

    def _reason(self, run_id: str) -> str:
        """Return the run's recorded failure in a sentence; a killed process records none."""
        return failure_sentence(self.store.error(run_id)) or "its process died."

    def _say_failed(self, run_id: str) -> None:
        self.display.say(f"Failed: {self._name(run_id)}: {self._reason(run_id)}")

    def _name(self, run_id: str) -> str:
        return f"run {run_id} ({run_text(self.progress.runs[run_id])})"


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
