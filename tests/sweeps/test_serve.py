"""The live page: what is pushed, when files are read, and the page in a real browser."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from analysis.live import LiveRuns
from mtl.errors import UserError
from mtl.records import EpochRecord
from mtl.store import Store
from sweeps.launch.worker import GAUGES
from sweeps.plan.grid import grid_specs
from sweeps.serve import LivePage, Machine, Server, address, metrics_text, serve, served_beside
from sweeps.status.watcher import Watcher
from tests.chromium import Chromium, find_chromium
from tests.sweeps.test_watch import GRID, IDS, LSB, NOW, SPECS, finish, write_status

ROOT = Path(__file__).resolve().parents[2]

needs_browser = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium: the page was not looked at in a browser"
)


@pytest.fixture
def store(tmp_path) -> Store:
    """Return a sweep of twenty runs, three of lsb done and one failed."""
    store = Store(tmp_path / "store")
    write_status(store)
    for index, delta1 in zip(LSB, (0.6, 0.7, 0.8), strict=False):
        finish(store, index, delta1, 1.4 - delta1)
    store.write_spec(SPECS[1])
    store.write_error(IDS[1], "ValueError: the loss is not finite")
    return store


@asynccontextmanager
async def served(page: LivePage) -> AsyncIterator[str]:
    """Serve a page; yield its address."""
    said: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(serve(Server(page), "127.0.0.1", 0, said.put_nowait))
    try:
        yield (await said.get()).partition(": ")[2]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def pushed(answer: aiohttp.ClientResponse, name: str) -> Any:
    """Return what the next event of a name holds."""
    event = ""
    async for line in answer.content:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            event = text.removeprefix("event: ")
        elif text.startswith("data: ") and event == name:
            return json.loads(text.removeprefix("data: "))
    raise AssertionError(f"the server ended before it said {name}")


def looked(store: Store) -> tuple[LiveRuns, Any]:
    asked = Watcher(store, "mine", with_fronts=False).see().asked
    runs = LiveRuns(store)
    assert runs.look(asked)
    return runs, asked


def test_page_shows_validation_until_all_is_done_and_compares_no_methods(store):
    for index in range(20):
        finish(store, index, 0.5, 0.6)
    runs, _ = looked(store)
    findings = runs.findings("")
    assert findings.comparisons == ()
    assert {point.means for point in findings.points} == {(0.5, 0.6)}  # on test all are 0.99
    html = runs.overview("")
    assert "validation split" in html
    assert "99.0" not in html


def test_runs_that_are_done_are_read_once(store, monkeypatch):
    runs, asked = looked(store)
    read: list[str] = []
    result = Store.result
    monkeypatch.setattr(Store, "result", lambda s, i: read.append(i) or result(s, i))
    assert not runs.look(asked)
    assert not read
    finish(store, LSB[3], 0.5, 0.5)
    assert runs.look(asked)
    assert read == [IDS[LSB[3]]]
    assert len(runs.findings("").points) == 4


def test_object_storage_is_shown_like_a_folder(store, s3_address):
    remote = Store(s3_address)
    write_status(remote)
    finish(remote, LSB[0], 0.6, 0.8)
    runs, asked = looked(remote)
    assert [point.means for point in runs.findings("").points] == [(0.6, 0.8)]
    assert not runs.look(asked)
    finish(remote, LSB[1], 0.7, 0.7)
    assert runs.look(asked)
    assert len(runs.findings("").points) == 2


def test_repaired_result_is_read_again(store):
    key = store.run_key(IDS[LSB[0]], "result.json")
    whole = store.read(key)
    store.write(key, whole[:40])
    runs, asked = looked(store)
    assert "1 damaged" in runs.overview("")
    store.write(key, whole)
    assert runs.look(asked)
    assert "damaged" not in runs.overview("")


def test_failing_look_is_told_and_the_next_one_shows(store, monkeypatch):
    page = LivePage(store, "mine")
    look, failing = page.look, [True]

    def stumbling() -> Any:
        if failing.pop() if failing else False:
            raise RuntimeError("somebody removed it")
        return look()

    monkeypatch.setattr(page, "look", stumbling)

    async def watch() -> None:
        async with (
            served(page) as url,
            aiohttp.ClientSession() as session,
            session.get(f"{url}/events") as answer,
        ):
            assert "somebody removed it" in (await pushed(answer, "state"))["headline"]
            assert (await pushed(answer, "state"))["done"] == 4

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_driver_of_gpus_that_fails_is_left_out(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho No devices were found\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert "GPU" not in Machine().text()


def test_failed_runs_stand_with_their_reason(store):
    runs, _ = looked(store)
    html = runs.overview("")
    assert "ValueError: the loss is not finite" in html
    assert "3 done, 1 failed." in html
    assert IDS[LSB[3]] not in html, "it has not begun"


def test_curves_of_a_run_are_found_by_the_beginning_of_its_name(store):
    index = LSB[0]
    metrics = {"validation": {"depth": {"delta1": 0.61}, "segmentation": {"miou": 0.3}}}
    for epoch in (1, 2):
        record = EpochRecord(epoch, [0.5, 0.2], [1.0, 2.0], [0.5, 0.4], None, 0.01, metrics, 1.0)
        store.append_epoch(IDS[index], record)
    runs, _ = looked(store)
    html = runs.run_page(IDS[index][:8])
    assert IDS[index] in html
    assert "Metrics on the validation split" in html
    assert "No run of this sweep" in runs.run_page("<b>")
    assert "<b>" not in runs.run_page("<b>")


def test_viewer_is_told_of_a_run_that_ends(store):
    async def look() -> None:
        async with served(LivePage(store, "mine")) as url, aiohttp.ClientSession() as session:
            async with session.get(f"{url}/events") as answer:
                state = await pushed(answer, "state")
                assert (state["done"], state["total"]) == (4, 20)
                assert "25.0" not in await pushed(answer, "content")
                finish(store, LSB[3], 0.25, 0.5)
                assert "25.0" in await pushed(answer, "content")
            async with session.get(f"{url}/status.json") as answer:
                assert (await answer.json())["failed"] == 1
            async with session.get(url) as answer:
                assert "EventSource" in await answer.text()

    asyncio.run(asyncio.wait_for(look(), 60))


def test_viewers_are_told_how_the_sweep_ended(store, capsys):
    """A page that is served beside a sweep ends with it, and not before it has said so."""
    answers: list[Any] = []

    async def look(url: str, is_there: threading.Event) -> None:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/events") as answer:
            with contextlib.suppress(AssertionError, aiohttp.ClientError):
                while True:
                    answers.append((await pushed(answer, "state"))["state"])
                    is_there.set()

    is_there = threading.Event()
    with served_beside(store, "mine", "127.0.0.1", 0):
        url = capsys.readouterr().out.strip().partition(": ")[2]
        viewer = threading.Thread(target=lambda: asyncio.run(look(url, is_there)))
        viewer.start()
        assert is_there.wait(60)
        write_status(store, state="finished")
    viewer.join(60)
    assert not viewer.is_alive()
    assert answers[-1] == "finished"


def test_page_of_a_run_marks_the_set_that_holds_it(tmp_path):
    store = Store(tmp_path / "store")
    specs = grid_specs(replace(GRID, axes={"optimizer.learning_rate": (0.001, 0.002)}))
    revision = {"started": "x", "run_ids": [spec.run_id() for spec in specs], "varies": {}}
    plan = {"schema": 1, "kind": "priority_grid", "revisions": [revision]}
    store.write_json(store.sweep_key("mine", "plan.json"), plan)
    for spec in specs:
        store.write_spec(spec)
    page = LivePage(store, "mine")
    one_of_each = {spec.optimizer.learning_rate: spec for spec in specs}
    for spec in one_of_each.values():
        page.viewers[("", spec.run_id())] = 1
    marked = {run_id: parts["groups"]["current"] for (_, run_id), parts in page.look().items()}
    assert marked == {
        spec.run_id(): f"optimizer.learning_rate={rate}" for rate, spec in one_of_each.items()
    }
    assert len(marked) == 2


def gauges_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:ray_)?mtl_\w+", expression))


@pytest.mark.parametrize("name", ["live", "ray"])
def test_grafana_asks_for_gauges_that_there_are(store, name):
    dashboard = json.loads((ROOT / "docs" / "grafana" / f"{name}.json").read_text())
    asked = set[str]()
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        asked |= {g for target in panel["targets"] for g in gauges_of(target["expr"])}
    if name == "live":
        served = gauges_of(metrics_text(Watcher(store, "mine", lambda: NOW).see()).decode())
    else:
        served = {f"ray_{gauge}" for gauge in GAUGES}
    assert asked <= served
    assert asked


def test_prometheus_is_served_counts_and_losses(store):
    lines = metrics_text(Watcher(store, "mine", lambda: NOW).see()).decode().splitlines()
    assert 'mtl_runs{state="done"} 4.0' in lines
    assert 'mtl_seconds_left{bound="high"} 200.0' in lines
    (epoch,) = (line for line in lines if line.startswith("mtl_epoch{"))
    assert (IDS[4] in epoch, epoch.endswith(" 2.0")) == (True, True)
    losses = [line for line in lines if line.startswith("mtl_loss{")]
    assert len(losses) == 1  # the other task is absent, and not 0
    assert 'task="depth"' in losses[0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus: none has scraped it")
def test_prometheus_scrapes_it(store, tmp_path):
    async def scrape() -> None:
        async with served(LivePage(store, "mine")) as url, aiohttp.ClientSession() as session:
            target = url.removeprefix("http://")
            jobs = [{"job_name": "sweep", "static_configs": [{"targets": [target]}]}]
            config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
            (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                place = f"127.0.0.1:{free.getsockname()[1]}"
            program = await asyncio.create_subprocess_exec(
                "prometheus", f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={place}",
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                while True:
                    await asyncio.sleep(1)
                    with contextlib.suppress(aiohttp.ClientError):
                        asked = f"http://{place}/api/v1/query?query=mtl_runs"
                        async with session.get(asked) as answer:
                            found = (await answer.json())["data"]["result"]
                        if found:
                            break
            finally:
                program.terminate()
                await program.wait()
            values = {held["metric"]["state"]: held["value"][1] for held in found}
            assert values["done"] == "4"

    asyncio.run(asyncio.wait_for(scrape(), 120))


def test_nothing_is_read_while_nobody_looks(store, monkeypatch):
    looks: list[int] = []
    page = LivePage(store, "mine")
    monkeypatch.setattr(page, "look", lambda: looks.append(1) or {})

    async def wait() -> None:
        async with served(page), aiohttp.ClientSession():
            await asyncio.sleep(0.3)

    asyncio.run(wait())
    assert looks == []


def test_port_that_is_taken_is_said_in_a_sentence(store):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(UserError, match=f"a port of 127.0.0.1 that is free, got {port}"):
            asyncio.run(serve(Server(LivePage(store, "mine")), "127.0.0.1", port, print))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8300", ("127.0.0.1", 8300)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:0", ("::1", 0))],
)
def test_address_is_this_machine_unless_a_host_is_named(text, expected):
    assert address(text) == expected


def test_host_that_is_none_is_said_in_a_sentence(store):
    with (
        pytest.raises(UserError, match=r"a port of a\.\.b that is free"),
        served_beside(store, "mine", "a..b", 0),
    ):
        pass


@pytest.mark.parametrize("text", ["", "x", "localhost", "-1", "65536", "80:"])
def test_address_without_a_port_is_refused(text):
    with pytest.raises(UserError, match="Expected --serve PORT"):
        address(text)


@needs_browser
def test_sliders_keep_their_place_while_runs_end(store):
    async def look() -> None:
        async with served(LivePage(store, "mine")) as url, Chromium((1280, 900)) as browser:
            await browser.go(url)
            await browser.until("document.querySelector('#points .main-svg') !== null")
            await browser.run(
                "const s = document.getElementById('picker-weight-0'); s.value = 90;"
                "s.dispatchEvent(new Event('input', {bubbles: true}));"
            )
            seeds = "document.querySelector('#runs thead th:nth-child(2)')"
            await browser.run(f"{seeds}.querySelector('button').click()")
            await browser.run(f"{seeds}.querySelector('button').click()")
            assert await browser.run(f"{seeds}.getAttribute('aria-sort')") == "descending"
            finish(store, LSB[3], 0.95, 0.95)
            await browser.until("document.body.textContent.includes('95.0')")
            # The new point is better than all on both, so it is chosen whatever the sliders say.
            await browser.until("document.getElementById('picker-value-0').textContent == '95.0'")
            assert await browser.run("document.getElementById('picker-weight-0').value") == "90"
            assert await browser.run(f"{seeds}.getAttribute('aria-sort')") == "descending"
            assert browser.complaints() == []
            assert all(address.startswith(url) for address in browser.requests())

    asyncio.run(asyncio.wait_for(look(), 120))


@needs_browser
@pytest.mark.slow
def test_page_follows_a_sweep_that_trains_is_killed_and_continued(tmp_path):
    store = tmp_path / "store"
    train = [
        sys.executable, "sweeps/priority_grid.py", "--store", str(store), "--seeds", "1",
        "--divisions", "3", "--epochs", "3", "--set", "data.height=32", "data.width=48",
    ]  # fmt: skip
    with subprocess.Popen(train, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: list(store.glob("sweeps/*/status.json")))
        watch = [sys.executable, "sweeps/watch.py", str(store), "--serve", "0"]
        with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                url = server.stdout.readline().strip().partition(": ")[2]
                asyncio.run(asyncio.wait_for(_follow(url, first, train), 400))
            finally:
                server.terminate()


async def _follow(url: str, first: subprocess.Popen[bytes], train: list[str]) -> None:
    async with Chromium((1280, 900)) as browser:
        await browser.go(url)
        await browser.until("document.querySelector('#points .main-svg') !== null")
        await browser.run(
            "const s = document.getElementById('picker-weight-1'); s.value = 80;"
            "s.dispatchEvent(new Event('input', {bubbles: true}));"
        )
        first.kill()
        shown = await browser.run("document.getElementById('progress').value")
        assert 0 < shown < 4
        # This one serves its page itself, too.
        again = await asyncio.create_subprocess_exec(
            *train, "--serve", "0", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await again.communicate()
        assert again.returncode == 0
        assert b"The sweep's page: http://127.0.0.1:" in said
        await browser.until("document.body.dataset.state == 'finished'")
        await browser.until("document.getElementById('progress').value == 4")
        assert await browser.run("document.getElementById('picker-weight-1').value") == "80"
        command = await browser.run("document.getElementById('picker-command').textContent")
        assert re.fullmatch(r"python -m mtl\.predict \S+ [0-9a-f]{16} IMAGE\.\.\.", command)
        assert browser.complaints() == []


def wait_for(happened: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)
