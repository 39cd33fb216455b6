"""From the command line of a search to its report: what `pareto_search.py` calls."""

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mtl.command_line import INCOMPLETE_STATUS, in_words
from mtl.data.prepared import prepare
from mtl.errors import StoreError, UsageError, UserError
from mtl.records import PAUSED_AFTER
from mtl.spec import RunSpec
from mtl.store import Store, existing_store, is_address
from sweeps.command import checked_concurrency, epochs_before, look_before_start, write_reports
from sweeps.launch.preflight import Checked, check_encoder_weights, check_store_disk
from sweeps.launch.signals import StopRequested, StopSignals
from sweeps.options import Command, parse_command
from sweeps.plan import Grid, Plan, make_plan
from sweeps.plan.cost import (
    TRAINING_COPIES,
    Range,
    StepKey,
    cost_model,
    estimate,
    makespan,
    num_cpus,
    num_gpus,
    stored_bytes,
)
from sweeps.search.decisions import DecisionLog, check_begun, decided_specs, is_chosen, is_tuned
from sweeps.search.options import (
    TUNED,
    EpochBudget,
    Most,
    SearchOptions,
    add_options,
    search_bases,
    search_options,
)
from sweeps.status.display import Display, make_display
from sweeps.status.journal import Journal, revisions, sweep_lock
from sweeps.status.progress import SweepProgress
from sweeps.text import counted, duration_range, failure_sentence, run_text, size

if TYPE_CHECKING:
    from sweeps.launch.session import Session
    from sweeps.search.engine import Outcome


class SearchStoppedError(UserError):
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
        from sweeps.launch.session import Session
        from sweeps.launch.tune import ClusterError

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


@dataclass(frozen=True)
class Whole:
    """What a whole search takes at most."""

    seconds: Range
    num_bytes: int
    source: str
    """Where the seconds come from, in words."""


def epoch_budget_of(bases: Mapping[str, RunSpec], options: SearchOptions) -> EpochBudget:
    """Return the budget of each method."""
    base = next(iter(bases.values()))
    return EpochBudget(
        epochs=base.epochs,
        num_tasks=len(base.tasks),
        candidates=options.candidates,
        trials=options.trials,
        points=options.points,
        seeds=options.seeds,
    )


def most_of(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, store: Store
) -> Most:
    """Return what the whole search takes at most; of the bytes what is still to come."""
    budget = epoch_budget_of(bases, options)
    log = DecisionLog(store.sweep_folder(command.name) / "decisions.jsonl")
    copies = {
        method: _copies_to_come(method, base, options, store, log) for method, base in bases.items()
    }
    return Most(
        len(bases) * budget.num_runs,
        len(bases) * budget.num_epochs,
        sum(copies[method] * stored_bytes(bases[method], command.runtime) for method in bases),
    )


def _copies_to_come(
    method: str, base: RunSpec, options: SearchOptions, store: Store, log: DecisionLog
) -> int:
    """Return how many whole runs a method's runs to come weigh in the store, at most."""
    budget = epoch_budget_of({method: base}, options)
    decided = decided_specs({method: base}, options, log)
    done = store.done(spec.run_id() for spec in decided)
    left = [spec.run_id() for spec in decided if spec.run_id() not in done]
    # What the tuning leaves keeps its optimizer's state; a run that goes on is there already.
    paused = [run_id for run_id in left if store.has_checkpoint(run_id)]
    num_tuning = budget.num_runs - budget.num_full_runs
    if is_tuned(log, method, options):
        num_tuning = 0
    if is_chosen(log, method, options):
        return len(set(left) - set(paused))
    return max(0, budget.num_full_runs - len(done)) + TRAINING_COPIES * max(
        0, num_tuning - len(paused)
    )


def plan_json(
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    store: Store | None,
    decided: Sequence[RunSpec],
    whole: Whole,
) -> dict[str, Any]:
    """Return the keys that every sweep's plan has, for the runs decided so far, and the most.

    `num_runs`, `num_epochs` and what is expected are those of the whole search, at most.
    """
    budget = epoch_budget_of(bases, options)
    runs = [(spec.run_id(), spec) for spec in decided]
    done = set() if store is None else store.done(run_id for run_id, _ in runs)
    return {
        "num_runs": len(bases) * budget.num_runs,
        "num_epochs": len(bases) * budget.num_epochs,
        "num_done": len(done),
        "runs": [
            {"run_id": run_id, "spec": spec.to_dict(), "done": run_id in done}
            for run_id, spec in runs
        ],
        "expected_seconds": [round(s, 1) for s in whole.seconds],
        "expected_bytes": whole.num_bytes,
    }


def plan_text(
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    store: Store | None,
    decided: Sequence[RunSpec],
    whole: Whole,
    concurrency: int,
) -> str:
    """Return the plan for people."""
    lines = [epoch_budget_of(bases, options).in_words(len(bases))]
    lines += [
        f"{name} from {low:.3g} to {high:.3g}"
        for name, (low, high) in options.ranges.items()
        if options.candidates > 1
    ]
    if decided and store is not None:
        done = store.done(spec.run_id() for spec in decided)
        lines.append(f"Decided so far: {counted(len(decided), 'run')}, of which {len(done)} done.")
    lines.append(
        f"Expected for all of it: at most {duration_range(whole.seconds)} with "
        f"{counted(concurrency, 'run')} at a time, and {size(whole.num_bytes)} of disk; from "
        f"{whole.source}."
    )
    return "\n".join(lines)


def expected(
    command: Command,
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    store: Store | None,
    concurrency: int,
    measured_steps: Mapping[StepKey, float],
) -> Whole:
    """Return what the whole search takes, as if nothing were done yet.

    Args:
        command: of the search.
        bases: method -> its run with the given settings.
        options: of the search.
        store: where earlier runs may lie; None if there is none yet.
        concurrency: runs side by side.
        measured_steps: see `sweeps.plan.cost.estimate`.
    """
    gpus = command.execution.gpus_per_run
    one_each = estimate(
        bases,
        store=store,
        runtime=command.runtime,
        concurrency=concurrency,
        num_cpus=num_cpus(),
        gpus_per_run=float(num_gpus() > 0) if gpus is None else gpus,
        measured_steps=measured_steps,
    )
    budget = epoch_budget_of(bases, options)
    starts = budget.num_batches(options.population) - 1
    seconds = []
    for side in (0, 1):
        runs = [one_each.run_seconds[method][side] for method in bases]
        first = one_each.seconds[side] - makespan(runs, concurrency)  # the start and the data
        work = sum(run / budget.epochs * budget.num_epochs for run in runs) / concurrency
        seconds.append(first + starts * cost_model()["start_seconds"][side] + work)
    per_run = [stored_bytes(spec, command.runtime) for spec in bases.values()]
    num_paused = budget.num_runs - budget.num_full_runs
    copies = budget.num_full_runs - 1 + TRAINING_COPIES * num_paused
    num_bytes = one_each.num_bytes + copies * sum(per_run)
    return Whole((seconds[0], seconds[1]), num_bytes, one_each.source)


def run_search(kind: str, description: str, table: Grid, argv: Sequence[str] | None) -> int:
    """Plan, search and report what `table`, changed by the command line, asks for.

    Returns:
        The exit status: 0 if every reported point has all its seeds, 1 if something could not be
        done or a signal stopped it, 2 for wrong usage.
    """

    def plan_and_search() -> int:
        command = parse_command(kind, description, argv, table, add_options)
        _check_command(command)
        bases = search_bases(command)
        options = search_options(command, bases, bool(command.given["quick"]))
        concurrency = checked_concurrency(command)
        if command.plan_only:
            _show_plan(command, bases, options, concurrency)
            return 0
        return _search_and_report(command, bases, options, concurrency)

    return in_words(kind, plan_and_search)


def _check_command(command: Command) -> None:
    """Raise a `ValueError` for what sweeps share and a search does not have."""
    if command.given.get("divisions") is not None:
        raise UsageError(
            "Expected no --divisions: a search takes priorities anywhere on the simplex. "
            "Leave it out."
        )
    if command.execution.budget_hours is not None:
        raise UsageError(
            "Expected no --budget: a run left out for lack of time would change what the search "
            "asks next. Leave it out, and bound the search by --epochs-budget or --trials."
        )
    if command.refine is not None or command.grid.baselines:
        raise UsageError(
            "Expected neither --refine nor --baselines: a search chooses its priorities itself "
            "and trains no single tasks. Leave them out, or use priority_grid.py."
        )
    if is_address(command.store):
        raise UsageError(
            "Expected a folder for --store: a search keeps Optuna's study beside its runs, which "
            "object storage cannot hold. Give a folder, on a cluster a shared one."
        )


def _show_plan(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, concurrency: int
) -> None:
    """Print what the search takes at most; writes nothing anywhere."""
    store = existing_store(command.store)
    decided = _decided_so_far(command, bases, options, store)
    probe_texts: list[str] = []
    measured: dict[StepKey, float] = {}
    if command.probe:
        # Only here: a plan alone needs no torch.
        from sweeps.plan.probing import probe_networks, probe_text, step_seconds

        probed = probe_networks(list(bases.values()), command.runtime.data_root)
        probe_texts = [probe_text(spec, result) for spec, result in probed]
        measured = step_seconds(probed)
    whole = expected(command, bases, options, store, concurrency, measured)
    if command.as_json:
        print(json.dumps(plan_json(bases, options, store, decided, whole)))
        return
    for note in command.notes:
        print(note)
    print(plan_text(bases, options, store, decided, whole, concurrency))
    for text in probe_texts:
        print(text)


def _search_and_report(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, concurrency: int
) -> int:
    # Only here: Optuna and pandas take a second to import, and a plan needs neither.
    from sweeps.search.engine import SearchError

    begun = _decided_so_far(command, bases, options, existing_store(command.store))
    for note in command.notes:
        print(note)
    checked = None
    if not begun:  # nothing is written before the cluster has answered
        plan = make_plan(command.name, command.kind, list(bases.values()))
        checked = look_before_start(command, plan)
    store = Store(command.store)
    with sweep_lock(store, command.name) as store:
        decided = _decided_so_far(command, bases, options, store)
        most = most_of(command, bases, options, store)
        if command.execution.address is None:  # a cluster's nodes may have what this one lacks
            check_encoder_weights(bases.values(), command.runtime.encoder_weights_file)
            check_store_disk(str(store.root), most.store_bytes)
        try:
            outcome = _search(command, bases, options, concurrency, store, decided, most, checked)
        except SearchStoppedError as error:
            print(
                f"{command.kind}: {error} What is done is kept, and the same command continues.",
                file=sys.stderr,
            )
            return INCOMPLETE_STATUS
        except SearchError as error:
            print(f"{command.kind}: {error}", file=sys.stderr)
            return INCOMPLETE_STATUS
        return _report(command, options, store, outcome)


def _decided_so_far(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, store: Store | None
) -> list[RunSpec]:
    """Return the runs that earlier starts have decided on; writes nothing.

    Raises:
        ValueError: if the name belongs to another kind of sweep or to a search of other settings.
        StoreError: if what earlier starts wrote cannot be read.
    """
    if store is None:
        return []
    revisions(store, command.name, command.kind)
    log = DecisionLog(store.sweep_folder(command.name) / "decisions.jsonl")
    check_begun(log, bases, options)
    return decided_specs(bases, options, log)


def _search(
    command: Command,
    bases: Mapping[str, RunSpec],
    options: SearchOptions,
    concurrency: int,
    store: Store,
    decided: Sequence[RunSpec],
    most: Most,
    checked: Checked | None,
) -> "Outcome":
    """Search to the end; whatever ends it early is in status.json."""
    from sweeps.search.engine import Search

    plan = make_plan(command.name, command.kind, decided)
    journal = Journal(store, plan, tuned=TUNED, reported=False)
    with (
        StopSignals() as signals,
        make_display() as display,
        Batches(
            command, store, journal, display, signals, concurrency, decided, most, checked
        ) as batches,
    ):  # fmt: skip
        try:
            display.say(epoch_budget_of(bases, options).in_words(len(bases)))
            outcome = Search(bases, options, store, store.sweep_folder(command.name), batches).run()
            batches.say_over("finished")
        except BaseException as error:
            with contextlib.suppress(OSError, StoreError):  # the disk may be what failed
                batches.say_over("stopped")
            if isinstance(error, StopRequested):
                raise SearchStoppedError(f"Stopped by {error}.") from error
            raise
    return outcome


def _report(command: Command, options: SearchOptions, store: Store, outcome: "Outcome") -> int:
    """Write the report on the chosen points; return the exit status."""
    plan = make_plan(command.name, command.kind, outcome.specs)
    Journal(store, plan, tuned=TUNED)
    print(outcome.in_words())
    failed = [r for r in plan.run_ids if not store.is_done(r)]
    if failed:
        spec = dict(zip(plan.run_ids, plan.specs, strict=True))[failed[0]]
        print(
            f"{counted(len(failed), 'run')} of the chosen points failed; the first is "
            f"{failed[0]} ({run_text(spec)}): {failure_sentence(store.error(failed[0]))} "
            "--retry-failed tries again.",
            file=sys.stderr,
        )
    short = [m for m, found in outcome.points.items() if len(found) < options.points]
    if short:
        print(
            f"Fewer than {options.points} different points of {' and '.join(short)} could be "
            "trained.",
            file=sys.stderr,
        )
    reported = write_reports(store, plan, TUNED)
    return 0 if reported and not failed and not short else INCOMPLETE_STATUS
