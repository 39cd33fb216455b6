"""Architectures: who shares what, parameter counts by hand, gradients, random streams."""

import pytest
import timm
import torch
from torch import Tensor, nn

from mtl.networks.base import kept_statistics
from mtl.spec.sections import ARCHITECTURES
from tests.networks.building import TASKS, every_architecture, network


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def decoder_count(in_channels: int, widths: tuple[int, ...], out_channels: int) -> int:
    # Twelve 3x3 convolutions with biases: 9 x in x out + out each. One to the first width; a
    # stage goes from its predecessor's width to its own and once more to its own; the output.
    pairs = [(in_channels, widths[0])]
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        pairs += [(before, after), (after, after)]
    pairs += [(widths[-1], out_channels)]
    assert len(pairs) == 12
    return sum(9 * i * o + o for i, o in pairs)


WIDTHS = (512, 256, 128, 64, 32, 16)


def test_parameter_counts_of_the_papers_architectures():
    # For NYUv2's three tasks; full sharing has 1 + 3 + 13 = 17 output channels (Table S-2).
    def counted(architecture: str) -> int:
        return count(network(architecture, encoder="mobilenetv2_100", stride=32, widths=WIDTHS))

    # MobileNetV2: 3,504,872 parameters as published, 1,281,000 of them in the classifier
    # (1280 x 1000 + 1000), so 2,223,872 in the encoder.
    encoder = 2_223_872
    assert count(timm.create_model("mobilenetv2_100")) - 1280 * 1000 - 1000 == encoder
    own_decoders = sum(decoder_count(1280, WIDTHS, channels) for channels in (1, 3, 13))
    assert counted("full_sharing") == encoder + decoder_count(1280, WIDTHS, 17)
    assert counted("multi_decoder") == encoder + own_decoders
    assert counted("single_task") == 3 * encoder + own_decoders
    assert counted("multi_column") == 3 * encoder + own_decoders + 9  # the 3 x 3 matrix


def test_parameter_count_of_mtan():
    # timm's feature maps of MobileNetV2 have 16, 24, 32, 96, 320 channels at strides 2 to 32.
    maps = timm.create_model("mobilenetv2_100", features_only=True)
    channels = [16, 24, 32, 96, 320]
    assert maps.feature_info.channels() == channels
    # A mask: 1x1 convolutions without biases from c (first stage) or 2c to c and from c to c,
    # two batch norms of 2c each. Between stages: a 3x3 convolution and a batch norm.
    masks = sum(
        c * c * (1 if stage == 0 else 2) + c * c + 4 * c for stage, c in enumerate(channels)
    )
    passed_on = sum(9 * a * b + 2 * b for a, b in zip(channels[:-1], channels[1:], strict=True))
    decoders = sum(decoder_count(320, WIDTHS, out) for out in (1, 3, 13))
    net = network("mtan", encoder="mobilenetv2_100", stride=32, widths=WIDTHS)
    assert count(net) == count(maps) + 3 * (masks + passed_on) + decoders


@every_architecture
def test_task_reaches_the_shared_parameters_and_its_own(architecture):
    net = network(architecture)
    shared = {id(p) for p in net.shared_parameters()}
    own = [{id(p) for p in parameters} for parameters in net.task_parameters()]
    assert len(net.shared_parameters()) == len(shared)  # nothing twice
    assert shared | set.union(*own) == {id(p) for p in net.parameters()}
    assert not shared & set.union(*own)
    for task, parameters in zip(TASKS, own, strict=True):
        net.zero_grad()
        net(torch.rand(2, 3, 32, 48))[task].sum().backward()
        assert {id(p) for p in net.parameters() if p.grad is not None} == shared | parameters


def test_gradnorm_looks_at_the_last_shared_layer():
    def last(architecture: str) -> list[str]:
        net = network(architecture, encoder="mobilenetv2_100", stride=32)
        names = {id(p): name for name, p in net.named_parameters()}
        shared = {id(p) for p in net.shared_parameters()}
        assert {id(p) for p in net.last_shared_parameters()} <= shared
        return [names[id(p)] for p in net.last_shared_parameters()]

    assert last("single_task") == []
    # The convolution before the output convolution.
    assert last("full_sharing") == ["decoder.stages.4.1.weight"]
    assert last("multi_decoder") == ["encoder.body.model.conv_head.weight"]
    assert last("multi_column") == [
        f"encoders.{task}.body.model.conv_head.weight" for task in TASKS
    ]
    # MobileNetV2's last feature map comes before its last convolution.
    assert last("mtan") == ["encoder.body.model.blocks.6.0.conv_pwl.weight"]


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"single_task"}))
def test_gradnorms_layer_gets_a_gradient_of_every_task(architecture):
    net = network(architecture)
    for prediction in net(torch.rand(2, 3, 32, 48)).values():
        gradients = torch.autograd.grad(
            prediction.square().mean(), net.last_shared_parameters(), retain_graph=True
        )
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"full_sharing"}))
def test_further_task_moves_no_stream(architecture):
    state = torch.random.get_rng_state()
    two = network(architecture, {"depth": 1, "segmentation": 13}).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    three = network(architecture).state_dict()
    assert all(
        torch.equal(value, three[name]) for name, value in two.items() if "cross_stitch" not in name
    )
    other = network(architecture, seed=1).state_dict()
    assert not torch.equal(two["decoders.depth.first.weight"], other["decoders.depth.first.weight"])


@every_architecture
def test_tasks_start_from_different_draws(architecture):
    # Two tasks of as many channels: nothing of theirs is equal but zeros and ones.
    net = network(architecture, {"depth": 1, "curvature": 1})
    weights = [p for p in net.parameters() if p.ndim == 4]
    for i, first in enumerate(weights):
        same = [second for second in weights[i + 1 :] if second.shape == first.shape]
        assert not any(torch.equal(first, second) for second in same)


@every_architecture
def test_predictions_have_the_images_size(architecture):
    net = network(architecture, stride=16)
    for size in ((33, 50), (20, 17)):
        shapes = {task: tuple(p.shape) for task, p in net(torch.rand(2, 3, *size)).items()}
        assert shapes == {task: (2, channels, *size) for task, channels in TASKS.items()}
    alone = network(architecture, {"depth": 1})
    assert alone(torch.rand(1, 3, 32, 32))["depth"].shape == (1, 1, 32, 32)


def batch_norms(net: nn.Module) -> list[Tensor]:
    return [
        buffer.clone()
        for name, buffer in net.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    ]


@every_architecture
def test_batch_norm_learns_in_training_and_applies_in_evaluation(architecture):
    net = network(architecture)
    images = torch.rand(3, 3, 32, 48)
    start = batch_norms(net)
    assert start
    net.train()(images)
    trained = batch_norms(net)
    assert not any(torch.equal(a, b) for a, b in zip(start, trained, strict=True))
    net.eval()
    with torch.no_grad():
        together, alone = net(images), net(images[:1])
    assert all(torch.equal(a, b) for a, b in zip(trained, batch_norms(net), strict=True))
    for task in TASKS:
        # The other images of a batch do not matter.
        torch.testing.assert_close(together[task][:1], alone[task], rtol=1e-4, atol=1e-6)
    in_training = net.train()(images)
    assert not torch.allclose(in_training["depth"], together["depth"])


@every_architecture
def test_memory_layout_and_autocast_change_digits_only(architecture):
    net, images = network(architecture).eval(), torch.rand(2, 3, 32, 48)
    plain = net(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(images)
    last = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    for task, prediction in plain.items():
        torch.testing.assert_close(last[task], prediction, rtol=1e-4, atol=1e-5)
        assert rounded[task].dtype == torch.bfloat16
        torch.testing.assert_close(rounded[task].float(), prediction, rtol=0.1, atol=0.02)


def test_kept_statistics_leave_no_trace_of_a_pass_in_training():
    net, images = network("mtan"), torch.rand(2, 3, 32, 32)
    first = net(images)["depth"]
    buffers = dict(net.named_buffers())
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    with kept_statistics(net):
        second = net(images)["depth"]
    assert torch.equal(first, second)  # both are normalised by the batch
    after = dict(net.named_buffers())
    assert after.keys() == buffers.keys()
    for name, buffer in after.items():
        assert buffer is buffers[name]
        assert torch.equal(buffer, values[name])
    # Neither pass lost what its backward pass needs.
    second.sum().backward()
    first.sum().backward()
    net(images)
    assert not all(torch.equal(buffer, values[name]) for name, buffer in net.named_buffers())


def test_kept_statistics_come_back_after_an_error():
    net = network()
    buffers = dict(net.named_buffers())
    # A decoder that does not fit: an error after the encoder has updated its statistics.
    net.decoder.first = nn.Conv2d(1, 1, 1)
    with pytest.raises(RuntimeError), kept_statistics(net):
        net(torch.rand(2, 3, 32, 32))
    assert all(buffer is buffers[name] for name, buffer in net.named_buffers())
    assert all(buffer.sum() == 0 for name, buffer in buffers.items() if "running_mean" in name)
