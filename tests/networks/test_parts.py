"""Encoders and decoder: maps of every stride, parameter counts by hand, initialisation."""

import itertools
import math

import pytest
import torch
from torch import nn

from mtl.networks.decoder import Decoder
from mtl.networks.encoders import Encoder
from tests.networks.building import network

# mobilenetv2_100 and pnasnet5large at stride 32: the supplement's encoders with the channels
# that timm 1.0.31 gives (1280 and 4320; Table S-1's print of 4320 for both is an error).
ENCODERS = [
    ("mobilenetv2_100", 32, 1280),
    ("mobilenetv2_100", 16, 96),
    ("mobilenetv2_100", 8, 32),
    ("test_efficientnet", 32, 256),
    ("test_efficientnet", 8, 32),
    ("test_resnet", 4, 32),
    ("test_convnext", 8, 32),
    ("convnext_atto", 32, 320),
    ("mobilenetv3_small_050", 32, 288),  # its last convolution comes after pooling: removed
    ("resnet18", 32, 512),
]


@pytest.mark.parametrize(("name", "stride", "channels"), ENCODERS)
def test_encoders_give_a_map_of_their_stride(name, stride, channels):
    encoder = Encoder(name, stride, seed=0)
    features = encoder(torch.rand(2, 3, 64, 96))
    assert features.shape == (2, channels, 64 // stride, 96 // stride)
    assert encoder.num_channels == channels
    features.sum().backward()
    dead = [n for n, p in encoder.named_parameters() if p.grad is None]
    assert dead == []  # layers behind the map were removed


@pytest.mark.slow
def test_pnasnet_gives_the_papers_map():
    encoder = Encoder("pnasnet5large", 32, seed=0).eval()
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 288, 384)).shape == (1, 4320, 9, 12)
        assert encoder(torch.rand(1, 3, 256, 256)).shape == (1, 4320, 8, 8)


def test_stride_the_encoder_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"encoder_stride of 'test_convnext' to be one of \[4, 8"):
        Encoder("test_convnext", 2, seed=0)


def test_encoder_that_gives_another_map_is_refused():
    # Inception's first two convolutions pad nothing: (64 - 3) // 2 + 1 = 31 pixels, then 29.
    encoder = Encoder("inception_v3", 2, seed=0)
    with pytest.raises(ValueError, match="feature map of 32x32 pixels.*'inception_v3'.*got 29x29"):
        encoder(torch.rand(1, 3, 64, 64))


SIZE = (40, 56)


@pytest.mark.parametrize(
    ("name", "stride", "multiple", "made_for"),
    [
        ("efficientvit_b0", 32, 32, None),  # its pooling cannot be left out
        ("hrnet_w18_small", 4, 32, None),  # its branches meet again at every stride
        ("test_vit3", 16, 16, (48, 64)),  # one image size
        ("levit_128s", 32, 64, (64, 64)),  # one image size, and attention over all of it
    ],
)
def test_encoders_of_fixed_sizes_take_the_images(name, stride, multiple, made_for):
    encoder = Encoder(name, stride, seed=0, image_size=SIZE)
    assert (encoder.prepare.multiple, encoder.made_for) == (multiple, made_for)
    features = encoder(torch.rand(2, 3, *SIZE))
    assert features.shape[2:] == (math.ceil(SIZE[0] / stride), math.ceil(SIZE[1] / stride))
    assert encoder.last_convolution_weight() is not None


def test_encoder_of_another_size_is_one_sentence():
    with pytest.raises(ValueError, match="for images of 40 x 56, got 'efficientformer_l1' .The"):
        Encoder("efficientformer_l1", 32, seed=0, image_size=SIZE)
    with pytest.raises(ValueError, match=r"encoder_stride of 'crossvit_tiny_240' to be one of"):
        Encoder("crossvit_tiny_240", 16, seed=0, image_size=SIZE)


@pytest.mark.parametrize(
    ("name", "stride", "layer"),
    [
        ("mobilenetv2_100", 32, "model.conv_head"),
        ("mobilenetv2_100", 8, "model.model.blocks.2.2.conv_pwl"),
        ("resnet18", 32, "model.layer4.1.conv2"),
        ("seresnet18", 16, "model.model.layer3.1.conv2"),  # not the gate that comes after it
        ("test_convnext", 8, "model.model.stages.1.blocks.1.mlp.fc2"),  # linear: a 1x1 convolution
    ],
)
def test_last_convolution_is_the_one_computed_last(name, stride, layer):
    encoder = Encoder(name, stride, seed=0)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert encoder.last_convolution_weight() is encoder.body.get_submodule(layer).weight
    assert encoder.body.training
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_images_are_normalised_as_the_encoder_expects():
    encoder = Encoder("test_efficientnet", 8, seed=0).eval()
    seen = []
    encoder.body.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    encoder(torch.full((1, 3, 16, 16), 0.5))
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_decoder_has_twelve_convolutions_and_log2_stride_upsamplings(stride):
    decoder = Decoder(10, stride, (12, 11, 9, 7, 6, 5), {"depth": 1, "segmentation": 5}, seed=0)
    convolutions = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 12
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in decoder.modules())
    # 9 x in x out + out for each: 10-12, 12-11, 11-11, 11-9, 9-9, 9-7, 7-7, 7-6, 6-6, 6-5, 5-5, 5-6
    widths = [10, 12, 11, 11, 9, 9, 7, 7, 6, 6, 5, 5, 6]
    pairs = itertools.pairwise(widths)
    assert sum(p.numel() for p in decoder.parameters()) == sum(9 * i * o + o for i, o in pairs)
    sizes = []
    for stage in decoder.stages:
        stage[0].register_forward_pre_hook(lambda _, a: sizes.append(a[0].shape[-1]))
    out = decoder(torch.rand(1, 10, 2, 3))
    assert out["depth"].shape == (1, 1, 2 * stride, 3 * stride)
    num_upsamplings = int(math.log2(stride))
    # Stages that do not upsample come first.
    expected = [3 * 2 ** max(0, i - (4 - num_upsamplings)) for i in range(5)]
    assert sizes == expected


def test_padding_repeats_the_last_column():
    net = network().eval()
    cut = torch.rand(1, 3, 64, 63)
    repeated = torch.cat([cut, cut[..., -1:]], dim=-1)
    torch.testing.assert_close(net(repeated)["depth"][..., :63], net(cut)["depth"])


def test_xavier_bounds_and_zero_biases():
    decoder = Decoder(32, 8, (64, 48, 32, 24, 16, 8), {"depth": 1, "segmentation": 5}, seed=0)
    for conv in (m for m in decoder.modules() if isinstance(m, nn.Conv2d)):
        bound = math.sqrt(6 / (9 * (conv.in_channels + conv.out_channels)))
        assert conv.weight.abs().max() <= bound
        # Uniform on [-b, b] has standard deviation b / sqrt 3.
        if conv.weight.numel() > 5000:
            assert conv.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert (conv.bias == 0).all()


def test_initial_weights_are_a_function_of_seed_and_component():
    two = {"depth": 1, "segmentation": 5}
    torch.manual_seed(1)
    first = network(tasks=two).state_dict()
    torch.manual_seed(2)  # the global stream must not matter, nor be moved
    state = torch.random.get_rng_state()
    second = network(tasks=two).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[k], second[k]) for k in first)
    other = network(tasks=two, seed=1).state_dict()
    assert not torch.equal(first["decoder.first.weight"], other["decoder.first.weight"])
    # A third task moves no other stream: its rows are added, the others keep their direction
    # (Xavier's bound of the wider output layer scales them all).
    more = network(tasks={**two, "normal": 3}).state_dict()
    same = [k for k in first if not k.startswith("decoder.output")]
    assert all(torch.equal(first[k], more[k]) for k in same)
    ratio = more["decoder.output.weight"][:6] / first["decoder.output.weight"]
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.sqrt((8 + 6) / (8 + 9))))
