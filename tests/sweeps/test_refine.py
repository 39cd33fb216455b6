"""Refinement: matched, decided by validation alone, and the same however often it is asked for."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mtl.errors import StoreError
from mtl.store import Store
from sweeps import command
from sweeps.plan import Grid, grid_specs, make_plan
from sweeps.plan.refine import decide, decision_text, num_added, num_gaps, record, refined_plan
from sweeps.priority_grid import GRID, main
from sweeps.status.journal import sweep_lock
from tests.sweeps.played import PlayedLaunch, finish

pytestmark = pytest.mark.usefixtures("two_cpus")

# Validation delta1 and miou by depth priority in sixths, with the ranges .40 and .40. Widths:
# 1-2: hypot(.10, .02)/.4 = .255   2-3: hypot(.25, .28)/.4 = .938   3-4: .135   4-5: .146
# The widest are filled by 5/12 and 3/12.
VALIDATION = {1: (0.45, 0.90), 2: (0.55, 0.88), 3: (0.80, 0.60), 4: (0.82, 0.55), 5: (0.85, 0.50)}
# On the test split it is 4/6 to 5/6, so 9/12, which must not be looked at.
TEST = {1: (0.50, 0.90), 2: (0.51, 0.89), 3: (0.52, 0.88), 4: (0.53, 0.87), 5: (0.90, 0.30)}


def metrics_of(spec, table):
    """Return metrics in which the seeds lie a hundredth above and below their mean."""
    sixth = 6 * (spec.priorities or (0.5,))[0]
    low = table[min(5, max(1, int(sixth + 1e-6)))]
    shift = 0.01 if spec.seed else -0.01
    values = [value + shift for value in low]
    return {
        task: {"depth": {"delta1": values[0], "rmse": 1.0, "abs": 1.0, "rel": 1.0}}.get(
            task, {"miou": values[1], "within_30": values[1], "pixel_accuracy": 0.5}
        )
        for task in spec.tasks
    }


def metrics_by_split(spec):
    return {"validation": metrics_of(spec, VALIDATION), "test": metrics_of(spec, TEST)}


@pytest.fixture
def launched(monkeypatch) -> PlayedLaunch:
    return PlayedLaunch(monkeypatch, metrics_by_split)


def sweep(store_root):
    return Store(store_root).sweep_folder("priority_grid")


def revisions(store_root):
    return json.loads((sweep(store_root) / "plan.json").read_text())["revisions"]


def decisions(store_root):
    return [json.loads(x) for x in (sweep(store_root) / "decisions.jsonl").read_text().splitlines()]


def base_plan(grid: Grid = GRID):
    return make_plan("priority_grid", "priority_grid", grid_specs(grid))


@pytest.mark.parametrize(("num_tasks", "divisions"), [(2, 2), (2, 6), (3, 4), (3, 7), (4, 8)])
def test_number_of_gaps(num_tasks, divisions):
    lattice = {
        counts
        for counts in itertools.product(range(1, divisions), repeat=num_tasks)
        if sum(counts) == divisions
    }
    neighbours = sum(
        sum(abs(a - b) for a, b in zip(p, q, strict=True)) == 2
        for p, q in itertools.combinations(lattice, 2)
    )
    assert num_gaps(num_tasks, divisions) == neighbours


def test_grid_is_refined_once_where_the_front_has_gaps(tmp_path, launched, capsys):
    argv = ["--store", str(tmp_path), "--refine", "2"]
    keys = ["num_runs", "num_done", "runs", "expected_seconds", "expected_bytes"]
    assert main([*argv, "--plan", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert list(held) == [*keys, "most_refinement_runs", "comparisons"]
    assert (held["num_runs"], held["most_refinement_runs"]) == (20, 8)
    assert main([*argv, "--plan"]) == 0
    out = capsys.readouterr().out
    assert "--refine then adds 2 priorities" in out
    assert "at most 8 runs, not counted here" in out  # 2 priorities x 2 methods x 2 seeds

    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "Refined: (0.417 / 0.583), (0.25 / 0.75) of depth segmentation" in out
    assert len(launched.trained) == 20 + 8
    store = Store(tmp_path)
    added = [store.spec(run_id) for run_id in launched.trained[20:]]
    # Matched arms: every method and seed at the same priorities, seed 0 first.
    assert [(s.seed, s.method) for s in added] == [
        (seed, method) for seed in (0, 1) for _ in range(2) for method in ("lsb", "fixed")
    ]
    assert {s.priorities for s in added} == {
        (0.416666666667, 0.583333333333),
        (0.25, 0.75),
    }
    finer = base_plan(Grid(**{**vars(GRID), "divisions": 12}))
    assert set(launched.trained) < set(finer.run_ids)  # a finer grid trains nothing of it again
    assert [len(r["run_ids"]) for r in revisions(tmp_path)] == [20, 28]
    (decision,) = decisions(tmp_path)
    assert decision["priorities"][0] == pytest.approx([5 / 12, 7 / 12])
    assert decision["metrics"] == ["depth_delta1", "segmentation_miou"]
    assert decision["split"] == "validation"

    # The same command again trains nothing and decides nothing.
    assert main(argv) == 0
    assert len(launched.trained) == 28
    assert len(decisions(tmp_path)) == 1
    assert revisions(tmp_path)[-1]["run_ids"] == revisions(tmp_path)[1]["run_ids"]
    capsys.readouterr()
    assert main([*argv, "--plan", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert list(held) == [*keys, "comparisons"]
    assert (held["num_runs"], held["num_done"]) == (28, 28)


def state_of(store_root):
    return json.loads((sweep(store_root) / "status.json").read_text())["state"]


def test_refined_sweep_has_one_lock_one_report_and_one_end(tmp_path, launched, monkeypatch):
    states = []
    decided = decide

    def decide_and_look(*args):
        states.append(state_of(tmp_path))
        with (
            pytest.raises(StoreError, match="being run by another process"),
            sweep_lock(Store(tmp_path), "priority_grid"),
        ):
            pass
        return decided(*args)

    monkeypatch.setattr(command, "decide", decide_and_look)
    assert main(["--store", str(tmp_path), "--refine", "2"]) == 0
    # A watcher ends at `finished`: it must not see that between the passes.
    assert states == ["running"]
    assert launched.states_before == ["preparing", "preparing"]
    assert state_of(tmp_path) == "finished"
    assert len(launched.leases) == 2
    assert len(set(launched.leases)) == 1
    assert launched.reported == [28]


def test_sweep_is_finished_although_no_priority_is_added(tmp_path, launched, capsys, monkeypatch):
    best = {**dict.fromkeys(range(1, 6), (0.5, 0.5)), 3: (0.9, 0.9)}
    monkeypatch.setattr(f"{__name__}.VALIDATION", best)
    assert main(["--store", str(tmp_path), "--refine", "2"]) == 0
    assert len(launched.trained) == 20
    assert state_of(tmp_path) == "finished"
    assert launched.reported == [20]
    assert (
        "Refined: no priority was added. Of each method one priority's point dominates all others, "
        "so no front has a gap to fill." in capsys.readouterr().out
    )


def test_error_between_the_passes_leaves_the_status_stopped(
    tmp_path, launched, capsys, monkeypatch
):
    def fail(*_):
        raise StoreError("Expected a result, got rubbish.")

    with monkeypatch.context() as broken:
        broken.setattr(command, "decide", fail)
        assert main(["--store", str(tmp_path), "--refine", "2"]) == 1
    assert state_of(tmp_path) == "stopped"
    assert capsys.readouterr().err == "priority_grid: Expected a result, got rubbish.\n"
    assert main(["--store", str(tmp_path), "--refine", "2"]) == 0
    assert len(launched.trained) == 28


def test_stopped_command_goes_on_with_the_same_plan(tmp_path, launched):
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    argv = ["--refine", "2", "--store"]
    assert main([*argv, str(undisturbed)]) == 0
    launched.trained.clear()
    for launched.stop_after in (7, 23):
        assert main([*argv, str(stopped)]) == 1
        assert len(launched.trained) == launched.stop_after
    launched.stop_after = None
    assert main([*argv, str(stopped)]) == 0
    assert len(launched.trained) == len(set(launched.trained)) == 28
    assert revisions(stopped)[-1]["run_ids"] == revisions(undisturbed)[-1]["run_ids"]
    assert len(decisions(stopped)) == 1


def test_grid_with_a_failed_run_is_not_refined(tmp_path, launched, capsys):
    launched.failing = {base_plan().run_ids[3]}
    argv = ["--store", str(tmp_path), "--refine", "1"]
    assert main(argv) == 1
    assert "refined once the whole grid is done" in capsys.readouterr().err
    assert len(launched.trained) == 19
    launched.failing = set()
    assert main([*argv, "--retry-failed"]) == 0
    assert len(launched.trained) == 24


def test_recorded_decision_stands_and_a_torn_line_is_ignored(tmp_path):
    store = Store(tmp_path)
    plan = base_plan()
    for spec in plan.specs:
        finish(store, spec, metrics_by_split(spec))
    store.sweep_folder(plan.name).mkdir()
    first = decide(plan, GRID, 1, store)
    assert decide(plan, GRID, 1, store) == first
    path = store.sweep_folder(plan.name) / "decisions.jsonl"
    path.write_bytes(b'{"decision": "refine", "gr')
    assert [d.is_new for d in decide(plan, GRID, 1, store)] == [True]
    record(store, plan.name, first)
    assert len(decisions(tmp_path)) == 1  # in the place of the torn line
    for spec in plan.specs:
        finish(store, spec, dict.fromkeys(("validation", "test"), metrics_of(spec, TEST)))
    assert [d.points for d in decide(plan, GRID, 1, store)] == [d.points for d in first]
    # Another number of priorities is another question.
    assert decide(plan, GRID, 2, store)[0].points[0] == pytest.approx((9 / 12, 3 / 12))


def test_damaged_line_is_refused_and_can_be_removed(tmp_path, launched, capsys):
    argv = ["--store", str(tmp_path), "--refine"]
    assert main([*argv, "1"]) == 0
    assert main([*argv, "2"]) == 0
    path = sweep(tmp_path) / "decisions.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(f"{first[:40]}\n{second}")
    capsys.readouterr()
    assert main([*argv, "1"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"priority_grid: Expected decisions in {path}, got a damaged line 1.")
    path.write_text(second)
    assert main([*argv, "1"]) == 0
    assert len(launched.trained) == 28
    chosen = [decision["priorities"] for decision in decisions(tmp_path)]
    assert chosen == [json.loads(second)["priorities"], json.loads(first)["priorities"]]


def test_each_task_set_is_refined_on_its_own_and_all_rates_alike(tmp_path):
    store = Store(tmp_path)
    grid = Grid(
        task_sets=(("depth", "segmentation"), ("depth", "normal")),
        methods=("lsb", "equal"),
        divisions=6,
        seeds=2,
        fields=GRID.fields,
        axes={"method_options.increase_rate": (0.0, 0.5)},
        baselines=True,
    )
    plan = base_plan(grid)
    for spec in plan.specs:
        finish(store, spec, metrics_by_split(spec))
    # 2 pairs x 3 priorities x 2 rates x 2 seeds; `equal` and the single tasks take no priorities.
    assert num_added(plan, 3) == 24
    chosen = decide(plan, grid, 3, store)
    assert [d.record["tasks"] for d in chosen] == [["depth", "segmentation"], ["depth", "normal"]]
    refined = refined_plan(plan, chosen)
    added = refined.specs[len(plan.specs) :]
    assert refined.run_ids[: len(plan.run_ids)] == plan.run_ids
    assert len(added) == 24
    assert {s.method for s in added} == {"lsb"}
    assert {s.method_options["increase_rate"] for s in added} == {0.0, 0.5}


def test_plan_of_a_finished_grid_names_the_added_runs(tmp_path, capsys):
    # Both methods' fronts are the priorities of three and four sixths: one gap.
    store = Store(tmp_path)
    best = {**dict.fromkeys(range(1, 6), (0.1, 0.1)), 3: (0.9, 0.8), 4: (0.8, 0.9)}
    for spec in base_plan().specs:
        finish(store, spec, metrics_by_split(spec) | {"validation": metrics_of(spec, best)})
    before = sorted(map(str, tmp_path.rglob("*")))
    assert main(["--store", str(tmp_path), "--refine", "2", "--plan"]) == 0
    out = capsys.readouterr().out
    assert "Refined: (0.583 / 0.417) of depth segmentation" in out
    assert "It has 1 gap where 2 were to be filled" in out
    assert "24 runs: 20 done, 4 to do" in out
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def noisy(spec):
    """Return metrics on a line, whose seeds lie the further apart the more depth matters."""
    p = spec.priorities[0]
    values = 0.3 + 0.4 * p + 0.1 * p * (spec.seed - 1), 0.9 - 0.5 * p
    return {"depth": {"delta1": values[0]}, "segmentation": {"miou": values[1]}}


def test_refined_where_the_fitted_front_is_least_sure(tmp_path):
    store, grid = Store(tmp_path), replace(GRID, seeds=3, refine_by="unsure")
    plan = base_plan(grid)
    for spec in plan.specs:
        finish(store, spec, dict.fromkeys(("validation", "test"), noisy(spec)))
    (decision,) = decide(plan, grid, 3, store)
    # On the line the widths rise with the priority of depth; neighbours lie a division apart.
    depth = [point[0] for point in decision.points]
    assert depth == pytest.approx([11 / 12, 9 / 12, 7 / 12])
    assert "where the fitted validation front is least sure" in decision_text(decision)
    record(store, plan.name, [decision])
    assert not decide(plan, grid, 3, store)[0].is_new
    # The other rule asks another question.
    assert decide(plan, replace(grid, refine_by="gaps"), 3, store)[0].is_new


@pytest.mark.slow
def test_real_trainings_are_refined(tmp_path):
    argv = [
        sys.executable, str(Path(command.__file__).with_name("priority_grid.py")), "--quick",
        "--methods", "lsb", "--divisions", "5", "--set", "epochs=6", "data.num_train=96",
        "--refine", "1", "--store", str(tmp_path),
    ]  # fmt: skip
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    print(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    (decision,) = decisions(tmp_path)
    ((depth, segmentation),) = decision["priorities"]
    # Between two of the fifths, so a tenth.
    assert round(10 * depth) % 2 == 1
    assert depth + segmentation == pytest.approx(1)
    assert len(revisions(tmp_path)[-1]["run_ids"]) == 4 + 1
    (added,) = revisions(tmp_path)[-1]["run_ids"][4:]
    store = Store(tmp_path)
    assert store.spec(added).priorities == pytest.approx((depth, segmentation))
    assert store.is_done(added)
    assert state_of(tmp_path) == "finished"
    assert ran.stdout.count("Report: ") == 1
    assert f"({depth:.3g}, {segmentation:.3g})" in ran.stdout.split("nondominated")[1]
