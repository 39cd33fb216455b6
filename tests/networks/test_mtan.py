"""MTAN: masks, the attended features by hand, stages of every encoder."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtl.networks.encoders import StageEncoder
from mtl.networks.mtan import TaskAttention
from tests.networks.building import network

STAGES = [
    ("mobilenetv2_100", 32, [2, 4, 8, 16, 32], [16, 24, 32, 96, 320]),
    ("test_efficientnet", 8, [2, 4, 8], [16, 24, 32]),
    ("test_convnext", 16, [4, 8, 16], [24, 32, 48]),
    ("resnet18", 8, [2, 4, 8], [64, 64, 128]),
]


@pytest.mark.parametrize(("name", "stride", "strides", "channels"), STAGES)
def test_map_of_every_stride_on_the_way(name, stride, strides, channels):
    encoder = StageEncoder(name, stride, seed=0)
    assert (encoder.strides, encoder.num_channels) == (strides, channels)
    maps = encoder(torch.rand(1, 3, 60, 90))  # padded to 64x96
    shapes = [(1, c, 64 // s, 96 // s) for s, c in zip(strides, channels, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes
    sum(m.sum() for m in maps).backward()
    assert all(p.grad is not None for p in encoder.parameters())  # layers behind are removed


@pytest.mark.parametrize("training", [True, False])
def test_masks_lie_between_0_and_1(training):
    net = network("mtan", {"depth": 1, "segmentation": 5}).train(training)
    masks: list[Tensor] = []
    for attention in net.attentions.values():
        for mask in attention.masks:
            mask.register_forward_hook(lambda _, arguments, output: masks.append(output))
    net(torch.rand(2, 3, 32, 48))
    assert len(masks) == 2 * 3  # tasks x stages
    assert all(mask.min() > 0 and mask.max() < 1 for mask in masks)
    assert not torch.equal(masks[0], masks[3])  # each task has its own


def test_attended_features_by_the_papers_equations():
    attention = TaskAttention([4, 6], [2, 4]).eval()
    for module in attention.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that are not 0 and 1
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    p1, p2 = torch.rand(1, 4, 8, 10), torch.rand(1, 6, 4, 5)

    def normed(x: Tensor, norm: torch.nn.BatchNorm2d) -> Tensor:
        scale = (norm.running_var + norm.eps).rsqrt()
        return (x - norm.running_mean[:, None, None]) * scale[:, None, None]

    def mask(x: Tensor, layers: torch.nn.Sequential) -> Tensor:
        g = normed(functional.conv2d(x, layers[0].weight), layers[1]).relu()
        return normed(functional.conv2d(g, layers[3].weight), layers[4]).sigmoid()

    first = mask(p1, attention.masks[0]) * p1
    conv, norm, _ = attention.passed_on[0]
    f = functional.max_pool2d(
        normed(functional.conv2d(first, conv.weight, padding=1), norm).relu(), 2
    )
    second = mask(torch.cat([p2, f], dim=1), attention.masks[1]) * p2
    torch.testing.assert_close(attention([p1, p2]), second)


def test_maps_of_odd_size_fit_together():
    # PNASNet at 288x384: 143x191 pixels at stride 2, then 72x96.
    attention = TaskAttention([3, 5], [2, 4])
    assert attention([torch.rand(2, 3, 7, 9), torch.rand(2, 5, 4, 5)]).shape == (2, 5, 4, 5)


@pytest.mark.slow
def test_pnasnets_stages_fit_together():
    net = network("mtan", {"depth": 1}, encoder="pnasnet5large").eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 288, 384))["depth"].shape == (1, 1, 288, 384)
