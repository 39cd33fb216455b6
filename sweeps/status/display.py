"""How progress looks: a live table on a terminal, now and then a line elsewhere."""

import contextlib
import math
import sys
import time
from collections.abc import Callable
from typing import IO, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.status.progress import Snapshot
from sweeps.text import counted, duration_range, priorities_text

SECONDS_BETWEEN_LINES = 10.0
MAX_ROWS = 16
"""Runs shown in the live table; more are counted."""


def summary(snapshot: Snapshot) -> str:
    """Return one line: `7 of 20 done, 2 running, 1 failed, about 2 min to 3 min left`."""
    most = "at most " if snapshot.undecided else ""
    parts = [f"{snapshot.done} of {most}{snapshot.total} done", f"{snapshot.num_running} running"]
    if snapshot.paused:
        parts.append(f"{snapshot.paused} paused")
    if snapshot.failed:
        parts.append(f"{snapshot.failed} failed")
    if not snapshot.is_over and snapshot.seconds_left is not None:
        parts.append(f"about {duration_range(snapshot.seconds_left)} left")
    return ", ".join(parts)


class Display(contextlib.AbstractContextManager["Display"]):
    """Shows how a sweep goes: lines, at most one in ten seconds between those that `say` prints."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._last_line = -math.inf
        self._last_text = ""

    def __exit__(self, *_: object) -> None:
        """Leave the output tidy."""

    def say(self, text: str) -> None:
        """Show a line that stays."""
        print(text, file=self._stream, flush=True)

    def preparing(self, done: int, total: int) -> None:
        """Show how many images of the data set are prepared."""
        self._sometimes(f"Preparing data: {done} of {total} images", now=done == total)

    def show(self, snapshot: Snapshot, *, now: bool = False) -> None:
        """Show where the sweep stands; `now` even if little time has passed."""
        self._sometimes(summary(snapshot), now)

    def _sometimes(self, text: str, now: bool) -> None:
        is_due = self._clock() - self._last_line >= SECONDS_BETWEEN_LINES
        if (now or is_due) and text != self._last_text:
            self._last_line, self._last_text = self._clock(), text
            self.say(text)


class LiveDisplay(Display):
    """A table of the running runs over a bar of the whole sweep, redrawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console.file)
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the table and give the terminal back."""
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def preparing(self, done: int, total: int) -> None:
        """Draw the bar of the data's preparation."""
        text = Text(f"Preparing data: {done} of {total} images")
        self._live.update(Group(text, _bar(done, total)))

    def show(self, snapshot: Snapshot, *, now: bool = False) -> None:
        """Draw where the sweep stands."""
        self._live.update(drawing(snapshot), refresh=now)


def _bar(done: float, total: float) -> RenderableType:
    return ProgressBar(total=max(total, 1), completed=done, width=60)


def running_rows(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """Return the cells of the running runs that are shown: run, method, ..., epoch, losses."""
    return [
        (
            run.run_id[:8],
            run.spec.method,
            priorities_text(run.spec),
            str(run.spec.seed),
            f"{run.epoch} of {run.spec.epochs}" if run.spec.epochs else str(run.epoch),
            "  ".join(
                f"{task} {'absent' if loss is None else f'{loss:.3g}'}"
                for task, loss in zip(run.spec.tasks, run.losses or (), strict=False)
            ),
        )
        for run in snapshot.running[:MAX_ROWS]
    ]


def drawing(snapshot: Snapshot) -> RenderableType:
    """Return where a sweep stands as a terminal shows it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "method", "priorities", "seed", "epoch", "losses"):
        table.add_column(column)
    for row in running_rows(snapshot):
        table.add_row(*row)
    parts: list[RenderableType] = [table] if snapshot.running else [Text("starting", style="dim")]
    hidden = snapshot.num_running - min(len(snapshot.running), MAX_ROWS)
    if hidden > 0:
        parts.append(Text(f"and {counted(hidden, 'more run')}", style="dim"))
    finished = (
        snapshot.done
        + snapshot.paused
        + sum(run.epoch / run.spec.epochs for run in snapshot.running if run.spec.epochs)
    )
    return Group(*parts, _bar(finished, snapshot.total), Text(summary(snapshot)))


def make_display(stream: IO[str] | None = None) -> Display:
    """Return the display that suits `stream` (standard output by default)."""
    stream = stream or sys.stdout
    return LiveDisplay(Console(file=stream)) if stream.isatty() else Display(stream)
