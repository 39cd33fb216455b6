"""One training: learns, leaves what it promises, shares all but the method between arms."""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtl.errors import RunFailedError, StoreError
from mtl.records import TASK_METRICS, EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.spec.sections import OptimizerSpec
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.__main__ import main
from mtl.training.evaluation import evaluate
from mtl.training.fit import _Run
from mtl.training.manifest import weights_hash
from mtl.training.step import learning_rate_at
from tests.training.test_training_resume import assert_same_outcome

Fields = Callable[..., dict]


@pytest.fixture
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", num_threads=1, data_root=data_root)


def test_run_leaves_what_the_store_promises(
    tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    seen: list[EpochRecord] = []
    result = fit(tiny_spec, store, runtime, on_epoch=seen.append)
    run_id = tiny_spec.run_id()
    assert result == store.result(run_id)
    assert seen == store.epochs(run_id)
    assert [record.epoch for record in seen] == [1, 2, 3]
    for record in seen:
        assert record.weights is not None
        assert record.loss_scales is not None
        for loss, weight, scale in zip(
            record.losses, record.weights, record.loss_scales, strict=True
        ):
            assert loss is not None
            assert scale == pytest.approx(weight * loss)
        assert set(record.metrics) == {"validation"}
    assert set(result.final_metrics) == {"validation", "test"}
    assert result.final_metrics["validation"] == seen[-1].metrics["validation"]
    assert set(result.final_metrics["test"]) == {"depth", "segmentation"}
    manifest = store.manifest(run_id)
    assert manifest is not None
    assert manifest["started_epochs"] == [1]
    assert manifest["initial_weights"] == weights_hash(_Run(tiny_spec, store, runtime).network)
    assert manifest["wall_seconds"] >= manifest["device_seconds"] > 0
    assert set(manifest["per_pixel_prior"]["test"]["depth"]) == set(TASK_METRICS["depth"])
    files = sorted(p.name for p in (store.run_folder(run_id) / "checkpoint").iterdir())
    assert files == ["weights.pt"]


def test_golden_losses(tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path) -> None:
    # Source: this project with torch 2.15.0 and numpy 2.4.6 on a CPU. A change here is a change
    # of numerics: raise NUMERICS_VERSION (or SCENES_VERSION), then renew the values.
    store = Store(tmp_path / "store")
    fit(tiny_spec, store, runtime)
    losses = [record.losses for record in store.epochs(tiny_spec.run_id())]
    expected = [(6.184945, 1.608867), (4.832310, 1.609656), (3.991655, 1.609499)]
    for got, golden in zip(losses, expected, strict=True):
        assert got == pytest.approx(golden, rel=1e-3)


def test_done_run_is_not_trained_again(
    tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    first = fit(tiny_spec, store, runtime)
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*.json*")}
    again = fit(tiny_spec, store, runtime, on_epoch=lambda _: pytest.fail("trained"))
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*.json*")} == before


def test_metrics_that_are_not_finite_fail_the_run(
    tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when the very last step of an epoch blows the weights up.
    metrics = {"depth": {"delta1": 0.5, "rmse": float("nan")}}
    monkeypatch.setattr(_Run, "_evaluate", lambda *_: metrics)
    with pytest.raises(RunFailedError, match="Epoch 1: Expected a finite rmse of task 'depth'"):
        fit(tiny_spec, Store(tmp_path / "store"), runtime)


def test_batch_norm_of_a_single_value_is_one_sentence_with_the_remedy(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    fields = make_tiny(batch_size=1)
    fields["network"] = {**fields["network"], "encoder_stride": 32}
    with pytest.raises(RunFailedError, match="Epoch 1: Batch norm has a single value.*batch_size"):
        fit(RunSpec.from_dict(fields), Store(tmp_path / "store"), runtime)


def test_wall_seconds_count_checkpoints_samples_and_the_test_pass(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(original: Callable) -> Callable:
        def call(*arguments: object) -> object:
            time.sleep(0.2)
            return original(*arguments)

        return call

    for name in ("save_checkpoint", "write_samples", "save_weights"):
        module = sys.modules["mtl.training.fit"]
        monkeypatch.setattr(module, name, slow(getattr(module, name)))
    monkeypatch.setattr(_Run, "_evaluate", slow(_Run._evaluate))
    store, spec = Store(tmp_path / "store"), RunSpec.from_dict(make_tiny(epochs=2))
    fit(spec, store, runtime)
    manifest = store.manifest(spec.run_id())
    assert manifest is not None
    # Two checkpoints, one epoch with samples, the weights and the test pass beside the epochs.
    epochs = sum(record.seconds for record in store.epochs(spec.run_id()))
    assert manifest["wall_seconds"] > epochs + 5 * 0.2
    assert manifest["device_seconds"] < epochs


def test_process_that_trained_something_else_before_changes_nothing(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec = RunSpec.from_dict(make_tiny(epochs=2))
    alone, after = Store(tmp_path / "a"), Store(tmp_path / "b")
    fit(spec, alone, runtime)
    fit(RunSpec.from_dict(make_tiny(epochs=1, seed=5, method="fixed")), after, runtime)
    torch.rand(17)
    fit(spec, after, runtime)
    assert_same_outcome(alone, after, spec.run_id())


def test_arms_are_matched(make_tiny: Fields, runtime: Runtime, tmp_path: Path) -> None:
    # In its first period lsb weighs by its priorities: with the same weights, all three methods
    # must take the very same steps, if initial weights, order and flips are shared.
    store = Store(tmp_path / "store")
    first_losses = []
    for method in ("lsb", "fixed", "equal"):
        spec = RunSpec.from_dict(make_tiny(method=method))
        fit(spec, store, runtime)
        first_losses.append(store.epochs(spec.run_id())[0].losses)
    assert first_losses[0] == first_losses[1] == first_losses[2]
    other = RunSpec.from_dict(make_tiny(method="equal", seed=1))
    fit(other, store, runtime)
    assert store.epochs(other.run_id())[0].losses != first_losses[0]


def test_loss_units_scale_the_task_loss(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    # One step a run: the first step's losses are those of the initial network.
    store = Store(tmp_path / "store")
    losses = []
    for unit in (1.0, 0.1):
        spec = RunSpec.from_dict(
            make_tiny(epochs=1, batch_size=8, loss_units={"depth": unit}, method="equal")
        )
        fit(spec, store, runtime)
        losses.append(store.epochs(spec.run_id())[0].losses)
    assert losses[1][0] == pytest.approx(0.1 * losses[0][0])
    assert losses[1][1] == losses[0][1]


def test_loss_that_is_not_finite_fails_the_run_and_names_the_task(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    spec = RunSpec.from_dict(make_tiny(optimizer={"learning_rate": 1e30}))
    with pytest.raises(RunFailedError, match="Epoch .*loss of task 'depth'"):
        fit(spec, store, runtime)
    error = store.error(spec.run_id())
    assert error is not None
    assert error.rstrip().splitlines()[-1].startswith("mtl.errors.RunFailedError: Epoch")
    assert not store.is_done(spec.run_id())


def test_normals_that_diverge_fail_the_run(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    # The only step of an epoch blows the weights up: the losses were still finite.
    spec = RunSpec.from_dict(
        make_tiny(tasks=["normal"], batch_size=8, optimizer={"learning_rate": 1e30})
    )
    with pytest.raises(RunFailedError, match="Epoch .*task 'normal'"):
        fit(spec, Store(tmp_path / "store"), runtime)


def test_three_tasks_train(make_tiny: Fields, runtime: Runtime, tmp_path: Path) -> None:
    tasks = ["depth", "normal", "segmentation"]
    spec = RunSpec.from_dict(make_tiny(tasks=tasks, epochs=1))
    result = fit(spec, Store(tmp_path / "store"), runtime)
    assert list(result.final_metrics["test"]) == tasks


def test_rooms_train_with_void_pixels(make_tiny: Fields, runtime: Runtime, tmp_path: Path) -> None:
    fields = make_tiny(epochs=1)
    fields["data"] = {**fields["data"], "variant": "rooms"}
    result = fit(RunSpec.from_dict(fields), Store(tmp_path / "store"), runtime)
    assert result.final_metrics["test"]["segmentation"]["miou"] is not None


def test_keep_says_what_stays(make_tiny: Fields, data_root: str, tmp_path: Path) -> None:
    expected = {
        "none": [],
        "final": ["weights.pt"],
        "all": ["epoch_00001.pt", "epoch_00002.pt", "latest.pt", "weights.pt"],
    }
    spec = RunSpec.from_dict(make_tiny(epochs=2))
    for keep, files in expected.items():
        store = Store(tmp_path / keep)
        fit(spec, store, Runtime(device="cpu", data_root=data_root, keep=keep))
        folder = store.run_folder(spec.run_id()) / "checkpoint"
        assert sorted(p.name for p in folder.glob("*")) == files
    with pytest.raises(StoreError, match="--keep final"):
        load_network(Store(tmp_path / "none"), spec.run_id())


def test_load_network_gives_the_trained_network(
    tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match="finished run"):
        load_network(store, tiny_spec.run_id())
    result = fit(tiny_spec, store, runtime)
    with pytest.raises(StoreError, match="nowhere"):
        load_network(str(tmp_path / "nowhere"), tiny_spec.run_id())
    network = load_network(str(tmp_path / "store"), tiny_spec.run_id())
    run = _Run(tiny_spec, store, runtime)
    cpu = torch.device("cpu")
    again = evaluate(network, tiny_spec, run.splits["test"], run.info, cpu)
    assert again == result.final_metrics["test"]


def test_other_numerics_are_refused(tiny_spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="numerics_version 1, got 2"):
        fit(replace(tiny_spec, numerics_version=2), Store(tmp_path / "store"))


def test_learning_rates_by_hand() -> None:
    constant = OptimizerSpec(learning_rate=0.1)
    assert [learning_rate_at(constant, s, 10) for s in range(10)] == [0.1] * 10
    # 4 of 20 steps of warm-up: 0.1 * (1, 2, 3, 4) / 5, then 0.1 * (20 - s) / 16 from s = 4.
    linear = OptimizerSpec(learning_rate=0.1, schedule="linear", warmup_share=0.2)
    got = [learning_rate_at(linear, s, 20) for s in range(20)]
    expected = [0.02, 0.04, 0.06, 0.08] + [0.1 * (20 - s) / 16 for s in range(4, 20)]
    assert got == pytest.approx(expected)


def test_overfitting_eight_images_drives_every_loss_near_zero(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec = RunSpec.from_dict(
        make_tiny(
            tasks=["depth", "normal", "segmentation"],
            epochs=400,
            batch_size=8,
            horizontal_flips=False,
            network={
                "encoder": "test_efficientnet",
                "encoder_stride": 4,
                "decoder_widths": [64, 64, 48, 48, 32, 32],
            },
            optimizer={"learning_rate": 4e-3, "schedule": "linear", "warmup_share": 0.05},
        )
    )
    store = Store(tmp_path / "store")
    fit(spec, store, runtime)
    records = store.epochs(spec.run_id())
    for task, first, last in zip(spec.tasks, records[0].losses, records[-1].losses, strict=True):
        assert first is not None
        assert last is not None
        print(f"{task}: {first:.3f} -> {last:.4f}")
        assert last < 0.1 * first
        assert last < 0.1


def test_command_line_trains_and_says_errors_in_a_sentence(
    make_tiny: Fields, data_root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(make_tiny(epochs=1)))
    common = ["--device", "cpu", "--data-root", data_root]
    assert main([str(path), "--store", str(tmp_path / "store"), *common]) == 0
    assert '"status": "done"' in capsys.readouterr().out
    path.write_text(json.dumps(make_tiny(method="lbs")))
    bad = [
        ([str(path), "--store", str(tmp_path / "store")], 2, "Unknown method"),
        ([str(tmp_path / "absent.json")], 2, "No such file"),
    ]
    path2 = tmp_path / "good.json"
    path2.write_text(json.dumps(make_tiny()))
    bad.append(([str(path2), "--store", str(path)], 1, "got the file"))
    bad.append(([str(path2), "--encoder-weights", str(path2)], 2, "leave --encoder-weights out"))
    bad.append(([str(path2), "--encoder-weights", "/none"], 2, "encoder weights at /none"))
    bad.append(([str(path2), "--store", str(tmp_path / "store"), "--device", "tpu"], 2, "device"))
    for arguments, status, message in bad:
        assert main(arguments) == status
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_one_sentence(tiny_spec: RunSpec, data_root: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none. Use --device cpu"):
        fit(tiny_spec, Store(tmp_path / "store"), Runtime(device="cuda", data_root=data_root))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_trains_close_to_the_cpu(
    tiny_spec: RunSpec, runtime: Runtime, data_root: str, tmp_path: Path
) -> None:
    cpu = Store(tmp_path / "cpu")
    gpu = Store(tmp_path / "gpu")
    fit(tiny_spec, cpu, runtime)
    fit(tiny_spec, gpu, Runtime(device="cuda", data_root=data_root))
    run_id = tiny_spec.run_id()
    for one, other in zip(cpu.epochs(run_id), gpu.epochs(run_id), strict=True):
        assert one.losses == pytest.approx(other.losses, rel=0.05)


def test_no_environment_secret_reaches_the_manifest(
    tiny_spec: RunSpec, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "tell-nobody")
    store = Store(tmp_path / "store")
    fit(tiny_spec, store, runtime)
    for path in store.root.rglob("*.*"):
        if path.is_file():
            assert b"tell-nobody" not in path.read_bytes()
    manifest = store.manifest(tiny_spec.run_id())
    assert manifest is not None
    assert math.isfinite(manifest["wall_seconds"])
