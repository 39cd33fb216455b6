"""Runs that may be compared stand together, others apart; each set has its report."""

import json
import re

import pytest

from analysis.load.groups import Group, comparable_groups, folder_name, groups_of_stores
from analysis.load.plans import Asked, stores_among
from analysis.load.runs import load_stores
from analysis.pareto import main
from analysis.reports import write_reports
from mtl.errors import UsageError, UserError
from mtl.spec import RunSpec
from mtl.spec.sections import OptimizerSpec
from tests.analysis.conftest import (
    depth_and_segmentation,
    findings_of,
    finish,
    make_spec,
    write_plan,
)

VALUES = depth_and_segmentation(0.8, 0.6)


def grid(**changes: object) -> dict[str, RunSpec]:
    specs = [
        RunSpec.from_dict({"method": method, "priorities": [p, 1 - p], "seed": seed, **changes})
        for method in ("lsb", "fixed")
        for p in (0.25, 0.75)
        for seed in (0, 1)
    ]
    return {spec.run_id(): spec for spec in specs}


def by_label(stores, run_ids=None) -> dict[str, Group]:
    asked = None if run_ids is None else Asked(tuple(run_ids))
    return {group.label: group for group in groups_of_stores(stores, asked)}


@pytest.fixture
def two_groups(store) -> None:
    """Finish four runs at 12 epochs and two at 7."""
    for method in ("lsb", "fixed"):
        for seed, epochs in ((0, 12), (1, 12), (0, 7)):
            finish(store, make_spec(method, 0.5, seed, epochs=epochs), VALUES)


def test_fields_that_are_not_compared_make_groups():
    rate = grid(optimizer={"learning_rate": 0.001})
    groups = comparable_groups({**grid(), **rate, **grid(tasks=["depth", "normal"])})
    assert {label: len(held) for label, held in groups.items()} == {
        "tasks=depth+segmentation,optimizer.learning_rate=0.0001": 8,
        "tasks=depth+segmentation,optimizer.learning_rate=0.001": 8,
        "tasks=depth+normal,optimizer.learning_rate=0.0001": 8,
    }
    groups = comparable_groups({**grid(), **grid(loss_units={"depth": 0.1})})
    assert list(groups) == ["loss_units.depth=1.0", "loss_units.depth=0.1"]


def test_period_is_an_option_of_the_methods_that_have_one(store):
    # fixed has no period: it is compared with lsb whatever lsb's is; two periods are two arms.
    finish(store, make_spec("fixed", 0.5, 0), VALUES)
    for period in (None, 5):
        finish(store, make_spec("lsb", 0.5, 0, period_steps=period), VALUES)
    assert len(groups_of_stores([store])) == 1
    arms = set(load_stores([store]).runs["arm"])
    assert arms == {"fixed", "lsb (no period_steps)", "lsb (period_steps 5)"}


def test_folder_names_do_not_collide():
    long = "optimizer.learning_rate=0.001,".join(["x"] * 6)
    labels = ["tasks=depth+normal", f"{long}1", f"{long}2", "encoder=a/b", "encoder=a_b"]
    names = [folder_name(label) for label in labels]
    assert names[0] == "tasks=depth+normal"
    assert len(set(names)) == len(labels)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9._=+,-]{1,89}", name)
    assert re.search(r"-[0-9a-f]{8}$", names[1])


def test_planned_runs_belong_to_the_group_of_their_spec(store, two_groups):
    planned = store.write_spec(make_spec("lsb", 0.5, 1, epochs=7))
    unknown = make_spec("lsb", 0.5, 9).run_id()
    write_plan(store, "grid", [planned, unknown])
    groups = by_label([store])
    assert {label: len(group.run_ids) for label, group in groups.items()} == {
        "epochs=7": 3,
        "epochs=12": 4,
        "spec=unknown": 1,
    }
    assert groups["epochs=7"].run_ids[0] == planned, "planned runs come first"
    assert groups["spec=unknown"].run_ids == (unknown,)
    seven = groups["epochs=7"].run_ids
    assert list(by_label([store], [*seven, unknown])) == [""], "nothing else it could be"


def test_first_page_of_two_groups_compares_and_links_them(store, two_groups, capsys):
    assert main([str(store.root)]) == 0
    shown = capsys.readouterr().out
    folder = store.root / "report"
    index = (folder / "report.html").read_text()
    for label in ("epochs=12", "epochs=7"):
        words = f"Operating points: depth and segmentation, {label.replace('=', ' ')}"
        assert f"<h1>{words}</h1>" in (folder / label / "report.html").read_text()
        assert f'href="{label.replace("=", "%3D")}/report.html"' in index
    assert "<h1>What varies: epochs</h1>" in index
    assert shown.startswith("epochs  method  depth delta1 (%)"), "one table, not one a set"
    assert shown.endswith(f"Report: {folder / 'report.html'}\n")
    assert "2 of 2 runs done" in index
    assert "4 of 4 runs done" in index
    before = (folder / "report.html").stat().st_mtime_ns
    assert main([str(store.root)]) == 0
    assert capsys.readouterr().out.count("(unchanged)") == 1
    assert (folder / "report.html").stat().st_mtime_ns == before


def test_stale_files_of_an_earlier_grouping_are_removed(store, two_groups, tmp_path):
    out = tmp_path / "out"
    single = Asked(by_label([store])["epochs=12"].run_ids)
    page = write_reports([store], out, single)[""].path.read_text()
    assert set(write_reports([store], out)) == {"", "epochs=12", "epochs=7"}
    assert "What varies: epochs" in (out / "report.html").read_text()
    assert not (out / "tables" / "runs.csv").exists()
    again = write_reports([store], out, single)[""]
    assert again.rebuilt
    assert again.path.read_text() == page


def test_metrics_apply_where_their_task_is(store, tmp_path):
    finish(store, make_spec("lsb", 0.5, 0), VALUES)
    store.write_spec(make_spec("lsb", 0.5, 0, tasks=("depth", "normal")))
    reports = write_reports([store], tmp_path, metrics={"segmentation": "pixel_accuracy"})
    shown = {label: "pixel_accuracy" in summary.table for label, summary in reports.items()}
    assert shown == {"": True, "tasks=depth+segmentation": True, "tasks=depth+normal": False}
    two_tasks = Asked(by_label([store])["tasks=depth+segmentation"].run_ids)
    with pytest.raises(UsageError, match="normal"):
        write_reports([store], tmp_path, two_tasks, {"normal": "within_30"})


def test_paused_run_of_a_search_opens_no_report(store):
    done = make_spec("lsb", 0.5, 0)
    finish(store, done, VALUES)
    tried = make_spec("lsb", 0.5, 0, optimizer=OptimizerSpec(learning_rate=0.5))
    paused = store.write_spec(tried)
    store.write_manifest(paused, {"paused_after": 2})
    assert by_label([store])[""].run_ids == (done.run_id(),)
    # Asked for by name it has its own state.
    (state,) = load_stores([store], [paused]).states
    assert (state.state, state.reason) == ("paused", "paused after epoch 0 of 12")
    # Trained to its end after all, it is a result like any other.
    finish(store, tried, VALUES)
    assert len(groups_of_stores([store])) == 2


def test_fields_tuned_for_each_method_do_not_part_the_methods(store, tmp_path):
    ids = []
    for method, rate in (("lsb", 0.002), ("fixed", 0.004)):
        for p in (0.25, 0.75):
            spec = make_spec(method, p, 0, optimizer=OptimizerSpec(learning_rate=rate))
            values = depth_and_segmentation(0.5 + p / 2, 0.9 - p / 2)
            ids.append(finish(store, spec, values))
    field = "optimizer.learning_rate"
    assert set(by_label([store])) == {f"{field}=0.002", f"{field}=0.004"}
    reports = write_reports([store], tmp_path, Asked(tuple(ids), (field,)))
    assert list(reports) == [""]
    page = reports[""].path.read_text()
    assert f"{field} was tuned for each method by itself: lsb 0.002; fixed 0.004." in page
    with pytest.raises(UserError, match="learning_rate"):
        findings_of(store)


def declare(store, name, *primary, runs):
    """Write a plan of these runs; a release of before declared nothing."""
    path = write_plan(store, name, runs) / "plan.json"
    if primary:
        store.write_json(store.sweep_key(name, "plan.json"), json.loads(path.read_text()) | {
            "primary": [method for method in primary if method]
        })  # fmt: skip


def test_primary_comparison_is_what_all_sweeps_of_a_group_declare(store):
    runs = list(grid())
    for spec in grid().values():
        finish(store, spec, VALUES)
    declare(store, "a", "lsb", "fixed", runs=runs)
    declare(store, "of_one_method", "", runs=runs[:4])
    declare(store, "b", "fixed", "lsb", runs=runs)
    assert by_label([store])[""].primary == ("fixed", "lsb")
    _, both = stores_among([str(store.sweep_folder(name)) for name in ("a", "b")])
    assert {*both.primary} == {"lsb", "fixed"}
    declare(store, "c", "lsb", "stch", runs=runs)
    assert by_label([store])[""].primary == ()
    for name, primary in (("a", ("lsb", "fixed")), ("c", ("lsb", "stch"))):
        _, asked = stores_among([str(store.sweep_folder(name))])
        assert groups_of_stores([store], asked)[0].primary == primary
    _, both = stores_among([str(store.sweep_folder(name)) for name in ("a", "c")])
    assert both.primary is None


def test_plan_of_an_earlier_release_declares_nothing(store):
    for spec in grid().values():
        finish(store, spec, VALUES)
    declare(store, "old", runs=list(grid()))
    assert by_label([store])[""].primary == ()
    declare(store, "new", "lsb", "fixed", runs=list(grid()))
    assert by_label([store])[""].primary == ()
    report = write_reports(
        [store], store.root / "out", stores_among([str(store.sweep_folder("new"))])[1]
    )
    assert "(primary comparison, declared before training)" in report[""].verdict
