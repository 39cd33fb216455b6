"""A sweep over a training function of one's own: the plan, the page's example, real processes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from mtl.spec.methods import METHODS
from mtl.store import Store
from mtl.store.states import read_run
from mtl.weighting import WEIGHTINGS, build_weighting
from sweeps import Metric, Sweep, own
from tests.faults.tiny_sweep import finished_files, wait_for_epochs
from tests.sweeps.launch.test_own_training import GOOD, METRICS

PAGE = Path(__file__).resolve().parents[2] / "docs/own-sweep.md"
KINDS = {"steering": "regression", "drowsiness": "classification"}
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a training function in a module that can be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "their_training.py").write_text(GOOD)
    monkeypatch.delitem(sys.modules, "their_training", raising=False)
    return "their_training:train"


def test_grid_is_extended_not_repeated(train):
    small = Sweep(train, METRICS, divisions=3, seeds=1, params={"lr": 0.1}).plan()
    large = Sweep(train, METRICS, divisions=6, seeds=2, params={"lr": [0.1, 0.2]}).plan()
    assert len(small.run_ids) == 4
    assert len(large.run_ids) == 2 * 5 * 2 * 2
    assert set(small.run_ids) < set(large.run_ids)
    assert large.varies["params.lr"] == [0.1, 0.2]
    assert [spec.seed for spec in large.specs[:20]] == [0] * 20


def test_method_without_priorities_appears_once_a_seed(train):
    methods = ["equal", "lsb"]
    options = {"increase_rate": [0.02, 0.05]}
    sweep = Sweep(train, METRICS, methods=methods, divisions=3, seeds=1, method_options=options)
    told = [(s.method, s.method_options.get("increase_rate")) for s in sweep.plan().specs]
    assert told == [("equal", None), ("lsb", 0.02), ("lsb", 0.05), ("lsb", 0.02), ("lsb", 0.05)]


def test_edit_makes_new_runs_and_its_undoing_the_old_ones(train, tmp_path):
    before = Sweep(train, METRICS).plan().run_ids
    (tmp_path / "their_training.py").write_text(GOOD + "\n# faster\n")
    assert not set(Sweep(train, METRICS).plan().run_ids) & set(before)
    (tmp_path / "their_training.py").write_text(GOOD)
    assert Sweep(train, METRICS).plan().run_ids == before


@pytest.mark.parametrize("method", WEIGHTINGS)
def test_config_builds_the_weighting_of_each_method(train, method):
    others = [f"t{i}" for i in range(max(0, METHODS[method].min_tasks - 2))]
    metrics = {**METRICS, **dict.fromkeys(others, "mae:min:m")}
    kinds = {**KINDS, **dict.fromkeys(others, "regression")}
    sweep = Sweep(train, metrics, methods=[method], seeds=1, divisions=None, loss_kinds=kinds)
    (spec,) = sweep.plan().specs
    assert build_weighting(**spec.config["weighting"]).tasks == spec.tasks


def test_kind_of_a_loss_is_part_of_those_runs_alone_that_use_it(train):
    def run_ids(method: str, kind: str) -> tuple[str, ...]:
        kinds = {"steering": "regression", "drowsiness": kind}
        return Sweep(train, METRICS, methods=[method], loss_kinds=kinds).plan().run_ids

    assert run_ids("lsb", "regression") == run_ids("lsb", "classification")
    assert run_ids("uncertainty", "regression") != run_ids("uncertainty", "classification")


def nested() -> Callable[[Any], Any]:
    def train(config: Any) -> None:
        """Cannot be imported."""

    return train


def of_main() -> Callable[[Any], Any]:
    train = nested()
    train.__module__, train.__qualname__ = "__main__", "train"
    return train


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"train": lambda config: None}, "a function that other processes can import, got"),
        ({"train": nested()}, "Define it by `def train.config.:` at the top of a file of its own"),
        ({"train": of_main()}, "got 'train' of this script or notebook"),
        ({"train": Metric}, "a function that other processes can import, got 'Metric'"),
        ({"train": "their_training"}, "as module:name, got 'their_training'"),
        ({"train": "no_such_module:train"}, "Expected a module 'no_such_module'"),
        ({"metrics": {}}, "Expected the tasks with what is reported of them, got none"),
        ({"metrics": {"steering": "mae"}}, "Expected a direction of steering=mae, got none"),
        ({"methods": "lsb"}, "Expected a list of methods, got 'lsb'"),
        ({"methods": ["lsb", "lsb"]}, "Expected each method once, got lsb twice"),
        ({"params": {"lr": [1e-3, 1e-3]}}, "Expected each value of lr once, got 0.001 twice"),
        ({"metrics": {"steering": []}}, "Expected at least one metric of a task"),
        ({"seeds": 0}, "at least 1 seed"),
        ({"methods": []}, "at least one method"),
        ({"methods": ["lbs"]}, "Did you mean"),
        ({"params": {"lr": []}}, "at least one value of lr"),
        ({"method_options": {"increase_rat": 1}}, "Did you mean increase_rate"),
        ({"divisions": 1}, "at least 2 divisions"),
        ({"seeds": 100_000}, "a grid of at most 100,000 runs"),
        ({"seeds": [0, 1]}, r"Expected a whole number of seeds, got \[0, 1\]"),
        ({"divisions": 2.5}, "Expected a whole number of divisions, got 2.5"),
        ({"priorities": []}, r"as a list of points, .* of steering, drowsiness, got \[\]"),
        ({"priorities": (0.3, 0.7)}, r"got \(0.3, 0.7\). Write \[\(0.5, 0.5\)\] for a single"),
        ({"priorities": [{"steering": 0.3, "drowsiness": 0.7}]}, "as a list of points"),
        ({"metrics": [Metric("mae", "m", "min")]}, "Expected metrics as task -> "),
        ({"metrics": {"a": ["mae:min"]}}, r"got \['mae:min'\]. .* in one text are"),
        ({"params": {"lr": {"grid_search": [1, 2]}}}, "values of lr as a list, got a search space"),
        ({"params": {"lr": [1, tune.uniform(0, 1)]}}, "search space of Ray Tune, .* sweep.train"),
        ({"code": "helpers"}, r"list of modules as code, got 'helpers'. Write \['helpers'\]"),
        ({"method_options": {"increase_rate": "fast"}}, "at least 0, got 'fast'"),
        ({"methods": ["uncertainty"]}, "kinds of steering, drowsiness for method 'uncertainty'"),
        ({"loss_kinds": {"steering": "regresion"}}, "Did you mean regression"),
        ({"loss_kinds": {"staring": "regression"}}, "Did you mean steering"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_a_sentence(arguments, told, train):
    given = {"train": train, "metrics": METRICS, **arguments}
    with pytest.raises(ValueError, match=told):
        Sweep(given.pop("train"), given.pop("metrics"), **given)


def test_unknown_argument_of_run_is_refused_in_a_sentence(train):
    with pytest.raises(ValueError, match="Unknown argument of run 'gpus'.* Known: .*gpus_per_run"):
        Sweep(train, METRICS).run(gpus=1)


def test_unknown_function_lists_what_the_module_has(train, tmp_path, capsys):
    argv = ["their_training:trian", "--metrics", "a=b:min", "c=d:max", "--store", "none"]
    assert own.main(argv) == 2
    assert "Unknown training function 'trian' in their_training. The module has" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "none").exists()


def test_plan_of_the_command_line_is_that_of_python(train, capsys):
    argv = [train, "--metrics", "steering=mae:min:degrees", "drowsiness=auroc:max:share"]
    argv += ["--set", "lr=0.1,0.2", "widths=[8,8]", "method_options.increase_rate=0.05"]
    assert own.main([*argv, "--divisions", "3", "--seeds", "1", "--plan", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    metrics = {"steering": "mae:min:degrees", "drowsiness": "auroc:max:share"}
    sweep = Sweep(
        train, metrics, divisions=3, seeds=1, params={"lr": [0.1, 0.2], "widths": (8, 8)},
        method_options={"increase_rate": 0.05},
    )  # fmt: skip
    assert [run["run_id"] for run in told["runs"]] == list(sweep.plan().run_ids)
    assert told["expected_seconds"] is None


def test_loss_kinds_of_the_command_line_are_those_of_python(train, capsys):
    argv = [train, "--metrics", "steering=mae:min:degrees", "drowsiness=auroc:max:share"]
    argv += ["--methods", "uncertainty", "--loss-kinds"]
    argv += ["steering=regression", "drowsiness=classification", "--plan", "--json"]
    assert own.main(argv) == 0
    told = json.loads(capsys.readouterr().out)
    sweep = Sweep(train, METRICS, methods=["uncertainty"], loss_kinds=KINDS)
    assert {run["run_id"] for run in told["runs"]} == set(sweep.plan().run_ids)


def test_trainable_gets_what_a_run_gets_and_what_a_scheduler_changed(train, monkeypatch):
    sweep = Sweep(train, METRICS, divisions=2, seeds=1, params={"lr": 0.1})
    spec = sweep.plan().specs[0]
    own_train = sweep.trainable()
    monkeypatch.setattr("their_training.train", lambda config: config)
    space = sweep.param_space()
    assert space["run_id"] == {"grid_search": list(sweep.plan().run_ids)}
    point = {
        name: value.func({"config": {"run_id": spec.run_id()}})
        for name, value in space.items()
        if name != "run_id"
    }
    assert point == {
        "method": "lsb", "seed": 0, "priority_steering": 0.5, "priority_drowsiness": 0.5, "lr": 0.1,
    }  # fmt: skip
    assert own_train({"run_id": spec.run_id(), **point}) == spec.config
    changed = own_train({"run_id": spec.run_id(), **point, "lr": 0.3})
    assert changed == {**spec.config, "lr": 0.3}


# Real processes.

SLOW = GOOD.replace("def stumble(epoch):\n    pass", "def stumble(epoch):\n    time.sleep(1.5)")
COMMAND = [
    sys.executable, "-m", "sweeps.own", "their_training:train", "--metrics",
    "steering=mae:min:degrees", "drowsiness=auroc:max:share", "--divisions", "2",
    "--seeds", "1", "--name", "mine",
]  # fmt: skip


def start(folder: Path, store: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--store", store, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PAGE.parents[1])},
    )


def finish(folder: Path, store: str, *more: str) -> str:
    with start(folder, store, *more) as process:
        out, said = process.communicate(timeout=600)
    assert (process.returncode, said) == (0, "")
    return out


def results_of(store: Path) -> dict[str, tuple[bytes, list[Any]]]:
    """Return run id -> result and epoch records without seconds."""
    found = {}
    for path in store.glob("runs/*/result.json"):
        lines = (path.parent / "epochs.jsonl").read_text().splitlines()
        records = [{**json.loads(line), "seconds": 0} for line in lines]
        found[path.parent.name] = (path.read_bytes(), records)
    return found


@pytest.mark.slow
def test_function_killed_three_times_ends_with_the_same_bits(tmp_path):
    (tmp_path / "their_training.py").write_text("import time\n" + SLOW)
    finish(tmp_path, "whole", "--set", "lr=0.1,0.2")
    expected = results_of(tmp_path / "whole")
    assert len(expected) == 4
    for epochs in (3, 7, 12):
        with start(tmp_path, "killed", "--set", "lr=0.1,0.2") as process:
            wait_for_epochs(tmp_path / "killed", epochs, process)
            process.kill()
    kept = finished_files(tmp_path / "killed")
    out = finish(tmp_path, "killed", "--set", "lr=0.1,0.2", "--tune-dir", "tune")
    assert "4 of 4 runs done" in out
    assert results_of(tmp_path / "killed") == expected
    assert all((p.stat().st_mtime_ns, p.read_bytes()) == held for p, held in kept.items())
    num_kept = sum(path.name == "result.json" for path in kept)
    assert len([*tmp_path.glob("tune/mine-*/*/events.out.tfevents.*")]) == 4 - num_kept
    assert "4 of 4 runs done" in finish(tmp_path, "killed", "--set", "lr=0.1,0.2")
    assert results_of(tmp_path / "killed") == expected


@pytest.mark.slow
def test_hung_function_has_failed_when_the_budget_is_spent(tmp_path):
    hangs = GOOD.replace("    pass", "    if epoch == 2:\n        time.sleep(1000)")
    (tmp_path / "their_training.py").write_text("import time\n" + hangs)
    with start(tmp_path, "store", "--set", "lr=0.1", "--budget", "0.03") as process:
        process.communicate(timeout=600)
    assert process.returncode == 1
    store = Store(tmp_path / "store")
    for run_id in store.run_ids()[:1]:
        run = read_run(store, run_id)
        assert run.state == "failed"
        assert "since report 2, more than half of the budget of 0.03 h: it counts as hung" in (
            run.reason
        )


@pytest.mark.slow
def test_example_of_the_page_trains_and_reports(tmp_path):
    (tmp_path / "my_training.py").write_text(BLOCKS[0])
    (tmp_path / "script.py").write_text(BLOCKS[1] + BLOCKS[2])
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1])}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 of 2 runs done" in done.stdout
    for report in ("results/sweeps/mine/report", "report"):
        assert (tmp_path / report / "report.html").exists()
