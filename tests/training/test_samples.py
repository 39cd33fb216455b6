"""Samples: fixed validation images with predictions and error maps, as the store promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtl.data.batches import MappedSplit
from mtl.data.manifest import data_info
from mtl.data.prepared import prepare
from mtl.spec import Runtime
from mtl.spec.sections import TASKS
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.evaluation import evaluate
from mtl.training.samples import sample_indices
from tests.training.runs import tiny


def test_indices_are_spread_over_the_split():
    assert sample_indices(100, 4).tolist() == [0, 33, 66, 99]
    assert sample_indices(3, 4).tolist() == [0, 1, 2]
    assert sample_indices(1, 4).tolist() == [0]


def test_all_nine_tasks_leave_predictions_and_error_maps(runtime, tmp_path):
    spec, store = tiny(tasks=list(TASKS)), Store(tmp_path / "store")
    fit(spec, store, replace(runtime, num_samples=4))
    folder = store.run_folder(spec.run_id()) / "samples"
    # After epoch 2 and the last; epoch 10 is never reached.
    assert sorted(p.name for p in folder.iterdir()) == ["epoch_00002.npz", "epoch_00003.npz"]
    with np.load(folder / "epoch_00003.npz", allow_pickle=False) as held:
        arrays = dict(held)
    prepared = prepare(spec.data, runtime.data_root)
    split, info = MappedSplit(prepared, "validation", spec.tasks), data_info(prepared)
    batch = split.batch(arrays["indices"], torch.device("cpu"))
    assert np.array_equal(arrays["image"], (batch.images.permute(0, 2, 3, 1) * 255).round())
    with torch.no_grad():
        predictions = load_network(store, spec.run_id())(batch.images)
    metrics = evaluate(load_network(store, spec.run_id()), spec, split, info, torch.device("cpu"))
    plain_loss = {"depth": "abs_log", "normal": "inner_error", "segmentation": "cross_entropy"}
    for task in spec.tasks:
        valid = arrays[f"{task}_valid"]
        assert np.array_equal(valid, batch.valid[task])
        shown = arrays[f"{task}_prediction"]
        if task == "segmentation":
            assert np.array_equal(shown, predictions[task].argmax(1))
        else:
            expected = predictions[task].permute(0, 2, 3, 1).numpy()
            np.testing.assert_allclose(shown, expected, rtol=2e-3, atol=1e-4)
        error = arrays[f"{task}_error"].astype(np.float64)
        assert not error[~valid].any()
        # The split is the four sampled images: the mean error is the metric, to half precision.
        measured = metrics[task][plain_loss.get(task, "l1")]
        assert error[valid].mean() == pytest.approx(measured, rel=5e-3, abs=1e-6)


def test_epochs_of_samples_can_be_chosen(runtime, tmp_path):
    spec = tiny(epochs=2)
    for num_samples, expected in ((0, []), (1, ["epoch_00001.npz", "epoch_00002.npz"])):
        store = Store(tmp_path / str(num_samples))
        fit(spec, store, replace(runtime, num_samples=num_samples, sample_epochs=(1,)))
        folder = store.run_folder(spec.run_id()) / "samples"
        assert sorted(p.name for p in folder.glob("*")) == expected
    with pytest.raises(ValueError, match="num_samples to be at least 0"):
        Runtime(num_samples=-1)
