"""Training options: each does what it says. Resuming under them: `test_training_resume.py`."""

from dataclasses import replace

import pytest
import torch

from mtl.data.batches import MappedSplit
from mtl.data.manifest import data_info
from mtl.data.prepared import prepare
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.checkpoint import validation_error
from mtl.training.evaluation import evaluate
from tests.training.runs import records_of, selected_epoch, tiny


def test_bf16_and_the_memory_layout_change_digits_only(runtime, tmp_path):
    base = records_of(tiny(), runtime, tmp_path)
    for changes, tolerance in (({"channels_last": False}, 1e-3), ({"precision": "bf16"}, 0.05)):
        other = records_of(tiny(**changes), runtime, tmp_path)
        for one, two in zip(base, other, strict=True):
            assert one.losses == pytest.approx(two.losses, rel=tolerance)
    assert [r.losses for r in other] != [r.losses for r in base]  # bfloat16 was really used


def test_loss_units_and_regularizers_change_the_task_losses(runtime, tmp_path):
    # Of the untrained network: one step an epoch, so the first epoch's losses are its.
    plain, in_units, without = (
        records_of(tiny(method="equal", epochs=1, batch_size=8, **changes), runtime, tmp_path)[0]
        for changes in ({}, {"loss_units": {"depth": 0.1}}, {"regularizers": False})
    )
    assert in_units.losses == [pytest.approx(0.1 * plain.losses[0]), plain.losses[1]]
    assert without.losses[0] < plain.losses[0]  # depth starts near 0 m, outside its range
    assert without.losses[1] == plain.losses[1]  # no logit beyond 10 yet


def test_period_may_be_counted_in_steps(runtime, tmp_path):
    options = {"method_options": {"increase_rate": 0.5}, "epochs": 4}
    by_epoch, by_steps = tiny(**options), tiny(**options, period_steps=2)
    assert by_epoch.steps_per_epoch == 2
    assert by_epoch.run_id() != by_steps.run_id()
    one, other = (records_of(spec, runtime, tmp_path) for spec in (by_epoch, by_steps))
    assert [r.losses for r in one] == [r.losses for r in other]
    assert [r.weights for r in one] == [r.weights for r in other]


def test_weights_change_with_the_period(runtime, tmp_path):
    spec = tiny(period_epochs=2, epochs=5)
    weights = [r.weights for r in records_of(spec, runtime, tmp_path)]
    assert weights[0] == weights[1] == [0.5, 0.5]
    assert weights[2] == weights[3] != weights[0]
    assert weights[4] != weights[3]
    within = records_of(tiny(period_steps=1, epochs=1), runtime, tmp_path)[0].weights
    assert within != [0.5, 0.5]  # the mean of the first step's and the second's


def test_selection_on_validation_keeps_the_best_epochs_weights(runtime, tmp_path):
    # A rate so high that later epochs are worse than the best one.
    spec = tiny(selection="validation", epochs=12, optimizer={"learning_rate": 2e-2})
    store = Store(tmp_path / "store")
    result = fit(spec, store, runtime)
    records = store.epochs(spec.run_id())
    chosen = selected_epoch([record.metrics["validation"] for record in records])
    print("selected epoch", chosen)
    assert chosen < spec.epochs  # or this test shows nothing
    assert result.selection == "validation"
    assert result.selected_epoch == chosen
    assert result.selected_metrics["validation"] == records[chosen - 1].metrics["validation"]
    assert result.final_metrics["validation"] == records[-1].metrics["validation"]
    last = fit(replace(spec, selection="last"), store, runtime)
    assert last.final_metrics == result.final_metrics
    folder = prepare(spec.data, runtime.data_root)
    network = load_network(store, spec.run_id())
    for split in ("validation", "test"):
        mapped = MappedSplit(folder, split, spec.tasks)
        measured = evaluate(network, spec, mapped, data_info(folder), torch.device("cpu"))
        assert measured == result.selected_metrics[split]


def metrics(delta1: float | None, l1: float | None) -> dict[str, dict[str, float | None]]:
    return {"depth": {"delta1": delta1}, "edge2d": {"l1": l1}}


def test_validation_error_is_the_geometric_mean():
    # depth: 1 - 0.75 = 0.25; edge2d: 0.01; sqrt(0.25 x 0.01) = 0.05
    assert validation_error(metrics(0.75, 0.01)) == pytest.approx(0.05)
    assert validation_error(metrics(0.75, None)) == pytest.approx(0.25)
    assert validation_error(metrics(None, None)) is None


def test_selected_epoch_does_not_depend_on_units():
    epochs = [(0.5, 3.0), (0.7, 2.0), (0.6, 2.2)]
    for unit in (1.0, 1e-6, 1e6):
        assert selected_epoch([metrics(d, unit * e) for d, e in epochs]) == 2


def test_earlier_of_two_equal_epochs_is_selected():
    assert selected_epoch([metrics(0.5, 1.0)] * 3) == 1
    assert selected_epoch([metrics(None, None)] * 3) == 3
    assert selected_epoch([metrics(1.0, 0.0), metrics(0.9, 0.1)]) == 1
