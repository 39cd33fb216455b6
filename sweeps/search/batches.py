"""The batches of a search, trained on one Ray one after the other; progress is of the whole."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mtl.data.prepared import prepare
from mtl.records import PAUSED_AFTER
from mtl.spec import RunSpec
from mtl.store import Store
from sweeps.cli import Command
from sweeps.command import epochs_before
from sweeps.cost import Range, estimate, stored_bytes
from sweeps.display import Display
from sweeps.journal import Journal
from sweeps.launch.stopping import StopSignals
from sweeps.machine import num_cpus, num_gpus
from sweeps.plan import Plan, make_plan
from sweeps.preflight import Checked
from sweeps.progress import SweepProgress
from sweeps.search.budget import Most
from sweeps.words import counted

if TYPE_CHECKING:
    from sweeps.launch.session import Session


class SearchStoppedError(Exception):
    """A signal stopped the search, or Ray cannot go on; in one sentence."""


class Batches:
    """Trains the batches of a search; as a context manager it leaves no Ray behind.

    What has been decided by a batch is in plan.json before the batch is trained.

    Args:
        command: of the search.
        store: under the sweep's lock.
        journal: of this start.
        display: shows progress.
        signals: entered by the caller.
        concurrency: runs side by side.
        decided: the runs that earlier starts have decided on.
        most: what the whole search takes at most.
        checked: what a look at the cluster found before, if there was one.
    """

    def __init__(
        self,
        command: Command,
        store: Store,
        journal: Journal,
        display: Display,
        signals: StopSignals,
        concurrency: int,
        decided: Sequence[RunSpec],
        most: Most,
        checked: Checked | None = None,
    ) -> None:
        self._command, self._store, self._journal = command, store, journal
        self._display, self._signals = display, signals
        self._concurrency, self._most, self._checked = concurrency, most, checked
        self._decided = {spec.run_id(): spec for spec in decided}
        self._latest: tuple[Sequence[RunSpec], int | None] = ((), None)
        self._stack = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End Ray, if it runs."""
        self._stack.close()

    def __call__(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        """Train runs to their end or to `pause_after`, as far as they do not fail.

        Raises:
            SearchStoppedError: if a signal came, or Ray cannot go on.
        """
        self._note_decided(specs)
        self._latest = (tuple(specs), pause_after)
        if self._command.execution.retry_failed:
            for spec in specs:
                if not self._reached(spec.run_id(), pause_after):
                    self._store.clear_error(spec.run_id())
        plan = self._open(specs, pause_after)
        if plan.specs:
            self._display.say(f"{what}: {counted(len(plan.specs), 'run')}.")
            self._launch(plan, pause_after)

    def _note_decided(self, specs: Sequence[RunSpec]) -> None:
        known = len(self._decided)
        self._decided |= {spec.run_id(): spec for spec in specs}
        if len(self._decided) > known:
            plan = make_plan(self._command.name, self._command.kind, [*self._decided.values()])
            self._journal.replan(plan)

    def _open(self, specs: Sequence[RunSpec], pause_after: int | None) -> Plan:
        """Return what of a batch is still to be trained."""
        left = []
        for spec in specs:
            run_id = spec.run_id()
            if not self._reached(run_id, pause_after) and self._store.error(run_id) is None:
                left.append(spec)
        return make_plan(self._command.name, self._command.kind, left)

    def _reached(self, run_id: str, epoch: int | None) -> bool:
        """Return whether a run is done, or paused after `epoch` or later and says so.

        A run that was interrupted between its last epoch and its mark is opened once more: it
        trains nothing and marks itself. Without the mark it would look unfinished for ever.
        """
        if self._store.is_done(run_id):
            return True
        if epoch is None or len(self._store.epochs(run_id)) < epoch:
            return False
        return PAUSED_AFTER in (self._store.manifest(run_id) or {})

    def _launch(self, plan: Plan, pause_after: int | None) -> None:
        # Only here: Ray takes a second to import, and a finished search does not need it.
        from sweeps.launch.driver import launch
        from sweeps.launch.executor import ClusterError
        from sweeps.launch.session import Session

        command, journal = self._command, self._journal
        progress = self._progress(plan, pause_after)
        if self._session is None:
            journal.event("started", num_runs=len(self._decided), num_done=len(progress.done))
            if command.execution.address is None:  # a cluster's nodes see to it, once each
                self._prepare_data(plan, progress)
            of_batch = sum(stored_bytes(spec, command.runtime) for spec in plan.specs)
            further = max(0, self._most.store_bytes - of_batch)
            self._session = self._stack.enter_context(
                Session(command.execution, plan.name, self._signals, further, self._checked)
            )
        try:
            launch(
                plan,
                self._store,
                command.execution,
                replace(command.runtime, pause_after=pause_after),
                progress,
                journal,
                self._display,
                self._signals,
                session=self._session,
            )
        except ClusterError as error:
            raise SearchStoppedError(str(error)) from error
        journal.status(progress.snapshot(), "running", now=True)
        if self._signals.received is not None:
            raise SearchStoppedError(f"Stopped by {self._signals.received}.")

    def _prepare_data(self, plan: Plan, progress: SweepProgress) -> None:
        def tell(done: int, total: int) -> None:
            self._display.preparing(done, total)
            self._journal.status(progress.snapshot(), "preparing")

        self._journal.status(progress.snapshot(), "preparing", now=True)
        for data in dict.fromkeys(spec.data for spec in plan.specs):
            prepare(
                data,
                self._command.runtime.data_root,
                num_workers=num_cpus(),
                on_progress=tell,
            )

    def say_over(self, state: str) -> None:
        """Write to status.json that nothing is under way: `finished` or `stopped`."""
        specs, pause_after = self._latest
        progress = self._progress(
            self._open(specs, pause_after), pause_after, is_finished=state == "finished"
        )
        self._journal.status(progress.snapshot(), state, now=True)

    def _progress(
        self, batch: Plan, pause_after: int | None, *, is_finished: bool = False
    ) -> SweepProgress:
        """Return the progress of the whole search, of which `batch` is to be trained now."""
        store, under_way = self._store, set(batch.run_ids)
        done = store.done(self._decided)
        trained = {run_id: len(store.epochs(run_id)) for run_id in self._decided}
        others = self._decided.keys() - done - under_way
        failed = {run_id for run_id in others if store.error(run_id) is not None}
        paused = {run_id for run_id in others - failed if trained[run_id] > 0}
        begun = done | failed | paused | under_way
        runs = {run_id: spec for run_id, spec in self._decided.items() if run_id in begun}
        batch_epochs = sum(
            max(0, min(spec.epochs, pause_after or spec.epochs) - trained[run_id])
            for run_id, spec in zip(batch.run_ids, batch.specs, strict=True)
        )
        seconds = self._seconds(batch)
        to_come = 0 if is_finished else self._most.num_epochs - sum(trained.values()) - batch_epochs
        return SweepProgress(
            runs,
            done=done,
            failed=failed,
            paused=paused,
            expected=_to_pause(seconds, batch, pause_after),
            slots=self._concurrency,
            epochs_before={run_id: epochs_before(store, run_id) for run_id in under_way},
            pause_after=pause_after,
            undecided=0 if is_finished else max(0, self._most.num_runs - len(runs)),
            seconds_undecided=self._of_epochs(max(0, to_come), seconds, batch),
        )

    def _of_epochs(self, number: int, seconds: Mapping[str, Range], batch: Plan) -> Range:
        """Return the wall seconds of `number` epochs, as long as those of the batch's runs."""
        if not batch.specs or number == 0:
            return (0.0, 0.0)
        epochs = sum(spec.epochs for spec in batch.specs)
        share = number / epochs / self._concurrency
        return (
            share * sum(low for low, _ in seconds.values()),
            share * sum(high for _, high in seconds.values()),
        )

    def _seconds(self, batch: Plan) -> Mapping[str, Range]:
        """Return run id -> expected seconds of the batch's runs, trained whole."""
        if not batch.specs:
            return {}
        gpus = self._command.execution.gpus_per_run
        return estimate(
            dict(zip(batch.run_ids, batch.specs, strict=True)),
            store=self._store,
            runtime=self._command.runtime,
            concurrency=self._concurrency,
            num_cpus=num_cpus(),
            gpus_per_run=float(num_gpus() > 0) if gpus is None else gpus,
        ).run_seconds


def _to_pause(
    seconds: Mapping[str, Range], batch: Plan, pause_after: int | None
) -> dict[str, Range]:
    """Return the part of a run's seconds that is asked for now."""
    share = {
        run_id: min(1.0, (pause_after or spec.epochs) / spec.epochs)
        for run_id, spec in zip(batch.run_ids, batch.specs, strict=True)
    }
    return {r: (low * share[r], high * share[r]) for r, (low, high) in seconds.items()}
