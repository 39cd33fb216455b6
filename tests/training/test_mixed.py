"""Networks between two forks of one trunk."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mtl.data.batches import MappedSplit, training_batches
from mtl.data.manifest import data_info
from mtl.data.prepared import prepare
from mtl.errors import UsageError, UserError
from mtl.predict import main, predict_image
from mtl.spec import Runtime, forked, mixed, trunk_of
from mtl.store import Store
from mtl.store.states import read_run
from mtl.store.verify import verify_run
from mtl.training import fit, load_network
from mtl.training.evaluation import evaluate
from mtl.training.mixed import mixed_network
from tests.training.runs import tiny

SPECS = [
    forked(tiny(priorities=[p, 1 - p], epochs=2, tasks=["depth", "normal"]), 1) for p in (0.2, 0.8)
]
RUNS = (SPECS[0].run_id(), SPECS[1].run_id())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, data_root: str) -> Store:
    store = Store(tmp_path_factory.mktemp("mixed") / "store")
    runtime = Runtime(device="cpu", data_root=data_root)
    fit(trunk_of(SPECS[0], 1), store, replace(runtime, keep="last"))
    for spec in SPECS:
        fit(spec, store, runtime)
    fit(tiny(epochs=1), store, runtime)
    return store


def parameters(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.parameters()])


@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
def test_weights_are_the_mean_of_the_forks(mix: float, store: Store, runtime: Runtime) -> None:
    network = mixed_network(store, RUNS, mix, runtime)
    assert not network.training
    first, second = (parameters(load_network(store, run_id)) for run_id in RUNS)
    assert not torch.equal(first, second)
    torch.testing.assert_close(parameters(network), (1 - mix) * first + mix * second)


def test_batch_norm_has_the_mean_statistics_of_the_training_batches(
    store: Store, runtime: Runtime
) -> None:
    network, spec = mixed_network(store, RUNS, 0.5, runtime), SPECS[0]
    norm = next(part for part in network.modules() if isinstance(part, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    kept = norm.running_mean.clone(), norm.running_var.clone()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def look(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        channels = inputs[0].transpose(0, 1).flatten(1)
        seen.append((channels.mean(dim=1), channels.var(dim=1)))

    norm.register_forward_pre_hook(look)
    split = MappedSplit(
        prepare(spec.data, runtime.data_root), "train", spec.tasks, measured_only=False
    )
    network.train()
    with torch.no_grad():
        for batch in training_batches(
            split, seed=spec.seed, epoch=spec.epochs, batch_size=spec.batch_size,
            horizontal_flips=True, mirror_signs={}, device=torch.device("cpu"),
        ):  # fmt: skip
            network(batch.images)
    assert len(seen) == spec.steps_per_epoch
    for held, values in zip(kept, zip(*seen, strict=True), strict=True):
        torch.testing.assert_close(held, torch.stack(values).mean(dim=0))


def test_what_is_mixed_must_be_forks_of_one_trunk(store: Store, runtime: Runtime) -> None:
    alone = tiny(epochs=1).run_id()
    with pytest.raises(UsageError, match="are not forked"):
        mixed_network(store, (alone, alone), 0.5, runtime)
    with pytest.raises(UsageError, match="differ in more than their priorities"):
        mixed_network(store, (RUNS[0], alone), 0.5, runtime)
    with pytest.raises(UsageError, match="a mix from 0 to 1, got 1.5"):
        mixed_network(store, RUNS, 1.5, runtime)


def test_runs_that_differ_in_the_seed_are_refused(store: Store, runtime: Runtime) -> None:
    other = replace(SPECS[1], seed=1)
    store.write_spec(other)
    with pytest.raises(UsageError, match="differ in more than their priorities"):
        mixed_network(store, (RUNS[0], other.run_id()), 0.5, runtime)


def test_predictions_between_two_forks(
    store: Store,
    data_root: str,
    runtime: Runtime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "room.png")
    out = ["--out", str(tmp_path / "out"), "--data-root", data_root]
    argv = [store.place(""), *RUNS, "--mix", "0.25", str(tmp_path / "room.png"), *out]
    assert main(argv) == 0
    network = mixed_network(store, RUNS, 0.25, runtime)
    expected = predict_image(network, SPECS[0], image).targets
    with np.load(tmp_path / "out/room.npz") as written:
        for task, values in expected.items():
            np.testing.assert_array_equal(written[task], values)
    capsys.readouterr()
    assert main([store.place(""), *RUNS, "--mix", "0.25"]) == 2
    assert "got no image after them" in capsys.readouterr().err


def test_mixed_run_is_the_mixed_network_measured(store: Store, runtime: Runtime) -> None:
    spec, epochs = mixed(*SPECS, 0.25), []
    runtime = replace(runtime, num_samples=1)
    result = fit(spec, store, runtime, on_epoch=lambda record: epochs.append(record.epoch))
    expected = mixed_network(store, RUNS, 0.25, runtime)
    held = load_network(store, spec.run_id())
    for name, value in expected.state_dict().items():
        assert torch.equal(held.state_dict()[name], value), name
    folder = prepare(spec.data, runtime.data_root)
    for name in ("validation", "test"):
        split = MappedSplit(folder, name, spec.tasks, measured_only=True)
        metrics = evaluate(expected, spec, split, data_info(folder), torch.device("cpu"))
        assert result.final_metrics[name] == result.selected_metrics[name] == metrics
    assert (epochs, store.epochs(spec.run_id())) == ([], [])
    assert verify_run(store, spec.run_id()) == []
    folder = store.run_folder(spec.run_id())
    assert {path.name for path in folder.iterdir()} >= {"manifest.json", "result.json", "samples"}
    assert fit(spec, store, runtime) == result


def test_mixed_run_waits_for_its_forks(store: Store, runtime: Runtime, tmp_path: Path) -> None:
    spec, other = mixed(*SPECS, 0.5), Store(tmp_path / "store")
    for expected in RUNS:
        with pytest.raises(UserError, match=f"finished fork {expected} in .* Train it first"):
            fit(spec, other, runtime)
        shutil.copytree(store.run_folder(expected), other.run_folder(expected))
    assert read_run(other, spec.run_id()).state == "failed"
    (other.run_folder(RUNS[1]) / "checkpoint/weights.pt").unlink()
    with pytest.raises(UserError, match="weights of a finished run"):
        fit(spec, other, runtime)


def test_fork_mixed_with_itself_keeps_its_weights(store: Store, runtime: Runtime) -> None:
    network = mixed_network(store, (RUNS[0], RUNS[0]), 0.3, runtime)
    torch.testing.assert_close(parameters(network), parameters(load_network(store, RUNS[0])))
