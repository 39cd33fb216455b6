"""How a sweep goes, from any machine that sees its store; reads files and writes nothing.

python sweeps/watch.py STORE                 the sweep that was active last, until it is finished
python sweeps/watch.py STORE --once          one look
python sweeps/watch.py 's3://bucket/prefix?region=eu-west-1'
"""

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.compute.fronts import (
    hypervolume,
    means_of,
    operating_points,
    reference_point,
    unusable,
)
from analysis.load.axes import Axis, choose_axes, metric_column
from analysis.load.groups import comparable_groups
from analysis.load.runs import arm_names
from mtl.command_line import SentenceParser, printable, status_of
from mtl.errors import StoreError, StoreUnreachableError, UsageError
from mtl.records import Result
from mtl.spec import RunSpec
from mtl.store import Store, check_sweep_name
from mtl.store.__main__ import open_anywhere
from mtl.store.states import read_plan, read_result, read_spec
from mtl.store.untrusted import (
    AbsentError,
    ObjectPlace,
    Place,
    UnreadableError,
    entries_of,
    is_number,
    kind_of,
    last_line,
    parse_json,
    place_of,
    read_object,
)
from mtl.store.verify import check_status
from sweeps.text import counted, duration, duration_range, priorities_text

SPLIT = "validation"
FEWEST_POINTS = 2
"""Operating points of a method; one is no front."""


class HypervolumeSoFar:
    """Reads each finished run, and the spec of each run, once, however often it is asked.

    Args:
        store: opened for reading.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._specs: dict[str, RunSpec] = {}
        self._done: dict[str, tuple[RunSpec, Result, dict[str, float]]] = {}
        self._lines: list[str] = []
        self._asked: set[str] = set()
        self._running: set[str] = set()
        self._num_done = 0

    def lines(
        self,
        run_ids: Iterable[str],
        tuned: Sequence[str] = (),
        *,
        running: Collection[str] = (),
        num_done: int = 0,
    ) -> list[str]:
        """Return a line for each set of runs that may be compared; unreadable runs are left out.

        Args:
            run_ids: that the sweep has planned so far.
            tuned: dotted fields in which methods may differ, see `mtl.store.plan_file.PlanFile`.
            running: those that its status says are under way.
            num_done: how many of them its status says are done. On object storage, where each
                question is a request, this and `running` tell which runs are worth one.
        """
        asked = list(run_ids)
        num_before = len(self._done)
        if self._store.is_local:
            self._read_all(asked)
        else:
            self._read_ended(asked, set(running), num_done)
        if len(self._done) != num_before or not self._lines:
            done = {run_id: self._done[run_id] for run_id in asked if run_id in self._done}
            groups = comparable_groups({i: held[0] for i, held in done.items()}, tuned=tuned)
            self._lines = [
                _line(label, {run_id: done[run_id] for run_id in ids})
                for label, ids in groups.items()
            ] or ["Hypervolume: no run is done yet."]
        return self._lines

    def spec(self, run_id: str) -> RunSpec | None:
        """Return the spec of a run, None where it cannot be read."""
        if run_id not in self._specs:
            try:
                self._specs[run_id] = read_spec(self._folder(run_id))
            except (UnreadableError, OSError):
                return None
        return self._specs[run_id]

    def _folder(self, run_id: str) -> Place:
        return place_of(self._store, self._store.run_key(run_id))

    def _read_ended(self, asked: Sequence[str], running: set[str], num_done: int) -> None:
        """Read the runs that are new or no longer under way; if more are done, all the others."""
        ended = {i for i in asked if i not in self._asked or i in self._running - running}
        self._read_all(ended)
        if len(ended & self._done.keys()) < num_done - self._num_done:
            self._read_all(i for i in asked if i not in ended)
        self._asked.update(asked)
        self._running, self._num_done = running, num_done

    def _read_all(self, run_ids: Iterable[str]) -> None:
        self._store.for_each(self._read, [i for i in run_ids if i not in self._done])

    def _read(self, run_id: str) -> None:
        """Read a run if it is done."""
        folder = self._folder(run_id)
        try:
            result = read_result(folder)
        except (UnreadableError, OSError):
            return
        spec = None if result is None else self.spec(run_id)
        if result is not None and spec is not None:
            self._done[run_id] = (spec, result, _prior(folder))


def _prior(folder: Place) -> dict[str, float]:
    try:
        manifest = read_object(folder / "manifest.json")
    except (UnreadableError, OSError):
        return {}
    return _columns(manifest.get("per_pixel_prior"))


def _columns(metrics: Any) -> dict[str, float]:
    """Return the finite validation metrics by column, whatever a stranger's file holds."""
    by_task = metrics.get(SPLIT) if isinstance(metrics, Mapping) else None
    found = {}
    for task, values in (by_task if isinstance(by_task, Mapping) else {}).items():
        for name, value in (values if isinstance(values, Mapping) else {}).items():
            if is_number(value):
                found[metric_column(task, name)] = float(value)
    return found


def _line(label: str, done: Mapping[str, tuple[RunSpec, Result, dict[str, float]]]) -> str:
    tasks = next(iter(done.values()))[0].tasks
    axes = choose_axes(tasks)
    table = _table(done)
    bad = unusable(table, axes)
    runs = table[~table["run_id"].isin(list(bad))]
    reference = reference_point(runs, axes, _shared_prior([held[2] for held in done.values()]))
    where = f"Hypervolume on validation{f' [{label}]' if label else ''}"
    if reference is None:
        return f"{where}: no run has a value of {' and '.join(a.column for a in axes)} yet."
    points = operating_points(runs, axes)
    parts = []
    for arm in dict.fromkeys(table["arm"]):
        means = means_of(points, arm)
        num_points = counted(len(means), "point")
        if len(means) < FEWEST_POINTS:
            parts.append(f"{arm}: {num_points}, too few")
        else:
            parts.append(f"{arm} {hypervolume(means, reference, axes):.4g} ({num_points})")
    return f"{where}: {'; '.join(parts)}. {_reference_text(reference.point, axes)} {reference.rule}"


def _reference_text(point: Iterable[float], axes: Iterable[Axis]) -> str:
    values = ", ".join(
        f"{axis.column} {axis.shown(value)} {axis.unit}"
        for axis, value in zip(axes, point, strict=True)
    )
    return f"Reference: {values}."


def _table(done: Mapping[str, tuple[RunSpec, Result, dict[str, float]]]) -> pd.DataFrame:
    """Return one row a run, with the columns that `analysis.compute.fronts` asks for."""
    arms = arm_names({i: (spec.method, spec.method_settings) for i, (spec, _, _) in done.items()})
    rows = []
    for run_id, (spec, result, _) in done.items():
        priorities = spec.priorities or (None,) * len(spec.tasks)
        row: dict[str, Any] = {"run_id": run_id, "arm": arms[run_id], "seed": spec.seed}
        row |= {f"priority_{t}": p for t, p in zip(spec.tasks, priorities, strict=True)}
        rows.append(row | _columns(result.selected_metrics))
    return pd.DataFrame(rows)


def _shared_prior(priors: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the per-pixel prior where all runs that know it agree; it belongs to the data."""
    held: dict[str, set[float]] = {}
    for prior in priors:
        for name, value in prior.items():
            held.setdefault(name, set()).add(value)
    return {name: next(iter(values)) for name, values in held.items() if len(values) == 1}


SECONDS_UNTIL_GONE = 60.0
"""A driver writes its status every two seconds, on object storage every ten; one that is silent
for so long seems gone."""
LIVE_SECONDS = 2.0
LINES_SECONDS = 10.0
REMOTE_SECONDS = 10.0
"""Between two looks, on a terminal, on object storage and elsewhere."""
MOST_ROWS = 20
ACTIVE_STATES = ("preparing", "running")
TELLING_FILES = ("status.json", "events.jsonl", "plan.json")
"""Of a sweep: the newest of them tells when something last happened."""


@dataclass(frozen=True)
class Row:
    """A run under way."""

    run_id: str
    spec: RunSpec | None
    """None where it cannot be read."""
    epoch: int
    losses: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """Return what is shown of it."""
        spec = self.spec
        if spec is None:
            return (self.run_id, "", "", "", str(self.epoch), "")
        pairs = zip(spec.tasks, self.losses, strict=False)
        return (
            self.run_id,
            spec.method,
            priorities_text(spec),
            str(spec.seed),
            f"{self.epoch} of {spec.epochs}",
            "  ".join(f"{task} {loss}" for task, loss in pairs),
        )


@dataclass(frozen=True)
class View:
    """What one look at a sweep gave."""

    name: str
    state: str
    headline: str
    """What changes with every second: state and age."""
    counts: str = ""
    rows: tuple[Row, ...] = ()
    """Of the runs under way, the first few."""
    num_hidden: int = 0
    """The others."""
    fronts: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Return whether nothing more is to come."""
        return self.state == "finished"

    @property
    def body(self) -> str:
        """Return all that changes when something has happened."""
        rows = ["  ".join(row.cells()).rstrip() for row in self.rows]
        return "\n".join([self.counts, *rows, *self.below_rows])

    @property
    def below_rows(self) -> tuple[str, ...]:
        """Return the lines below the runs under way."""
        hidden = (f"and {counted(self.num_hidden, 'more run')}",) if self.num_hidden else ()
        return (*hidden, *self.fronts)


def newest_sweep(store: Store) -> str:
    """Return the sweep whose files were written last.

    Raises:
        StoreError: if there is none.
    """
    found = [(seconds, name) for name, seconds in sweep_times(store).items()]
    if not found:
        raise StoreError(f"Expected a sweep in {store.place('')}, got none. Start one first.")
    return max(found)[1]


def sweep_times(store: Store) -> dict[str, float]:
    """Return when each sweep of a store was last written to, in seconds since 1970.

    Links and files are no sweeps, nor is what has a name that no sweep can have.
    """
    place = place_of(store, "sweeps")
    if isinstance(place, ObjectPlace):
        found: dict[str, float] = {}
        for held in place.storage.listed(place.key):
            name, _, file = held.name.partition("/")
            if file.partition("/")[0] in TELLING_FILES and _is_sweep_name(name):
                found[name] = max(held.written, found.get(name, 0.0))
        return found
    return {
        path.name: _last_written(path)
        for path in entries_of(place)
        if kind_of(path) == "folder" and _is_sweep_name(path.name)
    }


def _is_sweep_name(name: str) -> bool:
    try:
        check_sweep_name(name)
    except ValueError:
        return False
    return True


def _last_written(folder: Path) -> float:
    files = [folder / name for name in TELLING_FILES]
    return max((f.lstat().st_mtime for f in files if kind_of(f) == "file"), default=0.0)


def look(store: Store, name: str, fronts: HypervolumeSoFar, now: datetime) -> View:
    """Return how a sweep stands; damaged files are said to be so.

    Args:
        store: opened for reading.
        name: of the sweep.
        fronts: of the same store.
        now: the time, for the age of the status.

    Raises:
        StoreUnreachableError: if object storage refuses or does not answer.
    """
    folder = place_of(store, store.sweep_key(name))
    try:
        plan = read_plan(folder)
        planned = [run_id for run_id in plan.run_ids if _is_run_id(store, run_id)]
    except (UnreadableError, OSError) as error:
        return View(name, "unreadable", f"{name}: plan.json {printable(error)}")
    try:
        status = check_status(folder / "status.json")
        age = _age(status["updated"], now)
    except AbsentError:
        headline = f"{name}: {counted(len(planned), 'run')} planned, none begun"
        return View(name, "planned", headline, fronts=tuple(fronts.lines(planned, plan.tuned)))
    except (UnreadableError, OSError) as error:
        headline = f"{name}: status.json {printable(error)}"
        return View(name, "unreadable", headline, fronts=tuple(fronts.lines(planned, plan.tuned)))
    running = {run["run_id"]: run for run in status["running"] if _is_run_id(store, run["run_id"])}
    lines = fronts.lines(planned, plan.tuned, running=running.keys(), num_done=status["done"])
    state = printable(status["state"], 20)
    is_gone = state in ACTIVE_STATES and age > SECONDS_UNTIL_GONE
    headline = f"{name}: {state}, status {duration(age)} old"
    if is_gone:
        headline += "; its driver seems gone. What is done is kept, and the same command continues"
    rows = store.for_each(
        lambda run_id: _row(store, running[run_id], fronts), list(running)[:MOST_ROWS]
    )
    return View(
        name=name,
        state=state,
        headline=headline,
        counts=_counts(status, age, is_gone),
        rows=tuple(rows),
        num_hidden=len(running) - len(rows),
        fronts=tuple(lines),
    )


def _is_run_id(store: Store, name: str) -> bool:
    try:
        store.run_key(name)
    except StoreError:
        return False
    return True


def _age(written: str, now: datetime) -> float:
    """Return the seconds since a time as a status holds it; 0 where the writer's clock is ahead."""
    try:
        time_then = datetime.fromisoformat(written)
        if time_then.tzinfo is None:
            time_then = time_then.replace(tzinfo=UTC)
        return max(0.0, (now - time_then).total_seconds())
    except (ValueError, OverflowError) as error:
        raise UnreadableError(f"holds no time but {written!r}") from error


def _counts(status: dict[str, Any], age: float, is_gone: bool) -> str:
    most = "at most " if status.get("undecided") else ""  # of a search that is not over
    parts = [
        f"{status['done']} of {most}{status['total']} done",
        f"{len(status['running'])} {'were ' if is_gone else ''}running",
        f"{status['failed']} failed",
        f"{status['waiting']} waiting",
    ]
    paused = status.get("paused")  # earlier releases did not count them
    if is_number(paused) and paused:
        parts.append(f"{paused} paused")
    if status["state"] in ACTIVE_STATES and not is_gone:
        low, high = (
            max(0.0, (seconds or 0.0) - age) for seconds in status["expected_seconds_left"]
        )
        parts.append(f"about {duration_range((low, high))} left")
    return ", ".join(parts)


def _row(store: Store, run: dict[str, Any], fronts: HypervolumeSoFar) -> Row:
    """Return a run under way, as its own files tell it: they are newer than the status."""
    run_id, epoch, losses = run["run_id"], run["epoch"], run.get("losses")
    try:
        newest = last_line(place_of(store, store.run_key(run_id, "epochs.jsonl")), epoch)
        if newest is not None:
            record = parse_json(newest[1])
            epoch, losses = newest[0], record.get("losses") if isinstance(record, dict) else None
    except (UnreadableError, OSError):
        pass  # what the status says stands
    values = losses if isinstance(losses, list) else []
    return Row(run_id, fronts.spec(run_id), epoch, tuple(map(_loss_text, values)))


def _loss_text(value: Any) -> str:
    return f"{value:.3g}" if is_number(value) else "absent"


def drawing(view: View) -> RenderableType:
    """Return a look as a terminal shows it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "method", "priorities", "seed", "epoch", "losses"):
        table.add_column(column)
    for row in view.rows:
        table.add_row(*map(Text, row.cells()))
    parts: list[RenderableType] = [Text(view.headline, style="bold"), Text(view.counts)]
    parts += [table] if view.rows else []
    return Group(*parts, *map(Text, view.below_rows))


class Watcher:
    """Looks at a sweep again and again; a connection that is lost between two looks is waited for.

    Args:
        store: opened for reading.
        name: of the sweep.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._fronts = HypervolumeSoFar(store)
        self._seen: View | None = None

    def see(self) -> View:
        """Return how the sweep stands, or stood when object storage last answered.

        Raises:
            StoreUnreachableError: if it has not answered yet.
        """
        try:
            self._seen = look(self._store, self._name, self._fronts, datetime.now(UTC))
        except StoreUnreachableError as error:
            if self._seen is None:
                raise
            headline = f"{self._name}: as it was when last seen. {printable(error, 600)}"
            self._seen = replace(self._seen, state="unreachable", headline=headline)
        return self._seen


def watch_live(see: Callable[[], View], seconds: float, console: Console) -> None:
    """Draw what `see` gives, again and again, until the sweep is finished."""
    view = see()
    with Live(drawing(view), console=console, auto_refresh=False) as live:
        while not view.is_finished:
            time.sleep(seconds)
            view = see()
            live.update(drawing(view), refresh=True)


def watch_lines(see: Callable[[], View], seconds: float, stream: TextIO) -> None:
    """Print what `see` gives whenever something has happened, until the sweep is finished."""
    shown = ("", "", "")
    while True:
        view = see()
        # The age alone is no news; that the driver seems gone is.
        news = (view.state, view.body, view.headline.partition(" old")[2])
        if news != shown:
            shown = news
            print(f"{view.headline}\n{view.body}", file=stream, flush=True)
        if view.is_finished:
            return
        time.sleep(seconds)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = SentenceParser(
        prog="watch.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--name", help="of the sweep; the one that was active last by default")
    parser.add_argument("--once", action="store_true", help="one look, then end")
    parser.add_argument("--interval", type=float, metavar="S", help="seconds between two looks")
    return parser


def _watch(argv: Sequence[str] | None) -> int:
    given = make_parser().parse_args(argv)
    if given.interval is not None and not 0.1 <= given.interval <= 86_400:
        raise UsageError(f"Expected --interval from 0.1 to 86400 seconds, got {given.interval:g}.")
    store = open_anywhere(given.store)
    name = newest_sweep(store) if given.name is None else check_sweep_name(given.name)
    if given.name is not None and name not in (known := sweep_times(store)):
        raise UsageError(
            f"Expected one of the sweeps {', '.join(known) or '(there is none)'} after --name, "
            f"got {name!r}."
        )
    see = Watcher(store, name).see
    live_seconds = LIVE_SECONDS if store.is_local else REMOTE_SECONDS
    if given.once:
        view = see()
        print(f"{view.headline}\n{view.body}")
    elif sys.stdout.isatty():
        watch_live(see, given.interval or live_seconds, Console())
    else:
        watch_lines(see, given.interval or LINES_SECONDS, sys.stdout)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Watch a sweep; return the exit status."""
    try:
        return status_of("watch", lambda: _watch(argv))
    except KeyboardInterrupt:
        return 0  # this is how one stops watching


if __name__ == "__main__":
    sys.exit(main())
