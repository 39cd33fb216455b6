"""From the command line of a search to its report: what `pareto_search.py` calls.

Optuna, pandas, torch and Ray are imported where they are needed, because they take seconds: a plan
needs none of them.
"""

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mtl.command_line import answer, run
from mtl.errors import StoreError, UsageError, UserError
from mtl.records import PAUSED_AFTER
from mtl.spec import RunSpec
from mtl.store import Store, existing_store, is_address
from sweeps.command import (
    CONTINUES,
    check_machine,
    epochs_before,
    expected_cost,
    num_slots,
    page_served,
    prepare_data,
    probed,
    say_failed,
    write_reports,
)
from sweeps.launch.preflight import check_answers
from sweeps.launch.signals import StopRequested, StopSignals
from sweeps.options import Command, parse_command
from sweeps.plan import Grid, Plan, make_plan
from sweeps.plan.cost import (
    TRAINING_COPIES,
    Estimate,
    StepKey,
    cost_model,
    makespan,
    stored_bytes,
)
from sweeps.plan.describe import expected_text, plan_json
from sweeps.search.decisions import DecisionLog, check_begun, decided_specs, is_chosen
from sweeps.search.options import (
    TUNED,
    SearchOptions,
    add_options,
    search_bases,
    search_options,
)
from sweeps.status.journal import Journal, revisions, sweep_lock
from sweeps.status.progress import Efficiency, SweepProgress
from sweeps.text import counted

if TYPE_CHECKING:
    from sweeps.launch.session import Session
    from sweeps.search.engine import Outcome
    from sweeps.status.display import Display


def run_search(kind: str, description: str, table: Grid, argv: Sequence[str] | None) -> int:
    """Plan, search and report what `table`, changed by the command line, asks for.

    Returns:
        The exit status: 0 if every reported point has all its seeds, 1 if something could not be
        done or a signal stopped it, 2 for wrong usage.
    """

    def search() -> int:
        began = time.monotonic()
        command = parse_command(kind, description, argv, table, add_options)
        _check_command(command)
        bases = search_bases(command)
        options = search_options(command, bases, bool(command.given["quick"]))
        asked = _Asked(command, bases, options, num_slots(command))
        if command.plan_only:
            _show_plan(asked)
            return 0
        return _search_and_report(asked, began)

    return run(kind, search, continues=True)


def _check_command(command: Command) -> None:
    """Refuse what sweeps share and a search does not have."""
    given = {
        "--divisions": command.given.get("divisions"),
        "--budget": command.execution.budget_hours,
        "--refine": command.refine,
        "--baselines": command.grid.baselines or None,
        "--fork-at": command.grid.fork_at,
    }
    for flag, value in given.items():
        if value is not None:
            raise UsageError(
                f"Expected no {flag}: a search chooses priorities itself, anywhere on the simplex, "
                "and its runs are bounded by --trials or --epochs-budget. Leave it out, or use "
                "priority_grid.py."
            )
    if command.grid.primary is not None:
        raise UsageError(
            "Expected no --primary: the points of a search are picked by their outcome and not "
            "tested. Leave it out, or use priority_grid.py."
        )
    if is_address(command.store):
        raise UsageError(
            "Expected a folder for --store: a search keeps Optuna's study beside its runs, which "
            "object storage cannot hold. Give a folder, on a cluster a shared one."
        )


@dataclass(frozen=True)
class _Asked:
    """A search's command line, understood."""

    command: Command
    bases: Mapping[str, RunSpec]
    """Method -> its run with the given settings."""
    options: SearchOptions
    slots: int
    """Runs side by side."""

    @property
    def num_runs(self) -> int:
        """Return how many runs the search begins at most."""
        return len(self.bases) * self.options.num_runs

    @property
    def num_epochs(self) -> int:
        """Return how many epochs the search trains at most."""
        return len(self.bases) * self.options.num_epochs

    def log(self, store: Store) -> DecisionLog:
        """Return the decisions that earlier starts wrote."""
        return DecisionLog(store.sweep_folder(self.command.name) / "decisions.jsonl")

    def decided(self, store: Store | None) -> list[RunSpec]:
        """Return the runs that earlier starts have decided on; writes nothing.

        Raises:
            UsageError: if the name belongs to another kind of sweep or to a search of other
                settings.
            StoreError: if what earlier starts wrote cannot be read.
        """
        if store is None:
            return []
        revisions(store, self.command.name, self.command.kind)
        log = self.log(store)
        check_begun(log, self.bases, self.options)
        return decided_specs(self.bases, self.options, log)

    def plan(self, specs: Sequence[RunSpec]) -> Plan:
        """Return the plan of some of the search's runs."""
        plan = make_plan(self.command.name, self.command.kind, specs)
        return replace(plan, tuned=TUNED)

    def cost(self, store: Store | None, measured_steps: Mapping[StepKey, float]) -> Estimate:
        """Return what the whole search takes at most, as if nothing were done yet."""
        one_each = expected_cost(self.command, self.bases, store, self.slots, measured_steps)
        options = self.options
        seconds = []
        for side in (0, 1):
            runs = [one_each.run_seconds[method][side] for method in self.bases]
            first = one_each.seconds[side] - makespan(runs, self.slots)  # the start and the data
            starts = (options.num_batches - 1) * cost_model()["start_seconds"][side]
            work = sum(run / options.epochs * options.num_epochs for run in runs) / self.slots
            seconds.append(first + starts + work)
        copies = self._num_copies - len(self.bases)  # `one_each` holds a run of each method
        num_bytes = one_each.num_bytes + copies * self._bytes_of_a_run
        return Estimate((seconds[0], seconds[1]), num_bytes, one_each.source, {})

    @property
    def _bytes_of_a_run(self) -> int:
        """Return the bytes that a finished run, of whichever method, leaves in the store."""
        return stored_bytes(next(iter(self.bases.values())), self.command.runtime)

    @property
    def _num_copies(self) -> int:
        """Return how many finished runs weigh as much as the whole search at most.

        What the tuning leaves keeps its optimizer's state.
        """
        num_full = len(self.bases) * self.options.num_full_runs
        return num_full + TRAINING_COPIES * (self.num_runs - num_full)

    def bytes_to_come(self, store: Store) -> int:
        """Return the bytes that `store` will grow by from now on, at most."""
        log = self.log(store)
        run_ids = {spec.run_id() for spec in decided_specs(self.bases, self.options, log)}
        done = store.done(run_ids)
        paused = {run_id for run_id in run_ids - done if store.has_checkpoint(run_id)}
        if all(is_chosen(log, method, self.options) for method in self.bases):
            return len(run_ids - done - paused) * self._bytes_of_a_run
        copies = self._num_copies - len(done) - TRAINING_COPIES * len(paused)
        return max(0, copies) * self._bytes_of_a_run


def _show_plan(asked: _Asked) -> None:
    """Print what the search takes at most; writes nothing anywhere."""
    command = asked.command
    store = existing_store(command.store)
    plan = asked.plan(asked.decided(store))
    done = set() if store is None else store.done(plan.run_ids)
    steps, measured = probed(command, list(asked.bases.values()), asked.slots)
    cost = asked.cost(store, steps)
    if command.as_json:
        counts = {"num_runs": asked.num_runs, "num_epochs": asked.num_epochs}
        answer(plan_json(plan, done, cost) | counts)
        return
    lines = [
        asked.options.to_text(len(asked.bases))
        + expected_text(cost, asked.slots, command.execution.pack, "at most "),
        *command.notes,
    ]
    if asked.options.candidates > 1:
        ranges = asked.options.ranges.items()
        lines += [f"Tuned: {name} from {low:.3g} to {high:.3g}." for name, (low, high) in ranges]
    if plan.specs:
        lines.append(f"Decided so far: {counted(len(plan.specs), 'run')}, {len(done)} done.")
    print("\n".join([*lines, *measured]))


def _search_and_report(asked: _Asked, began: float) -> int:
    command = asked.command
    for note in command.notes:
        print(note)
    # Before anything is written: what cannot be continued, or a cluster that does not answer.
    asked.decided(existing_store(command.store))
    check_answers(command.execution.address)
    with sweep_lock(Store(command.store), command.name) as store, page_served(command):
        check_machine(command, store, asked.bases.values(), asked.bytes_to_come(store))
        outcome, batches = _search(asked, store)
        status = _report(asked, store, outcome)
        if batches.seconds_trained:
            used = Efficiency(
                batches.seconds_trained,
                asked.slots,
                time.monotonic() - began,
                command.execution.pack,
            )
            print(used.to_text())
            batches.write_end("finished", used.share)
        return status


def _search(asked: _Asked, store: Store) -> "tuple[Outcome, _Batches]":
    """Search to the end; whatever ends it early is in status.json."""
    from sweeps.search.engine import search
    from sweeps.search.study import Trials
    from sweeps.status.display import make_display

    plan, to_come = asked.plan(asked.decided(store)), asked.bytes_to_come(store)
    journal = Journal(store, plan, reported=False)
    folder = store.sweep_folder(asked.command.name)
    with (
        StopSignals() as signals,
        make_display() as display,
        _Batches(asked, store, journal, display, signals, plan.runs, to_come) as batches,
    ):
        try:
            display.say(asked.options.to_text(len(asked.bases)))
            outcome = search(Trials(asked.bases, asked.options, store, folder, batches))
            batches.write_end("finished")
        except BaseException as error:
            with contextlib.suppress(OSError, StoreError):  # the disk may be what failed
                batches.write_end("stopped")
            if isinstance(error, StopRequested):
                raise UserError(f"Stopped by {error}. {CONTINUES}") from error
            raise
    return outcome, batches


def _report(asked: _Asked, store: Store, outcome: "Outcome") -> int:
    """Write the report on the chosen points; return the exit status."""
    plan, num_points = asked.plan(outcome.specs), asked.options.points
    Journal(store, plan)
    print(outcome.to_text())
    study = store.place(store.sweep_key(asked.command.name, "study.log"))
    print(f"Optuna's study, which `optuna-dashboard` opens: {study}")
    failed = set(plan.run_ids) - store.done(plan.run_ids)
    say_failed(store, plan, failed)
    short = [m for m, found in outcome.points.items() if len(found) < num_points]
    if short:
        print(
            f"Fewer than {num_points} different points of {' and '.join(short)} could be trained.",
            file=sys.stderr,
        )
    reported = write_reports(store, plan)
    return 0 if reported and not failed and not short else 1


@dataclass(eq=False)
class _Batches(contextlib.AbstractContextManager["_Batches"]):
    """Trains the batches of a search on one Ray, which ends with this context.

    What a batch decides is in plan.json before the batch is trained.
    """

    asked: _Asked
    store: Store
    """Under the sweep's lock."""
    journal: Journal
    """Of this start."""
    display: "Display"
    signals: StopSignals
    """Entered by the caller."""
    decided: dict[str, RunSpec]
    """Run id -> spec of the runs that are decided on."""
    bytes_to_come: int
    """See `_Asked.bytes_to_come`."""
    seconds_trained: float = 0.0
    """Of all runs, together."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _session: "Session | None" = None

    def __exit__(self, *_: object) -> None:
        """End Ray, if it runs."""
        self._stack.close()

    def __call__(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        """Train runs to their end or to `pause_after`, as far as they do not fail.

        Raises:
            UserError: if a signal came, or Ray cannot go on.
        """
        store, asked = self.store, self.asked
        new = {spec.run_id(): spec for spec in specs}
        if new.keys() - self.decided.keys():
            self.decided |= new
            self.journal.replan(asked.plan(list(self.decided.values())))
        to_train = {r: spec for r, spec in new.items() if not self._reached(r, pause_after)}
        if asked.command.execution.retry_failed:
            for run_id in to_train:
                store.clear_error(run_id)
        plan = asked.plan([spec for r, spec in to_train.items() if store.error(r) is None])
        if plan.specs:
            self.display.say(f"{what}: {counted(len(plan.specs), 'run')}.")
            self._launch(plan, pause_after)

    def write_end(self, state: str, efficiency: float | None = None) -> None:
        """Write to status.json that nothing is running: `finished` or `stopped`."""
        progress = self._progress(self.asked.plan([]), None, is_finished=state == "finished")
        self.journal.status(progress.snapshot(), state, now=True, efficiency=efficiency)

    def _reached(self, run_id: str, epoch: int | None) -> bool:
        """Return whether a run is done, or paused after `epoch` or later and says so.

        A run that was interrupted before its manifest says so is opened once more, trains nothing
        and says so: else it would look unfinished for ever.
        """
        if self.store.is_done(run_id):
            return True
        if epoch is None or len(self.store.epochs(run_id)) < epoch:
            return False
        return self._says_paused(run_id)

    def _says_paused(self, run_id: str) -> bool:
        return PAUSED_AFTER in (self.store.manifest(run_id) or {})

    def _launch(self, plan: Plan, pause_after: int | None) -> None:
        from sweeps.launch.session import Session, workers_for

        command, journal = self.asked.command, self.journal
        progress = self._progress(plan, pause_after)
        if self._session is None:
            journal.event("started", num_runs=len(self.decided), num_done=len(progress.done))
            of_batch = sum(stored_bytes(spec, command.runtime) for spec in plan.specs)
            further = max(0, self.bytes_to_come - of_batch)
            workers = workers_for(progress, command.execution.num_ranks)
            self._session = self._stack.enter_context(
                Session(command.execution, plan.name, workers, further, plan.modules)
            )
            self._session.start()
            prepare_data(command, plan.specs, progress, journal, self.display)
        from sweeps.launch.driver import launch  # Ray Tune; Ray itself starts meanwhile

        launch(
            plan,
            self.store,
            command.execution,
            replace(command.runtime, pause_after=pause_after),
            progress,
            journal,
            self.display,
            self.signals,
            session=self._session,
        )
        self.seconds_trained += progress.seconds_trained
        journal.status(progress.snapshot(), "running", now=True)
        if self.signals.received is not None:
            raise UserError(f"Stopped by {self.signals.received}. {CONTINUES}")

    def _progress(
        self, batch: Plan, pause_after: int | None, *, is_finished: bool = False
    ) -> SweepProgress:
        """Return the progress of the whole search, of which `batch` is to be trained now."""
        asked, store, now = self.asked, self.store, set(batch.run_ids)
        done = store.done(self.decided)
        others = self.decided.keys() - done - now
        failed = {run_id for run_id in others if store.error(run_id) is not None}
        paused = {run_id for run_id in others - failed if self._says_paused(run_id)}
        begun = done | failed | paused | now
        trained = {run_id: len(store.epochs(run_id)) for run_id in self.decided}
        epochs = {r: min(s.epochs, pause_after or s.epochs) for r, s in batch.runs.items()}
        whole = expected_cost(self.asked.command, asked.bases, store, asked.slots).run_seconds
        expected = {}
        for run_id, spec in batch.runs.items():
            share = epochs[run_id] / spec.epochs
            expected[run_id] = (share * whole[spec.method][0], share * whole[spec.method][1])
        undecided = num_epochs = 0
        if not is_finished:
            undecided = max(0, asked.num_runs - len(begun))
            in_batch = sum(max(0, epochs[run_id] - trained[run_id]) for run_id in now)
            num_epochs = max(0, asked.num_epochs - sum(trained.values()) - in_batch)
        share = num_epochs / sum(base.epochs for base in asked.bases.values()) / asked.slots
        low, high = (share * sum(side) for side in zip(*whole.values(), strict=True))
        return SweepProgress(
            {run_id: spec for run_id, spec in self.decided.items() if run_id in begun},
            done=done,
            failed=failed,
            paused=paused,
            expected=expected,
            slots=asked.slots,
            epochs_before=epochs_before(store, now),
            pause_after=pause_after,
            undecided=undecided,
            seconds_undecided=(low, high),
        )
