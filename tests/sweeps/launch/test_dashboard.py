"""Ray's dashboard of a real sweep: who may look, what it shows, and what the metrics port says."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from mtl.store import Store
from sweeps.text import run_label
from tests.chromium import Chromium, find_chromium

SCRIPT = Path(__file__).parents[3] / "sweeps" / "priority_grid.py"


def _get(address: str, token: str | None = None) -> str:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def _gauges(text: str) -> dict[tuple[str, ...], float]:
    """Return (gauge, run, task, metric) -> value of this project's gauges, in Prometheus' text."""
    found = {}
    for line in text.splitlines():
        if matched := re.fullmatch(r"ray_(mtl_\w+)\{(.*)\} (\S+)", line):
            tags = dict(re.findall(r'(\w+)="([^"]*)"', matched[2]))
            key = (matched[1], tags["run"], tags.get("task", ""), tags.get("metric", ""))
            found[key] = float(matched[3])
            assert tags["method"] in ("lsb", "fixed")
    return found


async def _look(address: str, token: str, label: str) -> str:
    """Return the text of the page of actors, after the token was typed in as a person would."""
    async with Chromium() as browser:
        assert "my-sweep" not in await browser.open_dashboard(address, token)
        await browser.text_with("my-sweep", "RUNNING")
        await browser.go(f"{address}/#/actors")
        return await browser.text_with(label)


@pytest.mark.slow
def test_runs_show_in_the_dashboard_and_on_the_metrics_port(tmp_path):
    store = tmp_path / "store"
    argv = [
        sys.executable, str(SCRIPT), "--store", str(store), "--name", "my-sweep", "--dashboard",
        "--divisions", "3", "--seeds", "1", "--epochs", "2000", "--set", "data.num_train=64",
        "data.num_validation=16", "data.num_test=16",
    ]  # fmt: skip
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("RAY_AUTH_MODE", None)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("Ray's dashboard:"))
            address = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
            _check(process, store, address)
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
    assert said.startswith("Stopped by SIGINT")


def _check(process: subprocess.Popen, root: Path, address: str) -> None:
    end = time.monotonic() + 120
    while len(list(root.glob("runs/*/epochs.jsonl"))) < 2:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    family = psutil.Process(process.pid).children(recursive=True)
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for member in (psutil.Process(process.pid), *family)
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {ip.removeprefix("::ffff:") for ip, _ in listening} == {"127.0.0.1"}

    with pytest.raises(urllib.error.HTTPError, match="401"):
        _get(f"{address}/api/jobs/")
    token = subprocess.run(
        [f"{Path(sys.executable).parent}/ray", "get-auth-token"],
        capture_output=True, text=True, check=True,
    ).stdout.split()[-1]  # fmt: skip
    (job,) = json.loads(_get(f"{address}/api/jobs/", token))
    assert job["metadata"] == {"job_name": "my-sweep"}
    actors = json.loads(_get(f"{address}/logical/actors", token))["data"]["actors"].values()
    store = Store(root, create=False)
    running = [path.parent.name for path in root.glob("runs/*/epochs.jsonl")]
    labels = {run_label(run_id, store.spec(run_id)) for run_id in running}
    assert {actor["reprName"] for actor in actors if actor["state"] == "ALIVE"} == labels
    assert {actor["actorClass"] for actor in actors} == {"Run"}

    nodes = json.loads(_get(f"{address}/nodes?view=summary", token))["data"]["summary"]
    metrics = f"http://127.0.0.1:{nodes[0]['raylet']['metricsExportPort']}/metrics"
    while True:
        told = _gauges(_get(metrics))
        if {run for _, run, *_ in told} == set(running) and "mtl_metric" in {n for n, *_ in told}:
            break
        assert time.monotonic() < end, f"waited in vain: {told}"
        time.sleep(1)
    for run_id in running:
        epochs = [e for e in store.epochs(run_id) if e.epoch <= told["mtl_epoch", run_id, "", ""]]
        for index, task in enumerate(store.spec(run_id).tasks):
            assert told["mtl_loss", run_id, task, ""] in [e.losses[index] for e in epochs]
            assert told["mtl_weight", run_id, task, ""] in [e.weights[index] for e in epochs]
            assert ("mtl_loss_scale", run_id, task, "") in told
    if find_chromium() is None:
        pytest.skip("no Chromium: the pages themselves were not looked at")
    shown = asyncio.run(_look(address, token, sorted(labels)[0]))
    assert all(label in shown for label in labels)
