"""Several runs in one process: they share data and batches, and a GPU that one leaves idle.

Each is a run of its own: in the store, in its random numbers and in what ends it. On the CPU a run
is what `fit` makes of it, bit for bit; on a GPU the order in which kernels add up may differ, as
between two trainings of `fit`. What one of them does in its turn is what `Run.train` does.
"""

import contextlib
import gc
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch

from mtl.data.batches import Batch
from mtl.errors import UsageError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.streams import seed_generators, stream_seed
from mtl.training.evaluation import device_of
from mtl.training.fit import Common, Run, check_computable, failure_on_record, finished

Outcome = Result | Exception
"""What `fit` returns, or what it raises."""
Tell = Callable[[str, EpochRecord | Outcome, float], None]
"""Hears of a run's id what it has come to, and its seconds in this process so far."""

NUM_BATCHES_AHEAD = 2
"""That members of a pack may be apart: a batch's memory is used again when all have taken it."""


def fit_packed(
    specs: Sequence[RunSpec],
    store: Store,
    runtime: Runtime | None = None,
    *,
    tell: Tell = lambda *_: None,
) -> dict[str, Outcome]:
    """Train several runs side by side, each as `fit` does; return run id -> what came of it.

    Those that agree in data, tasks, seed, epoch, batch size and flips share batches. One that
    fails, is done already or is trained elsewhere leaves the others alone. Where the memory of a
    GPU does not hold them all, they go on one after another, from their checkpoints.

    The seconds of a run are its share: those in which it trains, over the runs that train then.

    Args:
        specs: what is trained; all of one precision, which is set for the whole process.
        store: where they lie.
        runtime: how they are executed.
        tell: is told each epoch and the outcome of each run.

    Raises:
        UsageError: for runs of several precisions.
        BaseException: what stops the process, such as KeyboardInterrupt; the runs can be resumed.
    """
    runtime = runtime or Runtime()
    members = {spec.run_id(): spec for spec in specs}
    if len({spec.precision for spec in members.values()}) > 1:
        raise UsageError("Expected runs of one precision in a pack, got several.")
    execution: dict[str, Any] = {
        "packed": len(members),
        "seconds": "a share: those of the pack over the runs that were training in it",
    }
    shares = _Shares(len(members))
    pack = _Pack(members, store, runtime, tell, execution, shares)
    pack.train()
    outcomes, left = pack.outcomes, [member.run_id for member in pack.members]
    if left:
        del pack  # and with it what the members have on the GPU
        gc.collect()
        if device_of(runtime).type == "cuda":
            torch.cuda.empty_cache()
        reason = f"the memory of the GPU did not hold {len(left)} runs at once"
        so_far = shares()
        for run_id in left:
            store.clear_error(run_id)
            alone = {"packed": 1, "not_packed": reason}
            spec = {run_id: members[run_id]}
            pack = _Pack(spec, store, runtime, tell, alone, _Shares(1, so_far))
            pack.train()
            outcomes |= pack.outcomes
    return outcomes


class Lane:
    """What a member of a pack has for itself of what a process has one of.

    torch's global generators and, on a GPU, the stream that work is launched on.

    Args:
        device: that is trained on.
    """

    def __init__(self, device: torch.device) -> None:
        self._numbers = torch.default_generator.get_state()
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            self._generator = torch.cuda.default_generators[self.stream.device_index]
            # A state of its own: a CUDA graph draws from the one that it was recorded with.
            self._gpu_numbers = self._generator.clone_state()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let what is done meanwhile draw its own numbers, and launch on its own stream."""
        outside = torch.default_generator.get_state()
        torch.default_generator.set_state(self._numbers)
        try:
            if self.stream is None:
                yield
            else:
                with torch.cuda.stream(self.stream), self._own_gpu_numbers():
                    yield
        finally:
            self._numbers = torch.default_generator.get_state()
            torch.default_generator.set_state(outside)

    @contextlib.contextmanager
    def _own_gpu_numbers(self) -> Iterator[None]:
        outside = self._generator.graphsafe_get_state()
        self._generator.graphsafe_set_state(self._gpu_numbers)
        try:
            yield
        finally:
            self._generator.graphsafe_set_state(outside)


def shared_batches(batches: Iterator[Batch], lanes: Sequence[Lane]) -> Iterator[Batch]:
    """Yield batches; a step on each is launched in all lanes before the next is asked for.

    On a GPU the lanes' steps run beside each other. Nothing waits on the host.
    """
    streams = [lane.stream for lane in lanes if lane.stream is not None]
    if not streams:
        yield from batches
        return
    here = torch.cuda.current_stream()
    in_use: deque[tuple[Batch, list[torch.cuda.Event]]] = deque()
    try:
        for batch in batches:
            ready = here.record_event()
            for stream in streams:
                stream.wait_event(ready)
            yield batch
            in_use.append((batch, [stream.record_event() for stream in streams]))
            if len(in_use) == NUM_BATCHES_AHEAD:
                # The allocator knows of this stream alone: it waits before memory is used again.
                for taken in in_use[0][1]:
                    here.wait_event(taken)
                in_use.popleft()
    finally:  # where reading fails, too, the lanes may still read what is freed now
        for stream in streams:
            here.wait_stream(stream)


class _Shares:
    """A clock that is as much slower as there are runs: of a second each has its share.

    Args:
        num_runs: at first.
        seconds: that it shows at first.
    """

    def __init__(self, num_runs: int, seconds: float = 0.0) -> None:
        self._num_runs = max(1, num_runs)
        self._seconds, self._since = seconds, time.monotonic()

    def __call__(self) -> float:
        now = time.monotonic()
        self._seconds += (now - self._since) / self._num_runs
        self._since = now
        return self._seconds

    def leave(self) -> None:
        """Count one run less from now on."""
        self()
        self._num_runs = max(1, self._num_runs - 1)


Training = Generator[Run, Batch | None, Result]


def _training(
    spec: RunSpec, store: Store, runtime: Runtime, common: Common, tell: Tell
) -> Training:
    """Go through a run as `fit` does, with batches from outside.

    Yields the run where it wants a batch of its epoch, and is sent None after the last; and before
    it begins an epoch and before it evaluates, so that the time of the steps is no other member's
    evaluation.
    """
    check_computable(spec)
    run_id = store.write_spec(spec)
    with store.run_lock(run_id) as store:
        done = finished(store, run_id, runtime)
        if done is not None:
            return done
        with failure_on_record(store, run_id):
            run = Run(spec, store, runtime, common)
            with run.begin():
                while run.has_epochs_left:
                    yield run
                    with run.failures_named():
                        run.begin_epoch(run.epoch + 1)
                        seed_generators(stream_seed(*run.stream))
                        while (batch := (yield run)) is not None:
                            run.step(batch)
                        run.end_steps()
                    yield run
                    tell(run_id, run.end_epoch(), common.clock())
            return run.end()


class _Member:
    """A run of a pack that is still trained."""

    run: Run
    """Set once it has begun."""

    def __init__(self, run_id: str, training: Training, device: torch.device) -> None:
        self.run_id, self.training, self.lane = run_id, training, Lane(device)

    @property
    def batches_key(self) -> tuple[Any, ...]:
        """Return what decides its next batches."""
        spec = self.run.spec
        return (
            *(spec.data, spec.tasks, spec.seed, self.run.epoch),
            *(spec.batch_size, spec.horizontal_flips),
        )


class _Pack:
    """Runs that are trained together, epoch by epoch."""

    def __init__(
        self,
        specs: dict[str, RunSpec],
        store: Store,
        runtime: Runtime,
        tell: Tell,
        execution: dict[str, Any],
        shares: _Shares,
    ) -> None:
        self._shares, self._tell = shares, tell
        common = Common(clock=self._shares, execution=execution)
        device = device_of(runtime)
        self.members = [
            _Member(run_id, _training(spec, store, runtime, common, tell), device)
            for run_id, spec in specs.items()
        ]
        """Those that are still trained, or that ran out of memory together."""
        self.outcomes: dict[str, Outcome] = {}

    def train(self) -> None:
        """Train until no member is left, or the memory does not hold them."""
        try:
            self._all_go_on()  # to the first epoch
            while self.members:
                self._all_go_on()  # into it
                self._take_steps()
                self._all_go_on()  # through the evaluation
        except _OutOfMemory:
            pass
        finally:
            for member in self.members:
                member.training.close()

    def _all_go_on(self) -> None:
        for member in list(self.members):
            self._go_on(member, next)

    def _take_steps(self) -> None:
        """Take the steps of an epoch of every member, those that share batches side by side."""
        groups: dict[tuple[Any, ...], list[_Member]] = {}
        for member in self.members:
            groups.setdefault(member.batches_key, []).append(member)
        feeds = [
            (shared_batches(group[0].run.batches(), [m.lane for m in group]), group)
            for group in groups.values()
        ]
        while feeds:
            feeds = [feed for feed in feeds if self._take_step(*feed)]

    def _take_step(self, batches: Iterator[Batch], group: Sequence[_Member]) -> bool:
        """Let a group take a step; return whether there was a batch left for it."""
        try:
            batch = next(batches, None)
        except Exception as error:
            failure = error
            self._all_of(group, lambda training: training.throw(failure))
            return False
        self._all_of(group, lambda training: training.send(batch))
        return batch is not None

    def _all_of(self, group: Sequence[_Member], action: Callable[[Training], Run]) -> None:
        for member in group:
            if member in self.members:
                self._go_on(member, action)

    def _go_on(self, member: _Member, action: Callable[[Training], Run]) -> None:
        """Let a member do what is next; what it fails by ends it alone."""
        try:
            with member.lane.turn():
                member.run = action(member.training)
            return
        except StopIteration as end:
            outcome: Outcome = end.value
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) and len(self.members) > 1:
                raise _OutOfMemory from None
            outcome = error
        self.members.remove(member)
        seconds = self._shares()
        self._shares.leave()
        self.outcomes[member.run_id] = outcome
        self._tell(member.run_id, outcome, seconds)


class _OutOfMemory(Exception):  # noqa: N818 - raised and caught here
    """The memory of a GPU does not hold the members of a pack."""
