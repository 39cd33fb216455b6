"""From a sweep's table and a command line to its report: what every sweep file calls."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mtl.data.prepared import PreparedDataError, prepare
from mtl.spec import RunSpec
from mtl.store import Store, StoreError
from sweeps.cli import Command, parse_command
from sweeps.cost import Estimate, estimate
from sweeps.display import Display, make_display
from sweeps.journal import Journal, revisions, sweep_lock
from sweeps.machine import num_cpus, num_gpus
from sweeps.plan import Grid, Plan, grid_specs, make_plan
from sweeps.plan_text import plan_json, plan_notes, plan_text
from sweeps.preflight import PreflightError, check_encoder_weights
from sweeps.progress import SweepProgress
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
        plan = make_plan(command.name, kind, grid_specs(command.grid))
        concurrency = checked_concurrency(command)
        if command.plan_only:
            _show_plan(command, plan, concurrency)
            return 0
        return _train_and_report(command, plan, concurrency)

    return in_words(kind, plan_and_train)


def in_words(kind: str, do: Callable[[], int]) -> int:
    """Return the exit status of `do`; whatever its user can mend is told in a sentence."""
    try:
        return do()
    except ValueError as error:
        print(f"{kind}: {error}", file=sys.stderr)
        return USAGE_STATUS
    except (StoreError, PreparedDataError, PreflightError) as error:
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
    """
    folder = Path(path).expanduser().absolute()
    if "://" in path or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
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
    return [r for r in plan.run_ids if r not in done and store.error(r) is not None]


def _estimate(command: Command, plan: Plan, skip: set[str], concurrency: int) -> Estimate:
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
    )


def _show_plan(command: Command, plan: Plan, concurrency: int) -> None:
    """Print the plan; reads the store if there is one and writes nothing anywhere."""
    store = existing_store(command.store)
    done: set[str] = set()
    failed: set[str] = set()
    if store is not None:
        revisions(store, plan.name, plan.kind)
        done = store.done(plan.run_ids)
        if not command.execution.retry_failed:
            failed = set(_failed(store, plan, done))
    cost = _estimate(command, plan, done | failed, concurrency)
    if command.as_json:
        print(json.dumps(plan_json(plan, done, cost)))
        return
    for note in (*command.notes, *plan_notes(plan)):
        print(note)
    print(plan_text(plan, done, failed, cost, concurrency))
    if command.probe:
        # Only here: a plan alone needs no torch.
        from sweeps.probing import print_probes

        print_probes(plan.specs, command.runtime.data_root)


def _train_and_report(command: Command, plan: Plan, concurrency: int) -> int:
    store = Store(command.store)
    revisions(store, plan.name, plan.kind)
    for note in (*command.notes, *plan_notes(plan)):
        print(note)
    with sweep_lock(store, plan.name):
        done = store.done(plan.run_ids)
        earlier_failures = _failed(store, plan, done)
        if command.execution.retry_failed:
            for run_id in earlier_failures:
                store.clear_error(run_id)
            earlier_failures = []
        cost = _estimate(command, plan, done | set(earlier_failures), concurrency)
        progress = SweepProgress(
            dict(zip(plan.run_ids, plan.specs, strict=True)),
            done=done,
            failed=earlier_failures,
            expected=cost.run_seconds,
            slots=concurrency,
        )
        if command.execution.address is None:  # a cluster's nodes may have what this one lacks
            check_encoder_weights(_open_specs(plan, progress), command.runtime.encoder_weights_file)
        journal = Journal(store, plan)
        _say_start(plan, progress, len(earlier_failures), cost, concurrency)
        if cost.run_seconds and not _train(command, plan, store, progress, journal):
            return INCOMPLETE_STATUS
        _say_end(store, plan, progress)
        reported = write_reports(store, plan)
        return 0 if reported and not progress.failed else INCOMPLETE_STATUS


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
    command: Command, plan: Plan, store: Store, progress: SweepProgress, journal: Journal
) -> bool:
    """Prepare the data and launch; return whether every run has ended, well or not."""
    # Only here: Ray takes a second to import, and a finished sweep does not need it.
    from sweeps.launch.driver import launch
    from sweeps.launch.executor import ClusterError
    from sweeps.launch.stopping import StopRequested, StopSignals

    journal.event("started", num_runs=len(plan.specs), num_done=len(progress.done))
    how_to_continue = "What is done is kept, and the same command continues."
    with StopSignals() as signals, make_display() as display:
        try:
            _prepare_data(command, plan, progress, display)
            launch(
                plan,
                store,
                command.execution,
                command.runtime,
                progress,
                journal,
                display,
                signals,
            )
            stopped_by = signals.received
        except StopRequested as error:
            stopped_by = str(error)
        except ClusterError as error:
            _note_stopped(progress, journal)
            print(f"{plan.kind}: {error} {how_to_continue}", file=sys.stderr)
            return False
        except BaseException:
            with contextlib.suppress(OSError):  # the disk may be what failed
                _note_stopped(progress, journal)
            raise
    snapshot = progress.snapshot()
    journal.status(snapshot, "finished" if snapshot.is_over else "stopped", now=True)
    if not snapshot.is_over:
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


def _prepare_data(command: Command, plan: Plan, progress: SweepProgress, display: Display) -> None:
    for data in dict.fromkeys(spec.data for spec in _open_specs(plan, progress)):
        prepare(
            data,
            command.runtime.data_root,
            num_workers=num_cpus(),
            on_progress=display.preparing,
        )


def _say_end(store: Store, plan: Plan, progress: SweepProgress) -> None:
    print(f"{len(progress.done)} of {counted(len(plan.specs), 'run')} done.")
    failed = [r for r in plan.run_ids if r in progress.failed]
    if failed:
        print(
            f"{counted(len(failed), 'run')} failed; the first is {failed[0]} "
            f"({run_text(progress.runs[failed[0]])}): {failure_sentence(store.error(failed[0]))} "
            f"See {store.run_folder(failed[0]) / 'error.txt'}; --retry-failed tries again.",
            file=sys.stderr,
        )
