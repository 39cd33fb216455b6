"""Searches in stores: their reported points alone, compared with nothing else, never tested."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.compute.findings import find
from analysis.load.axes import choose_axes
from analysis.load.groups import groups_of_stores
from analysis.load.plans import planned_or_present
from analysis.load.runs import load_stores
from analysis.pareto import main
from analysis.ranking import main as ranking
from analysis.sections.verdict import verdict
from analysis.trends import main as trends
from mtl.records import PAUSED_AFTER, EpochRecord
from mtl.spec import RunSpec
from mtl.spec.sections import OptimizerSpec
from mtl.store import Store, write_json
from tests.analysis.conftest import depth_and_segmentation, finish, make_spec

TUNED = ("optimizer.learning_rate",)
RATES = {"lsb": 0.001, "fixed": 0.003}


def write_plan(store: Store, name: str, *revisions: Any, tuned: Sequence[str] = TUNED) -> Path:
    held = [
        {"started": "x", "run_ids": list(run_ids), "varies": {}}
        | ({} if reported else {"reported": False})
        for run_ids, reported in revisions
    ]
    plan = {"schema": 1, "kind": name, "tuned": list(tuned), "revisions": held}
    path = store.sweep_folder(name) / "plan.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, plan)
    return path.parent


@pytest.fixture
def searched(store: Store) -> dict[str, list[str]]:
    """Let a search have two points of each method, one more that it left, and a paused run."""

    def spec(method: str, priority: float, seed: int, rate: float | None = None) -> RunSpec:
        rate = rate or RATES[method]
        optimizer = OptimizerSpec(learning_rate=rate)
        return make_spec(method, priority, seed, optimizer=optimizer)

    def done(spec: RunSpec, delta1: float, miou: float) -> str:
        return finish(store, spec, depth_and_segmentation(delta1, miou))

    chosen = [
        done(spec(method, priority, seed), 0.5 + priority / 3 + shift, 0.9 - priority / 3)
        for method, shift in (("lsb", 0.1), ("fixed", 0.0))
        for priority in (0.25 + shift, 0.75)
        for seed in (0, 1)
    ]
    left = done(spec("lsb", 0.5, 0), 0.7, 0.6)
    paused = store.write_spec(spec("lsb", 0.75, 0, rate=0.01))
    store.write_manifest(paused, {PAUSED_AFTER: 2})
    write_plan(store, "search", ([*chosen, left, paused], False), (chosen, True))
    return {"chosen": chosen, "left": [left]}


def test_only_the_points_that_a_search_reports_are_shown(store, searched):
    assert planned_or_present([store]) == searched["chosen"]
    for stores in ([store], [store, store]):  # parts of one search in two stores are one search
        (group,) = groups_of_stores(stores)
        assert (list(group.run_ids), group.tuned) == (searched["chosen"], TUNED)


def test_run_that_a_grid_plans_too_is_in_both_groups(store, searched):
    shared = searched["chosen"][0]
    other = finish(
        store,
        make_spec("lsb", 0.5, 0, optimizer=OptimizerSpec(learning_rate=0.02)),
        depth_and_segmentation(0.8, 0.5),
    )
    write_plan(store, "grid", ([shared, searched["left"][0], other], True), tuned=())
    groups = {group.label: list(group.run_ids) for group in groups_of_stores([store])}
    assert groups == {
        "optimizer.learning_rate=0.001": [shared, searched["left"][0]],
        "optimizer.learning_rate=0.02": [other],
        "sweep=search": searched["chosen"],
    }


def test_hypervolumes_of_a_search_are_shown_without_a_test(store, searched):
    loaded = load_stores([store], searched["chosen"])
    findings = find(loaded, choose_axes(loaded.tasks), TUNED, searched=True)
    (comparison,) = findings.comparisons
    assert (comparison.test, comparison.untested) == (None, True)
    assert findings.hypervolumes["lsb"] > findings.hypervolumes["fixed"] > 0
    words = verdict(findings)
    volumes = [f"{findings.hypervolumes[arm]:.4g} for {arm}" for arm in ("lsb", "fixed")]
    assert words.headline == (
        f"No test, so no winner: hypervolume {volumes[0]} and {volumes[1]}, with 2 points each "
        "that a search chose on validation."
    )
    assert (
        "a point being the mean over 2 seeds. No paired test: the search chose"
        in (words.statements[0])
    )
    assert "one setting of the optimiser" not in " ".join(words.caveats)
    assert "each method by itself: lsb 0.001; fixed 0.003" in findings.notes[-1]


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ((4, 5), "lsb has 2 points and fixed 1; more points alone raise a hypervolume"),
        ((7,), "the points of lsb and fixed are not means over equally many seeds"),
    ],
)
def test_unequal_points_of_a_search_are_not_set_side_by_side(missing, why, store, searched):
    run_ids = [r for number, r in enumerate(searched["chosen"]) if number not in missing]
    loaded = load_stores([store], run_ids)
    findings = find(loaded, choose_axes(loaded.tasks), TUNED, searched=True)
    assert findings.hypervolumes == {}
    words = verdict(findings)
    assert words.headline.startswith("No comparison: the methods do not have equally many points")
    assert words.statements[0] == f"No hypervolume comparison of lsb and fixed: {why}."


def test_search_is_named_by_its_folder_and_alone(store, searched, capsys):
    folder = store.sweep_folder("search")
    assert main([str(folder)]) == 0
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert summary["counts"] == {"done": 8}
    assert main([str(folder), str(store.root), "--out", str(store.root / "out")]) == 2
    assert "or a search, on its own" in capsys.readouterr().err
    write_plan(store, "search", (searched["chosen"], False))
    assert main([str(folder)]) == 1
    assert "a search that has come to its end" in capsys.readouterr().err


@pytest.fixture
def with_grid(store, searched) -> None:
    """Let a finished grid lie beside the search."""
    spec = make_spec("lsb", 0.5, 0, optimizer=OptimizerSpec(learning_rate=0.02))
    run_id = finish(store, spec, depth_and_segmentation(0.8, 0.5))
    write_plan(store, "grid", ([run_id], True), tuned=())


def test_grid_and_search_in_one_store_keep_both_reports(store, with_grid, capsys):
    for _ in range(2):
        assert main([str(store.root)]) == 0
        folder = store.root / "report"
        pages = {path.parent.name for path in folder.glob("*/report.html")}
        assert pages == {"sweep=others", "sweep=search"}
        index = (folder / "report.html").read_text()
        assert "depth and segmentation, other sweeps" in index
        assert "depth and segmentation, sweep search" in index
    assert capsys.readouterr().out.count("(unchanged)") == 1


def test_trends_and_ranking_keep_the_tuned_fields_of_a_search(store, with_grid, tmp_path, capsys):
    for run_id in store.run_ids():
        for epoch in (1, 2):
            record = EpochRecord(epoch, [1.0, 2.0], [0.5, 0.5], [0.5, 1.0], None, 0.1, {}, 1.0)
            store.append_line(store.run_key(run_id, "epochs.jsonl"), record.to_dict())
    folder = store.sweep_folder("search")
    assert trends([str(store.root), "--out", str(tmp_path / "all")]) == 0
    assert (tmp_path / "all" / "sweep=search" / "trends.csv").is_file()
    assert ranking([str(folder), "--out", str(tmp_path / "ranks")]) == 0
    ranks = (tmp_path / "ranks" / "rank_summary.csv").read_text()
    assert "\nlsb," in ranks
    assert "\nfixed," in ranks
