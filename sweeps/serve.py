"""The page of a sweep while it runs: `python sweeps/watch.py STORE --serve PORT`.

    GET /             the page; ?group=LABEL one of several sets of runs, ?run=ID the curves of one
    GET /events       what it shows, pushed whenever it changes (server-sent events)
    GET /status.json  where the sweep stands, as numbers
    GET /metrics      the same and the running runs' epochs and losses, for Prometheus

Files are read while somebody looks, once for all viewers; nothing is written.
"""

import asyncio
import contextlib
import functools
import gzip
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from analysis.live import LiveRuns
from analysis.page import fragment, live_page
from analysis.render.section import Section
from analysis.render.table import Column, Table
from mtl.errors import StoreUnreachableError, UsageError, UserError, printable
from mtl.store import Store
from sweeps.status.display import running_rows
from sweeps.status.watcher import COUNTS, View, Watcher
from sweeps.text import size

LOOPBACK = "127.0.0.1"
MAX_PORT = 2**16 - 1
SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_REMOTE_LOOKS = 10.0
"""At a store on object storage, where each look costs requests."""
SECONDS_OF_SILENCE = 15.0
"""After which a viewer is sent an empty line, which finds out whether it is still there."""
RUNNING_COLUMNS = ("run", "method", "priorities", "seed", "epoch", "losses")
GPU_QUERY = "utilization.gpu,memory.used,memory.total"

Viewed = tuple[str, str]
"""What a viewer looks at: label of a set of runs and run id, one or both of them empty."""
Parts = Mapping[str, Any]
"""Name of an event -> what it holds, as JSON."""


def cache_for(seconds: float) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Return a decorator: a function is asked again only after so many seconds."""

    def decorated(ask: Callable[[], str]) -> Callable[[], str]:
        held: list[tuple[float, str]] = []

        @functools.wraps(ask)
        def asked() -> str:
            if not held or time.monotonic() - held[0][0] >= seconds:
                held[:] = [(time.monotonic(), ask())]
            return held[0][1]

        return asked

    return decorated


@dataclass(eq=False)
class LivePage:
    """A sweep as its page shows it.

    Args:
        store: opened for reading.
        name: of the sweep.
    """

    store: Store
    name: str
    viewers: dict[Viewed, int] = field(default_factory=dict)
    """What is looked at -> by how many."""

    def __post_init__(self) -> None:
        """Begin without having looked."""
        self._watcher = Watcher(self.store, self.name, with_fronts=False)
        self._runs = LiveRuns(self.store)
        self._shown: dict[Viewed, tuple[Any, Parts]] = {}

    def look(self) -> dict[Viewed, Parts]:
        """Return the parts of everything that somebody looks at; what has not changed is kept."""
        view = self._watcher.see()
        try:
            is_new = self._runs.look(view.asked) if view.asked.run_ids else False
        except StoreUnreachableError:
            is_new = False  # the headline says so
        state = state_of(view)
        running = running_html(view)
        shown = {}
        for asked in list(self.viewers):
            label, run_id = asked
            key, content = self._shown.get(asked, (None, {}))
            epochs = [r.epoch for r in running_of(view) if run_id and r.run_id.startswith(run_id)]
            if is_new or not content or key != epochs:
                html = self._runs.run_page(run_id) if run_id else self._runs.overview(label)
                content = {"content": html, "groups": self._runs.titles()}
            shown[asked] = (epochs, content)
        self._shown = shown
        return {
            asked: {"state": state, "running": running, **content}
            for asked, (_, content) in shown.items()
        }

    def see(self) -> View:
        """Return where the sweep stands."""
        return self._watcher.see()


def running_of(view: View) -> tuple[Any, ...]:
    """Return the runs in progress."""
    return () if view.snapshot is None else view.snapshot.running


def state_of(view: View) -> dict[str, Any]:
    """Return a look as plain values, and how busy this machine is."""
    return {**view.to_json(), "machine": machine()}


@cache_for(SECONDS_BETWEEN_LOOKS)
def machine() -> str:
    """Return how busy the machine is that serves the page, in words."""
    memory = psutil.virtual_memory()
    parts = [
        f"CPU {psutil.cpu_percent():.0f} %",
        f"memory {size(memory.total - memory.available)} of {size(memory.total)}",
    ]
    if shutil.which("nvidia-smi"):
        parts += _gpus()
    return f"This machine: {', '.join(parts)}"


def _gpus() -> list[str]:
    """Return how busy each GPU is; nothing where the driver does not say."""
    command = ["nvidia-smi", f"--query-gpu={GPU_QUERY}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in said.stdout.splitlines()]
    return [
        f"GPU {number} {row[0]} %, {row[1]} of {row[2]} MiB"
        for number, row in enumerate(rows)
        if len(row) == 3
    ]


def metrics_text(view: View) -> bytes:
    """Return gauges of a look in the text format of Prometheus."""
    registry = CollectorRegistry()

    def gauge(name: str, what: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"mtl_{name}", what, labels, registry=registry)

    snapshot = view.snapshot
    if snapshot is None:
        return generate_latest(registry)
    runs = gauge("runs", "Runs of the sweep by state", ["state"])
    gauge("runs_planned", "Runs that the sweep asks for").set(snapshot.total)
    for state in COUNTS[1:]:
        runs.labels(state).set(getattr(snapshot, state))
    runs.labels("running").set(snapshot.num_running)
    left = gauge("seconds_left", "Expected until the sweep is over", ["bound"])
    for bound, seconds in zip(("low", "high"), snapshot.seconds_left or (), strict=False):
        left.labels(bound).set(seconds)
    of_run = ["run", "method"]
    epoch, planned = (
        gauge(name, what, of_run)
        for name, what in (("epoch", "Epochs done"), ("epochs_planned", "Epochs to do"))
    )
    loss = gauge("loss", "Mean training loss of the last epoch", [*of_run, "task"])
    for run in snapshot.running:
        labels = (run.run_id, run.spec.method)
        epoch.labels(*labels).set(run.epoch)
        if run.spec.epochs:
            planned.labels(*labels).set(run.spec.epochs)
        for task, value in zip(run.spec.tasks, run.losses or (), strict=False):
            if value is not None:
                loss.labels(*labels, task).set(value)
    return generate_latest(registry)


def running_html(view: View) -> str:
    """Return the runs in progress as HTML; empty without any."""
    if view.snapshot is None or not view.snapshot.running:
        return ""
    records = [
        dict(zip(RUNNING_COLUMNS, cells, strict=True)) for cells in running_rows(view.snapshot)
    ]
    columns = [Column(name, name) for name in RUNNING_COLUMNS]
    table = Table.of("running", "Running now.", records, columns, num_words=len(columns))
    return fragment([Section("running", "Running", "", (table,))])


class Server:
    """Pushes a page to any number of viewers."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._parts: dict[Viewed, Parts] = {}
        self._html = live_page(page.name, page.store.place("")).encode()
        self._packed = gzip.compress(self._html)

    def app(self) -> web.Application:
        """Return what aiohttp serves."""
        app = web.Application()
        app.router.add_get("/", self._shell)
        app.router.add_get("/events", self._events)
        app.router.add_get("/status.json", self._status)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def look_again_and_again(self) -> None:
        """Look at the sweep as long as there are viewers, and tell them."""
        is_local = self._page.store.is_local
        pause = SECONDS_BETWEEN_LOOKS if is_local else SECONDS_BETWEEN_REMOTE_LOOKS
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._page.viewers:
                try:
                    parts = await asyncio.to_thread(self._page.look)
                except Exception as error:  # of a store that others write; the next look may do
                    words = f"{self._page.name} cannot be read: {printable(error)}"
                    failed = {"state": {"state": "unreadable", "headline": words, "machine": ""}}
                    parts = dict.fromkeys(list(self._page.viewers), failed)
                async with self._changed:
                    self._parts = parts
                    self._changed.notify_all()
                with contextlib.suppress(TimeoutError):  # a new viewer is not kept waiting
                    await asyncio.wait_for(self._wake.wait(), pause)
                    self._wake.clear()

    async def _shell(self, request: web.Request) -> web.Response:
        is_packed = "gzip" in request.headers.get("Accept-Encoding", "")
        return web.Response(
            body=self._packed if is_packed else self._html,
            content_type="text/html",
            headers={"Content-Encoding": "gzip"} if is_packed else {},
        )

    async def _status(self, _: web.Request) -> web.Response:
        view = await asyncio.to_thread(self._page.see)
        return web.json_response(state_of(view))

    async def _metrics(self, _: web.Request) -> web.Response:
        view = await asyncio.to_thread(self._page.see)
        return web.Response(body=metrics_text(view), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        asked = (request.query.get("group", ""), request.query.get("run", ""))
        viewers = self._page.viewers
        viewers[asked] = viewers.get(asked, 0) + 1
        self._wake.set()
        sent: dict[str, Any] = {}
        try:
            while True:
                async with self._changed:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), SECONDS_OF_SILENCE)
                    parts = self._parts.get(asked, {})
                news = {name: held for name, held in parts.items() if sent.get(name) != held}
                lines = [f"event: {name}\ndata: {json.dumps(news[name])}\n\n" for name in news]
                await response.write("".join(lines or [":\n\n"]).encode())
                sent |= news
        except ConnectionResetError:
            return response
        finally:
            viewers[asked] -= 1
            if not viewers[asked]:
                del viewers[asked]


async def serve(page: LivePage, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve a page until it is cancelled.

    Args:
        page: of a sweep.
        host: to listen on.
        port: to listen on; 0 takes one that is free.
        say: is given the address once it answers.

    Raises:
        UserError: if the port cannot be listened on.
    """
    server = Server(page)
    # A viewer that has gone is let go at once, and none keeps the server from ending.
    runner = web.AppRunner(
        server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"Expected a port of {host} that is free, got {port} ({reason}). "
                "Give another; 0 takes one that is free."
            ) from error
        bound = runner.addresses[0][1]
        say(f"The sweep's page: http://{f'[{host}]' if ':' in host else host}:{bound}")
        await server.look_again_and_again()
    finally:
        await runner.cleanup()


def address(text: str) -> tuple[str, int]:
    """Return host and port of `PORT` (on this machine alone) or `HOST:PORT`.

    Raises:
        UsageError: unless the port is a number from 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise UsageError(f"Expected --serve PORT or HOST:PORT, up to {MAX_PORT}, got {text!r}.")
    return host.strip("[]") or LOOPBACK, int(port)


def serve_beside(store: Store, name: str, host: str, port: int) -> None:
    """Serve the page of a sweep in a thread, until this process ends.

    Raises:
        UserError: if the port cannot be listened on.
    """
    is_up = threading.Event()
    failed: list[Exception] = []

    def say(text: str) -> None:
        print(text, flush=True)
        is_up.set()

    def run() -> None:
        try:
            asyncio.run(serve(LivePage(store, name), host, port, say))
        except Exception as error:  # the sweep waits to hear
            failed.append(error)
        finally:
            is_up.set()

    threading.Thread(target=run, name="page", daemon=True).start()
    is_up.wait()
    if failed:
        raise failed[0]
