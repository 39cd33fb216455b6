"""The probe: parameters, operations by hand, what memory grows with."""

import dataclasses

import pytest
import torch

from mtl.data.prepared import info_of
from mtl.networks import build_network
from mtl.spec import RunSpec
from mtl.spec.sections import ARCHITECTURES
from mtl.training.probe import ProbeResult, probe
from tests.training.runs import tiny

CPU = torch.device("cpu")
WIDTHS = (8, 7, 6, 5, 4, 3)


def spec_with(architecture: str = "multi_decoder", **changes: object) -> RunSpec:
    return tiny(network={"architecture": architecture, "decoder_widths": WIDTHS}, **changes)


def measured(spec: RunSpec, min_seconds: float = 0.0) -> ProbeResult:
    return probe(spec, info_of(spec.data), num_steps=1, min_seconds=min_seconds, device=CPU)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_parameters_are_the_networks(architecture):
    spec = spec_with(architecture)
    result = measured(spec)
    num_classes = len(info_of(spec.data).classes)
    net = build_network(spec.network, {"depth": 1, "segmentation": num_classes}, seed=0)
    assert result.num_parameters == sum(p.numel() for p in net.parameters())
    # Parameter, gradient and AdamW's two moments, four bytes each.
    assert result.parameter_bytes == 16 * result.num_parameters
    assert result.seconds_per_step > 0
    assert result.device == "cpu"


def test_operations_of_a_decoder_by_hand():
    # With a decoder for each task, a further task costs its decoder, at 32x32 images and stride 8
    # with 32 channels. A 3x3 convolution takes 2 x 9 x in x out operations a pixel.
    # The first convolution and two stages at 4x4, then stages at 8x8, 16x16, 32x32, the output.
    def conv(before: int, after: int, side: int) -> int:
        return 2 * 9 * before * after * side * side

    by_hand = (
        conv(32, 8, 4)
        + conv(8, 7, 4) + conv(7, 7, 4)
        + conv(7, 6, 4) + conv(6, 6, 4)
        + conv(6, 5, 8) + conv(5, 5, 8)
        + conv(5, 4, 16) + conv(4, 4, 16)
        + conv(4, 3, 32) + conv(3, 3, 32)
        + conv(3, 3, 32)
    )  # fmt: skip
    one = measured(spec_with(tasks=["depth"]))
    two = measured(spec_with(tasks=["depth", "normal"]))
    assert two.forward_flops - one.forward_flops == by_hand


def test_activations_grow_with_what_is_trained_at_once():
    four, eight, halves, rounded = (
        measured(spec_with(**changes))
        for changes in (
            {"batch_size": 4},
            {"batch_size": 8},
            {"batch_size": 8, "micro_batches": 2},
            {"batch_size": 8, "precision": "bf16"},
        )
    )
    assert four.activation_bytes > 0
    # All but batch norm's statistics is a tensor for each image.
    assert eight.activation_bytes == pytest.approx(2 * four.activation_bytes, rel=0.01)
    assert halves.activation_bytes == four.activation_bytes
    assert rounded.activation_bytes < 0.8 * eight.activation_bytes
    assert four.forward_flops == eight.forward_flops == halves.forward_flops  # of one image
    assert four.num_parameters == eight.num_parameters


def test_no_weights_and_no_random_stream_are_touched():
    spec = spec_with()
    network = dataclasses.replace(spec.network, encoder_weights="sha256:" + "0" * 16)
    state = torch.random.get_rng_state()
    result = measured(dataclasses.replace(spec, network=network))
    assert result.num_parameters == measured(spec).num_parameters
    assert torch.equal(state, torch.random.get_rng_state())


def test_steps_are_timed_for_as_long_as_asked(monkeypatch):
    # By a clock that jumps, a step takes 0.25 s: 2 to warm up, then 8 for 2 s.
    readings = iter(range(1000))
    monkeypatch.setattr("mtl.training.probe.time.perf_counter", lambda: next(readings) * 0.25)
    result = measured(spec_with(), min_seconds=2.0)
    assert result.seconds_per_step == 0.25
    assert next(readings) == 2 * (2 + 8)
