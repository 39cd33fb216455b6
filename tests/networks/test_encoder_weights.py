"""Where encoders start: files of weights, what is wrong with them, a download that fails."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from mtl.networks.base import MultiTaskNetwork
from mtl.networks.encoders import TimmEncoder
from mtl.spec.encoders import weights_file_id
from tests.networks.building import every_architecture, network


def build(
    weights: str,
    file: Path | None,
    architecture: str = "full_sharing",
    **more: Any,
) -> MultiTaskNetwork:
    path = None if file is None else str(file)
    tasks = {"depth": 1, "segmentation": 5}
    return network(architecture, tasks, weights_file=path, encoder_weights=weights, **more)


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
    return [m.timm_model for m in net.modules() if isinstance(m, TimmEncoder)]


def assert_loaded(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    loaded = model.state_dict()
    assert len(loaded) > 30
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize(
    ("encoder", "stride", "suffix"),
    [
        ("mobilenetv2_100", 32, ".pth"),
        ("test_efficientnet", 8, ".pt"),
        ("test_efficientnet", 32, ".safetensors"),
    ],
)
def test_encoder_starts_from_the_file(tmp_path, encoder, stride, suffix):
    path = tmp_path / f"weights{suffix}"
    state = saved(path, encoder)
    net = build(weights_file_id(path), path, encoder=encoder, stride=stride)
    (model,) = timm_models(net)
    assert_loaded(model, state)
    # Nothing else changes.
    random = build("random", None, encoder=encoder, stride=stride)
    assert torch.equal(net.decoder.first.weight, random.decoder.first.weight)


@every_architecture
def test_every_encoder_starts_from_the_file(tmp_path, architecture):
    path = tmp_path / "weights.pth"
    state = saved(path)
    before = torch.random.get_rng_state()
    net = build(weights_file_id(path), path, architecture=architecture)
    assert torch.equal(before, torch.random.get_rng_state())
    models = timm_models(net)
    assert len(models) == (2 if architecture in ("single_task", "multi_column") else 1)
    for model in models:
        assert_loaded(model, state)


def test_classifier_and_a_checkpoint_around_the_state_dict_do_not_matter(tmp_path):
    path = tmp_path / "weights.pth"
    for num_classes in (0, 7):
        state = saved(path, num_classes=num_classes)
        torch.save({"state_dict": state, "epoch": 3}, path)
        (model,) = timm_models(build(weights_file_id(path), path, stride=32))
        assert_loaded(model, state)


def test_file_must_be_given_and_be_the_one_named(tmp_path):
    path = tmp_path / "weights.pth"
    saved(path)
    with pytest.raises(ValueError, match="sha256:0{16}, got none. Give it with --encoder-weights"):
        build("sha256:" + "0" * 16, None)
    with pytest.raises(ValueError, match="Expected encoder weights sha256:0{16}, got .* which is"):
        build("sha256:" + "0" * 16, path)
    with pytest.raises(ValueError, match="No such file"):
        build("sha256:" + "0" * 16, tmp_path / "absent.pth")


def test_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    saved(path, "test_resnet")
    with pytest.raises(
        ValueError, match=r"timm's test_efficientnet.*conv_stem.weight is missing, .* and \d+ more"
    ):
        build(weights_file_id(path), path)
    # A deeper model has all that this one has, of the same shapes, and more.
    deeper = {f"blocks.9.{i}.weight": torch.zeros(1) for i in range(4)}
    torch.save({**saved(path), **deeper}, path)
    with pytest.raises(ValueError, match=r"model: blocks.9.0.weight is unexpected,.* and 1 more"):
        build(weights_file_id(path), path)
    state = saved(path)
    state["conv_stem.weight"] = torch.zeros(24, 1, 3, 3)
    del state["blocks.0.0.conv.weight"]
    torch.save(state, path)
    with pytest.raises(
        ValueError,
        match=r"blocks.0.0.conv.weight is missing, "
        r"conv_stem.weight is \(24, 1, 3, 3\) in place of \(24, 3, 3, 3\)\. torch.save",
    ):
        build(weights_file_id(path), path)


def test_damaged_file_or_one_without_a_state_dict_is_refused(tmp_path):
    saved(tmp_path / "half.pth")
    half = (tmp_path / "half.pth").read_bytes()[:-1000]
    for name, content in (
        ("text.pth", b"hello"),
        ("empty.pth", b""),
        ("text.safetensors", b"hello"),
        ("half.pth", half),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match="that cannot be read .*create_model.* writes one"):
            build(weights_file_id(path), path)
    for held in ([1, 2], {"epoch": 3}, {}, torch.zeros(3)):
        torch.save(held, path)
        with pytest.raises(ValueError, match="Expected a state dict in .*half.pth, got"):
            build(weights_file_id(path), path)


def test_imagenet_weights_come_from_timm(monkeypatch):
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


def test_failed_download_says_what_to_give_instead(monkeypatch, tmp_path):
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
    saving = (
        "torch.save(timm.create_model('test_efficientnet', pretrained=True).state_dict(), FILE)"
    )
    assert saving in message
    assert "\n" not in message
