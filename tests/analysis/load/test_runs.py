"""Stores as analysis reads them, and the check that runs may be compared."""

import pytest

from analysis.compute.findings import find
from analysis.load.axes import choose_axes, priority_texts
from analysis.load.plans import planned_or_present
from analysis.load.runs import arm_names, load_stores
from analysis.page import build
from mtl.errors import UserError
from mtl.store import Store
from tests.analysis.conftest import (
    PRIOR,
    depth_and_segmentation,
    fill,
    findings_of,
    finish,
    make_spec,
    write_plan,
)

VALUES = depth_and_segmentation(0.8, 0.6)


def test_one_tidy_row_a_done_run_in_plan_order(full_store):
    loaded = load_stores([full_store])
    assert loaded.tasks == ("depth", "segmentation")
    assert list(loaded.runs["run_id"]) == planned_or_present([full_store])
    row = loaded.runs.iloc[0]
    spec = make_spec("lsb", 1 / 6, 0)
    shown = row[["run_id", "method", "seed", "epochs", "increase_rate"]].tolist()
    assert shown == [spec.run_id(), "lsb", 0, 12, 0.02]
    assert row["priority_depth"] == pytest.approx(1 / 6)
    result = full_store.result(spec.run_id())
    assert row["depth_rmse"] == result.selected_metrics["test"]["depth"]["rmse"]
    assert loaded.prior["depth_delta1"] == PRIOR["depth"]["delta1"]


def test_every_state_has_its_reason(store):
    specs = [make_spec("fixed", 0.5, seed) for seed in range(6)]
    ids = [store.write_spec(spec) for spec in specs[:5]]
    finish(store, specs[0], VALUES)
    store.write_error(ids[1], "Traceback (most recent call last):\nRuntimeError: out of memory\n")
    (store.run_folder(ids[2]) / "checkpoint").mkdir()
    (store.run_folder(ids[2]) / "checkpoint" / "0003.pt").write_bytes(b"")
    finish(store, specs[4], VALUES)
    (store.run_folder(ids[4]) / "result.json").write_text('{"schema": 1, "run')
    write_plan(store, "grid", ids[:2], [*ids, specs[5].run_id()])
    findings = findings_of(store)
    states = ["done", "failed", "partial", "missing", "damaged", "missing"]
    assert [state.state for state in findings.states] == states
    assert [state.seed for state in findings.states] == [0, 1, 2, 3, 4, None]
    reasons = [state.reason for state in findings.states]
    assert reasons[1:3] == ["RuntimeError: out of memory", "after epoch 0 of 12"]
    assert "damaged" in reasons[4]
    assert str(store.root) not in reasons[4], "a report is passed on; it names no folder"
    assert any(ids[4] in note for note in findings.notes)
    assert list(findings.counts) == states[:5]


def test_order_without_a_plan_is_by_content_not_by_hash(store):
    fill(store)
    keys = [(s.arm, s.priorities, s.seed) for s in load_stores([store]).states]
    assert keys == sorted(keys)


def test_run_in_two_stores_counts_once(tmp_path):
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    spec, other = make_spec("lsb", 0.5, 0), make_spec("lsb", 0.5, 1)
    first.write_error(first.write_spec(spec), "killed")
    for store, held in ((second, spec), (first, other), (second, other)):
        finish(store, held, VALUES)
    loaded = load_stores([first, second])
    assert [state.state for state in loaded.states] == ["done"] * 2, "done somewhere is done"
    assert (len(loaded.runs), loaded.notes) == (2, ())
    finish(second, other, depth_and_segmentation(0.7, 0.6))
    loaded = load_stores([first, second])
    assert loaded.runs.set_index("run_id").loc[other.run_id(), "depth_delta1"] == 0.8
    assert "different results" in loaded.notes[0]


def test_store_without_comparable_runs_is_refused(store):
    with pytest.raises(UserError, match=r"at least one run.*Start a sweep"):
        load_stores([store])
    for tasks in (("depth", "segmentation"), ("depth", "normal")):
        finish(store, make_spec("lsb", 0.5, 0, tasks=tasks), VALUES)
    with pytest.raises(UserError, match=r"differ in tasks \("):
        findings_of(store)
    (write_plan(store, "grid", []) / "plan.json").write_text('{"schema": 9}')
    with pytest.raises(UserError, match="schema 1 in .*, got schema 9. Use the release"):
        load_stores([store])


def test_incomparable_runs_are_refused_by_their_fields(store):
    for changes in ({}, {"epochs": 24}, {"batch_size": 4}):
        finish(store, make_spec("lsb", 0.5, 0, **changes), VALUES)
    with pytest.raises(
        UserError, match=r"differ in batch_size \([^;]*\); epochs \((12 and 24|24 and 12)\)"
    ):
        findings_of(store)


def test_runs_may_differ_in_what_is_compared(store):
    rate = {"method_options": {"increase_rate": 0.05}}
    for spec in (
        make_spec("lsb", 0.5, 0),
        make_spec("lsb", 0.2, 1, **rate),
        make_spec("equal", None, 0),
    ):
        finish(store, spec, VALUES)
    findings = findings_of(store)
    common = findings.provenance.common
    assert common["epochs"] == 12
    assert not {"method", "priorities", "seed", "method_options.increase_rate"} & set(common)
    rates = {"lsb (increase_rate 0.02)", "lsb (increase_rate 0.05)"}
    assert set(findings.arms) == {*rates, "equal"}


def test_several_code_versions_are_noted(full_store):
    manifest = {"code_version": "0.1.0+other", "data": {"name": "scenes", "info": {"classes": 5}}}
    full_store.write_manifest(make_spec("lsb", 0.5, 0).run_id(), manifest)
    findings = findings_of(full_store)
    assert findings.notes == ("The runs come from 2 versions of the code; see the provenance.",)
    recorded = findings.provenance.recorded
    assert recorded["code_version"] == {"0.1.0+abc1234": 19, "0.1.0+other": 1}
    assert recorded["data.name"] == {"scenes": 1}
    assert "data.info.classes" not in recorded


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        ([("lsb", {"increase_rate": 0.02})] * 2 + [("fixed", {})], ["lsb", "lsb", "fixed"]),
        ([("lsb", {"clamp": None}), ("lsb", {"clamp": 2.0})], ["lsb (no clamp)", "lsb (clamp 2)"]),
        ([("lsb", {"clamp": None})], ["lsb"]),
    ],
)
def test_options_enter_a_name_only_where_they_differ(methods, names):
    held = {str(number): method for number, method in enumerate(methods)}
    assert list(arm_names(held).values()) == names


def test_runs_of_an_earlier_release_lack_later_metrics(store):
    old = [make_spec("lsb", 0.5, seed) for seed in range(3)]
    for spec in old:
        finish(store, spec, VALUES)
    prior = {"depth": {**PRIOR["depth"], "abs_log": 0.4}}
    new = make_spec("fixed", 0.5, 0)
    values = {**VALUES, "depth": {**VALUES["depth"], "abs_log": 0.2, "rmse_per_image": 0.5}}
    finish(store, new, values, {"per_pixel_prior": {"test": {**PRIOR, **prior}}})
    loaded = load_stores([store])
    assert loaded.notes == (), "priors agree where both know them"
    assert loaded.prior["depth_abs_log"] == 0.4
    assert loaded.prior["depth_delta1"] == PRIOR["depth"]["delta1"]
    assert len(find(loaded, choose_axes(loaded.tasks)).runs) == 4, "by the usual metrics"
    findings = find(loaded, choose_axes(loaded.tasks, {"depth": "abs_log"}))
    assert findings.runs["run_id"].tolist() == [new.run_id()]
    assert findings.notes == (
        "3 runs are left out: test split holds no value for depth_abs_log. "
        "They are listed under the reasons below.",
    )


def test_metric_that_no_run_has_still_gives_a_report(full_store):
    metrics = {"depth": "abs_log", "segmentation": "miou_per_image"}
    html = build(load_stores([full_store]), metrics).html
    assert "none of 20 runs has a usable result" in html
    assert "no value for depth_abs_log and no value for segmentation_miou_per_image" in html


def test_priors_that_differ_are_not_drawn(store):
    for seed, prior in enumerate((0.5, 0.6)):
        manifest = {"per_pixel_prior": {"test": {"depth": {"delta1": prior}}}}
        finish(store, make_spec("lsb", 0.5, seed), VALUES, manifest)
    loaded = load_stores([store])
    assert loaded.prior == {}
    assert loaded.notes == (
        "The runs report different image-independent baselines, so none is drawn.",
    )


@pytest.mark.parametrize(
    ("grid", "texts"),
    [
        ([(1 / 6, 5 / 6), (0.5, 0.5)], ["(1/6, 5/6)", "(1/2, 1/2)"]),
        ([(0.1, 0.9), (0.5, 0.5)], ["(0.1, 0.9)", "(0.5, 0.5)"]),
        ([(0.166667, 0.833333)], ["(1/6, 5/6)"]),
        ([(0.12345, 0.87655)], ["(0.123, 0.877)"]),
        ([(1 / 3, 2 / 3), (0.333, 0.667)], ["(0.3333, 0.6667)", "(0.333, 0.667)"]),
        ([(0.125,) * 8], ["(8 of 1/8)"]),
        ([(0.1, 0.5, *(0.1,) * 4)], ["(0.1, 0.5, 4 of 0.1)"]),
    ],
)
def test_priorities_as_people_write_them(grid, texts):
    assert list(priority_texts(grid).values()) == texts
