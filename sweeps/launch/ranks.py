"""A run on several GPUs: its trial starts a process for each and passes on what the first reports.

The processes lie in the trial's own placement group, which Tune asks for as a whole, so that a run
has all its GPUs or waits. (Ray Train starts its workers in a group beside the trial's: Tune, which
then knows only of the trial, would start more runs than there is room for.) They are on one node
and meet in a file there.
"""

import queue
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray.exceptions import RayError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mtl.errors import RankLostError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.store.lease import Lease

SECONDS_TO_END = 10.0
"""Once one process has failed, for the others to say why; those that wait for it are ended."""

Outcome = tuple[Result | None, BaseException | None]


class Rank:
    """An actor: one of the processes that train a run together."""

    def __init__(self) -> None:
        self._records: queue.Queue[EpochRecord | None] = queue.Queue()
        self._answers: queue.Queue[bool] = queue.Queue()

    def train(
        self,
        rank: int,
        number: int,
        meeting: str,
        spec: RunSpec,
        address: str,
        lease: Lease | None,
        runtime: Runtime,
    ) -> Outcome:
        """Train with the others; return the result, or what ended it early."""
        import torch  # the trial itself needs none of it

        from mtl.training import fit
        from mtl.training.ranks import joined

        try:
            file = torch.distributed.FileStore(meeting, number)
            with joined(file, rank, number, torch.device(runtime.device)):
                store = Store(address, create=False, lease=lease)
                return fit(spec, store, runtime, on_epoch=self._report), None
        except BaseException as error:
            return None, error
        finally:
            self._records.put(None)

    def _report(self, record: EpochRecord) -> None:
        self._records.put(record)
        if not self._answers.get():
            raise SystemExit  # as `tune.report` does to a trial that is stopped

    def next_record(self, goes_on: bool | None = None) -> EpochRecord | None:
        """Return the next epoch's record, None at the end; say first whether training goes on.

        Args:
            goes_on: after the epoch whose record was returned last; None before the first.
        """
        if goes_on is not None:
            self._answers.put(goes_on)
        return self._records.get()


def fit_on_ranks(
    spec: RunSpec, store: Store, runtime: Runtime, *, on_epoch: Callable[[EpochRecord], None]
) -> Result:
    """Train a run by a process in each bundle of the trial's placement group; return its result.

    Arguments and errors are those of `mtl.training.fit`.

    Raises:
        RayError: if a process died.
    """
    group: Any = get_current_placement_group()
    meeting = Path(tempfile.mkdtemp(prefix="mtl-ranks-"))
    ranks = [_started(group, index) for index in range(group.bundle_count)]
    try:
        running = [
            rank.train.remote(
                i, len(ranks), str(meeting / "ranks"), spec, store.address, store.lease, runtime
            )
            for i, rank in enumerate(ranks)
        ]
        return _result(ranks[0], running, on_epoch)
    finally:
        for rank in ranks:
            ray.kill(rank)
        shutil.rmtree(meeting, ignore_errors=True)


def _started(group: Any, index: int) -> Any:
    """Return an actor that has one bundle of a placement group."""
    bundle = dict(group.bundle_specs[index])
    actor = ray.remote(Rank).options(
        num_cpus=bundle.pop("CPU", 0),
        num_gpus=bundle.pop("GPU", 0),
        memory=bundle.pop("memory", 0),
        max_concurrency=2,  # while it trains it is asked for records
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=index
        ),
    )
    return actor.remote()


def _result(first: Any, running: list[Any], on_epoch: Callable[[EpochRecord], None]) -> Result:
    """Return the result that all processes have; pass on what the first one reports till then."""
    following = first.next_record.remote()
    waiting = list(running)
    result: Result | None = None
    while waiting:
        (ready,), _ = ray.wait([following, *waiting] if following else waiting, num_returns=1)
        if ready is not following:
            waiting.remove(ready)
            result, error = _outcome(ready)
            if error is not None:
                _raise_first_cause([ready, *waiting])
            continue
        record = ray.get(following)
        if record is None:
            following = None
            continue
        try:
            on_epoch(record)
        except BaseException:  # the trial is stopped: the first writes a checkpoint as it ends
            first.next_record.remote(False)
            ray.wait(running[:1], timeout=SECONDS_TO_END)
            raise
        following = first.next_record.remote(True)
    assert result is not None, "a process ended without result or error"
    return result


def _outcome(reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except RayError as error:  # it died
        return None, error
    return outcome


def _raise_first_cause(running: list[Any]) -> NoReturn:
    """Raise what ended the processes: a death, else what one of them says and not that one is gone.

    Args:
        running: of the one that failed first, and of those that have not ended.
    """
    ready, _ = ray.wait(running, num_returns=len(running), timeout=SECONDS_TO_END)
    errors = [error for _, error in map(_outcome, ready) if error is not None]
    errors.sort(key=lambda e: (not isinstance(e, RayError), isinstance(e, RankLostError)))
    raise errors[0]
