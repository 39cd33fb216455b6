"""From a sweep's table and a command line to its report: what every sweep file calls."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtl.command_line import INCOMPLETE_STATUS, in_words
from mtl.data.prepared import prepare
from mtl.errors import StoreError, UsageError, UserError
from mtl.spec import RunSpec
from mtl.store import Store, existing_store
from sweeps.launch.execution import Execution
from sweeps.launch.preflight import Checked, PreflightError, check_encoder_weights, check_store_disk
from sweeps.options import Command, parse_command
from sweeps.plan import Grid, Plan, grid_specs, make_plan
from sweeps.plan.cost import (
    Budget,
    Estimate,
    StepKey,
    budget_of,
    estimate,
    num_cpus,
    num_gpus,
    runs_within,
    stored_bytes,
)
from sweeps.plan.describe import plan_json, plan_notes, plan_text, refinement_note
from sweeps.plan.refine import decide, decision_text, num_added, record, refined_plan
from sweeps.status.display import Display, make_display
from sweeps.status.journal import Journal, UnderWay, end_state, note_stopped, revisions, sweep_lock
from sweeps.status.progress import Snapshot, SweepProgress
from sweeps.text import counted, duration, duration_range, failure_sentence, run_text


def look_before_start(command: Command, plan: Plan) -> Checked | None:
    """Return what the nodes of the cluster are found to be; None without one, or runs for it.

    Before anything is written: where nobody answers, there is no store and no sweep afterwards.

    Raises:
        PreflightError: if the cluster cannot be joined, or a node lacks what the runs need.
    """
    if command.execution.address is None:
        return None
    store = existing_store(command.store)
    if store is not None:
        revisions(store, plan.name, plan.kind)
    done = set() if store is None else store.done(plan.run_ids)
    runs = dict(zip(plan.run_ids, plan.specs, strict=True))
    specs = [spec for run_id, spec in runs.items() if run_id not in done]
    if not specs:
        return None
    # Only here: Ray takes a second to import.
    from sweeps.launch.driver import look_at_cluster
    from sweeps.launch.signals import StopRequested
    from sweeps.launch.tune import ClusterError

    try:
        return look_at_cluster(specs, command.store, command.execution, command.runtime)
    except ClusterError as error:
        raise PreflightError(str(error)) from error
    except StopRequested as error:
        raise KeyboardInterrupt from error


def write_reports(store: Store, plan: Plan, tuned: Sequence[str] = ()) -> bool:
    """Write each group's report unless it is up to date; print its table and where it lies.

    They lie in `STORE/sweeps/NAME/report/`, those of object storage in `./reports/NAME/`; see
    `analysis.report.write_reports`.

    Args:
        store: where the runs are.
        plan: which runs.
        tuned: dotted fields in which methods may differ, each having its own tuned value.

    Returns:
        False if a report could not be made; then why is printed.
    """
    from analysis import report
    from analysis.load.plans import Asked

    folder = Path("reports") / plan.name
    if store.is_local:
        folder = store.sweep_folder(plan.name) / "report"
    try:
        reports = report.write_reports([store], folder, Asked(tuple(plan.run_ids), tuple(tuned)))
    except (UserError, ValueError) as error:
        # A ValueError is wrong usage elsewhere; here nobody asked for anything but the sweep.
        print(f"No report: {error}", file=sys.stderr)
        return False
    print(report.to_text(reports))
    return True


def budget_text(cost: Estimate, hours: float, concurrency: int) -> str:
    """Return how many runs a budget should hold, data and start included."""
    training = sum(map(sum, cost.run_seconds.values())) / 2 / concurrency
    before = max(0.0, sum(cost.seconds) / 2 - training)
    centres = [sum(seconds) / 2 for seconds in cost.run_seconds.values()]
    within = runs_within(centres, concurrency, 3600 * hours - before)
    return f"A budget of {hours:g} h should hold {within:,} of {counted(len(centres), 'run')}."


def out_of_time_text(snapshot: Snapshot, execution: Execution) -> str:
    """Return what is left when a budget is spent, and how long that would take."""
    left = snapshot.waiting
    return (
        f"The budget of {execution.budget_hours:g} h leaves no time for "
        f"{counted(left, 'run')} more; {'it' if left == 1 else 'they'} would take "
        f"{duration_range(snapshot.seconds_left)}. The same command continues."
    )


def say_start(
    plan: Plan, progress: SweepProgress, num_failed: int, cost: Estimate, concurrency: int
) -> None:
    """Print how many runs are done and to do, and how long those take."""
    num_to_do = len(cost.run_seconds)
    counts = f"{counted(len(plan.specs), 'run')}: {len(progress.done):,} done, {num_to_do:,} to do"
    if num_failed:
        counts += f", {num_failed:,} failed earlier and left alone (--retry-failed tries them)"
    print(f"{counts}.")
    if num_to_do:
        print(
            f"Expected: {duration_range(cost.seconds)} with {counted(concurrency, 'run')} at a "
            f"time (from {cost.source}).",
            flush=True,
        )


def say_end(store: Store, plan: Plan, progress: SweepProgress) -> None:
    """Print how many runs are done, and why the first failed if any did."""
    print(f"{len(progress.done)} of {counted(len(plan.specs), 'run')} done.")
    failed = [r for r in plan.run_ids if r in progress.failed]
    if failed:
        print(
            f"{counted(len(failed), 'run')} failed; the first is {failed[0]} "
            f"({run_text(progress.runs[failed[0]])}): {failure_sentence(store.error(failed[0]))} "
            f"See {store.place(store.run_key(failed[0], 'error.txt'))}; --retry-failed tries "
            "again.",
            file=sys.stderr,
        )


def run_sweep(kind: str, description: str, table: Grid, argv: Sequence[str] | None) -> int:
    """Plan, train and report what `table`, changed by the command line, asks for.

    Returns:
        The exit status: 0 if everything asked for is done, 1 if something could not be done or
        a signal stopped it, 2 for wrong usage.
    """

    def plan_and_train() -> int:
        command = parse_command(kind, description, argv, table)
        budget = budget_of(command.execution.budget_hours)
        plan = make_plan(command.name, kind, grid_specs(command.grid))
        concurrency = checked_concurrency(command)
        if command.plan_only:
            _show_plan(command, plan, concurrency)
            return 0
        return _train_and_report(command, plan, concurrency, budget)

    return in_words(kind, plan_and_train)


def checked_concurrency(command: Command) -> int:
    """Return how many runs go side by side on this machine, as far as can be told by now.

    Raises:
        ValueError: if the machine cannot run even one. What a cluster has is asked later.
    """
    execution = command.execution
    if execution.address is not None:
        return execution.concurrency or num_cpus()
    cpus, gpus = num_cpus(), num_gpus()
    gpus_per_run = execution.gpus_per_run
    if gpus_per_run is None:
        gpus_per_run = 1.0 if gpus else 0.0
    if execution.cpus_per_run > cpus:
        raise UsageError(
            f"Expected --cpus-per-run of at most {cpus}, the CPUs of this machine, got "
            f"{execution.cpus_per_run:g}."
        )
    if gpus_per_run > gpus:
        raise UsageError(
            f"Expected --gpus-per-run of at most {gpus}, the GPUs of this machine, got "
            f"{gpus_per_run:g}."
        )
    slots = int(cpus / execution.cpus_per_run)
    if gpus_per_run > 0:
        slots = min(slots, int(gpus / gpus_per_run))
    return max(1, min(slots, execution.concurrency or slots))


def _failed(store: Store, plan: Plan, done: set[str]) -> list[str]:
    open_runs = [run_id for run_id in plan.run_ids if run_id not in done]
    errors = store.for_each(store.error, open_runs)
    return [r for r, error in zip(open_runs, errors, strict=True) if error is not None]


def _estimate(
    command: Command,
    plan: Plan,
    skip: set[str],
    concurrency: int,
    measured_steps: Mapping[StepKey, float] | None = None,
) -> Estimate:
    runs = {
        run_id: spec
        for run_id, spec in zip(plan.run_ids, plan.specs, strict=True)
        if run_id not in skip
    }
    gpus_per_run = command.execution.gpus_per_run
    return estimate(
        runs,
        store=existing_store(command.store),
        runtime=command.runtime,
        concurrency=concurrency,
        num_cpus=num_cpus(),
        gpus_per_run=float(num_gpus() > 0) if gpus_per_run is None else gpus_per_run,
        measured_steps=measured_steps,
    )


def _show_plan(command: Command, plan: Plan, concurrency: int) -> None:
    """Print the plan; reads the store if there is one and writes nothing anywhere."""
    store = existing_store(command.store)
    done: set[str] = set()
    failed: set[str] = set()
    notes = [*command.notes, *plan_notes(plan)]
    to_come = 0
    if store is not None:
        revisions(store, plan.name, plan.kind)
        done = store.done(plan.run_ids)
    if command.refine is not None and store is not None and len(done) == len(plan.specs):
        decisions = decide(plan, command.grid, command.refine, store)
        plan = refined_plan(plan, decisions)
        done |= store.done(set(plan.run_ids) - done)
        notes += map(decision_text, decisions)
    elif command.refine is not None:
        to_come = num_added(plan, command.refine)
        notes.append(refinement_note(command.refine, to_come))
    if store is not None and not command.execution.retry_failed:
        failed = set(_failed(store, plan, done))
    probe_texts: list[str] = []
    measured: dict[StepKey, float] = {}
    if command.probe:
        # Only here: a plan alone needs no torch.
        from sweeps.plan.probing import probe_networks, probe_text, step_seconds

        probed = probe_networks(plan.specs, command.runtime.data_root)
        probe_texts = [probe_text(spec, result) for spec, result in probed]
        measured = step_seconds(probed)
    cost = _estimate(command, plan, done | failed, concurrency, measured)
    if command.as_json:
        print(json.dumps(plan_json(plan, done, cost, to_come)))
        return
    for note in notes:
        print(note)
    print(plan_text(plan, done, failed, cost, concurrency))
    if command.execution.budget_hours is not None and cost.run_seconds:
        print(budget_text(cost, command.execution.budget_hours, concurrency))
    for text in probe_texts:
        print(text)


@dataclass(frozen=True)
class _Trained:
    """What became of the runs of a plan."""

    plan: Plan
    progress: SweepProgress
    journal: Journal
    was_stopped: bool
    """By a signal or by Ray, which was said."""

    @property
    def is_complete(self) -> bool:
        """Return whether every run has a result."""
        return self.progress.snapshot().is_over and not self.progress.failed


def _train_and_report(command: Command, plan: Plan, concurrency: int, budget: Budget) -> int:
    for note in (*command.notes, *plan_notes(plan)):
        print(note)
    checked = look_before_start(command, plan)
    store = Store(command.store)
    revisions(store, plan.name, plan.kind)
    with sweep_lock(store, plan.name) as store:
        with UnderWay() as under_way:
            train = partial(_train_plan, command, store, concurrency, budget, checked, under_way)
            if command.refine is None:
                trained = train(plan)
            else:
                trained = _train_refined(command, plan, store, command.refine, train)
        if trained.was_stopped:
            return INCOMPLETE_STATUS
        say_end(store, trained.plan, trained.progress)
        snapshot = trained.progress.snapshot()
        if not snapshot.is_over:
            print(out_of_time_text(snapshot, command.execution), file=sys.stderr)
        reported = write_reports(store, trained.plan)
        return 0 if reported and trained.is_complete else INCOMPLETE_STATUS


def _train_refined(
    command: Command, plan: Plan, store: Store, num_points: int, train: Callable[..., _Trained]
) -> _Trained:
    """Train the grid, then what its measured front asks for; the same command finds its place."""
    grid = None
    if len(store.done(plan.run_ids)) < len(plan.run_ids):
        grid = train(plan, goes_on=True)
        if not grid.is_complete:
            print("The priorities are refined once the whole grid is done.", file=sys.stderr)
            return grid
    decisions = decide(plan, command.grid, num_points, store)
    record(store, plan.name, decisions)
    for decision in decisions:
        print(decision_text(decision), flush=True)
    refined = train(refined_plan(plan, decisions))
    if grid is not None and not refined.was_stopped:
        # Also where no priority was to be added, and so no run.
        snapshot = refined.progress.snapshot()
        refined.journal.status(snapshot, end_state(snapshot), now=True)
    return refined


def _train_plan(
    command: Command,
    store: Store,
    concurrency: int,
    budget: Budget,
    checked: Checked | None,
    under_way: UnderWay,
    plan: Plan,
    *,
    goes_on: bool = False,
) -> _Trained:
    """Train those runs of `plan` that are not done, the sweep's lock held.

    Args:
        command: what the user asks for.
        store: under the sweep's lease.
        concurrency: runs side by side, as far as is known.
        budget: of time.
        checked: what a look at the cluster found, if there was one.
        under_way: told of what is launched.
        plan: the runs.
        goes_on: more runs are planned once all of these are done, so that the sweep is not
            finished with them.
    """
    specs = dict(zip(plan.run_ids, plan.specs, strict=True))
    done = store.done(plan.run_ids)
    for run_id in done:  # a result means nothing without its spec, which may be damaged
        store.write_spec(specs[run_id])
    earlier_failures = _failed(store, plan, done)
    if command.execution.retry_failed:
        for run_id in earlier_failures:
            store.clear_error(run_id)
        earlier_failures = []
    cost = _estimate(command, plan, done | set(earlier_failures), concurrency)
    progress = SweepProgress(
        specs,
        done=done,
        failed=earlier_failures,
        expected=cost.run_seconds,
        slots=concurrency,
        epochs_before={run_id: epochs_before(store, run_id) for run_id in cost.run_seconds},
    )
    if command.execution.address is None:  # a cluster's nodes may have what this one lacks
        check_encoder_weights(_open_specs(plan, progress), command.runtime.encoder_weights_file)
        if store.is_local:
            check_store_disk(
                str(store.root),
                sum(stored_bytes(s, command.runtime) for s in _open_specs(plan, progress)),
            )
    journal = Journal(store, plan)
    say_start(plan, progress, len(earlier_failures), cost, concurrency)
    ended = True
    if cost.run_seconds:
        under_way.launched(progress, journal)
        ended = _train(command, plan, store, progress, journal, budget, checked, goes_on=goes_on)
    return _Trained(plan, progress, journal, was_stopped=not ended)


def epochs_before(store: Store, run_id: str) -> int:
    """Return the epochs from whose end an unfinished run goes on."""
    if not store.has_checkpoint(run_id):
        return 0
    try:
        return len(store.epochs(run_id))
    except StoreError:  # the run itself will say so
        return 0


def _train(
    command: Command,
    plan: Plan,
    store: Store,
    progress: SweepProgress,
    journal: Journal,
    budget: Budget,
    checked: Checked | None,
    *,
    goes_on: bool,
) -> bool:
    """Prepare the data and launch.

    Returns:
        Whether every run has ended, well or not, but for those that the budget left no time for.
    """
    # Only here: Ray takes a second to import, and a finished sweep does not need it.
    from sweeps.launch.driver import launch
    from sweeps.launch.signals import StopRequested, StopSignals
    from sweeps.launch.tune import ClusterError

    journal.event("started", num_runs=len(plan.specs), num_done=len(progress.done))
    how_to_continue = "What is done is kept, and the same command continues."
    with StopSignals() as signals, make_display() as display:
        try:
            if command.execution.address is None:  # a cluster's nodes see to it, once each
                _prepare_data(command, plan, progress, journal, display)
            launch(
                plan,
                store,
                command.execution,
                command.runtime,
                progress,
                journal,
                display,
                signals,
                budget=budget,
                checked=checked,
            )
            stopped_by = signals.received
        except StopRequested as error:
            stopped_by = str(error)
        except ClusterError as error:
            note_stopped(progress, journal)
            print(f"{plan.kind}: {error} {how_to_continue}", file=sys.stderr)
            return False
    snapshot = progress.snapshot()
    more_follows = goes_on and snapshot.is_over and not progress.failed
    journal.status(snapshot, "running" if more_follows else end_state(snapshot), now=True)
    if not snapshot.is_over and stopped_by is not None:
        print(
            f"Stopped by {stopped_by} with {snapshot.done} of {snapshot.total} runs done. "
            f"{how_to_continue}",
            file=sys.stderr,
        )
        return False
    print(f"Trained for {duration(snapshot.elapsed)}.")
    return True


def _open_specs(plan: Plan, progress: SweepProgress) -> list[RunSpec]:
    return [
        spec
        for run_id, spec in zip(plan.run_ids, plan.specs, strict=True)
        if run_id not in progress.done and run_id not in progress.failed
    ]


def _prepare_data(
    command: Command, plan: Plan, progress: SweepProgress, journal: Journal, display: Display
) -> None:
    def tell(done: int, total: int) -> None:
        display.preparing(done, total)
        journal.status(progress.snapshot(), "preparing")

    journal.status(progress.snapshot(), "preparing", now=True)
    for data in dict.fromkeys(spec.data for spec in _open_specs(plan, progress)):
        prepare(
            data,
            command.runtime.data_root,
            num_workers=num_cpus(),
            on_progress=tell,
        )
