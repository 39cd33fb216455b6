"""Decoders of segmentation_models_pytorch behind our encoders: sizes, seeds, training."""

from pathlib import Path

import pytest
import torch

from mtl.errors import UsageError
from mtl.export import write
from mtl.networks import MultiTaskNetwork
from mtl.spec import RunSpec, Runtime
from mtl.spec.sections import SMP_DECODERS
from mtl.training.evaluation import new_network
from tests.conftest import tiny_fields
from tests.tasks.samples import INFO
from tests.training.runs import assert_resumes

smp = pytest.importorskip(
    "segmentation_models_pytorch", reason="no segmentation_models_pytorch: smp: was not tried"
)
STRIDES = {"FPN": 32, "DeepLabV3Plus": 16}
"""Decoder -> an encoder_stride that it can be built at, where that is not 8."""
TOO_SMALL = {"PAN": 128}
"""Decoder -> pixels of a side that it takes, where 32 are too few."""
TASKS = ["depth", "normal", "segmentation"]


def spec_of(decoder: str, **fields: object) -> RunSpec:
    side = TOO_SMALL.get(decoder, 32)
    network = {"architecture": f"smp:{decoder}", "encoder_stride": STRIDES.get(decoder, 8)}
    data = {"height": side, "width": side, "num_train": 4, "num_validation": 2, "num_test": 2}
    return RunSpec.from_dict(tiny_fields(tasks=TASKS, network=network, data=data, **fields))


def network_of(decoder: str) -> MultiTaskNetwork:
    return new_network(spec_of(decoder), INFO).eval()


def test_names_are_those_of_the_library():
    # DPT takes none but transformers without strides.
    names = {model.__name__ for model in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    assert names - {"DPT"} == {*SMP_DECODERS}


@pytest.mark.parametrize("decoder", SMP_DECODERS)
def test_predictions_have_the_size_of_the_images_and_follow_the_seed(decoder):
    first, second = network_of(decoder), network_of(decoder)
    side = TOO_SMALL.get(decoder, 32)
    images = torch.rand(2, 3, side + 6, side)
    with torch.no_grad():
        found, again = first(images), second(images)
    for task, channels in (("depth", 1), ("normal", 3), ("segmentation", len(INFO.classes))):
        assert found[task].shape == (2, channels, side + 6, side)
        torch.testing.assert_close(found[task], again[task], rtol=0, atol=0)


def test_encoder_is_shared_and_each_task_decodes_by_itself():
    network = network_of("Unet")
    shared = {id(parameter) for parameter in network.shared_parameters()}
    of_tasks = [{id(p) for p in own} for own in network.task_parameters()]
    assert {id(p) for p in network.parameters()} == shared.union(*of_tasks)
    assert all(not own & other for own in of_tasks for other in (shared,))


def test_decoder_that_does_not_fit_is_refused_with_what_to_change():
    fields = tiny_fields(network={"architecture": "smp:FPN", "encoder_stride": 8})
    with pytest.raises(UsageError, match=r"smp:FPN behind .* Choose another network\.encoder_str"):
        new_network(RunSpec.from_dict(fields), INFO)
    with pytest.raises(ValueError, match="smp:Unet"):
        RunSpec.from_dict(tiny_fields(network={"architecture": "smp:Unit"}))


@pytest.mark.slow
def test_training_that_is_stopped_ends_as_one_that_is_not(data_root: str, tmp_path: Path):
    runtime = Runtime(device="cpu", data_root=data_root)
    assert_resumes(spec_of("Unet", epochs=2), runtime, tmp_path)


@pytest.mark.slow
def test_network_is_exported(tmp_path: Path):
    spec, network = spec_of("Unet"), network_of("Unet")
    write(tmp_path / "net.pt2", "export", network, spec, {})
    images = torch.rand(3, 3, 32, 48)
    with torch.no_grad():
        expected = network(images)
        found = torch.export.load(tmp_path / "net.pt2").module()(images)
    for task, values in zip(TASKS, found, strict=True):
        torch.testing.assert_close(values, expected[task], rtol=1e-4, atol=1e-4)
