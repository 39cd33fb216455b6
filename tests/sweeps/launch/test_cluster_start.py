"""Before a cluster is joined: the code that travels, and an address where nobody answers."""

import json
import socket
from pathlib import Path

import pytest

from mtl.store import Store
from mtl.store.code_version import CODE_VERSION_VARIABLE
from sweeps import priority_grid
from sweeps.launch import tune
from sweeps.launch.cluster import travelling_code
from sweeps.launch.signals import StopSignals


def test_only_the_three_packages_travel_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    sent = travelling_code(tmp_path)
    assert set(sent) == {"working_dir", "env_vars"}
    assert set(sent["env_vars"]) == {CODE_VERSION_VARIABLE}
    folder = Path(sent["working_dir"])
    assert {path.name for path in folder.iterdir()} == {"sweeps", "mtl", "analysis"}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".py", ".json", ".j2", ".html", ".css", ".js",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 5e6


def test_an_address_where_nobody_answers_is_said_at_once():
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with (
            StopSignals() as signals,
            pytest.raises(tune.ClusterError, match=f"Expected a Ray cluster at {address}, got"),
            tune.started_ray(address, num_cpus=1, num_gpus=0, signals=signals),
        ):
            pass


@pytest.mark.parametrize("more", [[], ["--refine", "1"]])
def test_where_nobody_answers_no_store_is_left_behind(more, tmp_path, capsys):
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        argv = ["--address", address, "--store", str(tmp_path / "store"), *more]
        assert priority_grid.main(argv) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"priority_grid: Expected a Ray cluster at {address}, got: ")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_where_nobody_answers_a_store_stays_as_it_was(tmp_path, capsys):
    Store(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        assert priority_grid.main(["--address", address, "--store", str(tmp_path / "store")]) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_submitted_job_with_a_working_folder_brings_the_code_itself(tmp_path, monkeypatch):
    job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert set(travelling_code(tmp_path)) == {"env_vars"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": None}))
    assert "working_dir" in travelling_code(tmp_path)
