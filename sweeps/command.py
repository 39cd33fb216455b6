"""From a sweep's table and a command line to its report: what every sweep file calls.

    table and command line -> plan -> launch -> report

What takes long to import (torch, Ray, pandas, rich, even numpy) is imported where it is needed:
--help and a plan answer at once, and a finished sweep asked for again needs no Ray.
"""

import json
import math
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.command_line import answer, run
from mtl.errors import StoreError, UsageError, UserError
from mtl.spec import RunSpec, Spec, check_num_processes, forks_of
from mtl.store import Store, existing_store
from mtl.store.states import StoredRun, in_state, read_runs, run_names
from sweeps.launch.preflight import check_answers, check_networks, check_store_disk, check_tasks
from sweeps.launch.signals import StopRequested, StopSignals
from sweeps.options import Command, parse_command
from sweeps.plan import Grid, Plan, grid_specs, make_plan, primary_of, trunks_of
from sweeps.plan.comparisons import comparisons_of
from sweeps.plan.cost import (
    Estimate,
    StepKey,
    estimate,
    num_cpus,
    num_gpus,
    runs_within,
    stored_bytes,
)
from sweeps.plan.describe import plan_json, plan_notes, refinement_note, runs_text, sums_text
from sweeps.plan.refine import decide, decision_text, num_added, record, refined_plan
from sweeps.status.journal import (
    Journal,
    end_state,
    note_stopped,
    sweep_lock,
    with_declared,
)
from sweeps.status.progress import Efficiency, Snapshot, SweepProgress
from sweeps.text import counted, duration, duration_range, failure_sentence, run_text

if TYPE_CHECKING:
    from sweeps.launch.session import Session
    from sweeps.status.display import Display

CONTINUES = "What is done is kept; the same command continues."
SECONDS_BETWEEN_LOOKS = 0.5
"""At whether the last runs are training."""


def deadline_of(command: Command) -> float:
    """Return the reading of `time.monotonic` at which the command's budget is spent."""
    hours = command.execution.budget_hours
    return math.inf if hours is None else time.monotonic() + 3600 * hours


def run_sweep(kind: str, description: str, table: Grid, argv: Sequence[str] | None) -> int:
    """Plan, train and report what `table`, changed by the command line, asks for.

    Returns:
        The exit status: 0 if everything asked for is done, 1 if something could not be done or
        a signal stopped it, 2 for wrong usage.
    """

    def sweep() -> int:
        began = time.monotonic()
        command = parse_command(kind, description, argv, table)
        deadline = deadline_of(command)
        grid = command.grid
        primary = primary_of(grid.methods, grid.primary)
        plan = make_plan(command.name, kind, grid_specs(grid), primary)
        plan = replace(plan, tuned=grid.tuned_fields, tuned_from=grid.tuned_from)
        slots = num_slots(command)
        if command.plan_only:
            show_plan(command, plan, slots)
            return 0
        return train_and_report(command, plan, slots, deadline, began)

    return run(kind, sweep, continues=True)


# What a sweep and a search share.


def num_slots(command: Command) -> int:
    """Return how many runs go side by side, as far as this machine can tell.

    Raises:
        UsageError: if this machine cannot run even one. What a cluster has is asked later.
    """
    execution = command.execution
    if execution.address is not None:
        return execution.concurrency or num_cpus()
    slots = []
    for what, have, wanted in (
        ("cpu", num_cpus(), execution.cpus_per_run),
        ("gpu", num_gpus(), _gpus_per_run(command)),
    ):
        if wanted > have:
            raise UsageError(
                f"Expected --{what}s-per-run of at most {have}, the {what.upper()}s of this "
                f"machine, got {wanted:g}."
            )
        if wanted > 0:
            slots.append(int(have / wanted))
    return max(1, min(*slots, execution.concurrency or slots[0]))


def _gpus_per_run(command: Command) -> float:
    gpus = command.execution.gpus_per_run
    return float(num_gpus() > 0) if gpus is None else gpus


def expected_cost(
    command: Command,
    runs: Mapping[str, Spec],
    store: Store | None,
    slots: int,
    measured_steps: Mapping[StepKey, float] | None = None,
) -> Estimate:
    """Return what training `runs` with the command's resources would cost."""
    return estimate(
        runs,
        store=store,
        runtime=command.runtime,
        concurrency=slots,
        num_cpus=num_cpus(),
        gpus_per_run=_gpus_per_run(command),
        measured_steps=measured_steps,
        packed=command.execution.pack != 1,
    )


def probed(
    command: Command, specs: Collection[RunSpec], slots: int
) -> tuple[dict[StepKey, float], tuple[str, ...]]:
    """Return timed steps of each network and what was measured, for people; with --probe alone."""
    if not command.probe:
        return {}, ()
    from sweeps.launch.probing import probe_networks  # needs torch

    return probe_networks(
        specs,
        command.runtime.data_root,
        slots,
        packs=command.execution.pack != 1 and _gpus_per_run(command) > 0,
        cuda_graphs=command.runtime.cuda_graphs,
    )


def check_machine(command: Command, store: Store, specs: Collection[Spec], size: int) -> None:
    """Refuse what would fail every run on this machine, `size` being the bytes to come.

    A cluster's nodes answer for themselves.
    """
    networks = [spec for spec in specs if isinstance(spec, RunSpec)]
    for spec in networks:
        check_num_processes(spec, command.execution.num_ranks)
    if command.execution.address is None:
        check_networks(networks, command.runtime.encoder_weights_file)
        if store.is_local:
            check_store_disk(str(store.root), size)


def prepare_data(
    command: Command,
    specs: Collection[Spec],
    progress: SweepProgress,
    journal: Journal,
    display: "Display",
) -> None:
    """Prepare the data of `specs` on this machine, and try tasks from outside on them.

    A cluster's nodes prepare them themselves, once each.
    """
    networks = [spec for spec in specs if isinstance(spec, RunSpec)]
    needed = dict.fromkeys(spec.data for spec in networks)
    if command.execution.address is not None or not needed:
        return

    from mtl.data.prepared import prepare

    def tell(done: int, total: int) -> None:
        display.preparing(done, total)
        journal.status(progress.snapshot(), "preparing")

    journal.status(progress.snapshot(), "preparing", now=True)
    for data in needed:
        prepare(data, command.runtime.data_root, num_workers=num_cpus(), on_progress=tell)
    check_tasks(networks, command.runtime.data_root)


def missing_trunks(store: Store | None, to_do: Iterable[Spec]) -> list[RunSpec]:
    """Return the trunks that runs to be trained go on from and that must be trained before them.

    A trunk that is done counts only with its last checkpoint.
    """
    trunks = trunks_of(spec for spec in to_do if isinstance(spec, RunSpec))
    if store is None or not trunks:
        return trunks
    done = store.done([trunk.run_id() for trunk in trunks])
    there = {run_id for run_id in done if store.has_whole_checkpoint(run_id)}
    return [trunk for trunk in trunks if trunk.run_id() not in there]


def epochs_before(store: Store, run_ids: Collection[str]) -> dict[str, int]:
    """Return run id -> epochs from whose end an unfinished run goes on."""

    def trained(run_id: str) -> int:
        try:
            return len(store.epochs(run_id)) if store.has_checkpoint(run_id) else 0
        except StoreError:  # the run itself will say so
            return 0

    begun = [run_id for run_id, names in run_names(store, run_ids).items() if "checkpoint" in names]
    trained_before = zip(begun, store.for_each(trained, begun), strict=True)
    return dict.fromkeys(run_ids, 0) | dict(trained_before)


def say_failed(store: Store, plan: Plan, failed: Collection[str]) -> None:
    """Print how many runs failed, and why the first did."""
    if not failed:
        return
    first = next(run_id for run_id in plan.run_ids if run_id in failed)
    print(
        f"{counted(len(failed), 'run')} failed; the first is {first} "
        f"({run_text(plan.runs[first], plan.varies)}): {failure_sentence(store.error(first))} "
        f"See {store.place(store.run_key(first, 'error.txt'))}; --retry-failed tries again.",
        file=sys.stderr,
    )


def write_reports(store: Store, plan: Plan) -> bool:
    """Write the report on a plan's runs unless it is up to date; print its table and its path.

    It compares what the plan varies and lies in `STORE/sweeps/NAME/report/`, that of object storage
    in `./reports/NAME/`.

    Args:
        store: where the runs are.
        plan: which runs.

    Returns:
        False if a report could not be made; then why is printed.
    """
    from analysis import reports
    from analysis.load.plans import Asked

    folder = report_folder(store, plan.name)
    try:
        asked = Asked(plan.run_ids, plan.tuned, plan.primary, plan.is_search)
        written = reports.write_reports([store], folder, asked)
    except (UserError, ValueError) as error:
        # A ValueError is wrong usage elsewhere; here nobody asked for anything but the sweep.
        print(f"No report: {error}", file=sys.stderr)
        return False
    print(reports.to_text(written))
    answer({"sweep": plan.name, "store": store.place(""), **reports.to_json(written)})
    return True


def report_folder(store: Store, name: str) -> Path:
    """Return where a sweep's report lies: with the sweep, or for object storage in `./reports`."""
    return store.sweep_folder(name) / "report" if store.is_local else Path("reports") / name


# The plan.


def show_plan(command: Command, plan: Plan, slots: int) -> None:
    """Print the plan; reads the store if there is one and writes nothing anywhere."""
    store = existing_store(command.store)
    runs: dict[str, StoredRun] = {}
    to_come = 0
    plan = with_declared(store, plan, command.grid.primary)
    notes = [*command.notes, *plan_notes(plan)]
    if store is not None:
        runs = read_runs(store, plan.run_ids, plan.runs)
    done = in_state(runs, "done")
    if command.refine is not None and store is not None and len(done) == len(plan.specs):
        decisions = decide(plan, command.grid, command.refine, store)
        plan = refined_plan(plan, decisions)
        runs |= read_runs(store, plan.without(done), plan.runs)
        done = in_state(runs, "done")
        notes += map(decision_text, decisions)
    elif command.refine is not None:
        to_come = num_added(plan, command.refine)
        notes.append(refinement_note(command.refine, to_come))
    failed = set() if command.execution.retry_failed else in_state(runs, "failed")
    steps, measured = probed(command, plan.specs, slots)
    to_do = plan.without(done | failed)
    trunks = {trunk.run_id(): trunk for trunk in missing_trunks(store, to_do.values())}
    if trunks:
        first = next(iter(trunks.values()))
        notes.append(
            f"Before them {counted(len(trunks), 'trunk')} of {counted(first.epochs, 'epoch')} at "
            "equal priorities, from which they are forked; the time has them in it."
        )
    cost = expected_cost(command, {**trunks, **to_do}, store, slots, steps)
    if command.as_json:
        compared = comparisons_of(plan)
        comparisons = {"comparisons": compared.to_json()} if compared is not None else {}
        found = plan_json(plan, done, cost, to_come) | comparisons
        if not answer(found):  # of a sweep of one's own, planned in Python
            print(json.dumps(found))
        return
    budget = command.execution.budget_hours
    if budget is not None and cost.run_seconds:
        notes.append(budget_text(cost, budget, slots))
    sums = sums_text(plan, done, failed, cost, slots, command.execution.pack)
    listed = runs_text(plan, done, failed)
    print("\n".join([sums, *notes, "", listed, *measured]))


def budget_text(cost: Estimate, hours: float, slots: int) -> str:
    """Return how many runs a budget should hold, data and start included."""
    centres = [sum(seconds) / 2 for seconds in cost.run_seconds.values()]
    before = max(0.0, sum(cost.seconds) / 2 - sum(centres) / slots)
    within = runs_within(centres, slots, 3600 * hours - before)
    return f"A budget of {hours:g} h should hold {within:,} of {counted(len(centres), 'run')}."


# The training.


def train_and_report(
    command: Command,
    plan: Plan,
    slots: int,
    deadline: float,
    began: float,
    *,
    with_report: bool = True,
) -> int:
    """Train what is left of a plan and write its report; return the exit status.

    Args:
        command: understood.
        plan: what it asks for.
        slots: runs side by side.
        deadline: reading of `time.monotonic` at which the sweep stops.
        began: its reading when the command began.
        with_report: whether to write one.
    """
    plan = with_declared(existing_store(command.store), plan, command.grid.primary)
    for note in (*command.notes, *plan_notes(plan)):
        print(note)
    check_answers(command.execution.address)  # where nobody does, nothing is written
    store = Store(command.store)
    with sweep_lock(store, plan.name) as store, page_served(command), ExitStack() as ending:
        trainer = _Trainer(command, store, slots, deadline, ending)
        trained = trainer.train_all(plan)
        if trained.was_stopped:
            return 1
        plan, snapshot = trained.plan, trained.progress.snapshot()
        print(f"{snapshot.done} of {counted(len(plan.specs), 'run')} done.")
        say_failed(store, plan, trained.progress.failed)
        if not snapshot.is_over:
            print(out_of_time_text(snapshot, command.execution.budget_hours), file=sys.stderr)
        reported = not with_report or write_reports(store, plan)
        ending.close()
        if trainer.seconds_trained:
            used = Efficiency(
                trainer.seconds_trained,
                trainer.slots,
                time.monotonic() - began,
                command.execution.pack,
            )
            print(used.to_text())
            trained.journal.status(snapshot, end_state(snapshot), now=True, efficiency=used.share)
        return 0 if reported and trained.is_complete else 1


@contextmanager
def page_served(command: Command) -> Iterator[None]:
    """Serve the sweep's page beside it, if the command asks for that, as long as it runs."""
    if command.execution.serve is None:
        yield
        return
    from sweeps.serve import address, served_beside  # imports what a report takes

    host, port = address(command.execution.serve)
    with served_beside(Store(command.store, create=False), command.name, host, port):
        yield


@contextmanager
def report_imported(progress: SweepProgress) -> Iterator[None]:
    """Import what a report takes, in a thread, once every run that is left is training.

    It takes a second or two, for which nobody then waits at the end.
    """
    over = threading.Event()

    def import_in_time() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if progress.all_are_training:
                import analysis.page  # noqa: F401

                return

    threading.Thread(target=import_in_time, name="report").start()
    try:
        yield
    finally:
        over.set()


def out_of_time_text(snapshot: Snapshot, hours: float | None) -> str:
    """Return what is left when a budget is spent, and how long that would take."""
    left = snapshot.seconds_left
    return (
        f"The budget of {hours:g} h is spent: {counted(snapshot.waiting, 'run')} left"
        f"{f', about {duration_range(left)}' if left else ''}. The same command continues."
    )


@dataclass(frozen=True)
class _Trained:
    """What became of the runs of a plan."""

    plan: Plan
    progress: SweepProgress
    journal: Journal
    was_stopped: bool
    """By a signal, or before its forks by the end of the budget, which was printed."""

    @property
    def is_complete(self) -> bool:
        """Return whether every run has a result."""
        return self.progress.snapshot().is_over and not self.progress.failed


@dataclass(eq=False)
class _Trainer:
    """Trains the runs of a sweep whose lock is held."""

    command: Command
    store: Store
    slots: int
    deadline: float
    """Reading of `time.monotonic` at which the sweep stops."""
    ending: ExitStack
    """In which Ray ends."""
    seconds_trained: float = 0.0
    """Of all runs, together."""
    _session: "Session | None" = field(default=None, init=False)
    _without_parts: dict[str, str] = field(default_factory=dict, init=False)
    """Run id of a fork whose trunk failed, or a mixed run one of whose forks did -> why, in a
    sentence."""
    _tried: set[str] = field(default_factory=set, init=False)
    """Runs that failed in this command."""

    def train_all(self, plan: Plan) -> _Trained:
        """Train the grid, then what --refine adds; asked again, go on where that was left.

        Trunks come before their forks, and forks before what is mixed of them.
        """
        store, num_points = self.store, self.command.refine
        stopped = self._train_trunks(plan) or self._train_forks(plan)
        if stopped is not None:
            return stopped
        if num_points is None:
            return self._train(plan)
        grid = None
        if len(store.done(plan.run_ids)) < len(plan.run_ids):
            grid = self._train(plan, more_follows=True, follows_all=True)
            if not grid.is_complete:
                print("The priorities are refined once the whole grid is done.", file=sys.stderr)
                return grid
        try:
            decisions = decide(plan, self.command.grid, num_points, store)
            record(store, plan.name, decisions)
        except BaseException:
            if grid is not None:
                note_stopped(grid.progress, grid.journal)
            raise
        for decision in decisions:
            print(decision_text(decision), flush=True)
        refined = self._train(refined_plan(plan, decisions))
        if grid is not None and not refined.was_stopped:
            # Also where no priority was to be added, and so no run.
            snapshot = refined.progress.snapshot()
            refined.journal.status(snapshot, end_state(snapshot), now=True)
        return refined

    def _train_trunks(self, plan: Plan) -> _Trained | None:
        """Train the trunks that forked runs of the plan wait for; None where all have ended.

        The forks of one that failed have failed with it.
        """
        runs = read_runs(self.store, plan.run_ids, plan.runs)
        settled = in_state(runs, "done")
        settled |= set() if self.command.execution.retry_failed else in_state(runs, "failed")
        missing = missing_trunks(self.store, plan.without(settled).values())
        if not missing:
            return None
        trunks = plan.of(missing)
        print(f"{counted(len(missing), 'trunk')} at equal priorities, then the forks from there:")
        trained = self._train(trunks, more_follows=True, are_trunks=True)
        if trained.was_stopped:
            return trained
        snapshot = trained.progress.snapshot()
        if not snapshot.is_over:
            print(out_of_time_text(snapshot, self.command.execution.budget_hours), file=sys.stderr)
            return replace(trained, was_stopped=True)
        reasons = {i: failure_sentence(self.store.error(i)) for i in trained.progress.failed}
        self._without_parts = {
            run_id: f"Its trunk, run {spec.trunk}, failed: {reasons[spec.trunk]}"
            for run_id, spec in plan.without(settled).items()
            if isinstance(spec, RunSpec) and spec.trunk in reasons
        }
        return None

    def _train_forks(self, plan: Plan) -> _Trained | None:
        """Train the runs that mixed runs of the plan wait for; None where all have ended.

        The mixed runs of one that failed have failed with it.
        """
        forks = {
            run_id: [fork.run_id() for fork in forks_of(spec)]
            for run_id, spec in plan.runs.items()
            if isinstance(spec, RunSpec) and spec.is_mixed
        }
        trained = list(plan.without(forks).values())
        first = plan.of(trained)
        if not forks or len(self.store.done(first.run_ids)) == len(first.run_ids):
            return None
        print(f"First the runs that are trained, then {len(forks):,} mixed of these:")
        held = self._train(first, more_follows=True)
        if held.was_stopped or not held.progress.snapshot().is_over:
            return held
        self._tried = set(held.progress.failed)
        reasons = {i: failure_sentence(self.store.error(i)) for i in self._tried}
        self._without_parts |= {
            run_id: f"Its fork, run {fork}, failed: {reasons[fork]}"
            for run_id, needed in forks.items()
            for fork in needed
            if fork in reasons
        }
        return None

    def _train(
        self,
        plan: Plan,
        *,
        more_follows: bool = False,
        follows_all: bool = False,
        are_trunks: bool = False,
    ) -> _Trained:
        """Train those runs of `plan` that are not done.

        Args:
            plan: the runs.
            more_follows: the sweep is not finished with them: more are trained once all have ended.
            follows_all: and that only if none has failed.
            are_trunks: no report is on them, and their state stays.
        """
        store, command = self.store, self.command
        if are_trunks:
            command = replace(command, runtime=replace(command.runtime, keep="last"))
        specs = plan.runs
        runs = read_runs(store, plan.run_ids, specs)
        done, failed = in_state(runs, "done"), in_state(runs, "failed")
        if are_trunks:  # what is done lacks its state
            done = set()
        # A result means nothing without its spec, which may be damaged.
        store.for_each(lambda run_id: store.write_spec(specs[run_id]), sorted(done))
        if command.execution.retry_failed:
            store.for_each(store.clear_error, sorted(failed - self._tried))
            failed &= self._tried
        for run_id in self._without_parts.keys() & plan.run_ids:
            store.write_spec(specs[run_id])
            store.write_error(run_id, self._without_parts[run_id])
            failed.add(run_id)
        to_train = plan.without(done | failed)
        cost = expected_cost(command, to_train, store, self.slots)
        progress = SweepProgress(
            specs,
            done=done,
            failed=failed,
            expected=cost.run_seconds,
            slots=self.slots,
            epochs_before=epochs_before(store, to_train),
        )
        size = sum(stored_bytes(spec, command.runtime) for spec in to_train.values())
        check_machine(command, store, to_train.values(), size)
        journal = Journal(store, plan, reported=not are_trunks)
        print(sums_text(plan, done, failed, cost, self.slots, command.execution.pack), flush=True)
        has_ended = True
        if to_train:
            has_ended = self._launch(
                command, plan, progress, journal, more_follows=more_follows, follows_all=follows_all
            )
        return _Trained(plan, progress, journal, was_stopped=not has_ended)

    def _launch(
        self,
        command: Command,
        plan: Plan,
        progress: SweepProgress,
        journal: Journal,
        *,
        more_follows: bool,
        follows_all: bool,
    ) -> bool:
        """Prepare the data and launch.

        Returns:
            Whether every run has ended, well or not, or the budget is spent.
        """
        from sweeps.launch.session import Session, workers_for
        from sweeps.status.display import make_display

        to_train = plan.without(progress.done | progress.failed)
        journal.event("started", num_runs=len(plan.specs), num_done=len(progress.done))
        with (
            StopSignals(self.deadline) as signals,
            make_display() as display,
            report_imported(progress),
        ):
            if self._session is None:
                workers = workers_for(progress, command.execution.num_ranks)
                self._session = self.ending.enter_context(
                    Session(command.execution, plan.name, workers, modules=plan.modules)
                )
            session = self._session
            try:
                session.start()
                prepare_data(command, to_train.values(), progress, journal, display)
                from sweeps.launch.driver import launch  # Ray Tune; Ray itself starts meanwhile

                launch(
                    plan,
                    self.store,
                    command.execution,
                    command.runtime,
                    progress,
                    journal,
                    display,
                    signals,
                    session=session,
                )
                stopped_by = signals.received
            except StopRequested as error:
                stopped_by = str(error)
            except BaseException:
                note_stopped(progress, journal)
                raise
        self.seconds_trained += progress.seconds_trained
        self.slots = progress.slots
        snapshot = progress.snapshot()
        goes_on = more_follows and snapshot.is_over and not (follows_all and progress.failed)
        if not goes_on:
            session.leave()
        journal.status(snapshot, "running" if goes_on else end_state(snapshot), now=True)
        if not snapshot.is_over and stopped_by is not None:
            print(
                f"Stopped by {stopped_by} with {snapshot.done} of {snapshot.total} runs done. "
                f"{CONTINUES}",
                file=sys.stderr,
            )
            return False
        print(f"Trained for {duration(snapshot.elapsed)}.")
        return True
