"""--tuned-from: each method gets its own best values by an earlier sweep, on validation alone."""

import json
import re

import pytest

from analysis.compute.findings import find
from analysis.load.baselines import baselines
from analysis.load.groups import baseline_ids, groups_of_stores
from analysis.load.plans import asked_by
from analysis.load.runs import load_stores
from analysis.sections.verdict import verdict
from mtl.store import Store
from sweeps.priority_grid import main
from tests.sweeps.played import PlayedLaunch

pytestmark = pytest.mark.usefixtures("two_cpus")
RATES = (0.001, 0.002, 0.004)
BEST = {"lsb": 0.004, "fixed": 0.001}
TUNE = ["--name", "lr", "--divisions", "2", "--methods", "lsb", "fixed", "--set"]
TUNE += [f"optimizer.learning_rate={','.join(map(str, RATES))}"]


def metrics_by_split(spec):
    """Return metrics that are best at the method's own rate; on test everywhere else."""
    good = 0.8 - 10 * abs(spec.optimizer.learning_rate - BEST.get(spec.method, 0.002))
    splits = {"validation": good, "test": 0.9 - good}
    values = {"depth": ("delta1", "rmse", "abs", "rel"), "segmentation": ("miou", "pixel_accuracy")}
    return {
        split: {
            task: dict.fromkeys(names, value + spec.seed / 100) for task, names in values.items()
        }
        for split, value in splits.items()
    }


@pytest.fixture
def launched(monkeypatch):
    return PlayedLaunch(monkeypatch, metrics_by_split)


@pytest.fixture
def sweep(tmp_path):
    return lambda *words: main(["--store", str(tmp_path / "s"), *words])


@pytest.fixture
def tuned(launched, sweep, tmp_path, capsys) -> Store:
    """Return a store with a sweep whose methods were tuned, its values printed."""
    assert sweep(*TUNE) == 0
    assert sweep("--tuned-from", "lr", "--seeds", "6") == 0
    return Store(tmp_path / "s", create=False)


def test_each_method_has_the_rate_that_was_best_for_it_on_validation(tuned, capsys):
    plan = json.loads((tuned.sweep_folder("priority_grid") / "plan.json").read_text())
    assert (plan["tuned"], plan["tuned_from"]) == (["optimizer.learning_rate"], "lr")
    specs = [tuned.spec(run_id) for run_id in asked_by(tuned, "priority_grid").run_ids]
    assert len(specs) == 2 * 5 * 6
    assert {(s.method, s.optimizer.learning_rate) for s in specs} == {*BEST.items()}
    assert (
        "Tuned on validation by lr: lsb: optimizer.learning_rate 0.004 (of 3 tried); fixed: "
        "optimizer.learning_rate 0.001 (of 3 tried).\nlr judged them at one priority, which says "
        "little of the others: with --divisions it has more.\nAt the edge of what lr tried: "
        "optimizer.learning_rate of lsb, optimizer.learning_rate of fixed. Values beyond it may be "
        "better.\n"
    ) in capsys.readouterr().out


def test_methods_with_own_rates_are_compared_and_tested(tuned):
    grid, others = groups_of_stores([tuned])[-1], groups_of_stores([tuned])[:-1]
    assert (grid.label, grid.primary, grid.searched) == (
        "sweep=priority_grid",
        ("lsb", "fixed"),
        False,
    )
    assert len(others) == len(RATES), "the tuning sweep's own runs stay a set for each rate"
    loaded = load_stores([tuned], grid.run_ids)
    findings = find(loaded, loaded.axes({})[0], grid.tuned, grid.primary, searched=grid.searched)
    (comparison,) = findings.comparisons
    assert comparison.test is not None
    assert comparison.is_primary
    assert "tuned for each method by itself: lsb 0.004; fixed 0.001." in " ".join(findings.notes)
    assert "learning rate tuned for each method by itself" in " ".join(verdict(findings).caveats)


def test_single_tasks_are_tuned_too_and_are_the_baselines(launched, sweep, tmp_path, capsys):
    def metrics(spec):
        return {
            split: {task: held for task, held in values.items() if task in spec.tasks}
            for split, values in metrics_by_split(spec).items()
        }

    launched.metrics_of = metrics
    assert sweep(*TUNE[:2], "--baselines", *TUNE[2:]) == 0
    assert sweep("--tuned-from", "lr", "--baselines") == 0
    assert "equal on depth alone: optimizer.learning_rate 0.002" in capsys.readouterr().out
    store = Store(tmp_path / "s", create=False)
    groups = groups_of_stores([store])
    (joint,) = [g for g in groups if g.tuned and len(g.tasks) == 2]
    loaded = load_stores([store], joint.run_ids)
    held, notes = baselines(loaded, [store], baseline_ids(groups, joint), joint.tuned)
    assert held["depth_delta1"] == pytest.approx({0: 0.1, 1: 0.11}), "those at 0.002 alone"
    said = "optimizer.learning_rate of the single-task runs: depth 0.002; segmentation 0.002."
    assert notes == [said]


def test_single_tasks_that_were_not_tuned_are_named(tuned, sweep, capsys):
    assert sweep("--tuned-from", "lr", "--baselines", "--plan") == 0
    assert (
        "The single-task runs of depth, segmentation are not tuned: lr has none with several "
        "values. It trains them without --no-baselines.\n"
    ) in capsys.readouterr().out


def test_values_that_were_tuned_anew_take_the_place_of_the_old_ones(tuned, sweep):
    more = [*TUNE[:-1], "optimizer.learning_rate=0.004,0.0045"]
    assert sweep(*more[:1], "lr2", *more[2:]) == 0
    assert sweep("--tuned-from", "lr2", "--seeds", "6") == 0
    specs = [tuned.spec(run_id) for run_id in asked_by(tuned, "priority_grid").run_ids]
    assert len(specs) == 2 * 5 * 6
    assert {s.optimizer.learning_rate for s in specs} == {0.004}


def test_other_settings_than_those_of_the_tuning_are_said(tuned, sweep, capsys):
    assert sweep("--tuned-from", "lr", "--epochs", "20", "--plan") == 0
    assert (
        "lr was trained with other settings: epochs 16 in place of 20." in capsys.readouterr().out
    )


def test_methods_with_own_rates_share_a_primary_comparison_and_refined_priorities(
    tuned, sweep, capsys
):
    assert sweep("--tuned-from", "lr", "--seeds", "6", "--plan") == 0
    assert "Primary comparison: lsb against fixed" in capsys.readouterr().out
    assert sweep("--tuned-from", "lr", "--seeds", "6", "--refine", "1", "--plan") == 0
    (refined,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Refined")]
    assert refined.startswith("Refined: ")


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--tuned-from", "none"], "got none, which is not in .*It holds lr, priority_grid"),
        (["--tuned-from", "lr", "--methods", "lsb", "gls"], "Expected gls on depth segmentation"),
        (["--tuned-from", "lr", "--tasks", "depth", "normal"], "lsb on depth normal among"),
        (
            ["--tuned-from", "lr", "--set", "optimizer.learning_rate=1"],
            "rate once, got it by --set",
        ),
        (["--tuned-from", "priority_grid"], "Expected lsb on depth segmentation among"),
    ],
)
def test_what_was_not_tuned_is_refused(words, refusal, tuned, sweep, capsys):
    assert sweep(*words) == 2
    assert re.search(refusal, capsys.readouterr().err)


def test_sweep_with_runs_left_tunes_nothing(launched, sweep, capsys):
    launched.stop_after = 2
    assert sweep(*TUNE) == 1
    assert sweep("--tuned-from", "lr") == 2
    assert "got lr with 10 runs left. Start its command again." in capsys.readouterr().err


def test_candidates_are_judged_where_all_were_trained(launched, sweep, capsys):
    def metrics(spec):
        """Return metrics by which 0.004 is worst at equal priorities, and best at all others."""
        if spec.optimizer.learning_rate == 0.004:
            good = 0.5 if spec.priorities == (0.5, 0.5) else 0.99
            names = {"depth": ("delta1", "rmse", "abs", "rel"), "segmentation": ("miou",)}
            values = {task: dict.fromkeys(held, good) for task, held in names.items()}
            return dict.fromkeys(("validation", "test"), values)
        return metrics_by_split(spec)

    launched.metrics_of = metrics
    assert sweep(*TUNE) == 0
    best = [*TUNE[:-1], "optimizer.learning_rate=0.004"]
    at = best.index("--divisions")
    assert sweep(*best[:at], "--divisions", "4", *best[at + 2 :]) == 0
    capsys.readouterr()
    assert sweep("--tuned-from", "lr", "--plan") == 0
    out = capsys.readouterr().out
    assert "lsb: optimizer.learning_rate 0.002 (of 3 tried)" in out
    assert "judged them at one priority" in out


def test_candidate_with_a_failed_run_is_not_chosen(launched, sweep, capsys):
    launched.stops_by = None
    assert sweep(*TUNE, "--plan", "--json") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    tried = {(r["spec"]["method"], r["spec"]["optimizer"]["learning_rate"]): r for r in runs}
    launched.failing = {tried["lsb", 0.004]["run_id"]}
    assert sweep(*TUNE) == 1
    assert sweep("--tuned-from", "lr", "--plan") == 0
    assert "lsb: optimizer.learning_rate 0.002 (of 3 tried, 1 failed)" in capsys.readouterr().out


def test_mixed_runs_of_the_tuning_sweep_do_not_count(launched, sweep, capsys):
    tune = ["3" if word == "2" else word for word in TUNE]
    assert sweep(*tune, "--seeds", "1", "--fork-at", "0.5", "--mixes", "1") == 0
    assert sweep("--tuned-from", "lr", "--plan") == 0
    said = capsys.readouterr().out
    assert "lsb: optimizer.learning_rate 0.004 (of 3 tried); fixed: optimizer" in said
