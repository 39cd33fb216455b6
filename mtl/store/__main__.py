"""Admin of a store: list, verify, merge and remove; needs torch only to load checkpoints.

python -m mtl.store list STORE              every run with its state
python -m mtl.store verify STORE            look at every file; exit status 1 if one is damaged
python -m mtl.store merge FROM INTO         copy what INTO lacks; results are never replaced
python -m mtl.store remove STORE --state failed
python -m mtl.store schema summary          the JSON schema of what machines read

`list` also takes an address of object storage; the others need a folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from rich.filesize import decimal

from mtl.command_line import Parser, answer, run
from mtl.errors import StoreError, UsageError, printable
from mtl.spec import method_text
from mtl.spec.methods import check_method
from mtl.spec.strict import checked_name
from mtl.spec.tasks import check_task
from mtl.store.address import is_address, shown_address
from mtl.store.merge import merge, remove_runs
from mtl.store.plan_file import PlanFile, read_plan
from mtl.store.states import STATES, StoredRun, read_runs
from mtl.store.store import Store
from mtl.store.verify import verify_store

SCHEMAS = ("plan", "status", "summary", "result")
"""Of `--plan --json`, a sweep's status.json, a report's summary.json and a run's result.json."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m mtl.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    listing = commands.add_parser("list", help="every run with its state")
    listing.add_argument("store", metavar="STORE")
    _add_filters(listing)
    verifying = commands.add_parser("verify", help="look at every file of every run and sweep")
    verifying.add_argument("store", metavar="STORE")
    merging = commands.add_parser("merge", help="copy runs of one store into another")
    merging.add_argument("source", metavar="FROM")
    merging.add_argument("target", metavar="INTO")
    removing = commands.add_parser("remove", help="remove runs; sweeps stay as they are")
    removing.add_argument("store", metavar="STORE")
    _add_filters(removing)
    removing.add_argument("--all", action="store_true", help="every run, in place of a filter")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    schema = commands.add_parser("schema", help="print the JSON schema of a file or of --plan")
    schema.add_argument("name", choices=SCHEMAS)
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", nargs="+", default=[], metavar="RUN_ID")
    parser.add_argument("--method", nargs="+", default=[], metavar="METHOD", help="any of these")
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help="all of these")
    parser.add_argument(
        "--state", nargs="+", default=[], metavar="STATE", help=f"any of {', '.join(STATES)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return the exit status."""

    def do() -> int:
        given = make_parser().parse_args(argv)
        changes = given.command in ("merge", "remove")
        return run("store", lambda: COMMANDS[given.command](given), continues=changes)

    return run("store", do)


def _open_folder(place: str, *, create: bool = False) -> Store:
    if is_address(place):
        raise StoreError(
            f"Expected a store in a folder, got {shown_address(place)}. Copy it to a folder first."
        )
    return Store(place, create=create)


@dataclass(frozen=True)
class Entry:
    """A run with what a list tells of it besides its state."""

    run: StoredRun
    num_bytes: int
    sweeps: tuple[str, ...]
    """Names of the sweeps that planned it."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `list --json` prints of it."""
        run, described = self.run, ("method", "tasks", "priorities", "seed", "epochs")
        return {
            "run_id": run.run_id,
            "state": run.state,
            "reason": run.reason,
            **{name: getattr(run.spec, name, None) for name in described},
            "epochs_recorded": run.epochs,
            "bytes": self.num_bytes,
            "sweeps": self.sweeps,
        }

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table, in the order of its `HEAD`."""
        run, spec = self.run, self.run.spec
        described = ("", "", "", "", str(run.epochs))
        if spec is not None:
            priorities = " / ".join(f"{p:.3g}" for p in spec.priorities or ()) or "-"
            epochs = f"{run.epochs} of {spec.epochs}" if spec.epochs else str(run.epochs)
            described = (
                " ".join(spec.tasks),
                method_text(spec),
                priorities,
                str(spec.seed),
                epochs,
            )
        reason = run.reason if run.state in ("failed", "damaged") else ""
        sweeps = printable(" ".join(self.sweeps))
        return (run.run_id, run.state, *described, decimal(self.num_bytes), sweeps, reason)


HEAD = ("run", "state", "tasks", "method", "priorities", "seed", "epochs", "size", "sweep", "")


def _check_filters(given: argparse.Namespace) -> None:
    for method in given.method:
        check_method(method)
    for state in given.state:
        checked_name(state, STATES, "state")


def _entries(store: Store, given: argparse.Namespace) -> list[Entry]:
    """Return the runs that the filters mean, by tasks, method, priorities and seed."""
    run_ids = store.run_ids()
    absent = sorted(set(given.run) - {*run_ids})
    if absent:
        raise UsageError(f"Expected runs of {store.place('')}, got {printable(', '.join(absent))}.")
    plans = {name: set(plan.run_ids) for name, plan in _plans(store).items()}
    asked = [run_id for run_id in run_ids if not given.run or run_id in given.run]
    files = store.run_files(asked)
    entries = [
        Entry(
            run,
            sum(file.num_bytes for file in files[run_id]),
            tuple(name for name, planned in plans.items() if run_id in planned),
        )
        for run_id, run in read_runs(store, asked).items()
    ]
    held = {task for entry in entries if entry.run.spec for task in entry.run.spec.tasks}
    for task in given.task:
        if task not in held:
            check_task(task)
    return sorted((entry for entry in entries if _is_meant(entry.run, given)), key=_by_content)


def _is_meant(run: StoredRun, given: argparse.Namespace) -> bool:
    """Return whether the filters mean a run; without a readable spec it has no method or task."""
    methods, tasks = (run.spec.method, run.spec.tasks) if run.spec else ("", ())
    return (
        (not given.state or run.state in given.state)
        and (not given.method or methods in given.method)
        and set(given.task) <= set(tasks)
    )


def _by_content(entry: Entry) -> tuple[Any, ...]:
    spec = entry.run.spec
    if spec is None:
        return ((), "", (), 0, entry.run.run_id)
    return (spec.tasks, spec.method, spec.priorities or (), spec.seed, entry.run.run_id)


def _plans(store: Store) -> dict[str, PlanFile]:
    """Return sweep -> its plan, of those that can be read."""

    def read(name: str) -> PlanFile | None:
        try:
            return read_plan(store, name)
        except (StoreError, OSError):
            return None

    names = store.sweep_names()
    found = zip(names, store.for_each(read, names), strict=True)
    return {name: plan for name, plan in found if plan is not None}


def _table(entries: Sequence[Entry]) -> str:
    """Return runs as aligned columns under their heads, and a line that counts them."""
    if not entries:
        return "no runs"
    rows = [HEAD, *(entry.cells() for entry in entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    counts = {state: sum(entry.run.state == state for entry in entries) for state in STATES}
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    size = decimal(sum(entry.num_bytes for entry in entries))
    return "\n".join([*lines, f"{_counted(len(entries), 'run')}: {parts}; {size}"])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(given: argparse.Namespace) -> int:
    _check_filters(given)
    if is_address(given.store) and "running" in given.state:
        raise UsageError(
            "Expected a --state that object storage tells, got running. Use sweeps/watch.py."
        )
    entries = _entries(Store(given.store, create=False), given)
    if not answer([entry.to_dict() for entry in entries]):
        print(_table(entries))
    return 0


def _verify(given: argparse.Namespace) -> int:
    found = verify_store(_open_folder(given.store))
    for note in found.notes:
        print(f"note: {note}")
    for damage in found.damages:
        print(f"{damage.path}: {damage.what}\n  costs: {damage.cost}")
    looked = f"{_counted(found.num_runs, 'run')} and {_counted(found.num_sweeps, 'sweep')}"
    damaged = f"{_counted(len(found.damages), 'file')} damaged" if found.damages else "no damage"
    print(f"{looked}: {damaged}.")
    damages = [vars(damage) | {"path": str(damage.path)} for damage in found.damages]
    answer({"runs": found.num_runs, "sweeps": found.num_sweeps, "damages": damages})
    return 1 if found.damages else 0


def _merge(given: argparse.Namespace) -> int:
    source = _open_folder(given.source)
    merged = merge(source, _open_folder(given.target, create=True))
    for note in merged.notes:
        print(note)
    counts = ", ".join(f"{count} {what}" for what, count in merged.counts.items())
    sentences = [f"Runs: {counts}."] if counts else []
    if merged.num_sweeps:
        sentences.append(f"{_counted(merged.num_sweeps, 'sweep')} copied.")
    print(" ".join(sentences) or "Nothing was copied.")
    for problem in merged.problems:
        print(problem, file=sys.stderr)
    problems = list(merged.problems)
    answer({"runs": dict(merged.counts), "sweeps": merged.num_sweeps, "problems": problems})
    return 1 if merged.problems else 0


def _remove(given: argparse.Namespace) -> int:
    _check_filters(given)
    if bool(given.run or given.method or given.task or given.state) == given.all:
        raise UsageError("Expected either --run, --method, --task or --state, or else --all.")
    store = _open_folder(given.store)
    entries = _entries(store, given)
    if not entries:
        print("No run matches; nothing was removed.")
        answer({"removed": [], "refused": []})
        return 0
    if not given.yes and not sys.stdin.isatty():
        raise UsageError("No terminal to ask on: add --yes.")
    print(_table(entries))
    if not given.yes and input("Remove them? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was removed.")
        return 0
    plans = _plans(store)
    running = {name for name in plans if store.is_locked(store.sweep_key(name))}
    free, refused = [], []
    for entry in entries:
        sweep = next((name for name in entry.sweeps if name in running), None)
        if sweep is None:
            free.append(entry.run.run_id)
        else:  # its driver has planned the run, and would fail it for want of a spec
            refused.append(
                f"Run {entry.run.run_id} is planned by sweep {sweep}, which is running. It was "
                "left; stop that process first."
            )
    refused += remove_runs(store, free)
    removed = {run_id for run_id in free if store.kind(store.run_key(run_id)) == "absent"}
    print(f"Removed {len(removed)} of {len(entries)}.")
    for name, plan in plans.items():
        number = len(removed.intersection(plan.run_ids))
        if number:
            print(f"Sweep {name} plans {number} of them: {plan.about_absent(number)}.")
    for sentence in refused:
        print(sentence, file=sys.stderr)
    answer({"removed": sorted(removed), "refused": refused})
    return 1 if refused else 0


def _schema(given: argparse.Namespace) -> int:
    text = files("mtl").joinpath("schemas", f"{given.name}.json").read_text("utf-8")
    if not answer(json.loads(text)):
        print(text, end="")
    return 0


COMMANDS = {
    "list": _list,
    "verify": _verify,
    "merge": _merge,
    "remove": _remove,
    "schema": _schema,
}

if __name__ == "__main__":
    sys.exit(main())
