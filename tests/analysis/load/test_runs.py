"""Stores as analysis reads them, and the check that runs may be compared."""

import json

import pytest

from analysis.compute.findings import find
from analysis.load.axes import choose_axes, priority_texts
from analysis.load.groups import common_fields
from analysis.load.plans import planned_or_present
from analysis.load.runs import arm_names, load_stores
from analysis.page import build
from mtl.errors import UserError
from mtl.store import Store


def states_of(loaded) -> dict[str, str]:
    return {state.run_id: state.state for state in loaded.states}


def test_one_tidy_row_a_done_run(full_store, synthetic):
    loaded = load_stores([full_store])
    assert loaded.tasks == ("depth", "segmentation")
    assert len(loaded.runs) == 20
    row = loaded.runs.iloc[0]
    spec = synthetic.make_spec("lsb", 1 / 6, 0)
    assert (row["run_id"], row["method"], row["seed"], row["epochs"]) == (
        spec.run_id(),
        "lsb",
        0,
        12,
    )
    assert row["priority_depth"] == pytest.approx(1 / 6)
    assert row["increase_rate"] == 0.02
    result = full_store.result(spec.run_id())
    assert row["depth_rmse"] == result.selected_metrics["test"]["depth"]["rmse"]
    assert loaded.prior["depth_delta1"] == synthetic.prior["depth"]["delta1"]
    assert list(loaded.runs["run_id"]) == planned_or_present([full_store]), "in plan order"


def test_every_state_is_told_with_its_reason(store, synthetic):
    specs = [synthetic.make_spec("fixed", 0.5, seed) for seed in range(6)]
    ids = [store.write_spec(spec) for spec in specs[:5]]
    synthetic.finish(store, specs[0], synthetic.depth_and_segmentation(0.8, 0.6))
    store.write_error(ids[1], "Traceback (most recent call last):\nRuntimeError: out of memory\n")
    (store.run_folder(ids[2]) / "checkpoint").mkdir()
    (store.run_folder(ids[2]) / "checkpoint" / "0003.pt").write_bytes(b"")
    synthetic.finish(store, specs[4], synthetic.depth_and_segmentation(0.8, 0.6))
    (store.run_folder(ids[4]) / "result.json").write_text('{"schema": 1, "run')
    synthetic.write_plan(store, "grid", ids[:2], [*ids, specs[5].run_id()])
    loaded = load_stores([store])
    assert [(s.state, s.seed) for s in loaded.states] == [
        ("done", 0),
        ("failed", 1),
        ("partial", 2),
        ("missing", 3),
        ("damaged", 4),
        ("missing", None),
    ]
    reasons = [state.reason for state in loaded.states]
    assert reasons[1] == "RuntimeError: out of memory"
    assert reasons[2] == "after epoch 0 of 12"
    assert "damaged" in reasons[4]
    assert str(store.root) not in reasons[4], "a report is passed on; it names no folder"
    findings = find(loaded, choose_axes(loaded.tasks))
    assert any(ids[4] in note for note in findings.notes), "damaged results are said loudly"
    assert list(findings.counts) == ["done", "failed", "partial", "missing", "damaged"]


def test_an_unfinished_run_tells_its_last_epoch(store, synthetic):
    spec = synthetic.make_spec("lsb", 0.5, 0)
    run_id = store.write_spec(spec)
    record = {
        "epoch": 1,
        "losses": [1.0, 1.0],
        "weights": None,
        "loss_scales": None,
        "difficulties": None,
        "learning_rate": 0.1,
        "metrics": {},
        "seconds": 1.0,
    }
    lines = "".join(json.dumps({**record, "epoch": e}) + "\n" for e in (1, 2, 3))
    (store.run_folder(run_id) / "epochs.jsonl").write_text(lines)
    (state,) = load_stores([store]).states
    assert (state.state, state.reason) == ("partial", "after epoch 3 of 12")


def test_order_without_a_plan_does_not_hang_on_hashes(store, synthetic):
    synthetic.fill(store)
    states = load_stores([store]).states
    keys = [(state.arm, state.priorities, state.seed) for state in states]
    assert keys == sorted(keys)


def test_a_run_in_two_stores_counts_once(tmp_path, synthetic):
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    spec, other = synthetic.make_spec("lsb", 0.5, 0), synthetic.make_spec("lsb", 0.5, 1)
    values = synthetic.depth_and_segmentation(0.8, 0.6)
    first.write_spec(spec)
    first.write_error(spec.run_id(), "killed")
    synthetic.finish(second, spec, values)
    synthetic.finish(first, other, values)
    synthetic.finish(second, other, values)
    loaded = load_stores([first, second])
    assert set(states_of(loaded).values()) == {"done"}, "done somewhere is done"
    assert (len(loaded.runs), loaded.notes) == (2, ())
    synthetic.finish(second, other, synthetic.depth_and_segmentation(0.7, 0.6))
    loaded = load_stores([first, second])
    assert loaded.runs.set_index("run_id").loc[other.run_id(), "depth_delta1"] == 0.8
    assert "different results" in loaded.notes[0]


def test_a_spec_that_is_not_its_folders_is_damaged(store, synthetic):
    run_id = store.write_spec(synthetic.make_spec("lsb", 0.5, 0))
    path = store.run_folder(run_id) / "spec.json"
    path.write_text(path.read_text().replace('"seed": 0,\n "epochs"', '"seed": 1,\n "epochs"'))
    store.write_spec(synthetic.make_spec("lsb", 0.5, 3))
    assert states_of(load_stores([store]))[run_id] == "damaged"


def test_no_run_at_all_is_an_error(store):
    with pytest.raises(UserError, match=r"at least one run.*Start a sweep"):
        load_stores([store])


def test_a_plan_of_another_schema_is_an_error(store, synthetic):
    folder = synthetic.write_plan(store, "grid", [])
    (folder / "plan.json").write_text('{"schema": 9}')
    with pytest.raises(UserError, match="schema 1, got schema 9 .* Use the release"):
        load_stores([store])


def test_runs_of_different_tasks_are_refused(store, synthetic):
    store.write_spec(synthetic.make_spec("lsb", 0.5, 0))
    store.write_spec(synthetic.make_spec("lsb", 0.5, 0, tasks=("depth", "normal")))
    with pytest.raises(UserError, match=r"depth\+normal"):
        load_stores([store])


def test_runs_that_must_not_be_compared_are_told_by_their_fields(store, synthetic):
    values = synthetic.depth_and_segmentation(0.8, 0.6)
    for changes in ({}, {"epochs": 24}, {"batch_size": 4}):
        synthetic.finish(store, synthetic.make_spec("lsb", 0.5, 0, **changes), values)
    loaded = load_stores([store])
    with pytest.raises(UserError) as caught:
        find(loaded, choose_axes(loaded.tasks))
    message = str(caught.value)
    assert "batch_size (" in message
    assert "epochs (" in message
    assert "seed (" not in message
    assert "learning_rate" not in message


def test_runs_that_differ_in_what_is_compared_pass(store, synthetic):
    values = synthetic.depth_and_segmentation(0.8, 0.6)
    for spec in (
        synthetic.make_spec("lsb", 0.5, 0),
        synthetic.make_spec("lsb", 0.2, 1, method_options={"increase_rate": 0.05}),
        synthetic.make_spec("equal", None, 0),
    ):
        synthetic.finish(store, spec, values)
    loaded = load_stores([store])
    common = common_fields(loaded.fields)
    assert common["epochs"] == 12
    assert not {"method", "priorities", "seed", "method_options.increase_rate"} & set(common)
    assert set(loaded.runs["arm"]) == {
        "lsb (increase_rate 0.02)",
        "lsb (increase_rate 0.05)",
        "equal",
    }


def test_runs_of_several_code_versions_are_told(full_store, synthetic):
    run_id = synthetic.make_spec("lsb", 0.5, 0).run_id()
    full_store.write_manifest(
        run_id,
        {"code_version": "0.1.0+other", "data": {"name": "scenes", "info": {"classes": 5}}},
    )
    loaded = load_stores([full_store])
    findings = find(loaded, choose_axes(loaded.tasks))
    assert findings.notes == ("The runs come from 2 versions of the code; see the provenance.",)
    recorded = findings.provenance.recorded
    assert recorded["code_version"] == {"0.1.0+abc1234": 19, "0.1.0+other": 1}
    assert recorded["data.name"] == {"scenes": 1}
    assert "data.info.classes" not in recorded


def test_options_enter_a_name_only_where_they_differ():
    methods = {
        "1": ("lsb", {"increase_rate": 0.02}),
        "2": ("lsb", {"increase_rate": 0.02}),
        "3": ("fixed", {}),
    }
    assert arm_names(methods) == {"1": "lsb", "2": "lsb", "3": "fixed"}


def test_an_option_that_is_off_has_a_name():
    methods = {"1": ("lsb", {"clamp": None}), "2": ("lsb", {"clamp": 2.0})}
    assert arm_names(methods) == {"1": "lsb (no clamp)", "2": "lsb (clamp 2)"}
    assert arm_names({"1": ("lsb", {"clamp": None})}) == {"1": "lsb"}


def later(values: dict) -> dict:
    """Return test metrics as a later release writes them, with more."""
    return {**values, "depth": {**values["depth"], "abs_log": 0.2, "rmse_per_image": 0.5}}


def test_runs_of_an_earlier_release_lack_later_metrics(store, synthetic):
    values = synthetic.depth_and_segmentation(0.8, 0.6)
    old = [synthetic.make_spec("lsb", 0.5, seed) for seed in range(3)]
    for spec in old:
        synthetic.finish(store, spec, values)
    prior = {"depth": {**synthetic.prior["depth"], "abs_log": 0.4}}
    new = synthetic.make_spec("fixed", 0.5, 0)
    manifest = {"per_pixel_prior": {"test": {**synthetic.prior, **prior}}}
    synthetic.finish(store, new, later(values), manifest)
    loaded = load_stores([store])
    assert loaded.notes == (), "priors agree where both know them"
    assert loaded.prior["depth_abs_log"] == 0.4
    assert loaded.prior["depth_delta1"] == synthetic.prior["depth"]["delta1"]
    assert loaded.runs.set_index("run_id")["depth_abs_log"].isna().sum() == 3
    assert len(find(loaded, choose_axes(loaded.tasks)).runs) == 4, "by the usual metrics"
    findings = find(loaded, choose_axes(loaded.tasks, {"depth": "abs_log"}))
    assert findings.runs["run_id"].tolist() == [new.run_id()]
    assert findings.notes == (
        "3 runs are left out: test split holds no value for depth_abs_log. "
        "They are listed under the reasons below.",
    )
    html = build(loaded, {"depth": "abs_log"}, None).html
    for spec in old:
        assert spec.run_id() in html


def test_a_metric_that_no_run_has_leaves_a_report_that_says_so(full_store):
    loaded = load_stores([full_store])
    built = build(loaded, {"depth": "abs_log", "segmentation": "miou_per_image"}, None)
    assert "none of 20 runs has a usable result" in built.html
    assert "no value for depth_abs_log and no value for segmentation_miou_per_image" in built.html


def test_priors_that_differ_are_not_drawn(store, synthetic):
    values = synthetic.depth_and_segmentation(0.8, 0.6)
    for seed, prior in enumerate((0.5, 0.6)):
        manifest = {"per_pixel_prior": {"test": {"depth": {"delta1": prior}}}}
        synthetic.finish(store, synthetic.make_spec("lsb", 0.5, seed), values, manifest)
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
        ([(1 / 3, 1 / 3, 1 / 3)], ["(1/3, 1/3, 1/3)"]),
        ([(1 / 3, 2 / 3), (0.333, 0.667)], ["(0.3333, 0.6667)", "(0.333, 0.667)"]),
        ([(0.125,) * 8], ["(8 of 1/8)"]),
        ([(0.1, 0.5, *(0.1,) * 4)], ["(0.1, 0.5, 4 of 0.1)"]),
    ],
)
def test_priorities_as_people_write_them(grid, texts):
    assert list(priority_texts(grid).values()) == texts
