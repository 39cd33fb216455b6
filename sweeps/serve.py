"""The page of a sweep while it runs: `python sweeps/watch.py STORE --serve PORT`.

    GET /             the page; ?group=LABEL one of several sets of runs, ?run=ID the curves of one
    GET /events       what it shows, pushed whenever it changes (server-sent events)
    GET /status.json  where the sweep stands, as numbers
    GET /metrics      the same and the running runs' epochs and losses, for Prometheus

Files are read while somebody looks, once for all viewers; nothing is written.
"""

import asyncio
import contextlib
import gzip
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from analysis.live import LiveRuns
from analysis.load.axes import NONE, priority_texts
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
SECONDS_TO_END = 10.0
"""For the last look, at most."""
RUNNING_COLUMNS = ("run", "method", "priorities", "seed", "epoch", "losses")
GPU_QUERY = "utilization.gpu,memory.used,memory.total"

Viewed = tuple[str, str]
"""What a viewer looks at: label of a set of runs and run id, one or both of them empty."""
Parts = Mapping[str, Any]
"""Name of an event -> what it holds, as JSON."""
T = TypeVar("T")


@dataclass(eq=False)
class LivePage:
    """A sweep as its page shows it; one thread at a time may look.

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
        self._machine = Machine()

    def look(self) -> dict[Viewed, Parts]:
        """Return the parts of everything that somebody looks at; what has not changed is kept."""
        view = self._watcher.see()
        try:
            is_new = self._runs.look(view.asked) if view.asked.run_ids else False
        except StoreUnreachableError:
            is_new = False  # the headline says so
        state = self.state_of(view)
        running = running_html(view)
        shown = {}
        for asked in list(self.viewers):
            label, run_id = asked
            key, content = self._shown.get(asked, (None, {}))
            epochs = [r.epoch for r in running_of(view) if run_id and r.run_id.startswith(run_id)]
            if is_new or not content or key != epochs:
                html = self._runs.run_page(run_id) if run_id else self._runs.overview(label)
                current = self._runs.label_of(run_id) if run_id else label
                groups = {"titles": self._runs.titles(), "current": current}
                content = {"content": html, "groups": groups}
            shown[asked] = (epochs, content)
        self._shown = shown
        return {
            asked: {"state": state, "running": running, **content}
            for asked, (_, content) in shown.items()
        }

    def see(self) -> View:
        """Return where the sweep stands."""
        return self._watcher.see()

    def state_of(self, view: View) -> dict[str, Any]:
        """Return a look as plain values, and how busy this machine is."""
        return {**view.to_json(), "machine": self._machine.text()}


def running_of(view: View) -> tuple[Any, ...]:
    """Return the runs in progress."""
    return () if view.snapshot is None else view.snapshot.running


class Machine:
    """How busy the machine is that serves the page; asked again only after some seconds."""

    def __init__(self) -> None:
        self._times = psutil.cpu_times()
        self._next, self._text = 0.0, ""

    def text(self) -> str:
        """Return it in words."""
        if time.monotonic() >= self._next:
            self._text = f"This machine: {', '.join(self._parts())}"
            self._next = time.monotonic() + SECONDS_BETWEEN_LOOKS
        return self._text

    def _parts(self) -> list[str]:
        before, self._times = self._times, psutil.cpu_times()
        # psutil's own share is since the same thread asked before; this one has not asked yet.
        passed = sum(self._times) - sum(before)
        idle = self._times.idle - before.idle
        memory = psutil.virtual_memory()
        parts = [f"CPU {100 * (1 - idle / passed):.0f} %"] if passed > 0 else []
        parts.append(f"memory {size(memory.total - memory.available)} of {size(memory.total)}")
        return parts + (_gpus() if shutil.which("nvidia-smi") else [])


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
    runs = view.snapshot.running
    held = [run.spec.priorities for run in runs if run.spec.priorities is not None]
    texts = priority_texts(held)
    records = [
        dict(zip(RUNNING_COLUMNS, cells, strict=True))
        | {"run": run.run_id, "priorities": texts.get(run.spec.priorities or (), NONE)}
        for run, cells in zip(runs, running_rows(view.snapshot), strict=False)
    ]
    columns = [Column(name, name) for name in RUNNING_COLUMNS]
    table = Table.of("running", "Running now.", records, columns, num_words=len(columns))
    return fragment([Section("running", "Running", "", (table,))])


class Server:
    """Pushes a page to any number of viewers."""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._is_over = False
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

    def end(self) -> None:
        """Have the viewers told once more, and no longer."""
        self._is_over = True
        self._wake.set()

    def close(self) -> None:
        """Let the reading thread go."""
        self._reader.shutdown(wait=False)

    async def _read(self, what: Callable[[], T]) -> T:
        """Return what a function gives that reads the store; one reads at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, what)

    async def look_again_and_again(self) -> None:
        """Look at the sweep as long as there are viewers, and tell them; until `end`."""
        is_local = self._page.store.is_local
        pause = SECONDS_BETWEEN_LOOKS if is_local else SECONDS_BETWEEN_REMOTE_LOOKS
        while not self._is_over:
            await self._wake.wait()
            self._wake.clear()
            while self._page.viewers:
                is_last = self._is_over
                try:
                    parts = await self._read(self._page.look)
                except Exception as error:  # of a store that others write; the next look may do
                    words = f"{self._page.name} cannot be read: {printable(error)}"
                    failed = {"state": {"state": "unreadable", "headline": words, "machine": ""}}
                    parts = dict.fromkeys(list(self._page.viewers), failed)
                async with self._changed:
                    self._parts = parts
                    self._changed.notify_all()
                if is_last:
                    return
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
        return web.json_response(await self._read(lambda: self._page.state_of(self._page.see())))

    async def _metrics(self, _: web.Request) -> web.Response:
        view = await self._read(self._page.see)
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


async def serve(server: Server, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve a page until it is cancelled, or its server told to end.

    Args:
        server: of a page.
        host: to listen on.
        port: to listen on; 0 takes one that is free.
        say: is given the address once it answers.

    Raises:
        UserError: if the port cannot be listened on.
    """
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
                "Give another port, 0 for one that is free, or another host."
            ) from error
        bound = runner.addresses[0][1]
        say(f"The sweep's page: http://{f'[{host}]' if ':' in host else host}:{bound}")
        await server.look_again_and_again()
    finally:
        await runner.cleanup()
        server.close()


def address(text: str) -> tuple[str, int]:
    """Return host and port of `PORT` (on this machine alone) or `HOST:PORT`.

    Raises:
        UsageError: unless the port is a number from 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise UsageError(f"Expected --serve PORT or HOST:PORT, up to {MAX_PORT}, got {text!r}.")
    return host.strip("[]") or LOOPBACK, int(port)


@contextlib.contextmanager
def served_beside(store: Store, name: str, host: str, port: int) -> Iterator[None]:
    """Serve the page of a sweep in a thread; its viewers see how it ended.

    Raises:
        UserError: if the port cannot be listened on.
    """
    is_up = threading.Event()
    failed: list[Exception] = []
    server = Server(LivePage(store, name))
    loop = asyncio.new_event_loop()

    def say(text: str) -> None:
        print(text, flush=True)
        is_up.set()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve(server, host, port, say))
        except Exception as error:  # the sweep waits to hear
            failed.append(error)
        finally:
            is_up.set()

    thread = threading.Thread(target=run, name="page", daemon=True)
    thread.start()
    is_up.wait()
    if failed:
        raise failed[0]
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(server.end)
        thread.join(SECONDS_TO_END)
