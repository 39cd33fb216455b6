"""The cost model's arithmetic, against counts done by hand or by the network itself."""

import dataclasses

import pytest

from mtl.spec import RunSpec, Runtime
from mtl.spec.methods import METHODS
from mtl.store import Store
from sweeps.plan import cost, grid_specs
from sweeps.plan.cost import cost_model, estimate, makespan, modelled_rate, stored_bytes
from sweeps.priority_grid import GRID
from tests.sweeps.played import finish


@pytest.fixture
def spec() -> RunSpec:
    """Return a run like those of the default job, with what the arithmetic below rests on fixed."""
    first = grid_specs(GRID)[0]
    network = dataclasses.replace(first.network, encoder_stride=8)
    return dataclasses.replace(first, epochs=12, network=network)


def costs(runs, tmp_path, **changes):
    runtime = Runtime(data_root=str(tmp_path), keep=changes.pop("keep", "final"))
    values = {"store": None, "runtime": runtime, "concurrency": 2, "num_cpus": 2}
    return estimate({s.run_id(): s for s in runs}, **(values | changes))


def test_makespan_is_bounded_by_the_sum_and_by_the_longest():
    assert makespan([1, 1, 1, 1], 2) == 2
    assert makespan([10, 1, 1], 4) == 10
    assert makespan([], 4) == 0


def test_runs_within_a_time_fill_slots_in_order():
    assert cost.runs_within([10, 10, 10, 10], 2, 20) == 4
    assert cost.runs_within([10, 10, 10, 10], 2, 19) == 2
    assert cost.runs_within([30, 10, 10], 1, 20) == 0  # the first is still running at the end
    assert cost.runs_within([], 2, 20) == 0
    assert cost.runs_within([1.0], 1, -5) == 0


def test_decoder_multiplications_are_those_of_the_network(spec):
    import torch

    from mtl.networks import build_network

    network = build_network(spec.network, {"depth": 1, "segmentation": 13}, 0)
    decoder = network.decoder
    multiplications = []
    for module in decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, out: multiplications.append(out.numel() * m.weight[0].numel())
            )
    decoder(torch.zeros(1, network.encoder.num_channels, 6, 8))
    pixels = 48 * 64
    modelled = sum(w * side**2 * pixels for w, side in cost._decoder_convolutions(spec))
    assert modelled == sum(multiplications)


@pytest.mark.parametrize(
    "architecture", ["single_task", "full_sharing", "multi_decoder", "multi_column", "mtan"]
)
def test_number_of_parameters_is_near_that_of_the_network(spec, architecture):
    # Biases and MTAN's attention modules are left out of the price.
    from mtl.networks import build_network

    network = dataclasses.replace(spec.network, architecture=architecture)
    built = build_network(network, {"depth": 1, "segmentation": 13}, 0)
    priced = cost.num_parameters(dataclasses.replace(spec, network=network))
    assert priced == pytest.approx(sum(p.numel() for p in built.parameters()), rel=0.15)


def test_runs_cost_more_with_more_epochs_images_pixels_or_width(spec, tmp_path):
    base = costs([spec], tmp_path).run_seconds[spec.run_id()]
    for changed in (
        dataclasses.replace(spec, epochs=24),
        dataclasses.replace(spec, data=dataclasses.replace(spec.data, num_train=800)),
        dataclasses.replace(spec, data=dataclasses.replace(spec.data, height=96)),
        dataclasses.replace(
            spec, network=dataclasses.replace(spec.network, encoder="mobilenetv2_100")
        ),
    ):
        low, high = costs([changed], tmp_path).run_seconds[changed.run_id()]
        assert (low > base[0], high > base[1]) == (True, True)


def test_the_sum_is_start_and_data_and_runs_over_slots(spec, tmp_path):
    runs = [dataclasses.replace(spec, seed=seed) for seed in range(20)]
    found = costs(runs, tmp_path)
    start, spread = cost_model()["start_seconds"], cost_model()["spread"]
    data = cost.seconds_per_image(spec.data) * 600 / 2
    training = modelled_rate(spec) * 12 * 400 * 20 / 2
    for side in (0, 1):
        expected = start[side] + (data + training) * spread[side]
        assert found.seconds[side] == pytest.approx(expected)
    assert found.source == "the shipped cost model"
    none, final, every = (stored_bytes(spec, Runtime(keep=k)) for k in ("none", "final", "all"))
    # Every epoch's checkpoint holds each parameter and AdamW's two moments, four bytes each.
    weights = 4 * cost.num_parameters(spec)
    assert (final - none, every - none) == (weights, 12 * 3 * weights)
    assert found.num_bytes - costs(runs, tmp_path, keep="none").num_bytes == 20 * weights
    assert costs([], tmp_path).seconds == (0, 0)


def test_checkpoints_of_a_running_run_are_as_many_as_fit_between_them(spec):
    state = 4 * 3 * cost.num_parameters(spec)
    for runtime, number in (
        (Runtime(checkpoint_seconds=0), 12),
        (Runtime(keep="all"), 12),
        (Runtime(checkpoint_seconds=20), 1 + 5),  # and the last one
        (Runtime(checkpoint_seconds=1), 12),  # never more than epochs
    ):
        assert cost.checkpoint_bytes(spec, runtime, 100.0) == number * state
    selected = dataclasses.replace(spec, selection="validation")
    assert cost.checkpoint_bytes(selected, Runtime(keep="all"), 1.0) == 12 * state * 4 // 3


def test_samples_are_counted_byte_by_byte(spec, tmp_path):
    # Epochs 2, 10 and 12, four images of 48 x 64; a pixel: image 3, depth 2 + 2 + 1 + 2,
    # segmentation 1 + 1 + 1 + 2.
    assert cost.sample_bytes(spec, Runtime()) == 3 * 4 * 48 * 64 * (3 + 7 + 5)
    assert cost.sample_bytes(spec, Runtime(num_samples=0)) == 0
    short = dataclasses.replace(spec, epochs=2)
    assert cost.sample_bytes(short, Runtime()) == 4 * 48 * 64 * 15


def test_gradients_of_each_task_cost_a_backward_pass_each(spec):
    gradnorm = RunSpec(method="gradnorm", tasks=("depth", "normal", "segmentation"))
    assert cost.passes(spec) == 1
    assert cost.passes(gradnorm) == 7 / 3  # one forward and three backward of two each, over 3


def test_earlier_runs_replace_the_model(tmp_path):
    store = Store(tmp_path / "store")
    runs = grid_specs(GRID)
    finish(store, runs[0], seconds=20.0)
    finish(store, runs[1], seconds=30.0)
    found = costs(runs[2:], tmp_path, store=store)
    assert found.source == "earlier runs in the store"
    for low, high in found.run_seconds.values():
        assert (low, high) == (pytest.approx(18.0), pytest.approx(33.0))
    longer = dataclasses.replace(runs[2], epochs=2 * runs[2].epochs)
    assert costs([longer], tmp_path, store=store).run_seconds[longer.run_id()][0] == pytest.approx(
        36.0
    )
    other = dataclasses.replace(runs[2], tasks=("depth", "normal"), loss_units={})
    assert costs([other], tmp_path, store=store).source == "the shipped cost model"
    both = costs([runs[2], other], tmp_path, store=store)
    assert both.source == "earlier runs in the store and the shipped cost model"


def test_price_after_tiny_runs_leaves_out_what_does_not_grow(tmp_path):
    store = Store(tmp_path / "store")
    (tiny, *_) = grid_specs(
        dataclasses.replace(GRID, fields={**GRID.fields, "data.num_train": 40, "epochs": 1})
    )
    # 10 ms a training image; 100 validation images at .3 of that; two seconds for the rest.
    seconds = {"device_seconds": 0.4, "wall_seconds": 0.4 + 0.3 + 2.0}
    finish(store, tiny)
    store.write_manifest(tiny.run_id(), seconds)
    run = grid_specs(GRID)[0]
    epochs = 0.01 * (run.data.num_train + 0.3 * 100) * run.epochs
    (found,) = costs([run], tmp_path, store=store).run_seconds.values()
    assert found == (pytest.approx((2 + epochs) * 0.9), pytest.approx((2 + epochs) * 1.1))


def test_runs_that_trained_together_price_packs_alone(tmp_path):
    store = Store(tmp_path / "store")
    alone, together, other = grid_specs(GRID)[:3]
    finish(store, together)
    packed = {"execution": {"packed": 4}, "wall_seconds": 10.0, "peak_memory_bytes": 9}
    store.write_manifest(together.run_id(), packed)
    assert costs([other], tmp_path, store=store).source == "the shipped cost model"
    assert costs([other], tmp_path, store=store, packed=True).run_seconds[other.run_id()] == (
        pytest.approx(9.0),
        pytest.approx(11.0),
    )
    assert cost.observed_memory(store, [other]) == 0
    assert cost.observed_memory(store, [other], pack=2) == 9
    assert cost.observed_memory(store, [other], pack=8) == 0
    mixed = {**packed, "earlier_executions": [{"processes": 1}]}
    store.write_manifest(together.run_id(), mixed)
    assert cost.observed_memory(store, [other], pack=2) == 0
    assert cost.observed_rates(store, packed=True) == {}
    store.write_manifest(together.run_id(), packed)
    finish(store, alone, seconds=20.0)
    assert costs([other], tmp_path, store=store).run_seconds[other.run_id()][0] == 18.0
    store.remove_folder(store.run_key(together.run_id()))
    # Nothing is known of packs: what a run takes alone, no gain promised.
    found = costs([other], tmp_path, store=store, packed=True)
    assert found.run_seconds[other.run_id()][0] == 18.0


def test_damaged_files_of_earlier_runs_are_ignored(tmp_path):
    store = Store(tmp_path / "store")
    runs = grid_specs(GRID)
    for spec, text in zip(
        runs, ("", "[]", '{"wall_seconds": "x"}', '{"wall_seconds": 0}'), strict=False
    ):
        finish(store, spec, seconds=1.0)
        (store.run_folder(spec.run_id()) / "manifest.json").write_text(text)
    finish(store, runs[4], seconds=1.0)
    (store.run_folder(runs[4].run_id()) / "spec.json").write_text("{")
    assert cost.observed_rates(store) == {}


def test_every_method_encoder_and_stride_has_a_price(spec, tmp_path):
    tasks = ("depth", "normal", "segmentation")
    specs = [RunSpec(method=method, tasks=tasks) for method in METHODS]
    assert len(costs(specs, tmp_path).run_seconds) == len(METHODS)
    for encoder, stride in (("resnext50_32x4d", 32), ("convnext_nano", 2)):
        network = dataclasses.replace(spec.network, encoder=encoder, encoder_stride=stride)
        assert modelled_rate(dataclasses.replace(spec, network=network)) > 0


def test_timed_steps_count_more_than_earlier_runs(tmp_path):
    store = Store(tmp_path / "store")
    runs = grid_specs(GRID)
    finish(store, runs[0], seconds=20.0)
    steps = {cost.step_key(runs[0]): 0.040}
    found = costs(runs[2:4], tmp_path, store=store, measured_steps=steps)
    assert found.source == "timed steps"
    # 16 epochs of 50 steps of 40 ms, and evaluation: 100 images at .3 of a training image on 400.
    by_hand = 16 * 50 * 0.040 * (1 + 100 * 0.3 / 400)
    for low, high in found.run_seconds.values():
        assert (low, high) == (pytest.approx(by_hand * 0.85), pytest.approx(by_hand * 1.15))
    gradnorm = dataclasses.replace(runs[0], method="gradnorm", priorities=None, method_options={})
    both = costs([runs[0], gradnorm], tmp_path, measured_steps=steps).run_seconds
    # One forward and two backward passes of two each, over one forward and one backward pass.
    assert both[gradnorm.run_id()][0] == pytest.approx(both[runs[0].run_id()][0] * 5 / 3)
    other = dataclasses.replace(runs[2], batch_size=4)
    mixed = costs([runs[0], other], tmp_path, measured_steps=steps)
    assert mixed.source == "the shipped cost model and timed steps"


def test_memory_is_known_only_if_every_kind_of_run_was_measured(tmp_path, spec):
    store = Store(tmp_path / "store")
    same_kind = [dataclasses.replace(spec, seed=seed) for seed in (1, 2)]
    other_kind = dataclasses.replace(spec, batch_size=spec.batch_size * 2)
    assert cost.observed_memory(store, [spec]) == 0
    for run, peak in zip(same_kind, (300, 200), strict=True):
        finish(store, run, seconds=1.0)
        store.write_manifest(run.run_id(), {"peak_memory_bytes": peak})
    assert cost.observed_memory(store, [spec]) == 300
    assert cost.observed_memory(store, [spec, other_kind]) == 0
    finish(store, other_kind, seconds=1.0)
    store.write_manifest(other_kind.run_id(), {"peak_memory_bytes": None})  # not Linux
    assert cost.observed_memory(store, [spec, other_kind]) == 0
    store.write_manifest(other_kind.run_id(), {"peak_memory_bytes": 500})
    assert cost.observed_memory(store, [spec, other_kind]) == 500
    assert cost.observed_memory(store, []) == 0


def test_runs_on_another_number_of_gpus_tell_nothing(tmp_path, spec):
    store = Store(tmp_path / "store")
    other = dataclasses.replace(spec, seed=spec.seed + 1)
    finish(store, other, seconds=10.0)
    held = {"wall_seconds": 10.0, "peak_memory_bytes": 300, "execution": {"processes": 2}}
    store.write_manifest(other.run_id(), held)
    assert [cost.observed_memory(store, [spec], num_ranks=ranks) for ranks in (1, 2, 3)] == [
        0,
        300,
        0,
    ]
    sources = [
        costs([spec], tmp_path, store=store, gpus_per_run=gpus).source for gpus in (1.0, 2.0)
    ]
    assert sources == ["the shipped cost model", "earlier runs in the store"]
    # Timed on one GPU: with two it takes half of that at least.
    steps = {cost.step_key(spec): 0.040}
    (one,), (two,) = (
        costs([spec], tmp_path, gpus_per_run=gpus, measured_steps=steps).run_seconds.values()
        for gpus in (1.0, 2.0)
    )
    assert two == (pytest.approx(one[0] / 2), pytest.approx(one[1]))
