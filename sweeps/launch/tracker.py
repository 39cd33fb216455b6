"""What happens to the runs of a launch: counted, written to the journal, shown and said."""

import math
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from mtl.spec import OwnSpec
from mtl.store import Store
from sweeps.plan.fields import spec_fields
from sweeps.status.display import Display
from sweeps.status.journal import Journal
from sweeps.status.progress import SweepProgress
from sweeps.text import duration, failure_sentence, run_text

MAX_REQUEUES = 5
"""Rounds of a cluster into which a run goes again whose process was lost without a word."""
SECONDS_BETWEEN_SNAPSHOTS = 0.25
"""At least; the live display draws no faster."""
SILENCE_SHARE = 0.5
"""Of a budget: a function of one's own that has reported nothing for longer when the sweep stops
counts as hung. Asked for again it would hang again, or need a larger budget."""
SNAPSHOT_SHARE = 0.02
"""Of the driver's time, at most, that goes into telling where the sweep stands."""


class Tracker:
    """Hears from a round what happens to runs and tells progress, journal and display.

    Args:
        store: where results go.
        progress: of the sweep.
        journal: takes events and status.
        display: shows them.
        varies: dotted fields by which the runs of the plan are told apart.
        is_cluster: whether nodes may be lost, and join.
        budget_hours: of the sweep; None means no limit.
    """

    def __init__(
        self,
        store: Store,
        progress: SweepProgress,
        journal: Journal,
        display: Display,
        *,
        varies: Collection[str] = (),
        is_cluster: bool = False,
        budget_hours: float | None = None,
    ) -> None:
        self.store, self.progress = store, progress
        self._budget_hours = budget_hours
        self._heard: dict[str, float] = {}
        """Run id -> clock reading when it was started, or last reported."""
        self.journal, self.display = journal, display
        self._varies, self._is_cluster = varies, is_cluster
        self._tasks = dict.fromkeys(task for run in progress.runs.values() for task in run.tasks)
        self.busy: set[str] = set()
        """Runs that another process trains."""
        self.num_ended = 0
        self.requeued: Counter[str] = Counter()
        """run id -> how often it went back without having failed."""
        self.incompatible: dict[str, str] = {}
        """Id of a node that joined later -> why no run can be trained there."""
        self.alone: set[str] = set()
        """Runs that are packed no more: the process of a pack that they were in died."""
        self._next_snapshot = -math.inf

    def is_open(self, run_id: str) -> bool:
        """Return whether a run is still to be trained here."""
        return not self.progress.is_settled(run_id) and run_id not in self.busy

    def settings(self, run_id: str) -> dict[str, Any]:
        """Return a run's id, tasks, method, seed, priorities and what else its plan varies.

        Names are the same for all runs of the plan; None where a run has no such setting.
        """
        spec = self.progress.runs[run_id]
        fields = spec_fields(spec)
        priorities = dict(zip(spec.tasks, spec.priorities or (), strict=False))
        shown = {"tasks", "method", "seed", "priorities"}
        return {
            "run_id": run_id,
            "tasks": "+".join(spec.tasks),
            "method": spec.method,
            "seed": spec.seed,
            **{f"priority_{task}": priorities.get(task) for task in self._tasks},
            **{
                name.removeprefix("params."): _plain(fields.get(name))
                for name in self._varies
                if name not in shown
            },
        }

    def tick(self) -> None:
        """Tell where the sweep stands, if that is due."""
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

    def run_started(self, run_id: str) -> None:
        """A run has been given to a worker; of a pack that is tried again, also one that ended."""
        if self.progress.is_settled(run_id):
            return
        self.busy.discard(run_id)
        self.progress.start(run_id)
        self._heard[run_id] = time.monotonic()
        self.journal.event("run_started", run_id=run_id)

    def run_epoch(self, run_id: str, epoch: int, losses: Sequence[float | None]) -> None:
        """A run has finished an epoch."""
        self._heard[run_id] = time.monotonic()
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
        self.tick()

    def run_stopped(self, run_id: str) -> None:
        """A run's process was ended before the run was; its checkpoint stays."""
        run = self.progress.running.get(run_id)
        if run is None:
            return  # it had ended
        self.run_left(run_id)
        if run_id not in self.progress.failed:
            self.journal.event("run_stopped", run_id=run_id, epoch=run.epoch)

    def run_left(self, run_id: str) -> None:
        """A running run goes no further now: it continues another time, or has hung."""
        silent = time.monotonic() - self._heard.get(run_id, math.inf)
        hours, is_own = self._budget_hours, isinstance(self.progress.runs[run_id], OwnSpec)
        if hours is None or not is_own or silent <= SILENCE_SHARE * 3600 * hours:
            self.progress.interrupt(run_id)
            return
        epoch = self.progress.running[run_id].epoch
        self.store.write_error(
            run_id,
            f"Expected a report of the run, got none for {duration(silent)} since "
            f"{f'report {epoch}' if epoch else 'it was started'}, more than half of the budget of "
            f"{hours:g} h: it counts as hung. If it only takes long, give a larger --budget with "
            "--retry-failed.",
        )
        self.num_ended += 1
        self.progress.finish(run_id, succeeded=False)
        self.journal.event("run_failed", run_id=run_id, detail="hung")
        self._say_failed(run_id)

    def run_requeued(self, run_id: str, node_id: str, reason: str) -> None:
        """A run came to a node that lacks what it needs: no failure of the run."""
        if run_id not in self.progress.running:
            return
        self.requeued[run_id] += 1
        self.progress.interrupt(run_id)
        self.journal.event("run_requeued", run_id=run_id, node_id=node_id, reason=reason)
        if node_id not in self.incompatible:
            self.incompatible[node_id] = reason
            self.display.say(f"{reason} Its runs go to other nodes.")

    def run_retried(self, run_id: str, detail: str) -> None:
        """A run's process failed, of which Ray says `detail`; it is tried again."""
        self.progress.interrupt(run_id)
        self.journal.event("run_retried", run_id=run_id, detail=detail)
        self.display.say(f"Trying again: {self._name(run_id)}: {self._reason(run_id)}")

    def pack_given_up(self, run_ids: Collection[str], detail: str) -> None:
        """The process of a pack failed once too often: its runs are tried again, each alone.

        Only so does it show which of them is the cause.
        """
        for run_id in run_ids:
            self.alone.add(run_id)
            self.requeued[run_id] += 1
            self.run_retried(run_id, detail)

    def run_given_up(self, run_id: str, detail: str) -> None:
        """A run's process failed once too often, of which Ray says `detail`."""
        was_lost = self.store.error(run_id) is None  # a process that failed itself says why
        if self._is_cluster and was_lost and self.requeued[run_id] < MAX_REQUEUES:
            # Tune does not try again what was lost while it began.
            self.requeued[run_id] += 1
            self.run_retried(run_id, detail)
            return
        if was_lost:
            self.store.write_error(
                run_id,
                f"{detail}\n\nThe process of this run died again and again before the run was "
                "done. Mostly that is lack of memory: run fewer side by side with --concurrency.",
            )
        self.num_ended += 1
        self.progress.finish(run_id, succeeded=False)
        self.journal.event("run_failed", run_id=run_id, detail=detail)
        self._say_failed(run_id)

    def note_done_elsewhere(self) -> bool:
        """Count the runs that another process was training and has finished; return if any."""
        done = self.store.done(self.busy)
        for run_id in done:
            self.busy.remove(run_id)
            self.progress.finish(run_id, succeeded=True)
            self.journal.event("run_done_elsewhere", run_id=run_id)
        return bool(done)

    def _reason(self, run_id: str) -> str:
        """Return the run's recorded failure in a sentence; a killed process records none."""
        return failure_sentence(self.store.error(run_id)) or "its process died."

    def _say_failed(self, run_id: str) -> None:
        self.display.say(f"Failed: {self._name(run_id)}: {self._reason(run_id)}")

    def _name(self, run_id: str) -> str:
        return f"run {run_id} ({run_text(self.progress.runs[run_id], self._varies)})"


def _plain(value: Any) -> Any:
    """Return a value that Tune keeps as it is: words for what is no single value."""
    return value if isinstance(value, str | int | float | None) else str(value)
