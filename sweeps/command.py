"""From a sweep's table and a command line to its report: what every sweep file calls."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtl.data.prepared import PreparedDataError, prepare
from mtl.spec import RunSpec
from mtl.store import Store, StoreError, StoreUnreachableError, is_address
from sweeps.budget import Budget, budget_of, runs_within
from sweeps.cli import Command, Execution, parse_command
from sweeps.cost import Estimate, StepKey, estimate, stored_bytes
from sweeps.display import Display, make_display
from sweeps.journal import Journal, revisions, sweep_lock
from sweeps.machine import num_cpus, num_gpus
from sweeps.plan import Grid, Plan, grid_specs, make_plan
from sweeps.plan_text import plan_json, plan_notes, plan_text, refinement_note
from sweeps.preflight import PreflightError, check_encoder_weights, check_store_disk
from sweeps.progress import Snapshot, SweepProgress
from sweeps.refine import decide, decision_text, num_added, record, refined_plan
from sweeps.reports import write_reports
from sweeps.words import counted, duration, duration_range, failure_sentence, run_text

USAGE_STATUS = 2
INCOMPLETE_STATUS = 1


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
        if command.refine is not None:
            return _train_and_refine(command, plan, concurrency, budget, command.refine)
        return _train_and_report(command, plan, concurrency, budget)

    return in_words(kind, plan_and_train)


def in_words(kind: str, do: Callable[[], int]) -> int:
    """Return the exit status of `do`; whatever its user can mend is told in a sentence."""
    try:
        return do()
    except ValueError as error:
        print(f"{kind}: {error}", file=sys.stderr)
        return USAGE_STATUS
    except (StoreError, StoreUnreachableError, PreparedDataError, PreflightError) as error:
        print(f"{kind}: {error}", file=sys.stderr)
        return INCOMPLETE_STATUS
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE_STATUS
    except OSError as error:
        print(
            f"{kind}: {error.filename or 'The store'}: {error.strerror or error}. What is done is "
            "kept; once that is mended the same command continues.",
            file=sys.stderr,
        )
        return INCOMPLETE_STATUS
    except MemoryError as error:
        print(
            f"{kind}: Out of memory{f' ({error})' if str(error) else ''}. What is done is kept; "
            "with less to do or more memory the same command continues.",
            file=sys.stderr,
        )
        return INCOMPLETE_STATUS
    except KeyboardInterrupt:
        print("Stopped. The same command continues.", file=sys.stderr)
        return INCOMPLETE_STATUS


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
        raise ValueError(
            f"Expected --cpus-per-run of at most {cpus}, the CPUs of this machine, got "
            f"{execution.cpus_per_run:g}."
        )
    if gpus_per_run > gpus:
        raise ValueError(
            f"Expected --gpus-per-run of at most {gpus}, the GPUs of this machine, got "
            f"{gpus_per_run:g}."
        )
    slots = int(cpus / execution.cpus_per_run)
    if gpus_per_run > 0:
        slots = min(slots, int(gpus / gpus_per_run))
    return max(1, min(slots, execution.concurrency or slots))


def existing_store(path: str) -> Store | None:
    """Return the store at `path` for reading, or None if nothing is there yet.

    Raises:
        StoreError: for what is no store, or where none can be made.
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    if is_address(path):
        return Store.if_there(path)
    folder = Path(path.removeprefix("file://")).expanduser().absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        return Store(path, create=False)
    _check_can_be_made(folder)
    return None


def _check_can_be_made(folder: Path) -> None:
    """Raise a `StoreError` if `folder` could not be made or written, as far as a look tells."""
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    if not writable or parent.resolve().is_relative_to("/proc"):  # root may write even there
        raise StoreError(
            f"Expected a folder that can be written, got {folder}, and {parent} is none. "
            "Give another one with --store."
        )


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
        from sweeps.probing import probe_networks, probe_text, step_seconds

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
        print(_budget_text(cost, command.execution.budget_hours, concurrency))
    for text in probe_texts:
        print(text)


def _train_and_refine(
    command: Command, plan: Plan, concurrency: int, budget: Budget, num_points: int
) -> int:
    """Train the grid, then what its measured front asks for; the same command finds its place."""
    store = Store(command.store)
    revisions(store, plan.name, plan.kind)
    if len(store.done(plan.run_ids)) < len(plan.run_ids):
        status = _train_and_report(command, plan, concurrency, budget)
        if status != 0:
            print("The priorities are refined once the whole grid is done.", file=sys.stderr)
            return status
    with sweep_lock(store, plan.name) as held:
        decisions = decide(plan, command.grid, num_points, held)
        record(held, plan.name, decisions)
    for decision in decisions:
        print(decision_text(decision), flush=True)
    return _train_and_report(command, refined_plan(plan, decisions), concurrency, budget)


def _budget_text(cost: Estimate, hours: float, concurrency: int) -> str:
    """Return how many runs a budget should hold, data and start included."""
    training = sum(map(sum, cost.run_seconds.values())) / 2 / concurrency
    before = max(0.0, sum(cost.seconds) / 2 - training)
    centres = [sum(seconds) / 2 for seconds in cost.run_seconds.values()]
    within = runs_within(centres, concurrency, 3600 * hours - before)
    return f"A budget of {hours:g} h should hold {within:,} of {counted(len(centres), 'run')}."


def _train_and_report(command: Command, plan: Plan, concurrency: int, budget: Budget) -> int:
    store = Store(command.store)
    revisions(store, plan.name, plan.kind)
    for note in (*command.notes, *plan_notes(plan)):
        print(note)
    specs = dict(zip(plan.run_ids, plan.specs, strict=True))
    with sweep_lock(store, plan.name) as store:
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
        _say_start(plan, progress, len(earlier_failures), cost, concurrency)
        if cost.run_seconds and not _train(command, plan, store, progress, journal, budget):
            return INCOMPLETE_STATUS
        _say_end(store, plan, progress)
        if not progress.snapshot().is_over:
            print(out_of_time_text(progress.snapshot(), command.execution), file=sys.stderr)
        reported = write_reports(store, plan)
        is_complete = progress.snapshot().is_over and not progress.failed
        return 0 if reported and is_complete else INCOMPLETE_STATUS


def epochs_before(store: Store, run_id: str) -> int:
    """Return the epochs from whose end an unfinished run goes on."""
    if not store.has_checkpoint(run_id):
        return 0
    try:
        return len(store.epochs(run_id))
    except StoreError:  # the run itself will say so
        return 0


def out_of_time_text(snapshot: Snapshot, execution: Execution) -> str:
    """Return what is left when a budget is spent, and how long that would take."""
    left = snapshot.waiting
    return (
        f"The budget of {execution.budget_hours:g} h leaves no time for "
        f"{counted(left, 'run')} more; {'it' if left == 1 else 'they'} would take "
        f"{duration_range(snapshot.seconds_left)}. The same command continues."
    )


def _say_start(
    plan: Plan, progress: SweepProgress, num_failed: int, cost: Estimate, concurrency: int
) -> None:
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


def _train(
    command: Command,
    plan: Plan,
    store: Store,
    progress: SweepProgress,
    journal: Journal,
    budget: Budget,
) -> bool:
    """Prepare the data and launch.

    Returns:
        Whether every run has ended, well or not, but for those that the budget left no time for.
    """
    # Only here: Ray takes a second to import, and a finished sweep does not need it.
    from sweeps.launch.driver import launch
    from sweeps.launch.executor import ClusterError
    from sweeps.launch.stopping import StopRequested, StopSignals

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
            )
            stopped_by = signals.received
        except StopRequested as error:
            stopped_by = str(error)
        except ClusterError as error:
            _note_stopped(progress, journal)
            print(f"{plan.kind}: {error} {how_to_continue}", file=sys.stderr)
            return False
        except BaseException:
            with contextlib.suppress(
                OSError, StoreError, StoreUnreachableError
            ):  # the disk may be what failed
                _note_stopped(progress, journal)
            raise
    snapshot = progress.snapshot()
    journal.status(snapshot, "finished" if snapshot.is_over else "stopped", now=True)
    if not snapshot.is_over and stopped_by is not None:
        print(
            f"Stopped by {stopped_by} with {snapshot.done} of {snapshot.total} runs done. "
            f"{how_to_continue}",
            file=sys.stderr,
        )
        return False
    print(f"Trained for {duration(snapshot.elapsed)}.")
    return True


def _note_stopped(progress: SweepProgress, journal: Journal) -> None:
    for run_id in list(progress.running):
        progress.interrupt(run_id)
    journal.status(progress.snapshot(), "stopped", now=True)


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


def _say_end(store: Store, plan: Plan, progress: SweepProgress) -> None:
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
