"""How a sweep goes, from any machine that sees its store; reads files and writes nothing.

python sweeps/watch.py STORE                 the sweep that was active last, until it is finished
python sweeps/watch.py STORE --once          one look
python sweeps/watch.py 's3://bucket/prefix?region=eu-west-1'
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from analysis.compute.fronts import (
    hypervolume,
    means_of,
    operating_points,
    reference_point,
    unusable,
)
from analysis.load.axes import place_words
from analysis.load.groups import groups_of_stores
from analysis.load.plans import Asked
from analysis.load.runs import VALIDATION, Loaded, load_stores
from mtl.command_line import Parser, run
from mtl.errors import StoreError, StoreUnreachableError, UsageError, printable
from mtl.store import Store, check_sweep_name
from mtl.store.plan_file import read_plan
from mtl.store.states import read_specs
from sweeps.status.display import MAX_ROWS, drawing, running_rows, summary
from sweeps.status.journal import SWEEP_SCHEMA
from sweeps.status.progress import RunningRun, Snapshot
from sweeps.text import counted, duration

MIN_POINTS = 2
"""Operating points of a method; one is no front."""
SECONDS_UNTIL_GONE = 60.0
"""A driver writes its status every two seconds, on object storage every ten; one that is silent
for so long seems gone."""
SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_LINES = 10.0
"""Between two looks where there is no terminal, or the store is on object storage."""
ACTIVE_STATES = ("preparing", "running")
NEWS_SHARE = 0.02
"""Of the runs that were done, by which they must be more until all are read again for the fronts of
an active sweep; below fifty runs each counts."""
UNREADABLE = (StoreError, OSError, KeyError, TypeError, ValueError, OverflowError)
"""What damaged files raise, whoever wrote them."""


@dataclass(frozen=True)
class View:
    """What one look at a sweep gave."""

    state: str
    headline: str
    """What changes with every second: state and age."""
    snapshot: Snapshot | None = None
    """None where no status can be read."""
    fronts: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Return whether nothing more is to come."""
        return self.state == "finished"

    def lines(self) -> list[str]:
        """Return the look as text."""
        if self.snapshot is None:
            return [self.headline, *self.fronts]
        rows = ["  ".join(cells).rstrip() for cells in running_rows(self.snapshot)]
        return [self.headline, summary(self.snapshot), *rows, *self.fronts]

    def drawing(self) -> RenderableType:
        """Return the look as a terminal shows it."""
        parts: list[RenderableType] = [Text(self.headline, style="bold")]
        parts += [drawing(self.snapshot)] if self.snapshot else []
        return Group(*parts, *map(Text, self.fronts))


class Watcher:
    """Looks at a sweep again and again; a connection that is lost between two looks is waited for.

    Args:
        store: opened for reading.
        name: of the sweep.
        clock: the time, for the age of the status.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._name, self._clock = store, name, clock
        self._seen: View | None = None
        self._fronts: tuple[Asked | None, int, tuple[str, ...]] = (None, 0, ())
        """What was planned, and how many were done, when the lines on the fronts were computed, and
        these."""

    def see(self) -> View:
        """Return how the sweep stands, or stood when object storage last answered.

        Raises:
            StoreUnreachableError: if it has not answered yet.
        """
        try:
            self._seen = self._look()
        except StoreUnreachableError as error:
            if self._seen is None:
                raise
            headline = f"{self._name}: as it was when last seen. {printable(error, 600)}"
            self._seen = replace(self._seen, state="unreachable", headline=headline)
        return self._seen

    def _look(self) -> View:
        """Return how the sweep stands; of damaged files, that they are."""
        name, store = self._name, self._store
        try:
            plan = read_plan(store, name)
        except UNREADABLE as error:
            return View("unreadable", f"{name}: plan.json cannot be read: {printable(error)}")
        run_ids = tuple(run_id for run_id in plan.run_ids if _is_run_id(store, run_id))
        snapshot = None
        try:
            held = store.read_json(store.sweep_key(name, "status.json"))
            written = datetime.fromisoformat(held["updated"])
            # 0 where its writer's clock is ahead.
            age = max(0.0, (self._clock() - written).total_seconds())
            snapshot = _snapshot(store, held, age)
            state = printable(held["state"], 20)
            note = f"{state}, status {duration(age)} old"
            if state in ACTIVE_STATES and age > SECONDS_UNTIL_GONE:
                note += "; its driver seems gone. What is done is kept; the same command continues"
        except FileNotFoundError:
            state, note = "planned", f"{counted(len(run_ids), 'run')} planned, none begun"
        except UNREADABLE as error:
            state, note = "unreadable", f"status.json cannot be read: {printable(error)}"
        asked = Asked(run_ids, plan.tuned, searched=plan.is_search)
        done = 0 if snapshot is None else snapshot.done
        known, done_then, _ = self._fronts
        is_little = state in ACTIVE_STATES and abs(done - done_then) <= NEWS_SHARE * done_then
        if snapshot is None or known != asked or (done != done_then and not is_little):
            self._fronts = (asked, done, tuple(front_lines(store, asked)))
        return View(state, f"{name}: {note}", snapshot, self._fronts[2])


def _is_run_id(store: Store, name: str) -> bool:
    try:
        store.run_key(name)
    except StoreError:
        return False
    return True


def _snapshot(store: Store, status: Mapping[str, Any], age: float) -> Snapshot:
    """Return what the content of a status.json says, `age` seconds after it was written.

    Raises:
        KeyError, TypeError, ValueError: if it is no status.
    """
    if status["schema"] != SWEEP_SCHEMA or not isinstance(status["state"], str):
        raise ValueError(f"Expected a status of schema {SWEEP_SCHEMA}, got another.")
    left = status["expected_seconds_left"]
    if left is not None:
        low, high = (max(0.0, float(seconds) - age) for seconds in left)
    running = {run["run_id"]: run for run in status["running"] if _is_run_id(store, run["run_id"])}
    shown = list(running)[:MAX_ROWS]
    rows = tuple(
        RunningRun(
            run_id,
            spec,
            epoch=_count(running[run_id]["epoch"]),
            losses=[_loss(value) for value in running[run_id].get("losses") or ()],
        )
        for run_id, spec in read_specs([store], shown).items()
    )
    return Snapshot(
        total=_count(status["total"]),
        done=_count(status["done"]),
        failed=_count(status["failed"]),
        paused=_count(status.get("paused", 0)),  # earlier releases did not count them
        waiting=_count(status["waiting"]),
        running=rows,
        seconds_left=None if left is None else (low, high),
        num_hidden=len(running) - len(rows),
        undecided=_count(status.get("undecided", 0)),
    )


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 10**9:
        raise ValueError(f"Expected a count, got {printable(value)}.")
    return value


def _loss(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def front_lines(store: Store, asked: Asked) -> list[str]:
    """Return a line for each set of runs that may be compared: the hypervolumes of its methods."""
    lines = []
    try:
        store.run_ids()
    except OSError as error:  # of single runs, those that cannot be read count as damaged
        return [f"Hypervolume: the runs cannot be read ({error.strerror or error})."]
    for group in groups_of_stores([store], asked) if asked.run_ids else []:
        try:
            loaded = load_stores([store], group.run_ids, group.specs)
            if not loaded.runs.empty:
                lines.append(_front_line(group.title if group.differences else "", loaded))
        except StoreUnreachableError:
            raise
        except Exception as error:  # whatever an untrusted store's values make of it
            lines.append(f"Hypervolume: cannot be computed ({printable(error)}).")
    return lines or ["Hypervolume: no result can be read yet."]


def _front_line(title: str, loaded: Loaded) -> str:
    chosen = _on_validation(loaded)
    axes, _ = chosen.axes()
    runs = chosen.runs[~chosen.runs["run_id"].isin(list(unusable(chosen.runs, axes)))]
    reference = reference_point(runs, axes)
    where = f"Hypervolume on validation{f' [{title}]' if title else ''}"
    if reference is None:
        return f"{where}: no run has a value of {' and '.join(a.name for a in axes)} yet."
    points = operating_points(runs, axes)
    parts = []
    for arm in dict.fromkeys(chosen.runs["arm"]):
        means = means_of(points, arm)
        num_points = counted(len(means), "point")
        if len(means) < MIN_POINTS:
            parts.append(f"{arm}: {num_points}, too few")
        else:
            parts.append(f"{arm} {hypervolume(means, reference, axes):.4g} ({num_points})")
    place = place_words(axes, reference.point)
    return f"{where}: {'; '.join(parts)}. Reference: {place}. {reference.rule}"


def _on_validation(loaded: Loaded) -> Loaded:
    """Return runs as on the validation split, under the names of the test split's columns."""
    prefix = f"{VALIDATION}_"
    test = [name for name in loaded.runs if f"{prefix}{name}" in loaded.runs]
    runs = loaded.runs.drop(columns=test).rename(columns=lambda name: name.removeprefix(prefix))
    return replace(loaded, runs=runs)


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


def watch_live(see: Callable[[], View], seconds: float, console: Console) -> None:
    """Draw what `see` gives, again and again, until the sweep is finished."""
    view = see()
    with Live(view.drawing(), console=console, auto_refresh=False) as live:
        while not view.is_finished:
            time.sleep(seconds)
            view = see()
            live.update(view.drawing(), refresh=True)


def watch_lines(see: Callable[[], View], seconds: float, stream: TextIO) -> None:
    """Print what `see` gives whenever something has happened, until the sweep is finished."""
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
            return
        time.sleep(seconds)


def _watch(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="watch.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--name", help="of the sweep; the one that was active last by default")
    parser.add_argument("--once", action="store_true", help="one look, then end")
    parser.add_argument("--interval", type=float, metavar="S", help="seconds between two looks")
    given = parser.parse_args(argv)
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
    see = Watcher(store, name).see
    try:
        if given.once:
            print("\n".join(see().lines()))
        elif sys.stdout.isatty():
            seconds = SECONDS_BETWEEN_LOOKS if store.is_local else SECONDS_BETWEEN_LINES
            watch_live(see, given.interval or seconds, Console())
        else:
            watch_lines(see, given.interval or SECONDS_BETWEEN_LINES, sys.stdout)
    except KeyboardInterrupt:
        pass  # this is how one stops watching
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Watch a sweep; return the exit status."""
    return run("watch", lambda: _watch(argv))


if __name__ == "__main__":
    sys.exit(main())
