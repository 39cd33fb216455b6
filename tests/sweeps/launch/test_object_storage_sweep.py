"""A sweep on object storage, from the command line, is the sweep of a folder."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mtl.store import Store, existing_store

ROOT = Path(__file__).parents[3]
TINY = [
    "--quick", "--seeds", "1", "--divisions", "2", "--set", "batch_size=4",
    "data.height=32", "data.width=32", "data.num_train=8", "data.num_validation=4",
    "data.num_test=4", "network.encoder=test_efficientnet",
    "network.decoder_widths=[8,8,8,8,8,8]",
]  # fmt: skip


def sweep(store: object, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "sweeps/priority_grid.py"),
        "--store",
        str(store),
        *TINY,
        *more,
    ]


def run(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        argv, capture_output=True, text=True, cwd=folder, env=environment, timeout=600
    )


@pytest.mark.slow
def test_sweep_on_object_storage_is_that_of_a_folder(tmp_path: Path, s3_address: str) -> None:
    secret = "open-sesame"
    address = s3_address.replace("s3://", f"s3://test:{secret}@")
    planned = run(sweep(address, "epochs=2", "--plan"), tmp_path)
    assert (planned.returncode, planned.stderr) == (0, "")
    assert existing_store(s3_address) is None  # a plan writes nothing
    outputs = [planned]
    for place in (tmp_path / "store", address):
        outputs.append(run(sweep(place, "epochs=2"), tmp_path))
        assert (outputs[-1].returncode, outputs[-1].stderr) == (0, "")
    local, remote = Store(tmp_path / "store", create=False), Store(s3_address, create=False)
    assert local.run_ids() == remote.run_ids() != []
    for run_id in local.run_ids():
        for name in ("spec.json", "result.json", "checkpoint/weights.pt"):
            key = f"runs/{run_id}/{name}"
            assert local.read(key) == remote.read(key), key
        both = [[replace(r, seconds=0.0) for r in s.epochs(run_id)] for s in (local, remote)]
        assert both[0] == both[1]
        assert len(both[0]) == 2
    events = [
        [
            json.loads(line)["event"]
            for line in s.read_log("sweeps/priority_grid/events.jsonl").splitlines()
        ]
        for s in (local, remote)
    ]
    assert sorted(events[0]) == sorted(events[1])
    status = remote.read_json("sweeps/priority_grid/status.json")
    assert (status["state"], status["done"]) == ("finished", len(local.run_ids()))
    lease = remote.read_json("sweeps/priority_grid/lease.json")
    assert (lease["number"], lease["released"]) == (1, True)

    summaries = [
        json.loads((folder / "summary.json").read_text())
        for folder in (tmp_path / "store/sweeps/priority_grid/report",
                       tmp_path / "reports/priority_grid")
    ]  # fmt: skip
    assert summaries[0]["terminal_table"] == summaries[1]["terminal_table"]
    outputs.append(run(sweep(address, "epochs=2"), tmp_path))
    assert "0 to do." in outputs[-1].stdout
    assert "(unchanged)" in outputs[-1].stdout
    bucket, _, options = address.partition("?")
    for results, place in (
        (address, "report"), (f"{bucket}/sweeps/priority_grid?{options}", "reports/priority_grid")
    ):  # fmt: skip
        outputs.append(run([sys.executable, str(ROOT / "analysis/pareto.py"), results], tmp_path))
        assert (outputs[-1].returncode, outputs[-1].stderr) == (0, "")
        assert f"Report: {place}/report.html" in outputs[-1].stdout
    outputs.append(
        run(
            [sys.executable, str(ROOT / "analysis/pareto.py"), f"{bucket}/sweeps/no?{options}"],
            tmp_path,
        )
    )
    assert outputs[-1].returncode == 1
    assert "which does not exist" in outputs[-1].stderr
    for output in outputs:
        assert secret not in output.stdout + output.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    keys = [f"runs/{r}/{n}" for r in remote.run_ids() for n in ("spec.json", "manifest.json")]
    keys += [f"sweeps/priority_grid/{n}.json" for n in ("plan", "status", "lease")]
    assert not [key for key in keys if secret.encode() in remote.read(key)]


@pytest.mark.slow
def test_next_driver_continues_after_a_killed_one(tmp_path: Path, s3_address: str) -> None:
    """After a kill -9 the next one on the same machine goes on at once, to the same results."""
    more = ("epochs=60",)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    argv = sweep(s3_address, *more)
    with subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=tmp_path
    ) as process:
        end = time.monotonic() + 300
        while not (held := existing_store(s3_address)) or not any(
            len(held.epochs(run_id)) > 3 for run_id in held.run_ids()
        ):
            assert process.poll() is None, "the sweep ended"
            assert time.monotonic() < end, "no epoch was trained"
            time.sleep(0.2)
        second = run(argv, tmp_path)
        assert second.returncode == 1
        assert f"process {process.pid} on" in second.stderr
        process.kill()
    again = run(argv, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "lease of sweep" not in again.stderr
    undisturbed = run(sweep(tmp_path / "store", *more), tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    local, remote = Store(tmp_path / "store", create=False), Store(s3_address, create=False)
    for run_id in local.run_ids():
        assert local.read(f"runs/{run_id}/result.json") == remote.read(f"runs/{run_id}/result.json")
        assert [r.epoch for r in remote.epochs(run_id)] == list(range(1, 61))
    assert remote.read_json("sweeps/priority_grid/lease.json")["number"] == 2
