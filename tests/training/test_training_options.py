"""Training options: each does what it says, and a resumed run is the same run under all of them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl.data.batches import Batch
from mtl.data.sample import DataInfo
from mtl.errors import RunFailedError
from mtl.networks.base import MultiTaskNetwork
from mtl.records import EpochRecord
from mtl.spec import RunSpec, Runtime
from mtl.spec.methods import METHODS
from mtl.spec.sections import OptimizerSpec
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.step import EpochLog, Stepper, learning_rate_at
from mtl.weighting import build_weighting
from tests.training.selecting import selected_epoch

Fields = Callable[..., dict]
INFO = DataInfo(classes=("a", "b", "c"), depth_range_m=(1.0, 10.0))
TASKS = ("depth", "segmentation")


@pytest.fixture
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", data_root=data_root)


class Plain(MultiTaskNetwork):
    """Two convolutions without batch norm, so that a batch is the sum of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def _padded_predictions(self, images: Tensor) -> dict[str, Tensor]:
        out = self.last(self.first(images).relu())
        return {"depth": out[:, :1] + 3, "segmentation": out[:, 1:]}

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.first.parameters())

    def task_parameters(self) -> list[list[nn.Parameter]]:
        return [list(self.last.parameters()) for _ in TASKS]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        return [self.first.weight]


def a_batch(num_images: int = 8, labelled: float = 1.0) -> Batch:
    """Return random images; each pixel has each task's label with probability `labelled`."""
    generator = torch.Generator().manual_seed(3)
    print("batch seed 3")
    shape = (num_images, 6, 7)
    return Batch(
        images=torch.rand(num_images, 3, 6, 7, generator=generator),
        targets={
            "depth": 1 + 9 * torch.rand(num_images, 1, 6, 7, generator=generator),
            "segmentation": torch.randint(0, 3, shape, generator=generator),
        },
        valid={task: torch.rand(shape, generator=generator) < labelled for task in TASKS},
    )


def step_of(
    spec: RunSpec, learning_rate: float = 0.1, batch: Batch | None = None
) -> tuple[Tensor, Plain]:
    """Take one step of plain gradient descent; return how the parameters moved."""
    torch.manual_seed(1)
    network = Plain()
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    weighting = build_weighting(spec.method, spec.tasks, spec.priorities, **spec.method_options)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    stepper = Stepper(spec, network, weighting, optimizer, INFO)
    stepper.take_step(batch or a_batch(), learning_rate, EpochLog(2, torch.device("cpu")))
    return nn.utils.parameters_to_vector(network.parameters()).detach() - before, network


@pytest.mark.parametrize("method", ["lsb", "equal", "uncertainty"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_micro_batches_add_up_to_the_batch(method: str, parts: int) -> None:
    # Linear in the losses and every pixel valid: the mean of the parts' gradients is the batch's.
    whole, _ = step_of(RunSpec(method=method))
    in_parts, _ = step_of(RunSpec(method=method, micro_batches=parts))
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["lsb", "equal", "uncertainty"])
@pytest.mark.parametrize("parts", [3, 8])
def test_micro_batches_add_up_however_the_labels_are_spread(method: str, parts: int) -> None:
    # A third of the pixels labelled, and depth in one image alone, as a task few images have.
    batch = a_batch(labelled=0.3)
    batch.valid["depth"][1:] = False
    whole, _ = step_of(RunSpec(method=method), batch=batch)
    in_parts, network = step_of(RunSpec(method=method, micro_batches=parts), batch=batch)
    torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-7)
    # What a loss counts in the log does not depend on its gradient's factor.
    log = EpochLog(2, torch.device("cpu"))
    weighting = build_weighting("equal", TASKS)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    spec = RunSpec(method="equal", micro_batches=parts)
    stepper = Stepper(spec, network, weighting, optimizer, INFO)
    stepper.take_step(batch, 0.0, log)
    assert log.losses()[0] == pytest.approx(stepper._losses(batch)[0].item(), rel=1e-5)


def test_batch_in_parts_is_the_batch() -> None:
    batch = a_batch(7)
    for count in (1, 2, 3, 7, 20):
        parts = batch.parts(count)
        assert len(parts) == min(count, 7)
        sizes = [len(part.images) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        for task in TASKS:
            assert torch.equal(torch.cat([p.targets[task] for p in parts]), batch.targets[task])
            assert torch.equal(torch.cat([p.valid[task] for p in parts]), batch.valid[task])


def test_gradients_are_shortened_to_the_norm_and_short_ones_left_alone() -> None:
    free, _ = step_of(RunSpec(), learning_rate=1.0)
    length = float(free.norm())
    for most in (0.1 * length, 10 * length):
        spec = RunSpec(optimizer=OptimizerSpec(max_gradient_norm=most))
        moved, _ = step_of(spec, learning_rate=1.0)
        assert float(moved.norm()) == pytest.approx(min(most, length), rel=1e-4)
        torch.testing.assert_close(moved / moved.norm(), free / free.norm(), rtol=1e-4, atol=1e-6)


def test_losses_again_are_those_after_the_step_and_change_nothing() -> None:
    spec = RunSpec(method="equal")
    network = Plain()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    weighting = build_weighting("equal", TASKS)
    stepper = Stepper(spec, network, weighting, optimizer, INFO)
    losses = stepper._losses(a_batch())
    again = stepper._losses_again(a_batch())
    assert torch.equal(again, losses)
    assert not again.requires_grad


def test_cosine_by_hand() -> None:
    # 4 of 20 steps of warm-up; then 0.1 (1 + cos(pi s')) / 2 with s' = (s - 4) / 16.
    cosine = OptimizerSpec(learning_rate=0.1, schedule="cosine", warmup_share=0.2)
    got = [learning_rate_at(cosine, s, 20) for s in range(20)]
    assert got[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert got[12] == pytest.approx(0.05)  # half way: cos(pi / 2) = 0
    assert got[19] == pytest.approx(0.05 * (1 + math.cos(math.pi * 15 / 16)))
    assert all(a > b for a, b in zip(got[4:-1], got[5:], strict=True))


def records_of(spec: RunSpec, runtime: Runtime, folder: Path) -> list[EpochRecord]:
    store = Store(folder)
    fit(spec, store, runtime)
    return store.epochs(spec.run_id())


def plain(records: list[EpochRecord]) -> list[dict]:
    return [{k: v for k, v in record.to_dict().items() if k != "seconds"} for record in records]


def test_bf16_and_the_memory_layout_change_digits_and_not_the_training(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    base = records_of(RunSpec.from_dict(make_tiny()), runtime, tmp_path / "float32")
    for changes, tolerance in (({"channels_last": False}, 1e-3), ({"precision": "bf16"}, 0.05)):
        spec = RunSpec.from_dict(make_tiny(**changes))
        other = records_of(spec, runtime, tmp_path / next(iter(changes)))
        for one, two in zip(base, other, strict=True):
            assert one.losses == pytest.approx(two.losses, rel=tolerance)
    assert plain(other) != plain(base)  # bfloat16 was really used


def test_without_regularizers_the_losses_are_smaller(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    # Of the untrained network: one step an epoch, so the first epoch's losses are its.
    with_them, without = (
        records_of(
            RunSpec.from_dict(make_tiny(epochs=1, batch_size=8, regularizers=on)),
            runtime,
            tmp_path / str(on),
        )[0].losses
        for on in (True, False)
    )
    assert without[0] < with_them[0]  # depth starts near 0 m, outside its range
    assert without[1] == with_them[1]  # no logit beyond 10 yet


def test_period_of_one_epochs_steps_is_a_period_of_one_epoch(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    options = {"method_options": {"increase_rate": 0.5}, "epochs": 4}
    by_epoch = RunSpec.from_dict(make_tiny(**options))
    by_steps = RunSpec.from_dict(make_tiny(**options, period_steps=2))
    assert by_epoch.steps_per_epoch == 2
    assert by_epoch.run_id() != by_steps.run_id()
    one = records_of(by_epoch, runtime, tmp_path / "a")
    other = records_of(by_steps, runtime, tmp_path / "b")
    assert [r.losses for r in one] == [r.losses for r in other]
    assert [r.weights for r in one] == [r.weights for r in other]


def test_period_of_two_epochs_keeps_its_weights_for_two(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec = RunSpec.from_dict(make_tiny(period_epochs=2, epochs=5))
    weights = [r.weights for r in records_of(spec, runtime, tmp_path / "s")]
    assert weights[0] == weights[1] == [0.5, 0.5]
    assert weights[2] == weights[3] != weights[0]
    assert weights[4] != weights[3]


def test_periods_inside_an_epoch_change_the_weights_within_it(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    spec = RunSpec.from_dict(make_tiny(period_steps=1, epochs=2))
    first = records_of(spec, runtime, tmp_path / "s")[0]
    assert first.weights is not None
    assert first.weights != [0.5, 0.5]  # the mean of the first step's and the second's
    assert first.loss_scales is not None


OPTIONS = [
    {"selection": "validation"},
    {"precision": "bf16"},
    {"micro_batches": 3, "batch_size": 8},
    {"period_steps": 3},
    {"period_epochs": 2},
    {"optimizer": {"learning_rate": 1e-3, "max_gradient_norm": 0.5, "schedule": "cosine"}},
]


@pytest.mark.parametrize("changes", OPTIONS, ids=[next(iter(c)) for c in OPTIONS])
def test_every_option_resumes_bit_for_bit(
    changes: dict, make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    assert_resumes(RunSpec.from_dict(make_tiny(**changes, epochs=3)), runtime, tmp_path)


# They form no weighted sum of the gradients.
NO_WEIGHTS = {"torchjd:ConFIG", "torchjd:GradDrop", "torchjd:TrimmedMean"}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_on_missing_labels_and_resumes_bit_for_bit(
    method: str, unlabelled: str, make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    # Batches of two: of eight images five lack depth, so some batches have none at all. Three
    # tasks, because some aggregators need as many.
    tasks = ["depth", "normal", "segmentation"]
    spec = RunSpec.from_dict(make_tiny(method=method, tasks=tasks, epochs=2, batch_size=2))
    if method == "torchjd:Krum":  # it needs three gradients at the least, and says so
        with pytest.raises(RunFailedError, match="Krum.*at least 3 rows"):
            fit(spec, Store(tmp_path), runtime)
        return
    store = assert_resumes(spec, runtime, tmp_path)
    for record in store.epochs(spec.run_id()):
        assert all(loss is not None and math.isfinite(loss) for loss in record.losses)
        assert (record.weights is None) == (record.loss_scales is None) == (method in NO_WEIGHTS)
        assert all(w is not None and math.isfinite(w) for w in record.weights or ())


@pytest.mark.parametrize("architecture", ["single_task", "multi_decoder", "multi_column", "mtan"])
def test_every_architecture_trains_and_resumes_bit_for_bit(
    architecture: str, make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    fields = make_tiny(epochs=2)
    fields["network"] = {**fields["network"], "architecture": architecture}
    store = assert_resumes(RunSpec.from_dict(fields), runtime, tmp_path)
    for record in store.epochs(RunSpec.from_dict(fields).run_id()):
        if architecture == "multi_column":
            assert np.array(record.cross_stitch).shape == (2, 2)
            start = np.array([[0.9, 0.1], [0.1, 0.9]])
            assert np.abs(np.array(record.cross_stitch) - start).max() > 1e-4  # it is learnt
        else:
            assert record.cross_stitch is None


def assert_resumes(spec: RunSpec, runtime: Runtime, folder: Path) -> Store:
    """Assert that a run stopped after its first epoch ends as the undisturbed one; return it."""
    runtime = replace(runtime, num_samples=0)
    undisturbed, stopped = Store(folder / "a"), Store(folder / "b")
    fit(spec, undisturbed, runtime)

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(spec, stopped, runtime, on_epoch=stop)
    fit(spec, stopped, runtime)
    run_id = spec.run_id()
    results = [s.run_folder(run_id) / "result.json" for s in (undisturbed, stopped)]
    assert results[0].read_bytes() == results[1].read_bytes()
    assert plain(undisturbed.epochs(run_id)) == plain(stopped.epochs(run_id))
    weights = [load_network(s, run_id).state_dict() for s in (undisturbed, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return undisturbed


def test_selection_on_validation_keeps_the_best_epochs_weights(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path
) -> None:
    # A rate so high that later epochs are worse than the best one.
    spec = RunSpec.from_dict(
        make_tiny(selection="validation", epochs=12, optimizer={"learning_rate": 2e-2})
    )
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
    # The same training with the last epoch counting, stopped at the chosen one, is its twin.
    last = fit(replace(spec, selection="last"), store, runtime)
    assert last.final_metrics == result.final_metrics
    from mtl.data.batches import MappedSplit
    from mtl.data.manifest import data_info
    from mtl.data.prepared import prepare
    from mtl.training.evaluation import evaluate

    folder = prepare(spec.data, runtime.data_root)
    network = load_network(store, spec.run_id())
    for split in ("validation", "test"):
        mapped = MappedSplit(folder, split, spec.tasks)
        measured = evaluate(network, spec, mapped, data_info(folder), torch.device("cpu"))
        assert measured == result.selected_metrics[split]


def test_loss_that_a_weighting_cannot_use_fails_the_run(
    make_tiny: Fields, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtl.training import step

    original = step.task_losses
    monkeypatch.setattr(step, "task_losses", lambda *a: original(*a) * torch.tensor([1.0, 0.0]))
    store = Store(tmp_path / "store")
    spec = RunSpec.from_dict(make_tiny(method="gls"))
    with pytest.raises(RunFailedError, match="Epoch 1: .*task 'segmentation'"):
        fit(spec, store, runtime)
    assert not store.is_done(spec.run_id())


@pytest.fixture
def unlabelled(data_root: str, make_tiny: Fields, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take the depth labels of the first five training images away, as the masks say it."""
    from mtl.data.batches import MappedSplit

    original = MappedSplit.batch

    def batch(self: MappedSplit, indices: np.ndarray, device: torch.device) -> Batch:
        whole = original(self, indices, device)
        missing = torch.from_numpy(indices < 5)
        whole.valid["depth"][missing] = False
        whole.targets["depth"][missing] = float("nan")
        return whole

    monkeypatch.setattr(MappedSplit, "batch", batch)
    return "depth"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gpu_in_either_precision_agrees_with_the_cpu(
    precision: str, make_tiny: Fields, runtime: Runtime, data_root: str, tmp_path: Path
) -> None:
    # Other kernels, other last digits; bfloat16 has 8 bits of mantissa.
    tolerance = {"float32": 0.02, "bf16": 0.1}[precision]
    cpu = records_of(RunSpec.from_dict(make_tiny()), runtime, tmp_path / "cpu")
    spec = RunSpec.from_dict(make_tiny(precision=precision))
    gpu = records_of(spec, Runtime(device="cuda", data_root=data_root), tmp_path / "gpu")
    for one, two in zip(cpu, gpu, strict=True):
        assert one.losses == pytest.approx(two.losses, rel=tolerance)
