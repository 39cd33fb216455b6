"""From the command line of a search to its report: what `pareto_search.py` calls."""

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mtl.spec import RunSpec
from mtl.store import Store, StoreError, is_address
from sweeps.cli import Command, parse_command
from sweeps.clusters import look_before_start
from sweeps.command import checked_concurrency
from sweeps.cost import StepKey
from sweeps.display import make_display
from sweeps.exits import INCOMPLETE_STATUS, in_words
from sweeps.journal import Journal, revisions, sweep_lock
from sweeps.launch.stopping import StopRequested, StopSignals
from sweeps.plan import Grid, make_plan
from sweeps.preflight import Checked, check_encoder_weights, check_store_disk
from sweeps.reports import write_reports
from sweeps.search.batches import Batches, SearchStoppedError
from sweeps.search.budget import Most
from sweeps.search.decided import check_begun, decided_specs
from sweeps.search.decisions import DecisionLog
from sweeps.search.options import TUNED, SearchOptions, add_options, search_bases, search_options
from sweeps.search.planned import epoch_budget_of, expected, most_of, plan_json, plan_text
from sweeps.stores import existing_store
from sweeps.words import counted, failure_sentence, run_text

if TYPE_CHECKING:
    from sweeps.search.engine import Outcome


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
    decided = _decided_so_far(command, bases, options, store)
    probe_texts: list[str] = []
    measured: dict[StepKey, float] = {}
    if command.probe:
        # Only here: a plan alone needs no torch.
        from sweeps.probing import probe_networks, probe_text, step_seconds

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
