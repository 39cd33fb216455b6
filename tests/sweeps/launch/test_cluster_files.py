"""The files of docs/cluster/: against Ray's own schema, and the Slurm file run as Slurm runs it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sweeps.options import parse_command
from sweeps.priority_grid import GRID

ROOT = Path(__file__).parents[3]
FILES = ROOT / "docs" / "cluster"

SRUN = """#!/bin/bash
# One machine: takes its own options away and runs the rest.
while [[ "$1" == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then echo 127.0.0.1; else echo "$*" >> "$REQUEUED"; fi
"""


def test_ray_accepts_ray_up():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((FILES / "ray-up.yaml").read_text())
    prepared = prepare_config(config)  # fills in what `ray up` fills in, then
    validate_config(prepared)
    types = prepared["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["spot"]["min_workers"] == 1
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    started = [text for text in starts if "ray start" in text]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in text for text in started)
    assert "--dashboard-host=127.0.0.1" in started[0]
    assert "--num-cpus=0" in started[0]


def test_rayjob_is_whole_and_its_command_is_ours():
    job = yaml.safe_load((FILES / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    words = spec["entrypoint"].split()
    assert words[:2] == ["python", "sweeps/priority_grid.py"]
    assert parse_command("priority_grid", "", words[2:], GRID).execution.address == "auto"
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in pinned
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_slurm_file_parses_and_asks_for_a_requeue():
    path = FILES / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    options = [line[8:] for line in path.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--requeue", "--signal=B:USR1@300"} <= set(options)


def _can_have_processes_of_its_own() -> bool:
    if shutil.which("unshare") is None:
        return False
    argv = ["unshare", "-rmpf", "--mount-proc", "true"]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
def test_slurm_job_stops_in_time_requeues_and_continues(tmp_path):
    if not _can_have_processes_of_its_own():
        pytest.skip("no process namespaces for this user: `ray stop` would stop others' Ray")
    tools, store, requeued = tmp_path / "bin", tmp_path / "store", tmp_path / "requeued"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job_id = os.getpid()
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHON": sys.executable,
        "SLURM_JOB_ID": str(job_id), "SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2", "REQUEUED": str(requeued), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    # The job's shell as the first process below init of a namespace of its own: `ray stop`, with
    # which `ray symmetric-run` ends, sees no other process of this machine.
    script = f"""
        cd {tmp_path} && ln -sfn {ROOT / "sweeps"} sweeps
        bash {FILES / "slurm.sbatch"} --store {store} --data-root {tmp_path / "data"} \\
            --divisions 3 --seeds 1 --methods lsb --epochs $EPOCHS --set data.num_train=8 \\
            data.num_validation=4 data.num_test=4 data.height=16 data.width=16 \\
            network.decoder_widths=8,8,8,8,8,8 &
        echo $! > shell.pid
        (while [ ! -e signal ]; do sleep 0.2; done; kill -USR1 "$(cat shell.pid)") & watcher=$!
        wait "$(cat shell.pid)"; status=$?
        kill $watcher 2>/dev/null
        echo $status > status
    """

    def run_job(log: Path) -> subprocess.Popen:
        (tmp_path / "status").unlink(missing_ok=True)
        with open(log, "w") as file:
            return subprocess.Popen(
                ["unshare", "-rmpf", "--mount-proc", "bash", "-c", script],
                stdout=file, stderr=file, env=environment | {"EPOCHS": "400"},
            )  # fmt: skip

    first = run_job(tmp_path / "first.log")
    try:
        end = time.monotonic() + 300
        while not any(p.read_text().count("\n") >= 3 for p in store.glob("runs/*/epochs.jsonl")):
            assert time.monotonic() < end, (tmp_path / "first.log").read_text()
            assert first.poll() is None, (tmp_path / "first.log").read_text()
            time.sleep(0.2)
        (tmp_path / "signal").write_text("")  # five minutes are left, says Slurm
        first.wait(300)
    finally:
        if first.poll() is None:
            first.send_signal(signal.SIGKILL)
    said = (tmp_path / "first.log").read_text()
    print(said)
    assert "Stopped by SIGUSR1" in said
    assert requeued.read_text().split() == ["requeue", str(job_id)]
    assert (tmp_path / "status").read_text().strip() == "1"
    before = {
        p.parent.name: len(p.read_text().splitlines()) for p in store.glob("runs/*/epochs.jsonl")
    }

    (tmp_path / "signal").unlink()
    again = run_job(tmp_path / "again.log")
    try:
        assert again.wait(500) == 0
    finally:
        if again.poll() is None:
            again.send_signal(signal.SIGKILL)
    print((tmp_path / "again.log").read_text())
    assert (tmp_path / "status").read_text().strip() == "0"
    assert len(list(store.glob("runs/*/result.json"))) == 2
    assert requeued.read_text().count("requeue") == 1
    for run_id, num_epochs in before.items():
        import json

        started = json.loads((store / "runs" / run_id / "manifest.json").read_text())
        assert started["started_epochs"][-1] >= num_epochs
