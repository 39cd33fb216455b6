"""An exported network gives what the run's network gives, at sizes it was not exported with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl.export import METADATA, main, size_multiple, write
from mtl.spec import RunSpec, Runtime
from mtl.spec.sections import ARCHITECTURES
from mtl.store import Store
from mtl.training import fit, load_network
from mtl.training.evaluation import new_network
from tests.conftest import tiny_fields
from tests.tasks.samples import INFO

TASKS = ("depth", "normal", "segmentation")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: str) -> tuple[Store, RunSpec]:
    spec = RunSpec.from_dict(tiny_fields(epochs=1, tasks=list(TASKS)))
    store = Store(tmp_path_factory.mktemp("store"))
    fit(spec, store, Runtime(device="cpu", data_root=data_root))
    return store, spec


def images(num: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num, 3, height, width, generator=generator)


def export(trained: tuple[Store, RunSpec], kind: str, out: Path) -> Path:
    store, spec = trained
    assert main([str(store.root), spec.run_id(), "--to", kind, "--out", str(out)]) == 0
    return out


def test_weights_load_without_running_code_and_say_what_they_are(trained, tmp_path):
    store, spec = trained
    held = torch.load(export(trained, "torch", tmp_path / "net.pt"), weights_only=True)
    network = load_network(store, spec.run_id())
    assert held["state_dict"].keys() == network.state_dict().keys()
    assert held["metadata"]["tasks"] == list(TASKS)
    assert RunSpec.from_dict(held["metadata"]["spec"]) == spec
    assert held["metadata"]["test_metrics"]["depth"]["delta1"] >= 0


def test_program_gives_what_the_network_gives_at_other_sizes(trained, tmp_path):
    store, spec = trained
    extra = {METADATA: ""}
    program = torch.export.load(export(trained, "export", tmp_path / "net.pt2"), extra_files=extra)
    about = json.loads(extra[METADATA])
    network = load_network(store, spec.run_id())
    multiple = about["size_multiple"]
    for batch in (images(1, 2 * multiple, 3 * multiple), images(3, 5 * multiple, 2 * multiple)):
        with torch.no_grad():
            expected = network(batch)
            found = program.module()(batch)
        assert len(found) == len(TASKS)
        for task, values in zip(about["tasks"], found, strict=True):
            torch.testing.assert_close(values, expected[task], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_onnx_runtime_gives_what_the_network_gives(architecture, tmp_path):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="no ONNX Runtime: exported networks were not run back"
    )
    tasks = ["depth"] if architecture == "single_task" else list(TASKS)
    spec = RunSpec.from_dict(tiny_fields(tasks=tasks, network={"architecture": architecture}))
    network = new_network(spec, INFO).eval()
    write(tmp_path / "net.onnx", "onnx", network, spec, {"tasks": tasks})
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert [output.name for output in session.get_outputs()] == tasks
    assert json.loads(session.get_modelmeta().custom_metadata_map["tasks"]) == tasks
    multiple = size_multiple(network)
    assert multiple is not None
    for batch in (images(1, 2 * multiple, 3 * multiple), images(3, 4 * multiple, 2 * multiple)):
        found = session.run(None, {"images": batch.numpy()})
        with torch.no_grad():
            expected = network(batch)
        for task, values in zip(tasks, found, strict=True):
            np.testing.assert_allclose(values, expected[task], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "name"), [("torch", "a.pt"), ("export", "a.pt2")])
def test_place_that_cannot_be_written_is_said_in_a_sentence(trained, tmp_path, capsys, kind, name):
    store, spec = trained
    (tmp_path / name).mkdir()
    words = [str(store.root), spec.run_id(), "--to", kind, "--out", str(tmp_path / name), "--json"]
    assert main(words) == 1
    assert str(tmp_path / name) in json.loads(capsys.readouterr().out)["error"]
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing half written is left"


def test_another_suffix_is_refused(trained, tmp_path, capsys):
    store, spec = trained
    arguments = [str(store.root), spec.run_id(), "--to", "export", "--out", str(tmp_path / "a.pt")]
    assert main(arguments) == 2
    assert "ends in .pt2" in capsys.readouterr().err


def test_second_run_without_a_share_is_refused(trained, capsys):
    store, spec = trained
    assert main([str(store.root), spec.run_id(), "other", "--to", "torch"]) == 2
    assert "--mix" in capsys.readouterr().err
