"""How a sweep goes, from any machine that sees its store; reads files and writes nothing.

python sweeps/watch.py STORE                 the sweep that was active last, until it is finished
python sweeps/watch.py STORE --once          one look
python sweeps/watch.py STORE --serve 8300    as a page on this machine, until you press Ctrl-C
python sweeps/watch.py 's3://bucket/prefix?region=eu-west-1'
"""

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live

from mtl.command_line import Parser, answer, run
from mtl.errors import StoreError, UsageError
from mtl.store import Store, check_sweep_name
from sweeps.status.watcher import UNREADABLE, View, Watcher

print_now = functools.partial(print, flush=True)
SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_LINES = 10.0
"""Between two looks where there is no terminal, or the store is on object storage."""


def last_written(store: Store, name: str) -> str:
    """Return when a sweep's status was last written, or its plan, in UTC; "" where neither says."""
    try:
        return str(store.read_json(store.sweep_key(name, "status.json"))["updated"])
    except UNREADABLE:
        pass
    try:
        return str(store.read_json(store.sweep_key(name, "plan.json"))["revisions"][-1]["started"])
    except (*UNREADABLE, IndexError):
        return ""


def watch_live(see: Callable[[], View], seconds: float, console: Console) -> View:
    """Draw what `see` gives, again and again, until the sweep is finished; return the last look."""
    view = see()
    with Live(view.drawing(), console=console, auto_refresh=False) as live:
        while not view.is_finished:
            time.sleep(seconds)
            view = see()
            live.update(view.drawing(), refresh=True)
    return view


def watch_lines(see: Callable[[], View], seconds: float, stream: TextIO) -> View:
    """Print what `see` gives whenever something has happened, until the sweep is finished.

    Returns the last look.
    """
    shown: list[str] = []
    while True:
        view = see()
        headline, *rest = view.lines()
        # The age alone is no news, nor that less time is left; that the driver seems gone is.
        rest = [line.partition(", about ")[0] for line in rest]
        news = [view.state, headline.partition(" old")[2], *rest]
        if news != shown:
            shown = news
            print("\n".join(view.lines()), file=stream, flush=True)
        if view.is_finished:
            return view
        time.sleep(seconds)


def _watch(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="watch.py", description=__doc__)
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--name", help="of the sweep; the one that was active last by default")
    parser.add_argument("--once", action="store_true", help="one look, then end")
    parser.add_argument(
        "--serve",
        metavar="[HOST:]PORT",
        help="a page that shows it, on this machine alone unless a host is given; 0: a free port",
    )
    parser.add_argument("--interval", type=float, metavar="S", help="seconds between two looks")
    given = parser.parse_args(argv)
    if given.serve is not None and (given.once or given.interval is not None):
        raise UsageError("Expected --serve without --once and --interval, got both.")
    if given.interval is not None and not 0.1 <= given.interval <= 86_400:
        raise UsageError(f"Expected --interval from 0.1 to 86400 seconds, got {given.interval:g}.")
    if given.name is not None:
        check_sweep_name(given.name)
    store = Store(given.store, create=False)
    names = store.sweep_names()
    if not names:
        raise StoreError(f"Expected a sweep in {store.place('')}, got none. Start one first.")
    if given.name is not None and given.name not in names:
        raise UsageError(
            f"Expected one of the sweeps {', '.join(names)} after --name, got {given.name!r}."
        )
    name = given.name or max(names, key=lambda name: last_written(store, name))
    try:
        if given.serve is not None:
            # Only here: a look in a terminal needs none of what serves a page.
            from sweeps.serve import LivePage, Server, address, serve

            page = Server(LivePage(store, name))
            asyncio.run(serve(page, *address(given.serve), print_now))
        see = Watcher(store, name).see
        if given.once:
            view = see()
            print("\n".join(view.lines()))
        elif sys.stdout.isatty():
            seconds = SECONDS_BETWEEN_LOOKS if store.is_local else SECONDS_BETWEEN_LINES
            view = watch_live(see, given.interval or seconds, Console())
        else:
            view = watch_lines(see, given.interval or SECONDS_BETWEEN_LINES, sys.stdout)
        answer(view.to_json())
    except KeyboardInterrupt:
        pass  # this is how one stops watching
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Watch a sweep; return the exit status."""
    return run("watch", lambda: _watch(argv))


if __name__ == "__main__":
    sys.exit(main())
