"""A chosen run applied to images: what training's own evaluation predicts, and clear refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mtl.data.batches import MappedSplit
from mtl.data.prepared import info_of, prepare
from mtl.predict import main, predict_image
from mtl.spec import RunSpec, Runtime
from mtl.store import Store, objects
from mtl.training import fit, load_network
from mtl.training.evaluation import predict
from tests.conftest import tiny_fields


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: str) -> tuple[Store, RunSpec]:
    spec = RunSpec.from_dict(tiny_fields(epochs=1, tasks=["depth", "normal", "segmentation"]))
    store = Store(tmp_path_factory.mktemp("store"))
    fit(spec, store, Runtime(device="cpu", data_root=data_root))
    return store, spec


@pytest.fixture(scope="module")
def images(trained: tuple[Store, RunSpec], data_root: str) -> np.ndarray:
    return np.load(prepare(trained[1].data, data_root) / "test" / "image.npy")


def test_image_gets_what_evaluation_predicts(trained, data_root, images):
    store, spec = trained
    network = load_network(store, spec.run_id())
    prediction = predict_image(network, spec, images[0])
    split = MappedSplit(prepare(spec.data, data_root), "test", spec.tasks)
    batch = split.batch(np.array([0]), torch.device("cpu"))
    with torch.no_grad():
        wanted = predict(network, spec, batch.images)
    depth = wanted["depth"][0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(prediction.targets["depth"], depth)
    labels = wanted["segmentation"][0].argmax(0).numpy()
    np.testing.assert_array_equal(prediction.targets["segmentation"], labels)
    lengths = np.linalg.norm(prediction.targets["normal"], axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_image_of_another_size_is_resized_and_back_if_asked(trained):
    store, spec = trained
    network = load_network(store, spec.run_id())
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    small = predict_image(network, spec, image)
    assert small.targets["depth"].shape == (spec.data.height, spec.data.width, 1)
    assert small.image.shape == (spec.data.height, spec.data.width, 3)
    large = predict_image(network, spec, image, image_size=True)
    assert large.targets["depth"].shape == (50, 90, 1)
    assert large.targets["segmentation"].shape == (50, 90)
    assert (large.image == image).all()


def test_command_writes_arrays_and_a_picture(trained, images, tmp_path, capsys):
    store, spec = trained
    path = tmp_path / "a room é.png"
    Image.fromarray(images[1]).save(path)
    out = tmp_path / "out"
    assert main([str(store.root), spec.run_id(), str(path), "--out", str(out)]) == 0
    assert "depth, normal, segmentation" in capsys.readouterr().out
    held = np.load(out / "a room é.npz", allow_pickle=False)
    direct = predict_image(load_network(store, spec.run_id()), spec, images[1])
    for task, values in direct.targets.items():
        np.testing.assert_array_equal(held[task], values)
    assert tuple(held["segmentation_classes"]) == info_of(spec.data).classes
    with Image.open(out / "a room é.png") as sheet:
        # Four panels of 32 pixels with gaps: the image and three tasks.
        assert sheet.width >= 4 * spec.data.width


def test_photo_is_turned_upright_with_a_note(trained, images, tmp_path, capsys):
    store, spec = trained
    upright, sideways = tmp_path / "upright.png", tmp_path / "sideways.png"
    Image.fromarray(images[1]).save(upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter, clockwise
    Image.fromarray(np.rot90(images[1])).save(sideways, exif=exif)
    out = tmp_path / "out"
    arguments = [str(store.root), spec.run_id(), str(upright), str(sideways), "--out", str(out)]
    assert main(arguments) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert ("upright, as" in first, "upright, as" in second) == (False, True)
    held = [np.load(out / f"{name}.npz")["depth"] for name in ("upright", "sideways")]
    np.testing.assert_array_equal(*held)


def test_bad_image_is_named_and_the_others_are_predicted(trained, images, tmp_path, capsys):
    store, spec = trained
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(images[1]).save(good)
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    out = tmp_path / "out"
    arguments = [str(store.root), spec.run_id(), str(bad), str(good), "--out", str(out)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert str(bad) in printed.err
    assert len(printed.err.splitlines()) == 1
    assert sorted(path.name for path in out.iterdir()) == ["good.npz", "good.png"]
    assert main([*arguments[:3], "--out", str(tmp_path / "none"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["predictions"] == []
    assert [held["image"] for held in told["failed"]] == [str(bad)]
    assert not (tmp_path / "none").exists()


def test_refusals_are_one_sentence(trained, tmp_path, capsys):
    store, spec = trained
    root, run_id = str(store.root), spec.run_id()
    damaged = Store(shutil.copytree(store.root, tmp_path / "store"))
    damaged.write_manifest(run_id, {"data": None})
    unfinished = damaged.write_spec(RunSpec())
    cases = [
        ([str(damaged.root), run_id, "x.png"], 1, "in the manifest of run"),
        ([root, "0" * 16, "x.png"], 1, "which it does not hold"),
        ([str(damaged.root), unfinished, "x.png"], 1, "Expected a finished run"),
        ([root, "../../etc", "x.png"], 1, "16 hexadecimal digits"),
        ([str(tmp_path / "none"), run_id, "x.png"], 1, "no store.json"),
        ([root, run_id, "a/x.png", "b/x.png"], 2, "different names"),
    ]
    for arguments, status, sentence in cases:
        assert main([*arguments, "--out", str(tmp_path / "out")]) == status
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.splitlines()) == 1


def test_object_storage_out_of_reach_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(objects, "RETRY_PAUSES", ())
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    address = "s3://a:b@bucket/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    assert main([address, "0" * 16, "x.png"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("predict: s3://bucket/x/store.json did not answer in 1 tries")
    assert len(error.splitlines()) == 1


def test_arrays_that_are_no_images_are_refused(trained):
    store, spec = trained
    network = load_network(store, spec.run_id())
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            predict_image(network, spec, image)
