"""What is running, what is done, and how long still: a state machine without ray or terminal.

Expected seconds weigh the runs against each other; the pace of the runs in progress, measured wall
seconds per expected second, turns what remains into a range of seconds.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mtl.spec import OwnSpec, Spec
from sweeps.plan.cost import Range, makespan
from sweeps.plan.packs import Pack, at_a_time
from sweeps.text import duration

PACES_REMEMBERED = 50
PACE_MARGIN = 0.1
"""Share by which the range of measured paces is widened on both sides."""


@dataclass(frozen=True)
class RunningRun:
    """A run in progress."""

    run_id: str
    spec: Spec
    started: float | None = None
    """Clock reading when it began with its first epoch; None for a run that goes on."""
    first_epoch: int | None = None
    """The first epoch that was reported since; a resumed run does not begin with 1."""
    first_epoch_ended: float = 0.0
    """Seconds that it had been training, or else a clock reading. The pace is measured from here:
    imports come before."""
    epoch: int = 0
    """Epochs finished."""
    losses: Sequence[float | None] | None = None
    """Of the last epoch, in task order."""
    pace: float | None = None
    """Measured seconds per expected second."""
    seconds: float = 0.0
    """That its training has taken in this process, as far as it has said; of a run that trains
    together with others its share."""


@dataclass(frozen=True)
class Snapshot:
    """Where a sweep stands."""

    total: int
    done: int
    failed: int
    paused: int
    waiting: int
    running: tuple[RunningRun, ...]
    seconds_left: Range | None
    """None while nothing is known of a function of one's own."""
    elapsed: float = 0.0
    """Seconds since the first run was started; 0 before."""
    num_hidden: int = 0
    """Running runs beyond `running`."""
    undecided: int = 0
    """Of `total` and of `waiting`, the runs that a search may still ask for, at most."""

    @property
    def num_running(self) -> int:
        """Return how many runs are running."""
        return len(self.running) + self.num_hidden

    @property
    def is_over(self) -> bool:
        """Return whether every run is done, has failed or is paused as asked."""
        return self.done + self.failed + self.paused == self.total


@dataclass(frozen=True)
class Efficiency:
    """How much of what a command had was spent on training."""

    seconds_trained: float
    """Of all runs together: steps, evaluation and checkpoints; not the start of their processes."""
    slots: int
    """Trials side by side."""
    wall_seconds: float
    """Of the whole command, report included."""
    pack: Pack = 1
    """Runs that a trial trains together at most."""

    @property
    def share(self) -> float:
        """Return training seconds over slots x wall seconds; 1 is the most there can be."""
        return self.seconds_trained / (self.slots * self.wall_seconds)

    def to_text(self) -> str:
        """Return a phrase for people."""
        return (
            f"Efficiency {self.share:.2f}: {at_a_time(self.slots, self.pack)} trained for "
            f"{100 * self.share:.0f} % of the {duration(self.wall_seconds)} that this command took."
        )


class SweepProgress:
    """Follows the runs of a plan from the moment that it is launched.

    Args:
        runs: run id -> spec, of the whole plan.
        done: ids of the runs that are done already.
        failed: ids of the runs that failed earlier and are not tried again.
        expected: run id -> expected seconds (low, high), of the others.
        slots: trials side by side.
        epochs_before: run id -> epochs that earlier processes have trained of unfinished runs.
        pause_after: epoch at which longer runs are paused; None trains them to the end.
        paused: ids of the runs that are paused and not gone on with.
        undecided: runs that may still come to the plan, at most.
        seconds_undecided: expected for these and for going on with the paused ones, all together.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        runs: Mapping[str, Spec],
        *,
        done: Iterable[str] = (),
        failed: Iterable[str] = (),
        expected: Mapping[str, Range],
        slots: int,
        epochs_before: Mapping[str, int] | None = None,
        pause_after: int | None = None,
        paused: Iterable[str] = (),
        undecided: int = 0,
        seconds_undecided: Range = (0.0, 0.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runs = runs
        self._pause_after = pause_after
        self._undecided, self._seconds_undecided = undecided, seconds_undecided
        self.done = set(done)
        self.failed = set(failed) - self.done
        self.paused = set(paused) - self.done - self.failed
        self.running: dict[str, RunningRun] = {}
        self.slots = slots
        self._expected = expected
        self._epochs = dict(epochs_before or {})
        self._clock = clock
        self._began: float | None = None
        self._seconds_of_ended = 0.0
        self._paces: deque[float] = deque(maxlen=PACES_REMEMBERED)
        self._longest: int | None = None
        """Epochs of the longest run that has ended well, for runs whose spec does not say."""

    def start(self, run_id: str) -> None:
        """Count a run as running."""
        if not self.is_settled(run_id):
            self._began = self._clock() if self._began is None else self._began
            started = None if self._epochs.get(run_id) else self._clock()
            self.running[run_id] = RunningRun(run_id, self.runs[run_id], started)

    def epoch(self, run_id: str, epoch: int, losses: Sequence[float | None]) -> None:
        """Count an epoch of a run."""
        run = self.running.get(run_id)
        if run is None:
            return
        now = run.seconds or self._clock()
        if run.first_epoch is None:
            run = replace(run, first_epoch=epoch, first_epoch_ended=now)
        elif epoch > run.first_epoch and (length := self._length(run.spec)) is not None:
            expected = self._centre(run_id) * (epoch - run.first_epoch) / length
            run = replace(run, pace=(now - run.first_epoch_ended) / expected)
        self.running[run_id] = replace(run, epoch=epoch, losses=losses)
        self._epochs[run_id] = epoch

    def trained(self, run_id: str, seconds: float) -> None:
        """Note for how long a run has been training since it was started."""
        if run_id in self.running:
            self.running[run_id] = replace(self.running[run_id], seconds=seconds)

    @property
    def seconds_trained(self) -> float:
        """Return the seconds that runs have been training, all together."""
        return self._seconds_of_ended + sum(run.seconds for run in self.running.values())

    @property
    def all_are_training(self) -> bool:
        """Return whether no run waits, and each that is left has finished an epoch."""
        running = list(self.running.values())
        settled = len(self.done) + len(self.failed) + len(self.paused)
        return settled + len(running) == len(self.runs) and all(run.epoch for run in running)

    def _leave(self, run_id: str) -> RunningRun | None:
        run = self.running.pop(run_id, None)
        self._seconds_of_ended += 0.0 if run is None else run.seconds
        return run

    def finish(self, run_id: str, *, succeeded: bool) -> None:
        """Count a run as done, or as failed."""
        run = self._leave(run_id)
        if run is not None and run.spec.epochs is None and succeeded:
            self._longest = max(run.epoch, self._longest or 0)
            if run.started is not None:
                run = replace(run, pace=(self._clock() - run.started) / self._centre(run_id))
        if run is not None and run.pace is not None:
            self._paces.append(run.pace)
        (self.done if succeeded else self.failed).add(run_id)

    def pause(self, run_id: str) -> None:
        """Count a run as left on purpose: nothing more is asked of it now."""
        self._leave(run_id)
        self.paused.add(run_id)

    def is_settled(self, run_id: str) -> bool:
        """Return whether the run is done, has failed or is paused."""
        return run_id in self.done or run_id in self.failed or run_id in self.paused

    def interrupt(self, run_id: str) -> None:
        """Count a run as waiting again: it will be resumed, or another process trains it."""
        self._leave(run_id)

    def snapshot(self) -> Snapshot:
        """Return where the sweep stands now."""
        settled = len(self.done) + len(self.failed) + len(self.paused)
        waiting = len(self.runs) - settled - len(self.running)
        return Snapshot(
            total=len(self.runs) + self._undecided,
            done=len(self.done),
            failed=len(self.failed),
            paused=len(self.paused),
            waiting=waiting + self._undecided,
            running=tuple(self.running.values()),
            seconds_left=self._seconds_left(),
            elapsed=0.0 if self._began is None else self._clock() - self._began,
            undecided=self._undecided,
        )

    def _length(self, spec: Spec) -> int | None:
        """Return the epochs that are asked of a run, as far as anybody knows."""
        if spec.epochs is None:
            return self._longest
        return min(spec.epochs, self._pause_after or spec.epochs)

    def _centre(self, run_id: str) -> float:
        low, high = self._expected.get(run_id, (1.0, 1.0))
        return max((low + high) / 2, 1e-9)

    def _remaining(self, run_id: str) -> float:
        """Return the expected seconds of the epochs that a run has still to train."""
        length = self._length(self.runs[run_id])
        share = 0.0 if length is None else min(1.0, self._epochs.get(run_id, 0) / length)
        return self._centre(run_id) * (1 - share)

    def _seconds_left(self) -> Range | None:
        left = [run_id for run_id in self.runs if not self.is_settled(run_id)]
        work = makespan([self._remaining(run_id) for run_id in left], self.slots)
        low, high = self._seconds_undecided
        running = [run.pace for run in self.running.values() if run.pace is not None]
        if paces := [*self._paces, *running]:
            work += (low + high) / 2
            return work * min(paces) * (1 - PACE_MARGIN), work * max(paces) * (1 + PACE_MARGIN)
        if any(isinstance(self.runs[r], OwnSpec) and r not in self._expected for r in left):
            return None
        # Nothing measured yet: the spread that the estimate itself claims.
        expected = {run_id: self._expected[run_id] for run_id in left if run_id in self._expected}
        lowest = min((side / self._centre(r) for r, (side, _) in expected.items()), default=1.0)
        highest = max((side / self._centre(r) for r, (_, side) in expected.items()), default=1.0)
        return low + work * lowest, high + work * highest
