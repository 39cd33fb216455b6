"""`kept_statistics`: a further forward pass that leaves no trace in the buffers."""

import pytest
import torch
from torch import nn

from mtl.networks import ARCHITECTURES, build_network
from mtl.networks.base import kept_statistics
from mtl.spec.sections import NetworkSpec


def network(architecture: str) -> nn.Module:
    spec = NetworkSpec(
        architecture=architecture,
        encoder="test_efficientnet",
        encoder_stride=8,
        decoder_widths=(8, 8, 8, 8, 8, 8),
    )
    return build_network(spec, {"depth": 1, "segmentation": 5}, seed=0)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_buffers_stay_and_the_pass_is_one_of_training(architecture: str) -> None:
    net, images = network(architecture), torch.rand(2, 3, 32, 32)
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


def test_buffers_come_back_after_an_error() -> None:
    net = network("full_sharing")
    buffers = dict(net.named_buffers())
    # A decoder that does not fit: an error after the encoder has updated its statistics.
    net.decoder.first = nn.Conv2d(1, 1, 1)
    with pytest.raises(RuntimeError), kept_statistics(net):
        net(torch.rand(2, 3, 32, 32))
    assert all(buffer is buffers[name] for name, buffer in net.named_buffers())
    assert all(buffer.sum() == 0 for name, buffer in buffers.items() if "running_mean" in name)
