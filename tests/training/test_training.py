"""One training: what it leaves, what arms share, how it fails, how it is called."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mtl.errors import RunFailedError, StoreError
from mtl.records import EpochRecord, Result
from mtl.spec import RunSpec, Runtime
from mtl.spec.tasks import DECLARED_TASKS
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.__main__ import main
from mtl.training.checkpoint import CheckpointWriter
from mtl.training.evaluation import evaluate
from mtl.training.fit import Run
from mtl.training.manifest import weights_hash
from tests.metrics import TASK_METRICS
from tests.training.runs import assert_same_outcome, records_of, tiny

SPEC = tiny()
Trained = tuple[Store, Result, list[EpochRecord]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: str) -> Trained:
    """Train the tiny run with a secret in the environment."""
    store = Store(tmp_path_factory.mktemp("store"))
    seen: list[EpochRecord] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tell-nobody")
        runtime = Runtime(device="cpu", data_root=data_root)
        result = fit(SPEC, store, runtime, on_epoch=seen.append)
    return store, result, seen


def test_run_leaves_what_the_store_promises(trained, runtime):
    store, result, seen = trained
    run_id = SPEC.run_id()
    assert result == store.result(run_id)
    assert seen == store.epochs(run_id)
    assert [record.epoch for record in seen] == [1, 2, 3]
    for record in seen:
        assert set(record.metrics) == {"validation"}
        scales = [w * x for w, x in zip(record.weights or (), record.losses, strict=True)]
        assert record.loss_scales == pytest.approx(scales)
    assert set(result.final_metrics) == {"validation", "test"}
    assert result.final_metrics["validation"] == seen[-1].metrics["validation"]
    assert set(result.final_metrics["test"]) == {"depth", "segmentation"}
    manifest = store.manifest(run_id)
    assert manifest["started_epochs"] == [1]
    assert manifest["initial_weights"] == weights_hash(Run(SPEC, store, runtime).network)
    assert manifest["wall_seconds"] >= manifest["device_seconds"] > 0
    parameters = load_network(store, run_id).parameters()
    assert manifest["num_parameters"] == sum(held.numel() for held in parameters)
    assert manifest["forward_flops"] > manifest["num_parameters"]
    assert manifest["peak_device_bytes"] is None
    assert manifest["hardware"]["cpu_instructions"] == torch.backends.cpu.get_cpu_capability()
    assert set(manifest["per_pixel_prior"]["test"]["depth"]) == set(TASK_METRICS["depth"])
    assert all(held == DECLARED_TASKS[task] for task, held in result.declared.items())
    for path in store.root.rglob("*.*"):
        assert not path.is_file() or b"tell-nobody" not in path.read_bytes()


def test_golden_losses(trained):
    # Source: this project with torch 2.15.0 and numpy 2.4.6 on a CPU. A change here is a change
    # of numerics: raise NUMERICS_VERSION (or SCENES_VERSION), then renew the values.
    expected = [(6.184945, 1.608867), (4.832310, 1.609656), (3.991655, 1.609499)]
    for record, golden in zip(trained[2], expected, strict=True):
        assert record.losses == pytest.approx(golden, rel=1e-3)


def test_finished_run_is_not_trained_again(trained, runtime):
    store, first, _ = trained
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*.json*")}
    again = fit(SPEC, store, runtime, on_epoch=lambda _: pytest.fail("trained"))
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*.json*")} == before


def test_load_network_gives_the_trained_network(trained, runtime, tmp_path):
    store, result, _ = trained
    network = load_network(str(store.root), SPEC.run_id())
    run = Run(SPEC, store, runtime)
    again = evaluate(network, SPEC, run.splits["test"], run.info, torch.device("cpu"))
    assert again == result.final_metrics["test"]
    with pytest.raises(StoreError, match="which it does not hold"):
        load_network(Store(tmp_path / "empty"), SPEC.run_id())
    with pytest.raises(StoreError, match="nowhere"):
        load_network(str(tmp_path / "nowhere"), SPEC.run_id())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"learning_rate": 1e30}}, "Epoch .*loss of task 'depth'"),
        # The only step of an epoch blows the weights up: the losses were still finite.
        (
            {"tasks": ["normal"], "batch_size": 8, "optimizer": {"learning_rate": 1e30}},
            "Epoch 1: Expected a finite .* of task 'normal', got",
        ),
        # A loss that float32 rounds to 0, of which no logarithm can be taken.
        (
            {"method": "gls", "loss_units": {"segmentation": 1e-60}},
            "Epoch 1: .*positive loss of task 'segmentation'",
        ),
        (
            {"batch_size": 1, "network": {"encoder_stride": 32}},
            "Epoch 1: Batch norm has a single value.*batch_size",
        ),
    ],
)
def test_run_that_would_fail_again_is_one_sentence(changes, message, runtime, tmp_path):
    spec, store = tiny(**changes), Store(tmp_path / "store")
    with pytest.raises(RunFailedError, match=message):
        fit(spec, store, runtime)
    error = store.error(spec.run_id())
    assert error.rstrip().splitlines()[-1].startswith("mtl.errors.RunFailedError: Epoch")
    assert not store.is_done(spec.run_id())


def test_what_cannot_be_computed_here_is_refused(tmp_path):
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match="numerics_version 2, got 1"):
        fit(replace(SPEC, numerics_version=1), store)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="found none. Use --device cpu"):
            fit(SPEC, store, Runtime(device="cuda"))


def test_wall_seconds_count_all_that_a_run_does(runtime, tmp_path, monkeypatch):
    def slow(original: Callable) -> Callable:
        def call(*arguments: object) -> object:
            time.sleep(0.1)
            return original(*arguments)

        return call

    for name in ("samples_of", "save_weights"):
        module = sys.modules["mtl.training.fit"]
        monkeypatch.setattr(module, name, slow(getattr(module, name)))
    monkeypatch.setattr(CheckpointWriter, "take", slow(CheckpointWriter.take))
    monkeypatch.setattr(Run, "_evaluate", slow(Run._evaluate))
    store, spec = Store(tmp_path / "store"), tiny(epochs=2)
    fit(spec, store, replace(runtime, num_samples=1))
    manifest = store.manifest(spec.run_id())
    # Two epochs' state, one epoch with samples, the weights and the test pass beside the epochs.
    epochs = sum(record.seconds for record in store.epochs(spec.run_id()))
    assert manifest["wall_seconds"] > epochs + 5 * 0.1
    assert manifest["device_seconds"] < epochs


def test_earlier_trainings_of_the_process_change_nothing(runtime, tmp_path):
    spec = tiny(epochs=2)
    alone, after = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(spec, alone, runtime)
    fit(tiny(epochs=1, seed=5, method="fixed"), after, runtime)
    torch.rand(17)
    fit(spec, after, runtime)
    assert_same_outcome(alone, after, spec.run_id())


def test_arms_are_matched(runtime, tmp_path):
    # In its first period lsb weighs by its priorities: with the same weights, all three methods
    # must take the very same steps, if initial weights, order and flips are shared.
    lsb, fixed, equal, other = (
        records_of(tiny(epochs=1, method=method, seed=seed), runtime, tmp_path)[0].losses
        for method, seed in (("lsb", 0), ("fixed", 0), ("equal", 0), ("equal", 1))
    )
    assert lsb == fixed == equal != other


def test_rooms_train_with_void_pixels(runtime, tmp_path):
    data = {"height": 32, "width": 32, "num_train": 4, "num_validation": 2, "num_test": 2}
    tasks = ["depth", "normal", "segmentation"]
    spec = tiny(tasks=tasks, epochs=1, data={**data, "variant": "rooms"})
    result = fit(spec, Store(tmp_path / "store"), runtime)
    assert list(result.final_metrics["test"]) == tasks
    assert result.final_metrics["test"]["segmentation"]["miou"] is not None


def test_keep_decides_which_checkpoints_stay(runtime, tmp_path):
    expected = {
        "none": [],
        "final": ["weights.pt"],
        "all": ["epoch_00001.pt", "latest.pt", "weights.pt"],
    }
    spec = tiny(epochs=1)
    for keep, files in expected.items():
        store = Store(tmp_path / keep)
        fit(spec, store, replace(runtime, keep=keep))
        folder = store.run_folder(spec.run_id()) / "checkpoint"
        assert sorted(p.name for p in folder.glob("*")) == files
    with pytest.raises(StoreError, match="--keep final"):
        load_network(Store(tmp_path / "none"), spec.run_id())


def test_overfitting_two_images_drives_every_loss_near_zero(runtime, tmp_path):
    spec = tiny(
        tasks=["depth", "normal", "segmentation"],
        epochs=150,
        batch_size=2,
        horizontal_flips=False,
        data={"height": 32, "width": 32, "num_train": 2, "num_validation": 1, "num_test": 1},
        network={"encoder_stride": 4, "decoder_widths": [32] * 6},
        optimizer={"learning_rate": 6e-3, "schedule": "linear", "warmup_share": 0.05},
    )
    records = records_of(spec, runtime, tmp_path)
    for task, first, last in zip(spec.tasks, records[0].losses, records[-1].losses, strict=True):
        print(f"{task}: {first:.3f} -> {last:.4f}")
        assert last < 0.1 * first
        assert last < 0.1


def test_command_line_trains(data_root, tmp_path, capsys):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(tiny(epochs=1).to_dict()))
    arguments = [str(path), "--store", str(tmp_path / "store"), "--device", "cpu"]
    assert main([*arguments, "--data-root", data_root]) == 0
    assert '"status": "done"' in capsys.readouterr().out


def test_errors_of_the_command_line_are_one_sentence(tmp_path, capsys):
    good, unknown = tmp_path / "good.json", tmp_path / "unknown.json"
    good.write_text(json.dumps(SPEC.to_dict()))
    unknown.write_text(json.dumps({"method": "lbs"}))
    no_json = tmp_path / "README.md"
    no_json.write_text("# A heading")
    for arguments, status, message in (
        ([str(unknown)], 2, "Unknown method"),
        ([str(no_json)], 2, "Expected a run's spec as JSON"),
        ([str(tmp_path / "absent.json")], 2, "No such file"),
        ([str(good), "--store", str(good)], 1, "got the file"),
        ([str(good), "--encoder-weights", str(good)], 2, "leave --encoder-weights out"),
        ([str(good), "--encoder-weights", "/none"], 2, "encoder weights at /none"),
        ([str(good), "--store", str(tmp_path / "store"), "--device", "tpu"], 2, "device"),
    ):
        assert main(arguments) == status
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.02), ("bf16", 0.1)])
def test_gpu_agrees_with_the_cpu(precision, tolerance, runtime, tmp_path):
    # Other kernels, other last digits; bfloat16 has 8 bits of mantissa.
    spec: RunSpec = tiny(precision=precision)
    cpu = records_of(SPEC, runtime, tmp_path / "cpu")
    gpu = records_of(spec, replace(runtime, device="cuda"), tmp_path / "gpu")
    for one, two in zip(cpu, gpu, strict=True):
        assert one.losses == pytest.approx(two.losses, rel=tolerance)
