"""The sweep files: what each asks for, small and whole, and that they share one command line."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mtl.spec.methods import METHODS, OWN_METHODS
from mtl.spec.sections import TASKS
from mtl.store import Store
from sweeps import architectures, dial, increase_rate, priority_grid, weighting_methods
from sweeps.options import parse_command
from sweeps.plan import grid_specs, make_plan
from sweeps.plan.presets import PRESETS

SWEEPS = {
    "priority_grid": priority_grid,
    "increase_rate": increase_rate,
    "weighting_methods": weighting_methods,
    "architectures": architectures,
    "dial": dial,
}
EVERY = pytest.mark.parametrize("kind", SWEEPS)
FOLDER = Path(__file__).parents[2] / "sweeps"
KEYS = ["num_runs", "num_done", "runs", "expected_seconds", "expected_bytes"]
"""Of `--plan --json`."""

pytestmark = pytest.mark.usefixtures("two_cpus")


def specs_of(kind, *argv):
    grid = parse_command(kind, "", argv, SWEEPS[kind].GRID).grid
    return make_plan(kind, kind, grid_specs(grid)).specs


@EVERY
def test_file_says_how_many_runs_it_asks_for(kind):
    assert f"{len(specs_of(kind))} runs" in (SWEEPS[kind].__doc__ or "")


@pytest.mark.parametrize("kind", [*SWEEPS, "pareto_search"])
def test_script_prints_its_plan_as_one_object_and_writes_nothing(kind, tmp_path):
    out = subprocess.run(
        [sys.executable, str(FOLDER / f"{kind}.py"), "--plan", "--json", "--quick"],
        capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    held = json.loads(out.stdout)
    compares = kind in ("priority_grid", "increase_rate", "weighting_methods", "dial")
    last = ["comparisons"] * compares + ["num_epochs"] * (kind == "pareto_search")
    assert list(held) == KEYS + last
    assert {frozenset(run) for run in held["runs"]} <= {frozenset({"run_id", "spec", "done"})}
    if kind in SWEEPS:
        assert held["num_runs"] == len(held["runs"]) == len(specs_of(kind, "--quick"))
    assert 0 < held["expected_seconds"][0] < held["expected_seconds"][1]
    assert held["expected_bytes"] > 100_000 * held["num_runs"]
    assert (out.stderr, list(tmp_path.iterdir())) == ("", [])


def test_docs_describe_every_key_of_a_plan():
    docs = (FOLDER.parent / "docs" / "sweeps.md").read_text("utf-8")
    described = re.search(r"`--plan --json` prints.*?(?=\n\n[^|])", docs, re.S)
    assert described is not None
    named = set(re.findall(r"^\| `(\w+)`", described.group(), re.M))
    assert named == {*KEYS, "num_epochs", "most_refinement_runs", "comparisons"}


@EVERY
def test_quick_says_what_it_shrinks(kind, tmp_path, capsys):
    assert SWEEPS[kind].main(["--plan", "--quick", "--store", str(tmp_path / "s")]) == 0
    (note,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("--quick trains"))
    for said in ("data.num_train 64 instead of 400", "epochs ", "seeds 1 instead of "):
        assert said in note
    assert len(specs_of(kind, "--quick")) < len(specs_of(kind))


@EVERY
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_go_with_every_sweep(kind, preset):
    specs = specs_of(kind, "--preset", preset, "--quick")
    assert {s.network.encoder for s in specs} == {PRESETS[preset].fields["network.encoder"]}
    together = {s.tasks for s in specs if len(s.tasks) > 1}
    assert {frozenset(tasks) for tasks in together} == {frozenset(PRESETS[preset].tasks)}


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_name_of_another_kind_of_sweep_is_refused(more, tmp_path, capsys):
    plan = {"schema": 1, "kind": "of_long_ago", "revisions": []}
    store = Store(tmp_path)
    store.write_json(store.sweep_key("mine", "plan.json"), plan)
    assert priority_grid.main(["--store", str(tmp_path), "--name", "mine", *more]) == 2
    out, err = capsys.readouterr()
    assert "got one of kind 'of_long_ago'" in err
    assert (out, len(err.splitlines())) == ("", 1)


def test_every_sweep_file_is_tested_here():
    asking = (path for path in FOLDER.glob("*.py") if "GRID = Grid(" in path.read_text("utf-8"))
    assert {path.stem for path in asking} == set(SWEEPS)


def test_increase_rates_are_crossed_with_priorities_and_seeds():
    specs = specs_of("increase_rate")
    assert {s.method for s in specs} == {"lsb"}
    rates = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
    cells = Counter((s.method_options["increase_rate"], s.priorities, s.seed) for s in specs)
    thirds = ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25))
    assert cells == {(r, p, seed): 1 for r in rates for p in thirds for seed in (0, 1)}


def test_note_if_too_few_epochs_for_an_increase_rate(tmp_path, capsys):
    # Weights follow a rate from the third period on: two losses are compared before.
    assert {s.epochs for s in specs_of("increase_rate", "--quick")} == {3}
    argv = ["--plan", "--store", str(tmp_path / "s")]
    assert increase_rate.main([*argv, "--quick"]) == 0
    assert "alike at every rate" not in capsys.readouterr().out
    assert increase_rate.main([*argv, "--epochs", "2"]) == 0
    assert "runs of 2 epochs are alike at every rate" in capsys.readouterr().out
    assert increase_rate.main([*argv, "--epochs", "4", "--set", "period_epochs=2"]) == 0
    assert "runs of 4 epochs are alike at every rate" in capsys.readouterr().out


def test_rate_for_methods_without_one_is_refused(tmp_path, capsys):
    store = tmp_path / "store"
    assert increase_rate.main(["--methods", "fixed", "dwa", "--store", str(store)]) == 2
    says = "method_options.increase_rate, which no run of fixed and dwa on depth segmentation"
    assert says in capsys.readouterr().err
    assert not store.exists()


def test_all_methods_meet_all_seeds_in_each_architecture():
    specs = specs_of("weighting_methods")
    together = [s for s in specs if len(s.tasks) == 3]
    cells = Counter((s.method, s.network.architecture, s.seed) for s in together)
    assert set(cells.values()) == {1}
    # `fixed` at equal weights is `equal`.
    assert {method for method, _, _ in cells} == set(OWN_METHODS) - {"fixed"}
    assert {architecture for _, architecture, _ in cells} == {
        "full_sharing", "multi_decoder", "multi_column", "mtan",
    }  # fmt: skip
    assert {seed for _, _, seed in cells} == set(range(5))
    assert len(cells) == 10 * 4 * 5
    third = (0.333333333333,) * 3
    assert {s.priorities for s in together} == {None, third}


def test_baselines_are_single_tasks_under_the_same_conditions():
    argv = (
        "--tasks", "depth", "segmentation", "--set", "data.num_train=200", "batch_size=4",
        "network.encoder=test_resnet,test_vit", "precision=bf16", "period_epochs=2",
        "loss_units.depth=0.1", "method_options.increase_rate=0.5",
    )  # fmt: skip
    specs = specs_of("weighting_methods", *argv)
    alone = [s for s in specs if len(s.tasks) == 1]
    together = [s for s in specs if len(s.tasks) == 2]
    # 2 tasks x 2 encoders x 5 seeds, trained once however many architectures there are
    assert len(alone) == 20
    assert {s.network.architecture for s in alone} == {"single_task"}
    assert {s.method for s in alone} == {"equal"}
    for name in ("data", "epochs", "batch_size", "optimizer", "precision", "micro_batches"):
        assert {getattr(s, name) for s in alone} == {getattr(s, name) for s in together}
    assert {s.network.encoder for s in alone} == {"test_resnet", "test_vit"}
    assert {(*s.tasks, *s.loss_units.values()) for s in alone} == {
        ("depth", 0.1),
        ("segmentation", 1.0),
    }
    # A sweep that is stopped is useful: every seed has its baselines before the next begins.
    assert [s.seed for s in specs] == sorted(s.seed for s in specs)


def test_baselines_can_be_left_out_and_asked_for():
    assert {len(s.tasks) for s in specs_of("weighting_methods", "--no-baselines")} == {3}
    corners = [s for s in specs_of("priority_grid", "--corners") if len(s.tasks) == 1]
    assert [(s.tasks, s.seed) for s in corners] == [
        (("depth",), 0), (("segmentation",), 0), (("depth",), 1), (("segmentation",), 1),
    ]  # fmt: skip
    # Those of several pairs are trained once.
    pairs = ("--tasks", "depth", "normal", "--tasks", "depth", "segmentation", "--seeds", "1")
    several = specs_of("priority_grid", *pairs, "--baselines")
    alone = [s.tasks for s in several if len(s.tasks) == 1]
    assert alone == [("depth",), ("normal",), ("segmentation",)]


def test_torchjd_star_is_every_method_that_fits_the_tasks(tmp_path, capsys):
    every = {method for method in METHODS if method.startswith("torchjd:")}
    three = specs_of("weighting_methods", "--methods", "lsb", "torchjd:*", "--no-baselines")
    assert {s.method for s in three} == every | {"lsb"}
    argv = ["--methods", "torchjd:*", "--tasks", "depth", "normal", "--plan"]
    assert weighting_methods.main([*argv, "--store", str(tmp_path / "s")]) == 0
    said = capsys.readouterr().out
    assert "torchjd:Krum is left out for depth normal: it needs 3 tasks." in said
    two = specs_of("weighting_methods", *argv, "--no-baselines")
    assert {s.method for s in two} == every - {"torchjd:Krum"}
    with pytest.raises(ValueError, match="got none. torchjd:Krum is left out for depth normal"):
        specs_of("weighting_methods", *argv, "--methods", "torchjd:Krum")


def test_architectures_are_crossed_with_encoders_and_methods():
    cells = Counter(
        (s.network.architecture, s.network.encoder, s.method, s.seed)
        for s in specs_of("architectures")
    )
    assert len(cells) == 5 * 2 * 2 * 2
    assert set(cells.values()) == {1}


@pytest.mark.parametrize(
    ("num_tasks", "divisions", "num_points"), [(3, 6, 10), (4, 6, 10), (9, 10, 9)]
)
def test_priority_grid_of_any_number_of_tasks(num_tasks, divisions, num_points):
    # C(divisions - 1, num_tasks - 1) interior points: C(5, 2), C(5, 3) and C(9, 8)
    argv = ("--tasks", *TASKS[:num_tasks], "--divisions", str(divisions), "--seeds", "1")
    points = {s.priorities for s in specs_of("priority_grid", *argv, "--methods", "lsb")}
    assert len(points) == num_points
    assert all(sum(p) == pytest.approx(1) and len(p) == num_tasks for p in points)
