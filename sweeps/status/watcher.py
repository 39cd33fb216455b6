"""One look after the other at a sweep, from any process that sees its store; writes nothing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
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
from analysis.load.runs import Loaded, load_stores, on_validation
from mtl.errors import StoreError, StoreUnreachableError, printable
from mtl.store import Store
from mtl.store.plan_file import read_plan
from mtl.store.states import read_specs
from sweeps.status.display import MAX_ROWS, drawing, running_rows, summary
from sweeps.status.journal import SWEEP_SCHEMA
from sweeps.status.progress import RunningRun, Snapshot
from sweeps.text import counted, duration

COUNTS = ("total", "done", "failed", "paused", "waiting")
"""Of runs, in a snapshot."""
MIN_POINTS = 2
"""Operating points of a method; one is no front."""
SECONDS_UNTIL_GONE = 60.0
"""A driver writes its status every two seconds, on object storage every ten; one that is silent
for so long seems gone."""
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
    asked: Asked = field(default_factory=lambda: Asked(()))
    """The runs that a report will be on; of a search that is not over, all of them."""

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

    def to_json(self) -> dict[str, Any]:
        """Return the look as plain values: state, counts, seconds left, and what runs."""
        found: dict[str, Any] = {"state": self.state, "headline": self.headline}
        held = self.snapshot
        if held is None:
            return found
        return {
            **found,
            "summary": summary(held),
            **{name: getattr(held, name) for name in COUNTS},
            "running": held.num_running,
            "seconds_left": held.seconds_left,
            "runs": [
                {"run_id": run.run_id, "epoch": run.epoch, "losses": run.losses}
                for run in held.running
            ],
        }

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
        with_fronts: whether the runs are read for the hypervolumes so far.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        with_fronts: bool = True,
    ) -> None:
        self._store, self._name, self._clock = store, name, clock
        self._with_fronts = with_fronts
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
        except FileNotFoundError:
            return View("unreadable", f"{name}: the store holds no such sweep any more")
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
                state, snapshot = "gone", _interrupted(snapshot)
        except FileNotFoundError:
            state, note = "planned", f"{counted(len(run_ids), 'run')} planned, none begun"
        except UNREADABLE as error:
            state, note = "unreadable", f"status.json cannot be read: {printable(error)}"
        asked = Asked(run_ids, plan.tuned, searched=plan.is_search)
        done = 0 if snapshot is None else snapshot.done
        known, done_then, _ = self._fronts
        is_little = state in ACTIVE_STATES and abs(done - done_then) <= NEWS_SHARE * done_then
        is_new = snapshot is None or known != asked or (done != done_then and not is_little)
        if self._with_fronts and is_new:
            self._fronts = (asked, done, tuple(front_lines(store, asked)))
        reported = tuple(i for i in plan.reported if i in {*run_ids})
        on_page = Asked(reported or run_ids, plan.tuned, plan.primary, plan.is_search)
        return View(state, f"{name}: {note}", snapshot, self._fronts[2], on_page)


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


def _interrupted(snapshot: Snapshot) -> Snapshot:
    """Return where a sweep stands that nobody continues: what was running waits."""
    waiting = snapshot.waiting + snapshot.num_running
    return replace(snapshot, waiting=waiting, running=(), num_hidden=0, seconds_left=None)


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
    chosen = on_validation(loaded)
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
