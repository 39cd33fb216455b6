"""From the command line of a search to its report: what `pareto_search.py` calls."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mtl.data.prepared import prepare
from mtl.spec import RunSpec
from mtl.store import Store, is_address
from sweeps.cli import Command, parse_command
from sweeps.command import checked_concurrency
from sweeps.cost import estimate
from sweeps.display import Display, make_display
from sweeps.exits import INCOMPLETE_STATUS, in_words
from sweeps.journal import Journal, revisions, sweep_lock
from sweeps.machine import num_cpus, num_gpus
from sweeps.plan import Grid, Plan, make_plan
from sweeps.preflight import check_encoder_weights
from sweeps.progress import Snapshot, SweepProgress
from sweeps.reports import write_reports
from sweeps.search.options import TUNED, SearchOptions, add_options, search_bases, search_options
from sweeps.search.planned import epoch_budget_of, plan_json, plan_text
from sweeps.stores import existing_store
from sweeps.words import counted, failure_sentence, run_text


class SearchStoppedError(Exception):
    """A signal stopped the search, or Ray cannot go on; in one sentence."""


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
        raise ValueError(
            "Expected no --divisions: a search takes priorities anywhere on the simplex. "
            "Leave it out."
        )
    if command.execution.budget_hours is not None:
        raise ValueError(
            "Expected no --budget: a run left out for lack of time would change what the search "
            "asks next. Leave it out, and bound the search by --epochs-budget or --trials."
        )
    if command.refine is not None or command.grid.baselines:
        raise ValueError(
            "Expected neither --refine nor --baselines: a search chooses its priorities itself "
            "and trains no single tasks. Leave them out, or use priority_grid.py."
        )
    if is_address(command.store):
        raise ValueError(
            "Expected a folder for --store: a search keeps Optuna's study beside its runs, which "
            "object storage cannot hold. Give a folder, on a cluster a shared one."
        )


def _show_plan(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, concurrency: int
) -> None:
    """Print what the search takes at most; writes nothing anywhere."""
    store = existing_store(command.store)
    if store is not None:
        revisions(store, command.name, command.kind)
    if command.as_json:
        print(json.dumps(plan_json(command, bases, options, store, concurrency)))
        return
    for note in command.notes:
        print(note)
    print(plan_text(command, bases, options, store, concurrency))
    if command.probe:
        # Only here: a plan alone needs no torch.
        from sweeps.probing import probe_networks, probe_text

        for spec, probe in probe_networks(list(bases.values()), command.runtime.data_root):
            print(probe_text(spec, probe))


class _Batches:
    """Trains the batches of a search on Ray, each as a launch of its own.

    Progress and status.json are those of the batch under way.
    """

    def __init__(
        self, command: Command, store: Store, journal: Journal, display: Display, concurrency: int
    ) -> None:
        self._command, self._store, self._journal = command, store, journal
        self._display, self._concurrency = display, concurrency
        self._retry = command.execution.retry_failed
        self._latest: Snapshot | None = None

    def __call__(self, what: str, specs: Sequence[RunSpec], pause_after: int | None) -> None:
        """Train runs to their end or to `pause_after`, as far as they do not fail.

        Raises:
            SearchStoppedError: if a signal came, or Ray cannot go on.
        """
        store, command = self._store, self._command
        plan = make_plan(command.name, command.kind, specs)
        waiting = [run_id for run_id in plan.run_ids if not self._reached(run_id, pause_after)]
        if self._retry:
            for run_id in waiting:
                store.clear_error(run_id)
        waiting = [run_id for run_id in waiting if store.error(run_id) is None]
        if not waiting:
            return
        todo = make_plan(
            command.name,
            command.kind,
            [s for r, s in zip(plan.run_ids, plan.specs, strict=True) if r in set(waiting)],
        )
        self._display.say(f"{what}: {counted(len(waiting), 'run')}.")
        self._launch(todo, pause_after)

    def _reached(self, run_id: str, epoch: int | None) -> bool:
        if self._store.is_done(run_id):
            return True
        return epoch is not None and len(self._store.epochs(run_id)) >= epoch

    def _launch(self, plan: Plan, pause_after: int | None) -> None:
        # Only here: Ray takes a second to import, and a finished search does not need it.
        from sweeps.launch.driver import launch
        from sweeps.launch.executor import ClusterError
        from sweeps.launch.stopping import StopRequested, StopSignals

        command, journal = self._command, self._journal
        runs = dict(zip(plan.run_ids, plan.specs, strict=True))
        progress = SweepProgress(
            runs,
            expected=self._expected(runs, pause_after),
            slots=self._concurrency,
            pause_after=pause_after,
        )
        with StopSignals() as signals:
            try:
                if command.execution.address is None:  # a cluster's nodes see to it, once each
                    self._prepare_data(plan)
                launch(
                    plan,
                    self._store,
                    command.execution,
                    replace(command.runtime, pause_after=pause_after),
                    progress,
                    journal,
                    self._display,
                    signals,
                )
                stopped_by = signals.received
            except StopRequested as error:
                stopped_by = str(error)
            except ClusterError as error:
                journal.status(progress.snapshot(), "stopped", now=True)
                raise SearchStoppedError(str(error)) from error
        self._latest = progress.snapshot()
        state = "running" if stopped_by is None else "stopped"
        journal.status(self._latest, state, now=True)
        if stopped_by is not None:
            raise SearchStoppedError(f"Stopped by {stopped_by}.")

    def _prepare_data(self, plan: Plan) -> None:
        for data in dict.fromkeys(spec.data for spec in plan.specs):
            prepare(
                data,
                self._command.runtime.data_root,
                num_workers=num_cpus(),
                on_progress=self._display.preparing,
            )

    def say_over(self, state: str) -> None:
        """Write to status.json that no batch follows the latest, if there was any."""
        if self._latest is not None:
            self._journal.status(self._latest, state, now=True)

    def _expected(
        self, runs: Mapping[str, RunSpec], pause_after: int | None
    ) -> dict[str, tuple[float, float]]:
        gpus = self._command.execution.gpus_per_run
        full = estimate(
            runs,
            store=self._store,
            runtime=self._command.runtime,
            concurrency=self._concurrency,
            num_cpus=num_cpus(),
            gpus_per_run=float(num_gpus() > 0) if gpus is None else gpus,
        ).run_seconds
        share = {r: min(1.0, (pause_after or s.epochs) / s.epochs) for r, s in runs.items()}
        return {r: (low * share[r], high * share[r]) for r, (low, high) in full.items()}


def _search_and_report(
    command: Command, bases: Mapping[str, RunSpec], options: SearchOptions, concurrency: int
) -> int:
    # Only here: Optuna and pandas take a second to import, and a plan needs neither.
    from sweeps.search.engine import Search, SearchError

    store = Store(command.store)
    revisions(store, command.name, command.kind)
    for note in command.notes:
        print(note)
    if command.execution.address is None:  # a cluster's nodes may have what this one lacks
        check_encoder_weights(bases.values(), command.runtime.encoder_weights_file)
    with sweep_lock(store, command.name) as store:
        folder = store.sweep_folder(command.name)
        journal = Journal(store, make_plan(command.name, command.kind, ()))
        display = make_display()
        batches = _Batches(command, store, journal, display, concurrency)
        try:
            with display:
                search = Search(bases, options, store, folder, batches)
                display.say(epoch_budget_of(bases, options).in_words(len(bases)))
                outcome = search.run()
                batches.say_over("finished")
        except SearchStoppedError as error:
            print(
                f"{command.kind}: {error} What is done is kept, and the same command continues.",
                file=sys.stderr,
            )
            return INCOMPLETE_STATUS
        except SearchError as error:
            batches.say_over("stopped")
            print(f"{command.kind}: {error}", file=sys.stderr)
            return INCOMPLETE_STATUS
        plan = make_plan(command.name, command.kind, outcome.specs)
        Journal(store, plan)
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
