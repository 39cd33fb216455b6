"""Care of a store: list, verify, merge and remove; needs torch only to load checkpoints.

python -m mtl.store list STORE              every run with its state
python -m mtl.store verify STORE            look at every file; exit status 1 if one is damaged
python -m mtl.store merge FROM INTO         copy what INTO lacks; results are never replaced
python -m mtl.store remove STORE --state failed

`list` also takes an address of object storage; the others need a folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl.command_line import INCOMPLETE_STATUS, SentenceParser, printable, status_of
from mtl.errors import StoreError, UsageError
from mtl.spec.methods import check_method
from mtl.spec.sections import TASKS
from mtl.spec.strict import checked_name
from mtl.store.merge import merge, remove_runs
from mtl.store.states import STATES, Filter, list_runs, planned_by, plans_of, sums, table
from mtl.store.store import Store, is_address
from mtl.store.untrusted import is_locked, kind_of
from mtl.store.verify import verify_store

MOST_MARKER_BYTES = 100_000


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = SentenceParser(
        prog="python -m mtl.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=SentenceParser)
    listing = commands.add_parser("list", help="every run with its state")
    listing.add_argument("store", metavar="STORE")
    _add_filters(listing)
    listing.add_argument("--json", action="store_true", help="for machines: one list of objects")
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
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", nargs="+", default=[], metavar="RUN_ID")
    parser.add_argument("--method", nargs="+", default=[], metavar="METHOD", help="any of these")
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help="all of these")
    parser.add_argument(
        "--state", nargs="+", default=[], metavar="STATE", help=f"any of {', '.join(STATES)}"
    )


def _filter(given: argparse.Namespace) -> Filter:
    for method in given.method:
        check_method(method)
    for task in given.task:
        checked_name(task, TASKS, "task")
    for state in given.state:
        checked_name(state, STATES, "state")
    return Filter(run_ids=given.run, methods=given.method, tasks=given.task, states=given.state)


def open_store(path: str, *, create: bool = False) -> Store:
    """Open a store that a stranger may have written.

    Raises:
        StoreError: if it is none.
    """
    if not path.strip():
        raise UsageError("Expected the folder of a store, got an empty name.")
    if is_address(path):
        # Only here: pyarrow takes a while to import, and a folder does not need it.
        from mtl.store.objects import shown_address

        raise StoreError(
            f"Expected a store in a folder, got {shown_address(path)}. Copy it to a folder first."
        )
    marker = Path(path).expanduser() / "store.json"
    kind = kind_of(marker)
    if kind not in ("file", "absent") or (
        kind == "file" and marker.stat().st_size > MOST_MARKER_BYTES
    ):
        raise StoreError(
            f"Expected a run store, got {path}, whose store.json is a {kind} of no use."
        )
    return Store(path, create=create)


def open_anywhere(place: str) -> Store:
    """Open a store that a stranger may have written for reading, in a folder or at an address.

    Raises:
        StoreError: if it is none.
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    return Store(place, create=False) if is_address(place) else open_store(place)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return the exit status."""

    def do() -> int:
        given = make_parser().parse_args(argv)
        return COMMANDS[given.command](given)

    try:
        return status_of("store", do)
    except KeyboardInterrupt:
        print("store: Stopped. The same command goes on.", file=sys.stderr)
        return INCOMPLETE_STATUS


def _list(given: argparse.Namespace) -> int:
    chosen = _filter(given)
    if is_address(given.store) and "running" in chosen.states:
        raise UsageError(
            "Expected a --state that object storage tells, got running. Use sweeps/watch.py."
        )
    runs = list_runs(open_anywhere(given.store), chosen)
    if given.json:
        print(json.dumps([entry.to_dict() for entry in runs]))
        return 0
    if runs:
        print(table(runs))
    print(sums(runs))
    return 0


def _verify(given: argparse.Namespace) -> int:
    found = verify_store(open_store(given.store))
    for note in found.notes:
        print(f"note: {note}")
    for damage in found.damages:
        print(f"{damage.path} {damage.what}\n  costs: {damage.cost}")
    looked = f"{_counted(found.num_runs, 'run')} and {_counted(found.num_sweeps, 'sweep')}"
    damaged = _counted(len(found.damages), "damage") if found.damages else "nothing damaged"
    print(f"{looked}: {damaged}.")
    return INCOMPLETE_STATUS if found.damages else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _merge(given: argparse.Namespace) -> int:
    source = open_store(given.source)
    merged = merge(source, open_store(given.target, create=True))
    for note in merged.notes:
        print(note)
    counts = ", ".join(f"{count} {what}" for what, count in merged.counts.items())
    sentences = [f"Runs: {counts}."] if counts else []
    if merged.num_sweeps:
        sentences.append(f"{_counted(merged.num_sweeps, 'sweep')} copied.")
    print(" ".join(sentences) or "Nothing was copied.")
    for problem in merged.problems:
        print(problem, file=sys.stderr)
    return INCOMPLETE_STATUS if merged.problems else 0


def _remove(given: argparse.Namespace) -> int:
    chosen = _filter(given)
    if chosen.is_empty != given.all:
        raise UsageError("Expected either --run, --method, --task or --state, or else --all.")
    if not given.yes and not sys.stdin.isatty():
        raise UsageError("Expected --yes where nobody can be asked, got none.")
    store = open_store(given.store)
    runs = list_runs(store, chosen)
    if not runs:
        print("No run is meant; nothing was removed.")
        return 0
    print(f"{table(runs)}\n{sums(runs)}")
    if not given.yes and input("Remove them? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was removed.")
        return 0
    sweeps = planned_by(store)
    under_way = {n: ids for n, ids in sweeps.items() if is_locked(store.root / "sweeps" / n)}
    wanted = [entry.run_id for entry in runs]
    refused = [
        f"Run {run_id} is planned by sweep {printable(name)}, which is being run. It was left; "
        "stop that process first."
        for name, planned in under_way.items()
        for run_id in wanted
        if run_id in planned
    ]
    free = [run_id for run_id in wanted if not any(run_id in ids for ids in under_way.values())]
    refused += remove_runs(store, free)
    print(f"Removed {len(runs) - len(refused)} of {len(runs)}.")
    removed = {
        entry.run_id for entry in runs if kind_of(store.run_folder(entry.run_id)) == "absent"
    }
    for name, plan in plans_of(store).items():
        number = len(removed.intersection(plan.run_ids))
        if number:
            print(
                f"Sweep {printable(name)} plans {number} of them: "
                f"{plan.about_absent(number, removed=True)}."
            )
    for sentence in refused:
        print(sentence, file=sys.stderr)
    return INCOMPLETE_STATUS if refused else 0


COMMANDS = {"list": _list, "verify": _verify, "merge": _merge, "remove": _remove}

if __name__ == "__main__":
    sys.exit(main())
