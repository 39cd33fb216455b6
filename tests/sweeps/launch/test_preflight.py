"""What is looked at before a sweep starts: one clear sentence, or nothing."""

import dataclasses
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl.data.prepared import prepare
from mtl.errors import PreflightError
from mtl.spec.sections import DataSpec
from mtl.store import Store
from mtl.store.code_version import CODE_VERSION_VARIABLE
from sweeps import priority_grid
from sweeps.launch import Execution, cluster
from sweeps.launch.cluster import preflight_nodes, travelling_code
from sweeps.launch.preflight import (
    Needs,
    check_alike,
    check_store_disk,
    look,
    project_hash,
    versions,
)
from sweeps.launch.session import started_ray
from sweeps.launch.signals import StopSignals

ALIKE = {
    "python": "3.11.2",
    "project": "abc",
    "torch": "2.15.0",
    "timm": "1.0.31",
    "numpy": "2.4.6",
}
TINY = DataSpec(height=16, width=16, num_train=2, num_validation=1, num_test=1)


@pytest.fixture
def needs(tmp_path) -> Needs:
    """Return what a machine has: a store, and data that can be rendered."""
    Store(tmp_path / "store")
    return Needs(store=str(tmp_path / "store"), data=(TINY,), data_root=str(tmp_path / "data"))


def lacking(needs: Needs, **changes: object) -> str | None:
    return look(dataclasses.replace(needs, **changes))[1]


def test_complete_machine_passes_and_nothing_is_written(needs, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert look(needs) == (versions(), None)
    assert sorted(tmp_path.rglob("*")) == before


def test_store_that_is_not_shared_is_refused_and_not_made(needs, tmp_path):
    assert "Expected a run store, got" in lacking(needs, store=str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere").exists()
    assert "which the driver has written, in" in lacking(needs, run_ids=("0" * 16,))


def test_absent_or_torn_data_are_refused(needs, tmp_path):
    files = dataclasses.replace(TINY, name="folder", prepared="0123456789abcdef")
    assert lacking(needs, data=(files,)).startswith(
        f"Expected the prepared data folder 0123456789abcdef in {tmp_path / 'data'}, got none."
    )
    folder = prepare(TINY, needs.data_root)
    torn = folder / "train" / "image.npy"
    torn.write_bytes(torn.read_bytes()[:-1])
    assert str(torn) in lacking(needs)


def test_other_encoder_weights_are_refused(needs, tmp_path):
    path = tmp_path / "w.pt"
    assert str(path) in lacking(needs, weights_file=str(path))
    path.write_bytes(b"weights")
    told = lacking(needs, weights_file=str(path), weights=frozenset({"sha256:1"}))
    assert told.startswith(f"Expected the encoder weights sha256:1 in {path}, got sha256:")


def test_too_small_a_disk_is_refused(needs, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert "free disk for the results in" in lacking(needs, store_bytes=2 * free)
    with pytest.raises(PreflightError, match="keep less with --keep none"):
        check_store_disk(str(tmp_path / "not" / "yet"), 2 * free)


@pytest.mark.parametrize("name", ["torch", "timm", "project"])
def test_machines_that_differ_are_named(name):
    check_alike({"the driver": ALIKE, "node a": ALIKE, "node b": ALIKE})
    with pytest.raises(PreflightError) as raised:
        check_alike({"the driver": ALIKE, "node a": ALIKE, "node b": {**ALIKE, name: "x"}})
    assert str(raised.value).startswith(
        f"Expected the same {name} everywhere, got {ALIKE[name]} on the driver and x on node b."
    )


def test_driver_may_lack_torch_but_nodes_must_agree():
    driver = {**ALIKE, "torch": "none"}
    check_alike({"the driver": driver, "node a": ALIKE, "node b": ALIKE})
    with pytest.raises(PreflightError, match=r"got 2\.15\.0 on node a and 2\.14\.0 on node b"):
        check_alike({"the driver": driver, "node a": ALIKE, "node b": {**ALIKE, "torch": "2.14.0"}})


def test_answers_of_nodes_are_compared_and_the_node_named(needs, monkeypatch):
    here = versions()
    answers = {"node a": (here, None), "node b": (here, None)}
    monkeypatch.setattr(cluster, "_ask", lambda *_: answers)
    nodes = {"1": "node a", "2": "node b"}
    assert preflight_nodes(needs, nodes) == here
    answers["node b"] = ({**here, "numpy": "0"}, None)
    with pytest.raises(PreflightError, match="same numpy everywhere, got .* and 0 on node b"):
        preflight_nodes(needs, nodes)
    answers["node b"] = (here, "Expected a run store, got /s.")
    with pytest.raises(PreflightError, match="On node b: Expected a run store, got /s."):
        preflight_nodes(needs, nodes)


def test_project_hash_follows_the_code(tmp_path, monkeypatch):
    before = project_hash()
    assert before == project_hash()
    (tmp_path / "mtl").mkdir()
    (tmp_path / "mtl" / "new.py").write_text("x = 1\n")
    import mtl

    monkeypatch.setattr(mtl, "__path__", [str(tmp_path / "mtl")])
    changed = project_hash()
    assert changed != before
    (tmp_path / "mtl" / "new.py").write_text("x = 2\n")
    assert project_hash() != changed


def test_only_the_three_packages_travel_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    sent = travelling_code(tmp_path)
    assert set(sent) == {"working_dir", "env_vars"}
    assert set(sent["env_vars"]) == {CODE_VERSION_VARIABLE}
    folder = Path(sent["working_dir"])
    assert {path.name for path in folder.iterdir()} == {"sweeps", "mtl", "analysis"}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".py", ".json", ".j2", ".html", ".css", ".js", ".typed",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 5e6


def test_modules_from_outside_travel_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    (tmp_path / "mine" / "travel_package").mkdir(parents=True)
    (tmp_path / "mine" / "travel_package" / "__init__.py").write_text("")
    (tmp_path / "mine" / "travel_file.py").write_text("")
    (tmp_path / "mine" / "secret.txt").write_text("")
    sent = travelling_code(tmp_path / "there", ["travel_package", "travel_file"])
    names = {path.name for path in Path(sent["working_dir"]).iterdir()}
    assert names == {"sweeps", "mtl", "analysis", "travel_package", "travel_file.py"}


def test_node_without_a_module_from_outside_is_named(tmp_path):
    needs = Needs(store=str(tmp_path), code={"travel_nowhere": "0123456789abcdef"})
    _, lacking = look(needs)
    assert "Expected a module 'travel_nowhere' with Python source" in str(lacking)


def test_submitted_job_with_a_working_folder_brings_its_code(tmp_path, monkeypatch):
    job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert set(travelling_code(tmp_path)) == {"env_vars"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": None}))
    assert "working_dir" in travelling_code(tmp_path)


@pytest.fixture
def silent_address() -> Iterator[str]:
    """Return an address where nobody answers."""
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_address_where_nobody_answers_is_refused_at_once(silent_address):
    with (
        StopSignals() as signals,
        pytest.raises(PreflightError, match=f"Expected a Ray cluster at {silent_address}, got"),
        started_ray(Execution(address=silent_address), "mine", signals),
    ):
        pass


@pytest.mark.parametrize("more", [[], ["--refine", "1"]])
def test_where_nobody_answers_nothing_is_written(more, silent_address, tmp_path, capsys):
    argv = ["--address", silent_address, "--store", str(tmp_path / "store"), *more]
    assert priority_grid.main(argv) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"priority_grid: Expected a Ray cluster at {silent_address}, got: ")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    Store(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"))
    assert priority_grid.main(argv) == 1
    assert sorted(tmp_path.rglob("*")) == before
