"""Where encoders start: files of weights, what is wrong with them, a download that fails."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from mtl.networks import ARCHITECTURES, build_network
from mtl.networks.base import MultiTaskNetwork
from mtl.networks.encoders import Encoder, StageEncoder
from mtl.spec.encoders import weights_file_id
from mtl.spec.sections import NetworkSpec

TASKS = {"depth": 1, "segmentation": 5}


def build(
    weights: str,
    file: Path | None,
    *,
    encoder: str = "test_efficientnet",
    stride: int = 8,
    architecture: str = "full_sharing",
) -> MultiTaskNetwork:
    spec = NetworkSpec(
        architecture=architecture,
        encoder=encoder,
        encoder_stride=stride,
        decoder_widths=(8, 8, 8, 8, 8, 8),
        encoder_weights=weights,
    )
    return build_network(spec, TASKS, 0, None if file is None else str(file))


def saved(path: Path, model: str = "test_efficientnet", **options: Any) -> dict[str, torch.Tensor]:
    """Write the state dict of a timm model with statistics that are not 0 and 1; return it."""
    state = timm.create_model(model, **options).state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            state[key] = torch.rand_like(value) + 0.5
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return state


def timm_models(net: MultiTaskNetwork) -> list[torch.nn.Module]:
    """Return the timm model in each encoder."""
    bodies = [m.body for m in net.modules() if isinstance(m, Encoder)]
    stages = [m.body.model for m in net.modules() if isinstance(m, StageEncoder)]
    return [body.timm_model for body in bodies] + stages


@pytest.mark.parametrize(
    ("encoder", "stride", "suffix"),
    [
        ("mobilenetv2_100", 32, ".pth"),
        ("test_efficientnet", 8, ".pt"),
        ("test_efficientnet", 32, ".safetensors"),
    ],
)
def test_encoder_starts_from_the_file(
    tmp_path: Path, encoder: str, stride: int, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = saved(path, encoder)
    net = build(weights_file_id(path), path, encoder=encoder, stride=stride)
    (model,) = timm_models(net)
    loaded = model.state_dict()
    assert len(loaded) > 30
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    # Nothing else changes.
    random = build("random", None, encoder=encoder, stride=stride)
    assert torch.equal(net.decoder.first.weight, random.decoder.first.weight)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_encoder_starts_from_the_file(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "weights.pth"
    state = saved(path)
    before = torch.random.get_rng_state()
    net = build(weights_file_id(path), path, architecture=architecture)
    assert torch.equal(before, torch.random.get_rng_state())
    models = timm_models(net)
    assert len(models) == (2 if architecture in ("single_task", "multi_column") else 1)
    for model in models:
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("num_classes", [0, 7])
def test_classifier_does_not_matter(tmp_path: Path, num_classes: int) -> None:
    path = tmp_path / "weights.pth"
    state = saved(path, num_classes=num_classes)
    (model,) = timm_models(build(weights_file_id(path), path, stride=32))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_training_checkpoint_around_the_state_dict_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = saved(path)
    torch.save({"state_dict": state, "epoch": 3}, path)
    (model,) = timm_models(build(weights_file_id(path), path))
    assert torch.equal(model.conv_stem.weight, state["conv_stem.weight"])


def test_file_must_be_given_and_be_the_one_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    saved(path)
    with pytest.raises(ValueError, match="sha256:0{16}, got none. Give it with --encoder-weights"):
        build("sha256:" + "0" * 16, None)
    with pytest.raises(ValueError, match="Expected encoder weights sha256:0{16}, got .* which is"):
        build("sha256:" + "0" * 16, path)
    with pytest.raises(ValueError, match="No such file"):
        build("sha256:" + "0" * 16, tmp_path / "absent.pth")


def test_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    saved(path, "test_resnet")
    with pytest.raises(
        ValueError, match=r"timm's test_efficientnet.*missing \(conv_stem.weight, .*unexpected"
    ):
        build(weights_file_id(path), path)
    # ResNet-34 has all that ResNet-18 has, of the same shapes, and more.
    saved(path, "resnet34")
    with pytest.raises(
        ValueError, match=r"model: 96 unexpected \(layer1.2.conv1.weight, [^)]*\.\.\.\)"
    ):
        build(weights_file_id(path), path, encoder="resnet18")
    state = saved(path)
    state["conv_stem.weight"] = torch.zeros(24, 1, 3, 3)
    del state["blocks.0.0.conv.weight"]
    torch.save(state, path)
    with pytest.raises(
        ValueError,
        match=r"1 missing \(blocks.0.0.conv.weight\); "
        r"1 of other shapes \(conv_stem.weight \(24, 1, 3, 3\) in place of \(24, 3, 3, 3\)\)",
    ):
        build(weights_file_id(path), path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pth", b"hello"),
        ("empty.pth", b""),
        ("text.safetensors", b"hello"),
        ("half.pth", None),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is None:
        saved(path)
        content = path.read_bytes()[:-1000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="that cannot be read .*timm.create_model.* writes one"):
        build(weights_file_id(path), path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(3)])
def test_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="Expected a state dict in .*weights.pth, got"):
        build(weights_file_id(path), path)


def test_imagenet_weights_come_from_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    create, made = timm.create_model, []

    def create_offline(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        model = create(name, **options)
        if pretrained:
            made.append(model)
        return model

    monkeypatch.setattr(timm, "create_model", create_offline)
    monkeypatch.setattr("mtl.networks.encoder_weights._is_reachable", lambda url: True)
    net = build("imagenet", None, architecture="multi_column")
    (downloaded,) = made  # once for all encoders
    for model in timm_models(net):
        assert torch.equal(model.conv_stem.weight, downloaded.conv_stem.weight)


def test_failed_download_says_what_to_give_instead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    # A port where nobody listens, and an empty cache.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    was_offline = huggingface_hub.constants.HF_HUB_OFFLINE
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        build("imagenet", None)
    assert pauses == []  # no try after the first; the library alone would try for 46 seconds
    assert was_offline == huggingface_hub.constants.HF_HUB_OFFLINE
    message = str(caught.value)
    assert "--encoder-weights FILE" in message
    assert "timm's model test_efficientnet, as .pth, .pt or .safetensors" in message
    assert (
        "torch.save(timm.create_model('test_efficientnet', pretrained=True).state_dict(), FILE)"
        in message
    )
    assert "\n" not in message
