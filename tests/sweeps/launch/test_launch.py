"""Real launches of a played training, in one shared Ray.

The played training is a function within a function, so that it travels to Ray's workers by value.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl.spec import Runtime
from mtl.store import Store
from sweeps.launch import Execution, session, tune
from sweeps.launch.cluster import Resources, _measured_pack
from sweeps.launch.session import Session, Workers
from sweeps.launch.signals import StopSignals
from sweeps.plan import grid_specs
from sweeps.priority_grid import GRID
from tests.sweeps.launch.stage import Said, launch_specs
from tests.training.runs import tiny


@pytest.fixture(scope="module")
def ray() -> Iterator[Session]:
    """Return a Ray that the launches of this file share."""
    with Session(Execution(), "mine", Workers(2, train_networks=False)) as held:
        yield held


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def played_training(marks: Path):
    """Return a training that notes its process, and fails as `marks/<run id>` tells it."""
    folder = str(marks)

    def train(spec, store, runtime, on_epoch):
        import os
        import signal
        import time
        from pathlib import Path

        from mtl.errors import RunFailedError
        from mtl.records import EpochRecord, Result

        run_id = spec.run_id()
        trials = Path(folder, f"{run_id}.trials")
        with open(trials, "a") as file:
            cuda = os.environ.get("CUDA_VISIBLE_DEVICES")
            threads = os.environ.get("OMP_NUM_THREADS")
            file.write(f"{os.getpid()} {runtime.device} {runtime.num_threads} {cuda} {threads}\n")
        num_trials = len(trials.read_text().splitlines())
        order = Path(folder, run_id)
        what = order.read_text() if order.exists() else ""
        with store.run_lock(run_id):
            for epoch in (1, 2):
                on_epoch(EpochRecord(epoch, [0.5, None], [1.0, 1.0], None, None, 0.1, {}, 0.0))
            if what == "goes alone":
                Path(folder, "alone").touch(exist_ok=False)
                time.sleep(0.3)
                Path(folder, "alone").unlink()
            if what == "takes long":
                while True:
                    time.sleep(0.05)
            if what == "fails for good":
                raise RunFailedError("Epoch 2: loss of depth is not finite")
            if what == "is wrong":
                raise ValueError("Expected something else, got this.")
            if what == "fails once" and num_trials == 1:
                raise RuntimeError("a hiccup")
            if what == "dies always" or (what == "dies once" and num_trials == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            metrics = {"validation": {}, "test": {}}
            result = Result(run_id, "done", 2, "last", 2, metrics, metrics)
            store.write_result(result)
            return result

    return train


def play(root: Path, marks: Path, specs, *, ray=None, seconds=1e9, **options):
    """Launch `specs` with the played training; return store, progress and what was said."""
    store, display = Store(root), Said()
    with StopSignals(time.monotonic() + seconds) as signals:
        progress = launch_specs(
            store, specs, signals, display=display, session=ray, train=played_training(marks),
            **options,
        )  # fmt: skip
    return store, progress, display.texts


def trials(marks: Path, run_id: str) -> list[list[str]]:
    return [line.split() for line in (marks / f"{run_id}.trials").read_text().splitlines()]


@pytest.mark.slow
def test_crash_of_fit_under_real_workers_loses_nothing(tmp_path, marks):
    # The first of this file: it starts a Ray of its own, and the others share one.
    specs = grid_specs(GRID)[:6]
    num_rounds = 0

    class Crashing:
        """Passes on to the tracker until three runs have ended, then takes fit() down."""

        def __init__(self, tracker):
            self._tracker, self._num_ended = tracker, 0

        def __getattr__(self, name):
            return getattr(self._tracker, name)

        def run_ended(self, run_id, state):
            self._num_ended += run_id in self._tracker.progress.running
            self._tracker.run_ended(run_id, state)
            if self._num_ended == 3:
                raise RuntimeError("Caught unexpected exception: out of memory")

    def run_round(run_ids, trainable, resources, tracker, signals, scratch):
        nonlocal num_rounds
        num_rounds += 1
        heard = Crashing(tracker) if num_rounds == 1 else tracker
        tune.tune_round(run_ids, trainable, resources, heard, signals, scratch)

    store, progress, said = play(tmp_path / "store", marks, specs, run_round=run_round)
    assert num_rounds > 1
    assert progress.done == {spec.run_id() for spec in specs}
    assert sum("Ray Tune ended early" in text for text in said) == 1
    done_before = [spec.run_id() for spec in specs][:2]
    assert [len(trials(marks, run_id)) for run_id in done_before] == [1, 1]
    assert store.done(progress.runs) == set(progress.runs)
    assert not list(Path("/tmp").glob(f"{session.SCRATCH_PREFIX}{os.getpid()}-*"))


def test_processes_are_reused_and_failures_treated_by_their_kind(
    tmp_path, marks, ray, capfd, monkeypatch
):
    configs = []

    def run_id_of(trial):
        configs.append(dict(trial.config))
        return trial.config["run_id"]

    monkeypatch.setattr(tune, "_name_of", run_id_of)
    specs = grid_specs(GRID)[:9]
    ids = [spec.run_id() for spec in specs]
    orders = ("fails for good", "is wrong", "fails once", "dies once", "dies always")
    for run_id, what in zip(ids[4:], orders, strict=True):
        (marks / run_id).write_text(what)
    store, progress, said = play(tmp_path / "store", marks, specs, ray=ray)
    good = [*ids[:4], ids[6], ids[7]]
    assert progress.done == set(good)
    assert progress.failed == {ids[4], ids[5], ids[8]}
    assert [len(trials(marks, run_id)) for run_id in ids[4:]] == [1, 1, 2, 2, 3]
    readable = {
        "run_id": ids[0],
        "tasks": "depth+segmentation",
        "method": specs[0].method,
        "seed": specs[0].seed,
        "priority_depth": specs[0].priorities[0],
        "priority_segmentation": specs[0].priorities[1],
    }
    assert readable in configs
    first = [trials(marks, run_id)[0] for run_id in ids[:4]]
    assert len({pid for pid, *_ in first}) <= 2
    assert {tuple(rest) for _, *rest in first} <= {("cpu", "1", "", "1"), ("cpu", "1", "1")}
    assert "not finite" in store.error(ids[4])
    assert "Expected something else" in store.error(ids[5])
    assert "--concurrency" in store.error(ids[8])
    assert all(store.error(run_id) is None for run_id in good)
    assert sum("Trying again" in text for text in said) == 4
    events = (store.sweep_folder("mine") / "events.jsonl").read_text()
    assert events.count('"run_retried"') == 4
    assert "ray" not in "".join(capfd.readouterr()).lower()


def test_pack_is_one_trial_whose_runs_end_one_by_one(tmp_path, marks, ray, monkeypatch):
    configs = {}

    def name_of(trial):
        configs[trial.config["run_id"]] = dict(trial.config)
        return trial.config["run_id"]

    monkeypatch.setattr(tune, "_name_of", name_of)
    specs = grid_specs(GRID)[:4]
    ids = [spec.run_id() for spec in specs]
    (marks / ids[1]).write_text("fails for good")
    execution = Execution(pack=4)  # on two slots: two each
    _, progress, _ = play(tmp_path / "store", marks, specs, ray=ray, execution=execution)
    assert (progress.done, progress.failed) == ({ids[0], *ids[2:]}, {ids[1]})
    assert list(configs) == [", ".join(ids[:2]), ", ".join(ids[2:])]
    first = configs[", ".join(ids[:2])]
    assert (first["method"], first["seed"]) == ("lsb, fixed", 0)
    assert trials(marks, ids[0])[0][0] == trials(marks, ids[1])[0][0]  # in one process


@pytest.mark.slow
def test_run_that_kills_its_pack_is_found_alone(tmp_path, marks, ray):
    specs = grid_specs(GRID)[:4]
    ids = [spec.run_id() for spec in specs]
    (marks / ids[0]).write_text("dies always")
    execution = Execution(pack=2)
    store, progress, _ = play(tmp_path / "store", marks, specs, ray=ray, execution=execution)
    assert (progress.done, progress.failed) == (set(ids[1:]), {ids[0]})
    assert "--concurrency" in store.error(ids[0])


@pytest.mark.slow
def test_size_of_packs_is_measured_in_a_process_of_rays(ray):
    ray.begin()
    said = Said()
    assert _measured_pack(tiny(), Runtime(), Resources(1, 0, 1), said) in (1, 2, 4, 8)
    (text,) = said.texts
    assert text.startswith("full_sharing, test_efficientnet, depth segmentation: ")
    assert "images a second alone, 2 at once" in text


@pytest.mark.slow
def test_one_at_a_time_means_one_in_one_process(tmp_path, marks, ray):
    specs = grid_specs(GRID)[:4]
    ids = [spec.run_id() for spec in specs]
    for run_id in ids:
        (marks / run_id).write_text("goes alone")
    execution = Execution(concurrency=1)
    _, progress, _ = play(tmp_path / "store", marks, specs, ray=ray, execution=execution)
    assert progress.done == set(ids)
    noted = [trials(marks, run_id) for run_id in ids]
    assert [len(of_run) for of_run in noted] == [1] * 4
    assert len({pid for ((pid, *_),) in noted}) == 1


@pytest.mark.slow
def test_runs_stopped_at_the_deadline_are_resumed(tmp_path, marks, ray):
    specs = grid_specs(GRID)[:4]
    for spec in specs:
        (marks / spec.run_id()).write_text("takes long")
    began = time.monotonic()
    store, progress, _ = play(tmp_path / "store", marks, specs, ray=ray, seconds=4.0)
    assert time.monotonic() - began < 30
    begun = [path.stem for path in marks.glob("*.trials")]
    assert store.done(progress.runs) == set()  # none went on to its end behind our back
    assert (progress.running, progress.failed) == ({}, set())
    for spec in specs:
        (marks / spec.run_id()).unlink()
    store, progress, _ = play(tmp_path / "store", marks, specs, ray=ray)
    assert progress.done == {spec.run_id() for spec in specs}
    assert {len(trials(marks, run_id)) for run_id in begun} <= {2}
