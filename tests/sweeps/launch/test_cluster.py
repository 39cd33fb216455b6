"""Clusters of several nodes, each a raylet of its own on this machine.

The nodes see the project's code only as it travels to them; what is installed is not looked at.
"""

import contextlib
import dataclasses
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

import mtl
from mtl.errors import PreflightError
from mtl.spec import RunSpec, Runtime
from mtl.store import Store
from mtl.training import fit
from sweeps.launch import Execution, tune
from sweeps.launch.cluster import resources_of, worker_nodes
from sweeps.launch.session import Session, Workers
from sweeps.launch.signals import StopSignals
from tests.sweeps.launch.stage import Said, launch_specs

SCRIPT = Path(__file__).parents[3] / "sweeps" / "priority_grid.py"
OBJECT_STORE = 80_000_000

# Ray's Cluster forgets the handles of processes that it has ended.
pytestmark = pytest.mark.filterwarnings(
    "ignore:subprocess .* is still running:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Yield a cluster whose head runs nothing, with one node of one CPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The workers' own environment must not lead them to the code.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": OBJECT_STORE},
    )
    made.first = made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    yield made
    ray.shutdown()
    made.shutdown()
    del made
    gc.collect()  # of a socket that Ray leaves open, while its warning is ignored


def run_on(cluster, root, specs, runtime, *, train=None, run_round=None, before=None, **execution):
    """Launch `specs` on `cluster`; return store, progress and what was said.

    `before` is called with the session once the nodes of the start were looked at.
    """
    store, display = Store(root), Said()
    how = Execution(address=cluster.address, **execution)
    with (
        StopSignals() as signals,
        Session(how, "mine", Workers(0, False)) as session,
    ):
        if before is not None:
            session.begin()
            session.preflight(specs, store, runtime, resources_of(how, 0), display)
            before(session)
        progress = launch_specs(
            store, specs, signals, execution=how, runtime=runtime, display=display,
            session=session, train=train, run_round=run_round or tune.tune_round,
        )  # fmt: skip
    return store, progress, display.texts


def training_with_notes(marks: Path):
    """Return a training of some seconds that notes its node, the code's files and the data root."""
    folder = str(marks)

    def train(spec, store, runtime, on_epoch):
        import os
        import time
        from pathlib import Path

        import ray

        import mtl
        import sweeps
        from mtl.records import EpochRecord, Result
        from mtl.store.code_version import code_version

        run_id = spec.run_id()
        context = ray.get_runtime_context()
        lines = [
            context.get_node_id(), sweeps.__file__, mtl.__path__[0], code_version(),
            str(runtime.data_root), str(os.getpid()),
        ]  # fmt: skip
        Path(folder, run_id).write_text("\n".join(lines))
        for epoch in range(1, 9):  # while a node that has just joined is given a run too
            on_epoch(EpochRecord(epoch, [0.5, 0.25], [1.0, 1.0], None, None, 0.1, {}, 0.0))
            time.sleep(0.5)
        metrics = {"validation": {}, "test": {}}
        result = Result(run_id, "done", 1, "last", 1, metrics, metrics)
        store.write_result(result)
        return result

    return train


def notes_in(marks: Path) -> list[list[str]]:
    return [path.read_text().splitlines() for path in marks.iterdir()]


@pytest.mark.slow
def test_code_travels_to_every_node_and_data_are_copied_once(cluster, tmp_path, make_tiny):
    cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    marks, local = tmp_path / "marks", tmp_path / "local"
    marks.mkdir()
    specs = [RunSpec.from_dict(make_tiny(seed=seed)) for seed in range(4)]
    _, progress, said = run_on(
        cluster,
        tmp_path / "store",
        specs,
        Runtime(data_root=str(tmp_path / "shared")),
        train=training_with_notes(marks),
        local_data=str(local),
    )
    assert len(progress.done) == 4
    assert said[0] == "Checked 2 nodes: store, data, disk and versions."
    assert len({node for node, *_ in notes_in(marks)}) == 2
    own_folder = str(Path(mtl.__path__[0]).parent)
    for _, sweeps_file, mtl_folder, version, data_root, _ in notes_in(marks):
        assert "runtime_resources/working_dir_files" in sweeps_file
        assert "runtime_resources/working_dir_files" in mtl_folder
        assert not sweeps_file.startswith(own_folder)
        assert version == notes_in(marks)[0][3]
        assert data_root == str(local)
    assert (
        len({pid for *_, pid in notes_in(marks)}) == 4
    )  # a process a run, so that each bears its name
    (copy,) = (path for path in local.iterdir() if path.is_dir())
    assert (copy / "manifest.json").exists()


def requeued(store: Store) -> list[dict]:
    lines = (store.sweep_folder("mine") / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == "run_requeued"]


@pytest.mark.slow
def test_late_joining_node_gets_runs(cluster, tmp_path, make_tiny):
    marks = tmp_path / "marks"
    marks.mkdir()
    specs = [RunSpec.from_dict(make_tiny(seed=seed)) for seed in range(5)]
    late = []

    def join(_session):
        late.append(cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE))

    runtime = Runtime(data_root=str(tmp_path / "shared"))
    store, progress, _ = run_on(
        cluster, tmp_path / "store", specs, runtime, train=training_with_notes(marks), before=join
    )
    assert progress.done == {spec.run_id() for spec in specs}
    assert {node for node, *_ in notes_in(marks)} == {cluster.first.node_id, late[0].node_id}
    assert requeued(store) == []


@pytest.mark.slow
def test_runs_of_an_incompatible_node_are_trained_elsewhere(cluster, tmp_path, make_tiny):
    if not _can_hide_folders():
        pytest.skip("no mount namespaces for this user")
    marks, root = tmp_path / "marks", tmp_path / "store"
    marks.mkdir()
    specs = [RunSpec.from_dict(make_tiny(seed=seed)) for seed in range(5)]
    runtime = Runtime(data_root=str(tmp_path / "shared"))
    with node_without(root, cluster, tmp_path) as join:
        store, progress, said = run_on(
            cluster, root, specs, runtime, train=training_with_notes(marks), before=lambda _: join()
        )
    assert progress.done == {spec.run_id() for spec in specs}
    assert {node for node, *_ in notes_in(marks)} == {cluster.first.node_id}
    assert len(requeued(store)) >= 1
    (said_of_it,) = [text for text in said if text.endswith("Its runs go to other nodes.")]
    assert "Expected a run store, got " in said_of_it
    assert all(store.error(spec.run_id()) is None for spec in specs)


@pytest.mark.slow
def test_sweep_without_a_compatible_node_ends_in_a_sentence(cluster, tmp_path, make_tiny):
    specs = [RunSpec.from_dict(make_tiny(seed=seed)) for seed in range(2)]

    def expect_another_timm(session):
        versions = {**session.needs.versions, "timm": "0"}
        session.needs = dataclasses.replace(session.needs, versions=versions)

    with pytest.raises(PreflightError, match="same timm everywhere, got 0 on"):
        run_on(
            cluster, tmp_path / "store", specs, Runtime(data_root=str(tmp_path / "shared")),
            before=expect_another_timm,
        )  # fmt: skip
    store = Store(tmp_path / "store")
    assert len(requeued(store)) == len(specs)
    assert all(store.error(spec.run_id()) is None for spec in specs)


@pytest.mark.slow
def test_lost_node_costs_at_most_one_epoch(cluster, tmp_path, make_tiny):
    runtime = Runtime(
        data_root=str(tmp_path / "shared"), num_samples=0, device="cpu", checkpoint_seconds=0
    )
    specs = [RunSpec.from_dict(make_tiny(epochs=40, seed=seed)) for seed in range(2)]
    first_id = specs[0].run_id()
    lost = []

    class Losing:
        """Passes on to the tracker; takes the node away once its run has some epochs."""

        def __init__(self, tracker):
            self._tracker = tracker

        def __getattr__(self, name):
            return getattr(self._tracker, name)

        def tick(self):
            self._tracker.tick()
            num_epochs = len(self._tracker.store.epochs(first_id))
            if not lost and num_epochs >= 5:
                lost.append(num_epochs)
                cluster.remove_node(cluster.first, allow_graceful=False)
                cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)

    def run_round(run_ids, trainable, resources, tracker, signals, scratch):
        tune.tune_round(run_ids, trainable, resources, Losing(tracker), signals, scratch)

    store, progress, said = run_on(cluster, tmp_path / "store", specs, runtime, run_round=run_round)
    assert progress.done == {spec.run_id() for spec in specs}
    assert len(lost) == 1
    assert lost[0] < 40
    assert any(text.startswith("Trying again") for text in said)
    started = store.manifest(first_id)["started_epochs"]
    print("epochs when the node went:", lost[0], "started from:", started)
    assert started[0] == 1
    assert len(started) == 2
    # The record of an epoch is written before its checkpoint: at most that epoch is repeated.
    assert started[1] >= lost[0]
    undisturbed = Store(tmp_path / "undisturbed")
    for spec in specs:
        fit(spec, undisturbed, runtime)
        name = f"runs/{spec.run_id()}/result.json"
        assert (store.root / name).read_bytes() == (undisturbed.root / name).read_bytes()


def _can_hide_folders() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False)
    return tried.returncode == 0


@contextlib.contextmanager
def node_without(folder: Path, cluster, tmp_path: Path):
    """Yield what starts a second node on which another, empty folder lies at the path `folder`."""
    script = (
        f"mount -t tmpfs none {folder} && exec {Path(sys.executable).parent}/ray start "
        f"--address {cluster.address} --num-cpus 1 --object-store-memory {OBJECT_STORE} --block"
    )
    started = []

    def join() -> None:
        with open(tmp_path / "node.log", "w") as log:
            started.append(
                subprocess.Popen(
                    ["unshare", "-rm", "sh", "-c", script], stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip
        end = time.monotonic() + 120
        while len(worker_nodes(1, 0)) < 2:
            assert time.monotonic() < end, (tmp_path / "node.log").read_text()
            time.sleep(0.2)

    try:
        yield join
    finally:
        for node in started:
            children = psutil.Process(node.pid).children(recursive=True)
            for pid in (node.pid, *(child.pid for child in children)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait(30)


@pytest.mark.slow
def test_store_that_is_not_shared_is_refused(cluster, tmp_path):
    if not _can_hide_folders():
        pytest.skip("no mount namespaces for this user")
    store = tmp_path / "store"
    Store(store)
    with node_without(store, cluster, tmp_path) as join:
        ray.init(address=cluster.address, log_to_driver=False)
        join()
        ray.shutdown()
        ended = subprocess.run(
            [
                sys.executable, str(SCRIPT), "--address", cluster.address, "--store", str(store),
                "--quick", "--data-root", str(tmp_path / "data"),
            ],
            capture_output=True, text=True, timeout=300, check=False,
            env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
        )  # fmt: skip
    print(ended.stderr)
    assert ended.returncode == 1
    assert ended.stderr.startswith("priority_grid: On node ")
    assert "Expected a run store, got " in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list(store.glob("runs/*/epochs.jsonl"))
    assert not (tmp_path / "data").exists()
